"""What each key of a map file may hold.

In: values as TOML has them. Out: the same, or Wrong, which says what the key wants. Never: a value that another key
decides about: that is for reading.py.
"""

import keyword
import re
import sys
from collections.abc import Callable
from typing import Any

from hardwire.map import Values

from .model import OBJECTS, READ_ONLY, READ_WRITE, REQUESTS, TABLES, WRITES
from .types import ORDERS, REGISTER_BITS, TYPES

ADDRESSES = 0x10000
COUNT_MAX = 0xFFFF  # 16 bits in map.bin
STRING_MAX = 250  # bytes: 125 registers, the most that one request reads
OBJECT_MAX = 244  # bytes of an object of the device identification: one response holds it
PATH_MAX = 100
FIRMWARE_FILES = ("boot.py", "main.py", "config.json", "map.bin", "slot", "retained.a", "retained.b")
FIRMWARE_FOLDERS = ("a/", "b/")
RECORDS_MAX = 10_000  # MODBUS Application Protocol V1.1b3, 6.14
FILE_NUMBERS = range(2, 0xFFFF)  # 1 is the map, FFFF the log
FIFO_MAX = 31  # 6.18
TIMEOUTS_S = (0.1, 86_400.0)
SCALE_LIMIT = 1e30  # of float32, which the board has
QUOTED_MAX = 60  # characters of a wrong value that a message repeats

NAME = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_RESERVED = frozenset(dir(Values(None, None, None)))  # `io.name` on the board would not reach such a point
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a terminal would obey them: the text may be a board's
_BIT_NUMBERS = {str(number) for number in range(REGISTER_BITS)}


class Wrong(ValueError):
    """A value that a key cannot have; the text says what it wants."""


def text_up_to(most: int, layout: str = "") -> Callable[[Any], str]:
    """A check for text of at most so many bytes in UTF-8. layout: control characters that may be in it."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong("wants text")
        if len(value.encode()) > most:
            raise Wrong(f"has {len(value.encode())} bytes, at most {most} fit")
        if set(_CONTROL.findall(value)) - set(layout):
            raise Wrong("wants text without control characters")
        return value

    return check


def _path(value: Any) -> str:
    if text_up_to(PATH_MAX)(value).endswith("/") or not value:
        raise Wrong("wants the path of a file")
    place = value.lstrip("./").removeprefix("flash/")  # where it is on STM32
    if ".." in value or place in FIRMWARE_FILES or place.startswith(FIRMWARE_FOLDERS):
        raise Wrong("wants a file that is not the firmware's")  # clients write it
    return value


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Wrong(f"wants a number from {least} to {most}")
        return value

    return check


def _real(most: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= most:
            raise Wrong("wants a finite number")
        return value

    return check


def _factor(value: Any) -> float:
    if not abs(_real(SCALE_LIMIT)(value)) >= 1 / SCALE_LIMIT:
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
    """Of a bit, a file, a queue."""
    if not isinstance(value, str) or not NAME.fullmatch(value) or keyword.iskeyword(value):
        raise Wrong("wants a name: a-z, 0-9 and _, 32 at most, no keyword of Python")
    return value


def _point_name(value: Any) -> str:
    if _name(value) in _RESERVED:
        raise Wrong("wants a name that the board's io does not have itself")
    return value


def _bits(value: Any) -> dict[int, str]:
    if not isinstance(value, dict):
        raise Wrong('wants a table: { 0 = "running" }')
    found = {}
    for number, name in value.items():
        if number not in _BIT_NUMBERS:
            raise Wrong(f"has a bit {quoted(number)}: 0 to {REGISTER_BITS - 1}")
        found[int(number)] = _name(name)
    if len(set(found.values())) != len(found):
        raise Wrong("has two bits of the same name")
    return found


def quoted(value: Any) -> str:
    """A wrong value for a message."""
    try:
        text = repr(value)
    except ValueError:  # str() has a limit too, which a hexadecimal number passes
        return "a number of thousands of digits"
    return text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}..."


def plain(text: str) -> str:
    """Text of others for a message."""
    return _CONTROL.sub("?", text[:QUOTED_MAX])


def _any(value: Any) -> Any:
    return value


POINT = {
    "name": _point_name,
    "address": _integer(0, ADDRESSES - 1),
    "count": _integer(1, COUNT_MAX),
    "unit": text_up_to(32),
    "access": _one_of(READ_WRITE, READ_ONLY),
    "initial": _any,
    "retained": _switch,
    "safe": _any,
    "description": text_up_to(1000, "\t\n"),
}
REGISTER = POINT | {
    "type": _one_of(*TYPES),
    "length": _integer(1, STRING_MAX),
    "bits": _bits,
    "word_order": _one_of(*ORDERS),
    "scale": _factor,
    "offset": _real(SCALE_LIMIT),
    "min": _real(sys.float_info.max),
    "max": _real(sys.float_info.max),
}
FILE = {
    "name": _name,
    "number": _integer(FILE_NUMBERS.start, FILE_NUMBERS.stop - 1),
    "path": _path,
    "records": _integer(1, RECORDS_MAX),
    "access": _one_of(READ_WRITE, READ_ONLY),
}
FIFO = {"name": _name, "address": _integer(0, ADDRESSES - 1), "depth": _integer(1, FIFO_MAX)}
DEVICE = {name: text_up_to(OBJECT_MAX) for name in OBJECTS} | {"objects": _any}
DEFAULTS = {"word_order": _one_of(*ORDERS)}
COMMUNICATION = {"timeout_s": _real(SCALE_LIMIT), "refreshed_by": _one_of(WRITES, REQUESTS)}
TOP = ("device", "defaults", "communication", *TABLES, "files", "fifos")
