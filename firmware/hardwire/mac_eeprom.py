"""MAC addresses from a 24AA02E48: 256 bytes on I2C, of which the last six are one that nobody else has.

Source: Microchip 24AA02E48/24AA025E48 datasheet, section "Pre-programmed EUI-48".
"""

from machine import I2C, Pin

from .compat import const

_EUI48 = const(0xFA)
_GROUP = const(1)  # IEEE 802: an address with this bit is not a station's


def read(number, sda, scl, address):
    """The address as 6 bytes, from the chip at `address` on I2C `number`. None if there is no such chip."""
    try:
        mac = I2C(number, sda=Pin(sda), scl=Pin(scl)).readfrom_mem(address, _EUI48, 6)
    except OSError:  # the board is without its Ethernet half
        return None
    return None if mac[0] & _GROUP or not any(mac) else mac
