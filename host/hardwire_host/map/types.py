"""How values lie in registers and bits: types, word orders, places.

In: points of a map. Out: values from raw registers and back, as people type and read them. Never: addresses of a wire.
"""

import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import USAGE, HardwireError

if TYPE_CHECKING:
    from .model import Point

BIT, STRING, BITS = "bit", "string", "bits"
FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
    BITS: "H",
}
FLOATS = ("float32", "float64")
FLOAT32_MAX = 3.4028234663852886e38
TYPES = (*FORMATS, STRING)  # of registers
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
REGISTER_BITS = 16

_ON = {"1", "on", "true", "yes"}
_OFF = {"0", "off", "false", "no"}


def swaps(order: str) -> tuple[bool, bool]:
    """(the bytes of a word are swapped, the words are swapped)"""
    return order in ("BADC", "DCBA"), order in ("CDAB", "DCBA")


def reorder(data: bytes, order: str) -> bytes:
    """The bytes of a value, high one first, in `order`; and back, as it is its own inverse."""
    swap_bytes, swap_words = swaps(order)
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if swap_bytes:
        words = [word[::-1] for word in words]
    return b"".join(reversed(words) if swap_words else words)


def bounds(kind: str) -> tuple[float, float]:
    """Least and greatest number of the type."""
    if kind in FLOATS:
        most = FLOAT32_MAX if kind == "float32" else sys.float_info.max
        return -most, most
    bits = 8 * struct.calcsize(FORMATS[kind])
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if FORMATS[kind].islower() else (0, (1 << bits) - 1)


def single(number: float) -> float:
    """The float32 nearest to `number`; of what is beyond them all the last."""
    return struct.unpack(">f", struct.pack(">f", min(max(number, -FLOAT32_MAX), FLOAT32_MAX)))[0]


