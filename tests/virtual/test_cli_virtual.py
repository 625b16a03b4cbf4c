"""`hardwire virtual` as a user has it: real processes, the emulated board, its REPL, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from hardwire_host import target
from hardwire_host.errors import BUSY, FAILED, NO_BOARD, TIMEOUT, USAGE, HardwireError
from hardwire_host.virtual import running

WAIT_S = 300  # for anything an emulated board does; a PC under load is slow


@pytest.fixture
def blank(hardwire):
    """Start boards that have only MicroPython: started("b", ...) -> its object. Stopped at the end."""
    names = []

    def started(name, *arguments):
        code, answer = hardwire(
            "virtual", "up", "--name", name, "--blank", "--forward", "0:7", "--detach", *arguments
        )
        assert code == 0, answer["error"]
        names.append(name)
        return answer

    yield started
    for name in names:
        hardwire("virtual", "down", name)


@pytest.fixture
def repl(runtime, monkeypatch):
    """repl("b", ...) is a session on the running virtual board b."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return lambda name, **settings: target.session(_target(name), **settings)


def _target(name):
    return target.resolve(target.Where(virtual=name))


def _state_files(runtime):
    return sorted(path.name for path in (runtime / "hardwire").iterdir())


def test_up_says_how_to_reach_it(board):
    assert (board["ok"], board["tool"], board["target"]) == (True, "hardwire virtual up", "app")
    assert os.path.exists(board["repl"])
    assert os.path.exists(f"/proc/{board['pid']}/exe")
    (forward,) = board["forwards"]
    assert (forward["host"], forward["board_port"]) == ("127.0.0.1", 502)
    with socket.create_connection(("127.0.0.1", forward["port"])):
        pass


def test_coil_0_lights_the_led(hardwire, board):
    for word, lit in (("on", True), ("off", False)):
        assert hardwire("modbus", "write", "coil", "0", word, "--virtual=app")[0] == 0
        assert hardwire("virtual", "status", "app")[1]["led"] is lit


def test_the_one_running_board_is_meant(hardwire, board):
    assert hardwire("modbus", "write", "holding", "5", "1", "2", "0xffff")[0] == 0
    code, answer = hardwire("modbus", "read", "holding", "5", "3")
    assert (code, answer["target"], answer["values"]) == (0, "app", [1, 2, 0xFFFF])


def test_status(hardwire, board):
    code, answer = hardwire("virtual", "status")
    assert code == 0
    assert [entry["name"] for entry in answer["boards"]] == ["app"]
    assert answer["pid"] == board["pid"]
    assert answer["repl"] == board["repl"]
    assert answer["forwards"] == board["forwards"]
    assert answer["device_seconds"] > 0
    assert answer["link"] is True
    assert answer["address"] == "192.168.77.20"
    assert len(answer["sockets"]) == 8
    assert answer["guest_errors"] == {}


def test_a_bad_request_harms_nothing(board, runtime, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    (running_board,) = running.running()
    for arguments in ({"do": "explode"}, {"do": "status", "too": "much"}):
        with pytest.raises(HardwireError) as caught:
            running_board.ask(**arguments)
        assert caught.value.code == USAGE
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(running.control_path("app")))
        control.sendall(b"[]\n{\n\xff\n")
        answers = control.makefile("rb")
        assert [json.loads(answers.readline())["error"]["code"] for _ in range(3)] == [USAGE] * 3
    assert running_board.ask("status")["pid"] == board["pid"]


