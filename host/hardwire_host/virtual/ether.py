"""The virtual Ethernet segment: frames between ports, after the time the wire takes; taps see them all.

In: frames without FCS from a port. Out: the same frames, padded to Ethernet's minimum, at every other port
with link, by an alarm of a clock, never inside the sender's call. A port without a cable neither sends nor
receives. It is a hub without collisions: each port sends at its own rate, whatever others do, and hears all.

A port whose owner keeps its own time, as an emulated board does, has that clock; lockstep.py keeps them together.
"""

from collections.abc import Callable
from functools import partial

from .clock import NS_PER_S, Clock

MIN_FRAME = 60  # without FCS (IEEE 802.3, 3.2.8): shorter ones are padded
PREAMBLE = 8  # bytes, with the start delimiter
FCS = 4
GAP = 12  # bytes of wire time between frames
RATE_MIN, RATE_MAX = 10_000_000, 100_000_000  # bit/s of 10BASE-T and 100BASE-TX
# No frame arrives sooner after it was sent.
WIRE_NS_MIN = (PREAMBLE + MIN_FRAME + FCS) * 8 * NS_PER_S // RATE_MAX

Tap = Callable[[int, str, bytes, str], None]


class Port:
    """One end of a cable.

    Attributes:
        name: unique on the segment, for captures. clock: the owner's.
        receive: the owner's, called with each frame.
        on_link: the owner's, called with True or False when the cable is plugged in or pulled.
        rate: bit/s at which this port sends.
        free_at: time (ns) when the next frame can start; what is sent before waits in a queue without end.
    """

    def __init__(self, segment: "Segment", name: str, clock: Clock, rate: int) -> None:
        self.name = name
        self.clock = clock
        self.receive: Callable[[bytes], None] | None = None
        self.on_link: Callable[[bool], None] | None = None
        self.rate = rate
        self._segment = segment
        self._link = True
        self.free_at = 0

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
        """Put `frame` on the wire behind those sent before; it is lost without link."""
        if not self._link:
            return
        size = len(frame)
        if size < MIN_FRAME:
            frame = frame.ljust(MIN_FRAME, b"\0")
            size = MIN_FRAME
        segment = self._segment
        bits = (PREAMBLE + size + FCS) * 8
        start = max(self.clock.now, self.free_at)
        arrival = start + bits * NS_PER_S // self.rate
        self.free_at = arrival + GAP * 8 * NS_PER_S // self.rate
        segment.carry(self, frame, arrival)


class Segment:
    """Ports, and what carries frames between them.

    Attributes:
        clock: device time of captures, and of ports that have no clock of their own. ports: in order of attachment.
        taps: each called with (time in ns, name of the sending port, frame, comment) when a frame arrives;
            the comment says what the segment did to it, empty for nothing.
    """

    def __init__(self, clock: Clock, *, seed: int = 0, rate: int = RATE_MAX) -> None:
        """`rate`: bit/s of a new port. `seed`: of everything random."""
        self.clock = clock
        self.ports: list[Port] = []
        self.taps: list[Tap] = []
        self._rate = rate

    def attach(self, name: str, clock: Clock | None = None) -> Port:
        """A new port with its cable plugged in. Raises ValueError if there is one of that name."""
        if any(port.name == name for port in self.ports):
            raise ValueError(f"the segment has a port {name} already")
        port = Port(self, name, clock or self.clock, self._rate)
        self.ports.append(port)
        return port

    def detach(self, port: Port) -> None:
        """Take a port away. Frames on their way to it are lost, those from it arrive."""
        self.ports.remove(port)

    def carry(self, sender: Port, frame: bytes, arrival: int, comment: str = "") -> None:
        """Bring `frame` to the taps and the other ports at `arrival` (ns)."""
        elsewhere = [port for port in self.ports if port.clock is not self.clock and port is not sender]
        self.clock.call_at(arrival, partial(self._deliver, sender, frame, comment))
        for port in elsewhere:
            port.clock.call_at(arrival, partial(self._hand, port, frame))

    def show(self, sender: Port, frame: bytes, comment: str) -> None:
        """Let the taps see `frame`."""
        for tap in self.taps:
            tap(self.clock.now, sender.name, frame, comment)

    def _deliver(self, sender: Port, frame: bytes, comment: str) -> None:
        self.show(sender, frame, comment)
        for port in tuple(self.ports):
            if port is not sender and port.clock is self.clock:
                self._hand(port, frame)

    def _hand(self, port: Port, frame: bytes) -> None:
        if port.link and port.receive is not None and port in self.ports:
            port.receive(frame)
