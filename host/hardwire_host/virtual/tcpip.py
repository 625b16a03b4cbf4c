"""An IPv4 host on a port of the segment: one engine for the chip model and for the PC's side.

In: frames. Out: frames, and calls of `TcpUser`, UDP handlers, `on_syn`, `on_unreachable`, `on_conflict`.
Checksums are verified; what is malformed, corrupt or a fragment is dropped. Never: an exception on what a
peer sends.

Not here: fragments, routing between ports, ICMP other than echo and port unreachable. A UDP handler gets every
multicast datagram to its port, and chooses: what `igmp` joins is for the routers.
"""

import random
from collections.abc import Callable

from .arp import Arp
from .clock import NS_PER_MS, NS_PER_S, Clock
from .igmp import Igmp
from .packets import (
    ACK,
    ARP,
    ECHO,
    ECHO_REPLY,
    FIN,
    ICMP,
    IGMP,
    IP_ANY,
    IP_BROADCAST,
    IP_FIELDS,
    IPV4,
    MAC_BROADCAST,
    PORT_UNREACHABLE,
    RST,
    SYN,
    TCP,
    UDP,
    UNREACHABLE,
    IpFields,
    ethertype,
    group_mac,
    icmp,
    ipv4,
    parse_icmp,
    parse_ipv4,
    parse_tcp,
    parse_udp,
    parse_unreachable,
    tcp,
    udp,
    unreachable,
)
from .tcp import Tcb, TcpUser

__all__ = ["Stack", "Tcb", "TcpUser", "UdpHandle"]

EPHEMERAL = range(49152, 65536)  # RFC 6335, 6
ACK_DELAY_NS = 40 * NS_PER_MS  # RFC 9293, 3.8.6.3 allows up to 500 ms; 40 is what PCs do
TIME_WAIT_NS = 1 * NS_PER_S  # 2 MSL (RFC 9293, 3.6.1), as no frame lives for 0.5 s on a segment
_M32 = 0xFFFFFFFF

UdpHandler = Callable[[bytes, int, bytes, bytes], None]


