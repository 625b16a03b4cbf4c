"""hardwire.map: a map.bin written by hand, and what the device is like then; retained values and safe values."""

import io as streams
import math
import struct
from binascii import crc32
from pathlib import Path

import pytest

from hardwire import map_file as maps
from hardwire import retained
from hardwire.retained import EVERY_MS, SETTLE_MS, Retained
from hardwire.safety import Safety
from hardwire.status import SAFE
from hardwire.wire import bank as B
from hardwire.wire import modbus as M
from modbus_common import execute

COIL, DISCRETE, HOLDING, INPUT = range(4)
BIT, I16, U16, I32, U32, I64, U64, F32, F64, STRING, BITS, BIT_OF = range(12)
BYTES, WORDS, WRITABLE, KEPT, LOW, HIGH, SAFE_VALUE = 1, 2, 4, 8, 16, 32, 64
SIZES = {BIT: 0, I16: 2, U16: 2, I32: 4, U32: 4, I64: 8, U64: 8, F32: 4, F64: 8, BITS: 2}

# name, table, address, count, type, flags, size or None, extra or None
POINTS = (
    ("back", HOLDING, 38, 1, I64, BYTES | WORDS, None, None),
    ("big", HOLDING, 30, 1, U64, HIGH, None, (1.0, 0.0, 0, 2**63 + 5)),
    ("double", HOLDING, 34, 1, F64, 0, None, None),
    ("fault", HOLDING, 8, 1, BIT_OF, 0, 3, None),
    ("level", INPUT, 0, 1, I16, 0, None, (0.1, -10.0, 0, 0)),
    ("mixed", HOLDING, 4, 1, U32, BYTES, None, None),
    ("name", HOLDING, 10, 1, STRING, 0, 7, None),
    ("pump", COIL, 0, 1, BIT, KEPT, None, None),
    ("setpoint", HOLDING, 0, 1, F32, WORDS | LOW | HIGH | KEPT, None, (1.0, 0.0, -20.0, 80.0)),
    ("signed", HOLDING, 2, 1, I32, 0, None, None),
    ("status", HOLDING, 8, 1, BITS, 0, None, None),
    ("steps", HOLDING, 20, 4, I16, LOW, None, (1.0, 0.0, -5, 0)),
    ("valves", COIL, 8, 20, BIT, 0, None, None),
    ("wet", DISCRETE, 5, 1, BIT, 0, None, None),
)
STARTS = bytes([0b01010101, 0b11111101, 0b11111111, 0b11111111, 0b11111111, 0b01000100])


def section(tag, data):
    return bytes((tag, 0)) + struct.pack("<H", len(data)) + data


def spans(*lists):
    return b"".join(
        struct.pack("<H", len(pairs)) + b"".join(struct.pack("<HH", *pair) for pair in pairs)
        for pairs in lists
    )


def points(given):
    records, names, extras = b"", b"", b""
    for name, table, address, count, kind, flags, size, extra in given:
        number = 0xFFFF
        if extra is not None:
            number = len(extras) // 24
            form = "<ffdd" if kind in (F32, F64) else "<ffQQ" if kind == U64 else "<ffqq"
            extras += struct.pack(form, *extra)
        size = SIZES[kind] if size is None else size
        records += struct.pack(
            "<HHHBBBBH", len(names), address, count, table | kind << 2, flags, size, 0, number
        )
        names += bytes([len(name)]) + name.encode()
    return section(2, records) + section(3, names) + section(4, extras)


def signed(sections):
    return b"HWM1" + struct.pack("<I", crc32(sections)) + sections


