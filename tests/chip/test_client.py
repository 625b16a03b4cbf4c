"""What the board begins itself: connections, datagrams, questions to DHCP, DNS and time servers."""

import asyncio

import pytest

from hardwire import config, log
from hardwire.lan import Lan
from hardwire.service import Service
from hardwire.stream import LIMIT, conversation
from hardwire.wire import sntp
from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_S
from hardwire_host.virtual.dhcp import DhcpServer
from hardwire_host.virtual.inprocess import BOARD_IP, BOARD_MAC, PC_IP, InProcessBoard
from peers import Peer

PORT = 7000


class Server:
    """A TCP server of the PC stack: what it got, and answers as told."""

    def __init__(self, board, answer):
        self.board = board
        self.answer = answer
        self.got = bytearray()
        board.pc.on_syn = lambda port, ip, remote: self if port == PORT else None

    def attached(self, tcb):
        self.tcb = tcb

    def room(self):
        return 65535

    def established(self):
        pass

    def received(self, data):
        self.got += data
        self.answer(self, data)

    def acked(self, n):
        pass

    def sent(self, n):
        pass

    def fin(self):
        self.tcb.shutdown()

    def closed(self, reason):
        self.reason = reason


def together(board, coroutine, seconds=60.0):
    """Run a coroutine of the board while device time passes."""

    async def run():
        asyncio.get_running_loop().time = lambda: board.clock.now / NS_PER_S  # timeouts are device time, too
        task = asyncio.ensure_future(coroutine)
        end = board.clock.now + seconds * NS_PER_S
        while not task.done():
            assert board.clock.now < end
            board.turn()
            await asyncio.sleep(0)
        return await task

    return asyncio.run(run())


async def until(predicate):
    while not predicate():  # noqa: ASYNC110  what it waits for happens in the board's turns
        await asyncio.sleep(0)


async def pass_time(board, seconds):
    end = board.clock.now + int(seconds * NS_PER_S)
    await until(lambda: board.clock.now >= end)


async def echo(stream):
    while data := await stream.read():
        stream.write(data)
        await stream.drain()


@pytest.fixture
def board():
    return InProcessBoard(Service("echo", conversation(echo), 7, connections=7))


def test_a_conversation_with_a_server(board):
    server = Server(board, lambda server, data: server.tcb.send(data.upper()))

    async def talk():
        stream = await board.net.connect("192.168.77.1", PORT)
        stream.write(b"one\ntw")
        stream.write(b"o\nrest")
        answers = await stream.readline(), await stream.readline(), await stream.readexactly(4)
        stream.close()
        await stream.wait_closed()
        return answers

    assert together(board, talk()) == (b"ONE\n", b"TWO\n", b"REST")
    assert bytes(server.got) == b"one\ntwo\nrest"
    states = [endpoint.state() for endpoint in board.chip.endpoints[1:]]
    assert states == [R.LISTENING] * 7  # the socket is a listener again


def test_nobody_listens_there(board):
    with pytest.raises(OSError, match="ECONNREFUSED"):
        together(board, board.net.connect("192.168.77.1", 9999))
    assert [endpoint.state() for endpoint in board.chip.endpoints[1:]] == [R.LISTENING] * 7


def test_nobody_is_there(board):
    with pytest.raises(OSError, match="ETIMEDOUT"):
        together(board, board.net.connect("192.168.77.99", PORT))


def test_every_socket_is_needed(board):

    async def one_too_many():
        peers = [Peer(board, 7) for _ in range(6)]
        for peer in peers:
            peer.send(b"x")
        await until(lambda: all(peer.got for peer in peers))
        await board.net.connect("192.168.77.1", PORT)

    with pytest.raises(OSError, match="ENFILE"):
        together(board, one_too_many())


def test_a_server_that_goes_away(board):
    Server(board, lambda server, data: server.tcb.abort())

    async def talk():
        stream = await board.net.connect("192.168.77.1", PORT)
        stream.write(b"x")
        return await stream.read()

    with pytest.raises(OSError, match="ECONNRESET"):
        together(board, talk())


def test_a_conversation_holds_back_who_sends_too_much(board):
    sent = bytes(range(256)) * 400

    async def talk():
        peer = Peer(board, 7, take=0)  # reads no echo
        await until(lambda: peer.up)
        peer.send(sent)
        await pass_time(board, 1.0)
        held_back = peer.tcb.unacknowledged
        peer.take = 65535
        peer.tcb.window_opened()
        await until(lambda: len(peer.got) == len(sent))
        return held_back, bytes(peer.got)

    held_back, got = together(board, talk())
    assert held_back > len(sent) - 10 * LIMIT and got == sent


# Datagrams


