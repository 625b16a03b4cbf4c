"""The DHCP client: messages from tables of bytes, and lives of a lease against the segment's server.

Time is simulated. A client by hand shows what is sent when; on a segment the whole of it meets DhcpServer.
"""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.wire import dhcp as D
from hardwire_host.virtual.clock import NS_PER_S, Clock
from hardwire_host.virtual.dhcp import INFINITE_S, DhcpServer
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tcpip import Stack
from tcpip_common import A_IP, A_MAC, B_MAC, MASK

FIRST = bytes((10, 0, 0, 50))
OTHER = bytes((10, 0, 0, 51))
DNS = bytes((9, 9, 9, 9))
NOBODY = bytes(4)
DAY = 86400
YEAR = 365 * DAY
MAGIC = b"\x63\x82\x53\x63"
ONES = b"\1\1\1\1"


def ones(n):
    """A source of randomness that adds nothing: no jitter, and no fuzz for leases up to two hours."""
    return b"\1" * n


# Messages as bytes

# The four messages of `dhcp.pcap` in Wireshark's collection of samples: a client with 00:0b:82:01:fc:42.
SAMPLE_MAC = bytes.fromhex("000b8201fc42")
SAMPLE_OFFER = (
    "35 01 02 01 04 ffffff00 3a 04 00000708 3b 04 00000c4e 33 04 00000e10 36 04 c0a80001 ff" + "00" * 26
)
SAMPLE_ACK = (
    "35 01 05 3a 04 00000708 3b 04 00000c4e 33 04 00000e10 36 04 c0a80001 01 04 ffffff00 ff" + "00" * 26
)


def reply(options, *, xid=ONES, mac=B_MAC, yiaddr=FIRST, sname="", file="", head="02 01 06 00"):
    """A server's message; option fields in hex."""
    fields = bytes.fromhex(head) + xid + bytes(8) + yiaddr + bytes(8) + mac + bytes(10)
    fields += bytes.fromhex(sname).ljust(64, b"\0") + bytes.fromhex(file).ljust(128, b"\0")
    return fields + MAGIC + bytes.fromhex(options)


def message(options, *, secs=0, flags=0x8000, ciaddr=NOBODY, xid=ONES, mac=B_MAC):
    """A client's message, as RFC 2131 figure 1 lays it out."""
    fields = b"\1\1\6\0" + xid + secs.to_bytes(2, "big") + flags.to_bytes(2, "big") + ciaddr + bytes(12)
    fields += mac + bytes(10 + 64 + 128) + MAGIC + bytes.fromhex(options)
    return fields.ljust(300, b"\0")


ID = "3d 07 01 020000000002"
LIST = "37 07 01 03 06 2a 33 3a 3b"
NAME = "0c 05" + b"board".hex()
ACK = "35 01 05 36 04 0a000001 33 04 00000e10 "
OFFER = "35 01 02 36 04 0a000001 33 04 00000e10 "
NAK = "35 01 06 36 04 0a000001 ff"


def client(name="board", mac=B_MAC, start=0, address=None, rand=ones):
    made = D.Client(mac, name, rand)
    made.start(start, address)
    return made


def bound(ack=ACK + "ff", now=0, **options):
    """A client that got FIRST from 10.0.0.1 at `now`."""
    made = client(start=now, **options)
    assert made.poll(now) is not None
    made.received(reply(OFFER), now)
    assert made.poll(now) is not None
    made.received(reply(ack), now)
    assert made.state == D.BOUND
    return made


