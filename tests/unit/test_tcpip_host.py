"""ARP, IPv4, ICMP and UDP of the engine, between two stacks and against frames written by hand."""

import pytest

from hardwire_host.virtual import arp as arp_module
from hardwire_host.virtual import packets as P
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tcpip import Stack
from tcpip_common import A_IP, A_MAC, B_IP, B_MAC, MASK, Pair, Script, User

C_IP, C_MAC = bytes((10, 0, 0, 3)), bytes.fromhex("020000000003")
ALL = bytes((255,) * 4)
SUBNET = bytes((10, 0, 0, 255))
GROUP = bytes((239, 1, 2, 3))


def frames_of(pair):
    """From now on every frame of the segment: (port's name, frame)."""
    frames = []
    pair.segment.taps.append(lambda time, name, frame, comment: frames.append((name, frame)))
    return frames


def bound(stack, port=9):
    """What arrives at a UDP port."""
    got = []
    stack.udp_bind(port, lambda *datagram: got.append(datagram))
    return got


# ARP


def test_one_question_serves_all_and_the_answer_is_kept():
    pair = Pair()
    frames = frames_of(pair)
    got = bound(pair.b)
    done = []
    for i in range(3):
        pair.a.udp_send(5, B_IP, 9, bytes((i,)), done.append)
    assert done == []
    pair.run(1)
    pair.a.udp_send(5, B_IP, 9, b"\3", done.append)
    pair.run(1)
    assert [payload for *_, payload in got] == [b"\0", b"\1", b"\2", b"\3"] and done == [True] * 4
    assert [P.ethertype(frame) == P.ARP for _, frame in frames] == [True, True, False, False, False, False]
    pair.b.udp_send(9, A_IP, 5, b"back")  # b has learned from the question
    pair.run(1)
    assert sum(P.ethertype(frame) == P.ARP for _, frame in frames) == 2


def test_entries_age():
    pair = Pair()
    frames = frames_of(pair)
    for _ in range(2):
        pair.a.udp_send(5, B_IP, 9, b"x", mac=None)
        pair.run(arp_module.LIFETIME_NS / NS_PER_MS + 1)
    assert [name for name, frame in frames if frame[:6] == P.MAC_BROADCAST] == ["a", "a"]
    pair.a.arp.lifetime = 0
    for _ in range(3):
        pair.a.udp_send(5, B_IP, 9, b"x")
        pair.run(1)
    assert len([name for name, frame in frames if frame[:6] == P.MAC_BROADCAST]) == 5


def test_cache_follows_a_host_that_has_changed_its_mac():
    pair = Pair()
    got = bound(pair.b)
    pair.a.udp_send(5, B_IP, 9, b"x")
    pair.run(1)
    pair.b.mac = C_MAC
    pair.b_cable.send(P.arp(P.REQUEST, C_MAC, B_IP, P.MAC_BROADCAST, B_IP))  # gratuitous
    pair.run(1)
    pair.a.udp_send(5, B_IP, 9, b"y")
    pair.run(1)
    assert len(got) == 2


def test_nobody_answers():
    pair = Pair()
    frames = frames_of(pair)
    done = []
    for i in range(arp_module.WAITING + 1):
        pair.a.udp_send(5, C_IP, 9, b"x", lambda ok, i=i: done.append((i, ok)))
    assert done == [(arp_module.WAITING, False)]
    pair.until(lambda: len(done) == arp_module.WAITING + 1)
    assert pair.clock.now == 9 * 200 * NS_PER_MS and not any(ok for _, ok in done)
    assert len(frames) == 9
    pair.run(100_000)
    assert len(frames) == 9


def test_cache_is_bounded():
    pair = Pair()
    for i in range(arp_module.ENTRIES + 100):
        ip = (0x0A010000 + i).to_bytes(4, "big")
        pair.b_cable.send(P.arp(P.REQUEST, B_MAC, ip, P.MAC_BROADCAST, A_IP))
    pair.run(100)
    assert len(pair.a.arp._cache) == arp_module.ENTRIES


