"""The board's USB serial port: the host's end of the cable, and a PTY for programs that expect /dev/ttyACM0.

In: packets of the emulated USB controller; what programs write to the PTY. Out: the same bytes the other way.
Never: a byte lost while a program has the PTY open, unbounded memory while none has, a wait.

While no program has it open, the last CLOSED_KEPT bytes of output wait for the next one.
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
OPEN_KEPT = 1 << 20  # of output, for a program that reads slowly: many seconds of printing
INPUT_KEPT = 4096  # of input; beyond it the PTY fills up and its writer waits, as on USB
OPEN_POLL_S = 0.02  # a PTY tells nobody that it is opened; this delay is not felt


class UsbSerial(USBCDC):
    """The host's end. `on_data(bytes)` gets what the board prints; `ready`: the board can be talked to.

    Unlike its base it says "no data" by silence (NAK), as a PC does. An endless train of empty packets would
    keep the board awake, with an interrupt every 65 us.
    """

    def __init__(self, usb: RPUSBController) -> None:
        super().__init__(usb)
        self.ready = False
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_room: Callable[[], None] = lambda: None
        self._control_transfer = usb.on_endpoint_read
        self._input = bytearray()
        self._buffers: list[tuple[int, int]] = []  # (endpoint, size) that the board is ready to receive into
        usb.on_endpoint_read = self._receive
        self.on_serial_data = lambda data: self.on_data(bytes(data))
        self.on_device_connected = self._connected

    def send(self, data: bytes) -> None:
        """Queue `data` for the board. `on_room` is called when it has taken some."""
        self._input += data
        self._feed()

    @property
    def queued(self) -> int:
        """Bytes that the board has not taken yet."""
        return len(self._input)

    def _connected(self) -> None:
        self.ready = True

    def _on_controller_reset(self) -> None:
        super()._on_controller_reset()
        self.ready = False
        self._input.clear()
        self._buffers.clear()

    def _receive(self, endpoint: int, size: int) -> None:
        if endpoint == 0:
            self._control_transfer(endpoint, size)
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
    """`path` is for programs; `write` and `resume` for the board's side, which gives `send` and `queued`."""

    def __init__(self, send: Callable[[bytes], None], queued: Callable[[], int]) -> None:
        self._send = send
        self._queued = queued
        self._loop = asyncio.get_running_loop()
        self._master, slave = os.openpty()
        self.path = os.ttyname(slave)
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        os.close(slave)  # held open, it would hide whether a program has it open
        self._opened = False
        self._output = bytearray()
        self._reading = self._writing = False
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLIN)
        self._timer = self._loop.call_soon(self._look)

    def close(self) -> None:
        """Hang up: programs see the end, and the path is gone."""
        self._timer.cancel()
        self._watch(reading=False, writing=False)
        os.close(self._master)

    def write(self, data: bytes) -> None:
        """Give `data` to the program that has the port open, or keep it for the next."""
        self._output += data
        kept = OPEN_KEPT if self._opened else CLOSED_KEPT
        if len(self._output) > kept:
            del self._output[:-kept]
        if self._opened and not self._writing:
            self._writable()

    def resume(self) -> None:
        """The board has taken input."""
        if self._opened and not self._reading and self._queued() < INPUT_KEPT:
            self._watch(reading=True, writing=self._writing)

    def _look(self) -> None:
        """Has it been opened? Also if it was closed again at once: then there may be something to read."""
        events = sum(events for _, events in self._poll.poll(0))
        if events & select.POLLHUP and not events & select.POLLIN:
            self._timer = self._loop.call_later(OPEN_POLL_S, self._look)
        else:
            self._opened = True
            self._watch(reading=True, writing=bool(self._output))

    def _closed(self) -> None:
        self._opened = False
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
        with contextlib.suppress(BlockingIOError):
            while self._output:
                del self._output[: os.write(self._master, self._output)]
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
