"""Bring-up through Adafruit's adafruit_wiznet5k: it detects the chip and sets its network registers.

The library's files are used unmodified. What does not fit is put around them: its waits of several seconds (we
reset the chip and watch the link ourselves), two exceptions that MicroPython lacks, and modules that it imports for
functions nobody calls here. Afterwards it is unloaded: the data path is chip.py's.
"""

import builtins
import sys

from ..compat import sleep_ms, ticks_diff, ticks_ms
from ..modules import unload

_LONGEST_SLEEP_MS = 2  # the chip is reset and running before the library sees it

for _name in ("ConnectionError", "TimeoutError"):
    if not hasattr(builtins, _name):
        setattr(builtins, _name, type(_name, (OSError,), {}))


class _Ticks:
    """Stands for adafruit_ticks."""

    ticks_ms = ticks_ms
    ticks_diff = ticks_diff


class _Unused:
    """Stands for its DHCP and DNS: 30 KB of heap while they load, and a hundred names that would stay for ever."""


class _Time:
    @staticmethod
    def sleep(seconds):
        sleep_ms(min(int(seconds * 1000), _LONGEST_SLEEP_MS))


def bring_up(spi, cs, baudrate, mac, address, netmask, gateway, dns):
    """Detect the chip on `spi` (machine.SPI) and `cs` (machine.Pin), set its addresses.

    Raises OSError or RuntimeError when there is none.
    """
    import adafruit_wiznet5k as package

    stands_for = {"adafruit_ticks": _Ticks}
    for name in ("adafruit_wiznet5k_dhcp", "adafruit_wiznet5k_dns"):
        stands_for["adafruit_wiznet5k." + name] = _Unused
        setattr(package, name, _Unused)
    sys.modules.update(stands_for)

    import busio
    import digitalio
    from adafruit_wiznet5k import adafruit_wiznet5k as library

    library.time = _Time

    class Driver(library.WIZNET5K):
        link_status = True  # the library would wait 5 s for it

    try:
        driver = Driver(
            busio.SPI(bus=spi),
            digitalio.DigitalInOut(cs),
            is_dhcp=False,
            mac=mac,
            spi_baudrate=baudrate,
        )
        driver.ifconfig = address, netmask, gateway, dns
    finally:
        for name in stands_for:
            del sys.modules[name]
        unload(lambda name: name.startswith("adafruit_") or name in ("busio", "digitalio"))
