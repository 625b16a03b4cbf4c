"""DNS: a question for one IPv4 address, and what the answer says.

In: a name and a random number; the bytes that came back. Out: the query's bytes; a code and an address. Never: I/O,
an exception on what a server sends, a loop that its bytes could prolong.

Sections are RFC 1035's. The server's answer is taken as it is: no cache, no EDNS, so messages have 512 bytes at most.
"""

from struct import pack, unpack_from

from ..compat import const

PORT = const(53)

# Codes: 1 to 15 are the server's own (4.1.1)
OK = const(0)
_FORMAT_ERROR = const(1)
SERVER_FAILURE = const(2)
NAME_ERROR = const(3)  # there is no such name
_NOT_IMPLEMENTED = const(4)
REFUSED = const(5)
NO_ADDRESS = const(16)  # the name exists and has no IPv4 address
TRUNCATED = const(17)  # the address did not fit into a datagram
MALFORMED = const(18)  # an answer to our question that cannot be read
NOT_OURS = const(19)  # not the answer to this query: go on waiting

_HEADER = const(12)
_RESPONSE = const(0x8000)  # flags: QR and the operation
_OPERATION = const(0x7800)
_TRUNCATED = const(0x0200)
_RECURSION = const(0x0100)
_A = const(1)
_CNAME = const(5)
_IN = const(1)
_LABEL = const(63)  # 2.3.4: bytes in a label,
_NAME = const(255)  # and in a name with its lengths
_JUMPS = const(8)  # compression pointers followed in a name; real answers nest two or three
_READS = const(64)  # of records: all that fit into 512 bytes, twice. On the board each may take 0.7 ms
_ALIASES = const(8)  # this many CNAMEs are a loop


def query(name, ident):
    """A query for the address of `name` with the random 16-bit `ident`; None if no host can have that name."""
    labels = name.encode().split(b".")
    if labels[-1] == b"":  # a dot at the end
        labels.pop()
    encoded = b""
    for label in labels:
        if not 0 < len(label) <= _LABEL:
            return None
        encoded += bytes([len(label)]) + label
    if not 0 < len(encoded) < _NAME:
        return None
    return pack(">HHHHHH", ident, _RECURSION, 1, 0, 0, 0) + encoded + pack(">BHH", 0, _A, _IN)


def parse(message, asked):
    """What `message` says to the query `asked`: (OK, 4 bytes), or (another code, None)."""
    if len(message) < len(asked):
        return NOT_OURS, None
    ident, flags, questions, answers = unpack_from(">HHHH", message)
    if (
        ident != unpack_from(">H", asked)[0]
        or flags & (_RESPONSE | _OPERATION) != _RESPONSE
        or questions != 1
    ):
        return NOT_OURS, None
    if bytes(message[_HEADER : len(asked)]).lower() != asked[_HEADER:].lower():
        return NOT_OURS, None
    if flags & 0xF:
        return flags & 0xF, None
    code, address = _find(message, len(asked), answers, asked[_HEADER:-4].lower())
    if code != OK and flags & _TRUNCATED:
        code = TRUNCATED
    return code, address


def _find(message, start, count, name):
    """Follow `name` through the `count` records from `start` on, which may be in any order: (code, address)."""
    at = start
    left = count
    aliases = progress = 0
    for _ in range(_READS):
        if left == 0:
            if not progress:
                return NO_ADDRESS, None
            at, left, progress = start, count, 0
        left -= 1
        owner, at = _read_name(message, at)
        if owner is None or at + 10 > len(message):
            break
        kind, group, _, size = unpack_from(">HHIH", message, at)
        at += 10
        if at + size > len(message):
            break
        if owner == name and group == _IN:
            if kind == _A and size == 4:
                return OK, bytes(message[at : at + 4])
            if kind == _CNAME:
                name, end = _read_name(message, at)
                aliases += 1
                progress = 1
                if end != at + size or aliases == _ALIASES:
                    break
        at += size
    return MALFORMED, None


def _read_name(message, at):
    """The name at `at` (4.1.4): (its bytes without compression, in lower case; where the next field is).

    (None, 0) if it runs out of the message, is too long, or points forward.
    """
    name = b""
    after = 0
    jumps = 0
    while at < len(message):
        size = message[at]
        if size > _LABEL:
            if size < 0xC0 or at + 2 > len(message) or jumps == _JUMPS:
                break
            jumps += 1
            after = after or at + 2
            target = (size & 0x3F) << 8 | message[at + 1]
            if target >= at:
                break
            at = target
            continue
        name += bytes(message[at : at + 1 + size])
        at += 1 + size
        if len(name) > _NAME or at > len(message):
            break
        if size == 0:
            return name.lower(), after or at
    return None, 0
