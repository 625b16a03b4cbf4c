"""WIZnet W55RP20-EVB-Pico: RP2040 and W5500 in one package, on pins that no hardware SPI reaches in these roles.

Source: WIZnet-PICO-C port/ioLibrary_Driver/inc/wizchip_spi.h (W55RP20_EVB_PICO); Zephyr
boards/wiznet/w55rp20_evb_pico (.dts, also the LED and 2 MB of flash); docs.wiznet.io, W55RP20-EVB-Pico. An early board
file of WIZnet's MicroPython has RST and INT on 24 and 21; the sources above and CircuitPython's agree on 25 and 24.
"""

NAME = "W55RP20-EVB-Pico"
MCU = "rp2040"
ARCH = "armv6m"

CPU_HZ = 125_000_000
PERIPHERAL_HZ = 125_000_000

SPI_ID = None
PIO_SM = 4  # the first of PIO 1: most programs use those of PIO 0
SPI_HZ = 31_250_000  # the PIO program takes four clocks per bit
SCK = 21
MOSI = 23
MISO = 22
CS = 20
RST = 25
INT = 24

LED = 19
LED_ON = 1

IMAGE = "RPI_PICO"
FLASH_FS_BLOCKS = 352
FLASH_BLOCK = 4096

MAC_EEPROM = None