@dataclass(frozen=True)
class Place:
    """A point, one element of it, or one bit of it: where it is and what its registers mean.

    Attributes:
        index: of an array; None: all of it. bit: of a `bits` register, or None.
    """

    point: "Point"
    index: int | None = None
    bit: int | None = None

    @property
    def table(self) -> str:
        """Its table as the map names it."""
        return self.point.table

    @property
    def address(self) -> int:
        """0-based."""
        return self.point.address + (self.index or 0) * self.point.width

    @property
    def size(self) -> int:
        """Registers, or bits of a bit table."""
        return self.point.width if self._single else self.point.width * self.point.count

    @property
    def name(self) -> str:
        """As `Map.find` knows it."""
        index = "" if self.index is None else f"[{self.index}]"
        bit = "" if self.bit is None else f".{self.point.bits.get(self.bit, self.bit)}"
        return self.point.name + index + bit

    @property
    def reach(self) -> str:
        """What numbers its type holds, scaled: "0 to 6553.5"."""
        least, most = sorted(self._scaled(raw) for raw in bounds(self.point.type))
        return f"{shown(least)} to {shown(most)}"

    @property
    def _single(self) -> bool:
        return self.index is not None or self.point.count == 1

    def decode(self, raw: Sequence[int]) -> Any:
        """The value of `size` registers or bits: bool, int, float, str; of an array a list, of named bits a dict.

        A string that is no UTF-8 has replacement characters.
        """
        if not self._single:
            width = self.point.width
            one = replace(self, index=0)
            return [one.decode(raw[at : at + width]) for at in range(0, self.size, width)]
        point = self.point
        if point.type == BIT:
            return bool(raw[0])
        data = struct.pack(f">{len(raw)}H", *raw)
        if point.type == STRING:
            return data[: point.length].split(b"\0")[0].decode(errors="replace")
        number = struct.unpack(">" + FORMATS[point.type], reorder(data, point.word_order))[0]
        if self.bit is not None:
            return bool(number >> self.bit & 1)
        if point.type == BITS:
            return (
                {name: bool(number >> bit & 1) for bit, name in point.bits.items()} if point.bits else number
            )
        return self._scaled(number)

    def encode(self, value: Any) -> list[int]:
        """The registers, or bits, of `value`. Of one bit of a register: [0] or [1].

        Raises:
            HardwireError: USAGE, for a value that does not fit, or is outside the point's limits.
        """
        if not self._single:
            if not isinstance(value, list | tuple) or len(value) != self.point.count:
                raise self._wrong(f"has {self.point.count} values")
            return [raw for index, one in enumerate(value) for raw in replace(self, index=index).encode(one)]
        point = self.point
        if point.type == BIT or self.bit is not None:
            if value not in (0, 1):
                raise self._wrong("takes on or off")
            return [int(value)]
        data = self._string(value) if point.type == STRING else self._number(value)
        return list(struct.unpack(f">{len(data) // 2}H", data))

    def _string(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise self._wrong("takes text")
        try:
            data = value.encode()
        except UnicodeEncodeError:  # half a surrogate pair, or an argument that was no UTF-8
            raise self._wrong("takes text in UTF-8") from None
        if b"\0" in data:
            raise self._wrong("holds no NUL: it would end there")
        if len(data) > self.point.length:
            raise self._wrong(f"holds {self.point.length} bytes, not {len(data)}")
        return data.ljust(2 * self.point.width, b"\0")

    def _number(self, value: Any) -> bytes:
        point = self.point
        if isinstance(value, dict) and point.type == BITS:
            value = self._of_names(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong("takes a number")
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise self._wrong("holds no number of so many digits")
        raw = value if self._unscaled else (value - point.offset) / point.scale
        if point.type not in FLOATS:
            if not math.isfinite(raw):
                raise self._wrong("takes a finite number")
            if self._unscaled and raw != round(raw):
                raise self._wrong(f"takes a whole number, not {value}")
            raw = round(raw)
            least, most = bounds(point.type)
            if not least <= raw <= most:
                raise self._wrong(f"holds {self.reach}, not {value}")
        least, most = point.raw_limits
        if (least is not None and not raw >= least) or (most is not None and not raw <= most):
            raise self._wrong(f": {value} is outside its limits, {point.range}")
        try:
            data = struct.pack(">" + FORMATS[point.type], raw)
        except OverflowError:
            data = b""
        if not data or (math.isinf(raw) and not math.isinf(value)):
            raise self._wrong(f": {value} does not fit in a {point.type}")
        return reorder(data, point.word_order)

    def _of_names(self, value: dict) -> int:
        numbers = {name: bit for bit, name in self.point.bits.items()}
        if set(value) - set(numbers):
            raise self._wrong(f"has the bits {', '.join(numbers)}")
        return sum(bool(on) << numbers[name] for name, on in value.items())

    @property
    def _unscaled(self) -> bool:
        return self.point.scale == 1 and not self.point.offset

    def _scaled(self, raw: float) -> float:
        return raw if self._unscaled else tidy(raw * self.point.scale + self.point.offset)

    def parse(self, text: str) -> Any:
        """What a person types: 21.5, on, 0x10, words; of an array the values with commas between.

        Raises:
            HardwireError: USAGE, for what is no such value.
        """
        if not self._single:
            parts = text.split(",")
            if len(parts) != self.point.count:
                raise self._wrong(f"has {self.point.count} values, not {len(parts)}: VALUE,VALUE,...")
            return [replace(self, index=0).parse(part.strip()) for part in parts]
        if self.point.type == BIT or self.bit is not None:
            word = text.lower()
            if word not in _ON | _OFF:
                raise self._wrong(f"takes on or off, not {text!r}")
            return word in _ON
        if self.point.type == STRING:
            return text
        try:
            return int(text, 0)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise self._wrong(f"takes a number, not {text!r}") from None

    def format(self, value: Any) -> str:
        """`value` for people, with its unit."""
        if isinstance(value, list):
            return ", ".join(replace(self, index=0).format(one) for one in value)
        if isinstance(value, dict):
            return " ".join(name for name, on in value.items() if on) or "-"
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, str):
            return value
        text = f"{value:.7g}" if self.point.type == "float32" else str(value)
        return f"{text} {self.point.unit}" if self.point.unit else text

    def _wrong(self, what: str) -> HardwireError:
        return HardwireError(USAGE, self.name + (what if what.startswith(":") else f" {what}"))


def shown(number: float) -> str:
    """For people: 80.0 is 80."""
    return str(number).removesuffix(".0")


def tidy(number: float) -> float:
    """Without the digits that binary fractions add: 215 * 0.1 is 21.5."""
    return float(f"{number:.12g}")
