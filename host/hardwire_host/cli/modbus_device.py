"""`hardwire modbus identify|diag|map`: what a server tells about itself."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import MODBUS, HardwireError
from .common import Output, command
from .modbus_common import Device, Server, server_options, shown

if TYPE_CHECKING:
    from ..clients.modbus import ModbusClient

WIDTH = 20  # of the names


def _line(name: str, value: object) -> str:
    return shown(f"{name:<{WIDTH}} {value}").rstrip()


@command(
    target=True,
    examples=["hardwire modbus identify", "hardwire modbus identify --host 192.168.77.20:502 --json"],
)
@server_options
def identify(out: Output, server: Server) -> None:
    """Ask the server what it is: device identification, functions 2B/0E, and its server id, function 11.

    A server without identification is read instead: which tables answer, and whether its input registers are those of
    the hardwire app.
    """
    from ..clients.modbus_diagnostics import Diagnostics

    with server.connect(out) as client:
        data: dict = {"objects": None}
        try:
            data["objects"] = client.identify()
        except HardwireError as refused:
            if refused.code != MODBUS:
                raise
            out.note(f"no device identification: {refused.message}")
            data |= refused.data
            if (found := _by_reading(client)) is None:
                raise
            data |= found
        data["server_id"] = known = Diagnostics(client).server_id()
    lines = [_line(name, value) for name, value in (data["objects"] or {}).items()]
    if data["objects"] is None:
        app = data["app"]
        lines = [
            _line("tables that answer", ", ".join(data["tables"])),
            _line("input registers", f"hardwire {app['version']}" if app else "not those of hardwire"),
        ]
        if app:
            lines.append(_line("chip", f"W5500, version register 0x{app['chip_version']:02X}"))
            lines.append(_line("up", f"{app['uptime_s']} s, {app['requests']} requests"))
    if known:
        words = [known["text"].strip(), f"id {known['id']}" if known["id"] else ""]
        if known["running"] is not None:
            words.append("runs" if known["running"] else "does not run")
        lines.append(_line("server_id", ", ".join(word for word in words if word)))
    out.result(data, *lines)


def _by_reading(client: "ModbusClient") -> dict | None:
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
    if not tables:
        return None
    app = client.app() if "input" in tables else None
    return {"tables": tables, "app": asdict(app) if app else None}


@command(target=True, examples=["hardwire modbus diag", "hardwire modbus diag --clear --json"])
@click.option("--clear", is_flag=True, help="Then set the counters to 0.")
@server_options
def diag(out: Output, clear: bool, server: Server) -> None:
    """Show what the server counts and logs: functions 07, 08, 0B and 0C. What it does not offer is said, no error."""
    from ..clients.modbus_diagnostics import Diagnostics

    with server.connect(out) as client:
        diagnostics = Diagnostics(client)
        data = {
            "exception_status": diagnostics.exception_status(),
            "counters": diagnostics.counters(),
            "event_counter": diagnostics.event_counter(),
            "event_log": diagnostics.event_log(),
        }
        if clear:
            diagnostics.clear_counters()
        elif diagnostics.refusal and all(value is None for value in data.values()):
            diagnostics.refusal.hint = "this server offers none of 07, 08, 0B and 0C"
            raise diagnostics.refusal
    out.result(data | {"cleared": clear}, *_diagnosis(data))
    if clear:
        out.note("counters cleared")


def _diagnosis(data: dict) -> list[str]:
    missing = "not offered"
    status = data["exception_status"]
    lines = [_line("exception status", missing if status is None else f"0x{status:02X} {status:08b}")]
    if data["counters"] is None:
        lines.append(_line("counters", missing))
    for name, value in (data["counters"] or {}).items():
        lines.append(_line(name.replace("_", " "), missing if value is None else value))
    counter, log = data["event_counter"], data["event_log"]
    words = missing if counter is None else f"{counter['events']}{', busy' if counter['busy'] else ''}"
    lines.append(_line("event counter", words))
    if log is None:
        return [*lines, _line("event log", missing)]
    lines.append(_line("event log", f"{log['events']} events, {log['messages']} messages; newest first:"))
    return lines + [f"  {count:>3} x {words}" for words, count in _exchanges(log["log"])]


def _exchanges(log: list[dict]) -> Iterator[tuple[str, int]]:
    """A log, newest entry first, as exchanges in words, and how often each came one after the other."""
    from ..clients.modbus_diagnostics import RECEIVE

    exchanges, parts = [], []
    for one in log:
        parts.insert(0, one["means"])
        if one["entry"] & RECEIVE:  # an exchange begins with that
            exchanges.append(", ".join(parts))
            parts = []
    if parts:
        exchanges.append(", ".join(parts))
    for words, group in itertools.groupby(exchanges):
        yield words, sum(1 for _ in group)


@command(
    target=True,
    examples=[
        "hardwire modbus map",
        "hardwire modbus map -o press.toml",
        "hardwire modbus map --markdown -o press.md",
    ],
)
@click.option("-o", "--output", metavar="FILE", help="Write there, not to stdout.")
@click.option(
    "--toml", "form", flag_value="toml", default="toml", help="The map as it was written (default)."
)
@click.option("--markdown", "form", flag_value="markdown", help="As a page for people.")
@click.option("--csv", "form", flag_value="csv", help="As a table for other tools.")
@server_options
def map_(out: Output, output: str | None, form: str, server: Server) -> None:
    """Fetch the map that the board gives of itself (function 14, file 1)."""
    from ..map import documents

    with Device(out, server) as device:
        found = device.map
    write = {"toml": lambda map_: map_.text, "markdown": documents.markdown, "csv": documents.csv}[form]
    text = write(found)
    data = {"points": len(found.points), "format": form, "file": output}
    if output is None:
        out.result(data | {"text": text}, text.rstrip("\n"))
        return
    Path(output).write_text(text, encoding="utf-8", newline="")
    out.note(f"{output}: {len(found.points)} points")
    out.result(data)
