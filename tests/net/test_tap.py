"""The TAP device itself: name, permission, address, carrier, what it does not take, its queue, its end."""

import asyncio
import ctypes
import socket
import struct
from contextlib import contextmanager
from fcntl import ioctl

import pytest

from hardwire.addresses import ip_bytes
from hardwire_host.errors import BUSY, FAILED, USAGE, HardwireError
from hardwire_host.virtual import tap as taps
from hardwire_host.virtual.clock import NS_PER_S, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tap import Tap
from live import until

IP = ip_bytes("10.1.2.3")
BROADCAST = "10.1.2.255"
PORT = 9999
FRAME = b"\xff" * 6 + bytes.fromhex("020000000020 88b5") + bytes(46)  # IEEE 802, local experimental ethertype

# linux/if_tun.h, sockios.h, if.h, rtnetlink.h
TUNSETIFF, TUNSETPERSIST, IFF_TAP_NO_PI = 0x400454CA, 0x400454CB, 0x1002
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFMTU = 0x8913, 0x8914, 0x8922
IFF_UP, IFF_RUNNING = 0x1, 0x40
RTM_DELLINK, NLM_F_REQUEST = 17, 1


@pytest.fixture
def segment():
    return Segment(Clock())


def interfaces():
    return {name for _, name in socket.if_nameindex()}


def ask(request, structure, name, value):
    """ioctl on the interface `name`: the second field of the ifreq that comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return struct.unpack(
            structure, ioctl(control, request, struct.pack(structure, name.encode(), value))
        )[1]


def flags(name):
    return ask(SIOCGIFFLAGS, "16sH22x", name, 0)


def set_up(name, up):
    ask(SIOCSIFFLAGS, "16sH22x", name, flags(name) & ~IFF_UP | (IFF_UP if up else 0))


@contextmanager
def shouter():
    """A socket that broadcasts to the subnet of IP: the kernel asks nobody before it sends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((socket.inet_ntoa(IP), 0))
        yield lambda data: sock.sendto(data, (BROADCAST, PORT))


def datagrams(segment):
    """A list that gets the payload of every datagram to PORT that passes by."""
    seen = []

    def tap(time_ns, name, frame, comment):
        if frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[36:38] == PORT.to_bytes(2, "big"):
            seen.append(frame[42 : 34 + int.from_bytes(frame[38:40], "big")])

    segment.taps.append(tap)
    return seen


def drop_capabilities():
    """What remains is an ordinary process that happens to have root's number."""
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)  # linux/capability.h, version 3
    assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0


BAD_NAMES = ("", "sixteen_letters_", "a/b", "a b", "a:b", "..", "a\0b", "lo", "\udcff" * 16)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
async def test_names_that_cannot_be(segment, name):
    before = interfaces()
    with pytest.raises(HardwireError) as caught:
        Tap(segment, name, ip=IP)
    assert caught.value.code == USAGE
    assert str(caught.value).isprintable()
    assert interfaces() == before and segment.ports == []


async def test_numbered_by_the_kernel(segment):
    first, second = Tap(segment, "hw%d"), Tap(segment, "hw%d")
    assert [first.name, second.name] == [port.name for port in segment.ports] == ["hw0", "hw1"]
    first.close()
    second.close()


async def test_close_leaves_nothing_and_the_name_is_free(segment):
    for _ in range(2):
        tap = Tap(segment, "hw0", ip=IP)
        assert "hw0" in interfaces()
        tap.close()
        tap.close()
        assert "hw0" not in interfaces() and segment.ports == []


async def test_device_in_use(segment):
    tap = Tap(segment, "hw0")
    with pytest.raises(HardwireError) as caught:
        Tap(Segment(Clock()), "hw0")
    assert caught.value.code == BUSY
    tap.close()


async def test_name_that_the_segment_has(segment):
    segment.attach("board")
    with pytest.raises(HardwireError) as caught:
        Tap(segment, "board")
    assert caught.value.code == USAGE
    assert "board" not in interfaces()


async def test_without_address_it_is_left_alone(segment):
    tap = Tap(segment, "hw0")
    assert not flags("hw0") & IFF_UP
    tap.close()


async def test_bad_mask(segment):
    with pytest.raises(HardwireError, match=r"10.1.2.3 netmask 255.0.255.0") as caught:
        Tap(segment, "hw0", ip=IP, netmask=ip_bytes("255.0.255.0"))
    assert caught.value.code == FAILED
    assert "hw0" not in interfaces() and segment.ports == []


