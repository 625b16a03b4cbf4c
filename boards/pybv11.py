"""Pyboard v1.1 with a WIZ850io or another W5500 module in its X row.

Source: MicroPython docs, class WIZNET5K, wiring; ports/stm32/boards/PYBV11 (mpconfigboard.h, pins.csv), stm32f405.ld.
INTn goes to X3: any pin would do whose EXTI line nothing else uses.
"""

NAME = "PYBv1.1 with a W5500 module"
MCU = "stm32f405"
ARCH = "armv7emsp"

CPU_HZ = 168_000_000
PERIPHERAL_HZ = 84_000_000  # APB2

SPI_ID = 1
SPI_HZ = 21_000_000  # 84 MHz / 4
SCK = "X6"
MOSI = "X8"
MISO = "X7"
CS = "X5"
RST = "X4"
INT = "X3"

LED = "LED_BLUE"
LED_ON = 1

IMAGE = "PYBV11"
FLASH_FS_BLOCKS = 0  # 112 KB in all

MAC_EEPROM = None
