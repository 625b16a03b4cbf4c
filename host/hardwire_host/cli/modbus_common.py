"""What the `hardwire modbus` commands share: the options of a connection, points as they are typed, the map.

In: words of the command line. Out: connections, places, HardwireError(USAGE) for what cannot be meant. Never: a map
that is fetched twice in one run, a connection before the words are known to make sense without one.
"""

import functools
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import click

from ..errors import USAGE, HardwireError
from ..map.types import BIT, BITS, FORMATS, ORDERS, REGISTER_BITS, STRING, Place
from ..target import NETWORK
from .common import Output
from .map import load

if TYPE_CHECKING:
    from ..clients.modbus import ModbusClient, Table
    from ..clients.modbus_points import Span, Wanted
    from ..map.model import Map

TIMEOUT_S = 3.0
ALL = "all"  # word orders
STRING_MAX = 2 * 65536  # bytes in a table


_INTEGER = re.compile(r"\d+|0[xX][0-9a-fA-F]+")


@dataclass(frozen=True)
class Server:
    """How to talk to the server: unit, longest wait in seconds, and whether requests and replies are shown."""

    unit: int
    timeout: float
    trace: bool

    def connect(self, out: Output) -> "ModbusClient":
        """A connection to the board that is meant. Raises HardwireError."""
        from ..clients.modbus import ModbusClient

        target = out.target or out.find(NETWORK)
        return ModbusClient(
            *target.endpoint("modbus"), self.unit, self.timeout, trace if self.trace else None
        )


def trace(sent: bool, data: bytes) -> None:
    """One line on stderr: the bytes of an ADU as they went."""
    print(f"{'->' if sent else '<-'} {data.hex(' ').upper()}", file=sys.stderr, flush=True)


trace_option = click.option(
    "--hex", "trace", is_flag=True, help="Show requests and replies, byte by byte, on stderr."
)


def server_options(function: Callable) -> Callable:
    """Options of a connection; `function` gets them as `server`."""

    @functools.wraps(function)
    def call(*arguments: Any, unit: int, timeout: float, trace: bool, **others: Any) -> Any:
        return function(*arguments, server=Server(unit, timeout, trace), **others)

    for option in (
        click.option(
            "--hex", "trace", is_flag=True, help="Show requests and replies, byte by byte, on stderr."
        ),
        timeout_option(TIMEOUT_S),
        click.option(
            "--unit", type=click.IntRange(0, 255), default=1, metavar="N", help="Unit identifier (1)."
        ),
    ):
        call = option(call)
    return call


def timeout_option(default: float) -> Callable:
    """--timeout with `default` seconds."""
    return click.option(
        "--timeout",
        type=click.FloatRange(0.01, 3600),
        default=default,
        metavar="S",
        help=f"Longest wait for an answer ({default:g}).",
    )


def integer(text: str, what: str = "number") -> int:
    """Decimal, or hexadecimal with 0x. Raises HardwireError(USAGE)."""
    try:
        return int(text, 0)
    except ValueError:
        raise HardwireError(USAGE, f"{text!r} is no {what}", "decimal, or hexadecimal with 0x") from None


def table_of(text: str) -> "Table":
    """The table that `text` names. Raises HardwireError(USAGE)."""
    from ..clients.modbus import TABLES

    try:
        return TABLES[text.lower()]
    except KeyError:
        raise HardwireError(
            USAGE, f"there is no table {text!r}", "coil, discrete, input or holding"
        ) from None


def is_table(text: str) -> bool:
    """Whether `text` names a table: then it is the older form, TABLE ADDRESS."""
    from ..clients.modbus import TABLES

    return text.lower() in TABLES


def span_of(words: Sequence[str]) -> "Span":
    """TABLE ADDRESS [COUNT]. Raises HardwireError(USAGE)."""
    from ..clients.modbus import check_range
    from ..clients.modbus_points import Span

    if not 2 <= len(words) <= 3:
        raise HardwireError(USAGE, f"{words[0]} is a table: ADDRESS and perhaps COUNT come after it")
    table, start = table_of(words[0]), integer(words[1], "address")
    count = integer(words[2], "count") if len(words) == 3 else 1
    check_range(start, count)
    return Span(table, start, count)


