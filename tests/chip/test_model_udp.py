"""The model's UDP and MACRAW sockets, ping, and the common interrupts: unreachable, conflict, magic packet.

Datagrams come from the engine in a PC's role, or as bytes from its port.
"""

import random

import pytest

from hardwire_host.virtual import regs as R
from model_host import CHIP_IP, CHIP_MAC, PC_IP, PC_MAC, Host, dial, is_tcp

BROADCAST = bytes((255,) * 4)
SUBNET_BROADCAST = bytes((192, 168, 77, 255))
GROUP = bytes((239, 1, 2, 3))
GROUP_MAC = bytes.fromhex("01005e010203")
ABSENT_IP = bytes((192, 168, 77, 99))


def udp_host(mode: int = 0, port: int = 5000, **options) -> Host:
    host = Host(**options)
    host.open(0, R.P_UDP | mode, port)
    assert host.state() == R.UDP
    return host


def collect(host: Host, port: int) -> list[tuple[bytes, int, bytes, bytes]]:
    """Datagrams the PC gets on `port`: (source address, source port, destination, payload)."""
    got: list = []
    host.pc.udp_bind(port, lambda *datagram: got.append(datagram))
    return got


def heard(ip: bytes, port: int, payload: bytes) -> bytes:
    """A datagram as it lies in receive memory."""
    return ip + port.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


# UDP reception


def test_datagrams_carry_a_header():
    host = udp_host()
    host.pc.udp_send(7, CHIP_IP, 5000, b"one")
    host.run(50)
    assert (host.take_ir(), host.waiting()) == (R.I_RECV, 11)
    host.pc.udp_send(8, CHIP_IP, 5000, b"")
    host.pc.udp_send(9, CHIP_IP, 5001, b"not for this port")
    host.run(50)
    assert host.recv(0) == heard(PC_IP, 7, b"one") + heard(PC_IP, 8, b"")


@pytest.mark.parametrize("start", [0, 0xFFF0, None])
def test_datagram_over_the_wrap(start):
    host = udp_host(start_pointer=start, seed=2)
    chance = random.Random(1)
    got = collect(host, 7)
    for _ in range(40):
        payload = chance.randbytes(chance.randint(0, 600))
        host.pc.udp_send(7, CHIP_IP, 5000, payload)
        host.run(5)
        assert host.recv(0) == heard(PC_IP, 7, payload)
        host.aim(0, PC_IP, 7)
        host.send(0, payload)
        host.run(5)
        assert got.pop() == (CHIP_IP, 5000, PC_IP, payload)
    assert not host.chip.guest_errors


def test_datagram_without_room_is_dropped_whole():
    host = udp_host()
    for payload in (b"a" * 1000, b"b" * 1033, b"c" * 1032, b"d"):
        host.pc.udp_send(7, CHIP_IP, 5000, payload)
    host.run(50)
    assert host.waiting() == 2048  # b does not fit, c fits exactly, d finds nothing left
    assert host.recv(0) == heard(PC_IP, 7, b"a" * 1000) + heard(PC_IP, 7, b"c" * 1032)


@pytest.mark.parametrize(
    ("mode", "to", "arrives"),
    [
        (0, CHIP_IP, True),
        (0, BROADCAST, True),
        (0, SUBNET_BROADCAST, True),
        (R.MR_BCASTB, BROADCAST, False),
        (R.MR_BCASTB, SUBNET_BROADCAST, False),
        (R.MR_BCASTB, CHIP_IP, True),
        (R.MR_MULTI, GROUP, True),
        (R.MR_MULTI, bytes((239, 1, 2, 4)), False),
        (0, GROUP, False),
        (R.MR_MULTI, CHIP_IP, True),
        (R.MR_MULTI | R.MR_UCASTB, CHIP_IP, False),
        (R.MR_MULTI | R.MR_UCASTB, GROUP, True),
        (R.MR_MULTI | R.MR_UCASTB, BROADCAST, True),
    ],
)
def test_filters(mode, to, arrives):
    host = Host()
    host.aim(0, GROUP, 5000)
    host.write(R.SOCKET, R.SN_DHAR, GROUP_MAC)
    host.open(0, R.P_UDP | mode, 5000)
    host.pc.udp_send(7, to, 5000, b"x", mac=GROUP_MAC if to[0] == 239 else None)
    host.run(50)
    assert host.recv(0) == (heard(PC_IP, 7, b"x") if arrives else b"")


