"""The RP2040's SPI controllers and the clocks that drive them, as on silicon: what a byte on the wire costs.

In: register writes of the guest. Out: bytes to and from `Pl022.exchange`, each when its last bit has passed;
FIFOs, flags, DREQ and interrupt as they follow from that. Never: a clock of its own; slave mode, TI and
Microwire formats, loop-back, the receive timeout, words of other than 8 or 16 bits.

They replace rp2040py's, which has no PLLs, takes clk_peri as 125 MHz whatever the guest chose, and leaves the
time of a byte to its user. Source: RP2040 datasheet 2.15 (clocks), 2.18 (PLLs), 4.4 (SPI, ARM PL022).
"""

from collections import deque
from collections.abc import Callable

from rp2040py.peripherals.clocks import RPClocks
from rp2040py.peripherals.peripheral import BasePeripheral
from rp2040py.rp2040 import RP2040

XOSC_HZ = 12_000_000  # the crystal of every RP2040 board that runs MicroPython
ROSC_HZ = 6_500_000  # nominal, 2.17

FIFO = 8  # words in each direction
# Between two words with SPH = 0 the controller pulses its frame select, whether or not a pin shows it: about
# two periods of SCK, as others measured (pico-examples #285, pico-feedback #39); none with SPH = 1.
GAP_SPH0 = 2

_CS, _PWR, _FBDIV, _PRIM = 0x0, 0x4, 0x8, 0xC  # PLL
_PLL_RESET = {_CS: 0x1, _PWR: 0x2D, _FBDIV: 0, _PRIM: 0x77000}
_PLL_LOCK = 1 << 31
_PLL_BYPASS = 1 << 8

_CR0, _CR1, _DR, _SR, _CPSR, _IMSC, _RIS, _MIS, _ICR, _DMACR = range(0x00, 0x28, 4)
_ID = {0xFE0: 0x22, 0xFE4: 0x10, 0xFE8: 0x34, 0xFEC: 0x00, 0xFF0: 0x0D, 0xFF4: 0xF0, 0xFF8: 0x05, 0xFFC: 0xB1}
_CR0_SPH = 1 << 7
_CR1_SSE = 1 << 1
_SR_TFE, _SR_TNF, _SR_RNE, _SR_RFF, _SR_BSY = 1, 2, 4, 8, 16
_INT_OVERRUN, _INT_RX, _INT_TX = 1, 4, 8
_DMA_RX, _DMA_TX = 1, 2


class Pll(BasePeripheral):
    """PLL_SYS or PLL_USB: locks at once."""

    def __init__(self, mcu: RP2040, name: str, changed: Callable[[], None]) -> None:
        super().__init__(mcu, name)
        self._changed = changed
        self._registers = dict(_PLL_RESET)

    def reset(self) -> None:
        """Power-on values; the pico-sdk resets a PLL before it sets it."""
        self._registers = dict(_PLL_RESET)
        self._changed()

    @property
    def hz(self) -> float:
        """Output frequency (2.18.2)."""
        registers = self._registers
        reference = XOSC_HZ / (registers[_CS] & 0x3F or 1)
        if registers[_CS] & _PLL_BYPASS:
            return reference
        divide = (registers[_PRIM] >> 16 & 7) * (registers[_PRIM] >> 12 & 7)
        return reference * (registers[_FBDIV] & 0xFFF) / (divide or 1)

    def read_uint32(self, offset: int) -> int:
        value = self._registers.get(offset, 0)
        return value | _PLL_LOCK if offset == _CS else value

    def write_uint32(self, offset: int, value: int) -> None:
        if offset in self._registers:
            self._registers[offset] = value
            self._changed()


class Clocks(RPClocks):
    """CLOCKS with both PLLs. `on_change` is called when a frequency may have changed."""

    def __init__(self, mcu: RP2040) -> None:
        super().__init__(mcu, "CLOCKS")
        self.on_change: list[Callable[[], None]] = []
        self.pll_sys = Pll(mcu, "PLL_SYS", self._changed)
        self.pll_usb = Pll(mcu, "PLL_USB", self._changed)
        mcu.clocks = self
        mcu.peripherals |= {0x40008: self, 0x40028: self.pll_sys, 0x4002C: self.pll_usb}

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    def reset(self) -> None:
        super().reset()
        self.pll_sys.reset()
        self.pll_usb.reset()

    def write_uint32(self, offset: int, value: int) -> None:
        super().write_uint32(offset, value)
        self._changed()

    @property
    def sys_hz(self) -> float:
        """clk_sys (2.15.6.1)."""
        if self.sys_ctrl & 1:
            source = self._source(self.sys_ctrl, (self.pll_sys.hz, self.pll_usb.hz, ROSC_HZ, XOSC_HZ))
        else:
            source = self._reference_hz
        return source / ((self.sys_div >> 8 or 1 << 16) + (self.sys_div & 0xFF) / 256)

    @property
    def peri_hz(self) -> float:
        """clk_peri, which clocks SPI and UART; it has no divider."""
        sys_hz = self.sys_hz
        return self._source(self.peri_ctrl, (sys_hz, self.pll_sys.hz, self.pll_usb.hz, ROSC_HZ, XOSC_HZ))

    @property
    def _reference_hz(self) -> float:
        source = (ROSC_HZ, self.pll_usb.hz, XOSC_HZ, XOSC_HZ)[self.ref_ctrl & 3]
        return source / (self.ref_div >> 8 & 3 or 4)

    @staticmethod
    def _source(ctrl: int, sources: tuple[float, ...]) -> float:
        select = ctrl >> 5 & 7
        return sources[select] if select < len(sources) else XOSC_HZ  # GPIN pins: nothing is wired to them


