"""The virtual board: an emulated RP2040 with a W5500 on a virtual Ethernet segment."""

from .. import native

native.install()
