"""SNTP: ask a server for the time of day once.

In: eight random bytes; the bytes that came back and how long they took. Out: the request's bytes; a code and Unix
time. Never: I/O, a clock of its own, an exception on what a server sends.

A server's answer is checked as RFC 4330, 5 says, with the distance limit of RFC 5905. The time is good to half of the
round trip, which is plenty for a log.
"""

from struct import pack, unpack_from

from ..compat import const

PORT = const(123)

OK = const(0)
NOT_OURS = const(1)  # not the answer to this request: go on waiting
UNSYNCHRONIZED = const(2)  # the server does not know the time itself
KISS = const(3)  # the server wants to be asked less often, or not at all (RFC 5905, 7.4)

_SIZE = const(48)
_CLIENT = const(0x23)  # leap indicator 0, version 4, mode 3
_SERVER = const(4)  # mode
_ALARM = const(3)  # leap indicator: not synchronised
_LEAST_STRATUM = const(1)
_MOST_STRATUM = const(15)
# Seconds << 16; RFC 5905, MAXDISP. Windows alone in a plant tells up to 10 s.
_MOST_DISTANCE = const(16 << 16)
_UNIX = const(2208988800)  # 1970 in seconds since 1900
_ERA = const(1 << 32)  # the seconds run over in 2036; a small number is of the time after that (RFC 4330, 3)


def request(token):
    """A request. `token`: 8 random bytes, in place of a time that is nobody's business; the answer repeats them."""
    return pack(">B39x8s", _CLIENT, token)


def parse(message, token, elapsed_ms):
    """What `message` says to the request with `token`, `elapsed_ms` after that was sent.

    (OK, Unix seconds, milliseconds) of the moment it came; (KISS, the four letters, 0); (another code, 0, 0).
    """
    if len(message) < _SIZE:
        return NOT_OURS, 0, 0
    first, stratum, _, _, delay, dispersion, reference = unpack_from(">BBBBII4s", message)
    originate, _, seconds, fraction = unpack_from(">8s8sII", message, 24)
    if first & 7 != _SERVER or not first & 0x38 or originate != token:
        return NOT_OURS, 0, 0
    if stratum == 0:
        return KISS, reference, 0
    if first >> 6 == _ALARM or not _LEAST_STRATUM <= stratum <= _MOST_STRATUM:
        return UNSYNCHRONIZED, 0, 0
    if delay // 2 + dispersion >= _MOST_DISTANCE or seconds | fraction == 0:
        return UNSYNCHRONIZED, 0, 0
    if not seconds & 0x80000000:
        seconds += _ERA
    milliseconds = (fraction * 1000 >> 32) + max(elapsed_ms, 0) // 2
    return OK, seconds - _UNIX + milliseconds // 1000, milliseconds % 1000
