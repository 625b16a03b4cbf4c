"""The file server of the firmware on a PC: its connections are sockets, its turns are those of an asyncio loop.

In: a FilesServer, an address. Out: connections served until the caller is cancelled. Never: a loop that stands still
for more than a slice, a connection that outlives `serve`, a word on stdout.
"""

import asyncio
import contextlib
import hashlib
import logging
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from hardwire import log
from hardwire.services.files import FilesProtocol, FilesServer

from .folder import Folder

TICK_S = 0.1
SLICE_S = 0.001  # of work, before sockets have their turn
LIMIT = 65000  # payload; with its header the frame's length fits 16 bits
WINDOW = 1 << 20
OPERATIONS = 16
DEPTH = 15  # the longest entry of a list must fit the smallest payload that a client may ask for, 1024 bytes
CONNECTIONS = 64  # each holds up to a frame and what one read brings, 320 KB

_log = logging.getLogger("hardwire.files")


def make_server(
    path: str | Path,
    name: str,
    identity: bytes,
    *,
    read_key: str | None = None,
    write_key: str | None = None,
    hidden: Iterable[str] = (),
) -> FilesServer:
    """A server for the folder at `path`, with a PC's limits. hidden: see Folder. Raises OSError: there is no folder."""
    return FilesServer(
        Folder(path, hidden),
        name,
        identity,
        read_key,
        write_key,
        limit=LIMIT,
        window=WINDOW,
        operations=OPERATIONS,
        depth=DEPTH,
        block=LIMIT - 4,
    )


def identity(seed: bytes, path: str | Path) -> bytes:
    """Who serves the folder at `path`, in the form of a MAC that nobody was given; `seed` is this user's.

    Each folder has its own, since keys are kept by it.
    """
    digest = hashlib.sha256(seed + str(Path(path).resolve()).encode("utf-8", "surrogateescape")).digest()
    return bytes([digest[0] & 0xFC | 2]) + digest[1:6]  # locally administered, one station


class _Connection(FilesProtocol):
    """One that is logged, and does not outlive a client that vanished."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        host, port = transport.get_extra_info("peername")[:2]
        self._address = f"{host} port {port}"
        if len(self.server.connections) > CONNECTIONS:
            _log.warning("%s: there are %d connections already: closed", self._address, CONNECTIONS)
            self.close()
            return
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        _log.info("%s: connected", self._address)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        _log.info("%s: %s", self._address, error or "disconnected")

    def abort(self) -> None:
        """Close it, whatever was not sent yet."""
        self._transport.abort()


async def serve(
    server: FilesServer, host: str, port: int, started: Callable[[str, int], None] = lambda host, port: None
) -> None:
    """Serve until cancelled. started: called with the address once connections are accepted. Raises OSError."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Connection(server), host, port)

    def work() -> None:
        until = time.perf_counter() + SLICE_S
        while server.work():
            if time.perf_counter() >= until:
                loop.call_soon(work)
                return

    server.on_work = lambda: loop.call_soon(work)
    try:
        started(*listener.sockets[0].getsockname()[:2])
        while True:
            await asyncio.sleep(TICK_S)
            server.tick()
    finally:
        server.on_work = None
        listener.close()
        for connection in list(server.connections):
            connection.abort()
        await asyncio.sleep(0)  # their connection_lost: what was begun is closed, and can be resumed


@contextlib.contextmanager
def logged():
    """The firmware's messages go to Python's log meanwhile: stdout has the command's data."""

    def exception(error: BaseException, _file: TextIO) -> None:
        _log.error("internal error", exc_info=error)

    before = getattr(log, "print", print), log.print_exception
    log.print, log.print_exception = _log.info, exception
    try:
        yield
    finally:
        log.print, log.print_exception = before
