"""Speed of the firmware in device time, next to the stock adafruit_wiznet5k socket on the same emulated board.

In: an image. Out: results as {"name", "unit", "ours", "stock"}. The client is a TCP/IP stack on the board's segment
that answers in no time, so what is measured is the board. Figures are exact and repeat; wall time plays no part
(that is bench_wall.py).
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardwire import config

from .bundle import (
    board_constants,
    build_filesystem,
    compile_source,
    firmware_folder,
    libraries,
    library_file,
    pack,
)
from .errors import FAILED, HardwireError
from .uf2 import describe
from .virtual.board import VirtualBoard
from .virtual.clock import NS_PER_MS, NS_PER_S, Clock
from .virtual.lab import Lab
from .virtual.tcpip import Stack, Tcb
from .virtual.w5500 import W5500

BOARD = "w5500_evb_pico"
BOARD_IP = config.ip_bytes("192.168.77.20")
PC_IP = config.ip_bytes("192.168.77.1")
NETMASK = config.ip_bytes("255.255.255.0")
PC_MAC = bytes.fromhex("020000000001")
PORT = 502

WARM_UP = 3  # exchanges before counting: connection, caches, first allocations
EXCHANGES = 50
STOCK_EXCHANGES = 10
START_S = 30.0  # device time the stock library may take to start: its own sleeps are 6 s
EXCHANGE_S = 2.0  # device time one exchange may take

REQUESTS = {
    "fc03_1": bytes.fromhex("000100000006010300000001"),
    "fc03_125": bytes.fromhex("00010000000601030000007d"),
}
READ_HEAP = bytes.fromhex("000100000006010400020001")  # input register 2 of the default app
FEW_REGISTERS = "holding_registers=100"

SOCKETS = (
    "adafruit_wiznet5k/adafruit_wiznet5k_socketpool"  # the one file of the library the firmware does without
)

# The smallest server on the stock socket: the library unmodified, at the same SPI clock as the firmware. Register 0
# holds the free heap in KB.
STOCK_SERVER = """
import machine, busio, digitalio, builtins, gc
machine.freq({pins.CPU_HZ}, {pins.PERIPHERAL_HZ})
for name in ("ConnectionError", "TimeoutError"):
    setattr(builtins, name, type(name, (OSError,), {{}}))
from adafruit_wiznet5k.adafruit_wiznet5k import WIZNET5K
import adafruit_wiznet5k.adafruit_wiznet5k_socketpool as socketpool
spi = machine.SPI({pins.SPI_ID}, {pins.SPI_HZ}, sck=machine.Pin({pins.SCK}), mosi=machine.Pin({pins.MOSI}),
                  miso=machine.Pin({pins.MISO}))
eth = WIZNET5K(busio.SPI(bus=spi), digitalio.DigitalInOut({pins.CS}), digitalio.DigitalInOut({pins.RST}),
               is_dhcp=False, mac="02:00:00:00:00:20", spi_baudrate={pins.SPI_HZ})
eth.ifconfig = (bytes((192, 168, 77, 20)), bytes((255, 255, 255, 0)), bytes((192, 168, 77, 1)), bytes(4))
registers = bytearray(250)
server = socketpool.SocketPool(eth).socket()
server.bind((None, 502))
server.listen()
gc.collect()
registers[:2] = (gc.mem_free() >> 10).to_bytes(2, "big")
connection, peer = server.accept()
while True:
    request = connection.recv(260)
    n = 2 * (request[10] << 8 | request[11])
    connection.send(request[:4] + bytes((0, n + 3, request[6], 3, n)) + registers[:n])
