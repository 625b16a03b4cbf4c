"""Values of points: every type in every order by its bytes, limits as the board gets them, what is typed and shown."""

import pytest

from hardwire_host.errors import USAGE, HardwireError
from hardwire_host.map.model import MapError, parse


def point(lines, section="holding_registers", address=0):
    return parse(f'[[{section}]]\nname = "x"\naddress = {address}\n{lines}', "x.toml").find("x")


def message(function, *arguments):
    with pytest.raises(HardwireError) as caught:
        function(*arguments)
    assert caught.value.code == USAGE
    return str(caught.value)


ORDERS = (  # type, value, its registers in the four orders
    ("int32", -2023406815, ("8765 4321", "4321 8765", "6587 2143", "2143 6587")),
    ("uint32", 0x87654321, ("8765 4321", "4321 8765", "6587 2143", "2143 6587")),
    ("float32", 123.456, ("42F6 E979", "E979 42F6", "F642 79E9", "79E9 F642")),
    (
        "int64",
        -0x0123456789ABCDEF,
        ("FEDC BA98 7654 3211", "3211 7654 BA98 FEDC", "DCFE 98BA 5476 1132", "1132 5476 98BA DCFE"),
    ),
    (
        "uint64",
        0xFEDCBA9876543211,
        ("FEDC BA98 7654 3211", "3211 7654 BA98 FEDC", "DCFE 98BA 5476 1132", "1132 5476 98BA DCFE"),
    ),
    (
        "float64",
        3.141592653589793,
        ("4009 21FB 5444 2D18", "2D18 5444 21FB 4009", "0940 FB21 4454 182D", "182D 4454 FB21 0940"),
    ),
)


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize(("kind", "value", "registers"), ORDERS)
def test_every_type_in_every_order(kind, value, registers, order):
    name = ("ABCD", "CDAB", "BADC", "DCBA")[order]
    raw = [int(word, 16) for word in registers[order].split()]
    place = point(f'type = "{kind}"\nword_order = "{name}"')
    assert place.encode(value) == raw
    assert place.decode(raw) == pytest.approx(value, rel=1e-7)
    by_default = parse(
        f'[defaults]\nword_order = "{name}"\n[[input_registers]]\nname = "x"\naddress = 7\ntype = "{kind}"',
        "x",
    ).find("x")
    assert by_default.encode(value) == raw


@pytest.mark.parametrize(
    ("value", "raw"), [(0.29, 29), (-0.29, -29), (1.13, 113), (0.014, 1), (0.016, 2), (-0.016, -2)]
)
def test_the_nearest_raw_number_is_taken(value, raw):
    assert point('type = "int16"\nscale = 0.01').encode(value) == [raw & 0xFFFF]


def test_a_single_register_has_no_order():
    assert point('type = "int16"\nword_order = "DCBA"').encode(-2) == [0xFFFE]
    assert point('type = "bits"\nword_order = "BADC"').encode(1) == [1]


EXTREMES = (  # type, least, greatest
    ("int16", -(2**15), 2**15 - 1),
    ("uint16", 0, 2**16 - 1),
    ("bits", 0, 2**16 - 1),
    ("int32", -(2**31), 2**31 - 1),
    ("uint32", 0, 2**32 - 1),
    ("int64", -(2**63), 2**63 - 1),
    ("uint64", 0, 2**64 - 1),
)


@pytest.mark.parametrize(("kind", "least", "most"), EXTREMES)
def test_extremes(kind, least, most):
    place = point(f'type = "{kind}"')
    for value in (least, most):
        assert place.decode(place.encode(value)) == value
        assert place.parse(place.format(value)) == value
    for value in (least - 1, most + 1):
        assert message(place.encode, value) == f"x holds {least} to {most}, not {value}"


