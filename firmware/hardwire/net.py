"""The network core: hardware sockets become Transport/Protocol pairs in the shape of CPython's asyncio.

In: services, each with a port, a protocol factory and a number of connections. Out: calls to protocols. A request is
answered inside the call that brought it: `poll` asks the chip who has events, reads, calls `data_received(view)`,
and sends what the protocol wrote, with no task switch and, in steady state, no allocation. Nothing here waits.

Bounds: every wait ends (constants below); a connection never holds more than WRITE_QUEUE bytes unsent in RAM.
"""

from . import log
from .compat import const, micropython, ticks_diff, ticks_ms
from .w5500 import regs as R
from .w5500.chip import ChipError

TICK_MS = const(100)  # housekeeping; also how long a listener that the chip closed may stay closed
LINK_TICKS = const(5)  # look at the PHY every so many ticks
CLOSE_TICKS = const(20)  # FIN not answered for this long: drop the connection
STALL_TICKS = const(100)  # half a message and then silence: drop the connection
SEND_STALL_TICKS = const(300)  # a peer that takes nothing for this long is dropped
ROOM_POLL_MS = const(2)  # look for room in a full transmit memory this often
CHUNK = const(2048)  # most bytes handed to a protocol at once: the receive memory of a socket
WRITE_QUEUE = const(4096)  # a protocol that writes on after pause_writing is cut off here
ROUNDS = const(16)  # of serving sockets before other tasks get a turn
WINDOW_KEEP = const(2048 - 1460)  # bytes read but not yet released: the peer's window stays at least one MSS

_SMALL = const(64)  # views up to this many bytes are made once and kept


def _reset_by_peer():
    return OSError(104, "ECONNRESET")


def _timed_out():
    return OSError(110, "ETIMEDOUT")


def _low():
    return 0


class Service:
    """A line of app.py: what listens where. `name` finds the settings that override the other values.

    `factory()` makes a protocol for each connection; `idle_s` closes a connection without traffic (0: never).
    """

    def __init__(self, name, factory, port, connections=1, idle_s=0):
        self.name = name
        self.factory = factory
        self.port = port
        self.connections = connections
        self.idle_s = idle_s
        self.open = 0  # connections
        self.armed = 0  # listening sockets
        self.accepted = 0


class Transport:
    """One connection. The methods that protocols use have the meaning of asyncio.Transport's."""

    def __init__(self, net, endpoint, service, peer):
        self._net = net
        self._endpoint = endpoint
        self._bit = 1 << endpoint.number
        self._queue = None  # bytearray of what did not fit into the chip
        self._reading = True
        self._closing = False
        self._fin_sent = False
        self._eof = False
        self._ticks = 0  # since the last byte came or went; reset by `active`
        self.active = True  # set by every exchange, cleared by the tick
        self.service = service
        self.peer = peer
        self.protocol = None

    def get_extra_info(self, name, default=None):
        """Known: "peername", (address, port)."""
        if name == "peername":
            return "%d.%d.%d.%d" % tuple(self.peer[0]), self.peer[1]
        return default

    def is_closing(self):
        """True once close or abort was called, or the connection is gone."""
        return self._closing

    def pause_reading(self):
        """No data_received until resume_reading; the chip's memory fills and the peer's window closes."""
        self._reading = False

    def resume_reading(self):
        """Read on, from the next poll."""
        self._reading = True
        self._net.wake(self._bit)

    @micropython.native
    def write(self, data):
        """Send `data` (bytes-like; free for reuse on return). Calls pause_writing when it had to be queued."""
        if self._closing or not len(data):
            return
        endpoint = self._endpoint
        if self._queue is None and len(data) <= endpoint.free:
            endpoint.write(data)
        else:
            self._enqueue(data)
        if self._net.serving is not self:
            self._net.wake(self._bit)

    def _enqueue(self, data):
        endpoint = self._endpoint
        if self._queue is None:
            room = endpoint.free
            data = memoryview(data)
            if room:
                endpoint.write(data[:room])
            self._queue = bytearray(data[room:])
            self._net.wait_for_room(self._bit, True)
            self.protocol.pause_writing()
        elif len(self._queue) + len(data) > WRITE_QUEUE:
            log.warning("%s: %d bytes unsent, connection dropped", self.service.name, len(self._queue))
            self.abort()
        else:
            self._queue += data

    def flush(self):
        """Move queued bytes into the chip and send; called by the core after an update of the endpoint."""
        endpoint = self._endpoint
        queue = self._queue
        resumed = False
        if queue is not None and endpoint.free:
            room = endpoint.free
            view = memoryview(queue)
            endpoint.write(view[:room])
            self._queue = queue[room:] if room < len(queue) else None
            self._ticks = 0
            resumed = self._queue is None
        if endpoint.unsent:
            endpoint.send()
        if resumed:
            self._net.wait_for_room(self._bit, False)
            self.protocol.resume_writing()
            if endpoint.unsent:
                endpoint.send()

    def close(self):
        """Send what was written, then FIN; connection_lost(None) follows."""
        if not self._closing:
            self._closing = True
            self._ticks = 0
            self._net.wake(self._bit)

    def abort(self):
        """Close without sending what is queued: the chip has no RST to send, so the peer sees FIN."""
        self._queue = None
        self._endpoint.unsent = False
        self._net.wait_for_room(self._bit, False)
        self.close()


