"""WIZnet W5500-EVB-Pico: RP2040 with a W5500 on board. Also a Raspberry Pi Pico with WIZnet's Ethernet HAT.

Source: docs.wiznet.io, W5500-EVB-Pico, pin map; MicroPython ports/rp2/boards/W5500_EVB_PICO/pins.csv.
"""

NAME = "W5500-EVB-Pico"
MCU = "rp2040"
ARCH = "armv6m"  # of native code in .mpy files (mpy-cross -march)

CPU_HZ = 125_000_000
PERIPHERAL_HZ = 125_000_000  # MicroPython leaves clk_peri at 48 MHz, which caps SPI at 24 MHz

SPI_ID = 0
SPI_HZ = 31_250_000  # 125 MHz / 4: the fastest within the 33.3 MHz that the chip guarantees
SCK = 18
MOSI = 19
MISO = 16
CS = 17
RST = 20
INT = 21  # INTn, active low

LED = 25
LED_ON = 1

IMAGE = "RPI_PICO"  # MicroPython board the image is built for
FLASH_FS_BLOCKS = 352  # of littlefs in that image
FLASH_BLOCK = 4096
