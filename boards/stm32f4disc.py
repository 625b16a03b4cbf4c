"""ST STM32F4DISCOVERY with a W5500 module.

Source: MicroPython ports/stm32/boards/STM32F4DISC (mpconfigboard.h, pins.csv), stm32f405.ld. SPI 2, because the motion
sensor of the board is on SPI 1. RSTn and INTn are on pins that nothing else on the board uses.
"""

NAME = "STM32F4DISCOVERY with a W5500 module"
MCU = "stm32f407"
ARCH = "armv7emsp"

CPU_HZ = 168_000_000
PERIPHERAL_HZ = 42_000_000  # APB1

SPI_ID = 2
SPI_HZ = 21_000_000  # 42 MHz / 2
SCK = "PB13"
MOSI = "PB15"
MISO = "PB14"
CS = "PB12"
RST = "PE8"
INT = "PE7"

LED = "LED_GREEN"
LED_ON = 1

IMAGE = "STM32F4DISC"
FLASH_FS_BLOCKS = 0  # 112 KB in all

MAC_EEPROM = None
