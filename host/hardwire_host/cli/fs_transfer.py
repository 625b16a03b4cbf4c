"""Files on their way: what `hardwire fs get|put|sync|watch` share.

In: what to copy where, and how. Out: files, bars, what became of each. Never: a board that keeps the
others from theirs by failing.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FAILED, HardwireError
from .common import Output
from .fs_bars import RATED, Bars
from .fs_common import (
    Link,
    display,
    each,
    failure,
    jobs_option,
    quiet_option,
    run,
    size_text,
    targets,
)

if TYPE_CHECKING:
    from ..clients.files import Files
    from ..target import Target


@dataclass(frozen=True)
class Manner:
    """How files are copied."""

    resume: bool
    verify: bool
    jobs: int
    quiet: bool


@dataclass(frozen=True)
class Copy:
    """One file: `local` here, `remote` there."""

    local: Path
    remote: str
    size: int


@dataclass
class Done:
    """What became of the copies to or from one board, while it goes on and after."""

    files: dict[Copy, bytes] = field(default_factory=dict)  # with their SHA-256
    failed: list[tuple[str, HardwireError]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)  # of a sync: what Sync.run says
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # set by `end`

    @property
    def size(self) -> int:
        """Bytes in all files that are right."""
        return sum(copy.size for copy in self.files)

    def end(self) -> None:
        """Nothing more comes."""
        self.seconds = time.monotonic() - self.began

    def record(self) -> dict:
        """As JSON can hold it."""
        return {
            "files": [
                {
                    "path": f"/{copy.remote}",
                    "local": str(copy.local),
                    "size": copy.size,
                    "sha256": digest.hex(),
                }
                for copy, digest in self.files.items()
            ],
            "failed": [{"path": name, "error": error.message} for name, error in self.failed],
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            **self.more,
        }

    def summary(self) -> str:
        """One line for people."""
        if self.more.get("dry_run"):
            copied, removed = len(self.more["would_copy"]), len(self.more["would_remove"])
            return f"{copied} to copy, {removed} to remove, {self.more['same']} same; nothing was changed"
        seconds = max(self.seconds, 0.001)
        line = f"{len(self.files)} file{'' if len(self.files) == 1 else 's'}, {size_text(self.size)}"
        if self.size >= RATED:
            line += f" in {seconds:.1f} s, {size_text(self.size / seconds)}/s"
        if "same" in self.more:
            line += f"; {self.more['same']} same, {len(self.more['removed'])} removed"
            line += f", {len(self.more['kept'])} read-only" if self.more["kept"] else ""
        return line

    def failure(self, data: dict) -> HardwireError | None:
        """What it ends with, if not well."""
        count = len(self.failed) + len(self.files)
        return failure(self.failed, count, data) if self.failed else None


def copy_options(function: Callable) -> Callable:
    """--resume, --verify, --jobs, --quiet; `function` gets them as `manner`."""

    @functools.wraps(function)
    def call(*arguments: Any, resume: bool, verify: bool, jobs: int, quiet: bool, **others: Any) -> Any:
        return function(*arguments, manner=Manner(resume, verify, jobs, quiet), **others)

    for option in (
        quiet_option,
        jobs_option,
        click.option("--verify", is_flag=True, help="Read everything back and compare once more."),
        click.option(
            "--resume/--no-resume",
            default=True,
            help="Go on where an interrupted copy ended (default), or not.",
        ),
    ):
        call = option(call)
    return call


def kept(manner: Manner, done: Sequence[Done]) -> str:
    """What Ctrl-C leaves."""
    count = sum(len(one.files) for one in done)
    if manner.resume:
        return f"{count} done, of the rest is kept what came; the same command goes on from there"
    return f"{count} done, nothing of the rest is visible"


async def send(
    files: "Files",
    copies: Sequence[Copy],
    manner: Manner,
    bars: Bars,
    done: Done,
    label: str = "",
    *,
    only_new: bool = False,
) -> None:
    """Copy to the board. Raises HardwireError if it cannot be reached any more."""

    async def one(copy: Copy) -> None:
        name = label + display(copy.remote)
        with bars.file(name, copy.size) as bar:
            done.files[copy] = await files.put(
                copy.local,
                copy.remote,
                resume=manner.resume,
                verify=manner.verify,
                only_new=only_new,
                progress=bar,
                note=lambda text: bars.line(f"{name}: {text}"),
            )

    bars.expect(len(copies), sum(copy.size for copy in copies))
    await _each(copies, one, manner, done)


async def fetch(
    files: "Files", copies: Sequence[Copy], manner: Manner, bars: Bars, done: Done, label: str = ""
) -> None:
    """Copy from the board. Raises HardwireError if it cannot be reached any more."""

    async def one(copy: Copy) -> None:
        copy.local.parent.mkdir(parents=True, exist_ok=True)
        with bars.file(label + display(copy.remote), copy.size) as bar:
            done.files[copy] = await files.get(
                copy.remote, copy.local, resume=manner.resume, verify=manner.verify, progress=bar
            )

    bars.expect(len(copies), sum(copy.size for copy in copies))
    await _each(copies, one, manner, done)


async def _each(
    copies: Sequence[Copy], one: Callable[[Copy], Awaitable[None]], manner: Manner, done: Done
) -> None:
    failed = await each(copies, one, manner.jobs)
    done.failed += [(display(copy.remote), error) for copy, error in failed]


def finish(out: Output, manner: Manner, done: Done) -> None:
    """The command's result. Raises HardwireError if a file failed."""
    done.end()
    data = done.record()
    if error := done.failure(data):
        raise error
    out.result(data, *([] if manner.quiet else [done.summary()]))


Work = Callable[["Files", Bars, Done, str], Awaitable[None]]
"""Copies files of one board: its files, the bars, what to fill in, what comes before names."""


def with_boards(out: Output, link: Link, manner: Manner, work: Work) -> None:
    """Do `work` with every board that is meant, at once; then the command's result.

    Raises HardwireError: a board failed. The others went on, and what became of each is said.
    """
    boards = targets(out)
    dones = [Done() for _ in boards]

    async def one(board: "Target", done: Done, bars: Bars) -> None:
        label = f"{board.name}:" if len(boards) > 1 else ""
        async with link.open(out, board) as files:
            await work(files, bars, done, label)
        done.end()

    async def every() -> list[BaseException | None]:
        with Bars(out, manner.quiet) as bars:
            pairs = zip(boards, dones, strict=True)
            return await asyncio.gather(
                *(one(board, done, bars) for board, done in pairs), return_exceptions=len(boards) > 1
            )

    ends = run(every(), lambda: kept(manner, dones))
    if len(boards) == 1:
        finish(out, manner, dones[0])
        return
    _finish_all(out, manner, [board.name for board in boards], dones, ends)


def _finish_all(
    out: Output,
    manner: Manner,
    names: Sequence[str],
    dones: Sequence[Done],
    ends: Sequence[BaseException | None],
) -> None:
    data, lines, failed = {}, [], []
    for name, done, end in zip(names, dones, ends, strict=True):
        if end is not None and not isinstance(end, HardwireError):
            raise end
        error = end or done.failure({})
        data[name] = done.record() | {"error": error.details() if error else None}
        if error:
            failed.append(name)
            out.note(f"{name}: {error}")
        elif not manner.quiet:
            lines.append(f"{name}: {done.summary()}")
    out.show(*lines)
    if failed:
        raise HardwireError(
            FAILED, f"{len(failed)} of {len(names)} boards failed: {', '.join(failed)}", "", {"boards": data}
        )
    out.result({"boards": data})
