"""map.bin between PC and board: what one writes the other has, for any map; damage is seen; limits of size."""

import io
import random
import struct
import zlib
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire import map_file
from hardwire_host.errors import USAGE, HardwireError
from hardwire_host.map.build import BYTES_MAX, SOURCE, TEXT_MAX, build, read
from hardwire_host.map.model import TABLES, MapError, parse
from modbus_common import execute

PLANT = """
[communication]
timeout_s = 0.25
refreshed_by = "requests"

[[coils]]
name = "valves"
address = 100
count = 12
initial = [true, false, true, false, false, false, false, false, true, true, false, false]
safe = false
[[coils]]
name = "lock"
address = 112
access = "read-only"
initial = true
[[coils]]
name = "far"
address = 65535
retained = true
safe = true

[[discrete_inputs]]
name = "wet"
address = 3
count = 3

[[holding_registers]]
name = "back"
address = 10
type = "int32"
scale = -0.5
min = -100
max = 100
initial = -21.5
retained = true
[[holding_registers]]
name = "serial"
address = 12
type = "string"
length = 5
access = "read-only"
initial = "Ö7"
[[holding_registers]]
name = "curve"
address = 40
type = "float32"
word_order = "DCBA"
count = 2
initial = [1.5, -2.0]
safe = 0.25

[[holding_registers]]
name = "label"
address = 20
type = "string"
length = 5

[[input_registers]]
name = "axes"
address = 1
type = "bits"
count = 2
bits = { 9 = "busy" }
initial = [{ busy = true }, 1]
[[input_registers]]
name = "state"
address = 0
type = "bits"
bits = { 0 = "run", 15 = "fault" }
initial = { fault = true }
"""


def board(text):
    """The device as the board has it."""
    return map_file.read(io.BytesIO(build(parse(text, "x"))))


def test_a_board_has_what_the_map_says():
    device = board(PLANT)
    bank, there = device.bank, device.io
    assert [len(table) for table in device.tables] == [14, 3, 12, 3]
    assert list(there.valves) == [True, False, True] + [False] * 5 + [True, True, False, False]
    assert (there.lock, there.far, list(there.wet)) == (True, False, [False] * 3)
    assert (there.back, there.serial, list(there.curve)) == (-21.5, "Ö7", [1.5, -2.0])
    assert (
        list(there.axes) == [0x0200, 1] and "axes.busy" not in there
    )  # of an array, bits have no names there
    assert (there.state, there["state.run"], there["state.fault"]) == (0x8000, False, True)
    assert list(bank.coils.locked) == [112, 113] and list(bank.holding_registers.locked) == [12, 15]
    assert list(device.retained) == [[(65535, 65535)], [(10, 11)]]
    assert device.safe[:2] == (250, True)
    assert [(table, *place) for table, *place in device.safe[2]] == [
        (bank.coils, 100, 12, b"\0\0"),
        (bank.coils, 65535, 1, b"\1"),
        (bank.holding_registers, 40, 4, bytes.fromhex("0000 803E 0000 803E")),
    ]


WRITES = (  # request, the board's answer
    ("06 000A 0001", "86 02"),  # half of `back`
    ("10 0009 0002 04 00000000", "90 02"),  # begins before it
    ("10 000A 0002 04 000000C8", "10 000A 0002"),  # -100: its limit
    ("10 000A 0002 04 000000C9", "90 04"),  # -100.5
    ("10 000A 0002 04 FFFFFF37", "90 04"),  # 100.5
    ("10 000C 0001 02 4142", "90 02"),  # serial: only read
    ("06 0015 4142", "06 0015 4142"),  # a part of a string that clients may write
    ("10 0028 0002 04 00000000", "10 0028 0002"),  # one of two values
    ("10 0029 0002 04 00000000", "90 02"),  # half of one and half of another
    ("05 0070 FF00", "85 02"),  # lock
    ("05 FFFF FF00", "05 FFFF FF00"),
)


