"""The DHCP server: messages from tables of bytes, and whole lives of a lease, in device time."""

import pytest

from hardwire_host.virtual import dhcp
from hardwire_host.virtual import packets as P
from hardwire_host.virtual.clock import NS_PER_S
from hardwire_host.virtual.dhcp import DhcpServer
from tcpip_common import A_IP, A_MAC, B_MAC, MASK, Script

FIRST = bytes((10, 0, 0, 50))
DNS = bytes((9, 9, 9, 9))
ROUTER = bytes((10, 0, 0, 254))
NOBODY = bytes(4)
ALL = bytes((255,) * 4)

# A DISCOVER as RFC 2131 lays it out: head, zeros for sname and file, cookie, options
DISCOVER = (
    bytes.fromhex("01 01 06 00 3903f326 0000 8000 00000000 00000000 00000000 00000000 020000000020")
    + bytes(10 + 64 + 128)
    + bytes.fromhex("63825363 35 01 01 3d 07 01 020000000020 32 04 0a000033 37 03 01 03 06 ff")
)
OPTIONS = {
    53: b"\x01",
    61: bytes.fromhex("01020000000020"),
    50: bytes((10, 0, 0, 51)),
    55: bytes((1, 3, 6)),
}


def test_parse():
    message = dhcp.parse(DISCOVER + bytes(20))
    assert (message.kind, message.xid, message.flags) == (dhcp.DISCOVER, 0x3903F326, 0x8000)
    assert (message.ciaddr, message.mac, message.options) == (NOBODY, bytes.fromhex("020000000020"), OPTIONS)
    assert message.client == OPTIONS[61]


def changed(at, value):
    return DISCOVER[:at] + value + DISCOVER[at + len(value) :]