def test_datagrams(board):
    got, heard = [], []
    board.pc.udp_bind(5001, lambda ip, port, target, data: heard.append((port, data)))
    socket = board.net.datagrams(5000, lambda data, ip, port: got.append((bytes(data), ip, port)))
    assert socket.send(b"question", PC_IP, 5001)
    assert not socket.send(b"too early", PC_IP, 5001)  # ARP has no answer yet
    board.run(0.1)
    assert heard == [(5000, b"question")]
    for n in (0, 1, 1472):
        board.pc.udp_send(5001, BOARD_IP, 5000, bytes(n))
    board.run(0.1)
    assert got == [(bytes(n), PC_IP, 5001) for n in (0, 1, 1472)]
    with pytest.raises(ValueError, match="1472"):
        socket.send(bytes(1473), PC_IP, 5001)
    assert socket.send(b"to nobody", bytes((192, 168, 77, 99)), 1)
    board.run(3.0)
    assert socket.send(b"again", PC_IP, 5001)
    board.run(0.1)
    assert heard[-1] == (5000, b"again")
    socket.close()
    assert board.chip.endpoints[1].owner is not socket


def test_datagrams_survive_a_brown_out(board):
    got = []
    socket = board.net.datagrams(5000, lambda data, ip, port: got.append(bytes(data)))
    board.model.brown_out()
    board.run(2.0)
    assert board.net.recoveries == 1
    board.pc.udp_send(5001, BOARD_IP, 5000, b"x")
    board.run(0.1)
    assert got == [b"x"] and socket.send(b"y", PC_IP, 5001)


# The board's own conversations


class Quiet:
    """A service that says nothing."""

    def connection_made(self, transport):
        pass

    def data_received(self, view):
        pass

    def connection_lost(self, error):
        pass


def with_lan(**network):
    board = InProcessBoard(Service("quiet", Quiet, 7, connections=4))
    settings = config.defaults()
    settings["network"].update(network)
    board.lan = Lan(board.net, settings, BOARD_MAC)
    return board


def test_a_lease_a_renewal_and_another_address_without_a_pause():
    board = with_lan(mode="dhcp")
    server = DhcpServer(board.pc, first=bytes((192, 168, 77, 100)), lease_s=20)
    assert board.run_until(lambda: board.lan.address == bytes((192, 168, 77, 100)), 2.0)
    peer = Peer(board, 7)
    peer.wait_up()
    board.run(30.0)
    assert server.sent["ACK"] >= 3 and peer.reason is None and not peer.eof  # renewed beside a connection
    server.refuse = True
    board.run(10.0)
    server.refuse = False
    assert board.run_until(lambda: board.lan.address == bytes((192, 168, 77, 100)), 30.0)
    assert board.lan.leases >= 2


def test_without_a_dhcp_server_the_configured_address_until_one_answers():
    board = with_lan(mode="dhcp")
    board.run(12.0)
    assert board.lan.address == BOARD_IP == board.model.ip and board.lan.fallbacks == 1
    peer = Peer(board, 7)
    peer.wait_up()
    DhcpServer(board.pc, first=bytes((192, 168, 77, 100)), lease_s=60)
    assert board.run_until(lambda: board.model.ip == bytes((192, 168, 77, 100)), 70.0)
    peer.send(b"x")
    board.run(1.0)
    assert (
        peer.reason == "reset" or peer.eof or board.net.sockets_in_use() == 0
    )  # the address it spoke to has gone


def test_names_are_looked_up():
    board = with_lan()
    asked = []

    def answer(ip, port, target, data):
        asked.append(data)
        question = data[12:]
        if len(asked) == 1:
            return  # the first one is lost
        head = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        board.pc.udp_send(
            53, ip, port, head + question + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes((10, 0, 0, 7))
        )

    board.pc.udp_bind(53, answer)
    assert together(board, board.lan.resolve("plc.example")) == bytes((10, 0, 0, 7))
    assert len(asked) == 2 and asked[0] == asked[1]


def test_a_name_that_does_not_exist():
    board = with_lan()
    board.pc.udp_bind(
        53,
        lambda ip, port, target, data: board.pc.udp_send(
            53, ip, port, data[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + data[12:]
        ),
    )
    with pytest.raises(OSError, match="no host nowhere"):
        together(board, board.net.connect("nowhere", 80))


def test_the_log_learns_the_time(capsys, monkeypatch):
    monkeypatch.setattr(log, "_clock", None)
    board = with_lan(ntp="192.168.77.1")

    def answer(ip, port, target, data):
        seconds = (1_800_000_000 + 2_208_988_800).to_bytes(4, "big")
        head = b"\x24\1\0\0" + bytes(8) + b"LOCL" + seconds + bytes(4)
        board.pc.udp_send(sntp.PORT, ip, port, head + data[40:48] + seconds + bytes(4) + seconds + bytes(4))

    board.pc.udp_bind(sntp.PORT, answer)

    async def some_time():
        keeper = asyncio.ensure_future(board.lan.keep_time())
        await until(lambda: log._clock is not None)
        keeper.cancel()

    together(board, some_time())
    log.info("now")
    assert "2027-01-15T08:00:00." in capsys.readouterr().out.splitlines()[-1]
