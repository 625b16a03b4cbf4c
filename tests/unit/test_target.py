"""Which board is meant, and what is said when its port cannot be used. Real PTYs, files, locks; no board."""

import fcntl
import os
import pty
import socket
import subprocess
import sys
import tempfile
import tty
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from hardwire_host import target
from hardwire_host.errors import BUSY, NO_BOARD, TIMEOUT, USAGE, HardwireError
from hardwire_host.target import NETWORK, REPL, Where, parse_host, resolve
from hardwire_host.virtual import running
from hardwire_host.virtual.running import Forward, Running


@pytest.fixture
def runtime():
    """XDG_RUNTIME_DIR: short, because sockets are made in it."""
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def nothing_connected(runtime, monkeypatch):
    """No USB device, no virtual board, no environment; returns the list of USB ports to fill."""
    ports = []
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("HARDWIRE_PORT", raising=False)
    monkeypatch.delenv("HARDWIRE_HOST", raising=False)
    return ports


class _Port(SimpleNamespace):
    def __lt__(self, other):
        return self.device < other.device


def _usb(device, vid, pid, serial_number="1"):
    return _Port(device=device, vid=vid, pid=pid, serial_number=serial_number)


@pytest.fixture
def board():
    """Claim and publish a virtual board of this process: started("b") -> Running."""
    claims = []

    def started(name, forwards=(), services=None):
        claims.append(claim := running.claim(name))
        made = Running(
            claim.name,
            os.getpid(),
            "w5500_evb_pico",
            "x.uf2",
            "/dev/pts/9",
            0.0,
            services or {},
            list(forwards),
        )
        claim.publish(made)
        return made

    yield started
    for claim in claims:
        claim.release()


