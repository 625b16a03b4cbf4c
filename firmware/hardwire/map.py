"""The device that a map describes: the tables of a Modbus server, their values by name, what clients may write.

In: the points of a map.bin, as map_file.py finds them. Out: a `Device`. Never: a value half of which is another's.
"""

import struct

from .compat import const, micropython
from .wire.modbus import SERVER_DEVICE_FAILURE

TABLES = ("coils", "discrete_inputs", "holding_registers", "input_registers")

_RECORD = const(12)  # bytes of a point
_EXTRA = const(24)
_NO_EXTRA = const(0xFFFF)

# Types of points
_BIT = const(0)
_STRING = const(9)
_BIT_OF_REGISTER = const(11)
_FORMATS = (None, ">h", ">H", ">i", ">I", ">q", ">Q", ">f", ">d", None, ">H", ">H")
_FLOATS = (7, 8)
_UINT64 = const(6)

# Flags of points
_SWAPPED = const(3)  # 1: bytes in a word, 2: words
_RETAINED_POINT = const(8)
_MIN = const(16)
_MAX = const(32)


class Point:
    """A value of the device, or `count` of them: `get` and `set` one, in engineering units.

    Kept by who uses it often, it spares looking for the name.
    """

    def __init__(self, name, table, record, extra, changed):
        _, address, self.count, kind, flags, size, _, _ = struct.unpack("<HHHBBBBH", record)
        self.name = name
        self.table = table
        self.address = address
        self._kind = kind >> 2
        self._swap = flags & _SWAPPED
        self._size = size
        self._changed = changed if flags & _RETAINED_POINT else None
        self._scale = None
        self._least = self._most = None
        if extra is not None:
            scale, offset = struct.unpack_from("<ff", extra)
            if scale != 1 or offset:
                self._scale = scale, offset
            limits = "<dd" if self._kind in _FLOATS else "<QQ" if self._kind == _UINT64 else "<qq"
            least, most = struct.unpack_from(limits, extra, 8)
            self._least = least if flags & _MIN else None
            self._most = most if flags & _MAX else None

    @property
    def width(self):
        """Registers, or bits, of one value."""
        return 1 if self._kind in (_BIT, _BIT_OF_REGISTER) else (self._size + 1) // 2

    def __len__(self):
        return self.count

    def get(self, index=0):
        """The value: bool, int, float or str. IndexError."""
        address = self._where(index)
        if self._kind == _BIT:
            return self.table[address]
        return self._decoded(self.table.data, self.table.place(address))

    def proposed(self, values):
        """The value in bank.Proposed, where before_write is asked about a point that is no array."""
        if self._kind == _BIT:
            return values[self.address]
        return self._decoded(values.data, 2 * (self.address - values.first))

    def set(self, value, index=0):
        """Take `value`; all its registers change at once. IndexError, ValueError if it does not fit, TypeError."""
        address = self._where(index)
        table = self.table
        if self._kind == _BIT:
            table[address] = value
        elif self._kind == _BIT_OF_REGISTER:
            bit = 1 << self._size
            table[address] = table[address] | bit if value else table[address] & ~bit
        else:
            at = table.place(address)
            coded = self._coded(value)
            table.data[at : at + len(coded)] = coded
        if self._changed:
            self._changed()

    def raw(self, data, at):
        """The number at data[at:] before scaling."""
        if self._swap:
            data = _swapped(bytes(data[at : at + self._size]), self._swap)
            at = 0
        return struct.unpack_from(_FORMATS[self._kind], data, at)[0]

    def _decoded(self, data, at):
        if self._kind == _BIT_OF_REGISTER:
            return bool((data[at] << 8 | data[at + 1]) >> self._size & 1)
        if self._kind == _STRING:
            return _text(bytes(data[at : at + self._size]).split(b"\0")[0])
        raw = self.raw(data, at)
        return raw if self._scale is None else raw * self._scale[0] + self._scale[1]

    def within(self, raw):
        """Whether `raw` keeps to min and max; a float that is no number does not."""
        if self._least is not None and not raw >= self._least:
            return False
        return self._most is None or raw <= self._most

    def _where(self, index):
        if not 0 <= index < self.count:
            raise IndexError("%s has no [%d]" % (self.name, index))
        return self.address + index * self.width

    def _coded(self, value):
        if self._kind == _STRING:
            text = value.encode()
            if len(text) > self._size:
                raise ValueError("%s: %d bytes, %d fit" % (self.name, len(text), self._size))
            return text + bytes(2 * self.width - len(text))
        if self._scale is not None:
            value = (value - self._scale[1]) / self._scale[0]
        if self._kind not in _FLOATS:
            value = round(value)
            bits = 8 * self._size
            low = -1 << bits - 1 if self._kind & 1 else 0
            if not low <= value < low + (1 << bits):
                raise ValueError("%s: %d does not fit in %d bits" % (self.name, value, bits))
        if not self.within(value):
            raise ValueError("%s: outside its limits" % self.name)
        coded = struct.pack(_FORMATS[self._kind], value)
        return _swapped(coded, self._swap) if self._swap else coded