class Stack:
    """One host.

    Args:
        clock: device time.
        port: `send(frame)` and a settable `receive`: a segment's port, or what stands before one.
        mac, ip, netmask, gateway: 6 and 4 bytes; 0.0.0.0 is "none yet".
        seed: of initial sequence numbers and ephemeral ports.

    Attributes, changeable at any time:
        mac, ip, netmask, gateway: as above.
        rtr, rcr: retransmission time in 100 us, and how often (W5500 datasheet 4.1); for ARP and TCP.
        ping_reply: whether echo requests are answered.
        ack_delay: ns an acknowledgement may wait for data to ride on, where the Tcb's `no_delay_ack` is off.
        time_wait: ns in TIME-WAIT.
        eager_window: tell the peer of every byte of window that opens, not only of a useful amount.
        on_syn: called with (local port, remote address, remote port); returns the new connection's user, or
            None to refuse it with RST.
        on_unreachable: called with (address, port) that a UDP datagram of ours could not be delivered to.
        on_conflict: another host uses our address.
        raw: sees every frame first; True consumes it.
        arp, igmp: the cache of addresses; membership in groups.
    """

    def __init__(
        self,
        clock: Clock,
        port,
        *,
        mac: bytes,
        ip: bytes,
        netmask: bytes,
        gateway: bytes,
        seed: int = 0,
    ) -> None:
        self.clock = clock
        self.port = port
        self.mac, self.ip, self.netmask, self.gateway = mac, ip, netmask, gateway
        self.rtr, self.rcr = 2000, 8
        self.ping_reply = True
        self.ack_delay = ACK_DELAY_NS
        self.time_wait = TIME_WAIT_NS
        self.eager_window = False
        self.on_syn: Callable[[int, bytes, int], TcpUser | None] = lambda port, ip, remote: None
        self.on_unreachable: Callable[[bytes, int], None] = lambda ip, port: None
        self.on_conflict: Callable[[], None] = lambda: None
        self.raw: Callable[[bytes], bool] | None = None
        self.random = random.Random(seed)
        self.arp = Arp(self)
        self.igmp = Igmp(self)
        self._tcbs: dict[tuple[int, bytes, int], Tcb] = {}
        self._udp: dict[int, UdpHandle] = {}
        self._ident = 0
        self._ephemeral = self.random.randrange(len(EPHEMERAL))
        port.receive = self._receive

    # Frames

    def _receive(self, frame: bytes) -> None:
        if self.raw is not None and self.raw(frame):
            return
        if frame[:6] != self.mac and not frame[0] & 1:
            return
        kind = ethertype(frame)
        if kind == IPV4:
            self._receive_ipv4(frame)
        elif kind == ARP:
            self.arp.received(frame)

    def ident(self) -> int:
        """The next datagram's identification."""
        self._ident = self._ident + 1 & 0xFFFF
        return self._ident

    def _send(
        self, mac: bytes, protocol: int, ip: bytes, payload: bytes, fields: IpFields = IP_FIELDS
    ) -> None:
        self.port.send(ipv4(mac, self.mac, protocol, self.ip, ip, self.ident(), payload, fields))

    # Addresses

    def is_broadcast(self, ip: bytes) -> bool:
        """True for the limited broadcast address and that of the subnet."""
        if ip == IP_BROADCAST:
            return True
        mask = int.from_bytes(self.netmask, "big")
        own = int.from_bytes(self.ip, "big")
        return mask not in (0, _M32) and int.from_bytes(ip, "big") == own & mask | ~mask & _M32

    def resolve(self, ip: bytes, done: Callable[[bytes | None], None]) -> None:
        """Tell `done` the MAC of the next hop to `ip`; None when ARP had no answer (see `Arp.resolve`)."""
        if self.is_broadcast(ip):
            done(MAC_BROADCAST)
        elif _is_multicast(ip):
            done(group_mac(ip))
        else:
            mask = int.from_bytes(self.netmask, "big")
            near = not (int.from_bytes(ip, "big") ^ int.from_bytes(self.ip, "big")) & mask
            self.arp.resolve(ip if near or self.gateway == IP_ANY else self.gateway, done)

    # IPv4 and ICMP

    def _receive_ipv4(self, frame: bytes) -> None:
        fields = parse_ipv4(frame)
        if fields is None:
            return
        protocol, source, target, start, end = fields
        if _is_multicast(source) or source == IP_BROADCAST:
            return
        if target == self.ip and not frame[0] & 1:
            if protocol == TCP:
                self._receive_tcp(frame, source, start, end)
            elif protocol == UDP:
                self._receive_udp(frame, source, target, start, end)
            elif protocol == ICMP:
                self._receive_icmp(frame, source, start, end)
        elif protocol == UDP and (_is_multicast(target) or self.is_broadcast(target) or self.ip == IP_ANY):
            # Without an address, what comes to the MAC is for us: a DHCP server's answer (RFC 2131, 4.1).
            self._receive_udp(frame, source, target, start, end)
        elif protocol == IGMP and _is_multicast(target):
            self.igmp.received(frame, start, end)

    def _receive_icmp(self, frame: bytes, source: bytes, start: int, end: int) -> None:
        fields = parse_icmp(frame, start, end)
        if fields is None:
            return
        kind, code, body = fields
        if kind == ECHO and self.ping_reply:
            self._send(frame[6:12], ICMP, source, icmp(ECHO_REPLY, 0, body))
        elif kind == UNREACHABLE and code == PORT_UNREACHABLE:
            quoted = parse_unreachable(body)
            if quoted is None or quoted[1] != self.ip:
                return
            protocol, _, target, local_port, port, seq = quoted
            if protocol == UDP:
                self.on_unreachable(target, port)
            elif protocol == TCP and (tcb := self._tcbs.get((local_port, target, port))) is not None:
                tcb.unreachable(seq)

    # UDP

    def udp_bind(self, local_port: int, handler: UdpHandler) -> "UdpHandle":
        """Give datagrams to `local_port` to handler(source ip, source port, destination ip, payload).

        Broadcasts and multicasts come too. The last to bind a port has it.
        """
        handle = self._udp[local_port] = UdpHandle(self, local_port, handler)
        return handle

    def udp_unbind(self, handle: "UdpHandle") -> None:
        """What `UdpHandle.close` does."""
        if self._udp.get(handle.port) is handle:
            del self._udp[handle.port]

    def udp_send(
        self,
        local_port: int,
        ip: bytes,
        port: int,
        payload: bytes,
        done: Callable[[bool], None] | None = None,
        mac: bytes | None = None,
        fields: IpFields = IP_FIELDS,
    ) -> None:
        """Send a datagram of at most 1472 bytes of payload; `mac` spares the ARP request.

        done(ok) is called when it is on the wire or ARP had no answer; at once if nothing has to be asked.
        """

        def resolved(to: bytes | None) -> None:
            if to is not None:
                self._send(to, UDP, ip, udp(local_port, port, self.ip, ip, payload), fields)
            if done is not None:
                done(to is not None)

        if mac is not None:
            resolved(mac)
        else:
            self.resolve(ip, resolved)

    def _receive_udp(self, frame: bytes, source: bytes, target: bytes, start: int, end: int) -> None:
        fields = parse_udp(frame, start, end)
        if fields is None:
            return
        port, local_port, payload = fields
        handle = self._udp.get(local_port)
        if handle is not None:
            handle.handler(source, port, target, payload)
        elif target == self.ip and source != IP_ANY:
            self._send(frame[6:12], ICMP, source, unreachable(frame, start))

    # TCP

    def connect(self, user: TcpUser, local_port: int | None, remote_ip: bytes, remote_port: int) -> Tcb:
        """Open a connection from `local_port` (None: an ephemeral one).

        Calls user.attached(tcb) at once. An address that cannot be reached or is no host's, and ports that
        are taken, come later as user.closed("unreachable").
        """
        if local_port is None:
            local_port = self._free_port(remote_ip, remote_port)
        key = local_port, remote_ip, remote_port
        taken = self._tcbs.get(key)
        after = None
        if taken is not None and taken.state == "TIME-WAIT":
            after = taken.finish()
            taken = None
        tcb = Tcb(self, user, local_port, remote_ip, remote_port, after)
        if taken is None:
            self._tcbs[key] = tcb
        user.attached(tcb)
        if taken is not None or self.is_broadcast(remote_ip) or _is_multicast(remote_ip):
            self.clock.call_later(0, lambda: tcb.resolved(None))
        else:
            self.resolve(remote_ip, tcb.resolved)
        return tcb

    def _free_port(self, ip: bytes, port: int) -> int:
        for _ in EPHEMERAL:
            self._ephemeral = (self._ephemeral + 1) % len(EPHEMERAL)
            if (EPHEMERAL[self._ephemeral], ip, port) not in self._tcbs:
                break
        return EPHEMERAL[self._ephemeral]

    def remove(self, tcb: Tcb) -> None:
        """What ends a connection calls: segments to it meet none from now on."""
        if self._tcbs.get(tcb.key) is tcb:
            del self._tcbs[tcb.key]

    def connections(self) -> list[Tcb]:
        """Every connection, in order of creation; those in TIME-WAIT too."""
        return list(self._tcbs.values())

    def _receive_tcp(self, frame: bytes, source: bytes, start: int, end: int) -> None:
        fields = parse_tcp(frame, start, end)
        if fields is None:
            return
        port, local_port, seq, ack, flags, window, payload, options = fields
        tcb = self._tcbs.get((local_port, source, port))
        after = None
        if tcb is not None:
            if not (flags & (SYN | ACK | RST) == SYN and tcb.reusable(seq)):
                tcb.segment(seq, ack, flags, window, payload, options)
                return
            after = tcb.finish()
        if flags & RST:
            return
        if flags & (SYN | ACK) == SYN and (user := self.on_syn(local_port, source, port)) is not None:
            tcb = Tcb(self, user, local_port, source, port, after)
            self._tcbs[tcb.key] = tcb
            tcb.accept(frame[6:12], seq, window, options)
            return
        # RFC 9293, 3.10.7.1
        if flags & ACK:
            answer, number, rst = ack, 0, RST
        else:
            answer, number, rst = (
                0,
                seq + len(payload) + bool(flags & SYN) + bool(flags & FIN) & _M32,
                RST | ACK,
            )
        self.port.send(
            tcp(
                frame[6:12], self.mac, self.ip, source, self.ident(), local_port, port, answer, number, rst, 0
            )
        )


class UdpHandle:
    """A bound UDP port."""

    __slots__ = ("_stack", "handler", "port")

    def __init__(self, stack: Stack, port: int, handler: UdpHandler) -> None:
        self._stack = stack
        self.port = port
        self.handler = handler

    def close(self) -> None:
        """Give the port back; safe at any time."""
        self._stack.udp_unbind(self)


def _is_multicast(ip: bytes) -> bool:
    return ip[0] & 0xF0 == 0xE0
