"""hardwire map: files and standard input in, files and standard output out, exit codes, one line for what is wrong."""

import csv
import io
import json
import sys

import pytest

from hardwire_host.cli import run
from hardwire_host.errors import FAILED, USAGE
from hardwire_host.map.build import build
from hardwire_host.map.documents import csv as table
from hardwire_host.map.documents import markdown
from hardwire_host.map.model import parse

TOML = """# Ölpresse
[[coils]]
name = "pump"
address = 1

[[holding_registers]]
name = "setpoint"
address = 0
type = "float32"
unit = "°C"
initial = 20

[[holding_registers]]
name = "steps"
address = 10
count = 5
"""
BROKEN = '[[coils]]\nname = "a"\n[[coils]]\naddress = 1\n[[coils]]\nname = "b"\naddress = 7\ncounts = 2\n'


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "press.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


@pytest.fixture
def hardwire(capsys):
    """Run `hardwire map ...`: (exit code, standard output, standard error)."""

    def call(*arguments):
        code = run(["map", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def stdin(monkeypatch):
    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return give


def forms(name, toml, stdin):
    """The map as a file, as map.bin, by standard input in either form: what to call MAP."""
    data = {"toml": TOML.encode(), "marked": b"\xef\xbb\xbf" + TOML.encode(), "bin": build(parse(TOML, "x"))}
    if name.startswith("-"):
        stdin(data[name[1:]])
        return "-"
    path = toml.parent / "a map"
    path.write_bytes(data[name])
    return path


FORMS = ("toml", "marked", "bin", "-toml", "-marked", "-bin")


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_a_map(form, toml, stdin, hardwire):
    code, out, err = hardwire("docs", forms(form, toml, stdin))
    assert (code, out, err) == (0, markdown(parse(TOML, "x")), "")


def test_check(toml, hardwire):
    code, out, err = hardwire("check", toml)
    size = len(build(parse(TOML, "x")))
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["coils", "1", "in", "1", "points,", "addresses", "1"] in lines
    assert ["holding_registers", "7", "in", "2", "points,", "addresses", "0-1,", "10-14"] in [
        line[:8] for line in lines
    ]
    assert "(gaps 2-9)" in out and any(line[0] == "heap" for line in lines)
    assert any(line[:5] == ["map.bin", str(size), "bytes", "of", "20000"] for line in lines)


def test_check_json(toml, hardwire):
    code, out, err = hardwire("check", toml, "--json")
    answer = json.loads(out)
    assert (code, err, answer["ok"], answer["tool"]) == (0, "", True, "hardwire map check")
    assert (answer["points"], answer["bytes"]) == (3, len(build(parse(TOML, "x"))))
    holding = answer["tables"]["holding_registers"]
    assert (holding["points"], holding["values"], holding["ranges"]) == (2, 7, [[0, 1], [10, 14]])
    assert holding["gaps"] == [[2, 9]] and answer["heap"] > 0
    assert answer["tables"]["input_registers"]["ranges"] == []


PROBLEMS = ["a: has no address", "coils 2: has no name", "b: unknown key 'counts'; 'count'?"]


def test_check_shows_every_problem_and_ends_with_one_line(toml, hardwire):
    toml.write_text(BROKEN)
    code, out, err = hardwire("check", toml)
    assert (code, out) == (USAGE, "")
    lines = err.splitlines()
    assert lines[:-1] == PROBLEMS[:-1]
    assert lines[-1] == f"hardwire: {toml}: {PROBLEMS[-1]} (3 problems)"
    code, out, err = hardwire("check", toml, "--json")
    answer = json.loads(out)
    assert (code, err, answer["ok"], answer["problems"]) == (USAGE, "", False, PROBLEMS)


@pytest.mark.parametrize("command", ["build", "docs", "csv"])
def test_other_commands_say_the_first_problem(command, toml, hardwire):
    toml.write_text(BROKEN)
    code, out, err = hardwire(command, toml)
    assert (code, out) == (USAGE, "")
    assert err == f"hardwire: {toml}: {PROBLEMS[0]} (and 2 more) (hardwire map check)\n"
    assert not (toml.parent / "map.bin").exists()


BAD = (  # what is in the file, what is said behind its name
    (b"\xff\xfe[\0", ": not valid UTF-8"),
    (b"HWM1", " is damaged: its checksum is wrong"),
    (b"HWM1\0\0\0\0", " does not hold the text it was built from"),
    (b"HWM1" + bytes(99), " is damaged: its checksum is wrong"),
    (b"PK\3\4", None),
    (b"x = " + b"[" * 9000, None),
    (b"x = " + b"9" * 9000, None),
    (b'"\\u001b[2J" = 1', r": unknown key '\x1b[2J'"),
)


@pytest.mark.parametrize(("data", "words"), BAD)
@pytest.mark.parametrize("command", ["check", "csv"])
def test_bad_files_cost_one_line(command, data, words, toml, hardwire):
    toml.write_bytes(data)
    code, out, err = hardwire(command, toml)
    assert (code, out, err.count("\n")) == (USAGE, "", 1)
    assert err.startswith(f"hardwire: {toml}") and err.rstrip("\n").isprintable()
    if words is not None:
        assert err == f"hardwire: {toml}{words}\n"


def test_files_that_are_not_there(tmp_path, hardwire):
    for path in (tmp_path / "none", tmp_path):
        code, out, err = hardwire("check", path)
        assert (code, out) == (USAGE, "") and err.startswith(f"hardwire: {path}: ") and err.count("\n") == 1


def test_build_writes_beside_the_map_or_where_it_is_told(toml, hardwire):
    data = build(parse(TOML, "x"))
    for arguments, place in (((), toml.parent / "map.bin"), (("-o", toml.parent / "o"), toml.parent / "o")):
        code, out, err = hardwire("build", toml, *arguments)
        assert (code, out, err) == (0, f"{place}: {len(data)} bytes\n", "")
        assert place.read_bytes() == data
    code, out, _ = hardwire("build", toml.parent / "map.bin", "-o", toml.parent / "again", "--json")
    answer = json.loads(out)
    assert (code, answer["file"], answer["bytes"]) == (0, str(toml.parent / "again"), len(data))
    assert (toml.parent / "again").read_bytes() == data


def test_build_to_standard_output(toml, capsysbinary):
    assert run(["map", "build", str(toml), "-o", "-"]) == 0
    assert capsysbinary.readouterr() == (build(parse(TOML, "x")), b"")
    assert [path.name for path in toml.parent.iterdir()] == ["press.toml"]


def test_standard_output_takes_one_of_json_and_map_bin(toml, hardwire):
    code, out, err = hardwire("build", toml, "-o", "-", "--json")
    answer = json.loads(out)
    assert (code, err, answer["error"]["message"]) == (USAGE, "", "--json has standard output for itself")


def test_build_of_standard_input_writes_here(toml, stdin, hardwire, monkeypatch):
    monkeypatch.chdir(toml.parent)
    stdin(TOML.encode())
    assert hardwire("build", "-")[0] == 0
    assert (toml.parent / "map.bin").read_bytes() == build(parse(TOML, "x"))


DOCUMENTS = (("docs", "markdown", markdown), ("csv", "csv", table))


@pytest.mark.parametrize(("command", "key", "make"), DOCUMENTS)
def test_documents(command, key, make, toml, hardwire):
    text = make(parse(TOML, "x"))
    for arguments in ((), ("-o", "-")):
        assert hardwire(command, toml, *arguments) == (0, text, "")
    place = toml.parent / "out"
    assert hardwire(command, toml, "-o", place) == (0, f"{place}: {len(text.encode())} bytes\n", "")
    assert place.read_text(encoding="utf-8") == text
    assert json.loads(hardwire(command, toml, "--json")[1])[key] == text
    assert json.loads(hardwire(command, toml, "--json", "-o", place)[1])["file"] == str(place)


def test_the_csv_is_one(toml, hardwire):
    rows = list(csv.DictReader(io.StringIO(hardwire("csv", toml)[1])))
    assert [(row["name"], row["reference"], row["initial"], row["unit"]) for row in rows] == [
        ("pump", "00002", "", ""),
        ("setpoint", "40001", "20", "°C"),
        ("steps", "40011", "", ""),
    ]


@pytest.mark.parametrize("command", ["build", "docs", "csv"])
def test_a_place_that_cannot_be_written(command, toml, hardwire):
    place = toml.parent / "no" / "out"
    code, out, err = hardwire(command, toml, "-o", place)
    assert (code, out) == (FAILED, "")
    assert err.startswith(f"hardwire: {place}: ") and err.count("\n") == 1
