"""The PC's client against servers that do not keep to the protocol, and connections that do not last."""

import asyncio
import contextlib
import random
from hashlib import sha256
from struct import pack, unpack_from
from zlib import crc32

import pytest

from hardwire.wire import files as wire
from hardwire_host.clients import files_link
from hardwire_host.clients.files import FilesError, connect
from hardwire_host.errors import FAILED, NO_BOARD, TIMEOUT, HardwireError
from hardwire_host.keys import Key

SECRET = "s" * 32
KEY = Key(wire.WRITE, SECRET)
NONCE = bytes(16)
LIMIT, WINDOW = 1014, 8192
DATA = random.Random(1).randbytes(20_000)
PIECE = 1000
PATIENCE_S = 0.3  # of clients here


class Peer:
    """The server's end of a connection, in the test's hands."""

    def __init__(self, reader, writer):
        self._reader, self.writer = reader, writer
        self._held = bytearray()
        self.answered = {wire.PING, wire.CANCEL}  # by itself

    async def frame(self):
        """The next one, (type, id, payload), that is not `answered`. Raises EOFError."""
        while True:
            found = wire.parse(self._held, 0, len(self._held), 65535)
            if found is None:
                data = await self._reader.read(65536)
                if not data:
                    raise EOFError
                self._held += data
                continue
            length, kind, number, _ = found
            payload = bytes(self._held[wire.HEADER : length])
            del self._held[:length]
            if kind not in self.answered:
                return kind, number, payload
            self.send(kind | wire.ANSWER, number)

    async def due(self, kind):
        """(id, payload) of the next frame, which must be of this type."""
        found, number, payload = await self.frame()
        assert found == kind
        return number, payload

    def send(self, kind, number, payload=b"", *, damaged=False):
        frame = wire.frame(kind, number, payload)
        if damaged:
            frame[-1] ^= 1
        self.writer.write(bytes(frame))

    async def greet(self, *, limit=LIMIT, window=WINDOW, operations=2, secret=SECRET):
        """HELLO and AUTH."""
        number, hello = await self.due(wire.HELLO)
        theirs = hello[-16:]
        head = wire.VERSION, wire.WRITE_KEY, limit, window, operations, 8, 0, NONCE, b"server"
        self.send(wire.HELLO | wire.ANSWER, number, pack(wire.SERVER_HELLO, *head) + b"name")
        number, _ = await self.due(wire.AUTH)
        proof = wire.proof(secret.encode(), b"server", wire.WRITE, theirs, NONCE)
        self.send(wire.AUTH | wire.ANSWER, number, bytes((wire.WRITE,)) + proof)

    def pieces(self, number, data, start=0, damaged=()):
        """DATA for `data` from `start` on."""
        for at in range(start, len(data), PIECE):
            self.send(wire.DATA, number, pack(">I", at) + data[at : at + PIECE], damaged=at in damaged)

    def end(self, number, data, size=None):
        self.send(wire.END, number, pack(">I", len(data) if size is None else size) + sha256(data).digest())


@pytest.fixture
def against(monkeypatch):
    """against(serve, work): what `work(files)` returns, of files that `await serve(peer)` gives on each connection."""
    monkeypatch.setattr(files_link, "QUIET_S", 0.05)

    def run(serve, work):
        failed = []

        async def connection(reader, writer):
            try:
                with contextlib.suppress(EOFError, OSError):
                    await serve(Peer(reader, writer))
                    await reader.read()
            except Exception as error:
                failed.append(error)
            finally:
                writer.close()

        async def main():
            server = await asyncio.start_server(connection, "127.0.0.1", 0)
            async with server:
                files = await connect(*server.sockets[0].getsockname()[:2], KEY, timeout=PATIENCE_S)
                try:
                    return await work(files)
                finally:
                    await files.close()

        try:
            return asyncio.run(main())
        finally:
            assert not failed

    return run


def code_of(against, serve, work=None):
    """The exit code of the error that it ends with."""
    with pytest.raises(HardwireError) as caught:
        against(serve, work or (lambda files: files.stat("x")))
    return caught.value.code


# The beginning


def test_a_server_of_something_else(against):
    async def serve(peer):
        peer.writer.write(b"SSH-2.0-OpenSSH_9.6\r\n" * 3)

    assert code_of(against, serve) == NO_BOARD


def test_a_server_that_says_nothing(against):
    async def serve(peer):
        await asyncio.sleep(10)

    assert code_of(against, serve) == TIMEOUT


def test_a_server_that_hangs_up(against):
    async def serve(peer):
        peer.writer.close()

    assert code_of(against, serve) == NO_BOARD


