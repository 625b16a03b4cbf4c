"""The command line: table, streams, exit codes, JSON envelope, colours. Real processes; no board."""

import json
import os
import re
import subprocess
import sys
import tempfile

import pytest

from hardwire_host.cli import COMMANDS

ENVELOPE = ("schema", "ok", "tool", "target", "error")
COMMAND_LINES = [row[0].split() for row in COMMANDS]


@pytest.fixture
def runtime():
    """XDG_RUNTIME_DIR: short, because sockets are made in it."""
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        yield folder


@pytest.fixture
def hardwire(runtime):
    """Run `hardwire ARGUMENTS`; returns (exit code, stdout, stderr). No board of any kind, no terminal."""

    def run(*arguments, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HARDWIRE_")}
        for key in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            clean.pop(key, None)
        done = subprocess.run(
            [sys.executable, "-m", "hardwire_host.cli", *arguments],
            capture_output=True,
            check=False,
            text=True,
            env=clean | {"XDG_RUNTIME_DIR": runtime} | environment,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_first_screen_has_five_examples_and_every_command(hardwire):
    code, out, err = hardwire()
    assert (code, err) == (0, "")
    assert len(re.findall(r"^  hardwire ", out, re.MULTILINE)) == 5
    for words in COMMAND_LINES:
        assert re.search(rf"^  {words[0]}\b", out, re.MULTILINE)


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_help_has_examples_and_the_shared_options(hardwire, words):
    code, out, err = hardwire(*words, "--help")
    assert (code, err) == (0, "")
    assert f"  hardwire {' '.join(words)}" in out.split("Examples:")[1].split("Options:")[0]
    for option in ("--json", "--verbose", "--color"):
        assert option in out


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_json_is_one_object_for_every_command(hardwire, words):
    # A wrong option: every command fails alike, before it does anything.
    code, out, err = hardwire(*words, "1", "1", "1", "--no-such-option", "--json")
    assert (code, err) == (2, "")
    assert out.count("\n") == 1
    answer = json.loads(out)
    assert tuple(answer)[: len(ENVELOPE)] == ENVELOPE
    assert answer["schema"] == 1
    assert answer["ok"] is False
    assert answer["error"]["code"] == 2
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["modbus", "read"], 3, "no board found"),
        (["modbus", "read", "holding"], 2, "holding is a table"),
        (["modbus", "read", "10"], 2, "10 is no point"),
        (["modbus", "write"], 2, "Missing argument"),
        (["modbus", "read", "registers", "0"], 2, "there is no table 'registers'"),
        (["modbus", "read", "holding", "x"], 2, "'x' is no address"),
        (["modbus", "read", "holding", "0"], 3, "no board found"),
        (["modbus", "read", "holding", "0", "--host", "a:b:c"], 2, "'a:b:c' is no host"),
        (["modbus", "read", "holding", "0", "--virtual"], 3, "no virtual board found"),
        (["modbus", "read", "holding", "0", "--virtual=b"], 3, "no virtual board named b is running"),
        (["modbus", "read", "holding", "0", "--virtual", "--host", "h"], 2, "--virtual excludes"),
        (["modbus", "read", "holding", "0", "--port", "/dev/null"], 3, "address of the board on /dev/null"),
        (["virtual", "up", "--forward", "502"], 2, "'502' is no forward"),
        (["virtual", "up", "--forward", "1:0"], 2, "'1:0' is no forward"),
        (["virtual", "up", "--board", "pdp11"], 2, "no board is called pdp11"),
        (["virtual", "up", "--config", "/no/such.json"], 2, "/no/such.json: no such file"),
        (["virtual", "up", "--image", "/no/such.uf2"], 2, "there is no image /no/such.uf2"),
        (["virtual", "up", "--image", "/no/such.uf2", "--detach"], 2, "there is no image /no/such.uf2"),
        (["virtual", "up", "--name", "../x"], 2, "'../x' cannot name a virtual board"),
        (["virtual", "up", "--port", "x"], 2, "No such option '--port'"),
        (["--port", "x", "virtual", "up"], 2, "hardwire virtual up takes no --port"),
        (["virtual", "up", "--flash", __file__, "--config", "{config}"], 2, "has a configuration of its own"),
        (["virtual", "down"], 3, "no virtual board is running"),
        (["virtual", "status", "b"], 3, "no virtual board named b is running"),
    ],
)
def test_user_errors_are_one_line_and_a_code(hardwire, tmp_path, arguments, code, message):
    settings = tmp_path / "settings.json"
    settings.write_text("{}")
    arguments = [word.format(config=settings) for word in arguments]
    assert (found := hardwire(*arguments))[:2] == (code, "")
    assert found[2].count("\n") == 1
    assert found[2].startswith("hardwire: ")
    assert message in found[2]
    code_json, out, err = hardwire(*arguments, "--json")
    assert (code_json, err) == (code, "")
    assert message in json.loads(out)["error"]["message"]


