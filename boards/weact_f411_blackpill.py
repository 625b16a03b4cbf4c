"""WeAct F411 "Black Pill" with a W5500 module.

Source: MicroPython ports/stm32/boards/WEACT_F411_BLACKPILL (mpconfigboard.h, pins.csv), stm32f411.ld. SPI 2, because
SPI 1 belongs to the flash chip that some of these boards carry. RSTn and INTn are on free pins beside it.
"""

NAME = "WeAct F411 with a W5500 module"
MCU = "stm32f411"
ARCH = "armv7emsp"

CPU_HZ = 96_000_000
PERIPHERAL_HZ = 24_000_000  # APB1

SPI_ID = 2
SPI_HZ = 12_000_000  # 24 MHz / 2
SCK = "B13"
MOSI = "B15"
MISO = "B14"
CS = "B12"
RST = "B0"
INT = "B1"

LED = "LED_BLUE"
LED_ON = 0

IMAGE = "WEACT_F411_BLACKPILL"
FLASH_FS_BLOCKS = 0  # 64 KB in all

MAC_EEPROM = None
