"""Reader and writer on top of a Protocol, for services and clients that are conversations.

In: a transport's callbacks. Out: awaitable reads, bounded by LIMIT: a peer that sends more than is read is held back by
its window. `Stream` works under our Transport and under CPython's asyncio. A service that is a conversation:

    async def talk(stream):
        while line := await stream.readline():
            stream.write(line)
            await stream.drain()

    Service("echo", conversation(talk), 7)
"""

import asyncio

from . import log
from .compat import const

LIMIT = const(2048)  # bytes kept unread before the peer is held back; one line may have as many


class Stream:
    """One connection, as an asyncio.Protocol with the methods of StreamReader and StreamWriter.

    Reads raise the connection's error (OSError) when it was lost; they return what is left, or b"", after its end.
    """

    def __init__(self, talk=None):
        self._talk = talk
        self._transport = None
        self._task = None
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self._held_back = False
        self._full = False  # the peer takes nothing more for now
        self._eof = False
        self._lost = False
        self._error = None

    # asyncio.Protocol

    def connection_made(self, transport):
        self._transport = transport
        if self._talk is not None:
            self._task = asyncio.create_task(self._run())

    async def _run(self):
        try:
            await self._talk(self)
        except OSError:
            pass  # the connection's own end
        except Exception as error:
            log.exception("conversation", error)
        self.close()

    def data_received(self, data):
        self._buffer += data
        if len(self._buffer) >= LIMIT and not self._held_back:
            self._held_back = True
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self):
        self._eof = True
        self._changed.set()
        return True  # what is to be written still goes out

    def connection_lost(self, error):
        self._eof = self._lost = True
        self._error = error
        self._full = False
        self._changed.set()

    def pause_writing(self):
        self._full = True

    def resume_writing(self):
        self._full = False
        self._changed.set()

    # Reading

    async def _wait(self):
        self._changed.clear()
        await self._changed.wait()

    def _take(self, n):
        data = bytes(self._buffer[:n])
        self._buffer = self._buffer[n:]
        if self._held_back and len(self._buffer) < LIMIT and not self._lost:
            self._held_back = False
            self._transport.resume_reading()
        return data

    def _end(self):
        if self._error is not None:
            raise self._error

    async def read(self, n=LIMIT):
        """At least one byte and at most `n`; b"" at the end."""
        while not self._buffer:
            if self._eof:
                self._end()
                return b""
            await self._wait()
        return self._take(n)

    async def readexactly(self, n):
        """`n` bytes (not above LIMIT). Raises EOFError if the end comes first."""
        while len(self._buffer) < n:
            if self._eof:
                self._end()
                raise EOFError
            await self._wait()
        return self._take(n)

    async def readline(self):
        """A line with its newline; at the end what is left. Raises ValueError for a line longer than LIMIT."""
        while (at := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) >= LIMIT:
                raise ValueError("line too long")
            if self._eof:
                self._end()
                return self._take(len(self._buffer))
            await self._wait()
        return self._take(at + 1)

    # Writing

    def write(self, data):
        """Queue `data`; await `drain` before much more."""
        if not self._lost:
            self._transport.write(data)

    async def drain(self):
        """Wait until the peer takes data again. Raises the connection's error."""
        while self._full:
            await self._wait()
        self._end()

    def close(self):
        """End the connection after what was written."""
        self._transport.close()

    async def wait_closed(self):
        """Wait until the connection has ended."""
        while not self._lost:
            await self._wait()

    def get_extra_info(self, name, default=None):
        """As the transport's."""
        return self._transport.get_extra_info(name, default)


def conversation(talk):
    """A protocol factory for a Service: `talk(stream)` is a task for each connection."""
    return lambda: Stream(talk)