@pytest.mark.parametrize("group", ["modbus", "virtual"])
def test_a_bare_group_lists_its_commands(hardwire, group):
    names = [words[1] for words in COMMAND_LINES if words[0] == group]
    code, out, err = hardwire(group)
    assert (code, err) == (0, "")
    assert all(re.search(rf"^  {name} ", out, re.MULTILINE) for name in names)
    assert json.loads(hardwire(group, "--json")[1])["commands"] == names


def test_version(hardwire):
    code, out, err = hardwire("--version")
    assert (code, err) == (0, "")
    assert out == f"hardwire {json.loads(hardwire('--version', '--json')[1])['version']}\n"


def test_nothing_runs(hardwire):
    assert hardwire("virtual", "status") == (0, "", "no virtual board is running\n")
    answer = json.loads(hardwire("virtual", "status", "--json")[1])
    assert (answer["ok"], answer["tool"], answer["boards"]) == (True, "hardwire virtual status", [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "configuration: not valid JSON"),
        ('{"network": {"address": "1.2.3"}}', "configuration: network.address"),
        ('{"services": {"gopher": {}}}', "configuration: services.gopher"),
        ("\udcff", "not valid UTF-8"),
    ],
)
def test_bad_configuration(hardwire, tmp_path, content, message):
    path = tmp_path / "c.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    for detach in ([], ["--detach"]):
        code, out, err = hardwire("virtual", "up", "--config", str(path), *detach)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_doctor_without_a_board(hardwire):
    code, out, err = hardwire("doctor")
    assert (code, err) == (1, "hardwire: 1 of 4 checks failed\n")
    states = {line.split()[1]: line.split()[0] for line in out.splitlines()}
    assert states == {"python": "ok", "packages": "ok", "mpy-cross": "ok", "board": "fail"}
    answer = json.loads(hardwire("doctor", "--json")[1])
    assert [check["state"] for check in answer["checks"]] == ["ok", "ok", "ok", "fail"]
    assert answer["error"]["code"] == 1
    assert all(set(check) == {"name", "state", "text", "mend"} for check in answer["checks"])


@pytest.mark.parametrize(
    ("arguments", "environment", "colored"),
    [
        ([], {}, False),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1", "TERM": "dumb"}, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
        (["--color", "always", "--json"], {}, False),
    ],
)
def test_colors(hardwire, arguments, environment, colored):
    out = hardwire("doctor", *arguments, **environment)[1]
    assert ("\x1b[" in out) is colored


def test_shared_options_stand_before_or_after_the_command(hardwire):
    for arguments in (["--json", "doctor"], ["doctor", "--json"]):
        assert json.loads(hardwire(*arguments)[1])["tool"] == "hardwire doctor"
    for arguments in (["--host", "a:b:c", "doctor"], ["doctor", "--host", "a:b:c"]):
        assert "is no host" in hardwire(*arguments)[1]


def test_a_reader_that_leaves_early_is_no_error(runtime):
    command = f"'{sys.executable}' -m hardwire_host.cli doctor | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": runtime},
    )
    assert "Traceback" not in done.stderr