async def test_no_device_node(segment, monkeypatch, tmp_path):
    monkeypatch.setattr(taps, "DEVICE", str(tmp_path / "tun"))
    with pytest.raises(HardwireError, match=r"No such file.*modprobe tun") as caught:
        Tap(segment, "hw0")
    assert caught.value.code == FAILED


async def test_no_permission(segment):
    drop_capabilities()
    with pytest.raises(HardwireError, match="no permission") as caught:
        Tap(segment, "hw0", ip=IP)
    assert caught.value.code == FAILED
    assert "ip address add 10.1.2.3/24 dev hw0 && ip link set hw0 up" in caught.value.hint
    assert str(caught.value).isprintable()


def make_persistent(name):
    """What `ip tuntap add` does."""
    with open("/dev/net/tun", "r+b", buffering=0) as device:
        ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
        ioctl(device, TUNSETPERSIST, 1)


async def test_device_that_root_has_prepared_needs_no_permission(segment):
    make_persistent("hw0")
    Tap(segment, "hw0", ip=IP).close()
    drop_capabilities()
    Tap(segment, "hw0").close()
    Tap(segment, "hw0", ip=IP).close()
    with pytest.raises(HardwireError, match="no permission"):
        Tap(segment, "hw0", ip=ip_bytes("10.1.2.4"))
    assert "hw0" in interfaces() and segment.ports == []


async def test_carrier_follows_the_cable(segment):
    tap = Tap(segment, "hw0", ip=IP)
    await until(lambda: flags("hw0") & IFF_RUNNING)
    tap.port.link = False
    await until(lambda: not flags("hw0") & IFF_RUNNING)
    tap.port.link = True
    await until(lambda: flags("hw0") & IFF_RUNNING)
    tap.close()


async def test_frames_that_the_interface_does_not_take_are_lost(segment):
    other = segment.attach("board")
    tap = Tap(segment, "hw0", ip=IP)
    for up, lost in ((True, 0), (False, 1), (True, 1)):
        set_up("hw0", up)
        other.send(FRAME)
        segment.clock.advance(NS_PER_S)
        assert tap.lost == lost
    tap.close()


async def test_frames_too_long_for_ethernet_are_lost(segment):
    seen = datagrams(segment)
    tap = Tap(segment, "hw0", ip=IP)
    ask(SIOCSIFMTU, "16si20x", "hw0", 9000)
    with shouter() as shout:
        for size in (1472, 1473 + 4, 1472 + 4, 5000):  # FRAME_MAX has room for a VLAN tag
            shout(bytes(size))
    await until(lambda: tap.lost == 2)
    segment.clock.advance(NS_PER_S)
    assert [len(data) for data in seen] == [1472, 1476]
    tap.close()


async def test_kernel_waits_while_the_wire_is_busy(segment):
    """Time stands still, so the wire stays busy: what is not read is the kernel's."""
    seen = datagrams(segment)
    tap = Tap(segment, "hw0", ip=IP)
    sent = [number.to_bytes(2, "big") + bytes(1470) for number in range(300)]
    with shouter() as shout:
        for data in sent:
            shout(data)
    frame_ns = (8 + 14 + 20 + 8 + 1472 + 4 + 12) * 80  # preamble, headers, data, FCS, gap; 10 ns per bit
    most = taps.QUEUE_NS // frame_ns + 2
    while len(seen) < len(sent):
        before = len(seen)
        for _ in range(len(sent)):
            await asyncio.sleep(0)  # the loop looks at the device
        segment.clock.advance(NS_PER_S)
        assert 1 <= len(seen) - before <= most
    assert seen == sent
    tap.close()


async def test_interface_deleted_by_somebody(segment, caplog):
    tap = Tap(segment, "hw0", ip=IP)
    other = segment.attach("board")
    delete = struct.pack(
        "=IHHIIBxHiII", 32, RTM_DELLINK, NLM_F_REQUEST, 1, 0, 0, 0, socket.if_nametoindex("hw0"), 0, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(delete)
    await until(lambda: caplog.records)
    other.send(FRAME)
    segment.clock.advance(NS_PER_S)
    assert tap.lost == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the TAP device hw0 has gone: File descriptor in bad state"
    ]
    tap.close()
