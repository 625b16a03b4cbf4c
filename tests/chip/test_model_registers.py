"""The model's registers: reset values, access kinds, interrupts and INTn, resets, PHY, stuck commands."""

from dataclasses import replace

import pytest

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.w5500 import Options
from model_host import CHIP_IP, CHIP_MAC, NETMASK, PC_IP, Host

ALL = 0xFF

# Whole blocks after reset, from the datasheet's table of registers (link up)
COMMON_RESET = bytes.fromhex(
    "00 00000000 00000000 000000000000 00000000 0000 00 00 00 00 07d0 08 28 00 000000000000 0000 ffff"
    "00000000 0000 bf 00000000000000000000 04"
)
SOCKET_RESET = bytes.fromhex(
    "00 00 00 00 0000 ffffffffffff 00000000 0000 0000 00 00 80 00000000000000 02 02"
    "0800 0000 0000 0000 0000 0000 ff 4000 00"
)


def test_reset_values():
    host = Host(network=False)
    assert host.read(R.COMMON, 0, R.COMMON_END) == COMMON_RESET
    for sn in range(R.SOCKETS):
        assert host.read(R.SOCKET + sn * R.SOCKET_STEP, 0, R.SOCKET_END) == SOCKET_RESET


# address, count, writable bits: what stays of each bit written, on a closed socket or an idle chip
COMMON_ACCESS = (
    (R.MR, 1, 0x7F),  # RST clears itself
    (R.GAR, R.INTLEVEL + 2 - R.GAR, ALL),
    (R.IR, 1, 0),
    (R.IMR, 1, ALL),
    (R.SIR, 1, 0),
    (R.SIMR, 1, ALL),
    (R.RTR, R.UIPR - R.RTR, ALL),
    (R.UIPR, 6, 0),
    (R.PHYCFGR, 1, 0xF8),
    (0x2F, R.VERSIONR + 1 - 0x2F, 0),
)
SOCKET_ACCESS = (
    (R.SN_MR, 1, ALL),
    (R.SN_IR, 1, 0),
    (R.SN_SR, 1, 0),
    (R.SN_PORT, 16, ALL),
    (0x14, 1, 0),
    (R.SN_TOS, 2, ALL),
    (0x17, 7, 0),
    (R.SN_RXBUF_SIZE, 2, ALL),
    (R.SN_TX_FSR, 4, 0),
    (R.SN_TX_WR, 2, ALL),
    (R.SN_RX_RSR, 2, 0),
    (R.SN_RX_RD, 2, ALL),
    (R.SN_RX_WR, 2, 0),
    (R.SN_IMR, 4, ALL),
)


@pytest.mark.parametrize(
    ("block", "image", "access"),
    [(R.COMMON, COMMON_RESET, COMMON_ACCESS), (R.SOCKET + 6 * R.SOCKET_STEP, SOCKET_RESET, SOCKET_ACCESS)],
    ids=["common", "socket"],
)
def test_access_kinds(block, image, access):
    covered = {R.SN_CR} if block else set()
    for first, count, writable in access:
        for address in range(first, first + count):
            covered.add(address)
            for value in (0x00, 0x5A, 0xA5, 0x08):
                host = Host(network=False)
                if block and address in (R.SN_TX_WR, R.SN_TX_WR + 1):
                    expected = value
                else:
                    expected = value & writable | image[address] & ~writable
                if (block, address) == (R.COMMON, R.MR):
                    expected = 0 if value & R.MR_RST else value
                if (block, address) == (R.COMMON, R.PHYCFGR):
                    continue  # its own test
                host.write(block, address, bytes((value,)))
                assert host.read(block, address, 1)[0] == expected, f"0x{address:02x} <- 0x{value:02x}"
    assert covered == set(range(len(image)))


def test_write_to_read_only_is_a_guest_error():
    host = Host()
    host.set(0, R.SN_SR, R.ESTABLISHED)
    host.set_common(R.VERSIONR, 5)
    host.write(R.COMMON, 0x1234, b"x")
    host.write(R.SOCKET, 0x30, b"x")
    assert host.chip.guest_errors == {
        "write to a read-only register": 2,
        "write above the register block": 2,
    }


