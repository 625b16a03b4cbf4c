"""A peer that vanishes: TIMEOUT after ARPTO or TCPTO in device time, however the chip waits (datasheet 4.1, RCR).

The times are worked out by hand from the datasheet's formulas, not by code:
ARPTO = RTR x (RCR + 1); TCPTO = RTR x (1 + 2 + 4 ... + 2^M) + (RCR - M) x RTR x 2^M,
where 2^M is the last doubling of RTR that fits 16 bits, and M at most RCR.
"""

import pytest

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_US
from model_host import CHIP_IP, PC_IP, Host, Peer, deaf, dial, is_tcp, tcp_flags

PORT = 502
ABSENT_IP = bytes((192, 168, 77, 99))
FOREIGN_IP = bytes((8, 8, 8, 8))

# RTR, RCR, ARPTO, TCPTO; all in 100 us
TIMES = (
    (2000, 8, 18_000, 318_000),  # reset values: 2000 + 4000 + 8000 + 16000 + 32000 + 4 x 64000 more
    (1000, 5, 6_000, 63_000),  # 1000 x 63
    (2000, 0, 2_000, 2_000),
    (500, 10, 5_500, 319_500),  # 500 x 255 + 3 x 64000
    (1, 20, 21, 229_375),  # 65535 + 5 x 32768
    (16384, 3, 65_536, 114_688),  # 16384 + 3 x 32768
    (32768, 2, 98_304, 98_304),  # twice that has 17 bits
    (40000, 3, 160_000, 160_000),
    (65535, 1, 131_070, 131_070),
)
UNIT = 100 * NS_PER_US
WIRE_NS = 10 * NS_PER_US  # what a small frame takes on the wire: a tap sees it arrive


def waiting_host(rtr, rcr):
    host = Host()
    host.set_common(R.RTR, rtr, 2)
    host.set_common(R.RCR, rcr)
    return host


def accepted(host):
    """A peer whose connection socket 0 has taken, and which has said a byte."""
    host.listen(0, PORT, R.P_TCP | R.MR_ND)
    host.pc.rtr = 40_000  # it repeats nothing of its own within the test's beginnings
    peer = dial(host, PORT)
    peer.tcb.send(b"x")
    host.run(50)
    assert host.recv(0) == b"x"
    host.take_ir()
    return peer


def connect(host):
    deaf(host)
    host.connect(0, 5001, PC_IP, 7)


def accept(host):
    host.listen(0, PORT)
    host.pc.connect(Peer(), 40000, CHIP_IP, PORT)
    host.until_state(R.SYNRECV)
    deaf(host)


def send(host):
    accepted(host)
    deaf(host)
    host.send(0, b"data")


def send_after_fin(host):
    accepted(host).tcb.shutdown()
    host.run(50)
    assert host.state() == R.CLOSE_WAIT
    host.take_ir()
    deaf(host)
    host.send(0, b"data")


def disconnect(host):
    accepted(host)
    deaf(host)
    host.command(0, R.DISCON)


def disconnect_after_fin(host):
    accepted(host).tcb.shutdown()
    host.run(50)
    assert host.state() == R.CLOSE_WAIT
    host.take_ir()
    deaf(host)
    host.command(0, R.DISCON)


def send_keep(host):
    accepted(host)
    deaf(host)
    host.command(0, R.SEND_KEEP)


# How the chip comes to wait; flags of what it repeats then
TCP = {
    "CONNECT": (connect, "S"),
    "SYN received": (accept, "SA"),
    "SEND": (send, "PA"),
    "SEND in CLOSE_WAIT": (send_after_fin, "PA"),
    "DISCON": (disconnect, "FA"),
    "DISCON in CLOSE_WAIT": (disconnect_after_fin, "FA"),
    "SEND_KEEP": (send_keep, "A"),
}


@pytest.mark.parametrize("what", TCP)
@pytest.mark.parametrize(("rtr", "rcr", "_arp", "limit"), TIMES)
def test_tcp(what, rtr, rcr, _arp, limit):
    begin, flags = TCP[what]
    host = waiting_host(rtr, rcr)
    frames = host.record()
    begin(host)
    end = host.until_state(R.CLOSED)
    assert host.ir() & ~R.I_SENDOK == R.I_TIMEOUT
    sent = [time for time, frame in frames if is_tcp(frame) and set(tcp_flags(frame)) == set(flags)]
    sent = sent[-rcr - 1 :]
    assert len(sent) == rcr + 1
    assert 0 < limit * UNIT - (end - sent[0]) < WIRE_NS
    host.take_ir()
    host.run(100_000)
    assert host.ir() == 0


@pytest.mark.parametrize("ip", [ABSENT_IP, FOREIGN_IP])
@pytest.mark.parametrize(("rtr", "rcr", "limit", "_tcp"), TIMES)
def test_arp(rtr, rcr, limit, _tcp, ip):
    for udp in (False, True):
        host = waiting_host(rtr, rcr)
        if ip == FOREIGN_IP:
            host.write(R.COMMON, R.GAR, ABSENT_IP)
        frames = host.record()
        if udp:
            host.open(0, R.P_UDP, 5000)
            host.aim(0, ip, 7)
            host.send(0, b"x")
        else:
            host.connect(0, 5001, ip, 7)
        assert host.until(lambda host=host: host.ir() != 0) == limit * UNIT
        assert host.take_ir() == R.I_TIMEOUT
        assert host.state() == (R.UDP if udp else R.CLOSED)
        assert [frame[12:14] + frame[38:42] for _, frame in frames] == [b"\x08\x06" + ABSENT_IP] * (rcr + 1)
        host.run(100_000)
        assert host.ir() == 0


@pytest.mark.parametrize(("units", "idle_ms"), [(1, 5_000), (2, 10_000), (255, 1_275_000)])
@pytest.mark.parametrize(("rtr", "rcr", "_arp", "limit"), TIMES[:2])
def test_keepalive(units, idle_ms, rtr, rcr, _arp, limit):
    host = waiting_host(rtr, rcr)
    host.set(0, R.SN_KPALVTR, units)
    heard = []
    host.segment.taps.append(
        lambda time, name, frame, comment: heard.append(time) if name == "pc" and is_tcp(frame) else None
    )
    frames = host.record()
    accepted(host)
    host.run(100)
    deaf(host)
    end = host.until_state(R.CLOSED, limit_ms=2_000_000)
    assert host.ir() & R.I_TIMEOUT
    probes = [time for time, frame in frames if is_tcp(frame)][-rcr - 1 :]
    assert round((probes[0] - heard[-1]) / NS_PER_MS) == idle_ms
    assert 0 < limit * UNIT - (end - probes[0]) < WIRE_NS


def test_keepalive_needs_data_first():
    host = Host()
    host.set(0, R.SN_KPALVTR, 1)
    host.listen(0, PORT)
    dial(host, PORT)
    deaf(host)
    host.run(1_000_000)
    assert host.state() == R.ESTABLISHED
