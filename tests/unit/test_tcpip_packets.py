"""Wire formats of the engine: parsers and builders against frames that a Linux kernel sent."""

import pytest

from hardwire_host.virtual import packets as P

LINUX, ENGINE = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1))
LINUX_MAC, ENGINE_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
ETHERNET = "020000000001 020000000002 "

ARP_REQUEST = bytes.fromhex(
    "ffffffffffff 020000000002 0806 0001 0800 06 04 0001 020000000002 0a000002 000000000000 0a000001"
)
TCP_SYN = bytes.fromhex(
    ETHERNET + "0800 4500003c507d40004006d63c0a0000020a000001"
    "c84800077b9917aa00000000a002faf0588f0000 020405b4 0402 080aff78856e00000000 01 03030a"
)
TCP_DATA = bytes.fromhex(
    ETHERNET
    + "0800 4500002d507f40004006d6490a0000020a000001 c84800077b9917abc2094cad5018faf0f2b60000 68656c6c6f"
)
TCP_FIN = bytes.fromhex(
    ETHERNET + "0800 45000028508140004006d64c0a0000020a000001 c84800077b9917b0c2094cb25011faeb36900000"
)
UDP = bytes.fromhex(ETHERNET + "0800 45000021089d400040111e2d0a0000020a000001 af710007000df886 68656c6c6f")
UNREACHABLE = bytes.fromhex(
    ETHERNET + "0800 45c0003e415f00004001249e0a0000020a000001 0303111f00000000"
    "45000022000640008011e6c20a0000010a000002 270f115c000e7e0c 6e6f626f6479"
)
ECHO = bytes.fromhex(ETHERNET + "0800 45000021415d40004001e57c0a0000020a000001 0800b42b00010001 68656c6c6f")

FRAMES = {
    "TCP SYN": TCP_SYN,
    "TCP data": TCP_DATA,
    "TCP FIN": TCP_FIN,
    "UDP": UDP,
    "unreachable": UNREACHABLE,
    "echo": ECHO,
}


def parse(frame):
    """Everything the parsers make of a frame: None if any of them refuses."""
    fields = P.parse_ipv4(frame)
    if fields is None:
        return None
    protocol, source, target, start, end = fields
    parser = {P.TCP: P.parse_tcp, P.UDP: P.parse_udp, P.ICMP: P.parse_icmp}.get(protocol)
    inner = None if parser is None else parser(frame, start, end)
    return None if inner is None else (protocol, source, target, inner)


TCP_OPTIONS = bytes.fromhex("020405b40402080aff78856e000000000103030a")

PARSED = (
    ("TCP SYN", (P.TCP, LINUX, ENGINE, (0xC848, 7, 0x7B9917AA, 0, P.SYN, 64240, b"", TCP_OPTIONS))),
    (
        "TCP data",
        (P.TCP, LINUX, ENGINE, (0xC848, 7, 0x7B9917AB, 0xC2094CAD, P.PSH | P.ACK, 64240, b"hello", b"")),
    ),
    (
        "TCP FIN",
        (P.TCP, LINUX, ENGINE, (0xC848, 7, 0x7B9917B0, 0xC2094CB2, P.FIN | P.ACK, 64235, b"", b"")),
    ),
    ("UDP", (P.UDP, LINUX, ENGINE, (0xAF71, 7, b"hello"))),
    ("unreachable", (P.ICMP, LINUX, ENGINE, (3, 3, UNREACHABLE[38:]))),
    ("echo", (P.ICMP, LINUX, ENGINE, (8, 0, bytes.fromhex("00010001") + b"hello"))),
)


@pytest.mark.parametrize("padding", [0, 1, 6, 1000])
@pytest.mark.parametrize(("name", "fields"), PARSED)
def test_parse(name, fields, padding):
    assert parse(FRAMES[name] + bytes(padding)) == fields


@pytest.mark.parametrize("name", FRAMES)
def test_cut_short(name):
    frame = FRAMES[name]
    for size in range(P.ETHERNET, len(frame)):
        assert parse(frame[:size]) is None


