"""The chip's end of the SPI bus: frames of address, control byte and data, taken apart (datasheet 2.2).

In: whole frames by `frame`, or CS edges and bytes by `select` and `shift`: two doors to the same blocks.
Out: `read(offset, n)` and `write(offset, data)` on the block's handler; MISO bytes. Noise, torn reads and the
silence in reset are made here. Never raises on what a guest sends: its mistakes are counted by `guest_error`.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable

from . import regs as R
from .clock import Clock
from .w5500_options import Options

log = logging.getLogger(__name__)

HEADER = b"\x01\x02\x03"  # MISO while address and control byte are clocked in
_FIXED_LENGTH = (-1, 1, 2, 4)  # by operation mode; -1 (variable) counts down and never meets 0
_BLOCK_KIND = R.SOCKET | R.TX | R.RX  # the bits of the control byte that tell a socket's blocks apart

Reader = Callable[[int, int], bytes | bytearray]
Writer = Callable[[int, bytes], None]


class SpiSlave:
    """Frames for the blocks in `readers` and `writers`, keyed by control byte in variable length mode.

    `frames`, `bytes`: what has passed. `guest_errors`: what the guest did wrong. Use one door at a time.
    """

    def __init__(self, clock: Clock, options: Options, seed: int) -> None:
        self.clock = clock
        self.frames = 0
        self.bytes = 0
        self.guest_errors: Counter[str] = Counter()
        self.readers: dict[int, Reader] = {}
        self.writers: dict[int, Writer] = {}
        self.random = random.Random(seed)
        self._last_error = (0, "")
        self._silent = False  # in reset, or waiting for the PLL
        self._plain = True  # answering, and no option changes bytes on SPI: frames may take the short way
        # The frame under way. Position -1: CS is high.
        self._position = -1
        self._offset = self._control = self._left = 0
        self._deselected = -options.cs_high_ns
        self.options = options

    @property
    def options(self) -> Options:
        """Open points and faults; assign a changed copy."""
        return self._options

    @options.setter
    def options(self, options: Options) -> None:
        self._options = options
        self._update_plain()

    @property
    def silent(self) -> bool:
        """True while the chip does not answer at all."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        self._update_plain()

    def _update_plain(self) -> None:
        self._plain = not (self._silent or self._options.spi_errors or self._options.torn_reads)

    def frame(self, mosi: bytes) -> bytes:
        """One SPI frame, CS low to CS high: MOSI bytes in, as many MISO bytes out."""
        n = len(mosi)
        if n > 3 and self._plain:
            control = mosi[2]
            if control & R.WRITE:
                writer = self.writers.get(control)
                if writer is not None:
                    self.frames += 1
                    self.bytes += n
                    writer(mosi[0] << 8 | mosi[1], mosi[3:])
                    return HEADER + bytes(n - 3)
            else:
                reader = self.readers.get(control)
                if reader is not None:
                    self.frames += 1
                    self.bytes += n
                    return HEADER + reader(mosi[0] << 8 | mosi[1], n - 3)
        self._begin()
        miso = bytes(map(self.shift, mosi))
        self._end()
        return miso

    def select(self, active: bool) -> None:
        """An edge of CS; `active` is low."""
        if active and self._position < 0:
            if self.clock.now - self._deselected < self._options.cs_high_ns:
                self.guest_error("CS high too short", "a real chip may miss the start of this frame")
            self._begin()
        elif not active and self._position >= 0:
            self._deselected = self.clock.now
            self._end()

    def shift(self, byte: int) -> int:
        """One byte on MOSI; returns the byte on MISO at the same time."""
        if self._position < 0:
            return 0
        self.bytes += 1
        if self._plain:
            return self._shift(byte)
        if self._silent:
            return 0
        return self._noise(self._shift(self._noise(byte)))

    def guest_error(self, what: str, detail: str) -> None:
        """Count a mistake of the guest, each kind at most once per SPI frame."""
        if (self.frames, what) == self._last_error:
            return
        self._last_error = (self.frames, what)
        self.guest_errors[what] += 1
        level = logging.WARNING if self.guest_errors[what] == 1 else logging.DEBUG
        log.log(level, "guest: %s (%s)", what, detail)

    def torn_high(self, number: int, address: int) -> int | None:
        """The high byte that register pair of socket `number` had before it last grew, once; else None."""
        raise NotImplementedError

    def _begin(self) -> None:
        self.frames += 1
        self._position = 0
        if self._silent:
            self.guest_error("SPI frame during reset", "the chip does not answer")

    def _end(self) -> None:
        if 0 < self._position < 3:
            self.guest_error("CS raised within the header", "the frame has no effect")
        self._position = -1

    def _shift(self, byte: int) -> int:
        position = self._position
        if position > 2:
            return self._shift_data(byte)
        if position == 0:
            self._offset = byte << 8
        elif position == 1:
            self._offset |= byte
        else:
            self._control = byte & ~0x03
            self._left = _FIXED_LENGTH[byte & 0x03]
            if self._control & ~R.WRITE not in self.readers:
                self.guest_error("reserved block", f"control byte 0x{byte:02x}")
        self._position = position + 1
        return HEADER[position]

    def _shift_data(self, byte: int) -> int:
        if self._left == 0:
            return 0
        self._left -= 1
        control = self._control
        offset = self._offset
        self._offset = offset + 1 & 0xFFFF
        if control & R.WRITE:
            writer = self.writers.get(control)
            if writer is not None:
                writer(offset, bytes((byte,)))
            return 0
        reader = self.readers.get(control)
        if reader is None:
            return 0
        value = reader(offset, 1)[0]
        chance = self._options.torn_reads
        if chance and control & _BLOCK_KIND == R.SOCKET and self.random.random() < chance:
            torn = self.torn_high(control // R.SOCKET_STEP, offset)
            return value if torn is None else torn
        return value

    def _noise(self, byte: int) -> int:
        if self._options.spi_errors and self.random.random() < self._options.spi_errors:
            return byte ^ 1 << self.random.randrange(8)
        return byte
