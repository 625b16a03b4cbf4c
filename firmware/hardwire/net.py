"""The network core: shares the chip's sockets among services, and serves them.

In: services, each with a port, a protocol factory and limits. Out: Transport/Protocol pairs in the shape of
CPython's asyncio. A request is answered inside the call that brought it: `poll` asks the chip who has events and
calls the socket's owner, with no task switch and, in steady state, no allocation. Nothing here waits.
"""

from . import log
from .compat import const, micropython, sleep_ms, ticks_diff, ticks_ms
from .health import Health
from .pool import DOUBT_TICKS, Pool
from .transport import TICK_MS, Transport
from .w5500 import regs as R
from .w5500.chip import ChipError

_BUDGET_MS = const(5)  # of serving sockets before other tasks get a turn; one event more may be under way
_SHARED_MS = const(1)  # ... and before longer work gets a slice
# Look for room in a full transmit memory this often: acknowledgements do not interrupt.
_ROOM_POLL_MS = const(1)
_ROOM_LATE_MS = const(3)  # ... where others have events all the time
_NO_INT_MS = const(2)  # ask the chip this often where INTn is not wired ...
_NO_INT_IDLE_MS = const(60)  # ... and when nothing happens: with the health check 19 frames a second
# After the last event listeners are looked at in every tick, and then by Health alone.
_ALERT_TICKS = const(30)
_HANDSHAKE_TICKS = const(20)  # a SYN not followed by ACK for this long: the listener is armed anew
# ... and where every listener of a service is in a handshake, for this long: a flood takes them all at once. More than
# 200 ms, after which the chip repeats its SYN-ACK.
_PRESSED_TICKS = const(3)
_ARM_TICKS = const(10)  # between attempts to get a listener for a service that has none
_SLICES = const(8)  # of longer work, until it is looked whether something else is due
_STOP_MS = const(20)  # for FIN to go out before the sockets are closed
EPHEMERAL, EPHEMERAL_END = const(49152), const(65535)  # local ports of connections we make (RFC 6335)


class _Nobody:
    """Owner of a socket not in use: its last words are read and forgotten."""

    @staticmethod
    def event(endpoint):
        endpoint.events()


class _Refusal:
    """Protocol of a connection that may not be: the chip has accepted it already, so it ends with FIN."""

    @staticmethod
    def connection_made(transport):
        transport.close()

    @staticmethod
    def data_received(view):
        pass

    @staticmethod
    def connection_lost(error):
        pass


