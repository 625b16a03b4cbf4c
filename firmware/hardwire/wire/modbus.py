"""Modbus: request PDUs in, response PDUs out, over a bank of coils and registers.

In: a request in a caller's buffer, and a Bank. Out: the response in a caller's buffer. Never: framing (wire.mbap is
that of TCP), I/O, time, heap per request, an exception, a bank changed by a refused request.
A new function code is one function, one call of `register`, and its vectors in tests/vectors.py.

Microseconds are counted here: on an RP2040 at 125 MHz an attribute or a global costs 1 to 2, a call 5 to 8.

AP = MODBUS Application Protocol Specification V1.1b3,
IG = MODBUS Messaging on TCP/IP Implementation Guide V1.0b.
"""

from ..compat import const, micropython, ptr8, ptr32
from .bank import BareBank, find

# Exception codes (AP 7)
ILLEGAL_FUNCTION = const(1)
ILLEGAL_DATA_ADDRESS = const(2)
ILLEGAL_DATA_VALUE = const(3)
SERVER_DEVICE_FAILURE = const(4)
ACKNOWLEDGE = const(5)
SERVER_DEVICE_BUSY = const(6)

# Function codes (AP 6)
_READ_COILS = const(0x01)
_READ_DISCRETE_INPUTS = const(0x02)
_READ_HOLDING_REGISTERS = const(0x03)
_READ_INPUT_REGISTERS = const(0x04)
_WRITE_SINGLE_COIL = const(0x05)
_WRITE_SINGLE_REGISTER = const(0x06)
_WRITE_MULTIPLE_COILS = const(0x0F)
_WRITE_MULTIPLE_REGISTERS = const(0x10)
_MASK_WRITE_REGISTER = const(0x16)
_READ_WRITE_MULTIPLE_REGISTERS = const(0x17)

# Most items in one request
_READ_BITS = const(2000)  # AP 6.1, 6.2
_READ_REGISTERS = const(125)  # AP 6.3, 6.4, 6.17
_WRITE_BITS = const(0x7B0)  # AP 6.11
_WRITE_REGISTERS = const(0x7B)  # AP 6.12
_EXCHANGE_REGISTERS = const(0x79)  # AP 6.17, the write part

MAX_PDU = const(253)  # AP 4.1
_WRITES = const(8)  # place in the tally, as wire.bank has it
_WRAP = const(0x3FFFFFFF)

_len = len  # a builtin is looked for among all names of this module first, which costs 9 us
_FEW_BITS = const(64)  # up to here a loop is faster than a call of `copy`


# What the functions share


@micropython.viper
def copy(to: int, at: int, target: ptr8, source: ptr8, n: int):
    """target[to : to + n] = source[at : at + n] without slices, which cost heap. Does not check bounds.

    Four bytes per turn, with the first three arguments in processor registers: 0.2 us per byte instead of
    0.4.
    """
    while n >= 4:
        target[to] = source[at]
        target[to + 1] = source[at + 1]
        target[to + 2] = source[at + 2]
        target[to + 3] = source[at + 3]
        to += 4
        at += 4
        n -= 4
    while n > 0:
        target[to] = source[at]
        to += 1
        at += 1
        n -= 1


@micropython.viper
def _ask(bank, hooks, values, address: int, count: int) -> int:
    """Call those of `hooks` whose range has one of the addresses. Returns 0, or the first exception code."""
    spans = ptr32(hooks.spans)
    functions = hooks.functions
    n = int(_len(functions))
    end = address + count
    i = 0
    while i < n:
        first = spans[2 * i]
        last = spans[2 * i + 1]
        if address < last and first < end:
            if first < address:
                first = address
            if last > end:
                last = end
            code = int(_call(bank, functions[i], values, first, last - first))
            if code:
                return code
        i += 1
    return 0


@micropython.native  # bytecode with this many locals would take its frame from the heap: 0.2 ms
def _call(bank, hook, values, address, count):
    """The hook's verdict: 0 or an exception code."""
    try:
        code = hook(values, address, count)
        return 0 if code is None else _checked(code)
    except Exception as error:
        return _failed(bank, error)


def _checked(code):
    if not 0 <= code <= 0xFF:
        raise ValueError("hook returned %d" % code)
    return int(code)


def _failed(bank, error):
    if bank.on_error is not None:
        bank.on_error(error)
    return SERVER_DEVICE_FAILURE