LIMITS = (  # keys, least and greatest raw number that clients may write
    ("min = -5\nmax = 5", 'type = "int16"', (-5, 5)),
    ("min = 0.5\nmax = 2.5", 'type = "int16"', (1, 2)),
    ("min = -4.0\nmax = 21.5", 'type = "int16"\nscale = 0.1', (-40, 215)),
    ("max = 0.29", "scale = 0.01", (None, 29)),
    ("min = -40\nmax = 60", 'type = "int16"\nscale = 0.5\noffset = -40', (0, 200)),
    ("min = -3", 'type = "int16"\nscale = -1', (None, 3)),
    ("min = -3\nmax = 10", 'type = "int16"\nscale = -0.5\noffset = 1', (-18, 8)),
    ("max = 18446744073709551615", 'type = "uint64"', (None, 2**64 - 1)),
    ("min = -9223372036854775807", 'type = "int64"', (-(2**63) + 1, None)),
    ("min = -1.5\nmax = 2.5", 'type = "float32"', (-1.5, 2.5)),
    ("min = -1.5\nmax = 2.5", 'type = "float64"\nscale = -0.5', (-5.0, 3.0)),
)


@pytest.mark.parametrize(("limits", "kind", "raw"), LIMITS)
def test_limits(limits, kind, raw):
    assert point(f"{kind}\n{limits}").point.raw_limits == raw


@pytest.mark.parametrize("limit", [80.1, 20.3, -0.7, 1e-3])
def test_a_client_may_write_the_limit_itself(limit):
    """The float32 next to it may be outside."""
    place = point(f'type = "float32"\nmin = {limit}\nmax = {limit}')
    least, most = place.point.raw_limits
    assert least <= place.decode(place.encode(limit)) <= most
    assert "outside its limits" in message(place.encode, limit + 1)


STRINGS = (  # length, registers, text
    (4, "4142 4344", "ABCD"),
    (4, "4142 0043", "AB"),
    (3, "4142 4300", "ABC"),
    (3, "4142 43FF", "ABC"),
    (4, "0000 0000", ""),
    (2, "FF41", "\ufffdA"),
    (2, "C396", "Ö"),
)


@pytest.mark.parametrize(("length", "registers", "text"), STRINGS)
def test_strings_as_clients_may_leave_them(length, registers, text):
    place = point(f'type = "string"\nlength = {length}')
    assert place.decode([int(word, 16) for word in registers.split()]) == text


SHOWN = (  # keys of the point, registers, value, text
    ('unit = "m"', [7], 7, "7 m"),
    ("scale = 0.1", [0xFFFF], 6553.5, "6553.5"),
    ('type = "int16"\nscale = 0.1\noffset = -40\nunit = "degC"', [0xFFFF], -40.1, "-40.1 degC"),
    ('type = "bits"', [0x8001], 0x8001, "32769"),
    (
        'type = "bits"\nbits = { 0 = "run", 15 = "fault" }',
        [0x8001],
        {"run": True, "fault": True},
        "run fault",
    ),
    ('type = "bits"\nbits = { 1 = "run", 2 = "fault" }', [0x8001], {"run": False, "fault": False}, "-"),
    ('type = "string"\nlength = 2\nunit = "x"', [0x4142], "AB", "AB"),
    ('type = "float32"\nunit = "l"', [0x3DCC, 0xCCCD], pytest.approx(0.1), "0.1 l"),
    ('count = 2\nunit = "m"', [1, 2], [1, 2], "1 m, 2 m"),
)


@pytest.mark.parametrize(("lines", "raw", "value", "text"), SHOWN)
def test_shown(lines, raw, value, text):
    place = point(lines)
    assert place.decode(raw) == value
    assert place.format(place.decode(raw)) == text


@pytest.mark.parametrize(
    ("lines", "raw", "text"), [("", [1], "on"), ("count = 3", [0, 1, 0], "off, on, off")]
)
def test_bits_shown(lines, raw, text):
    place = point(lines, "coils")
    assert place.format(place.decode(raw)) == text
    assert place.encode(place.parse(text.replace(" ", ""))) == raw


NOT_TYPED = (  # keys of the point, its table, what somebody types, message
    ("", "coils", "maybe", "x takes on or off, not 'maybe'"),
    ("count = 3", "coils", "on,off", "x has 3 values, not 2: VALUE,VALUE,..."),
    ("count = 2", "coils", "on,2", "x[0] takes on or off, not '2'"),
    ("", "holding_registers", "21,5", "x takes a number, not '21,5'"),
    ("", "holding_registers", "on", "x takes a number, not 'on'"),
    ("", "holding_registers", "", "x takes a number, not ''"),
    ('type = "bits"\nbits = { 0 = "a" }', "holding_registers", "a", "x takes a number, not 'a'"),
)


