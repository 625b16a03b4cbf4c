"""How fast files move, in device time: beside mpremote and the bare flash, and what Modbus feels of it.

In: a running Bench whose app shows RAM_FILE. Out: figures by name of the line. Never: a figure of a file that was not
whole. The client answers in no time, as bench_client.py's do; mpremote is the real program, and as fast as this PC.
"""

import asyncio
import filecmp
import random
import sys
import tempfile
from collections.abc import Callable, Generator
from hashlib import sha256
from pathlib import Path
from struct import pack, unpack, unpack_from
from typing import TYPE_CHECKING

from hardwire.wire import files as wire

from .bench_client import Client, Sample, User
from .errors import FAILED, TIMEOUT, HardwireError
from .virtual.clock import NS_PER_MS, NS_PER_S
from .virtual.tcpip import Stack

if TYPE_CHECKING:
    from .bench import Bench

KEY = "bench"
RAM_FILE, RAM_SIZE = "ram.bin", 32_768  # with the services there is no heap for more in one piece
RAM_GETS = 8  # in a row: one collection of the heap, 25 ms, is half of the time of one
SIZE = 131_072
MPREMOTE_SIZE = 16_384  # it moves 4 to 9 KB/s, and waiting for this PC is part of its time
GET_BESIDE, PUT_BESIDE = 65_536, 16_384  # with it go some thousand exchanges of Modbus
DATA = random.Random(1).randbytes(SIZE)
QUIET_EXCHANGES, WARM_UP = 500, 3  # before, on the same board
KILOBYTE = 1000
MICROSECONDS = 1_000_000
TRANSFER_S = 60.0  # device time a transfer may take
LARGEST = 4096  # payload that the client takes
_NONCE = bytes(16)
_TOKEN = 8
_PROGRAM_S = 300.0  # wall time of mpremote, on a PC under load

# Writes as a program on the board does that has the data in RAM; prints microseconds.
_RAW = f"""
import time
block = bytes(4096)
start = time.ticks_us()
with open("raw.bin", "wb") as file:
    for _ in range({SIZE // 4096}):
        file.write(block)
print(time.ticks_diff(time.ticks_us(), start))
"""

Frames = Generator[None, tuple[int, bytes], None]


