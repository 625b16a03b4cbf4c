"""A service: what listens where, for whom, and how many sockets it may have. The lines of app.py."""

from . import log
from .addresses import among, networks
from .w5500 import regs as R
from .w5500.chip import CHUNK


class OnDemand:
    """A protocol factory that `make()` makes when the first client comes: what it needs takes no heap before."""

    def __init__(self, make):
        self._make = make
        self._factory = None

    def now(self):
        """Make it; what goes wrong is logged, and tried again when somebody comes."""
        try:
            self._factory = self._make()
        except Exception as error:
            log.exception("service", error)

    def __call__(self):
        if self._factory is None:
            self._factory = self._make()
        return self._factory()


class Service:
    """What listens on a port. Where the settings know a service of this name, their values count.

    `factory()` makes a protocol for each connection. `connections`: most at once; `reserve` of them are never
    taken away for another service. `idle_s` closes a connection without traffic (0: never). `per_peer`: most from one
    address (0: no limit). `allow`: networks that may connect, none: all; `priority`: networks whose connections are
    never closed to make room. `chunk`: most bytes handed to a protocol at once; small ones keep turns short.
    `listeners`: sockets that listen at most, so that clients may come at the same moment. `burst`: a writer that was
    paused goes on when there is room for so many bytes (2048 at most, the memory of a socket): more at once costs less.
    """

    def __init__(
        self, name, factory, port=0, connections=1, idle_s=0, reserve=1, chunk=CHUNK, listeners=7, burst=1024
    ):
        self.name = name
        self.factory = factory
        self.port = port
        self.connections = connections
        self.idle_s = idle_s
        self.reserve = reserve
        self.chunk = chunk
        self.listeners = listeners
        self.burst = burst
        self.per_peer = 0
        self._allow = ()
        self._priority = ()
        self.net = None  # set by Net.serve
        self.open = 0  # connections
        self.armed = 0  # listening sockets
        self.deaf = 0  # handshakes found since one of them was found listening; net.py's
        self.looked = 0  # when one of them was looked at last; health.py's
        self.accepted = 0
        self.refused = 0  # connected, and not allowed to

    def configure(self, settings):
        """Take the values of its section of the settings; a factory with `configure` gets them too."""
        for key in ("port", "connections", "idle_s", "reserve", "per_peer"):
            setattr(self, key, settings.get(key, getattr(self, key)))
        self._allow = networks(settings.get("allow", ()))
        self._priority = networks(settings.get("priority", ()))

        if settings and hasattr(self.factory, "configure"):
            self.factory.configure(settings)

    @property
    def room(self):
        """Whether it may have one more listener."""
        return self.open + self.armed < self.connections and self.armed < self.listeners

    def allows(self, address):
        """Whether a peer at `address` (4 bytes) may connect."""
        return not self._allow or among(address, self._allow)

    def prefers(self, address):
        """Whether a connection from `address` is never closed to make room."""
        return among(address, self._priority)

    def event(self, endpoint):
        """Something happened at one of the listening sockets."""
        state = endpoint.events() & 0xFF
        if state in (R.ESTABLISHED, R.CLOSE_WAIT):
            self.armed -= 1
            self.net.accept(self, endpoint)
        elif state not in (R.LISTENING, R.SYNRECV):
            self.net.rearm(self, endpoint)

    def tick(self, endpoint):
        """TICK_MS have passed for one of the listening sockets."""
        self.net.look_at_listener(self, endpoint)

    def chip_was_reset(self):
        """One of the listening sockets is not there any more."""
        self.armed -= 1