@pytest.mark.parametrize("operation", [P.REQUEST, P.REPLY])
def test_conflict(operation):
    pair = Pair()
    frames = frames_of(pair)
    conflicts = []
    pair.a.on_conflict = lambda: conflicts.append(pair.clock.now)
    pair.b_cable.send(P.arp(operation, C_MAC, A_IP, A_MAC, A_IP))
    pair.run(1)
    assert len(conflicts) == 1 and len(frames) == 1
    pair.b_cable.send(P.arp(operation, A_MAC, A_IP, A_MAC, A_IP))  # our own words, come back
    pair.run(1)
    assert len(conflicts) == 1


def test_probe_is_answered_and_not_learned():
    """RFC 5227, 2.1.1: the sender's address of a probe is zeros."""
    pair = Pair()
    frames = frames_of(pair)
    pair.b_cable.send(P.arp(P.REQUEST, C_MAC, P.IP_ANY, P.MAC_BROADCAST, A_IP))
    pair.run(1)
    assert [name for name, _ in frames] == ["b", "a"]
    assert P.IP_ANY not in pair.a.arp._cache


def test_without_an_address_nothing_is_answered():
    pair = Pair()
    pair.a.ip = P.IP_ANY
    frames = frames_of(pair)
    for target in (A_IP, P.IP_ANY):
        pair.b_cable.send(P.arp(P.REQUEST, B_MAC, B_IP, P.MAC_BROADCAST, target))
    pair.run(1)
    assert len(frames) == 2


# Routing

ROUTES = (
    # netmask, gateway, destination -> address asked for by ARP, or where the frame goes without a question
    (MASK, C_IP, B_IP, B_IP),
    (MASK, C_IP, bytes((8, 8, 8, 8)), C_IP),
    (MASK, P.IP_ANY, bytes((8, 8, 8, 8)), bytes((8, 8, 8, 8))),
    (bytes(4), C_IP, bytes((8, 8, 8, 8)), bytes((8, 8, 8, 8))),
    (MASK, C_IP, ALL, P.MAC_BROADCAST),
    (MASK, C_IP, SUBNET, P.MAC_BROADCAST),
    (bytes((255, 255, 0, 0)), C_IP, SUBNET, SUBNET),
    (bytes((255, 255, 0, 0)), C_IP, bytes((10, 0, 255, 255)), P.MAC_BROADCAST),
    (ALL, C_IP, A_IP, A_IP),
    (MASK, C_IP, GROUP, bytes.fromhex("01005e010203")),
    (MASK, C_IP, bytes((224, 129, 2, 3)), bytes.fromhex("01005e010203")),
)


@pytest.mark.parametrize(("netmask", "gateway", "to", "hop"), ROUTES)
def test_next_hop(netmask, gateway, to, hop):
    pair = Pair()
    pair.a.netmask, pair.a.gateway = netmask, gateway
    frames = frames_of(pair)
    pair.a.udp_send(5, to, 9, b"x")
    pair.run(1)
    first = frames[0][1]
    assert (first[38:42] if P.ethertype(first) == P.ARP else first[:6]) == hop


# ICMP

ECHO = P.icmp(P.ECHO, 0, bytes.fromhex("12340001") + b"payload")


def ping(target=A_IP, source=B_IP, to=A_MAC, message=ECHO):
    return P.ipv4(to, B_MAC, P.ICMP, source, target, 7, message)


def test_ping():
    script = Script()
    got = []
    script.port.receive = got.append
    script.port.send(ping())
    script.run(1)
    (answer,) = got
    assert answer[:12] == B_MAC + A_MAC
    protocol, source, target, start, end = P.parse_ipv4(answer)
    assert (protocol, source, target) == (P.ICMP, A_IP, B_IP)
    assert P.parse_icmp(answer, start, end) == (P.ECHO_REPLY, 0, ECHO[4:])
    script.a.ping_reply = False
    script.port.send(ping())
    script.run(1)
    assert len(got) == 1


