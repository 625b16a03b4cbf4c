"""`hardwire modbus bench`: how fast a server answers."""

from typing import TYPE_CHECKING

import click

from ..errors import FAILED, USAGE, HardwireError
from .common import Output, command
from .modbus_common import Device, Server, is_table, map_option, server_options, span_of

if TYPE_CHECKING:
    from ..clients.modbus_points import Span

REQUESTS = 1000


@command(
    target=True,
    examples=[
        "hardwire modbus bench",
        "hardwire modbus bench temperature --clients 4 --seconds 10",
        "hardwire modbus bench holding 0 125 --requests 5000 --json",
    ],
)
@click.argument("words", nargs=-1, metavar="[POINT... | TABLE ADDRESS [COUNT]]")
@click.option("--clients", type=click.IntRange(1, 8), default=1, metavar="N", help="Connections, 1 to 8 (1).")
@click.option("--requests", type=click.IntRange(1), metavar="N", help=f"Together so many ({REQUESTS}).")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), metavar="S", help="For so long instead.")
@map_option
@server_options
def bench(
    out: Output,
    words: tuple[str, ...],
    clients: int,
    requests: int | None,
    seconds: float | None,
    path: str | None,
    server: Server,
) -> None:
    """Read the same values again and again, holding register 0 if none are named, and show how long answers take.

    Points must fit in one request. Times are wall time on this PC: its own share, pymodbus and the network are in them.
    The device's own time is what `hardwire bench` measures.
    """
    from ..clients.modbus import HOLDING
    from ..clients.modbus_bench import run
    from ..clients.modbus_points import Span

    if requests is not None and seconds is not None:
        raise HardwireError(USAGE, "--requests and --seconds exclude each other")
    with Device(out, server, path) as device:
        span = _span(device, words) if words else Span(HOLDING, 0, 1)
    number = (requests or REQUESTS) if seconds is None else None
    result = run(lambda: server.connect(out), span, clients=clients, requests=number, seconds=seconds)
    if not result.times:
        errors = ", ".join(f"{count} x {kind}" for kind, count in result.errors.items())
        raise HardwireError(FAILED, f"no request was answered with data: {errors or 'none was sent'}")
    data = {
        "table": span.table.name,
        "address": span.address,
        "count": span.count,
        "clients": clients,
        "requests": len(result.times) + result.errors.total(),
        "seconds": round(result.seconds, 3),
        "per_second": round(len(result.times) / result.seconds, 1),
        "ms": {
            "p50": round(result.percentile(50), 3),
            "p99": round(result.percentile(99), 3),
            "max": round(result.times[-1], 3),
        },
        "errors": dict(result.errors),
        "clock": "wall time on this PC",
    }
    out.result(data, *_lines(data))


def _span(device: Device, words: tuple[str, ...]) -> "Span":
    from ..clients.modbus_points import plan

    if is_table(words[0]):
        return span_of(words)
    spans = plan(one.place for one in device.find(words))
    if len(spans) > 1:
        raise HardwireError(
            USAGE, f"these points take {len(spans)} requests", "name points that fit in one request"
        )
    return spans[0]


def _lines(data: dict) -> list[str]:
    rows = [
        ("each request", f"{data['count']} x {data['table']} {data['address']}"),
        ("clients", data["clients"]),
        ("answered", f"{data['requests'] - sum(data['errors'].values())} in {data['seconds']:g} s"),
        ("rate", f"{data['per_second']:g} per second"),
        *((name, f"{value:.3f} ms") for name, value in data["ms"].items()),
        ("errors", ", ".join(f"{count} x {kind}" for kind, count in data["errors"].items()) or "none"),
        ("clock", data["clock"]),
    ]
    return [f"{name:<14} {value}" for name, value in rows]
