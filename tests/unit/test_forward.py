"""The forwarder with real sockets on loopback, against a stack in the board's place on the same loop."""

import asyncio
import contextlib
import errno
import random
import socket
import struct

import pytest

from hardwire_host.virtual.clock import NS_PER_MS, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.forward import BUFFER, KERNEL_BUFFER, WATCH_S, WINDOW, Forwarder
from hardwire_host.virtual.packets import IP_ANY
from hardwire_host.virtual.tcpip import Stack
from tcpip_common import A_IP, A_MAC, B_IP, B_MAC, MASK, PORT, User, segment

LIMIT = 60  # seconds; a bound, nothing takes long
LINGER_0 = struct.pack("ii", 1, 0)
HOST = "127.0.0.1"


class Bench:
    """A forwarder, and a "board" whose users are in `users`, newest last. Device time runs as fast as it can."""

    def __init__(self, make_user):
        self.clock = Clock()
        self.segment = Segment(self.clock)
        pc, board = self.segment.attach("pc"), self.segment.attach("board")
        self.pc = Stack(self.clock, pc, mac=A_MAC, ip=A_IP, netmask=MASK, gateway=bytes(4), seed=1)
        self.board = Stack(self.clock, board, mac=B_MAC, ip=B_IP, netmask=MASK, gateway=bytes(4), seed=2)
        self.users = []
        self._waiters = []
        self._writers = []
        self.board.on_syn = lambda port, ip, remote: self._accept(make_user()) if port == PORT else None
        self.forwarder = Forwarder(self.pc)
        self._ip = B_IP

    def _accept(self, user):
        self.users.append(user)
        return user

    async def __aenter__(self):
        self._clockwork = asyncio.create_task(self._run())
        self.address = await self.forwarder.listen(HOST, 0, lambda: self._ip, PORT)
        return self

    async def __aexit__(self, *error):
        await self.forwarder.close()
        for writer in self._writers:
            if not writer.transport.is_closing():
                writer.transport.abort()
        assert not self.forwarder.links
        await self.run(1000)
        assert self.pc.connections() == []
        self._clockwork.cancel()

    async def _run(self):
        while True:
            self.clock.advance(5 * NS_PER_MS)
            for done, future in self._waiters:
                if not future.done() and done():
                    future.set_result(None)
            await asyncio.sleep(0)

    async def until(self, done):
        """Wait until `done()`."""
        waiter = done, asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        async with asyncio.timeout(LIMIT):
            await waiter[1]
        self._waiters.remove(waiter)

    async def run(self, ms):
        end = self.clock.now + ms * NS_PER_MS
        await self.until(lambda: self.clock.now >= end)

    async def user(self):
        """The board's end of the connection made last."""
        await self.until(lambda: self.users and self.users[-1].calls)
        return self.users[-1]

    async def connect(self, board_port=None):
        """Streams of a program whose kernel buffers little."""
        address = self.address
        if board_port is not None:
            address = await self.forwarder.listen(HOST, 0, lambda: self._ip, board_port)
        sock = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, KERNEL_BUFFER)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        streams = await asyncio.open_connection(sock=sock)
        self._writers.append(streams[1])
        return streams

    def lose_address(self):
        self._ip = IP_ANY


class Echo(User):
    """Reads what it gets, sends it back, and closes after the peer."""

    def received(self, data):
        super().received(data)
        self.waiting = 0
        self.tcb.send(data)

    def fin(self):
        super().fin()
        self.tcb.shutdown()


def bench(make_user=Echo):
    """Run the decorated coroutine function with a Bench as a test."""

    def decorate(function):
        def test():
            async def main():
                async with Bench(make_user) as made:
                    await function(made)

            asyncio.run(main())

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        return test

    return decorate


async def reset_comes(reader):
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(LIMIT):
            await reader.read()


