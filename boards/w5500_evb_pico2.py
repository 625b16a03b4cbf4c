"""WIZnet W5500-EVB-Pico2: RP2350A with a W5500 on board, wired as on the W5500-EVB-Pico.

Source: docs.wiznet.io, W5500-EVB-Pico2, pin map; Zephyr boards/wiznet/w5500_evb_pico2.

This board has 2 MB of flash (github.com/orgs/micropython/discussions/18260). The ready-made RPI_PICO2 image takes
it for 4 MB, so that its filesystem would wrap around onto the program: build it with PICO_FLASH_SIZE_BYTES=2097152.
"""

NAME = "W5500-EVB-Pico2"
MCU = "rp2350"
ARCH = "armv7emsp"

CPU_HZ = 150_000_000
PERIPHERAL_HZ = 150_000_000

SPI_ID = 0
SPI_HZ = 25_000_000  # 150 MHz / 6; / 4 would be above 33.3 MHz
SCK = 18
MOSI = 19
MISO = 16
CS = 17
RST = 20
INT = 21

LED = 25
LED_ON = 1

IMAGE = "RPI_PICO2"
FLASH_FS_BLOCKS = 256  # all but 1 MB (ports/rp2/boards/RPI_PICO2/mpconfigboard.h) of the 2 MB
FLASH_BLOCK = 4096

MAC_EEPROM = None