WHOLE = (
    section(1, spans([(0, 0), (8, 27)], [(5, 5)], [(0, 41)], [(0, 0)]))
    + points(POINTS)
    + section(5, b"\x0d" + bytes((0b1000_0001, 0, 0)) + struct.pack(">HH", 0, 0x41A0) + bytes(80) + b"\1\x90")
    + section(6, spans([(10, 11)], [(40, 41)]))
    + section(7, STARTS)
    + section(8, spans([(0, 0)], [(0, 1)]))
    + section(9, struct.pack("<IB", 5000, 0) + spans([]) + struct.pack("<HHH", 1, 0, 1) + b"\0\0\x41\x20")
    + section(10, bytes((0, 3)) + b"ABC" + bytes((128, 1)) + b"x")
    + section(11, struct.pack("<HHBB", 2, 100, 1, 5) + b"/r.fi")
    + section(12, struct.pack("<HBB", 9, 31, 4) + b"fifo")
    + section(99, b"of a later version")
    + section(13, b"ignored here")
)


def device(data=None):
    return maps.read(streams.BytesIO(signed(WHOLE) if data is None else data))


def test_tables_and_initial_values():
    io = device().io
    bank = device().bank
    assert [len(table) for table in (bank.coils, bank.discrete_inputs)] == [21, 1]
    assert [len(table) for table in (bank.holding_registers, bank.input_registers)] == [42, 1]
    assert io.pump is True and list(io.valves) == [False] * 6 + [True] + [False] * 13
    assert io.setpoint == 20.0 and io.level == pytest.approx(30.0)
    assert io.name == "" and io.wet is False


VALUES = (  # name, value, holding registers from where they are
    ("signed", -2, 2, "FFFF FFFE"),
    ("mixed", 0x11223344, 4, "2211 4433"),
    ("setpoint", -1.5, 0, "0000 BFC0"),
    ("double", 1.5, 34, "3FF8 0000 0000 0000"),
    ("big", 2**63 + 5, 30, "8000 0000 0000 0005"),
    ("back", 0x0102030405060708, 38, "0807 0605 0403 0201"),
    ("name", "pÄmp", 10, "70C3 846D 7000 0000"),
    ("status", 0x8009, 8, "8009"),
)


def test_a_text_that_is_none():
    """A client may write any bytes."""
    made = device()
    made.bank.holding_registers.put(10, 2, b"p\xff\xc3m")
    assert made.io.name == "p??m"


