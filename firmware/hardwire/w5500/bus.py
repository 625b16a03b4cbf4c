"""SPI frames to the W5500: `read`, `write`, and the two sequences of them that every exchange consists of.

`Bus` works on every port with a `machine.SPI`; `bus_rp2040` does the same several times faster where it fits.
A frame is address high, address low, control, data; CS goes low before and high after (datasheet 2.2, 2.3.1).
"""

from ..compat import micropython
from . import regs as R


class Sequences:
    """`attend` and `commit` made of `read` and `write`, for buses that have nothing better.

    `snapshot`: Sn 0x20..0x2B of the socket attended last.
    """

    def __init__(self):
        self.snapshot = bytearray(12)
        self._one = bytearray(1)
        self._two = bytearray(2)

    @micropython.native
    def attend(self, mask, bit):
        """Clear RECV and SENDOK of a socket, then take a snapshot of its pointers. Returns its bit.

        The socket is that of `bit`; with 0, one that has an event: the lowest of those in `mask`, else of all. 0 if
        there is none.
        """
        one = self._one
        if not bit:
            self.read(R.COMMON, R.SIR, one)
            bit = one[0] & mask or one[0]
            if not bit:
                return 0
            bit &= -bit
        block = R.SOCKET
        rest = bit >> 1
        while rest:
            rest >>= 1
            block += R.SOCKET_STEP
        one[0] = R.I_RECV | R.I_SENDOK
        self.write(block, R.SN_IR, one)
        self.read(block, R.SN_TX_FSR, self.snapshot)
        return bit

    @micropython.native
    def commit(self, block, address, pointer, command):
        """Write a socket's 16-bit pointer at `address`, then give `command`: SEND what is there, or RECV."""
        two = self._two
        two[0] = pointer >> 8
        two[1] = pointer & 0xFF
        self.write(block, address, two)
        one = self._one
        one[0] = command
        self.write(block, R.SN_CR, one)


class Bus(Sequences):
    """The frame over `spi` (a `machine.SPI`, mode 0) and `cs` (a `machine.Pin`, output, high)."""

    def __init__(self, spi, cs):
        super().__init__()
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
