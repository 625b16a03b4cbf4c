"""The network core: shares the chip's sockets among services, and serves them.

In: services, each with a port, a protocol factory and a number of connections. Out: Transport/Protocol pairs in the
shape of CPython's asyncio. A request is answered inside the call that brought it: `poll` asks the chip who has events
and calls the socket's owner, with no task switch and, in steady state, no allocation. Nothing here waits.
"""

from . import log
from .compat import const, micropython, sleep_ms, ticks_diff, ticks_ms
from .transport import CHUNK, TICK_MS, Transport
from .w5500 import regs as R
from .w5500.chip import ChipError

LINK_TICKS = const(5)  # look at the PHY every so many ticks
ROOM_POLL_MS = const(
    2
)  # look for room in a full transmit memory this often: acknowledgements do not interrupt
STOP_MS = const(20)  # for FIN to go out before the sockets are closed
ROUNDS = const(16)  # of serving sockets before other tasks get a turn
_SMALL = const(64)  # views up to this many bytes are made once and kept


def _low():
    return 0


class Service:
    """A line of app.py: what listens where. Where the settings know a service of this name, their values count.

    `factory()` makes a protocol for each connection; `idle_s` closes a connection without traffic (0: never).
    """

    def __init__(self, name, factory, port=0, connections=1, idle_s=0):
        self.name = name
        self.factory = factory
        self.port = port
        self.connections = connections
        self.idle_s = idle_s
        self.net = None  # set by Net.serve
        self.open = 0  # connections
        self.armed = 0  # listening sockets
        self.accepted = 0

    def event(self, endpoint):
        """Something happened at one of the listening sockets."""
        state = endpoint.events() & 0xFF
        if state in (R.ESTABLISHED, R.CLOSE_WAIT):
            self.armed -= 1
            self.net.accept(self, endpoint)
        elif state not in (R.LISTENING, R.SYNRECV):
            self.net.rearmed += 1
            endpoint.listen(self.port)


class _Nobody:
    """Owner of a socket not in use: its last words are read and forgotten."""

    @staticmethod
    def event(endpoint):
        endpoint.events()


