"""The values a Modbus server shows: four tables of coils and registers, kept as they travel on the wire.

In: ranges of addresses, values from the application. Out: values, and for wire.modbus their place in a
bytearray. Never: a message, I/O.
"""

from array import array

from ..compat import const, micropython, ptr32

_END = const(0x10000)  # one past the last address


class Table:
    """Values at 16-bit addresses, with gaps where no range says otherwise.

    `ranges` is a count (addresses from 0) or a sequence of pairs (first address, count); ValueError if they
    overlap or leave 0..65535. `data` holds the values of all ranges, one after the other: registers
    big-endian, coils packed with the first in the lowest bit. The application may write there in bulk.

    Hooks are called as hook(table, address, count) inside a request, once, if all its addresses exist:
    `on_read` before values are read, to refresh them; `on_write` after values are written, to act on them.
    They return None to go on, or the exception code to answer with. Then the values from before on_write are
    put back, so that a refused request changes nothing; except for ACKNOWLEDGE, which accepts a request that
    takes longer. A hook that raises counts as SERVER_DEVICE_FAILURE. A hook must not wait.
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
        self.on_read = None
        self.on_write = None

    def __len__(self):
        return self.count


class Bits(Table):
    """Coils or discrete inputs: table[address] is a bool. IndexError if the address is in no range."""

    @staticmethod
    def _size(count):
        return (count + 7) // 8 + 1  # one spare byte: bits are moved sixteen at a time

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
    def _size(count):
        return count * 2

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


class Bank:
    """The four tables of a server, separate from each other (AP 4.3). Arguments as for Table.

    `on_error`, if set, is called with an exception that escaped from a hook.
    """

    def __init__(self, coils=0, discrete_inputs=0, holding_registers=0, input_registers=0):
        self.coils = Bits(coils)
        self.discrete_inputs = Bits(discrete_inputs)
        self.holding_registers = Registers(holding_registers)
        self.input_registers = Registers(input_registers)
        self.on_error = None
        self.undo = bytearray(256)  # for wire.modbus: what a request overwrote, while on_write decides


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
