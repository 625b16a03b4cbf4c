"""The Markdown page and the CSV table of a map: whole, for a small one; cells that could break them."""

import csv as reader
import io
from pathlib import Path

import pytest

from hardwire_host.map.build import build
from hardwire_host.map.documents import COLUMNS, csv, markdown
from hardwire_host.map.model import parse

PRESS = """
[device]
vendor_name = "Plant | Söhne"
product_name = "Press  7"
[device.objects]
"0x90" = "own"

[communication]
timeout_s = 2.5

[[coils]]
name = "pump"
address = 0
safe = false
description = "back\\\\slash \\\\| and | bar"

[[holding_registers]]
name = "level"
address = 10000
type = "int16"
scale = -0.1
offset = 40
unit = "degC"
min = -4.5
initial = 20
safe = 15
retained = true
description = \"\"\"of the
outlet, "warm" one\"\"\"

[[holding_registers]]
name = "curve"
address = 4
type = "float32"
word_order = "CDAB"
count = 3
unit = "l"
max = 1e9
initial = 0.1

[[holding_registers]]
name = "steps"
address = 1
count = 3
initial = [1, 2, 3]
access = "read-only"

[[input_registers]]
name = "state"
address = 1
type = "bits"
bits = { 3 = "fault", 0 = "run" }
initial = { fault = true }

[[input_registers]]
name = "axes"
address = 20
type = "bits"
count = 2
bits = { 2 = "home" }
initial = [{ home = true }, 0]

[[input_registers]]
name = "title"
address = 2
type = "string"
length = 7
initial = "a,b"

[[input_registers]]
name = "total"
address = 9
type = "uint64"
initial = 18446744073709551615

[[files]]
name = "recipes"
number = 2
path = "/data/recipes.bin"
records = 500

[[fifos]]
name = "samples"
address = 100
"""

TABLE = (
    ",".join(COLUMNS)
    + """
pump,coils,0,00001,,bit,1,,,,,,,,read-write,,no,off,,back\\slash \\| and | bar
steps,holding_registers,1,40002,3,uint16,3,,ABCD,1,0,,,,read-only,"1, 2, 3",no,,,
curve,holding_registers,4,40005,6,float32,3,,CDAB,1,0,l,,1000000000,read-write,0.1,no,,,
level,holding_registers,10000,410001,1,int16,1,,ABCD,-0.1,40,degC,-4.5,,read-write,20.0,yes,15.0,,"of the
outlet, ""warm"" one"
state,input_registers,1,30002,1,bits,1,,ABCD,1,0,,,,read-only,8,no,,0=run 3=fault,
title,input_registers,2,30003,4,string,1,7,ABCD,1,0,,,,read-only,"a,b",no,,,
total,input_registers,9,30010,4,uint64,1,,ABCD,1,0,,,,read-only,18446744073709551615,no,,,
axes,input_registers,20,30021,2,bits,2,,ABCD,1,0,,,,read-only,"4, 0",no,,2=home,
"""
)


def test_csv():
    text = csv(parse(PRESS, "x"))
    assert text == TABLE
    rows = list(reader.DictReader(io.StringIO(text)))
    assert [row["description"] for row in rows][::3] == [
        r"back\slash \| and | bar",
        'of the\noutlet, "warm" one',
        "",
    ]
    assert all(set(row) == set(COLUMNS) and None not in row.values() for row in rows)


def cells(line):
    """Of a row, as GitHub's Markdown finds them: what follows a backslash is no bar."""
    found, escaped = [""], False
    for letter in line:
        if letter == "|" and not escaped:
            found.append("")
        else:
            found[-1] += letter
        escaped = letter == "\\" and not escaped
    return [cell.strip() for cell in found[1:-1]]


def tables(page):
    """The tables of a page, by the heading above; each a list of rows."""
    found, heading = {}, None
    for line in page.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append(cells(line))
    return found


def test_markdown():
    found = tables(markdown(parse(PRESS, "x")))
    assert list(found) == [
        "Press 7",
        "Coils (FC 01, 05, 0F)",
        "Holding registers (FC 03, 06, 10, 16, 17)",
        "Input registers (FC 04)",
        "Files (FC 14, 15)",
        "Queues (FC 18)",
        "When nobody is heard",
    ]
    for rows in found.values():
        assert set(rows[1]) == {"---"}
        assert {len(row) for row in rows} == {len(rows[0])}
    identity, coils, holding, inputs, files, queues, safe = (rows[2:] for rows in found.values())
    assert identity[0] == ["0x00", "vendor name", r"Plant \| Söhne"] and identity[-1] == ["0x90", "", "own"]
    assert coils == [
        ["0", "00001", "`pump`", "bit", "", "", "read-write", "", r"back\\slash \\\| and \| bar"]
    ]
    assert holding[0][:4] == ["1 to 3", "40002", "`steps`", "uint16 x 3"]
    assert holding[1][:8] == [
        "4 to 9",
        "40005",
        "`curve`",
        "float32 CDAB x 3",
        "l",
        "at most 1000000000 l",
        "read-write",
        "0.1 l",
    ]
    assert holding[2][3:] == [
        "int16, value = raw * -0.1 + 40",
        "degC",
        "at least -4.5 degC",
        "read-write, retained",
        "20.0 degC",
        'of the outlet, "warm" one',
    ]
    assert inputs[0][-2:] == ["fault", "bit 0 run; bit 3 fault"]
    assert inputs[1][3] == "string of 7 bytes"
    assert files == [["2", "recipes", "500", "read-write"]] and queues == [["100", "samples", "31"]]
    assert safe == [["pump", "off"], ["level", "15.0 degC"]]


@pytest.mark.parametrize("text", ["", "[communication]\ntimeout_s = 5\n", '[device]\nrevision = "1"\n'])
def test_a_page_of_nothing(text):
    page = markdown(parse(text, "x"))
    assert page.startswith("# Modbus device\n") and page.endswith(".\n")
    assert "##" not in page
    assert csv(parse(text, "x")) == ",".join(COLUMNS) + "\n"


def test_the_example_of_the_manual_is_right():
    manual = Path(__file__, "../../../docs/map.md").resolve().read_text(encoding="utf-8")
    lines = manual.split("## Writing one")[1].split("Keys that")[0].splitlines()
    device = parse("\n".join(line.removeprefix("    ") for line in lines), "docs/map.md")
    assert len(device.points) == 5 and len(device.files) == len(device.fifos) == 1
    assert len(build(device)) < 2000
