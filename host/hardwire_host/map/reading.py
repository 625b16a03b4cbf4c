"""The reader of map files: every mistake is found and named, with the point and the key.

In: TOML text. Out: a Map. Never: a guess; an unknown key is an error that says which one is near.
"""

import difflib
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ..errors import HardwireError
from .keys import (
    ADDRESSES,
    COMMUNICATION,
    DEFAULTS,
    DEVICE,
    FIFO,
    FILE,
    NAME,
    OBJECT_MAX,
    POINT,
    REGISTER,
    TIMEOUTS_S,
    TOP,
    Wrong,
    plain,
    quoted,
    text_up_to,
)
from .model import (
    BIT_TABLES,
    CLIENT_WRITES,
    OBJECTS,
    READ_ONLY,
    TABLES,
    WRITES,
    Communication,
    Fifo,
    File,
    Map,
    MapError,
    Point,
)
from .types import BIT, BITS, ORDERS, STRING, Place, bounds, shown

DECISIVE = ("type", "length")  # while one of them is wrong, other keys of a point cannot be judged


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
            content = tomllib.loads(self._text.removeprefix("\ufeff"))  # some editors begin with that mark
        except RecursionError:
            raise MapError(
                self._origin, ["not TOML that can be read: too many brackets in brackets"]
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise MapError(self._origin, [f"not TOML: {plain(str(error))}"]) from None
        except ValueError:  # int() has a limit
            raise MapError(
                self._origin, ["not TOML that can be read: a number of thousands of digits"]
            ) from None
        self._unknown(content, TOP, "")
        device = self._section(content, "device", DEVICE)
        order = self._section(content, "defaults", DEFAULTS).get("word_order", ORDERS[0])
        points = self._points(content, order)
        self._overlaps(points.values())
        found = Map(
            self._text,
            points,
            self._objects(device),
            self._communication(content, points),
            self._unique(content, "files", FILE, File, "number", "path"),
            self._unique(content, "fifos", FIFO, Fifo, "address"),
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
                self._wrong(where, f"unknown key {quoted(key)}" + (f"; {near[0]!r}?" if near else ""))

    def _checked(self, content: dict, spec: dict[str, Callable], where: str) -> dict:
        """What of `content` is right."""
        self._unknown(content, spec, where)
        found = {}
        for key, check in spec.items():
            if key in content:
                try:
                    found[key] = check(content[key])
                except Wrong as error:
                    self._wrong(where, f"{key} {error}, not {quoted(content[key])}")
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
            name = entry.get("name")
            where = name if isinstance(name, str) and NAME.fullmatch(name) else f"{key} {number}"
            missing = [name for name in needed if name not in entry]
            if missing:
                self._wrong(where, f"has no {', '.join(missing)}")
            found = self._checked(entry, spec, where)
            if "name" in found:
                if name in self._names:
                    self._wrong(where, f"this name is there already, in {self._names[name]}")
                self._names.setdefault(name, key)
            if all(name in found for name in (*needed, *(key for key in DECISIVE if key in entry))):
                yield where, found

    def _points(self, content: dict, order: str) -> dict[str, Point]:
        points = {}
        for table in TABLES:
            spec = POINT if table in BIT_TABLES else REGISTER
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
        keys = ("min", "max") if point.scale > 0 else ("max", "min")
        wrong = len(self._problems)
        for key, raw in zip(keys, (least, most), strict=True):
            if raw is None:
                continue
            low, high = bounds(point.type)
            if not low <= raw <= high:
                limit = shown(getattr(point, key))
                self._wrong(where, f"{key}: {point.type} holds {Place(point, 0).reach}, not {limit}")
        if wrong == len(self._problems) and least is not None and most is not None and least > most:
            self._wrong(where, f"min {shown(point.min)} and max {shown(point.max)} leave no value")

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
            where = f"[device.objects] {plain(key)}"
            try:
                number = int(key, 0)
            except ValueError:
                number = -1
            if not 0x80 <= number <= 0xFF:
                self._wrong(where, "objects of your own are 0x80 to 0xFF")
                continue
            if number in objects:
                self._wrong(where, "this object is there already")
            try:
                objects[number] = text_up_to(OBJECT_MAX)(text).encode()
            except Wrong as error:
                self._wrong(where, str(error))
        return objects

    def _communication(self, content: dict, points: dict[str, Point]) -> Communication:
        given = self._section(content, "communication", COMMUNICATION)
        timeout = given.get("timeout_s", 0)
        least, most = TIMEOUTS_S
        if timeout and not least <= timeout <= most:
            self._wrong("[communication]", f"timeout_s wants {least:g} to {most:g} seconds, or 0 for never")
        safe = [point.name for point in points.values() if point.safe is not None]
        if safe and not timeout:
            self._wrong(safe[0], "safe: without [communication] timeout_s it would never be set")
        return Communication(float(timeout), given.get("refreshed_by", WRITES))

    def _unique(self, content: dict, key: str, spec: dict, make: Callable, *unique: str) -> dict:
        """Entries by name; none has another's value of the keys `unique`."""
        found: dict[str, Any] = {}
        taken: dict[tuple[str, Any], str] = {}
        needed = ("name", *unique, *(["records"] if "records" in spec else []))
        for where, given in self._entries(content, key, spec, needed):
            for one in unique:
                other = taken.setdefault((one, given[one]), where)
                if other != where:
                    self._wrong(where, f"{one} {given[one]} is taken by {other}")
            found.setdefault(given["name"], make(**given))
        return found


def values(point: Point, value: Any) -> list[int]:
    """The registers, or bits, of an initial or safe value; one value for an array is for all its elements.

    Raises HardwireError as Place.encode.
    """
    if point.count > 1 and not isinstance(value, list):
        return Place(point, 0).encode(value) * point.count
    return Place(point).encode(value)