@pytest.mark.parametrize("hello", [b"", b"\x01\x04", bytes(60)])
def test_half_a_hello(against, hello):
    async def serve(peer):
        number, _ = await peer.due(wire.HELLO)
        peer.send(wire.HELLO | wire.ANSWER, number, hello)

    assert code_of(against, serve) == NO_BOARD


@pytest.mark.parametrize("limits", [{"limit": 0}, {"limit": 3}, {"window": 0}, {"operations": 0}])
def test_limits_that_nobody_can_keep(against, limits):
    assert code_of(against, lambda peer: peer.greet(**limits)) == NO_BOARD


def test_a_server_without_the_key(against):
    """It lets the client in, and cannot prove that it has the key itself."""
    with pytest.raises(FilesError, match="does not have the key itself") as caught:
        against(lambda peer: peer.greet(secret="another"), lambda files: files.stat("x"))
    assert caught.value.number == wire.DENIED


# Answers


@pytest.mark.parametrize(
    ("answer", "work"),
    [
        (b"\0\0", lambda files: files.stat("x")),
        (bytes(40), lambda files: files.stat("x")),
        (b"", lambda files: files.space()),
    ],
)
def test_an_answer_of_another_length(against, answer, work):
    async def serve(peer):
        await peer.greet()
        kind, number, _ = await peer.frame()
        peer.send(kind | wire.ANSWER, number, answer)

    assert code_of(against, serve, work) == FAILED


@pytest.mark.parametrize(
    "entries", [b"\0", bytes(9) + b"\0\x09short", bytes(wire.entry(0, 1, 0, None, b"\xff\xfe"))]
)
def test_entries_that_are_none(against, entries):
    async def serve(peer):
        await peer.greet()
        number, _ = await peer.due(wire.LIST)
        peer.send(wire.ENTRIES, number, entries)
        peer.send(wire.LIST | wire.ANSWER, number, pack(">I", 1))

    assert code_of(against, serve, lambda files: files.list()) == FAILED


def test_an_error_ends_its_request_alone(against):
    async def serve(peer):
        await peer.greet()
        first, _ = await peer.due(wire.STAT)
        second, _ = await peer.due(wire.STAT)
        peer.send(wire.ERROR, first, bytes((wire.NOT_FOUND,)) + b"not found")
        peer.send(wire.STAT | wire.ANSWER, second, pack(wire.ENTRY, wire.FILE, 7, 0))

    async def work(files):
        return await asyncio.gather(files.stat("a"), files.stat("b"), return_exceptions=True)

    refused, entry = against(serve, work)
    assert refused.number == wire.NOT_FOUND
    assert entry.size == 7


def test_an_answer_that_comes_late_is_waited_for_while_the_server_is_there(against):
    async def serve(peer):
        await peer.greet()
        number, _ = await peer.due(wire.HASH)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * PATIENCE_S):
                await peer.frame()  # it is asked whether it is there
        peer.send(wire.HASH | wire.ANSWER, number, pack(">I", 1) + bytes(32))

    assert against(serve, lambda files: files.hash("x")) == bytes(32)


# Reading


async def offered(peer, data=DATA, size=None):
    """GET is answered: (id, where it begins)."""
    number, payload = await peer.due(wire.GET)
    flags, offset, _, crc = unpack_from(wire.CLIENT_GET, payload)
    if flags & wire.RESUME:
        assert crc == crc32(data[:offset])
    peer.send(wire.GET | wire.ANSWER, number, pack(">II", len(data) if size is None else size, 0))
    return number, offset


