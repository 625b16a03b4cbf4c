"""Raspberry Pi Pico with a W5500 module (WIZ850io, USR-ES1, ...) on jumper wires, wired as on the W5500-EVB-Pico.

Source: WIZnet-PICO-C port/ioLibrary_Driver/inc/wizchip_spi.h, the default pins; Raspberry Pi Pico datasheet.
A module whose INTn is not wired needs INT = None; its RSTn has a pull-up, so it can be left open with RST = None.
"""

NAME = "Raspberry Pi Pico with a W5500 module"
MCU = "rp2040"
ARCH = "armv6m"

CPU_HZ = 125_000_000
PERIPHERAL_HZ = 125_000_000

SPI_ID = 0
SPI_HZ = 15_625_000  # 125 MHz / 8: what jumper wires carry; short and soldered ones take 31_250_000
SCK = 18
MOSI = 19
MISO = 16
CS = 17
RST = 20
INT = 21

LED = 25
LED_ON = 1

IMAGE = "RPI_PICO"
FLASH_FS_BLOCKS = 352
FLASH_BLOCK = 4096

MAC_EEPROM = None
