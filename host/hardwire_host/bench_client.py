"""The PC's end of a measurement: connections on the board's segment that answer in no time, and what they noted.

In: a TCP/IP stack on the segment, and the chip whose SPI traffic is counted. Out: `Sample`, and MB/s. Times are of the
stack's clock, taken when it happens: never when somebody looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardwire.addresses import ip_bytes

from .errors import FAILED, HardwireError
from .virtual.clock import NS_PER_MS, NS_PER_S
from .virtual.tcpip import Stack, Tcb
from .virtual.w5500 import W5500

BOARD_IP = ip_bytes("192.168.77.20")
PORT = 502
LENGTH_END = 6  # bytes of an ADU up to the end of its length field
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Sample:
    """A series of exchanges.

    times: of each, ms from the request's first byte on the wire to the answer's last. frames, bytes: SPI traffic of
    one, on average. answer: the last.
    """

    times: tuple[float, ...]
    frames: float
    bytes: float
    answer: bytes

    @property
    def mean(self) -> float:
        return sum(self.times) / len(self.times)

    def percentile(self, percent: int) -> float:
        """The time that `percent` of all do not exceed, ms."""
        return sorted(self.times)[(len(self.times) - 1) * percent // 100]


class User:
    """A TcpUser that connects at once; what most of the callbacks do. `failed`: why the connection has ended."""

    def __init__(self, pc: Stack, port: int) -> None:
        self.failed = ""
        self.started_at = pc.clock.now
        self.tcb: Tcb | None = None
        pc.connect(self, None, BOARD_IP, port)

    @property
    def up(self) -> bool:
        """Whether it is established."""
        return self.tcb.state == "ESTABLISHED"

    def attached(self, tcb: Tcb) -> None:
        self.tcb = tcb

    def room(self) -> int:
        return 0xFFFF

    def established(self) -> None:
        pass

    def received(self, data: bytes) -> None:
        pass

    def sent(self, n: int) -> None:
        pass

    def acked(self, n: int) -> None:
        pass

    def fin(self) -> None:
        self.failed = self.failed or "the board closed the connection"

    def closed(self, reason: str) -> None:
        self.failed = self.failed or f"connection ended: {reason}"


class Client(User):
    """A Modbus connection with one request outstanding at most; a request may be given before it is established."""

    def __init__(self, pc: Stack) -> None:
        self._request = b""
        self._answer = bytearray()
        self._answered: Callable[[bytes], None] = lambda answer: None
        super().__init__(pc, PORT)

    def ask(self, request: bytes, answered: Callable[[bytes], None]) -> None:
        """Send `request`; `answered(answer)` when it is complete."""
        self._request, self._answered = request, answered
        self._answer.clear()
        if self.up:
            self.tcb.send(request)

    def established(self) -> None:
        if self._request:
            self.tcb.send(self._request)

    def received(self, data: bytes) -> None:
        answer = self._answer
        answer += data
        if len(answer) >= LENGTH_END and len(answer) >= LENGTH_END + int.from_bytes(answer[4:6], "big"):
            self._answered(bytes(answer))


class Series:
    """`warm_up` + `count` exchanges of `request` over `clients` in turn, each as soon as the one before is over."""

    def __init__(
        self, pc: Stack, chip: W5500, clients: Sequence[Client], request: bytes, count: int, warm_up: int
    ) -> None:
        self._clock = pc.clock
        self._chip = chip
        self._clients = clients
        self._request = request
        self._warm_up = warm_up
        self._total = count + warm_up
        self._asked_at = 0
        self._times: list[int] = []  # ns
        self._traffic: list[tuple[int, int]] = []  # SPI frames and bytes so far, before each exchange
        self._answer = b""
        self._ask()

    def _ask(self) -> None:
        self._traffic.append((self._chip.frames, self._chip.bytes))
        if len(self._times) < self._total:
            self._asked_at = self._clock.now
            self._clients[len(self._times) % len(self._clients)].ask(self._request, self._answered)

    def _answered(self, answer: bytes) -> None:
        self._answer = answer
        self._times.append(self._clock.now - self._asked_at)
        self._ask()

    @property
    def done(self) -> bool:
        """All were answered, or a connection has ended."""
        return len(self._times) == self._total or any(client.failed for client in self._clients)

    def sample(self) -> Sample:
        """What was counted after the warm-up. Raises HardwireError if not all were answered."""
        if len(self._times) < self._total:
            reason = next((client.failed for client in self._clients if client.failed), "no answer")
            raise HardwireError(FAILED, f"request {self._request[:12].hex(' ')}: {reason}")
        times = tuple(ns / NS_PER_MS for ns in self._times[self._warm_up :])
        first, last = self._traffic[self._warm_up], self._traffic[-1]
        frames, octets = ((b - a) / len(times) for a, b in zip(first, last, strict=True))
        return Sample(times, frames, octets, self._answer)


class Bulk(User):
    """A connection that takes all that comes, or sends without end; counted are `count` bytes after `skip`.

    Args:
        hello: request sent first, which starts it.
        sending: count what the board takes, not what it sends.
    """

    def __init__(
        self, pc: Stack, port: int, *, skip: int, count: int, sending: bool, hello: bytes = b""
    ) -> None:
        self._clock = pc.clock
        self._hello = hello
        self._bounds = skip + len(hello) * sending, skip + count
        self._sending = sending
        self._moved = 0
        self._marks: list[tuple[int, int]] = []  # at each of the bounds: bytes, ns
        super().__init__(pc, port)

    def established(self) -> None:
        self.tcb.send(self._hello)
        if self._sending:
            self.tcb.send(bytes(self._bounds[1]))

    def received(self, data: bytes) -> None:
        if not self._sending:
            self._count(len(data))

    def acked(self, n: int) -> None:
        if self._sending:
            self._count(n)

    def _count(self, n: int) -> None:
        self._moved += n
        if not self.done and self._moved >= self._bounds[len(self._marks)]:
            self._marks.append((self._moved, self._clock.now))

    @property
    def done(self) -> bool:
        """Both bounds were passed, or the connection has ended."""
        return len(self._marks) == len(self._bounds) or bool(self.failed)

    def rate(self) -> float:
        """Payload, MB/s (MB: a million bytes). Raises HardwireError if it was not done in time."""
        if len(self._marks) < len(self._bounds):
            raise HardwireError(FAILED, f"bulk transfer: {self.failed or 'too slow'}")
        moved, ns = (b - a for a, b in zip(*self._marks, strict=True))
        return moved / MEGABYTE / (ns / NS_PER_S)
