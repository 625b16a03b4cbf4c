"""What this device does: its services and the data they show. This is the file to edit first.

Port and limits of a service that hardwire/config.py knows are settings (/config.json); others say theirs here. All
of it runs on one thread: hooks must return quickly, long work goes into tasks (`asyncio.create_task` before `run`).
"""

import gc
import struct
import time

import hardwire
from hardwire.service import Service
from hardwire.services.modbus import ModbusServer
from hardwire.wire.modbus import Bank

bank = Bank(coils=16, discrete_inputs=16, holding_registers=100, input_registers=16)
modbus = ModbusServer(bank)

HEAP_AGE_MS = 10_000  # collecting and counting takes 25 ms: one request in ten seconds may pay for it

SERVICES = [
    Service("modbus", modbus, chunk=520),  # two of the longest requests: a turn stays short
]


def diagnostics(settings):
    """Echo, Discard and Chargen, where the settings switch them on."""
    wanted = [name for name in ("echo", "discard", "chargen") if settings[name]["connections"]]
    if not wanted:
        return []
    from hardwire.services.diagnostics import OFFER

    return [Service(name, OFFER[name][0], chunk=OFFER[name][1]) for name in wanted]


async def main(board):
    """Runs once per boot; returns only when the board is stopped."""
    version = [int(part) for part in hardwire.__version__.split(".")[:2]]
    heap = [0, time.ticks_add(time.ticks_ms(), -HEAP_AGE_MS)]  # KB free, when looked at

    def coils_written(table, address, count):
        board.led(table[0])

    def inputs_read(table, address, count):
        """Input registers as listed in the README, computed when somebody asks."""
        if time.ticks_diff(time.ticks_ms(), heap[1]) >= HEAP_AGE_MS:
            gc.collect()
            heap[0] = gc.mem_free() >> 10
            heap[1] = time.ticks_ms()
        net = board.net
        struct.pack_into(
            ">IHHHIHHHHHBBHHH",
            table.data,
            0,
            net.uptime_s,
            heap[0],
            net.link,
            net.sockets_in_use(),
            modbus.requests,
            modbus.exceptions & 0xFFFF,
            modbus.frame_errors & 0xFFFF,
            net.accepted() & 0xFFFF,
            board.chip_version,
            net.rearmed & 0xFFFF,
            *version,
            net.recoveries & 0xFFFF,
            net.repairs & 0xFFFF,
            board.reset_cause,
        )

    def discretes_read(table, address, count):
        table[0] = board.net.link

    bank.coils.after_write(coils_written, 0, 1)
    bank.input_registers.before_read(inputs_read)
    bank.discrete_inputs.before_read(discretes_read, 0, 1)
    await board.run(SERVICES + diagnostics(board.settings["services"]))
