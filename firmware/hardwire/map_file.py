"""map.bin, which `hardwire map build` makes of a map's TOML; docs/map.md has its format. Needed once, at start.

In: a file. Out: a map.Device. Never: half a device: a map that is damaged or of another version raises MapError before
anything is made of it.
"""

import struct
from array import array
from binascii import crc32

from .compat import const
from .map import Catalog, Device, Limits
from .wire.modbus import Bank

PATH = "map.bin"  # beside config.json
MAX_BYTES = const(20000)  # a file that FC 14 can show: 10,000 records of 2 bytes (AP 6.14)

_MAGIC = b"HWM1"
_PIECE = const(512)  # bytes read at once for the checksum

_RANGES = const(1)
_POINTS = const(2)
_NAMES = const(3)
_EXTRAS = const(4)
_INITIAL = const(5)
_LOCKED = const(6)
_BOUNDARIES = const(7)
_RETAINED = const(8)
_SAFE = const(9)
_IDENTITY = const(10)
_FILES = const(11)
_FIFOS = const(12)

_RECORD = const(12)  # bytes of a point
_LIMITED = const(48)  # flags of points with min or max


class MapError(ValueError):
    """A map that cannot be used; the text says why."""


def load(path=PATH):
    """The Device of the map at `path`. Raises MapError, OSError if there is no such file."""
    with open(path, "rb") as file:
        return read(file, path)


def read(file, path=None):
    """The Device of a map in an open binary file; without the `path` of it, it must stay open. Raises MapError."""
    head = file.read(8)
    if head[:4] != _MAGIC or len(head) < 8:
        raise MapError("no map, or one of another version: hardwire map build")
    checksum = 0
    size = len(head)
    while piece := file.read(_PIECE):
        checksum = crc32(piece, checksum)
        size += len(piece)
    if size > MAX_BYTES or checksum != struct.unpack_from("<I", head, 4)[0]:
        raise MapError("the map is damaged: checksum")
    return _device(Sections(file), path)


def _device(sections, path):
    spans = sections.spans(_RANGES, 4)
    bank = Bank(*[[(first, last - first + 1) for first, last in table] for table in spans])
    catalog = sections.catalog(path)
    device = Device(bank, catalog)
    sections.initial(device.tables)
    for table, locked in zip((bank.coils, bank.holding_registers), sections.spans(_LOCKED, 2)):
        if locked:
            table.locked = array("I")
            for first, last in locked:
                table.locked.extend(array("I", (first, last + 1)))
    starts = sections.bytes(_BOUNDARIES)
    if starts:
        count = len(bank.holding_registers)
        bank.holding_registers.starts = bytearray(starts) + b"\0"
        bank.holding_registers.starts[count >> 3] |= 1 << (count & 7)  # behind the last
    device.retained = sections.spans(_RETAINED, 2)
    device.safe = sections.safe(device.tables)
    device.files = sections.files()
    device.fifos = sections.fifos()
    bank.identity.update(sections.objects())
    for table, limited in zip(device.tables, sections.limited(catalog)):
        if limited:
            table.before_write(Limits(table, limited))  # clients that write outside get SERVER_DEVICE_FAILURE
    return device


class Sections:
    """The sections of an open map.bin: where each begins and how long it is."""

    def __init__(self, file):
        self._file = file
        self._places = {}
        at = 8
        while True:
            file.seek(at)
            head = file.read(4)
            if not head:
                break
            if len(head) < 4:
                raise MapError("the map is cut off")
            tag, _, length = struct.unpack("<BBH", head)
            self._places[tag] = at + 4, length
            at += 4 + length

    def bytes(self, tag):
        """The section, b"" if there is none."""
        at, length = self._places.get(tag, (0, 0))
        self._file.seek(at)
        return self._file.read(length)

    def catalog(self, path):
        """The Catalog of the file, which is at `path`, or stays open."""
        points, size = self._places.get(_POINTS, (0, 0))
        names, extras = [self._places.get(tag, (0, 0))[0] for tag in (_NAMES, _EXTRAS)]
        return Catalog(None if path else self._file, path, (points, size // _RECORD), names, extras)

    def limited(self, catalog):
        """For each of the four tables [(record, extra)] of the points that have limits, by address."""
        points = self.bytes(_POINTS)
        found = [[], [], [], []]
        for at in range(0, len(points), _RECORD):
            if points[at + 7] & _LIMITED:
                record = points[at : at + _RECORD]
                found[record[6] & 3].append((record, catalog.extra(self._file, record)))
        for limited in found:
            limited.sort(key=lambda point: point[0][2] | point[0][3] << 8)
        return found

    def spans(self, tag, lists):
        """So many lists of (first, last)."""
        data = self.bytes(tag)
        found = [[] for _ in range(lists)]
        at = 0
        for spans in found if data else ():
            count = data[at] | data[at + 1] << 8
            at += 2
            for _ in range(count):
                spans.append(struct.unpack_from("<HH", data, at))
                at += 4
        return found

    def initial(self, tables):
        """Read the initial values straight into the tables."""
        at, length = self._places.get(_INITIAL, (0, 0))
        if not length:
            return
        self._file.seek(at)
        mask = self._file.read(1)[0]
        for number, table in enumerate(tables):
            if mask >> number & 1:
                size = (len(table) + 7) // 8 if number < 2 else 2 * len(table)
                self._file.readinto(memoryview(table.data)[:size])

    def safe(self, tables):
        """(milliseconds, refreshed by any request, [(table, first, count, data)]), None if there is nothing to do."""
        data = self.bytes(_SAFE)
        if not data:
            return None
        timeout, any_request = struct.unpack_from("<IB", data)
        values = []
        at = 5
        for table in (tables[0], tables[2]):
            count = data[at] | data[at + 1] << 8
            at += 2
            for _ in range(count):
                first, last = struct.unpack_from("<HH", data, at)
                at += 4
                size = (last - first + 8) // 8 if table is tables[0] else 2 * (last - first + 1)
                values.append((table, first, last - first + 1, data[at : at + size]))
                at += size
        return timeout, bool(any_request), values

    def objects(self):
        """Objects of the device identification: number -> bytes."""
        data = self.bytes(_IDENTITY)
        found = {}
        at = 0
        while at < len(data):
            end = at + 2 + data[at + 1]
            found[data[at]] = data[at + 2 : end]
            at = end
        return found

    def files(self):
        """[(number, records, writable, path)]"""
        data = self.bytes(_FILES)
        found = []
        at = 0
        while at < len(data):
            number, records, flags, length = struct.unpack_from("<HHBB", data, at)
            at += 6
            found.append((number, records, bool(flags & 1), data[at : at + length].decode()))
            at += length
        return found

    def fifos(self):
        """[(pointer address, depth, name)]"""
        data = self.bytes(_FIFOS)
        found = []
        at = 0
        while at < len(data):
            address, depth, length = struct.unpack_from("<HBB", data, at)
            at += 4
            found.append((address, depth, data[at : at + length].decode()))
            at += length
        return found