@pytest.mark.parametrize(("request_", "answer"), WRITES)
def test_a_board_refuses_what_the_map_forbids(request_, answer):
    assert execute(board(PLANT).bank, bytes.fromhex(request_)) == bytes.fromhex(answer)


def test_no_points_at_all():
    device = board("")
    assert [len(table) for table in device.tables] == [0] * 4
    assert "x" not in device.io and device.safe is None and not any(device.retained)
    assert read(build(parse("", "x"))) == parse("", "x")


def refused(data):
    with pytest.raises(HardwireError) as caught:
        read(data, "x")
    assert caught.value.code == USAGE
    return str(caught.value)


def test_every_cut_and_every_changed_byte_is_seen():
    data = build(parse(PLANT, "x"))
    cuts = (data[:at] for at in range(0, len(data), 7))
    changes = (data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :] for at in range(0, len(data), 3))
    for damaged in (*cuts, *changes, data + b"\0"):
        refused(damaged)
        with pytest.raises(map_file.MapError):
            map_file.read(io.BytesIO(damaged))


def signed(sections):
    return b"HWM1" + struct.pack("<I", crc32(sections)) + sections


def source(text):
    return bytes((SOURCE, 0)) + struct.pack("<H", len(text)) + text


UNREADABLE = (  # sections of a map.bin that nobody built
    b"",
    b"\1\0\xff\xff",
    source(b""),
    source(b"no zlib stream"),
    source(zlib.compress(b"# a text")[:-2]),
    source(zlib.compress(b"# no UTF-8: \xff")),
)


@pytest.mark.parametrize("sections", UNREADABLE)
def test_signed_but_without_its_text(sections):
    assert refused(signed(sections)) == "x does not hold the text it was built from"


def test_a_small_stream_that_unpacks_to_much():
    assert refused(signed(source(zlib.compress(b"#" * (TEXT_MAX + 1))))) == (
        "x does not hold the text it was built from"
    )
    assert read(signed(source(zlib.compress(b"#" * TEXT_MAX)))).points == {}


def test_a_text_with_mistakes_in_a_map_bin():
    assert refused(signed(source(zlib.compress(b"[devices]")))) == "x: unknown key 'devices'; 'device'?"


def coils(count, length):
    return "".join(f'[[coils]]\nname = "{f"c{at}_":x<{length}}"\naddress = {at}\n' for at in range(count))


@pytest.mark.parametrize(
    "text",
    [
        coils(1000, 30),
        coils(3000, 32),  # names of more than 65,535 bytes
        '[[input_registers]]\nname = "x"\naddress = 0\ncount = 40000\ninitial = 1\n',
        "[device.objects]\n" + "".join(f'"{number}" = "{"x" * 240}"\n' for number in range(128, 256)),
    ],
    ids=["points", "names", "initial", "objects"],
)
def test_too_large_for_a_board(text):
    with pytest.raises(MapError, match=rf"map.bin has \d+ bytes, {BYTES_MAX} at most"):
        build(parse(text, "x"))


def test_a_text_that_no_pc_would_unpack():
    with pytest.raises(MapError, match=f"{TEXT_MAX} at most"):
        build(parse("#" * (TEXT_MAX + 1), "x"))


def test_a_large_device_fits():
    """2,000 coils and discrete inputs, 1,000 holding and input registers, 300 named points."""
    text = "[device]\nvendor_name = 'Plant'\n"
    for table, each, count, keys in (
        ("coils", 20, 100, "retained = true\n"),
        ("discrete_inputs", 40, 50, ""),
        (
            "holding_registers",
            10,
            100,
            'type = "float32"\nmin = -20.5\nmax = 80\nunit = "degC"\ninitial = 21.5\n',
        ),
        ("input_registers", 20, 50, "scale = 0.1\n"),
    ):
        for number in range(count):
            size = each // 2 if "float32" in keys else each
            text += (
                f'[[{table}]]\nname = "{table}_{number}"\naddress = {number * each}\ncount = {size}\n{keys}'
                f'description = "what number {number} of them is for"\n'
            )
    data = build(parse(text, "x"))
    assert len(parse(text, "x").points) == 300
    assert len(data) < BYTES_MAX
    assert [len(table) for table in map_file.read(io.BytesIO(data)).tables] == [2000, 2000, 1000, 1000]


