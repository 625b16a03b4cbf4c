"""The SPI frame of bus.py in assembler on the RP2040's own registers: the wire, not the interpreter, sets the pace.

`machine.SPI` still sets up pins and clock; this only moves bytes. When reading, eight bytes at most are in flight, so
the receive FIFO cannot overrun even when an interrupt stops the loop; when writing, what comes in does not matter.
Source: RP2040 datasheet 2.3.1.7 (SIO: GPIO_OUT_SET 0x14, GPIO_OUT_CLR 0x18), 4.4.4 (SPI: SSPDR 0x08, SSPSR 0x0c).
"""

from array import array

from ..compat import const, micropython
from .regs import SIR, SN_CR, SN_IR, SN_TX_FSR, SOCKET, WRITE

_SIO = const(0xD0000000)
_SPI0 = const(0x4003C000)
_SPI_STEP = const(0x4000)

_len = len  # a builtin is looked for among all names of this module first, which costs 9 us


@micropython.asm_thumb
def _read(r0, r1, r2, r3):  # context, header, buffer, length
    push({r0})
    ldr(r4, [r0, 0])
    ldr(r5, [r0, 4])
    ldr(r6, [r0, 8])
    str(r5, [r4, 0x18])  # CS low
    mov(r7, 16)
    mov(r0, r1)
    lsr(r0, r7)
    str(r0, [r6, 8])
    mov(r7, 8)
    mov(r0, r1)
    lsr(r0, r7)
    str(r0, [r6, 8])
    str(r1, [r6, 8])
    mov(r1, r3)  # still to be clocked out
    add(r3, 3)  # to come in, with the header's
    mov(r0, 5)  # places in the FIFO
    mov(r4, 0)  # came in
    mov(r5, 4)
    label(LOOP)
    cmp(r1, 0)
    beq(TAKE)
    cmp(r0, 0)
    beq(TAKE)
    mov(r7, 0)
    str(r7, [r6, 8])
    sub(r1, 1)
    sub(r0, 1)
    label(TAKE)
    ldr(r7, [r6, 12])
    and_(r7, r5)  # RNE
    beq(LOOP)
    ldr(r7, [r6, 8])
    add(r0, 1)
    cmp(r4, 3)
    blt(SKIP)
    strb(r7, [r2, 0])
    add(r2, 1)
    label(SKIP)
    add(r4, 1)
    cmp(r4, r3)
    blt(LOOP)
    pop({r0})
    ldr(r4, [r0, 0])
    ldr(r5, [r0, 4])
    str(r5, [r4, 0x14])  # CS high


@micropython.asm_thumb
def _write(r0, r1, r2, r3):  # context, header, buffer, length
    ldr(r4, [r0, 0])
    ldr(r5, [r0, 4])
    ldr(r6, [r0, 8])
    str(r5, [r4, 0x18])  # CS low
    mov(r7, 16)
    mov(r0, r1)
    lsr(r0, r7)
    str(r0, [r6, 8])
    mov(r7, 8)
    mov(r0, r1)
    lsr(r0, r7)
    str(r0, [r6, 8])
    str(r1, [r6, 8])
    mov(r1, 2)
    label(LOOP)
    cmp(r3, 0)
    beq(END)
    label(FULL)
    ldr(r7, [r6, 12])
    and_(r7, r1)  # TNF
    beq(FULL)
    ldrb(r7, [r2, 0])
    str(r7, [r6, 8])
    add(r2, 1)
    sub(r3, 1)
    b(LOOP)
    label(END)
    mov(r1, 16)
    label(BUSY)
    ldr(r7, [r6, 12])
    and_(r7, r1)  # BSY
    bne(BUSY)
    str(r5, [r4, 0x14])  # CS high
    mov(r1, 4)
    label(DRAIN)
    ldr(r7, [r6, 12])
    and_(r7, r1)  # RNE
    beq(DONE)
    ldr(r7, [r6, 8])
    b(DRAIN)
    label(DONE)
    mov(r7, 1)
    str(r7, [r6, 0x20])  # SSPICR: forget the overrun


