"""The board's own clients in an RP2040's machine code: what they send and find on CPython, and what heap they need."""

import binascii
import inspect
from pathlib import Path

import pytest

import hardwire
from hardwire.wire import dhcp, discovery, dns, sntp
from hardwire_host.bundle import compile_source, pack

BOARD = "w5500_evb_pico"
ARCH = "armv6m"
FILES = (
    *("__init__.py", "compat.py", "wire/__init__.py"),
    *(
        "wire/auth.py",
        "wire/dhcp.py",
        "wire/discovery.py",
        "wire/discovery_set.py",
        "wire/dns.py",
        "wire/sntp.py",
    ),
)


# These run on both sides.


def ones(n):
    return b"\1" * n


def reply(options):
    head = b"\2\1\6\0\1\1\1\1" + bytes(8) + b"\x0a\0\0\x32" + bytes(8) + b"\2\0\0\0\0\2" + bytes(202)
    return memoryview(head + b"\x63\x82\x53\x63" + bytes.fromhex(options.replace(" ", "")))


def lease(dhcp, seconds):
    """What a client with a lease of `seconds` sends in its life, and what it got."""
    found = []

    def poll(now):
        message = client.poll(now)
        if message is not None:
            found.append((now, client.state, bytes(message[0]).hex(), bytes(message[1]).hex()))

    client = dhcp.Client(b"\2\0\0\0\0\2", "board", ones)
    client.start(0)
    poll(0)
    client.received(reply("350102 3604 0a000001 3304 " + seconds), 0)
    poll(0)
    client.received(reply("350105 3604 0a000001 3304 " + seconds + "0104 ffffff00 0304 0a0000fe 340101"), 0)
    found.append(
        (client.state, client.address, client.netmask, client.gateway, client.lease_s, client.changed)
    )
    if client.lease_s < 100000:
        for now in range(client.lease_s + 100):
            poll(now)
    else:
        for eighth in range(9):
            poll(client.lease_s // 8 * eighth + 9)
    client.conflict(0)
    poll(0)
    found.append(client.release())
    return found


def ask(dns, sntp):
    """Names and times that are read."""
    query = dns.query("ntp0.plant.com", 0xBEEF)
    answer = b"\xbe\xef\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
    server = b"\x24\2\6\xe9" + bytes(20) + b"12345678" + bytes(8)
    found = [query, dns.query("a..b", 1), dns.parse(memoryview(answer), query), dns.parse(answer[:50], query)]
    found.append(sntp.request(b"12345678"))
    times = b"\xee\x0a\x1b\x2c\x80\0\0\0", b"\0\0\0\1\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
    return found + [sntp.parse(memoryview(server + time), b"12345678", 41) for time in times]


def discover(discovery, question, setting):
    """What a board says to a question, and to a setting that is authentic for its first challenge."""
    about = ("press-3", "pico", "1", b"\x0a\0\0\2", b"\xff\0\0\0", bytes(4), 0, 5, (("modbus", 502),))
    done = []

    def apply(*setting):
        done.append(setting)
        return True

    board = discovery.Responder(b"\2\0\0\0\0\2", ones, lambda: about, apply, b"key")
    found = []
    for message in (question, setting, setting[:-1] + b"x"):
        board.received(memoryview(message), b"\x0a\0\0\1", 40000, 1073741800)
        found.append(board.poll(1073741823))
        found.append(board.poll(100))
        found.append(board.applied)
    return found + done


def challenge_message():
    """A setting for the challenge of ones that `discover`'s board starts with."""
    import ipaddress

    from hardwire_host.clients.discovery import Setting

    setting = Setting(ipaddress.IPv4Interface("10.0.0.9/8"))
    return setting.encode(b"12345678", b"\2\0\0\0\0\2", ones(16), b"key")


QUESTION = discovery.MAGIC + b"\1\1\0\0" + b"abcdefgh" + bytes(368)
SHARED = f"""
from hardwire.wire import dhcp, discovery, dns, sntp
{inspect.getsource(ones)}
{inspect.getsource(reply)}
{inspect.getsource(lease)}
{inspect.getsource(ask)}
{inspect.getsource(discover)}
"""

HEAP = """
import gc

client = dhcp.Client(b"\\2\\0\\0\\0\\0\\2", "board", ones)
client.start(0)
client.poll(0)
client.received(reply("350102 3604 0a000001 3304 " + SECONDS), 0)
client.poll(0)
client.received(reply("350105 3604 0a000001 3304 " + SECONDS), 0)
board = discovery.Responder(bytes(6), ones, None, None)


def heap(rounds):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for now in range(1000, 1000 + rounds):
        client.poll(now)
        board.poll(now)
    used = gc.mem_alloc() - before
    gc.enable()
    return used


heap(1)
print(client.state, heap(100))
"""


@pytest.fixture(scope="module")
def device(boot):
    root = Path(hardwire.__file__).parent
    content = {
        f"hardwire/{name[:-3]}.mpy": compile_source(name, (root / name).read_bytes(), ARCH) for name in FILES
    }
    return boot(filesystem=pack(BOARD, content), pace=False)


def crc(found):
    return binascii.crc32(repr(found).encode())


@pytest.mark.parametrize("seconds", ["00000e10", "00000002", "7fffffff", "80000000", "fffffffe", "ffffffff"])
def test_lease(device, seconds):
    source = SHARED + f"import binascii\nprint(binascii.crc32(repr(lease(dhcp, {seconds!r})).encode()))"
    assert int(device.exec(source)) == crc(lease(dhcp, seconds))


def test_names_and_time(device):
    assert device.exec(SHARED + "print(ask(dns, sntp))").strip() == repr(ask(dns, sntp))


def test_discovery(device):
    setting = challenge_message()
    source = SHARED + f"print(discover(discovery, {QUESTION!r}, {setting!r}))"
    found = discover(discovery, QUESTION, setting)
    assert found[-1] == (discovery.STATIC, b"\x0a\0\0\x09", b"\xff\0\0\0", bytes(4))
    assert device.exec(source).strip() == repr(found)


@pytest.mark.parametrize("seconds", ["00015180", "fffffffe", "ffffffff"])
def test_a_lease_that_needs_nothing_takes_no_heap(device, seconds):
    assert device.exec(SHARED + f"SECONDS = {seconds!r}\n" + HEAP).strip() == "BOUND 0"
