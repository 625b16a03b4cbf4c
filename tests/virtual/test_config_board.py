"""`hardwire config` on the emulated board: what the board says of its file, what it takes, and its app afterwards."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hardwire import config
from hardwire_host import bundle as bundles
from hardwire_host.clients.modbus import HOLDING, INPUT, ModbusClient
from hardwire_host.errors import INTERRUPTED, OK, USAGE, WRONG_BOARD, HardwireError
from hardwire_host.health import wait_for
from hardwire_host.settings import DEFAULTS
from hardwire_host.settings_store import BoardFile
from hardwire_host.target import Target, at_prompt, session

BOARD = "w5500_evb_pico"
GIVEN = {"board": BOARD, "network": {"address": "192.168.77.30"}, "key": "a key of this plant"}
WAIT_S = 300  # for anything an emulated board does; a PC under load is slow


class Bench:
    """`hardwire config` for one board, in processes of their own; and what the board then serves."""

    def __init__(self, live) -> None:
        self.live = live
        self.place = ("127.0.0.1", live.forward(502))
        self.target = Target("serial", live.repl, port=live.repl)
        self.store = BoardFile(self.target)
        self._environment = {
            name: os.environ[name] for name in os.environ if not name.startswith("HARDWIRE_")
        }

    def start(self, *arguments, **environment) -> subprocess.Popen:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hardwire_host.cli",
                "config",
                *map(str, arguments),
                "--port",
                self.live.repl,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment | environment,
        )

    def __call__(self, *arguments, **environment) -> tuple[int, dict]:
        """Run it; exit code and the object it prints."""
        process = self.start(*arguments, "--json", **environment)
        output, words = process.communicate(timeout=WAIT_S)
        assert (words, output.count("\n")) == ("", 1)
        return process.returncode, json.loads(output)

    def serves(self) -> bool:
        """Whether the app answers, sooner or later."""
        if wait_for({"modbus": self.place}, WAIT_S):
            return False
        with ModbusClient(*self.place, timeout=WAIT_S) as client:
            return client.read(HOLDING, 0) == [0]

    def put(self, data: bytes) -> None:
        """Write the board's file past all checks; the next command starts the app."""
        with session(self.target) as transport:
            transport.exec(f"with open('/config.json', 'wb') as f: f.write({data!r})")

    def content(self) -> dict[str, bytes]:
        return bundles.unpack(BOARD, self.live.do(self.live.board.filesystem))

    def file(self) -> dict:
        return json.loads(self.content()["config.json"])


@pytest.fixture(scope="module")
def shared(boot):
    live = boot(filesystem=bundles.build_filesystem(BOARD, json.dumps(GIVEN)))
    live.wait_listening(502)
    return Bench(live)


@pytest.fixture
def bench(shared):
    """The board with GIVEN in its file, whatever the test before did."""
    if shared.content()["config.json"] != json.dumps(GIVEN).encode():
        shared.put(json.dumps(GIVEN).encode())
    return shared


def test_show_says_what_the_board_uses_and_where_it_comes_from(bench):
    code, answer = bench("show")
    assert (code, answer["target"], answer["problem"]) == (0, bench.live.repl, None)
    assert answer["settings"] == config.parse(json.dumps(GIVEN)) | {"key": {"hidden": True}}
    from_file = [key for key, origin in answer["origins"].items() if origin == "file"]
    assert from_file == ["board", "key", "network.address"]
    assert bench.serves()

    with ModbusClient(*bench.place, timeout=WAIT_S) as client:
        before = client.read(INPUT, 0, 2)
        code, answer = bench("set", "network.address=300.1.1.1")
        assert code == USAGE and "network.address" in answer["error"]["message"]
        assert (
            client.read(INPUT, 0, 2) >= before
        )  # what this PC refuses leaves app (uptime) and connection alone


def test_set_is_on_flash_and_in_use(bench):
    code, answer = bench("set", "network.address=192.168.77.31", "services.modbus.per_peer=3", "name=press-4")
    assert code == 0, answer["error"]
    assert [each["key"] for each in answer["changed"]] == [
        "name",
        "network.address",
        "services.modbus.per_peer",
    ]
    assert answer["moves"] == [
        "the board moves from 192.168.77.30 to 192.168.77.31; `hardwire boards` finds it"
    ]
    assert (answer["written"], answer["restarted"]) == (True, True)
    assert bench.file() == GIVEN | {
        "network": {"address": "192.168.77.31"},
        "services": {"modbus": {"per_peer": 3}},
        "name": "press-4",
    }
    assert bench.serves()
    assert bench.live.status()["address"] == "192.168.77.31"


def test_what_the_board_refuses_is_not_taken(bench):
    """A key of a newer firmware, which this PC has and the board has not; a board file that is not there."""
    before = bench.content()
    for text, words in (
        ('{"gopher": 1}', "gopher: unknown key"),
        ('{"board": "pdp11"}', "no board file pdp11"),
    ):
        with pytest.raises(HardwireError) as caught:
            bench.store.update(lambda present, text=text: text)
        assert caught.value.code == WRONG_BOARD and words in caught.value.message
    assert bench.content() == before


BROKEN = (
    (b'{"name": ', "not valid JSON"),
    (b'{"board": "pdp11"}', "board: no board file pdp11"),
    (b'{"network": {"address": 5}}', "network.address: expected an IPv4 address"),
)


def test_a_broken_file_leaves_the_board_reachable_and_is_mended(bench):
    for data, problem in BROKEN:
        bench.put(data)
        present = bench.store.read()
        assert problem in present.problem
        assert present.effective == DEFAULTS
    assert bench.serves()  # with the defaults
    assert bench.live.status()["address"] == DEFAULTS["network.address"]
    code, answer = bench("set", f"board={BOARD}", "network.address=192.168.77.31")
    assert (code, answer["written"]) == (0, True), answer["error"]
    assert bench.file() == {"board": BOARD, "network": {"address": "192.168.77.31"}}


