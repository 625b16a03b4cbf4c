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

    def __init__(self, name, table, record, extras, changed):
        _, address, self.count, kind, flags, size, _, extra = struct.unpack("<HHHBBBBH", record)
        self.name = name
        self.table = table
        self.address = address
        self._kind = kind >> 2
        self._swap = flags & _SWAPPED
        self._size = size
        self._changed = changed if flags & _RETAINED_POINT else None
        self._scale = None
        self._least = self._most = None
        if extra != _NO_EXTRA:
            at = extra * _EXTRA
            scale, offset = struct.unpack_from("<ff", extras, at)
            if scale != 1 or offset:
                self._scale = scale, offset
            limits = "<dd" if self._kind in _FLOATS else "<QQ" if self._kind == _UINT64 else "<qq"
            least, most = struct.unpack_from(limits, extras, at + 8)
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
            return bytes(data[at : at + self._size]).split(b"\0")[0].decode()
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

    def __init__(self, tables, points, names, extras, changed):
        object.__setattr__(self, "_parts", (tables, points, names, extras, changed))
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
            tables, points, names, extras, changed = self._parts
            at = _search(points, names, name.encode())
            if at < 0:
                return None
            record = points[at : at + _RECORD]
            point = self._known[name] = Point(name, tables[record[6] & 3], record, extras, changed)
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


def _search(points, names, wanted):
    """Where the point of that name lies in `points`, -1 if there is none. They are sorted by name."""
    low, high = 0, len(points) // _RECORD
    while low < high:
        middle = (low + high) // 2
        at = middle * _RECORD
        offset = points[at] | points[at + 1] << 8
        name = names[offset + 1 : offset + 1 + names[offset]]
        if name == wanted:
            return at
        if name < wanted:
            low = middle + 1
        else:
            high = middle
    return -1


class Device:
    """What a map makes of a board.

    bank: the tables, for a ModbusServer; tables: the same four, as in TABLES. io: values by name. files: (number,
    records, writable, path) of FC 14 and 15. fifos: (address, depth, name) of FC 18; queues: by name, once device.equip
    has made them. retained: what to keep over a power cut: spans of coils, of holding registers. safe: (ms, whether
    any request counts, values) for safety.Safety, or None. changed: called when the application sets a retained value.
    """

    def __init__(self, bank, points, names, extras):
        self.bank = bank
        self.tables = [getattr(bank, name) for name in TABLES]
        self.io = Values(self.tables, points, names, extras, self._note)
        self.files = self.fifos = ()
        self.queues = {}
        self.retained = [], []
        self.safe = None
        self.changed = None

    def _note(self):
        if self.changed is not None:
            self.changed()


class Limits:
    """A hook: refuses values outside the limits of the points whose numbers are `limited`."""

    def __init__(self, table, points, extras, limited):
        self._table = table
        self._points = points
        self._extras = extras
        self._limited = limited

    @micropython.native
    def __call__(self, values, address, count):
        points = self._points
        end = address + count
        for number in self._limited:
            at = number * _RECORD
            first = points[at + 2] | points[at + 3] << 8
            last = first + (points[at + 4] | points[at + 5] << 8) * (points[at + 8] >> 1 or 1)
            if first < end and address < last and not self._within(at, values, address, end):
                return SERVER_DEVICE_FAILURE
        return 0

    def _within(self, at, values, address, end):
        point = Point("", self._table, self._points[at : at + _RECORD], self._extras, None)
        width = point.width
        for index in range(point.count):
            first = point.address + index * width
            asked = first >= address and first + width <= end
            if asked and not point.within(point.raw(values.data, 2 * (first - values.first))):
                return False
        return True
