"""Connections that the board makes itself.

In: host and port. Out: a Stream, or another protocol. Never: a wait but asyncio's; a socket kept after a failure.
"""

import asyncio

from .addresses import ip_bytes
from .compat import const
from .service import Service
from .transport import timed_out
from .w5500 import regs as R

_CONNECT_S = const(10)  # the chip itself gives up after 31.8 s

# What Transport wants to know; it has no port, and nobody takes its sockets away.
_service = Service("client", None, connections=R.SOCKETS, reserve=R.SOCKETS)


class _Opening:
    """Owner of a socket until its handshake has ended."""

    def __init__(self):
        self.done = asyncio.Event()
        self.state = R.SYNSENT
        self.timeout = False

    def event(self, endpoint):
        events = endpoint.events()
        self.state = events & 0xFF
        self.timeout = self.timeout or bool(events >> 8 & R.I_TIMEOUT)  # it is told once
        if self.state in (R.ESTABLISHED, R.CLOSE_WAIT, R.CLOSED):
            self.done.set()

    def tick(self, endpoint):
        """What ends a handshake may not interrupt: datasheet 4.2 leaves open what a reset by the peer does."""
        self.event(endpoint)

    def chip_was_reset(self):
        self.state = R.CLOSED
        self.done.set()


async def connect(net, host, port, protocol):
    """Connect to `host` (a name, or an address as text) and return `protocol()`, connected.

    Raises:
        OSError: ECONNREFUSED, ETIMEDOUT, ENFILE when every socket is needed, or what `net.resolve` raises.
    """
    try:
        address = ip_bytes(host)
    except ValueError:
        if net.resolve is None:
            raise OSError(-2, "no name server for %s" % host)
        address = await net.resolve(host)
    opening = _Opening()
    endpoint = net.claim(opening)
    endpoint.connect(net.ephemeral_port(), address, port)
    net.alert()
    try:
        await asyncio.wait_for(opening.done.wait(), _CONNECT_S)
        if opening.state == R.CLOSED:
            raise timed_out() if opening.timeout else OSError(111, "ECONNREFUSED")
        endpoint.connected()
    except BaseException as error:
        if endpoint.owner is opening:
            net.free(endpoint)
        raise timed_out() if isinstance(error, asyncio.TimeoutError) else error
    made = net.attach(_service, endpoint, (address, port), protocol)
    if made is None:
        raise OSError(103, "ECONNABORTED")
    return made
