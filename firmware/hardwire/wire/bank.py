"""The values a Modbus server shows: four tables of coils and registers, kept as they travel on the wire.

In: ranges of addresses, values from the application. Out: values, and for wire.modbus their place in a
bytearray. Never: a message, I/O.
"""

from array import array

from ..compat import const, micropython, ptr32

_END = const(0x10000)  # one past the last address
_CODES = const(0x80)  # function codes are 1..127 (AP 4.1)
_LONGEST = const(250)  # bytes of values in one request

EVENTS = const(64)  # bytes in the event log (AP 6.10)

# What is counted in a bank's tally, by index; counts wrap at 30 bits to stay small integers on the board
REQUESTS = const(0)  # answered, with an exception or without
EXCEPTIONS = const(1)  # of these, with an exception
DISCARDED = const(2)  # skipped because the protocol identifier was not 0 (IG 4.4.2.2)
FRAME_ERRORS = const(3)  # connections closed because the stream could not be cut into ADUs
BUSY = const(4)  # exceptions 06
NAKS = const(5)  # exceptions 07
EVENT_COUNTERS = const(6)  # requests for the event counter answered (AP 6.9 does not count these)
LOGGED = const(7)  # entries ever written to the event log
WRITES = const(8)  # requests that wrote
REFUSED = const(9)  # writes that were not permitted
PRODUCED = const(10)  # wire.mbap: bytes written to `out` by the last call
ROOM = const(11)  # wire.mbap: length of `out`
_TALLY = const(12)
WRAP = const(0x3FFFFFFF)


class Table:
    """Values at 16-bit addresses, with gaps where no range says otherwise.

    `ranges` is a count (addresses from 0) or a sequence of pairs (first address, count); ValueError if they
    overlap or leave 0..65535. `data` holds the values of all ranges, one after the other: registers
    big-endian, coils packed with the first in the lowest bit. The application may write there in bulk.

    Hooks are called inside a request whose addresses all exist, once each, with the part of their range that it
    touches, in the order of their registration:

    - before_read(table, address, count): to refresh values that are about to be read;
    - after_read(table, address, count): they are in the response, so that it may clear them;
    - before_write(values, address, count): values[address] is what the client wants to write; nothing is written yet;
    - after_write(table, address, count): to act on what was written.

    They return None to go on, or the exception code to answer with (what after_read returns has no effect). A
    request refused by a hook changes nothing: what was there before after_write is put back; except for ACKNOWLEDGE
    (of either kind), which accepts a request that takes longer: written, and answered with 05. A hook that raises
    counts as SERVER_DEVICE_FAILURE. A hook must not wait.

    `locked`, if set, are spans that clients may not write (exception 02): an array("I") of pairs (first address, end).
    `starts`, if set, has a bit for each value in `data`, the lowest first: 1 where a client's write may start, or end
    before. It keeps values of several registers whole (02 otherwise).
    """

    def __init__(self, ranges):
        if isinstance(ranges, int):
            ranges = ((0, ranges),) if ranges else ()
        entries = array("I")  # per range: first address, end, index of its first value in `data`
        end = index = 0
        for first, count in sorted(ranges):
            if first < end or count < 1 or first + count > _END:
                raise ValueError("range %d, %d: overlaps another or leaves 0..65535" % (first, count))
            if entries and first == end:
                entries[-2] = first + count  # adjoining ranges are one: a request may span them
            else:
                entries.extend(array("I", (first, first + count, index)))
            end = first + count
            index += count
        entries.append(_END)  # sentinel: no address reaches it
        self.ranges = entries
        self.count = index
        self.data = bytearray(self._size(index))
        self.reading = self.read = self.writing = self.written = None  # Hooks, where there are any
        self.locked = None
        self.starts = None

    def __len__(self):
        return self.count

    def before_read(self, hook, first=0, count=_END):
        """Call `hook` (see above) for the addresses from `first` on; so do the next three. Returns `hook`."""
        self.reading = _added(self.reading, hook, first, count)
        return hook

    def after_read(self, hook, first=0, count=_END):
        self.read = _added(self.read, hook, first, count)
        return hook

    def before_write(self, hook, first=0, count=_END):
        self.writing = _added(self.writing, hook, first, count)
        return hook

    def after_write(self, hook, first=0, count=_END):
        self.written = _added(self.written, hook, first, count)
        return hook


class Bits(Table):
    """Coils or discrete inputs: table[address] is a bool. IndexError if the address is in no range."""

    @staticmethod
    def bytes_of(count):
        """Bytes that so many values take, packed."""
        return (count + 7) // 8

    @staticmethod
    def _size(count):
        return (count + 7) // 8 + 1  # one spare byte: bits are moved sixteen at a time

    def cut(self, address, count):
        """Values, packed from the lowest bit on. IndexError as for [address]."""
        data = bytearray(self.bytes_of(count))
        for i in range(count):
            if self[address + i]:
                data[i >> 3] |= 1 << (i & 7)
        return data

    def put(self, address, count, data):
        """Set values from what `cut` returned."""
        for i in range(count):
            self[address + i] = data[i >> 3] >> (i & 7) & 1

    @micropython.native
    def __getitem__(self, address):
        index = _place(self, address)
        return bool(self.data[index >> 3] >> (index & 7) & 1)

    @micropython.native
    def __setitem__(self, address, value):
        index = _place(self, address)
        bit = 1 << (index & 7)
        if value:
            self.data[index >> 3] |= bit
        else:
            self.data[index >> 3] &= ~bit


