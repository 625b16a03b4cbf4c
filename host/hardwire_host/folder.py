"""A folder of this PC as the file server sees one: the board's filesystem has the same methods.

In: clean paths, relative to the folder ("" is it). Out: entries, open files, OSError. Never: a way out of the folder
by a link, whoever changes it meanwhile; a device, FIFO or socket opened; a hidden name; a mode that others could write.

A link that stays inside is followed; one that leads out or nowhere is not there (ENOENT). Where the system can, each
part of a path is opened from the one before it, and none of them may be a link by then: a check that somebody
outdates between looking and opening is an error, not an escape.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from hardwire.services import staging
from hardwire.wire.files import FILE, FOLDER, LARGEST

_STEPS = {os.open, os.stat, os.unlink, os.mkdir, os.rmdir, os.rename} <= os.supports_dir_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK | getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: a FIFO that took the file's place must not stop the server. O_BINARY: Windows.
_FILE_FLAGS = _NO_LINK
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_NOINHERIT", "O_BINARY"):
    _FILE_FLAGS |= getattr(os, _name, 0)
_MODES = {
    "rb": os.O_RDONLY,
    "wb": os.O_WRONLY | os.O_CREAT,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "r+b": os.O_RDWR,
}
_FILE_MODE = 0o644  # less the umask
_FOLDER_MODE = 0o755
_LATEST = 0xFFFFFFFF  # time, in the protocol
# Names that Windows gives to devices, in every folder and with any ending.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _kind(status: os.stat_result) -> int | None:
    """FILE, FOLDER, or None: neither, or behind a link."""
    if stat.S_ISREG(status.st_mode):
        return FILE
    return FOLDER if stat.S_ISDIR(status.st_mode) else None


def _facts(status: os.stat_result) -> tuple[int, int, int] | None:
    """(kind, size, time), or None for what is neither file nor folder."""
    kind = _kind(status)
    if kind is None:
        return None
    time = min(max(int(status.st_mtime), 0), _LATEST)
    return kind, min(status.st_size, LARGEST + 1) if kind == FILE else 0, time


class Folder:
    """The folder at `path`; OSError: there is none. hidden: patterns of names that are not there, wherever they are.

    Attributes: replaces, spare: see the board's Folder.
    """

    replaces = True
    spare = 0

    def __init__(self, path: str | Path, hidden: Iterable[str] = ()) -> None:
        self._hidden = [pattern.lower() for pattern in hidden]
        self.path = os.path.realpath(path, strict=True)
        if not os.path.isdir(self.path):
            raise _error(errno.ENOTDIR, str(path))

    def stat(self, path: str) -> tuple[int, int, int]:
        """(kind, size, time) of a file or folder."""
        with self._at(path) as (folder, name):
            facts = _facts(os.stat(name, dir_fd=folder, follow_symlinks=False))
        if facts is None:
            raise _error(errno.ENOENT, path)
        return facts

    def scan(self, path: str) -> Iterator[tuple[str, int, int, int]]:
        """(name, kind, size, time) of each file and folder in a folder, in no order."""
        found = self._scan(path)
        next(found)
        return found

    def _scan(self, path: str) -> Iterator[tuple[str, int, int, int]]:
        behind = self._real(path) != os.path.normpath(os.path.join(self.path, path))
        with self._at(path) as place, self._opened(*place) as opened, os.scandir(opened) as entries:
            yield "", 0, 0, 0  # opened: what cannot be is an error of scan, not of its reader
            for entry in entries:
                facts = None
                inner = f"{path}/{entry.name}" if path else entry.name
                with contextlib.suppress(OSError, UnicodeError):  # gone, hidden; its name is not text
                    entry.name.encode()
                    if entry.is_symlink():
                        facts = self.stat(inner)
                        if behind and facts[0] == FOLDER:
                            continue  # at most one link to a folder in a path: a walk through all ends
                    elif not self._hides(inner.split("/")):
                        facts = _facts(entry.stat(follow_symlinks=False))
                if facts:
                    yield entry.name, *facts

    def open(self, path: str, mode: str) -> BinaryIO:
        """The file, opened; modes "wb" and "ab" make it. mode: "rb", "wb", "ab" or "r+b"."""
        with self._at(path) as (folder, name):
            flags = _MODES[mode] | _FILE_FLAGS
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
                flags |= os.O_EXCL
            else:
                self._check_file(status, path)
                flags &= ~os.O_CREAT
            handle = os.open(name, flags, _FILE_MODE, dir_fd=folder)
        try:
            self._check_file(os.fstat(handle), path)
            if mode == "wb":
                os.ftruncate(handle, 0)
            return os.fdopen(handle, mode)
        except BaseException:
            os.close(handle)
            raise

    def rename(self, old: str, new: str) -> None:
        """Give it another name, on stable storage; a file that has the name is replaced, atomically."""
        with self._at(old, follow=False) as (source, before), self._at(new, follow=False) as (target, after):
            with contextlib.suppress(FileNotFoundError):
                # An empty folder would be replaced, on this system and not on others.
                if stat.S_ISDIR(os.stat(after, dir_fd=target, follow_symlinks=False).st_mode):
                    raise _error(errno.EEXIST, new)
            os.replace(before, after, src_dir_fd=source, dst_dir_fd=target)
            for folder in (source, target):
                if folder is not None:
                    os.fsync(folder)

    def remove(self, path: str) -> None:
        """Remove a file. Of a link, the link."""
        with self._at(path, follow=False) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise _error(errno.EISDIR, path)
            if not stat.S_ISLNK(status.st_mode):
                self._check_file(status, path)
            os.unlink(name, dir_fd=folder)

    def mkdir(self, path: str) -> None:
        """Make a folder."""
        with self._at(path, follow=False) as (folder, name):
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        with self._at(path, follow=False) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def space(self) -> tuple[int, int]:
        """(total, free) bytes of the filesystem."""
        usage = shutil.disk_usage(self.path)
        return usage.total, usage.free

    def sync(self, file: BinaryIO) -> None:
        """Return when what was written to `file` is on stable storage."""
        file.flush()
        os.fsync(file.fileno())

    def _check_file(self, status: os.stat_result, path: str) -> None:
        kind = _kind(status)
        if kind != FILE:
            raise _error(errno.EISDIR if kind == FOLDER else errno.ENOENT, path)

    def _hides(self, parts: list[str]) -> bool:
        if parts[:1] == [staging.FOLDER]:
            return False  # the server's own, and it hides it
        if os.name == "nt" and any(_DEVICE.fullmatch(part) for part in parts):
            return True
        return any(fnmatchcase(part.lower(), pattern) for part in parts for pattern in self._hidden)

    def _real(self, path: str) -> str:
        """Where `path` is, behind all links. Raises OSError: nowhere, or not in the folder."""
        try:
            real = os.path.realpath(os.path.join(self.path, path), strict=True)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _error(errno.ENOENT, path) from None
            raise
        if real != self.path and not real.startswith(os.path.join(self.path, "")):
            raise _error(errno.ENOENT, path)
        return real

    @contextlib.contextmanager
    def _at(self, path: str, *, follow: bool = True) -> Iterator[tuple[int | None, str]]:
        """(descriptor of the folder that it is in, its name there); (None, its whole path) on Windows.

        follow: of a link, those of what it leads to.
        """
        if self._hides(path.split("/")):
            raise _error(errno.ENOENT, path)
        if not path and not follow:
            raise _error(errno.EBUSY, path)
        parent, _, name = path.rpartition("/")
        place = os.path.join(self._real(parent), name) if name else self.path
        if os.path.islink(place):
            real = self._real(path)  # also to refuse what leads out
            place = real if follow else place
        steps = [part for part in os.path.relpath(place, self.path).split(os.sep) if part != os.curdir]
        if self._hides(steps):
            raise _error(errno.ENOENT, path)
        if not _STEPS:
            yield None, place
            return
        name = steps.pop() if steps else os.curdir
        try:
            folder = os.open(self.path, _FOLDER_FLAGS)
            try:
                for step in steps:
                    inner = os.open(step, _FOLDER_FLAGS, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                yield folder, name
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise _error(errno.ENOENT, path) from None  # somebody put a link where there was none

    @contextlib.contextmanager
    def _opened(self, folder: int | None, name: str) -> Iterator[int | str]:
        """What os.scandir takes."""
        if folder is None:
            yield name
            return
        opened = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
        try:
            yield opened
        finally:
            os.close(opened)
