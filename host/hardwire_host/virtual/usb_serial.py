"""The board's USB serial port: the host end of the cable, and a PTY that programs open as they would open /dev/ttyACM0.

In: packets of the emulated USB controller; bytes and opens of whoever uses the PTY. Out: the same bytes the other
way. Never: bytes lost while a program has the PTY open, unbounded memory while none has, a wait.

A program that has the port closed loses all but the last CLOSED_KEPT bytes, about what a board keeps for its next
reader.
"""

import asyncio
import contextlib
import errno
import os
import select
import tty
from collections.abc import Callable

from rp2040py.peripherals.usb import RPUSBController
from rp2040py.usb.cdc import USBCDC

CLOSED_KEPT = 4096  # of output, for the next program that opens the port: the last screen or traceback
OPEN_KEPT = 1 << 20  # of output, for a program that reads slowly: seconds of what an emulated board can print
INPUT_KEPT = 4096  # of input: beyond it the PTY fills up and its writer waits, as on USB
OPEN_POLL_S = 0.02  # a PTY tells nobody when it is opened; this delay is not felt


class UsbSerial(USBCDC):
    """The host end. `on_data(bytes)` gets what the board prints; `ready` is true once it can be talked to.

    Unlike its base it answers "no data" by silence (NAK), as a PC does; an endless train of empty packets would keep
    the board awake, one interrupt every 65 us.
    """

    def __init__(self, usb: RPUSBController) -> None:
        super().__init__(usb)
        self.ready = False
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_room: Callable[[], None] = lambda: None
        self._control = usb.on_endpoint_read
        self._input = bytearray()
        self._buffers: list[tuple[int, int]] = []  # endpoint and size of what the board is ready to receive
        usb.on_endpoint_read = self._receive
        self.on_serial_data = self._printed
        self.on_device_connected = self._connected

    def send(self, data: bytes) -> None:
        """Queue `data` for the board."""
        self._input += data
        self._feed()

    @property
    def queued(self) -> int:
        """Bytes the board has not taken yet."""
        return len(self._input)

    def unplug(self) -> None:
        """The board has left the bus; it comes back by itself."""
        self.ready = False
        self._input.clear()
        self._buffers.clear()

    def _on_controller_reset(self) -> None:
        super()._on_controller_reset()
        self.unplug()

    def _connected(self) -> None:
        self.ready = True

    def _printed(self, data: bytes) -> None:
        self.on_data(bytes(data))

    def _receive(self, endpoint: int, size: int) -> None:
        if endpoint == 0:
            self._control(endpoint, size)
        else:
            self._buffers.append((endpoint, size))
            self._feed()

    def _feed(self) -> None:
        while self._input and self._buffers:
            endpoint, size = self._buffers.pop(0)
            packet = bytes(self._input[:size])
            del self._input[:size]
            self.usb.endpoint_read_done(endpoint, packet)
            self.on_room()


class Pty:
    """`path` on one side, `send`, `write` and the running loop on the other. `opened` while a program has it open."""

    def __init__(self, send: Callable[[bytes], None], queued: Callable[[], int]) -> None:
        self._send = send
        self._queued = queued
        self._loop = asyncio.get_running_loop()
        self._master, slave = os.openpty()
        self.path = os.ttyname(slave)
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        os.close(slave)  # or nobody could tell whether anybody has it open
        self.opened = False
        self._output = bytearray()
        self._reading = self._writing = False
        self._poll = select.poll()
        self._poll.register(self._master, 0)
        self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        """Hang up: programs that have it open see the end, and the path is gone."""
        self._timer.cancel()
        self._watch(reading=False, writing=False)
        os.close(self._master)

    def write(self, data: bytes) -> None:
        """Give `data` to the program that has the port open, or keep its end for the next."""
        self._output += data
        kept = OPEN_KEPT if self.opened else CLOSED_KEPT
        if len(self._output) > kept:
            del self._output[:-kept]
        if self.opened and not self._writing:
            self._writable()

    def resume(self) -> None:
        """The board has taken input."""
        if self.opened and not self._reading and self._queued() < INPUT_KEPT:
            self._watch(reading=True, writing=self._writing)

    def _look(self) -> None:
        if any(events & select.POLLHUP for _, events in self._poll.poll(0)):
            self._timer = self._loop.call_later(OPEN_POLL_S, self._look)
            return
        self.opened = True
        self._watch(reading=True, writing=bool(self._output))

    def _closed(self) -> None:
        self.opened = False
        self._watch(reading=False, writing=False)
        del self._output[:-CLOSED_KEPT]
        with contextlib.suppress(OSError):
            tty.setraw(self._master)  # the next program may expect what the first one found
        self._timer = self._loop.call_later(OPEN_POLL_S, self._look)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, INPUT_KEPT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._closed()
            return
        self._send(data)
        if self._queued() >= INPUT_KEPT:
            self._watch(reading=False, writing=self._writing)

    def _writable(self) -> None:
        try:
            while self._output:
                del self._output[: os.write(self._master, self._output)]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        self._watch(reading=self._reading, writing=bool(self._output))

    def _watch(self, *, reading: bool, writing: bool) -> None:
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._master, self._readable)
            else:
                self._loop.remove_reader(self._master)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._master, self._writable)
            else:
                self._loop.remove_writer(self._master)
