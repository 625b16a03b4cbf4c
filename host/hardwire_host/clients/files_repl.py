"""The files of a board over its REPL, for when the network is down: the same verbs, the same guarantees.

In: a target with a REPL. Out: `ReplFiles`, which offers what files.NetFiles does. Never: half a file under its name; a
piece on flash whose CRC-32 was wrong; a board left without its app when it is closed.

A PUT goes to the staging file that the board's own server has for it (services/staging.py): each can resume what was
begun with the other.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO
from zlib import crc32

from hardwire import config
from hardwire.wire import files as wire
from hardwire.wire.files import among, clean

from ..target import Target, uninterrupted
from .files import Entry, FilesError, Progress, token_of
from .files_repl_board import CHUNK, ReplBoard

DEPTH = 8  # as the board's server
HIDDEN = (".put",)
PROTECTED = (*config.defaults()["services"]["files"]["read_only"], config.PATH, f"{config.PATH}.new")
BLOCK = 1 << 16  # bytes read from a file of this PC at a time


class ReplFiles:
    """The files of the board at `target`; its app is interrupted at the first call, and starts again with `close`.

    Calls of several tasks take turns. force: what belongs to the firmware, and its settings, may be read and written.
    """

    def __init__(self, target: Target, *, force: bool = False) -> None:
        self.name = target.name
        self._board = ReplBoard(target)
        self._closed_to = HIDDEN if force else HIDDEN + PROTECTED
        self._turn = asyncio.Lock()
        self._staging = False  # the folder for staging was made

    async def close(self) -> None:
        """Start the app again."""
        if self._board.interrupted and self._staging:
            with self._board.session():
                self._board.call(f"quiet(os.rmdir,'/{HIDDEN[0]}')")
        self._board.close()

    # What the board is asked

    def _path(self, path: str) -> str:
        """It, clean. Raises FilesError."""
        try:
            path = clean(path, DEPTH)
        except wire.PathError as error:
            raise FilesError(wire.BAD_PATH, f"{path!r}: {error}") from None
        if among(path, HIDDEN):
            raise FilesError(wire.NOT_FOUND, f"{self.name}: /{path}: not found")
        if among(path, self._closed_to):
            raise FilesError(wire.DENIED, f"/{path} belongs to the firmware of {self.name}", "--force")
        return path

    def _stat(self, path: str) -> Entry:
        _, folder, size, time = json.loads(self._board.call(f"entry({path!r},'')", path))
        return Entry(path, folder, size, time)

    def _kind(self, path: str) -> bool | None:
        """True: a folder, False: a file, None: there is nothing."""
        return json.loads(self._board.call(f"print(json.dumps(kind({path!r})))", path))

    def _space(self) -> tuple[int, int]:
        total, free = json.loads(
            self._board.call("s=os.statvfs('/')\nprint(json.dumps([s[0]*s[2],s[0]*s[3]]))")
        )
        return total, free

    # What clients ask: see files.NetFiles

    async def list(self, path: str = "", *, recursive: bool = False, hashes: bool = False) -> list[Entry]:
        path = self._path(path)
        skip = list(self._closed_to)
        async with self._turn:
            with self._board.session():
                lines = self._board.call(f"ls({path!r},'',{skip!r},{recursive})", path).splitlines()
                entries = [entry for entry in (Entry(*json.loads(line)) for line in lines) if _named(entry)]
                if hashes:
                    for at, entry in enumerate(entries):
                        if not entry.folder:
                            digest = await self._sha(f"{path}/{entry.path}".lstrip("/"), entry.size, None)
                            entries[at] = replace(entry, digest=digest)
        return entries

    async def stat(self, path: str) -> Entry:
        path = self._path(path)
        async with self._turn:
            with self._board.session():
                return self._stat(path)

    async def hash(self, path: str) -> bytes:
        path = self._path(path)
        async with self._turn:
            with self._board.session():
                return await self._sha(path, 0, None)

    async def _sha(self, path: str, size: int, progress: Progress | None) -> bytes:
        return bytes.fromhex(await self._board.summed(f"sha({'/' + path!r})", path, size, progress))

    async def delete(self, path: str) -> None:
        path = self._path(path)
        await self._change(path, f"os.remove({'/' + path!r})", folder=False)

    async def rmdir(self, path: str) -> None:
        path = self._path(path)
        await self._change(path, f"os.rmdir({'/' + path!r})", folder=True)

    async def _change(self, path: str, code: str, *, folder: bool) -> None:
        async with self._turn:
            with self._board.session():
                if self._stat(path).folder != folder:  # littlefs removes both with either
                    what = "no folder" if folder else "a folder"
                    raise FilesError(wire.WRONG_KIND, f"{self.name}: /{path} is {what}")
                self._board.call(code, path)

    async def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        old, new = self._path(old), self._path(new)
        async with self._turn:
            with self._board.session(), uninterrupted():
                kind, there = self._stat(old).folder, self._kind(new)
                if kind and f"{new}/".startswith(f"{old}/"):
                    raise FilesError(wire.BAD_PATH, f"/{old} cannot be in itself")
                if there is not None and there != kind:
                    raise FilesError(
                        wire.WRONG_KIND, f"one of /{old} and /{new} is a folder, the other is not"
                    )
                if there is not None and (there or not replace):
                    raise FilesError(
                        wire.EXISTS, f"{self.name}: /{new} exists", "" if there else "--force replaces it"
                    )
                self._board.call(f"safely(move,{'/' + old!r},{'/' + new!r})", old)

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        path = self._path(path)
        async with self._turn:
            with self._board.session():
                parts = path.split("/")
                for at in range(1 if parents else len(parts), len(parts) + 1):
                    folder = "/".join(parts[:at])
                    kind = self._kind(folder) if parents else None
                    if kind is None:
                        self._board.call(f"os.mkdir({'/' + folder!r})", folder)
                    elif not kind:
                        raise FilesError(wire.WRONG_KIND, f"{self.name}: /{folder} is a file")

    async def space(self) -> tuple[int, int]:
        async with self._turn:
            with self._board.session():
                return self._space()

    # From the board

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        path = self._path(path)
        data = bytearray()
        async with self._turn:
            with self._board.session():
                async for piece in self._board.pieces(
                    path, offset, wire.LARGEST if length is None else length
                ):
                    data += piece
        return bytes(data)

    async def get(
        self,
        path: str,
        to: Path,
        *,
        resume: bool = True,
        verify: bool = False,
        progress: Progress | None = None,
    ) -> bytes:
        path = self._path(path)
        part = to.with_name(f"{to.name}.part")
        async with self._turn:
            with self._board.session():
                entry = self._stat(path)
                if entry.folder:
                    raise FilesError(wire.WRONG_KIND, f"{self.name}: /{path} is a folder")
                done = await self._same(part, "/" + path, entry.size, progress) if resume else 0
                with _opened(part, "ab" if done else "wb") as file:
                    async for piece in self._board.pieces(path, done, entry.size - done):
                        file.write(piece)
                        done += len(piece)
                        if progress is not None:
                            progress("receive", done, entry.size)
                    file.flush()
                    os.fsync(file.fileno())
                digest = await self._sha(path, entry.size, progress)
        if _digest(part) != digest:
            _remove(part)
            raise FilesError(wire.BAD_CHECKSUM, f"/{path} came other than it is on {self.name}", "try again")
        os.replace(part, to)
        return digest

    async def _same(self, here: Path, there: str, most: int, progress: Progress | None) -> int:
        """Bytes of the file `here` with which `there` begins; 0 if it has another beginning."""
        size = _size(here)
        if not 0 < size <= most:
            return 0
        crc = await self._board.summed(f"crc({there!r},{size})", there[1:], size, progress)
        return size if int(crc, 16) == _crc(here, size) else 0

    # To the board

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
        path = self._path(path)
        token = token_of(source, path).hex()
        part = f"{HIDDEN[0]}/{token}.part"
        before = _state(source)
        size = before[0]
        async with self._turn:
            with self._board.session():
                done = await self._prepare(source, path, part, size, progress, resume, only_new)
                staged = await self._send(source, part, done, size, progress)
                digest = _digest(source)
                changed = _state(source) != before
                if changed or staged != digest:
                    self._board.call(f"os.remove({'/' + part!r})", part)
                    if changed:
                        raise FilesError(wire.CHANGED, f"{source} was changed while it was sent", "try again")
                    raise _differs(path, source)
                with uninterrupted():
                    self._board.call(f"safely(publish,{token!r},{path!r})", path)
                if verify and await self._sha(path, size, progress) != digest:
                    raise _differs(path, source)
        return digest

    async def _prepare(
        self,
        source: Path,
        path: str,
        part: str,
        size: int,
        progress: Progress | None,
        resume: bool,
        only_new: bool,
    ) -> int:
        """Bytes of `source` that are staged already. Raises FilesError if it cannot be stored there."""
        above = path.rpartition("/")[0]
        kind, above_kind, held, free = json.loads(
            self._board.call(f"prepare({path!r},{above!r},{part!r})", path)
        )
        if kind:
            raise FilesError(wire.WRONG_KIND, f"{self.name}: /{path} is a folder")
        if kind is False and only_new:
            raise FilesError(wire.EXISTS, f"{self.name}: /{path} exists")
        if not above_kind:
            raise FilesError(
                wire.NOT_FOUND, f"{self.name} has no folder /{above}", f"hardwire fs mkdir -p /{above}"
            )
        # What is staged of a file with another beginning is of no use; it is overwritten.
        same = 0
        if resume and 0 < held <= size:
            crc = await self._board.summed(f"crc({'/' + part!r},{held})", part, held, progress)
            same = held if int(crc, 16) == _crc(source, held) else 0
        if size - held > free:
            raise FilesError(
                wire.NO_SPACE, f"/{path} needs {size} bytes, {self.name} has {free}", "hardwire fs df"
            )
        return same

    async def _send(self, source: Path, part: str, done: int, size: int, progress: Progress | None) -> bytes:
        """Append the file from `done` on to what is staged; returns the SHA-256 of that, as flash has it."""
        self._staging = True
        self._board.call(f"quiet(os.mkdir,'/{HIDDEN[0]}')")
        self._board.receiver(part, done > 0)
        with _opened(source, "rb") as file:
            file.seek(done)
            while done < size and (block := file.read(min(CHUNK, size - done))):
                self._board.send_block(block, part)
                done += len(block)
                if progress is not None:
                    progress("send", done, size)
                await asyncio.sleep(0)
        self._board.send_end(part)
        return bytes.fromhex(await self._board.sum(part, size, progress))


def _named(entry: Entry) -> bool:
    """Whether the protocol has a name for it; what is not so named is not listed."""
    try:
        return clean(entry.path, DEPTH) == entry.path
    except wire.PathError:
        return False


def _differs(path: str, source: Path) -> FilesError:
    return FilesError(wire.BAD_CHECKSUM, f"/{path} reads back different from {source}", "try again")


def _opened(path: Path, mode: str) -> IO[bytes]:
    return path.open(mode)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _state(path: Path) -> tuple[int, int]:
    """Size and time: what tells that a file is still the same."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _crc(path: Path, n: int) -> int:
    """CRC-32 of the first `n` bytes."""
    crc = 0
    with path.open("rb") as file:
        while n and (block := file.read(min(n, BLOCK))):
            crc = crc32(block, crc)
            n -= len(block)
    return crc
