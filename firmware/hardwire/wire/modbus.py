"""Modbus: requests in, responses out, over a bank of coils and registers.

In: request bytes in a caller's buffer, and a Bank. Out: response bytes in a caller's buffer. Never: I/O,
time, heap per request, an exception other than FrameError, a bank changed by a refused request.
Two layers. PDU: `respond` and the functions in FUNCTIONS know nothing of framing. MBAP: `answer` frames them
for TCP. A new function code is one function, one line of FUNCTIONS, and its vectors in tests/vectors.py.

Microseconds are counted here: on an RP2040 at 125 MHz an attribute or a global costs 1 to 2, a call 5 to 8.

AP = MODBUS Application Protocol Specification V1.1b3,
IG = MODBUS Messaging on TCP/IP Implementation Guide V1.0b.
"""

from ..compat import const, micropython, ptr8, ptr32
from .bank import Bank, find  # noqa: F401 (Bank is for those who import this file)

# Exception codes (AP 7)
ILLEGAL_FUNCTION = const(1)
ILLEGAL_DATA_ADDRESS = const(2)
ILLEGAL_DATA_VALUE = const(3)
SERVER_DEVICE_FAILURE = const(4)
ACKNOWLEDGE = const(5)
SERVER_DEVICE_BUSY = const(6)

# Function codes (AP 6)
READ_COILS = const(0x01)
READ_DISCRETE_INPUTS = const(0x02)
READ_HOLDING_REGISTERS = const(0x03)
READ_INPUT_REGISTERS = const(0x04)
WRITE_SINGLE_COIL = const(0x05)
WRITE_SINGLE_REGISTER = const(0x06)
WRITE_MULTIPLE_COILS = const(0x0F)
WRITE_MULTIPLE_REGISTERS = const(0x10)
MASK_WRITE_REGISTER = const(0x16)
READ_WRITE_MULTIPLE_REGISTERS = const(0x17)

# Most items in one request
_READ_BITS = const(2000)  # AP 6.1, 6.2
_READ_REGISTERS = const(125)  # AP 6.3, 6.4, 6.17
_WRITE_BITS = const(0x7B0)  # AP 6.11
_WRITE_REGISTERS = const(0x7B)  # AP 6.12
_EXCHANGE_REGISTERS = const(0x79)  # AP 6.17, the write part

# MBAP header (IG 3.1.3): transaction 2, protocol 2, length of what follows 2, unit 1; then the PDU
_PROTOCOL = const(2)
_LENGTH = const(4)
_UNIT = const(6)
_HEADER = const(7)
MAX_PDU = const(253)  # AP 4.1
MAX_ADU = const(260)
_LEAST = const(8)  # bytes in the smallest ADU: header and function code

# What `answer` counts, as indices of its `tally`; counts wrap at 30 bits to stay small integers on the board
PRODUCED = const(0)  # bytes written to `out` by the last call
REQUESTS = const(1)  # answered, with an exception or without
EXCEPTIONS = const(2)  # of these, with an exception
DISCARDED = const(3)  # skipped because the protocol identifier was not 0 (IG 4.4.2.2)
ROOM = const(4)  # not a count: length of `out`
TALLY = const(5)
_WRAP = const(0x3FFFFFFF)

_FEW_BITS = const(64)  # up to here a loop is faster than a call of `copy`


class FrameError(Exception):
    """The stream cannot be cut into ADUs any more: close the connection."""


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


@micropython.native  # bytecode with this many locals would take its frame from the heap: 0.2 ms
def _ask(bank, hook, table, address, count):
    """The hook's verdict: 0 or an exception code."""
    try:
        code = hook(table, address, count)
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
def _write_in(bank, table, address: int, count: int, source, at: int) -> int:
    """Registers from source[at:] to the table. Returns 0, or an exception code negated."""
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    data = table.data
    first = index << 1
    n = count << 1
    hook = table.on_write
    if hook:
        copy(0, first, bank.undo, data, n)
    copy(first, at, data, source, n)
    if hook:
        code = int(_ask(bank, hook, table, address, count))
        if code:
            if code != ACKNOWLEDGE:
                copy(first, 0, data, bank.undo, n)
            return 0 - code
    return 0


