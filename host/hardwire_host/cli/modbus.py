"""`hardwire modbus read|write|identify`: the words of the command line to and from clients.modbus."""

from typing import TYPE_CHECKING

import click

from ..errors import MODBUS, USAGE, HardwireError
from ..target import NETWORK
from .common import Output, command

if TYPE_CHECKING:
    from ..clients.modbus import ModbusClient, Table

_ON_OFF = {"on": 1, "true": 1, "off": 0, "false": 0}


def _number(text: str, what: str = "number") -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise HardwireError(USAGE, f"{text!r} is no {what}", "decimal, or hexadecimal with 0x") from None


def _table(text: str) -> "Table":
    from ..clients.modbus import TABLES

    try:
        return TABLES[text.lower()]
    except KeyError:
        raise HardwireError(
            USAGE, f"there is no table {text!r}", "coil, discrete, input or holding"
        ) from None


def _value(text: str, table: "Table") -> int:
    if table.bits and text.lower() in _ON_OFF:
        return _ON_OFF[text.lower()]
    value = _number(text, "value")
    if not table.bits and -0x8000 <= value < 0:
        return value + 0x10000  # two's complement, as in a register
    return value


def _connect(out: Output, unit: int, timeout: float) -> "ModbusClient":
    from ..clients.modbus import ModbusClient

    return ModbusClient(*out.find(NETWORK).endpoint("modbus"), unit=unit, timeout=timeout)


def _server_options(function):
    function = click.option(
        "--timeout",
        type=click.FloatRange(0.01, 3600),
        default=3.0,
        metavar="S",
        help="Longest wait for an answer (3).",
    )(function)
    return click.option(
        "--unit", type=click.IntRange(0, 255), default=1, metavar="N", help="Unit identifier (1)."
    )(function)


def _signed(value: int) -> int:
    return value - 0x10000 if value & 0x8000 else value


@command(
    target=True,
    examples=[
        "hardwire modbus read holding 0 10",
        "hardwire modbus read coils 0 16 --host 192.168.77.20",
        "hardwire modbus read input 0x0A --json",
    ],
)
@click.argument("table")
@click.argument("address")
@click.argument("count", default="1")
@_server_options
def read(out: Output, table: str, address: str, count: str, unit: int, timeout: float) -> None:
    """Read COUNT values (1) of TABLE from the 0-based ADDRESS.

    TABLE is coil, discrete, input or holding, or its first letter, or 0x 1x 3x 4x. Numbers are decimal or 0x.
    """
    from ..clients.modbus import check_range

    which, start, number = _table(table), _number(address, "address"), _number(count, "count")
    check_range(start, number)
    with _connect(out, unit, timeout) as client:
        values = client.read(which, start, number)
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


@command(
    target=True,
    context_settings={"ignore_unknown_options": True},  # -5 is a value
    examples=[
        "hardwire modbus write coil 0 on",
        "hardwire modbus write holding 10 1 2 0xFF -5",
        "hardwire modbus write holding 0 1234 --host 192.168.77.20 --unit 1",
    ],
)
@click.argument("table")
@click.argument("address")
@click.argument("values", nargs=-1, required=True, metavar="VALUE...")
@_server_options
def write(out: Output, table: str, address: str, values: tuple[str, ...], unit: int, timeout: float) -> None:
    """Write each VALUE to TABLE (coil or holding) from the 0-based ADDRESS, in one request.

    Coils take on, off, 1, 0; registers -32768 to 65535, decimal or 0x.
    """
    which, start = _table(table), _number(address, "address")
    numbers = [_value(text, which) for text in values]
    with _connect(out, unit, timeout) as client:
        client.write(which, start, numbers)
    last = start + len(numbers) - 1
    span = which.traditional(start) + (f" to {which.traditional(last)}" if last > start else "")
    out.note(f"written: {len(numbers)} x {which.name} {start} ({span})")
    out.result(
        {"table": which.name, "address": start, "traditional": which.traditional(start), "values": numbers}
    )


@command(
    target=True,
    examples=["hardwire modbus identify", "hardwire modbus identify --host 192.168.77.20:502 --json"],
)
@_server_options
def identify(out: Output, unit: int, timeout: float) -> None:
    """Ask the server what it is: device identification, FC 2B/0E.

    A server without it is read instead: which tables answer, and whether its input registers are those of the
    hardwire app.
    """
    with _connect(out, unit, timeout) as client:
        try:
            objects = client.identify()
        except HardwireError as refused:
            if refused.code != MODBUS:
                raise
            out.note(f"no device identification: {refused.message}")
            found = _by_reading(client)
            if not found["tables"]:
                raise
            data = {"objects": None, **refused.data, **found}
        else:
            data = {"objects": objects}
    lines = [f"{name:<20} {value}" for name, value in (data["objects"] or {}).items()]
    if data["objects"] is None:
        app = data["app"]
        lines = [
            f"{'tables that answer':<20} {', '.join(data['tables'])}",
            f"{'input registers':<20} {'hardwire ' + app['version'] if app else 'not those of hardwire'}",
        ]
        if app:
            lines.append(f"{'chip':<20} W5500, version register 0x{app['chip_version']:02X}")
            lines.append(f"{'up':<20} {app['uptime_s']} s, {app['requests']} requests")
    out.result(data, *lines)


def _by_reading(client: "ModbusClient") -> dict:
    from dataclasses import asdict

    from ..clients.modbus import COIL, DISCRETE, HOLDING, INPUT

    tables = []
    for table in (COIL, DISCRETE, INPUT, HOLDING):
        try:
            client.read(table, 0, 1)
            tables.append(table.name)
        except HardwireError as refused:
            if refused.code != MODBUS:
                raise
    app = client.app() if "input" in tables else None
    return {"tables": tables, "app": asdict(app) if app else None}
