"""How fast a Modbus-TCP server answers several clients at once, as this PC sees it.

In: how to connect, what one request reads, how many or how long. Out: latencies in milliseconds of wall time, the
rate, the errors. Never: retries (they would hide loss), a client that goes on after its connection is gone.

Each client is a thread with one connection that sends its next request when the answer has come. pymodbus's and
Python's own share is in the figures: they compare servers and settings, not microseconds.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import HardwireError
from .modbus import ModbusClient, exception_code
from .modbus_points import Span

CLIENTS_MAX = 8  # as many as the W5500 has sockets
JOIN_S = 0.2  # how soon Ctrl-C is noticed


@dataclass
class Result:
    """What was seen. Times in milliseconds, sorted."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def percentile(self, percent: float) -> float:
        """Nearest rank: the smallest time that `percent` of all answers did not exceed."""
        rank = -(-len(self.times) * percent // 100)
        return self.times[max(int(rank), 1) - 1]


class _Worker(threading.Thread):
    """One client. It connects before the clock runs, and waits for `start`."""

    def __init__(self, client: ModbusClient, span: Span, more: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.times: list[float] = []
        self.errors: Counter[str] = Counter()
        self._client, self._span, self._more = client, span, more

    def run(self) -> None:
        client, span = self._client, self._span
        while self._more() and client.connected:
            start = time.perf_counter()
            try:
                client.read(span.table, span.address, span.count)
            except HardwireError as error:
                self.errors[_kind(error)] += 1
            else:
                self.times.append((time.perf_counter() - start) * 1000)


def _kind(error: HardwireError) -> str:
    code = exception_code(error)
    return error.message if code is None else f"exception {code:02X} {error.data['exception']['name']}"


def run(
    connect: Callable[[], ModbusClient],
    span: Span,
    *,
    clients: int,
    requests: int | None = None,
    seconds: float | None = None,
) -> Result:
    """`clients` connections that read `span`, together `requests` times or for `seconds`.

    Raises:
        HardwireError: a connection cannot be made; what fails later is counted in the result.
    """
    left = requests
    lock = threading.Lock()
    stop = threading.Event()

    def more() -> bool:
        nonlocal left
        if stop.is_set() or (seconds is not None and time.perf_counter() >= end):
            return False
        if left is None:
            return True
        with lock:
            left -= 1
            return left >= 0

    opened: list[ModbusClient] = []
    try:
        opened.extend(connect() for _ in range(clients))
        workers = [_Worker(client, span, more) for client in opened]
        start = time.perf_counter()
        end = start + (seconds or 0.0)
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(JOIN_S)
        finally:
            stop.set()
        taken = time.perf_counter() - start
    finally:
        for client in opened:
            client.close()
    times = sorted(value for worker in workers for value in worker.times)
    return Result(taken, times, sum((worker.errors for worker in workers), Counter()))
