"""Values in registers, map.bin byte by byte, and the board's loader: PC and board agree."""

import csv
import io
import json
import struct
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire import map_file
from hardwire_host.cli import run
from hardwire_host.errors import FAILED, USAGE, HardwireError
from hardwire_host.map.build import BYTES_MAX, build, read
from hardwire_host.map.documents import COLUMNS, markdown
from hardwire_host.map.documents import csv as table
from hardwire_host.map.footprint import heap
from hardwire_host.map.model import MapError, parse


def point(lines, section="holding_registers"):
    return parse(f'[[{section}]]\nname = "x"\naddress = 0\n{lines}', "x.toml").find("x")


def board(text):
    """The device as the board has it."""
    return map_file.read(io.BytesIO(build(parse(text, "x.toml"))))


VALUES = (  # keys of the point, value, registers
    ("", 65535, "FFFF"),
    ('type = "int16"', -2, "FFFE"),
    ('type = "uint32"', 0x11223344, "1122 3344"),
    ('type = "uint32"\nword_order = "CDAB"', 0x11223344, "3344 1122"),
    ('type = "uint32"\nword_order = "BADC"', 0x11223344, "2211 4433"),
    ('type = "uint32"\nword_order = "DCBA"', 0x11223344, "4433 2211"),
    ('type = "int32"', -1, "FFFF FFFF"),
    ('type = "int64"', -2, "FFFF FFFF FFFF FFFE"),
    ('type = "uint64"\nword_order = "CDAB"', 0x0102030405060708, "0708 0506 0304 0102"),
    ('type = "float32"', 1.5, "3FC0 0000"),
    ('type = "float32"\nword_order = "DCBA"', 1.5, "0000 C03F"),
    ('type = "float64"', -2.5, "C004 0000 0000 0000"),
    ('type = "string"\nlength = 5', "pÄmp", "70C3 846D 7000"),
    ('type = "int16"\nscale = 0.1', 21.5, "00D7"),
    ('type = "int16"\nscale = 0.1\noffset = -40.0', 21.5, "0267"),
    ('type = "uint16"\nscale = -1', -7, "0007"),
    ('type = "bits"', 0x8001, "8001"),
    ('type = "bits"\nbits = { 0 = "a", 15 = "b" }', {"a": True, "b": False}, "0001"),
    ("count = 3", [1, 2, 3], "0001 0002 0003"),
    ('type = "float32"\ncount = 2', [1.5, -1.5], "3FC0 0000 BFC0 0000"),
)


@pytest.mark.parametrize(("lines", "value", "registers"), VALUES)
def test_value(lines, value, registers):
    place = point(lines)
    raw = [int(word, 16) for word in registers.split()]
    assert (place.encode(value), place.decode(raw), place.size) == (raw, value, len(raw))


TYPED = (  # keys of the point, what a person types, value, shown
    ("", "0x10", 16, "16"),
    ('scale = 0.1\nunit = "m"', "21.5", 21.5, "21.5 m"),
    ('type = "float32"', "-1e3", -1000.0, "-1000"),
    ('type = "float32"\nunit = "l"', "0.1", 0.1, "0.1 l"),
    ('type = "string"\nlength = 9', "on", "on", "on"),
    ("count = 2", "1, 2", [1, 2], "1, 2"),
)


@pytest.mark.parametrize(("lines", "text", "value", "shown"), TYPED)
def test_typed_and_shown(lines, text, value, shown):
    place = point(lines)
    assert place.parse(text) == value
    assert place.format(place.decode(place.encode(value))) == shown


@pytest.mark.parametrize(("text", "value"), [("on", True), ("FALSE", False), ("1", True), ("off", False)])
def test_typed_bit(text, value):
    assert point("", "coils").parse(text) is value


REFUSED = (  # keys of the point, value, message
    ("", 65536, "x holds 0 to 65535, not 65536"),
    ("", -1, "x holds 0 to 65535, not -1"),
    ("", "1", "x takes a number"),
    ("", float("nan"), "x takes a finite number"),
    ("scale = 0.1", 6553.6, "x holds 0 to 6553.5, not 6553.6"),
    ('max = 80\nmin = 5\nunit = "degC"', 81, "x: 81 is outside its limits, 5 to 80 degC"),
    ('type = "float32"\nmax = 80', float("nan"), "x: nan is outside its limits, at most 80"),
    ('type = "float32"', 1e39, "x: 1e+39 does not fit in a float32"),
    ('type = "int16"\nscale = -1\nmin = -3', -4, "x: -4 is outside its limits, at least -3"),
    ('type = "string"\nlength = 2', "abc", "x holds 2 bytes, not 3"),
    ("count = 2", [1], "x has 2 values"),
    ('type = "bits"\nbits = { 0 = "a" }', {"b": True}, "x has the bits a"),
)


