"""One TCP connection (RFC 9293): the states and the receiving half; the sending half is tcp_send.py.

In: segments that the stack has checked and matched, calls of the user. Out: segments, calls of `TcpUser`.
Every difference of sequence numbers is taken modulo 2^32. "Section" means RFC 9293.

Not here: window scaling, SACK and timestamps, which the chip has not; urgent data (delivered in line);
congestion control, round-trip measurement and fast retransmit: losses are repaired by the schedule of RTR and
RCR alone, as the datasheet has it.
"""

from typing import TYPE_CHECKING, Protocol

from .clock import NS_PER_MS
from .packets import ACK, FIN, MSS, RST, SYN, parse_mss
from .tcp_send import HALF, M32, Sender
from .timer import Timer

if TYPE_CHECKING:
    from .tcpip import Stack

ACK_EVERY = 2  # segments with data that one acknowledgement may cover (section 3.8.6.3)
HELD_SEGMENTS = 64  # out of order; as much as the largest window has of full segments, and some more
# Between answers to unacceptable segments without data, so that two ends cannot answer each other for ever.
CHALLENGE_NS = 100 * NS_PER_MS

_RECEIVING = frozenset(("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"))
_BOTH_CLOSED = frozenset(("CLOSING", "LAST-ACK", "TIME-WAIT"))
_NO_RESET = frozenset(("CLOSED", "SYN-SENT", "TIME-WAIT"))  # where ABORT sends none (section 3.10.5)


class TcpUser(Protocol):
    """Whose connection it is. Every call may call the Tcb back."""

    def attached(self, tcb: "Tcb") -> None:
        """A SYN was accepted, or connecting has begun; `tcb.mss` may be lowered now."""

    def room(self) -> int:
        """Bytes it would take now: the receive window."""

    def established(self) -> None:
        """The handshake is complete."""

    def received(self, data: bytes) -> None:
        """More of the peer's stream, never more than room().

        An answer sent from here carries the acknowledgement.
        """

    def sent(self, n: int) -> None:
        """`n` bytes more are on the wire for the first time."""

    def acked(self, n: int) -> None:
        """The peer has `n` bytes more."""

    def fin(self) -> None:
        """The peer has closed; all its data came before."""

    def closed(self, reason: str) -> None:
        """The end: "done", "reset", "timeout" or "unreachable"; once for every Tcb that was not forgotten."""


