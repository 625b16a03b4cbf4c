"""Wire formats of Ethernet, ARP, IPv4, ICMP, IGMP, UDP and TCP: pure functions, bytes in, bytes out.

In: fields, or a frame as received: without FCS, perhaps padded, at least an Ethernet header long. Out: a frame,
or a tuple of fields; None for whatever is malformed or has a wrong checksum. Addresses are bytes: 6 of a MAC,
4 of IPv4. Never: state, an exception on received bytes.
"""

from struct import Struct

MAC_BROADCAST = b"\xff" * 6
IP_BROADCAST = b"\xff" * 4
IP_ANY = bytes(4)

# EtherTypes
IPV4 = 0x0800
ARP = 0x0806
# IPv4 protocol numbers
ICMP = 1
IGMP = 2
TCP = 6
UDP = 17

# Ethernet II, then an IPv4 header without options (RFC 791, 3.1)
ETHERNET = 14  # header bytes
_VERSION = 14  # and header length in words
_TOTAL = 16
_FRAGMENT = 20
_PROTOCOL = 23
_ADDRESSES = 26  # source, target
_PAYLOAD = 34
_DONT_FRAGMENT = 0x4000
_FRAGMENTED = 0x3FFF  # more fragments, or an offset
_ROUTER_ALERT = bytes((0x94, 4, 0, 0))  # an option (RFC 2113)

# TCP flags (RFC 9293, 3.1)
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

MSS = 1460  # 1500 of Ethernet less two headers
MSS_DEFAULT = 536  # of a peer that sends no MSS option (RFC 9293, 3.7.1)
_OPTION_END, _OPTION_NOP, _OPTION_MSS = 0, 1, 2

# ARP operations (RFC 826)
REQUEST, REPLY = 1, 2
_ARP_IPV4 = bytes.fromhex("0001 0800 06 04")  # Ethernet, IPv4, lengths of their addresses
_ARP_END = 42

# ICMP (RFC 792)
ECHO_REPLY, UNREACHABLE, ECHO = 0, 3, 8
PORT_UNREACHABLE = 3
_QUOTED = 8  # bytes of the offending datagram's payload in an ICMP error, at least

_IP_HEAD = Struct(">6s6sHBBHHHBBH4s4s")
_FRAME_TCP = Struct(">6s6sHBBHHHBBH4s4sHHIIBBHHH")
_TCP_FIELDS = Struct(">HHIIBBH")
_UDP_HEAD = Struct(">HHHH")


class IpFields:
    """What a sender may choose of an IPv4 header: TOS, flags and fragment offset in one, TTL."""

    __slots__ = ("fragment", "sum", "tos", "ttl")

    def __init__(self, tos: int = 0, fragment: int = _DONT_FRAGMENT, ttl: int = 128) -> None:
        self.tos, self.fragment, self.ttl = tos, fragment, ttl
        self.sum = (0x4500 | tos) + fragment + (ttl << 8)  # what they and the version add to the checksum


IP_FIELDS = IpFields()


def checksum(data: bytes, more: int = 0) -> int:
    """Internet checksum (RFC 1071) of `data` and of the 16-bit words whose sum is `more`."""
    total = int.from_bytes(data, "big")  # 2**16 is 1 modulo 0xFFFF: a number is its words' end-around sum
    if len(data) & 1:
        total <<= 8
    total += more
    return -total % 0xFFFF if total else 0xFFFF


def _intact(data: bytes, more: int = 0) -> bool:
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    return not (total + more) % 0xFFFF


def _words(data: bytes) -> int:
    return int.from_bytes(data, "big")


# Ethernet


