"""The segment's DNS server: bytes in, bytes out; the board's own resolver and dnspython's as its clients; any bytes."""

import random

import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.wire import dns as board
from hardwire_host.virtual import packets as P
from hardwire_host.virtual.dns import DnsServer
from tcpip_common import A_IP, A_MAC, B_IP, B_MAC, Script

PRESS = bytes((192, 168, 77, 20))
NAMES = {"press-3": PRESS, "Gateway": bytes((192, 168, 77, 1)), "cell.plant": bytes(4)}
PORT = 40000


class Wire(Script):
    """A server on the stack, and a client that keeps the payloads it gets."""

    def __init__(self, names=NAMES):
        super().__init__()
        self.server = DnsServer(self.a, names)
        self.payloads = []

    def _receive(self, frame):
        if (fields := P.parse_ipv4(frame)) is None:
            super()._receive(frame)
            return
        protocol, source, target, start, end = fields
        if protocol == P.ICMP:
            return  # port unreachable
        assert (protocol, source, target) == (P.UDP, A_IP, B_IP)
        port, to_port, payload = P.parse_udp(frame, start, end)
        assert (port, to_port) == (53, PORT)
        self.payloads.append(payload)

    def put(self, payload, *, source=B_IP, port=PORT, target=A_IP):
        """One datagram; 2 ms pass. Returns the answer, None without one."""
        self.payloads = []
        datagram = P.udp(port, 53, source, target, payload)
        mac = A_MAC if target == A_IP else P.MAC_BROADCAST
        self.port.send(P.ipv4(mac, B_MAC, P.UDP, source, target, 1, datagram))
        self.run(2)
        assert len(self.payloads) <= 1
        return self.payloads[0] if self.payloads else None


def question(name, kind="0001", group="0001"):
    labels = "".join(f"{len(label):02x}{label.encode().hex()}" for label in name.split(".") if label)
    return f"{labels}00 {kind} {group}"


ONE, NONE = "0001 0000 0000 0000", "0000 0000 0000 0000"
PRESS_3 = question("press-3")
OPT = "00 0029 05c0 0000 0000 0000"  # UDP size 1472, version 0
TSIG = "016b00 00fa 00ff 00000000 001a 0868 6d61632d6d643500 000000000001 012c 0000 1234 0000 0000"
CAPITALS = question("PRESS-3")
# query: answer, in hex; None: none
EXCHANGES = {
    "an address": (
        f"beef 0100 {ONE} {PRESS_3}",
        f"beef 8500 0001 0001 0000 0000 {PRESS_3} c00c 0001 0001 00000000 0004 c0a84d14",
    ),
    "the case of the question, no recursion desired": (
        f"beef 0000 {ONE} {CAPITALS}",
        f"beef 8400 0001 0001 0000 0000 {CAPITALS} c00c 0001 0001 00000000 0004 c0a84d14",
    ),
    "any type": (
        f"0001 0100 {ONE} {question('press-3', '00ff')}",
        f"0001 8500 0001 0001 0000 0000 {question('press-3', '00ff')} c00c 0001 0001 00000000 0004 c0a84d14",
    ),
    "EDNS": (
        f"0001 0100 0001 0000 0000 0001 {PRESS_3} 00 0029 1000 0000 0000 0000",
        f"0001 8500 0001 0001 0000 0001 {PRESS_3} c00c 0001 0001 00000000 0004 c0a84d14 {OPT}",
    ),
    "EDNS of a later version: BADVERS": (
        f"0001 0100 0001 0000 0000 0001 {PRESS_3} 00 0029 1000 0001 0000 0000",
        f"0001 8100 0001 0000 0000 0001 {PRESS_3} 00 0029 05c0 0100 0000 0000",
    ),
    "another type: no data": (
        f"0001 0100 {ONE} {question('press-3', '001c')}",
        f"0001 8500 {ONE} {question('press-3', '001c')}",
    ),
    "a board without an address yet: no data": (
        f"0001 0100 {ONE} {question('cell.plant')}",
        f"0001 8500 {ONE} {question('cell.plant')}",
    ),
    "what a name ends in: no data": (
        f"0001 0100 {ONE} {question('plant')}",
        f"0001 8500 {ONE} {question('plant')}",
    ),
    "the root: no data": (f"0001 0100 {ONE} {question('')}", f"0001 8500 {ONE} {question('')}"),
    "no such name: NXDOMAIN": (
        f"0001 0100 {ONE} {question('press-4')}",
        f"0001 8503 {ONE} {question('press-4')}",
    ),
    "below a name: NXDOMAIN": (
        f"0001 0100 {ONE} {question('x.press-3')}",
        f"0001 8503 {ONE} {question('x.press-3')}",
    ),
    "another class: REFUSED": (
        f"0001 0100 {ONE} {question('version.bind', '0010', '0003')}",
        f"0001 8105 {ONE} {question('version.bind', '0010', '0003')}",
    ),
    "zone transfer: NOTIMP": (
        f"0001 0000 {ONE} {question('press-3', '00fc')}",
        f"0001 8004 {ONE} {question('press-3', '00fc')}",
    ),
    "status: NOTIMP": (f"0001 1000 {NONE}", f"0001 9004 {NONE}"),
    "update: NOTIMP": (f"0001 2800 {ONE} {question('plant', '0006')}", f"0001 a804 {NONE}"),
    "an opcode of the future: NOTIMP": (f"0001 7900 {NONE} ff", f"0001 f904 {NONE}"),
    "no question: FORMERR": (f"0001 0100 {NONE}", f"0001 8101 {NONE}"),
    "two questions: FORMERR": (
        f"0001 0100 0002 0000 0000 0000 {PRESS_3} {PRESS_3}",
        f"0001 8101 {NONE}",
    ),
    "cut short: FORMERR": (f"0001 0100 {ONE} {PRESS_3}"[:-5], f"0001 8101 {NONE}"),
    "bytes behind: FORMERR": (f"0001 0100 {ONE} {PRESS_3} 00", f"0001 8101 {NONE}"),
    "a name that points to itself: FORMERR": (f"0001 0100 {ONE} c00c 0001 0001", f"0001 8101 {NONE}"),
    "a label of 64 bytes: FORMERR": (f"0001 0100 {ONE} 40{'61' * 64}00 0001 0001", f"0001 8101 {NONE}"),
    "a name of 256 bytes: FORMERR": (
        f"0001 0100 {ONE} {('3f' + '61' * 63) * 3}3e{'61' * 62}00 0001 0001",
        f"0001 8101 {NONE}",
    ),
    "two OPT: FORMERR": (f"0001 0100 0001 0000 0000 0002 {PRESS_3} {OPT} {OPT}", f"0001 8101 {NONE}"),
    "signed: FORMERR": (f"0001 0100 0001 0000 0000 0001 {PRESS_3} {TSIG}", f"0001 8101 {NONE}"),
    "an answer": (f"0001 8100 {ONE} {PRESS_3}", None),
    "half a header": ("0001 0100 0001 0000 0000 00", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize("what", EXCHANGES)
def test_exchange(what):
    query, answer = EXCHANGES[what]
    expected = None if answer is None else bytes.fromhex(answer)
    assert Wire().put(bytes.fromhex(query)) == expected


QUERY = bytes.fromhex(f"0001 0100 {ONE} {PRESS_3}")


@pytest.mark.parametrize(
    "how",
    [{"source": bytes(4)}, {"port": 0}, {"target": bytes((255,) * 4)}, {"target": bytes((10, 0, 0, 255))}],
)
def test_where_no_answer_can_or_may_go(how):
    assert Wire().put(QUERY, **how) is None


def test_names_may_change():
    names = {}
    wire = Wire(lambda: names)
    assert wire.put(QUERY)[3] == 3
    names["press-3"] = PRESS
    assert wire.put(QUERY)[-4:] == PRESS


def test_silence_refusal_counts_and_close():
    wire = Wire()
    wire.server.silent = True
    assert wire.put(QUERY) is None
    wire.server.silent, wire.server.refuse = False, True
    assert wire.put(QUERY) == bytes.fromhex(f"0001 8105 {ONE} {PRESS_3}")
    wire.server.refuse = False
    assert wire.put(QUERY) is not None and wire.put(b"\0" * 12) is not None
    assert wire.server.received == {"A": 3}
    assert wire.server.sent == {"REFUSED": 1, "NOERROR": 1, "FORMERR": 1}
    wire.server.close()
    assert wire.put(QUERY) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("press-3", (board.OK, PRESS)),
        ("gateway.", (board.OK, NAMES["Gateway"])),
        ("cell.plant", (board.NO_ADDRESS, None)),
        ("nobody", (board.NAME_ERROR, None)),
    ],
)
def test_the_boards_resolver(name, found):
    query = board.query(name, 0x1234)
    assert board.parse(Wire().put(query), query) == found


