"""`hardwire boards`: real datagrams on the loopback, to responders as they run on boards."""

import json
import random
import socket
import threading
import time

import pytest

from hardwire.wire import discovery as D
from hardwire_host import cli
from hardwire_host.clients import discovery as H
from hardwire_host.virtual import running

KEY = "a key of this plant"
KEY_BYTES = KEY.encode()
MACS = [bytes((2, 0, 0, 0, 0, n)) for n in range(4)]


class Board:
    """A responder behind a UDP socket of 127.0.0.1, in a thread."""

    def __init__(self, mac=MACS[1], *, name="press-3", key=KEY_BYTES, address="192.168.77.20", drop=0):
        self.about = [name, "w5500_evb_pico", "0.1.0", socket.inet_aton(address), b"\xff\xff\xff\0"]
        self.about += [socket.inet_aton("192.168.77.1"), D.DHCP, 93784, (("modbus", 502), ("files", 7770))]
        self.settings = []
        self.drop = drop  # so many datagrams are lost before one is heard
        self.spoil = lambda data: data
        self._responder = D.Responder(mac, random.Random(mac).randbytes, lambda: self.about, self._apply, key)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.005)
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _apply(self, *setting):
        self.settings.append(setting)
        return True

    def _run(self):
        while not self._ending:
            now = time.monotonic_ns() // 1_000_000 % 2**30
            try:
                data, (ip, port) = self._socket.recvfrom(2048)
            except TimeoutError:
                pass
            else:
                self.drop -= 1
                if self.drop < 0:
                    self._responder.received(data, socket.inet_aton(ip), port, now)
            while (what := self._responder.poll(now)) is not None:
                ip, port, data = what
                self._socket.sendto(self.spoil(bytes(data)), (socket.inet_ntoa(ip), port))

    def close(self):
        self._ending = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(autouse=True)
def nothing_virtual(tmp_path, monkeypatch):
    """No state folder but the test's own, no keys of this machine."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("HARDWIRE_KEY_FILE", raising=False)


@pytest.fixture
def board():
    boards = []

    def start(*arguments, **options):
        boards.append(Board(*arguments, **options))
        return boards[-1]

    yield start
    for each in boards:
        each.close()


@pytest.fixture
def hardwire(capsys):
    """Run `hardwire boards ARGUMENTS`; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = cli.run(["boards", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "plant.key"
    path.write_text(KEY + "\n")
    return str(path)


RECORD = {
    "name": "press-3",
    "board": "w5500_evb_pico",
    "version": "0.1.0",
    "mac": "02:00:00:00:00:01",
    "address": "192.168.77.20",
    "prefix": 24,
    "gateway": "192.168.77.1",
    "mode": "dhcp",
    "uptime_s": 93784,
    "services": {"modbus": 502, "files": 7770},
    "settable": True,
    "note": "",
}


def test_one(board, hardwire):
    code, out, err = hardwire("--host", board().host)
    assert (code, err) == (0, "")
    head, row = out.splitlines()
    assert head.split() == ["name", "address", "mode", "MAC", "board", "version", "services", "up", "note"]
    assert row.split() == [
        *("press-3", "192.168.77.20/24", "dhcp", "02:00:00:00:00:01", "w5500_evb_pico", "0.1.0"),
        *("modbus:502", "files:7770", "1", "d"),
    ]


def test_json(board, hardwire):
    code, out, err = hardwire("--host", board().host, "--json")
    answer = json.loads(out)
    assert (code, err, answer["ok"], answer["tool"]) == (0, "", True, "hardwire boards")
    assert answer["boards"] == [RECORD] and answer["virtual"] == []


def test_several_and_an_address_that_is_used_twice(board, hardwire):
    hosts = [
        board(MACS[1]).host,
        board(MACS[2], name="press-4").host,
        board(MACS[3], name="press-5", address="0.0.0.0").host,
    ]
    code, out, _ = hardwire("--json", *(word for host in hosts for word in ("--host", host)))
    found = {record["name"]: record for record in json.loads(out)["boards"]}
    assert code == 0 and list(found) == ["press-3", "press-4", "press-5"]
    assert [record["note"] for record in found.values()] == [
        "same address as press-4",
        "same address as press-3",
        "has no address",
    ]
    assert (found["press-5"]["address"], found["press-5"]["mode"]) == ("", "dhcp")


def test_a_question_that_was_lost_is_repeated(board, hardwire):
    assert hardwire("--host", board(drop=2).host, "--timeout", "1.5")[0] == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:30],
        lambda data: b"hwrd" + bytes(500),
        lambda data: data[:8] + bytes(8) + data[16:],
        lambda data: data.replace(b"\x02\x01\xf6", b"\xff\x01\xf6"),
    ],
)
def test_answers_that_are_none(board, hardwire, spoil):
    made = board()
    made.spoil = spoil
    code, out, err = hardwire("--host", made.host, "--timeout", "0.3")
    assert (code, out) == (6, "") and err.endswith("no answer (hardwire doctor --host HOST)\n")


