"""One connection of the file protocol (docs/files.md): HELLO and AUTH, then requests side by side.

In: a place, a key. Out: a `Link`, whose `request` gives the frames that belong to one request. Never: a wait that ends
neither with a frame nor after `timeout` seconds in which nothing at all was heard.
"""

import asyncio
import contextlib
import hmac
import itertools
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from struct import calcsize, pack, unpack_from

from hardwire.wire import files as F

from .. import keys
from ..errors import BUSY, FAILED, NO_BOARD, TIMEOUT, HardwireError
from ..keys import Key

LIMIT = 65000  # largest payload we take
READ_SIZE = 1 << 18
QUEUE = 64  # frames of a request that wait for it; then nothing more is read
QUIET_S = 2.0  # of silence, before it is asked whether somebody is there
NONCE = 16
_KEY_HINT = "hardwire deploy makes and keeps a board's key; $HARDWIRE_KEY gives another"
_HINTS = {
    F.NO_SPACE: "hardwire fs df shows what is free",
    F.CHANGED: "the same command again takes the new one",
}


class FilesError(HardwireError):
    """The server refused. number: the code of ERROR in docs/files.md."""

    def __init__(self, number: int, message: str, hint: str = "") -> None:
        code = BUSY if number == F.BUSY else FAILED
        if not hint:
            about_key = number == F.DENIED and "key" in message
            hint = _KEY_HINT if about_key else _HINTS.get(number, "")
        super().__init__(code, message, hint, {"error_number": number})
        self.number = number


class Lost(Exception):
    """The connection has ended, or nobody answers (`code` TIMEOUT)."""

    def __init__(self, text: str, code: int = NO_BOARD) -> None:
        super().__init__(text)
        self.code = code


class Damaged(Exception):
    """A frame's CRC-32 was wrong, or what should follow one does not come."""


class Request:
    """One request on `link`, from `Link.request`. about: what it is about, for messages."""

    def __init__(self, link: "Link", kind: int, number: int, about: str) -> None:
        self.link = link
        self._number = number
        self._answer = kind | F.ANSWER
        self._last = {F.GET: F.END, F.PUT: F.END | F.ANSWER}.get(kind, self._answer)
        self._about = about
        self.ended = False
        self.queue: asyncio.Queue = asyncio.Queue(QUEUE)

    @property
    def waiting(self) -> bool:
        """Whether `frame` returns at once."""
        return not self.queue.empty()

    async def frame(self, patience: float | None = None) -> tuple[int, bytes]:
        """The next frame, (type, payload).

        Raises FilesError: it was ERROR. Damaged; also after `patience` seconds without one. Lost.
        """
        left = patience
        while True:
            try:
                async with asyncio.timeout(QUIET_S if left is None else left):
                    found = await self.queue.get()
                break
            except TimeoutError:
                if left is not None:
                    raise Damaged("no answer") from None
                self.link.look()
        if isinstance(found, Exception):
            raise found
        kind, payload = found
        if kind == F.ERROR:
            self.ended = True
            text = bytes(payload[1:]).decode(errors="replace")
            raise FilesError(payload[0] if payload else F.FAILED, f"{self.link.name}: /{self._about}: {text}")
        self.ended = self.ended or kind == self._last
        return kind, payload

    async def answer(self) -> bytes:
        """The payload of the answer. Raises as `frame`."""
        kind, payload = await self.frame()
        if kind != self._answer:
            raise Lost(f"frame {kind:02x} where {self._answer:02x} was due")
        return payload

    async def send(self, kind: int, payload: bytes) -> None:
        """Send a frame that belongs to it. Raises Lost."""
        await self.link.send(kind, self._number, payload)

    async def cancel(self, flags: int = 0) -> None:
        """End it; returns when it has."""
        self.link.cancel(self._number, flags)
        with contextlib.suppress(FilesError):
            while not self.ended:
                await self.frame()