@pytest.mark.parametrize(("lines", "section", "text", "words"), NOT_TYPED)
def test_not_typed(lines, section, text, words):
    assert message(point(lines, section).parse, text) == words


NOT_ENCODED = (  # keys of the point, value, message
    ("count = 2", [1, 65536], "x[1] holds 0 to 65535, not 65536"),
    ("count = 2", 1, "x has 2 values"),
    ("", None, "x takes a number"),
    ("", {}, "x takes a number"),
    ("", True, "x takes a number"),
    ("", 1.5, "x takes a whole number, not 1.5"),
    ("", 10**5000, "x holds no number of so many digits"),
    ("scale = 0.1", 10**400, "x holds no number of so many digits"),
    ('type = "float64"', 10**400, "x holds no number of so many digits"),
    ('type = "float64"\nscale = 1e-10', 1e308, "x: 1e+308 does not fit in a float64"),
    ('type = "string"\nlength = 5', 5, "x takes text"),
    ('type = "string"\nlength = 5', "a\0b", "x holds no NUL: it would end there"),
    ('type = "string"\nlength = 5', "\udc80", "x takes text in UTF-8"),
    ('type = "string"\nlength = 3', "ÄÖ", "x holds 3 bytes, not 4"),
    ('type = "int16"\nscale = -0.1', 3276.9, "x holds -3276.7 to 3276.8, not 3276.9"),
)


@pytest.mark.parametrize(("lines", "value", "words"), NOT_ENCODED, ids=range(len(NOT_ENCODED)))
def test_not_encoded(lines, value, words):
    assert message(point(lines).encode, value) == words


MAP = """
[[coils]]
name = "valves"
address = 100
count = 8

[[holding_registers]]
name = "axes"
address = 20
type = "bits"
count = 3
bits = { 2 = "home", 9 = "busy" }

[[holding_registers]]
name = "texts"
address = 0
type = "string"
length = 5
count = 4
"""
PLACES = (  # name, table, address, size, a value, its registers or bits
    ("valves", "coils", 100, 8, [True] + [False] * 7, [1] + [0] * 7),
    ("valves[7]", "coils", 107, 1, True, [1]),
    ("axes[0]", "holding_registers", 20, 1, {"home": True, "busy": False}, [4]),
    ("axes[2].busy", "holding_registers", 22, 1, True, None),
    ("texts[3]", "holding_registers", 9, 3, "Öl", [0xC396, 0x6C00, 0]),
)


@pytest.mark.parametrize(("name", "table", "address", "size", "value", "raw"), PLACES)
def test_parts_of_arrays(name, table, address, size, value, raw):
    place = parse(MAP, "x").find(name)
    assert (place.name, place.table, place.address, place.size) == (name, table, address, size)
    if raw is None:  # one bit: of a whole register, but no other bit of it can be said
        assert (place.encode(value), place.decode([0x0200]), place.decode([0xFDFF])) == ([1], True, False)
    else:
        assert (place.encode(value), place.decode(raw)) == (raw, value)


NO_PLACES = (
    ("valves[8]", "valves has no [8]: 0 to 7"),
    ("axes.busy", "axes is an array: axes[0].busy"),
    ("axes[0].bus", "axes has no bit 'bus' (home, busy)"),
    ("axes[3].busy", "axes has no [3]: 0 to 2"),
    ("", "no point is called '' (hardwire modbus map)"),
    ("valves[]", "no point is called 'valves[]' (valves?)"),
    ("valves[1][2]", "no point is called 'valves[1][2]' (valves?)"),
    ("valves[" + "9" * 5000 + "]", None),
    ("texts[0].x.y", "no point is called 'texts[0].x.y' (hardwire modbus map)"),
)


@pytest.mark.parametrize(("name", "words"), NO_PLACES, ids=range(len(NO_PLACES)))
def test_no_place(name, words):
    found = message(parse(MAP, "x").find, name)
    assert words in (None, found)


