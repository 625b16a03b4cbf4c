"""The virtual Ethernet segment: frames between ports, after the time the wire takes, and taps that see them all.

In: frames without FCS from a port. Out: the same frames at every other port with link, by an alarm of the clock,
never inside the sender's call. A port without a cable neither sends nor receives.
"""

from collections.abc import Callable

from .clock import NS_PER_S, Clock

MIN_FRAME = 60  # without FCS (IEEE 802.3, 3.2.8): shorter ones are padded
OVERHEAD = 8 + 4 + 12  # preamble, FCS and gap between frames, in bytes of wire time

Tap = Callable[[int, str, bytes, str], None]


class Port:
    """One end of a cable. `receive(frame)` and `on_link(up)` are the owner's; `link` is the cable."""

    def __init__(self, segment: "Segment", name: str) -> None:
        self.name = name
        self.receive: Callable[[bytes], None] | None = None
        self.on_link: Callable[[bool], None] | None = None
        self._segment = segment
        self._link = True
        self._free_at = 0  # when the last frame sent has left

    @property
    def link(self) -> bool:
        """Whether the cable is plugged in."""
        return self._link

    @link.setter
    def link(self, up: bool) -> None:
        if up != self._link:
            self._link = up
            if self.on_link is not None:
                self.on_link(up)

    def send(self, frame: bytes) -> None:
        """Put `frame` on the wire; it is lost without link."""
        if self._link:
            self._segment.transmit(self, frame)


class Segment:
    """A switch without a name: each port sends at `rate` bit/s, every other port receives."""

    def __init__(self, clock: Clock, *, seed: int = 0, rate: int = 100_000_000) -> None:
        self.clock = clock
        self.ports: list[Port] = []
        self.taps: list[Tap] = []
        self._byte_ns = 8 * NS_PER_S // rate

    def attach(self, name: str) -> Port:
        """A new port with its cable plugged in."""
        port = Port(self, name)
        self.ports.append(port)
        return port

    def transmit(self, sender: Port, frame: bytes) -> None:
        """Serialise `frame` behind what `sender` sent before."""
        if len(frame) < MIN_FRAME:
            frame = frame.ljust(MIN_FRAME, b"\0")
        start = max(self.clock.now, sender._free_at)
        sender._free_at = start + (len(frame) + OVERHEAD) * self._byte_ns
        arrival = start + (len(frame) + 8) * self._byte_ns
        self.clock.call_at(arrival, lambda: self._deliver(sender, frame))

    def _deliver(self, sender: Port, frame: bytes) -> None:
        for tap in self.taps:
            tap(self.clock.now, sender.name, frame, "")
        for port in self.ports:
            if port is not sender and port.link and port.receive is not None:
                port.receive(frame)
