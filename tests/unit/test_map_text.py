"""Map files: what a TOML text means, and every mistake that it can have, with the words that say so."""

import pytest

from hardwire_host.errors import USAGE, HardwireError
from hardwire_host.map.model import MapError, parse

PUMP = '[[coils]]\nname = "pump"\naddress = 7\n'
LEVEL = '[[holding_registers]]\nname = "level"\naddress = 0\n'


def problems(text):
    with pytest.raises(MapError) as caught:
        parse(text, "x.toml")
    assert caught.value.code == USAGE
    assert str(caught.value).startswith("x.toml: ")
    return caught.value.problems


MISTAKES = (  # text, the problem
    ("[", None),
    ("tables = 1", "unknown key 'tables'"),
    ("[devices]\n", "unknown key 'devices'; 'device'?"),
    ('coils = "pump"', "coils: wants tables: [[coils]]"),
    ("device = 1", "device: wants a table: [device]"),
    ('[device]\nvendor = "x"', "[device]: unknown key 'vendor'; 'vendor_url'?"),
    ("[device]\nrevision = 1.0", "[device]: revision wants text, not 1.0"),
    ('[device.objects]\n"0x20" = "x"', "[device.objects] 0x20: objects of your own are 0x80 to 0xFF"),
    ('[device.objects]\nname = "x"', "[device.objects] name: objects of your own are 0x80 to 0xFF"),
    ('[device.objects]\n"0x90" = 1', "[device.objects] 0x90: wants text"),
    (
        '[device.objects]\n"0x90" = "a"\n"144" = "b"',
        "[device.objects] 144: this object is there already",
    ),
    ('[defaults]\nword_order = "BA"', "[defaults]: word_order wants one of ABCD, CDAB, BADC, DCBA, not 'BA'"),
    ("[[coils]]\naddress = 1", "coils 1: has no name"),
    ('[[coils]]\nname = "pump"', "pump: has no address"),
    (PUMP + "addr = 1", "pump: unknown key 'addr'; 'address'?"),
    (PUMP + PUMP.replace("7", "8"), "pump: this name is there already, in coils"),
    (PUMP + LEVEL.replace("level", "pump"), "pump: this name is there already, in coils"),
    (PUMP.replace("7", "-1"), "pump: address wants a number from 0 to 65535, not -1"),
    (PUMP.replace("7", "true"), "pump: address wants a number from 0 to 65535, not True"),
    (PUMP.replace("7", "7.0"), "pump: address wants a number from 0 to 65535, not 7.0"),
    (PUMP + "count = 0", "pump: count wants a number from 1 to 65535, not 0"),
    (PUMP + "count = 65530", "pump: ends at 65536, behind the last address, 65535"),
    (PUMP + 'access = "all"', "pump: access wants one of read-write, read-only, not 'all'"),
    (PUMP + "retained = 1", "pump: retained wants true or false, not 1"),
    (PUMP + "initial = 2", "pump: initial: takes on or off"),
    (PUMP + "count = 3\ninitial = [true]", "pump: initial: has 3 values"),
    (PUMP + "safe = true", "pump: safe: without [communication] timeout_s it would never be set"),
    (PUMP + 'type = "bits"', "pump: unknown key 'type'"),
    (PUMP + f'description = "{"x" * 1001}"', None),
    (
        PUMP + '[[coils]]\nname = "valves"\naddress = 0\ncount = 8',
        "pump: address 7 of coils is taken by valves, up to 7",
    ),
    (LEVEL + 'type = "int8"', None),
    (LEVEL + "length = 3", "level: length is not for type uint16"),
    (LEVEL + 'type = "string"', "level: a string needs its length, in bytes"),
    (LEVEL + 'type = "string"\nlength = 3\nscale = 2.0', "level: scale is not for type string"),
    (
        LEVEL + 'type = "string"\nlength = 3\nword_order = "CDAB"',
        "level: word_order is not for type string",
    ),
    (LEVEL + 'type = "string"\nlength = 2\ninitial = "abc"', "level: initial: holds 2 bytes, not 3"),
    (LEVEL + 'type = "string"\nlength = 2\ninitial = 5', "level: initial: takes text"),
    (LEVEL + "initial = 1.5", "level: initial: takes a whole number, not 1.5"),
    (LEVEL + "initial = true", "level: initial: takes a number"),
    (LEVEL + "initial = {}", "level: initial: takes a number"),
    (LEVEL + 'bits = { 0 = "on" }', "level: bits is not for type uint16"),
    (LEVEL + 'type = "bits"\nbits = 3', 'level: bits wants a table: { 0 = "running" }, not 3'),
    (
        LEVEL + 'type = "bits"\nbits = { 16 = "on" }',
        "level: bits has a bit '16': 0 to 15, not {'16': 'on'}",
    ),
    (
        LEVEL + 'type = "bits"\nbits = { 01 = "on" }',
        "level: bits has a bit '01': 0 to 15, not {'01': 'on'}",
    ),
    (LEVEL + "scale = 0", "level: scale must not be 0, not 0"),
    (LEVEL + "scale = inf", "level: scale wants a finite number, not inf"),
    (LEVEL + 'offset = "1"', "level: offset wants a finite number, not '1'"),
    (LEVEL + "min = 5\nmax = 4", "level: min 5 and max 4 leave no value"),
    (LEVEL + "scale = 0.1\nmin = -1", "level: min: uint16 holds 0 to 6553.5, not -1"),
    (LEVEL + "scale = -1\nmin = 5", "level: min: uint16 holds -65535 to 0, not 5"),
    (LEVEL + "min = 0.4\nmax = 0.6", "level: min 0.4 and max 0.6 leave no value"),
    (LEVEL + 'type = "int64"\nscale = 1e-20\nmax = 1e300', None),  # an infinity, as a raw number
    (
        LEVEL + 'type = "int64"\nmax = 9223372036854775808',
        "level: max: int64 holds -9223372036854775808 to 9223372036854775807, not 9223372036854775808",
    ),
    (
        LEVEL + 'type = "float32"\nmax = 1e39',
        "level: max: float32 holds -3.4028234663852886e+38 to 3.4028234663852886e+38, not 1e+39",
    ),
    (LEVEL + "initial = 65536", "level: initial: holds 0 to 65535, not 65536"),
    (LEVEL + "max = 10\ninitial = 11", "level: initial: 11 is outside its limits, at most 10"),
    (
        "[[input_registers]]\nname = 'x'\naddress = 0\nretained = true",
        "x: retained: clients only read input_registers",
    ),
    (
        '[[input_registers]]\nname = "x"\naddress = 0\naccess = "read-write"',
        "x: access: clients only read input_registers",
    ),
    (
        "[communication]\ntimeout_s = 0.01",
        "[communication]: timeout_s wants 0.1 to 86400 seconds, or 0 for never",
    ),
    (
        '[communication]\nrefreshed_by = "reads"',
        "[communication]: refreshed_by wants one of writes, requests, not 'reads'",
    ),
    ('[[files]]\nname = "a"\nnumber = 2', "a: has no path, records"),
    (
        '[[files]]\nname = "a"\nnumber = 1\npath = "/x"\nrecords = 1',
        "a: number wants a number from 2 to 65534, not 1",
    ),
    (
        (
            '[[files]]\nname = "a"\nnumber = 2\npath = "/x"\nrecords = 1\n'
            '[[files]]\nname = "b"\nnumber = 2\npath = "/y"\nrecords = 1'
        ),
        "b: number 2 is taken by a",
    ),
    (
        (
            '[[files]]\nname = "a"\nnumber = 2\npath = "/x"\nrecords = 1\n'
            '[[files]]\nname = "b"\nnumber = 3\npath = "/x"\nrecords = 1'
        ),
        "b: path /x is taken by a",
    ),
    (
        '[[files]]\nname = "a"\nnumber = 2\npath = ""\nrecords = 1',
        "a: path wants the path of a file, not ''",
    ),
    (
        '[[files]]\nname = "a"\nnumber = 2\npath = "/main.py"\nrecords = 1',
        "a: path wants a file that is not the firmware's, not '/main.py'",
    ),
    (
        '[[files]]\nname = "a"\nnumber = 2\npath = "x/../b/app.mpy"\nrecords = 1',
        "a: path wants a file that is not the firmware's, not 'x/../b/app.mpy'",
    ),
    ('[[fifos]]\nname = "a"\naddress = 1\ndepth = 32', "a: depth wants a number from 1 to 31, not 32"),
    # What is wrong with a board's text must not be a traceback, nor anything that a terminal obeys.
    ("a = " + "[" * 100_000, "not TOML that can be read: too many brackets in brackets"),
    ("a = " + "1" * 5000, "not TOML that can be read: a number of thousands of digits"),
    (
        PUMP.replace("7", "0x" + "F" * 5000),
        "pump: address wants a number from 0 to 65535, not a number of thousands of digits",
    ),
    (LEVEL + "initial = 1" + "0" * 400, "level: initial: holds no number of so many digits"),
    (
        PUMP.replace("pump", "\\u001b[2J"),
        "coils 1: name wants a name: a-z, 0-9 and _, 32 at most, no keyword of Python, not '\\x1b[2J'",
    ),
    (
        LEVEL + 'unit = "\\u001b[2J"',
        "level: unit wants text without control characters, not '\\x1b[2J'",
    ),
    ('[device.objects]\n"\\u001b" = "x"', "[device.objects] ?: objects of your own are 0x80 to 0xFF"),
    ('"\\u001b" = 1', "unknown key '\\x1b'"),
    (f"{'k' * 100} = 1", f"unknown key '{'k' * 59}..."),
)


