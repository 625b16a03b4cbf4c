"""Frames of the file protocol, for both ends: see docs/files.md.

In: fields, or bytes of a stream. Out: frames, or what is in them. Never: I/O, a clock, a path outside the root.
"""

from binascii import crc32
from struct import pack_into, unpack_from

from ..compat import const, micropython
from .auth import hmac

PORT = const(7770)
MAGIC = b"HWFS"
VERSION = const(1)
HEADER = const(10)
FIRST_LIMIT = const(256)  # largest payload before HELLO told more
LEAST_LIMIT = const(1024)  # that a client takes

# Types of frames. An answer has the type of its request, and ANSWER.
HELLO = const(0x01)
AUTH = const(0x02)
PING = const(0x03)
LIST = const(0x10)
STAT = const(0x11)
GET = const(0x12)
PUT = const(0x13)
HASH = const(0x14)
DELETE = const(0x15)
RENAME = const(0x16)
MKDIR = const(0x17)
RMDIR = const(0x18)
SPACE = const(0x19)
CANCEL = const(0x1A)
DATA = const(0x20)
END = const(0x21)
ACK = const(0x22)
RESEND = const(0x23)
NOTE = const(0x24)
ENTRIES = const(0x25)
ANSWER = const(0x80)
ERROR = const(0xFF)

# Codes of ERROR
NOT_FOUND = const(1)
EXISTS = const(2)
DENIED = const(3)
BAD_PATH = const(4)
NO_SPACE = const(5)
TOO_LARGE = const(6)
BAD_CHECKSUM = const(7)
BUSY = const(8)
BAD_REQUEST = const(9)
WRONG_KIND = const(10)
NOT_EMPTY = const(11)
FAILED = const(12)
NOT_SUPPORTED = const(13)
CHANGED = const(14)
CANCELLED = const(15)
RIVAL = const(16)  # of NOTE alone

# Bits of HELLO's access, of roles, of flags
OPEN = const(1)
READ_KEY = const(2)
WRITE_KEY = const(4)
READ = const(1)
WRITE = const(2)
RECURSIVE = const(1)  # LIST
HASHES = const(2)
RESUME = const(1)  # GET, PUT
ONLY_NEW = const(2)  # PUT
REPLACE = const(1)  # RENAME
PARENTS = const(1)  # MKDIR
FORGET = const(1)  # CANCEL
REPLACED = const(1)  # STORED
OVERTOOK = const(2)

# Layouts after the header; a path or text follows where the page says so
CLIENT_HELLO = ">4sBBH16s"
SERVER_HELLO = ">BBHIBBH16s6s"
CLIENT_GET = ">BIII"
CLIENT_PUT = ">BI8s"
SERVER_PUT = ">IIB"
ENTRY = ">BII"

FILE = const(0)
FOLDER = const(1)
TO_THE_END = const(0xFFFFFFFF)
LARGEST = const(0xFFFFFFFE)  # file, in bytes

_PART = const(64)  # bytes in a name
_FORBIDDEN = b'\\:*?"<>|\x7f'


class FrameError(ValueError):
    """The stream cannot be cut into frames any more."""


class PathError(ValueError):
    """The path is none that this protocol has. Its text says why."""


@micropython.native
def seal(view, kind, number, n, parts=None):
    """Make a frame of the `n` bytes of payload in view[HEADER:] (a memoryview); returns its length.

    parts: views of what the CRC covers, if there are some: view[:6], and these bytes.
    """
    pack_into(">HBBH", view, 0, n, kind, 0, number)
    view[3] = ~(view[0] + view[1] + kind + view[4] + view[5]) & 0xFF
    head, payload = parts or (view[:6], view[HEADER : HEADER + n])
    pack_into(">I", view, 6, crc32(payload, crc32(head)))
    return HEADER + n


@micropython.native
def frame(kind, number=0, payload=b""):
    """A frame. kind: its type; number: the request's id."""
    buffer = bytearray(HEADER + len(payload))
    buffer[HEADER:] = payload
    seal(memoryview(buffer), kind, number, len(payload))
    return buffer


@micropython.native
def parse(buffer, at, end, limit):
    """The frame that begins at buffer[at]: (length, type, id, whether its CRC is right). None: it is not all there.

    Raises FrameError: there is no frame, or it has more than `limit` bytes of payload.
    """
    if end - at < HEADER:
        return None
    n, kind, _, number, crc = unpack_from(">HBBHI", buffer, at)
    if sum(buffer[at : at + 6]) & 0xFF != 0xFF or n > limit:
        raise FrameError
    if end - at < HEADER + n:
        return None
    view = memoryview(buffer)
    payload = view[at + HEADER : at + HEADER + n]
    return HEADER + n, kind, number, crc32(payload, crc32(view[at : at + 6])) == crc


def proof(key, who, role, client_nonce, server_nonce):
    """What AUTH has to prove the possession of `key` (bytes). who: b"client" or b"server"."""
    return hmac(key, b"HWFS " + who + bytes((VERSION, role)) + client_nonce + server_nonce)


@micropython.native
def _is_good(part):
    """Whether `part` (bytes of UTF-8) is a name for every filesystem."""
    if len(part) > _PART or part[0] == 0x20 or part[-1] in b" ." or part == b"..":
        return False
    before = 0
    for c in part:  # of bytes, and a loop: a text of one letter costs MicroPython 0.2 ms
        if c < 0x20 or c in _FORBIDDEN or (before == 0x7E and 0x30 <= c <= 0x39):
            return False
        before = c
    return True


@micropython.native
def clean(path, depth):
    """The parts of `path` (bytes or text) joined by "/", without one at the start; "" is the root.

    Raises PathError.
    """
    path = path.encode() if isinstance(path, str) else bytes(path)
    parts = [part for part in path.split(b"/") if part]
    if len(parts) > depth:
        raise PathError("deeper than %d" % depth)
    for part in parts:
        if not _is_good(part):
            raise PathError("no name that every filesystem takes")
    try:
        return str(b"/".join(parts), "utf-8")
    except (UnicodeError, ValueError):
        raise PathError("not UTF-8")


@micropython.native
def among(path, chosen):
    """Whether clean `path` is one of the paths `chosen` (clean, lower case), or in one of them."""
    path = path.lower()
    for one in chosen:  # noqa: SIM110  no text is made where none is alike: that costs the board 0.1 ms
        if path.startswith(one) and (len(path) == len(one) or path[len(one)] == "/"):
            return True
    return False


def entry(kind, size, time, digest, path):
    """One of ENTRIES. digest: None, or 32 bytes; path: bytes."""
    buffer = bytearray(11 + (len(digest) if digest else 0) + len(path))
    at = 9
    pack_into(ENTRY, buffer, 0, kind, size, time)
    if digest:
        buffer[at : at + len(digest)] = digest
        at += len(digest)
    pack_into(">H", buffer, at, len(path))
    buffer[at + 2 :] = path
    return buffer


def entries(payload, hashes):
    """Those in the payload of an ENTRIES frame: [(kind, size, time, digest or None, path as bytes), ...].

    Raises FrameError.
    """
    found = []
    at = 0
    while at < len(payload):
        head = at + 9 + (32 if hashes else 0)
        if head + 2 > len(payload):
            raise FrameError
        kind, size, time = unpack_from(ENTRY, payload, at)
        n = unpack_from(">H", payload, head)[0]
        if head + 2 + n > len(payload):
            raise FrameError
        digest = bytes(payload[at + 9 : head]) if hashes else None
        found.append((kind, size, time, digest, bytes(payload[head + 2 : head + 2 + n])))
        at = head + 2 + n
    return found
