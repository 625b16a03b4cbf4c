"""The board the firmware runs on: its port, chip and network core, and the one place where it waits.

In: settings (config.py) and a constants file of hardwire/boards/. User code is ordinary asyncio around `run()`:
the core is served inside asyncio's own wait, so a request never costs a task switch.
"""

import asyncio
import gc

from . import log
from .addresses import ip_bytes, ip_text, mac_bytes
from .compat import const
from .idle import Pump
from .lan import Lan
from .modules import unload
from .net import Net
from .port import CAUSES, Port, Watchdog, reset_cause
from .w5500.chip import Chip

_WATCHDOG_MS = const(8000)
_RETRY_MS = const(2000)  # between attempts to find the chip


def constants(name):
    """The board file `name`. Raises ImportError if there is none."""
    return getattr(__import__("hardwire.boards." + name).boards, name)


class Board:
    """Hardware and network core of the board that `settings` name. `led(on)` switches its LED, if it has one."""

    def __init__(self, settings):
        self.settings = settings
        self.pins = pins = constants(settings["board"])
        self.port = port = Port(pins)
        self.led = port.led
        self.chip = Chip(port.bus, port.reset)
        self.net = Net(self.chip, port.intn)
        self.lan = None
        self._watchdog = None
        self._stopping = []  # called at the end
        self.reset_cause = reset_cause()
        self.chip_version = 0  # as read at start
        self._pump = Pump(self.net, port.intn)
        mac = settings["network"]["mac"]
        self.mac = mac_bytes(mac) if mac else port.mac()

    def started_by(self):
        """Why the board started, in words."""
        return CAUSES[self.reset_cause]

    def equip(self):
        """The map.Device of this board: its data, and all that Modbus can tell of it. See device.py."""
        from .device import equip

        device = equip(self)
        unload(lambda name: name in ("hardwire.device", "hardwire.map_file"))
        return device

    def address(self):
        """The address in use, dotted quad."""
        return ip_text(self.lan.address)

    def start(self):
        """Reset the chip and set the network. Raises ChipError or RuntimeError when the chip does not answer."""
        from .w5500.adafruit import bring_up

        settings = self.settings["network"]
        self.chip.reset()
        self.chip_version = self.chip.version()
        addresses = [ip_bytes(settings[key]) for key in ("address", "netmask", "gateway", "dns")]
        bring_up(self.port.spi, self.port.cs, self.pins.SPI_HZ, self.mac, *addresses)
        unload(lambda name: name == "hardwire.w5500.adafruit")
        self.net.start()
        self.lan = Lan(self.net, self.settings, self.mac)
        log.info(
            "W5500 found, MAC %s; started by %s",
            ":".join("%02x" % byte for byte in self.mac),
            self.started_by(),
        )

    def serve(self, service):
        """Offer `service` (net.Service) with the port and limits of the settings where they name it."""
        service.configure(self.settings["services"].get(service.name, {}))
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
        gc.collect()  # what bring-up needed, 45 KB: now, and not while somebody waits for an answer
        for service in services:
            self.serve(service)
        self._guard()
        timekeeper = asyncio.create_task(self.lan.keep_time())
        self._pump.start()
        try:
            while True:
                await self._pump.readable()
        finally:
            timekeeper.cancel()
            self.stop()

    def _guard(self):
        """Start the hardware watchdog, fed by the core's ticks: what blocks it for long ends in a reset."""
        wanted = self.settings["watchdog"]
        if wanted == "on" or (wanted == "auto" and Watchdog.STOPPABLE):
            self._watchdog = Watchdog(_WATCHDOG_MS)
            self.net.every_tick(self._watchdog.feed)

    def stop(self):
        """Tell the peers, close every socket, let go of pins and timers. For start.py: Ctrl-C unwinds no task."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._pump.stop()
        self.net.stop()
        for function in self._stopping:
            function()

    def at_stop(self, function):
        """Call `function()` when the board stops: a restart, not a power cut."""
        self._stopping.append(function)
