"""`hardwire bench`: the firmware's speed in device time, next to the stock library."""

import asyncio
from pathlib import Path

import click

from .common import Output, command


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
    """
    from rich.table import Table

    from ..bench import measure
    from ..image import find_or_build

    path = Path(image) if image else find_or_build(report=out.note)
    results = asyncio.run(measure(path, out.note))
    table = Table("measure", "unit", "ours", "stock", "ratio")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in results:
        ratio = row["stock"] / row["ours"] if row["ours"] else 0
        table.add_row(row["name"], row["unit"], f"{row['ours']:g}", f"{row['stock']:g}", f"{ratio:.2f}")
    out.result({"results": results}, table)
