"""The board the firmware runs on: pins, LED, chip and network core, and the one place where it waits.

In: settings (config.py) and a constants file of hardwire/boards/. User code is ordinary asyncio around `run()`:
the core is served inside asyncio's own wait, so a request never costs a task switch.
"""

import asyncio

import machine

from . import log
from .compat import const, sleep_ms, ticks_diff, ticks_ms
from .config import ip_text, mac_bytes
from .idle import Pump
from .net import Net
from .w5500.bringup import Network
from .w5500.chip import Chip

_LINK_WAIT_MS = const(5000)  # for DHCP at start: auto-negotiation takes 2 to 3 s
_RETRY_MS = const(2000)  # between attempts to find the chip
_LEASE_CHECK_MS = const(1000)


def constants(name):
    """The board file `name`. Raises ImportError if there is none."""
    return getattr(__import__("hardwire.boards." + name).boards, name)


def unique_mac():
    """A locally administered address from the MCU's unique id (IEEE 802, second bit of the first byte set)."""
    return b"\x02" + machine.unique_id()[-5:]


class Board:
    """Pins and chip of the board that `settings` name."""

    def __init__(self, settings):
        self.settings = settings
        self.pins = pins = constants(settings["board"])
        machine.freq(pins.CPU_HZ, pins.PERIPHERAL_HZ)
        self._led = machine.Pin(pins.LED, machine.Pin.OUT, value=1 - pins.LED_ON)
        self._cs = machine.Pin(pins.CS, machine.Pin.OUT, value=1)
        self._reset = machine.Pin(pins.RST, machine.Pin.OUT, value=1)
        self._spi = machine.SPI(
            pins.SPI_ID,
            pins.SPI_HZ,
            polarity=1,  # mode 3: in mode 0 the RP2040's SPI puts two clocks between bytes
            phase=1,
            sck=machine.Pin(pins.SCK),
            mosi=machine.Pin(pins.MOSI),
            miso=machine.Pin(pins.MISO),
        )
        self.chip = Chip(self._bus(), self._reset)
        intn = machine.Pin(pins.INT, machine.Pin.IN, machine.Pin.PULL_UP)
        self.net = Net(self.chip, intn)
        self.network = None
        self.chip_version = 0  # as read at start
        self._pump = Pump(self.net, intn)
        mac = settings["network"]["mac"]
        self.mac = mac_bytes(mac) if mac else unique_mac()

    def _bus(self):
        if self.pins.MCU == "rp2040":
            from .w5500.bus_rp2040 import Bus

            return Bus(self.pins.SPI_ID, self.pins.CS)
        from .w5500.bus import Bus

        return Bus(self._spi, self._cs)

    def led(self, on):
        """Switch the board's LED."""
        self._led(self.pins.LED_ON if on else 1 - self.pins.LED_ON)

    def address(self):
        """The address in use, dotted quad."""
        return ip_text(self.chip.network()[0])

    def start(self):
        """Reset the chip and set the network. Raises ChipError or RuntimeError when the chip does not answer."""
        settings = self.settings["network"]
        self.chip.reset()
        self.chip_version = self.chip.version()
        self.network = Network(
            self._spi, self._cs, self.pins.SPI_HZ, self.mac, self.settings["name"], settings, self.net.turn
        )
        if settings["mode"] == "dhcp":
            start = ticks_ms()
            while not self.chip.link() and ticks_diff(ticks_ms(), start) < _LINK_WAIT_MS:
                sleep_ms(100)
            self.network.lease()
        self.net.start()
        log.info("W5500 at %s, %s", self.address(), ":".join("%02x" % byte for byte in self.mac))

    def serve(self, service):
        """Offer `service` (net.Service) with the port and limits of the settings where they name it."""
        limits = self.settings["services"].get(service.name, {})
        service.port = limits.get("port", service.port)
        service.connections = limits.get("connections", service.connections)
        service.idle_s = limits.get("idle_s", service.idle_s)
        if service.connections:
            self.net.serve(service)
            log.info("%s on port %d, %d connections", service.name, service.port, service.connections)

    async def run(self, services=()):
        """Find the chip, however long it takes, then serve `services` until cancelled."""
        while True:
            try:
                self.start()
                break
            except (OSError, RuntimeError) as error:
                log.error("%s", error)
                await asyncio.sleep_ms(_RETRY_MS)
        for service in services:
            self.serve(service)
        keeper = asyncio.create_task(self._keep_lease())
        self._pump.start()
        try:
            while True:
                await self._pump.readable()
        finally:
            keeper.cancel()
            self.stop()

    def stop(self):
        """Tell the peers, close every socket, let go of pins and timers. For start.py: Ctrl-C unwinds no task."""
        self._pump.stop()
        self.net.stop()

    async def _keep_lease(self):
        while self.network.dynamic:
            await asyncio.sleep_ms(_LEASE_CHECK_MS)
            self.network.maintain()
