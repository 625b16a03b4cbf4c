"""What differs between MicroPython's ports, MCUs and boards: pins, clocks, SPI, interrupts, watchdog, identity.

In: the constants of a board file (hardwire/boards/). Out: a bus to the chip and pins, the same for every board.
Checked against MicroPython 1.25, ports rp2 and stm32. Others that know `machine` use what is the same everywhere
(idle.py), or serve one kind of board (w5500/bus_pio.py, entropy.py, mac_eeprom.py, lib/).
"""

import sys

import machine
from machine import Pin

from .addresses import own_mac
from .compat import const

_WATCHDOG_MAX_RP2, _WATCHDOG_MAX_STM32 = const(8388), const(32_767)  # ms: machine_wdt.c of each port

# machine.reset_cause() numbers them alike on both ports, each knows some (modmachine.c).
CAUSES = "soft reset", "power-on", "reset pin", "watchdog", "deep sleep", "reset by program"
_WDT, _PROGRAM = const(3), const(5)
# The RP2 chips reset themselves by watchdog too. pico-sdk, hardware_watchdog: a timeout leaves this in SCRATCH4.
_SCRATCH4 = {"rp2040": 0x4005801C, "rp2350": 0x400D801C}
_TIMEOUT = 0x6AB73121
# CTRL of their watchdog, and the alias that clears bits (RP2040 datasheet 2.1.2, 4.7.6).
_WATCHDOG = {"rp2040": 0x40058000, "rp2350": 0x400D8000}
_CLEAR = const(0x3000)
_ENABLE = 1 << 30


def mcu():
    """The MCU this runs on and the board its image is for, lower case."""
    return sys.implementation._machine.lower()


def reset_cause():
    """Why the board started: an index of CAUSES."""
    cause = machine.reset_cause()
    if cause == _WDT:
        for name, address in _SCRATCH4.items():
            if name in mcu() and machine.mem32[address] != _TIMEOUT:
                return _PROGRAM
    return cause


class Watchdog:
    """The hardware watchdog, started. `feed()` it before `timeout_ms` have passed, or the board is reset.

    The timeout is the port's longest if that is less: 8.4 s on RP2, about 32 s on STM32 (its clock is no quartz).
    """

    STOPPABLE = "rp2" in mcu()

    def __init__(self, timeout_ms):
        longest = _WATCHDOG_MAX_RP2 if self.STOPPABLE else _WATCHDOG_MAX_STM32
        self.feed = machine.WDT(timeout=min(max(timeout_ms, 1), longest)).feed

    def stop(self):
        """Let the REPL live. Nothing stops an STM32's (RM0383, 15.3): it is reset."""
        for name, address in _WATCHDOG.items():
            if name in mcu():
                machine.mem32[address + _CLEAR] = _ENABLE


class Port:
    """A board's hardware, set up as its file `pins` says. Raises ValueError if that is a file for another MCU.

    Attributes:
        spi: `machine.SPI` or what does as one. cs: its `machine.Pin`. bus: SPI frames, see w5500/bus.py.
        reset: the pin RSTn, None where the board does not wire it. intn: the pin INTn, likewise.
    """

    def __init__(self, pins):
        if pins.MCU not in mcu():
            raise ValueError("%s has an %s, this is a %s" % (pins.NAME, pins.MCU, mcu()))
        self._pins = pins
        self._rp2 = pins.MCU.startswith("rp2")
        if self._rp2:  # an STM32 image starts at full speed, and its SPI follows
            machine.freq(pins.CPU_HZ, pins.PERIPHERAL_HZ)
        self._led = None if pins.LED is None else Pin(pins.LED, Pin.OUT, value=1 - pins.LED_ON)
        self.cs = Pin(pins.CS, Pin.OUT, value=1)
        self.reset = None if pins.RST is None else Pin(pins.RST, Pin.OUT, value=1)
        self.intn = None if pins.INT is None else Pin(pins.INT, Pin.IN, Pin.PULL_UP)
        self._open()

    def _open(self):
        pins = self._pins
        if pins.SPI_ID is None:
            from .w5500.bus_pio import Bus, Spi

            self.spi = Spi(pins.PIO_SM, pins.SPI_HZ, pins.SCK, pins.MOSI, pins.MISO)
            self.bus = Bus(self.spi, self.cs)
            return
        wires = {}  # stm32 knows the pins of each SPI and takes none
        if self._rp2:
            wires = {"sck": Pin(pins.SCK), "mosi": Pin(pins.MOSI), "miso": Pin(pins.MISO)}
        # Mode 3: in mode 0 the SPI of RP2 puts two clocks between bytes.
        self.spi = machine.SPI(pins.SPI_ID, pins.SPI_HZ, polarity=1, phase=1, **wires)
        if pins.MCU == "rp2040":  # RP2350 has these registers elsewhere
            from .w5500.bus_rp2040 import Bus

            self.bus = Bus(pins.SPI_ID, pins.CS)
        else:
            from .w5500.bus import Bus

            self.bus = Bus(self.spi, self.cs)

    def led(self, on):
        """Switch the board's LED, if there is one."""
        if self._led is not None:
            self._led(self._pins.LED_ON if on else 1 - self._pins.LED_ON)

    def mac(self):
        """The board's own MAC address, else a locally administered one from the MCU's unique id."""
        if self._pins.MAC_EEPROM:
            from .mac_eeprom import read

            mac = read(*self._pins.MAC_EEPROM)
            if mac:
                return mac
        return own_mac(machine.unique_id(), self._rp2)
