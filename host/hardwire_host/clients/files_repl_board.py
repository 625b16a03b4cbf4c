"""A board that does to its files what it is told over its REPL: the functions it runs, and the line to them.

In: calls of its functions. Out: what they print, a sum, pieces of a file, each with its CRC-32. Never: a decision about
files; a board left without its app, whatever broke.

Content passes as it is, but for Ctrl-C, as in deploy_link.py.
"""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING
from zlib import crc32

from hardwire.wire import files as wire

from ..deploy_link import chunks
from ..errors import FAILED, TIMEOUT, HardwireError
from ..target import Target, session
from .files import FilesError, Progress

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

ANSWER_S = 60.0  # longest silence, on an emulated board and a busy PC
CHUNK = 4096  # bytes on the way at a time; a flash block
SIGN_OF_LIFE = 16 * CHUNK  # bytes summed between two of them
TRIES = 5  # of one piece
_END = b"0" * 12  # from the board, the head of a piece is its length (4) and CRC-32 (8), hexadecimal
_HEAD = 15  # bytes of one to the board: length (4), what stands for Ctrl-C or 100 (3), CRC-32 (8)

# On the board. Times of a port whose clock begins in 2000 are moved to 1970. `publish` is what Staging does where a
# rename replaces nothing: a power cut between its steps is made good by the firmware's next start.
_AGENT = """
import hashlib, json, micropython, os, sys, time
from binascii import crc32, hexlify
I = sys.stdin.buffer
O = sys.stdout.buffer
B = memoryview(bytearray(4096))
E = 946684800 if time.gmtime(0)[0] == 2000 else 0
def entry(path, name):
 s = os.stat("/" + path)
 folder = bool(s[0] & 0x4000)
 print(json.dumps([name, folder, 0 if folder else s[6], s[8] + E if s[8] else 0]))
 return folder
def kind(path):
 try: return bool(os.stat("/" + path)[0] & 0x4000)
 except OSError: return None
def prepare(path, above, part):
 s = os.statvfs("/")
 n = 0 if kind(part) is None else os.stat("/" + part)[6]
 print(json.dumps([kind(path), kind(above), n, s[0] * s[3]]))
def ls(top, path, skip, deep):
 folder = top + "/" + path if top and path else top + path
 for e in os.ilistdir("/" + folder):
  if path or top or e[0].lower() not in skip:
   name = path + "/" + e[0] if path else e[0]
   if entry(top + "/" + name if top else name, name) and deep: ls(top, name, skip, deep)
def blocks(path, n):
 i = 0
 with open(path, "rb") as f:
  while n:
   k = f.readinto(B[:min(n, 4096)])
   if not k: break
   yield B[:k]
   n -= k
   i += 1
   if not i % 16: O.write(b".")
def sha(path):
 h = hashlib.sha256()
 for b in blocks(path, 1 << 30): h.update(b)
 print("=" + hexlify(h.digest()).decode())
def crc(path, n):
 c = 0
 for b in blocks(path, n): c = crc32(b, c)
 print("=%08x" % c)
def send(path, at, n):
 with open(path, "rb") as f:
  f.seek(at)
  while n:
   k = f.readinto(B[:min(n, 4096)])
   if not k: break
   while True:
    O.write(b"%04x%08x" % (k, crc32(B[:k])))
    O.write(B[:k])
    if I.read(1) == b"y": break
   n -= k
 O.write(b"000000000000")
def receive(path, mode):
 i = 0
 with open(path, mode) as f:
  O.write(b".")
  while True:
   h = I.read(15).decode()
   n = int(h[:4], 16)
   if not n: break
   I.readinto(B[:n])
   d = B[:n]
   s = int(h[4:7], 16)
   if s < 256: d = bytes(d).replace(bytes([s]), b"\\3")
   if crc32(d) != int(h[7:], 16):
    O.write(b"n")
    continue
   f.write(d)
   i += 1
   if not i % 8: f.flush()
   O.write(b"y")
 O.write(b"e")
def publish(token, path):
 part = "/.put/" + token + ".part"
 name = "/.put/" + token + ".name"
 try: os.rename(part, "/" + path)
 except OSError as e:
  if e.errno != 17: raise
  with open(name, "wb") as f: f.write(crc32(path.encode()).to_bytes(4, "big") + path.encode())
  os.remove("/" + path)
  os.rename(part, "/" + path)
  os.remove(name)
def move(old, new):
 try: os.rename(old, new)
 except OSError as e:
  if e.errno != 17: raise
  os.remove(new)
  os.rename(old, new)
def quiet(f, *a):
 try: f(*a)
 except OSError: pass
def safely(f, *a):
 micropython.kbd_intr(-1)
 try: f(*a)
 finally: micropython.kbd_intr(3)
"""

# errno as MicroPython has it -> code of the protocol
_CODES = {
    2: wire.NOT_FOUND,
    13: wire.DENIED,
    17: wire.EXISTS,
    20: wire.WRONG_KIND,
    21: wire.WRONG_KIND,
    28: wire.NO_SPACE,
    30: wire.DENIED,
    39: wire.NOT_EMPTY,
    66: wire.NOT_EMPTY,
}
_WORDS = {
    wire.NOT_FOUND: "not found",
    wire.DENIED: "denied",
    wire.EXISTS: "exists",
    wire.WRONG_KIND: "a folder, not a file, or the other way round",
    wire.NO_SPACE: "no space",
    wire.NOT_EMPTY: "not empty",
}
_OS_ERROR = re.compile(r"OSError: (?:\[Errno (\d+)\]|(\d+))")


