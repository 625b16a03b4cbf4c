"""Flash that takes its time: how long each write is, what goes on meanwhile, and what does not."""

from itertools import pairwise

import pytest
from rp2040py.clock.simulation_clock import SimulationClock
from rp2040py.gpio_pin import GPIOPinState
from rp2040py.peripherals import ssi
from rp2040py.rp2040 import RP2040

from hardwire.addresses import ip_bytes
from hardwire_host.bundle import blank_filesystem
from hardwire_host.virtual import packets
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_US
from hardwire_host.virtual.rp2040_flash import BLOCK_ERASE_NS, PAGE_PROGRAM_NS, SECTOR_ERASE_NS, Flash

BOARD = "w5500_evb_pico"
MAC, IP = b"\x02\0\0\0\0\x20", ip_bytes("192.168.77.20")
PC_MAC, PC_IP = b"\x02\0\0\0\0\x01", ip_bytes("192.168.77.1")
NOWHERE = bytes(6)
ANSWER_NS = 50 * NS_PER_US  # the chip's, to ARP
EVERY_NS = NS_PER_MS
ASKED = 100
ERASES = 4
OWN_US = 600
EDGE_PIN, EDGE_NS, EDGES = 2, NS_PER_MS, 400

ADDRESS = bytes((0x10, 0x12, 0x34))  # of no border
COMMANDS = [
    ("page program", bytes((ssi.CMD_PAGE_PROGRAM,)) + ADDRESS + bytes(256), PAGE_PROGRAM_NS),
    ("sector erase", bytes((ssi.CMD_SECTOR_ERASE,)) + ADDRESS, SECTOR_ERASE_NS),
    ("block erase", bytes((ssi.CMD_BLOCK_ERASE,)) + ADDRESS, BLOCK_ERASE_NS),
    ("status", bytes((ssi.CMD_READ_STATUS_1, 0)), None),
    ("read", bytes((ssi.CMD_READ_DATA,)) + ADDRESS + bytes(16), None),
    ("write enable", bytes((ssi.CMD_WRITE_ENABLE,)), None),
]
# The last blocks: littlefs puts nothing there so early.
GUEST = """
import rp2, time
flash = rp2.Flash()
blocks = flash.ioctl(4, 0)
def timed(function, *arguments):
    start = time.ticks_us()
    function(*arguments)
    return time.ticks_diff(time.ticks_us(), start)
"""
SPI = """
from machine import Pin, SPI
spi, cs = SPI(0, 10_000_000, sck=Pin(18), mosi=Pin(19), miso=Pin(16)), Pin(17, Pin.OUT, value=1)
def put(address, data):
    cs(0); spi.write(bytes((address >> 8, address & 255, 4)) + data); cs(1)
"""


@pytest.fixture(scope="module")
def live(boot):
    return boot(filesystem=blank_filesystem(BOARD), pace=False)


def numbers(live, source):
    return [int(word) for word in live.exec(GUEST + source).split()]


@pytest.mark.parametrize(("name", "command", "ns"), COMMANDS, ids=[row[0] for row in COMMANDS])
@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "not enabled"])
def test_busy_after_what_writes(name, command, ns, enabled):
    busy = []
    flash = Flash(RP2040(SimulationClock()), bytes(8), busy.append)
    flash.write_uint32(ssi.SSI_SSIENR, 1)

    def give(data):
        flash._on_cs_pin_changed(GPIOPinState.LOW, GPIOPinState.HIGH)
        for byte in data:
            flash.write_uint32(ssi.SSI_DR0, byte)
        assert not busy  # not before the chip is deselected
        flash._on_cs_pin_changed(GPIOPinState.HIGH, GPIOPinState.LOW)

    flash._on_cs_pin_changed(GPIOPinState.HIGH, GPIOPinState.LOW)  # as it is at power-on
    if enabled:
        give(bytes((ssi.CMD_WRITE_ENABLE,)))
    give(command)
    assert busy == ([ns] if ns and enabled else [])


