"""The flash chip's unique id, which rp2040py lacks: machine.unique_id(), and so the board's MAC address.

In: the guest's flash commands. Out: the id. Never: a change to any other command.

Source: W25Q16JV datasheet 8.2.31 (Read Unique ID, 4Bh: four dummy bytes, then 64 bits).
"""

from rp2040py.peripherals.ssi import RPSSI
from rp2040py.rp2040 import RP2040

_READ_UNIQUE_ID = 0x4B
_DUMMY = 4


class Flash(RPSSI):
    """The SSI with a flash chip whose id is `unique_id`, 8 bytes."""

    def __init__(self, mcu: RP2040, unique_id: bytes) -> None:
        super().__init__(mcu, "SSI")
        self._unique_id = unique_id
        mcu.ssi = mcu.peripherals[0x18000] = self

    def _shift_byte(self, byte_out: int) -> int:
        answer = super()._shift_byte(byte_out)
        position = len(self._tx_buffer) - 1 - 1 - _DUMMY
        if self._tx_buffer[0] == _READ_UNIQUE_ID and 0 <= position < len(self._unique_id):
            return self._unique_id[position]
        return answer