@pytest.mark.parametrize("name", FRAMES)
def test_every_flipped_bit_behind_the_ethernet_header_is_found(name):
    frame = FRAMES[name]
    for bit in range(P.ETHERNET * 8, len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 0x80 >> bit % 8
        assert parse(bytes(changed)) is None, bit


BUILT = (
    (ARP_REQUEST, P.arp(P.REQUEST, LINUX_MAC, LINUX, P.MAC_BROADCAST, ENGINE)),
    (
        TCP_DATA,
        P.tcp(
            ENGINE_MAC,
            LINUX_MAC,
            LINUX,
            ENGINE,
            0x507F,
            0xC848,
            7,
            0x7B9917AB,
            0xC2094CAD,
            0x18,
            64240,
            b"hello",
        ),
    ),
    (
        TCP_FIN,
        P.tcp(ENGINE_MAC, LINUX_MAC, LINUX, ENGINE, 0x5081, 0xC848, 7, 0x7B9917B0, 0xC2094CB2, 0x11, 64235),
    ),
    (
        UDP,
        P.ipv4(
            ENGINE_MAC, LINUX_MAC, P.UDP, LINUX, ENGINE, 0x089D, P.udp(0xAF71, 7, LINUX, ENGINE, b"hello")
        ),
    ),
    (
        ECHO,
        P.ipv4(
            ENGINE_MAC,
            LINUX_MAC,
            P.ICMP,
            LINUX,
            ENGINE,
            0x415D,
            P.icmp(8, 0, bytes.fromhex("00010001") + b"hello"),
        ),
    ),
)


@pytest.mark.parametrize(("real", "built"), BUILT)
def test_build(real, built):
    """The kernel's frames, but for the time to live, which is 64 there."""
    real, built = bytearray(real), bytearray(built)
    if real[12:14] == b"\x08\x00":
        assert built[22] == 128
        for frame in (real, built):
            frame[22] = 0
            frame[24:26] = b"\0\0"
    assert built == real


def test_mss_option_is_built_as_it_is_parsed():
    frame = P.tcp(ENGINE_MAC, LINUX_MAC, LINUX, ENGINE, 1, 2, 3, 4, 5, P.SYN, 6, b"", 1460)
    assert parse(frame)[3] == (2, 3, 4, 5, P.SYN, 6, b"", bytes.fromhex("020405b4"))


OPTIONS = (
    ("", 536),
    ("020405b4", 1460),
    ("0101 020405b4", 1460),
    ("0402 080a0000000100000000 0103 0307 0204 0218", 536),
    ("00 020405b4", 536),
    ("02", 536),
    ("0204", 536),
    ("020405", 536),
    ("020305", 536),
    ("0200", 536),
    ("0800 020405b4", 536),
    ("08ff 020405b4", 536),
    ("0204 0000", 536),
    ("0204 0001", 1),
    ("fe02 0204ffff", 65535),
)


@pytest.mark.parametrize(("options", "mss"), OPTIONS)
def test_mss_option(options, mss):
    assert P.parse_mss(bytes.fromhex(options)) == mss


CHECKSUMS = (
    ("0001f203f4f5f6f7", 0x220D),  # RFC 1071, 3
    ("45000073000040004011 0000 c0a80001c0a800c7", 0xB861),
    ("", 0xFFFF),
    ("00000000", 0xFFFF),
    ("ffff", 0),
    ("ffff0000ffff", 0),
    ("01", 0xFEFF),
    ("0001 ff", 0x00FE),
)


@pytest.mark.parametrize(("data", "total"), CHECKSUMS)
def test_checksum(data, total):
    assert P.checksum(bytes.fromhex(data)) == total


def test_udp_checksum_is_never_zero_and_need_not_be_there():
    for last in range(0x10000):
        datagram = P.udp(1, 2, LINUX, ENGINE, last.to_bytes(2, "big"))
        if datagram[6:8] == b"\xff\xff":
            break
        assert datagram[6:8] != b"\0\0"
    else:
        raise AssertionError("some payload must add up to it")
    frame = P.ipv4(ENGINE_MAC, LINUX_MAC, P.UDP, LINUX, ENGINE, 1, datagram)
    assert parse(frame)[3] == (1, 2, datagram[8:])
    frame = P.ipv4(ENGINE_MAC, LINUX_MAC, P.UDP, LINUX, ENGINE, 1, datagram[:6] + b"\0\0an")
    assert parse(frame)[3] == (1, 2, b"an")


def test_udp_length_rules():
    good = P.udp(1, 2, LINUX, ENGINE, b"abcd")
    for size, fits in ((7, False), (12, True), (13, False), (0, False)):
        datagram = good[:4] + size.to_bytes(2, "big") + b"\0\0" + good[8:]
        frame = P.ipv4(ENGINE_MAC, LINUX_MAC, P.UDP, LINUX, ENGINE, 1, datagram)
        assert (parse(frame) is not None) == fits
    frame = P.ipv4(ENGINE_MAC, LINUX_MAC, P.UDP, LINUX, ENGINE, 1, good + b"behind it")
    assert parse(frame)[3] == (1, 2, b"abcd")


def test_ip_options_are_stepped_over():
    options = bytes.fromhex("94040000")  # router alert
    head = bytearray(UDP[14:34])
    head[0] = 0x46
    head[2:4] = (len(UDP) - 14 + 4).to_bytes(2, "big")
    head[10:12] = b"\0\0"
    head[10:12] = P.checksum(bytes(head) + options).to_bytes(2, "big")
    frame = UDP[:14] + head + options + UDP[34:]
    assert parse(frame) == parse(UDP)
    quoted = P.parse_icmp(
        *_at(P.ipv4(ENGINE_MAC, LINUX_MAC, P.ICMP, LINUX, ENGINE, 1, P.unreachable(frame, 38)))
    )
    assert P.parse_unreachable(quoted[2])[:5] == (P.UDP, LINUX, ENGINE, 0xAF71, 7)


def _at(frame):
    return frame, *P.parse_ipv4(frame)[3:]


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x1FFF, 0x6000])
def test_fragments_are_refused(fragment):
    head = bytearray(UDP[14:34])
    head[6:8] = fragment.to_bytes(2, "big")
    head[10:12] = b"\0\0"
    head[10:12] = P.checksum(bytes(head)).to_bytes(2, "big")
    assert parse(UDP[:14] + head + UDP[34:]) is None