class Net:
    """The core over a `chip`. `sockets` are the hardware sockets it may use for TCP.

    `intn()` is the level of the chip's INTn pin: while it is high, nobody asks the chip. None: not wired.
    """

    def __init__(self, chip, intn=None, sockets=range(1, R.SOCKETS)):
        self._chip = chip
        self._read = chip.bus.read
        self._sir = bytearray(1)
        self._intn = intn or _low
        self._endpoints = [chip.endpoints[number] for number in sockets]
        self._by_bit = {1 << endpoint.number: endpoint for endpoint in self._endpoints}
        self._mask = sum(self._by_bit)
        self._services = []
        self._again = 0  # sockets to serve without waiting for an interrupt
        self._buffer = memoryview(bytearray(CHUNK))
        self._views = [None] * (_SMALL + 1)
        self._view = self._buffer
        self._last_tick = ticks_ms()
        self._until_link = 0
        self._milliseconds = 0
        self.waiting = 0  # sockets whose writer waits for room
        self.serving = None  # the transport whose protocol is being called
        self.uptime_s = 0
        self.link = False
        self.errors = 0  # exceptions that escaped from protocols
        self.rearmed = 0  # listeners found closed

    def serve(self, service):
        """Start listening for `service`."""
        service.net = self
        self._services.append(service)
        self._arm()

    def start(self):
        """Let the chip interrupt for our sockets."""
        self._chip.interrupts(self._mask)

    def stop(self):
        """Close every socket, with FIN to whoever is connected, so that no peer waits for an answer."""
        for endpoint in self._endpoints:
            if isinstance(endpoint.owner, Transport):
                endpoint.disconnect()
        sleep_ms(STOP_MS)
        for endpoint in self._endpoints:
            endpoint.close()
            endpoint.owner = None
        self._chip.interrupts(0)

    def sockets_in_use(self):
        """Connections open now."""
        return sum(service.open for service in self._services)

    def accepted(self):
        """Connections since start."""
        return sum(service.accepted for service in self._services)

    def due(self):
        """Milliseconds until `turn` has something to do without an interrupt."""
        if self._again:
            return 0
        left = TICK_MS - ticks_diff(ticks_ms(), self._last_tick)
        if self.waiting and left > ROOM_POLL_MS:
            return ROOM_POLL_MS
        return max(0, left)

    def turn(self):
        """Everything that is due: housekeeping, then sockets. Returns the rounds of sockets with work."""
        self._again |= self.waiting
        self.tick()
        return self.poll()

    @micropython.native
    def poll(self):
        """Serve sockets until none has events, ROUNDS times at most. Returns the number of rounds with work."""
        turn = 0
        while turn < ROUNDS:
            mask = self._again
            if not self._intn():
                self._read(R.COMMON, R.SIR, self._sir)
                mask |= self._sir[0] & self._mask
            if not mask:
                break
            self._again = 0
            turn += 1
            while mask:
                endpoint = self._by_bit[mask & -mask]
                mask &= mask - 1
                (endpoint.owner or _Nobody).event(endpoint)
        return turn

    # For transports and listeners

    def wake(self, bits):
        """Serve the sockets in the mask `bits` in the next round, interrupt or not."""
        self._again |= bits

    def wait_for_room(self, bit, wanted):
        """Look at the socket of `bit` every ROOM_POLL_MS, or no longer."""
        self.waiting = self.waiting | bit if wanted else self.waiting & ~bit

    @micropython.native
    def view(self, n):
        """The first `n` bytes of the receive buffer that all connections share."""
        if n <= _SMALL:
            view = self._views[n]
            if view is None:
                view = self._views[n] = self._buffer[:n]
            return view
        if len(self._view) != n:
            self._view = self._buffer[:n]
        return self._view

    def accept(self, service, endpoint):
        """A listener of `service` has become a connection."""
        try:
            peer = endpoint.connected()
        except ChipError as error:
            log.error("%s", error)
            endpoint.close()
            endpoint.owner = None
            self._arm()
            return
        transport = Transport(self, endpoint, service, peer)
        endpoint.owner = transport
        service.open += 1
        service.accepted += 1
        self._arm()
        self.wake(1 << endpoint.number)  # data, or even FIN, may have come with the connection
        try:
            transport.start(service.factory())
        except Exception as error:
            self.bug(transport, error)

    def closed(self, service):
        """A connection of `service` has ended and its socket is free."""
        service.open -= 1
        self._arm()

    def bug(self, transport, error):
        """A protocol raised: its connection ends, nothing else does."""
        self.errors += 1
        log.exception(transport.service.name, error)
        transport.abort()

    def _arm(self):
        """Turn free sockets into listeners: one for each service with room, then more, as far as they go.

        The chip has no backlog: as many clients as there are listeners may connect at the same moment.
        """
        for wanted in range(1, R.SOCKETS + 1):
            for service in self._services:
                if service.armed < wanted and service.open + service.armed < service.connections:
                    endpoint = self._free_endpoint(service)
                    if endpoint is not None:
                        endpoint.owner = service
                        service.armed += 1
                        endpoint.listen(service.port)

    def _free_endpoint(self, service):
        """A socket without owner; for a service without listener, one of another service's spare listeners."""
        for endpoint in self._endpoints:
            if endpoint.owner is None:
                return endpoint
        if service.armed == 0:
            for endpoint in self._endpoints:
                owner = endpoint.owner
                spare = not isinstance(owner, Transport) and owner.armed > 1
                if spare and endpoint.state() == R.LISTENING:
                    owner.armed -= 1
                    return endpoint
        return None

    # Housekeeping

    def tick(self):
        """Run what is due by time. Call at least every TICK_MS; costs two look-ups when nothing is due."""
        elapsed = ticks_diff(ticks_ms(), self._last_tick)
        if elapsed < TICK_MS:
            return
        self._last_tick = ticks_ms()
        self._milliseconds += elapsed
        self.uptime_s += self._milliseconds // 1000
        self._milliseconds %= 1000
        for endpoint in self._endpoints:
            owner = endpoint.owner
            if isinstance(owner, Transport):
                owner.tick()
            elif owner is not None and endpoint.state() not in (R.LISTENING, R.SYNRECV):
                self.wake(1 << endpoint.number)
        self._until_link -= 1
        if self._until_link < 0:
            self._until_link = LINK_TICKS - 1
            link = self._chip.link()
            if link != self.link:
                self.link = link
                log.info("link %s", "up" if link else "down")
