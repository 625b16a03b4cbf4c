"""Silicognition RP2040-Shim on a PoE-FeatherWing.

Source: MicroPython ports/rp2/boards/SIL_RP2040_SHIM (mpconfigboard.h, pins.csv). The wing does not connect RSTn, and
INTn only over a solder jumper; its MAC address is in a 24AA02E48 (hackaday.io/project/168356-poe-featherwing).
"""

NAME = "RP2040-Shim with PoE-FeatherWing"
MCU = "rp2040"
ARCH = "armv6m"

CPU_HZ = 125_000_000
PERIPHERAL_HZ = 125_000_000

SPI_ID = 1
SPI_HZ = 31_250_000  # 125 MHz / 4
SCK = 10
MOSI = 11
MISO = 12
CS = 21  # D10
RST = None
INT = None

LED = 22
LED_ON = 1

IMAGE = "SIL_RP2040_SHIM"
FLASH_FS_BLOCKS = 768
FLASH_BLOCK = 4096

MAC_EEPROM = (0, 16, 17, 0x50)