def break_off(writer):
    """The program ends its connection by RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    writer.transport.abort()


@bench()
async def test_echo(bench):
    data = random.Random(1).randbytes(1_000_000)
    reader, writer = await bench.connect()
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
    user = await bench.user()
    await bench.until(lambda: user.calls == ["established", "fin", "done"])


@bench()
async def test_many_at_once(bench):
    async def one(i):
        reader, writer = await bench.connect()
        for _ in range(20):
            writer.write(bytes((i,)) * 100)
            assert await reader.readexactly(100) == bytes((i,)) * 100
        writer.close()

    await asyncio.gather(*(one(i) for i in range(20)))
    assert len({user.tcb.remote_port for user in bench.users}) == 20


@bench()
async def test_refused_comes_out_as_a_reset(bench):
    reader, _ = await bench.connect(PORT + 1)
    start = bench.clock.now
    await reset_comes(reader)
    assert bench.clock.now - start < 1000 * NS_PER_MS


@bench()
async def test_nobody_at_the_address(bench):
    bench._ip = bytes((10, 0, 0, 99))
    reader, _ = await bench.connect()
    await reset_comes(reader)


@bench()
async def test_board_without_an_address(bench):
    bench.lose_address()
    reader, _ = await bench.connect()
    await reset_comes(reader)


@bench(User)
async def test_board_resets(bench):
    reader, _ = await bench.connect()
    (await bench.user()).tcb.abort()
    await reset_comes(reader)


@bench(User)
async def test_board_falls_silent(bench):
    reader, writer = await bench.connect()
    await bench.user()
    bench.segment.detach(bench.segment.ports[1])
    writer.write(b"is anybody there?")
    await reset_comes(reader)


@bench(User)
async def test_program_resets(bench):
    _, writer = await bench.connect()
    user = await bench.user()
    break_off(writer)
    await bench.until(lambda: user.calls[-1] == "reset")


@bench(User)
async def test_program_resets_before_the_board_has_answered(bench):
    _, writer = await bench.connect()
    break_off(writer)
    await bench.run(100)
    assert all(user.calls[-1] in ("established", "reset") for user in bench.users)
    await bench.until(lambda: not bench.forwarder.links)


@bench(lambda: User(limit=1000))
async def test_program_resets_while_nothing_is_read_from_it(bench):
    _, writer = await bench.connect()
    writer.write(bytes(1_000_000))
    user = await bench.user()
    await bench.run(1000)
    break_off(writer)
    await bench.until(lambda: user.calls[-1] == "reset")


@bench(User)
async def test_program_resets_after_its_end_of_file(bench):
    _, writer = await bench.connect()
    user = await bench.user()
    writer.write_eof()
    await bench.until(lambda: user.calls[-1] == "fin")
    break_off(writer)
    await bench.until(lambda: user.calls[-1] == "reset")


@bench(User)
async def test_half_close_by_the_program(bench):
    reader, writer = await bench.connect()
    user = await bench.user()
    writer.write(b"all of it")
    writer.write_eof()
    await bench.until(lambda: user.calls[-1] == "fin")
    assert user.data == b"all of it"
    user.tcb.send(b"an answer, later")
    assert await reader.readexactly(16) == b"an answer, later"
    await bench.run(500)
    user.tcb.shutdown()
    assert await reader.read() == b""
    await bench.until(lambda: user.calls[-1] == "done")
    await bench.until(lambda: not bench.forwarder.links)


@bench(User)
async def test_half_close_by_the_board(bench):
    reader, writer = await bench.connect()
    user = await bench.user()
    user.tcb.send(b"bye")
    user.tcb.shutdown()
    assert await reader.read() == b"bye"
    writer.write(b"not so fast")
    await bench.until(lambda: user.data == b"not so fast")
    writer.close()
    await bench.until(lambda: user.calls[-1] == "done")


@bench(User)
async def test_socket_closes_without_waiting_for_time_wait(bench):
    bench.pc.time_wait = 10**15
    reader, writer = await bench.connect()
    user = await bench.user()
    writer.write_eof()
    await bench.until(lambda: user.calls[-1] == "fin")
    user.tcb.shutdown()
    assert await reader.read() == b""
    (link,) = bench.forwarder.links
    await bench.until(lambda: link._transport is None)
    assert [tcb.state for tcb in bench.pc.connections()] == ["TIME-WAIT"]


@bench(lambda: User(limit=1000))
async def test_board_that_does_not_read_stops_the_program(bench):
    data = random.Random(2).randbytes(2_000_000)
    _, writer = await bench.connect()
    writer.write(data)
    user = await bench.user()
    await bench.run(2000)
    taken = len(data) - writer.transport.get_write_buffer_size()
    # in our queue, in the two kernel buffers (Linux doubles what it is asked for), in the board
    assert taken < WINDOW + BUFFER + 1000 + 8 * KERNEL_BUFFER
    (link,) = bench.forwarder.links
    assert link._tcb.unsent <= WINDOW + BUFFER
    user.limit = 65535
    user.on_received = lambda chunk: setattr(user, "waiting", 0)
    user.read()
    await bench.until(lambda: len(user.data) == len(data))
    assert user.data == data


@bench(User)
async def test_program_that_does_not_read_stops_the_board(bench):
    data = random.Random(3).randbytes(2_000_000)
    reader, writer = await bench.connect()
    writer.transport.pause_reading()
    user = await bench.user()
    user.tcb.send(data)
    await bench.run(2000)
    assert user.acked_bytes < WINDOW + 8 * KERNEL_BUFFER
    (link,) = bench.forwarder.links
    assert link._transport.get_write_buffer_size() <= WINDOW
    writer.transport.resume_reading()
    async with asyncio.timeout(LIMIT):
        assert await reader.readexactly(len(data)) == data
    assert user.tcb.state == "ESTABLISHED"


@bench(User)
async def test_shut_window_opens_when_the_program_reads_not_when_the_board_asks(bench):
    _, writer = await bench.connect()
    writer.transport.pause_reading()
    user = await bench.user()
    user.tcb.send(bytes(2_000_000))
    (link,) = bench.forwarder.links
    await bench.until(lambda: link.room() == 0)
    await bench.run(100)  # what was in flight is acknowledged
    windows = []
    bench.segment.taps.append(
        lambda time, name, frame, comment: windows.append(segment(frame)["window"]) if name == "pc" else None
    )
    bench.pc.raw = lambda frame: True  # it hears no probe
    writer.transport.resume_reading()
    await bench.until(lambda: any(windows))
    bench.pc.raw = None


@bench(lambda: User(limit=1000))
async def test_program_that_closes_loses_nothing_to_a_slow_board_that_has_closed_before(bench):
    """Both have sent FIN then, which a socket shows as a hang-up."""
    data = random.Random(4).randbytes(
        WINDOW + 2 * BUFFER
    )  # some of it waits in the kernel, and FIN behind it
    reader, writer = await bench.connect()
    user = await bench.user()
    user.tcb.shutdown()
    assert await reader.read() == b""
    writer.write(data)
    writer.close()
    (link,) = bench.forwarder.links
    await bench.until(lambda: link._tcb.unsent >= WINDOW)
    for _ in range(5):
        await asyncio.sleep(WATCH_S)
    user.limit = 65535
    user.on_received = lambda chunk: setattr(user, "waiting", 0)
    user.read()
    await bench.until(lambda: user.calls[-1] in ("done", "reset"))
    assert user.calls[-1] == "done" and user.data == data
    await writer.wait_closed()


@bench()
async def test_port_in_use(bench):
    host, port = bench.address
    with pytest.raises(OSError, match=f"{host}:{port}: port in use") as raised:
        await bench.forwarder.listen(host, port, lambda: B_IP, PORT)
    assert raised.value.errno == errno.EADDRINUSE


@bench()
async def test_address_that_is_not_ours(bench):
    for host in ("192.0.2.1", "no host."):
        with pytest.raises(OSError, match=f"^.*{host}:0: "):
            await bench.forwarder.listen(host, 0, lambda: B_IP, PORT)


def test_close_leaves_nothing_behind():
    async def main():
        bench = Bench(User)
        async with bench:
            streams = [await bench.connect() for _ in range(5)]
            await bench.until(lambda: len(bench.users) == 5)
            streams[0][1].write_eof()
        for reader, writer in streams:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*bench.address)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main(), debug=True)
