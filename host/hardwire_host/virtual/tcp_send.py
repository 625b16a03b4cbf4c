"""The sending half of a TCP connection: the stream, the peer's window, the retransmission timer.

In: bytes from the user, acknowledgements from tcp.py. Out: segments, user.sent and user.acked.

One timer serves SYN, data, FIN, a shut window and keep-alive, which never wait at the same time. It rings RTR
after the first transmission, then after 2, 4, 8 ... RTR as long as that fits 16 bits; without an answer when
it rings after RCR repetitions, the connection ends: TCPTO of the W5500's datasheet (4.1, RCR). A shut window
ends it only if the peer does not answer the probes at all (RFC 9293, 3.8.6.1).
"""

from typing import TYPE_CHECKING

from .clock import NS_PER_S, NS_PER_US
from .packets import ACK, FIN, IP_FIELDS, MSS, PSH, SYN, tcp
from .timer import Timer

if TYPE_CHECKING:
    from .tcp import TcpUser
    from .tcpip import Stack

M32 = 0xFFFFFFFF
HALF = 1 << 31  # a sequence number less than this ahead is ahead

_SENDING = frozenset(("ESTABLISHED", "CLOSE-WAIT"))
_OPENING = frozenset(("SYN-SENT", "SYN-RECEIVED"))
_KEEPING = frozenset(("ESTABLISHED", "CLOSE-WAIT", "FIN-WAIT-2"))


