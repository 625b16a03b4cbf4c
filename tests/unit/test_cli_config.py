"""`hardwire config` on files of this PC, and what settings.py makes of keys, values and files. No board."""

import io
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from hardwire import config
from hardwire_host import cli, settings
from hardwire_host.settings import HIDDEN, UNSET

SECRET = "a key of this plant"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plant.json"


@pytest.fixture
def hardwire(path, capsys):
    """Run `hardwire config ARGUMENTS --file plant.json`; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = cli.run(["config", *map(str, arguments), "--file", str(path)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def answer(hardwire):
    """The same with --json; returns (exit code, the object)."""

    def run(*arguments):
        code, out, err = hardwire(*arguments, "--json")
        assert err == "" and out.count("\n") == 1
        return code, json.loads(out)

    return run


def given(path):
    return json.loads(path.read_text())


# Values


VALUES = (
    ("name", "press-4", "press-4"),
    ("name", "5", "5"),  # a text that looks like a number
    ("name", '"press-4"', "press-4"),
    ("key", "null", "null"),
    ("key", "päss wörd 🔑", "päss wörd 🔑"),
    ("network.mode", "dhcp", "dhcp"),
    ("network.mac", "null", None),
    ("network.mac", "02:00:00:12:34:56", "02:00:00:12:34:56"),
    ("services.modbus.port", "1502", 1502),
    ("services.modbus.allow", "10.0.0.0/8, 10.1.1.1", ["10.0.0.0/8", "10.1.1.1"]),
    ("services.modbus.allow", '["10.0.0.0/8"]', ["10.0.0.0/8"]),
    ("services.modbus.allow", "", []),
)


@pytest.mark.parametrize(("key", "text", "value"), VALUES)
def test_values_have_the_type_that_the_key_wants_and_read_back_as_they_are(hardwire, path, key, text, value):
    assert hardwire("set", f"{key}={text}")[0] == 0
    assert settings.find(given(path), key) == value
    code, out, err = hardwire("get", key, "--reveal")
    assert (code, err) == (0, "")
    assert settings.typed(key, out.removesuffix("\n")) == value


REFUSED = (
    ("name=a b", "name: expected letters, digits and hyphens"),
    ("network.mode=auto", "network.mode: expected one of: static, dhcp"),
    ("network.address=300.1.1.1", "network.address: expected an IPv4 address"),
    ("services.modbus.port=x", "services.modbus.port: expected a whole number from 1 to 65535"),
    ("services.modbus.port=502.0", "services.modbus.port: expected a whole number"),
    ("services.modbus.port=" + "9" * 5000, "services.modbus.port: expected a whole number"),
    ("services.modbus.allow=10.0.0.0/33", "services.modbus.allow: expected a network such as"),
    ("services.modbus.allow=[1]", "services.modbus.allow: expected an IPv4 address"),
    ("services.modbus.allow=" + "[" * 3000, "services.modbus.allow: expected a list"),
    ("name=\udcff", "name: not valid UTF-8"),
    ("network.address", "'network.address' is no KEY=VALUE"),
    ("network=static", "network is a group of keys (such as network.mode)"),
    ("mode=dhcp", "mode: unknown key (did you mean network.mode?)"),
    ("modbus.port=1502", "modbus.port: unknown key (did you mean services.modbus.port?)"),
    ("network.netmsk=255.0.0.0", "network.netmsk: unknown key (did you mean network.netmask?)"),
    ("zzzzzz=1", "zzzzzz: unknown key (hardwire config show lists the keys)"),
    ("key=@/no/such/file", "/no/such/file: no such file"),
)


@pytest.mark.parametrize(("assignment", "message"), REFUSED)
def test_what_is_refused_is_refused_before_anything_is_written(hardwire, path, assignment, message):
    code, out, err = hardwire("set", "name=good", assignment)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not path.exists()


def test_keys_that_exclude_each_other(hardwire, path):
    code, _, err = hardwire("set", "services.echo.connections=1", "services.echo.port=502")
    assert code == 2 and "502 is the port of modbus" in err and not path.exists()


# Files


def test_set_unset_show(hardwire, answer, path):
    code, out, err = hardwire("set", "network.mode=dhcp", "services.modbus.port=1502", "name=press-4")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "name: hardwire -> press-4",
        "network.mode: static -> dhcp",
        "services.modbus.port: 502 -> 1502",
    ]
    _, shown = answer("show")
    assert shown["settings"] == config.parse(path.read_text())
    assert {key for key, origin in shown["origins"].items() if origin == "file"} == {
        "name",
        "network.mode",
        "services.modbus.port",
    }
    lines = hardwire("show", "--origin")[1].splitlines()
    assert ["file", "network.mode", "dhcp"] in [line.split() for line in lines]
    assert ["default", "network.address", "192.168.77.20"] in [line.split() for line in lines]
    assert hardwire("get", "network.mode", "--origin")[1] == "file\tdhcp\n"

    assert answer("unset", "services", "name")[1]["changed"] == [
        {"key": "name", "before": "press-4", "after": "hardwire"},
        {"key": "services.modbus.port", "before": 1502, "after": 502},
    ]
    assert given(path) == {"network": {"mode": "dhcp"}}
    before = path.stat().st_mtime_ns
    assert hardwire("unset", "name") == (0, "", "nothing to change\n")
    assert hardwire("set", "network.mode=dhcp") == (0, "", "nothing to change\n")
    assert path.stat().st_mtime_ns == before


def test_show_lists_every_key_of_the_schema(hardwire, path):
    path.write_text("{}")
    assert [line.split()[0] for line in hardwire("show")[1].splitlines()] == list(settings.RULES)


def test_a_value_equal_to_the_default_is_from_the_file(hardwire, path):
    path.write_text('{"name": "hardwire"}')
    assert hardwire("get", "name", "--origin")[1] == "file\thardwire\n"


@pytest.mark.parametrize("command", [["show"], ["get", "name"], ["pull"]])
def test_reading_needs_a_file(hardwire, command):
    code, out, err = hardwire(*command)
    assert (code, out) == (2, "") and "no such file" in err


def test_a_file_and_a_board_exclude_each_other(hardwire):
    code, _, err = hardwire("show", "--port", "x")
    assert (code, err) == (2, "hardwire: --file excludes --port, --host and --virtual\n")


BROKEN = (
    ("", "not valid JSON; the default of every key is in use"),
    ("[]", "configuration: expected an object in braces; the default of every key is in use"),
    ("\udcff{}", "not valid UTF-8; the default of every key is in use"),
    ("[" * 4000, "not valid JSON; the default of every key is in use"),
    (" " * 5000, "longer than 4096 bytes; the default of every key is in use"),
    ('{"gopher": 1}', "gopher: unknown key"),
)


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_broken_files_are_shown_and_replaced(hardwire, answer, path, text, message):
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, out, err = hardwire("show", "--origin")
    assert code == 0 and message in err and err.count("\n") == 1
    assert all(line.startswith("default") for line in out.splitlines())
    code, shown = answer("show")
    assert code == 0 and shown["problem"] and shown["settings"] == config.defaults()

    new = path.with_name("new.json")
    new.write_text('{"name": "mended"}')
    assert answer("diff", new)[0] == 1
    assert hardwire("push", new)[0] == 0
    assert given(path) == {"name": "mended"}
    assert answer("show")[1]["problem"] is None


def test_a_value_that_is_wrong_costs_its_key_alone(hardwire, answer, path):
    path.write_text('{"network": {"address": "300.1.1.1", "gateway": "10.0.0.1"}, "name": "press-4"}')
    code, _, err = hardwire("show")
    assert code == 0 and "such as 192.168.77.20; defaults are in use: network.address=192.168.77.20" in err
    settings = answer("show")[1]["settings"]
    assert (settings["name"], settings["network"]["gateway"]) == ("press-4", "10.0.0.1")
    assert settings["network"]["address"] == "192.168.77.20"


def test_set_replaces_what_cannot_be_read_and_says_so(hardwire, path):
    path.write_text('{"name": ')
    code, out, err = hardwire("set", "network.mode=dhcp")
    assert (code, out) == (0, "network.mode: static -> dhcp\n")
    assert err.splitlines()[-1].endswith("was not readable; all of it was replaced")
    assert given(path) == {"network": {"mode": "dhcp"}}


def test_set_keeps_what_is_good_in_a_broken_file_and_mends_the_rest(hardwire, path):
    text = '{"network": 5, "gopher": {"port": 70}, "name": "press-4", "board": "X"}'
    path.write_text(text)
    code, _, err = hardwire("set", "network.mode=dhcp")
    assert code == 2 and "`unset` mends" in err
    assert path.read_text() == text
    code, _, _ = hardwire("unset", "gopher")
    assert code == 2  # there is more
    assert hardwire("unset", "gopher", "network", "board")[0] == 0
    assert given(path) == {"name": "press-4"}


def test_one_bad_key_is_mended_by_setting_it(hardwire, path):
    path.write_text('{"network": 5, "name": "press-4"}')
    assert hardwire("set", "network.mode=dhcp")[0] == 0
    assert given(path) == {"network": {"mode": "dhcp"}, "name": "press-4"}


def test_push_from_stdin_and_pull_to_stdout_are_exact(hardwire, path, monkeypatch):
    text = '{ "name":   "press-4" }\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert hardwire("push", "-") == (0, "name: hardwire -> press-4\n", "")
    assert path.read_text() == text
    assert hardwire("pull")[:2] == (0, text)
    copy = path.with_name("copy.json")
    assert hardwire("pull", copy)[0] == 0
    assert copy.read_bytes() == path.read_bytes()
    assert sorted(os.listdir(path.parent)) == ["copy.json", "plant.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (
            '{"network": {"netmsk": "255.0.0.0"}}',
            "network.netmsk: unknown key (did you mean network.netmask?)",
        ),
        ('{"name": "\\udcff"}', "name: expected letters"),
        ('{"key": {"hidden": true}}', "key is hidden, and there is no value that could stay"),
        ('{"name": {"hidden": true}}', "name is hidden"),
    ],
)
def test_push_checks_first(hardwire, path, text, message):
    path.write_text('{"board": "w5500_evb_pico"}')
    new = path.with_name("new.json")
    new.write_text(text)
    code, out, err = hardwire("push", new)
    assert (code, out) == (2, "") and message in err
    assert given(path) == {"board": "w5500_evb_pico"}


def test_diff_is_as_diff(hardwire, path):
    path.write_text('{"name": "press-4"}')
    new = path.with_name("new.json")
    new.write_text('{"name": "press-4", "network": {"mode": "static"}}')  # the default, said aloud
    assert hardwire("diff", new) == (0, "", "")
    new.write_text('{"services": {"modbus": {"port": 1502}}}')
    code, out, err = hardwire("diff", new)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        *(f"--- {path}", f"+++ {new}"),
        *("-name=press-4", "+name=hardwire"),
        *("-services.modbus.port=502", "+services.modbus.port=1502"),
    ]
    new.write_text("{")
    assert hardwire("diff", new)[0] == 2
    assert hardwire("diff", path.with_name("none"))[0] == 2


def test_a_link_and_a_mode_stay(hardwire, path):
    real = path.with_name("real.json")
    real.write_text("{}")
    real.chmod(0o640)
    path.symlink_to(real)
    assert hardwire("set", "name=x")[0] == 0
    assert path.is_symlink() and given(real) == {"name": "x"}
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_written(hardwire, path):
    path.mkdir()
    code, out, err = hardwire("set", "name=x")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_full_file_is_packed_before_it_is_refused(hardwire, path):
    addresses = [f"10.{n}.{n}.{n}/32" for n in range(100, 100 + config.NETWORKS_MAX)]
    lists = [
        f"services.{name}.{key}={','.join(addresses)}"
        for name in config.SCHEMA["services"]
        for key in ("allow", "priority")
    ]
    assert hardwire("set", f"key={'x' * 64}", *lists)[0] == 0
    assert len(path.read_bytes()) <= config.MAX_BYTES
    assert len(json.dumps(given(path), indent=2)) > config.MAX_BYTES


# Secrets


@pytest.fixture
def secret(path):
    path.write_text(json.dumps({"name": "press-4", "key": SECRET}))
    return path


def test_secrets_are_shown_on_demand_only(hardwire, secret):
    new = secret.with_name("new.json")
    new.write_text('{"key": "another one"}')
    for command in (["show"], ["pull"], ["diff", new], ["set", "name=x"]):
        for more in ([], ["--json"]):
            code, out, err = hardwire(*command, *more)
            assert code in (0, 1) and out
            assert SECRET not in out + err and "another one" not in out + err, command
    for command in (["show"], ["get", "key"], ["pull"], ["diff", new]):
        assert SECRET in hardwire(*command, "--reveal")[1]
    code, out, err = hardwire("get", "key")
    assert (code, out, err) == (1, "", "hardwire: key is a secret (--reveal prints it)\n")
    secret.write_text("{}")
    assert hardwire("get", "key")[:2] == (0, "null\n")


def test_a_secret_from_a_file(hardwire, path):
    word = path.with_name("plant.key")
    word.write_text(SECRET + "\n")
    assert hardwire("set", f"key=@{word}") == (0, "key: null -> (hidden)\n", "")
    assert given(path) == {"key": SECRET}
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_printed_can_be_pushed_where_it_came_from(hardwire, secret, monkeypatch):
    printed = hardwire("pull")[1]
    assert json.loads(printed)["key"] == HIDDEN
    new = secret.with_name("new.json")
    new.write_text(printed.replace("press-4", "press-5"))
    assert hardwire("diff", new)[1].splitlines()[2:] == ["-name=press-4", "+name=press-5"]
    assert hardwire("push", new)[0] == 0
    assert given(secret) == {"name": "press-5", "key": SECRET}
    with pytest.raises(config.ConfigError):  # and nowhere else
        config.parse(printed)


def test_a_pulled_file_is_complete_and_private(hardwire, secret):
    copy = secret.with_name("copy.json")
    assert hardwire("pull", copy)[0] == 0
    assert copy.read_bytes() == secret.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_broken_file_may_hold_secrets(hardwire, path):
    path.write_text(f'{{"key": "{SECRET}"')
    code, out, err = hardwire("pull")
    assert (code, out) == (1, "") and SECRET not in err and "nobody knows what in it is secret" in err
    assert SECRET in hardwire("pull", "--reveal")[1]
    copy = path.with_name("copy.json")
    assert hardwire("pull", copy)[0] == 0
    assert copy.stat().st_mode & 0o777 == 0o600


# The editor


@pytest.fixture
def editor(tmp_path, monkeypatch):
    """editor(expression): $EDITOR makes of its n-th page, in `page`, what the expression says; pages() are kept."""
    monkeypatch.delenv("VISUAL", raising=False)
    pages = tmp_path / "pages"
    pages.mkdir()

    def use(expression):
        program = tmp_path / "editor.py"
        program.write_text(
            "import os, pathlib, sys\n"
            f"path, pages = pathlib.Path(sys.argv[1]), pathlib.Path({str(pages)!r})\n"
            "page = path.read_text()\n"
            "n = len(os.listdir(pages))\n"
            "(pages / str(n)).write_text(page)\n"
            f"path.write_text({expression})\n"
        )
        monkeypatch.setenv("EDITOR", shlex.join([sys.executable, str(program)]))

    use.pages = lambda: [(pages / str(n)).read_text() for n in range(len(os.listdir(pages)))]
    return use


def test_edit(hardwire, path, editor):
    path.write_text('{"name": "press-4"}')
    editor("page.replace('press-4', 'press-5')")
    assert hardwire("edit") == (0, "name: press-4 -> press-5\n", "")
    assert given(path) == {"name": "press-5"}
    (page,) = editor.pages()
    assert '#   network.mode = "static"' in page.splitlines()


def test_edit_makes_a_file(hardwire, path, editor):
    editor("""page.replace('{}', '{"name": "press-5"}')""")
    assert hardwire("edit")[0] == 0
    assert given(path) == {"name": "press-5"}


def test_visual_comes_first(hardwire, path, editor, monkeypatch):
    path.write_text('{"name": "press-4"}')
    editor("page.replace('press-4', 'press-5')")
    monkeypatch.setenv("VISUAL", os.environ["EDITOR"])
    monkeypatch.setenv("EDITOR", "false")
    assert hardwire("edit")[0] == 0


@pytest.mark.parametrize("expression", ["page", "''", "'# nothing\\n'"])
def test_edit_of_nothing(hardwire, secret, editor, expression):
    before = secret.read_text()
    editor(expression)
    assert hardwire("edit") == (0, "", "nothing to change\n")
    assert secret.read_text() == before


def test_a_mistake_opens_the_editor_again_and_says_why(hardwire, path, editor):
    path.write_text('{"name": "press-4"}')
    editor("page.replace(*(('press-4', 'a b'), ('a b', 'a_b'), ('a_b', 'press-5'))[n])")
    assert hardwire("edit")[0] == 0
    assert given(path) == {"name": "press-5"}
    wrong = [page.partition("# WRONG: ")[2].partition("\n")[0] for page in editor.pages()]
    assert wrong == [""] + [
        f"configuration: name: expected letters, digits and hyphens, not '{c}'" for c in " _"
    ]


def test_who_leaves_a_mistake_gets_an_error_and_keeps_the_text(hardwire, path, editor):
    path.write_text('{"name": "press-4"}')
    editor("page.replace('press-4', 'a b')")
    code, out, err = hardwire("edit")
    assert (code, out) == (2, "")
    kept = Path(err.partition("what you wrote is in ")[2].rstrip(")\n"))
    assert '"a b"' in kept.read_text()
    assert len(editor.pages()) == 2
    assert given(path) == {"name": "press-4"}
    kept.unlink()
    kept.parent.rmdir()


def test_secrets_stay_out_of_the_editor(hardwire, secret, editor):
    editor("page.replace('press-4', 'press-5')")
    assert hardwire("edit")[0] == 0
    assert given(secret) == {"name": "press-5", "key": SECRET}
    assert hardwire("edit", "--reveal")[0] == 0
    hidden, revealed = editor.pages()
    assert SECRET not in hidden and SECRET in revealed


def test_a_broken_file_is_mended_in_the_editor(hardwire, path, editor):
    path.write_text('{"name": "press-4"')
    editor("page.replace('press-4\"', 'press-4\"}')")
    assert hardwire("edit")[0] == 0
    assert given(path) == {"name": "press-4"}
    assert "# WRONG: not valid JSON" in editor.pages()[0]


@pytest.mark.parametrize("program", ["false", "/no/such/editor"])
def test_an_editor_that_fails(hardwire, path, monkeypatch, program):
    path.write_text("{}")
    monkeypatch.setenv("VISUAL", program)
    code, out, err = hardwire("edit")
    assert (code, out, err.count("\n")) == (1, "", 1) and "Editing failed" in err


# Logic that only boards need


@pytest.mark.parametrize(
    ("before", "after", "sentences"),
    [
        ({}, {"name": "x"}, []),
        ({}, {"network.address": "10.0.0.7"}, ["moves from 192.168.77.20 to 10.0.0.7"]),
        ({}, {"network.mode": "dhcp"}, ["moves from 192.168.77.20 to an address from DHCP"]),
        ({"network.mode": "dhcp"}, {}, ["moves from an address from DHCP to 192.168.77.20"]),
        ({"network.mode": "dhcp"}, {"network.mode": "dhcp", "network.address": "10.0.0.7"}, []),
        (
            {"network.mode": "dhcp"},
            {"network.mode": "dhcp", "network.mac": "02:00:00:00:00:01"},
            ["another IP address"],
        ),
        ({}, {"services.modbus.port": 1502}, ["modbus moves from port 502 to 1502"]),
        ({}, {"services.echo.port": 1007}, []),  # off
    ],
)
def test_where_a_board_goes(before, after, sentences):
    sides = [settings.read(json.dumps(settings.nest(side)).encode()) for side in (before, after)]
    found = settings.moves(*sides)
    assert len(found) == len(sentences)
    assert all(part in sentence for part, sentence in zip(sentences, found, strict=True))


def test_a_board_of_another_version():
    """It has a secret that this PC does not know, and lacks a key; its JSON parser takes what is no JSON."""
    effective = {"name": "x", "files": {"password": "pass"}, "network": config.defaults()["network"]}
    found = settings.understand(
        b'{"name" "x", "files": {"password" "pass"}}', effective, None, ["files.password"]
    )
    assert found.given == {"name": "x", "files": {"password": "pass"}}
    assert found.warning() == found.problem == "not valid JSON, though the board reads it"
    assert (found.shown("files.password", False), found.origin("files.password")) == (HIDDEN, "file")
    assert "services.modbus.port" not in found.effective
    assert [each.key for each in settings.differences(found, settings.read(b"{}"))] == [
        "name",
        "files.password",
    ]


def test_changing_leaves_the_original_alone():
    original = {"network": {"mode": "dhcp"}, "name": "x"}
    assert settings.change(original, {"network.mode": UNSET, "name": "y"}) == {"name": "y"}
    assert original == {"network": {"mode": "dhcp"}, "name": "x"}


def test_the_schema_marks_a_secret():
    assert "key" in settings.SECRETS