def test_adafruit_mode_probe_reads_back():
    host = Host()
    for value in (0x08, 0x10, 0x00):
        host.set_common(R.MR, value)
        assert host.common(R.MR) == value
    assert not host.chip.unimplemented


def test_network_settings_reach_the_owner_and_the_engine():
    host = Host()
    assert (host.chip.ip, host.chip.mac) == (CHIP_IP, CHIP_MAC)
    stack = host.chip.stack
    assert (stack.ip, stack.mac, stack.netmask, stack.gateway) == (CHIP_IP, CHIP_MAC, NETMASK, PC_IP)
    host.set_common(R.RTR, 1000, 2)
    host.set_common(R.RCR, 5)
    assert (stack.rtr, stack.rcr) == (1000, 5)


# Interrupts. A timeout of a UDP SEND to an address nobody has is the event: it needs no peer.


def _arp_timeout(host, *sockets):
    host.set_common(R.RTR, 10, 2)  # 1 ms
    host.set_common(R.RCR, 0)
    for sn in sockets:
        host.open(sn, R.P_UDP, 5000 + sn)
        host.aim(sn, bytes((192, 168, 77, 99)), 9)
        host.send(sn, b"x")
    host.run(5)
    for sn in sockets:
        assert host.ir(sn) == R.I_TIMEOUT


@pytest.mark.parametrize(
    ("imr", "simr", "sir", "intn"),
    [
        (0xFF, 0xFF, 0x04, False),
        (0xFF, 0x04, 0x04, False),
        (0xFF, 0xFB, 0x04, True),
        (0x08, 0xFF, 0x04, False),
        (0xF7, 0xFF, 0x00, True),
        (0x00, 0xFF, 0x00, True),
    ],
)
def test_masks(imr, simr, sir, intn):
    host = Host()
    host.set(2, R.SN_IMR, imr)
    host.set_common(R.SIMR, simr)
    _arp_timeout(host, 2)
    assert (host.common(R.SIR), host.chip.intn) == (sir, intn)
    assert host.ir(2) == R.I_TIMEOUT
    host.set(2, R.SN_IR, ALL & ~R.I_TIMEOUT)
    assert host.ir(2) == R.I_TIMEOUT
    host.set(2, R.SN_IR, R.I_TIMEOUT)
    assert (host.ir(2), host.common(R.SIR), host.chip.intn) == (0, 0, True)


def test_masks_changed_afterwards_act_at_once():
    host = Host()
    _arp_timeout(host, 1)
    levels = []
    host.chip.on_intn = levels.append
    host.set_common(R.SIMR, 0x02)
    host.set(1, R.SN_IMR, 0)
    assert host.common(R.SIR) == 0
    host.run(2)
    host.set(1, R.SN_IMR, R.I_TIMEOUT)
    host.set_common(R.SIMR, 0)
    assert levels == [False, True, False, True]


def test_masked_bits_can_stay_out_of_sn_ir():
    host = Host(imr_gates_ir=True)
    host.set(0, R.SN_IMR, ALL & ~R.I_TIMEOUT)
    host.set_common(R.RTR, 10, 2)
    host.open(0, R.P_UDP, 5000)
    host.aim(0, bytes((192, 168, 77, 99)), 9)
    host.send(0, b"x")
    host.run(100)
    assert host.ir() == 0


@pytest.mark.parametrize(("level", "delay_ns"), [(0, 26), (0xFFFF, 1_747_626)])
def test_intn_rises_when_one_of_two_is_cleared_and_falls_after_intlevel(level, delay_ns):
    host = Host()
    host.set_common(R.INTLEVEL, level, 2)
    host.set_common(R.SIMR, ALL)
    _arp_timeout(host, 0, 3)
    assert (host.common(R.SIR), host.chip.intn) == (0x09, False)
    levels = []
    host.chip.on_intn = lambda high: levels.append((host.clock.now, high))
    start = host.clock.now
    host.set(0, R.SN_IR, ALL)
    assert host.common(R.SIR) == 0x08
    host.run(10)
    assert levels == [(start, True), (start + delay_ns, False)]