def test_chip_without_an_address_hears_what_a_dhcp_client_needs():
    host = Host(network=False)
    host.write(R.COMMON, R.SHAR, CHIP_MAC)
    host.open(0, R.P_UDP, 68)
    host.aim(0, BROADCAST, 67)
    got = collect(host, 67)
    host.send(0, b"discover")
    host.run(50)
    assert got == [(bytes(4), 68, BROADCAST, b"discover")]
    host.pc.udp_send(67, BROADCAST, 68, b"offer")
    host.run(50)
    assert host.recv(0) == heard(PC_IP, 67, b"offer")


# UDP transmission


def test_send_to_an_address():
    host = udp_host()
    got = collect(host, 7)
    host.aim(0, PC_IP, 7)
    host.fill(0, b"hello")
    assert host.free() == 2043
    host.command(0, R.SEND)
    host.run(50)
    assert got == [(CHIP_IP, 5000, PC_IP, b"hello")]
    assert host.read(R.SOCKET, R.SN_DHAR, 6) == PC_MAC
    assert (host.take_ir(), host.free(), host.get(0, R.SN_TX_RD, 2)) == (R.I_SENDOK, 2048, 5)
    host.send(0, b"again")
    host.run(50)
    assert got[1:] == [(CHIP_IP, 5000, PC_IP, b"again")]


def test_more_than_a_frame_becomes_several_datagrams():
    host = udp_host()
    got = collect(host, 7)
    host.aim(0, PC_IP, 7)
    data = bytes(i & 0xFF for i in range(2000))
    host.send(0, data)
    host.run(50)
    assert [len(datagram[3]) for datagram in got] == [1472, 528]
    assert b"".join(datagram[3] for datagram in got) == data
    assert host.take_ir() == R.I_SENDOK


def test_send_to_nobody_times_out_and_stays_open():
    host = udp_host()
    host.aim(0, ABSENT_IP, 7)
    host.send(0, b"hello")
    host.until(lambda: host.ir() != 0)
    assert (host.take_ir(), host.state(), host.free()) == (R.I_TIMEOUT, R.UDP, 2048)
    got = collect(host, 7)
    host.aim(0, PC_IP, 7)
    host.send(0, b"next")
    host.run(50)
    assert [datagram[3] for datagram in got] == [b"next"]


def test_second_send_while_arp_runs_is_not_taken():
    host = udp_host()
    host.aim(0, ABSENT_IP, 7)
    host.send(0, b"one")
    host.send(0, b"two")
    assert host.chip.guest_errors == {"SEND before SENDOK": 1}
    host.until(lambda: host.ir() == R.I_TIMEOUT)


def test_send_mac_needs_no_arp():
    host = udp_host()
    frames = host.record()
    host.aim(0, ABSENT_IP, 7)
    host.write(R.SOCKET, R.SN_DHAR, bytes.fromhex("0200deadbeef"))
    host.send(0, b"x", R.SEND_MAC)
    host.run(50)
    assert [frame[:6].hex() for _, frame in frames] == ["0200deadbeef"]
    assert host.ir() == R.I_SENDOK


def test_close_drops_a_send_that_waits_for_arp():
    host = udp_host()
    host.aim(0, ABSENT_IP, 7)
    host.send(0, b"x")
    host.run(10)
    host.open(0, R.P_UDP, 5000)
    host.run(5000)
    assert host.ir() == 0
    assert host.free() == 2048


