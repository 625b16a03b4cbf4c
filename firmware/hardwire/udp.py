"""Datagrams on one hardware socket.

In: `send`, and what arrives. Out: `received(payload, address, port)`; the payload is a view, valid during the call.
Never: a wait, a queue: the chip sends one datagram at a time, and it may have to ask for its receiver's MAC first.
"""

from . import log
from .compat import const
from .w5500.chip import ChipError

_AT_ONCE = const(4)  # datagrams handed over before other sockets get their turn
DATAGRAM_MAX = const(1472)  # bytes that fit into one frame


class Datagrams:
    """UDP on `port` of hardware socket `endpoint`."""

    def __init__(self, net, endpoint, port, received):
        self._net = net
        self._endpoint = endpoint
        self._received = received
        self.port = port
        endpoint.owner = self
        endpoint.open_udp(port)

    def send(self, data, address, port):
        """Send `data` to `address` (4 bytes). Returns False while the datagram before is still under way.

        Raises ValueError if it does not fit into a frame.
        """
        if len(data) > DATAGRAM_MAX:
            raise ValueError("a datagram has at most %d bytes" % DATAGRAM_MAX)
        endpoint = self._endpoint
        try:
            if endpoint.busy:
                endpoint.refresh()
            if endpoint.busy or len(data) > endpoint.free:
                self._net.wake(endpoint.bit)
                return False
            endpoint.send_to(data, address, port)
        except ChipError as error:
            self._broken(error)
            return False
        return True

    def rebind(self, port):
        """Use another local port; what came to the old one and was not read yet is lost."""
        self.port = port
        self._endpoint.open_udp(port)

    def close(self):
        """Give the hardware socket back."""
        self._net.free(self._endpoint)

    def event(self, endpoint):
        """Datagrams came, or the last one sent is away, or found nobody."""
        try:
            for _ in range(_AT_ONCE):
                found = endpoint.datagram()
                if found is None:
                    endpoint.events()
                    return
                self._received(*found)
                if endpoint.owner is not self:
                    return
                endpoint.refresh()
            self._net.wake(endpoint.bit)
        except ChipError as error:
            self._broken(error)
        except Exception as error:
            self._net.errors += 1
            log.exception("datagram on port %d" % self.port, error)

    def tick(self, endpoint):
        """TICK_MS have passed; datagrams need nothing."""

    def _broken(self, error):
        log.error("%s", error)
        self._net.suspect()
        self._endpoint.open_udp(self.port)

    def chip_was_reset(self):
        """Open the socket again."""
        self._endpoint.owner = self
        self._endpoint.open_udp(self.port)
