"""The map that a board gives of itself: file 1 of function 14 is its map.bin, the sections of docs/map.md.

In: a ModbusClient. Out: the bytes of map.bin. Never: a look into a section (hardwire_host.map does), a request that
is not needed: of map.bin's length only the sections' heads tell.
"""

import struct

from ..errors import FAILED, HardwireError
from ..map.build import BYTES_MAX, MAGIC, SOURCE
from .modbus import (
    ILLEGAL_DATA_ADDRESS,
    ILLEGAL_FUNCTION,
    MAP_FILE,
    READ_RECORDS_MAX,
    ModbusClient,
    exception_code,
)

_HEADER = struct.Struct("<4sI")  # magic, CRC-32 of what follows
_SECTION = struct.Struct("<BBH")  # tag, 0, length


class _Extent:
    """How far a map.bin reaches, by as much of it as is there."""

    def __init__(self) -> None:
        self.certain = _HEADER.size + _SECTION.size  # there is a first section
        self.complete = False  # and nothing behind `certain`
        self._next = _HEADER.size  # first section whose head has not been seen

    def see(self, data: bytes) -> None:
        while not self.complete and len(data) >= self._next + _SECTION.size:
            tag, _, length = _SECTION.unpack_from(data, self._next)
            self._next += _SECTION.size + length
            self.complete = tag == SOURCE  # always the last
            self.certain = self._next + (0 if self.complete else _SECTION.size)


def fetch(client: ModbusClient) -> bytes:
    """The board's map.bin.

    Raises:
        HardwireError: FAILED when what it gives is no map of ours, MODBUS when it gives none.
    """
    data = b""
    extent = _Extent()
    most = READ_RECORDS_MAX
    while not extent.complete or len(data) < extent.certain:
        left = (extent.certain - len(data) + 1) // 2  # the last record is filled up
        count = min(most, left) if extent.complete else most
        try:
            data += client.read_records(MAP_FILE, len(data) // 2, count)
        except HardwireError as error:
            code = exception_code(error)
            if code == ILLEGAL_DATA_ADDRESS and not extent.complete and most > left:
                most = left  # the file ends within that request; so much of it there must be
                continue
            if code in (ILLEGAL_FUNCTION, ILLEGAL_DATA_ADDRESS) and not data:
                error.hint = "the server gives no map: use numbers, or give --map FILE"
            raise
        most = READ_RECORDS_MAX
        if not data.startswith(MAGIC):
            raise HardwireError(FAILED, f"file {MAP_FILE} of {client.name} is no map of a hardwire board")
        extent.see(data)
        if extent.certain > BYTES_MAX:
            raise HardwireError(FAILED, f"the map of {client.name} is damaged: longer than {BYTES_MAX} bytes")
    return data[: extent.certain]