@pytest.mark.parametrize(
    ("text", "problem"), MISTAKES, ids=[(problem or text)[:60] for text, problem in MISTAKES]
)
def test_mistake(text, problem):
    found = problems(text)
    assert len(found) == 1, found
    if problem is not None:
        assert found == [problem]


@pytest.mark.parametrize("name", ["", "Pump", "7up", "a" * 33, "a-b", "é", "class", 7])
def test_no_name(name):
    quoted = name if isinstance(name, int) else f'"{name}"'
    assert "wants a name" in problems(f"[[coils]]\nname = {quoted}\naddress = 1\n")[0]


@pytest.mark.parametrize("name", ["point", "before_write", "_parts", "__class__"])
def test_a_name_that_io_has_itself(name):
    found = problems(f"[[coils]]\nname = '{name}'\naddress = 1\n")
    assert found == [f"{name}: name wants a name that the board's io does not have itself, not {name!r}"]
    other = f"[[fifos]]\nname = '{name}'\naddress = 1\n[[input_registers]]\nname = 'x'\naddress = 1\n"
    parse(other + f"type = 'bits'\nbits = {{ 0 = '{name}' }}", "x")  # found otherwise


def test_every_mistake_is_found():
    found = problems(PUMP + "count = 0\n[[coils]]\naddress = 3\n" + LEVEL + "min = 5\nmax = 4\n")
    assert [problem.split(":")[0] for problem in found] == ["pump", "coils 2", "level"]


