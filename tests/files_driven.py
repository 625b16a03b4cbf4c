"""The file server without a network, and with one: connections that a test moves by hand, and sockets of this PC.

In: a FilesServer. Out: the frames that it sent. Never: a wait for a clock that the test does not move (Client).
"""

import asyncio
import contextlib
import struct
import threading
from hashlib import sha256

from hardwire import compat
from hardwire.wire import files as F
from hardwire_host import files_serve

TURNS = 200_000  # of work, before a test says that there is no end
NONCE = bytes(range(16))


class Clock:
    """The firmware's clock, in the test's hands. Make it before the server."""

    def __init__(self, monkeypatch):
        self._ns = 0
        monkeypatch.setattr(compat, "now_ns", lambda: self._ns)

    def move(self, server, seconds):
        """Let time pass, with the ticks that belong to it; of long times, the last ticks."""
        ticks = round(seconds * 10)
        self._ns += max(0, ticks - 200) * 100_000_000
        for _ in range(min(ticks, 200)):
            self._ns += 100_000_000
            server.tick()


class Client:
    """A connection to `server` whose both ends are here. It keeps all frames that came, as (type, id, payload).

    Args:
        address: where it comes from. limit: largest payload that it takes; None: no HELLO.

    Attributes: closed: by the server. sent: bytes that went to it, the handshake included.
    """

    def __init__(self, server, address="10.0.0.1", limit=1024):
        self.server = server
        self.address = address
        self.closed = False
        self.sent = b""
        self.frames = []
        self._paused = False
        self._ahead = b""  # sent while the server did not read
        self._in = b""
        self._number = 0
        self.protocol = server()
        self.protocol.connection_made(self)
        if limit is not None:
            ((_, _, hello),) = self.ask(F.HELLO, struct.pack(F.CLIENT_HELLO, F.MAGIC, 1, 1, limit, NONCE))
            self.hello = struct.unpack_from(F.SERVER_HELLO, hello)

    # The transport's side

    def get_extra_info(self, name):
        assert name == "peername"
        return self.address, 50000

    def write(self, data):
        assert not self.closed
        self._in += bytes(data)
        while True:
            found = F.parse(self._in, 0, len(self._in), 65535)
            if found is None:
                return
            length, kind, number, intact = found
            assert intact
            self.frames.append((kind, number, self._in[F.HEADER : length]))
            self._in = self._in[length:]

    def close(self):
        self.closed = True

    def pause_reading(self):
        self._paused = True

    def resume_reading(self):
        self._paused = False

    # The client's side

    def feed(self, data):
        """Send bytes."""
        self.sent += data
        self._ahead += data
        self._deliver()

    @property
    def ahead(self):
        """Bytes that the server has not read."""
        return len(self._ahead)

    def _deliver(self):
        while self._ahead and not self._paused and not self.closed:
            data, self._ahead = self._ahead[:1024], self._ahead[1024:]
            self.protocol.data_received(data)

    def drive(self):
        """Let the server do all that it can."""
        for _ in range(TURNS):
            more = self.server.work()
            self._deliver()
            if not more and not self.server.queue:
                return
        raise AssertionError("no end of work")

    def number(self):
        """An id that no request has had."""
        self._number += 1
        return self._number

    def send(self, kind, payload=b"", number=None, damage=None):
        """Send a frame; returns its id. damage: index of a byte of the payload that arrives wrong."""
        number = self.number() if number is None else number
        frame = F.frame(kind, number, payload)
        if damage is not None:
            frame[F.HEADER + damage if payload else F.HEADER - 1] ^= 0x10
        self.feed(bytes(frame))
        return number

    def of(self, number):
        """Frames that came for a request."""
        return [frame for frame in self.frames if frame[1] == number]

    def ask(self, kind, payload=b"", damage=None):
        """Send a request and let it be done; all frames that came for it."""
        number = self.send(kind, payload, damage=damage)
        self.drive()
        return self.of(number)

    def code(self, kind, payload=b""):
        """Send a request; the code of its ERROR, 0 if it has none."""
        kind, _, answer = self.ask(kind, payload)[-1]
        return answer[0] if kind == F.ERROR else 0

    def auth(self, key, role):
        """All frames that came for AUTH."""
        proof = F.proof(key.encode(), b"client", role, NONCE, self.hello[7])
        return self.ask(F.AUTH, bytes([role]) + proof)

    def lose(self):
        """The connection breaks."""
        self.closed = True
        self.protocol.connection_lost(None)

    # PUT

    def begin(self, path, size, token=b"12345678", flags=0):
        """Send PUT and let it be answered; its id. Attributes offset, crc, others."""
        number = self.send(F.PUT, struct.pack(F.CLIENT_PUT, flags, size, token) + path.encode())
        self.drive()
        kind, _, payload = self.of(number)[-1]
        assert kind == F.PUT | F.ANSWER, payload
        self.offset, self.crc, self.others = struct.unpack(F.SERVER_PUT, payload)
        return number

    def data(self, number, data, at, size):
        """Send `size` bytes of `data` from offset `at`, in one frame; returns the offset behind them."""
        piece = data[at : at + size]
        self.send(F.DATA, struct.pack(">I", at) + piece, number)
        return at + len(piece)

    def finish(self, number, data):
        """Send what is missing within the window, and END; the last frame that came."""
        at = self.offset
        while at < len(data):
            at = self.data(number, data, at, self.server.limit - 4)
            self.drive()
        self.send(F.END, sha256(data).digest(), number)
        self.drive()
        return self.of(number)[-1]

    def put(self, path, data, **options):
        """Store a file; the payload of STORED."""
        kind, _, payload = self.finish(self.begin(path, len(data), **options), data)
        assert kind == F.END | F.ANSWER, payload
        return payload


class Served:
    """`server` behind a free port of this PC, driven as `hardwire fs serve` does. A context manager."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        listening = threading.Event()

        def started(host, port):
            self.address = host, port
            listening.set()

        async def main():
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            with contextlib.suppress(asyncio.CancelledError):
                await files_serve.serve(self.server, "127.0.0.1", 0, started)

        self._thread = threading.Thread(target=lambda: asyncio.run(main()))
        self._thread.start()
        assert listening.wait(20)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
