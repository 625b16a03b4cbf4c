"""What the model puts on the wire beside payload: header fields, MSS, delayed ACK, ARP, IGMP; SENDs that go wrong."""

import pytest

from hardwire_host.virtual import packets as P
from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from hardwire_host.virtual.tcpip import Stack
from model_host import CHIP_IP, CHIP_MAC, NETMASK, PC_IP, PC_MAC, Host, Peer, dial, is_tcp, tcp_flags

PORT = 502
OTHER_IP = bytes((192, 168, 77, 7))
OTHER_MAC = bytes.fromhex("020000000007")
GROUP = bytes((239, 129, 2, 3))
GROUP_MAC = bytes.fromhex("01005e010203")


def sent(frames, protocol):
    """The IPv4 headers and payloads of recorded frames."""
    return [frame[14:] for _, frame in frames if frame[12:14] == b"\x08\x00" and frame[23] == protocol]


def asked(frames):
    """Addresses asked for by ARP, in recorded frames."""
    return [frame[38:42] for _, frame in frames if frame[12:14] == b"\x08\x06" and frame[21] == P.REQUEST]


# Sn_TOS, Sn_TTL, Sn_FRAG

FIELDS = (
    ({}, (0x00, 0x4000, 0x80)),
    ({R.SN_TOS: (0x10, 1)}, (0x10, 0x4000, 0x80)),
    ({R.SN_TTL: (5, 1)}, (0x00, 0x4000, 5)),
    ({R.SN_FRAG: (0, 2)}, (0x00, 0x0000, 0x80)),
    ({R.SN_TOS: (0xFF, 1), R.SN_TTL: (255, 1), R.SN_FRAG: (0x4000, 2)}, (0xFF, 0x4000, 255)),
)


def fields(datagram):
    return datagram[1], datagram[6] << 8 | datagram[7], datagram[8]


@pytest.mark.parametrize(("registers", "expected"), FIELDS)
def test_header_fields(registers, expected):
    host = Host()
    frames = host.record()
    for sn in (0, 1):
        for address, (value, n) in registers.items():
            host.set(sn, address, value, n)
    host.listen(0, PORT)
    peer = dial(host, PORT)
    host.send(0, b"over TCP")
    host.open(1, R.P_UDP, 5000)
    got = []
    host.pc.udp_bind(7, lambda *datagram: got.append(datagram[3]))
    host.aim(1, PC_IP, 7)
    for sn in (0, 1):  # what is written after OPEN does not count
        host.set(sn, R.SN_TTL, 33)
    host.send(1, b"over UDP")
    host.run(50)
    assert peer.data == b"over TCP" and got == [b"over UDP"]
    assert {fields(datagram) for datagram in sent(frames, P.TCP) + sent(frames, P.UDP)} == {expected}
    assert not host.chip.unimplemented


# Sn_MSSR


def syn_mss(frame):
    return P.parse_mss(frame[54 : 34 + (frame[46] >> 4) * 4])


@pytest.mark.parametrize("passive", [False, True])
@pytest.mark.parametrize(
    ("mssr", "in_syn", "announced"),
    [(0, True, 1460), (536, True, 536), (9000, True, 1460), (536, False, 1460)],
)
def test_mssr_is_announced(mssr, in_syn, announced, passive):
    host = Host(mssr_in_syn=in_syn)
    frames = host.record()
    host.set(0, R.SN_MSSR, mssr, 2)
    if passive:
        host.listen(0, PORT)
        dial(host, PORT)
    else:
        host.connect(0, 5001, PC_IP, 7)
        host.run(5)
    assert {syn_mss(frame) for _, frame in frames if is_tcp(frame) and "S" in tcp_flags(frame)} == {announced}


