"""One file of constants per board; read by the firmware (hardwire.port), the PC tools, the virtual board and tests.

Never: logic, imports. Pins are what that port's `machine.Pin` takes: a GPIO number on RP2, a name on STM32.

    NAME            the board and what it is wired to, for people
    MCU             as in sys.implementation._machine, lower case: "rp2040", "rp2350", "stm32f411", ...
    ARCH            of native code in .mpy files (mpy-cross -march)
    CPU_HZ, PERIPHERAL_HZ   clocks of the CPU and of the SPI peripheral. On RP2 they are set, on STM32 the image did
    SPI_ID          hardware SPI; None: the chip is on PIO, state machine PIO_SM
    SPI_HZ          exactly what the dividers make of PERIPHERAL_HZ, 33.3 MHz at most (datasheet 5.5.4)
    SCK, MOSI, MISO, CS     on STM32 the first three come with SPI_ID and are here for who wires it
    RST             RSTn; None: not wired, the chip is reset by command
    INT             INTn; None: not wired, the chip is asked
    LED, LED_ON     the user's LED and the level that lights it; None: none, or its pin is taken
    IMAGE           board of the MicroPython image (ports/rp2/boards, ports/stm32/boards)
    FLASH_FS_BLOCKS, FLASH_BLOCK    its littlefs. None, 0: no room for the firmware's files, they are frozen in
    MAC_EEPROM      (I2C id, SDA, SCL, address) of a 24AA02E48 that holds a MAC address; None: there is none
"""