"""


@dataclass(frozen=True)
class Sample:
    """One exchange: device time from the request's first byte on the wire to the answer's last, and its SPI traffic."""

    ms: float
    frames: float
    bytes: float
    answer: bytes


class Client:
    """A TcpUser that sends a request again and again, each as soon as the answer to the one before is complete.

    `pc` is its stack, `clock` and `chip` are the board's.
    """

    def __init__(self, pc: Stack, clock: Clock, chip: W5500) -> None:
        self._clock = clock
        self._chip = chip
        self._request = b""
        self._answer = bytearray()
        self._sent_at = 0
        self._left = 0
        self._marks: list[
            tuple[int, int, int]
        ] = []  # per answer: ns it took, SPI frames and bytes up to then
        self._failed = ""
        self._tcb: Tcb | None = None
        pc.connect(self, None, BOARD_IP, PORT)

    def start(self, request: bytes, count: int) -> None:
        """Begin `count` exchanges, after WARM_UP more; `done` when they are over."""
        self._request = request
        self._marks = []
        self._left = count + WARM_UP
        if self._tcb.state == "ESTABLISHED":
            self._ask()

    @property
    def done(self) -> bool:
        """All were answered, or the connection has ended."""
        return not self._left or bool(self._failed)

    def sample(self) -> Sample:
        """Average of the exchanges. Raises HardwireError if not all were answered."""
        if self._left:
            reason = self._failed or "no answer"
            raise HardwireError(FAILED, f"request {self._request[:12].hex(' ')}: {reason}")
        marks = self._marks
        count = len(marks) - WARM_UP
        _, frames, octets = (last - first for first, last in zip(marks[WARM_UP - 1], marks[-1], strict=True))
        ns = sum(mark[0] for mark in marks[WARM_UP:])
        answer, self._answer = bytes(self._answer), bytearray()
        return Sample(ns / count / NS_PER_MS, frames / count, octets / count, answer)

    def _ask(self) -> None:
        self._answer.clear()
        self._sent_at = self._clock.now
        self._tcb.send(self._request)

    def attached(self, tcb: Tcb) -> None:
        self._tcb = tcb

    def room(self) -> int:
        return 0xFFFF

    def established(self) -> None:
        if self._left:
            self._ask()

    def received(self, data: bytes) -> None:
        self._answer += data
        if len(self._answer) < 6 or len(self._answer) < 6 + int.from_bytes(self._answer[4:6], "big"):
            return
        self._marks.append((self._clock.now - self._sent_at, self._chip.frames, self._chip.bytes))
        self._left -= 1
        if self._left:
            self._ask()

    def sent(self, n: int) -> None:
        pass

    def acked(self, n: int) -> None:
        pass

    def fin(self) -> None:
        self._failed = "the board closed the connection"

    def closed(self, reason: str) -> None:
        self._failed = self._failed or f"connection ended: {reason}"


class Bench:
    """An emulated board with `filesystem`, and a PC's stack on its segment. `pace` as Lab has it."""

    def __init__(self, image: Path, filesystem: bytes, *, pace: bool = False) -> None:
        self.board = VirtualBoard(board=BOARD, image=image, filesystem=filesystem, lab=Lab(pace=pace), seed=1)
        port = self.board.segment.attach("pc")
        self.pc = Stack(
            self.board.segment.clock, port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=2
        )

    async def start(self) -> None:
        """Power on; returns when it listens. Raises HardwireError."""
        await self.board.start()
        await self.board.wait_listening([PORT], START_S)

    def client(self) -> Client:
        """A new connection."""
        return Client(self.pc, self.board.clock, self.board.chip)

    async def exchange(self, client: Client, request: bytes, count: int) -> Sample:
        """Average of `count` exchanges after WARM_UP more. Raises HardwireError."""
        client.start(request, count)
        await self.board.run_until(lambda: client.done, EXCHANGE_S * (count + WARM_UP))
        return client.sample()

    async def run(self, report: Callable[[str], None], count: int) -> dict:
        """Power on and measure: name -> Sample, "boot" -> seconds, "client" -> the connection, for more."""
        report("start")
        await self.start()
        client = self.client()
        found = {"boot": self.board.clock.now / NS_PER_S, "client": client}
        for name, request in REQUESTS.items():
            report(name)
            found[name] = await self.exchange(client, request, count)
        return found


def filesystem(size: int) -> bytes:
    """The firmware as it is deployed, but with 125 holding registers, the most that one request reads."""
    source = (firmware_folder() / "app.py").read_text()
    if source.count(FEW_REGISTERS) != 1:
        raise HardwireError(FAILED, f"app.py does not say {FEW_REGISTERS}")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "app.py")
        app.write_text(source.replace(FEW_REGISTERS, "holding_registers=125"))
        return build_filesystem(BOARD, None, app, size)


def _stock(size: int) -> bytes:
    """The stock library, compiled as for the firmware, and the small server."""
    pins = board_constants(BOARD)
    files = {f"lib/{name}": data for name, data in libraries(pins.ARCH).items()}
    files[f"lib/{SOCKETS}.mpy"] = compile_source(
        f"{SOCKETS}.py", library_file(f"{SOCKETS}.py").read_bytes(), pins.ARCH
    )
    return pack(BOARD, files | {"main.py": STOCK_SERVER.format(pins=pins).encode()}, size)


async def measure(image: Path, report: Callable[[str], None]) -> list[dict]:
    """All results, in the order of the table. Raises HardwireError."""
    size = describe(image).fs_size
    bench = Bench(image, filesystem(size))
    try:
        ours = await bench.run(lambda what: report(f"ours: {what}"), EXCHANGES)
        ours["heap"] = int.from_bytes((await bench.exchange(ours["client"], READ_HEAP, 1)).answer[-2:], "big")
    finally:
        await bench.board.stop()
    bench = Bench(image, _stock(size))
    try:
        stock = await bench.run(lambda what: report(f"stock: {what}"), STOCK_EXCHANGES)
        stock["heap"] = int.from_bytes(stock["fc03_1"].answer[-2:], "big")
    finally:
        await bench.board.stop()
    return _results(ours, stock)


def _results(ours: dict, stock: dict) -> list[dict]:
    def row(name: str, unit: str, value: Callable[[dict], float]) -> dict:
        return {"name": name, "unit": unit, "ours": round(value(ours), 3), "stock": round(value(stock), 3)}

    rows = []
    for name in REQUESTS:
        rows.append(row(name, "ms", lambda side, name=name: side[name].ms))
        rows.append(row(f"{name}_spi_frames", "frames", lambda side, name=name: side[name].frames))
        rows.append(row(f"{name}_spi_bytes", "bytes", lambda side, name=name: side[name].bytes))
    rows.append(row("boot_to_listening", "s", lambda side: side["boot"]))
    rows.append(row("free_heap", "KB", lambda side: side["heap"]))
    return rows