class Pl022(BasePeripheral):
    """SPI controller `number` as a master. `exchange` takes a byte of MOSI and returns the byte of MISO."""

    def __init__(self, mcu: RP2040, clocks: Clocks, number: int) -> None:
        replaced = mcu.spi[number]
        super().__init__(mcu, replaced.name)
        self.exchange: Callable[[int], int] = lambda byte: 0  # MISO with nobody on it: the pad's pull-down
        self._irq = replaced.irq
        self._dreq = replaced.dreq
        self._clocks = clocks
        clocks.on_change.append(self._retime)
        self._alarm = mcu.clock.create_alarm(self._shifted)
        mcu.spi[number] = self
        mcu.peripherals[0x4003C + 4 * number] = self
        self.reset()

    def reset(self) -> None:
        """Power-on values."""
        self._alarm.cancel()
        self._tx: deque[int] = deque()
        self._rx: deque[int] = deque()
        self._word = -1  # on the wire, -1: none
        self._cr0 = self._cr1 = self._cpsr = self._imsc = self._dmacr = 0
        self._overrun = False
        self._retime()
        self._signal()

    @property
    def hz(self) -> float:
        """Frequency of SCK, 0 before it is set (4.4.3.4)."""
        return self._clocks.peri_hz / (self._cpsr * (1 + (self._cr0 >> 8))) if self._cpsr else 0.0

    def _retime(self) -> None:
        hz = self.hz
        bit = 1e9 / hz if hz else 0.0
        self._bits = (self._cr0 & 15) + 1
        self._word_ns = self._bits * bit
        self._gap_ns = 0.0 if self._cr0 & _CR0_SPH else GAP_SPH0 * bit

    def _start(self) -> None:
        if self._tx and self._word < 0 and self._cr1 & _CR1_SSE and self._word_ns:
            self._word = self._tx.popleft()
            self._alarm.schedule(self._word_ns)

    def _shifted(self) -> None:
        """The last bit of a word has passed."""
        word = self._word
        if self._bits == 16:
            received = self.exchange(word >> 8) << 8 | self.exchange(word & 0xFF)
        else:
            received = self.exchange(word)
        if len(self._rx) < FIFO:
            self._rx.append(received)
        else:
            self._overrun = True
        if self._tx:
            self._word = self._tx.popleft()
            self._alarm.schedule(self._gap_ns + self._word_ns)
        else:
            self._word = -1
        self._signal()

    def _signal(self) -> None:
        """Tell DMA and interrupt controller how full the FIFOs are."""
        dma = self.rp2040.dma
        if self._dmacr & _DMA_RX and self._rx:
            dma.set_dreq(self._dreq.rx)
        else:
            dma.clear_dreq(self._dreq.rx)
        if self._dmacr & _DMA_TX and len(self._tx) < FIFO:
            dma.set_dreq(self._dreq.tx)
        else:
            dma.clear_dreq(self._dreq.tx)
        if self._imsc:
            self.rp2040.set_interrupt(self._irq, bool(self._raw_interrupts() & self._imsc))

    def _raw_interrupts(self) -> int:
        return (
            (_INT_OVERRUN if self._overrun else 0)
            | (_INT_RX if len(self._rx) >= FIFO // 2 else 0)
            | (_INT_TX if len(self._tx) <= FIFO // 2 else 0)
        )

    def read_uint32(self, offset: int) -> int:
        if offset == _SR:
            tx, rx = len(self._tx), len(self._rx)
            return (
                (0 if tx else _SR_TFE)
                | (_SR_TNF if tx < FIFO else 0)
                | (_SR_RNE if rx else 0)
                | (_SR_RFF if rx == FIFO else 0)
                | (_SR_BSY if tx or self._word >= 0 else 0)
            )
        if offset == _DR:
            if not self._rx:
                return 0
            word = self._rx.popleft()
            self._signal()
            return word
        if offset == _MIS:
            return self._raw_interrupts() & self._imsc
        if offset == _RIS:
            return self._raw_interrupts()
        registers = {
            _CR0: self._cr0,
            _CR1: self._cr1,
            _CPSR: self._cpsr,
            _IMSC: self._imsc,
            _DMACR: self._dmacr,
        }
        return registers.get(offset, _ID.get(offset, 0))

    def write_uint32(self, offset: int, value: int) -> None:
        if offset == _DR:
            if len(self._tx) < FIFO:
                self._tx.append(value & (1 << self._bits) - 1)
                self._start()
                self._signal()
            return
        if offset == _CR0:
            self._cr0 = value & 0xFFFF
            self._retime()
        elif offset == _CR1:
            self._cr1 = value & 0xF
            self._start()
        elif offset == _CPSR:
            self._cpsr = value & 0xFE
            self._retime()
        elif offset == _IMSC:
            self._imsc = value & 0xF
            self.rp2040.set_interrupt(self._irq, False)
        elif offset == _ICR:
            self._overrun = self._overrun and not value & _INT_OVERRUN
        elif offset == _DMACR:
            self._dmacr = value & 3
        self._signal()

    def write_uint32_atomic(self, offset: int, value: int, atomic_type: int) -> None:
        if offset == _DR:  # a read would take a word out of the FIFO
            self.write_uint32(offset, value)
        else:
            super().write_uint32_atomic(offset, value, atomic_type)
