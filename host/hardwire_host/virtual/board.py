"""The virtual board: an emulated RP2040 running a real MicroPython image, a W5500 on its pins, its USB serial on a PTY.

In: a board file's name, a UF2, a littlefs image. Out: frames on `segment`, a device path `repl`, `status()`. Runs as
one task of the caller's loop, in turns of at most some 5 ms. Never: threads, anything left behind after `stop`, a
guest that has died without an error for whoever waits.

Device time is the only time that counts. It never runs ahead of the wall clock with `pace`, and it is not caught up
when the emulator was slower than silicon. Without `pace` idle device time is skipped while somebody waits for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ..errors import FAILED, NO_BOARD, TIMEOUT, USAGE, HardwireError
from ..uf2 import flash
from .clock import NS_PER_MS, NS_PER_S, Clock
from .emulator import Emulator, GuestStopped
from .ether import Segment
from .raw_repl import RawRepl, RawReplError
from .usb_serial import Pty, UsbSerial
from .w5500 import W5500

log = logging.getLogger(__name__)

TURN_NS = 10 * NS_PER_MS  # device time of a turn when idle time is skipped: how late a waiter may notice
LAG_NS = 20 * NS_PER_MS  # how much late waking of the PC is made up for; more means the emulator is slower
NAP_S = 0.5  # longest sleep of the engine: a bound, every event wakes it
BOOT_S = 10  # device time until the guest is on USB; it takes 20 ms
EXEC_S = 60  # default bound of `exec`, device time
TAIL = 400  # bytes of the last output that an error shows


class VirtualBoard:
    """One board.

    Args:
        board: module name of the board file (pins, flash layout).
        image: MicroPython for the RP2040, a UF2.
        filesystem: littlefs image for the region the board file names, None for an erased one.
        seed: of everything random: RAM at power-on, the chip's sequence numbers.
        pace: False skips idle time; see above.
        segment: makes the Ethernet segment on the board's clock.

    Attributes:
        clock: device time. segment: where the chip is port "board". chip: the W5500. repl: path of the PTY.
    """

    def __init__(
        self,
        *,
        board: str = "w5500_evb_pico",
        image: Path,
        filesystem: bytes | None = None,
        seed: int = 0,
        pace: bool = True,
        segment: Callable[[Clock], Segment] = Segment,
    ) -> None:
        self.pins = pins = import_module(f"hardwire.boards.{board}")
        self._emulator = emulator = Emulator(flash(image), seed)
        self.clock = emulator.clock
        self.segment = segment(self.clock)
        self.chip = W5500(self.clock, self.segment.attach("board"), seed=seed)
        self.pace = pace
        self.led = False
        self.repl: str | None = None
        self._usb = UsbSerial(emulator.mcu.usb_ctrl)
        self._pty: Pty | None = None
        self._raw: RawRepl | None = None
        self._tail = b""
        if filesystem is not None:
            self._write_filesystem(filesystem)
        self._wire(pins)
        self._task: asyncio.Task | None = None
        self._awake = asyncio.Event()
        self._waiters: list[tuple[Callable[[], bool], int, asyncio.Future]] = []
        self._failure: HardwireError | None = None
        self._started_at = time.monotonic()

    def _wire(self, pins) -> None:
        emulator, chip = self._emulator, self.chip
        emulator.spi[pins.SPI_ID].exchange = chip.shift
        emulator.watch(pins.CS, lambda level: chip.select(level is False))
        emulator.watch(pins.RST, lambda level: chip.reset_pin(level is False))  # high by a resistor when not driven
        emulator.watch(pins.LED, self._set_led)
        emulator.drive(pins.INT, chip.intn)
        chip.on_intn = lambda level: emulator.drive(pins.INT, level)
        emulator.on_reset = self._pins_released
        self._usb.on_data = self._printed

    def _pins_released(self) -> None:
        self.chip.select(False)
        self.chip.reset_pin(False)
        self._set_led(None)

    def _set_led(self, level: bool | None) -> None:
        self.led = level is not None and level == bool(self.pins.LED_ON)

    def _write_filesystem(self, data: bytes) -> None:
        size = self.pins.FLASH_FS_BLOCKS * self.pins.FLASH_BLOCK
        if len(data) != size:
            raise HardwireError(USAGE, f"the filesystem has {len(data)} bytes, the board's region {size}")
        self._emulator.write_flash(self.pins.FLASH_FS_START, data)

    # Life

    async def start(self) -> None:
        """Power on; returns when the guest is on USB and `repl` can be opened.

        Raises:
            HardwireError: the guest does not start.
        """
        self._pty = Pty(self._type, lambda: self._usb.queued)
        self._usb.on_room = self._pty.resume
        self.repl = self._pty.path
        self.clock.on_alarm = self._awake.set
        self._task = asyncio.create_task(self._engine())
        if not await self.run_until(lambda: self._usb.ready, BOOT_S):
            raise HardwireError(FAILED, "the image does not come up on USB", "is it MicroPython for the RP2040?")

    async def stop(self) -> None:
        """Power off. Safe at any time, also twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._fail(HardwireError(NO_BOARD, "the virtual board was stopped"))
        if self._pty is not None:
            self._pty.close()
            self._pty = None

    async def ended(self) -> None:
        """Wait until the board has died.

        Raises:
            HardwireError: always: what it died of.
        """
        await self.run_until(lambda: False)

    async def hard_reset(self) -> None:
        """A pulse on the RUN pin: the MCU starts again; the chip, on a reset line of its own, does not."""
        self._emulator.reset()
        self._awake.set()

    async def power_cycle(self) -> None:
        """Everything off and on: only flash survives."""
        self.chip.reset_pin(True)
        self._emulator.power_on()
        self._awake.set()

    async def _engine(self) -> None:
        try:
            await self._turns()
        except asyncio.CancelledError:
            raise
        except GuestStopped as error:
            self._fail(HardwireError(FAILED, f"the guest has crashed: {error}", self._last_line()))
        except Exception as error:
            log.exception("the engine has failed")
            self._fail(HardwireError(FAILED, f"the virtual board has failed: {error!r}", "this is a bug; -v shows more"))

    async def _turns(self) -> None:
        emulator = self._emulator
        origin = time.monotonic_ns() - self.clock.now  # wall time at device time 0
        while True:
            self._awake.clear()
            skip = not self.pace and self._waiters
            if skip:
                emulator.run(min(self.clock.now + TURN_NS, *(deadline for _, deadline, _ in self._waiters)))
            else:
                emulator.run(time.monotonic_ns() - origin)
            self._check_waiters()
            origin = max(origin, time.monotonic_ns() - self.clock.now - LAG_NS)
            if skip or not emulator.idle:
                await asyncio.sleep(0)
            else:
                ahead = origin + self.clock.now - time.monotonic_ns()
                idle = emulator.idle_ns
                await self._nap(NAP_S if idle is None else (idle + ahead) / NS_PER_S)

    async def _nap(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(min(max(seconds, 0), NAP_S), self._awake.set)
        await self._awake.wait()
        timer.cancel()

    def _fail(self, error: HardwireError) -> None:
        if self._failure is None:
            self._failure = error
        for _, _, done in self._waiters:
            if not done.done():
                done.set_exception(self._failure)
        self._waiters.clear()

    # Waiting

    async def run_until(self, predicate: Callable[[], bool], device_seconds: float | None = None) -> bool:
        """Let the board run until `predicate()`, checked between turns, for at most `device_seconds`.

        Returns:
            `predicate()`, False when the time is over.

        Raises:
            HardwireError: the board has died, or is not running.
        """
        if self._failure is not None:
            raise self._failure
        if predicate():
            return True
        deadline = 1 << 63 if device_seconds is None else self.clock.now + round(device_seconds * NS_PER_S)
        done = asyncio.get_running_loop().create_future()
        waiter = (predicate, deadline, done)
        self._waiters.append(waiter)
        self._awake.set()
        try:
            return await done
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _check_waiters(self) -> None:
        for waiter in self._waiters[:]:
            predicate, deadline, done = waiter
            late = self.clock.now >= deadline
            if done.done() or predicate() or late:
                self._waiters.remove(waiter)
                if not done.done():
                    done.set_result(predicate())

    async def wait_listening(self, ports: list[int], device_seconds: float) -> None:
        """Wait until the chip listens on every one of `ports`.

        Raises:
            HardwireError: TIMEOUT, with the last line the board printed.
        """
        if not await self.run_until(lambda: all(map(self.chip.listening, ports)), device_seconds):
            missing = ", ".join(str(port) for port in ports if not self.chip.listening(port))
            message = f"the board does not listen on port {missing} after {device_seconds:g} s"
            raise HardwireError(TIMEOUT, message, self._last_line())

    # The console

    def _type(self, data: bytes) -> None:
        if self._raw is None:
            self._usb.send(data)
            self._awake.set()

    def _printed(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL:]
        if self._raw is not None:
            self._raw.feed(data)
            if self._raw.done:
                self._emulator.end_turn()
        elif self._pty is not None:
            self._pty.write(data)

    def _last_line(self) -> str:
        lines = self._tail.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip(" \r>")), "")

    async def exec(self, source: str, device_seconds: float = EXEC_S) -> str:
        """Run `source` on the board in the raw REPL, interrupting what runs; returns what it printed.

        The PTY is cut off meanwhile.

        Raises:
            HardwireError: FAILED with the last line of the traceback, TIMEOUT.
        """
        if self._raw is not None:
            raise HardwireError(FAILED, "exec is not for two at once")
        self._raw = raw = RawRepl(source, self._usb.send)
        try:
            raw.start()
            if not await self.run_until(lambda: raw.done, device_seconds):
                raise HardwireError(TIMEOUT, f"no end of the program after {device_seconds:g} s", self._last_line())
        finally:
            self._raw = None
        try:
            return raw.result()
        except RawReplError as error:
            raise HardwireError(FAILED, str(error)) from None

    # What the owner asks

    def filesystem(self) -> bytes:
        """The flash region of the filesystem, as it is now."""
        pins = self.pins
        return self._emulator.read_flash(pins.FLASH_FS_START, pins.FLASH_FS_BLOCKS * pins.FLASH_BLOCK)

    def status(self) -> dict:
        """How the board is, for `hardwire virtual status`: only what JSON can hold."""
        device = self.clock.now / NS_PER_S
        wall = time.monotonic() - self._started_at
        chip = self.chip
        return {
            "device_seconds": device,
            "wall_seconds": wall,
            "speed": device / wall if wall else 0.0,
            "cycles": self._emulator.cycles,
            "resets": self._emulator.resets,
            "led": self.led,
            "link": chip.link,
            "address": ".".join(map(str, chip.ip)),
            "spi": {"frames": chip.frames, "bytes": chip.bytes, "hz": round(self._emulator.spi[self.pins.SPI_ID].hz)},
            "sockets": chip.sockets(),
            "guest_errors": dict(chip.guest_errors),
            "unimplemented": dict(chip.unimplemented),
        }