def test_messages_of_a_life():
    c = client()
    assert c.poll(0) == (D.BROADCAST, message(f"35 01 01 {ID} {LIST} {NAME} ff"))
    assert (c.state, c.waiting) == (D.SELECTING, True)
    assert c.poll(0) is None
    c.received(reply(OFFER), 0)
    request = f"35 01 03 {ID} 32 04 0a000032 36 04 0a000001 {LIST} {NAME} ff"
    assert c.poll(0) == (D.BROADCAST, message(request))
    assert c.state == D.REQUESTING
    c.received(reply(ACK + "01 04 ffffff00 03 04 0a0000fe 06 08 09090909 08080808 2a 04 0a000007 ff"), 0)
    assert (c.state, c.changed, c.waiting) == (D.BOUND, True, False)
    assert (c.address, c.netmask, c.gateway) == (FIRST, MASK, bytes((10, 0, 0, 254)))
    assert (c.dns, c.ntp) == ((DNS, bytes((8, 8, 8, 8))), (bytes((10, 0, 0, 7)),))
    assert (c.server, c.lease_s) == (A_IP, 3600)
    assert c.poll(1799) is None
    extension = f"35 01 03 {ID} {LIST} {NAME} ff"
    assert c.poll(1800) == (A_IP, message(extension, flags=0, ciaddr=FIRST))
    assert (c.state, c.waiting) == (D.RENEWING, True)
    assert c.poll(3150) == (D.BROADCAST, message(extension, flags=0, ciaddr=FIRST, secs=1350))
    assert c.state == D.REBINDING
    to, data = c.release()
    assert (to, data) == (A_IP, message(f"35 01 07 {ID} 36 04 0a000001 ff", flags=0, ciaddr=FIRST))
    assert (c.state, c.address, c.poll(10**6)) == (D.INIT, None, None)


def test_sample_capture():
    c = client(mac=SAMPLE_MAC, name="", rand=lambda n: bytes.fromhex("00003d1d")[4 - n :])
    assert c.poll(0)[1] == message(
        f"35 01 01 3d 07 01 000b8201fc42 {LIST} ff", xid=bytes.fromhex("00003d1d"), mac=SAMPLE_MAC
    )
    fields = {"mac": SAMPLE_MAC, "yiaddr": bytes((192, 168, 0, 10)), "xid": bytes.fromhex("00003d1d")}
    c.received(reply(SAMPLE_OFFER, **fields), 0)
    assert c.state == D.REQUESTING and c.poll(0)[1][240:] == bytes.fromhex(
        f"35 01 03 3d 07 01 000b8201fc42 32 04 c0a8000a 36 04 c0a80001 {LIST} ff" + "00" * 26
    )
    c.received(reply(SAMPLE_ACK, **fields), 0)
    assert (c.state, c.address, c.netmask, c.lease_s) == (D.BOUND, fields["yiaddr"], b"\xff\xff\xff\0", 3600)
    assert (c.gateway, c.dns, c.ntp, c.server) == (NOBODY, (), (), bytes((192, 168, 0, 1)))


def test_decline():
    c = bound()
    c.changed = False
    c.conflict(100)
    assert (c.state, c.address, c.changed) == (D.INIT, None, True)
    decline = f"35 01 04 {ID} 32 04 0a000032 36 04 0a000001 ff"
    assert c.poll(100) == (D.BROADCAST, message(decline, flags=0))
    assert c.poll(109) is None
    _, discover = c.poll(110)  # 3.1 (5): after ten seconds; that address is not asked for again
    assert discover == message(f"35 01 01 {ID} {LIST} {NAME} ff")


def test_conflict_without_a_lease_is_somebody_elses():
    c = client()
    c.conflict(0)
    assert c.poll(0)[1][242] == 1


