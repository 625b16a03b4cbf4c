"""What this device does: its services, and where their data comes from. This is the file to edit first.

The data itself (names, addresses, types) is in map.toml; this app serves any map, and fills in what it knows. Port and
limits of a service that hardwire/config.py knows are settings (/config.json); others say theirs here. All of it runs
on one thread: hooks must return quickly, long work goes into tasks (`asyncio.create_task` before `run`).
"""

import gc
import os
import struct
import time

import hardwire
from hardwire.service import OnDemand, Service
from hardwire.services.modbus import ModbusServer

MEASURED = 16  # registers
HEAP_AGE_MS = 10_000  # collecting and counting takes 25 ms: one request in ten seconds may pay for it


def diagnostics(settings):
    """Echo, Discard and Chargen, where the settings switch them on."""
    wanted = [name for name in ("echo", "discard", "chargen") if settings[name]["connections"]]
    if not wanted:
        return []
    from hardwire.services.diagnostics import OFFER

    return [Service(name, OFFER[name][0], chunk=OFFER[name][1]) for name in wanted]


def files(board, requests):
    """The file server, loaded when somebody asks for files first. `requests()` counts what must not wait for flash."""

    def make():
        from hardwire.board_files import file_server

        return file_server(board, requests)

    factory = OnDemand(make)
    if ".put" in os.listdir():  # uploads that a restart interrupted
        factory.now()
    return Service("files", factory, chunk=1024, listeners=2, burst=2048)


def measured(io):
    """Address of the block of MEASURED registers that starts with `uptime`, None if the map does not have it whole."""
    if "uptime" not in io or "reset_cause" not in io:
        return None
    first, last = io.point("uptime"), io.point("reset_cause")
    return first.address if last.address - first.address == MEASURED - 1 else None


async def main(board):
    """Runs once per boot; returns only when the board is stopped."""
    device = board.equip()
    bank, io = device.bank, device.io
    modbus = ModbusServer(bank)
    version = [int(part) for part in hardwire.__version__.split(".")[:2]]
    heap = [0, time.ticks_add(time.ticks_ms(), -HEAP_AGE_MS)]  # KB free, when looked at

    def measure(table, address, count):
        """The registers from `uptime` to `reset_cause`, all at once."""
        if time.ticks_diff(time.ticks_ms(), heap[1]) >= HEAP_AGE_MS:
            gc.collect()
            heap[0] = gc.mem_free() >> 10
            heap[1] = time.ticks_ms()
        net = board.net
        struct.pack_into(
            ">IHHHIHHHHHBBHHH",
            table.data,
            table.place(uptime),
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

    if "led" in io:
        io.after_write("led", board.led)
    if "link" in io:
        io.before_read("link", lambda: board.net.link)
    uptime = measured(io)
    if uptime is not None:
        bank.input_registers.before_read(measure, uptime, MEASURED)

    services = [
        Service("modbus", modbus, chunk=520),  # two of the longest requests: a turn stays short
        files(board, lambda: modbus.requests),
    ]
    await board.run(services + diagnostics(board.settings["services"]))