class Link:
    """A connection whose HELLO is done.

    Attributes: limit, window: the server's, bytes. lost: why it has ended, None while it is there. heard: when anything
    came, in the loop's time.
    """

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float
    ) -> None:
        self.name = name
        self.limit = F.FIRST_LIMIT
        self.window = 0
        self.lost: Lost | None = None
        self._timeout = timeout
        self._reader, self._writer = reader, writer
        self._requests: dict[int, Request] = {}
        self._numbers = itertools.count(1)
        self._room = asyncio.Semaphore(1)
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        self._task = asyncio.create_task(self._read())

    # What comes

    async def _read(self) -> None:
        try:
            await self._frames()
        except F.FrameError:
            self._end(Lost("the stream is out of step"))
        except OSError as error:
            self._end(Lost((error.strerror or str(error)).lower()))
        else:
            self._end(Lost("the connection was closed"))

    async def _frames(self) -> None:
        buffer = bytearray()
        while data := await self._reader.read(READ_SIZE):
            self.heard = self._loop.time()
            buffer += data
            at = 0
            while found := F.parse(buffer, at, len(buffer), LIMIT):
                length, kind, number, intact = found
                payload = bytes(buffer[at + F.HEADER : at + length])
                at += length
                await self._deliver(number, (kind, payload) if intact else Damaged("damaged on the way"))
            del buffer[:at]

    async def _deliver(self, number: int, found: tuple[int, bytes] | Damaged) -> None:
        request = self._requests.get(number)
        if request is not None:
            await request.queue.put(found)
        elif number == 0 and not isinstance(found, Damaged) and found[0] == F.ERROR:
            raise ConnectionAbortedError(0, found[1][1:].decode(errors="replace"))

    def _end(self, why: Lost) -> None:
        if self.lost is None:
            self.lost = why
            self._writer.transport.abort()
            for request in self._requests.values():
                if request.queue.full():
                    request.queue.get_nowait()
                request.queue.put_nowait(why)

    def look(self) -> None:
        """It is quiet: ask whether somebody is there. Raises Lost when nobody was heard for `timeout` seconds."""
        if self.lost is None and self._loop.time() - self.heard >= self._timeout:
            self._end(Lost("no answer", TIMEOUT))
        if self.lost is not None:
            raise self.lost
        self._write(F.PING, self._number(), b"")

    # What goes

    def _number(self) -> int:
        while True:
            number = next(self._numbers) & 0xFFFF
            if number and number not in self._requests:
                return number

    def _write(self, kind: int, number: int, payload: bytes) -> None:
        self._writer.write(bytes(F.frame(kind, number, payload)))

    def cancel(self, number: int, flags: int = 0) -> None:
        """Ask for the end of a request."""
        if self.lost is None:
            self._write(F.CANCEL, self._number(), pack(">HB", number, flags))

    async def send(self, kind: int, number: int, payload: bytes) -> None:
        """Send a frame. Raises Lost."""
        if self.lost is not None:
            raise self.lost
        self._write(kind, number, payload)
        try:
            async with asyncio.timeout(self._timeout):
                await self._writer.drain()
        except TimeoutError:
            self._end(Lost("it takes no data", TIMEOUT))
            raise self.lost from None
        except OSError:
            self._end(Lost("the connection was closed"))
            raise self.lost from None

    @asynccontextmanager
    async def request(self, kind: int, payload: bytes, about: str) -> AsyncIterator[Request]:
        """Send a request; when the block is left before it has ended, it is cancelled. Raises Lost."""
        async with self._room:
            number = self._number()
            request = self._requests[number] = Request(self, kind, number, about)
            try:
                await self.send(kind, number, payload)
                yield request
            finally:
                del self._requests[number]
                while request.waiting:  # the reader may wait for room in the queue
                    request.queue.get_nowait()
                if not request.ended:
                    self.cancel(number)

    async def close(self) -> None:
        """End the connection."""
        self._end(Lost("closed"))
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._task
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # The beginning

    async def begin(self, key: Key | None) -> None:
        """HELLO, and AUTH where there is a key. Raises FilesError, Lost."""
        mine = secrets.token_bytes(NONCE)
        hello = pack(F.CLIENT_HELLO, F.MAGIC, F.VERSION, F.VERSION, LIMIT, mine)
        answer = await self._once(F.HELLO, hello, "hello")
        if len(answer) < calcsize(F.SERVER_HELLO):
            raise Lost("this is no file server")
        _, access, self.limit, self.window, operations, _, _, theirs, identity = unpack_from(
            F.SERVER_HELLO, answer
        )
        if self.limit < F.FIRST_LIMIT or self.window < self.limit or not operations:
            raise Lost("this is no file server")
        for _ in range(operations - 1):
            self._room.release()
        key = key or keys.find(identity)
        if key is None or not access & (F.READ_KEY | F.WRITE_KEY):
            return
        secret = key.text.encode()
        proof = F.proof(secret, b"client", key.role, mine, theirs)
        answer = await self._once(F.AUTH, bytes((key.role,)) + proof, "the key")
        if not hmac.compare_digest(answer[1:33], F.proof(secret, b"server", key.role, mine, theirs)):
            raise FilesError(
                F.DENIED, f"{self.name} does not have the key itself", "is it the server that is meant?"
            )

    async def _once(self, kind: int, payload: bytes, about: str) -> bytes:
        async with self.request(kind, payload, about) as request:
            try:
                return await request.answer()
            except Damaged as error:
                raise Lost(str(error)) from None


async def open_link(name: str, place: tuple[str, int], key: Key | None, timeout: float) -> Link:  # noqa: ASYNC109  of silence
    """A connection to `place`, begun. Raises FilesError, Lost, ConnectionError, HardwireError: it leads nowhere."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*place)
    except TimeoutError:
        raise HardwireError(TIMEOUT, f"{name} does not answer") from None
    except socket.gaierror as error:
        raise HardwireError(NO_BOARD, f"{name}: {error.strerror}".lower()) from None
    except ConnectionError:
        raise
    except OSError as error:
        raise HardwireError(NO_BOARD, f"{name}: {(error.strerror or str(error)).lower()}") from None
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link = Link(name, reader, writer, timeout)
    try:
        await link.begin(key)
    except BaseException:
        await link.close()
        raise
    return link