# (what, options of the ACK, other fields) -> address mask gateway dns, None: dropped
A, B = "09090909", "08080808"
REPLIES = {
    "plain": (ACK + "01 04 ffff0000 ff", {}, (FIRST, b"\xff\xff\0\0", NOBODY, ())),
    "no END": (ACK + "01 04 ffff0000", {}, (FIRST, b"\xff\xff\0\0", NOBODY, ())),
    "padding between": (ACK + "00 00 01 04 ffff0000 00 ff 01", {}, (FIRST, b"\xff\xff\0\0", NOBODY, ())),
    "no mask: that of the class": (ACK + "ff", {}, (FIRST, b"\xff\0\0\0", NOBODY, ())),
    "mask with a hole": (ACK + "01 04 ff00ff00 ff", {}, (FIRST, b"\xff\0\0\0", NOBODY, ())),
    "mask of nothing": (ACK + "01 04 00000000 ff", {}, (FIRST, b"\xff\0\0\0", NOBODY, ())),
    "class B": (ACK + "ff", {"yiaddr": b"\xac\x10\0\5"}, (b"\xac\x10\0\5", b"\xff\xff\0\0", NOBODY, ())),
    "class C": (ACK + "ff", {"yiaddr": b"\xc0\xa8\0\5"}, (b"\xc0\xa8\0\5", b"\xff\xff\xff\0", NOBODY, ())),
    "many servers": (
        ACK + "06 10 01010101 02020202 03030303 04040404 ff",
        {},
        (FIRST, b"\xff\0\0\0", NOBODY, (b"\1" * 4, b"\2" * 4, b"\3" * 4)),
    ),
    "servers that are none": (ACK + "06 08 00000000 09090909 ff", {}, (FIRST, b"\xff\0\0\0", NOBODY, (DNS,))),
    "list of five bytes": (ACK + f"06 05 {A} 01 ff", {}, (FIRST, b"\xff\0\0\0", NOBODY, (DNS,))),
    "overload: file": (
        ACK + "34 01 01 ff",
        {"file": f"06 04 {A} ff", "sname": f"06 04 {B} ff"},
        (FIRST, b"\xff\0\0\0", NOBODY, (DNS,)),
    ),
    "overload: sname": (
        ACK + "34 01 02 ff",
        {"file": f"06 04 {B} ff", "sname": f"06 04 {A} ff"},
        (FIRST, b"\xff\0\0\0", NOBODY, (DNS,)),
    ),
    "overload: both, and an option split over the fields (RFC 3396)": (
        ACK + "06 03 090909 34 01 03 ff",
        {"file": "06 02 0908 ff", "sname": "06 03 080808 03 04 0a0000fe ff"},
        (FIRST, b"\xff\0\0\0", bytes((10, 0, 0, 254)), (DNS, b"\10\10\10\10")),
    ),
    "no overload, other names": (ACK + "ff", {"file": "06 ff"}, (FIRST, b"\xff\0\0\0", NOBODY, ())),
    "overload of an unknown kind": (
        ACK + "34 01 04 ff",
        {"file": f"06 04 {B} ff"},
        (FIRST, b"\xff\0\0\0", NOBODY, ()),
    ),
    "our identifier (RFC 6842)": (ACK + f"{ID} ff", {}, (FIRST, b"\xff\0\0\0", NOBODY, ())),
    "split in the middle (RFC 3396)": (
        ACK + "01 02 ffff 0c 01 41 01 02 0000 ff",
        {},
        (FIRST, b"\xff\xff\0\0", NOBODY, ()),
    ),
    # dropped
    "another identifier (RFC 6842)": (ACK + "3d 07 01 020000000003 ff", {}, None),
    "overload cut short": (ACK + "34 01 01 ff", {"file": "06 ff 09"}, None),
    "option cut short": (ACK + "06 04 090909", {}, None),
    "option without length": (ACK + "06", {}, None),
    "type of two bytes": ("35 02 05 05" + ACK[8:] + "ff", {}, None),
    "no type": (ACK[8:] + "ff", {}, None),
    "no server": ("35 01 05 33 04 00000e10 ff", {}, None),
    "server that is no host": ("35 01 05 36 04 00000000 33 04 00000e10 ff", {}, None),
    "no lease time": ("35 01 05 36 04 0a000001 ff", {}, None),
    "lease of no time": ("35 01 05 36 04 0a000001 33 04 00000000 ff", {}, None),
    "lease time of two bytes": ("35 01 05 36 04 0a000001 33 02 0e10 ff", {}, None),
    "lease time twice": (ACK + "33 04 00000e10 ff", {}, None),
    "no address": (ACK + "ff", {"yiaddr": NOBODY}, None),
    "address of this host": (ACK + "ff", {"yiaddr": bytes((127, 0, 0, 1))}, None),
    "address of a group": (ACK + "ff", {"yiaddr": bytes((224, 0, 0, 1))}, None),
    "broadcast": (ACK + "ff", {"yiaddr": b"\xff" * 4}, None),
    "another transaction": (ACK + "ff", {"xid": b"\1\1\1\2"}, None),
    "another client": (ACK + "ff", {"mac": A_MAC}, None),
    "another server": ("35 01 05 36 04 0a000002 33 04 00000e10 ff", {}, None),
    "a request": (ACK + "ff", {"head": "01 01 06 00"}, None),
    "not Ethernet": (ACK + "ff", {"head": "02 06 06 00"}, None),
    "long addresses": (ACK + "ff", {"head": "02 01 10 00"}, None),
    "BOOTP": ("", {}, None),
    "a late offer": (OFFER + "ff", {}, None),
    "inform": ("35 01 08" + ACK[8:] + "ff", {}, None),
}


