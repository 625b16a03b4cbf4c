"""The model's SPI: frame format, address wrap, effects byte by byte, both doors alike, faults on the wire."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.w5500 import Options
from model_host import Host

HEADER = "010203"

# name, MOSI, MISO; on a chip after reset
FRAMES = (
    ("nothing", "", ""),
    ("one header byte", "00", "01"),
    ("two header bytes", "0039", "0102"),
    ("header only", "003900", HEADER),
    ("VERSIONR", "00390000", HEADER + "04"),
    ("MOSI of a read does not matter", "003900ff", HEADER + "04"),
    ("burst into the unmapped", "0038000000000000", HEADER + "0004000000"),
    ("RTR and RCR", "001900000000", HEADER + "07d008"),
    ("16-bit offset wraps to 0", "ffff00" + "00" * 2, HEADER + "0000"),
    ("W5100S probe, read command", "f0000080", HEADER + "00"),
    ("W5100S probe, write command", "0f000000", HEADER + "00"),
    ("socket 0 TX_FSR", "0020080000", HEADER + "0800"),
    ("socket 7 TX_FSR", "0020e80000", HEADER + "0800"),
    ("socket 7 sizes", "001ee80000", HEADER + "0202"),
    ("socket unmapped", "0030080000", HEADER + "0000"),
    ("transmit memory", "0000100000", HEADER + "0000"),
    ("receive memory", "0000180000", HEADER + "0000"),
    ("write answers zeros", "00010c00", HEADER + "00"),
    ("FDM 1 byte", "001901000000", HEADER + "070000"),
    ("FDM 2 bytes", "0019020000000000", HEADER + "07d0000000"),
    ("FDM 4 bytes", "001903000000000000", HEADER + "07d008280000"),
)


@pytest.mark.parametrize("door", ["frame", "shift"])
@pytest.mark.parametrize(("name", "mosi", "miso"), FRAMES, ids=[f[0] for f in FRAMES])
def test_frame_format(name, mosi, miso, door):
    chip = Host().chip
    assert _exchange(chip, door, bytes.fromhex(mosi)).hex() == miso
    assert (chip.frames, chip.bytes) == (2, 21 + len(mosi) // 2)  # the first one set the addresses


def _exchange(chip, door, mosi):
    if door == "frame":
        return chip.frame(mosi)
    chip.clock.advance(1000)
    chip.select(True)
    miso = bytes(chip.shift(byte) for byte in mosi)
    chip.select(False)
    return miso


@pytest.mark.parametrize("control", [4, 8, 12, 16, 20, 24, 28])
def test_reserved_block_reads_zero_and_is_a_guest_error(control):
    host = Host()
    assert host.chip.frame(bytes((0, 0x19, control << 3)) + bytes(3)) == bytes.fromhex(HEADER + "000000")
    assert host.chip.frame(bytes((0, 0x19, control << 3 | 4)) + b"\xff" * 3)[3:] == bytes(3)
    assert host.common(R.RTR, 2) == 0x07D0
    assert host.chip.guest_errors == {"reserved block": 2}


def test_fixed_length_write_takes_that_many_bytes():
    host = Host()
    for mode, expected in ((1, "aaffff"), (2, "aabbff"), (3, "aabbcc")):
        host.write(R.COMMON, R.PHAR, b"\xff\xff\xff")
        host.chip.frame(bytes((0, R.PHAR, R.WRITE | mode)) + bytes.fromhex("aabbcc"))
        assert host.read(R.COMMON, R.PHAR, 3).hex() == expected


def test_cs_raised_within_the_header_has_no_effect():
    host = Host()
    for n in range(3):
        host.chip.frame(bytes((0, R.RCR, R.WRITE))[:n])
    assert host.common(R.RCR) == 8
    assert host.chip.guest_errors == {"CS raised within the header": 2}


def test_a_write_frame_wraps_its_offset_into_the_registers():
    host = Host()
    host.write(R.COMMON, 0xFFFF, b"\x55\x10\x0a\x0b")
    assert host.read(R.COMMON, 0, 3).hex() == "100a0b"


def test_bytes_take_effect_in_order_within_a_burst():
    host = Host()
    host.write(R.SOCKET, R.SN_MR, bytes((R.P_TCP, R.OPEN)))
    assert host.state() == R.INIT
    host.write(R.SOCKET, R.SN_MR, bytes((R.P_UDP, R.OPEN)))
    assert host.state() == R.UDP


def test_mode_written_in_the_same_burst_can_come_too_late():
    host = Host(mode_in_burst=False)
    host.write(R.SOCKET, R.SN_MR, bytes((R.P_TCP, R.OPEN)))
    assert host.state() == R.CLOSED
    host.command(0, R.OPEN)
    assert host.state() == R.INIT


def test_reset_bit_within_a_burst_lets_the_rest_of_the_burst_pass():
    host = Host()
    host.write(R.COMMON, R.MR, bytes((R.MR_RST, 9, 8, 7, 6)))
    assert host.read(R.COMMON, R.MR, 9).hex() == "000908070600000000"


@pytest.mark.parametrize("kb", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("start", [0, 1, 0x3FF, 0x7FFF, 0xFFF0, 0xFFFF])
def test_memory_wraps_at_its_size_inside_one_burst(kb, start):
    host = Host()
    for sn in range(R.SOCKETS):
        host.set(sn, R.SN_TXBUF_SIZE, 0)
    host.set(3, R.SN_TXBUF_SIZE, kb)
    size = kb << 10
    data = bytes(i * 7 + 1 & 0xFF for i in range(size))
    block = R.TX + 3 * R.SOCKET_STEP
    host.write(block, start, data)
    assert host.read(block, start, size) == data
    assert host.read(block, start % size, size) == data
    assert host.read(block, 0, size) == data[-start % size :] + data[: -start % size]
    assert host.read(block, start, size + 5) == data + data[:5]
    assert not host.chip.guest_errors


def test_memory_of_size_0_reads_zero():
    host = Host()
    host.write(R.SOCKET + 5 * R.SOCKET_STEP, R.SN_RXBUF_SIZE, bytes(2))
    for block in (R.TX, R.RX):
        host.write(block + 5 * R.SOCKET_STEP, 0, b"abc")
        assert host.read(block + 5 * R.SOCKET_STEP, 0, 3) == bytes(3)
    assert host.chip.guest_errors["access to a memory of size 0"] == 3


def test_burst_longer_than_the_memory_is_counted():
    host = Host()
    host.write(R.TX, 0, bytes(2049))
    assert host.chip.guest_errors == {"burst longer than the memory": 1}


def test_receive_memory_is_writable_but_nobody_should():
    host = Host()
    host.write(R.RX, 0x7FF, b"ab")
    assert host.read(R.RX, 0x7FF, 2) == b"ab"
    assert host.chip.guest_errors == {"write to receive memory": 1}


# Frames that reach deep: mostly valid blocks and addresses, all lengths.
ADDRESSES = st.one_of(st.integers(0, 0x3F), st.sampled_from((0x7FE, 0xFFFE, 0xFFFF)), st.integers(0, 0xFFFF))
CONTROLS = st.one_of(
    st.sampled_from([0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C, 0x28, 0x2C, 0x34]), st.integers(0, 255)
)
COMMANDS = st.sampled_from(
    (R.OPEN, R.LISTEN, R.CONNECT, R.DISCON, R.CLOSE, R.SEND, R.SEND_MAC, R.SEND_KEEP, R.RECV)
)
RANDOM_FRAME = st.one_of(
    st.builds(
        lambda address, control, data: bytes((address >> 8, address & 0xFF, control)) + data,
        ADDRESSES,
        CONTROLS,
        st.binary(max_size=20),
    ),
    st.builds(lambda mode, command: bytes((0, 0, 0x0C, mode, command)), st.integers(0, 7), COMMANDS),
    st.builds(lambda command: bytes((0, 1, 0x0C, command)), COMMANDS),
    st.binary(max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(RANDOM_FRAME, st.integers(0, 3_000_000)), max_size=30))
def test_both_doors_do_the_same_and_nothing_raises(frames):
    one, two = Host(seed=5), Host(seed=5)
    two.chip.options = Options(cs_high_ns=0)
    for mosi, pause in frames:
        assert one.chip.frame(mosi) == _exchange_at_once(two.chip, mosi)
        one.clock.advance(pause)
        two.clock.advance(pause)
    for sn in range(R.SOCKETS):
        block = R.SOCKET + sn * R.SOCKET_STEP
        assert one.read(block, 0, R.SOCKET_END) == two.read(block, 0, R.SOCKET_END)
    assert one.read(R.COMMON, 0, R.COMMON_END) == two.read(R.COMMON, 0, R.COMMON_END)
    assert one.chip.intn == two.chip.intn
    assert one.chip.sockets() == two.chip.sockets()


def _exchange_at_once(chip, mosi):
    chip.select(True)
    miso = bytes(chip.shift(byte) for byte in mosi)
    chip.select(False)
    return miso


@settings(max_examples=100, deadline=None)
@given(
    st.lists(RANDOM_FRAME, max_size=20),
    st.builds(
        Options,
        start_pointer=st.one_of(st.none(), st.sampled_from((0, 0xFFF0))),
        torn_reads=st.sampled_from((0.0, 1.0)),
        stuck_cr=st.sampled_from((0.0, 0.5)),
        spi_errors=st.sampled_from((0.0, 0.1)),
        cr_busy_ns=st.sampled_from((0, 500)),
        version_delay_ns=st.sampled_from((0, 1_000_000)),
    ),
)
def test_nothing_raises_under_faults(frames, options):
    host = Host(seed=1)
    host.chip.options = options
    for mosi in frames:
        assert len(host.chip.frame(mosi)) == len(mosi)
        host.clock.advance(100_000)


def test_bytes_without_cs_are_ignored():
    chip = Host().chip
    assert [chip.shift(byte) for byte in (0, 0x39, 0, 0)] == [0, 0, 0, 0]
    assert chip.bytes == 21


def test_short_cs_high_is_counted():
    chip = Host().chip
    _exchange_at_once(chip, bytes.fromhex("00390000"))
    chip.clock.advance(30)
    _exchange_at_once(chip, bytes.fromhex("00390000"))
    assert not chip.guest_errors
    chip.clock.advance(29)
    _exchange_at_once(chip, bytes.fromhex("00390000"))
    assert chip.guest_errors == {"CS high too short": 1}


def test_spi_errors_flip_bits_both_ways_and_stop_when_told():
    host = Host(seed=3)
    host.chip.options = Options(spi_errors=0.2)
    answers = {host.chip.frame(bytes.fromhex("00390000")) for _ in range(50)}
    assert len(answers) > 5
    host.chip.options = replace(host.chip.options, spi_errors=0.0)
    assert host.common(R.VERSIONR) == 4