@micropython.viper
def _locked(spans: ptr32, n: int, address: int, end: int) -> bool:
    """Whether one of the n / 2 spans has one of the addresses."""
    i = 0
    while i < n:
        if address < spans[i + 1] and spans[i] < end:
            return True
        i += 2
    return False


@micropython.viper
def _whole(starts: ptr8, at: int) -> bool:
    return bool(starts[at >> 3] >> (at & 7) & 1)


@micropython.viper
def _permit(bank, table, function: int, address: int, count: int) -> int:
    """Index of the first value, where a client may write all of them; else an exception code negated."""
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    if table.locked and _locked(table.locked, int(_len(table.locked)), address, address + count):
        bank.refused(function, address, count)
        return 0 - ILLEGAL_DATA_ADDRESS
    starts = table.starts
    if starts and not (_whole(starts, index) and _whole(starts, index + count)):
        return 0 - ILLEGAL_DATA_ADDRESS
    return index


def _propose(bank, table, bits, address, count, source, at, n):
    """Ask before_write about the n bytes from source[at:]. Returns 0 or an exception code."""
    proposed = bank.proposed
    proposed.first = address
    proposed.count = count
    proposed.bits = bits
    copy(0, at, proposed.data, source, n)
    return _ask(bank, table.writing, proposed, address, count)


def _settle(bank, table, address, count, first, n, before):
    """What was written to data[first : first + n] is asked about. Returns 0, or an exception code negated.

    `before`: what before_write said, 0 or ACKNOWLEDGE.
    """
    hooks = table.written
    if hooks:
        code = _ask(bank, hooks, table, address, count)
        if code:
            if code != ACKNOWLEDGE:
                copy(first, 0, table.data, bank.undo, n)
                return -code
            before = code
    tally = bank.tally
    tally[_WRITES] = (tally[_WRITES] + 1) & _WRAP
    return -before


@micropython.viper
def _write_in(bank, table, function: int, address: int, count: int, source, at: int) -> int:
    """Registers from source[at:] to the table. Returns 0, or an exception code negated."""
    index = int(_permit(bank, table, function, address, count))
    if index < 0:
        return index
    first = index << 1
    n = count << 1
    code = 0
    if table.writing:
        code = int(_propose(bank, table, False, address, count, source, at, n))
        if code and code != ACKNOWLEDGE:
            return 0 - code
    data = table.data
    if table.written:
        copy(0, first, bank.undo, data, n)
    copy(first, at, data, source, n)
    return int(_settle(bank, table, address, count, first, n, code))


@micropython.viper
def _write_bits_in(bank, table, function: int, address: int, count: int, source, at: int) -> int:
    """Bits from source[at:] to the table. Returns 0, or an exception code negated."""
    index = int(_permit(bank, table, function, address, count))
    if index < 0:
        return index
    code = 0
    if table.writing:
        code = int(_propose(bank, table, True, address, count, source, at, (count + 7) >> 3))
        if code and code != ACKNOWLEDGE:
            return 0 - code
    data = table.data
    first = index >> 3
    n = ((index & 7) + count + 7) >> 3  # bytes touched
    if table.written:
        copy(0, first, bank.undo, data, n)
    _copy_bits(data, index, source, at, count)
    return int(_settle(bank, table, address, count, first, n, code))


@micropython.viper
def _copy_bits(target: ptr8, index: int, source: ptr8, at: int, count: int):
    """`count` bits from source[at:] to bit `index` of target and on; others there are kept."""
    to = index >> 3
    shift = index & 7
    left = count
    if shift == 0 and count > _FEW_BITS:
        left = count & 7
        whole = count >> 3
        copy(to, at, target, source, whole)
        to += whole
        at += whole
    while left > 0:
        mask = 0xFF
        if left < 8:
            mask = (1 << left) - 1
        old = target[to] | target[to + 1] << 8
        new = old ^ ((old ^ source[at] << shift) & mask << shift)
        target[to] = new & 0xFF
        target[to + 1] = new >> 8
        to += 1
        at += 1
        left -= 8


# The functions. Each takes the request PDU request[at : at + n], n >= 1, has room for MAX_PDU bytes in
# response[to:], and returns the length of the response PDU, or an exception code negated. It raises nothing.
# It checks in the order of the specification's state diagrams: quantity, byte count and value (03), addresses
# (02), execution (04). Where the PDU's length is not what the function needs: 03 (AP 7, "implied length is
# incorrect").