def _text(data):
    """What is no UTF-8, because a client wrote it, has "?" for its bytes that are no ASCII."""
    try:
        return data.decode()
    except UnicodeError:
        return "".join([chr(byte) if byte < 128 else "?" for byte in data])


def _swapped(data, swap):
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if swap & 1:
        words = [bytes((word[1], word[0])) for word in words]
    if swap & 2:
        words.reverse()
    return b"".join(words)


class Values:
    """The points of a map as attributes: `io.temperature = 21.5`; of an array `io.valves[3]`.

    "name" in io; io["status.running"] for what is no identifier; io.point(name) for the Point. For a name the map has
    not: AttributeError, KeyError.
    """

    def __init__(self, tables, catalog, changed):
        object.__setattr__(self, "_parts", (tables, catalog, changed))
        object.__setattr__(self, "_known", {})

    def __getattr__(self, name):
        point = self._find(name)
        if point is None:
            raise AttributeError("the map has no %s" % name)
        return point.get() if point.count == 1 else Elements(point)

    def __setattr__(self, name, value):
        point = self._find(name)
        if point is None:
            raise AttributeError("the map has no %s" % name)
        if point.count != 1:
            raise AttributeError("%s is an array: give an index" % name)
        point.set(value)

    def __getitem__(self, name):
        point = self.point(name)
        return point.get() if point.count == 1 else Elements(point)

    def __setitem__(self, name, value):
        self.point(name).set(value)

    def __contains__(self, name):
        return self._find(name) is not None

    def point(self, name):
        """The Point of that name. KeyError."""
        point = self._find(name)
        if point is None:
            raise KeyError(name)
        return point

    def before_read(self, name, function):
        """`function()` gives the value when a client is about to read it. KeyError."""
        point = self._single(name)
        point.table.before_read(
            lambda table, address, count: point.set(function()), point.address, point.width
        )

    def before_write(self, name, hook):
        """hook(value) is asked about what a client wants to write; None or an exception code. KeyError."""
        point = self._single(name)
        point.table.before_write(
            lambda values, address, count: hook(point.proposed(values)), point.address, point.width
        )

    def after_write(self, name, hook):
        """hook(value) is told what a client has written; returns None or an exception code. KeyError."""
        point = self._single(name)
        point.table.after_write(lambda table, address, count: hook(point.get()), point.address, point.width)

    def _single(self, name):
        point = self.point(name)
        if point.count != 1:
            raise ValueError("%s is an array: its table has hooks for ranges" % name)
        return point

    def _find(self, name):
        point = self._known.get(name)
        if point is None:
            tables, catalog, changed = self._parts
            found = catalog.find(name.encode())
            if found is None:
                return None
            record, extra = found
            point = self._known[name] = Point(name, tables[record[6] & 3], record, extra, changed)
        return point


