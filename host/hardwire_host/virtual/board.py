"""The virtual board: a real MicroPython image on an emulated RP2040, a W5500 on its pins, its USB on a PTY.

In: a board file's name, a UF2, a littlefs image. Out: frames on `segment`, a device path `repl`, `status()`.
Runs in the caller's loop; how time passes is in engine.py. Never: threads; anything left behind after `stop`.

Not modelled: the second core, BOOTSEL, the wait states of flash and its clock (device times are a little short),
any clk_sys but 125 MHz.
"""

import time
from collections.abc import Callable
from pathlib import Path

from .. import uf2
from ..bundle import board_constants
from ..errors import FAILED, TIMEOUT, USAGE, HardwireError
from .clock import NS_PER_S
from .emulator import Emulator
from .lab import Lab
from .raw_repl import RawRepl, RawReplError
from .usb_serial import Pty, UsbSerial
from .w5500 import W5500

MCU = "rp2040"  # what can be emulated
BOOT_S = 10  # device time until the guest is on USB: 20 ms, or 2 s when it has to format its filesystem
EXEC_S = 60  # default bound of `exec`, device time
TAIL = 400  # bytes of the last output, for the hint of an error


class VirtualBoard:
    """One board.

    Args:
        board: name of the board file (pins).
        image: MicroPython for the RP2040, a UF2.
        filesystem: littlefs image as large as the region the image keeps for it, None for erased flash.
        seed: of everything random: RAM at power-on, the flash chip's id, the W5500.
        lab: where it stands, with others that were made before any was started; None: in a new one of its own.
        port: name of its port on the lab's segment.

    Attributes:
        clock: its device time. segment: the Ethernet. cable: its port there. chip: the W5500.
        led: whether it is lit. repl: path of the PTY, once started. on_console: called when bytes pass on it.

    Raises:
        HardwireError: no such board, or not one for the emulator; an image or filesystem that does not fit.
    """

    def __init__(
        self,
        *,
        board: str = "w5500_evb_pico",
        image: Path,
        filesystem: bytes | None = None,
        seed: int = 0,
        lab: Lab | None = None,
        port: str = "board",
    ) -> None:
        self.pins = board_constants(board)
        if self.pins.MCU != MCU:
            raise HardwireError(USAGE, f"{board} cannot be emulated: its MCU is not an {MCU.upper()}")
        if self.pins.SPI_ID is None:
            raise HardwireError(USAGE, f"{board} cannot be emulated: its W5500 is on PIO")
        self._image = uf2.describe(image)
        self._emulator = Emulator(uf2.flash(image), seed)
        if filesystem is not None:
            self._write_filesystem(filesystem)
        self._emulator.hint = self._last_line
        self.clock = self._emulator.clock
        lab = lab or Lab()
        lab.lockstep.add(self._emulator)
        self._engine = lab.engine
        self.segment = lab.segment
        self.cable = self.segment.attach(port, self.clock)
        self.chip = W5500(self.clock, self.cable, seed=seed)
        self.led = False
        self.repl: str | None = None
        self.on_console: Callable[[], None] = lambda: None
        self._usb = UsbSerial(self._emulator.mcu.usb_ctrl)
        self._usb.on_data = self._printed
        self._pty: Pty | None = None
        self._raw: RawRepl | None = None
        self._tail = b""
        self._started_at = time.monotonic()
        self._wire()

    def _write_filesystem(self, data: bytes) -> None:
        if len(data) != self._image.fs_size:
            message = f"the filesystem has {len(data)} bytes; the image keeps {self._image.fs_size} for it"
            raise HardwireError(USAGE, message)
        self._emulator.write_flash(self._image.fs_start, data)

    def _wire(self) -> None:
        pins, emulator, chip = self.pins, self._emulator, self.chip
        emulator.spi[pins.SPI_ID].exchange = chip.shift
        emulator.watch(pins.CS, lambda level: chip.select(level is False))
        emulator.watch(pins.LED, self._set_led)
        if pins.RST is not None:
            emulator.watch(pins.RST, lambda level: chip.reset_pin(level is False))  # a resistor holds it high
        if pins.INT is not None:
            emulator.drive(pins.INT, chip.intn)
            chip.on_intn = lambda level: emulator.drive(pins.INT, level)
        emulator.on_reset = self._release_pins

    def _release_pins(self) -> None:
        self.chip.select(False)
        self.chip.reset_pin(False)
        self._set_led(None)

    def _set_led(self, level: bool | None) -> None:
        self.led = level is not None and level == bool(self.pins.LED_ON)

    # Life

    async def start(self) -> None:
        """Power on; returns when the guest is on USB.

        Raises:
            HardwireError: it does not come up.
        """
        self._pty = Pty(self._type, lambda: self._usb.queued)
        self._usb.on_room = self._pty.resume
        self.repl = self._pty.path
        self._engine.start()
        await self._wait_usb()

    async def stop(self) -> None:
        """Power off, for good, and with it every board of the lab. Safe at any time, also twice."""
        await self._engine.stop()
        if self._pty is not None:
            self._pty.close()
            self._pty = None

    async def hard_reset(self) -> None:
        """A pulse on the RUN pin, which does not reset the W5500. Returns and raises as `start`."""
        self._emulator.reset()
        await self._wait_usb()

    async def power_cycle(self) -> None:
        """Everything off and on; only flash is kept. Returns and raises as `start`."""
        self.chip.brown_out()
        self._emulator.power_on()
        await self._wait_usb()

    async def ended(self) -> None:
        """Wait until the board has died or was stopped.

        Raises:
            HardwireError: always, with the reason.
        """
        await self._engine.ended()

    async def run_until(self, predicate: Callable[[], bool], device_seconds: float | None = None) -> bool:
        """Let it run until `predicate()`, at most `device_seconds`; see `Engine.run_until`."""
        return await self._engine.run_until(predicate, device_seconds)

    async def _wait_usb(self) -> None:
        if not await self.run_until(lambda: self._usb.ready, BOOT_S):
            message = f"the image does not come up on USB within {BOOT_S} s"
            raise HardwireError(FAILED, message, self._last_line())

    async def wait_listening(self, ports: list[int], device_seconds: float) -> None:
        """Wait until the chip listens on every one of `ports`.

        Raises:
            HardwireError: TIMEOUT, with the last line the board has printed.
        """
        if not await self.run_until(lambda: all(map(self.chip.listening, ports)), device_seconds):
            missing = ", ".join(str(port) for port in ports if not self.chip.listening(port))
            message = f"the board does not listen on port {missing} after {device_seconds:g} s"
            raise HardwireError(TIMEOUT, message, self._last_line())

    # The console

    def _type(self, data: bytes) -> None:
        if self._raw is None:
            self.on_console()
            self._usb.send(data)
            self._engine.wake()

    def _printed(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL:]
        if self._raw is not None:
            self._raw.feed(data)
            if self._raw.done:
                self._engine.lockstep.end_turn()
        elif self._pty is not None:
            self.on_console()
            self._pty.write(data)

    def _last_line(self) -> str:
        lines = self._tail.decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip(" >")), "")

    async def exec(self, source: str, device_seconds: float = EXEC_S) -> str:
        """Run `source` on the board in the raw REPL, interrupting what runs; returns what it has printed.

        Whoever has the PTY open is cut off meanwhile.

        Raises:
            HardwireError: FAILED with the last line of the traceback; TIMEOUT.
        """
        if self._raw is not None:
            raise HardwireError(FAILED, "another program runs in the raw REPL")
        self._raw = raw = RawRepl(source, self._usb.send)
        try:
            raw.start()
            if not await self.run_until(lambda: raw.done, device_seconds):
                message = f"the program has not ended after {device_seconds:g} s"
                raise HardwireError(TIMEOUT, message, self._last_line())
            return raw.result()
        except RawReplError as error:
            raise HardwireError(FAILED, str(error)) from None
        finally:
            self._raw = None

    # What its owner asks

    def filesystem(self) -> bytes:
        """The flash region of the filesystem, as it is now."""
        return self._emulator.read_flash(self._image.fs_start, self._image.fs_size)

    def status(self) -> dict:
        """How the board is, in what JSON can hold. Times in s, `speed` is device time per wall time."""
        chip = self.chip
        device = self.clock.now / NS_PER_S
        wall = time.monotonic() - self._started_at
        return {
            "device_seconds": device,
            "wall_seconds": wall,
            "speed": device / wall if wall else 0.0,
            "cycles": self._emulator.cycles,
            "resets": self._emulator.resets,
            "led": self.led,
            "link": chip.link,
            "address": ".".join(map(str, chip.ip)),
            "spi": {
                "hz": round(self._emulator.spi[self.pins.SPI_ID].hz),
                "frames": chip.frames,
                "bytes": chip.bytes,
            },
            "sockets": chip.sockets(),
            "guest_errors": dict(chip.guest_errors),
            "unimplemented": dict(chip.unimplemented),
        }