@micropython.viper
def _read_bits(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """READ_COILS, READ_DISCRETE_INPUTS (AP 6.1, 6.2)."""
    if n != 5:
        return 0 - ILLEGAL_DATA_VALUE
    count = request[at + 3] << 8 | request[at + 4]
    if count < 1 or count > _READ_BITS:
        return 0 - ILLEGAL_DATA_VALUE
    function = request[at]
    table = bank.coils
    if function == _READ_DISCRETE_INPUTS:
        table = bank.discrete_inputs
    address = request[at + 1] << 8 | request[at + 2]
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    hooks = table.reading
    if hooks:
        refused = int(_ask(bank, hooks, table, address, count))
        if refused:
            return 0 - refused
    data = ptr8(table.data)
    source = index >> 3
    shift = index & 7
    n = (count + 7) >> 3
    response[to] = function
    response[to + 1] = n
    to += 2
    end = to + n
    if shift == 0 and count > _FEW_BITS:
        copy(to, source, response, data, n)
        to = end
    while to < end:
        response[to] = (data[source] | data[source + 1] << 8) >> shift & 0xFF
        to += 1
        source += 1
    if count & 7:
        response[end - 1] &= (1 << (count & 7)) - 1  # unused bits are zero
    hooks = table.read
    if hooks:
        _ask(bank, hooks, table, address, count)
    return n + 2


@micropython.viper
def _read_registers(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS (AP 6.3, 6.4)."""
    if n != 5:
        return 0 - ILLEGAL_DATA_VALUE
    count = request[at + 3] << 8 | request[at + 4]
    if count < 1 or count > _READ_REGISTERS:
        return 0 - ILLEGAL_DATA_VALUE
    function = request[at]
    table = bank.holding_registers
    if function == _READ_INPUT_REGISTERS:
        table = bank.input_registers
    address = request[at + 1] << 8 | request[at + 2]
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    hooks = table.reading
    if hooks:
        refused = int(_ask(bank, hooks, table, address, count))
        if refused:
            return 0 - refused
    n = count << 1
    response[to] = function
    response[to + 1] = n
    data = ptr8(table.data)
    at = index << 1
    to += 2
    end = to + n
    while to < end:
        response[to] = data[at]
        response[to + 1] = data[at + 1]
        to += 2
        at += 2
    hooks = table.read
    if hooks:
        _ask(bank, hooks, table, address, count)
    return n + 2


@micropython.viper
def _write_single(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER (AP 6.5, 6.6). The response is the request."""
    if n != 5:
        return 0 - ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    if request[at] == _WRITE_SINGLE_COIL:
        high = request[at + 3]
        if (high != 0 and high != 0xFF) or request[at + 4] != 0:
            return 0 - ILLEGAL_DATA_VALUE
        refused = int(_write_bits_in(bank, bank.coils, 5, address, 1, request, at + 3))  # FF: its lowest bit
    else:
        refused = int(_write_in(bank, bank.holding_registers, 6, address, 1, request, at + 3))
    if refused:
        return refused
    copy(to, at, response, request, n)
    return n


@micropython.viper
def _write_multiple(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """WRITE_MULTIPLE_COILS, WRITE_MULTIPLE_REGISTERS (AP 6.11, 6.12)."""
    if n < 6:
        return 0 - ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    count = request[at + 3] << 8 | request[at + 4]
    coils = request[at] == _WRITE_MULTIPLE_COILS
    most = _WRITE_REGISTERS
    size = count << 1
    if coils:
        most = _WRITE_BITS
        size = (count + 7) >> 3
    if count < 1 or count > most or request[at + 5] != size or n != 6 + size:
        return 0 - ILLEGAL_DATA_VALUE
    if coils:
        refused = int(_write_bits_in(bank, bank.coils, 0x0F, address, count, request, at + 6))
    else:
        refused = int(_write_in(bank, bank.holding_registers, 0x10, address, count, request, at + 6))
    if refused:
        return refused
    copy(to, at, response, request, 5)
    return 5


def _mask_write(request, at, n, bank, response, to):
    """MASK_WRITE_REGISTER (AP 6.16): (current AND and) OR (or AND NOT and). The response is the request."""
    if n != 7:
        return -ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    table = bank.holding_registers
    index = find(table, address, 1)
    if index < 0:
        return -ILLEGAL_DATA_ADDRESS
    hooks = table.reading
    if hooks:
        refused = _ask(bank, hooks, table, address, 1)
        if refused:
            return -refused
    data = table.data
    for i in range(2):
        mask = request[at + 3 + i]
        response[to + i] = data[2 * index + i] & mask | request[at + 5 + i] & ~mask
    refused = _write_in(bank, table, 0x16, address, 1, response, to)
    if refused:
        return refused
    copy(to, at, response, request, n)
    return n


def _exchange(request, at, n, bank, response, to):
    """READ_WRITE_MULTIPLE_REGISTERS (AP 6.17): both ranges are checked, then written, then read."""
    if n < 10:
        return -ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    count = request[at + 3] << 8 | request[at + 4]
    written = request[at + 7] << 8 | request[at + 8]
    size = 2 * written
    if not (1 <= count <= _READ_REGISTERS and 1 <= written <= _EXCHANGE_REGISTERS):
        return -ILLEGAL_DATA_VALUE
    if request[at + 9] != size or n != 10 + size:
        return -ILLEGAL_DATA_VALUE
    table = bank.holding_registers
    if find(table, address, count) < 0:
        return -ILLEGAL_DATA_ADDRESS
    to_address = request[at + 5] << 8 | request[at + 6]
    refused = _write_in(bank, table, 0x17, to_address, written, request, at + 10)
    if refused:
        return refused
    return _read_registers(request, at, 5, bank, response, to)  # begins like a request to read


_COUNTED = (_WRITE_MULTIPLE_COILS, _WRITE_MULTIPLE_REGISTERS, _READ_WRITE_MULTIPLE_REGISTERS)
_STANDARD = (
    (_READ_COILS, _read_bits, False),
    (_READ_DISCRETE_INPUTS, _read_bits, False),
    (_READ_HOLDING_REGISTERS, _read_registers, False),
    (_READ_INPUT_REGISTERS, _read_registers, False),
    (_WRITE_SINGLE_COIL, _write_single, True),
    (_WRITE_SINGLE_REGISTER, _write_single, True),
    (_WRITE_MULTIPLE_COILS, _write_multiple, True),
    (_WRITE_MULTIPLE_REGISTERS, _write_multiple, True),
    (_MASK_WRITE_REGISTER, _mask_write, True),
    (_READ_WRITE_MULTIPLE_REGISTERS, _exchange, True),
)


class Bank(BareBank):
    """A bank with the functions on data registered. Arguments as for Table."""

    def __init__(self, *tables, **named_tables):
        super().__init__(*tables, **named_tables)
        for code, function, writes in _STANDARD:
            self.register(code, function, writes)


def told(bank, table, address, count):
    """Tell the after_write hooks of what was changed otherwise than by a client. Returns what they return."""
    return _ask(bank, table.written, table, address, count) if table.written else 0


def read_only(bank):
    """bank.functions for a client that may not write: those that write report it and answer ILLEGAL_FUNCTION."""
    return [_refuse if code in bank.writers else function for code, function in enumerate(bank.functions)]


def _refuse(request, at, n, bank, response, to):
    """In the place of a function that writes. AP 7: code 01 says "wrong state" too."""
    function = request[at]
    exchange = function == _READ_WRITE_MULTIPLE_REGISTERS
    where = at + (5 if exchange else 1)
    address = count = 0
    if n >= (9 if exchange else 5):
        address = request[where] << 8 | request[where + 1]
        count = 1
        if function in _COUNTED and n >= 6:
            count = request[where + 2] << 8 | request[where + 3]
    bank.refused(function, address, count)
    return -ILLEGAL_FUNCTION


@micropython.viper
def respond(request, at: int, n: int, bank, functions, response, to: int) -> int:
    """Execute the request PDU request[at : at + n], n >= 1; write the response PDU to response[to:].

    `functions`: bank.functions, or what `read_only` makes of them. `response` needs room for MAX_PDU bytes and must not
    overlap the request. Returns the response's length.
    What is no request (code 0, and the codes of exceptions from 0x80 on) is answered like an unknown
    function: its code with the top bit set, exception 01. The sum of AP 7 would make 0x81 look like a good
    answer to function 1.
    """
    function = ptr8(request)[at]
    code = ILLEGAL_FUNCTION
    if function < 0x80:
        handler = functions[function]
        if handler:
            length = int(handler(request, at, n, bank, response, to))
            if length > 0:
                return length
            code = 0 - length
    out = ptr8(response)
    out[to] = function | 0x80
    out[to + 1] = code
    return 2
