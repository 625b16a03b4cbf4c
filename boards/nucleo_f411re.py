"""ST NUCLEO-F411RE with WIZnet's W5500 Ethernet Shield, or a module wired to the same Arduino pins.

Source: MicroPython ports/stm32/boards/NUCLEO_F411RE (mpconfigboard.h, pins.csv), stm32f411.ld; Zephyr
boards/shields/wiznet_w5500 (the shield's pins). The shield's RSTn is the board's own reset, and the only LED, LD2, is
on SCK.
"""

NAME = "NUCLEO-F411RE with a W5500 shield"
MCU = "stm32f411"
ARCH = "armv7emsp"

CPU_HZ = 96_000_000
PERIPHERAL_HZ = 48_000_000  # APB2

SPI_ID = 1
SPI_HZ = 24_000_000  # 48 MHz / 2
SCK = "D13"
MOSI = "D11"
MISO = "D12"
CS = "D10"
RST = None
INT = "D2"

LED = None
LED_ON = 1

IMAGE = "NUCLEO_F411RE"
FLASH_FS_BLOCKS = 0  # 64 KB in all

MAC_EEPROM = None