X = '[[holding_registers]]\nname = "x"\naddress = 0\n'
COIL = X.replace("holding_registers", "coils")
PROBLEMS = (  # text, its only problem: what test_map_text.py does not have
    ("a =", "not TOML: Invalid value (at end of document)"),
    ("a = " + "[" * 9000, "not TOML that can be read: too many brackets in brackets"),
    ("device = { objects = 3 }", '[device.objects]: wants a table: "0x80" = "text"'),
    ("defaults = []", "defaults: wants a table: [defaults]"),
    ("files = { a = 1 }", "files: wants tables: [[files]]"),
    ("fifos = [1]", "fifos: wants tables: [[fifos]]"),
    (X + 'type = "int8"', None),
    (
        X + 'type = "bits"\nbits = { 0 = "a", 1 = "a" }',
        "x: bits has two bits of the same name, not {'0': 'a', '1': 'a'}",
    ),
    (X + 'type = "bits"\nbits = { 0 = "A" }', None),
    (X + 'type = "bits"\nbits = { 00 = "a" }', "x: bits has a bit '00': 0 to 15, not {'00': 'a'}"),
    (X + 'type = "bits"\nscale = 2', "x: scale is not for type bits"),
    (X + 'type = "string"\nlength = 251', "x: length wants a number from 1 to 250, not 251"),
    (X + 'type = "string"\nlength = 0', "x: length wants a number from 1 to 250, not 0"),
    (X + 'type = "float32"\nlength = 4', "x: length is not for type float32"),
    (X + "scale = nan", "x: scale wants a finite number, not nan"),
    (X + "min = true", "x: min wants a finite number, not True"),
    (X + "min = 0.1\nmax = 0.2", "x: min 0.1 and max 0.2 leave no value"),
    (X + f'unit = "{"°" * 17}"', f"x: unit has 34 bytes, at most 32 fit, not '{'°' * 17}'"),
    (X + 'unit = "\\u001b[2J"', r"x: unit wants text without control characters, not '\x1b[2J'"),
    (X + "count = 3\ninitial = [1, 2]", "x: initial: has 3 values"),
    (X + "count = 2\ninitial = [1, -2]", "x: initial: [1] holds 0 to 65535, not -2"),
    (X + 'type = "bits"\nbits = { 0 = "a" }\ninitial = { b = true }', "x: initial: has the bits a"),
    (X + "initial = 2020-01-01", "x: initial: takes a number"),
    (X + 'type = "float32"\ninitial = 1e39', "x: initial: 1e+39 does not fit in a float32"),
    (COIL + "min = 0", None),
    (COIL + "count = 2\ninitial = [true, 2]", "x: initial: [1] takes on or off"),
    (
        '[[discrete_inputs]]\nname = "x"\naddress = 0\nsafe = true\n[communication]\ntimeout_s = 1',
        "x: safe: clients only read discrete_inputs",
    ),
    (
        '[[files]]\nname = "a"\nnumber = 65535\npath = "/a"\nrecords = 1',
        "a: number wants a number from 2 to 65534, not 65535",
    ),
    (
        '[[files]]\nname = "a"\nnumber = 2\npath = "/a"\nrecords = 10001',
        "a: records wants a number from 1 to 10000, not 10001",
    ),
    (
        '[[fifos]]\nname = "a"\naddress = 1\n[[fifos]]\nname = "b"\naddress = 1',
        "b: address 1 is taken by a",
    ),
    (COIL + '[[fifos]]\nname = "x"\naddress = 1', "x: this name is there already, in coils"),
    (
        "[communication]\ntimeout_s = 86401",
        "[communication]: timeout_s wants 0.1 to 86400 seconds, or 0 for never",
    ),
    (
        "[communication]\ntimeout_s = -1",
        "[communication]: timeout_s wants 0.1 to 86400 seconds, or 0 for never",
    ),
)


@pytest.mark.parametrize(("text", "problem"), PROBLEMS, ids=range(len(PROBLEMS)))
def test_problem(text, problem):
    with pytest.raises(MapError) as caught:
        parse(text, "x.toml")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0] == (problem or caught.value.problems[0])


@pytest.mark.parametrize("name", ["point", "before_read", "after_write", "_find", "__class__"])
def test_names_that_io_has_itself(name):
    """`io.point` on the board is a method: it would never be the point."""
    with pytest.raises(MapError, match="wants a name that the board's io does not have itself"):
        parse(COIL.replace('"x"', f'"{name}"'), "x.toml")