class Sender:
    """Base of `tcp.Tcb`, which says what the attributes mean."""

    __slots__ = (
        "_asking",
        "_backoff",
        "_beyond",
        "_fin_sent",
        "_fin_wanted",
        "_keep_interval",
        "_keep_timer",
        "_last_heard",
        "_moved",
        "_nxt",
        "_out",
        "_recover",
        "_timer",
        "_tries",
        "_una",
        "_widest",
        "_wl1",
        "_wl2",
        "_wnd",
        "fields",
        "key",
        "local_port",
        "mss",
        "remote_ip",
        "remote_mac",
        "remote_port",
        "stack",
        "state",
        "user",
    )

    def __init__(
        self,
        stack: "Stack",
        user: "TcpUser",
        local_port: int,
        remote_ip: bytes,
        remote_port: int,
        iss: int,
    ) -> None:
        self.stack = stack
        self.user = user
        self.local_port = local_port
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.key = (local_port, remote_ip, remote_port)
        self.remote_mac = bytes(6)
        self.state = "SYN-SENT"
        self.mss = MSS
        self.fields = IP_FIELDS
        self._una = self._nxt = iss  # SND.UNA, SND.NXT
        self._out = bytearray()  # the stream from SND.UNA on: in flight, then waiting
        self._fin_wanted = self._fin_sent = False
        self._wnd = self._wl1 = self._wl2 = 0  # SND.WND, and the segment it came with
        self._widest = 0  # largest SND.WND
        self._timer = Timer(stack.clock, self._rung)
        self._tries = 0  # transmissions that wait for an answer
        self._backoff = 0  # doublings of the interval
        self._recover: int | None = None  # after a retransmission: repeat what is not acknowledged up to here
        self._beyond = False  # something in flight was sent past the window, as a probe
        self._moved = False  # data has passed, either way
        self._asking = False  # a keep-alive probe is unanswered
        self._keep_interval = 0  # ns, 0: none
        self._keep_timer = Timer(stack.clock, self._keep_due)
        self._last_heard = 0

    # For the user

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent for the first time."""
        if self.state in _OPENING:
            return len(self._out)
        return max(0, len(self._out) - (self._nxt - self._una & M32))

    @property
    def unacknowledged(self) -> int:
        """Bytes that the peer may not have: unsent and in flight."""
        return len(self._out)

    def send(self, data: bytes) -> None:
        """Queue bytes; they leave as window and MSS allow. Ignored after shutdown() and after the end."""
        if not self._fin_wanted and self.state != "CLOSED":
            self._out += data
            self._push()

    def shutdown(self) -> None:
        """FIN behind what is queued; receiving goes on."""
        self._fin_wanted = True
        self._push()

    # One segment

    def _emit(self, seq: int, flags: int, data: bytes = b"", mss: int = 0) -> None:
        stack = self.stack
        if flags & ACK:
            window, ack = self._window(), self._rcv
        else:
            window, ack = (min(self.user.room(), 0xFFFF) if flags & SYN else 0), 0
        stack.port.send(
            tcp(
                self.remote_mac,
                stack.mac,
                stack.ip,
                self.remote_ip,
                stack.ident(),
                self.local_port,
                self.remote_port,
                seq,
                ack,
                flags,
                window,
                data,
                mss,
                self.fields,
            )
        )

    def _acceptable_seq(self) -> int:
        """SND.NXT for a segment without data; behind a probe, the edge of the window, where the peer still takes it."""
        return self._una + min(self._nxt - self._una & M32, self._wnd) & M32

    # SYN

    def _send_syn(self) -> None:
        self._nxt = self._una + 1 & M32
        self._start_timer()
        self._send_syn_again()

    def _send_syn_again(self) -> None:
        self._emit(self._una, SYN if self.state == "SYN-SENT" else SYN | ACK, mss=self.mss)

    def _syn_acknowledged(self, seq: int, ack: int, window: int) -> None:
        self._una = ack
        self._timer.stop()
        self._open_window(window, seq, ack)
        self.state = "ESTABLISHED"
        self.user.established()

    # Data and FIN

    def _push(self) -> None:
        """Send for the first time what the window takes."""
        if self.state not in _SENDING:
            return
        out = self._out
        while (waiting := len(out) - (flight := self._nxt - self._una & M32)) > 0:
            n = min(waiting, self.mss, self._wnd - flight)
            # No silly windows (section 3.8.6.2.1); what we send is pushed, as with Nagle's algorithm off.
            if n <= 0 or (n < waiting and n < self.mss and n < self._widest // 2):
                if not flight and not self._timer.running:
                    self._start_timer(0)
                return
            if not flight:
                self._start_timer()
            self._send_data(flight, n)
            if self.state not in _SENDING:
                return
        if self._fin_wanted and not self._fin_sent:
            if not out:
                self._start_timer()
            self._fin_sent = True
            self.state = "FIN-WAIT-1" if self.state == "ESTABLISHED" else "LAST-ACK"
            self._send_fin()

    def _send_data(self, offset: int, n: int) -> None:
        """Send `n` bytes of the stream, `offset` behind SND.UNA; new, known to the peer, or both."""
        end = offset + n
        new = end - (self._nxt - self._una & M32)
        flags = PSH | ACK
        if self._fin_sent and end == len(self._out):
            flags |= FIN
        if new > 0:
            self._nxt = self._una + end & M32
        if end > self._wnd:
            self._beyond = True
        self._passed()
        self._emit(self._una + offset & M32, flags, bytes(self._out[offset:end]))
        if new > 0:
            self.user.sent(new)

    def _send_fin(self) -> None:
        seq = self._una + len(self._out) & M32
        self._nxt = seq + 1 & M32
        if len(self._out) >= self._wnd:
            self._beyond = True
        self._emit(seq, FIN | ACK)

    def _resend(self) -> None:
        """Repeat from SND.UNA on: as much as one segment holds and the window takes, at least a byte."""
        n = min(len(self._out), self.mss, max(self._wnd, 1))
        if n:
            self._send_data(0, n)
        elif self._fin_sent:
            self._send_fin()

    # Acknowledgements

    def _open_window(self, window: int, seq: int, ack: int) -> None:
        self._wnd, self._wl1, self._wl2 = window, seq, ack
        if window > self._widest:
            self._widest = window

    def _take_ack(self, seq: int, ack: int, window: int) -> bool:
        """ACK and window of an acceptable segment. False if it is for what was never sent (RFC 5961, 5.2)."""
        new = ack - self._una & M32
        if new > (self._nxt - self._una & M32):
            return (self._una - ack & M32) <= self._widest  # else older than anything still on the way
        shut = not self._wnd
        newer = seq - self._wl1 & M32
        if (newer < HALF and newer) or (not newer and (ack - self._wl2 & M32) < HALF):
            self._open_window(window, seq, ack)
        if self._asking:
            self._asking = False
            self._timer.stop()
        if new:
            self._acknowledge(ack)
        elif not self._wnd:
            self._tries = 0  # it answers the probes
        elif shut:
            if self._nxt == self._una:
                if self._out:  # else the timer is TIME-WAIT's
                    self._timer.stop()  # of the probes; what is sent now starts anew
            elif self._beyond:
                self._beyond = False
                self._start_timer()
                self._resend()
        return True

    def _in_flight(self, ack: int) -> bool:
        """Whether `ack` acknowledges something that was not."""
        return 0 < (ack - self._una & M32) <= (self._nxt - self._una & M32)

    def _acknowledge(self, ack: int) -> None:
        """SND.UNA moves on to `ack`."""
        n = ack - self._una & M32
        data = min(n, len(self._out))  # the rest is FIN
        self._una = ack
        self._beyond = self._beyond and ack != self._nxt
        if ack == self._nxt:
            self._timer.stop()
            self._recover = None
        else:
            self._start_timer()
        if data:
            del self._out[:data]
            self.user.acked(data)
        if self.state == "CLOSED":
            return
        if self._fin_sent and ack == self._nxt:
            self._fin_acknowledged()
        elif self._recover is not None:
            if 0 < (self._recover - ack & M32) < HALF:
                self._resend()
            else:
                self._recover = None

    # The timer

    def _start_timer(self, tries: int = 1) -> None:
        """Wait for an answer to a first transmission; with 0 tries, for the peer's window to open."""
        self._tries = tries
        self._backoff = 0
        self._asking = False
        self._timer.start(self._interval())

    def _interval(self) -> int:
        rtr = self.stack.rtr
        return (rtr << min(self._backoff, 16 - rtr.bit_length())) * 100 * NS_PER_US

    def _rung(self) -> None:
        if self.state == "TIME-WAIT":
            self._end("done")
            return
        if self._tries > self.stack.rcr:
            self._end("timeout")
            return
        self._tries += 1
        self._backoff += 1
        self._timer.start(self._interval())
        if self.state in _OPENING:
            self._send_syn_again()
        elif self._asking:
            self._probe()
        else:
            if self._nxt != self._una:
                self._recover = self._nxt
            self._resend()

    # Keep-alive (section 3.8.4)

    def keepalive(self, seconds: float) -> None:
        """Ask the peer for a sign of life after so long without any; 0: never.

        The first time comes after data has passed, as in the chip (datasheet 4.2, Sn_KPALVTR).
        """
        self._keep_interval = int(seconds * NS_PER_S)
        self._last_heard = self.stack.clock.now
        if self._keep_interval and self._moved:
            self._keep_timer.start(self._keep_interval)
        else:
            self._keep_timer.stop()

    def send_keepalive(self) -> None:
        """Ask now. While data is in flight that asks already."""
        if self.state in _KEEPING and self._nxt == self._una and not self._out and not self._asking:
            self._start_timer()
            self._asking = True
            self._probe()

    def _probe(self) -> None:
        self._emit(self._nxt - 1 & M32, ACK, b"\0")  # one byte the peer has had (datasheet 4.2, SEND_KEEP)

    def _passed(self) -> None:
        if not self._moved:
            self._moved = True
            if self._keep_interval:
                self._keep_timer.start(self._keep_interval)

    def _heard(self) -> None:
        self._last_heard = self.stack.clock.now

    def _keep_due(self) -> None:
        left = self._last_heard + self._keep_interval - self.stack.clock.now
        if left > 0:
            self._keep_timer.start(left)
        else:
            self._keep_timer.start(self._keep_interval)
            self.send_keepalive()