class Net:
    """The core over a `chip`. `sockets` are the hardware sockets it may use for TCP.

    `intn()` is the level of the chip's INTn pin: while it is high, nobody asks the chip. None: not wired.
    """

    def __init__(self, chip, intn=None, sockets=range(1, R.SOCKETS)):
        self.chip = chip
        self._attend = chip.bus.attend
        self._wired = intn is not None
        self._intn = intn or self._asked_lately
        self._asked = ticks_ms()
        self._endpoints = [chip.endpoints[number] for number in sockets]
        self._by_bit = {endpoint.bit: endpoint for endpoint in chip.endpoints}
        self._mask = sum(self._by_bit)
        self._pool = Pool(self, self._endpoints)
        self._again = 0  # sockets to serve without waiting for an interrupt
        self._last_tick = ticks_ms()
        self._milliseconds = 0
        self._alert = 0  # ticks
        self._until_arm = 0
        self._arm_after = False  # when all sockets were served
        self._port = EPHEMERAL
        self._health = Health(self)
        self._ticking = []  # called with every tick
        self._workers = []  # that have work to do between events
        self._budget = _BUDGET_MS
        self.resolve = None  # coroutine from a host's name to its address, 4 bytes
        self._connections = 0
        self._looked = ticks_ms()  # at those that wait for room
        self.waiting = 0  # sockets whose writer waits for room
        self.serving = None  # the transport whose protocol is being called
        self.uptime_s = 0
        self.errors = 0  # exceptions that escaped from protocols

    def serve(self, service):
        """Start listening for `service`."""
        service.net = self
        self._pool.services.append(service)
        self._arm()

    def start(self):
        """Let the chip interrupt for our sockets, and look at it."""
        self.chip.interrupts(self._mask)
        self.suspect()

    def stop(self):
        """Close every socket, with FIN to whoever is connected, so that no peer waits for an answer."""
        for endpoint in self._endpoints:
            if isinstance(endpoint.owner, Transport):
                endpoint.disconnect()
        sleep_ms(_STOP_MS)
        for endpoint in self._endpoints:
            endpoint.close()
            endpoint.owner = None
        self.chip.interrupts(0)

    @property
    def link(self):
        """Whether the PHY has link, as seen last."""
        return self._health.link

    @property
    def recoveries(self):
        """How often the chip had to be set up anew."""
        return self._health.recoveries

    @property
    def repairs(self):
        """How often a register of the chip was found wrong and put right."""
        return self._health.repairs

    @property
    def rearmed(self):
        """Listeners found closed since start."""
        return self._pool.rearmed

    @property
    def evicted(self):
        """Connections closed to make room for others."""
        return self._pool.evicted

    def sockets_in_use(self):
        """Connections open now."""
        return sum(service.open for service in self._pool.services)

    def services(self):
        """What is offered: ((name, port), ...)."""
        return [(service.name, service.port) for service in self._pool.services]

    def accepted(self):
        """Connections since start."""
        return sum(service.accepted for service in self._pool.services)

    def due(self):
        """Milliseconds until `turn` has something to do without an interrupt."""
        if self._again or self._workers:
            return 0
        now = ticks_ms()
        left = TICK_MS - ticks_diff(now, self._last_tick)
        if self.waiting:
            left = min(left, _ROOM_POLL_MS - ticks_diff(now, self._looked))
        elif not self._wired:
            left = min(left, self.period())
        return max(0, left)

    def period(self):
        """Milliseconds after which `turn` is due at the latest."""
        if self.waiting:
            return _ROOM_POLL_MS
        if self._wired:
            return TICK_MS
        return _NO_INT_MS if self._alert else _NO_INT_IDLE_MS

    def _asked_lately(self):
        """Stands for INTn where it is not wired: true while the chip need not be asked."""
        if not self._alert:
            if ticks_diff(ticks_ms(), self._asked) < _NO_INT_IDLE_MS:
                return True
            self._asked = ticks_ms()
        return False

    def turn(self):
        """Everything that is due: housekeeping, then sockets, then longer work. Returns whether there was any."""
        self.tick()
        worked = self.poll()
        if self._workers:
            self._work()
            return True
        return worked

    @micropython.native
    def _work(self):
        """Slices of what `work` was called for, one at least, until a socket has events."""
        workers = self._workers
        for _ in range(_SLICES):
            worker = workers[0]
            if not worker.work():
                workers.remove(worker)
                if not workers:
                    self._budget = _BUDGET_MS
                    self._again |= self.waiting  # for what it made there may be room by now
            elif len(workers) > 1:
                workers.append(workers.pop(0))
            if not workers or self._again or not self._intn():
                break

    @micropython.native
    def poll(self):
        """Serve sockets until none has events, or for _BUDGET_MS. Returns whether one had.

        A socket is served again only after all others that have events.
        """
        attend = self._attend
        everyone = self._mask
        sweep = everyone
        start = 0
        worked = False
        while True:
            again = self._again
            chosen = again & sweep
            bit = 0
            if not chosen and not self._intn():
                bit = attend(sweep, 0)
            if not bit:
                chosen = chosen or again
                if not chosen:
                    # Who waits for room comes after everybody that has something to say.
                    chosen = again = self.waiting
                    if not chosen or ticks_diff(ticks_ms(), self._looked) < _ROOM_POLL_MS:
                        break
                    self._looked = ticks_ms()
                bit = chosen & -chosen
                self._again = again & ~bit
                attend(0, bit)
            sweep = (sweep if sweep & bit else everyone) & ~bit
            endpoint = self._by_bit[bit]
            (endpoint.owner or _Nobody).event(endpoint)
            if not worked:
                worked = True
                self._alert = _ALERT_TICKS
                start = ticks_ms()
            elif ticks_diff(ticks_ms(), start) >= self._budget:
                if self.waiting and ticks_diff(ticks_ms(), self._looked) >= _ROOM_LATE_MS:
                    self._looked = ticks_ms()
                    self._again |= self.waiting
                break
        if self._arm_after:
            self._arm()
        return worked

    # For owners of sockets

    def wake(self, bits):
        """Serve the sockets in the mask `bits` in the next round, interrupt or not."""
        self._again |= bits

    def wait_for_room(self, bit, wanted):
        """Look at the socket of `bit` every _ROOM_POLL_MS, or no longer."""
        self.waiting = self.waiting | bit if wanted else self.waiting & ~bit

    def work(self, worker):
        """Call `worker.work()`, a slice of 0.5 ms, between events until it returns a false value."""
        if worker not in self._workers:
            self._workers.append(worker)
            self._budget = _SHARED_MS

    def every_tick(self, function):
        """Call `function()` every TICK_MS from now on."""
        self._ticking.append(function)

    def accept(self, service, endpoint):
        """A listener of `service` has become a connection."""
        try:
            peer = endpoint.connected()
        except ChipError as error:
            log.error("%s", error)
            self.free(endpoint)
            return
        if not (service.allows(peer[0]) and self._pool.place_for(service, peer[0])):
            service.refused += 1
            log.info("%s: %d.%d.%d.%d refused", service.name, *peer[0])
            self.attach(service, endpoint, peer, _Refusal)
            return
        self.attach(service, endpoint, peer, service.factory)
        service.accepted += 1

    def attach(self, service, endpoint, peer, factory):
        """Put a protocol on a connected socket; returns it, None if it raised."""
        transport = Transport(self, endpoint, service, peer)
        endpoint.owner = transport
        service.open += 1
        self._connections += 1
        if service.armed:
            self._arm_after = True  # the first answer goes before
        else:
            self._arm()
        self.wake(endpoint.bit)  # data, or even FIN, may have come with the connection
        try:
            protocol = factory()
            transport.start(protocol)
            return protocol
        except Exception as error:
            self.bug(transport, error)

    def closed(self, service):
        """A connection of `service` has ended and its socket is free."""
        service.open -= 1
        self._connections -= 1
        self._arm()

    def free(self, endpoint):
        """Close a socket that belongs to nobody any more. The chip answers what its peer still sends with RST."""
        endpoint.close()
        endpoint.owner = None
        self._arm()

    def rearm(self, service, endpoint):
        """A listener was found not listening."""
        self._pool.rearm(service, endpoint)

    def alert(self):
        """Look at listeners closely for a while."""
        self._alert = _ALERT_TICKS

    def _arm(self):
        self._arm_after = False
        if not self._health.recovering:
            self._pool.arm()

    def stuck(self, endpoint):
        """A command stays in the socket's Sn_CR."""
        self._health.recover("socket %d takes no commands" % endpoint.number)

    def came_back(self):
        """The chip was set up anew: everybody has been told."""
        self._again = 0
        self._arm()

    def suspect(self):
        """Something was wrong with the chip: look at it in the next tick."""
        self._health.suspect()

    def bug(self, transport, error):
        """A protocol raised: its connection ends, nothing else does."""
        self.errors += 1
        log.exception(transport.service.name, error)
        transport.abort()

    def link_came_back(self):
        """Who was connected may have gone meanwhile, and could not say so."""
        for endpoint in self._endpoints:
            if isinstance(endpoint.owner, Transport):
                endpoint.owner.doubt()
        self._until_arm = DOUBT_TICKS  # then who has not spoken may go

    def conflict(self):
        """Whether another host was seen to use our address since this was asked last."""
        seen = self._health.conflict
        self._health.conflict = False
        return seen

    def drop_connections(self):
        """The address is another one: nobody can be reached by the old one any more."""
        for endpoint in self._endpoints:
            if isinstance(endpoint.owner, Transport):
                endpoint.owner.drop()

    def claim(self, owner):
        """A socket for `owner`. Raises OSError if all are needed."""
        return self._pool.claim(owner)

    async def connect(self, host, port, protocol=None):
        """A connection that the board makes: a stream.Stream, or `protocol()`. Raises OSError; see client.connect."""
        from .client import connect
        from .stream import Stream

        return await connect(self, host, port, protocol or Stream)

    def datagrams(self, port, received):
        """A UDP socket: `received(payload, address, port)`, and udp.Datagrams's methods. Raises OSError as `claim`."""
        from .udp import Datagrams

        return Datagrams(self, self._pool.claim(None), port, received)

    def ephemeral_port(self):
        """A local port not used for a while."""
        self._port = EPHEMERAL if self._port >= EPHEMERAL_END else self._port + 1
        return self._port

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
        self._health.tick()
        if self._alert or self._connections:
            self._tick_owners()
        if self._alert:
            self._alert -= 1
        self._until_arm -= 1
        if self._until_arm < 0:
            self._until_arm = _ARM_TICKS - 1
            self._arm()  # a service without a listener: somebody may have been idle long enough now
        for function in self._ticking:
            function()

    @micropython.native
    def _tick_owners(self):
        for endpoint in self._endpoints:
            owner = endpoint.owner
            if owner is not None:
                try:
                    owner.tick(endpoint)
                except ChipError as error:
                    log.error("%s", error)
                    self.wake(endpoint.bit)  # its owner will find the same, and knows what to do

    @micropython.native
    def look_at_listener(self, service, endpoint):
        """Is it one? The chip tells nobody when a handshake ends without a connection. Only soon after an event."""
        if not self._alert:
            return
        state = endpoint.state()
        if state == R.LISTENING:
            service.deaf = 0
        elif state == R.SYNRECV:
            self._alert = _ALERT_TICKS
            service.deaf += 1
            endpoint.waited += 1
            if endpoint.waited >= _HANDSHAKE_TICKS or service.deaf > _PRESSED_TICKS * service.armed:
                self.rearm(service, endpoint)
        else:
            self.wake(endpoint.bit)
