"""map.bin: the map as the board reads it, and the TOML inside it. docs/map.md has the format.

In: a Map. Out: bytes, the same for the same map. Never: more than a board takes, or FC 14 can show.
"""

import struct
import zlib
from binascii import crc32
from collections.abc import Iterable

from ..errors import USAGE, HardwireError
from .model import BIT_TABLES, CLIENT_WRITES, REQUESTS, TABLES, Map, MapError, Point, parse, spans
from .reading import values
from .types import BIT, BITS, FLOATS, FORMATS, STRING, swaps

MAGIC = b"HWM1"
BYTES_MAX = 20_000  # FC 14: 10,000 records of 16 bits in a file
TEXT_MAX = 1 << 18  # bytes of TOML that are unpacked from a board's map

(
    RANGES,
    POINTS,
    NAMES,
    EXTRAS,
    INITIAL,
    LOCKED,
    BOUNDARIES,
    RETAINED,
    SAFE,
    IDENTITY,
    FILES,
    FIFOS,
    SOURCE,
) = range(1, 14)

_KINDS = (BIT, "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", STRING, BITS)
_BIT_OF_REGISTER = len(_KINDS)
_SWAP_BYTES, _SWAP_WORDS, _WRITABLE, _RETAINED, _MIN, _MAX, _SAFE = 1, 2, 4, 8, 16, 32, 64
_NO_EXTRA = 0xFFFF
_WRITABLE_FILE = 1


def build(device: Map) -> bytes:
    """map.bin. Raises MapError for a map that is too large."""
    text = device.text.encode()
    sections = [
        (RANGES, b"".join(_spans(device.ranges(table)) for table in TABLES)),
        *_points(device),
        (INITIAL, _initial(device)),
        (LOCKED, _both(device, lambda point: not point.writable)),
        (BOUNDARIES, _boundaries(device)),
        (RETAINED, _both(device, lambda point: point.retained)),
        (SAFE, _safe(device)),
        (
            IDENTITY,
            b"".join(bytes((number, len(data))) + data for number, data in sorted(device.objects.items())),
        ),
        (FILES, b"".join(_file(file) for file in device.files.values())),
        (
            FIFOS,
            b"".join(
                struct.pack("<HBB", fifo.address, fifo.depth, len(fifo.name)) + fifo.name.encode()
                for fifo in device.fifos.values()
            ),
        ),
        (SOURCE, zlib.compress(text, 9)),
    ]
    data = b"".join(struct.pack("<BBH", tag, 0, _16(len(data))) + data for tag, data in sections if data)
    data = MAGIC + struct.pack("<I", crc32(data)) + data
    problems = []
    if len(text) > TEXT_MAX:
        problems.append(f"the text has {len(text)} bytes, {TEXT_MAX} at most")
    if len(data) > BYTES_MAX:
        problems.append(
            f"map.bin has {len(data)} bytes, {BYTES_MAX} at most: fewer names, or shorter descriptions"
        )
    if problems:
        raise MapError("the map", problems)
    return data