@pytest.mark.parametrize(("name", "value", "address", "registers"), VALUES)
def test_values_by_name(name, value, address, registers):
    made = device()
    registers = bytes.fromhex(registers)
    setattr(made.io, name, value)
    table = made.bank.holding_registers
    assert table.cut(address, len(registers) // 2) == registers
    assert getattr(made.io, name) == made.io[name] == value


def test_scaled_values_are_rounded():
    io = device().io
    io.level = 21.53
    assert io.point("level").table[0] == 315 and io.level == pytest.approx(21.5)


def test_bits_of_a_register():
    io = device().io
    io.status = 0x8001
    io.fault = True
    assert io.status == 0x8009 and io.fault is True
    io.fault = False
    assert io.status == 0x8001


def test_arrays():
    made = device()
    made.io.valves[19] = True
    made.io["steps"][3] = -5
    assert made.bank.coils[27] and made.bank.holding_registers[23] == 0xFFFB
    assert list(made.io.steps) == [0, 0, 0, -5] and len(made.io.valves) == 20
    for index in (-1, 4, 1000):
        with pytest.raises(IndexError):
            made.io.steps[index] = 0
    with pytest.raises(AttributeError, match="array"):
        made.io.steps = 1


WRONG = (
    *(("signed", 2**31), ("signed", -(2**31) - 1), ("mixed", -1), ("status", 65536), ("steps", -6)),
    *(("setpoint", 80.5), ("setpoint", -20.5), ("setpoint", math.nan), ("big", 2**63 + 6)),
    *(("level", 1e9), ("name", "12345678")),
)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_does_not_fit_changes_nothing(name, value):
    made = device()
    before = bytes(made.bank.holding_registers.data)
    with pytest.raises(ValueError, match=name):
        made.io.point(name).set(value)
    assert made.bank.holding_registers.data == before


def test_names_the_map_has_not():
    io = device().io
    for name in ("", "a", "setpoin", "setpoints", "zzz"):
        assert name not in io
        with pytest.raises(KeyError):
            io[name]
        with pytest.raises(AttributeError):
            getattr(io, name)
        with pytest.raises(AttributeError):
            setattr(io, name, 1)
    assert all(point[0] in io for point in POINTS)


REQUESTS = (  # what clients may do
    ("05 000A FF00", "85 02", "locked"),
    ("05 0009 FF00", "05 0009 FF00", "beside the locked ones"),
    ("06 0028 0001", "86 02", "locked"),
    ("06 0000 0001", "86 02", "half of a float"),
    ("10 0000 0002 04 0000 42A0", "10 0000 0002", "80.0, the most"),
    ("10 0000 0002 04 0001 42A0", "90 04", "more than 80.0"),
    ("10 0000 0002 04 0000 7FC0", "90 04", "not a number"),
    ("10 0000 0002 04 0000 C1A0", "10 0000 0002", "-20.0, the least"),
    ("10 0014 0004 08 FFFB FFFF 0000 7FFF", "10 0014 0004", "-5 and more"),
    ("06 0017 FFFA", "86 04", "-6"),
    ("10 001E 0004 08 8000000000000005", "10 001E 0004", "the most of 64 bits"),
    ("10 001E 0004 08 8000000000000006", "90 04", "one more"),
    ("06 002A 0001", "86 02", "outside"),
    ("03 0000 002B", "83 02", "partly outside"),
)


@pytest.mark.parametrize(("request_", "response"), [pytest.param(*r[:2], id=r[2]) for r in REQUESTS])
def test_requests(request_, response):
    bank = device().bank
    before = bytes(bank.coils.data + bank.holding_registers.data)
    response = bytes.fromhex(response)
    assert execute(bank, bytes.fromhex(request_)) == response
    if response[0] & 0x80:
        assert bank.coils.data + bank.holding_registers.data == before


def test_hooks_by_name():
    made = device()
    said = []
    made.io.before_read("level", lambda: 12.5)
    made.io.before_write("setpoint", lambda value: M.SERVER_DEVICE_BUSY if value > 50 else None)
    made.io.after_write("setpoint", said.append)
    made.io.before_write("pump", said.append)
    assert execute(made.bank, bytes.fromhex("04 0000 0001")).hex() == "040200e1"
    assert execute(made.bank, bytes.fromhex("10 0000 0002 04 0000 4270")).hex() == "9006"
    execute(made.bank, bytes.fromhex("10 0000 0002 04 0000 41C8"))
    execute(made.bank, bytes.fromhex("05 0000 0000"))
    assert said == [25.0, False]
    with pytest.raises(ValueError, match="array"):
        made.io.after_write("steps", said.append)
    with pytest.raises(KeyError):
        made.io.after_write("nobody", said.append)


def test_the_rest():
    made = device()
    assert made.bank.identity == {0: b"ABC", 128: b"x"}
    assert made.files == [(2, 100, True, "/r.fi")] and made.fifos == [(9, 31, "fifo")]
    assert made.retained == [[(0, 0)], [(0, 1)]]
    timeout, any_request, values = made.safe
    assert (timeout, any_request) == (5000, False)
    assert values == [(made.bank.holding_registers, 0, 2, b"\0\0\x41\x20")]


def test_an_empty_map():
    made = device(signed(b""))
    assert len(made.bank.coils) == 0 and made.safe is None and "x" not in made.io
    assert execute(made.bank, bytes.fromhex("03 0000 0001")).hex() == "8302"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HWM",
        b"HWM2" + signed(WHOLE)[4:],
        signed(WHOLE)[:-1],
        signed(WHOLE) + b"\0",
        signed(WHOLE + section(200, bytes(20000))),
        signed(b"\1\0\5"),
    ],
)
def test_a_map_that_cannot_be_used(data):
    with pytest.raises(maps.MapError):
        device(data)


# Retained values


