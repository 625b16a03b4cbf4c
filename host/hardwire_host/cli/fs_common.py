"""What the `hardwire fs` commands share: the connection, several boards, remote words, files side by side.

In: words of a command line. Out: a connected `Files`, over the network or over USB serial; clean remote paths, without
"/" at the start. Never: a server's name that was not checked here; an end by Ctrl-C that does not say what is left.
"""

import asyncio
import functools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hardwire.wire.files import PathError, clean

from ..errors import FAILED, INTERRUPTED, NO_BOARD, TIMEOUT, USAGE, HardwireError
from .common import Output
from .modbus_common import shown

if TYPE_CHECKING:
    from ..clients.files import Entry, Files
    from ..target import Target

T = TypeVar("T")
TIMEOUT_S = 10.0  # without any progress, before a command gives up
DEPTH = 32  # of remote paths, at most; a board takes less and says so
JOBS = 2  # files side by side: one is on the wire while the other is checked
JOBS_MAX = 16
UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
_MAGIC = re.compile(r"[*?\[]")
_ANY_DEPTH = "**"


@dataclass(frozen=True)
class Link:
    """How to reach the files: `timeout` in seconds; `force`: over USB also those of the firmware."""

    timeout: float
    force: bool

    @asynccontextmanager
    async def open(self, out: Output, target: "Target") -> AsyncIterator["Files"]:
        """The files of `target`: over the network if that leads there, else over USB. Raises HardwireError."""
        files = await self._connect(out, target)
        try:
            yield files
        finally:
            await files.close()

    async def _connect(self, out: Output, target: "Target") -> "Files":
        try:
            place = target.endpoint("files")
        except HardwireError:
            if target.port is None:
                raise
        else:
            from ..clients.files import connect

            try:
                return await connect(*place, timeout=self.timeout)
            except HardwireError as error:
                if target.port is None or error.code not in (NO_BOARD, TIMEOUT):
                    raise
                out.note(error.message)
        from ..clients.files_repl import ReplFiles

        out.note(f"over USB serial, {target.repl}: the app stops meanwhile, and is started again afterwards")
        return ReplFiles(target, force=self.force)


def link_options(function: Callable) -> Callable:
    """--timeout and --force; `function` gets them as `link`."""

    @functools.wraps(function)
    def call(*arguments: Any, timeout: float, force: bool, **others: Any) -> Any:
        return function(*arguments, link=Link(timeout, force), **others)

    for option in (
        click.option(
            "--force", is_flag=True, help="Over USB: also what belongs to the firmware, and its settings."
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0.1, 3600),
            default=TIMEOUT_S,
            metavar="S",
            help=f"Give up after S seconds without progress ({TIMEOUT_S:g}).",
        ),
    ):
        call = option(call)
    return call


