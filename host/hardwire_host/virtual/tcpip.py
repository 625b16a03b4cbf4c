"""An IPv4 host on a port of the segment: ARP, ICMP, UDP, TCP. One engine for the chip model and for the PC's side.

In: frames. Out: frames, and calls to users (`TcpUser`, UDP handlers). Checksums are verified; what is corrupt or
malformed is dropped. TCP after RFC 9293 with the W5500's retransmission schedule; no window scaling, SACK, timestamps.
"""

import random
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .clock import NS_PER_MS, NS_PER_S, NS_PER_US, Alarm, Clock

BROADCAST = b"\xff" * 6
ANY = bytes(4)
ALL = b"\xff" * 4
MSS = 1460
_ARP, _IP = 0x0806, 0x0800
_ICMP, _TCP, _UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_M = 0xFFFFFFFF
TTL = 128
DELAYED_ACK_NS = 40 * NS_PER_MS
TIME_WAIT_NS = 100 * NS_PER_MS
PERSIST_NS = 500 * NS_PER_MS


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) & 1:
        data += b"\0"
    total = int.from_bytes(data, "big") % 0xFFFF  # one's complement sum: 2**16 == 1 modulo 0xFFFF
    return 0xFFFF - total if total else 0xFFFF if not any(data) else 0


class TcpUser(Protocol):
    """What the engine calls; see the methods of the same names in the chip model and the forwarder."""

    def attached(self, tcb: "Tcb") -> None: ...
    def room(self) -> int: ...
    def established(self) -> None: ...
    def received(self, data: bytes) -> None: ...
    def acked(self, n: int) -> None: ...
    def sent(self, n: int) -> None: ...
    def fin(self) -> None: ...
    def closed(self, reason: str) -> None: ...