# Anything at all

RECORD = st.builds(
    lambda name, kind, group, ttl, data, lie: (
        name
        + kind.to_bytes(2, "big")
        + group.to_bytes(2, "big")
        + ttl
        + (len(data) + lie).to_bytes(2, "big")
        + data
    ),
    st.sampled_from((b"\0", b"\xc0\x0c", b"\1a\0")),
    st.sampled_from((1, 2, 6, 16, 28, 33, 41, 41, 46, 50, 64, 250)) | st.integers(0, 65535),
    st.sampled_from((1, 255, 512, 4096)),
    st.sampled_from((bytes(4), b"\0\1\0\0", b"\0\0\x80\0")),
    st.binary(max_size=40),
    st.sampled_from((0, 0, 0, 1)),
)
QUERIES = st.builds(
    lambda flags, counts, records, end: QUERY[:2] + flags + counts + QUERY[12:] + b"".join(records) + end,
    st.sampled_from((b"\1\0", b"\0\0")) | st.binary(min_size=2, max_size=2),
    st.lists(st.sampled_from((0, 0, 1, 2)), min_size=3, max_size=3).map(
        lambda n: bytes((0, 1, 0, n[0], 0, n[1], 0, n[2]))
    ),
    st.lists(RECORD, max_size=4),
    st.binary(max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(
    QUERIES | st.binary(max_size=100),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=3),
)
def test_anything_is_survived(payload, changes):
    data = bytearray(payload)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    wire = Wire()
    answer = wire.put(bytes(data))
    assert (answer is None) == (len(data) < 12 or data[2] >= 0x80)
    if answer is not None:
        assert len(answer) <= 512 and answer[:2] == data[:2]
        assert dns.message.from_wire(answer).rcode() in tuple(dns.rcode.Rcode)
    assert wire.put(QUERY)[-4:] == PRESS


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_any_name_is_looked_up(seed, edns):
    chance = random.Random(seed)
    labels = [chance.randbytes(chance.randint(1, 63)) for _ in range(chance.randint(1, 3))]
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    opt = bytes.fromhex(OPT) if edns else b""
    query = bytes.fromhex(f"0001 0100 0001 0000 0000 000{int(edns)}") + name + b"\0\1\0\1" + opt
    assert Wire().put(query) == query[:2] + b"\x85\3" + query[4:]