def test_a_damaged_piece_is_asked_for_again(against, tmp_path):
    async def serve(peer):
        await peer.greet()
        number, _ = await offered(peer)
        peer.pieces(number, DATA, damaged=(0, 7000, 9000, 19_000))
        peer.end(number, DATA)
        for _ in range(4):  # holes
            number, payload = await peer.due(wire.GET)
            _, start, length, _ = unpack_from(wire.CLIENT_GET, payload)
            peer.send(wire.GET | wire.ANSWER, number, pack(">II", len(DATA), 0))
            piece = DATA[start : start + length]
            peer.send(wire.DATA, number, pack(">I", start) + piece)
            peer.send(wire.END, number, pack(">I", start + length) + sha256(piece).digest())

    against(serve, lambda files: files.get("x", tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_connection_that_is_cut_is_gone_on_with(against, tmp_path):
    begun = []

    async def serve(peer):
        await peer.greet()
        number, offset = await offered(peer)
        begun.append(offset)
        until = min(len(DATA), offset + 7000)
        peer.pieces(number, DATA[:until], offset)
        if until == len(DATA):
            peer.end(number, DATA)
        else:
            await peer.writer.drain()
            peer.writer.close()

    against(serve, lambda files: files.get("x", tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == DATA
    assert begun == [0, 7000, 14_000]


def test_a_file_that_is_not_what_was_announced_gets_no_name(against, tmp_path):
    async def serve(peer):
        await peer.greet()
        while True:
            number, offset = await offered(peer)
            peer.pieces(number, DATA, offset)
            peer.send(wire.END, number, pack(">I", len(DATA)) + bytes(32))

    with pytest.raises(FilesError) as caught:
        against(serve, lambda files: files.get("x", tmp_path / "x"))
    assert caught.value.number == wire.BAD_CHECKSUM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reads", [False, True])
def test_more_than_was_announced(against, tmp_path, reads):
    async def serve(peer):
        await peer.greet()
        while True:
            number, _ = await offered(peer, size=PIECE)
            peer.pieces(number, DATA)
            peer.end(number, DATA)

    def work(files):
        return files.read("x", 0, PIECE) if reads else files.get("x", tmp_path / "x")

    assert code_of(against, serve, work) == FAILED
    assert not (tmp_path / "x").exists()


# Writing


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


async def taken(peer, begun=0, crc=0):
    """PUT is answered: its id."""
    number, _ = await peer.due(wire.PUT)
    peer.send(wire.PUT | wire.ANSWER, number, pack(wire.SERVER_PUT, begun, crc, 0))
    return number


async def stored(peer, number, data, at):
    """DATA is taken from `at` on, and acknowledged at once, until END."""
    while True:
        kind, _, payload = await peer.frame()
        if kind == wire.END:
            peer.send(wire.END | wire.ANSWER, number, b"\0" + payload)
            return
        offset = unpack_from(">I", payload)[0]
        if kind == wire.DATA and offset == at:
            data[at:] = payload[4:]
            at = len(data)
            peer.send(wire.ACK, number, pack(">I", at))


def test_it_goes_back_where_it_is_told_to(against, source):
    data = bytearray()

    async def serve(peer):
        await peer.greet()
        number = await taken(peer)
        for _ in range(5):
            await peer.due(wire.DATA)
        peer.send(wire.RESEND, number, pack(">I", 0))
        await stored(peer, number, data, 0)

    against(serve, lambda files: files.put(source, "x"))
    assert data == DATA


def test_it_never_is_ahead_by_more_than_the_window(against, source):
    async def serve(peer):
        await peer.greet()
        number = await taken(peer)
        ahead = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    ahead += len((await peer.due(wire.DATA))[1]) - 4
        assert ahead == WINDOW
        peer.send(wire.ERROR, number, bytes((wire.NO_SPACE,)) + b"no space")

    assert code_of(against, serve, lambda files: files.put(source, "x")) == FAILED


def test_what_is_there_of_another_file_is_dropped(against, source):
    data = bytearray()

    async def serve(peer):
        await peer.greet()
        number = await taken(peer, 5000, crc32(bytes(5000)))
        peer.answered.remove(wire.CANCEL)
        cancel, payload = await peer.due(wire.CANCEL)
        assert payload == pack(">HB", number, wire.FORGET)
        peer.send(wire.ERROR, number, bytes((wire.CANCELLED,)) + b"cancelled")
        peer.send(wire.CANCEL | wire.ANSWER, cancel)
        await stored(peer, await taken(peer), data, 0)

    against(serve, lambda files: files.put(source, "x"))
    assert data == DATA


def test_a_server_that_stored_something_else(against, source):
    async def serve(peer):
        await peer.greet()
        number = await taken(peer)
        while (await peer.frame())[0] != wire.END:
            peer.send(wire.ACK, number, pack(">I", len(DATA)))
        peer.send(wire.END | wire.ANSWER, number, b"\0" + bytes(32))
        while True:  # it is tried again, and looked whether it is there by now
            _, number, _ = await peer.frame()
            peer.send(wire.ERROR, number, bytes((wire.BAD_CHECKSUM,)) + b"bad checksum")

    with pytest.raises(FilesError) as caught:
        against(serve, lambda files: files.put(source, "x"))
    assert caught.value.number == wire.BAD_CHECKSUM


def test_a_server_that_never_lets_it_get_on(against, source):
    async def serve(peer):
        await peer.greet()
        await taken(peer)
        peer.writer.close()

    assert code_of(against, serve, lambda files: files.put(source, "x")) == NO_BOARD