@pytest.mark.parametrize(("mssr", "sizes"), [(0, [1000]), (1472, [1000]), (400, [400, 400, 200])])
def test_mssr_limits_the_datagram(mssr, sizes):
    host = Host()
    host.set(0, R.SN_MSSR, mssr, 2)
    host.open(0, R.P_UDP, 5000)
    got = collect(host, 7)
    host.aim(0, PC_IP, 7)
    host.send(0, bytes(1000))
    host.run(50)
    assert [len(datagram[3]) for datagram in got] == sizes


def test_doubtful_uses_are_counted():
    host = udp_host(R.MR_MULTI)
    host.open(1, R.P_UDP, 5000)
    assert host.chip.guest_errors == {"two UDP sockets on one port": 1, "MULTI without a group in Sn_DIPR": 1}


@pytest.mark.parametrize("command", [R.CONNECT, R.LISTEN])
def test_connect_and_listen_do_nothing_in_udp(command):
    host = udp_host()
    host.command(0, command)
    assert (host.get(0, R.SN_CR), host.state()) == (0, R.UDP)


# Common interrupts and ping


def test_unreachable_port():
    host = udp_host()
    host.set_common(R.IMR, R.IR_UNREACH)
    host.aim(0, PC_IP, 4711)
    host.send(0, b"x")
    host.run(50)
    assert host.common(R.IR) == R.IR_UNREACH
    assert host.read(R.COMMON, R.UIPR, 6) == PC_IP + (4711).to_bytes(2, "big")
    assert not host.chip.intn
    host.set_common(R.IR, R.IR_UNREACH)
    assert (host.common(R.IR), host.chip.intn) == (0, True)


def test_address_conflict():
    host = Host()
    host.pc.ip = CHIP_IP
    host.pc.udp_send(7, bytes((192, 168, 77, 50)), 7, b"")  # makes it ask by ARP, with our address as sender
    host.run(50)
    assert host.common(R.IR) == R.IR_CONFLICT


def echo_request() -> bytes:
    icmp = bytes.fromhex("0800f7fd00010001")
    ip = bytes.fromhex("4500001c000000004001") + bytes(2) + PC_IP + CHIP_IP
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = 0xFFFF - (total & 0xFFFF) - (total >> 16)
    ip = ip[:10] + checksum.to_bytes(2, "big") + ip[12:]
    return (CHIP_MAC + PC_MAC + b"\x08\x00" + ip + icmp).ljust(60, b"\0")


@pytest.mark.parametrize(("mode", "answers"), [(0, 1), (R.MR_PB, 0)])
def test_ping_and_ping_block(mode, answers):
    host = Host()
    host.set_common(R.MR, mode)
    replies = []
    host.pc.raw = lambda frame: (
        replies.append(frame) if frame[12:14] == b"\x08\x00" and frame[23] == 1 else None
    )
    host.pc_port.send(echo_request())
    host.run(50)
    assert [frame[34] for frame in replies] == [0] * answers


def test_magic_packet():
    host = Host()
    magic = b"\xff" * 6 + CHIP_MAC * 16
    host.pc.udp_send(9, BROADCAST, 9, magic)
    host.run(50)
    assert host.common(R.IR) == 0
    host.set_common(R.MR, R.MR_WOL)
    host.pc.udp_send(9, BROADCAST, 9, magic)
    host.run(50)
    assert host.common(R.IR) == R.IR_MP


# MACRAW

OTHER_MAC = bytes.fromhex("0200000000ff")


def ethernet(to: bytes, kind: str = "88b5", payload: bytes = b"payload") -> bytes:
    return (to + PC_MAC + bytes.fromhex(kind) + payload).ljust(60, b"\0")


def macraw_host(mode: int = 0, **options) -> Host:
    host = Host(**options)
    host.open(0, R.P_MACRAW | mode, 0)
    assert host.state() == R.MACRAW
    return host


