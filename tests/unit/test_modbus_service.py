"""services.modbus under asyncio: raw sockets, pymodbus's client; and the contract with a transport."""

import asyncio
import contextlib
import socket

import pytest
from pymodbus.client import AsyncModbusTcpClient

import vectors as V
from hardwire import log
from hardwire.services.modbus import ModbusServer
from modbus_common import Recorder, adu, content, fresh_bank, steps

LIMIT = 20  # seconds; only a server that hangs gets there
SMALL = 16384  # bytes in buffers of the kernel, so that a peer that does not read is felt soon
REQUEST, RESPONSE = adu(bytes.fromhex("03 0003 0002")), adu(bytes.fromhex("03 04 00FE 0ACD"))


def served(test, *arguments):
    """Run the coroutine function test(server, port, *arguments) beside a server under asyncio."""

    async def run():
        server = ModbusServer(fresh_bank())
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        listener = await asyncio.get_running_loop().create_server(server, sock=listening)
        async with listener:
            async with asyncio.timeout(LIMIT):
                await test(server, listener.sockets[0].getsockname()[1], *arguments)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def connected(port):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=SMALL)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_vectors_over_sockets():
    async def test(server, port):
        for name, requests, responses, _ in V.PDUS:
            server.bank = fresh_bank()
            async with connected(port) as (reader, writer):
                for transaction, (request, response) in enumerate(steps(requests, responses)):
                    writer.write(adu(request, transaction))
                    expected = adu(response, transaction)
                    assert await reader.readexactly(len(expected)) == expected, name

    served(test)


def test_half_closed_connection_gets_its_answers_then_the_end():
    async def test(server, port):
        async with connected(port) as (reader, writer):
            writer.write(REQUEST * 3 + REQUEST[:5])
            writer.write_eof()
            assert await reader.read() == RESPONSE * 3

    served(test)


@pytest.mark.parametrize(("requests", "responses"), [pytest.param(*v[1:3], id=v[0]) for v in V.BROKEN])
def test_broken_stream_is_closed(requests, responses):
    async def test(server, port):
        async with connected(port) as (reader, writer), connected(port) as (other_reader, other_writer):
            other_writer.write(REQUEST[:7])
            for byte in bytes.fromhex(requests):  # the last ones may come after the end
                writer.write(bytes([byte]))
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while part := await reader.read(100):
                    received += part
            assert received == bytes.fromhex(responses)
            other_writer.write(REQUEST[7:])
            assert await other_reader.readexactly(len(RESPONSE)) == RESPONSE
        assert server.frame_errors == 1

    served(test)


def test_peer_that_does_not_read_is_served_when_it_does():
    """More answers than any buffer holds: the server stops reading, others are served, nothing is lost."""
    many = 8000
    request = adu(bytes.fromhex("03 0000 007D"))

    async def test(server, port):
        async with connected(port) as (reader, writer), connected(port) as (other_reader, other_writer):
            writer.write(request * many)
            for _ in range(50):
                other_writer.write(REQUEST)
                assert await other_reader.readexactly(len(RESPONSE)) == RESPONSE
            assert server.requests < many / 2
            first = await reader.readexactly(259)
            for _ in range(many - 1):
                assert await reader.readexactly(259) == first
        assert server.requests == many + 50

    served(test)


def test_connections_are_counted():
    async def test(server, port):
        async with connected(port) as (reader, writer), connected(port):
            writer.write(adu(b"\x07") + b"\0\1\0\1\0\2\xff\7" + REQUEST)
            await reader.readexactly(9 + len(RESPONSE))
            assert server.connections == 2
        assert (server.requests, server.exceptions, server.discarded, server.frame_errors) == (2, 1, 1, 0)
        async with connected(port) as (
            reader,
            writer,
        ):  # the others have ended before
            writer.write(REQUEST)
            await reader.readexactly(len(RESPONSE))
            assert server.connections == 1

    served(test)


