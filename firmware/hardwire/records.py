"""What is there anyway as records of 16 bits, read-only, for Modbus function 14; record_file.py has what clients write.

In: paths, bytes, texts. Out: what bank.files holds.
Source: MODBUS Application Protocol Specification V1.1b3 (AP) 6.14.
"""

import os

from .compat import const

_MAX_RECORDS = const(10000)  # 0..270F (AP 6.14)


class Plain:
    """Any file, read-only, as records of its bytes; the last is filled up with 0."""

    writable = False

    def __init__(self, path):
        self.path = path

    @property
    def records(self):
        """How many there are now."""
        return min((os.stat(self.path)[6] + 1) // 2, _MAX_RECORDS)

    def read(self, record, count, out, to):
        """Records to out[to:]. Raises OSError."""
        with open(self.path, "rb") as file:
            file.seek(2 * record)
            data = file.read(2 * count)
        out[to : to + 2 * count] = data + bytes(2 * count - len(data))


class Frozen:
    """Bytes in memory, or frozen into the image, read-only, as records; the last is filled up with 0."""

    writable = False

    def __init__(self, data):
        self._data = data
        self.records = (len(data) + 1) // 2

    def read(self, record, count, out, to):
        """Records to out[to:]."""
        data = self._data[2 * record : 2 * (record + count)]
        out[to : to + 2 * count] = data + bytes(2 * count - len(data))


class Texts:
    """`lines()`, at most `count` texts, as records: each has `size` bytes (even), filled up with 0."""

    writable = False

    def __init__(self, lines, count, size):
        self._lines = lines
        self._size = size
        self.records = count * size // 2

    def read(self, record, count, out, to):
        """Records to out[to:]."""
        lines = self._lines()
        at, end = 2 * record, 2 * (record + count)
        while at < end:
            number, offset = divmod(at, self._size)
            n = min(self._size - offset, end - at)
            text = (
                lines[number].encode()[offset : min(offset + n, self._size)] if number < len(lines) else b""
            )
            out[to : to + n] = text + bytes(n - len(text))
            at += n
            to += n
