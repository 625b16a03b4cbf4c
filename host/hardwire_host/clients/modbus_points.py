"""Points of a device, by name or by number, read and written with as few requests as their addresses allow.

In: a ModbusClient and places of a hardwire_host.map. Out: values as the map's places have them. Never: a value that two
requests took apart, a read of an address that nobody asked for, a request for a value that is not valid.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import USAGE, HardwireError
from ..map.types import Place
from .modbus import (
    COIL,
    DISCRETE,
    HOLDING,
    INPUT,
    READ_BITS_MAX,
    READ_REGISTERS_MAX,
    WRITE_BITS_MAX,
    WRITE_REGISTERS_MAX,
    ModbusClient,
    Table,
    check_range,
)

# Tables as a map names them.
TABLES = {"coils": COIL, "discrete_inputs": DISCRETE, "holding_registers": HOLDING, "input_registers": INPUT}

_NUMBER = re.compile(r"(?P<digit>[0134])(?P<number>\d{4,5})(?::(?P<count>\d{1,5}))?")


@dataclass(frozen=True)
class Wanted:
    """A place, and what it was called when it was asked for; `orders`: the same under word orders to compare."""

    name: str
    place: Place
    orders: Mapping[str, Place] = field(default_factory=dict)

    @property
    def table(self) -> Table:
        return TABLES[self.place.table]

    @property
    def traditional(self) -> str:
        """The 1-based form of its first address."""
        return self.table.traditional(self.place.address)


@dataclass(frozen=True)
class Span:
    """What one request reads or writes: `count` values of `table` from 0-based `address`."""

    table: Table
    address: int
    count: int


def number(text: str) -> Span | None:
    """40001, 400001 or 40001:COUNT, COUNT values from there on; None for what is no such number.

    Raises:
        HardwireError: USAGE for a number of that form outside the table.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    table = next(table for table in TABLES.values() if table.digit == int(match["digit"]))
    first = int(match["number"])
    if not first:
        raise HardwireError(USAGE, f"{text}: the first {table.name} is {table.traditional(0)}")
    count = int(match["count"] or 1)
    check_range(first - 1, count)
    return Span(table, first - 1, count)


def plan(
    places: Iterable[Place], bits_max: int = READ_BITS_MAX, registers_max: int = READ_REGISTERS_MAX
) -> list[Span]:
    """The requests that read `places`: together where they adjoin, a value always in one of them."""
    values = sorted(
        (
            (TABLES[place.table], address, size)
            for place in places
            for address, size in _values(place, registers_max)
        ),
        key=lambda value: (value[0].digit, value[1]),
    )
    spans: list[Span] = []
    for table, address, size in values:
        last = spans[-1] if spans else None
        if last is not None and last.table is table and address <= last.address + last.count:
            count = max(last.count, address + size - last.address)
            if count <= (bits_max if table.bits else registers_max):
                spans[-1] = Span(table, last.address, count)
                continue
        spans.append(Span(table, address, size))
    return spans


def _values(place: Place, registers_max: int) -> Iterable[tuple[int, int]]:
    """(address, size) of each value that must not be torn. A string too long for any request is no such value."""
    size = place.point.width
    if size > registers_max:
        size = 1
    for address in range(place.address, place.address + place.size, size):
        yield address, size


@dataclass(frozen=True)
class Reading:
    """One point as read: `raw` as on the wire, `value` in the point's unit."""

    wanted: Wanted
    raw: list[int]
    value: Any


def read(client: ModbusClient, wanted: Sequence[Wanted]) -> list[Reading]:
    """All of `wanted`, in that order. Raises HardwireError as ModbusClient.read does."""
    seen: dict[tuple[str, int], int] = {}
    for span in plan(one.place for one in wanted):
        values = client.read(span.table, span.address, span.count)
        seen |= {(span.table.name, span.address + i): int(value) for i, value in enumerate(values)}
    readings = []
    for one in wanted:
        addresses = range(one.place.address, one.place.address + one.place.size)
        raw = [seen[one.table.name, address] for address in addresses]
        readings.append(Reading(one, raw, one.place.decode(raw)))
    return readings


@dataclass(frozen=True)
class Change:
    """A value for a point, known to be valid; `raw` as it goes over the wire."""

    wanted: Wanted
    value: Any
    raw: list[int]


def change(wanted: Wanted, text: str) -> Change:
    """What writing `text` to a point means.

    Raises:
        HardwireError: USAGE for a point that cannot be written, a value it cannot have or that is outside its limits.
    """
    place = wanted.place
    if not place.point.writable:
        raise HardwireError(USAGE, f"{wanted.name} is read-only")
    value = place.parse(text)
    return Change(wanted, value, place.encode(value))


def write(client: ModbusClient, one: Change) -> None:
    """Write one value: in one request, an array of more than a request holds in several."""
    place, table = one.wanted.place, one.wanted.table
    if place.bit is not None:
        client.write_bit(place.address, place.bit, bool(one.value))
        return
    for span in plan([place], WRITE_BITS_MAX, WRITE_REGISTERS_MAX):
        at = span.address - place.address
        client.write(table, span.address, one.raw[at : at + span.count])