MALFORMED = {
    "a reply": changed(0, b"\2"),
    "not Ethernet": changed(1, b"\6"),
    "address size": changed(2, b"\x10"),
    "relayed": changed(24, A_IP),
    "no cookie": changed(236, b"\0"),
    "BOOTP": DISCOVER[:240],
    "message type of two bytes": DISCOVER[:240] + bytes.fromhex("35 02 01 01 ff"),
    "message type of none": DISCOVER[:240] + bytes.fromhex("35 00 ff"),
    "option longer than the message": DISCOVER[:240] + bytes.fromhex("35 01 01 32 05 0a000033"),
    "option without a length": DISCOVER[:240] + bytes.fromhex("35 01 01 32"),
    "address of three bytes": DISCOVER[:240] + bytes.fromhex("35 01 01 32 03 0a0000 ff"),
    "server of five bytes": DISCOVER[:240] + bytes.fromhex("35 01 01 36 05 0a00000000 ff"),
    "time of two bytes": DISCOVER[:240] + bytes.fromhex("35 01 01 33 02 0a00 ff"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(what):
    assert dhcp.parse(MALFORMED[what]) is None


def test_every_prefix_is_taken_or_refused():
    for size in range(len(DISCOVER)):
        message = dhcp.parse(DISCOVER[:size])
        assert message is None or message.kind == dhcp.DISCOVER


def test_padding_and_parts_of_an_option():
    message = dhcp.parse(DISCOVER[:240] + bytes.fromhex("00 00 35 01 03 00 3d 01 aa 3d 02 bbcc ff 35 01 01"))
    assert message.kind == dhcp.REQUEST and message.options == {53: b"\3", 61: b"\xaa\xbb\xcc"}


def test_reply():
    options = [(54, A_IP), (51, bytes((0, 0, 14, 16)))]
    data = dhcp.reply(dhcp.parse(DISCOVER), dhcp.OFFER, FIRST, options)
    assert data[:34] == bytes.fromhex(
        "02 01 06 00 3903f326 0000 8000 00000000 0a000032 00000000 00000000 020000000020"
    )
    assert data[34:240] == bytes(202) + bytes.fromhex("63825363")
    assert data[240:266] == bytes.fromhex("35 01 02 36 04 0a000001 33 04 00000e10 3d 07 01020000000020 ff 00")
    assert len(data) == 300 and not any(data[265:])


# A client by hand


class Client:
    """Sends messages to a server at 10.0.0.1, and takes apart what comes back."""

    def __init__(self, *, size=3, mac=B_MAC, bench=None, **options):
        self.bench = bench or Script()
        self.bench.port.receive = self._receive
        if bench is None:
            self.server = DhcpServer(self.bench.a, first=FIRST, size=size, dns=(DNS,), **options)
        self.mac = mac
        self.got = []

    def _receive(self, frame):
        protocol, source, target, start, end = P.parse_ipv4(frame)
        assert (protocol, source) == (P.UDP, A_IP)
        port, to_port, data = P.parse_udp(frame, start, end)
        assert (port, to_port) == (67, 68)
        assert data[0] == 2 and data[28:34] == self.mac
        options = dhcp._parse_options(data[240:])
        self.got.append((dhcp.NAMES[options[53][0]], data[16:20], options, frame[:6], target))

    def send(self, kind, *, ciaddr=NOBODY, broadcast=False, ask=None, server=None, seconds=None, client=None):
        """One message; 1 ms passes. Returns (name, address) of the answer, None without one."""
        body = (
            bytes((1, 1, 6, 0)) + bytes.fromhex("12345678") + bytes(2) + (b"\x80\0" if broadcast else b"\0\0")
        )
        body += ciaddr + bytes(12) + self.mac + bytes(202) + b"\x63\x82\x53\x63" + bytes((53, 1, kind))
        for code, value in ((50, ask), (54, server), (61, client)):
            if value is not None:
                body += bytes((code, len(value))) + value
        if seconds is not None:
            body += bytes((51, 4)) + seconds.to_bytes(4, "big")
        ip, mac = (A_IP, A_MAC) if ciaddr != NOBODY else (ALL, P.MAC_BROADCAST)
        datagram = P.udp(68, 67, ciaddr, ip, body + b"\xff")
        self.got.clear()
        self.bench.port.send(P.ipv4(mac, self.mac, P.UDP, ciaddr, ip, 1, datagram))
        self.bench.run(1)
        assert len(self.got) < 2
        return self.got[0][:2] if self.got else None

    def lease(self, **options):
        """DISCOVER and REQUEST; returns the address."""
        name, ip = self.send(dhcp.DISCOVER, **options)
        assert name == "OFFER"
        assert self.send(dhcp.REQUEST, **options | {"ask": ip, "server": A_IP}) == ("ACK", ip)
        return ip

    def other(self, last):
        """Another client of the same server."""
        return Client(mac=self.mac[:5] + bytes((last,)), bench=self.bench)


def test_life_of_a_lease():
    client = Client(lease_s=7200, router=ROUTER)
    assert client.lease() == FIRST
    options = client.got[0][2]
    assert options == {
        53: bytes((dhcp.ACK,)),
        54: A_IP,
        51: (7200).to_bytes(4, "big"),
        58: (3600).to_bytes(4, "big"),
        59: (6300).to_bytes(4, "big"),
        1: MASK,
        3: ROUTER,
        6: DNS,
    }
    (lease,) = client.server.leases()
    assert (lease.ip, lease.mac) == (FIRST, B_MAC)
    start = lease.expires
    client.bench.run(3_600_000)
    assert client.send(dhcp.REQUEST, ciaddr=FIRST) == ("ACK", FIRST)
    assert client.server.leases()[0].expires - start == pytest.approx(3600 * NS_PER_S, rel=1e-3)
    client.send(dhcp.RELEASE, ciaddr=FIRST, server=A_IP)
    assert client.server.leases() == []
    assert client.server.received == {"DISCOVER": 1, "REQUEST": 2, "RELEASE": 1}
    assert client.server.sent == {"OFFER": 1, "ACK": 2}


WAYS = (
    # ciaddr, broadcast flag -> MAC and address the answer goes to
    (NOBODY, False, B_MAC, FIRST),
    (NOBODY, True, P.MAC_BROADCAST, ALL),
    (FIRST, False, B_MAC, FIRST),
    (FIRST, True, B_MAC, FIRST),
)


@pytest.mark.parametrize(("ciaddr", "broadcast", "mac", "to"), WAYS)
def test_where_answers_go(ciaddr, broadcast, mac, to):
    client = Client()
    if ciaddr != NOBODY:
        client.lease()
        client.send(dhcp.REQUEST, ciaddr=ciaddr, broadcast=broadcast)
    else:
        client.send(dhcp.DISCOVER, broadcast=broadcast)
    assert client.got[0][3:] == (mac, to)


def test_nak_goes_to_all():
    client = Client()
    assert client.send(dhcp.REQUEST, ciaddr=bytes((10, 0, 0, 99))) == ("NAK", NOBODY)
    assert client.got[0][3:] == (P.MAC_BROADCAST, ALL)
    assert set(client.got[0][2]) == {53, 54}


def test_lease_ends():
    client = Client(size=1, lease_s=100)
    client.lease()
    other = client.other(3)
    assert other.send(dhcp.DISCOVER) is None
    client.bench.run(101_000)
    assert other.lease() == FIRST


def test_addresses_are_given_once_and_clients_keep_theirs():
    first = Client(size=3)
    ip = first.lease()
    second = first.other(3)
    assert second.lease(ask=bytes((10, 0, 0, 52))) == bytes((10, 0, 0, 52))
    third = first.other(4)
    assert third.lease(ask=ip) == bytes((10, 0, 0, 51))
    assert third.other(5).send(dhcp.DISCOVER) is None
    again = first.other(first.mac[5])
    assert again.lease() == ip


def test_client_identifier_counts_more_than_the_mac():
    client = Client()
    one = client.lease(client=b"\0one")
    two = client.lease(client=b"\0two")
    assert one != two
    assert client.lease(client=b"\0one") == one
    assert client.got[0][2][61] == b"\0one"


def test_own_address_is_never_given():
    client = Client(size=1)
    client.server._first = int.from_bytes(A_IP, "big")
    assert client.send(dhcp.DISCOVER) is None


def test_another_server_was_chosen():
    client = Client(size=1)
    client.send(dhcp.DISCOVER)
    assert client.send(dhcp.REQUEST, ask=bytes((10, 0, 0, 9)), server=bytes((10, 0, 0, 8))) is None
    assert client.other(3).send(dhcp.DISCOVER) == ("OFFER", FIRST)


def test_offer_is_kept_for_a_while_only():
    client = Client(size=1)
    client.send(dhcp.DISCOVER)
    other = client.other(3)
    assert other.send(dhcp.DISCOVER) is None
    client.bench.run(61_000)
    assert other.send(dhcp.DISCOVER) == ("OFFER", FIRST)


# REQUEST after a restart, without a server's identifier (RFC 2131, 4.3.2)
REBOOTS = (
    (True, FIRST, ("ACK", FIRST)),
    (True, bytes((10, 0, 0, 51)), ("NAK", NOBODY)),
    (False, FIRST, None),  # nothing is known about the client: stay silent
    (False, bytes((192, 168, 1, 5)), ("NAK", NOBODY)),  # on the wrong network
)


@pytest.mark.parametrize(("known", "ask", "answer"), REBOOTS)
def test_restarted_client(known, ask, answer):
    client = Client()
    if known:
        client.lease()
    assert client.send(dhcp.REQUEST, ask=ask) == answer


def test_renewal_after_the_server_has_forgotten():
    client = Client()
    assert client.send(dhcp.REQUEST, ciaddr=FIRST) == ("ACK", FIRST)
    assert client.other(3).send(dhcp.REQUEST, ciaddr=FIRST) == ("NAK", NOBODY)


def test_declined_address_rests():
    client = Client(size=2)
    ip = client.lease()
    client.send(dhcp.DECLINE, ask=ip, server=A_IP)
    assert client.lease() == bytes((10, 0, 0, 51))
    client.send(dhcp.DECLINE, ask=A_IP, server=A_IP)
    client.bench.run(601_000)
    assert client.other(3).lease() == ip


def test_inform():
    client = Client()
    mine = bytes((10, 0, 0, 200))
    assert client.send(dhcp.INFORM, ciaddr=mine) == ("ACK", NOBODY)
    assert set(client.got[0][2]) == {53, 54, 1, 6} and client.got[0][3:] == (B_MAC, mine)


@pytest.mark.parametrize(("asked", "given"), [(None, 3600), (60, 60), (7200, 3600), (0, 3600)])
def test_lease_time(asked, given):
    client = Client()
    client.lease(seconds=asked)
    assert int.from_bytes(client.got[0][2][51], "big") == given


def test_lease_for_ever():
    client = Client(lease_s=dhcp.INFINITE_S)
    client.lease()
    assert 58 not in client.got[0][2]
    client.bench.run(10**9)
    assert len(client.server.leases()) == 1


def test_silence_refusal_and_close():
    client = Client()
    client.server.silent = True
    assert client.send(dhcp.DISCOVER) is None
    client.server.silent, client.server.refuse = False, True
    assert client.send(dhcp.DISCOVER) == ("OFFER", FIRST)
    assert client.send(dhcp.REQUEST, ask=FIRST, server=A_IP) == ("NAK", NOBODY)
    client.server.refuse = False
    assert client.lease() == FIRST
    client.server.close()
    assert client.send(dhcp.DISCOVER) is None


def test_junk_is_dropped():
    client = Client()
    for data in (b"", b"\1", DISCOVER[:240], changed(242, b"\x09")):
        client.bench.port.send(
            P.ipv4(P.MAC_BROADCAST, B_MAC, P.UDP, NOBODY, ALL, 1, P.udp(68, 67, NOBODY, ALL, data))
        )
        client.bench.run(1)
    assert client.got == [] and client.server.received == {}