@micropython.asm_thumb
def _attend(r0, r1, r2, r3):  # context, mask of sockets, buffer of 12, bit to serve in any case or 0
    cmp(r3, 0)
    bne(CHOSEN)
    push({r1, r2})
    ldr(r1, [r0, 16])  # header that reads SIR
    mov(r3, 1)
    bl(FRAME)
    pop({r1, r2})
    ldrb(r3, [r2, 0])
    mov(r4, r3)
    and_(r3, r1)
    bne(FOUND)
    mov(r3, r4)
    cmp(r3, 0)
    beq(END)
    label(FOUND)
    neg(r1, r3)
    and_(r3, r1)  # the lowest bit
    label(CHOSEN)
    mov(r1, r3)
    mov(r4, 0)
    mov(r5, 32)
    mov(r7, 1)
    label(NUMBER)
    lsr(r1, r7)
    beq(NUMBERED)
    add(r4, r4, r5)
    b(NUMBER)
    label(NUMBERED)  # r4: block select of the socket
    push({r2, r3, r4})
    ldr(r1, [r0, 20])  # header that writes Sn_IR
    add(r1, r1, r4)
    mov(r3, 1)
    bl(FRAME)
    pop({r2, r3, r4})
    push({r3})
    ldr(r1, [r0, 24])  # header that reads from Sn_TX_FSR on
    add(r1, r1, r4)
    mov(r3, 12)
    bl(FRAME)
    pop({r3})
    b(END)
    # A frame: r1 header, r2 buffer for what comes in, r3 length. What goes out is always the value for Sn_IR.
    label(FRAME)
    push({r0})
    ldr(r4, [r0, 0])
    ldr(r5, [r0, 4])
    ldr(r6, [r0, 8])
    str(r5, [r4, 0x18])  # CS low
    mov(r7, 16)
    mov(r0, r1)
    lsr(r0, r7)
    str(r0, [r6, 8])
    mov(r7, 8)
    mov(r0, r1)
    lsr(r0, r7)
    str(r0, [r6, 8])
    str(r1, [r6, 8])
    mov(r1, r3)  # still to be clocked out
    add(r3, 3)  # to come in, with the header's
    mov(r0, 5)  # places in the FIFO
    mov(r4, 0)  # came in
    mov(r5, 4)
    label(LOOP)
    cmp(r1, 0)
    beq(TAKE)
    cmp(r0, 0)
    beq(TAKE)
    mov(r7, 0x14)  # SENDOK and RECV
    str(r7, [r6, 8])
    sub(r1, 1)
    sub(r0, 1)
    label(TAKE)
    ldr(r7, [r6, 12])
    and_(r7, r5)  # RNE
    beq(LOOP)
    ldr(r7, [r6, 8])
    add(r0, 1)
    cmp(r4, 3)
    blt(SKIP)
    strb(r7, [r2, 0])
    add(r2, 1)
    label(SKIP)
    add(r4, 1)
    cmp(r4, r3)
    blt(LOOP)
    pop({r0})
    ldr(r4, [r0, 0])
    ldr(r5, [r0, 4])
    str(r5, [r4, 0x14])  # CS high
    bx(lr)
    label(END)
    mov(r0, r3)


@micropython.asm_thumb
def _commit(r0, r1, r2, r3):  # context, header of a pointer of a socket, its value, command
    push({r1, r3})
    mov(r7, 8)
    mov(r3, r2)
    lsr(r3, r7)  # first byte
    mov(r4, 2)
    bl(FRAME)
    pop({r1, r2})
    mov(r7, 0xFF)
    and_(r1, r7)
    ldr(r4, [r0, 12])
    add(r1, r1, r4)  # Sn_CR instead of the pointer
    mov(r3, r2)
    mov(r4, 1)
    bl(FRAME)
    b(END)
    # r1 header, r3 first byte, r2 second byte, r4 how many: five at most, they fit into the FIFO
    label(FRAME)
    ldr(r5, [r0, 0])
    ldr(r7, [r0, 4])
    ldr(r6, [r0, 8])
    str(r7, [r5, 0x18])  # CS low
    mov(r7, 16)
    mov(r5, r1)
    lsr(r5, r7)
    str(r5, [r6, 8])
    mov(r7, 8)
    mov(r5, r1)
    lsr(r5, r7)
    str(r5, [r6, 8])
    str(r1, [r6, 8])
    str(r3, [r6, 8])
    cmp(r4, 1)
    beq(ONE)
    str(r2, [r6, 8])
    label(ONE)
    mov(r5, 16)
    label(BUSY)
    ldr(r7, [r6, 12])
    and_(r7, r5)
    bne(BUSY)
    ldr(r5, [r0, 0])
    ldr(r7, [r0, 4])
    str(r7, [r5, 0x14])  # CS high
    mov(r5, 4)
    label(DRAIN)
    ldr(r7, [r6, 12])
    and_(r7, r5)
    beq(DRAINED)
    ldr(r7, [r6, 8])
    b(DRAIN)
    label(DRAINED)
    bx(lr)
    label(END)
    mov(r0, 0)


class Bus:
    """As `bus.Bus`, for hardware SPI `spi_id` (0 or 1) of an RP2040 and chip select on GPIO `cs`."""

    def __init__(self, spi_id, cs):
        context = _SIO, 1 << cs, _SPI0 + spi_id * _SPI_STEP, SN_CR << 8
        headers = SIR << 8, SN_IR << 8 | SOCKET | WRITE, SN_TX_FSR << 8 | SOCKET
        self._context = array("I", context + headers)
        self.snapshot = bytearray(12)

    @micropython.native
    def read(self, block, address, buffer):
        """Fill `buffer` from `address` on in `block` (R.COMMON, R.SOCKET + n * R.SOCKET_STEP, ...)."""
        _read(self._context, address << 8 | block, buffer, _len(buffer))

    @micropython.native
    def write(self, block, address, buffer):
        """Write `buffer` from `address` on in `block`."""
        _write(self._context, address << 8 | block | 0x04, buffer, _len(buffer))

    @micropython.native
    def attend(self, mask, bit):
        """As `bus.Bus.attend`."""
        return _attend(self._context, mask, self.snapshot, bit)

    @micropython.native
    def commit(self, block, address, pointer, command):
        """As `bus.Bus.commit`."""
        _commit(self._context, address << 8 | block | 0x04, pointer, command)
