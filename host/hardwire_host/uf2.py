"""What a UF2 file says of itself: is it MicroPython for the RP2040, which version, where is its filesystem.

In: a UF2 file. Out: its flash content and an `Image`, read from the binary info that every pico-sdk program
carries (`picotool info` shows it). Never: writing UF2, guessing a flash layout.

Source: microsoft/uf2, "File format"; pico-sdk 2.1.1, pico/binary_info/{defs,structure}.h.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from .errors import WRONG_BOARD, HardwireError

RP2040 = 0xE48BFF56  # family id
FLASH = 0x10000000  # XIP base
FLASH_MAX = 16 << 20  # what XIP can address
FILE_MAX = 4 * FLASH_MAX  # a UF2 is at least twice what it writes; more is not worth reading

_BLOCK = struct.Struct("<8I")  # magic, magic, flags, address, payload size, block, blocks, family
_BLOCK_SIZE = 512
_PAYLOAD_MAX = 476
_MAGIC = (0x0A324655, 0x9E5D5157)
_MAGIC_END = struct.pack("<I", 0x0AB16F30)
_NOT_MAIN_FLASH = 0x0001
_FAMILY_PRESENT = 0x2000

_INFO_HEADER = struct.Struct("<5I")  # marker, first, end, address mapping, marker
_INFO_START, _INFO_END = 0x7188EBF2, 0xE71AA390
_INFO_WITHIN = 512  # boot2 (256 bytes), then "within the first 256 bytes"
_TYPE_STRING = 6  # type, tag, id, pointer to text
_TYPE_BLOCK_DEVICE = 7  # type, tag, pointer to name, address, size
_TAG_PICO = int.from_bytes(b"RP", "little")
_TAG_MICROPYTHON = int.from_bytes(b"MP", "little")
_VERSION = (_TAG_PICO, 0x11A9BC3A)  # tag, id
_BOARD = (_TAG_PICO, 0xB63CFFBB)
_FROZEN = (_TAG_MICROPYTHON, 0x4A99D719)


@dataclass(frozen=True)
class Image:
    """A MicroPython image for the RP2040. `fs_start` (from the start of flash), `fs_size`, `size`: bytes."""

    version: str  # "v1.25.0"
    board: str  # name of the pico-sdk's board file: "pico", "wiznet_w5500_evb_pico"
    frozen: frozenset[str]  # modules as paths without suffix: "asyncio/core"
    fs_start: int
    fs_size: int
    size: int  # of the program


def flash(path: Path) -> bytes:
    """The flash content that a UF2 writes, from XIP base on; gaps read as erased flash (FF).

    Raises:
        HardwireError: the file cannot be read or is not a UF2 for the RP2040.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX)
    except OSError as error:
        raise HardwireError(WRONG_BOARD, f"cannot read {path}: {error.strerror}") from None
    if not data or len(data) % _BLOCK_SIZE:
        raise HardwireError(
            WRONG_BOARD, f"{path} is not a UF2 file: {len(data)} bytes are no whole 512-byte blocks"
        )
    content = bytearray()
    for offset in range(0, len(data), _BLOCK_SIZE):
        start, second, flags, address, size, _, _, family = _BLOCK.unpack_from(data, offset)
        end = data[offset + _BLOCK_SIZE - 4 : offset + _BLOCK_SIZE]
        if (start, second) != _MAGIC or end != _MAGIC_END or size > _PAYLOAD_MAX:
            raise HardwireError(WRONG_BOARD, f"{path} is not a UF2 file: no UF2 block at byte {offset}")
        if flags & _NOT_MAIN_FLASH:
            continue
        if not flags & _FAMILY_PRESENT or family != RP2040:
            raise HardwireError(
                WRONG_BOARD, f"{path} is for another chip: family {family:#010x}, RP2040 is {RP2040:#010x}"
            )
        at = address - FLASH
        if not 0 <= at <= FLASH_MAX - size:
            raise HardwireError(
                WRONG_BOARD, f"{path} does not go to flash: a block is for address {address:#010x}"
            )
        content.extend(b"\xff" * (at + size - len(content)))
        content[at : at + size] = data[offset + _BLOCK.size : offset + _BLOCK.size + size]
    return bytes(content)


def describe(path: Path) -> Image:
    """What image this is.

    Raises:
        HardwireError: not readable, not a UF2 for the RP2040, or no MicroPython with a filesystem.
    """
    content = flash(path)
    texts, device = {}, None
    for type_, tag, first, second, third in _entries(content):
        if type_ == _TYPE_STRING:
            texts.setdefault((tag, first), []).append(_text(content, second))
        elif type_ == _TYPE_BLOCK_DEVICE and tag == _TAG_MICROPYTHON:
            device = second - FLASH, third
    if not device or _VERSION not in texts:
        raise HardwireError(WRONG_BOARD, f"{path} is for the RP2040, but not MicroPython with a filesystem")
    frozen = frozenset(texts.get(_FROZEN, ()))
    return Image(texts[_VERSION][0], texts.get(_BOARD, [""])[0], frozen, *device, len(content))


def _entries(content):
    """(type, tag, word, word, word) of each binary info entry; words past an entry's end mean nothing."""
    for at in range(0, min(_INFO_WITHIN, len(content) - _INFO_HEADER.size + 1), 4):
        start, first, end, _, stop = _INFO_HEADER.unpack_from(content, at)
        if start == _INFO_START and stop == _INFO_END:
            break
    else:
        return
    for pointer in range(first - FLASH, end - FLASH, 4):
        if not 0 <= pointer <= len(content) - 4:
            return
        at = int.from_bytes(content[pointer : pointer + 4], "little") - FLASH
        if 0 <= at <= len(content) - 16:
            yield struct.unpack_from("<HHIII", content, at)


def _text(content, pointer):
    at = pointer - FLASH
    return content[at : content.find(b"\0", at)].decode("ascii", "replace") if 0 <= at < len(content) else ""