def test_what_only_micropython_takes_for_json_is_used_and_kept(bench):
    bench.put(b'{"name" "press-4" "network" {"address" "192.168.77.31"}}')
    code, answer = bench("show")
    assert (code, answer["problem"]) == (0, "not valid JSON, though the board reads it")
    assert [key for key, origin in answer["origins"].items() if origin == "file"] == [
        "name",
        "network.address",
    ]
    assert bench("set", "services.modbus.per_peer=3")[0] == 0
    given = {"name": "press-4", "network": {"address": "192.168.77.31"}}
    assert bench.file() == given | {"services": {"modbus": {"per_peer": 3}}}


def test_no_file_is_no_problem(bench):
    with session(bench.target) as transport:
        transport.exec("import os; os.remove('/config.json')")
    code, answer = bench("show")
    assert (code, answer["problem"], answer["settings"]) == (0, None, config.defaults())
    assert bench("set", "name=press-4")[0] == 0
    assert bench.file() == {"name": "press-4"}


def test_pull_push_diff(bench, tmp_path):
    path = tmp_path / "plant.json"
    assert bench("pull", path)[0] == 0
    assert path.read_bytes() == bench.content()["config.json"]
    assert bench("diff", path)[0] == 0
    path.write_text('{"name": "press-4"}')
    code, answer = bench("diff", path)
    assert code == 1 and answer["ok"]
    assert answer["differences"] == [
        {"key": "name", "before": "hardwire", "after": "press-4"},
        {"key": "key", "before": {"hidden": True}, "after": None},
        {"key": "network.address", "before": "192.168.77.30", "after": "192.168.77.20"},
    ]
    assert bench("push", path, "--no-restart")[1]["restarted"] is False
    assert at_prompt(bench.target)
    assert bench.content()["config.json"] == path.read_bytes()


def test_any_text_can_be_a_secret(bench, tmp_path):
    """Bytes that mean something to the REPL, characters of four bytes, quotes."""
    word = tmp_path / "word"
    word.write_text("\x03\x04\x01\"'\\{}%s é 🔑")
    code, answer = bench("set", f"key=@{word}")
    assert code == 0, answer["error"]
    assert bench.file()["key"] == word.read_text()
    assert bench("get", "key", "--reveal")[1]["value"] == word.read_text()


def test_edit(bench, tmp_path):
    program = tmp_path / "editor.py"
    program.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "path.write_text(path.read_text().replace('.30', '.31'))\n"
    )
    code, answer = bench("edit", VISUAL=f"{sys.executable} {program}")
    assert code == 0, answer["error"]
    assert bench.file() == GIVEN | {"network": {"address": "192.168.77.31"}}


def test_somebody_else_was_quicker(bench, tmp_path):
    program = tmp_path / "editor.py"
    program.write_text(
        "import pathlib, sys\n"
        "from hardwire_host.settings_store import BoardFile\n"
        "from hardwire_host.target import Target\n"
        f"BoardFile(Target('serial', 'x', port={bench.live.repl!r})).update(lambda present: '{{}}')\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "path.write_text(path.read_text().replace('.30', '.31'))\n"
    )
    code, answer = bench("edit", VISUAL=f"{sys.executable} {program}", TMPDIR=str(tmp_path))
    assert code == 1 and "somebody else" in answer["error"]["message"]
    assert bench.file() == {}
    (kept,) = tmp_path.glob("hardwire-*/config.json")
    assert "192.168.77.31" in kept.read_text()


def test_ctrl_c_leaves_the_old_or_the_new_file_and_a_running_app(bench):
    """At some moment of it, twice, as impatient people do."""
    bench.store.read()  # the app runs, whatever the test before did
    old = bench.content()["config.json"]
    process = bench.start("set", "name=press-4")
    time.sleep(1)  # by then it has the board, or is done with it
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=WAIT_S)
    assert process.returncode in (OK, INTERRUPTED, -signal.SIGINT)  # the second one may find Python ending
    taken = bench.content()["config.json"] != old
    assert not (taken and "nothing was changed" in words)
    assert not ("is in place" in words and not taken)
    assert bench.serves()


def test_no_firmware(bare):
    target = Target("serial", "x", port=bare.repl)
    with session(target) as transport:
        before = transport.eval("__import__('os').listdir('/')")
    with pytest.raises(HardwireError) as caught:
        BoardFile(target).update(lambda present: "{}")
    assert (caught.value.code, caught.value.hint) == (WRONG_BOARD, "hardwire deploy")
    with session(target) as transport:
        assert transport.eval("__import__('os').listdir('/')") == before


def test_at_every_moment_of_a_write_the_old_or_the_new_file_is_there(bench):
    """The flash is looked at after every command it gets."""
    live = bench.live
    old, new = bench.content()["config.json"], json.dumps(GIVEN | {"name": "press-4"}).encode()
    found, images = [], [None]

    def look(*_levels):
        image = live.board.filesystem()
        if image != images[0]:
            images[0] = image
            found.append(bundles.unpack(BOARD, image)["config.json"])

    live.do(live.board._emulator.mcu.qspi[1].add_listener, look)  # a command takes effect when QSPI_SS rises
    done = bench.store.update(lambda present: new.decode())
    live.do(look)
    assert done.written and len(found) > 3
    switch = found.index(new)
    assert switch > 0
    assert found == [old] * switch + [new] * (len(found) - switch)
