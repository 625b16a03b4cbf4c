"""Bring-up through Adafruit's adafruit_wiznet5k: detect and reset the chip, set the network, keep a DHCP lease.

The library's files are used unmodified. What does not fit is put around them: its waits of several seconds (we
reset the chip and watch the link ourselves), two exceptions MicroPython lacks, and a lease of more than three days,
which overflows its ticks. After bring-up with a static address the library is unloaded: 44 KB of heap.
"""

import builtins
import gc
import sys

from .. import log
from ..compat import sleep_ms
from ..config import ip_bytes, ip_text

_LONGEST_SLEEP_MS = 2  # the chip is reset and running before the library sees it
_TURN_MS = 2  # between turns of the network core while the library waits ...
_POLL_TURNS = 10  # ... and turns between two looks of the library: one costs it a millisecond
_LEASE_MAX_MS = (1 << 28) - 1  # ticks_add of adafruit_ticks takes no more; renewing early is harmless

for _name in ("ConnectionError", "TimeoutError"):
    if not hasattr(builtins, _name):
        setattr(builtins, _name, type(_name, (OSError,), {}))


class _Time:
    @staticmethod
    def sleep(seconds):
        sleep_ms(min(int(seconds * 1000), _LONGEST_SLEEP_MS))


def _driver_class(turn):
    from adafruit_wiznet5k import adafruit_wiznet5k as library
    from adafruit_wiznet5k import adafruit_wiznet5k_dhcp as dhcp

    library.time = _Time
    add = dhcp.ticks_add
    dhcp.ticks_add = lambda ticks, delta: add(ticks, min(delta, _LEASE_MAX_MS))

    class Driver(library.WIZNET5K):
        link_status = True  # the caller watches the link; the library would wait 5 s for it

        def socket_available(self, socket_num, sock_type=0x21):
            # The library waits for answers in a loop around this: other sockets are served meanwhile.
            for _ in range(_POLL_TURNS):
                turn()
                sleep_ms(_TURN_MS)
            return super().socket_available(socket_num, sock_type)

    return Driver


def _unload():
    for name in list(sys.modules):
        if name.startswith("adafruit_") or name in ("busio", "digitalio"):
            del sys.modules[name]
    gc.collect()


class Network:
    """The chip's network settings, from `settings` (the "network" section of config.py).

    `spi` is a machine.SPI, `cs` the chip-select machine.Pin; `mac` six bytes. `turn()` is called while DHCP waits.
    """

    def __init__(self, spi, cs, baudrate, mac, name, settings, turn):
        import busio
        import digitalio

        self._settings = settings
        self._driver = _driver_class(turn)(
            busio.SPI(bus=spi),
            digitalio.DigitalInOut(cs),
            is_dhcp=False,
            mac=mac,
            spi_baudrate=baudrate,
        )
        self._name = name
        self._busy = False
        self._use_static()
        if settings["mode"] != "dhcp":
            self._driver = None
            _unload()

    def _use_static(self):
        settings = self._settings
        keys = ("address", "netmask", "gateway", "dns")
        self._driver.ifconfig = tuple(ip_bytes(settings[key]) for key in keys)

    @property
    def dynamic(self):
        """True if the address comes from DHCP and needs `maintain`."""
        return self._driver is not None

    def lease(self):
        """Ask for an address if the settings say so; the static one stays when nobody answers. Returns success."""
        if self._driver is None:
            return True
        self._busy = True
        try:
            self._driver.set_dhcp(self._name)
        except (RuntimeError, OSError) as error:
            self._use_static()
            log.warning("no DHCP lease (%s): address %s", error, self._settings["address"])
            return False
        finally:
            self._busy = False
        log.info("DHCP lease: address %s", ip_text(self._driver.ip_address))
        return True

    def maintain(self):
        """Renew the lease when its time comes; to be called every second or so."""
        if self._driver is None or self._busy:
            return
        self._busy = True
        try:
            self._driver.maintain_dhcp_lease()
        except (RuntimeError, OSError) as error:
            log.warning("DHCP: %s", error)
            self._use_static()
        finally:
            self._busy = False
        client = self._driver._dhcp_client
        if client and bytes(client.local_ip) == bytes(4):
            # The library takes the NAK to a renewal for a missing answer, and would use the address for ever.
            log.warning("DHCP: the server has taken the address back")
            self.lease()