SILENT = {
    "other host's": ping(target=B_IP),
    "broadcast": ping(target=ALL, to=P.MAC_BROADCAST),
    "our address in a broadcast frame": ping(to=P.MAC_BROADCAST),
    "other MAC": ping(to=C_MAC),
    "from everybody": ping(source=ALL),
    "from a group": ping(source=GROUP),
    "bad ICMP checksum": ping(message=ECHO[:-1] + b"?"),
    "cut": ping(message=ECHO[:7]),
    "echo reply": ping(message=P.icmp(P.ECHO_REPLY, 0, ECHO[4:])),
    "bad IP checksum": ping()[:24] + b"\0\0" + ping()[26:],
    "IP version 6": ping()[:14] + b"\x65" + ping()[15:],
    "unknown EtherType": ping()[:12] + b"\x88\xb5" + ping()[14:],
    "802.3 length": ping()[:12] + b"\x00\x2e" + ping()[14:],
    "unknown protocol": P.ipv4(A_MAC, B_MAC, 132, B_IP, A_IP, 7, bytes(20)),
    "unreachable that quotes nothing": ping(message=P.icmp(3, 3, bytes(4))),
}


@pytest.mark.parametrize("what", SILENT)
def test_no_answer_to(what):
    script = Script()
    got = []
    script.port.receive = got.append
    script.port.send(SILENT[what])
    script.run(1)
    assert got == []


def test_port_unreachable_both_ways():
    pair = Pair()
    told = []
    pair.a.on_unreachable = lambda ip, port: told.append((ip, port))
    pair.a.udp_send(5, B_IP, 99, b"anybody?")
    pair.run(1)
    assert told == [(B_IP, 99)]
    bound(pair.b, 99)
    pair.a.udp_send(5, B_IP, 99, b"anybody?")
    pair.run(1)
    assert len(told) == 1


def test_unreachable_that_quotes_somebody_else_is_ignored():
    script = Script()
    told = []
    script.a.on_unreachable = lambda ip, port: told.append(port)
    for source in (C_IP, A_IP):
        offender = P.ipv4(B_MAC, A_MAC, P.UDP, source, B_IP, 1, P.udp(5, 99, source, B_IP, b"x"))
        script.port.send(P.ipv4(A_MAC, B_MAC, P.ICMP, B_IP, A_IP, 2, P.unreachable(offender, 34)))
        script.run(1)
    assert told == [99]


# UDP


@pytest.mark.parametrize("size", [0, 1, 2, 1471, 1472])
def test_datagram(size):
    pair = Pair()
    got = bound(pair.b)
    payload = bytes(i & 0xFF for i in range(size))
    pair.a.udp_send(5, B_IP, 9, payload)
    pair.run(1)
    assert got == [(A_IP, 5, B_IP, payload)]


def test_broadcast_and_multicast_reach_everyone_and_nobody_complains():
    pair = Pair()
    third = Stack(
        pair.clock, pair.segment.attach("c"), mac=C_MAC, ip=C_IP, netmask=MASK, gateway=bytes(4), seed=3
    )
    frames = frames_of(pair)
    got = bound(pair.b), bound(third)
    for to in (ALL, SUBNET, GROUP):
        pair.a.udp_send(5, to, 9, b"x")
        pair.a.udp_send(5, to, 10, b"nobody")
    pair.run(1)
    for each in got:
        assert [target for _, _, target, _ in each] == [ALL, SUBNET, GROUP]
    assert len(frames) == 6


def test_unicast_address_in_a_broadcast_frame_is_not_taken():
    script = Script()
    got = bound(script.a)
    for to, mac in ((A_IP, P.MAC_BROADCAST), (C_IP, A_MAC), (A_IP, A_MAC)):
        script.port.send(P.ipv4(mac, B_MAC, P.UDP, B_IP, to, 1, P.udp(5, 9, B_IP, to, b"x")))
    script.run(1)
    assert [target for _, _, target, _ in got] == [A_IP]


def test_host_without_an_address_hears_what_comes_to_its_mac():
    script = Script()
    script.a.ip = script.a.netmask = P.IP_ANY
    got = bound(script.a, 68)
    for to, mac in ((C_IP, A_MAC), (ALL, P.MAC_BROADCAST)):
        script.port.send(P.ipv4(mac, B_MAC, P.UDP, B_IP, to, 1, P.udp(67, 68, B_IP, to, b"offer")))
    script.run(1)
    assert [target for _, _, target, _ in got] == [C_IP, ALL]


