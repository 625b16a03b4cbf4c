"""A map as a page for people, and as a table for other tools.

In: a Map. Out: Markdown, CSV. Never: what the map does not say.
"""

import csv as csv_module
import io
from collections.abc import Iterable
from dataclasses import replace

from .model import OBJECTS, TABLES, Map, Point
from .reading import values
from .types import BITS, Place, shown

TITLES = {
    "coils": "Coils (FC 01, 05, 0F)",
    "discrete_inputs": "Discrete inputs (FC 02)",
    "holding_registers": "Holding registers (FC 03, 06, 10, 16, 17)",
    "input_registers": "Input registers (FC 04)",
}
COLUMNS = (
    "name",
    "table",
    "address",
    "reference",
    "registers",
    "type",
    "count",
    "length",
    "word_order",
    "scale",
    "offset",
    "unit",
    "min",
    "max",
    "access",
    "initial",
    "retained",
    "safe",
    "bits",
    "description",
)
NO_TYPE = ("registers", "length", "word_order", "scale", "offset")  # columns that a bit leaves empty


def csv(device: Map) -> str:
    """A line of COLUMNS for each point, by table and address; `address` is 0-based, `reference` as 40001."""
    out = io.StringIO()
    writer = csv_module.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in TABLES:
        for point in device.of(table):
            row = {name: getattr(point, name) for name in COLUMNS if name not in ("registers", "bits")}
            row["registers"] = point.width * point.count
            row["bits"] = " ".join(f"{number}={name}" for number, name in sorted(point.bits.items()))
            row["retained"] = "yes" if point.retained else "no"
            row["length"] = point.length or ""
            for key in ("scale", "offset", "min", "max"):
                row[key] = _number(row[key])
            for key in ("initial", "safe"):
                row[key] = _bare(point, row[key])
            if point.type == "bit":
                row |= dict.fromkeys(NO_TYPE, "")
            writer.writerow(row)
    return out.getvalue()


def markdown(device: Map) -> str:
    """The page: identification, tables, files, queues, communication."""
    names = {number: name.replace("_", " ") for number, name in enumerate(OBJECTS)}
    lines = [f"# {_words(device.objects.get(4, b'').decode()) or 'Modbus device'}", ""]
    if device.objects:
        lines += _table(
            ("object", "device identification", "text"),
            (
                (f"0x{number:02X}", names.get(number, ""), text.decode())
                for number, text in device.objects.items()
            ),
        )
    lines += [
        "Addresses are 0-based, as they go over the wire; the number behind is the 1-based one. A value of several",
        "registers has its high word first (ABCD) unless another order is named: CDAB low word first, BADC bytes",
        "swapped, DCBA both.",
        "",
    ]
    for table in TABLES:
        points = device.of(table)
        if points:
            lines += [f"## {TITLES[table]}", ""]
            lines += _table(
                ("address", "", "name", "type", "unit", "range", "access", "initial", "description"),
                (_row(point) for point in points),
            )
    if device.files:
        rows = ((file.number, file.name, file.records, file.access) for file in device.files.values())
        lines += [
            "## Files (FC 14, 15)",
            "",
            *_table(("number", "name", "records of 16 bits", "access"), rows),
        ]
    if device.fifos:
        rows = ((fifo.address, fifo.name, fifo.depth) for fifo in device.fifos.values())
        lines += ["## Queues (FC 18)", "", *_table(("pointer address", "name", "values at most"), rows)]
    safe = [point for point in device.points.values() if point.safe is not None]
    if safe:
        what = "write" if device.communication.refreshed_by == "writes" else "request"
        lines += [
            "## When nobody is heard",
            "",
            f"After {device.communication.timeout_s:g} s without a {what} these points take their safe values:",
            "",
            *_table(("name", "safe value"), ((point.name, _value(point, point.safe)) for point in safe)),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _row(point: Point) -> tuple:
    last = f" to {point.last}" if point.last > point.address else ""
    kind = f"string of {point.length} bytes" if point.type == "string" else point.type
    if point.word_order != "ABCD":
        kind += f" {point.word_order}"
    if point.count > 1:
        kind += f" x {point.count}"
    if point.scale != 1 or point.offset:
        kind += f", value = raw * {_number(point.scale)}"
        if point.offset:
            kind += f" {'+' if point.offset > 0 else '-'} {_number(abs(point.offset))}"
    bits = "; ".join(f"bit {number} {name}" for number, name in sorted(point.bits.items()))
    retained = ", retained" if point.retained else ""
    return (
        f"{point.address}{last}",
        point.reference,
        f"`{point.name}`",
        kind,
        point.unit,
        point.range,
        point.access + retained,
        _value(point, point.initial),
        ". ".join(filter(None, (point.description, bits))),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (_words(str(cell).replace("\\", "\\\\").replace("|", "\\|")) for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _words(text: str) -> str:
    """On one line, as headings and cells must be."""
    return " ".join(text.split())


def _number(value: float | None) -> str:
    return "" if value is None else shown(value)


def _bare(point: Point, value: object) -> str:
    """As `_value`, without the unit, which has its own column; named bits as a number."""
    if value is not None and point.type == BITS:
        raw = values(point, value)
        value = raw if isinstance(value, list) else raw[0]
    return _value(replace(point, unit="", bits={}), value)


def _value(point: Point, value: object) -> str:
    """As a client reads it, for one element if all are alike."""
    if value is None:
        return ""
    if point.count > 1 and not isinstance(value, list):
        return Place(point, 0).format(Place(point, 0).decode(values(point, value)[: point.width]))
    return Place(point).format(Place(point).decode(values(point, value)))
