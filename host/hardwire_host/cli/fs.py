"""`hardwire fs ls|tree|cat|df|hash|rm|mv|mkdir`: look at the files of a board, and put them in order."""

import base64
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ..errors import FAILED, USAGE, HardwireError
from .common import Output, command
from .fs_common import (
    Link,
    base,
    display,
    each,
    expand,
    failure,
    jobs_option,
    join,
    kind_of,
    link_options,
    listing,
    quiet_option,
    remote,
    size_text,
    with_files,
)

if TYPE_CHECKING:
    from ..clients.files import Entry, Files

PIECE = 1 << 20  # bytes that `cat` holds at a time
ROOT = "/"

_sources = click.argument("words", nargs=-1, required=True, metavar="REMOTE...")


def _record(entry: "Entry") -> dict:
    return {"path": f"/{entry.path}", "folder": entry.folder, "size": entry.size, "time": entry.time}


@command(
    target=True,
    examples=["hardwire fs ls", "hardwire fs ls -l /log", "hardwire fs ls '/log/*.csv' '/**/*.json' --json"],
)
@click.argument("words", nargs=-1, metavar="[REMOTE...]")
@click.option("-l", "--long", is_flag=True, help="With size and time.")
@click.option("-r", "--recursive", is_flag=True, help="With all that is in folders.")
@link_options
def ls(out: Output, words: tuple[str, ...], long: bool, recursive: bool, link: Link) -> None:
    """List what is in folders; the root if none is named.

    Remote paths have / between their parts. * ? [..] stand for parts of a name, ** for any folders: quote them, or your
    shell takes them for itself.
    """

    async def work(files: "Files") -> list["Entry"]:
        found = []
        for entry in await expand(files, words or (ROOT,)):
            if not entry.folder:
                found.append(entry)
                continue
            inside = await listing(files, entry.path, recursive=recursive)
            found += [_moved(one, entry.path) for one in inside]
        return found

    entries = with_files(out, link, work)
    lines = [display(entry.path, entry.folder) for entry in entries]
    if long:
        width = max((len(str(entry.size)) for entry in entries), default=0)
        lines = [
            f"{'' if entry.folder else entry.size:>{width}}  {_time(entry):<16}  {line}"
            for entry, line in zip(entries, lines, strict=True)
        ]
    out.result({"entries": [_record(entry) for entry in entries]}, *lines)


def _moved(entry: "Entry", folder: str) -> "Entry":
    return replace(entry, path=join(folder, entry.path))


def _time(entry: "Entry") -> str:
    return datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d %H:%M") if entry.time else "-"


@command(target=True, examples=["hardwire fs tree", "hardwire fs tree /log"])
@click.argument("word", default=ROOT, metavar="[REMOTE]")
@link_options
def tree(out: Output, word: str, link: Link) -> None:
    """Show a folder and all that is in it."""
    path = remote(word)
    entries = with_files(out, link, lambda files: listing(files, path, recursive=True))
    found = [_moved(entry, path) for entry in entries]
    count, size = sum(not entry.folder for entry in found), sum(entry.size for entry in found)
    lines = [display(path, True), *_branches(entries, ""), f"{count} files, {size_text(size)}"]
    out.result({"entries": [_record(entry) for entry in found], "files": count, "bytes": size}, *lines)


def _branches(entries: Sequence["Entry"], folder: str) -> Iterator[str]:
    """Lines for what is in `folder`, a path or ""."""
    inside = [entry for entry in entries if entry.path.rpartition("/")[0] == folder]
    for at, entry in enumerate(inside):
        last = at == len(inside) - 1
        name = display(base(entry.path), entry.folder)[1:]
        yield f"{'└── ' if last else '├── '}{name}" + ("" if entry.folder else f"  {size_text(entry.size)}")
        if entry.folder:
            for line in _branches(entries, entry.path):
                yield ("    " if last else "│   ") + line


@command(
    target=True,
    examples=[
        "hardwire fs cat /main.py",
        "hardwire fs cat '/log/*.csv' > all.csv",
        "hardwire fs cat /log/a --offset 1000",
    ],
)
@_sources
@click.option("--offset", type=click.IntRange(0), default=0, metavar="N", help="Begin at byte N.")
@click.option("--length", type=click.IntRange(0), metavar="N", help="At most N bytes.")
@link_options
def cat(out: Output, words: tuple[str, ...], offset: int, length: int | None, link: Link) -> None:
    """Write what is in files to standard output. With --json: as text if it is UTF-8, else as base64."""

    async def work(files: "Files") -> list[dict]:
        found = []
        for entry in await expand(files, words):
            if entry.folder:
                raise HardwireError(USAGE, f"{display(entry.path)} is a folder", "hardwire fs ls")
            data = bytearray()
            async for piece in _pieces(files, entry.path, offset, length):
                if out.json:
                    data += piece
                else:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
            found.append({"path": f"/{entry.path}", **_content(bytes(data))})
        return found

    out.result({"files": with_files(out, link, work)})


