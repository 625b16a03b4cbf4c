"""`hardwire fs sync|watch`: make one tree like another, by what is in both; again whenever the local one changes.

In: a folder here, a folder there. Out: files copied; with --delete, what the source does not have is gone. Never: a
file copied that is the same; anything removed that was not listed before.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hardwire.wire.files import DENIED

from ..errors import FAILED, INTERRUPTED, NO_BOARD, TIMEOUT, USAGE, HardwireError
from .common import Output, command
from .fs_bars import Bars
from .fs_common import (
    Link,
    checked,
    display,
    each,
    join,
    kind_of,
    link_options,
    listing,
    one_target,
    remote,
    run,
    targets,
)
from .fs_plan import EXCLUDED, Item, Plan, Side, Tree, excluded, in_the_way, make_plan, side_of
from .fs_transfer import Copy, Done, Manner, copy_options, fetch, kept, send, with_boards

if TYPE_CHECKING:
    from ..clients.files import Files

POLL_S = 1.0  # without watchfiles
RETRY_S = 2.0  # for a board that is away


def local_side(top: Path, patterns: Sequence[str]) -> Side:
    """Of `top`; empty if there is none. Links are followed to files, not to folders."""
    found: Tree = {}

    def walk(folder: Path, before: str) -> None:
        for entry in sorted(folder.iterdir()):
            path = join(before, entry.name)
            if entry.is_dir():
                if not entry.is_symlink():
                    found[path] = Item(True, 0)
                    if not excluded(path, patterns):
                        walk(entry, path)
            elif entry.is_file():
                stat = entry.stat()
                found[path] = Item(False, stat.st_size, stat.st_mtime_ns)

    if top.is_dir():
        walk(top, "")
    return side_of(found, patterns)


async def remote_side(files: "Files", top: str, patterns: Sequence[str]) -> Side | None:
    """Of the folder `top`; None if there is nothing. Raises HardwireError."""
    kind = await kind_of(files, top) if top else True
    if kind is False:
        raise HardwireError(FAILED, f"{display(top)} is a file on {files.name}")
    if kind is None:
        return None
    entries = await listing(files, top, recursive=True)
    return side_of({entry.path: Item(entry.folder, entry.size) for entry in entries}, patterns)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@dataclass
class Sync:
    """One folder here and one there. known: see make_plan; filled by `run`."""

    local: Path
    remote: str
    pull: bool
    delete: bool
    dry_run: bool
    patterns: Sequence[str]
    manner: Manner
    known: dict[str, Item] = field(default_factory=dict)

    async def run(self, files: "Files", bars: Bars, done: Done, label: str = "") -> None:
        """Do it; `done` gets what was. Raises HardwireError."""
        here = await asyncio.to_thread(local_side, self.local, self.patterns)
        there = await remote_side(files, self.remote, self.patterns)
        if there is None and self.pull:
            raise HardwireError(
                FAILED, f"{files.name} has no folder {display(self.remote)}", "hardwire fs ls"
            )
        there = there or Side({})
        source, target = (there, here) if self.pull else (here, there)
        for path in source.tree:
            checked(path)
        plan = make_plan(source.tree, target.tree, self.delete, self.known)
        plan.remove = [path for path in plan.remove if path not in target.pinned]
        await self._compare(files, plan, here.tree, done)
        done.more = {"same": plan.same, "removed": [], "kept": [], "dry_run": self.dry_run}
        if self.dry_run:
            done.more |= {"would_copy": plan.send, "would_remove": plan.remove}
        for path in plan.remove:
            bars.line(f"{label}{'would remove' if self.dry_run else 'removing'} {self._shown(path)}")
        if self.dry_run:
            for path in plan.send:
                bars.line(f"{label}would copy {self._shown(path)}")
            return
        # What is in the way goes before, the rest when all that is new is there.
        blocked = [path for path in plan.remove if in_the_way(path, source.tree)]
        await self._remove(files, blocked, target.tree, bars, done)
        await self._make_folders(files, plan)
        copies = [
            Copy(self.local / path, join(self.remote, path), source.tree[path].size) for path in plan.send
        ]
        await (fetch if self.pull else send)(files, copies, self.manner, bars, done, label)
        self._learn(here.tree, done)
        if not done.failed:
            rest = [path for path in plan.remove if path not in blocked]
            await self._remove(files, rest, target.tree, bars, done)

    def _shown(self, path: str) -> str:
        return str(self.local / path) if self.pull else display(join(self.remote, path))

    async def _compare(self, files: "Files", plan: Plan, here: Tree, done: Done) -> None:
        """Hashes decide about files of one size."""

        async def one(path: str) -> None:
            ours, theirs = await asyncio.gather(
                asyncio.to_thread(_digest, self.local / path), files.hash(join(self.remote, path))
            )
            if ours == theirs:
                plan.same += 1
                self.known[path] = here[path]
            else:
                plan.send.append(path)

        failed = await each(plan.compare, one, self.manner.jobs)
        done.failed += [(display(join(self.remote, path)), error) for path, error in failed]
        plan.send.sort()

    def _learn(self, here: Tree, done: Done) -> None:
        if not self.pull:
            for copy in done.files:
                path = copy.local.relative_to(self.local).as_posix()
                self.known[path] = here[path]

    async def _make_folders(self, files: "Files", plan: Plan) -> None:
        if self.pull:
            for path in ("", *plan.folders):
                (self.local / path).mkdir(parents=True, exist_ok=True)
            return
        if self.remote:
            await files.mkdir(self.remote, parents=True)
        for path in plan.folders:
            await files.mkdir(join(self.remote, path), parents=True)

    async def _remove(
        self, files: "Files", paths: Sequence[str], target: Tree, bars: Bars, done: Done
    ) -> None:
        async def one(path: str) -> None:
            try:
                await self._remove_one(files, path, target[path].folder)
            except FilesError as error:
                if error.number != DENIED:
                    raise
                # A board keeps what its firmware needs.
                bars.line(f"kept {self._shown(path)}: read-only")
                done.more["kept"].append(path)
            else:
                done.more["removed"].append(path)

        from ..clients.files import FilesError

        failed = await each(paths, one, 1)
        done.failed += [(self._shown(path), error) for path, error in failed]

    async def _remove_one(self, files: "Files", path: str, folder: bool) -> None:
        if self.pull:
            place = self.local / path
            place.rmdir() if folder else place.unlink()
        elif folder:
            await files.rmdir(join(self.remote, path))
        else:
            await files.delete(join(self.remote, path))


exclude_option = click.option(
    "--exclude", multiple=True, metavar="GLOB", help=f"Leave out; always: {' '.join(EXCLUDED)}."
)
delete_option = click.option("--delete", is_flag=True, help="Remove what the source does not have.")


def _existing(local: str) -> Path:
    path = Path(local)
    if not path.is_dir():
        raise HardwireError(USAGE, f"{local}: no such folder")
    return path


@command(
    target=True,
    examples=[
        "hardwire fs sync www /www --delete",
        "hardwire fs sync backup / --pull",
        "hardwire fs sync recipes /data --dry-run --host 192.168.77.20,192.168.77.21",
    ],
)
@click.argument("local", metavar="LOCAL")
@click.argument("place", metavar="REMOTE")
@click.option("--pull", is_flag=True, help="The other way round: make LOCAL like REMOTE.")
@delete_option
@exclude_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@copy_options
@link_options
def sync(
    out: Output,
    local: str,
    place: str,
    pull: bool,
    delete: bool,
    exclude: tuple[str, ...],
    dry_run: bool,
    manner: Manner,
    link: Link,
) -> None:
    """Make the folder REMOTE like LOCAL: copy what differs, in size or else in SHA-256.

    --host takes several boards, with commas.
    """
    top, path = Path(local) if pull else _existing(local), remote(place)
    if pull and len(targets(out)) > 1:
        raise HardwireError(USAGE, "--pull takes one board", "--host HOST")
    patterns = (*EXCLUDED, *exclude)

    async def work(files: "Files", bars: Bars, done: Done, label: str) -> None:
        await Sync(top, path, pull, delete, dry_run, patterns, manner).run(files, bars, done, label)

    with_boards(out, link, manner, work)


@command(
    target=True,
    examples=["hardwire fs watch www /www", "hardwire fs watch --delete --exclude '*.tmp' src /lib"],
)
@click.argument("local", metavar="LOCAL")
@click.argument("place", metavar="REMOTE")
@delete_option
@exclude_option
@copy_options
@link_options
def watch(
    out: Output,
    local: str,
    place: str,
    delete: bool,
    exclude: tuple[str, ...],
    manner: Manner,
    link: Link,
) -> None:
    """Make the folder REMOTE like LOCAL, and again whenever LOCAL changes, until Ctrl-C.

    A board that is away is tried again. Over USB, the app is interrupted for each change.
    """
    top, patterns = _existing(local).resolve(), (*EXCLUDED, *exclude)
    keeper = Sync(top, remote(place), False, delete, False, patterns, manner)
    target = one_target(out)
    busy: list[Done] = []  # the one that runs

    async def round_() -> bool:
        """Whether all went well. Raises HardwireError."""
        done = Done()
        busy.append(done)
        with Bars(out, manner.quiet) as bars:
            async with link.open(out, target) as files:
                await keeper.run(files, bars, done)
        busy.clear()
        done.end()
        if done.files or done.more["removed"] or done.failed:
            if error := done.failure(done.record()):
                out.fail(error)
            else:
                out.result(done.record(), *([] if manner.quiet else [done.summary()]))
        return not done.failed

    async def main() -> None:
        first = True
        changes = _changes(top, patterns)
        change = asyncio.ensure_future(anext(changes))
        while True:
            await asyncio.sleep(0)  # from here on, changes are noticed
            try:
                well = await round_()
            except HardwireError as error:
                if first or error.code not in (NO_BOARD, TIMEOUT):
                    raise
                well = False
                busy.clear()
                out.note(f"{error}; trying again")
            if first and not manner.quiet:
                out.note(f"watching {local}; Ctrl-C ends")
            first = False
            await asyncio.wait([change], timeout=None if well else RETRY_S)
            if change.done():
                await change
                change = asyncio.ensure_future(anext(changes))

    try:
        run(main(), lambda: kept(manner, busy))
    except HardwireError as error:
        if error.code != INTERRUPTED or busy:
            raise


async def _changes(top: Path, patterns: Sequence[str]) -> AsyncIterator[None]:
    """One item whenever something in `top` has changed since the last one."""
    try:
        from watchfiles import awatch
    except ImportError:
        before = local_side(top, patterns)
        while True:
            await asyncio.sleep(POLL_S)
            now = await asyncio.to_thread(local_side, top, patterns)
            if now != before:
                before = now
                yield

    def counts(_change: object, path: str) -> bool:
        return not excluded(Path(path).relative_to(top).as_posix(), patterns)

    async for _ in awatch(top, watch_filter=counts):
        yield
