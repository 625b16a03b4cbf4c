"""SPI by PIO, for a W5500 on pins that no hardware SPI reaches: `Spi` as machine.SPI, `Bus` as bus.Bus.

In: bytes. Out: SPI mode 0, most significant bit first, four clocks of the state machine per bit. A word that says how
many bytes go out and how many bits come in starts each transfer; the bytes out follow, then the bytes in come, or one
word that says that all is out. So nobody polls, and C moves the bytes. At most 8192 at once: bits have 16 bits.
Source: RP2040 datasheet 3.2 to 3.4, 3.5.6.3 (input synchronisers), 3.7 (INPUT_SYNC_BYPASS 0x38).
"""

from array import array

import rp2
from machine import Pin, mem32
from rp2 import PIO, StateMachine

from ..compat import const, micropython, ptr32
from . import regs as R
from .bus import Sequences

# ruff: noqa: F821  instructions and operands of PIO are names to Python

_CLOCKS = const(4)  # per bit
_PIO0 = 0x50200000
_PIO_STEP = const(0x100000)
_SET = const(0x2000)  # alias of the registers that sets bits
_INPUT_SYNC_BYPASS = const(0x38)
_MACHINES = const(4)  # in a PIO block


@rp2.asm_pio(out_init=PIO.OUT_LOW, sideset_init=PIO.OUT_LOW, autopush=True, push_thresh=8)
def _program():
    label("start")
    pull().side(0)
    out(y, 16).side(0)  # bytes out
    out(isr, 16).side(0)  # bits in, less 1; 0: none
    label("next")
    jmp(y_dec, "byte").side(0)
    mov(x, isr).side(0)
    mov(isr, null).side(0)
    jmp(not_x, "done").side(0)
    label("in")
    nop().side(1)
    in_(pins, 1).side(1)  # as late as can be: the chip has had 24 ns since the falling edge
    jmp(x_dec, "in").side(0)[1]
    jmp("start").side(0)
    label("byte")
    pull().side(0)
    set(x, 7).side(0)
    label("out")
    out(pins, 1).side(0)[1]
    jmp(x_dec, "out").side(1)[1]
    jmp("next").side(0)
    label("done")
    push().side(0)


@micropython.viper
def _head(words: ptr32, size: int, bits: int, address: int, block: int):
    words[0] = size << 16 | bits
    words[1] = address << 16  # the first eight bits of a word go out
    words[2] = (address & 0xFF) << 24
    words[3] = block << 24


class Spi:
    """The part of `machine.SPI` that bus.py and busio.py use, on PIO state machine `number` (4 to 7 are in PIO 1)."""

    def __init__(self, number, baudrate, sck, mosi, miso):
        Pin(miso, Pin.IN)
        bypass = _PIO0 + number // _MACHINES * _PIO_STEP + _SET + _INPUT_SYNC_BYPASS
        mem32[bypass] = 1 << miso  # or `in` would see what was two clocks ago
        pins = {"out_base": Pin(mosi), "sideset_base": Pin(sck), "in_base": Pin(miso)}
        self._settings = dict(freq=_CLOCKS * baudrate, **pins)
        self._machine = StateMachine(number)
        self._one = array("I", (0,))
        self.put = self._machine.put
        self.get = self._machine.get
        self.restart()

    def restart(self):
        """Begin anew, whatever was going on."""
        self._machine.init(_program, **self._settings)  # it also empties the FIFOs
        self._machine.active(1)

    def write(self, buffer):
        """Send `buffer`."""
        self._one[0] = len(buffer) << 16
        self.put(self._one)
        self.put(buffer, 24)
        self.get()

    def readinto(self, buffer, write=0):
        """Fill `buffer`. MOSI stays at its last level, whatever `write` is: a W5500 does not look at it then."""
        self._one[0] = len(buffer) * 8 - 1
        self.put(self._one)
        self.get(buffer)


class Bus(Sequences):
    """As `bus.Bus`, over `Spi`."""

    def __init__(self, spi, cs):
        super().__init__()
        self._restart = spi.restart
        self._put = spi.put
        self._get = spi.get
        self._cs = cs
        self._words = array("I", (0, 0, 0, 0))

    @micropython.native
    def read(self, block, address, buffer):
        """Fill `buffer` from `address` on in `block` (R.COMMON, R.SOCKET + n * R.SOCKET_STEP, ...)."""
        words = self._words
        _head(words, 3, len(buffer) * 8 - 1, address, block)
        self._cs(0)
        try:
            self._put(words)
            self._get(buffer)
        except BaseException as error:  # Ctrl-C
            self._restart()
            self._cs(1)
            raise error
        self._cs(1)

    @micropython.native
    def write(self, block, address, buffer):
        """Write `buffer` from `address` on in `block`."""
        words = self._words
        _head(words, 3 + len(buffer), 0, address, block | R.WRITE)
        self._cs(0)
        try:
            self._put(words)
            self._put(buffer, 24)
            self._get()
        except BaseException as error:
            self._restart()
            self._cs(1)
            raise error
        self._cs(1)
