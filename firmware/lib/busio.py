"""CircuitPython's busio on top of machine, for libraries written for CircuitPython. Board only."""

from machine import SPI as _SPI


class SPI:
    """A bus of its own, or one that its owner has set up: `SPI(bus=machine_spi)`, then `configure` does nothing.

    `configure` is called before every transfer; re-initialising the peripheral each time would cost more than
    the transfer, so it acts on a change only.
    """

    def __init__(self, clock=None, MOSI=None, MISO=None, *, bus=None):
        self._owned = bus is None
        self._spi = _SPI(0, sck=clock, mosi=MOSI, miso=MISO) if bus is None else bus
        self._locked = False
        self._settings = None

    def try_lock(self):
        if self._locked:
            return False
        self._locked = True
        return True

    def unlock(self):
        self._locked = False

    def configure(self, *, baudrate=100000, polarity=0, phase=0, bits=8):
        settings = (baudrate, polarity, phase, bits)
        if self._owned and settings != self._settings:
            self._settings = settings
            self._spi.init(baudrate=baudrate, polarity=polarity, phase=phase, bits=bits)

    def write(self, buf, *, start=0, end=None):
        self._spi.write(memoryview(buf)[start:end])

    def readinto(self, buf, *, start=0, end=None, write_value=0):
        self._spi.readinto(memoryview(buf)[start:end], write_value)

    def write_readinto(self, out_buffer, in_buffer, *, out_start=0, out_end=None, in_start=0, in_end=None):
        out = memoryview(out_buffer)[out_start:out_end]
        self._spi.write_readinto(out, memoryview(in_buffer)[in_start:in_end])

    def deinit(self):
        self._spi.deinit()
