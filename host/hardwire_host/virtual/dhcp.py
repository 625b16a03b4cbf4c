"""A DHCP server on a host of the segment, so that a board's client can be tested: short leases, NAK, silence.

In: messages to UDP port 67 of a stack. Out: answers after RFC 2131, options after RFC 2132, leases in device time.
Never: an exception on what a client sends, an address given twice, relay agents (their messages are dropped), a probe
of the address before it is offered.
"""

from collections import Counter
from dataclasses import dataclass
from struct import Struct

from .clock import NS_PER_S
from .packets import IP_ANY, IP_BROADCAST
from .tcpip import Stack

SERVER_PORT, CLIENT_PORT = 67, 68
INFINITE_S = 0xFFFFFFFF  # a lease that does not end (RFC 2131, 3.3)
OFFER_S = 60  # an address offered is kept for its client so long
DECLINED_S = 600  # and one that a client found in use is not given to anybody

# Message types (RFC 2132, 9.6)
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
NAMES = ("", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM")

# Options (RFC 2132)
_PAD, _END = 0, 255
_SUBNET_MASK = 1
_ROUTER = 3
_DNS = 6
_REQUESTED_ADDRESS = 50
_LEASE_TIME = 51
_TYPE = 53
_SERVER = 54
_T1, _T2 = 58, 59
_CLIENT = 61

_HEAD = Struct(">BBBBIHH4s4s4s4s16s64x128x4s")  # up to the options (RFC 2131, 2)
_MAGIC = b"\x63\x82\x53\x63"
_BOOTREQUEST, _BOOTREPLY = 1, 2
_ETHERNET = 1
_MAC_SIZE = 6
_BROADCAST_FLAG = 0x8000
_SIZE_MIN = 300  # of a message: BOOTP's, which some clients insist on
_OPTION_MAX = 255  # bytes of an option that is not in parts; a client's name goes back to it in one


@dataclass(frozen=True, slots=True)
class Message:
    """A client's message: the fields that matter, options as bytes."""

    kind: int
    xid: int
    flags: int
    ciaddr: bytes
    mac: bytes
    options: dict[int, bytes]

    @property
    def client(self) -> bytes:
        """What tells clients apart: the client identifier, else the MAC (RFC 2131, 4.2)."""
        return self.options.get(_CLIENT) or bytes((_ETHERNET,)) + self.mac


def parse(data: bytes) -> Message | None:
    """A client's message; None if it is malformed, BOOTP, relayed or not from Ethernet.

    Options are not looked for in `sname` and `file`: no client has so many.
    """
    if len(data) < _HEAD.size:
        return None
    op, hardware, size, _, xid, _, flags, ciaddr, _, _, giaddr, chaddr, magic = _HEAD.unpack_from(data)
    if (op, hardware, size, giaddr, magic) != (_BOOTREQUEST, _ETHERNET, _MAC_SIZE, IP_ANY, _MAGIC):
        return None
    options = _parse_options(data[_HEAD.size :])
    if options is None or len(options.get(_TYPE, b"")) != 1 or len(options.get(_CLIENT, b"")) > _OPTION_MAX:
        return None
    for option in (_REQUESTED_ADDRESS, _SERVER, _LEASE_TIME):
        if len(options.get(option, bytes(4))) != 4:
            return None
    return Message(options[_TYPE][0], xid, flags, ciaddr, chaddr[:_MAC_SIZE], options)


def _parse_options(data: bytes) -> dict[int, bytes] | None:
    options: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        end = at + 2 + data[at + 1] if at + 1 < len(data) else len(data) + 1
        if end > len(data):
            return None
        options[data[at]] = options.get(data[at], b"") + data[at + 2 : end]  # parts of one (RFC 3396)
        at = end
    return options


def reply(message: Message, kind: int, yiaddr: bytes, options: list[tuple[int, bytes]]) -> bytes:
    """A server's answer to `message`; the message type is added to `options`."""
    ciaddr = message.ciaddr if kind == ACK else IP_ANY
    head = _HEAD.pack(
        _BOOTREPLY,
        _ETHERNET,
        _MAC_SIZE,
        0,
        message.xid,
        0,
        message.flags,
        ciaddr,
        yiaddr,
        IP_ANY,
        IP_ANY,
        message.mac,
        _MAGIC,
    )
    if client := message.options.get(_CLIENT):
        options = [*options, (_CLIENT, client)]  # RFC 6842
    body = b"".join(bytes((code, len(value))) + value for code, value in [(_TYPE, bytes((kind,))), *options])
    return (head + body + bytes((_END,))).ljust(_SIZE_MIN, b"\0")


@dataclass(slots=True)
class Lease:
    """An address and whom it is kept for, until `expires` (device time, ns; None: for ever)."""

    ip: bytes
    client: bytes
    mac: bytes
    expires: int | None
    bound: bool = False  # acknowledged, not only offered


class DhcpServer:
    """Gives out `size` addresses from `first` on, in the network of `stack`.

    Args:
        stack: the host it runs on; its address is the server's identifier.
        first: lowest address to give, 4 bytes. size: how many.
        lease_s: seconds of a lease, 1 to INFINITE_S; T1 is half of it, T2 seven eighths.
        router: default gateway to tell, None for the stack's own gateway. dns: servers to tell.

    Attributes, changeable at any time:
        lease_s: as above.
        silent: answer nothing. refuse: answer every REQUEST with NAK.
        received, sent: messages by name.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        first: bytes,
        size: int = 32,
        lease_s: int = 3600,
        router: bytes | None = None,
        dns: tuple[bytes, ...] = (),
    ) -> None:
        self._stack = stack
        self._first = int.from_bytes(first, "big")
        self._size = size
        self.lease_s = lease_s
        self._router = router
        self._dns = dns
        self.silent = False
        self.refuse = False
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._leases: dict[bytes, Lease] = {}  # by client
        self._declined: dict[bytes, int] = {}  # address: until when
        self._handle = stack.udp_bind(SERVER_PORT, self._datagram)

    def close(self) -> None:
        """Give the port back."""
        self._handle.close()

    def leases(self) -> list[Lease]:
        """What is bound now."""
        return [lease for lease in self._leases.values() if lease.bound and self._valid(lease)]

    def status(self) -> dict:
        """How it is, in what JSON can hold. Times in s; `left` is None for a lease that does not end."""
        now = self._stack.clock.now
        leases = [
            {
                "address": ".".join(map(str, lease.ip)),
                "mac": lease.mac.hex(":"),
                "left": None if lease.expires is None else (lease.expires - now) / NS_PER_S,
            }
            for lease in self.leases()
        ]
        return {
            "lease": self.lease_s,
            "nak": self.refuse,
            "silent": self.silent,
            "leases": leases,
            "received": dict(self.received),
            "sent": dict(self.sent),
        }

    # Addresses

    def _valid(self, lease: Lease) -> bool:
        return lease.expires is None or lease.expires > self._stack.clock.now

    def _ours(self, ip: bytes) -> bool:
        return 0 <= int.from_bytes(ip, "big") - self._first < self._size and ip != self._stack.ip

    def _free(self, ip: bytes, client: bytes) -> bool:
        if not self._ours(ip) or self._declined.get(ip, 0) > self._stack.clock.now:
            return False
        return not any(
            lease.ip == ip and lease.client != client and self._valid(lease)
            for lease in self._leases.values()
        )

    def _choose(self, message: Message) -> bytes | None:
        """An address for a client: its own from before, the one it asks for, the next free one (4.3.1)."""
        client = message.client
        wishes = []
        if (lease := self._leases.get(client)) is not None:
            wishes.append(lease.ip)
        if _REQUESTED_ADDRESS in message.options:
            wishes.append(message.options[_REQUESTED_ADDRESS])
        pool = (n.to_bytes(4, "big") for n in range(self._first, self._first + self._size))
        return next((ip for ip in (*wishes, *pool) if self._free(ip, client)), None)

    def _keep(self, message: Message, ip: bytes, seconds: int, *, bound: bool) -> None:
        expires = None if seconds == INFINITE_S else self._stack.clock.now + seconds * NS_PER_S
        for lease in [lease for lease in self._leases.values() if lease.ip == ip]:
            del self._leases[lease.client]  # one that is over, or this client's own
        self._leases[message.client] = Lease(ip, message.client, message.mac, expires, bound)

    # Messages

    def _datagram(self, source_ip: bytes, source_port: int, target_ip: bytes, data: bytes) -> None:
        message = parse(data)
        if message is None or not DISCOVER <= message.kind <= INFORM:
            return
        self.received[NAMES[message.kind]] += 1
        server = message.options.get(_SERVER)
        if self.silent or (server is not None and server != self._stack.ip):
            if message.kind == REQUEST and not self.silent:
                self._drop_offer(message)  # the client has chosen another server
            return
        if message.kind == DISCOVER:
            self._offer(message)
        elif message.kind == REQUEST:
            self._request(message, server)
        elif message.kind == INFORM:
            if message.ciaddr != IP_ANY:  # else there is nowhere to answer to
                self._answer(message, ACK, IP_ANY, 0)
        elif message.kind == DECLINE:
            ip = message.options.get(_REQUESTED_ADDRESS, IP_ANY)
            if self._give_up(message, ip):
                self._declined[ip] = self._stack.clock.now + DECLINED_S * NS_PER_S
        elif message.kind == RELEASE:
            self._give_up(message, message.ciaddr)

    def _give_up(self, message: Message, ip: bytes) -> bool:
        """End the lease of a client that names it; nobody ends another's."""
        lease = self._leases.get(message.client)
        if lease is None or lease.ip != ip:
            return False
        del self._leases[message.client]
        return True

    def _drop_offer(self, message: Message) -> None:
        lease = self._leases.get(message.client)
        if lease is not None and not lease.bound:
            del self._leases[message.client]

    def _offer(self, message: Message) -> None:
        ip = self._choose(message)
        if ip is None:
            return  # the pool is empty
        lease = self._leases.get(message.client)
        if lease is None or lease.ip != ip or not (lease.bound and self._valid(lease)):
            self._keep(message, ip, OFFER_S, bound=False)
        self._answer(message, OFFER, ip, self._lease_time(message))

    def _request(self, message: Message, server: bytes | None) -> None:
        """The three kinds of REQUEST (4.3.2): after an offer, after a restart, to renew."""
        asked = message.options.get(_REQUESTED_ADDRESS)
        ip = message.ciaddr if asked is None else asked
        if ip == IP_ANY:
            return  # of no kind
        lease = self._leases.get(message.client)
        known = lease is not None and self._valid(lease)
        if server is None and asked is not None and not known and self._near(ip):
            return  # another server may know better than we who has restarted there
        good = self._free(ip, message.client) and (not known or lease.ip == ip)
        if server is not None:
            good = good and known  # what was offered
        if self.refuse or not good:
            self._answer(message, NAK, IP_ANY, 0)
            return
        seconds = self._lease_time(message)
        self._keep(message, ip, seconds, bound=True)
        self._answer(message, ACK, ip, seconds)

    def _near(self, ip: bytes) -> bool:
        mask = int.from_bytes(self._stack.netmask, "big")
        return not (int.from_bytes(ip, "big") ^ int.from_bytes(self._stack.ip, "big")) & mask

    def _lease_time(self, message: Message) -> int:
        asked = int.from_bytes(message.options.get(_LEASE_TIME, b""), "big")
        return min(self.lease_s, asked) if asked else self.lease_s

    def _answer(self, message: Message, kind: int, ip: bytes, seconds: int) -> None:
        stack = self._stack
        options = [(_SERVER, stack.ip)]
        if kind != NAK:
            if seconds:
                options.append((_LEASE_TIME, seconds.to_bytes(4, "big")))
                if seconds != INFINITE_S:
                    options.append((_T1, max(1, seconds // 2).to_bytes(4, "big")))
                    options.append((_T2, max(1, seconds * 7 // 8).to_bytes(4, "big")))
            options.append((_SUBNET_MASK, stack.netmask))
            router = stack.gateway if self._router is None else self._router
            if router != IP_ANY:
                options.append((_ROUTER, router))
            if self._dns:
                options.append((_DNS, b"".join(self._dns)))
        self.sent[NAMES[kind]] += 1
        data = reply(message, kind, ip, options)
        # Where to (4.1): to the address a client has, else to all if it asks for that, else to its MAC.
        if message.ciaddr != IP_ANY and kind != NAK:
            stack.udp_send(SERVER_PORT, message.ciaddr, CLIENT_PORT, data, mac=message.mac)
        elif message.flags & _BROADCAST_FLAG or kind == NAK:
            stack.udp_send(SERVER_PORT, IP_BROADCAST, CLIENT_PORT, data)
        else:
            stack.udp_send(SERVER_PORT, ip, CLIENT_PORT, data, mac=message.mac)