class FilesClient(User):
    """A connection to the file server that does one thing at a time.

    Attributes: rates: of the transfers that have ended, KB/s from the request to the last frame.
    """

    def __init__(self, pc: Stack, port: int) -> None:
        self.rates: list[float] = []
        self._clock = pc.clock
        self._held = bytearray()
        self._work: Frames | None = self._log_in()
        self._puts = 0
        self._limit = wire.FIRST_LIMIT
        self._window = 0
        super().__init__(pc, port)

    @property
    def idle(self) -> bool:
        """What it was told is done, or the connection has ended."""
        return self._work is None or bool(self.failed)

    def established(self) -> None:
        next(self._work)

    def received(self, data: bytes) -> None:
        held = self._held
        held += data
        while (found := wire.parse(held, 0, len(held), LARGEST)) is not None:
            length, kind, _, whole = found
            payload = bytes(held[wire.HEADER : length])
            del held[:length]
            if not whole:
                self.failed = "a damaged frame"
            elif kind == wire.ERROR:
                self.failed = payload[1:].decode()
            elif self._work is not None:
                self._give(kind, payload)

    def _give(self, kind: int, payload: bytes) -> None:
        try:
            self._work.send((kind, payload))
        except StopIteration:
            self._work = None

    def _begin(self, work: Frames) -> None:
        self._work = work
        next(work)

    def _say(self, kind: int, payload: bytes) -> None:
        self.tcb.send(bytes(wire.frame(kind, 1, payload)))

    def _log_in(self) -> Frames:
        self._say(
            wire.HELLO, pack(wire.CLIENT_HELLO, wire.MAGIC, wire.VERSION, wire.VERSION, LARGEST, _NONCE)
        )
        _, payload = yield
        _, _, self._limit, self._window, _, _, _, nonce, _ = unpack_from(wire.SERVER_HELLO, payload)
        proof = wire.proof(KEY.encode(), b"client", wire.WRITE, _NONCE, nonce)
        self._say(wire.AUTH, bytes((wire.WRITE,)) + proof)
        yield

    # Transfers

    def get(self, path: str, size: int = wire.TO_THE_END, times: int = 1) -> None:
        """Begin to read a file, the first `size` bytes at most, `times` in a row."""
        self._begin(self._getting(path.encode(), size, times))

    def put(self, path: str, data: bytes) -> None:
        """Begin to write a file."""
        self._begin(self._putting(path.encode(), data))

    def _count(self, size: int, started: int) -> None:
        self.rates.append(size / KILOBYTE / ((self._clock.now - started) / NS_PER_S))

    def _getting(self, path: bytes, wanted: int, times: int) -> Frames:
        started, total = self._clock.now, 0
        for _ in range(times):
            self._say(wire.GET, pack(wire.CLIENT_GET, 0, 0, wanted, 0) + path)
            digest, size, kind = sha256(), 0, None
            while kind != wire.END:
                kind, payload = yield
                if kind == wire.DATA:
                    digest.update(payload[4:])
                    size += len(payload) - 4
            if payload[4:] != digest.digest() or unpack_from(">I", payload)[0] != size:
                self.failed = "not the file that was sent"
            total += size
        self._count(total, started)

    def _putting(self, path: bytes, data: bytes) -> Frames:
        started = self._clock.now
        self._puts += 1
        token = self._puts.to_bytes(_TOKEN, "big")
        self._say(wire.PUT, pack(wire.CLIENT_PUT, 0, len(data), token) + path)
        yield
        chunk = self._limit - 4
        at = acknowledged = 0
        while True:
            while at < len(data) and at + chunk <= acknowledged + self._window:
                self._say(wire.DATA, pack(">I", at) + data[at : at + chunk])
                at = min(at + chunk, len(data))
                if at == len(data):
                    self._say(wire.END, sha256(data).digest())
            kind, payload = yield
            if kind == wire.ACK:
                acknowledged = unpack(">I", payload)[0]
            elif kind == wire.END | wire.ANSWER:
                break
            else:
                self.failed = f"frame {kind:02x} while it puts"
        self._count(len(data), started)


class Polling:
    """Exchanges of `request`, each as soon as the one before is over, until `over()` when one is."""

    def __init__(self, pc: Stack, client: Client, request: bytes, over: Callable[[], bool]) -> None:
        self._clock = pc.clock
        self._client = client
        self._request = request
        self._times: list[float] = []
        self._over = over
        self.done = False
        self._ask()

    def _ask(self) -> None:
        self._asked_at = self._clock.now
        self._client.ask(self._request, self._answered)

    def _answered(self, answer: bytes) -> None:
        self._times.append((self._clock.now - self._asked_at) / NS_PER_MS)
        self.done = self._over()
        if not self.done:
            self._ask()

    def sample(self) -> Sample:
        """The times; SPI traffic is not told apart. Raises HardwireError if it has not ended."""
        if not self.done:
            raise HardwireError(TIMEOUT, f"Modbus beside files: {self._client.failed or 'too slow'}")
        return Sample(tuple(self._times), 0, 0, b"")


def _checked(client: FilesClient) -> FilesClient:
    """Raises HardwireError unless it has done what it was told."""
    if client.failed or not client.idle:
        raise HardwireError(TIMEOUT, f"files: {client.failed or 'too slow'}")
    return client


async def _alone(bench: "Bench", client: FilesClient, begin: Callable[[], None]) -> float:
    """The rate of a transfer, KB/s. Raises HardwireError."""
    await bench.step(TRANSFER_S, begin, lambda _: client.idle)
    return _checked(client).rates[-1]


