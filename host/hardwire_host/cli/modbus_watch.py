"""`hardwire modbus watch`: values as they change, until Ctrl-C."""

import contextlib
import csv
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import click

from ..errors import MODBUS, USAGE, HardwireError
from .common import Output, command
from .modbus_common import ALL, Device, Form, Server, form_options, map_option, plain, server_options, shown

if TYPE_CHECKING:
    from ..clients.modbus_points import Reading, Wanted

TABLE, JSONL, CSV = "table", "jsonl", "csv"
CHANGED = "bold reverse"
RETRY_S = 0.1  # at least, between two attempts to reach a server that is gone


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@command(
    target=True,
    examples=[
        "hardwire modbus watch",
        "hardwire modbus watch temperature pump --every 0.5",
        "hardwire modbus watch holding 0 10 --changes --format csv --count 1000",
    ],
)
@click.argument("words", nargs=-1, metavar="[POINT... | TABLE ADDRESS [COUNT]]")
@click.option(
    "--every",
    type=click.FloatRange(0, 86400),
    default=1.0,
    metavar="S",
    help="Seconds from one to the next (1).",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N samples.")
@click.option("--changes", is_flag=True, help="Only what differs from the sample before.")
@click.option(
    "--format",
    "layout",
    type=click.Choice((TABLE, JSONL, CSV)),
    default=TABLE,
    help="How to show it (table).",
)
@form_options
@map_option
@server_options
def watch(
    out: Output,
    words: tuple[str, ...],
    every: float,
    count: int | None,
    changes: bool,
    layout: str,
    form: Form,
    path: str | None,
    server: Server,
) -> None:
    """Read points (all of the map if none are named) again and again, until Ctrl-C or N samples.

    A lost connection is made again, and said. With --json there is an object for each sample. Points are named as for
    `read`.
    """
    if form.order == ALL:
        raise HardwireError(USAGE, "--order all compares what `read` has read; watch takes one order")
    with Device(out, server, path, form) as device:
        wanted = device.find_each(words)
        with contextlib.suppress(KeyboardInterrupt), _writer(out, layout, wanted, changes) as writer:
            _run(device, wanted, writer, every, count)


def _run(
    device: Device, wanted: Sequence["Wanted"], writer: "_Writer", every: float, count: int | None
) -> None:
    """Samples until `count` were answered. What fails before the first was answered, raises."""
    from ..clients.modbus_points import read

    before: list[Reading] = []
    failed_at: float | None = None
    answered = 0
    due = time.monotonic()
    while True:
        try:
            readings = read(device.client, wanted)
        except HardwireError as error:
            if not before:
                raise
            if error.code != MODBUS:  # a server that refuses is there
                device.disconnect()
            if failed_at is None:
                failed_at = time.monotonic()
                writer.failed(error)
        else:
            if failed_at is not None:
                writer.back(time.monotonic() - failed_at)
                failed_at = None
            writer.sample(
                readings, [not before or one.raw != before[i].raw for i, one in enumerate(readings)]
            )
            before = readings
            answered += 1
            if answered == count:
                return
        step = every if failed_at is None else max(every, RETRY_S)
        due = max(due + step, time.monotonic())  # a slow answer delays the next, they do not pile up
        time.sleep(max(due - time.monotonic(), 0))


class _Writer:
    """One way to show samples; a context manager. Every sample is on its way when `sample` returns."""

    def __init__(self, out: Output, wanted: Sequence["Wanted"], changes: bool) -> None:
        self.out = out
        self.wanted = wanted
        self.changes = changes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self, readings: Sequence["Reading"], changed: Sequence[bool]) -> None:
        """Show what was read; `changed` says which of it differs from the sample before."""
        if not self.changes:
            self.show(readings)
        elif any(changed):
            self.show([one for one, differs in zip(readings, changed, strict=True) if differs])

    def show(self, readings: Sequence["Reading"]) -> None:
        """Show these, at least one."""

    def failed(self, error: HardwireError) -> None:
        """There is no sample; said once until `back`."""
        self.out.note(f"{_now()} {error.message}; trying again")

    def back(self, seconds: float) -> None:
        """There are samples again."""
        self.out.note(f"{_now()} answers again, after {seconds:.1f} s")


