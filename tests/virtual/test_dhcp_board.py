"""The firmware with a DHCP server in every mood: what address it has, whether it serves, what the server hears.

One board for all of them; each test begins with a lease that was just given. Times are device time.
"""

import json
from collections import Counter

import pytest

from hardwire.addresses import ip_bytes
from hardwire_host.bundle import build_filesystem
from hardwire_host.virtual import dhcp
from hardwire_host.virtual import packets as P
from hardwire_host.virtual.clock import NS_PER_S
from hardwire_host.virtual.dhcp import CLIENT_PORT, SERVER_PORT, DhcpServer
from hardwire_host.virtual.tcpip import Stack

BOARD = "w5500_evb_pico"
PC_IP, NETMASK = ip_bytes("192.168.77.1"), ip_bytes("255.255.255.0")
PC_MAC = b"\x02\x00\x00\x00\x00\x01"
STATIC = ip_bytes("192.168.77.99")
FIRST, RENUMBERED = ip_bytes("192.168.77.100"), ip_bytes("192.168.77.150")
MODBUS = 502
READ = bytes.fromhex("0001 0000 0006 01 03 0000 0001")
ANSWER = bytes.fromhex("0001 0000 0005 01 03 02 0000")

WEEK_S = 7 * 86400  # more ms than half the range of MicroPython's ticks, where the board's old client broke
SHORT_S = 20
ANSWER_S = 5  # an exchange takes 1 ms, and a segment that was lost is repeated after 0.2 s
FALLBACK_S = 30  # the board takes some 10 s to give a server up
SETTLE_S = 150  # the longest way to a lease: the end of an old one, the longest pause between two messages


class Questions:
    """A Modbus client on `stack`, one connection to `ip`: a TcpUser."""

    def __init__(self, stack, ip):
        self.answers = bytearray()
        self.ended = None
        self._asked = 0
        stack.connect(self, None, ip, MODBUS)

    def attached(self, tcb):
        self._tcb = tcb

    def room(self):
        return 4096

    def established(self):
        pass

    def sent(self, n):
        pass

    def acked(self, n):
        pass

    def received(self, data):
        self.answers += data

    def fin(self):
        self.ended = "fin"

    def closed(self, reason):
        self.ended = reason

    def ask(self):
        self._asked += 1
        self._tcb.send(READ)

    @property
    def answered(self):
        return self.answers == ANSWER * self._asked

    def close(self):
        self._tcb.abort()


class Bench:
    """The board with a host `pc` on its segment, and what the board's DHCP client says: (name, ciaddr, sent to)."""

    def __init__(self, live):
        self.live = live
        self.chip = live.board.chip
        self.said = []
        live.do(self._make)

    def _make(self):
        segment = self.live.board.segment
        port = segment.attach("pc")
        self.pc = Stack(segment.clock, port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=0)
        self.server = DhcpServer(self.pc, first=FIRST, size=4)
        segment.taps.append(self._hear)

    def _hear(self, _time, _port, frame, _comment):
        if P.ethertype(frame) != P.IPV4 or (fields := P.parse_ipv4(frame)) is None or fields[0] != P.UDP:
            return
        _, _, target, start, end = fields
        port, to_port, payload = P.parse_udp(frame, start, end)
        if (port, to_port) == (CLIENT_PORT, SERVER_PORT):
            message = dhcp.parse(payload)
            self.said.append((dhcp.NAMES[message.kind], message.ciaddr, target))

    def until(self, predicate, seconds):
        return self.live.run_until(predicate, seconds)

    def run(self, seconds):
        self.live.run_until(lambda: False, seconds)

    def has(self, ip, seconds=SETTLE_S):
        """Wait until the board has the address."""
        return self.until(lambda: self.chip.ip == ip, seconds)

    def connect(self):
        return self.live.do(Questions, self.pc, self.chip.ip)

    def answers(self, questions):
        self.live.do(questions.ask)
        return self.until(lambda: questions.answered, ANSWER_S)

    def serves(self):
        """Whether a new connection to the board's address is answered."""
        questions = self.connect()
        try:
            return self.answers(questions)
        finally:
            self.live.do(questions.close)

    def lease(self, seconds):
        """Have the server give leases of `seconds`, and the board take one: it asks when its cable is plugged in."""
        server, cable = self.server, self.live.board.cable
        server.lease_s, server.silent, server.refuse = seconds, False, False
        self.live.do(setattr, cable, "link", False)
        self.run(1)
        acks = server.sent["ACK"]
        self.live.do(setattr, cable, "link", True)
        assert self.until(lambda: server.sent["ACK"] > acks and self.chip.ip == FIRST, SETTLE_S)
        self.said.clear()


