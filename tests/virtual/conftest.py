"""Emulated boards for the tests, booted once per session: `bare` is only MicroPython, `firmware` has our app.

A board runs in the asyncio loop of a thread, so that tests are plain functions that use real sockets and
programs. Several may run at once: one that sleeps costs next to nothing.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from hardwire.addresses import ip_bytes
from hardwire_host import native
from hardwire_host.bundle import blank_filesystem, build_filesystem
from hardwire_host.image import find_or_build
from hardwire_host.virtual.board import VirtualBoard
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.forward import Forwarder
from hardwire_host.virtual.lab import Lab
from hardwire_host.virtual.tcpip import Stack

BOARD = "w5500_evb_pico"
PC_IP, NETMASK = ip_bytes("192.168.77.1"), ip_bytes("255.255.255.0")
PC_MAC = b"\x02\x00\x00\x00\x00\x01"
MODBUS = 502
LISTEN_S = 20  # device time; takes less than one
WAIT_S = 300  # wall time for a command; a PC under load is slow
CALL_S = 300  # wall time of one call on a PC under load; programs run 5 to 50 times slower than on silicon


class LoopThread:
    """An asyncio loop in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, coroutine):
        """Run `coroutine` there; returns its result, raises its exception."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(CALL_S)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Live:
    """A running `board`, for synchronous code."""

    def __init__(self, **arguments):
        self._thread = LoopThread()
        self._forwarder = None
        self.board = self.call(self._make({"board": BOARD} | arguments))

    @staticmethod
    async def _make(arguments):
        lab = Lab(arguments.pop("segment", Segment), pace=arguments.pop("pace", True))
        board = VirtualBoard(lab=lab, **arguments)
        await board.start()
        return board

    def call(self, coroutine):
        """Run a coroutine in the board's loop."""
        return self._thread.call(coroutine)

    def do(self, function, *arguments):
        """Call a function in the board's loop."""

        async def call():
            return function(*arguments)

        return self.call(call())

    def exec(self, source, device_seconds=60):
        """Run `source` in the board's raw REPL."""
        return self.call(self.board.exec(source, device_seconds))

    def run_until(self, predicate, device_seconds):
        """Let device time pass until `predicate()`."""
        return self.call(self.board.run_until(predicate, device_seconds))

    def wait_listening(self, *ports):
        """Until the board listens on every one of `ports`."""
        self.call(self.board.wait_listening(ports, LISTEN_S))

    @property
    def repl(self):
        """Path of the PTY."""
        return self.board.repl

    def status(self):
        """As `VirtualBoard.status`."""
        return self.do(self.board.status)

    def forward(self, board_port):
        """A free port of 127.0.0.1 that leads to `board_port`."""
        return self.call(self._forward(board_port))

    async def _forward(self, board_port):
        if self._forwarder is None:
            clock, port = self.board.segment.clock, self.board.segment.attach("pc")
            stack = Stack(clock, port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=0)
            self._forwarder = Forwarder(stack)
        address = await self._forwarder.listen("127.0.0.1", 0, lambda: self.board.chip.ip, board_port)
        return address[1]

    def close(self):
        if self._forwarder is not None:
            self.call(self._forwarder.close())
        self.call(self.board.stop())
        self._thread.close()


@pytest.fixture(scope="session")
def image():
    """The MicroPython image, and an emulator as fast as this machine can have it."""
    native.build()
    return find_or_build()


@pytest.fixture(scope="session")
def boot(image):
    """boot(filesystem=..., pace=..., ...) -> Live: one more board, stopped at the end of the session."""
    boards = []

    def start(**arguments):
        boards.append(Live(**{"image": image} | arguments))
        return boards[-1]

    yield start
    for live in boards:
        live.close()


@pytest.fixture(scope="session")
def bare(boot):
    """MicroPython and an empty filesystem; idle time is skipped."""
    return boot(filesystem=blank_filesystem(BOARD), pace=False)


@pytest.fixture(scope="session")
def firmware(boot):
    """The default app, listening; time passes as on a real board."""
    live = boot(filesystem=build_filesystem(BOARD))
    live.wait_listening(MODBUS)
    return live


# `hardwire virtual` in processes of its own


@pytest.fixture(scope="module")
def runtime():
    """The state folder's parent: short, because sockets are made in it."""
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def environment(runtime):
    return {key: value for key, value in os.environ.items() if not key.startswith("HARDWIRE_")} | {
        "XDG_RUNTIME_DIR": str(runtime)
    }


@pytest.fixture(scope="module")
def hardwire(environment):
    """Run `hardwire ARGUMENTS --json`; returns (exit code, the object)."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "hardwire_host.cli", *arguments, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=WAIT_S,
            check=False,
        )
        assert done.stdout.count("\n") == 1
        return done.returncode, json.loads(done.stdout)

    yield run
    run("virtual", "down", "--all")


@pytest.fixture(scope="module")
def board(hardwire):
    """The default app, running; its object."""
    code, answer = hardwire("virtual", "up", "--name", "app", "--forward", "127.0.0.1:0:502", "--detach")
    assert code == 0, answer["error"]
    return answer
