"""A file of records of 16 bits that clients write, for Modbus functions 14 and 15; read-only ones are in records.py.

In: a path on flash. Out: what bank.files holds. Never: stored bytes that were damaged taken for good ones (Damaged).
Source: MODBUS Application Protocol Specification V1.1b3 (AP) 6.14, 6.15.
"""

import os
from binascii import crc32

from .compat import const
from .wire.bank import Damaged

_BLOCK = const(128)  # bytes of records that share a checksum
_STORED = const(132)
_ENOENT = const(2)


class File:
    """`records` records of 16 bits in the file at `path`: 0 until they are written.

    It holds blocks of 64 records, each followed by its CRC-32, little-endian. What one request writes is on flash when
    the file is closed: on littlefs all of it or, after a power cut, nothing; on FAT a block cut in two is found
    damaged.
    """

    def __init__(self, path, records, writable=True):
        self.path = path
        self.records = records
        self.writable = writable

    def read(self, record, count, out, to):
        """Records to out[to:]. Raises Damaged, OSError."""
        try:
            with open(self.path, "rb") as file:
                self._each(file, record, count, out, to)
        except OSError as error:
            if error.args[0] != _ENOENT:
                raise
            out[to : to + 2 * count] = bytes(2 * count)

    def _each(self, file, record, count, out, to):
        at, end = 2 * record, 2 * (record + count)
        while at < end:
            number, offset = divmod(at, _BLOCK)
            n = min(_BLOCK - offset, end - at)
            out[to : to + n] = _block(file, number)[offset : offset + n]
            at += n
            to += n

    def write(self, changes):
        """Take `changes`, [(record, bytes)]. Raises Damaged, OSError."""
        blocks = {}
        with open(self.path, "r+b" if _exists(self.path) else "w+b") as file:
            for record, data in changes:
                at, taken = 2 * record, 0
                while taken < len(data):
                    number, offset = divmod(at + taken, _BLOCK)
                    if number not in blocks:
                        blocks[number] = bytearray(_block(file, number))
                    n = min(_BLOCK - offset, len(data) - taken)
                    blocks[number][offset : offset + n] = data[taken : taken + n]
                    taken += n
            end = file.seek(0, 2) // _STORED
            for number in range(end, min(blocks)):
                blocks[number] = bytes(_BLOCK)  # a file has no holes
            for number in sorted(blocks):
                file.seek(number * _STORED)
                file.write(blocks[number])
                file.write(crc32(blocks[number]).to_bytes(4, "little"))


def _block(file, number):
    file.seek(number * _STORED)
    stored = file.read(_STORED)
    if not stored:
        return bytes(_BLOCK)
    data = stored[:_BLOCK]
    if crc32(data).to_bytes(4, "little") != stored[_BLOCK:]:
        raise Damaged
    return data


def _exists(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False
