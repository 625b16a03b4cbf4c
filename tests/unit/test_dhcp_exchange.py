"""Whole exchanges with the DHCP server, byte for byte; anything at all sent to it; the firmware's clients on it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.wire.dhcp import Client
from hardwire_host.virtual import dhcp
from hardwire_host.virtual import packets as P
from hardwire_host.virtual.clock import NS_PER_S, Clock
from hardwire_host.virtual.dhcp import DhcpServer
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tcpip import Stack
from tcpip_common import A_MAC, MASK

SERVER = bytes((192, 168, 0, 1))
FIRST = bytes((192, 168, 0, 10))
MAC = bytes.fromhex("000b8201fc42")
NOBODY = bytes(4)
ALL = bytes((255,) * 4)
COOKIE = bytes.fromhex("63825363")


class Wire:
    """A server at 192.168.0.1, and what it sends: (MAC, address, payload)."""

    def __init__(self, **options):
        self.clock = Clock()
        segment = Segment(self.clock)
        self.stack = Stack(
            self.clock, segment.attach("server"), mac=A_MAC, ip=SERVER, netmask=MASK, gateway=NOBODY
        )
        self.server = DhcpServer(self.stack, **{"first": FIRST, "size": 2, "lease_s": 3600} | options)
        self.port = segment.attach("clients")
        self.port.receive = self._receive
        self.sent = []

    def _receive(self, frame):
        protocol, source, target, start, end = P.parse_ipv4(frame)
        assert (protocol, source) == (P.UDP, SERVER)
        port, to_port, payload = P.parse_udp(frame, start, end)
        assert (port, to_port) == (67, 68)
        self.sent.append((frame[:6], target, payload))

    def put(self, payload, *, source=NOBODY, target=ALL, mac=MAC):
        """One datagram to the server; 1 ms passes. Returns what comes back."""
        self.sent = []
        datagram = P.udp(68, 67, source, target, payload)
        to = P.MAC_BROADCAST if target == ALL else A_MAC
        self.port.send(P.ipv4(to, mac, P.UDP, source, target, 1, datagram))
        self.clock.advance(NS_PER_S // 1000)
        return self.sent


def message(head, options):
    """`head`: xid, secs and flags, ciaddr; then chaddr, no server name, no file, cookie, `options`."""
    return (
        bytes.fromhex("01010600" + head)
        + bytes(12)
        + MAC
        + bytes(202)
        + COOKIE
        + bytes.fromhex(options)
        + b"\xff"
    )


def parts(payload):
    """Type, address and the other options of an answer; fails on what no answer may look like."""
    assert payload[:3] == b"\2\1\6" and payload[28:34] == MAC and payload[236:240] == COOKIE
    assert len(payload) >= 300
    options, at = {}, 240
    while payload[at] != 255:
        assert payload[at] not in options
        options[payload[at]] = payload[at + 2 : at + 2 + payload[at + 1]].hex()
        at += 2 + payload[at + 1]
    assert not any(payload[at + 1 :])
    return options.pop(53), payload[4:8].hex(), payload[16:20], options


ID = "3d07 01000b8201fc42"
ASKED = "3704 0103062a"
# A client that is not ours: its first wish is 0.0.0.0, no broadcast flag, another xid for the REQUEST
DISCOVER = message("00003d1d 00000000 00000000", f"350101 {ID} 3204 00000000 {ASKED}")
REQUEST = message("00003d1e 00000000 00000000", f"350103 {ID} 3204 c0a8000a 3604 c0a80001 {ASKED}")
GIVEN = {
    54: "c0a80001",
    51: "00000e10",
    58: "00000708",
    59: "00000c4e",
    1: "ffffff00",
    61: "01000b8201fc42",
}
REFUSED = {54: "c0a80001", 61: "01000b8201fc42"}
INFORMED = {54: "c0a80001", 1: "ffffff00", 61: "01000b8201fc42"}


def leased(wire):
    assert len(wire.put(DISCOVER)) == 1
    (answer,) = wire.put(REQUEST)
    assert parts(answer[2])[0] == "05"


def test_a_first_lease():
    wire = Wire()
    (offer,) = wire.put(DISCOVER)
    assert offer[:2] == (MAC, FIRST) and parts(offer[2]) == ("02", "00003d1d", FIRST, GIVEN)
    (ack,) = wire.put(REQUEST)
    assert ack[:2] == (MAC, FIRST) and parts(ack[2]) == ("05", "00003d1e", FIRST, GIVEN)


RENEW = message("00000001 00000000 c0a8000a", f"350103 {ID} {ASKED}")
RENEW_OTHER = message("00000001 00000000 c0a8000b", f"350103 {ID} {ASKED}")
REBOOT = message("00000001 00008000 00000000", f"350103 {ID} 3204 c0a8000a {ASKED}")
REBOOT_ELSEWHERE = message("00000001 00000000 00000000", f"350103 {ID} 3204 0a000005 {ASKED}")
# (after a lease?, client's message, its source, its target, (MAC, address) of the answer, the answer)
EXCHANGES = {
    "renewal": (True, RENEW, FIRST, SERVER, (MAC, FIRST), ("05", FIRST, GIVEN)),
    "rebinding": (True, RENEW, FIRST, ALL, (MAC, FIRST), ("05", FIRST, GIVEN)),
    "renewal of another address": (
        *(True, RENEW_OTHER, bytes((192, 168, 0, 11)), SERVER),
        *((P.MAC_BROADCAST, ALL), ("06", NOBODY, REFUSED)),
    ),
    "restart, broadcast flag": (
        True,
        REBOOT,
        NOBODY,
        ALL,
        (P.MAC_BROADCAST, ALL),
        ("05", FIRST, GIVEN),
    ),
    "restart in another network": (
        *(False, REBOOT_ELSEWHERE, NOBODY, ALL),
        *((P.MAC_BROADCAST, ALL), ("06", NOBODY, REFUSED)),
    ),
    "inform": (
        *(
            False,
            message("00000001 00000000 c0a80063", f"350108 {ID} {ASKED}"),
            bytes((192, 168, 0, 99)),
            ALL,
        ),
        *((MAC, bytes((192, 168, 0, 99))), ("05", NOBODY, INFORMED)),
    ),
    "a renewal that names the server and the address": (
        *(
            True,
            message("00000001 00000000 c0a8000a", f"350103 {ID} 3204 c0a8000a 3604 c0a80001"),
            FIRST,
            SERVER,
        ),
        *((MAC, FIRST), ("05", FIRST, GIVEN)),
    ),
    "what was not offered": (
        *(False, REQUEST, NOBODY, ALL),
        *((P.MAC_BROADCAST, ALL), ("06", NOBODY, REFUSED)),
    ),
}


@pytest.mark.parametrize("what", EXCHANGES)
def test_exchange(what):
    before, payload, source, target, to, expected = EXCHANGES[what]
    wire = Wire()
    if before:
        leased(wire)
    (answer,) = wire.put(payload, source=source, target=target)
    kind, xid, address, options = parts(answer[2])
    assert answer[:2] == to and xid == payload[4:8].hex() and (kind, address, options) == expected


def relayed(payload):
    return payload[:24] + bytes((192, 168, 0, 9)) + payload[28:]


LONG_NAME = "3dff" + "aa" * 255 + "3d01bb"  # one option in two parts (RFC 3396)
UNANSWERED = {
    "to another server": message("00000001 00000000 00000000", f"350103 {ID} 3204 c0a8000a 3604 c0a80002"),
    "of a restarted client, unknown here": REBOOT,
    "relayed": relayed(DISCOVER),
    "request for nothing": message("00000001 00000000 00000000", f"350103 {ID}"),
    "inform without an address": message("00000001 00000000 00000000", f"350108 {ID}"),
    "client identifier of 256 bytes": message("00000001 00000000 00000000", "350101" + LONG_NAME),
    "server's own type": message("00000001 00000000 00000000", f"350102 {ID}"),
    "option cut short": message("00000001 00000000 00000000", "350101")[:-1] + b"\x3d\x07\1",
}


@pytest.mark.parametrize("what", UNANSWERED)
def test_no_answer(what):
    wire = Wire()
    assert wire.put(UNANSWERED[what]) == []
    assert wire.server.leases() == [] and not wire.server.sent
    leased(wire)


@pytest.mark.parametrize("has_one", [False, True])
@pytest.mark.parametrize("kind", ["04", "07"])  # DECLINE, RELEASE
def test_nobody_ends_the_lease_of_another(kind, has_one):
    wire = Wire()
    leased(wire)
    mine = bytes((192, 168, 0, 11))
    if has_one:
        wire.put(message("00000001 00000000 00000000", "350101 3d02 00aa"))
        wire.put(message("00000001 00000000 00000000", "350103 3d02 00aa 3204 c0a8000b 3604 c0a80001"))
    other = f"3501{kind} 3d02 00aa 3204 c0a8000a 3604 c0a80001"
    assert wire.put(message("00000001 00000000 c0a8000a", other)) == []
    assert [lease.ip for lease in wire.server.leases()] == [FIRST, mine][: 1 + has_one]
    (answer,) = wire.put(RENEW, source=FIRST, target=SERVER)
    assert parts(answer[2])[0] == "05"


@pytest.mark.parametrize(
    ("seconds", "t1", "t2"), [(1, 1, 1), (2, 1, 1), (8, 4, 7), (0xFFFFFFFE, 0x7FFFFFFF, 0xDFFFFFFE)]
)
def test_times_of_a_lease(seconds, t1, t2):
    wire = Wire(lease_s=seconds)
    (offer,) = wire.put(DISCOVER)
    options = parts(offer[2])[3]
    assert [int(options[code], 16) for code in (51, 58, 59)] == [seconds, t1, t2]


def test_a_client_identifier_comes_back_in_one_piece():
    wire = Wire()
    (offer,) = wire.put(message("00000001 00000000 00000000", "350101 3dc8" + "cc" * 200 + "3d01dd"))
    assert parts(offer[2])[3][61] == "cc" * 200 + "dd"


def test_status():
    wire = Wire()
    leased(wire)
    wire.clock.advance(600 * NS_PER_S)
    assert wire.server.status() == {
        "lease": 3600,
        "nak": False,
        "silent": False,
        "leases": [{"address": "192.168.0.10", "mac": MAC.hex(":"), "left": pytest.approx(3000, abs=0.01)}],
        "received": {"DISCOVER": 1, "REQUEST": 1},
        "sent": {"OFFER": 1, "ACK": 1},
    }
    wire.server.lease_s = dhcp.INFINITE_S
    wire.put(RENEW, source=FIRST, target=SERVER)
    assert wire.server.status()["leases"][0]["left"] is None


# Anything at all

OPTION = st.builds(
    lambda code, value: bytes((code, len(value))) + value,
    st.sampled_from((50, 51, 53, 54, 61, 12, 55, 57)) | st.integers(1, 254),
    st.sampled_from((NOBODY, SERVER, FIRST, ALL, b"")) | st.binary(max_size=255),
)
MESSAGES = st.builds(
    lambda flags, ciaddr, mac, kind, options, end: (
        bytes.fromhex("0101060012345678 0000")
        + flags
        + ciaddr
        + bytes(12)
        + mac
        + bytes(202)
        + COOKIE
        + bytes((53, 1, kind))
        + b"".join(options)
        + end
    )[:1472],
    st.sampled_from((b"\0\0", b"\x80\0")) | st.binary(min_size=2, max_size=2),
    st.sampled_from((NOBODY, FIRST, SERVER, ALL)) | st.binary(min_size=4, max_size=4),
    st.binary(min_size=6, max_size=6),
    st.integers(0, 9),
    st.lists(OPTION, max_size=8),
    st.sampled_from((b"\xff", b"", b"\0\0\xff")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(MESSAGES | st.binary(max_size=600), st.integers(0, 100)), max_size=12))
def test_anything_is_survived(payloads):
    wire = Wire(lease_s=60)
    for payload, pause_s in payloads:
        wire.server.refuse = pause_s == 100
        answers = wire.put(payload)
        assert len(answers) <= 1
        for _, _, answer in answers:
            assert len(answer) >= 300 and answer[0] == 2
        wire.clock.advance(pause_s * NS_PER_S)
        assert len({lease.ip for lease in wire.server.leases()}) == len(wire.server.leases()) <= 2
    wire.clock.advance((dhcp.DECLINED_S + dhcp.OFFER_S) * NS_PER_S)
    wire.server.refuse = False
    assert len(wire.put(DISCOVER)) == 1  # every lease is over, so the pool has room


# The firmware's clients

TROUBLE_S = 300
CALM_S = 200  # three times the longest pause between two messages of a client that has had no answer
LEASE_S = 30


class Host:
    """A board's DHCP client on the wire, one step a second; some of its messages and answers are lost."""

    def __init__(self, wire, number, chance):
        self.mac = bytes((2, 0, 0, 0, 0, number))
        self._wire = wire
        self._random = random.Random(number)
        self._chance = chance
        self.client = Client(self.mac, "", self._random.randbytes)
        self.client.start(0)

    def step(self, now, loss):
        if (found := self.client.poll(now)) is None or self._chance.random() < loss:
            return
        to, payload = found
        source = self.client.address or NOBODY
        for _, _, answer in self._wire.put(bytes(payload), source=source, target=to, mac=self.mac):
            if self._chance.random() >= loss:
                self.client.received(answer, now)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from((0.0, 0.3, 0.7)))
def test_no_two_clients_ever_have_the_same_address(seed, count, loss):
    chance = random.Random(seed)
    wire = Wire(size=4, lease_s=LEASE_S)
    hosts = [Host(wire, number + 1, chance) for number in range(count)]
    for now in range(TROUBLE_S + CALM_S):
        trouble = now < TROUBLE_S
        wire.server.silent = trouble and chance.random() < 0.1
        if trouble and chance.random() < 0.02:
            chance.choice(hosts).client.link_up(now)
        for host in hosts:
            host.step(now, loss if trouble else 0.0)
        held = [host.client.address for host in hosts if host.client.address is not None]
        assert len(set(held)) == len(held)
        wire.clock.advance_to((now + 1) * NS_PER_S)
    assert {host.client.address for host in hosts} == {lease.ip for lease in wire.server.leases()}
    assert len(wire.server.leases()) == count