class Tcb(Sender):
    """A connection. Its user's methods are in Sender; `state` has the names of section 3.3.2.

    Attributes:
        local_port, remote_ip, remote_port, remote_mac: the peer; the MAC is six zeros until ARP has it.
        mss: bytes per segment sent; until the handshake what our SYN says.
        fields: TOS, fragment field and TTL of what is sent.
        no_delay_ack: acknowledge each segment at once.
    """

    __slots__ = (
        "_ack_timer",
        "_acknowledged",
        "_challenged",
        "_edge",
        "_held",
        "_largest",
        "_owed",
        "_rcv",
        "_segments",
        "no_delay_ack",
    )

    def __init__(
        self,
        stack: "Stack",
        user: TcpUser,
        local_port: int,
        remote_ip: bytes,
        remote_port: int,
        after: int | None = None,
    ) -> None:
        """`after`: where an earlier connection between these ports ended in sequence space."""
        fresh = stack.random.getrandbits(32)
        iss = fresh if after is None else after + 1 + (fresh & 0xFFFF) & M32
        super().__init__(stack, user, local_port, remote_ip, remote_port, iss)
        self.no_delay_ack = False
        self._rcv = 0  # RCV.NXT
        self._edge = 0  # first number beyond the window advertised
        self._largest = 0  # window ever advertised: the size of the user's buffer
        self._acknowledged = 0  # RCV.NXT as the peer was last told
        self._segments = 0  # with data, since then
        self._owed = False  # an acknowledgement must not wait, even one that repeats the last
        self._ack_timer = Timer(stack.clock, self._ack)
        self._held: list[tuple[int, bytes, bool]] = []  # seq, data, FIN: beyond a gap, in order
        self._challenged = -CHALLENGE_NS

    # Opening (section 3.10.7.2 and 3.10.7.3)

    def resolved(self, mac: bytes | None) -> None:
        """ARP's answer to an active open."""
        if self.state == "CLOSED":
            return
        if mac is None:
            self._end("unreachable")
            return
        self.remote_mac = mac
        self._send_syn()

    def accept(self, mac: bytes, seq: int, window: int, options: bytes) -> None:
        """A peer's SYN. Data and FIN on it are not taken: the peer repeats them."""
        self.state = "SYN-RECEIVED"
        self.remote_mac = mac
        self._start_receiving(seq)
        self.user.attached(self)
        if self.state == "CLOSED":
            return
        self.mss = min(self.mss, parse_mss(options))
        self._open_window(window, seq, 0)
        self._send_syn()

    def _start_receiving(self, seq: int) -> None:
        self._rcv = self._edge = seq + 1 & M32

    def reusable(self, seq: int) -> bool:
        """Whether a SYN with `seq` may start another connection in place of this one (section 3.10.7.4)."""
        return self.state == "TIME-WAIT" and 0 < (seq - self._rcv & M32) < HALF

    def _in_syn_sent(self, seq: int, ack: int, flags: int, window: int, options: bytes) -> None:
        if self._nxt == self._una:
            return  # ARP has no answer yet
        if flags & ACK and ack != self._nxt:
            if not flags & RST:
                self._emit(ack, RST)
            return
        if flags & RST:
            if flags & ACK:
                self._end("reset")
            return
        if not flags & SYN:
            return
        self._start_receiving(seq)
        self.mss = min(self.mss, parse_mss(options))
        if flags & ACK:
            self._owed = True
            self._syn_acknowledged(seq, ack, window)
            if self.state != "CLOSED":
                self._push()
                self._answer()
        else:
            self.state = "SYN-RECEIVED"
            self._open_window(window, seq, 0)
            self._send_syn()

    # Segments (section 3.10.7.4)

    def segment(self, seq: int, ack: int, flags: int, window: int, data: bytes, options: bytes) -> None:
        """A segment from the peer: the fields of its header, its data."""
        state = self.state
        if state == "SYN-SENT":
            self._in_syn_sent(seq, ack, flags, window, options)
            return
        if self._keep_interval:
            self._heard()
        if state == "SYN-RECEIVED" and flags & (SYN | ACK) == SYN | ACK and seq == self._rcv - 1 & M32:
            seq = self._rcv  # both opened at once, and this SYN is known already
            flags &= ~SYN

        # First: is any of it in the window?
        offset = seq - self._rcv & M32
        if offset:
            end = offset + len(data) + (flags & FIN)  # FIN's bit happens to be its length
            if offset >= HALF and not flags & SYN and end > M32 + 1:  # its beginning is old
                data = data[M32 + 1 - offset :]
                offset = 0
            elif not 0 < offset < (self._edge - self._rcv & M32) + (end == offset and not flags & RST):
                if not flags & RST:
                    self._repeat(seq, ack, flags, bool(data))
                return

        # Second and fourth: RST, SYN
        if flags & RST:
            if offset:
                self._challenge()
            else:
                self._end("done" if state in _BOTH_CLOSED and not self.unacknowledged else "reset")
            return
        if flags & SYN:
            self._challenge()
            return

        # Fifth: ACK
        if not flags & ACK:
            return
        if state == "SYN-RECEIVED":
            if ack != self._nxt:
                self._emit(ack, RST)
                return
            self._syn_acknowledged(seq, ack, window)
        elif not self._take_ack(seq, ack, window):
            self._challenge()
            return

        # Seventh and eighth: text, FIN
        if (data or flags & FIN) and self.state in _RECEIVING:
            if offset:
                self._hold(seq, data, bool(flags & FIN))
            else:
                self._deliver(data, bool(flags & FIN))
                if self._held:
                    self._deliver_held()
        if self.state != "CLOSED":
            self._push()
            self._answer()

    def _repeat(self, seq: int, ack: int, flags: int, with_data: bool) -> None:
        """Answer a segment outside the window with where we are.

        The acknowledgement of a segment near the window counts all the same. Where the window is zero section
        3.10.7.4 demands it; and two ends whose probes or FINs have crossed, in shut windows or while these opened,
        would never hear each other: each is ahead of what the other has heard acknowledged
        (draft-gont-tcpm-tcp-seq-validation, 3).
        """
        near = self._largest + 1  # a whole window of old data, or a probe and FIN beyond the edge
        if (
            flags & ACK
            and self.state != "SYN-RECEIVED"
            and (seq - self._rcv + near & M32) <= 2 * near
            and self._in_flight(ack)
        ):
            self._acknowledge(ack)
            self._push()
        if self.state == "CLOSED":
            return
        if self.state == "TIME-WAIT" and flags & FIN:
            self._wait()
        if with_data or flags & FIN:
            self._ack()  # the peer repeats what our lost acknowledgement was for, or probes
        else:
            self._challenge()

    def _challenge(self) -> None:
        now = self.stack.clock.now
        if now - self._challenged >= CHALLENGE_NS:
            self._challenged = now
            self._ack()

    def _deliver(self, data: bytes, fin: bool) -> None:
        """Take what is next in the stream, as far as there is room."""
        if data:
            room = min(self.user.room(), self._edge - self._rcv & M32)
            if len(data) > room:
                data, fin = data[:room], False
                self._owed = True
            if data:
                self._rcv = self._rcv + len(data) & M32
                self._segments += 1
                self._passed()
                self.user.received(data)
        if fin and self.state in _RECEIVING:
            self._rcv = self._rcv + 1 & M32
            self._edge = self._rcv
            self._held.clear()
            self._owed = True
            if self.state == "ESTABLISHED":
                self.state = "CLOSE-WAIT"
            elif self.state == "FIN-WAIT-1":
                self.state = "CLOSING"
            else:
                self._wait()
            self.user.fin()

    # Out of order

    def _hold(self, seq: int, data: bytes, fin: bool) -> None:
        """Keep a segment beyond a gap, up to the edge of the window."""
        self._owed = True
        offset = seq - self._rcv & M32
        left = self._edge - seq & M32
        if len(data) > left:
            data, fin = data[:left], False
        held = self._held
        place = len(held)
        while place and (held[place - 1][0] - self._rcv & M32) > offset:
            place -= 1
        if len(held) < HELD_SEGMENTS and not (place and held[place - 1] == (seq, data, fin)):
            held.insert(place, (seq, data, fin))

    def _deliver_held(self) -> None:
        """Go on with what the last segment has made the next."""
        self._owed = True
        held = self._held
        while held and self.state in _RECEIVING:
            seq, data, fin = held[0]
            behind = self._rcv - seq & M32
            if behind >= HALF:
                break
            del held[0]
            if behind < len(data) + fin:
                self._deliver(data[behind:], fin)

    # Acknowledging (section 3.8.6.3)

    def _answer(self) -> None:
        """Acknowledge what no segment of ours has acknowledged by itself."""
        if self._owed:
            self._ack()
        elif self._acknowledged != self._rcv:
            if self.no_delay_ack or self._segments >= ACK_EVERY:
                self._ack()
            elif not self._ack_timer.running:
                self._ack_timer.start(self.stack.ack_delay)

    def _ack(self) -> None:
        self._emit(self._acceptable_seq(), ACK)

    def _window(self) -> int:
        """The window to advertise with an acknowledgement that leaves now."""
        window = min(self.user.room(), 0xFFFF)
        if window > self._largest:
            self._largest = window
        edge = self._rcv + window & M32
        if (edge - self._edge & M32) < HALF:
            self._edge = edge
        self._acknowledged = self._rcv
        self._segments = 0
        self._owed = False
        self._ack_timer.stop()
        return window

    def window_opened(self) -> None:
        """room() has grown: tell the peer, if it is worth a segment (section 3.8.6.2.2)."""
        if self.state in _RECEIVING:
            gain = min(self.user.room(), 0xFFFF) - (self._edge - self._rcv & M32)
            if gain > 0 and (self.stack.eager_window or gain >= min(MSS, self._largest // 2)):
                self._ack()

    # Ending

    def _fin_acknowledged(self) -> None:
        """The peer has our FIN."""
        if self.state == "FIN-WAIT-1":
            self.state = "FIN-WAIT-2"
        elif self.state == "CLOSING":
            self._wait()
        elif self.state == "LAST-ACK":
            self._end("done")

    def _wait(self) -> None:
        self.state = "TIME-WAIT"
        self._asking = False  # the timer is not the keep-alive's any more
        self._timer.start(self.stack.time_wait)

    def unreachable(self, seq: int) -> None:
        """ICMP port unreachable for our segment `seq`: ends an open not answered yet (section 3.9.2.2)."""
        if self.state == "SYN-SENT" and seq == self._una:
            self._end("unreachable")

    def abort(self) -> None:
        """RST to the peer, closed("reset") to the user."""
        if self.state not in _NO_RESET:
            self._emit(self._acceptable_seq(), RST | ACK)
        if self.state != "CLOSED":
            self._end("reset")

    def finish(self) -> int:
        """End TIME-WAIT early; returns the last sequence number used."""
        self._end("done")
        return self._nxt

    def forget(self) -> None:
        """Drop the connection: no segment, no call of the user; what the peer sends later meets RST."""
        self.state = "CLOSED"
        self._timer.cancel()
        self._keep_timer.cancel()
        self._ack_timer.cancel()
        self._held.clear()
        self.stack.remove(self)

    def _end(self, reason: str) -> None:
        self.forget()
        self.user.closed(reason)