@pytest.fixture
def silent_port():
    """A serial port behind which nobody answers."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(master)
    os.close(slave)


def _error(function, *arguments, **settings):
    with pytest.raises(HardwireError) as caught:
        function(*arguments, **settings)
    return caught.value


# Which board


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.77.20", ("192.168.77.20", None)),
        ("board.lan:1502", ("board.lan", 1502)),
        ("[fe80::1%eth0]:502", ("fe80::1%eth0", 502)),
        ("[::1]", ("::1", None)),
    ],
)
def test_hosts(text, expected):
    assert parse_host(text) == expected


@pytest.mark.parametrize("text", ["", "a:b", "a:", "a:0", "a:65536", "::1", "a b", "[::1", "a:1:2"])
def test_no_hosts(text):
    assert _error(parse_host, text).code == USAGE


def test_none(nothing_connected):
    nothing_connected.append(_usb("/dev/ttyS0", None, None))  # a port of the PC itself
    nothing_connected.append(_usb("/dev/ttyACM9", 0x2E8A, 0x000A))  # a Pico that runs something else
    error = _error(resolve)
    assert (error.code, error.data) == (NO_BOARD, {"candidates": []})


@pytest.mark.parametrize("ids", [(0x2E8A, 0x0005), (0xF055, 0x9800), (0xF055, 0x980A), (0x239A, 0x1234)])
def test_one_connected_board_is_meant(nothing_connected, ids):
    nothing_connected.append(_usb("/dev/ttyACM9", *ids))
    assert resolve().port == "/dev/ttyACM9"


def test_one_virtual_board_is_meant(board):
    board("b", [Forward("0.0.0.0", 10502, 1502)], {"modbus": 1502})
    found = resolve()
    assert (found.kind, found.name, found.port) == ("virtual", "b", "/dev/pts/9")
    assert found.endpoint("modbus") == ("127.0.0.1", 10502)


def test_several_are_listed(nothing_connected, board):
    board("b")
    nothing_connected.append(_usb("/dev/ttyACM9", 0x2E8A, 0x0005))
    error = _error(resolve)
    assert (error.code, error.message) == (NO_BOARD, "2 boards found: b, /dev/ttyACM9")
    assert error.data == {"candidates": ["b", "/dev/ttyACM9"]}
    assert resolve(Where(virtual="")).name == "b"
    assert resolve(Where(port="/dev/ttyACM9")).kind == "serial"
    board("c")
    assert _error(resolve, Where(virtual="")).data == {"candidates": ["b", "c"]}
    assert resolve(Where(virtual="c")).name == "c"


def test_a_named_port_passes_every_filter(nothing_connected):
    nothing_connected += [_usb("/dev/ttyACM8", 0xFFFF, 1, "abc"), _usb("/dev/ttyACM9", 0x2E8A, 0x0005)]
    for port, device in [
        ("id:abc", "/dev/ttyACM8"),
        ("a3", "/dev/ttyACM3"),
        ("u0", "/dev/ttyUSB0"),
        ("c5", "COM5"),
        ("COM5", "COM5"),
        ("/dev/null", "/dev/null"),
    ]:
        assert resolve(Where(port=port)).repl == device
    assert _error(resolve, Where(port="id:none")).code == NO_BOARD


def test_flag_over_environment_over_what_there_is(monkeypatch, board):
    board("b")
    monkeypatch.setenv("HARDWIRE_HOST", "h:1")
    assert resolve().endpoint("modbus") == ("h", 1)
    assert resolve(Where(host="g")).endpoint("modbus") == ("g", 502)
    monkeypatch.setenv("HARDWIRE_PORT", "a0")
    both = resolve()
    assert (both.repl, both.endpoint("modbus")) == ("/dev/ttyACM0", ("h", 1))
    assert resolve(Where(virtual="b")).name == "b"


def test_what_a_target_cannot_offer_is_said_at_once(board):
    assert _error(resolve, Where(host="h"), REPL).code == USAGE
    assert _error(resolve, Where(port="a0"), NETWORK).code == NO_BOARD
    assert _error(resolve, Where(port="a0", virtual=""), NETWORK).code == USAGE
    board("b", [Forward("127.0.0.1", 10007, 7)], {"modbus": 502})
    assert _error(resolve().endpoint, "modbus").code == NO_BOARD


# Ports that cannot be used


def test_no_such_port():
    error = _error(lambda: target.session(resolve(Where(port="/dev/no-such-port"))).__enter__())
    assert (error.code, error.message) == (NO_BOARD, "there is no port /dev/no-such-port")


def test_not_a_port(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert _error(lambda: target.session(resolve(Where(port=str(path)))).__enter__()).code == NO_BOARD


def test_port_of_another_program(silent_port):
    holder = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, silent_port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        error = _error(lambda: target.session(resolve(Where(port=silent_port))).__enter__())
        assert (error.code, error.data) == (BUSY, {"pids": [other.pid]})
        assert f"PID {other.pid}" in error.message
        other.stdin.close()


def test_silent_board(silent_port, capfd):
    error = _error(lambda: target.session(resolve(Where(port=silent_port)), timeout=0.3).__enter__())
    assert error.code == TIMEOUT
    assert not target.at_prompt(resolve(Where(port=silent_port)), timeout=0.1)
    assert capfd.readouterr() == ("", "")
    with open(silent_port) as again:  # it was let go
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Names of virtual boards


def test_names_count_up(board):
    names = ["virtual", "virtual-2", "virtual-3"]
    assert [board(None).name for _ in names] == names
    assert [found.name for found in running.running()] == names


def test_a_taken_name(board):
    board("b")
    assert _error(running.claim, "b").code == BUSY


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 33, "a b"])
def test_impossible_names(name):
    assert _error(running.check_name, name).code == USAGE


def test_state_of_a_killed_process_is_cleaned(runtime):
    script = (
        "import os, signal; from hardwire_host.virtual.running import claim, Running; c = claim();"
        "c.publish(Running(c.name, os.getpid(), 'b', 'i', 'r', 0.0)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert done.returncode == -9
    folder = runtime / "hardwire"
    assert {path.name for path in folder.iterdir()} == {"virtual.lock", "virtual.json"}
    assert running.running() == []
    assert list(folder.iterdir()) == []


def test_a_folder_of_someone_else_is_not_used(runtime, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(runtime))
    (runtime / "hardwire").symlink_to("/tmp")
    assert running.state_folder() == runtime / f"hardwire-{os.getuid()}"


def test_state_folder_is_private(runtime):
    folder = runtime / "hardwire"
    folder.mkdir(mode=0o755)
    assert running.state_folder() == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_board_that_does_not_answer(board):
    made = board("b")
    assert _error(made.ask, "status", timeout=0.1).code == TIMEOUT  # no socket
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(running.control_path("b")))
        control.listen()
        assert _error(made.ask, "status", timeout=0.1).code == TIMEOUT  # nobody reads it
