"""Modbus TCP framing: ADUs of a byte stream in, ADUs of responses out.

In: bytes of a connection in a caller's buffer, and a Bank. Out: whole responses in a caller's buffer. Never: I/O, heap
per request, an exception other than FrameError.

AP = MODBUS Application Protocol Specification V1.1b3,
IG = MODBUS Messaging on TCP/IP Implementation Guide V1.0b.
"""

from ..compat import const, micropython, ptr8, ptr32
from .modbus import respond

# Places in the tally, as wire.bank has them: a constant of another module would be looked up for each use
_REQUESTS = const(0)
_EXCEPTIONS = const(1)
_DISCARDED = const(2)
_BUSY = const(4)
_NAKS = const(5)
_LOGGED = const(7)
_PRODUCED = const(10)
_ROOM = const(11)
_WRAP = const(0x3FFFFFFF)
_LAST_EVENT = const(63)

# MBAP header (IG 3.1.3): transaction 2, protocol 2, length of what follows 2, unit 1; then the PDU
_PROTOCOL = const(2)
_LENGTH = const(4)
_UNIT = const(6)
_HEADER = const(7)
MAX_ADU = const(260)
_LEAST = const(8)  # bytes in the smallest ADU: header and function code

# Entries of the event log (AP 6.10)
_RECEIVED = const(0x80)
_SENT = const(0x40)


class FrameError(Exception):
    """The stream cannot be cut into ADUs any more: close the connection."""


@micropython.viper
def _exception(counts: ptr32, code: int) -> int:
    """Count an exception response; returns its bits in the event log."""
    counts[_EXCEPTIONS] = (counts[_EXCEPTIONS] + 1) & _WRAP
    if code <= 3:
        return 1
    if code == 4:
        return 2
    if code == 7:
        counts[_NAKS] = (counts[_NAKS] + 1) & _WRAP
        return 8
    if code == 6:
        counts[_BUSY] = (counts[_BUSY] + 1) & _WRAP
    if code <= 6:
        return 4
    return 0


@micropython.viper
def answer(buf, at: int, n: int, bank, functions, out) -> int:
    """Answer the complete ADUs in buf[at:n], in order, into `out`; returns the position behind the last one.

    `functions` as for `respond`. Every unit identifier is answered and echoed, 0 too (IG 4.4.1.2). ADUs of another
    protocol are skipped. bank.tally[ROOM] is the length of `out`, at least MAX_ADU; bank.tally[PRODUCED] becomes the
    number of bytes written there. Stops early where one more response might not fit. Raises FrameError if the stream
    cannot be cut at buf[at]; responses to what comes before are handed out first.
    """
    tally = bank.tally
    counts = ptr32(tally)
    events = ptr8(bank.events)
    request = ptr8(buf)
    response = ptr8(out)
    last = counts[_ROOM] - MAX_ADU
    to = 0
    counts[_PRODUCED] = 0
    while to <= last and n - at >= _UNIT:
        size = _UNIT + (request[at + _LENGTH] << 8 | request[at + _LENGTH + 1])
        if size < _LEAST or size > MAX_ADU:
            if to:
                break
            raise FrameError("length field not in 2..254")
        if n - at < size:
            break
        if request[at + _PROTOCOL] | request[at + _PROTOCOL + 1]:
            counts[_DISCARDED] = (counts[_DISCARDED] + 1) & _WRAP
        else:
            logged = counts[_LOGGED]
            events[logged & _LAST_EVENT] = _RECEIVED
            counts[_LOGGED] = (logged + 1) & _WRAP
            length = int(respond(buf, at + _HEADER, size - _HEADER, bank, functions, out, to + _HEADER))
            counts[_REQUESTS] = (counts[_REQUESTS] + 1) & _WRAP
            event = _SENT
            if response[to + _HEADER] & 0x80:
                event |= int(_exception(tally, response[to + _HEADER + 1]))
            logged = counts[_LOGGED]
            events[logged & _LAST_EVENT] = event
            counts[_LOGGED] = (logged + 1) & _WRAP
            response[to] = request[at]
            response[to + 1] = request[at + 1]
            response[to + _PROTOCOL] = 0
            response[to + _PROTOCOL + 1] = 0
            response[to + _LENGTH] = 0
            response[to + _LENGTH + 1] = length + 1
            response[to + _UNIT] = request[at + _UNIT]
            to += length + _HEADER
            counts[_PRODUCED] = to
        at += size
    return at
