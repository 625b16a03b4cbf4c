"""How much of a board's heap a map takes.

In: a Map. Out: bytes, within 10 percent of what was measured with MicroPython 1.25 on RP2040. Never: a reason to
refuse a map: the board knows what is free, and says so.
"""

from collections.abc import Callable

from .model import BIT_TABLES, CLIENT_WRITES, TABLES, Map, Point, spans

# Bytes that hardwire.map_file.load and hardwire.device.equip leave allocated. Points as such stay in the file.
EMPTY = 2800  # a device without data
RANGE = 14
LOCKED = 9  # a span of addresses that clients may not write
LIMITED = 120  # a point with min or max
LIMITS = 150  # a table that has such points
RETAINED = 100  # a span
SAFE = 75  # a span
OBJECT = 32  # of the device identification, and its text
FILE = 130
FIFO = 220


def heap(device: Map) -> int:
    """Estimated bytes of heap."""

    def chosen(choose: Callable[[Point], object]) -> int:
        return sum(
            len(spans((point.address, point.last) for point in device.of(table) if choose(point)))
            for table in CLIENT_WRITES
        )

    used = EMPTY
    for table in TABLES:
        ranges = device.ranges(table)
        count = sum(last - first + 1 for first, last in ranges)
        used += (count + 7) // 8 if table in BIT_TABLES else 2 * count
        used += RANGE * len(ranges)
        limited = [point for point in device.of(table) if point.min is not None or point.max is not None]
        used += LIMITED * len(limited) + LIMITS * bool(limited)
    holding = device.of("holding_registers")
    if any(point.width > 1 for point in holding):
        used += sum(point.width * point.count for point in holding) // 8  # where values start
    used += LOCKED * chosen(lambda point: not point.writable)
    used += RETAINED * chosen(lambda point: point.retained)
    used += SAFE * chosen(lambda point: point.safe is not None)
    used += sum(OBJECT + len(text) for text in device.objects.values())
    return used + FILE * len(device.files) + FIFO * len(device.fifos)
