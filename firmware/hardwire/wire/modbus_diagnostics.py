"""Modbus functions that say how the server is and what it is: 07, 08, 0B, 0C, 11 and 2B/0E.

In: requests as wire.modbus has them, counts and texts of a Bank. Out: responses. Never: an exception, other effects
than cleared counters. Serial-only parts of function 08 are refused: listen-only mode would never answer (AP 6.8).
Source: MODBUS Application Protocol Specification V1.1b3 (AP).
"""

from ..compat import const
from .bank import (
    BUSY,
    DISCARDED,
    EVENT_COUNTERS,
    EVENTS,
    EXCEPTIONS,
    FRAME_ERRORS,
    LOGGED,
    NAKS,
    REQUESTS,
    WRAP,
)
from .modbus import ILLEGAL_DATA_ADDRESS, ILLEGAL_DATA_VALUE, ILLEGAL_FUNCTION, MAX_PDU

_READ_EXCEPTION_STATUS = const(0x07)
_DIAGNOSTICS = const(0x08)
_GET_COMM_EVENT_COUNTER = const(0x0B)
_GET_COMM_EVENT_LOG = const(0x0C)
_REPORT_SERVER_ID = const(0x11)
_ENCAPSULATED_INTERFACE = const(0x2B)

_READ_DEVICE_IDENTIFICATION = const(0x0E)  # MEI type (AP 6.21)
_BASIC = const(2)  # last object of the category
_REGULAR = const(0x7F)
_STREAMS = (_BASIC, _REGULAR, 0xFF)  # last object of what codes 1, 2 and 3 ask for
_ONE_OBJECT = const(4)
_HEADER = const(7)  # bytes before the first object
OBJECT_BYTES = MAX_PDU - _HEADER - 2  # in one object: it is never cut in two (AP 6.21)

_RUNS = const(0xFF)  # run indicator (AP 6.13)
_LOG_RESTART = const(0x00)  # entry of the event log (AP 6.10)

# Sub-functions of 08 (AP 6.8.1)
_RETURN_QUERY_DATA = const(0x00)
_RESTART = const(0x01)
_RETURN_REGISTER = const(0x02)
_CLEAR = const(0x0A)
_BUS_MESSAGES = const(0x0B)
_COMM_ERRORS = const(0x0C)
_EXCEPTION_ERRORS = const(0x0D)
_SERVER_MESSAGES = const(0x0E)
_NO_RESPONSES = const(0x0F)
_SERVER_NAKS = const(0x10)
_SERVER_BUSY = const(0x11)
_OVERRUNS = const(0x12)
_CLEAR_OVERRUNS = const(0x14)


def install(bank):
    """Register the functions of this file."""
    bank.register(_READ_EXCEPTION_STATUS, _exception_status)
    bank.register(_DIAGNOSTICS, _diagnostics)
    bank.register(_GET_COMM_EVENT_COUNTER, _event_counter)
    bank.register(_GET_COMM_EVENT_LOG, _event_log)
    bank.register(_REPORT_SERVER_ID, _server_id)
    bank.register(_ENCAPSULATED_INTERFACE, _interface)


def _value(bank, value, default):
    """`value`, or what it returns if the application has put a function there; `default` if that raises."""
    if not callable(value):
        return value
    try:
        return value()
    except Exception as error:
        if bank.on_error is not None:
            bank.on_error(error)
        return default


def _put16(response, at, value):
    response[at] = value >> 8 & 0xFF
    response[at + 1] = value & 0xFF


def _count(bank, place):
    """What was counted since the last clear, of 16 bits."""
    return bank.tally[place] - bank.cleared[place] & 0xFFFF


def _messages(bank):
    """Messages seen, this one too, which `answer` counts when it is answered."""
    return _count(bank, REQUESTS) + _count(bank, DISCARDED) + _count(bank, FRAME_ERRORS) + 1 & 0xFFFF


def _successes(bank):
    """The event counter (AP 6.9): neither exceptions count, nor asking for it."""
    return _count(bank, REQUESTS) - _count(bank, EXCEPTIONS) - _count(bank, EVENT_COUNTERS) & 0xFFFF


def _exception_status(request, at, n, bank, response, to):
    """AP 6.7: eight outputs that mean what the application says."""
    if n != 1:
        return -ILLEGAL_DATA_VALUE
    response[to] = _READ_EXCEPTION_STATUS
    response[to + 1] = _value(bank, bank.exception_status, 0) & 0xFF
    return 2


def _diagnostics(request, at, n, bank, response, to):
    """AP 6.8. The response is the request, but for the data of counters and register."""
    if n < 5 or not n & 1:
        return -ILLEGAL_DATA_VALUE
    sub = request[at + 1] << 8 | request[at + 2]
    data = request[at + 3] << 8 | request[at + 4]
    if sub != _RETURN_QUERY_DATA:
        if not (_RESTART <= sub <= _RETURN_REGISTER or _CLEAR <= sub <= _OVERRUNS or sub == _CLEAR_OVERRUNS):
            return -ILLEGAL_FUNCTION
        if n != 5 or (data and not (sub == _RESTART and data == 0xFF00)):
            return -ILLEGAL_DATA_VALUE
    for i in range(n):
        response[to + i] = request[at + i]
    if sub == _RESTART:
        _clear(bank)
        if data:
            bank.cleared[LOGGED] = bank.tally[LOGGED]
        _log(bank, _LOG_RESTART)
    elif sub == _CLEAR:
        _clear(bank)
        bank.diagnostic_register = 0
    elif sub not in (_RETURN_QUERY_DATA, _CLEAR_OVERRUNS):
        _put16(response, to + 3, _counter(bank, sub))
    return n