def test_quoted_datagram():
    assert P.parse_unreachable(UNREACHABLE[38:]) == (P.UDP, ENGINE, LINUX, 9999, 4444, 0x000E7E0C)
    for size in range(len(UNREACHABLE[38:]) - 6):
        assert P.parse_unreachable(UNREACHABLE[38 : 38 + size]) is None


def test_unreachable_is_built_as_the_kernel_builds_it():
    offender = bytes.fromhex(ETHERNET) + b"\x08\x00" + UNREACHABLE[42:]
    message = P.unreachable(offender, 34)
    assert message[:2] + message[4:] == UNREACHABLE[34:36] + UNREACHABLE[38:70]


ARPS = (
    (ARP_REQUEST, (P.REQUEST, LINUX_MAC, LINUX, ENGINE)),
    (ARP_REQUEST + bytes(18), (P.REQUEST, LINUX_MAC, LINUX, ENGINE)),
    (P.arp(P.REPLY, LINUX_MAC, LINUX, ENGINE_MAC, ENGINE), (P.REPLY, LINUX_MAC, LINUX, ENGINE)),
    (ARP_REQUEST[:41], None),
    (ARP_REQUEST[:14] + b"\0\6" + ARP_REQUEST[16:], None),  # another hardware
    (ARP_REQUEST[:16] + b"\x86\xdd" + ARP_REQUEST[18:], None),  # another protocol
    (ARP_REQUEST[:18] + b"\x08" + ARP_REQUEST[19:], None),  # other lengths
    (ARP_REQUEST[:21] + b"\3" + ARP_REQUEST[22:], None),  # RARP
    (ARP_REQUEST[:22] + b"\xff" + ARP_REQUEST[23:], None),  # from a group
)


@pytest.mark.parametrize(("frame", "fields"), ARPS)
def test_arp(frame, fields):
    assert P.parse_arp(frame) == fields


def test_arp_reply_goes_to_who_asked():
    frame = P.arp(P.REPLY, ENGINE_MAC, ENGINE, LINUX_MAC, LINUX)
    assert frame == LINUX_MAC + ENGINE_MAC + bytes.fromhex("0806 0001 0800 06 04 0002") + (
        ENGINE_MAC + ENGINE + LINUX_MAC + LINUX
    )