@pytest.mark.parametrize(("shows", "mssr"), [(False, 0), (True, 700)])
def test_mssr_can_show_the_size_in_use(shows, mssr):
    class Small(Peer):
        def attached(self, tcb):
            super().attached(tcb)
            tcb.mss = 700

    host = Host(mssr_shows_mss=shows)
    host.listen(0, PORT)
    host.pc.connect(Small(), 40000, CHIP_IP, PORT)
    host.run(50)
    assert host.get(0, R.SN_MSSR, 2) == mssr


# Delayed ACK: Sn_MR, RTR, ms until the acknowledgement


@pytest.mark.parametrize(
    ("mode", "rtr", "delay_ms"),
    [
        (R.P_TCP, 2000, 200),
        (R.P_TCP, 100, 10),
        (R.P_TCP, 6000, 600),
        (R.P_TCP | R.MR_ND, 2000, 0),
    ],
)
def test_delayed_ack(mode, rtr, delay_ms):
    host = Host()
    host.pc.rtr = 20_000
    host.set_common(R.RTR, rtr, 2)
    host.listen(0, PORT, mode)
    peer = dial(host, PORT)
    peer.tcb.send(b"x")
    start = host.clock.now
    end = host.until(lambda: peer.acknowledged)
    assert (end - start) // NS_PER_MS == delay_ms


def test_an_answer_carries_the_delayed_ack():
    host = Host()
    host.listen(0, PORT)
    peer = dial(host, PORT)
    frames = host.record()
    peer.tcb.send(b"question")
    host.run(1)
    host.recv(0)
    host.send(0, b"answer")
    host.run(1)
    assert peer.acknowledged == 8 and [tcp_flags(frame) for _, frame in frames] == ["PA"]


# ARP: no cache, as in the W5200's datasheet (SOCK_ARP): CONNECT asks, UDP asks when Sn_DIPR has changed


def udp_to_two(**options):
    """Socket 0 on UDP; PC_IP and OTHER_IP are there."""
    host = Host(**options)
    other = Stack(
        host.clock,
        host.segment.attach("other"),
        mac=OTHER_MAC,
        ip=OTHER_IP,
        netmask=NETMASK,
        gateway=bytes(4),
    )
    host.open(0, R.P_UDP, 5000)
    return host, other


def send_to(host, ip, data=b"x"):
    host.aim(0, ip, 7)
    host.send(0, data)
    host.run(5)
    assert host.take_ir() & R.I_SENDOK


def test_udp_asks_when_the_destination_has_changed():
    host, _ = udp_to_two()
    frames = host.record()
    for ip in (PC_IP, PC_IP, OTHER_IP, OTHER_IP, PC_IP):
        send_to(host, ip)
        assert host.read(R.SOCKET, R.SN_DHAR, 6) == (PC_MAC if ip == PC_IP else OTHER_MAC)
    assert asked(frames) == [PC_IP, OTHER_IP, PC_IP]
    host.command(0, R.CLOSE)
    host.open(0, R.P_UDP, 5000)
    send_to(host, PC_IP)
    assert asked(frames) == [PC_IP, OTHER_IP, PC_IP, PC_IP]


@pytest.mark.parametrize("how", ["FARP", "option"])
def test_udp_can_ask_each_time(how):
    host, _ = udp_to_two(arp_each_send=how == "option")
    if how == "FARP":
        host.set_common(R.MR, R.MR_FARP)
    frames = host.record()
    for _ in range(3):
        send_to(host, PC_IP)
    assert asked(frames) == [PC_IP] * 3
    assert not host.chip.unimplemented


def test_connect_asks_each_time():
    host = Host()
    frames = host.record()
    for _ in range(3):
        host.connect(0, 5001, PC_IP, 7)
        host.until_state(R.CLOSED)
    assert asked(frames) == [PC_IP] * 3


def test_accepting_does_not_ask():
    host = Host()
    frames = host.record()
    host.listen(0, PORT)
    dial(host, PORT)
    host.send(0, b"x")
    host.run(10)
    assert asked(frames) == [] and host.read(R.SOCKET, R.SN_DHAR, 6) == PC_MAC