@pytest.fixture(scope="module")
def bench(boot):
    settings = {"network": {"mode": "dhcp", "address": ".".join(map(str, STATIC))}}
    live = boot(filesystem=build_filesystem(BOARD, json.dumps(settings)), pace=False)
    made = Bench(live)
    live.wait_listening(MODBUS)
    return made


def said(bench):
    return Counter(name for name, _, _ in bench.said)


@pytest.mark.parametrize("seconds", [WEEK_S, dhcp.INFINITE_S])
def test_a_long_lease_needs_nothing(bench, seconds):
    bench.lease(seconds)
    assert bench.serves()
    bench.run(10)
    assert bench.said == [] and bench.chip.ip == FIRST and bench.serves()


def test_a_restarted_board_takes_a_lease_of_a_week(bench):
    bench.lease(WEEK_S)
    bench.live.call(bench.live.board.power_cycle())
    assert bench.chip.ip == bytes(4)
    bench.live.wait_listening(MODBUS)
    assert bench.has(FIRST, ANSWER_S) and bench.serves()
    bench.run(10)
    assert set(said(bench).values()) == {1} and bench.serves()


def test_renewals_in_time_and_unnoticed(bench):
    bench.lease(SHORT_S)
    questions = bench.connect()
    for _ in range(5):
        assert bench.answers(questions)
        assert not bench.until(lambda: not bench.server.leases() or bench.chip.ip != FIRST, SHORT_S / 2)
    assert questions.ended is None and bench.answers(questions)
    # from T1 on, to the server that gave it, in the name of the address (RFC 2131, 4.3.2)
    assert set(bench.said) == {("REQUEST", FIRST, PC_IP)} and 4 <= len(bench.said) <= 6


def test_rebinding_when_the_server_has_another_address(bench):
    bench.lease(SHORT_S)

    def move():
        bench.pc.ip = RENUMBERED

    def move_back():
        bench.pc.ip = PC_IP

    bench.live.do(move)
    try:
        acks = bench.server.sent["ACK"]
        assert bench.until(lambda: bench.server.sent["ACK"] > acks, SHORT_S)
        assert bench.chip.ip == FIRST and bench.serves()
        assert bench.said[-1] == ("REQUEST", FIRST, P.IP_BROADCAST) and not said(bench)["DISCOVER"]
    finally:
        bench.live.do(move_back)


def test_a_nak_to_a_renewal_brings_another_address(bench):
    bench.lease(SHORT_S)
    other = bench.live.do(lambda: DhcpServer(bench.pc, first=RENUMBERED, size=4, lease_s=SHORT_S))
    try:
        assert bench.has(RENUMBERED, SHORT_S)
        assert other.sent == {"NAK": 1, "OFFER": 1, "ACK": 1}
        assert bench.serves()
        bench.run(SHORT_S)
        assert bench.chip.ip == RENUMBERED and bench.serves()
    finally:
        bench.live.do(other.close)
        bench.server = bench.live.do(lambda: DhcpServer(bench.pc, first=FIRST, size=4))


def test_nothing_but_naks(bench):
    bench.lease(SHORT_S)
    bench.server.refuse = True
    assert bench.has(STATIC, SHORT_S + FALLBACK_S)
    assert bench.server.sent["NAK"] >= 2 and bench.serves()
    naks = bench.server.sent["NAK"]
    bench.run(10)
    assert bench.server.sent["NAK"] - naks <= 5  # it does not flood the server that refuses
    bench.server.refuse = False
    assert bench.has(FIRST) and bench.serves()


def test_a_server_falls_silent_and_comes_back(bench):
    bench.lease(SHORT_S)
    bench.server.silent = True
    began = bench.live.board.clock.now
    assert bench.serves()
    assert bench.until(lambda: bench.chip.ip != FIRST, 2 * SHORT_S)
    assert 0.9 * SHORT_S <= (bench.live.board.clock.now - began) / NS_PER_S <= SHORT_S + 1  # held to its end
    asked = [(name, target) for name, ciaddr, target in bench.said if ciaddr == FIRST]
    assert asked[0] == ("REQUEST", PC_IP) and asked[-1] == ("REQUEST", P.IP_BROADCAST)
    assert bench.has(STATIC, FALLBACK_S) and bench.serves()
    bench.server.silent = False
    assert bench.has(FIRST) and bench.serves()


def test_no_server_at_start(bench):
    bench.lease(SHORT_S)
    bench.server.silent = True
    bench.live.call(bench.live.board.power_cycle())
    bench.live.wait_listening(MODBUS)
    assert bench.has(STATIC, FALLBACK_S) and bench.serves()
    assert said(bench)["DISCOVER"] >= 2
    bench.server.silent = False
    assert bench.has(FIRST) and bench.serves()