def test_pymodbus():
    async def test(server, port):
        async with AsyncModbusTcpClient("127.0.0.1", port=port) as client:
            values = [i * 257 & 0xFFFF for i in range(123)]
            assert not (await client.write_registers(0, values)).isError()
            assert (await client.read_holding_registers(0, count=123)).registers == values
            assert not (await client.write_register(150, 0xCAFE)).isError()
            assert (await client.read_holding_registers(150, count=1)).registers == [0xCAFE]
            bits = [i % 3 == 0 for i in range(1968)]
            assert not (await client.write_coils(11, bits)).isError()
            assert (await client.read_coils(11, count=1968)).bits == bits
            assert not (await client.write_coil(3, True)).isError()
            assert (await client.read_coils(0, count=8)).bits == [False] * 3 + [True] + [False] * 4
            inputs = await client.read_discrete_inputs(192, count=32)
            assert [i for i, on in enumerate(inputs.bits, 192) if on] == list(V.DISCRETE_INPUTS_ON)
            assert (await client.read_input_registers(8, count=1)).registers == [10]
            await client.write_register(4, 0x12)
            assert not (await client.mask_write_register(address=4, and_mask=0xF2, or_mask=0x25)).isError()
            exchanged = await client.readwrite_registers(
                read_address=4, read_count=2, write_address=5, values=[0xBEEF], device_id=0
            )
            assert exchanged.registers == [0x17, 0xBEEF]
            outside = await client.read_holding_registers(199, count=2)
            assert outside.isError() and outside.exception_code == 2

    served(test)


def test_four_clients_at_once():
    async def poll(port, first):
        async with AsyncModbusTcpClient("127.0.0.1", port=port) as client:
            for value in range(50):
                await client.write_registers(first, [value] * 20)
                assert (await client.read_holding_registers(first, count=20)).registers == [value] * 20

    async def test(server, port):
        await asyncio.gather(*(poll(port, first) for first in (0, 20, 40, 60)))
        assert server.requests == 4 * 100

    served(test)


# The contract with the transport


def test_responses_that_are_due_together_are_written_together():
    peer = Recorder(ModbusServer(fresh_bank()))
    peer.feed(REQUEST * 5)
    assert (peer.out, peer.writes) == (RESPONSE * 5, 1)
    peer.feed(REQUEST * 170)
    assert (len(peer.out), peer.writes) == (175 * len(RESPONSE), 1 + 3)


def test_pending_while_part_of_an_adu_is_held():
    peer = Recorder(ModbusServer(fresh_bank()))
    assert not peer.protocol.pending
    for n in range(1, len(REQUEST)):
        peer.feed(REQUEST[n - 1 : n])
        assert peer.protocol.pending
    peer.feed(REQUEST[-1:])
    assert not peer.protocol.pending
    peer.feed(REQUEST + REQUEST[:4])
    assert peer.protocol.pending
    assert peer.out == RESPONSE * 2


def test_cut_anywhere_with_much_behind():
    for cut in range(len(REQUEST) * 40):
        peer = Recorder(ModbusServer(fresh_bank()))
        peer.feed((REQUEST * 40)[:cut])
        peer.feed((REQUEST * 40)[cut:])
        assert peer.out == RESPONSE * 40


def test_nothing_is_answered_during_a_pause():
    server = ModbusServer(fresh_bank())
    peer = Recorder(server, room=0)
    peer.feed(adu(bytes.fromhex("03 0000 007D")) * 10)
    assert not peer.reading
    assert server.requests == 3
    peer.drain()
    assert peer.reading
    assert server.requests == 10


def test_end_of_input_during_a_pause_closes_after_the_answers():
    peer = Recorder(ModbusServer(fresh_bank()), room=0)
    peer.feed(REQUEST * 100)
    peer.end()
    assert not peer.closed
    peer.drain()
    assert peer.closed
    assert peer.out == RESPONSE * 100


def test_views_of_responses_are_made_once_and_are_bounded():
    server = ModbusServer(fresh_bank())
    peer = Recorder(server)
    for quantity in range(1, 126):
        peer.feed(adu(bytes((3, 0, 0, 0, quantity))))
        assert len(server.views) <= 32
    view = server.views[259]
    peer.feed(adu(bytes.fromhex("03 0000 007D")))
    assert server.views[259] is view


def test_hook_with_a_bug_is_counted_and_logged(capsys):
    server = ModbusServer(fresh_bank())
    peer = Recorder(server)
    before = content(server.bank)
    server.bank.coils.after_write(lambda table, address, count: 1 // 0)
    peer.feed(adu(bytes.fromhex("05 0000 FF00")))
    assert peer.out == adu(bytes.fromhex("85 04"))
    assert content(server.bank) == before
    assert server.hook_errors == 1
    assert "ZeroDivisionError" in log.lines()[-1]
