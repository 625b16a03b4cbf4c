"""Two stacks on a segment, and one end written by hand: what the tests of the TCP/IP engine stand on."""

from collections.abc import Callable

from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.faults import FaultySegment
from hardwire_host.virtual.packets import (
    ACK,
    FIN,
    PSH,
    REPLY,
    REQUEST,
    RST,
    SYN,
    TCP,
    arp,
    parse_arp,
    parse_ipv4,
    parse_mss,
    parse_tcp,
    tcp,
)
from hardwire_host.virtual.tcpip import Stack

A_IP, B_IP = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
A_MAC, B_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
MASK = bytes((255, 255, 255, 0))
PORT = 7
FLAGS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK}


class User:
    """A TcpUser that keeps what it was told. `limit` is its buffer; `read()` empties it."""

    def __init__(self, limit: int = 65535) -> None:
        self.limit = limit
        self.tcb = None
        self.data = bytearray()
        self.waiting = 0
        self.calls: list[str] = []
        self.sent_bytes = self.acked_bytes = 0
        self.on_received: Callable[[bytes], None] = lambda data: None
        self.on_fin: Callable[[], None] = lambda: None

    def attached(self, tcb) -> None:
        self.tcb = tcb

    def room(self) -> int:
        return self.limit - self.waiting

    def established(self) -> None:
        self.calls.append("established")

    def received(self, data: bytes) -> None:
        assert 0 < len(data) <= self.room() and "fin" not in self.calls
        self.data += data
        self.waiting += len(data)
        self.on_received(data)

    def sent(self, n: int) -> None:
        self.sent_bytes += n

    def acked(self, n: int) -> None:
        self.acked_bytes += n
        assert self.acked_bytes <= self.sent_bytes

    def fin(self) -> None:
        self.calls.append("fin")
        self.on_fin()

    def closed(self, reason: str) -> None:
        self.calls.append(reason)

    def read(self, n: int | None = None) -> None:
        self.waiting -= self.waiting if n is None else min(n, self.waiting)
        self.tcb.window_opened()


class Cable:
    """Stands between a stack and its port: `rule(frame)` gives the frames that leave in place of each one sent."""

    def __init__(self, port, clock) -> None:
        self._port = port
        self._clock = clock
        self.rule: Callable[[bytes], list[bytes]] | None = None

    @property
    def receive(self):
        return self._port.receive

    @receive.setter
    def receive(self, function) -> None:
        self._port.receive = function

    def send(self, frame: bytes) -> None:
        for each in [frame] if self.rule is None else self.rule(frame):
            self._port.send(each)

    def send_later(self, frame: bytes, delay: int) -> None:
        self._clock.call_later(delay, lambda: self._port.send(frame))