class Registers(Table):
    """Holding or input registers: table[address] is an int. IndexError if the address is in no range.

    ValueError if a value is not in 0..65535.
    """

    @staticmethod
    def bytes_of(count):
        """Bytes that so many values take."""
        return count * 2

    _size = bytes_of

    def cut(self, address, count):
        """Values as they travel. IndexError as for [address]."""
        at = self.place(address)
        return self.data[at : at + 2 * count]

    def put(self, address, count, data):
        """Set values from what `cut` returned."""
        at = self.place(address)
        self.data[at : at + 2 * count] = data

    def place(self, address):
        """Where the register's two bytes begin in `data`."""
        return 2 * _place(self, address)

    @micropython.native
    def __getitem__(self, address):
        index = _place(self, address) * 2
        return self.data[index] << 8 | self.data[index + 1]

    @micropython.native
    def __setitem__(self, address, value):
        if not 0 <= value <= 0xFFFF:
            raise ValueError("register %d: %d is not in 0..65535" % (address, value))
        index = _place(self, address) * 2
        self.data[index] = value >> 8
        self.data[index + 1] = value & 0xFF


class Hooks:
    """Hooks of one kind: functions[i] for the addresses from spans[2 * i] up to, without, spans[2 * i + 1]."""

    def __init__(self):
        self.spans = array("I")
        self.functions = []


def _added(hooks, hook, first, count):
    if hooks is None:
        hooks = Hooks()
    if first < 0 or count < 1:
        raise ValueError("hook for range %d, %d" % (first, count))
    hooks.functions.append(hook)
    hooks.spans.extend(array("I", (first, min(first + count, _END))))
    return hooks


class Damaged(Exception):
    """A file of bank.files says: the stored records are not those that were written. Answered by exception 08."""


class Proposed:
    """What a client wants to write, as before_write sees it: [address] is an int, of a coil a bool.

    It holds for the time of the call. IndexError outside the addresses of the call's request.
    """

    def __init__(self):
        self.data = bytearray(_LONGEST)  # as it came: registers big-endian, bits packed from the lowest on
        self.first = self.count = 0
        self.bits = False

    @micropython.native
    def __getitem__(self, address):
        index = address - self.first
        if not 0 <= index < self.count:
            raise IndexError("address %d is not written" % address)
        if self.bits:
            return bool(self.data[index >> 3] >> (index & 7) & 1)
        return self.data[2 * index] << 8 | self.data[2 * index + 1]


class BareBank:
    """What a server shows: four tables separate from each other (AP 4.3), and what the other functions need.

    Arguments as for Table. wire.modbus.Bank has the functions too, executes requests and counts in `tally`. Fields:
    `functions`: the function for each code, or None (see `register`).
    `on_error`: called with an exception that escaped from a hook. `on_refused`: called with (function code, address,
    count) of a write that was not permitted.
    `session`: who asks, while a request is executed: its `peer` is (address, port), or None.
    """

    def __init__(self, coils=0, discrete_inputs=0, holding_registers=0, input_registers=0):
        self.coils = Bits(coils)
        self.discrete_inputs = Bits(discrete_inputs)
        self.holding_registers = Registers(holding_registers)
        self.input_registers = Registers(input_registers)
        self.functions = [None] * _CODES
        self.writers = set()  # codes that change something
        self.tally = array("I", bytes(4 * _TALLY))
        self.cleared = array("I", bytes(4 * _TALLY))  # the tally when its counters were cleared (AP 6.8)
        self.events = bytearray(EVENTS)  # the event log (AP 6.10): entry i is events[i % 64]
        self.identity = {}  # objects of the device identification (AP 6.21): number -> bytes, or what returns them
        self.server_id = b""  # FC 11 (AP 6.13), device specific
        self.exception_status = 0  # FC 07 (AP 6.7): eight outputs, or what returns them
        self.diagnostic_register = 0  # FC 08, 02
        self.files = {}  # FC 14, 15: number -> what record_file.py and records.py have
        self.fifos = {}  # FC 18: pointer address -> wire.modbus_records.Fifo
        self.on_error = None
        self.on_refused = None
        self.session = None
        self.proposed = Proposed()
        self.undo = bytearray(_LONGEST + 2)  # what a request overwrote, while after_write decides

    def register(self, code, function, writes=False):
        """`function(request, at, n, bank, response, to)` executes function code `code`, 1..127; see wire.modbus.

        `writes`: it changes something, so that read-only clients are refused.
        """
        if not 0 < code < _CODES:
            raise ValueError("function code %d is not in 1..127" % code)
        self.functions[code] = function
        if writes:
            self.writers.add(code)
        else:
            self.writers.discard(code)

    def refused(self, function, address, count):
        """Count and report a write that was not permitted."""
        self.tally[REFUSED] = self.tally[REFUSED] + 1 & WRAP
        if self.on_refused is not None:
            self.on_refused(function, address, count)


@micropython.viper
def find(table, address: int, count: int) -> int:
    """Index of the value at `address`, 0..65535, if the `count` >= 1 values from there on exist; else -1."""
    ranges = ptr32(table.ranges)
    i = 0
    while address >= ranges[i]:
        if address + count <= ranges[i + 1]:
            return address - ranges[i] + ranges[i + 2]
        i += 3
    return -1


@micropython.native  # as its callers: hooks use them, and bytecode takes twice as long
def _place(table, address):
    """Index of the value at whatever `address` the application gives."""
    if 0 <= address < _END:
        index = find(table, address, 1)
        if index >= 0:
            return index
    raise IndexError("no address %d" % address)