class ReplBoard:
    """The board at `target`, its app interrupted from the first `session` until `close`."""

    def __init__(self, target: Target) -> None:
        self.name = target.name
        self._target = target
        self._session: contextlib.AbstractContextManager[SerialTransport] | None = None
        self._transport: SerialTransport | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the app is."""
        return self._session is not None

    def close(self) -> None:
        """Start the app again."""
        if self._session is not None:
            ended, self._session = self._session, None
            ended.__exit__(None, None, None)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """The REPL with the agent in it. What breaks inside ends it, starts the app, and the next call begins anew."""
        new = self._session is None
        if new:
            begun = session(self._target, soft_reset=True, restart=True, timeout=ANSWER_S)
            self._transport = begun.__enter__()
            self._session = begun
        try:
            if new:
                self.call(_AGENT)
            yield
        except FilesError:  # an answer like any other
            raise
        except BaseException:
            broken, self._session = self._session, None
            if not broken.__exit__(*sys.exc_info()):
                raise

    def begin(self, code: str) -> None:
        """Run `code`; one of the others takes what it says."""
        self._transport.exec_raw_no_follow(code)

    def _end(self, path: str = "") -> str:
        """What the code that runs printed. Raises FilesError if it raised."""
        output, errors = self._transport.follow(ANSWER_S)
        if errors:
            raise self._failure(errors, path)
        return output.decode()

    def call(self, code: str, path: str = "") -> str:
        """Run `code`, which is about `path`; returns what it printed. Raises FilesError if it raised."""
        self.begin(code)
        return self._end(path)

    def _failure(self, errors: bytes, path: str) -> FilesError:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no traceback"])[-1]
        match = _OS_ERROR.match(last)
        number = _CODES.get(int(match[1] or match[2]), wire.FAILED) if match else wire.FAILED
        hint = "hardwire fs ls" if number == wire.NOT_FOUND else ""
        return FilesError(number, f"{self.name}: /{path}: {_WORDS.get(number, last)}", hint)

    def _said(self, n: int, path: str) -> bytes:
        """The next `n` bytes that the code has to say. Raises FilesError if it raised instead."""
        first = self._bytes(1)
        if first == b"\x04":  # the end of its output; its traceback follows
            raise self._failure(self._transport.read_until(1, b"\x04", timeout=ANSWER_S)[:-1], path)
        return first + self._bytes(n - 1)

    def _bytes(self, n: int) -> bytes:
        """The next `n` bytes. Raises HardwireError if they do not come."""
        data = b""
        while len(data) < n:
            more = self._transport.serial.read(n - len(data))
            if not more:
                raise HardwireError(
                    TIMEOUT, f"{self.name} stopped answering", "the same command goes on where it ended"
                )
            data += more
        return data

    async def summed(self, code: str, path: str, size: int, progress: Progress | None) -> str:
        """What `code`, a sum over `size` bytes of `path`, comes to."""
        self.begin(code)
        return await self.sum(path, size, progress)

    async def sum(self, path: str, size: int, progress: Progress | None) -> str:
        """As `summed`, of code that runs, to its end."""
        done = 0
        while self._said(1, path) == b".":
            done += SIGN_OF_LIFE
            if progress is not None:
                progress("check", min(done, size), size)
            await asyncio.sleep(0)
        if progress is not None:
            progress("check", size, size)
        return self._end(path).strip()

    async def pieces(self, path: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """Pieces of the file, each with its CRC-32 checked."""
        self.begin(f"send({'/' + path!r},{offset},{length})")
        tries = 0
        while (head := self._said(len(_END), path)) != _END:
            size, crc = _numbers(head, self.name)
            piece = self._bytes(size)
            if crc32(piece) == crc:
                tries = 0
                self._transport.serial.write(b"y")
                yield piece
            elif (tries := tries + 1) == TRIES:
                raise _damaged(self.name)
            else:
                self._transport.serial.write(b"n")
            await asyncio.sleep(0)
        self._end(path)

    def receiver(self, path: str, append: bool) -> None:
        """Begin to store pieces in a file, and to sum it: `send_block` for each, `send_end`, `sum`."""
        mode = "ab" if append else "wb"
        self.begin(f"receive({'/' + path!r},{mode!r})\nsha({'/' + path!r})")
        self._said(1, path)

    def send_block(self, block: bytes, path: str) -> None:
        """At most CHUNK bytes. They are stored, or about to be, once the next block is taken."""
        for piece, stand_in in chunks(block, CHUNK):
            self._send_piece(piece, stand_in, crc32(block[: len(piece)]), path)
            block = block[len(piece) :]

    def _send_piece(self, piece: bytes, stand_in: int, crc: int, part: str) -> None:
        head = b"%04x%03x%08x" % (len(piece), stand_in if stand_in >= 0 else 256, crc)
        for _ in range(TRIES):
            self._transport.serial.write(head + piece)
            if self._said(1, part) == b"y":
                return
        raise _damaged(self.name)

    def send_end(self, path: str) -> None:
        """That was all."""
        self._transport.serial.write(b"0" * _HEAD)
        self._said(1, path)


def _numbers(head: bytes, name: str) -> tuple[int, int]:
    """Length and CRC-32 of the piece that follows."""
    try:
        return int(head[:4], 16), int(head[4:], 16)
    except ValueError:
        raise _damaged(name) from None


def _damaged(name: str) -> HardwireError:
    return HardwireError(
        FAILED, f"the line to {name} damages what is sent", "the same command goes on where it ended"
    )
