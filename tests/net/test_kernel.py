"""The PC's own kernel talks to the board: ping, TCP in bulk, refusals, ends of connections. Real time."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hardwire.service import Service
from hardwire_host.virtual.faults import NONE, Faults
from hardwire_host.virtual.forward import Forwarder
from hardwire_host.virtual.inprocess import BOARD_IP, InProcessBoard
from hardwire_host.virtual.pcap import Capture
from live import BOARD, Echo, hurry, ping, running, tapped, until
from tshark import ACK, COMPLETE, RST, SYN, completeness, faults, needs_tshark, unclean

ECHO_PORT, DISCARD_PORT, DATE_PORT, CLOSED_PORT = 7, 9, 13, 8
BULK = random.Random(7).randbytes(2 << 20)
HARM = Faults(loss=0.05, dup=0.05, reorder=0.10)
REPEAT_MS = 20  # more than the segment holds frames back: only what is lost is repeated
CONNECTIONS = 30  # short ones; a lost SYN costs a second
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
        for number, size in enumerate((0, 1, 56, 1472)):
            await ping(b"hw" + number.to_bytes(2, "big") + BULK[:size])


@needs_tshark
@pytest.mark.parametrize("port", [ECHO_PORT, DISCARD_PORT])
@pytest.mark.parametrize("harm", [NONE, HARM], ids=["sound", "faulty"])
async def test_2_mb(harm, port, tmp_path):
    """Echo: 2 MB each way at once. Discard: 2 MB to the board with nothing but acknowledgements coming back."""
    path = tmp_path / "bulk.pcapng"
    async with tapped(*services()) as (board, tap):
        hurry(board, REPEAT_MS)
        board.segment.faults = harm
        capture = Capture(board.segment, path)
        got = await exchange(BOARD, port, BULK)
        await until(lambda: board.net.sockets_in_use() == 0)
        capture.stop()
        assert (got if port == ECHO_PORT else Discard.got) == BULK
        assert tap.lost == 0
        if harm != NONE:
            assert min(board.segment.counts[what] for what in ("lost", "doubled", "held back")) > 100
    assert faults(path) == []
    assert unclean(path) == []


@needs_tshark
async def test_short_connections_on_a_faulty_wire(tmp_path):
    """Where every third connection loses something of its set-up or its end. Damaged frames are lost ones, too."""
    path = tmp_path / "short.pcapng"
    async with tapped(*services()) as (board, _):
        hurry(board, REPEAT_MS)
        board.segment.faults = replace(HARM, corrupt=0.05)
        capture = Capture(board.segment, path)
        for number in range(CONNECTIONS):
            text = b"%d" % number
            assert await exchange(BOARD, ECHO_PORT, text) == text
            await until(lambda: board.net.sockets_in_use() == 0)
        capture.stop()
        assert all(board.segment.counts.values())
    assert faults(path, unless="flipped") == []
    assert unclean(path) == []


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


async def test_kernel_closes_first():
    async with tapped(*services()) as (board, _):
        assert await exchange(BOARD, ECHO_PORT, b"ordinary") == b"ordinary"
        await until(lambda: board.net.sockets_in_use() == 0)
        assert states() == {ECHO_PORT: TIME_WAIT}


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