class Elements:
    """The values of an array: [index], len, iteration."""

    def __init__(self, point):
        self._point = point

    def __len__(self):
        return self._point.count

    def __getitem__(self, index):
        return self._point.get(index)

    def __setitem__(self, index, value):
        self._point.set(value, index)


class Catalog:
    """The points of a map.bin by name; they stay in the file, where looking for one takes some 10 ms.

    `file`: open, or None: the file at `path` is opened each time. points: where the POINTS section is and how many
    points it has; names, extras: where those sections are.
    """

    def __init__(self, file, path, points, names, extras):
        self._file = file
        self._path = path
        self._points, self._count = points
        self._names = names
        self._extras = extras

    def find(self, name):
        """(record, extra or None) of the point `name`, bytes; None if there is none. OSError."""
        if self._file is not None:
            return self._search(self._file, name)
        with open(self._path, "rb") as file:
            return self._search(file, name)

    def _search(self, file, wanted):
        low, high = 0, self._count  # they are sorted by name
        while low < high:
            middle = (low + high) // 2
            file.seek(self._points + middle * _RECORD)
            record = file.read(_RECORD)
            file.seek(self._names + (record[0] | record[1] << 8))
            name = file.read(file.read(1)[0])
            if name == wanted:
                return record, self.extra(file, record)
            if name < wanted:
                low = middle + 1
            else:
                high = middle
        return None

    def extra(self, file, record):
        """What belongs to `record` in EXTRAS, None if it has nothing there."""
        number = record[10] | record[11] << 8
        if number == _NO_EXTRA:
            return None
        file.seek(self._extras + number * _EXTRA)
        return file.read(_EXTRA)


class Device:
    """What a map makes of a board.

    bank: the tables, for a ModbusServer; tables: the same four, as in TABLES. io: values by name. files: (number,
    records, writable, path) of FC 14 and 15. fifos: (address, depth, name) of FC 18; queues: by name, once device.equip
    has made them. retained: what to keep over a power cut: spans of coils, of holding registers. safe: (ms, whether
    any request counts, values) for safety.Safety, or None. changed: called when the application sets a retained value.
    """

    def __init__(self, bank, catalog):
        self.bank = bank
        self.tables = [getattr(bank, name) for name in TABLES]
        self.io = Values(self.tables, catalog, self._note)
        self.files = self.fifos = ()
        self.queues = {}
        self.retained = [], []
        self.safe = None
        self.changed = None

    def _note(self):
        if self.changed is not None:
            self.changed()


class Limits:
    """A hook: refuses values outside the limits of points. `limited`: their (record, extra), by address."""

    def __init__(self, table, limited):
        self._table = table
        self._limited = limited
        self._records = b"".join([record for record, _ in limited])

    @micropython.native
    def __call__(self, values, address, count):
        records = self._records
        end = address + count
        low, high = 0, len(self._limited)
        while low < high:  # the first that reaches to `address`
            middle = (low + high) >> 1
            at = middle * _RECORD
            first = records[at + 2] | records[at + 3] << 8
            if first + (records[at + 4] | records[at + 5] << 8) * (records[at + 8] >> 1 or 1) > address:
                high = middle
            else:
                low = middle + 1
        while low < len(self._limited):
            at = low * _RECORD
            if (records[at + 2] | records[at + 3] << 8) >= end:
                break
            if not self._within(low, values, address, end):
                return SERVER_DEVICE_FAILURE
            low += 1
        return 0

    def _within(self, number, values, address, end):
        record, extra = self._limited[number]
        point = Point("", self._table, record, extra, None)
        width = point.width
        for index in range(point.count):
            first = point.address + index * width
            asked = first >= address and first + width <= end
            if asked and not point.within(point.raw(values.data, 2 * (first - values.first))):
                return False
        return True
