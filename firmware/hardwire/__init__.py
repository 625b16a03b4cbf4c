"""Ethernet firmware for RP2040 and STM32 boards with a WIZnet W5500."""

__version__ = "0.1.0"