@pytest.mark.parametrize("what", REPLIES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_replies(what, kind):
    options, fields, expected = REPLIES[what]
    c = client()
    c.poll(0)
    c.received(reply(OFFER), 0)
    c.poll(0)
    c.received(kind(reply(options, **fields)), 0)
    assert (c.state, c.changed) == ((D.REQUESTING, False) if expected is None else (D.BOUND, True))
    found = c.address, c.netmask, c.gateway, c.dns
    assert found == (expected or (None, None, None, ()))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=700), st.sampled_from(["select", "request", "bound", "renew", "reboot", "off"]))
def test_no_bytes_do_harm(junk, state):
    c = {"off": lambda: D.Client(B_MAC, "board", ones), "reboot": lambda: client(address=FIRST)}.get(
        state, bound if state in ("bound", "renew") else client
    )()
    c.poll(2000 if state == "renew" else 0)
    if state == "request":
        c.received(reply(OFFER), 0)
        c.poll(0)
    good = reply(ACK)
    for data in (
        junk,
        good[: len(junk)],
        good + junk,
        good[:44] + junk.ljust(192)[:192] + good[236:] + b"\x34\1\3",
    ):
        c.received(data, 2000)
        assert c.address is None or (len(c.address), len(c.netmask), len(c.gateway)) == (4, 4, 4)
        assert all(len(address) == 4 for address in c.dns + c.ntp)
    sent = 0
    for now in range(2000, 2600):
        while c.poll(now) is not None:
            sent += 1
            assert sent < 20


# When what is sent


def sends(c, start, end):
    """(second, message type, to) of all that is sent in a time without answers."""
    found = []
    for now in range(start, end):
        while (what := c.poll(now)) is not None:
            found.append((now, what[1][242], what[0]))
    return found


def test_discover_is_repeated():
    times = [now for now, kind, to in sends(client(start=7), 7, 400) if (kind, to) == (1, D.BROADCAST)]
    assert times == [7, 11, 19, 35, 67, 131, 195, 259, 323, 387]


@pytest.mark.parametrize("seed", range(5))
def test_repetitions_are_spread(seed):
    times = [now for now, _, _ in sends(client(rand=random.Random(seed).randbytes), 0, 10_000)]
    gaps = [b - a for a, b in pairwise(times)]
    assert all(abs(gap - wait) <= 1 for gap, wait in zip(gaps, (4, 8, 16, 32, *(64,) * 200), strict=False))
    assert {gap - 64 for gap in gaps[4:]} == {-1, 0, 1}


def test_an_offer_that_is_not_kept():
    c = client()
    c.poll(0)
    c.received(reply(OFFER), 3)
    assert sends(c, 3, 68) == [
        (3, 3, D.BROADCAST),
        (7, 3, D.BROADCAST),
        (15, 3, D.BROADCAST),
        (31, 3, D.BROADCAST),
        (63, 1, D.BROADCAST),
        (67, 1, D.BROADCAST),
    ]