class Stack:
    """One host. Addresses are bytes; rtr (100 us) and rcr are the chip's retransmission registers."""

    def __init__(self, clock: Clock, port, *, mac, ip, netmask, gateway, seed=0) -> None:
        self.clock = clock
        self.port = port
        self.mac, self.ip, self.netmask, self.gateway = mac, ip, netmask, gateway
        self.rtr, self.rcr = 2000, 8
        self.ping_reply = True
        self.on_syn: Callable[[int, bytes, int], TcpUser | None] = lambda port, ip, remote: None
        self.on_unreachable: Callable[[bytes, int], None] = lambda ip, port: None
        self.on_conflict: Callable[[], None] = lambda: None
        self.raw: Callable[[bytes], bool] | None = None
        self.random = random.Random(seed)
        self._arp: dict[bytes, bytes] = {}
        self._asking: dict[bytes, list] = {}
        self._tcbs: dict[tuple[int, bytes, int], Tcb] = {}
        self._udp: dict[int, UdpHandle] = {}
        self._ident = 0
        self._ephemeral = 49152 + self.random.randrange(8192)
        port.receive = self._frame

    # Ethernet and ARP

    def _frame(self, frame: bytes) -> None:
        if self.raw is not None and self.raw(frame):
            return
        if frame[:6] != self.mac and not frame[0] & 1:
            return
        kind = frame[12] << 8 | frame[13]
        if kind == _IP:
            self._ipv4(frame)
        elif kind == _ARP and len(frame) >= 42:
            self._arp_in(frame)

    def _arp_in(self, frame: bytes) -> None:
        op = frame[21]
        sender_mac, sender, target = frame[22:28], frame[28:32], frame[38:42]
        if sender == self.ip and sender_mac != self.mac and self.ip != ANY:
            self.on_conflict()
            return
        waiting = self._asking.pop(sender, None)
        if target == self.ip or waiting or sender in self._arp:
            self._arp[sender] = sender_mac
        if waiting:
            waiting[0].cancel()
            for resolved in waiting[2]:
                resolved(sender_mac)
        if op == 1 and target == self.ip and self.ip != ANY:
            self._arp_out(2, sender_mac, sender)

    def _arp_out(self, op: int, mac: bytes, ip: bytes) -> None:
        to, target = (mac, mac) if op == 2 else (BROADCAST, bytes(6))
        body = struct.pack(">HHBBH", 1, _IP, 6, 4, op) + self.mac + self.ip + target + ip
        self.port.send(to + self.mac + b"\x08\x06" + body)

    def resolve(self, ip: bytes, done: Callable[[bytes | None], None]) -> None:
        """MAC of the next hop to `ip`; None after RTR x (RCR + 1) of silence."""
        mask = self.netmask
        if ip == ALL or all((a ^ b) & m == 0 for a, b, m in zip(ip, self.ip, mask, strict=True)) and all(
            (b | m) == 255 for b, m in zip(ip, mask, strict=True)
        ):
            done(BROADCAST)
            return
        if ip[0] & 0xF0 == 0xE0:
            done(bytes((1, 0, 0x5E, ip[1] & 0x7F, ip[2], ip[3])))
            return
        hop = ip if all((a ^ b) & m == 0 for a, b, m in zip(ip, self.ip, mask, strict=True)) else self.gateway
        if hop in self._arp:
            done(self._arp[hop])
        elif hop in self._asking:
            self._asking[hop][2].append(done)
        else:
            self._asking[hop] = [None, 0, [done]]
            self._ask(hop)

    def _ask(self, ip: bytes) -> None:
        entry = self._asking[ip]
        if entry[1] > self.rcr:
            del self._asking[ip]
            for done in entry[2]:
                done(None)
            return
        entry[1] += 1
        self._arp_out(1, BROADCAST, ip)
        entry[0] = self.clock.call_later(self.rtr * 100 * NS_PER_US, lambda: self._ask(ip))

    # IPv4

    def send_ip(self, mac: bytes, protocol: int, ip: bytes, payload: bytes) -> None:
        """One datagram, not fragmented."""
        self._ident = self._ident + 1 & 0xFFFF
        head = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(payload), self._ident, 0x4000, TTL, protocol)
        total = checksum(head + b"\0\0" + self.ip + ip)
        self.port.send(mac + self.mac + b"\x08\x00" + head + total.to_bytes(2, "big") + self.ip + ip + payload)

    def _ipv4(self, frame: bytes) -> None:
        if len(frame) < 34:
            return
        head = (frame[14] & 15) * 4
        size = frame[16] << 8 | frame[17]
        if frame[14] >> 4 != 4 or head < 20 or size < head or len(frame) < 14 + size:
            return
        if int.from_bytes(frame[14 : 14 + head], "big") % 0xFFFF:
            return
        if (frame[20] << 8 | frame[21]) & 0x3FFF:
            return  # fragments: the chip does not reassemble
        source, target, protocol = frame[26:30], frame[30:34], frame[23]
        data = frame[14 + head : 14 + size]
        if target != self.ip and protocol != _UDP:
            return
        if protocol == _TCP:
            self._tcp(frame[6:12], source, data)
        elif protocol == _UDP:
            self._udp_in(frame, source, target, data, head)
        elif protocol == _ICMP:
            self._icmp(frame[6:12], source, data)

    def _icmp(self, mac: bytes, source: bytes, data: bytes) -> None:
        if len(data) < 8 or int.from_bytes(data if not len(data) & 1 else data + b"\0", "big") % 0xFFFF:
            return
        if data[0] == 8 and self.ping_reply:
            reply = b"\0\0\0\0" + data[4:]
            self.send_ip(mac, _ICMP, source, b"\0\0" + checksum(reply).to_bytes(2, "big") + data[4:])
        elif data[0] == 3 and data[1] == 3 and len(data) >= 36 and data[17] == _UDP:
            head = (data[8] & 15) * 4
            self.on_unreachable(data[24:28], data[10 + head] << 8 | data[11 + head])

    # UDP

    def udp_bind(self, local_port: int, handler) -> "UdpHandle":
        """Datagrams to `local_port` go to handler(source ip, source port, destination ip, payload)."""
        handle = self._udp[local_port] = UdpHandle(self, local_port, handler)
        return handle

    def udp_unbind(self, handle: "UdpHandle") -> None:
        if self._udp.get(handle.port) is handle:
            del self._udp[handle.port]

    def udp_send(self, local_port, ip, port, payload, done=None, mac=None) -> None:
        """Send a datagram; done(ok) when it is on the wire or its ARP request went unanswered."""

        def resolved(to: bytes | None) -> None:
            if to is not None:
                head = struct.pack(">HHHH", local_port, port, 8 + len(payload), 0)
                pseudo = self.ip + ip + struct.pack(">BBH", 0, _UDP, 8 + len(payload))
                total = checksum(pseudo + head + payload) or 0xFFFF
                self.send_ip(to, _UDP, ip, head[:6] + total.to_bytes(2, "big") + payload)
            if done is not None:
                done(to is not None)

        if mac is not None:
            resolved(mac)
        else:
            self.resolve(ip, resolved)

    def _udp_in(self, frame, source, target, data, head) -> None:
        if len(data) < 8:
            return
        size = data[4] << 8 | data[5]
        if size < 8 or size > len(data):
            return
        data = data[:size]
        if data[6] | data[7]:
            pseudo = source + target + struct.pack(">BBH", 0, _UDP, size)
            if int.from_bytes(pseudo + data + b"\0" * (size & 1), "big") % 0xFFFF:
                return
        local = data[2] << 8 | data[3]
        broadcast = bool(frame[0] & 1)
        if target != self.ip and not broadcast:
            return
        handle = self._udp.get(local)
        if handle is not None:
            handle.handler(source, data[0] << 8 | data[1], target, data[8:])
        elif not broadcast and self.ip != ANY:
            body = b"\0\0\0\0" + frame[14 : 14 + head + 8]
            total = checksum(b"\x03\x03\0\0" + body)
            self.send_ip(frame[6:12], _ICMP, source, b"\x03\x03" + total.to_bytes(2, "big") + body)

    # TCP

    def connect(self, user: TcpUser, local_port: int | None, remote_ip: bytes, remote_port: int) -> "Tcb":
        """Open a connection; `user.closed` tells when it cannot be."""
        if local_port is None:
            while True:
                self._ephemeral = 49152 + (self._ephemeral - 49152 + 1) % 16384
                local_port = self._ephemeral
                if (local_port, remote_ip, remote_port) not in self._tcbs:
                    break
        tcb = Tcb(self, user, local_port, remote_ip, remote_port)
        self._tcbs[tcb.key] = tcb
        user.attached(tcb)
        self.resolve(remote_ip, tcb.resolved)
        return tcb

    def remove(self, tcb: "Tcb") -> None:
        """Forget a connection."""
        if self._tcbs.get(tcb.key) is tcb:
            del self._tcbs[tcb.key]

    def send_tcp(self, mac, ip, local, remote, seq, ack, flags, window, payload=b"", options=b"") -> None:
        """One segment."""
        head = struct.pack(
            ">HHIIBBHHH", local, remote, seq, ack, (20 + len(options)) << 2, flags, window, 0, 0
        )
        size = len(head) + len(options) + len(payload)
        pseudo = self.ip + ip + struct.pack(">BBH", 0, _TCP, size)
        total = checksum(pseudo + head + options + payload)
        self.send_ip(mac, _TCP, ip, head[:16] + total.to_bytes(2, "big") + head[18:] + options + payload)

    def _tcp(self, mac: bytes, source: bytes, data: bytes) -> None:
        size = len(data)
        if size < 20:
            return
        pseudo = self.ip + source + struct.pack(">BBH", 0, _TCP, size)
        if int.from_bytes(pseudo + data + b"\0" * (size & 1), "big") % 0xFFFF:
            return
        remote, local, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", data)
        head = (offset >> 4) * 4
        if head < 20 or head > size:
            return
        payload = data[head:]
        tcb = self._tcbs.get((local, source, remote))
        if tcb is not None:
            tcb.segment(seq, ack, flags, window, payload, data[20:head])
            return
        if flags & RST:
            return
        if flags & (SYN | ACK) == SYN:
            user = self.on_syn(local, source, remote)
            if user is not None:
                tcb = Tcb(self, user, local, source, remote)
                tcb.remote_mac = mac
                self._tcbs[tcb.key] = tcb
                self._arp[source] = mac
                tcb.accept(seq, window, data[20:head])
                return
        if flags & ACK:
            self.send_tcp(mac, source, local, remote, ack, 0, RST, 0)
        else:
            length = len(payload) + bool(flags & SYN) + bool(flags & FIN)
            self.send_tcp(mac, source, local, remote, 0, seq + length & _M, RST | ACK, 0)


