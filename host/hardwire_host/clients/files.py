"""Files of a board, or of `hardwire fs serve`, over TCP: the client of docs/files.md.

In: paths here and there. Out: files that are whole, entries, `FilesError`. Never: half a file under its name, here or
there; a wait without a bound; a transfer begun anew where it can go on.

`NetFiles` is one connection that is made again when it is lost; several tasks may use it at once.
"""

import asyncio
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import pack, unpack, unpack_from
from typing import BinaryIO, Protocol, TypeVar
from zlib import crc32

from hardwire.wire import files as F

from .. import keys
from ..errors import FAILED, NO_BOARD, HardwireError
from ..keys import Key
from .files_link import Damaged, FilesError, Link, Lost, Request, open_link

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Called as (what, bytes done, bytes in all); what is "send", "receive" or "check"."""

BLOCK = 1 << 16  # bytes of a local file at a time
PART = ".part"  # behind the name of a file that is not all there
REFUSED_S = 2.0  # the chip has no backlog: who comes at the same moment as another is refused once
AGAIN_S = 0.2  # between attempts
DAMAGED_S = 1.0  # after a damaged frame: it may have been the last one
ATTEMPTS = 3  # for what should not go wrong twice


@dataclass(frozen=True)
class Entry:
    """A file or folder. path: relative to what was asked for; time: Unix seconds, 0: not known; digest: SHA-256."""

    path: str
    folder: bool
    size: int
    time: int
    digest: bytes | None = None


class Files(Protocol):
    """What NetFiles and files_repl.ReplFiles offer. Paths there are as on the wire. All raise HardwireError, OSError.

    name: of the server, for messages.
    """

    name: str

    async def list(self, path: str = "", *, recursive: bool = False, hashes: bool = False) -> list[Entry]:
        """What is in the folder `path`, with paths relative to it."""

    async def stat(self, path: str) -> Entry:
        """What is at `path`."""

    async def get(
        self,
        path: str,
        to: Path,
        *,
        resume: bool = True,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        """Copy a file to `to`; what came is in NAME.part until all is there. Returns its SHA-256."""

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """A part of a file."""

    async def put(
        self,
        source: Path,
        path: str,
        *,
        resume: bool = True,
        verify: bool = False,
        only_new: bool = False,
        progress: Progress | None = None,
        note: Callable[[str], None] | None = None,
    ) -> bytes:
        """Copy `source` to `path`. `note(text)` is told of another who puts to the same name. Returns its SHA-256."""

    async def hash(self, path: str) -> bytes:
        """SHA-256 of a file, as it is there."""

    async def delete(self, path: str) -> None:
        """Delete a file."""

    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        """Give it another name; a file at `new` is replaced only if `replace`."""

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a folder; `parents`: those on the way too, and no error if it is there."""

    async def rmdir(self, path: str) -> None:
        """Delete an empty folder."""

    async def space(self) -> tuple[int, int]:
        """(total, free) bytes."""

    async def close(self) -> None:
        """End."""


def token_of(source: Path, path: str) -> bytes:
    """The token of a PUT: the same for the same files of the same user on this PC, so that it is resumed."""
    name = f"{Path(source).resolve()}\0{path}"
    return hashlib.sha256(keys.own() + name.encode(errors="surrogateescape")).digest()[:8]


def _prefix_crc(file: BinaryIO, size: int) -> int:
    crc = 0
    while size and (data := file.read(min(BLOCK, size))):
        crc = crc32(data, crc)
        size -= len(data)
    return crc


def _opened(path: Path) -> BinaryIO:
    """The file to read and write, as it is; an empty one if there is none."""
    path.touch()
    return path.open("r+b")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


async def connect(host: str, port: int, key: Key | None = None, *, timeout: float = 10.0) -> "NetFiles":  # noqa: ASYNC109  of silence, not of the whole
    """A connection to a file server. key: else the one that this PC keeps for it, if it does.

    timeout: seconds without any progress after which everything gives up.

    Raises HardwireError: NO_BOARD, TIMEOUT; FilesError DENIED for a wrong key.
    """
    files = NetFiles(host, port, key, timeout)
    await files.open()
    return files