def test_intn_can_stay_low_while_anything_is_pending():
    host = Host(intn_high_on_clear=False)
    host.set_common(R.SIMR, ALL)
    _arp_timeout(host, 0, 3)
    host.set(0, R.SN_IR, ALL)
    assert not host.chip.intn
    host.set(3, R.SN_IR, ALL)
    assert host.chip.intn


# Resets


def _scribble(host):
    host.listen(0, 502)
    host.open(1, R.P_UDP, 53)
    host.set(2, R.SN_RXBUF_SIZE, 16)
    host.set_common(R.SIMR, ALL)
    _arp_timeout(host, 1)
    assert not host.chip.intn and host.chip.listening(502)
    host.chip.guest_errors.clear()


def _is_reset(host):
    assert host.read(R.COMMON, 0, R.COMMON_END) == COMMON_RESET
    for sn in range(R.SOCKETS):
        assert host.read(R.SOCKET + sn * R.SOCKET_STEP, 0, R.SOCKET_END) == SOCKET_RESET
    assert host.chip.intn and not host.chip.listening(502)


def test_reset_bit():
    host = Host()
    _scribble(host)
    host.set_common(R.MR, R.MR_RST)
    _is_reset(host)


def test_brown_out():
    host = Host()
    _scribble(host)
    host.chip.brown_out()
    _is_reset(host)


def test_reset_pin():
    host = Host()
    _scribble(host)
    version = bytes((0, R.VERSIONR, 0, 0))
    host.chip.reset_pin(True)
    assert host.chip.frame(version) == bytes(4)
    host.run(0.499)
    assert host.chip.listening(502)
    host.run(0.001)
    assert not host.chip.listening(502) and host.chip.intn
    host.chip.reset_pin(False)
    host.run(0.999)
    assert host.chip.frame(version) == bytes(4)
    host.run(0.001)
    assert host.chip.frame(version) == b"\x01\x02\x03\x04"
    _is_reset(host)
    assert host.chip.guest_errors == {"SPI frame during reset": 2}


def test_short_pulse_on_the_reset_pin_does_not_reset():
    host = Host()
    _scribble(host)
    host.chip.reset_pin(True)
    host.run(0.499)
    host.chip.reset_pin(False)
    assert host.chip.guest_errors == {"RSTn low too short": 1}
    host.run(10)
    assert host.state(0) == R.LISTENING


def test_version_register_can_be_late():
    host = Host()
    host.chip.options = Options(version_delay_ns=3_000_000)
    assert host.common(R.VERSIONR) == 4
    host.set_common(R.MR, R.MR_RST)
    host.run(2)
    host.set_common(R.MR, R.MR_RST)  # starts the delay again
    host.run(2.999)
    assert host.common(R.VERSIONR) == 0
    host.run(0.001)
    assert host.common(R.VERSIONR) == 4


# PHYCFGR


@pytest.mark.parametrize(
    ("written", "up", "down"),
    [
        (0b10_111_000, 0xBF, 0xB8),
        (0b11_111_111, 0xFF, 0xF8),
        (0b11_011_000, 0xDF, 0xD8),
        (0b11_010_000, 0xD3, 0xD0),
        (0b11_001_000, 0xCD, 0xC8),
        (0b11_000_000, 0xC1, 0xC0),
        (0b11_100_000, 0xE3, 0xE0),
        (0b10_000_000, 0x87, 0x80),  # without OPMD the pins decide: all capable
        (0b11_110_000, 0xF0, 0xF0),  # power-down
        (0b00_111_000, 0x38, 0x38),  # held in reset
    ],
)
def test_phycfgr(written, up, down):
    host = Host()
    host.set_common(R.PHYCFGR, written)
    assert host.common(R.PHYCFGR) == up
    assert host.chip.link == bool(up & 1)
    host.port.link = False
    assert host.common(R.PHYCFGR) == down
    assert not host.chip.link
    host.port.link = True
    assert host.common(R.PHYCFGR) == up


# Commands and Sn_CR