def test_known_mac_needs_no_arp():
    pair = Pair()
    frames = frames_of(pair)
    done = []
    pair.a.udp_send(5, B_IP, 99, b"x", done.append, B_MAC)
    assert done == [True]
    pair.run(1)
    assert P.ethertype(frames[0][1]) == P.IPV4


def test_binding():
    pair = Pair()
    first, second = [], []
    handles = [pair.b.udp_bind(9, lambda *datagram, to=to: to.append(datagram)) for to in (first, second)]
    pair.a.udp_send(5, B_IP, 9, b"x")
    pair.run(1)
    handles[0].close()
    pair.a.udp_send(5, B_IP, 9, b"y")
    pair.run(1)
    assert (len(first), len(second)) == (0, 2)
    handles[1].close()
    handles[1].close()
    told = []
    pair.a.on_unreachable = lambda ip, port: told.append(port)
    pair.a.udp_send(5, B_IP, 9, b"z")
    pair.run(1)
    assert told == [9]


def test_raw_sees_every_frame_first():
    pair = Pair()
    seen = []
    got = bound(pair.b)
    pair.b.raw = lambda frame: seen.append(frame) or len(seen) > 2
    for _ in range(3):
        pair.a.udp_send(5, B_IP, 9, b"x")
        pair.run(1)
    assert len(seen) == 4 and len(got) == 1


def test_addresses_may_change_at_any_time():
    pair = Pair()
    user, other = pair.established()
    frames = frames_of(pair)
    pair.b_cable.rule = lambda frame: []  # a reset: there is no connection with the new address
    pair.a.ip = C_IP
    user.tcb.send(b"x")
    pair.run(1)
    assert frames[0][1][26:30] == C_IP and other.data == b""
    pair.a.ip = A_IP
    pair.b_cable.rule = None
    pair.run(1000)
    assert other.data == b"x" and user.acked_bytes == 1


def test_frames_at_random_do_no_harm():
    """Every prefix of every kind of frame, and every byte of it changed."""
    script = Script()
    script.accepted()
    bound(script.a)
    good = P.udp(5, 9, B_IP, A_IP, b"x")
    kinds = (
        ping(),
        P.ipv4(A_MAC, B_MAC, P.UDP, B_IP, A_IP, 1, good),
        P.arp(P.REQUEST, B_MAC, B_IP, A_MAC, A_IP),
        P.tcp(A_MAC, B_MAC, B_IP, A_IP, 1, 5000, 7, 1001, script.ack, P.ACK | P.PSH, 100, b"data", 1460),
    )
    for frame in kinds:
        for size in range(14, len(frame)):
            script.port.send(frame[:size])
        for at in range(6, len(frame)):
            for value in (0, 0x45, 0x7F, 0xFF):
                script.port.send(frame[:at] + bytes((value,)) + frame[at + 1 :])
        script.run(10)
    assert script.a_user.calls == ["established"]


def test_three_hosts_on_one_segment():
    clock = Clock()
    segment = Segment(clock)
    addresses = {name: bytes((10, 0, 0, i + 1)) for i, name in enumerate("abc")}
    stacks = {
        name: Stack(
            clock,
            segment.attach(name),
            mac=bytes((2, 0, 0, 0, 0, i + 1)),
            ip=addresses[name],
            netmask=MASK,
            gateway=bytes(4),
            seed=i,
        )
        for i, name in enumerate("abc")
    }
    users = {}
    for name, stack in stacks.items():
        stack.on_syn = lambda port, ip, remote, name=name: users.setdefault((ip, name), User())
    mine = {}
    for one in "abc":
        for two in "abc":
            if one != two:
                mine[one, two] = user = User()
                stacks[one].connect(user, 4000, addresses[two], 7)
                user.tcb.send(f"{one}{two}".encode())
    clock.advance(NS_PER_S)
    assert {(stack, two): bytes(user.data) for (stack, two), user in users.items()} == {
        (addresses[one], two): f"{one}{two}".encode() for one, two in mine
    }