class _Lines(_Writer):
    """A line for each value: for pipes, and for changes one below the other."""

    def show(self, readings: Sequence["Reading"]) -> None:
        now = _now()
        width = max(len(one.name) for one in self.wanted)
        self.out.show(*(f"{now} {one.wanted.name:<{width}} {_text(one)}" for one in readings))


class _Json(_Writer):
    """--json: an envelope for each sample."""

    def show(self, readings: Sequence["Reading"]) -> None:
        self.out.result(_record(readings))

    def failed(self, error: HardwireError) -> None:
        self.out.fail(error)


class _JsonLines(_Writer):
    """An object for each sample, nothing around it."""

    def show(self, readings: Sequence["Reading"]) -> None:
        print(json.dumps(_record(readings)), flush=True)

    def failed(self, error: HardwireError) -> None:
        print(json.dumps({"time": _now(), "error": error.message}), flush=True)
        super().failed(error)


class _Csv(_Writer):
    """A row for each sample, below a row of names; with `changes` the values that did not change are empty."""

    def __enter__(self) -> Self:
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        self._write(["time", *(one.name for one in self.wanted)])
        return self

    def show(self, readings: Sequence["Reading"]) -> None:
        cells = {one.wanted.name: _cell(one.value) for one in readings}
        self._write([_now(), *(cells.get(one.name, "") for one in self.wanted)])

    def _write(self, row: Sequence[object]) -> None:
        self._rows.writerow(row)
        sys.stdout.flush()


class _Live(_Writer):
    """A table on a terminal that stays in its place; what changed last is highlighted."""

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=self.out.console(sys.stdout), auto_refresh=False)
        self._live.__enter__()
        self._drawn = False  # at first, everything is new
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def sample(self, readings: Sequence["Reading"], changed: Sequence[bool]) -> None:
        self._readings, self._changed = readings, changed
        self._draw(f"{_now()}   Ctrl-C ends")
        self._drawn = True

    def failed(self, error: HardwireError) -> None:
        self._draw(f"{_now()} {error.message}; trying again")

    def back(self, seconds: float) -> None:
        pass  # the next sample shows it

    def _draw(self, status: str) -> None:
        from rich.table import Table as Sheet
        from rich.text import Text

        sheet = Sheet(
            "point", "number", "value", box=None, pad_edge=False, caption=status, caption_justify="left"
        )
        for one, differs in zip(self._readings, self._changed, strict=True):
            value = Text(_text(one), style=CHANGED if differs and self._drawn else "bold")
            sheet.add_row(one.wanted.name, one.wanted.traditional, value)
        self._live.update(sheet, refresh=True)


def _writer(out: Output, layout: str, wanted: Sequence["Wanted"], changes: bool) -> _Writer:
    if out.json:
        kind: type[_Writer] = _Json
    elif layout == JSONL:
        kind = _JsonLines
    elif layout == CSV:
        kind = _Csv
    else:
        kind = _Live if sys.stdout.isatty() and not changes else _Lines
    return kind(out, wanted, changes)


def _text(one: "Reading") -> str:
    return shown(one.wanted.place.format(one.value))


def _record(readings: Sequence["Reading"]) -> dict:
    return {"time": _now(), "values": {one.wanted.name: plain(one.value) for one in readings}}


def _cell(value: Any) -> Any:
    """A value in a table of plain cells: arrays with blanks between, bits as the names of those that are set."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return " ".join(name for name, on in value.items() if on)
    if isinstance(value, list):
        return " ".join(str(_cell(one)) for one in value)
    return value