def test_terminal_escapes_do_not_reach_the_terminal(board, hardwire):
    code, out, _ = hardwire("--host", board(name="\x1b[2Jevil").host)
    assert code == 0 and "\x1b" not in out


def test_a_port_that_is_closed(hardwire):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    assert hardwire("--host", host, "--timeout", "0.3")[0] == 6


def test_virtual_boards_without_answers_are_listed(hardwire, monkeypatch):
    """Discovery cannot reach them, their record can. Without a network to ask in: nothing is sent."""
    claim = running.claim("desk")
    monkeypatch.setattr(H.Asker, "send", lambda asker, data: 1)
    forwards = [running.Forward("127.0.0.1", 10502, 502), running.Forward("127.0.0.1", 10099, 99)]
    record = running.Running("desk", 1, "w5500_evb_pico", "", "", 0.0, {"modbus": 502}, forwards, ["desk"])
    try:
        claim.publish(record)
        code, out, _ = hardwire("--timeout", "0.1", "--json")
        assert code == 0
        assert json.loads(out)["virtual"] == [
            {
                "name": "desk",
                "board": "w5500_evb_pico",
                "services": {"modbus": "127.0.0.1:10502", "99": "127.0.0.1:10099"},
            }
        ]
        for ways in (1, 0):
            monkeypatch.setattr(H.Asker, "send", lambda asker, data, ways=ways: ways)
            _, out, err = hardwire("--timeout", "0.1")
            assert "modbus@127.0.0.1:10502" in out and err == ""
    finally:
        claim.withdraw()
        claim.release()
    monkeypatch.setattr(H.Asker, "send", lambda asker, data: 1)
    assert hardwire("--timeout", "0.1") == (0, "", "no board answered\n")


def test_no_network(hardwire, monkeypatch):
    monkeypatch.setattr(H.Asker, "send", lambda asker, data: 0)
    code, _, err = hardwire("--timeout", "0.1")
    assert (code, err) == (3, "hardwire: there is no network to ask in (is a cable plugged in?)\n")


def test_interfaces_leave_out_the_loopback():
    assert all(not each.network or not each.network.is_loopback for each in H.interfaces())


# set-address


def test_set_address(board, hardwire, key):
    made = board()
    words = ("set-address", "02:00:00:00:00:01", "10.0.0.5/16", "--gateway", "10.0.0.1")
    code, out, err = hardwire(*words, "--key-file", key, "--host", made.host)
    assert (code, err) == (0, "")
    assert out == "press-3 (02:00:00:00:00:01): 10.0.0.5/16, was 192.168.77.20/24\n"
    assert made.settings == [(D.STATIC, b"\x0a\0\0\5", b"\xff\xff\0\0", b"\x0a\0\0\1")]


def test_set_dhcp(board, hardwire, key, monkeypatch):
    made = board()
    monkeypatch.setenv("HARDWIRE_KEY_FILE", key)
    code, out, _ = hardwire("set-address", "020000000001", "dhcp", "--host", made.host, "--json")
    assert code == 0 and made.settings == [(D.DHCP, None, None, None)]
    answer = json.loads(out)
    assert (answer["tool"], answer["mac"], answer["address"]) == (
        "hardwire boards set-address",
        "02:00:00:00:00:01",
        "dhcp",
    )


