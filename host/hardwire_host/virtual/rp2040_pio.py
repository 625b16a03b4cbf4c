"""Keeps rp2040py from asking both PIO blocks after every instruction whether they run: a third of its time.

In: the guest's register writes. Out: `mcu.pio`, the list that the emulator's loop walks, empty as long as
no state machine can run and no pin belongs to PIO. Never: a difference the guest could see.
"""

from rp2040py.gpio_pin import FUNCTION_PIO0, FUNCTION_PIO1
from rp2040py.peripherals.io import GPIO_CTRL_LAST, RPIO
from rp2040py.peripherals.pio import RPPIO
from rp2040py.rp2040 import RP2040

_CTRL = 0x00
_SM_ENABLE = 0xF
_SM_INSTR = range(0xD8, 0x138, 0x18)  # SMn_INSTR: executed at once, also by a disabled machine


class PioPower:
    """Both PIO blocks of `mcu`."""

    def __init__(self, mcu: RP2040) -> None:
        self._list = mcu.pio  # emptied and filled in place: the emulator's loop holds it
        self._blocks = list(mcu.pio)
        for number, block in enumerate(self._blocks):
            mcu.peripherals[0x50200 + 0x100 * number] = _Block(block, self)
        mcu.peripherals[0x40014] = _Pins(mcu, self)

    def wake(self) -> None:
        """PIO may run, or drive a pin, from now on. Also needed while the chip resets."""
        self._list[:] = self._blocks

    def sleep(self) -> None:
        """The chip has been reset."""
        if all(block.stopped for block in self._blocks):
            self._list.clear()


class _Block:
    """A PIO block as a `Peripheral` of rp2040py."""

    def __init__(self, block: RPPIO, power: PioPower) -> None:
        self._power = power
        self._write = block.write_uint32_atomic
        self.read_uint32 = block.read_uint32
        self.reset = block.reset

    def write_uint32_atomic(self, offset: int, value: int, atomic_type: int) -> None:
        if (offset == _CTRL and value & _SM_ENABLE) or offset in _SM_INSTR:
            self._power.wake()
        self._write(offset, value, atomic_type)


class _Pins(RPIO):
    """IO_BANK0, where pins are given to PIO."""

    def __init__(self, mcu: RP2040, power: PioPower) -> None:
        super().__init__(mcu, "IO_BANK0")
        self._power = power

    def write_uint32(self, offset: int, value: int) -> None:
        if offset <= GPIO_CTRL_LAST and offset & 4 and value & 0x1F in (FUNCTION_PIO0, FUNCTION_PIO1):
            self._power.wake()
        super().write_uint32(offset, value)