def ethernet(to: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """A frame; `kind` is the EtherType."""
    return to + source + kind.to_bytes(2, "big") + payload


def ethertype(frame: bytes) -> int:
    """The EtherType (below 0x600 it is an 802.3 length)."""
    return frame[12] << 8 | frame[13]


# ARP (RFC 826)


def arp(operation: int, mac: bytes, ip: bytes, target_mac: bytes, target_ip: bytes) -> bytes:
    """A frame from `mac`: a request is broadcast, with zeros for the target's MAC; a reply goes to it."""
    to, known = (MAC_BROADCAST, bytes(6)) if operation == REQUEST else (target_mac, target_mac)
    return ethernet(to, mac, ARP, _ARP_IPV4 + operation.to_bytes(2, "big") + mac + ip + known + target_ip)


def parse_arp(frame: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """(operation, sender's MAC, sender's address, target's address)."""
    if len(frame) < _ARP_END or frame[14:20] != _ARP_IPV4:
        return None
    operation = frame[20] << 8 | frame[21]
    if operation not in (REQUEST, REPLY) or frame[22] & 1:
        return None
    return operation, frame[22:28], frame[28:32], frame[38:42]


# IPv4


def ipv4(
    to: bytes,
    mac: bytes,
    protocol: int,
    source: bytes,
    target: bytes,
    ident: int,
    payload: bytes,
    fields: IpFields = IP_FIELDS,
    options: bytes = b"",
) -> bytes:
    """A frame with one datagram; `options` are whole words."""
    words = len(options) // 4
    size = 20 + len(options) + len(payload)
    total = checksum(source + target + options, fields.sum + (words << 8) + size + ident + protocol)
    head = _IP_HEAD.pack(
        to,
        mac,
        IPV4,
        0x45 + words,
        fields.tos,
        size,
        ident,
        fields.fragment,
        fields.ttl,
        protocol,
        total,
        source,
        target,
    )
    return head + options + payload


def parse_ipv4(frame: bytes) -> tuple[int, bytes, bytes, int, int] | None:
    """(protocol, source, target, payload's start in the frame, its end). Fragments count as malformed."""
    if len(frame) < _PAYLOAD:
        return None
    version = frame[_VERSION]
    end = ETHERNET + (frame[_TOTAL] << 8 | frame[_TOTAL + 1])
    if version == 0x45:
        start = _PAYLOAD
    else:
        start = ETHERNET + (version & 0x0F) * 4
        if version >> 4 != 4 or start < _PAYLOAD:
            return None
    if not start <= end <= len(frame) or not _intact(frame[ETHERNET:start]):
        return None
    if (frame[_FRAGMENT] << 8 | frame[_FRAGMENT + 1]) & _FRAGMENTED:
        return None
    return frame[_PROTOCOL], frame[_ADDRESSES : _ADDRESSES + 4], frame[_ADDRESSES + 4 : _PAYLOAD], start, end


def _payload_intact(frame: bytes, protocol: int, start: int, end: int) -> bool:
    """The checksum of TCP and UDP: over the addresses, which end a plain IPv4 header, and the payload."""
    data = frame[_ADDRESSES:end] if start == _PAYLOAD else frame[_ADDRESSES:_PAYLOAD] + frame[start:end]
    return _intact(data, protocol + end - start)


# ICMP (RFC 792)


def icmp(kind: int, code: int, body: bytes) -> bytes:
    """A message; `body` begins with the four bytes that depend on the type."""
    total = checksum(body, kind << 8 | code)
    return bytes((kind, code, total >> 8, total & 0xFF)) + body


def parse_icmp(frame: bytes, start: int, end: int) -> tuple[int, int, bytes] | None:
    """(type, code, what follows the checksum)."""
    if end - start < 8 or not _intact(frame[start:end]):
        return None
    return frame[start], frame[start + 1], frame[start + 4 : end]


def unreachable(frame: bytes, start: int) -> bytes:
    """Port unreachable, in answer to the datagram of `frame` whose payload is at `start`."""
    return icmp(UNREACHABLE, PORT_UNREACHABLE, bytes(4) + frame[ETHERNET : start + _QUOTED])


def parse_unreachable(body: bytes) -> tuple[int, bytes, bytes, int, int, int] | None:
    """The datagram an ICMP error quotes: (protocol, source, target, source port, target port, TCP's seq)."""
    start = 4 + (body[4] & 0x0F) * 4 if len(body) > 4 else 0
    if start < 24 or body[4] >> 4 != 4 or len(body) < start + _QUOTED:
        return None
    ports, number = _words(body[start : start + 4]), _words(body[start + 4 : start + 8])
    return body[13], body[16:20], body[20:24], ports >> 16, ports & 0xFFFF, number


# IGMP (RFC 2236)

IGMP_QUERY, IGMP_V1_REPORT, IGMP_V2_REPORT, IGMP_LEAVE = 0x11, 0x12, 0x16, 0x17
_IGMP_FIELDS = IpFields(ttl=1)


def group_mac(group: bytes) -> bytes:
    """The MAC address of a multicast address (RFC 1112, 6.4)."""
    return bytes((0x01, 0x00, 0x5E, group[1] & 0x7F, group[2], group[3]))


def igmp(
    mac: bytes, source: bytes, target: bytes, ident: int, kind: int, group: bytes, time: int = 0
) -> bytes:
    """A whole frame with one message; `time` is a query's, in 100 ms. Version 1 has no router alert."""
    total = checksum(group, kind << 8 | time)
    message = bytes((kind, time, total >> 8, total & 0xFF)) + group
    options = b"" if kind == IGMP_V1_REPORT else _ROUTER_ALERT
    return ipv4(group_mac(target), mac, IGMP, source, target, ident, message, _IGMP_FIELDS, options)


def parse_igmp(frame: bytes, start: int, end: int) -> tuple[int, int, bytes] | None:
    """(type, time in 100 ms, group). Longer messages of version 3 are read as those of version 2."""
    if end - start < 8 or not _intact(frame[start:end]):
        return None
    return frame[start], frame[start + 1], frame[start + 4 : start + 8]


# UDP (RFC 768)


def udp(source_port: int, target_port: int, source: bytes, target: bytes, payload: bytes) -> bytes:
    """A UDP header and `payload`; the addresses go into the checksum."""
    size = 8 + len(payload)
    pseudo = _words(source) + _words(target) + UDP + size
    total = checksum(payload, pseudo + source_port + target_port + size) or 0xFFFF  # 0 would mean "none"
    return _UDP_HEAD.pack(source_port, target_port, size, total) + payload


def parse_udp(frame: bytes, start: int, end: int) -> tuple[int, int, bytes] | None:
    """(source port, target port, payload)."""
    if end - start < 8:
        return None
    size = frame[start + 4] << 8 | frame[start + 5]
    if not 8 <= size <= end - start:
        return None
    end = start + size
    if (frame[start + 6] or frame[start + 7]) and not _payload_intact(frame, UDP, start, end):
        return None
    return (
        frame[start] << 8 | frame[start + 1],
        frame[start + 2] << 8 | frame[start + 3],
        frame[start + 8 : end],
    )


# TCP (RFC 9293, 3.1)


def tcp(
    to: bytes,
    mac: bytes,
    source: bytes,
    target: bytes,
    ident: int,
    source_port: int,
    target_port: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    payload: bytes = b"",
    mss: int = 0,
    fields: IpFields = IP_FIELDS,
) -> bytes:
    """A whole frame with one segment; `mss` > 0 adds that option."""
    if mss:
        payload = bytes((_OPTION_MSS, 4, mss >> 8, mss & 0xFF)) + payload
        offset = 6 << 4
    else:
        offset = 5 << 4
    size = 20 + len(payload)
    addresses = _words(source) + _words(target)
    head = -(addresses + fields.sum + 20 + size + ident + TCP) % 0xFFFF
    total = addresses + TCP + size + source_port + target_port + seq + ack + (offset << 8 | flags) + window
    return (
        _FRAME_TCP.pack(
            to,
            mac,
            IPV4,
            0x45,
            fields.tos,
            20 + size,
            ident,
            fields.fragment,
            fields.ttl,
            TCP,
            head,
            source,
            target,
            source_port,
            target_port,
            seq,
            ack,
            offset,
            flags,
            window,
            checksum(payload, total),
            0,
        )
        + payload
    )


def parse_tcp(frame: bytes, start: int, end: int) -> tuple[int, int, int, int, int, int, bytes, bytes] | None:
    """(source port, target port, seq, ack, flags, window, payload, options)."""
    if end - start < 20:
        return None
    source_port, target_port, seq, ack, offset, flags, window = _TCP_FIELDS.unpack_from(frame, start)
    data = start + (offset >> 4) * 4
    if not start + 20 <= data <= end or not _payload_intact(frame, TCP, start, end):
        return None
    return source_port, target_port, seq, ack, flags, window, frame[data:end], frame[start + 20 : data]


def parse_mss(options: bytes) -> int:
    """The MSS option's value; the default where there is none, or it is malformed."""
    at = 0
    while at < len(options) and options[at] != _OPTION_END:
        if options[at] == _OPTION_NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            break
        if options[at] == _OPTION_MSS and size == 4:
            return (options[at + 2] << 8 | options[at + 3]) or MSS_DEFAULT
        at += size
    return MSS_DEFAULT
