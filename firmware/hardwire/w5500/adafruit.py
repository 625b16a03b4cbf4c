"""Bring-up through Adafruit's adafruit_wiznet5k: it detects the chip and sets its network registers.

The library's files are used unmodified. What does not fit is put around them: its waits of several seconds (we
reset the chip and watch the link ourselves) and two exceptions that MicroPython lacks. Afterwards it is unloaded, which
will give 44 KB of heap back: the data path is chip.py's.
"""

import builtins
import sys

from ..compat import sleep_ms

_LONGEST_SLEEP_MS = 2  # the chip is reset and running before the library sees it

for _name in ("ConnectionError", "TimeoutError"):
    if not hasattr(builtins, _name):
        setattr(builtins, _name, type(_name, (OSError,), {}))


class _Time:
    @staticmethod
    def sleep(seconds):
        sleep_ms(min(int(seconds * 1000), _LONGEST_SLEEP_MS))


def bring_up(spi, cs, baudrate, mac, address, netmask, gateway, dns):
    """Detect the chip on `spi` (machine.SPI) and `cs` (machine.Pin), set its addresses.

    Raises OSError or RuntimeError when there is none.
    """
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
        for name in list(sys.modules):
            if name.startswith("adafruit_") or name in ("busio", "digitalio"):
                # What the collector takes for a pointer (Thumb code in the heap looks like some) may keep one
                # function alive, not all modules by it; and MicroPython's dict keeps the value of what is deleted.
                sys.modules[name].__dict__.clear()
                sys.modules[name] = None
                del sys.modules[name]