@pytest.fixture
def kept(tmp_path, monkeypatch):
    now = [1000]
    monkeypatch.setattr(retained, "ticks_ms", lambda: now[0])
    paths = [str(tmp_path / name) for name in "ab"]

    def make():
        made = device()
        made.kept = Retained(made.bank, made.retained, paths)
        made.changed = made.kept.changed
        return made

    make.paths = paths
    make.now = now
    return make


def test_values_come_back(kept):
    made = kept()
    assert not made.kept.load()
    made.kept.tick()
    assert made.kept.writes == 0
    made.io.setpoint = 42.0
    made.kept.tick()
    assert made.kept.writes == 0, "changes that come together are written together"
    kept.now[0] += SETTLE_MS
    made.kept.tick()
    assert made.kept.writes == 1
    again = kept()
    assert again.kept.load() and again.io.setpoint == 42.0 and again.io.pump is True
    execute(again.bank, bytes.fromhex("05 0000 0000"))
    kept.now[0] += EVERY_MS
    again.kept.tick()
    third = kept()
    assert third.kept.load() and third.io.pump is False and third.io.setpoint == 42.0


def test_writes_are_seldom(kept):
    made = kept()
    for step in range(100):
        made.io.setpoint = step % 80
        kept.now[0] += 100
        made.kept.tick()
    assert made.kept.writes == 2
    kept.now[0] += EVERY_MS
    made.kept.tick()
    assert made.kept.writes == 3


def test_a_write_cut_off_anywhere_leaves_the_state_before(kept):
    made = kept()
    states = []
    for value in (1.0, 2.0):
        made.io.setpoint = value
        made.kept.save()
        states.append(Path(kept.paths[made.kept._number % 2]).read_bytes())
    newest = kept.paths[made.kept._number % 2]
    for n in range(len(states[1])):
        for rest in (b"", b"\xff" * (len(states[1]) - n), states[0][n:]):
            with open(newest, "wb") as file:
                file.write(states[1][:n] + rest)
            again = kept()
            if states[1][:n] + rest != states[1]:
                assert again.kept.load() and again.io.setpoint == 1.0, n
    with open(kept.paths[0], "wb"), open(kept.paths[1], "wb"):
        pass
    assert not kept().kept.load()


def test_another_map_has_other_values(kept):
    made = kept()
    made.io.setpoint = 1.0
    made.kept.save()
    other = Retained(made.bank, [[(0, 0)], [(2, 3)]], kept.paths)
    assert not other.load()


def test_flash_that_refuses(kept):
    made = kept()
    made.kept._paths = [path + "/nowhere" for path in kept.paths]
    made.io.setpoint = 1.0
    made.kept.save()
    assert (made.kept.writes, made.kept.failures) == (0, 1)
    made.kept._paths = kept.paths
    kept.now[0] += EVERY_MS
    made.kept.tick()
    assert made.kept.writes == 1


# Safe values


@pytest.mark.parametrize("any_request", [False, True])
def test_outputs_go_to_safe_values(monkeypatch, any_request):
    now = [0]
    monkeypatch.setattr("hardwire.safety.ticks_ms", lambda: now[0])
    made = device()
    seen = []
    made.io.after_write("setpoint", seen.append)
    safety = Safety(made.bank, 5000, any_request, made.safe[2])

    def heard():
        count = B.REQUESTS if any_request else B.WRITES
        made.bank.tally[count] += 1

    made.io.setpoint = 60.0
    for _ in range(3):
        now[0] += 4999
        safety.tick()
        heard()
        safety.tick()
    assert safety.trips == 0 and made.io.setpoint == 60.0
    now[0] += 5000
    safety.tick()
    safety.tick()
    assert safety.trips == 1 and made.io.setpoint == 10.0 and seen == [10.0]
    assert made.bank.diagnostic_register == SAFE
    made.io.setpoint = 61.0
    heard()
    safety.tick()
    assert made.bank.diagnostic_register == 0 and made.io.setpoint == 61.0
    now[0] += 5000
    safety.tick()
    assert safety.trips == 2 and made.io.setpoint == 10.0
