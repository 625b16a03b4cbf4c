"""PC sockets <-> the segment: each TCP connection to a forwarded port goes on as one on the wire, end for end.

In: connections to listening sockets of this PC, on the asyncio loop that also moves the stack's clock. Out: connections
of the PC's stack to the board. FIN passes in each direction by itself, reset and timeout come out as reset, and a side
that does not read stops the other. Never: threads, more than WINDOW bytes and a buffer waiting in a direction.

One thing a forwarder cannot copy: the PC's kernel accepts before the board is asked. A refused connection is therefore
reset right after it was made.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable

from .packets import IP_ANY
from .tcpip import Stack, Tcb

WINDOW = 0xFFFF  # bytes kept for a side that does not read: the largest window without scaling
BUFFER = 16384  # bytes of one read
KERNEL_BUFFER = (
    65536  # per direction; the kernel's default of megabytes would hide what the board does not take
)
BACKLOG = 64
WATCH_S = 0.2  # how late the reset of a program is noticed while nothing is read from it
_LINGER_0 = struct.pack("ii", 1, 0)  # close() sends RST


class Forwarder:
    """Listening sockets whose connections go on from `stack`.

    Attributes:
        links: the connections, until both their ends are over.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.links: set[Link] = set()
        self.buffer = memoryview(bytearray(BUFFER))  # read and handed on within one call: all links share it
        self._servers: list[asyncio.Server] = []
        self._emptied = asyncio.Event()  # set when the last link goes

    async def listen(
        self, host: str, port: int, target: Callable[[], bytes], board_port: int
    ) -> tuple[str, int]:
        """Forward host:port (0: any free port) to `board_port` of the address that `target()` gives at that time.

        Returns the address listened on. Raises OSError naming it: in use, not permitted, no such host.
        """
        loop = asyncio.get_running_loop()
        sock = None
        try:
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = addresses[0]
            sock = socket.socket(family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, KERNEL_BUFFER)
            sock.bind(address)
            server = await loop.create_server(
                lambda: Link(self, target(), board_port), sock=sock, backlog=BACKLOG
            )
        except OSError as error:
            if sock is not None:
                sock.close()
            raise OSError(error.errno, f"{host}:{port}: {_reason(error)}") from error
        self._servers.append(server)
        return sock.getsockname()[:2]

    async def close(self) -> None:
        """Stop listening and reset what is open; returns when nothing is left."""
        for server in self._servers:
            server.close()
        for link in tuple(self.links):
            link.abort()
        if self.links:  # the loop closes their sockets in its next turn
            self._emptied.clear()
            await self._emptied.wait()
        self._servers.clear()

    def forget(self, link: "Link") -> None:
        """A link is over at both ends."""
        self.links.discard(link)
        if not self.links:
            self._emptied.set()


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "port in use"
    return (error.strerror or str(error)).lower()


class Link(asyncio.BufferedProtocol):
    """One connection: an asyncio protocol to the PC's program, a TcpUser to the board."""

    def __init__(self, owner: Forwarder, ip: bytes, port: int) -> None:
        self._owner = owner
        self._peer = ip, port
        self._transport: asyncio.Transport | None = None
        self._tcb: Tcb | None = None
        self._reading = True
        self._pc_done = self._board_done = False  # FIN from that side
        self._watch: asyncio.TimerHandle | None = None

    # The PC's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The kernel has accepted."""
        self._transport = transport
        transport.set_write_buffer_limits(
            high=WINDOW // 2
        )  # resume_writing() comes before the window is shut
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._owner.links.add(self)
        ip, port = self._peer
        if ip == IP_ANY:  # a board without an address
            self._reset()
        else:
            self._owner.stack.connect(self, None, ip, port)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        if self._tcb is not None:
            self._tcb.send(self._owner.buffer[:nbytes])
            self._pace()

    def eof_received(self) -> bool:
        """The program has sent all it will. True keeps the other direction open."""
        self._pc_done = True
        self._reading = False
        if self._tcb is not None:
            self._tcb.shutdown()
        if not self._board_done:
            self._look_later()
        return not self._board_done

    def resume_writing(self) -> None:
        """The program reads again."""
        if self._tcb is not None:
            self._tcb.window_opened()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
        if self._tcb is not None and not (self._pc_done and self._board_done):
            self._tcb.abort()
        self._over()

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
        """Read from the program only while the board keeps up."""
        if self._transport is None or self._tcb is None or self._pc_done:
            return
        wanted = self._tcb.unsent < WINDOW
        if wanted and not self._reading:
            self._reading = True
            self._transport.resume_reading()
        elif not wanted and self._reading:
            self._reading = False
            self._transport.pause_reading()
            self._look_later()

    def _look_later(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().call_later(WATCH_S, self._look)

    def _look(self) -> None:
        """Whether the program has reset its end: asyncio sees that only where it reads or writes."""
        if self._transport is None or self._reading:
            return
        # Not POLLHUP: that comes with the program's FIN too, which what it has sent before may still be waiting for.
        if self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
        else:
            self._look_later()

    # The board's side (TcpUser)

    def attached(self, tcb: Tcb) -> None:
        """Connecting has begun."""
        self._tcb = tcb
        tcb.no_delay_ack = True  # the board waits for its transmit memory, and nothing else leaves here soon

    def room(self) -> int:
        """What the program has not taken counts against the window."""
        return 0 if self._transport is None else max(0, WINDOW - self._transport.get_write_buffer_size())

    def established(self) -> None:
        """The program has been connected since the kernel accepted."""

    def received(self, data: bytes) -> None:
        """More for the program."""
        if self._transport is not None:
            self._transport.write(data)

    def sent(self, n: int) -> None:
        """The queue is shorter."""
        self._pace()

    def acked(self, n: int) -> None:
        """What the board has counts no longer."""

    def fin(self) -> None:
        """The board has sent all it will."""
        self._board_done = True
        if self._transport is None:
            return
        if self._pc_done:
            self._transport.close()  # after what is still to be written; TIME-WAIT is the stack's own affair
        else:
            self._transport.write_eof()

    def closed(self, reason: str) -> None:
        """The connection to the board is over."""
        self._tcb = None
        if self._transport is None:
            self._over()
        elif reason == "done":
            self._transport.close()
        else:
            self._reset()

    def _over(self) -> None:
        if self._tcb is None and self._transport is None:
            self._owner.forget(self)
