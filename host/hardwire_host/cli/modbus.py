"""`hardwire modbus read|write`: by table and address, or by points' names and numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import USAGE, HardwireError
from .common import Output, command
from .modbus_common import (
    ALL,
    Device,
    Form,
    Server,
    form_options,
    integer,
    is_table,
    map_option,
    plain,
    server_options,
    shown,
    span_of,
    table_of,
)

if TYPE_CHECKING:
    from ..clients.modbus import Table
    from ..clients.modbus_points import Reading, Span, Wanted

_ON_OFF = {"on": 1, "true": 1, "off": 0, "false": 0}


def _value(text: str, table: "Table") -> int:
    if table.bits and text.lower() in _ON_OFF:
        return _ON_OFF[text.lower()]
    value = integer(text, "value")
    if not table.bits and -0x8000 <= value < 0:
        return value + 0x10000  # two's complement, as in a register
    return value


def _signed(value: int) -> int:
    return value - 0x10000 if value & 0x8000 else value


@command(
    target=True,
    examples=[
        "hardwire modbus read temperature pressure",
        "hardwire modbus read 40001 400101:2 --type float32 --order all",
        "hardwire modbus read holding 0 10",
        "hardwire modbus read coils 0 16 --host 192.168.77.20",
        "hardwire modbus read input 0x0A --json",
    ],
)
@click.argument("words", nargs=-1, metavar="[POINT... | TABLE ADDRESS [COUNT]]")
@form_options
@map_option
@server_options
def read(out: Output, words: tuple[str, ...], form: Form, path: str | None, server: Server) -> None:
    """Read points, or COUNT values (1) of TABLE from the 0-based ADDRESS. Without arguments: all points of the map.

    POINT is a name of the device's map (`valves[3]`, `status.running` for parts), or a 1-based number that starts with
    its table's digit, 0 coils, 1 discrete inputs, 3 input and 4 holding registers, of 5 or 6 digits: 40001,
    400101:2 for two values. The map is the one that the board gives, or --map.

    TABLE is coil, discrete, input or holding, or its first letter, or 0x 1x 3x 4x. Numbers are decimal or 0x.
    """
    if words and is_table(words[0]):
        span = span_of(words)
        if form.given:
            wanted = [_numbered(form, span)]
            with Device(out, server) as device:
                _show_points(out, form, _read(device, wanted))
        else:
            _read_table(out, server, span)
        return
    with Device(out, server, path, form) as device:
        _show_points(out, form, _read(device, device.find(words)))


def _numbered(form: Form, span: "Span") -> "Wanted":
    if span.table.bits:
        raise HardwireError(USAGE, f"a {span.table.name} is one bit: it has no type, order or scale")
    name = span.table.traditional(span.address) + (f":{span.count}" if span.count > 1 else "")
    return form.wanted(name, span)


def _read(device: Device, wanted: Sequence["Wanted"]) -> list["Reading"]:
    from ..clients.modbus_points import read

    return read(device.client, wanted)


def _read_table(out: Output, server: Server, span: "Span") -> None:
    which, start = span.table, span.address
    with server.connect(out) as client:
        values = client.read(which, start, span.count)
    data = {"table": which.name, "address": start, "traditional": which.traditional(start), "values": values}
    if out.json:
        out.result(data | {"values": [int(value) for value in values]})
        return
    from rich.table import Table as Sheet

    sheet = Sheet("address", which.traditional(0)[0] + "xxxx", box=None, pad_edge=False)
    columns = ("value",) if which.bits else ("value", "signed", "hex")
    for title in columns:
        sheet.add_column(title, justify="right", style="bold" if title == "value" else None)
    for offset, value in enumerate(values):
        cells = [str(int(value))] if which.bits else [str(value), str(_signed(value)), f"0x{value:04X}"]
        sheet.add_row(str(start + offset), which.traditional(start + offset), *cells)
    out.result(data, sheet)


def _show_points(out: Output, form: Form, readings: Sequence["Reading"]) -> None:
    from rich.table import Table as Sheet

    sheet = Sheet("point", "table", "address", "number", box=None, pad_edge=False)
    for title in form.orders if form.order == ALL else ("value",):
        sheet.add_column(title, style="bold")
    points = []
    for one in readings:
        place, table = one.wanted.place, one.wanted.table
        point = {
            "name": one.wanted.name,
            "table": table.name,
            "address": place.address,
            "traditional": one.wanted.traditional,
            "raw": one.raw,
            "value": plain(one.value),
            "unit": place.point.unit,
        }
        cells = [shown(place.format(one.value))]
        if one.wanted.orders:
            values = {order: other.decode(one.raw) for order, other in one.wanted.orders.items()}
            point["orders"] = plain(values)
            cells = [shown(other.format(values[order])) for order, other in one.wanted.orders.items()]
        points.append(point)
        sheet.add_row(one.wanted.name, table.name, str(place.address), one.wanted.traditional, *cells)
    out.result({"points": points}, sheet)


@command(
    target=True,
    context_settings={"ignore_unknown_options": True},  # -5 is a value
    examples=[
        "hardwire modbus write setpoint=21.5 pump=on",
        "hardwire modbus write 40011=5 400101=21.5 --type float32 --order CDAB",
        "hardwire modbus write coil 0 on",
        "hardwire modbus write holding 10 1 2 0xFF -5",
    ],
)
@click.argument("words", nargs=-1, required=True, metavar="POINT=VALUE... | TABLE ADDRESS VALUE...")
@form_options
@map_option
@server_options
def write(out: Output, words: tuple[str, ...], form: Form, path: str | None, server: Server) -> None:
    """Write points, one request each in the order given; or each VALUE to TABLE from the 0-based ADDRESS, in one.

    POINT is a name of the device's map, or a 1-based number of a coil (0xxxx) or holding register (4xxxx), as for
    `read`. A VALUE is in the point's unit; several are written with commas between. All are checked before the first
    is sent: type, limits, whether the point can be written. One named bit of a register changes alone.

    TABLE is coil or holding. Coils take on, off, 1, 0; registers -32768 to 65535, decimal or 0x, or as --type says.
    """
    if form.order == ALL:
        raise HardwireError(USAGE, "--order all compares what is read; a write has one order")
    if is_table(words[0]):
        if len(words) < 3:
            raise HardwireError(
                USAGE, f"after {words[0]} come ADDRESS and VALUE", "hardwire modbus write --help"
            )
        if not form.given:
            _write_table(out, server, table_of(words[0]), integer(words[1], "address"), words[2:])
            return
        span = span_of((*words[:2], str(len(words) - 2)))
        assignments = [(_numbered(form, span), ",".join(words[2:]))]
        with Device(out, server) as device:
            _write_points(out, device, assignments)
        return
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not equals:
            raise HardwireError(USAGE, f"{name!r}: POINT=VALUE is needed", "hardwire modbus write --help")
    with Device(out, server, path, form) as device:
        wanted = device.find([name for name, _, _ in pairs])
        _write_points(out, device, list(zip(wanted, (text for _, _, text in pairs), strict=True)))


def _write_points(out: Output, device: Device, assignments: Sequence[tuple["Wanted", str]]) -> None:
    from ..clients.modbus_points import change, write

    changes = [change(wanted, text) for wanted, text in assignments]
    written = []
    for one in changes:
        wanted = one.wanted
        try:
            write(device.client, one)
        except HardwireError as error:
            error.data["written"] = written
            if written:
                out.note(f"written before that: {', '.join(point['name'] for point in written)}")
            raise
        written.append(
            {
                "name": wanted.name,
                "table": wanted.table.name,
                "address": wanted.place.address,
                "traditional": wanted.traditional,
                "raw": one.raw,
                "value": plain(one.value),
            }
        )
        out.note(f"written: {wanted.name} = {wanted.place.format(one.value)}")
    out.result({"points": written})


def _write_table(out: Output, server: Server, which: "Table", start: int, texts: Sequence[str]) -> None:
    numbers = [_value(text, which) for text in texts]
    with server.connect(out) as client:
        client.write(which, start, numbers)
    last = start + len(numbers) - 1
    span = which.traditional(start) + (f" to {which.traditional(last)}" if last > start else "")
    out.note(f"written: {len(numbers)} x {which.name} {start} ({span})")
    out.result(
        {"table": which.name, "address": start, "traditional": which.traditional(start), "values": numbers}
    )