def test_result_that_was_lost(board, hardwire, key):
    made = board()
    lost = []

    def spoil(data):
        if data[5] == D.RESULT and not lost:
            lost.append(data)
            return b"lost"
        return data

    made.spoil = spoil
    words = ("set-address", "02-00-00-00-00-01", "10.0.0.5/16", "--key-file", key, "--host", made.host)
    assert hardwire(*words, "--timeout", "0.6")[0] == 0
    assert lost and len(made.settings) == 1


REFUSALS = (
    ({"key": None}, 1, "press-3: it has no key configured"),
    ({"key": b"another"}, 1, "press-3: the key is wrong"),
    ({"mac": MACS[2]}, 3, "no board with MAC address 02:00:00:00:00:01 answers"),
)


@pytest.mark.parametrize(("options", "code", "message"), REFUSALS)
def test_refusals(board, hardwire, key, options, code, message):
    made = board(**options)
    words = ("set-address", "02:00:00:00:00:01", "10.0.0.5/16", "--key-file", key, "--host", made.host)
    found = hardwire(*words, "--timeout", "0.6")
    assert found[:2] == (code, "") and message in found[2] and found[2].count("\n") == 1
    assert made.settings == []


def test_forged_success(board, hardwire, key):
    made = board(key=b"another")
    made.spoil = lambda data: data[:24] + b"\0" + data[25:] if data[5] == D.RESULT else data
    words = ("set-address", "02:00:00:00:00:01", "10.0.0.5/16", "--key-file", key, "--host", made.host)
    code, _, err = hardwire(*words, "--timeout", "0.6")
    assert code == 6 and "press-3 does not answer to the setting" in err


USAGE = (
    (("set-address", "press-3", "10.0.0.5/8"), "'press-3' is no MAC address"),
    (
        ("set-address", "02:00:00:00:00:01", "10.0.0.5"),
        "10.0.0.5: the size of its network is missing (10.0.0.5/24)",
    ),
    (("set-address", "02:00:00:00:00:01", "10.0.0/8"), "Expected 4 octets"),
    (("set-address", "02:00:00:00:00:01", "10.0.0.0/8"), "10.0.0.0/8 is no address of a host"),
    (("set-address", "02:00:00:00:00:01", "10.0.0.5/31"), "10.0.0.5/31 is no address of a host"),
    (("set-address", "02:00:00:00:00:01", "224.0.0.5/8"), "224.0.0.5/8 is no address of a host"),
    (
        ("set-address", "02:00:00:00:00:01", "10.0.0.5/24", "--gateway", "10.0.1.1"),
        "10.0.1.1 is no neighbour",
    ),
    (("set-address", "02:00:00:00:00:01", "dhcp", "--gateway", "10.0.1.1"), "the server tells the gateway"),
    (("--host", "a:b:c"), "'a:b:c' is no host"),
    (("--timeout", "0"), "0"),
)


@pytest.mark.parametrize(("words", "message"), USAGE)
def test_usage(hardwire, key, words, message):
    words = (*words, "--key-file", key) if words[0] == "set-address" else words
    code, out, err = hardwire(*words)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_key_files(hardwire, tmp_path):
    words = ("set-address", "02:00:00:00:00:01", "10.0.0.5/8", "--key-file")
    empty = tmp_path / "empty"
    empty.write_text(" \n")
    for path, message in ((empty, "there is no key in it"), (tmp_path / "none", "no such file")):
        code, _, err = hardwire(*words, str(path))
        assert code == 2 and message in err
    assert "--key-file" in hardwire(*words[:-1])[2]


def test_target_options_are_not_for_it(capsys):
    assert cli.run(["--virtual=x", "boards"]) == 2
    assert "hardwire boards takes no --virtual" in capsys.readouterr().err
