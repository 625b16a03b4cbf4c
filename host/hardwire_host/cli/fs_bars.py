"""How far files are: bars on a terminal, else a line for each that is done.

In: the progress that clients/files.py reports. Out: lines on stderr. Never: a word on stdout, with --json, or -q.
"""

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from .common import Output
from .fs_common import size_text

if TYPE_CHECKING:
    from rich.progress import Progress, Task

RATED = 1 << 16  # bytes; the rate of less says nothing
_NAME_WIDTH = 36
_CHECK = "check"


class Bars:
    """Of one command; a context manager."""

    def __init__(self, out: Output, quiet: bool) -> None:
        self._out = out
        self._silent = quiet or out.json
        self.progress: Progress | None = None
        self._all: Any = None
        self._count = self._size = 0

    def __enter__(self) -> Self:
        if not self._silent and sys.stderr.isatty():
            self.progress = self._rich()
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def _rich(self) -> "Progress":
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
        from rich.text import Text

        class Size(ProgressColumn):
            def render(self, task: "Task") -> Text:
                return Text(f"{size_text(task.completed)} of {size_text(task.total)}", justify="right")

        class Rate(ProgressColumn):
            def render(self, task: "Task") -> Text:
                return Text(f"{size_text(task.speed)}/s" if task.speed else "", justify="right")

        return Progress(
            TextColumn(f"{{task.description:<{_NAME_WIDTH}}}"),
            TextColumn("{task.fields[doing]:<8}"),
            BarColumn(24),
            Size(),
            Rate(),
            TimeRemainingColumn(),
            console=self._out.console(sys.stderr),
            transient=True,
        )

    def expect(self, count: int, size: int) -> None:
        """So many files come, with so many bytes: if there are several, a bar for all of them."""
        if self.progress is None:
            return
        self._count += count
        self._size += size
        if self._count > 1:
            if self._all is None:
                self._all = self.progress.add_task("", doing="", total=0)
            self.progress.update(self._all, description=f"{self._count} files", total=self._size)

    def advance(self, size: int) -> None:
        """So many bytes more of all."""
        if self._all is not None:
            self.progress.advance(self._all, size)

    def file(self, name: str, size: int) -> "Bar":
        """A bar for the file `name`; a context manager, and the `progress` that its transfer takes."""
        return Bar(self, name, size)

    def line(self, text: str) -> None:
        """One line, above the bars."""
        if self._silent:
            return
        if self.progress is not None:
            self.progress.console.print(text)
        else:
            self._out.note(text)


class Bar:
    """One file. Without a terminal it is heard of once, when it is done."""

    def __init__(self, bars: Bars, name: str, size: int) -> None:
        self._bars = bars
        self._name = name
        self._size = size
        self._what: str | None = None
        self._done = 0  # bytes of it that `all` knows
        self._task: Any = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        progress = self._bars.progress
        if progress is not None:
            self._task = progress.add_task(_short(self._name), doing="", total=self._size)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        progress = self._bars.progress
        if progress is not None:
            self._bars.advance(self._size - self._done)
            progress.remove_task(self._task)
        elif kind is None:
            rate = self._size / max(time.monotonic() - self._began, 0.001)
            said = f", {size_text(rate)}/s" if self._size >= RATED else ""
            self._bars.line(f"{self._name}: {size_text(self._size)}{said}")

    def __call__(self, what: str, done: int, total: int) -> None:
        progress = self._bars.progress
        if progress is None:
            return
        if what != self._what:  # a check runs over the file once more
            self._what = what
            doing = "checking" if what == _CHECK else ""
            progress.reset(self._task, total=total, completed=done, doing=doing)
        progress.update(self._task, completed=done, total=total)
        if what != _CHECK:
            self._bars.advance(done - self._done)
            self._done = done


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else "..." + name[3 - _NAME_WIDTH :]
