"""`hardwire fs get|put`: copy files to this PC, or to one board or several."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import FAILED, USAGE, HardwireError
from .common import Output, command
from .fs_bars import Bars
from .fs_common import (
    Link,
    base,
    checked,
    display,
    expand,
    join,
    kind_of,
    link_options,
    listing,
    one_target,
    remote,
    run,
)
from .fs_transfer import Copy, Done, Manner, copy_options, fetch, finish, kept, send, with_boards

if TYPE_CHECKING:
    from ..clients.files import Files


@command(
    target=True,
    examples=[
        "hardwire fs get /log/today.csv",
        "hardwire fs get '/log/*.csv' logs/",
        "hardwire fs get -r / backup --jobs 4",
    ],
)
@click.argument("words", nargs=-1, required=True, metavar="REMOTE... [LOCAL]")
@click.option("-r", "--recursive", is_flag=True, help="Folders, with all that is in them.")
@copy_options
@link_options
def get(out: Output, words: tuple[str, ...], recursive: bool, manner: Manner, link: Link) -> None:
    """Copy files to this PC, into LOCAL (with one word: the current folder).

    A file gets its name when it is whole and its SHA-256 is right; until then it is NAME.part. Interrupted, the same
    command goes on from there.
    """
    *sources, local = words if len(words) > 1 else (*words, ".")
    into = Path(local).is_dir() or local.endswith(("/", os.sep))
    target = one_target(out)
    done = Done()

    async def work() -> None:
        async with link.open(out, target) as files:
            copies, folders = await _get_plan(files, sources, Path(local), into, recursive)
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            with Bars(out, manner.quiet) as bars:
                await fetch(files, copies, manner, bars, done)

    run(work(), lambda: kept(manner, [done]))
    finish(out, manner, done)


async def _get_plan(
    files: "Files", words: Sequence[str], place: Path, into: bool, recursive: bool
) -> tuple[list[Copy], list[Path]]:
    """What is copied where, and folders to make. Raises HardwireError."""
    entries = await expand(files, words)
    if not into and len(entries) > 1:
        raise HardwireError(
            USAGE, f"{place} is no folder, and {len(entries)} files would be there", f"{place}/"
        )
    copies, folders = [], []
    for entry in entries:
        to = place / base(entry.path) if into else place
        if not entry.folder:
            copies.append(Copy(to, entry.path, entry.size))
            continue
        if not recursive:
            raise HardwireError(
                USAGE, f"{display(entry.path)} is a folder", "-r copies it with all that is in it"
            )
        folders.append(to)
        for one in await listing(files, entry.path, recursive=True):
            if one.folder:
                folders.append(to / one.path)
            else:
                copies.append(Copy(to / one.path, join(entry.path, one.path), one.size))
    twice = {copy.local for copy in copies}
    if len(twice) < len(copies):
        raise HardwireError(USAGE, "two of the files have the same name", "copy them one by one")
    return copies, folders


# put


@command(
    target=True,
    examples=[
        "hardwire fs put recipe.json /",
        "hardwire fs put -r web /www --verify",
        "hardwire fs put recipe.json /data/ --host 192.168.77.20,192.168.77.21",
    ],
)
@click.argument("words", nargs=-1, required=True, metavar="LOCAL...")
@click.argument("place", metavar="REMOTE")
@click.option("-r", "--recursive", is_flag=True, help="Folders, with all that is in them.")
@click.option("--only-new", is_flag=True, help="Refuse to replace a file that is there.")
@copy_options
@link_options
def put(
    out: Output,
    words: tuple[str, ...],
    place: str,
    recursive: bool,
    only_new: bool,
    manner: Manner,
    link: Link,
) -> None:
    """Copy files to a board, into the folder REMOTE, or with that name.

    A file gets its name when it is whole, on flash, and its SHA-256 is right; until then the old one stays.
    Interrupted, the same command goes on where it ended. --host takes several boards, with commas.
    """
    path = remote(place)
    for word in words:
        if Path(word).is_dir() and not recursive:
            raise HardwireError(USAGE, f"{word} is a folder", "-r copies it with all that is in it")
        if not Path(word).exists():
            raise HardwireError(USAGE, f"{word}: no such file or directory")

    async def work(files: "Files", bars: Bars, done: Done, label: str) -> None:
        kind = await kind_of(files, path) if path else True
        copies, folders = _put_plan(words, path, kind, place.endswith("/"))
        for folder in folders:
            await files.mkdir(folder, parents=True)
        await send(files, copies, manner, bars, done, label, only_new=only_new)

    with_boards(out, link, manner, work)


def _put_plan(
    words: Sequence[str], place: str, kind: bool | None, named_folder: bool
) -> tuple[list[Copy], list[str]]:
    """What is copied where, and folders to make. kind: of what is at `place`. Raises HardwireError."""
    into = kind is True or named_folder or len(words) > 1
    if kind is False and (into or any(Path(word).is_dir() for word in words)):
        raise HardwireError(FAILED, f"{display(place)} is a file there")
    copies, folders = [], [place] if into and kind is None else []
    for word in words:
        source = Path(word)
        to = join(place, source.resolve().name) if into else place
        if not source.is_dir():
            copies.append(Copy(source, checked(to), source.stat().st_size))
            continue
        folders.append(checked(to))
        for one in sorted(source.rglob("*")):
            there = checked(join(to, one.relative_to(source).as_posix()))
            if one.is_dir():
                folders.append(there)
            elif one.is_file():
                copies.append(Copy(one, there, one.stat().st_size))
    if len({copy.remote for copy in copies}) < len(copies):
        raise HardwireError(USAGE, "two of the files have the same name", "copy them one by one")
    return copies, folders