@pytest.mark.parametrize(("lines", "value", "message"), REFUSED)
def test_refused(lines, value, message):
    with pytest.raises(HardwireError) as caught:
        point(lines).encode(value)
    assert (caught.value.code, str(caught.value)) == (USAGE, message)


SMALL = """[device]
vendor_name = "AB"
[communication]
timeout_s = 2
[[coils]]
name = "p"
address = 1
initial = true
safe = true
[[holding_registers]]
name = "f"
address = 4
type = "float32"
word_order = "CDAB"
max = 2
retained = true
[[holding_registers]]
name = "b"
address = 6
type = "bits"
bits = { 3 = "on" }
access = "read-only"
[[files]]
name = "r"
number = 2
path = "/r"
records = 9
[[fifos]]
name = "q"
address = 7
depth = 4
"""
BY_HAND = (
    (1, "0100 0100 0100  0000  0100 0400 0600  0000"),
    (2, ("0000 0600 0100 2A 00 02 00 FFFF  0200 0600 0100 2E 00 03 00 FFFF"
        "0700 0400 0100 1E 2E 04 00 0000  0900 0100 0100 00 44 00 00 FFFF")),
    (3, "01 62  04 622E6F6E  01 66  01 70"),
    (4, "0000803F 00000000 0000000000000000 0000000000000040"),
    (5, "01 01"),
    (6, "0000  0100 0600 0600"),
    (7, "05"),
    (8, "0000  0100 0400 0500"),
    (9, "D0070000 00  0100 0100 0100 01  0000"),
    (10, "00 02 4142"),
    (11, "0200 0900 01 02 2F72"),
    (12, "0700 04 01 71"),
)  # fmt: skip


def sections(data):
    at, found = 8, []
    while at < len(data):
        tag, zero, length = struct.unpack_from("<BBH", data, at)
        assert zero == 0
        found.append((tag, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def test_map_bin_byte_by_byte():
    data = build(parse(SMALL, "x.toml"))
    assert data[:8] == b"HWM1" + struct.pack("<I", crc32(data[8:]))
    found = sections(data)
    assert found[:-1] == [(tag, bytes.fromhex(text)) for tag, text in BY_HAND]
    assert found[-1][0] == 13
    assert read(data) == parse(SMALL, "x.toml")
    assert build(read(data)) == data


def test_the_board_has_the_same():
    device = board(SMALL)
    assert (device.io.p, device.io.f, device.io["b.on"], device.io.b) == (True, 0.0, False, 0)
    assert device.retained == [[], [(4, 5)]]
    assert device.files == [(2, 9, True, "/r")] and device.fifos == [(7, 4, "q")]
    assert device.safe[:2] == (2000, False)
    assert device.bank.identity == {0: b"AB"}


DAMAGE = (
    (lambda data: b"HWM2" + data[4:], "x is no map.bin"),
    (lambda data: b"", "x is no map.bin"),
    (lambda data: data[:-1], "x is damaged: its checksum is wrong"),
    (lambda data: data[:6], "x is damaged: its checksum is wrong"),
    (lambda data: data[:9] + b"\xff" + data[10:], "x is damaged: its checksum is wrong"),
)


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damaged(damage, message):
    data = damage(build(parse(SMALL, "x.toml")))
    with pytest.raises(HardwireError) as caught:
        read(data, "x")
    assert (caught.value.code, str(caught.value)) == (USAGE, message)
    with pytest.raises(map_file.MapError):
        map_file.read(io.BytesIO(data))


def test_without_its_text():
    data = b"HWM1" + struct.pack("<I", crc32(b"")) + b""
    with pytest.raises(HardwireError, match="does not hold the text"):
        read(data)


def test_too_large():
    names = "".join(f'[[coils]]\nname = "a_rather_long_name_{at}"\naddress = {at}\n' for at in range(1000))
    with pytest.raises(MapError, match=rf"map.bin has \d+ bytes, {BYTES_MAX} at most"):
        build(parse(names, "x.toml"))


KINDS = st.sampled_from(
    ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bits"]
)
POINTS = st.lists(
    st.tuples(
        KINDS,
        st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]),
        st.integers(1, 3),
        st.integers(0, 2),
        st.binary(min_size=24, max_size=24),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(POINTS)
def test_pc_and_board_agree_on_any_map(points):
    text, address, lengths = "", 0, {"16": 1, "32": 2, "64": 4}
    for number, (kind, order, count, gap, _) in enumerate(points):
        address += gap
        text += f'[[holding_registers]]\nname = "p{number}"\naddress = {address}\ntype = "{kind}"\ncount = {count}\n'
        text += f'word_order = "{order}"\n'
        address += count * lengths.get(kind[-2:], 1)
    device, there = parse(text, "x.toml"), board(text)
    for number, (*_, data) in enumerate(points):
        place = device.find(f"p{number}")
        raw = list(struct.unpack(f">{place.size}H", data[: 2 * place.size]))
        there.bank.holding_registers.put(place.address, place.size, data[: 2 * place.size])
        value, theirs = place.decode(raw), there.io[place.name]
        theirs = list(theirs) if isinstance(value, list) else theirs
        assert repr(value) == repr(theirs)


def test_documents():
    device = parse(SMALL, "x.toml")
    rows = list(csv.DictReader(io.StringIO(table(device))))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["name"], row["address"], row["reference"], row["registers"]) for row in rows] == [
        ("p", "1", "00002", ""),
        ("f", "4", "40005", "2"),
        ("b", "6", "40007", "1"),
    ]
    assert (rows[0]["initial"], rows[1]["max"], rows[2]["bits"]) == ("on", "2", "3=on")
    columns = 0
    for line in markdown(device).splitlines():
        count = line.replace("\\|", "").count("|")
        assert not columns or not count or count == columns
        columns = count
    assert "| 4 to 5 | 40005 | `f` | float32 CDAB |" in markdown(device)