async def _beside(
    bench: "Bench", client: FilesClient, modbus: Client, request: bytes, begin: Callable[[], None]
) -> tuple[float, Sample]:
    """The same beside Modbus at full speed, and its times. Raises HardwireError."""

    def both() -> Polling:
        begin()
        return Polling(bench.pc, modbus, request, lambda: client.idle)

    polling = await bench.step(TRANSFER_S, both, lambda polling: polling.done or modbus.failed)
    return _checked(client).rates[-1], polling.sample()


async def _mpremote(bench: "Bench", *arguments: str) -> float:
    """Run it; returns device seconds from the first byte on the console to the last. Raises HardwireError."""
    board = bench.board
    at = []
    board.on_console = lambda: at.append(board.clock.now)
    try:
        command = (sys.executable, "-m", "mpremote", "connect", board.repl, *arguments)
        pipe = asyncio.subprocess.PIPE
        program = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        try:
            output, error = await asyncio.wait_for(program.communicate(), _PROGRAM_S)
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
    finally:
        board.on_console = lambda: None
    if program.returncode:
        words = (error or output).decode(errors="replace").strip().splitlines()
        raise HardwireError(FAILED, f"mpremote {arguments[0]}: {words[-1] if words else 'failed'}")
    return (at[-1] - at[0]) / NS_PER_S


async def measure(
    bench: "Bench", port: int, request: bytes, report: Callable[[str], None]
) -> dict[str, float]:
    """Ours, by name of the line; the app is stopped at the end. Raises HardwireError.

    Args:
        port: of the file server. request: what Modbus is asked beside.
    """
    report("files")
    client = await bench.step(TRANSFER_S, lambda: FilesClient(bench.pc, port), lambda client: client.idle)
    _checked(client)
    # What the server makes once: the folder for what is under way.
    await _alone(bench, client, lambda: client.put("first.bin", DATA[:1]))
    found = {
        "put_flash": await _alone(bench, client, lambda: client.put("flash.bin", DATA)),
        "get_flash": await _alone(bench, client, lambda: client.get("flash.bin")),
        "get_ram": await _alone(bench, client, lambda: client.get(RAM_FILE, times=RAM_GETS)),
    }
    report("files beside Modbus")
    modbus = await bench.connect()
    quiet = (await bench.exchange([modbus], request, QUIET_EXCHANGES, WARM_UP)).percentile(99)
    work = {
        "get": lambda: client.get("flash.bin", GET_BESIDE),
        "put": lambda: client.put("beside.bin", DATA[:PUT_BESIDE]),
    }
    for name, begin in work.items():
        rate, sample = await _beside(bench, client, modbus, request, begin)
        found[f"{name}_beside_fc03"] = rate
        found[f"fc03_beside_{name}_p99"] = sample.percentile(99)
        found[f"fc03_beside_{name}"] = sample.percentile(99) / quiet
        found[f"fc03_beside_{name}_max"] = max(sample.times)
    report("flash")
    found["write_flash"] = SIZE / KILOBYTE / (int(await bench.board.exec(_RAW)) / MICROSECONDS)
    return found


async def against(bench: "Bench", report: Callable[[str], None]) -> dict[str, float]:
    """mpremote's cp both ways, by name of the line; on a board whose app it stops. Raises HardwireError."""
    report("mpremote")
    with tempfile.TemporaryDirectory() as folder:
        there, back = _sample_file(folder), f"{folder}/back"
        copies = {"put_flash": (there, ":mp.bin"), "get_flash": (":mp.bin", back)}
        seconds = {name: await _mpremote(bench, "cp", *names) for name, names in copies.items()}
        if not filecmp.cmp(there, back, shallow=False):
            raise HardwireError(FAILED, "mpremote: not the file that was sent")
    return {name: MPREMOTE_SIZE / KILOBYTE / took for name, took in seconds.items()}


def _sample_file(folder: str) -> str:
    path = Path(folder, "there")
    path.write_bytes(DATA[:MPREMOTE_SIZE])
    return str(path)