def test_command_register_reads_0_at_once():
    host = Host()
    host.listen(0, 502)
    assert host.get(0, R.SN_CR) == 0


def test_command_register_can_be_busy():
    host = Host(cr_busy_ns=800)
    host.set(0, R.SN_MR, R.P_TCP)
    host.command(0, R.OPEN)
    assert (host.get(0, R.SN_CR), host.state()) == (R.OPEN, R.CLOSED)
    host.command(0, R.LISTEN)
    assert host.chip.guest_errors == {"command before Sn_CR was 0": 1}
    host.clock.advance(800)
    assert (host.get(0, R.SN_CR), host.state()) == (0, R.INIT)


def test_reset_cancels_a_command_that_was_not_taken():
    host = Host(cr_busy_ns=800)
    host.set(0, R.SN_MR, R.P_TCP)
    host.command(0, R.OPEN)
    host.set_common(R.MR, R.MR_RST)
    host.run(1)
    assert (host.get(0, R.SN_CR), host.state()) == (0, R.CLOSED)


def test_command_can_stick_until_another_try():
    host = Host(stuck_cr=1.0)
    host.set(0, R.SN_MR, R.P_TCP)
    host.command(0, R.OPEN)
    host.run(1000)
    assert (host.get(0, R.SN_CR), host.state()) == (R.OPEN, R.CLOSED)
    host.chip.options = replace(host.chip.options, stuck_cr=0.0)
    host.command(0, R.OPEN)
    assert (host.get(0, R.SN_CR), host.state()) == (0, R.INIT)


@pytest.mark.parametrize("value", [3, 0x0F, 0x23, 0x80, 0xFF])
def test_unknown_command(value):
    host = Host()
    host.command(0, value)
    assert host.chip.guest_errors == {"unknown command": 1}
    assert host.get(0, R.SN_CR) == 0


# mode, command, state after, guest errors, unimplemented
OPENINGS = (
    (0, R.P_TCP, R.INIT, {}, {}),
    (7, R.P_TCP | R.MR_ND, R.INIT, {}, {}),
    (3, R.P_UDP, R.UDP, {}, {}),
    (0, R.P_MACRAW, R.MACRAW, {}, {}),
    (1, R.P_MACRAW, R.CLOSED, {"OPEN of a protocol the socket has not": 1}, {}),
    (0, R.P_CLOSED, R.CLOSED, {"OPEN of a protocol the socket has not": 1}, {}),
    (0, 0x0F, R.CLOSED, {"OPEN of a protocol the socket has not": 1}, {}),
    (0, R.P_IPRAW, R.CLOSED, {}, {"IPRAW": 1}),
)


@pytest.mark.parametrize(("sn", "mode", "state", "errors", "missing"), OPENINGS)
def test_open(sn, mode, state, errors, missing):
    host = Host()
    host.open(sn, mode, 1234)
    assert host.state(sn) == state
    assert host.chip.guest_errors == errors
    assert host.chip.unimplemented == missing


def test_missing_mode_bit_is_counted_when_a_socket_opens():
    host = Host()
    host.set_common(R.MR, R.MR_PPPOE)
    assert not host.chip.unimplemented
    host.open(0, R.P_UDP, 1)
    assert host.chip.unimplemented == {"PPPoE": 1}


NAMES = {
    R.LISTEN: "LISTEN",
    R.CONNECT: "CONNECT",
    R.DISCON: "DISCON",
    R.SEND: "SEND",
    R.SEND_MAC: "SEND_MAC",
    R.SEND_KEEP: "SEND_KEEP",
    R.RECV: "RECV",
}


