"""Who gets a hardware socket.

In: the chip's sockets, services with their limits. Out: listeners; a connection closed to make room.

While a service has room, it has a listener; the sockets nobody needs are listeners too, because the chip has no
backlog: as many clients as there are listeners may connect at the same moment. For a service without a listener
another one's spare listener is taken; if there is none, the connection idle longest of a service that has more than its
reserve goes. A service that has all the connections it may have listens on if one of them is idle and a socket can be
spared: who comes takes its place (IG 4.2.1.1: close the oldest unused connection).
"""

from . import log
from .compat import const
from .service import Service
from .transport import Transport
from .w5500 import regs as R

_EVICT_TICKS = const(50)  # a connection without traffic for this long may be closed to make room
DOUBT_TICKS = const(5)  # the same where the cable was out meanwhile: its peer may have gone, and come again
_LISTEN_TRIES = const(3)  # in a row that leave a socket closed: the chip takes no commands

_TAKEN = (
    R.LISTENING,
    R.SYNRECV,
    R.ESTABLISHED,
    R.CLOSE_WAIT,
)  # where LISTEN leads, and what may follow at once


def _stale(transport):
    """Whether it may be closed to make room."""
    return transport.idle_ticks >= (DOUBT_TICKS if transport.doubtful else _EVICT_TICKS)


def _rank(transport):
    """The higher, the sooner it goes."""
    return transport.doubtful, transport.idle_ticks


class Pool:
    """The sockets `endpoints` of `net`.

    Attributes:
        services: in the order in which they get sockets. evicted: connections closed to make room. rearmed: listeners
            found closed.
    """

    def __init__(self, net, endpoints):
        self._net = net
        self._endpoints = endpoints
        self.services = []
        self.evicted = 0
        self.rearmed = 0

    def arm(self):
        """Turn free sockets into listeners: one for every service with room, two, then as many as there are sockets.

        Who has less than its reserve comes first.
        """
        for pressing in (True, False):
            for service in self.services:
                if service.room and not service.armed and (service.open < service.reserve) == pressing:
                    endpoint = self._free_endpoint() or self._spare_listener(2)
                    if endpoint is None:
                        self._evict(service)
                    else:
                        self._make_listener(service, endpoint)
        for service in self.services:
            if not service.room and not service.armed:
                self._offer_place_of_idle(service)
        for wanted in range(2, R.SOCKETS + 1):
            for service in self.services:
                if service.armed < wanted and service.room:
                    endpoint = self._free_endpoint() or self._spare_listener(wanted + 1)
                    if endpoint is None:
                        return
                    self._make_listener(service, endpoint)

    def _make_listener(self, service, endpoint):
        endpoint.owner = service
        service.armed += 1
        self._listen(service, endpoint)

    def _listen(self, service, endpoint):
        self._net.alert()
        endpoint.waited = 0
        endpoint.listen(service.port)
        if endpoint.state() in _TAKEN:
            endpoint.doubts = 0
        else:
            endpoint.doubts += 1  # the tick will find it closed
            if endpoint.doubts > _LISTEN_TRIES:
                self._net.stuck(endpoint)

    def rearm(self, service, endpoint):
        """A listener was found not listening."""
        self.rearmed += 1
        self._listen(service, endpoint)

    def _free_endpoint(self):
        for endpoint in self._endpoints:
            if endpoint.owner is None:
                return endpoint
        return None

    def _spare_listener(self, least):
        """A listener of the service that has most of them, `least` at least; it is not counted any more."""
        best = None
        for endpoint in self._endpoints:
            owner = endpoint.owner
            more = isinstance(owner, Service) and owner.armed >= (best.owner.armed + 1 if best else least)
            if more and endpoint.state() == R.LISTENING:
                best = endpoint
        if best is not None:
            best.owner.armed -= 1
        return best

    def _offer_place_of_idle(self, service):
        idlest = self._idlest(lambda owner: owner.service is service)
        if idlest is not None and _stale(idlest):
            endpoint = self._free_endpoint() or self._spare_listener(2)
            if endpoint is not None:
                self._make_listener(service, endpoint)
            elif idlest.doubtful:
                idlest.close()

    def _idlest(self, among):
        """The connection that goes first of those for which `among(transport)`; None if there is none to go."""
        best = None
        for endpoint in self._endpoints:
            owner = endpoint.owner
            if isinstance(owner, Transport) and not owner.is_closing() and among(owner):
                may_go = not owner.service.prefers(owner.peer[0])
                if may_go and (best is None or _rank(owner) > _rank(best)):
                    best = owner
        return best

    def _evict(self, service):
        """Close a connection so that `service` gets a listener; its socket comes back by `closed`."""
        for endpoint in self._endpoints:
            if isinstance(endpoint.owner, Transport) and endpoint.owner.is_closing():
                return  # a socket is coming back already
        victim = self._idlest(lambda owner: owner.service.open > owner.service.reserve)
        if victim is not None and (service.open < service.reserve or _stale(victim)):
            log.info("%s: idle connection closed, %s needs its socket", victim.service.name, service.name)
            self.evicted += 1
            victim.close()

    def place_for(self, service, address):
        """Whether one more from `address` may be: where there are too many, the idlest goes if it is idle."""
        if 0 < service.per_peer <= service.open:  # else there cannot be too many from anywhere
            count = 0
            for endpoint in self._endpoints:
                owner = endpoint.owner
                if isinstance(owner, Transport) and owner.service is service and owner.peer[0] == address:
                    count += not owner.is_closing()
            if count >= service.per_peer:
                return self._give_up(lambda owner: owner.service is service and owner.peer[0] == address)
        if service.open >= service.connections:
            return self._give_up(lambda owner: owner.service is service)
        return True

    def _give_up(self, among):
        idlest = self._idlest(among)
        if idlest is None or not _stale(idlest):
            return False
        self.evicted += 1
        idlest.close()
        return True

    def claim(self, owner):
        """A socket for a connection to be made, or datagrams. Raises OSError if all are needed."""
        endpoint = self._free_endpoint() or self._spare_listener(2)
        if endpoint is None:
            raise OSError(23, "ENFILE: no socket is free")
        endpoint.owner = owner
        return endpoint