def _counter(bank, sub):
    if sub == _RETURN_REGISTER:
        return _value(bank, bank.diagnostic_register, 0)
    if sub == _BUS_MESSAGES:
        return _messages(bank)
    if sub == _SERVER_MESSAGES:
        return _count(bank, REQUESTS) + 1
    if sub == _COMM_ERRORS:
        return _count(bank, FRAME_ERRORS)
    if sub == _EXCEPTION_ERRORS:
        return _count(bank, EXCEPTIONS)
    if sub == _SERVER_NAKS:
        return _count(bank, NAKS)
    if sub == _SERVER_BUSY:
        return _count(bank, BUSY)
    return 0  # _NO_RESPONSES, _OVERRUNS: TCP answers everything and loses nothing


def _clear(bank):
    for place in (REQUESTS, EXCEPTIONS, DISCARDED, FRAME_ERRORS, BUSY, NAKS, EVENT_COUNTERS):
        bank.cleared[place] = bank.tally[place]
    bank.cleared[REQUESTS] = bank.cleared[REQUESTS] + 1 & WRAP  # the request that clears belongs to before


def _log(bank, entry):
    logged = bank.tally[LOGGED]
    bank.events[logged % EVENTS] = entry
    bank.tally[LOGGED] = logged + 1 & WRAP


def _event_counter(request, at, n, bank, response, to):
    """AP 6.9. No command of this server goes on after its response: the status is 0000."""
    if n != 1:
        return -ILLEGAL_DATA_VALUE
    response[to] = _GET_COMM_EVENT_COUNTER
    _put16(response, to + 1, 0)
    _put16(response, to + 3, _successes(bank))
    bank.tally[EVENT_COUNTERS] = bank.tally[EVENT_COUNTERS] + 1 & WRAP
    return 5


def _event_log(request, at, n, bank, response, to):
    """AP 6.10: the entry of this request comes first."""
    if n != 1:
        return -ILLEGAL_DATA_VALUE
    logged = bank.tally[LOGGED]
    entries = min(logged - bank.cleared[LOGGED] & WRAP, EVENTS)
    response[to] = _GET_COMM_EVENT_LOG
    response[to + 1] = 6 + entries
    _put16(response, to + 2, 0)
    _put16(response, to + 4, _successes(bank))
    _put16(response, to + 6, _messages(bank))
    for i in range(entries):
        response[to + 8 + i] = bank.events[(logged - 1 - i) % EVENTS]
    return 8 + entries


def _server_id(request, at, n, bank, response, to):
    """AP 6.13: identifier, run indicator, and a text: the objects of the basic identification."""
    if n != 1:
        return -ILLEGAL_DATA_VALUE
    text = b" ".join([_object(bank, number) for number in range(_BASIC + 1)])
    data = (bank.server_id + bytes((_RUNS,)) + text)[: MAX_PDU - 2]
    response[to] = _REPORT_SERVER_ID
    response[to + 1] = len(data)
    response[to + 2 : to + 2 + len(data)] = data
    return 2 + len(data)


def _object(bank, number):
    value = _value(bank, bank.identity.get(number, b""), b"")
    return bytes(value[:OBJECT_BYTES])


def _interface(request, at, n, bank, response, to):
    """AP 6.19: of the encapsulated interfaces there is device identification (AP 6.21)."""
    if n < 2:
        return -ILLEGAL_DATA_VALUE
    if request[at + 1] != _READ_DEVICE_IDENTIFICATION:
        return -ILLEGAL_FUNCTION
    if n != 4:
        return -ILLEGAL_DATA_VALUE
    code = request[at + 2]
    first = request[at + 3]
    if not 1 <= code <= _ONE_OBJECT:
        return -ILLEGAL_DATA_VALUE
    numbers = sorted(set(bank.identity) | {0, 1, 2})  # the basic ones are mandatory
    highest = numbers[-1]
    if code == _ONE_OBJECT:
        if first not in numbers:
            return -ILLEGAL_DATA_ADDRESS
        numbers = [first]
    else:
        numbers = [number for number in numbers if number <= _STREAMS[code - 1]]
        if first in numbers:
            numbers = numbers[numbers.index(first) :]
    response[to] = _ENCAPSULATED_INTERFACE
    response[to + 1] = _READ_DEVICE_IDENTIFICATION
    response[to + 2] = code
    response[to + 3] = 0x81 if highest <= _BASIC else 0x82 if highest <= _REGULAR else 0x83
    response[to + 4] = response[to + 5] = 0
    end = to + _HEADER
    count = 0
    for number in numbers:
        value = _object(bank, number)
        if end + 2 + len(value) > to + MAX_PDU:
            response[to + 4] = 0xFF  # more follows,
            response[to + 5] = number  # from here on
            break
        response[end] = number
        response[end + 1] = len(value)
        end += 2
        response[end : end + len(value)] = value
        end += len(value)
        count += 1
    response[to + 6] = count
    return end - to