class NetFiles:
    """See Files."""

    def __init__(self, host: str, port: int, key: Key | None, timeout: float) -> None:
        self.name = f"{host}:{port}"
        self._place = host, port
        self._key = key
        self._timeout = timeout
        self._link: Link | None = None
        self._opening = asyncio.Lock()

    # The connection

    async def open(self) -> Link:
        """The connection, made if there is none."""
        async with self._opening:
            if self._link is None or self._link.lost:
                self._link = await self._opened()
            return self._link

    async def _opened(self) -> Link:
        now = asyncio.get_running_loop().time
        begun = now()
        first = self._link is None
        while True:
            patience = REFUSED_S if first else self._timeout
            try:
                return await open_link(self.name, self._place, self._key, self._timeout)
            except ConnectionError:
                problem = HardwireError(
                    NO_BOARD,
                    f"{self.name} refuses the connection",
                    "`hardwire config get services.files` shows how many it takes, and whether it is on",
                )
            except Lost as error:  # a forwarder's way to say the same
                problem = HardwireError(error.code, f"{self.name}: {error}")
            except FilesError as error:
                if error.number != F.BUSY:
                    raise
                patience = self._timeout  # after a wrong key from this address none is looked at for seconds
                problem = error
            if now() - begun >= patience:
                raise problem
            await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """End the connection."""
        if self._link is not None:
            await self._link.close()

    @asynccontextmanager
    async def _request(self, kind: int, payload: bytes, about: str) -> AsyncIterator[Request]:
        link = await self.open()
        async with link.request(kind, payload, about) as request:
            yield request

    async def _insist(self, work: Callable[[bool], Awaitable[T]], moved: Callable[[], int] = lambda: 0) -> T:
        """`work(again)` until it is not cut off; no more after `timeout` seconds in which `moved()` stays the same."""
        now = asyncio.get_running_loop().time
        again = False
        before, since = moved(), now()
        while True:
            try:
                return await work(again)
            except (Lost, Damaged) as error:
                problem = error
            except (struct.error, F.FrameError, IndexError, UnicodeError):
                raise self._unlike_the_protocol() from None
            if moved() != before:
                before, since = moved(), now()
            if now() - since >= self._timeout:
                code = problem.code if isinstance(problem, Lost) else NO_BOARD
                raise HardwireError(code, f"{self.name}: {problem}") from None
            again = True
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, kind: int, payload: bytes, about: str, done: int | None = None) -> bytes:
        """The answer to a request that is one frame. done: the ERROR that, on a repetition, says it had been done."""

        async def work(again: bool) -> bytes:
            try:
                async with self._request(kind, payload, about) as request:
                    return await request.answer()
            except FilesError as error:
                if again and error.number == done:
                    return b""
                raise

        return await self._insist(work)

    def _fields(self, layout: str, answer: bytes) -> tuple:
        try:
            return unpack(layout, answer)
        except struct.error:
            raise self._unlike_the_protocol() from None

    def _unlike_the_protocol(self) -> HardwireError:
        return HardwireError(FAILED, f"{self.name} does not keep to the protocol")

    # Without contents

    async def stat(self, path: str) -> Entry:
        """See Files."""
        kind, size, time = self._fields(F.ENTRY, await self._ask(F.STAT, path.encode(), path))
        return Entry(path, kind == F.FOLDER, size, time)

    async def list(self, path: str = "", *, recursive: bool = False, hashes: bool = False) -> list[Entry]:
        """See Files."""
        flags = (F.RECURSIVE if recursive else 0) | (F.HASHES if hashes else 0)

        async def work(_again: bool) -> list[Entry]:
            found = []
            async with self._request(F.LIST, bytes((flags,)) + path.encode(), path) as request:
                while True:
                    kind, payload = await request.frame()
                    if kind != F.ENTRIES:
                        break
                    for kind, size, time, digest, name in F.entries(payload, hashes):
                        folder = kind == F.FOLDER
                        found.append(Entry(name.decode(), folder, size, time, None if folder else digest))
            return found

        return await self._insist(work)

    async def hash(self, path: str) -> bytes:
        """See Files."""
        return self._fields(">I32s", await self._ask(F.HASH, path.encode(), path))[1]

    async def delete(self, path: str) -> None:
        """See Files."""
        await self._ask(F.DELETE, path.encode(), path, F.NOT_FOUND)

    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        """See Files."""
        head = pack(">BH", F.REPLACE if replace else 0, len(old.encode()))
        await self._ask(F.RENAME, head + old.encode() + new.encode(), old, F.NOT_FOUND)

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """See Files."""
        flags = bytes((F.PARENTS if parents else 0,))
        await self._ask(F.MKDIR, flags + path.encode(), path, F.EXISTS)

    async def rmdir(self, path: str) -> None:
        """See Files."""
        await self._ask(F.RMDIR, path.encode(), path, F.NOT_FOUND)

    async def space(self) -> tuple[int, int]:
        """See Files."""
        return self._fields(">QQ", await self._ask(F.SPACE, b"", "space"))

    # Reading

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Files."""
        got = bytearray()
        wanted = F.TO_THE_END if length is None else length

        async def work(_again: bool) -> None:
            left = wanted if length is None else wanted - len(got)
            await self._range(path, offset + len(got), left, got.extend)

        await self._insist(work, lambda: len(got))
        return bytes(got)

    async def _range(self, path: str, offset: int, length: int, take: Callable[[bytes], object]) -> None:
        """`take(data)` for each piece from `offset` on, in order. Raises Damaged: take the rest by another request."""
        payload = pack(F.CLIENT_GET, 0, offset, length, 0) + path.encode()
        digest = hashlib.sha256()
        async with self._request(F.GET, payload, path) as request:
            await request.answer()
            at = offset
            while True:
                kind, payload = await request.frame()
                if kind == F.END:
                    break
                if kind != F.DATA or at + len(payload) - 4 > offset + length:
                    raise F.FrameError
                if unpack_from(">I", payload)[0] != at:
                    raise Damaged("a piece is missing")
                take(payload[4:])
                digest.update(payload[4:])
                at += len(payload) - 4
            if unpack_from(">I", payload)[0] != at or payload[4:36] != digest.digest():
                raise FilesError(F.BAD_CHECKSUM, f"{self.name}: /{path}: what came is not what was sent")

    async def get(
        self,
        path: str,
        to: Path,
        *,
        resume: bool = True,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        """See Files."""
        part = to.with_name(to.name + PART)
        if not resume:
            part.unlink(missing_ok=True)
        tell = progress or (lambda what, done, total: None)

        def whole() -> int:
            return part.stat().st_size if part.exists() else 0

        for attempt in range(ATTEMPTS):
            try:
                wanted = await self._insist(lambda _: self._get(path, part, tell), whole)
            except FilesError as error:
                if error.number != F.CHANGED or attempt + 1 == ATTEMPTS:
                    raise
                part.unlink(missing_ok=True)
                continue
            tell("check", 0, part.stat().st_size)
            if verify:
                wanted = await self.hash(path)
            if await asyncio.to_thread(_digest, part) == wanted:
                tell("check", part.stat().st_size, part.stat().st_size)
                os.replace(part, to)
                return wanted
            part.unlink()
        raise FilesError(F.BAD_CHECKSUM, f"{self.name}: /{path}: what came is not what is there")

    async def _get(self, path: str, part: Path, tell: Progress) -> bytes:
        """Bring `part` to its full length; returns the server's SHA-256 of the whole file."""
        with _opened(part) as file:
            have = file.seek(0, os.SEEK_END)
            file.seek(0)
            crc = await asyncio.to_thread(_prefix_crc, file, have)
            payload = pack(F.CLIENT_GET, F.RESUME if have else 0, have, F.TO_THE_END, crc) + path.encode()
            good = at = have  # good: there is no hole before it
            holes = []
            try:
                async with self._request(F.GET, payload, path) as request:
                    size = unpack_from(">I", await request.answer())[0]
                    tell("receive", at, size)
                    patience = None
                    while True:
                        try:
                            kind, payload = await request.frame(patience)
                        except Damaged:
                            if patience is not None:
                                raise
                            patience = DAMAGED_S  # the next one's offset says what is missing, if one comes
                            continue
                        patience = None
                        offset = unpack_from(">I", payload)[0]
                        if offset > at:
                            holes.append((at, offset))
                        if kind == F.END:
                            at = offset
                            digest = payload[4:36]
                            break
                        if kind != F.DATA or offset + len(payload) - 4 > size:
                            raise F.FrameError
                        file.seek(offset)
                        file.write(payload[4:])
                        at = offset + len(payload) - 4
                        if not holes:
                            good = at
                        tell("receive", at, size)
                for start, end in holes:
                    file.seek(start)
                    await self._range(path, start, end - start, file.write)
                good = at
            finally:
                file.truncate(good)
            file.flush()
            os.fsync(file.fileno())
        return digest

    # Writing

    async def put(
        self,
        source: Path,
        path: str,
        *,
        resume: bool = True,
        verify: bool = False,
        only_new: bool = False,
        progress: Progress | None = None,
        note: Callable[[str], None] | None = None,
    ) -> bytes:
        """See Files."""
        upload = Upload(self, Path(source), path, only_new, progress, note)
        digest = await asyncio.to_thread(_digest, upload.source)
        for attempt in range(ATTEMPTS):
            try:
                await self._insist(lambda again: upload.run(resume or again, digest), lambda: upload.moved)
                break
            except FilesError as error:
                upload.check_unchanged()
                if error.number != F.BAD_CHECKSUM or attempt + 1 == ATTEMPTS:
                    raise
        upload.check_unchanged()
        if verify and await self.hash(path) != digest:
            raise FilesError(F.BAD_CHECKSUM, f"{self.name}: /{path} is not what was sent")
        return digest


