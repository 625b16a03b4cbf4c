"""The PC's own kernel talks to the board: ping, TCP in bulk, refusals, ends of connections. Real time."""

import asyncio
import random
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hardwire.net import Service
from hardwire_host.virtual.forward import Forwarder
from hardwire_host.virtual.inprocess import BOARD_IP, InProcessBoard
from hardwire_host.virtual.packets import ECHO, icmp
from hardwire_host.virtual.pcap import Capture
from live import BOARD, SOON_S, Echo, running, tapped, until
from tshark import ACK, COMPLETE, RST, SYN, completeness, faults, needs_tshark

ECHO_PORT, DISCARD_PORT, DATE_PORT, CLOSED_PORT = 7, 9, 13, 8
BULK = random.Random(7).randbytes(2 << 20)
TIME_WAIT = "06"  # include/net/tcp_states.h


class Discard(Echo):
    """Keeps what it gets, for the test to look at."""

    got = bytearray()  # the process has one test

    def data_received(self, view):
        self.got += view


class Date(Echo):
    """Says something and closes first."""

    def connection_made(self, transport):
        transport.write(b"23 NOV 2026")
        transport.close()


def services():
    return (
        Service("echo", Echo, ECHO_PORT, connections=2),
        Service("discard", Discard, DISCARD_PORT, connections=2),
        Service("date", Date, DATE_PORT),
    )


async def exchange(host, port, data):
    """Send `data` and FIN while reading what comes until FIN; returns that."""
    reader, writer = await asyncio.open_connection(host, port)

    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, got = await asyncio.gather(send(), reader.read())
    writer.close()
    await writer.wait_closed()
    return got


def states():
    """{remote port: state} of the kernel's TCP sockets."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return {int(line.split()[2].split(":")[1], 16): line.split()[3] for line in lines}


async def test_ping():
    async with tapped(*services()):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            for number, size in enumerate((0, 1, 56, 1472)):
                body = b"hw" + number.to_bytes(2, "big") + BULK[:size]
                await loop.sock_sendto(raw, icmp(ECHO, 0, body), (BOARD, 0))
                answer, (sender, _) = await asyncio.wait_for(loop.sock_recvfrom(raw, 2048), SOON_S)
                assert sender == BOARD
                assert answer[20:22] == b"\0\0" and answer[24:] == body


async def test_2_mb_each_way_through_echo():
    async with tapped(*services()) as (board, tap):
        assert await exchange(BOARD, ECHO_PORT, BULK) == BULK
        assert states() == {ECHO_PORT: TIME_WAIT}  # we closed first
        await until(lambda: board.net.sockets_in_use() == 0)
        assert tap.lost == 0


async def test_2_mb_to_discard():
    async with tapped(*services()) as (board, tap):
        assert await exchange(BOARD, DISCARD_PORT, BULK) == b""
        await until(lambda: board.net.sockets_in_use() == 0)
        assert Discard.got == BULK
        assert tap.lost == 0


async def test_two_at_once():
    async with tapped(*services()):
        parts = BULK[:300_000], BULK[300_000:600_000]
        got = await asyncio.gather(*(exchange(BOARD, ECHO_PORT, part) for part in parts))
        assert tuple(got) == parts


async def test_refused_at_once():
    async with tapped(*services()) as (board, _):
        before = board.clock.now
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(BOARD, CLOSED_PORT)
        assert board.clock.now - before < board.model.stack.rtr * 100_000  # RST, not silence


async def test_more_clients_than_listeners():
    async with tapped(*services()) as (board, _):
        clients = [await asyncio.open_connection(BOARD, ECHO_PORT) for _ in range(2)]
        await until(lambda: board.net.sockets_in_use() == 2)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(BOARD, ECHO_PORT)
        clients[0][1].close()
        await until(lambda: board.net.sockets_in_use() == 1)
        assert await exchange(BOARD, ECHO_PORT, b"again") == b"again"
        clients[1][1].write(b"still")
        assert await clients[1][0].readexactly(5) == b"still"
        clients[1][1].close()


async def test_board_closes_first():
    async with tapped(*services()) as (board, _):
        reader, writer = await asyncio.open_connection(BOARD, DATE_PORT)
        assert await reader.read() == b"23 NOV 2026"
        writer.close()
        await until(lambda: states() == {})  # TIME-WAIT is the board's
        await until(lambda: board.net.sockets_in_use() == 0)


async def test_kernel_resets():
    async with tapped(*services()) as (board, _):
        _, writer = await asyncio.open_connection(BOARD, ECHO_PORT)
        await until(lambda: board.net.sockets_in_use() == 1)
        writer.transport.abort()
        await until(lambda: board.net.sockets_in_use() == 0)


async def test_cable_pulled_and_put_back():
    async with tapped(*services()) as (board, _):
        cable = board.segment.ports[0]
        transfer = asyncio.create_task(exchange(BOARD, ECHO_PORT, BULK[:500_000]))
        await until(lambda: board.net.sockets_in_use() == 1)
        cable.link = False
        await until(lambda: not board.net.link)
        assert not transfer.done()
        cable.link = True
        assert await transfer == BULK[:500_000]


@asynccontextmanager
async def by_tap():
    async with tapped(*services()) as (board, _):
        yield board, lambda port: (BOARD, port)


@asynccontextmanager
async def by_forwarder():
    board = InProcessBoard(*services())
    forwarder = Forwarder(board.pc)
    ports = (ECHO_PORT, DATE_PORT, CLOSED_PORT)
    listening = {port: await forwarder.listen("127.0.0.1", 0, lambda: BOARD_IP, port) for port in ports}
    async with running(board):
        yield board, listening.get
    await forwarder.close()


@needs_tshark
@pytest.mark.parametrize("way", [by_tap, by_forwarder])
async def test_tshark_finds_nothing_wrong(way, tmp_path):
    path = tmp_path / "live.pcapng"
    async with way() as (board, address):
        capture = Capture(board.segment, path)
        assert await exchange(*address(ECHO_PORT), b"ordinary") == b"ordinary"
        assert await exchange(*address(ECHO_PORT), BULK[:100_000]) == BULK[:100_000]
        reader, writer = await asyncio.open_connection(*address(DATE_PORT))
        assert await reader.read() == b"23 NOV 2026"
        writer.close()
        await writer.wait_closed()
        await until(lambda: board.net.sockets_in_use() == 0)
        try:
            await exchange(*address(CLOSED_PORT), b"")
        except ConnectionError:
            pass
        else:
            pytest.fail("nobody listens there")
        capture.stop()
    assert faults(path) == []
    assert completeness(path) == [COMPLETE, COMPLETE, COMPLETE, SYN | ACK | RST]
