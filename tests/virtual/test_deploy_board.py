"""`hardwire deploy` on the virtual board: from blank to serving, what it copies, and cuts at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hardwire_host import bundle as bundles
from hardwire_host import deploy as work
from hardwire_host.bundle import MANIFEST, Bundle, digest
from hardwire_host.clients.modbus import HOLDING, ModbusClient
from hardwire_host.deploy_link import ANSWER_S, identify
from hardwire_host.errors import FAILED, INTERRUPTED, USAGE
from hardwire_host.health import wait_for
from hardwire_host.target import Target, session

ROOT = Path(__file__).parents[2]
BOARD = "w5500_evb_pico"
WAIT_S = 300  # for anything an emulated board does; a PC under load is slow
SEED = 20261123
MARK = 99  # holding register that tells the two apps apart
BEFORE = "    await board.run("


# The whole way, as a user has it


class Deployer:
    """`hardwire deploy` for one board, in processes of their own; and what the board then serves."""

    def __init__(self, live) -> None:
        self.live = live
        self.place = ("127.0.0.1", live.forward(502))
        self._environment = {
            name: os.environ[name] for name in os.environ if not name.startswith("HARDWIRE_")
        }

    def start(self, *arguments) -> subprocess.Popen:
        host, port = self.place
        where = ("--port", self.live.repl, "--host", f"{host}:{port}", "--wait", str(WAIT_S))
        return subprocess.Popen(
            [sys.executable, "-m", "hardwire_host.cli", "deploy", *where, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def __call__(self, *arguments) -> tuple[int, dict]:
        """Run it; exit code and the object it prints."""
        process = self.start("--json", *arguments)
        output, words = process.communicate(timeout=WAIT_S)
        assert (words, output.count("\n")) == ("", 1)
        return process.returncode, json.loads(output)

    def until(self, files: int, *arguments) -> subprocess.Popen:
        """Run it until it has a plan and has written `files` files."""
        process, planned = self.start(*arguments), False
        for line in process.stderr:
            planned = planned or "files to send" in line
            files -= line.startswith(("sent", "copied"))
            if planned and files == 0:
                return process
        raise AssertionError("the deploy ended early")

    def version(self) -> int:
        """Which app serves."""
        assert not wait_for({"modbus": self.place}, WAIT_S)
        with ModbusClient(*self.place, timeout=WAIT_S) as client:
            return client.read(HOLDING, MARK)[0]


@pytest.fixture(scope="module")
def apps(tmp_path_factory) -> dict[int, Path]:
    """The default app in three versions: each answers its number from holding register MARK."""
    folder = tmp_path_factory.mktemp("apps")
    source = (ROOT / "firmware/app.py").read_text()
    assert source.count(BEFORE) == 1
    found = {}
    for number in (1, 2, 3):
        found[number] = folder / f"app{number}.py"
        mark = f"    bank.holding_registers[{MARK}] = {number}\n"
        found[number].write_text(source.replace(BEFORE, mark + BEFORE))
    return found


@pytest.fixture(scope="module")
def deploy(boot):
    """For a board that was blank before the first test of this file."""
    return Deployer(boot(filesystem=bundles.blank_filesystem(BOARD)))


def test_from_blank_to_serving(deploy, apps):
    code, answer = deploy("--app", apps[1])
    assert code == 0, answer["error"]
    assert (answer["slot"], answer["before"], answer["files"]["same"]) == ("a", None, 0)
    assert "app.mpy" in answer["sent"]
    assert answer["services"]["modbus"]["answers"]
    assert deploy.version() == 1


def test_killed_at_any_file_then_reset_or_unplugged_then_deployed_again(deploy, apps):
    """Killed, the board boots what it ran; the next deploy goes on from there, reset or not."""
    counts = random.Random(SEED).sample(range(1, 10), 3)
    board = deploy.live.board
    for files, restart in zip(counts, (board.hard_reset, board.power_cycle, None), strict=True):
        process = deploy.until(files, "--app", apps[2])
        process.kill()
        process.communicate()
        if restart:
            deploy.live.call(restart())
            assert deploy.version() == 1

    code, answer = deploy("--app", apps[2])
    assert code == 0, answer["error"]
    assert (answer["slot"], answer["before"]) == ("b", "a")
    assert answer["files"]["changed"] == answer["sent"] == ["app.mpy"]
    assert 0 < len(answer["copied"]) <= answer["files"]["same"] - sum(counts)
    assert deploy.version() == 2


def test_ctrl_c_switches_nothing_and_the_app_runs_on(deploy, apps):
    process = deploy.until(0, "--app", apps[3])
    process.send_signal(signal.SIGINT)
    output, words = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (INTERRUPTED, "")
    assert words.splitlines()[-1].startswith("hardwire: interrupted: nothing was switched")
    assert deploy.version() == 2


def test_nothing_to_do_but_to_start_an_app_that_was_interrupted(deploy, apps):
    with session(Target("serial", deploy.live.repl, port=deploy.live.repl)) as transport:
        transport.exec("import os")  # as `mpremote exec` does
    code, answer = deploy("--app", apps[2])
    assert code == 0, answer["error"]
    assert answer["up_to_date"]
    assert (answer["slot"], answer["sent"], answer["copied"]) == ("b", [], [])
    assert deploy.version() == 2


def test_a_dry_run_writes_nothing(deploy, apps):
    before = deploy.live.board.filesystem()
    code, answer = deploy("--app", apps[3], "--dry-run")
    assert code == 0
    assert (answer["slot"], answer["files"]["changed"], answer["sent"]) == ("a", ["app.mpy"], ["app.mpy"])
    assert deploy.live.board.filesystem() == before


def test_a_bad_file_leaves_the_board_alone(deploy, tmp_path):
    (tmp_path / "app.py").write_text("x = (\n")
    process = deploy.start("--app", tmp_path / "app.py")
    output, words = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (FAILED, "")
    assert words == "hardwire: app.py:2: SyntaxError: invalid syntax\n"
    (tmp_path / "config.json").write_text('{"network": {"address": "300.1.1.1"}}')
    code, answer = deploy("--config", tmp_path / "config.json")
    assert code == USAGE
    assert "network.address" in answer["error"]["message"]


def test_an_app_that_does_not_start_is_told_apart_from_a_network_that_does_not(deploy, tmp_path):
    (tmp_path / "app.py").write_text("import nothing_of_that_name\n")
    code, answer = deploy("--app", tmp_path / "app.py")
    assert code == FAILED
    assert "no module named 'nothing_of_that_name'" in answer["error"]["message"]


# Every moment. The trees are small here, and the flash is looked at after every erase and every page written.


def make_bundle(version: int) -> Bundle:
    files = {
        "app.mpy": bundles.compile_source("app.py", b"VERSION = %d\n" % version, "armv6m"),
        "hardwire/same.mpy": bytes(range(256)) * 17,  # more than a block
        f"parts/only{version}.mpy": b"\r\x03\x1b" * 200,
    }
    entries = {path: [len(data), digest(data)] for path, data in files.items()}
    root = {name: (ROOT / "firmware" / name).read_bytes() for name in ("boot.py", "main.py")}
    return Bundle(BOARD, files, root, json.dumps({"files": entries}).encode())


FIRST, SECOND = make_bundle(1), make_bundle(2)
FOREIGN = {"main.py": b"print('mine')\n", "boot.py": b"import sys\n", "data/log.txt": b"x" * 5000}


def boots(content: dict[str, bytes], before: dict[str, bytes]) -> Bundle | dict | None:
    """What a board with these files starts: FIRST, SECOND, what was there `before`, or None for a mixture."""
    if content.get("main.py") == before.get("main.py"):
        return before
    if "boot.py" not in content or "slot" not in content:
        return None
    for slot in "ba" if content["slot"] == b"b" else "ab":  # as boot.py, see tests/unit/test_bundle.py
        if f"{slot}/{MANIFEST}" in content:
            top = f"{slot}/"
            tree = {path.removeprefix(top): data for path, data in content.items() if path.startswith(top)}
            for bundle in (FIRST, SECOND):
                root = {name: content.get(name) for name in bundle.root}
                if tree == bundle.files | {MANIFEST: bundle.manifest} and root == bundle.root:
                    return bundle
            return None
    return None


class Cuts:
    """What a board would start if the power went after any of its writes to flash."""

    def __init__(self, live, before: dict[str, bytes]) -> None:
        self.live = live
        self.before = before
        self.verdicts = []
        self._image = live.board.filesystem()
        # A command to the flash takes effect when QSPI_SS rises.
        live.do(live.board._emulator.mcu.qspi[1].add_listener, lambda new, old: self._look())

    def _look(self) -> None:
        image = self.live.board.filesystem()
        if image != self._image:
            self._image = image
            self.verdicts.append(boots(bundles.unpack(BOARD, image), self.before))

    def deploy(self, bundle: Bundle) -> list:
        """Deploy; returns the verdicts on the way."""
        self.verdicts.clear()
        target = Target("serial", self.live.repl, port=self.live.repl)
        with session(target, soft_reset=True, timeout=ANSWER_S) as transport:
            work.check_board(identify(transport), BOARD)
            work.update(transport, bundle)
        self.live.do(self._look)
        return self.verdicts[:]

    def content(self) -> dict[str, bytes]:
        return bundles.unpack(BOARD, self._image)


@pytest.mark.parametrize("before", [{}, FOREIGN], ids=["blank", "another program"])
def test_at_every_moment_the_old_or_the_new_version_boots(boot, before):
    cuts = Cuts(boot(filesystem=bundles.pack(BOARD, before)), before)
    for old, new in ((before, FIRST), (FIRST, SECOND)):
        verdicts = cuts.deploy(new)
        assert len(verdicts) > 20
        switch = verdicts.index(new)
        assert verdicts == [old] * switch + [new] * (len(verdicts) - switch)

    content = cuts.content()
    for name, data in before.items():  # what was somebody's is still there
        assert content[f"{name}.old" if name in FIRST.root else name] == data
    settings = json.loads(content["config.json"])
    assert len(settings.pop("services")["files"].pop("write_key")) == 32
    assert settings == {"board": BOARD}
    assert not [path for path in content if path.endswith(".new")]


def test_a_tree_that_is_not_what_its_manifest_says_is_replaced(boot):
    tree = FIRST.files | {MANIFEST: FIRST.manifest, "hardwire/same.mpy": b"not the same"}
    del tree["app.mpy"]
    damaged = {f"a/{path}": data for path, data in tree.items()} | FIRST.root | {"slot": b"a"}
    cuts = Cuts(boot(filesystem=bundles.pack(BOARD, damaged)), FOREIGN)
    assert cuts.deploy(FIRST)[-1] is FIRST
    assert cuts.content()["slot"] == b"b"