class Upload:
    """One PUT of `source` to `path`, which may take several connections. moved: bytes acknowledged so far, in all."""

    def __init__(
        self,
        files: NetFiles,
        source: Path,
        path: str,
        only_new: bool,
        progress: Progress | None,
        note: Callable[[str], None] | None,
    ) -> None:
        self.source = source
        self.moved = 0
        self._files = files
        self._path = path
        self._only_new = only_new
        self._tell = progress or (lambda what, done, total: None)
        self._note = note or (lambda text: None)
        self._token = token_of(source, path)
        self._all_sent = False
        self._before = self._state()
        self._size = self._before[0]
        if self._size > F.LARGEST:
            raise FilesError(F.TOO_LARGE, f"{source} has more than 4 GiB")

    def _state(self) -> tuple[int, int]:
        status = self.source.stat()
        return status.st_size, status.st_mtime_ns

    def check_unchanged(self) -> None:
        """Raises HardwireError if the local file is another one by now."""
        if self._state() != self._before:
            raise HardwireError(
                FAILED, f"{self.source} changed while it was sent", "the same command again sends the new one"
            )

    async def run(self, resume: bool, digest: bytes) -> None:
        """One attempt."""
        if self._all_sent and await self._is_there(digest):
            return  # only the last answer was lost
        with self.source.open("rb") as file:
            if await self._attempt(file, resume, digest):
                return
            await self._attempt(file, False, digest)

    async def _is_there(self, digest: bytes) -> bool:
        try:
            return await self._files.hash(self._path) == digest
        except FilesError:
            return False

    async def _attempt(self, file: BinaryIO, resume: bool, digest: bytes) -> bool:
        """Whether it is done; else what the server has is of another file, and is gone."""
        flags = (F.RESUME if resume else 0) | (F.ONLY_NEW if self._only_new else 0)
        payload = pack(F.CLIENT_PUT, flags, self._size, self._token) + self._path.encode()
        async with self._files._request(F.PUT, payload, self._path) as request:
            offset, crc, rivals = unpack(F.SERVER_PUT, await request.answer())
            if rivals:
                self._note(f"{rivals} more write to /{self._path} now: the last to complete stays")
            file.seek(0)
            if offset and await asyncio.to_thread(_prefix_crc, file, offset) != crc:
                await request.cancel(F.FORGET)
                return False
            await self._send(request, file, offset, digest)
        return True

    async def _send(self, request: Request, file: BinaryIO, offset: int, digest: bytes) -> None:
        at = acked = offset
        ended = False
        patience = None
        self._tell("send", at, self._size)
        while True:
            while at < self._size and at - acked < request.link.window and not request.waiting:
                n = min(request.link.limit - 4, request.link.window - (at - acked))
                file.seek(at)
                data = file.read(n)
                if not data:
                    self.check_unchanged()
                    raise HardwireError(FAILED, f"{self.source} is shorter than it was")
                await request.send(F.DATA, pack(">I", at) + data)
                at += len(data)
            if at >= self._size and not ended:
                ended = self._all_sent = True
                await request.send(F.END, digest)
                self._tell("check", 0, self._size)
            try:
                kind, payload = await request.frame(patience)
            except Damaged:
                if patience is not None:
                    raise
                patience = DAMAGED_S  # an ACK, most likely: the next one says more
                continue
            patience = None
            if kind == F.ACK:
                self.moved += max(0, unpack(">I", payload)[0] - acked)
                acked = max(acked, unpack(">I", payload)[0])
                if not ended:
                    self._tell("send", acked, self._size)
            elif kind == F.RESEND:
                at = unpack(">I", payload)[0]
                ended = False
            elif kind == F.NOTE:
                self._note(f"/{self._path}: {payload[1:].decode(errors='replace')}")
            elif kind == F.END | F.ANSWER:
                if payload[1:33] != digest:
                    raise FilesError(F.BAD_CHECKSUM, f"/{self._path}: the server stored something else")
                if payload[0] & F.OVERTOOK:
                    self._note(f"/{self._path}: replaced what another had stored meanwhile")
                self._tell("check", self._size, self._size)
                return
            else:
                raise F.FrameError