def read(data: bytes, origin: str = "map.bin") -> Map:
    """The Map that a map.bin was built from.

    Raises:
        HardwireError: USAGE for what is no map.bin, or damaged. MapError as `parse`.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise HardwireError(USAGE, f"{origin} is no map.bin")
    if len(data) < 8 or crc32(data[8:]) != struct.unpack_from("<I", data, 4)[0]:
        raise HardwireError(USAGE, f"{origin} is damaged: its checksum is wrong")
    at = 8
    while at + 4 <= len(data):
        tag, _, length = struct.unpack_from("<BBH", data, at)
        at += 4
        if tag == SOURCE:
            unpacker = zlib.decompressobj()
            try:
                text = unpacker.decompress(data[at : at + length], TEXT_MAX).decode()
            except (zlib.error, UnicodeDecodeError):
                break
            if not unpacker.eof:
                break
            return parse(text, origin)
        at += length
    raise HardwireError(USAGE, f"{origin} does not hold the text it was built from")


def _16(number: int) -> int:
    """A length or offset; more than 16 bits only in a map that is refused in the end, for BYTES_MAX."""
    return number & 0xFFFF


def _spans(pairs: Iterable[tuple[int, int]]) -> bytes:
    pairs = list(pairs)
    return struct.pack("<H", len(pairs)) + b"".join(struct.pack("<HH", *pair) for pair in pairs)


def _both(device: Map, chosen) -> bytes:
    """Spans of coils and of holding registers, b"" if there are none at all."""
    lists = [spans((p.address, p.last) for p in device.of(table) if chosen(p)) for table in CLIENT_WRITES]
    return b"".join(map(_spans, lists)) if any(lists) else b""


def _points(device: Map) -> list[tuple[int, bytes]]:
    records = [(point.name.encode(), point, None) for point in device.points.values()]
    for point in device.points.values():
        if point.count == 1:
            records += [(f"{point.name}.{name}".encode(), point, bit) for bit, name in point.bits.items()]
    found, names, extras = b"", b"", b""
    for name, point, bit in sorted(records, key=lambda record: record[0]):
        extra = _extra(point)
        number = _NO_EXTRA
        if extra and bit is None:
            number = len(extras) // len(extra)
            extras += extra
        kind = _KINDS.index(point.type) if bit is None else _BIT_OF_REGISTER
        found += struct.pack(
            "<HHHBBBBH",
            _16(len(names)),
            point.address,
            point.count,
            TABLES.index(point.table) | kind << 2,
            _flags(point),
            _size(point) if bit is None else bit,
            0,
            number,
        )
        names += bytes((len(name),)) + name
    return [(POINTS, found), (NAMES, names), (EXTRAS, extras)]


def _size(point: Point) -> int:
    if point.type == BIT:
        return 0
    return point.length if point.type == STRING else struct.calcsize(FORMATS[point.type])


def _flags(point: Point) -> int:
    swap_bytes, swap_words = swaps(point.word_order)
    least, most = point.raw_limits
    return (
        _SWAP_BYTES * swap_bytes
        | _SWAP_WORDS * swap_words
        | _WRITABLE * point.writable
        | _RETAINED * point.retained
        | _MIN * (least is not None)
        | _MAX * (most is not None)
        | _SAFE * (point.safe is not None)
    )


def _extra(point: Point) -> bytes:
    least, most = point.raw_limits
    if point.scale == 1 and not point.offset and least is None and most is None:
        return b""
    kind = "d" if point.type in FLOATS else "Q" if point.type == "uint64" else "q"
    return struct.pack(f"<ff2{kind}", point.scale, point.offset, least or 0, most or 0)


def _content(device: Map, table: str, key: str) -> tuple[dict[int, int], list[int]]:
    """Raw values that the points' `key` gives, by address; the addresses of the table in the order of its data."""
    given = {}
    for point in device.of(table):
        value = getattr(point, key)
        if value is not None:
            given |= dict(enumerate(values(point, value), point.address))
    return given, [address for first, last in device.ranges(table) for address in range(first, last + 1)]


def _packed(table: str, raw: list[int]) -> bytes:
    """As the board has them: bits packed, the lowest first; registers high byte first."""
    if table not in BIT_TABLES:
        return struct.pack(f">{len(raw)}H", *raw)
    packed = bytearray((len(raw) + 7) // 8)
    for number, bit in enumerate(raw):
        packed[number >> 3] |= bit << (number & 7)
    return bytes(packed)


def _initial(device: Map) -> bytes:
    mask, data = 0, b""
    for number, table in enumerate(TABLES):
        given, addresses = _content(device, table, "initial")
        if any(given.values()):
            mask |= 1 << number
            data += _packed(table, [given.get(address, 0) for address in addresses])
    return bytes((mask,)) + data if mask else b""


def _boundaries(device: Map) -> bytes:
    """A bit for each holding register: 1 where a value starts; b"" if all are values of their own."""
    bits = []
    for point in device.of("holding_registers"):
        width = 1 if point.type == STRING else point.width
        bits += ([1] + [0] * (width - 1)) * (point.width * point.count // width)
    return b"" if all(bits) else _packed("coils", bits)


def _safe(device: Map) -> bytes:
    if not device.communication.timeout_s:
        return b""
    any_request = device.communication.refreshed_by == REQUESTS
    data = struct.pack("<IB", round(device.communication.timeout_s * 1000), any_request)
    for table in CLIENT_WRITES:
        given, _ = _content(device, table, "safe")
        pairs = spans((address, address) for address in given)
        data += struct.pack("<H", len(pairs))
        for first, last in pairs:
            data += struct.pack("<HH", first, last)
            data += _packed(table, [given[address] for address in range(first, last + 1)])
    return data


def _file(file) -> bytes:
    path = file.path.encode()
    flags = _WRITABLE_FILE * (file.access != "read-only")
    return struct.pack("<HHBB", file.number, file.records, flags, len(path)) + path
