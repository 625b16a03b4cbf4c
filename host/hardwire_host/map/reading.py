"""The reader of map files: every mistake is found and named, with the point and the key.

In: TOML text. Out: a Map. Never: a guess; an unknown key is an error that says which one is near.
"""

import difflib
import keyword
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ..errors import HardwireError
from .model import (
    BIT_TABLES,
    CLIENT_WRITES,
    OBJECTS,
    READ_ONLY,
    READ_WRITE,
    REQUESTS,
    TABLES,
    WRITES,
    Communication,
    Fifo,
    File,
    Map,
    MapError,
    Point,
)
from .types import BIT, BITS, FLOATS, ORDERS, REGISTER_BITS, STRING, TYPES, Place, bounds

ADDRESSES = 0x10000
STRING_MAX = 250  # bytes: 125 registers, the most that one request reads
OBJECT_MAX = 244  # bytes of an object of the device identification: one response holds it
PATH_MAX = 100
RECORDS_MAX = 10_000  # MODBUS Application Protocol V1.1b3, 6.14
FILE_NUMBERS = range(2, 0xFFFF)  # 1 is the map, FFFF the log
FIFO_MAX = 31  # 6.18
TIMEOUTS_S = (0.1, 86_400.0)
SCALE_LIMIT = 1e30  # of float32, which the board has

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_MISSING = object()


class Wrong(ValueError):
    """A value that a key cannot have; the text says what it wants."""