@dataclass(frozen=True)
class Form:
    """What points given by number hold. None and "" stand for what was not said."""

    type: str | None
    order: str | None
    scale: float | None

    @property
    def given(self) -> bool:
        return self != Form(None, None, None)

    @property
    def orders(self) -> Sequence[str]:
        """The word orders to show: one, or all."""
        return ORDERS if self.order == ALL else (self.order or ORDERS[0],)

    def wanted(self, name: str, span: "Span") -> "Wanted":
        """`span.count` values of this form from its address on. Raises HardwireError(USAGE)."""
        from ..clients.modbus_points import Wanted

        places = {order: self._place(span, order) for order in self.orders}
        return Wanted(name, next(iter(places.values())), places if self.order == ALL else {})

    def _place(self, span: "Span", order: str) -> Place:
        from ..clients.modbus import check_range
        from ..clients.modbus_points import TABLES
        from ..map.model import Point

        section = next(name for name, one in TABLES.items() if one is span.table)
        kind, _, length = (self.type or "uint16").partition(":")
        point = Point(
            f"{span.table.name}_{span.address}",
            section,
            span.address,
            BIT if span.table.bits else kind,
            span.count,
            int(length or 0),
            {bit: f"bit{bit}" for bit in range(REGISTER_BITS)} if kind == BITS else {},
            order,
            1.0 if self.scale is None else self.scale,
        )
        check_range(point.address, point.width * point.count)
        return Place(point)


def form_options(function: Callable) -> Callable:
    """--type, --order and --scale; `function` gets them as `form`."""

    @functools.wraps(function)
    def call(
        *arguments: Any, type_: str | None, order: str | None, scale: float | None, **others: Any
    ) -> Any:
        return function(*arguments, form=Form(type_, order, scale), **others)

    for option in (
        click.option(
            "--scale", type=float, callback=_scale, metavar="X", help="Of numbers: value = register * X."
        ),
        click.option(
            "--order",
            type=click.Choice((*ORDERS, ALL)),
            help="Of numbers: order of the bytes; all to compare.",
        ),
        click.option(
            "--type",
            "type_",
            callback=_type,
            metavar="TYPE",
            help=f"Of numbers: {' '.join(FORMATS)} string:BYTES.",
        ),
    ):
        call = option(call)
    return call


def _type(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or value in FORMATS:
        return value
    kind, _, length = value.partition(":")
    if kind != STRING or not length.isdecimal() or not 1 <= int(length) <= STRING_MAX:
        raise click.BadParameter(f"{value!r} is none of {', '.join(FORMATS)}, string:BYTES")
    return value


def _scale(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (value and math.isfinite(value)):
        raise click.BadParameter(f"{value:g} makes no value of a register")
    return value


map_option = click.option(
    "--map", "path", metavar="FILE", help="Names from this map (TOML or map.bin), not from the board."
)


class Device:
    """The server of one command: connected when it is first needed, its map fetched at most once."""

    def __init__(
        self, out: Output, server: Server, path: str | None = None, form: Form | None = None
    ) -> None:
        self._out = out
        self._server = server
        self._path = path
        self._form = form or Form(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    @functools.cached_property
    def client(self) -> "ModbusClient":
        """Raises HardwireError."""
        return self._server.connect(self._out)

    def disconnect(self) -> None:
        """Close the connection; `client` makes another."""
        client = self.__dict__.pop("client", None)
        if client is not None:
            client.close()

    @functools.cached_property
    def map(self) -> "Map":
        """Of the file, else of the board. Raises HardwireError."""
        if self._path is not None:
            return load(self._path)
        from ..clients.modbus_map import fetch
        from ..map.build import read

        return read(fetch(self.client), f"the map of {self.client.name}")

    def find(self, words: Sequence[str]) -> list["Wanted"]:
        """The points that `words` mean, all of the map if there are none. Raises HardwireError(USAGE)."""
        from ..clients.modbus_points import Wanted, number

        spans = {word: number(word) for word in words}
        for word in words:
            if _INTEGER.fullmatch(word) and spans[word] is None:
                if word != words[0]:
                    table_of(words[0])  # that was meant
                raise HardwireError(USAGE, f"{word} is no point", "the first holding register is 40001")
        found = []
        registers = 0  # by number
        for word in words or self.map.points:
            span = spans.get(word)
            registers += span is not None and not span.table.bits
            found.append(self._form.wanted(word, span) if span else Wanted(word, self.map.find(word)))
        if not found:
            raise HardwireError(USAGE, "the map has no points", "hardwire modbus map")
        if self._form.given and not registers:
            raise HardwireError(
                USAGE,
                "--type, --order and --scale are for registers given by number",
                "names have theirs in the map",
            )
        return found

    def find_each(self, words: Sequence[str]) -> list["Wanted"]:
        """As `find`; or TABLE ADDRESS [COUNT], then each value is a point. Raises HardwireError(USAGE)."""
        from ..clients.modbus_points import Span

        if not words or not is_table(words[0]):
            return self.find(words)
        span = span_of(words)
        step = self._form.wanted(words[0], Span(span.table, span.address, 1)).place.size
        addresses = [span.address + step * i for i in range(span.count)]
        return [self._form.wanted(span.table.traditional(at), Span(span.table, at, 1)) for at in addresses]


def shown(text: str) -> str:
    """What a server sent, as a terminal may have it: no escape sequences."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain(value: Any) -> Any:
    """`value` as JSON can carry it: of floats it knows no infinities and no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value