def test_peer_that_changes_its_mac_is_found_after_the_next_question():
    host, other = udp_to_two()
    got = []
    other.udp_bind(7, lambda *datagram: got.append(datagram[3]))
    send_to(host, OTHER_IP, b"1")
    other.mac = bytes.fromhex("020000000099")
    other.port.send(P.arp(P.REQUEST, other.mac, OTHER_IP, P.MAC_BROADCAST, OTHER_IP))  # it says so to all
    send_to(host, OTHER_IP, b"2")
    assert got == [b"1"]
    send_to(host, PC_IP)
    send_to(host, OTHER_IP, b"3")
    assert got == [b"1", b"3"]
    assert host.read(R.SOCKET, R.SN_DHAR, 6) == other.mac


def test_connection_stays_with_the_mac_it_was_made_with():
    host = Host()
    host.listen(0, PORT)
    dial(host, PORT)
    host.pc.mac = OTHER_MAC
    host.send(0, b"x")
    host.until_state(R.CLOSED)
    assert host.ir() & R.I_TIMEOUT
    assert host.read(R.SOCKET, R.SN_DHAR, 6) == PC_MAC


RESETS = {
    "reset bit": lambda host: host.set_common(R.MR, R.MR_RST),
    "brown-out": lambda host: host.chip.brown_out(),
    "RSTn": lambda host: [host.chip.reset_pin(True), host.run(1), host.chip.reset_pin(False), host.run(1)],
}


@pytest.mark.parametrize("how", RESETS)
def test_reset_forgets_addresses_and_questions(how):
    host, _ = udp_to_two()
    send_to(host, PC_IP)
    host.aim(0, bytes((192, 168, 77, 99)), 7)
    host.send(0, b"never")
    host.run(10)
    frames = host.record()
    RESETS[how](host)
    host.run(5000)
    assert not frames
    host.write(R.COMMON, R.GAR, PC_IP + NETMASK + CHIP_MAC + CHIP_IP)
    host.open(0, R.P_UDP, 5000)
    send_to(host, PC_IP)
    assert asked(frames) == [PC_IP]
    assert host.ir() == 0


# IGMP (RFC 2236): bit MULTI of Sn_MR; the bit of no delayed ACK stands for version 1


def messages(frames):
    """IGMP of recorded frames: (destination MAC, destination, TTL, message without its checksum)."""
    found = []
    for _, frame in frames:
        datagram = P.parse_ipv4(frame)
        if datagram and datagram[0] == P.IGMP:
            _, source, target, start, end = datagram
            assert source == CHIP_IP and P.parse_igmp(frame, start, end)
            found.append((frame[:6], target, frame[22], frame[start : start + 2] + frame[start + 4 : end]))
    return found


def open_group(host, sn, mode=0, group=GROUP):
    host.aim(sn, group, 5000)
    host.open(sn, R.P_UDP | R.MR_MULTI | mode, 5000 + sn)


def query(host, group=bytes(4), time=100):
    target = group if any(group) else bytes((224, 0, 0, 1))
    host.pc_port.send(P.igmp(PC_MAC, PC_IP, target, 1, P.IGMP_QUERY, group, time))


V2_REPORT = (GROUP_MAC, GROUP, 1, b"\x16\x00" + GROUP)
V1_REPORT = (GROUP_MAC, GROUP, 1, b"\x12\x00" + GROUP)
LEAVE = (bytes.fromhex("01005e000002"), bytes((224, 0, 0, 2)), 1, b"\x17\x00" + GROUP)