def test_seconds_are_those_of_the_discover():
    c = client()
    for now in (0, 4, 12):
        assert int.from_bytes(c.poll(now)[1][8:10], "big") == now
    c.received(reply(OFFER), 13)
    for now in (13, 17):
        assert int.from_bytes(c.poll(now)[1][8:10], "big") == 12


def test_seconds_have_an_end():
    c = client()
    assert int.from_bytes(c.poll(10**6)[1][8:10], "big") == 0
    assert int.from_bytes(c.poll(2 * 10**6)[1][8:10], "big") == 0xFFFF


def test_extension_is_asked_for_at_half_of_what_is_left():
    c = bound(ack="35 01 05 36 04 0a000001 33 04 00001000 ff")  # 4096 s: T1 2048, T2 3584
    found = sends(c, 0, 4096)
    renewing = [now for now, _, to in found if to == A_IP]
    assert renewing == [2048, 2816, 3200, 3392, 3488, 3548]
    rebinding = [now for now, _, to in found if to == D.BROADCAST]
    assert rebinding == [3584, 3840, 3968, 4032, 4092]
    assert c.state == D.REBINDING
    c.changed = False
    assert c.poll(4096)[1][242] == 1 and (c.state, c.address, c.changed) == (D.SELECTING, None, True)


@pytest.mark.parametrize(
    ("lease", "t1", "t2", "renew", "rebind"),
    [
        (3600, None, None, 1800, 3150),
        (3600, 600, 3000, 600, 3000),
        (3600, 600, None, 600, 3150),
        (3600, None, 1000, 1000, 1000),
        (3600, 3000, 600, 3000, 3150),  # the wrong way round
        (3600, 3600, 7200, 1800, 3150),  # after the end
        (3600, INFINITE_S, INFINITE_S, 1800, 3150),
        (3600, 0, 0, 1, 1),
        (120, None, None, 60, 105),
        (2, None, None, 1, 1),
    ],
)
def test_times(lease, t1, t2, renew, rebind):
    options = f"33 04 {lease:08x}" + "".join(
        f"{code:02x} 04 {value:08x}" for code, value in ((58, t1), (59, t2)) if value is not None
    )
    c = bound(ack=f"35 01 05 36 04 0a000001 {options} ff", now=50)
    found = sends(c, 50, 50 + lease)
    unicast = [now for now, _, to in found if to == A_IP]
    if renew < rebind:
        assert unicast[0] == 50 + renew
    else:
        assert unicast == []
    assert next(now for now, _, to in found if to == D.BROADCAST) == 50 + rebind
    assert c.poll(50 + lease)[1][242] == 1


