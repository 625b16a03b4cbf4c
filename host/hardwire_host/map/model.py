"""The map of a device as its TOML file describes it: points, files, queues, identification.

In: TOML text. Out: a `Map`, or a MapError with everything that is wrong. Never: bytes for the board: see build.py.
"""

import difflib
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import USAGE, HardwireError
from .types import BIT, FLOATS, REGISTER_BITS, STRING, Place, shown, single, tidy

TABLES = ("coils", "discrete_inputs", "holding_registers", "input_registers")
BIT_TABLES = TABLES[:2]
CLIENT_WRITES = ("coils", "holding_registers")
DIGITS = {"coils": 0, "discrete_inputs": 1, "input_registers": 3, "holding_registers": 4}

READ_WRITE, READ_ONLY = "read-write", "read-only"
WRITES, REQUESTS = "writes", "requests"

# Objects of the device identification (MODBUS Application Protocol V1.1b3, 6.21)
OBJECTS = (
    "vendor_name",
    "product_code",
    "revision",
    "vendor_url",
    "product_name",
    "model_name",
    "user_application_name",
)


class MapError(HardwireError):
    """A map that cannot be used. problems: every one, a line each."""

    def __init__(self, origin: str, problems: list[str]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(
            USAGE,
            f"{origin}: {problems[0]}{more}",
            "hardwire map check" if more else "",
            {"problems": problems},
        )
        self.problems = problems


@dataclass(frozen=True)
class Point:
    """A value of the device, or `count` of them; the fields are the keys of the TOML file.

    length: bytes of a string. bits: names by bit number. Values in `min`, `max`, `initial` and `safe` are scaled ones.
    """

    name: str
    table: str
    address: int
    type: str
    count: int = 1
    length: int = 0
    bits: dict[int, str] = field(default_factory=dict)
    word_order: str = "ABCD"
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    min: float | None = None
    max: float | None = None
    access: str = READ_WRITE
    initial: Any = None
    retained: bool = False
    safe: Any = None
    description: str = ""

    @property
    def width(self) -> int:
        """Registers, or bits of a bit table, of one value."""
        if self.type == BIT:
            return 1
        if self.type == STRING:
            return (self.length + 1) // 2
        return max(1, int(re.sub(r"\D", "", self.type) or REGISTER_BITS) // REGISTER_BITS)

    @property
    def last(self) -> int:
        """Its last address."""
        return self.address + self.width * self.count - 1

    @property
    def writable(self) -> bool:
        """Whether clients may write it, by the map; a board's settings may forbid all writing."""
        return self.table in CLIENT_WRITES and self.access == READ_WRITE

    @property
    def reference(self) -> str:
        """The 1-based form of its address: 40001."""
        number = self.address + 1
        return f"{DIGITS[self.table]}{number:0{4 if number <= 9999 else 5}d}"

    @cached_property
    def raw_limits(self) -> tuple[float | None, float | None]:
        """Least and greatest raw number that clients may write, None where there is no limit.

        Those of a float32 are no narrower than its nearest values: a client that writes the limit itself sends that.
        """

        def raw(limit: float | None) -> float | None:
            if limit is None or (self.scale == 1 and not self.offset):
                return limit  # 64 bits have more digits than `tidy` leaves
            return tidy((limit - self.offset) / self.scale)

        least, most = raw(self.min), raw(self.max)
        if self.scale < 0:
            least, most = most, least
        if self.type == "float32":
            return (
                None if least is None else min(least, single(least)),
                None if most is None else max(most, single(most)),
            )
        if self.type in FLOATS:
            return least, most
        return (
            math.ceil(least) if least is not None and math.isfinite(least) else least,
            math.floor(most) if most is not None and math.isfinite(most) else most,
        )

    @property
    def range(self) -> str:
        """Its limits in words, "" if it has none."""
        unit = f" {self.unit}" if self.unit else ""
        if self.min is None:
            return "" if self.max is None else f"at most {shown(self.max)}{unit}"
        least = shown(self.min)
        return f"at least {least}{unit}" if self.max is None else f"{least} to {shown(self.max)}{unit}"


@dataclass(frozen=True)
class File:
    """A file of function 14: `records` of 16 bits, in the file `path` of the board."""

    name: str
    number: int
    path: str
    records: int
    access: str = READ_WRITE


@dataclass(frozen=True)
class Fifo:
    """A queue of function 18 at the pointer address `address`."""

    name: str
    address: int
    depth: int = 31


@dataclass(frozen=True)
class Communication:
    """After `timeout_s` (0: never) without writes, or without any requests, points take their safe values."""

    timeout_s: float = 0.0
    refreshed_by: str = WRITES


@dataclass(frozen=True)
class Map:
    """A device. text: the TOML it was read from. objects: identification, bytes by number."""

    text: str
    points: dict[str, Point]
    objects: dict[int, bytes]
    communication: Communication
    files: dict[str, File]
    fifos: dict[str, Fifo]

    def of(self, table: str) -> list[Point]:
        """The points of a table, by address."""
        return sorted(
            (point for point in self.points.values() if point.table == table), key=lambda p: p.address
        )

    def gaps(self, table: str) -> list[tuple[int, int]]:
        """(first, last) of the addresses between its ranges: clients that ask for them get exception 02."""
        ranges = self.ranges(table)
        return [(last + 1, first - 1) for (_, last), (first, _) in itertools.pairwise(ranges)]

    def ranges(self, table: str) -> list[tuple[int, int]]:
        """(first, last) of each run of addresses that exist."""
        return spans((point.address, point.last) for point in self.of(table))

    def find(self, name: str) -> Place:
        """The place called "name", "name[3]", "name.bit" or "name[3].bit".

        Raises:
            HardwireError: USAGE; for an unknown name with the nearest one.
        """
        match = re.fullmatch(r"([^\[\].]+)(?:\[(\d{1,5})\])?(?:\.([^\[\].]+))?", name)
        point = self.points.get(match[1]) if match else None
        if point is None:
            near = difflib.get_close_matches(name, self.points, 1)
            raise HardwireError(
                USAGE, f"no point is called {name!r}", f"{near[0]}?" if near else "hardwire modbus map"
            )
        index = None if match[2] is None else int(match[2])
        if index is not None and index >= point.count:
            raise HardwireError(USAGE, f"{point.name} has no [{index}]: 0 to {point.count - 1}")
        if match[3] is None:
            return Place(point, index)
        numbers = {bit: number for number, bit in point.bits.items()}
        if match[3] not in numbers:
            raise HardwireError(
                USAGE,
                f"{point.name} has no bit {match[3]!r}",
                ", ".join(numbers) or "none of its bits has a name",
            )
        if index is None and point.count > 1:
            raise HardwireError(USAGE, f"{point.name} is an array: {point.name}[0].{match[3]}")
        return Place(point, index, numbers[match[3]])


def spans(pairs: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge (first, last) that adjoin or overlap."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


def parse(text: str, origin: str) -> Map:
    """The Map in a TOML text; `origin`: what error messages call it. Raises MapError."""
    from .reading import Reader  # it builds what is declared here

    return Reader(text, origin).map()
