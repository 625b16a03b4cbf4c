"""What the MicroPython images of our boards have: names of pins, SPIs, clocks, generator of random numbers, flash.

From ports/rp2/boards and ports/stm32/boards of MicroPython 1.25: mpconfigboard.h, pins.csv, *.ld.
"""

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Image:
    """What distinguishes one MicroPython image from another.

    machine: sys.implementation._machine. names: CPU name of a pin by every name that Pin takes, STM32 only.
    spi: pins (SCK, MOSI, MISO) and clock of each SPI, STM32 only. cpu_hz: as it starts, likewise. rng: whether there
    is os.urandom. fs_bytes: of littlefs; 0: too little for the firmware.
    """

    machine: str
    names: dict[str, str] = field(default_factory=dict)
    spi: dict[int, tuple[tuple[str, str, str], int]] = field(default_factory=dict)
    cpu_hz: int = 0
    rng: bool = True
    fs_bytes: int = 0


def _ports(text: str) -> list[str]:
    """CPU pins from "A0-15 C13": A0 ... A15, C13."""
    found = []
    for port, first, last in re.findall(r"([A-H])(\d+)(?:-(\d+))?", text):
        found += [f"{port}{number}" for number in range(int(first), int(last or first) + 1)]
    return found


def _names(cpu: str, prefix: str | None, aliases: str) -> dict[str, str]:
    """Pin names of an image: board names first, as Pin looks them up (pin.c, pin_find)."""
    pins = {name: name for name in _ports(cpu)}
    if prefix is not None:
        pins |= {prefix + name: name for name in _ports(cpu)}
    return pins | dict(alias.split(",") for alias in aliases.split())


_NUCLEO_CPU = "A0-12 A15 B0-10 B12-15 C0-15 D2 H0-1"
_NUCLEO_ALIASES = (
    "D0,A3 D1,A2 D2,A10 D3,B3 D4,B5 D5,B4 D6,B10 D7,A8 D8,A9 D9,C7 D10,B6 D11,A7 D12,A6 D13,A5 D14,B9 D15,B8 "
    "A0,A0 A1,A1 A2,A4 A3,B0 A4,C1 A5,C0"
)
_PYBV11_ALIASES = (
    "X1,A0 X2,A1 X3,A2 X4,A3 X5,A4 X6,A5 X7,A6 X8,A7 X9,B6 X10,B7 X11,C4 X12,C5 X17,B3 X18,C13 X19,C0 X20,C1 X21,C2 "
    "X22,C3 Y1,C6 Y2,C7 Y3,B8 Y4,B9 Y5,B12 Y6,B13 Y7,B14 Y8,B15 Y9,B10 Y10,B11 Y11,B0 Y12,B1 SW,B3 LED_RED,A13 "
    "LED_GREEN,A14 LED_YELLOW,A15 LED_BLUE,B4"
)
_SPI1, _SPI2 = ("A5", "A7", "A6"), ("B13", "B15", "B14")

IMAGES = {
    "RPI_PICO": Image("Raspberry Pi Pico with RP2040", fs_bytes=1408 << 10),
    "RPI_PICO2": Image("Raspberry Pi Pico2 with RP2350", fs_bytes=(2 << 20) - (1 << 20)),
    "SIL_RP2040_SHIM": Image("Silicognition RP2040-Shim with RP2040", fs_bytes=3 << 20),
    "PYBV11": Image(
        "PYBv1.1 with STM32F405RG",
        _names("A0-15 B0-15 C0-13", None, _PYBV11_ALIASES),
        {1: (_SPI1, 84_000_000), 2: (_SPI2, 42_000_000)},
        168_000_000,
    ),
    "NUCLEO_F411RE": Image(
        "NUCLEO-F411RE with STM32F411xE",
        _names(_NUCLEO_CPU, "P", _NUCLEO_ALIASES),
        {1: (_SPI1, 48_000_000), 2: (_SPI2, 24_000_000), 3: (("B3", "B5", "B4"), 24_000_000)},
        96_000_000,
        rng=False,
    ),
    "NUCLEO_F446RE": Image(
        "NUCLEO-F446RE with STM32F446xx",
        _names(_NUCLEO_CPU, "P", _NUCLEO_ALIASES),
        {1: (_SPI1, 84_000_000), 2: (_SPI2, 42_000_000), 3: (("B3", "B5", "B4"), 42_000_000)},
        168_000_000,
        rng=False,
    ),
    "WEACT_F411_BLACKPILL": Image(
        "WEACT_F411_BLACKPILL with STM32F411CE",
        _names("A0-12 A15 B0-10 B12-15 C13-15", None, "LED_BLUE,C13 SW,A0"),
        {2: (_SPI2, 24_000_000), 3: (("B3", "B5", "B4"), 24_000_000)},  # SPI 1 is reserved with a flash chip
        96_000_000,
        rng=False,
    ),
    "STM32F4DISC": Image(
        "F4DISC with STM32F407",
        _names(
            "A0-10 A13-15 B0-2 B4-15 C0-15 D0-15 E0-15 H0-1",
            "P",
            "LED_GREEN,D12 LED_ORANGE,D13 LED_RED,D14 LED_BLUE,D15 SW,A0",
        ),
        {1: (_SPI1, 84_000_000), 2: (_SPI2, 42_000_000)},
        168_000_000,
    ),
}
