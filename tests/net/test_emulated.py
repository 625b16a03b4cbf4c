"""The emulated board with `hardwire virtual up --tap`, talked to by the kernel and through forwarded ports."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from functools import partial

import pytest

from live import BOARD, ping
from tshark import ACK, COMPLETE, RST, SYN, completeness, faults, fields, needs_tshark, unclean

MODBUS, CLOSED_PORT = 502, 503
REQUEST = bytes.fromhex("0001 0000 0006 01 03 0000 0001")
ANSWER = bytes.fromhex("0001 0000 0005 01 03 02 0000")
WAIT_S = 120  # wall time; an exchange takes 10 ms, a board 4 s to start, a PC under load much more
QUIET_S = 0.5  # both ends have repeated the request by then


def hardwire(environment, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "hardwire_host.cli", *arguments, "--json"],
        stdout=subprocess.PIPE,
        env=environment,
        timeout=WAIT_S,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert done.returncode == 0, answer["error"]
    return answer


@contextlib.contextmanager
def emulated(*options):
    """A running board: (a function for commands, a function from board port to address for each way)."""
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HARDWIRE_")}
        run = partial(hardwire, environment | {"XDG_RUNTIME_DIR": folder})
        forward = [f"--forward=127.0.0.1:0:{port}" for port in (MODBUS, CLOSED_PORT)]
        started = run("virtual", "up", "--name=wire", "--tap=hw0", *forward, *options, "--detach")
        forwarded = {each["board_port"]: (each["host"], each["port"]) for each in started["forwards"]}
        try:
            yield run, {"tap": lambda port: (BOARD, port), "forwarder": forwarded.get}
        finally:
            run("virtual", "down", "--all")


class Client:
    """A connection to the board."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, WAIT_S)

    def ask(self):
        self.socket.sendall(REQUEST)

    def answered(self):
        answer = b""
        while len(answer) < len(ANSWER) and (more := self.socket.recv(len(ANSWER) - len(answer))):
            answer += more
        return answer == ANSWER

    def end(self):
        """FIN to the board, and wait for its FIN."""
        self.socket.shutdown(socket.SHUT_WR)
        with self.socket:
            assert self.socket.recv(1) == b""


def refused(way, address):
    """Refused at once; behind a forwarder, where the kernel has accepted before the board is asked, reset."""
    with pytest.raises(ConnectionRefusedError if way == "tap" else ConnectionResetError):
        Client(address).answered()


def exchange(address):
    client = Client(address)
    client.ask()
    assert client.answered()
    client.end()


@needs_tshark
async def test_tshark_finds_nothing_wrong(tmp_path):
    path = tmp_path / "emulated.pcapng"
    with emulated(f"--pcap={path}") as (_, ways):
        await ping(b"emulated")
        for address in ways.values():
            exchange(address(MODBUS))
    assert faults(path) == []
    assert completeness(path) == [COMPLETE, COMPLETE]
    assert unclean(path) == []
    assert {name for (name,) in fields(path, "frame.interface_name", where="tcp")} == {"hw0", "pc", "board"}


@needs_tshark
async def test_refusals(tmp_path):
    """Nobody listens there, or not any more: RST, as from the chip."""
    path = tmp_path / "refused.pcapng"
    with emulated(f"--pcap={path}") as (_, ways):
        for way, address in ways.items():
            refused(way, address(CLOSED_PORT))
        listeners = 5  # connections that Modbus takes, of the default settings
        clients = []
        for _ in range(listeners):
            clients.append(Client(ways["tap"](MODBUS)))
            clients[-1].ask()
            assert clients[-1].answered()
        for way, address in ways.items():
            refused(way, address(MODBUS))
        for client in clients:
            client.end()
        exchange(ways["tap"](MODBUS))
    assert faults(path) == []
    assert sorted(completeness(path)) == [COMPLETE] * (listeners + 1) + [SYN | ACK | RST] * 4
    resets = fields(path, "frame.interface_name", where="tcp.flags.reset == 1")
    assert resets == [["board"]] * 4


async def test_cable():
    """Pulled under open connections and put back: they go on."""
    with emulated() as (run, ways):
        clients = [Client(address(MODBUS)) for address in ways.values()]
        assert run("virtual", "link", "down")["link"] is False
        for client in clients:
            client.ask()
        assert run("virtual", "status")["link"] is False
        assert select.select([client.socket for client in clients], [], [], QUIET_S)[0] == []
        assert run("virtual", "link", "up")["link"] is True
        for client in clients:
            assert client.answered()
            client.end()
        assert run("virtual", "status")["link"] is True
