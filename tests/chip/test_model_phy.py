"""PHYCFGR and the rate of the cable (datasheet 4.1)."""

import pytest

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.w5500 import W5500

AUTO, FORCED = 0xF8, 0xC0  # RST and all capable; RST and OPMD, the mode is added

# Rate of the segment, PHYCFGR as written, as read, rate at which the chip sends
CASES = (
    (100, AUTO, AUTO | 0b111, 100),
    (10, AUTO, AUTO | 0b101, 10),
    (100, FORCED | 0b001 << 3, FORCED | 0b001 << 3 | 0b101, 10),
    (100, FORCED | 0b011 << 3, FORCED | 0b011 << 3 | 0b111, 100),
    (10, FORCED | 0b011 << 3, FORCED | 0b011 << 3, 10),  # the partner cannot: no link
    (10, FORCED | 0b000 << 3, FORCED | 0b001, 10),
)


@pytest.mark.parametrize(("rate", "written", "read", "sends"), CASES)
def test_rate(rate, written, read, sends):
    clock = Clock()
    port = Segment(clock, rate=rate * 1_000_000).attach("chip")
    chip = W5500(clock, port)
    chip.frame(bytes((0, R.PHYCFGR, R.WRITE, written)))
    assert chip.frame(bytes((0, R.PHYCFGR, 0, 0)))[3] == read
    assert port.rate == sends * 1_000_000
