"""`hardwire bench`: the firmware in device time, next to the stock library; the virtual board in wall time."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import Output, command

if TYPE_CHECKING:
    from rich.table import Table


@command(
    examples=[
        "hardwire bench",
        "hardwire bench --json > today.json",
        "hardwire bench --image RPI_PICO-20260101-v1.28.0.uf2",
    ]
)
@click.option("--image", metavar="UF2", help="MicroPython image; without it ours is built once and kept.")
def bench(out: Output, image: str | None) -> None:
    """Measure the firmware on the virtual board, next to the stock library.

    Times are device time of the emulated board, the same on every PC. `ours` is the complete firmware with its
    default app; `stock` is a minimal server on the unmodified adafruit_wiznet5k socket, on the same board at the same
    SPI clock.

    The second table is wall time of this PC, with whatever else it is doing: exchanges of the firmware on the chip
    model in one process, exchanges with the emulated board, and how that idles with nothing connected.
    """
    from rich.console import Group
    from rich.table import Table

    from .. import bench_wall
    from ..bench import measure
    from ..image import find_or_build

    path = Path(image) if image else find_or_build(report=out.note)
    results = asyncio.run(measure(path, out.note))
    device = _table(Table("device time", "unit", "ours", "stock", "ratio"))
    for row in results:
        ratio = row["stock"] / row["ours"] if row["ours"] else 0
        device.add_row(row["name"], row["unit"], f"{row['ours']:g}", f"{row['stock']:g}", f"{ratio:.2f}")
    out.note("wall time")
    wall = asyncio.run(bench_wall.measure(path))
    pc = _table(Table("wall time of this PC", "unit", "now"))
    for row in wall:
        pc.add_row(row["name"], row["unit"], f"{row['value']:g}")
    out.result({"results": results, "wall": wall}, Group(device, pc))


def _table(table: "Table") -> "Table":
    for column in table.columns[2:]:
        column.justify = "right"
    return table
