"""Any bytes, cut anywhere, with a peer that reads or does not: the same answers as one request at a time.

Requests are compared with a second model of the specification, written in other words; streams with a framing
of three lines that has the whole stream at hand.
"""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.services.modbus import ModbusServer
from hardwire.wire import modbus as M
from modbus_common import TABLES, Recorder, adu, content, execute, fresh_bank


class Refused(Exception):
    """The exception code."""


def refuse_unless(condition, code=3):
    if not condition:
        raise Refused(code)


class Reference:
    """The ten functions over four tables of lists, addresses 0..size-1."""

    def __init__(self, size):
        self.size = size
        self.tables = {name: [0] * size for name in TABLES}

    def execute(self, pdu):
        function = FUNCTIONS.get(pdu[0])
        try:
            refuse_unless(function, 1)
            return pdu[:1] + function(self, pdu[0], pdu[1:])
        except Refused as refused:
            return bytes([pdu[0] | 0x80, refused.args[0]])

    def read(self, name, address, count):
        refuse_unless(address + count <= self.size, 2)
        return self.tables[name][address : address + count]

    def write(self, name, address, values):
        self.read(name, address, len(values))
        self.tables[name][address : address + len(values)] = values

    def read_bits(self, function, rest):
        refuse_unless(len(rest) == 4)
        address, count = struct.unpack(">HH", rest)
        refuse_unless(1 <= count <= 2000)
        bits = self.read({1: "coils", 2: "discrete_inputs"}[function], address, count)
        packed = sum(bit << i for i, bit in enumerate(bits)).to_bytes(-(-count // 8), "little")
        return bytes([len(packed)]) + packed

    def read_registers(self, function, rest):
        refuse_unless(len(rest) == 4)
        address, count = struct.unpack(">HH", rest)
        refuse_unless(1 <= count <= 125)
        values = self.read("input_registers" if function == 4 else "holding_registers", address, count)
        return struct.pack(f">B{count}H", 2 * count, *values)

    def write_coil(self, function, rest):
        refuse_unless(len(rest) == 4 and rest[2:] in (b"\0\0", b"\xff\0"))
        self.write("coils", int.from_bytes(rest[:2]), [rest[2] & 1])
        return rest

    def write_register(self, function, rest):
        refuse_unless(len(rest) == 4)
        self.write("holding_registers", int.from_bytes(rest[:2]), [int.from_bytes(rest[2:])])
        return rest

    def write_coils(self, function, rest):
        refuse_unless(len(rest) >= 5)
        address, count, size = struct.unpack(">HHB", rest[:5])
        refuse_unless(1 <= count <= 1968 and size == -(-count // 8) == len(rest) - 5)
        bits = int.from_bytes(rest[5:], "little")
        self.write("coils", address, [bits >> i & 1 for i in range(count)])
        return rest[:4]

    def write_registers(self, function, rest):
        refuse_unless(len(rest) >= 5)
        address, count, size = struct.unpack(">HHB", rest[:5])
        refuse_unless(1 <= count <= 123 and size == 2 * count == len(rest) - 5)
        self.write("holding_registers", address, list(struct.unpack(f">{count}H", rest[5:])))
        return rest[:4]

    def mask_register(self, function, rest):
        refuse_unless(len(rest) == 6)
        address, mask, bits = struct.unpack(">HHH", rest)
        (value,) = self.read("holding_registers", address, 1)
        self.write("holding_registers", address, [value & mask | bits & ~mask])
        return rest

    def exchange(self, function, rest):
        refuse_unless(len(rest) >= 9)
        address, count, to, written, size = struct.unpack(">HHHHB", rest[:9])
        refuse_unless(1 <= count <= 125 and 1 <= written <= 121 and size == 2 * written == len(rest) - 9)
        self.read("holding_registers", address, count)
        self.write("holding_registers", to, list(struct.unpack(f">{written}H", rest[9:])))
        return self.read_registers(3, rest[:4])


FUNCTIONS = {
    1: Reference.read_bits,
    2: Reference.read_bits,
    3: Reference.read_registers,
    4: Reference.read_registers,
    5: Reference.write_coil,
    6: Reference.write_register,
    0x0F: Reference.write_coils,
    0x10: Reference.write_registers,
    0x16: Reference.mask_register,
    0x17: Reference.exchange,
}


def word(n):
    return n.to_bytes(2)


def sized(width):
    """From a count to (count, bytes) as in a write of as many bits (width 1) or registers (width 16)."""
    return lambda n: st.binary(min_size=-(-n * width // 8), max_size=-(-n * width // 8)).map(
        lambda data: word(n) + bytes([len(data) & 0xFF]) + data
    )


LIMITS = (121, 122, 123, 124, 125, 126, 1968, 1969, 2000, 2001)


def pdus(size):
    """Correct requests with numbers around the limits, the same with bytes changed, and any bytes."""
    address = st.integers(0, size + 1).map(word)
    count = st.one_of(st.integers(0, size + 1), st.sampled_from(LIMITS))
    correct = st.one_of(
        st.tuples(st.sampled_from((b"\x01", b"\x02", b"\x03", b"\x04")), address, count.map(word)),
        st.tuples(st.just(b"\x05"), address, st.sampled_from((b"\0\0", b"\xff\0", b"\0\1", b"\xff\xff"))),
        st.tuples(st.just(b"\x06"), address, st.binary(min_size=2, max_size=2)),
        st.tuples(st.just(b"\x0f"), address, count.flatmap(sized(1))),
        st.tuples(st.just(b"\x10"), address, count.flatmap(sized(16))),
        st.tuples(st.just(b"\x16"), address, st.binary(min_size=4, max_size=4)),
        st.tuples(st.just(b"\x17"), address, count.map(word), address, count.flatmap(sized(16))),
    ).map(b"".join)
    changed = st.tuples(correct, st.integers(0, 20), st.binary(max_size=3)).map(
        lambda c: c[0][: c[1]] + c[2] + c[0][c[1] + 1 :]
    )
    return st.one_of(correct, correct, changed, st.binary(min_size=1)).map(
        lambda pdu: pdu[: M.MAX_PDU] or b"\0"
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_requests_against_the_reference(data):
    size = data.draw(st.sampled_from((1, 9, 16, 40, 130)))
    bank = M.Bank(size, size, size, size)
    reference = Reference(size)
    for pdu in data.draw(st.lists(pdus(size), min_size=1, max_size=8)):
        assert execute(bank, pdu) == reference.execute(pdu)
    for name in TABLES:
        assert [getattr(bank, name)[i] for i in range(size)] == reference.tables[name]


def expected(stream):
    """(responses, closed, bank) for the whole stream."""
    bank = fresh_bank()
    out = b""
    while len(stream) >= 6:
        transaction, protocol, length = struct.unpack(">HHH", stream[:6])
        if not 2 <= length <= 254:
            return out, True, bank
        if len(stream) < 6 + length:
            break
        if protocol == 0:
            out += adu(execute(bank, stream[7 : 6 + length]), transaction, stream[6])
        stream = stream[6 + length :]
    return out, False, bank


FRAMES = st.one_of(
    st.tuples(pdus(130), st.integers(0, 65535), st.integers(0, 255)).map(lambda c: adu(*c)),
    st.tuples(
        st.integers(0, 65535), st.sampled_from((1, 256, 65535)), st.binary(min_size=2, max_size=254)
    ).map(lambda c: struct.pack(">HHH", c[0], c[1], len(c[2])) + c[2]),
    st.sampled_from((0, 1, 255, 256, 65535)).map(
        lambda length: struct.pack(">HHH", 7, 0, length) + b"\xff\3\0\0\0\1"
    ),
)
# mostly whole frames in a row, so that streams get far; then something broken, or nothing
STREAMS = st.one_of(
    st.tuples(st.lists(FRAMES, max_size=12).map(b"".join), st.binary(max_size=30)).map(b"".join),
    st.lists(st.integers(1, 125), min_size=5, max_size=60).map(
        lambda counts: b"".join(adu(b"\x03\0\0" + word(n), i) for i, n in enumerate(counts))
    ),
    st.binary(max_size=600),
)


@settings(max_examples=300, deadline=None)
@given(
    STREAMS,
    st.lists(st.integers(1, 700), max_size=30),
    st.sampled_from((None, 1, 200, 1000, 3000)),
    st.booleans(),
)
def test_streams_cut_anywhere(stream, cuts, room, half_close):
    server = ModbusServer(fresh_bank())
    peer, other = Recorder(server, room), Recorder(server)
    at = 0
    for number, size in enumerate(cuts + [2048] * (len(stream) // 2048 + 1)):
        request = adu(b"\x03\0\0\0\1", number)
        other.feed(request[: 1 + number % 11])
        peer.feed(stream[at : at + size])
        other.feed(request[1 + number % 11 :])
        at += size
        assert (other.out[-11:-2], other.closed) == (adu(b"\x03\x02\0\0", number)[:-2], False)
    if half_close:
        peer.end()
    peer.drain()
    out, closed, bank = expected(stream)
    assert peer.out == out
    assert peer.closed == (closed or half_close)
    assert content(server.bank) == content(bank)
    assert server.frame_errors == closed
    assert len(other.out) == 11 * (number + 1)
    assert server.requests >= server.exceptions


@settings(max_examples=100, deadline=None)
@given(STREAMS)
def test_streams_byte_by_byte(stream):
    server = ModbusServer(fresh_bank())
    peer = Recorder(server)
    for i in range(len(stream)):
        peer.feed(stream[i : i + 1])
    out, closed, bank = expected(stream)
    assert (peer.out, peer.closed) == (out, closed)
    assert content(server.bank) == content(bank)