class Net:
    """The core over a `chip`. `sockets` are the hardware sockets it may use for TCP.

    `intn()` is the level of the chip's INTn pin: while it is high, nobody asks the chip. None: not wired.
    """

    def __init__(self, chip, intn=None, sockets=range(1, R.SOCKETS)):
        self._chip = chip
        self._intn = intn or _low
        self._endpoints = [chip.endpoints[number] for number in sockets]
        self._mask = 0
        for endpoint in self._endpoints:
            self._mask |= 1 << endpoint.number
        self._services = []
        self._again = 0  # sockets to serve without waiting for an interrupt
        self.waiting = 0  # sockets whose writer waits for room: acknowledgements do not interrupt
        self._buffer = bytearray(CHUNK)
        self._views = [None] * (_SMALL + 1)
        self._view = memoryview(self._buffer)
        self._last_tick = ticks_ms()
        self._until_link = 0
        self._milliseconds = 0
        self.serving = None  # the transport whose protocol is being called
        self.uptime_s = 0
        self.link = False
        self.errors = 0  # exceptions that escaped from protocols
        self.rearmed = 0  # listeners found closed

    def serve(self, service):
        """Start listening for `service`."""
        self._services.append(service)
        self._arm()

    def start(self):
        """Let the chip interrupt for our sockets."""
        self._chip.interrupts(self._mask)

    def sockets_in_use(self):
        """Connections open now."""
        return sum(service.open for service in self._services)

    def accepted(self):
        """Connections since start."""
        return sum(service.accepted for service in self._services)

    def wait_for_room(self, bit, wanted):
        """Look at the socket of `bit` every ROOM_POLL_MS, or no longer."""
        self.waiting = self.waiting | bit if wanted else self.waiting & ~bit

    def wake(self, bits):
        """Serve the sockets in the mask `bits` in the next round, interrupt or not."""
        self._again |= bits

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

    def stop(self):
        """Close every socket at once, so that no peer waits for an answer that will not come."""
        for endpoint in self._endpoints:
            endpoint.close()
            endpoint.owner = None
        self._chip.interrupts(0)

    # The request path

    @micropython.native
    def poll(self):
        """Serve sockets until none has events, ROUNDS times at most. Returns the number of rounds with work."""
        for turn in range(ROUNDS):
            mask = self._again
            if not self._intn():
                mask |= self._chip.pending() & self._mask
            if not mask:
                return turn
            self._again = 0
            for endpoint in self._endpoints:
                if mask >> endpoint.number & 1:
                    self._serve(endpoint.owner, endpoint)
        return ROUNDS

    @micropython.native
    def _serve(self, transport, endpoint):
        if not isinstance(transport, Transport):
            self._listener_event(transport, endpoint)
            return
        self.serving = transport
        try:
            n = endpoint.update()
            if n > 0 and transport._reading and not transport._closing:
                if n > CHUNK:
                    n = CHUNK
                    self._again |= transport._bit
                view = self._sized(n)
                endpoint.read(view)
                transport.active = True
                transport.protocol.data_received(view)
                endpoint.release(WINDOW_KEEP)
                if endpoint.unsent:
                    endpoint.send()
            else:
                self._status(transport, endpoint, n)
            if transport._queue is not None or endpoint.unsent:
                transport.flush()
            if transport._closing:
                self._finish(transport, endpoint)
        except ChipError as error:
            if endpoint.state() == R.CLOSED:
                error = _reset_by_peer()
            else:
                log.error("%s", error)
                endpoint.close()
            self._lost(transport, error)
        except Exception as error:
            self._bug(transport, error)
        self.serving = None

    def _bug(self, transport, error):
        """A protocol raised: its connection ends, nothing else does."""
        self.errors += 1
        log.exception(transport.service.name, error)
        transport.abort()

    @micropython.native
    def _sized(self, n):
        if n <= _SMALL:
            view = self._views[n]
            if view is None:
                view = self._views[n] = memoryview(self._buffer)[:n]
            return view
        if len(self._view) != n:
            self._view = memoryview(self._buffer)[:n]
        return self._view

    # Everything else that happens to a socket

    def _status(self, transport, endpoint, unread):
        """No data to hand over: what else happened? Uses Sn_SR, which stays true when an interrupt bit is lost."""
        events = endpoint.events()
        state = events & 0xFF
        if events >> 8 & R.I_RECV:
            self._again |= transport._bit  # came after the update
        if state == R.CLOSED:
            timeout = events >> 8 & R.I_TIMEOUT
            closed = transport._fin_sent and not timeout
            self._lost(transport, None if closed else _timed_out() if timeout else _reset_by_peer())
        elif state == R.CLOSE_WAIT and not transport._eof and unread == 0:
            transport._eof = True
            if not transport.protocol.eof_received():
                transport.close()

    def _finish(self, transport, endpoint):
        """A closing connection: FIN when all is sent, then wait for CLOSED; the tick bounds the wait."""
        if endpoint.owner is not transport:
            return
        if transport._ticks >= CLOSE_TICKS:
            endpoint.close()
            self._lost(transport, None)
        elif not transport._fin_sent:
            if transport._queue is None and not endpoint.unsent:
                endpoint.update()
                if endpoint.busy:
                    endpoint.notify()
                else:
                    transport._fin_sent = True
                    transport._ticks = 0
                    endpoint.disconnect()
        elif endpoint.state() in (R.CLOSED, R.TIME_WAIT):
            endpoint.close()
            self._lost(transport, None)

    def _lost(self, transport, error):
        endpoint = transport._endpoint
        if endpoint.owner is not transport:
            return
        endpoint.owner = None
        transport._closing = True
        transport._queue = None
        self.waiting &= ~transport._bit
        transport.service.open -= 1
        try:
            if transport.protocol is not None:
                transport.protocol.connection_lost(error)
        except Exception as bug:
            self._bug(transport, bug)
        self._arm()

    def _listener_event(self, service, endpoint):
        state = endpoint.events() & 0xFF
        if service is None:
            return  # the last words of a socket just closed
        if state in (R.ESTABLISHED, R.CLOSE_WAIT):
            service.armed -= 1
            self._accept(service, endpoint)
        elif state not in (R.LISTENING, R.SYNRECV):
            self.rearmed += 1
            endpoint.listen(service.port)

    def _accept(self, service, endpoint):
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
        self._again |= transport._bit  # data, or even FIN, may have come with the connection
        try:
            transport.protocol = service.factory()
            transport.protocol.connection_made(transport)
        except Exception as bug:
            self._bug(transport, bug)

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
                if not isinstance(owner, Transport) and owner.armed > 1:
                    if endpoint.state() == R.LISTENING:
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
                self._tick_connection(owner)
            elif owner is not None and endpoint.state() not in (R.LISTENING, R.SYNRECV):
                self._again |= 1 << endpoint.number
        self._until_link -= 1
        if self._until_link < 0:
            self._until_link = LINK_TICKS - 1
            link = self._chip.link()
            if link != self.link:
                self.link = link
                log.info("link %s", "up" if link else "down")

    def _tick_connection(self, transport):
        if transport.active and not transport._closing:
            transport.active = False
            transport._ticks = 0
            return
        transport._ticks += 1
        ticks = transport._ticks
        if transport._closing:
            self.wake(transport._bit)
        elif transport._queue is not None:
            if ticks >= SEND_STALL_TICKS:
                log.info("%s: peer takes no data: closed", transport.service.name)
                transport.abort()
        elif getattr(transport.protocol, "pending", False) and ticks >= STALL_TICKS:
            log.info("%s: half a message, then nothing: closed", transport.service.name)
            transport.close()
        elif transport.service.idle_s and ticks * TICK_MS >= transport.service.idle_s * 1000:
            transport.close()
