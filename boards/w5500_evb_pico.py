"""WIZnet W5500-EVB-Pico: RP2040 with a W5500 on board. Also a Raspberry Pi Pico with WIZnet's Ethernet HAT.

Source: docs.wiznet.io, W5500-EVB-Pico, pin map; MicroPython ports/rp2/boards/W5500_EVB_PICO.
"""

NAME = "W5500-EVB-Pico"
MCU = "rp2040"
ARCH = "armv6m"

CPU_HZ = 125_000_000
PERIPHERAL_HZ = 125_000_000  # MicroPython leaves clk_peri at 48 MHz, which caps SPI at 24 MHz

SPI_ID = 0
SPI_HZ = 31_250_000  # 125 MHz / 4
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
