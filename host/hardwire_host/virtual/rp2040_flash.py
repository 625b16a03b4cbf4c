"""The flash chip as silicon has it: what rp2040py lacks is the time that a write takes, and the unique id.

In: the guest's flash commands. Out: `busy` after each that writes; the id, from which come machine.unique_id() and so
the board's MAC address. Never: half a write. It is done at once and the time follows, so a cut leaves it whole.

Every time is the typical one; a worn or cold part needs up to ten times as long. Source: W25Q16JV datasheet 8.2.31
(Read Unique ID, 4Bh: four dummy bytes, then 64 bits) and 9.6 (AC electrical characteristics).
"""

from collections.abc import Callable

from rp2040py.peripherals.ssi import CMD_BLOCK_ERASE, CMD_PAGE_PROGRAM, CMD_SECTOR_ERASE, RPSSI
from rp2040py.rp2040 import RP2040

from .clock import NS_PER_MS, NS_PER_US

PAGE_PROGRAM_NS = 400 * NS_PER_US  # tPP; 3 ms at most
SECTOR_ERASE_NS = 45 * NS_PER_MS  # tSE, 4 KB; 400 ms at most
BLOCK_ERASE_NS = 150 * NS_PER_MS  # tBE2, 64 KB; 2 s at most
WRITES = {
    CMD_PAGE_PROGRAM: PAGE_PROGRAM_NS,
    CMD_SECTOR_ERASE: SECTOR_ERASE_NS,
    CMD_BLOCK_ERASE: BLOCK_ERASE_NS,
}

_READ_UNIQUE_ID = 0x4B
_DUMMY = 4


class Flash(RPSSI):
    """The SSI with a flash chip whose id is `unique_id`, 8 bytes; `busy(ns)` is called when it begins to write."""

    def __init__(self, mcu: RP2040, unique_id: bytes, busy: Callable[[int], None]) -> None:
        super().__init__(mcu, "SSI")
        self._unique_id = unique_id
        self._busy = busy
        mcu.ssi = mcu.peripherals[0x18000] = self

    def _shift_byte(self, byte_out: int) -> int:
        answer = super()._shift_byte(byte_out)
        position = len(self._tx_buffer) - 1 - 1 - _DUMMY
        if self._tx_buffer[0] == _READ_UNIQUE_ID and 0 <= position < len(self._unique_id):
            return self._unique_id[position]
        return answer

    def _apply_command(self) -> None:
        writes = self._write_enabled and self._tx_buffer and WRITES.get(self._tx_buffer[0])
        super()._apply_command()
        if writes:
            self._busy(writes)
