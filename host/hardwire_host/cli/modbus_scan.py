"""`hardwire modbus scan`: what answers on a server that nobody described."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..errors import FAILED, USAGE, HardwireError
from .common import Output, command
from .modbus_common import Server, integer, shown, timeout_option, trace_option

if TYPE_CHECKING:
    from ..clients.modbus import ModbusClient
    from ..clients.modbus_scan import Answer

TIMEOUT_S = 0.5  # for each unit that is silent
UNITS = "1-247"  # those of a serial line (AP 4.1)
ADDRESSES = "0-999"
UNITS_MAX, ADDRESSES_MAX = 255, 65535
EXAMINED = 8  # more units than these are one device that answers to any number: the first stands for all


def _pairs(text: str, what: str, highest: int) -> list[tuple[int, int]]:
    """1-3,7 -> [(1, 3), (7, 7)]. Raises HardwireError(USAGE)."""
    found = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first = integer(low, what)
        last = integer(high, what) if dash else first
        if not 0 <= first <= last <= highest:
            raise HardwireError(USAGE, f"{part!r} is no {what}", f"0 to {highest}, as 1-5,9")
        found.append((first, last))
    return found


def _spans(numbers: Iterable[int]) -> str:
    """[1, 2, 3, 7] -> 1-3,7"""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)


@contextlib.contextmanager
def _progress(out: Output) -> Iterator[Callable[[str], None]]:
    """Shows one line on a terminal's stderr, nothing elsewhere."""
    if out.json:
        yield lambda text: None
        return
    with out.console(sys.stderr).status("") as status:
        yield status.update


@command(
    target=True,
    examples=[
        "hardwire modbus scan",
        "hardwire modbus scan --units 1 --tables --addresses 0-4999",
        "hardwire modbus scan --units 1-5,17 --timeout 1 --json",
    ],
)
@click.option("--units", default=UNITS, metavar="LIST", help=f"Unit identifiers to try ({UNITS}).")
@click.option("--tables", is_flag=True, help="Find the addresses that can be read, too.")
@click.option(
    "--addresses", default=ADDRESSES, metavar="LIST", help=f"For that: where to look ({ADDRESSES})."
)
@timeout_option(TIMEOUT_S)
@trace_option
def scan(out: Output, units: str, tables: bool, addresses: str, timeout: float, trace: bool) -> None:
    """Find out which units answer, which functions they have, who they say they are, and what can be read.

    It only reads: functions that write are not tried. An exception is an answer, too, but for a gateway's 0A and 0B.
    """
    from ..clients.modbus_scan import units as scan_units

    numbers = sorted(
        {unit for first, last in _pairs(units, "unit", UNITS_MAX) for unit in range(first, last + 1)}
    )
    where = _pairs(addresses, "address", ADDRESSES_MAX) if tables else []

    devices = []
    with _progress(out) as tell, Server(numbers[0], timeout, trace).connect(out) as client:
        found = scan_units(client, numbers, tell)
        if not found:
            raise HardwireError(
                FAILED, f"none of {len(numbers)} units answers within {timeout:g} s", "--timeout, --units"
            )
        for unit in list(found) if len(found) <= EXAMINED else list(found)[:1]:
            client.unit = unit
            devices.append({"unit": unit} | _examine(client, where, tell))
    data = {
        "units": {str(unit): str(answer) for unit, answer in found.items()},
        "tried": len(numbers),
        "devices": devices,
    }
    out.result(data, *_lines(found, devices))


def _examine(client: "ModbusClient", where: list[tuple[int, int]], tell: Callable[[str], None]) -> dict:
    from ..clients.modbus import COIL, DISCRETE, HOLDING, INPUT
    from ..clients.modbus_scan import FUNCTIONS, IDENTIFICATION, Answer, functions, ranges

    answers = functions(client, tell)
    device: dict = {
        "functions": [
            {"code": code, "name": name, "supported": answers[code].supported, "answer": str(answers[code])}
            for code, name, _, _ in FUNCTIONS
        ]
    }
    client.connect()  # the last of them may have ended the connection
    device["objects"] = client.identify() if answers[IDENTIFICATION] == Answer() else None
    if where:
        device["ranges"] = {
            table.name: [span for first, last in where for span in ranges(client, table, first, last, tell)]
            for table in (COIL, DISCRETE, HOLDING, INPUT)
        }
    return device


def _lines(found: dict[int, "Answer"], devices: list[dict]) -> list[str]:
    kinds = sorted({str(answer) for answer in found.values()})
    lines = [
        f"units {_spans(unit for unit in found if str(found[unit]) == words)}: {words}" for words in kinds
    ]
    if len(devices) < len(found):
        lines.append(
            f"so many units are one device, most likely; unit {devices[0]['unit']} is looked at (--units)"
        )
    for device in devices:
        lines.append(f"unit {device['unit']}")
        lines += [f"  {name:<18} {shown(value)}" for name, value in (device["objects"] or {}).items()]
        lines += [f"  {one['code']:02X} {one['name']:<28} {one['answer']}" for one in device["functions"]]
        for table, spans in device.get("ranges", {}).items():
            text = ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in spans)
            lines.append(f"  {table:<8} {text or 'none'}")
    return lines