REGISTERS = ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string", "bits")
POINTS = st.lists(
    st.tuples(
        st.sampled_from(TABLES),
        st.sampled_from(REGISTERS),
        st.sampled_from(("ABCD", "CDAB", "BADC", "DCBA")),
        st.integers(1, 4),  # values
        st.sampled_from((0, 0, 1, 9)),  # addresses before it that do not exist
        st.sampled_from(("", "retained = true\n", 'access = "read-only"\n', "safe = 0\n")),
        st.integers(0, 1 << 32),  # seed of its values
    ),
    max_size=16,
)


def described(points):
    """TOML, and (name, seed) of each point; the points of a table are one behind another, in any order in the text."""
    text, free = "[communication]\ntimeout_s = 1\n", dict.fromkeys(TABLES, 0)
    for number, (table, kind, order, count, gap, keys, _) in enumerate(points):
        free[table] += gap
        text += f'[[{table}]]\nname = "p{number}"\naddress = {free[table]}\ncount = {count}\n'
        width = 1
        if table in TABLES[2:]:
            text += f'type = "{kind}"\n'
            if kind == "string":
                text += f"length = {number + 1}\n"
                width = (number + 2) // 2
            else:
                text += f'word_order = "{order}"\n'
                width = max(1, int(kind[-2:]) // 16) if kind != "bits" else 1
        if table in (TABLES[0], TABLES[2]) and not (
            kind == "string" and table == TABLES[2] and "safe" in keys
        ):
            text += keys
        free[table] += width * count
    return text, [(f"p{number}", point[-1]) for number, point in enumerate(points)]


def random_value(place, chance):
    """One value of the point at `place`, as its type has them."""
    point = place.point
    if point.type == "bit":
        return chance.random() < 0.5
    if point.type == "string":
        return "".join(chance.choice("aZ0 ~") for _ in range(chance.randrange(point.length + 1)))
    if point.type.startswith("float"):
        return chance.randrange(-(2**24), 2**24) / 2 ** chance.randrange(20)  # exact in 32 bits
    bits = 16 * point.width
    return chance.randrange(1 << bits) - ((1 << bits - 1) if point.type.startswith("int") else 0)


@settings(max_examples=120, deadline=None)
@given(POINTS)
def test_any_map_means_the_same_on_both_sides(points):
    text, names = described(points)
    device = parse(text, "x")
    data = build(device)
    assert read(data) == device and build(read(data)) == data
    there = map_file.read(io.BytesIO(data))
    for table, name in zip(there.tables, TABLES, strict=True):
        assert len(table) == sum(last - first + 1 for first, last in device.ranges(name))
    for name, seed in names:
        place, chance = device.find(name), random.Random(seed)
        point = place.point
        table = there.tables[TABLES.index(point.table)]
        wanted = [random_value(place, chance) for _ in range(point.count)]
        value = wanted if point.count > 1 else wanted[0]
        raw = place.encode(value)  # written by the PC, read by name on the board
        if point.type == "bit":
            packed = bytes((sum(bit << at for at, bit in enumerate(raw)),))
        else:
            packed = struct.pack(f">{len(raw)}H", *raw)
        table.put(place.address, place.size, packed)
        found = there.io[name]
        assert (list(found) if point.count > 1 else found) == value
        assert [table[place.address + at] for at in range(place.size)] == raw
        wanted = [random_value(place, chance) for _ in range(point.count)]
        for index, one in enumerate(wanted):  # written by name on the board, read by the PC
            there.io.point(name).set(one, index)
        assert place.decode([table[place.address + at] for at in range(place.size)]) == (
            wanted if point.count > 1 else wanted[0]
        )
