"""PC sockets <-> the segment: each TCP connection to a forwarded port becomes one on the wire, end for end.

In: connections to listening sockets of this PC, on the asyncio loop that also runs the board. Out: connections of the
PC's stack to the board. Refused and reset connections come out as resets, FIN passes in each direction by itself, and a
side that does not read stops the other: at most WINDOW bytes wait in either direction.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable

from .tcpip import Stack, Tcb

WINDOW = 65535  # bytes kept for a slow reader on either side: the largest window without scaling
BACKLOG = 64
_LINGER_0 = struct.pack("ii", 1, 0)  # close() sends RST


class Forwarder:
    """Listening sockets whose connections continue on the segment from `stack`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._servers: list[asyncio.Server] = []
        self.links: set[Link] = set()

    async def listen(
        self, host: str, port: int, target: Callable[[], bytes], board_port: int
    ) -> tuple[str, int]:
        """Forward host:port (0: any free port) to `board_port` of the address that `target()` gives then.

        Returns the address listened on. Raises OSError (EADDRINUSE, ...) naming it.
        """
        loop = asyncio.get_running_loop()

        def accepted() -> Link:
            return Link(self, self._stack, target(), board_port)

        try:
            server = await loop.create_server(accepted, host, port, backlog=BACKLOG)
        except OSError as error:
            raise OSError(error.errno, f"{host}:{port}: {_reason(error)}") from error
        self._servers.append(server)
        return server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Stop listening and reset what is open."""
        for server in self._servers:
            server.close()
        for link in list(self.links):
            link.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()


def _reason(error: OSError) -> str:
    return "port in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)


class Link(asyncio.Protocol):
    """One connection: asyncio.Protocol to the PC's program, tcpip.TcpUser to the board."""

    def __init__(self, owner: Forwarder, stack: Stack, ip: bytes, port: int) -> None:
        self._owner = owner
        self._stack = stack
        self._peer = (ip, port)
        self._transport: asyncio.Transport | None = None
        self._tcb: Tcb | None = None
        self._reading = True
        self._pc_done = self._board_done = False  # FIN from that side

    # The PC's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=WINDOW)
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._owner.links.add(self)
        self._stack.connect(self, None, *self._peer)

    def data_received(self, data: bytes) -> None:
        if self._tcb is not None:
            self._tcb.send(data)
            self._pace()

    def eof_received(self) -> bool:
        self._pc_done = True
        if self._tcb is not None:
            self._tcb.shutdown()
        return True  # the other direction stays open

    def resume_writing(self) -> None:
        if self._tcb is not None:
            self._tcb.window_opened()

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.links.discard(self)
        self._transport = None
        tcb, self._tcb = self._tcb, None
        if tcb is not None and not (self._pc_done and self._board_done):
            tcb.abort()

    def abort(self) -> None:
        """Reset both sides."""
        if self._tcb is not None:
            self._tcb.abort()
        self._reset()

    def _reset(self) -> None:
        if self._transport is not None:
            with contextlib.suppress(OSError):
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self._transport.abort()

    def _pace(self) -> None:
        """Read from the PC's program only while the board keeps up."""
        wanted = self._tcb is not None and self._tcb.unsent < WINDOW
        if self._transport is not None and wanted != self._reading and not self._pc_done:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # The board's side

    def attached(self, tcb: Tcb) -> None:
        self._tcb = tcb

    def room(self) -> int:
        if self._transport is None:
            return 0
        return max(0, WINDOW - self._transport.get_write_buffer_size())

    def established(self) -> None:
        pass

    def received(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def sent(self, n: int) -> None:
        self._pace()

    def acked(self, n: int) -> None:
        self._pace()

    def fin(self) -> None:
        self._board_done = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def closed(self, reason: str) -> None:
        self._tcb = None
        if self._transport is None:
            return
        if reason == "done":
            self._transport.close()
        else:
            self._reset()