def test_status_for_people(environment, board):
    done = subprocess.run(
        [sys.executable, "-m", "hardwire_host.cli", "virtual", "status"],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert board["repl"] in done.stdout
    assert "192.168.77.20" in done.stdout


def test_doctor_leaves_the_app_alone(hardwire, board):
    code, answer = hardwire("doctor", "--timeout", "30")
    states = {check["name"]: check["state"] for check in answer["checks"]}
    assert code == 0, answer["checks"]
    assert states == dict.fromkeys(
        (
            "python",
            "packages",
            "mpy-cross",
            "board",
            "modbus",
            "app",
            "heap",
            "chip",
            "link",
            "image",
            "address",
        ),
        "ok",
    )
    assert hardwire("modbus", "read", "holding", "5")[1]["values"] == [1]  # still the same run of the app


def test_identify(hardwire, board):
    code, answer = hardwire("modbus", "identify", "--timeout", "30")
    assert code == 0
    assert answer["objects"] is None or answer["objects"]["vendor_name"]


def test_names_and_ports_in_use(hardwire, board):
    code, answer = hardwire("virtual", "up", "--name", "app")
    assert (code, answer["error"]["message"]) == (BUSY, "a virtual board named app is already running")
    port = board["forwards"][0]["port"]
    for detach in ([], ["--detach"]):
        code, answer = hardwire("virtual", "up", "--blank", "--forward", f"{port}:502", *detach)
        assert (code, answer["error"]["message"]) == (BUSY, f"port {port} of 127.0.0.1 is in use")


def test_two_boards_at_once(hardwire, board, blank):
    other = blank("other")
    assert other["pid"] != board["pid"]
    assert [entry["name"] for entry in hardwire("virtual", "status")[1]["boards"]] == ["app", "other"]
    for arguments in (["virtual", "down"], ["modbus", "read", "coil", "0"], ["doctor", "--virtual=third"]):
        assert hardwire(*arguments)[0] == (FAILED if arguments[0] == "doctor" else NO_BOARD)
    assert hardwire("virtual", "down")[1]["candidates"] == ["app", "other"]
    assert hardwire("--virtual", "app", "modbus", "read", "coil", "0")[0] == 0


def test_repl_session(blank, repl):
    blank("b")
    assert target.at_prompt(_target("b"))
    with repl("b") as transport:
        assert transport.eval("6 * 7") == 42
        with pytest.raises(HardwireError) as caught, repl("b"):
            pass
        assert caught.value.code == BUSY
    with pytest.raises(HardwireError) as caught, repl("b") as transport:
        transport.exec("1 / 0")
    assert (caught.value.code, caught.value.message) == (FAILED, "b: ZeroDivisionError: divide by zero")
    with pytest.raises(HardwireError) as caught, repl("b", timeout=3) as transport:
        transport.exec_raw("while True: pass", timeout=3)
    assert caught.value.code == TIMEOUT
    assert target.at_prompt(_target("b"))  # the loop was interrupted


def _interrupted_loop(transport):
    transport.exec_raw_no_follow("while True: pass")
    raise KeyboardInterrupt


def _interrupted_upload(transport):
    transport.read_until(1, b">")
    transport.serial.write(b"\x05A\x01")  # inside raw-paste, half a program sent
    transport.serial.read(2)
    transport.serial.write(b"print(")
    raise KeyboardInterrupt


@pytest.mark.parametrize("work", [_interrupted_loop, _interrupted_upload])
def test_ctrl_c_leaves_a_free_repl(blank, repl, work):
    blank("b")
    with pytest.raises(KeyboardInterrupt), repl("b") as transport:
        work(transport)
    assert target.at_prompt(_target("b"))


def test_doctor_asks_a_free_repl(hardwire, blank):
    blank("b")
    code, answer = hardwire("doctor", "--virtual=b", "--timeout", "1")
    checks = {check["name"]: check for check in answer["checks"]}
    assert code == FAILED
    assert checks["modbus"]["state"] == "fail"
    assert checks["app"] == {
        "name": "app",
        "state": "warn",
        "text": "not running",
        "mend": checks["app"]["mend"],
    }
    assert checks["firmware"]["mend"] == "hardwire deploy"
    assert checks["chip"]["state"] == "ok"


def test_flash_is_kept(blank, repl, hardwire, tmp_path):
    flash = tmp_path / "flash.bin"
    blank("b", "--flash", str(flash))
    with repl("b") as transport:
        transport.exec("with open('/kept', 'w') as file: file.write('x')")
    hardwire("virtual", "down", "b")
    blank("b", "--flash", str(flash))
    with repl("b") as transport:
        assert transport.eval("open('/kept').read()") == "x"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_foreground_ends_cleanly(environment, runtime, ending):
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "hardwire_host.cli",
            "virtual",
            "up",
            "--name",
            "f",
            "--blank",
            "--forward",
            "0:7",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        lines = []
        while not lines or lines[-1] not in ("ready\n", ""):
            lines.append(process.stdout.readline())
        device = next(line.split()[1] for line in lines if line.startswith("REPL"))
        port = int(next(line for line in lines if "-> 7" in line).split()[1].rpartition(":")[2])
        assert os.path.exists(device)
        process.send_signal(ending)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert not [name for name in _state_files(runtime) if name.startswith("f.")]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_killed_board_is_forgotten(hardwire, blank, runtime):
    pid = blank("b")["pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while hardwire("virtual", "status", "b")[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert hardwire("virtual", "status", "b")[0] == NO_BOARD
    assert not [name for name in _state_files(runtime) if name.startswith("b.")]


def test_restart_brings_the_app_back(hardwire, board, repl):
    with repl("app", restart=True) as transport:
        assert transport.eval("1") == 1
    deadline = time.monotonic() + WAIT_S
    while (code := hardwire("modbus", "read", "coil", "0", "--virtual=app", "--timeout", "5")[0]) != 0:
        assert code in (TIMEOUT, NO_BOARD)
        assert time.monotonic() < deadline


def test_down_leaves_nothing(hardwire, board, runtime):
    code, answer = hardwire("virtual", "down", "app")
    assert (code, answer["stopped"]) == (0, ["app"])
    assert not os.path.exists(f"/proc/{board['pid']}/exe")  # what is ended and not yet reaped has none
    assert not os.path.exists(board["repl"])
    assert _state_files(runtime) == []