async def _pieces(files: "Files", path: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
    rest = length
    while rest is None or rest > 0:
        wanted = PIECE if rest is None else min(PIECE, rest)
        piece = await files.read(path, offset, wanted)
        yield piece
        if len(piece) < wanted:
            return
        offset += wanted
        if rest is not None:
            rest -= wanted


def _content(data: bytes) -> dict:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


@command(target=True, examples=["hardwire fs df", "hardwire fs df --json"])
@link_options
def df(out: Output, link: Link) -> None:
    """Show how much the filesystem holds, and how much is free."""

    async def work(files: "Files") -> tuple[int, int]:
        return await files.space()

    total, free = with_files(out, link, work)
    used = total - free
    share = f", {100 * used // total} %" if total else ""
    line = f"{size_text(total)} in all, {size_text(used)} used{share}, {size_text(free)} free"
    out.result({"total": total, "used": used, "free": free}, line)


@command(
    target=True,
    examples=["hardwire fs hash /main.py", "hardwire fs hash '/lib/**/*.mpy' | sha256sum --check"],
)
@_sources
@jobs_option
@link_options
def hash_(out: Output, words: tuple[str, ...], jobs: int, link: Link) -> None:
    """Show the SHA-256 of files, as the server computes it from what it has stored."""

    async def work(files: "Files") -> dict[str, str]:
        entries = [entry for entry in await expand(files, words) if not entry.folder]
        found = {}

        async def one(entry: "Entry") -> None:
            found[entry.path] = (await files.hash(entry.path)).hex()

        failed = await each(entries, one, jobs)
        hashes = {entry.path: found[entry.path] for entry in entries if entry.path in found}
        if failed:
            raise _failure(failed, len(entries), {"hashes": hashes})
        return hashes

    hashes = with_files(out, link, work)
    lines = [f"{digest}  {display(path)}" for path, digest in hashes.items()]
    out.result({"hashes": {f"/{path}": digest for path, digest in hashes.items()}}, *lines)


def _failure(failed: list[tuple["Entry", HardwireError]], count: int, data: dict) -> HardwireError:
    return failure([(display(entry.path), error) for entry, error in failed], count, data)


@command(
    target=True,
    examples=["hardwire fs rm /old.csv '/log/*.csv'", "hardwire fs rm -r /log --dry-run"],
)
@_sources
@click.option("-r", "--recursive", is_flag=True, help="Folders, with all that is in them.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@quiet_option
@link_options
def rm(out: Output, words: tuple[str, ...], recursive: bool, dry_run: bool, quiet: bool, link: Link) -> None:
    """Remove files; with -r folders too."""

    async def work(files: "Files") -> list["Entry"]:
        found = await _removed(files, await expand(files, words), recursive)
        if not dry_run:
            failed = await each(found, lambda entry: _remove(files, entry), 1)
            if failed:
                wrong = [entry for entry, _ in failed]
                gone = [f"/{entry.path}" for entry in found if entry not in wrong]
                raise _failure(failed, len(found), {"removed": gone})
        return found

    found = with_files(out, link, work)
    lines = [] if quiet else [display(entry.path, entry.folder) for entry in found]
    if dry_run:
        out.note(f"{len(found)} would be removed, nothing was")
    out.result({"removed": [f"/{entry.path}" for entry in found], "dry_run": dry_run}, *lines)


async def _removed(files: "Files", entries: Sequence["Entry"], recursive: bool) -> list["Entry"]:
    """All that goes, a folder after what is in it."""
    found = {}
    for entry in entries:
        if entry.folder and not recursive:
            raise HardwireError(
                USAGE, f"{display(entry.path)} is a folder", "-r removes it with all that is in it"
            )
        if not entry.path:
            raise HardwireError(USAGE, "the root cannot be removed", "'/*' is all that is in it")
        if entry.folder:
            inside = await listing(files, entry.path, recursive=True)
            for one in reversed(inside):
                found[join(entry.path, one.path)] = _moved(one, entry.path)
        found[entry.path] = entry
    return list(found.values())


async def _remove(files: "Files", entry: "Entry") -> None:
    if entry.folder:
        await files.rmdir(entry.path)
    else:
        await files.delete(entry.path)


@command(
    target=True,
    examples=[
        "hardwire fs mv /new.csv /log/today.csv",
        "hardwire fs mv '/*.csv' /log",
        "hardwire fs mv --force /a /b",
    ],
)
@_sources
@click.argument("target", metavar="TARGET")
@quiet_option
@link_options
def mv(out: Output, words: tuple[str, ...], target: str, quiet: bool, link: Link) -> None:
    """Give files and folders another name, or move them into the folder TARGET.

    With --force, a file that has the name already is replaced.
    """
    place = remote(target)

    async def work(files: "Files") -> dict[str, str]:
        entries = await expand(files, words)
        into = await kind_of(files, place)
        if not into and (len(entries) > 1 or (target.endswith("/") and place)):
            raise HardwireError(
                FAILED, f"{display(place)} is no folder", f"hardwire fs mkdir -p {display(place)}"
            )
        moved = {}

        async def one(entry: "Entry") -> None:
            new = join(place, base(entry.path)) if into else place
            await files.rename(entry.path, new, replace=link.force)
            moved[f"/{entry.path}"] = f"/{new}"

        failed = await each(entries, one, 1)
        if failed:
            raise _failure(failed, len(entries), {"moved": moved})
        return moved

    moved = with_files(out, link, work)
    lines = [] if quiet else [f"{display(old[1:])} -> {display(new[1:])}" for old, new in moved.items()]
    out.result({"moved": moved}, *lines)


@command(target=True, examples=["hardwire fs mkdir /log", "hardwire fs mkdir -p /log/2026/11"])
@_sources
@click.option("-p", "--parents", is_flag=True, help="With the folders above it; no error if it is there.")
@link_options
def mkdir(out: Output, words: tuple[str, ...], parents: bool, link: Link) -> None:
    """Make folders."""
    paths = [remote(word) for word in words]

    async def work(files: "Files") -> None:
        failed = await each(paths, lambda path: files.mkdir(path, parents=parents), 1)
        if failed:
            wrong = [path for path, _ in failed]
            made = [f"/{path}" for path in paths if path not in wrong]
            raise failure([(display(path), error) for path, error in failed], len(paths), {"made": made})

    with_files(out, link, work)
    out.result({"made": [f"/{path}" for path in paths]})
