"""Values that survive a power cut: written to flash soon after they changed, seldom enough for the flash to last.

In: spans of coils and holding registers, ticks of the network core. Out: the values as they were, at start. Never: half
of one state and half of another: two files are written by turns, each with a number and a checksum, and the newest
whole one counts. A change is on flash SETTLE_MS after it, or EVERY_MS after the write before.
"""

import struct
from binascii import crc32

from . import log
from .compat import const, ticks_diff, ticks_ms

SETTLE_MS = const(200)  # changes that come together are written together
EVERY_MS = const(5000)  # at least so long from write to write: a flash sector takes 100,000
PATHS = "retained.a", "retained.b"  # beside config.json

_MAGIC = b"HWR1"
_HEAD = "<4sIII"  # magic, number of this write, checksum of the spans it is for, length; then values, CRC-32
_HEAD_SIZE = const(16)


class Retained:
    """Keeps the addresses in `spans`, (coils, holding registers): lists of (first, last), of `bank`.

    Attributes: writes: since start. failures: writes that flash refused.
    """

    def __init__(self, bank, spans, paths=PATHS):
        self._parts = [
            (table, first, last - first + 1)
            for table, table_spans in zip((bank.coils, bank.holding_registers), spans)
            for first, last in table_spans
        ]
        self._paths = paths
        self._layout = crc32(repr(spans).encode())
        self._number = 0
        self._dirty_at = None  # ms, when the first change not written yet was noted
        self._written_at = ticks_ms() - EVERY_MS
        self.writes = 0
        self.failures = 0
        for table, first, count in self._parts:
            table.after_write(self._written, first, count)

    def _written(self, table, address, count):
        self.changed()

    def changed(self):
        """Something was changed: it will be written."""
        if self._dirty_at is None:
            self._dirty_at = ticks_ms()

    def load(self):
        """Put the newest whole state into the tables. Returns whether there was one."""
        best = None
        for path in self._paths:
            state = self._read(path)
            if state is not None and (best is None or state[0] > best[0]):
                best = state
        if best is None:
            return False
        self._number, data = best
        at = 0
        for table, first, count in self._parts:
            size = table.bytes_of(count)
            table.put(first, count, data[at : at + size])
            at += size
        return True

    def _read(self, path):
        """(number, values), None if there is nothing whole for these spans."""
        try:
            with open(path, "rb") as file:
                state = file.read(_HEAD_SIZE)
                if len(state) < _HEAD_SIZE:
                    return None
                magic, number, layout, length = struct.unpack(_HEAD, state)
                if magic != _MAGIC or layout != self._layout or length > 2 * 0x10000:
                    return None
                data = file.read(length)
                if file.read(4) != struct.pack("<I", crc32(data, crc32(state))):
                    log.warning("retained values: %s is damaged", path)
                    return None
                return number, data
        except (OSError, ValueError):
            return None

    def tick(self):
        """Write what is due. Takes as long as the flash: some 50 ms."""
        if self._dirty_at is None:
            return
        now = ticks_ms()
        if ticks_diff(now, self._dirty_at) >= SETTLE_MS and ticks_diff(now, self._written_at) >= EVERY_MS:
            self.save()

    def close(self):
        """Write what is not written yet: the board stops."""
        if self._dirty_at is not None:
            self.save()

    def save(self):
        """Write now. A power cut leaves the state before or this one."""
        self._dirty_at = None
        self._written_at = ticks_ms()
        number = self._number + 1
        data = b"".join([table.cut(first, count) for table, first, count in self._parts])
        state = struct.pack(_HEAD, _MAGIC, number, self._layout, len(data))
        try:
            with open(self._paths[number % 2], "wb") as file:
                file.write(state)
                file.write(data)
                file.write(struct.pack("<I", crc32(data, crc32(state))))
        except OSError as error:
            self.failures += 1
            log.error("retained values: %s", error)
            self.changed()  # again, EVERY_MS from now
            return
        self._number = number
        self.writes += 1