class Pair:
    """Hosts a and b. `b_user` is the user of the next connection b accepts on PORT."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        self.segment = FaultySegment(self.clock, seed=seed)
        self.a_cable = Cable(self.segment.attach("a"), self.clock)
        self.b_cable = Cable(self.segment.attach("b"), self.clock)
        self.a = Stack(
            self.clock, self.a_cable, mac=A_MAC, ip=A_IP, netmask=MASK, gateway=bytes(4), seed=seed
        )
        self.b = Stack(
            self.clock, self.b_cable, mac=B_MAC, ip=B_IP, netmask=MASK, gateway=bytes(4), seed=seed + 1
        )
        self.b_user: User | None = User()
        self.b.on_syn = lambda port, ip, remote: self.b_user if port == PORT else None
        self.frames: list[tuple[int, str, str, int]] = []  # ns, sender, flags, bytes of data
        self.corrupt = False  # frames with wrong checksums may come by
        self.segment.taps.append(self._tap)

    def _tap(self, time: int, name: str, frame: bytes, comment: str) -> None:
        if not self.corrupt and (fields := segment(frame)) is not None:
            self.frames.append((time, name, fields["flags"], len(fields["data"])))

    def connect(self, user: User | None = None, local_port: int | None = 40000, port: int = PORT) -> User:
        user = User() if user is None else user
        self.a.connect(user, local_port, B_IP, port)
        return user

    def established(self) -> tuple[User, User]:
        user = self.connect()
        self.run(5)
        assert user.calls == self.b_user.calls == ["established"]
        self.frames.clear()
        return user, self.b_user

    def run(self, ms: float) -> None:
        self.clock.advance(int(ms * NS_PER_MS))

    def until(self, done: Callable[[], bool], seconds: float = 1000) -> int:
        """Alarm by alarm until `done()`; returns the time. Fails when nothing is left to happen, or it takes longer."""
        end = self.clock.now + int(seconds * NS_PER_S)
        while not done():
            due = self.clock.next_due()
            assert due is not None and due <= end, "it never came"
            self.clock.advance_to(due)
        return self.clock.now

    def flags(self) -> list[str]:
        """Who sent what: "a:S" and so on; forgets them."""
        seen = [f"{name}:{flags}" for _, name, flags, _ in self.frames]
        self.frames.clear()
        return seen


def segment(frame: bytes) -> dict | None:
    """A TCP frame's fields; fails on a checksum that is wrong."""
    if frame[12:14] != b"\x08\x00" or frame[23] != TCP:
        return None
    fields = parse_ipv4(frame)
    assert fields is not None
    parsed = parse_tcp(frame, *fields[3:])
    assert parsed is not None
    _, _, seq, ack, flags, window, data, options = parsed
    letters = "".join(letter for letter, bit in FLAGS.items() if flags & bit)
    return {
        "seq": seq,
        "ack": ack,
        "flags": letters,
        "window": window,
        "data": data,
        "mss": parse_mss(options),
    }


class Script:
    """A peer at 10.0.0.2 that does exactly what a test says, against the stack `a`."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        ether = Segment(self.clock)
        self.a = Stack(
            self.clock, ether.attach("a"), mac=A_MAC, ip=A_IP, netmask=MASK, gateway=bytes(4), seed=seed
        )
        self.a_user = User()
        self.a.on_syn = lambda port, ip, remote: self.a_user if port == PORT else None
        self.port = ether.attach("script")
        self.port.receive = self._receive
        self.got: list[dict] = []
        self.answers_arp = True
        self.seq = 1000  # our next
        self.ack = 0  # what we acknowledge
        self.ports = (5000, PORT)  # ours, the stack's

    def _receive(self, frame: bytes) -> None:
        if (question := parse_arp(frame)) is not None and self.answers_arp and question[0] == REQUEST:
            self.port.send(arp(REPLY, B_MAC, B_IP, A_MAC, A_IP))
        if (fields := segment(frame)) is not None:
            self.got.append(fields)

    def send(
        self, flags: str, data: bytes = b"", *, seq=None, ack=None, window: int = 10000, mss: int = 0
    ) -> None:
        """A segment; then 1 ms passes. `seq` and `ack` default to where we are."""
        seq = self.seq if seq is None else seq
        ack = (self.ack if ack is None else ack) if "A" in flags else 0
        bits = sum(FLAGS[letter] for letter in flags)
        numbers = seq & 0xFFFFFFFF, ack & 0xFFFFFFFF
        self.port.send(tcp(A_MAC, B_MAC, B_IP, A_IP, 0, *self.ports, *numbers, bits, window, data, mss))
        self.run(1)

    def run(self, ms: float) -> None:
        self.clock.advance(int(ms * NS_PER_MS))

    def take(self) -> list[dict]:
        got, self.got = self.got, []
        return got

    def flags(self) -> list[str]:
        """Flags of what has come; forgets it."""
        return [fields["flags"] for fields in self.take()]

    def accepted(self, window: int = 10000, mss: int = 1460) -> User:
        """Open a connection to the stack's PORT."""
        self.send("S", window=window, mss=mss)
        (answer,) = self.take()
        assert answer["flags"] == "SA" and answer["ack"] == self.seq + 1
        self.seq += 1
        self.ack = answer["seq"] + 1 & 0xFFFFFFFF
        self.send("A", window=window)
        assert self.a_user.calls == ["established"] and not self.got
        return self.a_user
