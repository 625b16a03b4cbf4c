"""What the virtual board costs in wall time on this PC: an exchange without and with the emulator, and idling.

In: an image. Out: results as {"name", "unit", "value"}. They are of this PC, with all it did meanwhile: they do not
repeat, and no test judges them.
"""

import asyncio
import time
from pathlib import Path

from hardwire.service import Service
from hardwire.services.modbus import ModbusServer
from hardwire.wire.modbus import Bank

from .bench import BOARD, EXCHANGE_S, REQUESTS, WARM_UP, Bench
from .bench_client import PORT, Client, Series
from .bench_ours import filesystem
from .uf2 import describe
from .virtual.clock import NS_PER_S
from .virtual.inprocess import InProcessBoard

REQUEST = REQUESTS["fc03_1"]
IN_PROCESS_EXCHANGES = 3000  # half a second
EMULATED_EXCHANGES = 100
SETTLE_S = 0.5  # after power-on, until nothing happens any more
IDLE_S = 2.0


def _in_process() -> float:
    """Exchanges per second of the firmware on the chip model, both in this process."""
    server = ModbusServer(Bank(holding_registers=1))
    board = InProcessBoard(Service("modbus", server, PORT))
    series = Series(board.pc, board.model, [Client(board.pc)], REQUEST, IN_PROCESS_EXCHANGES, WARM_UP)
    start = time.perf_counter()
    board.run_until(lambda: series.done, EXCHANGE_S * IN_PROCESS_EXCHANGES)
    taken = time.perf_counter() - start
    series.sample()
    return (IN_PROCESS_EXCHANGES + WARM_UP) / taken


async def _emulated(image: Path) -> tuple[float, float, float]:
    """Of a board as `hardwire virtual up` runs it.

    Returns:
        With nothing connected, device seconds and CPU seconds per second; ms per exchange.
    """
    bench = Bench(image, filesystem(BOARD, describe(image).fs_size), pace=True)
    try:
        await bench.start()
        await asyncio.sleep(SETTLE_S)
        device, wall, cpu = bench.board.clock.now, time.perf_counter(), time.process_time()
        await asyncio.sleep(IDLE_S)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        device = (bench.board.clock.now - device) / NS_PER_S
        client = await bench.connect()
        start = time.perf_counter()
        await bench.exchange([client], REQUEST, EMULATED_EXCHANGES, WARM_UP)
        taken = time.perf_counter() - start
    finally:
        await bench.board.stop()
    return device / wall, cpu / wall, taken * 1000 / (EMULATED_EXCHANGES + WARM_UP)


async def measure(image: Path) -> list[dict]:
    """All results. Raises HardwireError."""
    rate = _in_process()
    speed, cpu, exchange = await _emulated(image)
    rows = (
        ("in_process_exchanges", "1/s", rate),
        ("emulated_exchange", "ms", exchange),
        ("emulated_idle_speed", "x real", speed),
        ("emulated_idle_cpu", "% CPU", 100 * cpu),
    )
    return [{"name": name, "unit": unit, "value": round(value, 2)} for name, unit, value in rows]