def test_macraw_receives_with_a_length_that_counts_itself():
    host = macraw_host(start_pointer=0xFFF0)
    frame = ethernet(CHIP_MAC)
    host.pc_port.send(frame)
    host.pc_port.send(ethernet(CHIP_MAC, payload=b"x" * 1500))
    host.run(50)
    assert host.ir() == R.I_RECV
    assert host.waiting() == 62 + 1516
    assert host.recv(0, 62) == b"\x00\x3e" + frame
    assert host.recv(0, 2) == b"\x05\xec"


@pytest.mark.parametrize("size", [14, 23, 34, 37, 60])
def test_macraw_takes_malformed_ip_as_it_is(size):
    host = macraw_host()
    frame = (CHIP_MAC + PC_MAC + bytes.fromhex("08004f000014000000004006")).ljust(60, b"\0")[:size]
    host.pc_port.send(frame)
    host.run(50)
    assert host.recv(0) == b"\x00\x3e" + frame.ljust(60, b"\0")


def test_macraw_drops_whole_frames_without_room():
    host = macraw_host()
    for _ in range(3):
        host.pc_port.send(ethernet(CHIP_MAC, payload=b"x" * 900))
    host.run(50)
    assert host.waiting() == 2 * 916


@pytest.mark.parametrize(
    ("mode", "frame", "arrives"),
    [
        (0, ethernet(OTHER_MAC), True),
        (R.MR_MULTI, ethernet(OTHER_MAC), False),
        (R.MR_MULTI, ethernet(CHIP_MAC), True),
        (R.MR_MULTI, ethernet(b"\xff" * 6), True),
        (R.MR_MULTI, ethernet(GROUP_MAC), True),
        (R.MR_BCASTB, ethernet(b"\xff" * 6), False),
        (R.MR_ND, ethernet(GROUP_MAC), False),
        (R.MR_UCASTB, ethernet(GROUP_MAC, "86dd"), False),
        (0, ethernet(GROUP_MAC, "86dd"), True),
    ],
)
def test_macraw_filters(mode, frame, arrives):
    host = macraw_host(mode)
    host.pc_port.send(frame)
    host.run(50)
    assert (host.waiting() == 62) == arrives


def test_macraw_sends_and_pads():
    host = macraw_host()
    got = []
    host.pc.raw = lambda frame: got.append(frame) or True
    host.send(0, PC_MAC + CHIP_MAC + b"\x88\xb5short")
    host.run(50)
    assert got == [(PC_MAC + CHIP_MAC + b"\x88\xb5short").ljust(60, b"\0")]
    assert (host.take_ir(), host.free()) == (R.I_SENDOK, 2048)
    host.send(0, bytes(1515))
    assert host.chip.guest_errors == {"MACRAW frame of a size Ethernet has not": 1}


def test_macraw_leaves_other_sockets_their_frames_and_keeps_the_chip_from_answering_the_rest():
    host = macraw_host()
    host.listen(1, 502)
    host.open(2, R.P_UDP, 5000)
    assert dial(host, 502).is_established
    host.pc.udp_send(7, CHIP_IP, 5000, b"mine")
    host.run(50)
    assert host.waiting(2) == 12
    before = host.waiting()
    frames = host.record()
    refused = dial(host, 503, local_port=40001)
    assert refused.reason is None
    assert not [frame for _, frame in frames if is_tcp(frame)]
    assert host.waiting() > before
    assert is_tcp(host.recv(0)[before + 2 :])
    host.command(0, R.CLOSE)
    assert dial(host, 503, local_port=40002).reason == "reset"


def test_macraw_can_share_frames_with_other_sockets():
    host = Host(macraw_shares=True)
    host.open(2, R.P_UDP, 5000)
    host.pc.udp_send(7, CHIP_IP, 5000, b"before")
    host.run(50)
    host.open(0, R.P_MACRAW, 0)
    host.pc.udp_send(7, CHIP_IP, 5000, b"both")
    host.run(50)
    assert host.waiting(2) == 14 + 12
    assert host.waiting(0) == 62
