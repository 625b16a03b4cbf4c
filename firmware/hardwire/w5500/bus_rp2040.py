"""The SPI frame of bus.py in assembler on the RP2040's own registers: the wire, not the interpreter, sets the pace.

`machine.SPI` still sets up pins and clock; this only moves bytes. When reading, eight bytes at most are in flight, so
the receive FIFO cannot overrun even when an interrupt stops the loop; when writing, what comes in does not matter.
Source: RP2040 datasheet 2.3.1.7 (SIO: GPIO_OUT_SET 0x14, GPIO_OUT_CLR 0x18), 4.4.4 (SPI: SSPDR 0x08, SSPSR 0x0c).
"""

from array import array

from ..compat import const, micropython

_SIO = const(0xD0000000)
_SPI0 = const(0x4003C000)
_SPI_STEP = const(0x4000)


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


class Bus:
    """As `bus.Bus`, for hardware SPI `spi_id` (0 or 1) of an RP2040 and chip select on GPIO `cs`."""

    def __init__(self, spi_id, cs):
        self._context = array("I", (_SIO, 1 << cs, _SPI0 + spi_id * _SPI_STEP))

    @micropython.native
    def read(self, block, address, buffer):
        """Fill `buffer` from `address` on in `block` (R.COMMON, R.SOCKET + n * R.SOCKET_STEP, ...)."""
        _read(self._context, address << 8 | block, buffer, len(buffer))

    @micropython.native
    def write(self, block, address, buffer):
        """Write `buffer` from `address` on in `block`."""
        _write(self._context, address << 8 | block | 0x04, buffer, len(buffer))