def test_the_guest_sees_it(live):
    """What the ROM and MicroPython take for themselves is less than OWN_US, whatever is written."""
    found = numbers(
        live,
        """
print(timed(flash.ioctl, 6, blocks - 1))
print(timed(flash.writeblocks, blocks - 1, bytes(256), 0))
print(timed(flash.writeblocks, blocks - 1, bytes(1024), 1024))
""",
    )
    least = [ns / NS_PER_US for ns in (SECTOR_ERASE_NS, PAGE_PROGRAM_NS, 4 * PAGE_PROGRAM_NS)]
    assert all(0 <= took - ours < OWN_US for took, ours in zip(found, least, strict=True)), found


def test_no_interrupt_is_served_meanwhile(live):
    """MicroPython switches them off, and reads flash again only when the ROM says that it can."""
    emulator, clock = live.board._emulator, live.board.clock

    def begin():
        for number in range(2 * EDGES):
            clock.call_later(number * EDGE_NS // 2, lambda level=number % 2: emulator.drive(EDGE_PIN, level))

    live.exec(
        f"""
from machine import Pin
count = 0
def edge(pin):
    global count
    count += 1
Pin({EDGE_PIN}, Pin.IN).irq(edge, Pin.IRQ_RISING, hard=True)
"""
    )
    live.do(begin)
    idle, erasing, after, took = numbers(
        live,
        """
seen = [count]
for work in (lambda: time.sleep_ms(45), lambda: flash.ioctl(6, blocks - 1), lambda: time.sleep_ms(45)):
    took = timed(work)
    seen.append(count)
    if len(seen) == 3:
        erase = took
print(*[b - a for a, b in zip(seen, seen[1:])], erase)
""",
    )
    assert 44 <= idle <= 46 and 44 <= after <= 46
    assert erasing <= 2  # one on either side, of which the second has waited
    assert took >= SECTOR_ERASE_NS / NS_PER_US


def test_the_chip_and_the_wire_go_on(boot):
    """The W5500 answers ARP in time, in the middle of an erase as between two."""
    live = boot(filesystem=blank_filesystem(BOARD), pace=False)
    live.exec(SPI + f"put(0x09, {MAC!r} + {IP!r})")
    segment, clock = live.board.segment, live.board.segment.clock
    frames, asking = [], []

    def begin():
        port = segment.attach("pc")
        request = packets.arp(packets.REQUEST, PC_MAC, PC_IP, NOWHERE, IP)
        segment.taps.append(lambda ns, name, frame, comment: frames.append((ns, name)))
        for number in range(ASKED):
            clock.call_later(number * EVERY_NS, lambda: (asking.append(clock.now), port.send(request)))

    live.do(begin)
    (took,) = numbers(live, f"print(sum(timed(flash.ioctl, 6, blocks - 1) for _ in range({ERASES})))")
    live.run_until(lambda: len(asking) == ASKED, 1)
    live.run_until(lambda: False, 0.001)
    assert took >= ERASES * SECTOR_ERASE_NS / NS_PER_US
    asked = [ns for ns, name in frames if name == "pc"]
    answered = [ns for ns, name in frames if name != "pc"]
    assert len(asked) == len(answered) == ASKED
    assert all(0 < late - early < ANSWER_NS for early, late in zip(asked, answered, strict=True))
    assert [b - a for a, b in pairwise(asking)] == [EVERY_NS] * (ASKED - 1)


@pytest.mark.parametrize("how", ["hard_reset", "power_cycle"])
def test_a_reset_in_the_middle_of_an_erase(live, how):
    live.exec("with open('kept', 'w') as file: file.write('x')")
    emulator = live.board._emulator
    mcu = emulator.mcu
    live.exec(
        GUEST + "from machine import Timer\nTimer(period=5, callback=lambda _: flash.ioctl(6, blocks - 1))"
    )
    assert live.run_until(lambda: emulator.idle and not mcu.core.waiting, 5)
    live.call(getattr(live.board, how)())
    assert live.exec("print(open('kept').read())") == "x\n"


@pytest.mark.parametrize("pace", [True, False])
def test_a_file_is_as_fast_as_flash(boot, pace):
    (took,) = numbers(
        boot(filesystem=blank_filesystem(BOARD), pace=pace),
        """
def write():
    with open('file', 'wb') as file:
        for _ in range(16): file.write(bytes(1024))
print(timed(write))
""",
    )
    least = (16384 // 4096 * SECTOR_ERASE_NS + 16384 // 256 * PAGE_PROGRAM_NS) / NS_PER_US
    assert least < took < 1.6 * least, took  # the folder is written, too