class UdpHandle:
    """A bound UDP port."""

    def __init__(self, stack: Stack, port: int, handler) -> None:
        self._stack = stack
        self.port = port
        self.handler = handler

    def close(self) -> None:
        """Stop receiving."""
        self._stack.udp_unbind(self)


def _mss(options: bytes) -> int:
    i = 0
    while i < len(options):
        kind = options[i]
        if kind == 0:
            break
        if kind == 1:
            i += 1
            continue
        if i + 1 >= len(options) or options[i + 1] < 2:
            break
        if kind == 2 and options[i + 1] == 4 and i + 4 <= len(options):
            return options[i + 2] << 8 | options[i + 3]
        i += options[i + 1]
    return 536


class Tcb:
    """One connection (RFC 9293, 3.3.1). `state` has the standard's names."""

    def __init__(self, stack: Stack, user: TcpUser, local_port: int, remote_ip: bytes, remote_port: int) -> None:
        self.stack = stack
        self.user = user
        self.local_port = local_port
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.key = (local_port, remote_ip, remote_port)
        self.remote_mac = bytes(6)
        self.state = "CLOSED"
        self.mss = MSS
        self.no_delay_ack = True
        self._una = self._nxt = stack.random.randrange(1 << 32)
        self._wnd = 0
        self._rcv = 0
        self._advertised = 0
        self._queue: deque[bytes] = deque()  # not yet sent
        self._queued = 0
        self._flight: deque[tuple[int, int, bytes]] = deque()  # seq, flags, payload: sent, not acknowledged
        self._fin_wanted = self._fin_sent = self._got_fin = False
        self._timer: Alarm | None = None
        self._retries = 0
        self._ack_alarm: Alarm | None = None
        self._persist: Alarm | None = None
        self._done = False
        self._busy = False  # inside a callback: acknowledge afterwards

    # For the user

    def send(self, data: bytes) -> None:
        """Queue bytes; they go as window and MSS allow."""
        if data:
            self._queue.append(bytes(data))
            self._queued += len(data)
            self._push()

    def shutdown(self) -> None:
        """FIN behind what is queued."""
        self._fin_wanted = True
        self._push()

    def abort(self) -> None:
        """RST, and forget."""
        if self.state not in ("CLOSED", "SYN-SENT", "TIME-WAIT"):
            self._emit(self._nxt, RST | ACK)
        self._end("reset")

    def forget(self) -> None:
        """Drop the connection without a segment and without a call to the user."""
        self._done = True
        self._cancel()
        self.state = "CLOSED"
        self.stack.remove(self)

    def window_opened(self) -> None:
        """room() has grown: tell the peer if it matters."""
        if self.state in ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"):
            room = min(self.user.room(), 0xFFFF)
            if room - self._advertised >= min(self.mss, 1024) or not self._advertised < self.mss <= room:
                if room != self._advertised:
                    self._ack()

    @property
    def unsent(self) -> int:
        """Bytes queued and not sent."""
        return self._queued

    def keepalive(self, seconds: int) -> None:
        """Probe after so long without traffic."""

    def send_keepalive(self) -> None:
        """Probe now."""
        self._emit(self._nxt - 1 & _M, ACK)

    # Opening

    def resolved(self, mac: bytes | None) -> None:
        if self._done:
            return
        if mac is None:
            self._end("unreachable")
            return
        self.remote_mac = mac
        self.state = "SYN-SENT"
        self._transmit(SYN, b"")

    def accept(self, seq: int, window: int, options: bytes) -> None:
        """A SYN from a peer."""
        self.state = "SYN-RECEIVED"
        self._rcv = seq + 1 & _M
        self._wnd = window
        self.mss = min(MSS, _mss(options))
        self.user.attached(self)
        self._transmit(SYN | ACK, b"")

    # Sending

    def _emit(self, seq: int, flags: int, payload: bytes = b"") -> None:
        room = 0 if self.state in ("CLOSED",) else min(self.user.room(), 0xFFFF)
        self._advertised = room
        if flags & ACK and self._ack_alarm is not None:
            self._ack_alarm.cancel()
            self._ack_alarm = None
        options = b"\x02\x04" + MSS.to_bytes(2, "big") if flags & SYN else b""
        ack = self._rcv if flags & ACK else 0
        self.stack.send_tcp(
            self.remote_mac, self.remote_ip, self.local_port, self.remote_port, seq, ack, flags, room, payload, options
        )

    def _transmit(self, flags: int, payload: bytes) -> None:
        self._flight.append((self._nxt, flags, payload))
        self._emit(self._nxt, flags, payload)
        self._nxt = self._nxt + len(payload) + bool(flags & (SYN | FIN)) & _M
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        ticks = self.stack.rtr << self._retries
        while ticks > 0xFFFF:
            ticks >>= 1
        self._timer = self.stack.clock.call_later(ticks * 100 * NS_PER_US, self._retransmit)

    def _retransmit(self) -> None:
        self._timer = None
        if not self._flight:
            return
        if self._retries >= self.stack.rcr:
            self._end("timeout")
            return
        self._retries += 1
        seq, flags, payload = self._flight[0]
        self._emit(seq, flags, payload)
        self._arm()

    def _push(self) -> None:
        if self._done or self.state not in ("ESTABLISHED", "CLOSE-WAIT", "FIN-WAIT-1", "CLOSING", "LAST-ACK"):
            return
        while self._queued and not self._fin_sent:
            room = self._wnd - (self._nxt - self._una & _M)
            n = min(room, self.mss, self._queued)
            if n <= 0:
                if not self._flight and self._persist is None:
                    self._persist = self.stack.clock.call_later(PERSIST_NS, self._probe)
                break
            self._transmit(ACK | PSH, self._take(n))
            self.user.sent(n)
            if self._done:
                return
        if self._fin_wanted and not self._fin_sent and not self._queued:
            self._fin_sent = True
            self.state = "LAST-ACK" if self.state == "CLOSE-WAIT" else "FIN-WAIT-1"
            self._transmit(FIN | ACK, b"")

    def _take(self, n: int) -> bytes:
        parts = []
        self._queued -= n
        while n:
            head = self._queue.popleft()
            if len(head) > n:
                self._queue.appendleft(head[n:])
                head = head[:n]
            parts.append(head)
            n -= len(head)
        return b"".join(parts)

    def _probe(self) -> None:
        self._persist = None
        if self._queued and not self._flight and not self._done:
            self._transmit(ACK | PSH, self._take(1))
            self.user.sent(1)

    def _ack(self) -> None:
        self._emit(self._nxt, ACK)

    def _ack_later(self) -> None:
        if self._ack_alarm is None:
            self._ack_alarm = self.stack.clock.call_later(0 if self.no_delay_ack else DELAYED_ACK_NS, self._ack_due)

    def _ack_due(self) -> None:
        self._ack_alarm = None
        if not self._done:
            self._ack()

    # Receiving (RFC 9293, 3.10.7)

    def segment(self, seq: int, ack: int, flags: int, window: int, payload: bytes, options: bytes) -> None:
        if self.state == "SYN-SENT":
            self._in_syn_sent(seq, ack, flags, window, options)
            return
        if self.state == "CLOSED":
            return
        n = len(payload)
        behind = self._rcv - seq & _M
        if flags & RST:
            if (seq - self._rcv & _M) <= max(self._advertised, 1):
                self._end("reset")
            return
        if flags & SYN:
            self._ack()
            return
        if behind and behind < 0x80000000:  # old data in front
            if behind >= n + bool(flags & FIN):
                self._ack()
                if flags & ACK:
                    self._acked(ack, window)
                return
            payload = payload[behind:]
            seq = self._rcv
        elif behind:
            self._ack()  # a gap: ask again
            return
        if not flags & ACK or not self._acked(ack, window) or self._done:
            return
        if payload and self.state in ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"):
            room = self.user.room()
            whole = len(payload) <= room
            if not whole:
                payload = payload[:room]
                flags &= ~FIN
            if payload:
                self._rcv = self._rcv + len(payload) & _M
                self._ack_later()
                self.user.received(payload)
                if self._done:
                    return
            if not whole:
                self._ack()
        if flags & FIN and not self._got_fin:
            self._got_fin = True
            self._rcv = self._rcv + 1 & _M
            self._ack()
            if self.state == "ESTABLISHED":
                self.state = "CLOSE-WAIT"
            elif self.state == "FIN-WAIT-1":
                self.state = "CLOSING"
            elif self.state == "FIN-WAIT-2":
                self._time_wait()
            if not self._done:
                self.user.fin()
        self._push()

    def _in_syn_sent(self, seq: int, ack: int, flags: int, window: int, options: bytes) -> None:
        good = flags & ACK and ack == self._nxt
        if flags & ACK and not good:
            if not flags & RST:
                self._emit(ack, RST)
            return
        if flags & RST:
            if good:
                self._end("reset")
            return
        if flags & SYN:
            self._rcv = seq + 1 & _M
            self._wnd = window
            self.mss = min(MSS, _mss(options))
            if good:
                self._acknowledge(ack)
                self.state = "ESTABLISHED"
                self._ack()
                self.user.established()
                self._push()
            else:
                self.state = "SYN-RECEIVED"
                self._flight[0] = (self._una, SYN | ACK, b"")
                self._emit(self._una, SYN | ACK)

    def _acknowledge(self, ack: int) -> int:
        """Take acknowledged segments out of flight; returns how many bytes of data they were."""
        n = 0
        while self._flight:
            seq, flags, payload = self._flight[0]
            end = seq + len(payload) + bool(flags & (SYN | FIN)) & _M
            if (ack - end & _M) < 0x80000000:
                self._flight.popleft()
                n += len(payload)
            elif payload and 0 < (ack - seq & _M) < len(payload):
                part = ack - seq & _M
                self._flight[0] = (ack, flags, payload[part:])
                n += part
                break
            else:
                break
        self._una = ack
        self._retries = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flight:
            self._arm()
        return n

    def _acked(self, ack: int, window: int) -> bool:
        new = ack - self._una & _M
        if new > (self._nxt - self._una & _M):
            if new < 0x80000000:
                self._ack()
                return False
            return True  # an old acknowledgement
        self._wnd = window
        if window and self._persist is not None:
            self._persist.cancel()
            self._persist = None
        if new:
            n = self._acknowledge(ack)
            if self.state == "SYN-RECEIVED":
                self.state = "ESTABLISHED"
                self.user.established()
            if n:
                self.user.acked(n)
            if self._done:
                return False
            if self._fin_sent and not self._flight:
                if self.state == "FIN-WAIT-1":
                    self.state = "FIN-WAIT-2"
                elif self.state == "CLOSING":
                    self._time_wait()
                elif self.state == "LAST-ACK":
                    self._end("done")
                    return False
        elif self.state == "SYN-RECEIVED":
            return False
        return True

    # Ending

    def _time_wait(self) -> None:
        self.state = "TIME-WAIT"
        self._cancel()
        self._timer = self.stack.clock.call_later(TIME_WAIT_NS, lambda: self._end("done"))

    def _cancel(self) -> None:
        for alarm in (self._timer, self._ack_alarm, self._persist):
            if alarm is not None:
                alarm.cancel()
        self._timer = self._ack_alarm = self._persist = None

    def _end(self, reason: str) -> None:
        if self._done:
            return
        self.forget()
        self.user.closed(reason)
