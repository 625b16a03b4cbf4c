"""One SPI frame to the W5500: `read(block, address, buffer)` and `write(block, address, buffer)`. Nothing else.

`Bus` works on every port with a `machine.SPI`; `bus_rp2040` does the same several times faster where it fits.
A frame is address high, address low, control, data; CS goes low before and high after (datasheet 2.2, 2.3.1).
"""

from ..compat import micropython
from . import regs as R


class Bus:
    """The frame over `spi` (a `machine.SPI`, mode 0) and `cs` (a `machine.Pin`, output, high)."""

    def __init__(self, spi, cs):
        self._write = spi.write
        self._readinto = spi.readinto
        self._cs = cs
        self._header = bytearray(3)

    @micropython.native
    def read(self, block, address, buffer):
        """Fill `buffer` from `address` on in `block` (R.COMMON, R.SOCKET + n * R.SOCKET_STEP, ...)."""
        header = self._header
        header[0] = address >> 8
        header[1] = address & 0xFF
        header[2] = block
        self._cs(0)
        self._write(header)
        self._readinto(buffer)
        self._cs(1)

    @micropython.native
    def write(self, block, address, buffer):
        """Write `buffer` from `address` on in `block`."""
        header = self._header
        header[0] = address >> 8
        header[1] = address & 0xFF
        header[2] = block | R.WRITE
        self._cs(0)
        self._write(header)
        self._write(buffer)
        self._cs(1)