jobs_option = click.option(
    "--jobs", type=click.IntRange(1, JOBS_MAX), default=JOBS, metavar="N", help=f"Files at a time ({JOBS})."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say only what failed.")


def targets(out: Output) -> list["Target"]:
    """The boards that are meant: --host takes several, with commas. Raises HardwireError."""
    from ..target import ANY, Where, resolve

    flags = out.flags()
    given = flags.host if flags else os.environ.get("HARDWIRE_HOST")
    hosts = [host.strip() for host in (given or "").split(",") if host.strip()]
    if len(hosts) < 2 or (not flags and os.environ.get("HARDWIRE_PORT")):
        return [out.find(ANY)]
    if flags.port is not None or flags.virtual is not None:
        raise HardwireError(USAGE, "several boards are named by --host alone", "--host A,B,C")
    if len(set(hosts)) < len(hosts):
        raise HardwireError(USAGE, "--host names a board twice")
    return [resolve(Where(host=host), ANY) for host in hosts]


def one_target(out: Output) -> "Target":
    """The board that is meant. Raises HardwireError."""
    found = targets(out)
    if len(found) > 1:
        raise HardwireError(USAGE, "this takes one board", "several --host are for put and sync")
    return found[0]


def run(main: Awaitable[T], interrupted: Callable[[], str] = lambda: "what was done stays done") -> T:
    """Run it to its end. Ctrl-C: what `interrupted` says is the error."""

    async def awaited() -> T:
        return await main

    try:
        return asyncio.run(awaited())
    except KeyboardInterrupt:
        raise HardwireError(INTERRUPTED, f"interrupted: {interrupted()}") from None


def with_files(out: Output, link: Link, work: Callable[["Files"], Awaitable[T]]) -> T:
    """`work` with the files of the one board that is meant."""
    target = one_target(out)

    async def main() -> T:
        async with link.open(out, target) as files:
            return await work(files)

    return run(main())


async def each(
    items: Iterable[T], work: Callable[[T], Awaitable[None]], jobs: int
) -> list[tuple[T, HardwireError]]:
    """Do `work` for every item, `jobs` at a time; what failed, and why.

    Raises HardwireError: that the board cannot be reached any more ends it all.
    """
    failed: list[tuple[T, HardwireError]] = []
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            try:
                await work(item)
            except HardwireError as error:
                if error.code in (NO_BOARD, TIMEOUT):
                    raise
                failed.append((item, error))
            except OSError as error:  # of this PC
                failed.append((item, HardwireError(FAILED, f"{error.filename}: {error.strerror or error}")))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(worker())
    except* HardwireError as errors:
        raise errors.exceptions[0] from None
    return failed


def failure(failed: Sequence[tuple[str, HardwireError]], count: int, data: dict) -> HardwireError:
    """Of `count` operations these failed: the error of the command."""
    name, error = failed[0]
    if count == 1:
        return HardwireError(error.code, error.message, error.hint, data | error.data)
    which = ", ".join(name for name, _ in failed[:5]) + (" ..." if len(failed) > 5 else "")
    return HardwireError(
        FAILED, f"{len(failed)} of {count} failed: {which}; {name}: {error.message}", error.hint, data
    )


# Remote words


def remote(word: str) -> str:
    """The path that a word means. Raises HardwireError(USAGE)."""
    try:
        return clean(word, DEPTH)
    except PathError as error:
        raise HardwireError(USAGE, f"{word!r} is no path: {error}") from None


def checked(path: str) -> str:
    """`path`, which has the names of this PC's files. Raises HardwireError(USAGE): the server cannot have them."""
    try:
        return clean(path, DEPTH)
    except PathError as error:
        raise HardwireError(USAGE, f"{path!r} cannot be a name there: {error}") from None


def join(folder: str, name: str) -> str:
    """Path of `name` in `folder`."""
    return f"{folder}/{name}" if folder else name


def base(path: str) -> str:
    """The last part."""
    return path.rpartition("/")[2]


def display(path: str, folder: bool = False) -> str:
    """A path for people: from the root, a folder with "/" at its end, nothing that a terminal obeys."""
    return shown(f"/{path}/" if folder and path else f"/{path}")


async def listing(files: "Files", folder: str, *, recursive: bool = False) -> list["Entry"]:
    """What is in a folder, sorted; paths are relative to it, and were checked. Raises HardwireError."""
    entries = []
    for entry in await files.list(folder, recursive=recursive):
        try:
            if not entry.path or clean(entry.path, DEPTH) != entry.path:
                raise PathError
        except PathError:
            raise HardwireError(FAILED, f"{files.name} lists {entry.path!r}, which is no path") from None
        entries.append(entry)
    return sorted(entries, key=lambda entry: entry.path.split("/"))


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path has this form: * ? [] within a part, ** for any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == _ANY_DEPTH:
        return any(matches(parts[at:], pattern[1:]) for at in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


async def expand(files: "Files", words: Sequence[str]) -> list["Entry"]:
    """What the words mean, each thing once; paths are from the root. Raises HardwireError."""
    found: dict[str, Entry] = {}
    for word in words:
        if not _MAGIC.search(word):
            path = remote(word)
            found[path] = replace(await files.stat(path), path=path)
            continue
        parts = [part for part in word.split("/") if part]
        fixed = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
        folder, pattern = remote("/".join(parts[:fixed])), parts[fixed:]
        deep = len(pattern) > 1 or pattern[0] == _ANY_DEPTH
        chosen = [
            replace(entry, path=join(folder, entry.path))
            for entry in await listing(files, folder, recursive=deep)
            if matches(entry.path.split("/"), pattern)
        ]
        if not chosen:
            raise HardwireError(FAILED, f"nothing on {files.name} matches {word}", "hardwire fs ls")
        found.update((entry.path, entry) for entry in chosen)
    return list(found.values())


async def kind_of(files: "Files", path: str) -> bool | None:
    """True: a folder, False: a file, None: there is nothing. Raises HardwireError."""
    from hardwire.wire.files import NOT_FOUND

    from ..clients.files import FilesError

    try:
        return (await files.stat(path)).folder
    except FilesError as error:
        if error.number != NOT_FOUND:
            raise
        return None


def size_text(size: float) -> str:
    """As in 1.5 MB."""
    for unit, name in UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"