@pytest.mark.parametrize(("mode", "expected"), [(0, [V2_REPORT, LEAVE]), (R.MR_ND, [V1_REPORT])])
def test_join_at_open_and_leave_at_close(mode, expected):
    host = Host()
    frames = host.record()
    open_group(host, 0, mode)
    host.run(5)
    assert messages(frames) == expected[:1]
    host.aim(0, PC_IP, 7)  # a datagram to somebody else changes no membership
    host.send(0, b"x")
    host.run(100_000)
    host.pc.udp_send(7, GROUP, 5000, b"to the group")
    host.run(5)
    assert host.recv(0)[8:] == b"to the group"
    host.command(0, R.CLOSE)
    host.run(5)
    assert messages(frames) == expected
    query(host)
    host.run(20_000)
    assert messages(frames) == expected
    assert not host.chip.unimplemented and not host.chip.guest_errors


@pytest.mark.parametrize(
    ("group", "time", "limit_s"),
    [(bytes(4), 100, 10), (bytes(4), 5, 0.5), (GROUP, 10, 1), (bytes(4), 0, 10)],
)
def test_query_is_answered_in_time(group, time, limit_s):
    host = Host()
    open_group(host, 0)
    host.run(5)
    frames = host.record()
    times = set()
    for _ in range(20):
        start = host.clock.now
        query(host, group, time)
        end = host.until(lambda: messages(frames))
        times.add(end - start)
        assert messages(frames) == [V2_REPORT]
        frames.clear()
        host.run(20_000)
        assert not messages(frames)
    assert max(times) < limit_s * NS_PER_S + NS_PER_MS and len(times) > 10


def test_query_is_not_answered():
    """For another group, after another member's report, with a bad checksum."""
    host = Host()
    open_group(host, 0)
    host.run(5)
    frames = host.record()
    query(host, bytes((239, 1, 1, 1)))
    host.run(20_000)
    query(host)
    host.pc_port.send(P.igmp(PC_MAC, PC_IP, GROUP, 1, P.IGMP_V2_REPORT, GROUP))
    host.run(20_000)
    good = P.igmp(PC_MAC, PC_IP, bytes((224, 0, 0, 1)), 1, P.IGMP_QUERY, bytes(4), 100)
    host.pc_port.send(good[:-1] + b"\1")
    host.run(20_000)
    assert messages(frames) == []


def test_group_is_left_when_its_last_socket_closes():
    host = Host()
    frames = host.record()
    open_group(host, 0)
    open_group(host, 1)
    host.command(0, R.CLOSE)
    host.run(5)
    assert messages(frames) == [V2_REPORT] * 2
    host.command(1, R.CLOSE)
    host.run(5)
    assert messages(frames)[2:] == [LEAVE]


def test_reset_leaves_groups_without_a_word():
    host = Host()
    open_group(host, 0)
    host.run(5)
    query(host)
    frames = host.record()
    host.set_common(R.MR, R.MR_RST)
    host.run(20_000)
    assert not frames


def test_group_of_all_hosts_is_never_reported():
    host = Host()
    frames = host.record()
    open_group(host, 0, group=bytes((224, 0, 0, 1)))
    query(host)
    host.run(20_000)
    host.command(0, R.CLOSE)
    host.run(5)
    assert messages(frames) == []


# SENDs that go wrong


def test_sendok_can_be_lost():
    host, _ = udp_to_two(sendok_lost=1.0)
    host.aim(0, PC_IP, 7)
    host.send(0, b"x")
    host.run(5)
    assert host.ir(0) == 0
    assert host.get(0, R.SN_TX_RD, 2) == host.get(0, R.SN_TX_WR, 2) == 1 and host.free() == 2048
    host.listen(1, PORT)
    peer = dial(host, PORT)
    host.take_ir(1)
    host.send(1, b"y")
    host.run(5)
    assert peer.data == b"y" and host.ir(1) == 0


def test_send_can_stall_when_the_link_is_down():
    for stalls in (False, True):
        host = Host(stall_without_link=stalls)
        host.open(0, R.P_MACRAW, 0)
        host.port.link = False
        host.send(0, bytes(60))
        host.run(1000)
        host.port.link = True
        host.run(1000)
        assert (host.ir(), host.free()) == ((0, 1988) if stalls else (R.I_SENDOK, 2048))