def _text(most: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong("wants text")
        if len(value.encode()) > most:
            raise Wrong(f"has {len(value.encode())} bytes, at most {most} fit")
        return value

    return check


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Wrong(f"wants a number from {least} to {most}")
        return value

    return check


def _real(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < SCALE_LIMIT:
        raise Wrong("wants a finite number")
    return value


def _factor(value: Any) -> float:
    if not abs(_real(value)) > 1 / SCALE_LIMIT:
        raise Wrong("must not be 0")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong("wants true or false")
    return value


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise Wrong(f"wants one of {', '.join(choices)}")
        return value

    return check


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or keyword.iskeyword(value):
        raise Wrong("wants a name: a-z, 0-9 and _, 32 at most, no keyword of Python")
    return value


def _bits(value: Any) -> dict[int, str]:
    if not isinstance(value, dict):
        raise Wrong('wants a table: { 0 = "running" }')
    found = {}
    for number, name in value.items():
        if not number.isascii() or not number.isdigit() or int(number) >= REGISTER_BITS:
            raise Wrong(f"has a bit {number!r}: 0 to {REGISTER_BITS - 1}")
        found[int(number)] = _name(name)
    if len(set(found.values())) != len(found):
        raise Wrong("has two bits of the same name")
    return found


def _any(value: Any) -> Any:
    return value


_POINT = {
    "name": _name,
    "address": _integer(0, ADDRESSES - 1),
    "count": _integer(1, ADDRESSES),
    "unit": _text(32),
    "access": _one_of(READ_WRITE, READ_ONLY),
    "initial": _any,
    "retained": _switch,
    "safe": _any,
    "description": _text(1000),
}
_REGISTER = _POINT | {
    "type": _one_of(*TYPES),
    "length": _integer(1, STRING_MAX),
    "bits": _bits,
    "word_order": _one_of(*ORDERS),
    "scale": _factor,
    "offset": _real,
    "min": _real,
    "max": _real,
}
_FILE = {
    "name": _name,
    "number": _integer(FILE_NUMBERS.start, FILE_NUMBERS.stop - 1),
    "path": _text(PATH_MAX),
    "records": _integer(1, RECORDS_MAX),
    "access": _one_of(READ_WRITE, READ_ONLY),
}
_FIFO = {"name": _name, "address": _integer(0, ADDRESSES - 1), "depth": _integer(1, FIFO_MAX)}
_DEVICE = {name: _text(OBJECT_MAX) for name in OBJECTS} | {"objects": _any}
_DEFAULTS = {"word_order": _one_of(*ORDERS)}
_COMMUNICATION = {"timeout_s": _real, "refreshed_by": _one_of(WRITES, REQUESTS)}
_TOP = ("device", "defaults", "communication", *TABLES, "files", "fifos")


class Reader:
    """Reads one file; `map` raises MapError with all that was found."""

    def __init__(self, text: str, origin: str) -> None:
        self._text = text
        self._origin = origin
        self._problems: list[str] = []
        self._names: dict[str, str] = {}

    def map(self) -> Map:
        """The Map. Raises MapError."""
        try:
            content = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise MapError(self._origin, [f"not TOML: {error}"]) from None
        self._unknown(content, _TOP, "")
        device = self._section(content, "device", _DEVICE)
        order = self._section(content, "defaults", _DEFAULTS).get("word_order", ORDERS[0])
        points = self._points(content, order)
        self._overlaps(points.values())
        found = Map(
            self._text,
            points,
            self._objects(device),
            self._communication(content, points),
            self._unique(content, "files", _FILE, File, "number"),
            self._unique(content, "fifos", _FIFO, Fifo, "address"),
        )
        if self._problems:
            raise MapError(self._origin, self._problems)
        return found

    def _wrong(self, where: str, what: str) -> None:
        self._problems.append(f"{where}: {what}" if where else what)

    def _unknown(self, content: dict, known: Iterable[str], where: str) -> None:
        for key in content:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                self._wrong(where, f"unknown key {key!r}" + (f"; {near[0]!r}?" if near else ""))

    def _checked(self, content: dict, spec: dict[str, Callable], where: str) -> dict:
        """What of `content` is right."""
        self._unknown(content, spec, where)
        found = {}
        for key, check in spec.items():
            if key in content:
                try:
                    found[key] = check(content[key])
                except Wrong as error:
                    self._wrong(where, f"{key} {error}, not {content[key]!r}")
        return found

    def _section(self, content: dict, key: str, spec: dict[str, Callable]) -> dict:
        section = content.get(key, {})
        if not isinstance(section, dict):
            self._wrong(key, f"wants a table: [{key}]")
            return {}
        return self._checked(section, spec, f"[{key}]")

    def _entries(
        self, content: dict, key: str, spec: dict, needed: Iterable[str]
    ) -> Iterable[tuple[str, dict]]:
        """(what to call it, its keys that are right) of each [[key]] that has what is needed."""
        entries = content.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._wrong(key, f"wants tables: [[{key}]]")
            return
        for number, entry in enumerate(entries, 1):
            where = entry["name"] if isinstance(entry.get("name"), str) else f"{key} {number}"
            missing = [name for name in needed if name not in entry]
            if missing:
                self._wrong(where, f"has no {', '.join(missing)}")
            found = self._checked(entry, spec, where)
            if "name" in found:
                other = self._names.setdefault(found["name"], key)
                if other != key or found["name"] in [entry.get("name") for entry in entries[: number - 1]]:
                    self._wrong(where, f"this name is there already, in {other}")
            if all(name in found for name in needed):
                yield where, found

    def _points(self, content: dict, order: str) -> dict[str, Point]:
        points = {}
        for table in TABLES:
            spec = _POINT if table in BIT_TABLES else _REGISTER
            for where, given in self._entries(content, table, spec, ("name", "address")):
                point = self._point(table, given, where, order)
                if point is not None:
                    points.setdefault(point.name, point)
        return points

    def _point(self, table: str, given: dict, where: str, order: str) -> Point | None:
        kind = BIT if table in BIT_TABLES else given.get("type", "uint16")
        wrong = len(self._problems)
        for key, belongs in (
            ("length", kind == STRING),
            ("word_order", kind != STRING),
            ("bits", kind == BITS),
            ("scale", kind not in (STRING, BITS)),
            ("offset", kind not in (STRING, BITS)),
            ("min", kind not in (STRING, BITS)),
            ("max", kind not in (STRING, BITS)),
        ):
            if key in given and not belongs:
                self._wrong(where, f"{key} is not for type {kind}")
        if kind == STRING and "length" not in given:
            self._wrong(where, "a string needs its length, in bytes")
        if table not in CLIENT_WRITES:
            for key in ("access", "retained", "safe"):
                if key in given and not (key == "access" and given[key] == READ_ONLY):
                    self._wrong(where, f"{key}: clients only read {table}")
        if len(self._problems) > wrong:
            return None
        fields = {key: value for key, value in given.items() if key not in ("type", "word_order")}
        if table not in CLIENT_WRITES:
            fields["access"] = READ_ONLY
        point = Point(table=table, type=kind, **fields)
        if point.width > 1 and kind != STRING:
            point = replace(point, word_order=given.get("word_order", order))
        if point.last >= ADDRESSES:
            self._wrong(where, f"ends at {point.last}, behind the last address, {ADDRESSES - 1}")
        self._limits(point, where)
        self._values(point, where)
        return point

    def _limits(self, point: Point, where: str) -> None:
        least, most = point.raw_limits
        if least is not None and most is not None and least > most:
            self._wrong(where, f"min {point.min:g} and max {point.max:g} leave no value")
        if point.type == BIT or point.type in (STRING, BITS, *FLOATS):
            return
        low, high = bounds(point.type)
        for key, raw in (("min", least), ("max", most)):
            if raw is not None and not low <= raw <= high:
                self._wrong(where, f"{key}: a {point.type} holds {low} to {high}")

    def _values(self, point: Point, where: str) -> None:
        for key in ("initial", "safe"):
            value = getattr(point, key)
            if value is None:
                continue
            try:
                values(point, value)
            except HardwireError as error:
                self._wrong(where, f"{key}: {error.message.removeprefix(point.name).lstrip(': ')}")

    def _overlaps(self, points: Iterable[Point]) -> None:
        for table in TABLES:
            reaching = None
            for point in sorted((p for p in points if p.table == table), key=lambda p: (p.address, p.last)):
                if reaching is not None and point.address <= reaching.last:
                    self._wrong(
                        point.name,
                        f"address {point.address} of {table} is taken by {reaching.name}, up to {reaching.last}",
                    )
                if reaching is None or point.last > reaching.last:
                    reaching = point

    def _objects(self, device: dict) -> dict[int, bytes]:
        objects = {number: device[name].encode() for number, name in enumerate(OBJECTS) if name in device}
        others = device.get("objects", {})
        if not isinstance(others, dict):
            self._wrong("[device.objects]", 'wants a table: "0x80" = "text"')
            return objects
        for key, text in others.items():
            where = f"[device.objects] {key}"
            try:
                number = int(key, 0)
            except ValueError:
                number = -1
            if not 0x80 <= number <= 0xFF:
                self._wrong(where, "objects of your own are 0x80 to 0xFF")
                continue
            try:
                objects[number] = _text(OBJECT_MAX)(text).encode()
            except Wrong as error:
                self._wrong(where, str(error))
        return objects

    def _communication(self, content: dict, points: dict[str, Point]) -> Communication:
        given = self._section(content, "communication", _COMMUNICATION)
        timeout = given.get("timeout_s", 0)
        least, most = TIMEOUTS_S
        if timeout and not least <= timeout <= most:
            self._wrong("[communication]", f"timeout_s wants {least:g} to {most:g} seconds, or 0 for never")
        safe = [point.name for point in points.values() if point.safe is not None]
        if safe and not timeout:
            self._wrong(safe[0], "safe: without [communication] timeout_s it would never be set")
        return Communication(float(timeout), given.get("refreshed_by", WRITES))

    def _unique(self, content: dict, key: str, spec: dict, make: Callable, number: str) -> dict:
        """Entries by name; their `number` must be unique."""
        found: dict[str, Any] = {}
        needed = ("name", number, *(name for name in ("path", "records") if name in spec))
        for where, given in self._entries(content, key, spec, needed):
            for other in found.values():
                if getattr(other, number) == given[number]:
                    self._wrong(where, f"{number} {given[number]} is taken by {other.name}")
            found.setdefault(given["name"], make(**given))
        return found


def values(point: Point, value: Any) -> list[int]:
    """The registers, or bits, of an initial or safe value; one value for an array is for all its elements.

    Raises HardwireError as Place.encode.
    """
    if point.count > 1 and not isinstance(value, list):
        return Place(point, 0).encode(value) * point.count
    return Place(point).encode(value)
