"""`hardwire map check|build|docs|csv`: a device's map, without a board."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import FAILED, USAGE, HardwireError
from .common import Output, command

if TYPE_CHECKING:
    from ..map.model import Map

STDIO = "-"
BINARY = "map.bin"  # what `build` writes, beside the map

_map = click.argument("path", metavar="MAP")
_output = click.option("-o", "--output", metavar="FILE", help="Write here; -: standard output.  [-]")


def load(path: str) -> "Map":
    """The map in a TOML file or a map.bin, told by what is in it. Raises HardwireError(USAGE)."""
    from ..map import build as binary
    from ..map.model import parse

    try:
        data = sys.stdin.buffer.read() if path == STDIO else Path(path).read_bytes()
    except OSError as error:
        raise HardwireError(USAGE, f"{path}: {(error.strerror or str(error)).lower()}") from None
    if data.startswith(binary.MAGIC):
        return binary.read(data, path)
    try:
        return parse(data.decode(), path)
    except UnicodeDecodeError:
        raise HardwireError(USAGE, f"{path}: not valid UTF-8") from None


def _save(path: str, data: bytes) -> None:
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise HardwireError(FAILED, f"{path}: {error.strerror}") from None


@command(examples=["hardwire map check map.toml", "hardwire map check map.toml --json"])
@_map
def check(out: Output, path: str) -> None:
    """Look for mistakes in MAP, a TOML file: every one is shown, with the point and the key.

    Without mistakes: what the map has, and how much of a board it takes. Gaps, addresses between points that no point
    has, are no mistake; clients that ask for them get exception 02.
    """
    from ..map.build import BYTES_MAX, build
    from ..map.footprint import heap
    from ..map.model import TABLES, MapError

    try:
        device = load(path)
        size = len(build(device))
    except MapError as error:
        for problem in error.problems[:-1]:
            out.note(problem)
        count = len(error.problems)
        message = f"{path}: {error.problems[-1]}" + (f" ({count} problems)" if count > 1 else "")
        raise HardwireError(USAGE, message, data=error.data) from None
    tables = {}
    lines = []
    for table in TABLES:
        ranges, gaps = device.ranges(table), device.gaps(table)
        count = sum(last - first + 1 for first, last in ranges)
        points = len(device.of(table))
        tables[table] = {"points": points, "values": count, "ranges": ranges, "gaps": gaps}
        if count:
            line = f"{table:<18} {count:>5} in {points} points, addresses {_listed(ranges)}"
            lines.append(f"{line} (gaps {_listed(gaps)})" if gaps else line)
    lines += [
        f"{'map.bin':<18} {size:>5} bytes of {BYTES_MAX}",
        f"{'heap':<18} {heap(device):>5} bytes on the board, estimated",
    ]
    out.result({"points": len(device.points), "tables": tables, "bytes": size, "heap": heap(device)}, *lines)


def _listed(spans: list[tuple[int, int]]) -> str:
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


@command(examples=["hardwire map build map.toml", "hardwire map build map.toml -o out/map.bin"])
@_map
@click.option("-o", "--output", metavar="FILE", help="Write here; -: standard output.  [map.bin beside MAP]")
def build(out: Output, path: str, output: str | None) -> None:
    """Make map.bin of MAP: what a board reads. `hardwire config push --map MAP` does it by itself."""
    from ..map.build import build as make

    if output == STDIO and out.json:
        raise HardwireError(USAGE, "--json has standard output for itself", "-o FILE")
    data = make(load(path))
    if output == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    place = output or str(Path(path).parent / BINARY)
    _save(place, data)
    out.result({"file": place, "bytes": len(data)}, f"{place}: {len(data)} bytes")


@command(examples=["hardwire map docs map.toml -o registers.md", "hardwire modbus map -o map.toml"])
@_map
@_output
def docs(out: Output, path: str, output: str | None) -> None:
    """Make a Markdown page of MAP, for who programs a client."""
    from ..map.documents import markdown

    _document(out, output, "markdown", markdown(load(path)))


@command(examples=["hardwire map csv map.toml -o registers.csv"])
@_map
@_output
def csv(out: Output, path: str, output: str | None) -> None:
    """Make a table of MAP for other tools: a line for each point, with a header."""
    from ..map.documents import csv as table

    _document(out, output, "csv", table(load(path)))


def _document(out: Output, output: str | None, key: str, text: str) -> None:
    if output in (None, STDIO):
        out.result({key: text}, text.rstrip("\n"))
        return
    _save(output, text.encode())
    out.result({"file": output}, f"{output}: {len(text.encode())} bytes")
