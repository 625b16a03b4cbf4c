"""`hardwire bench`: the firmware in device time, next to the stock library; the virtual board in wall time."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import FAILED, USAGE, HardwireError
from .common import Output, command

if TYPE_CHECKING:
    from rich.table import Table


@command(
    examples=[
        "hardwire bench",
        "hardwire bench --keep",
        "hardwire bench --strict --json > today.json",
        "hardwire bench --image RPI_PICO-20260101-v1.28.0.uf2",
    ]
)
@click.option("--image", metavar="UF2", help="MicroPython image; without it ours is built once and kept.")
@click.option("--exchanges", type=click.IntRange(1, 10_000), metavar="N", help="Requests per row.  [500]")
@click.option("--keep", is_flag=True, help="Write the results to the folder.")
@click.option(
    "--folder",
    metavar="DIR",
    help="Where results are kept; default: bench/ of the source tree, if this is one.",
)
@click.option(
    "--strict", is_flag=True, help="Exit code 1 if a figure is worse than the last kept, or missed."
)
def bench(
    out: Output, image: str | None, exchanges: int | None, keep: bool, folder: str | None, strict: bool
) -> None:
    """Measure device time beside the stock library, and the virtual board's wall time.

    Times are device time of the emulated board, the same on every PC. `ours` is the complete firmware with all its
    services; `stock` are small servers on the unmodified adafruit_wiznet5k socket, on the same board at the same
    SPI clock; for files it is mpremote, and as fast as this PC. `must`: what ours has to reach. What has changed by
    more than 2 % since the result kept last (of as many exchanges) is listed.

    The second table is wall time of this PC, with whatever else it is doing: exchanges of the firmware on the chip
    model in one process, exchanges with the emulated board, and how that idles with nothing connected.
    """
    from .. import bench_keep, bench_wall
    from ..bench import EXCHANGES, measure, missed
    from ..image import PROJECT, find_or_build

    exchanges = exchanges or EXCHANGES
    place = Path(folder) if folder else bench_keep.default_folder()
    if keep and place is None:
        raise HardwireError(USAGE, "no source tree here to keep results in", "--folder DIR")
    before = bench_keep.last(place, exchanges) if place else None
    path = Path(image) if image else find_or_build(report=out.note)
    frozen = find_or_build(frozen=True, report=out.note) if PROJECT.exists() else None
    rows = asyncio.run(measure(path, frozen, out.note, exchanges))
    out.note("wall time")
    wall = asyncio.run(bench_wall.measure(path))

    changes = bench_keep.compare(before[1], rows) if before else []
    data = {
        "results": rows,
        "wall": wall,
        "compared": before[0].name if before else None,
        "changes": [asdict(change) for change in changes],
        "missed": [row["name"] for row in rows if missed(row)],
        "kept": None,
    }
    if keep:
        made = bench_keep.record(rows, path.name, exchanges, bench_keep.revision(), datetime.now(UTC))
        data["kept"] = str(bench_keep.keep(place, made))
    worse = [change.name for change in changes if change.worse]
    wrong = strict and (worse or data["missed"])
    shown = _tables(rows, wall), "\n".join(_said(data, changes))
    if wrong:
        out.show(*shown)
        problem = [f"{len(worse)} worse than {data['compared']}"] * bool(worse)
        problem += [f"{len(data['missed'])} missed"] * bool(data["missed"])
        raise HardwireError(FAILED, "bench: " + ", ".join(problem), data=data)
    out.result(data, *shown)


def _tables(rows: list[dict], wall: list[dict]) -> object:
    from rich.console import Group
    from rich.table import Table

    from ..bench import missed

    device = _right(Table("device time", "unit", "ours", "must", "stock", "ratio", "", ""), 2, 6)
    for row in rows:
        must = "" if row["must"] is None else f"{'<' if row['better'] == 'less' else '>'}= {row['must']:g}"
        mark = "MISSED" if missed(row) else ""
        device.add_row(
            row["name"],
            row["unit"],
            _figure(row["ours"]),
            must,
            _figure(row["stock"]),
            _ratio(row),
            mark,
            row["note"],
        )
    pc = _right(Table("wall time of this PC", "unit", "now"), 2, 3)
    for row in wall:
        pc.add_row(row["name"], row["unit"], f"{row['value']:g}")
    return Group(device, pc)


def _right(table: "Table", first: int, end: int) -> "Table":
    for column in table.columns[first:end]:
        column.justify = "right"
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _ratio(row: dict) -> str:
    """How many times better ours is."""
    better, other = row["stock"], row["ours"]
    if row["better"] == "more":
        better, other = other, better
    return f"{better / other:.2f}" if better is not None and other else ""


def _said(data: dict, changes: list) -> list[str]:
    from ..bench_keep import TOLERANCE

    lines = []
    if data["compared"] is None:
        lines.append("nothing kept to compare with" + ("" if data["kept"] else "; --keep writes a result"))
    elif not changes:
        lines.append(f"within {TOLERANCE:.0%} of {data['compared']}")
    else:
        lines.append(f"more than {TOLERANCE:.0%} from {data['compared']}:")
        lines += [f"  {'worse ' if change.worse else 'better'}  {change}" for change in changes]
    if data["kept"]:
        lines.append(f"kept as {data['kept']}")
    return lines