WHOLE = """
[device]
vendor_name = "Plant"
user_application_name = "Ünit 7"

[device.objects]
"0x90" = "own"

[defaults]
word_order = "CDAB"

[communication]
timeout_s = 1.5
refreshed_by = "requests"

[[holding_registers]]
name = "flow"
address = 10
type = "float32"
count = 3
unit = "l/s"
max = 9.5
safe = 0

[[holding_registers]]
name = "order"
address = 16
type = "int32"
word_order = "ABCD"

[[holding_registers]]
name = "short"
address = 2
word_order = "DCBA"

[[input_registers]]
name = "status"
address = 9
type = "bits"
bits = { 0 = "running", 15 = "fault" }

[[files]]
name = "recipe"
number = 2
path = "/r"
records = 10
access = "read-only"

[[fifos]]
name = "samples"
address = 10
"""


def test_a_whole_map():
    device = parse(WHOLE, "x.toml")
    assert device.objects == {0: b"Plant", 6: "Ünit 7".encode(), 0x90: b"own"}
    assert (device.communication.timeout_s, device.communication.refreshed_by) == (1.5, "requests")
    assert list(device.points) == ["flow", "order", "short", "status"]
    flow, order, short, status = device.points.values()
    assert (flow.word_order, order.word_order, short.word_order) == ("CDAB", "ABCD", "ABCD")
    assert (flow.width, flow.last, flow.reference, flow.range) == (2, 15, "40011", "at most 9.5 l/s")
    assert (flow.writable, status.writable, status.bits) == (True, False, {0: "running", 15: "fault"})
    assert device.ranges("holding_registers") == [(2, 2), (10, 17)]
    assert device.files["recipe"].access == "read-only" and device.fifos["samples"].depth == 31
    assert device.gaps("holding_registers") == [(3, 9)] and device.gaps("coils") == []
    assert device.text == WHOLE


def test_as_windows_editors_write_it():
    assert list(parse("\ufeff" + WHOLE.replace("\n", "\r\n"), "x.toml").points) == [
        "flow",
        "order",
        "short",
        "status",
    ]


PLACES = (  # name, address, size, index, bit
    ("flow", 10, 6, None, None),
    ("flow[2]", 14, 2, 2, None),
    ("order", 16, 2, None, None),
    ("status.fault", 9, 1, None, 15),
)


@pytest.mark.parametrize(("name", "address", "size", "index", "bit"), PLACES)
def test_find(name, address, size, index, bit):
    place = parse(WHOLE, "x.toml").find(name)
    assert (place.name, place.address, place.size, place.index, place.bit) == (
        name,
        address,
        size,
        index,
        bit,
    )


NO_PLACES = (
    ("flaw", "no point is called 'flaw' (flow?)"),
    ("nothing at all", "no point is called 'nothing at all' (hardwire modbus map)"),
    ("flow[3]", "flow has no [3]: 0 to 2"),
    ("flow[-1]", "no point is called 'flow[-1]' (flow?)"),
    ("status.halt", "status has no bit 'halt' (running, fault)"),
    ("order.on", "order has no bit 'on' (none of its bits has a name)"),
)


@pytest.mark.parametrize(("name", "message"), NO_PLACES)
def test_find_says_what_is_near(name, message):
    with pytest.raises(HardwireError) as caught:
        parse(WHOLE, "x.toml").find(name)
    assert (caught.value.code, str(caught.value)) == (USAGE, message)