@micropython.viper
def _write_bits_in(bank, table, address: int, count: int, source: ptr8, at: int) -> int:
    """Bits from source[at:] to the table. Returns 0, or an exception code negated."""
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    data = table.data
    first = index >> 3
    shift = index & 7
    n = (shift + count + 7) >> 3  # bytes touched
    hook = table.on_write
    if hook:
        copy(0, first, bank.undo, data, n)
    target = ptr8(data)
    to = first
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
    if hook:
        code = int(_ask(bank, hook, table, address, count))
        if code:
            if code != ACKNOWLEDGE:
                copy(first, 0, data, bank.undo, n)
            return 0 - code
    return 0


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
    if function == READ_DISCRETE_INPUTS:
        table = bank.discrete_inputs
    address = request[at + 1] << 8 | request[at + 2]
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    hook = table.on_read
    if hook:
        refused = int(_ask(bank, hook, table, address, count))
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
    if function == READ_INPUT_REGISTERS:
        table = bank.input_registers
    address = request[at + 1] << 8 | request[at + 2]
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    hook = table.on_read
    if hook:
        refused = int(_ask(bank, hook, table, address, count))
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
    return n + 2


@micropython.viper
def _write_single(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER (AP 6.5, 6.6). The response is the request."""
    if n != 5:
        return 0 - ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    if request[at] == WRITE_SINGLE_COIL:
        high = request[at + 3]
        if (high != 0 and high != 0xFF) or request[at + 4] != 0:
            return 0 - ILLEGAL_DATA_VALUE
        refused = int(_write_bits_in(bank, bank.coils, address, 1, request, at + 3))  # FF: its lowest bit
    else:
        refused = int(_write_in(bank, bank.holding_registers, address, 1, request, at + 3))
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
    coils = request[at] == WRITE_MULTIPLE_COILS
    most = _WRITE_REGISTERS
    size = count << 1
    if coils:
        most = _WRITE_BITS
        size = (count + 7) >> 3
    if count < 1 or count > most or request[at + 5] != size or n != 6 + size:
        return 0 - ILLEGAL_DATA_VALUE
    if coils:
        refused = int(_write_bits_in(bank, bank.coils, address, count, request, at + 6))
    else:
        refused = int(_write_in(bank, bank.holding_registers, address, count, request, at + 6))
    if refused:
        return refused
    copy(to, at, response, request, 5)
    return 5


@micropython.viper
def _mask_write(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """MASK_WRITE_REGISTER (AP 6.16): (current AND and) OR (or AND NOT and). The response is the request."""
    if n != 7:
        return 0 - ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    table = bank.holding_registers
    index = int(find(table, address, 1))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    hook = table.on_read
    if hook:
        refused = int(_ask(bank, hook, table, address, 1))
        if refused:
            return 0 - refused
    data = ptr8(table.data)
    i = 0
    while i < 2:
        mask = request[at + 3 + i]
        response[to + i] = data[(index << 1) + i] & mask | request[at + 5 + i] & (mask ^ 0xFF)
        i += 1
    refused = int(_write_in(bank, table, address, 1, response, to))
    if refused:
        return refused
    copy(to, at, response, request, n)
    return n


@micropython.viper
def _exchange(request: ptr8, at: int, n: int, bank, response: ptr8, to: int) -> int:
    """READ_WRITE_MULTIPLE_REGISTERS (AP 6.17): both ranges are checked, then written, then read."""
    if n < 10:
        return 0 - ILLEGAL_DATA_VALUE
    address = request[at + 1] << 8 | request[at + 2]
    count = request[at + 3] << 8 | request[at + 4]
    written = request[at + 7] << 8 | request[at + 8]
    size = written << 1
    if count < 1 or count > _READ_REGISTERS or written < 1 or written > _EXCHANGE_REGISTERS:
        return 0 - ILLEGAL_DATA_VALUE
    if request[at + 9] != size or n != 10 + size:
        return 0 - ILLEGAL_DATA_VALUE
    table = bank.holding_registers
    index = int(find(table, address, count))
    if index < 0:
        return 0 - ILLEGAL_DATA_ADDRESS
    to_address = request[at + 5] << 8 | request[at + 6]
    refused = int(_write_in(bank, table, to_address, written, request, at + 10))
    if refused:
        return refused
    return int(_read_registers(request, at, 5, bank, response, to))  # begins like a request to read


FUNCTIONS = [None] * 0x80  # by function code, 1..127 (AP 4.1); applications may add their own
FUNCTIONS[READ_COILS] = _read_bits
FUNCTIONS[READ_DISCRETE_INPUTS] = _read_bits
FUNCTIONS[READ_HOLDING_REGISTERS] = _read_registers
FUNCTIONS[READ_INPUT_REGISTERS] = _read_registers
FUNCTIONS[WRITE_SINGLE_COIL] = _write_single
FUNCTIONS[WRITE_SINGLE_REGISTER] = _write_single
FUNCTIONS[WRITE_MULTIPLE_COILS] = _write_multiple
FUNCTIONS[WRITE_MULTIPLE_REGISTERS] = _write_multiple
FUNCTIONS[MASK_WRITE_REGISTER] = _mask_write
FUNCTIONS[READ_WRITE_MULTIPLE_REGISTERS] = _exchange


@micropython.viper
def respond(request, at: int, n: int, bank, response, to: int) -> int:
    """Execute the request PDU request[at : at + n], n >= 1; write the response PDU to response[to:].

    `response` needs room for MAX_PDU bytes and must not overlap the request. Returns the response's length.
    What is no request (code 0, and the codes of exceptions from 0x80 on) is answered like an unknown
    function: its code with the top bit set, exception 01. The sum of AP 7 would make 0x81 look like a good
    answer to function 1.
    """
    function = ptr8(request)[at]
    code = ILLEGAL_FUNCTION
    if function < 0x80:
        handler = FUNCTIONS[function]
        if handler:
            length = int(handler(request, at, n, bank, response, to))
            if length > 0:
                return length
            code = 0 - length
    out = ptr8(response)
    out[to] = function | 0x80
    out[to + 1] = code
    return 2


@micropython.viper
def answer(buf, at: int, n: int, bank, out, tally) -> int:
    """Answer the complete ADUs in buf[at:n], in order, into `out`; returns the position behind the last one.

    Every unit identifier is answered and echoed, 0 too (IG 4.4.1.2). ADUs of another protocol are skipped.
    `tally` is an array("I") of TALLY entries: tally[ROOM] is the length of `out`, at least MAX_ADU;
    tally[PRODUCED] becomes the number of bytes written there; the others count. Stops early where one more
    response might not fit. Raises FrameError if the stream cannot be cut at buf[at]; responses to what comes
    before are handed out first.
    """
    counts = ptr32(tally)
    request = ptr8(buf)
    response = ptr8(out)
    last = counts[ROOM] - MAX_ADU
    to = 0
    counts[PRODUCED] = 0
    while to <= last and n - at >= _UNIT:
        size = _UNIT + (request[at + _LENGTH] << 8 | request[at + _LENGTH + 1])
        if size < _LEAST or size > MAX_ADU:
            if to:
                break
            raise FrameError("length field not in 2..254")
        if n - at < size:
            break
        if request[at + _PROTOCOL] | request[at + _PROTOCOL + 1]:
            counts[DISCARDED] = (counts[DISCARDED] + 1) & _WRAP
        else:
            length = int(respond(buf, at + _HEADER, size - _HEADER, bank, out, to + _HEADER))
            counts[REQUESTS] = (counts[REQUESTS] + 1) & _WRAP
            if response[to + _HEADER] & 0x80:
                counts[EXCEPTIONS] = (counts[EXCEPTIONS] + 1) & _WRAP
            response[to] = request[at]
            response[to + 1] = request[at + 1]
            response[to + _PROTOCOL] = 0
            response[to + _PROTOCOL + 1] = 0
            response[to + _LENGTH] = 0
            response[to + _LENGTH + 1] = length + 1
            response[to + _UNIT] = request[at + _UNIT]
            to += length + _HEADER
            counts[PRODUCED] = to
        at += size
    return at