@pytest.mark.parametrize("lease", [1, 2**28 // 1000, 2**31 - 1, 2**31, 2**32 - 2])
def test_lease_of_any_length(lease):
    c = bound(ack=f"35 01 05 36 04 0a000001 33 04 {lease:08x} ff", now=2**30 - 5)
    assert c.lease_s == lease
    now = 2**30 - 5
    if lease > 2:
        assert c.poll(now + lease * 7 // 16) is None
        assert c.poll(now + lease // 2)[0] == A_IP
    assert c.poll(now + lease - (lease > 1)) is not None or lease == 2
    c.poll(now + lease)
    assert c.address is None and c.state == D.SELECTING


def test_lease_for_ever():
    c = bound(ack="35 01 05 36 04 0a000001 33 04 ffffffff 3a 04 00000001 ff")
    assert c.lease_s == D.INFINITE_S
    assert all(c.poll(now) is None for now in (1, YEAR, 2**32, 2**40))


def test_boards_that_started_together_do_not_renew_together():
    times = set()
    for seed in range(50):
        c = client(rand=random.Random(seed).randbytes)
        c.poll(0)
        c.received(reply(OFFER, xid=c._xid), 0)
        c.poll(0)
        c.received(reply(ACK, xid=c._xid), 0)
        times.add(next(now for now in range(3600) if c.poll(now) is not None))
    assert len(times) > 25 and min(times) >= 1800 * 15 // 16 and max(times) <= 1800


def test_lease_counts_from_the_first_request():
    c = client()
    c.poll(0)
    c.received(reply(OFFER), 0)
    for now in (0, 4, 12):
        assert c.poll(now) is not None
    c.received(reply(ACK), 14)
    assert c.poll(1799) is None and c.poll(1800) is not None


def test_the_port_is_needed_for_a_while_only():
    c = client()
    waiting = []
    for now in range(131):
        c.poll(now)
        if c.waiting:
            waiting.append(now)
    assert waiting == [*range(8), *range(12, 16), *range(28, 32), *range(60, 64), *range(124, 128)]


# NAK, restart, cable


def test_nak_while_asking():
    c = client()
    c.poll(0)
    c.received(reply(OFFER), 0)
    c.poll(0)
    c.received(reply(NAK, yiaddr=NOBODY), 0)
    assert (c.state, c.changed) == (D.INIT, False)
    assert c.poll(0)[1] == message(f"35 01 01 {ID} {LIST} {NAME} ff")


def test_nak_while_renewing_ends_the_lease_at_once():
    c = bound()
    c.changed = False
    c.poll(1800)
    c.received(reply(NAK, yiaddr=NOBODY), 1801)
    assert (c.state, c.address, c.changed, c.dns) == (D.INIT, None, True, ())
    assert c.poll(1801)[1][242] == 1


def test_nak_that_nobody_asked_for():
    c = bound()
    c.received(reply(NAK, yiaddr=NOBODY), 5)
    assert (c.state, c.address) == (D.BOUND, FIRST)
    c = client()
    c.poll(0)
    c.received(reply(OFFER), 0)
    c.poll(0)
    c.received(reply("35 01 06 36 04 0a000002 ff", yiaddr=NOBODY), 0)
    assert c.state == D.REQUESTING


def test_a_server_that_refuses_everything_is_asked_less_and_less():
    c = client()
    times = []
    for now in range(400):
        while (what := c.poll(now)) is not None:
            kind = what[1][242]
            if kind == 1:
                times.append(now)
            c.received(reply(OFFER if kind == 1 else NAK), now)
    assert times == [0, 0, 4, 12, 28, 60, 124, 188, 252, 316, 380]


def test_restart_with_an_address():
    c = client(address=FIRST)
    assert (c.state, c.address) == (D.INIT_REBOOT, None)
    assert c.poll(0) == (D.BROADCAST, message(f"35 01 03 {ID} 32 04 0a000032 {LIST} {NAME} ff"))
    assert c.state == D.REBOOTING
    c.received(reply(ACK), 0)
    assert (c.state, c.address, c.changed) == (D.BOUND, FIRST, True)


def test_restart_where_nobody_knows_us():
    assert [(now, kind) for now, kind, _ in sends(client(address=FIRST), 0, 17)] == [
        (0, 3),
        (4, 3),
        (12, 1),
        (16, 1),
    ]


def test_restart_in_another_network():
    c = client(address=FIRST)
    c.poll(0)
    c.received(reply(NAK, yiaddr=NOBODY), 0)
    assert c.poll(0)[1] == message(f"35 01 01 {ID} {LIST} {NAME} ff")  # does not ask for that address again


def test_address_of_a_lease_that_ended_is_asked_for():
    c = bound()
    _, data = c.poll(3600)
    assert data == message(f"35 01 01 {ID} 32 04 0a000032 {LIST} {NAME} ff")


def test_cable_back_and_lease_confirmed():
    c = bound()
    c.changed = False
    c.link_up(100)
    assert c.poll(100) == (D.BROADCAST, message(f"35 01 03 {ID} 32 04 0a000032 {LIST} {NAME} ff"))
    assert c.address == FIRST  # in use meanwhile
    c.received(reply(ACK), 100)
    assert (c.state, c.changed) == (D.BOUND, False)
    assert c.poll(1899) is None and c.poll(1900)[0] == A_IP


def test_cable_back_and_no_server():
    c = bound()
    c.changed = False
    c.link_up(100)
    assert [now for now, _, _ in sends(c, 100, 1800)] == [100, 104]
    assert (c.state, c.address, c.changed) == (D.BOUND, FIRST, False)
    assert c.poll(1800)[0] == A_IP


def test_cable_back_just_before_the_end():
    c = bound()
    c.changed = False
    assert c.poll(3590) is not None
    c.link_up(3599)
    assert c.poll(3599)[1][242] == 3
    assert c.poll(3600)[1][242] == 1 and (c.address, c.changed) == (None, True)


def test_cable_back_in_another_network():
    c = bound()
    c.changed = False
    c.link_up(100)
    c.poll(100)
    c.received(reply(NAK, yiaddr=NOBODY), 100)
    assert (c.address, c.changed) == (None, True) and c.poll(100)[1][242] == 1


def test_cable_back_without_a_lease_asks_at_once():
    c = client()
    sends(c, 0, 140)
    assert c.poll(140) is None
    c.link_up(140)
    assert c.poll(140)[1][242] == 1


def test_first_cable_after_a_restart():
    c = client(address=FIRST)
    c.link_up(3)
    assert c.poll(3)[1] == message(f"35 01 03 {ID} 32 04 0a000032 {LIST} {NAME} ff")


def test_same_configuration_is_no_change():
    c = bound()
    c.changed = False
    c.poll(1800)
    c.received(reply(ACK), 1800)
    assert (c.state, c.changed) == (D.BOUND, False)
    c.poll(3600)
    c.received(reply(ACK + "06 04 09090909 ff"), 3600)
    assert (c.state, c.changed, c.dns) == (D.BOUND, True, (DNS,))


def test_off_until_started():
    c = D.Client(B_MAC, "board", ones)
    c.received(reply(ACK), 0)
    assert (c.state, c.poll(0), c.release(), c.changed) == (D.INIT, None, None, False)


# Against a server on a segment


class Plant:
    """A server at 10.0.0.1 and a board with a client; the board's stack takes what the client got."""

    def __init__(self, seed=1, **options):
        self.clock = Clock()
        self.segment = Segment(self.clock)
        network = {"netmask": MASK, "gateway": NOBODY}
        self.a = Stack(self.clock, self.segment.attach("server"), mac=A_MAC, ip=A_IP, **network)
        self.server = DhcpServer(self.a, first=FIRST, size=4, dns=(DNS,), **options)
        self.board = Stack(self.clock, self.segment.attach("board"), mac=B_MAC, ip=NOBODY, **network)
        self.board.udp_bind(D.CLIENT_PORT, self._datagram)
        self.client = D.Client(B_MAC, "board", random.Random(seed).randbytes)
        self.changes = []
        self.states = set()
        self.until = 0  # when the lease ends, by the last ACK

    @property
    def now(self):
        return self.clock.now // NS_PER_S

    def _datagram(self, ip, port, to, data):
        assert (ip, port) == (A_IP, D.SERVER_PORT)
        self.client.received(data, self.now)
        if data[242] == 5:
            lease = self.client.lease_s
            self.until = float("inf") if lease == INFINITE_S else self.now + lease
        self._poll()

    def _poll(self):
        c = self.client
        while (what := c.poll(self.now)) is not None:
            self.board.udp_send(D.CLIENT_PORT, what[0], D.SERVER_PORT, bytes(what[1]))
        self.states.add(c.state)
        if c.changed:
            c.changed = False
            self.changes.append((self.now, c.address))
            self.board.ip, self.board.netmask = c.address or NOBODY, c.netmask or MASK
        if c.address is not None:
            assert self.board.ip == c.address and self.now < self.until

    def run(self, seconds, step=1):
        end = self.clock.now + seconds * NS_PER_S
        while self.clock.now < end:
            self._poll()
            self.clock.advance(step * NS_PER_S)
        self._poll()


def test_lease_is_there_at_once():
    plant = Plant(router=bytes((10, 0, 0, 254)))
    plant.client.start(0)
    plant._poll()
    plant.clock.advance(NS_PER_S // 100)
    c = plant.client
    assert (c.state, c.address, c.netmask, c.gateway) == (D.BOUND, FIRST, MASK, bytes((10, 0, 0, 254)))
    assert (c.dns, c.lease_s, c.server) == ((DNS,), 3600, A_IP)
    assert plant.server.leases()[0].mac == B_MAC


def test_a_year_of_renewals():
    plant = Plant(lease_s=DAY)
    plant.client.start(0)
    plant.run(YEAR, step=97)
    assert plant.changes == [(0, FIRST)]
    assert 730 <= plant.server.sent["ACK"] <= 790 and plant.server.sent["NAK"] == 0
    assert plant.server.received["REQUEST"] == plant.server.sent["ACK"]


def test_a_year_of_trouble():
    """Server off for up to a week, forgetting, refusing, leases of all lengths: never an address that is over."""
    chance = random.Random(4)
    plant = Plant(lease_s=600)
    plant.client.start(0)
    end = YEAR
    while plant.now < end:
        event = chance.randrange(6)
        server = plant.server
        server.silent = event == 0
        server.refuse = event == 1
        server.lease_s = chance.choice((1, 30, 60, 600, 3600, DAY, 30 * DAY))
        if event == 2:
            server._leases.clear()
        elif event == 3:
            plant.client.link_up(plant.now)
        elif event == 4:
            plant.client.start(plant.now, chance.choice((None, FIRST, OTHER, bytes((192, 168, 5, 5)))))
        elif event == 5:
            plant.client.conflict(plant.now)
        before = server.received.total()
        seconds = min(chance.choice((10, 500, 5000, DAY, 7 * DAY)), end - plant.now)
        step = max(1, seconds // 300)
        plant.run(seconds, step)
        rate = 4 if server.lease_s < 60 else 0.2
        assert server.received.total() - before < 10 + rate * seconds
        if not server.silent and not server.refuse and seconds >= 5000 and server.lease_s >= 3600:
            assert plant.client.address is not None
    assert plant.states >= {D.SELECTING, D.BOUND, D.REBINDING, D.REBOOTING}
    plant.server.silent = plant.server.refuse = False
    plant.run(700)
    assert plant.client.address is not None


def test_server_away_then_back():
    plant = Plant(lease_s=1000)
    plant.client.start(0)
    plant.run(10)
    plant.server.silent = True
    plant.run(1100)
    assert [address for _, address in plant.changes] == [FIRST, None]
    assert plant.changes[1][0] == 1000
    plant.server.silent = False
    plant.run(70)
    assert plant.changes[2][1] == FIRST  # the one it had


def test_server_refuses_renewal():
    plant = Plant(lease_s=1000)
    plant.client.start(0)
    plant.run(10)
    plant.server.refuse = True
    plant.run(500)
    assert plant.changes[-1][1] is None
    plant.server.refuse = False
    plant.run(70)
    assert plant.client.state == D.BOUND


def test_conflict_gets_another_address():
    plant = Plant()
    plant.client.start(0)
    plant.run(5)
    plant.client.conflict(plant.now)
    plant.run(15)
    assert plant.client.address == OTHER and plant.server.received["DECLINE"] == 1


def test_release_frees_the_address():
    plant = Plant()
    plant.client.start(0)
    plant.run(5)
    to, data = plant.client.release()
    plant.board.udp_send(D.CLIENT_PORT, to, D.SERVER_PORT, bytes(data))
    plant.run(5)
    assert plant.server.leases() == [] and plant.server.received["RELEASE"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_short_leases_do_not_flood(seed):
    plant = Plant(seed, lease_s=1)
    plant.client.start(0)
    plant.run(100)
    assert plant.server.received.total() < 400 and plant.client.state in (D.BOUND, D.SELECTING, D.REQUESTING)