def command(capsys, *arguments):
    code = run(["map", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_commands(tmp_path, capsys):
    path = tmp_path / "map.toml"
    path.write_text(SMALL)
    code, answer = command(capsys, "check", path)
    assert (code, answer["points"], answer["tables"]["holding_registers"]["values"]) == (0, 3, 3)
    code, answer = command(capsys, "build", path)
    binary = tmp_path / "map.bin"
    assert (code, answer["file"], answer["bytes"]) == (0, str(binary), binary.stat().st_size)
    assert binary.read_bytes() == build(parse(SMALL, "x.toml"))
    for name in ("docs", "csv"):
        text = list(command(capsys, name, path)[1].values())[-1]
        assert list(command(capsys, name, binary)[1].values())[-1] == text
        assert command(capsys, name, path, "-o", tmp_path / "out")[0] == 0
        assert (tmp_path / "out").read_text() == text
    assert command(capsys, "build", path, "-o", tmp_path / "no" / "x")[0] == FAILED


def test_check_says_gaps_and_heap(tmp_path, capsys):
    path = tmp_path / "map.toml"
    path.write_text("".join(f"[[coils]]\nname = 'c{at}'\naddress = {at}\n" for at in (3, 4, 9, 11)))
    code, answer = command(capsys, "check", path)
    coils = answer["tables"]["coils"]
    assert (code, coils["ranges"], coils["gaps"]) == (0, [[3, 4], [9, 9], [11, 11]], [[5, 8], [10, 10]])
    assert answer["heap"] == heap(read(build(parse(path.read_text(), "x"))))
    assert run(["map", "check", str(path)]) == 0
    words = capsys.readouterr().out
    assert "addresses 3-4, 9, 11 (gaps 5-8, 10)" in words and f"{answer['heap']} bytes on the board" in words


def test_build_into_a_pipe(tmp_path, capsysbinary):
    path = tmp_path / "map.toml"
    path.write_text(SMALL)
    assert run(["map", "build", str(path), "-o", "-"]) == 0
    assert capsysbinary.readouterr() == (build(parse(SMALL, "x.toml")), b"")
    assert run(["map", "build", str(path), "-o", "-", "--json"]) == USAGE
    assert [file.name for file in tmp_path.iterdir()] == ["map.toml"]


def test_check_says_every_problem(tmp_path, capsys):
    path = tmp_path / "map.toml"
    path.write_text('[[coils]]\nname = "a"\n[[coils]]\naddress = 1\n')
    code, answer = command(capsys, "check", path)
    assert (code, answer["problems"]) == (USAGE, ["a: has no address", "coils 2: has no name"])
    assert run(["map", "check", str(path)]) == USAGE
    words = capsys.readouterr().err
    assert "a: has no address" in words and "coils 2: has no name (2 problems)" in words
    assert command(capsys, "check", tmp_path / "none")[0] == USAGE


def test_the_default_map_is_right(capsys):
    from hardwire_host.bundle import firmware_folder

    assert command(capsys, "check", firmware_folder() / "map.toml")[0] == 0
