"""Speed of the firmware in device time, next to the stock adafruit_wiznet5k socket on the same emulated board.

In: images. Out: rows as {"name", "unit", "better", "must", "ours", "stock", "note"}. The client is a TCP/IP stack on
the board's segment that answers in no time, so what is measured is the board. Figures are exact and repeat; wall time
plays no part (that is bench_wall.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median_low
from types import ModuleType
from typing import TypeVar

from . import bench_files, bench_ours, bench_stock
from .bench_client import PORT, Bulk, Client, Sample, Series, User
from .bundle import board_constants
from .errors import FAILED, TIMEOUT, HardwireError
from .uf2 import describe
from .virtual.board import VirtualBoard
from .virtual.clock import NS_PER_MS, NS_PER_S
from .virtual.inprocess import NETMASK, PC_IP, PC_MAC
from .virtual.lab import Lab
from .virtual.tcpip import Stack

BOARD = "w5500_evb_pico"
BOARD_WITHOUT_INT = "sil_rp2040_shim"

WARM_UP = 3  # exchanges before counting: first allocations
EXCHANGES = 500  # a third of a second: some ticks of the firmware are among them
STOCK_EXCHANGES = 3  # they are all alike, and each takes half a second of wall time
CLIENTS = 4
CONNECTS = 2
HEAP_ROUNDS = 5  # in some of them a tick allocates, too
GAP_NS = 15 * NS_PER_MS  # between steps: more than the 10 ms that engine.py may run on after one
START_S = 30.0  # device time the stock library may take to start: its own sleeps are 6 s
EXCHANGE_S = 2.0  # device time one exchange may take
BULK_S = 30.0
SETTLE_S = 4.0  # after the last event listeners are looked at more often, for 3 s
IDLE_S = 5.0
NO_INT_IDLE_S = 2.0  # it asks at short intervals
STOCK_IDLE_S = 0.2  # it never sleeps
LOOK_NS = NS_PER_MS // 2  # between looks whether a step has ended, and how exact boot_to_listening is

REQUESTS = {
    "fc03_1": bytes.fromhex("000100000006010300000001"),
    "fc03_125": bytes.fromhex("00010000000601030000007d"),
}

T = TypeVar("T")
LESS, MORE = "less", "more"


@dataclass(frozen=True)
class Line:
    """A row before it is measured. better: LESS or MORE. must: the figure that ours has to reach, if any."""

    name: str
    unit: str
    must: float | None = None
    better: str = LESS
    note: str = ""


_FILE = f"{bench_files.SIZE >> 10} KiB"
_SPI = f"SPI at {board_constants(BOARD).SPI_HZ / 1e6:g} MHz"
LINES = (
    Line("fc03_1", "ms", 0.70, note="mean"),
    Line("fc03_1_median", "ms"),
    Line("fc03_1_p99", "ms"),
    Line("fc03_1_spi_frames", "frames", 9),
    Line("fc03_1_spi_bytes", "bytes", 70),
    Line("fc03_125", "ms", 1.3, note="mean"),
    Line("fc03_125_median", "ms"),
    Line("fc03_125_p99", "ms"),
    Line("fc03_125_spi_frames", "frames"),
    Line("fc03_125_spi_bytes", "bytes"),
    Line("four_clients", "ms", 0.85, note="per exchange, mean"),
    Line("ten_hooks", "ms", 0.1, note="more, for a register in the last of ten ranges"),
    Line("accept_to_answer", "ms", 3.0, note="from SYN, mean"),
    Line("ram_to_pc", "MB/s", 1.0, MORE, _SPI),
    Line("pc_to_ram", "MB/s", 1.0, MORE, _SPI),
    Line("boot_to_listening", "s", 1.5, note="static address"),
    Line("idle_spi_intn", "frames/s", 2),
    Line("idle_spi_no_intn", "frames/s", 20, note=BOARD_WITHOUT_INT),
    Line("heap_per_exchange", "bytes", 0),
    Line("heap_per_second", "bytes/s", note="connected, nothing asked"),
    Line("free_heap", "KB", 110, MORE, ".mpy, all services but Echo"),
    Line("free_heap_frozen", "KB", 150, MORE, "frozen, all services but Echo"),
    Line(
        "get_flash",
        "KB/s",
        250,
        MORE,
        f"{_FILE}; stock: mpremote cp, {bench_files.MPREMOTE_SIZE >> 10} KiB",
    ),
    Line("get_ram", "KB/s", 600, MORE, f"{bench_files.RAM_SIZE >> 10} KiB, {bench_files.RAM_GETS} times"),
    Line("put_flash", "KB/s", None, MORE, f"{_FILE}; stock: mpremote cp"),
    Line("write_flash", "KB/s", None, MORE, f"{_FILE} by a program on the board: what flash takes"),
    Line("get_beside_fc03", "KB/s", None, MORE, "while one client asks without pause"),
    Line("put_beside_fc03", "KB/s", None, MORE),
    Line("fc03_beside_get", "x quiet", 3, note="p99"),
    Line("fc03_beside_get_p99", "ms"),
    Line("fc03_beside_get_max", "ms"),
    Line("fc03_beside_put", "x quiet", 3, note="p99"),
    Line("fc03_beside_put_p99", "ms"),
    Line("fc03_beside_put_max", "ms"),
)
DIGITS = 3


class Bench:
    """An emulated board with `filesystem`, and a PC's stack on its segment. `pace` as Lab has it."""

    def __init__(self, image: Path, filesystem: bytes, *, board: str = BOARD, pace: bool = False) -> None:
        self.board = VirtualBoard(board=board, image=image, filesystem=filesystem, lab=Lab(pace=pace), seed=1)
        self._port = self.board.segment.attach("pc")
        clock = self.board.segment.clock
        self.pc = Stack(clock, self._port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=2)
        self._at = 0  # device time at which the last step ended

    async def start(self) -> float:
        """Power on; returns when it listens, after how many seconds. Raises HardwireError."""
        clock = self.board.clock

        def look() -> None:
            if self.board.chip.listening(PORT):
                self._at = clock.now
            else:
                clock.call_later(LOOK_NS, look)

        look()
        await self.board.start()
        await self.board.wait_listening([PORT], START_S)
        await self.board.run_until(lambda: self._at, START_S)
        return self._at / NS_PER_S

    async def step(self, seconds: float, begin: Callable[[], T], done: Callable[[T], object]) -> T:
        """What `begin()` makes, once `done` of it is true; after `seconds` in any case.

        Both are asked by alarms, GAP_NS after the step before and then every LOOK_NS: when `run_until` sees to it
        depends on the PC, what the board does must not.
        """
        clock, made, ended = self.pc.clock, [], []

        def start() -> None:
            made.append(begin())
            look(clock.now + int(seconds * NS_PER_S))

        def look(end: int) -> None:
            if clock.now >= end or done(made[0]):
                ended.append(clock.now)
            else:
                clock.call_at(min(end, clock.now + LOOK_NS), lambda: look(end))

        clock.call_at(self._at + GAP_NS, start)
        await self.board.run_until(lambda: ended)
        self._at = ended[0]
        return made[0]

    async def _listening(self, port: int = PORT) -> None:
        """Until it can be connected to. The stock library has one listener, and none while it is busy.

        It also raises and ends where somebody connects between its LISTEN and its look whether that has worked; the
        next step is later.
        """
        listening = partial(self.board.chip.listening, port)
        await self.step(EXCHANGE_S, lambda: None, lambda _: listening())
        if not listening():
            raise HardwireError(TIMEOUT, f"the board does not listen on port {port} after {EXCHANGE_S:g} s")

    async def connect(self) -> Client:
        """A new connection, established. Raises HardwireError."""
        await self._listening()
        client = await self.step(
            EXCHANGE_S, lambda: Client(self.pc), lambda client: client.up or client.failed
        )
        if not client.up:
            raise HardwireError(TIMEOUT, f"cannot connect: {client.failed or 'no answer'}")
        return client

    async def exchange(self, clients: list[Client], request: bytes, count: int, warm_up: int = 0) -> Sample:
        """`count` exchanges after `warm_up` more, by `clients` in turn; none: by a new one. Raises HardwireError."""

        def begin() -> Series:
            if not clients:
                clients.append(Client(self.pc))
            return Series(self.pc, self.board.chip, clients, request, count, warm_up)

        return (await self.step(EXCHANGE_S * (count + warm_up), begin, lambda series: series.done)).sample()

    async def close(self, user: User) -> None:
        """End a connection as a polite client does. Raises HardwireError."""
        await self.step(EXCHANGE_S, user.tcb.shutdown, lambda _: user.failed)
        if not user.failed:
            raise HardwireError(TIMEOUT, f"the board does not close a connection after {EXCHANGE_S:g} s")

    async def accept(self) -> float:
        """From SYN to the end of the first answer, ms, once one connection has been served."""
        times = []
        for _ in range(1 + CONNECTS):
            await self._listening()
            clients: list[Client] = []
            times.append((await self.exchange(clients, REQUESTS["fc03_1"], 1)).mean)
            await self.close(clients[0])
        return sum(times[1:]) / CONNECTS

    async def bulk(self, side: ModuleType, service: tuple[int, bytes], *, sending: bool) -> float:
        """MB/s. Raises HardwireError. `service`: port, and the request that starts it."""
        port, hello = service
        await self._listening(port)
        make = partial(
            Bulk, self.pc, port, skip=side.BULK_SKIPPED, count=side.BULK, sending=sending, hello=hello
        )
        bulk = await self.step(BULK_S, make, lambda bulk: bulk.done)
        rate = bulk.rate()
        await self.close(bulk)
        return rate

    async def _wait(self, seconds: float) -> int:
        """Let `seconds` pass. Returns SPI frames meanwhile."""
        before = await self.step(seconds, lambda: self.board.chip.frames, lambda _: False)
        return self.board.chip.frames - before

    async def idle(self, settle_s: float, seconds: float) -> float:
        """SPI frames per second with nothing connected."""
        await self._wait(settle_s)
        return await self._wait(seconds) / seconds

    async def heap_used(self, client: Client, read: bytes) -> int:
        """Bytes in use; `read`: request whose answer ends with them, four bytes, lowest first."""
        return int.from_bytes((await self.exchange([client], read, 1)).answer[-4:], "little")

    async def heap_per_exchange(self, client: Client, read: bytes, count: int) -> float:
        """Bytes of heap that an exchange of one register allocates. Raises HardwireError.

        Of HEAP_ROUNDS rounds the one in the middle: what is done once a second falls into few of them, what an exchange
        allocates into all.
        """
        per_round = max(1, count // HEAP_ROUNDS)
        used = []
        for _ in range(HEAP_ROUNDS + 1):
            await self.exchange([client], REQUESTS["fc03_1"], per_round)
            used.append(await self.heap_used(client, read))
        return median_low(map(_grown, used, used[1:])) / (per_round + 1)  # the reading is one, too

    async def heap_per_second(self, client: Client, read: bytes, seconds: float) -> float:
        """Bytes of heap that are allocated while nothing is asked. Raises HardwireError."""
        before = await self.heap_used(client, read)
        await self._wait(seconds)
        return _grown(before, await self.heap_used(client, read)) / seconds

    async def free_heap(self, client: Client, read: bytes) -> int:
        """KB after a collection; `read`: request whose answer ends with it, two bytes."""
        return int.from_bytes((await self.exchange([client], read, 1)).answer[-2:], "big")


def _grown(before: int, after: int) -> int:
    """Raises HardwireError where a collection has hidden what was allocated: it frees more than a round allocates."""
    if after < before:
        raise HardwireError(FAILED, "the heap was collected while it was measured")
    return after - before


async def _side(
    bench: Bench, side: ModuleType, report: Callable[[str], None], exchanges: int
) -> dict[str, float]:
    """What can be measured of both, by name of the line. `side`: bench_ours or bench_stock."""
    settle_s, idle_s = (0.0, STOCK_IDLE_S) if side is bench_stock else (SETTLE_S, IDLE_S)
    report("boot")
    found = {"boot_to_listening": await bench.start()}
    found["idle_spi_intn"] = await bench.idle(settle_s, idle_s)
    report("accept")
    found["accept_to_answer"] = await bench.accept()
    client = await bench.connect()
    for name, request in REQUESTS.items():
        report(name)
        sample = await bench.exchange([client], request, exchanges, WARM_UP)
        found[name] = sample.mean
        found[f"{name}_median"] = sample.percentile(50)
        found[f"{name}_p99"] = sample.percentile(99)
        found[f"{name}_spi_frames"] = sample.frames
        found[f"{name}_spi_bytes"] = sample.bytes
    report("heap")
    found["free_heap"] = await bench.free_heap(client, side.FREE_HEAP)
    found["heap_per_exchange"] = await bench.heap_per_exchange(client, side.HEAP_USED, exchanges)
    found["heap_per_second"] = await bench.heap_per_second(client, side.HEAP_USED, idle_s)
    await bench.close(client)
    report("bulk")
    found["ram_to_pc"] = await bench.bulk(side, side.CHARGEN, sending=False)
    found["pc_to_ram"] = await bench.bulk(side, side.DISCARD, sending=True)
    report("four clients")
    clients = [await bench.connect()]
    if side.FOUR:
        await bench.exchange(clients, side.FOUR, 1)
    clients += [await bench.connect() for _ in range(CLIENTS - 1)]
    found["four_clients"] = (await bench.exchange(clients, REQUESTS["fc03_1"], exchanges, CLIENTS)).mean
    if side.TEN_HOOKS:
        report("hooks")
        await bench.exchange(clients[:1], side.TEN_HOOKS, 1)
        hooked = await bench.exchange(clients[:1], REQUESTS["fc03_1"], exchanges, WARM_UP)
        found["ten_hooks"] = hooked.percentile(50) - found["fc03_1_median"]
    return found


async def _with(bench: Bench, work: Callable) -> dict[str, float]:
    try:
        return await work(bench)
    finally:
        await bench.board.stop()


async def measure(
    image: Path, frozen: Path | None, report: Callable[[str], None], exchanges: int = EXCHANGES
) -> list[dict]:
    """All rows, in the order of the table. `frozen`: image with the firmware inside. Raises HardwireError."""
    size = describe(image).fs_size

    async def ours(bench: Bench) -> dict[str, float]:
        return await _side(bench, bench_ours, lambda what: report(f"ours: {what}"), exchanges)

    async def without_int(bench: Bench) -> dict[str, float]:
        report("ours: INTn not wired")
        await bench.start()
        return {"idle_spi_no_intn": await bench.idle(SETTLE_S, NO_INT_IDLE_S)}

    async def inside(bench: Bench) -> dict[str, float]:
        report("ours: frozen")
        await bench.start()
        return {"free_heap_frozen": await bench.free_heap(await bench.connect(), bench_ours.FREE_HEAP)}

    async def files(bench: Bench) -> dict[str, float]:
        await bench.start()
        return await bench_files.measure(
            bench, bench_ours.FILES, REQUESTS["fc03_1"], lambda what: report(f"ours: {what}")
        )

    async def mpremote(bench: Bench) -> dict[str, float]:
        await bench.board.start()
        return await bench_files.against(bench, report)

    async def stock(bench: Bench) -> dict[str, float]:
        count = min(exchanges, STOCK_EXCHANGES)
        return await _side(bench, bench_stock, lambda what: report(f"stock: {what}"), count)

    # All are made before the first is measured: sources may be edited meanwhile.
    benches = [
        (Bench(image, bench_ours.filesystem(BOARD, size)), ours),
        (Bench(image, bench_ours.filesystem(BOARD_WITHOUT_INT, size), board=BOARD_WITHOUT_INT), without_int),
        (Bench(image, bench_ours.filesystem(BOARD, size)), files),
    ]
    if frozen:
        own = bench_ours.frozen_filesystem(BOARD, describe(frozen).fs_size)
        benches.append((Bench(frozen, own), inside))
    library = Bench(image, bench_stock.filesystem(BOARD, size))
    serial = Bench(image, bench_ours.filesystem(BOARD, size), pace=True)
    found = {}
    for bench, work in benches:
        found |= await _with(bench, work)
    against = await _with(library, stock) | await _with(serial, mpremote)
    against["idle_spi_no_intn"] = against["idle_spi_intn"]  # it does not know INTn
    return [_row(line, found.get(line.name), against.get(line.name)) for line in LINES]


def _row(line: Line, ours: float | None, stock: float | None) -> dict:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, DIGITS)

    return {
        "name": line.name,
        "unit": line.unit,
        "better": line.better,
        "must": line.must,
        "ours": rounded(ours),
        "stock": rounded(stock),
        "note": line.note,
    }


def missed(row: dict) -> bool:
    """Whether ours does not reach what it must."""
    if row["must"] is None or row["ours"] is None:
        return False
    return row["ours"] > row["must"] if row["better"] == LESS else row["ours"] < row["must"]