@pytest.mark.parametrize("command", NAMES)
@pytest.mark.parametrize(
    ("mode", "then", "name", "allowed"),
    [
        (0, None, "CLOSED", ()),
        (R.P_TCP, None, "INIT", (R.LISTEN, R.CONNECT, R.DISCON, R.RECV)),
        (R.P_TCP, R.LISTEN, "LISTEN", (R.DISCON, R.RECV)),
        (R.P_UDP, None, "UDP", (R.SEND, R.SEND_MAC, R.RECV)),
        (R.P_MACRAW, None, "MACRAW", (R.SEND, R.RECV)),
    ],
)
def test_commands_in_a_wrong_state_are_counted_and_ignored(command, mode, then, name, allowed):
    host = Host()
    if mode:
        host.open(0, mode, 502)
    if then:
        host.command(0, then)
    before = host.state()
    host.aim(0, PC_IP, 9)
    host.command(0, command)
    if command in allowed:
        assert f"{NAMES[command]} in {name}" not in host.chip.guest_errors
    else:
        assert host.chip.guest_errors == {f"{NAMES[command]} in {name}": 1}
        assert host.state() == before
    assert host.get(0, R.SN_CR) == 0


def test_port_survives_close_unless_told_otherwise():
    for option, port in ((False, 502), (True, 0)):
        host = Host(close_clears_port=option)
        host.listen(0, 502)
        host.command(0, R.CLOSE)
        assert (host.state(), host.get(0, R.SN_PORT, 2)) == (R.CLOSED, port)


@pytest.mark.parametrize(("bits", "ir"), [(0, 0), (R.I_DISCON, R.I_DISCON)])
@pytest.mark.parametrize("listening", [False, True])
def test_discon_without_a_connection(bits, ir, listening):
    host = Host(ir_on_idle_discon=bits)
    host.open(0, R.P_TCP, 502)
    if listening:
        host.command(0, R.LISTEN)
    host.command(0, R.DISCON)
    assert (host.state(), host.ir()) == (R.CLOSED, ir)


def test_open_in_an_open_socket_closes_it_silently():
    host = Host()
    host.listen(0, 502)
    host.open(0, R.P_UDP, 502)
    assert host.state() == R.UDP
    host.open(0, R.P_TCP, 502)
    assert host.state() == R.INIT
    assert host.chip.guest_errors == {"OPEN in LISTEN": 1, "OPEN in UDP": 1}


# Sizes


@pytest.mark.parametrize(
    ("kb", "free"), [(0, 0), (1, 0x400), (2, 0x800), (4, 0x1000), (8, 0x2000), (16, 0x4000)]
)
def test_transmit_size_shows_in_free_size(kb, free):
    host = Host()
    host.set(0, R.SN_TXBUF_SIZE, kb)
    assert host.free() == free
    host.open(0, R.P_TCP, 1)
    assert host.free() == free


@pytest.mark.parametrize(
    ("writes", "error"),
    [
        ([(0, R.SN_RXBUF_SIZE, 3)], "memory size not 0, 1, 2, 4, 8 or 16 KB"),
        ([(0, R.SN_TXBUF_SIZE, 32)], "memory size not 0, 1, 2, 4, 8 or 16 KB"),
        ([(0, R.SN_TXBUF_SIZE, 4)], "memory sizes add up to more than 16 KB"),
        ([(7, R.SN_RXBUF_SIZE, 16)], "memory sizes add up to more than 16 KB"),
    ],
)
def test_sizes_that_do_not_fit(writes, error):
    host = Host()
    for sn, address, value in writes:
        host.set(sn, address, value)
    host.open(0, R.P_TCP, 1)
    assert error in host.chip.guest_errors


def test_size_changed_while_open():
    host = Host()
    host.listen(0, 1)
    host.set(0, R.SN_RXBUF_SIZE, 1)
    assert host.chip.guest_errors == {"memory size changed while open": 1}


def test_socket_table():
    host = Host()
    host.listen(2, 502)
    host.open(3, R.P_UDP, 53)
    host.open(0, R.P_MACRAW, 0)
    rows = host.chip.sockets()
    assert [row["number"] for row in rows] == list(range(8))
    assert [(r["protocol"], r["state"], r["port"], r["peer"]) for r in rows[:5]] == [
        ("MACRAW", "MACRAW", None, None),
        (None, "CLOSED", None, None),
        ("TCP", "LISTEN", 502, None),
        ("UDP", "UDP", 53, None),
        (None, "CLOSED", None, None),
    ]
    assert (rows[0]["rx"], rows[0]["rx_size"], rows[0]["tx"], rows[0]["tx_size"]) == (0, 2048, 0, 2048)
