"""Port scans by nmap, and SYNs from hosts that do not exist, on a board with the PC's kernel on its wire. Real time.

Service is the same afterwards: a connection from before goes on, each socket listens again, a new client is served.
"""

import asyncio
import shutil
import socket
import struct
from contextlib import asynccontextmanager
from xml.etree import ElementTree

import pytest

from hardwire.service import Service
from hardwire.services.modbus import ModbusServer
from hardwire.wire.modbus import Bank
from hardwire_host.virtual import regs as R
from hardwire_host.virtual.inprocess import BOARD_IP, BOARD_MAC
from hardwire_host.virtual.packets import SYN, tcp
from live import BOARD, SOON_S, Echo, tapped, until

MODBUS, ECHO_PORT = 502, 7
MODBUS_CONNECTIONS, ECHO_CONNECTIONS = 4, 2
REQUEST = bytes.fromhex("0001 0000 0006 01 03 0000 0001")
ANSWER = bytes.fromhex("0001 0000 0005 01 03 02 0000")
PORTS = "1-1024"
RUNS = 8  # of a scan: more than there are listeners
QUIET_S = 4  # without an event: the board looks at nothing but the chip's health
SYNS = 400
FLOOD_MS = 5  # between two of them
NOBODY_MAC = bytes((2, 0, 0, 0, 0, 99))
WINDOW = 1024

needs_nmap = pytest.mark.skipif(shutil.which("nmap") is None, reason="nmap is not installed")
SCANS = pytest.mark.parametrize("scan", ["-sT", "-sS"], ids=["connect", "syn"])


class Client:
    """A connection to the Modbus service."""

    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls):
        return cls(*await asyncio.open_connection(BOARD, MODBUS))

    async def exchange(self):
        self._writer.write(REQUEST)
        async with asyncio.timeout(SOON_S):
            assert await self._reader.readexactly(len(ANSWER)) == ANSWER

    async def end(self):
        self._writer.close()
        await self._writer.wait_closed()


async def poll(client):
    """Exchange after exchange, until cancelled."""
    while True:
        await client.exchange()
        await asyncio.sleep(0.02)


def listening(board):
    """How many sockets listen."""
    return sum(endpoint.state() == R.LISTENING for endpoint in board.chip.endpoints)


@asynccontextmanager
async def unharmed():
    """A board: whatever happens to it inside, a client notices nothing, and afterwards all is as before."""
    bank = Bank(holding_registers=1)
    services = (
        Service("modbus", ModbusServer(bank), MODBUS, connections=MODBUS_CONNECTIONS),
        Service("echo", Echo, ECHO_PORT, connections=ECHO_CONNECTIONS),
    )
    async with tapped(*services) as (board, tap):
        client = await Client.connect()
        polling = asyncio.create_task(poll(client))
        try:
            yield board, tap
        finally:
            polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        await client.exchange()
        another = await Client.connect()
        await another.exchange()
        for each in (client, another):
            await each.end()
        await all_listen(board)
        assert (board.net.recoveries, board.net.repairs, board.net.errors) == (0, 0, 0)


async def all_listen(board):
    await until(lambda: listening(board) == MODBUS_CONNECTIONS + ECHO_CONNECTIONS)


async def nmap(scan, ports):
    """{port: state} of those that are not closed."""
    command = ["nmap", "-n", "-Pn", "-T4", scan, "-p", str(ports), "-oX", "-", BOARD]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    states = {
        int(port.get("portid")): port.find("state").get("state")
        for port in ElementTree.fromstring(output).iter("port")
    }
    return {port: state for port, state in states.items() if state != "closed"}


@needs_nmap
@SCANS
async def test_scan_of_all_low_ports(scan):
    async with unharmed():
        assert await nmap(scan, PORTS) == {ECHO_PORT: "open", MODBUS: "open"}


@needs_nmap
@SCANS
async def test_scan_after_scan(scan):
    """The listener that a scan has used is back before the next one, or another one takes its place."""
    async with unharmed():
        for _ in range(RUNS):
            assert await nmap(scan, MODBUS) == {MODBUS: "open"}


@needs_nmap
async def test_scan_of_a_quiet_board():
    """Of one with a single listener and nobody connected: no interrupt tells that it went with a reset."""
    service = Service("echo", Echo, ECHO_PORT)
    async with tapped(service) as (board, _):
        await until(lambda: board.net.uptime_s >= QUIET_S)
        assert await nmap("-sS", ECHO_PORT) == {ECHO_PORT: "open"}
        await until(lambda: listening(board) == 1 and service.open == 0)
        reader, writer = await asyncio.open_connection(BOARD, ECHO_PORT)
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()


async def test_half_open_flood():
    """SYNs from hosts that do not exist: nobody takes what the board answers, nor resets it."""
    async with unharmed() as (board, tap):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((tap.name, 0))
            for number in range(SYNS):
                source = struct.pack(">BBH", 10, 1, number)
                wire.send(
                    tcp(BOARD_MAC, NOBODY_MAC, source, BOARD_IP, 0, 1024 + number, MODBUS, 1, 0, SYN, WINDOW)
                )
                await asyncio.sleep(FLOOD_MS / 1000)
        await until(lambda: listening(board) == MODBUS_CONNECTIONS + ECHO_CONNECTIONS - 1)
