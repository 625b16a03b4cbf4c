"""Bytes of the chip as its SPI addresses them: register images and socket memories with the chip's wrap.

In: bytearrays, 16-bit addresses. Out: bytes. Never raises, for any address and length.
"""


def get16(registers: bytearray, address: int) -> int:
    """The big-endian register pair at `address`."""
    return registers[address] << 8 | registers[address + 1]


def put16(registers: bytearray, address: int, value: int) -> None:
    """Store `value` (0..65535) at the big-endian register pair `address`."""
    registers[address] = value >> 8
    registers[address + 1] = value & 0xFF


def load(memory: bytearray, pointer: int, n: int) -> bytes | bytearray:
    """`n` bytes of a socket memory from `pointer` on; the chip masks the pointer and wraps."""
    size = len(memory)
    if not size:
        return bytes(n)
    start = pointer & (size - 1)
    if start + n <= size:
        return memory[start : start + n]
    return (memory[start:] + memory * (n // size + 1))[:n]


def store(memory: bytearray, pointer: int, data: bytes) -> None:
    """Write `data` to a socket memory from `pointer` on, with the chip's wrap."""
    size = len(memory)
    if not size:
        return
    start = pointer & (size - 1)
    n = len(data)
    if start + n <= size:
        memory[start : start + n] = data
        return
    done = 0
    while done < n:
        part = data[done : done + size - start]
        memory[start : start + len(part)] = part
        done += len(part)
        start = 0


def read_image(image: bytearray, offset: int, n: int) -> bytes | bytearray:
    """`n` register bytes from `offset` on; addresses above the block read 0, the offset wraps at 16 bits."""
    if offset + n <= len(image):
        return image[offset : offset + n]
    size = len(image)
    return bytes(image[address] if (address := i & 0xFFFF) < size else 0 for i in range(offset, offset + n))
