"""An independent driver on the model: adafruit_wiznet5k, unmodified, through busio and digitalio look-alikes.

It knows nothing of this project: bring-up, DHCP, DNS, TCP both ways and UDP work because the model does what
the library's authors saw on silicon. Its clock and its sleeps are device time.
"""

import sys
import types

import pytest

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from model_host import CHIP_IP, NETMASK, PC_IP, Host, Peer, dial

SPI_BYTE_NS = 1000  # 8 MHz, the library's default
LEASE_S = 3600
DNS_NAME = b"\x05board\x07example\x00"
DNS_ANSWER = bytes((10, 1, 2, 3))


class Spi:
    """busio.SPI, as far as SPIDevice and the library use it."""

    def __init__(self, host):
        self.host = host
        self.locked = False

    def try_lock(self):
        self.locked = not self.locked
        return self.locked

    def unlock(self):
        self.locked = False

    def configure(self, *, baudrate, polarity, phase):
        assert polarity == phase

    def _shift(self, byte):
        self.host.clock.advance(SPI_BYTE_NS)
        return self.host.chip.shift(byte)

    def write(self, buffer, *, start=0, end=None):
        for byte in buffer[start:end]:
            self._shift(byte)

    def readinto(self, buffer, *, start=0, end=None, write_value=0):
        for i in range(start, len(buffer) if end is None else end):
            buffer[i] = self._shift(write_value)


class ChipSelect:
    """digitalio.DigitalInOut on CS."""

    def __init__(self, host):
        self.host = host

    def switch_to_output(self, value=False, drive_mode=None):
        self.value = value

    def __setattr__(self, name, value):
        if name == "value":
            self.host.clock.advance(SPI_BYTE_NS)
            self.host.chip.select(not value)
        else:
            object.__setattr__(self, name, value)


@pytest.fixture
def library(monkeypatch):
    """`library(host)`: the driver module and a socket pool module, running on the host's device time."""
    for name, item in (("micropython", "const"), ("busio", "SPI"), ("digitalio", "DigitalInOut")):
        module = types.ModuleType(name)
        setattr(module, item, lambda value: value)  # the classes appear in annotations only
        monkeypatch.setitem(sys.modules, name, module)
    driver = pytest.importorskip("adafruit_wiznet5k.adafruit_wiznet5k")
    dhcp = pytest.importorskip("adafruit_wiznet5k.adafruit_wiznet5k_dhcp")
    dns = pytest.importorskip("adafruit_wiznet5k.adafruit_wiznet5k_dns")
    socketpool = pytest.importorskip("adafruit_wiznet5k.adafruit_wiznet5k_socketpool")

    def attach(host):
        clock = host.clock
        time = types.SimpleNamespace(sleep=lambda seconds: clock.advance(int(seconds * NS_PER_S)))
        for module in (driver, dhcp, dns, socketpool):
            monkeypatch.setattr(module, "ticks_ms", lambda: clock.now // NS_PER_MS % (1 << 29))
            if hasattr(module, "time"):
                monkeypatch.setattr(module, "time", time)
        return driver, socketpool

    monkeypatch.setattr(driver.WIZNET5K, "_sockets_reserved", [])
    return attach


def bring_up(library, host, *, is_dhcp=False):
    driver, socketpool = library(host)
    eth = driver.WIZNET5K(Spi(host), ChipSelect(host), is_dhcp=is_dhcp, mac="02:00:00:00:00:20")
    if not is_dhcp:
        eth.ifconfig = (CHIP_IP, NETMASK, PC_IP, PC_IP)
    return eth, socketpool.SocketPool(eth)


def dhcp_server(host):
    """One address for whoever asks."""

    def serve(ip, port, to, request):
        options = dict(_options(request[240:]))
        answer = {1: 2, 3: 5}.get(options[53][0])
        if answer is None:
            return
        reply = b"\x02\x01\x06\x00" + request[4:8] + bytes(8) + CHIP_IP + PC_IP + bytes(4)
        reply += request[28:44] + bytes(192) + request[236:240]
        for code, value in (
            (53, bytes((answer,))),
            (54, PC_IP),
            (51, LEASE_S.to_bytes(4, "big")),
            (1, NETMASK),
            (3, PC_IP),
            (6, PC_IP),
        ):
            reply += bytes((code, len(value))) + value
        host.pc.udp_send(67, bytes((255,) * 4), 68, reply + b"\xff")

    host.pc.udp_bind(67, serve)


def _options(data):
    i = 0
    while data[i] != 255:
        size = data[i + 1]
        yield data[i], data[i + 2 : i + 2 + size]
        i += 2 + size


def dns_server(host):
    def serve(ip, port, to, query):
        assert DNS_NAME[:6] in query
        answer = b"\xc0\x0c\x00\x01\x00\x01" + bytes((0, 0, 0, 60, 0, 4)) + DNS_ANSWER
        host.pc.udp_send(
            53, ip, port, query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + query[12:] + answer
        )

    host.pc.udp_bind(53, serve)


def test_bring_up(library):
    host = Host(network=False)
    eth, _ = bring_up(library, host)
    assert (eth.chip, eth.link_status, eth.ip_address) == ("w5500", True, CHIP_IP)
    assert host.chip.stack.ip == CHIP_IP
    assert not host.chip.guest_errors
    assert not host.chip.unimplemented


def test_dhcp_and_dns(library):
    host = Host(network=False)
    dhcp_server(host)
    dns_server(host)
    eth, _ = bring_up(library, host, is_dhcp=True)
    assert eth.ifconfig == (CHIP_IP, NETMASK, PC_IP, PC_IP)
    assert host.chip.ip == CHIP_IP
    assert eth.get_host_by_name("board.example") == DNS_ANSWER


def test_tcp_server_echo(library):
    host = Host(network=False)
    _, pool = bring_up(library, host)
    server = pool.socket()
    server.bind((None, 7))
    server.listen()
    peer = dial(host, 7)
    assert peer.is_established
    connection, address = server.accept()
    assert address == ("192.168.77.1", 40000)
    data = bytes(range(256)) * 8
    peer.tcb.send(data)
    echoed = b""
    while len(echoed) < len(data):
        chunk = connection.recv(500)
        echoed += chunk
        connection.send(chunk)
    host.run(1000)
    assert (echoed, peer.data) == (data, data)
    peer.tcb.shutdown()
    host.run(100)
    assert connection.recv(1) == b""
    connection.close()


def test_tcp_client(library):
    host = Host(network=False)
    _, pool = bring_up(library, host)
    peer = Peer()
    host.pc.on_syn = lambda port, ip, remote_port: peer if port == 7 else None
    client = pool.socket()
    client.connect(("192.168.77.1", 7))
    client.send(b"hello")
    host.run(100)
    assert peer.data == b"hello"
    peer.tcb.send(b"world")
    assert client.recv(5) == b"world"
    client.close()
    with pytest.raises(ConnectionError):
        pool.socket().connect(("192.168.77.1", 8))


def test_udp(library):
    host = Host(network=False)
    _, pool = bring_up(library, host)
    got = []
    host.pc.udp_bind(9, lambda *datagram: got.append(datagram))
    sock = pool.socket(pool.AF_INET, pool.SOCK_DGRAM)
    sock.bind((None, 5000))
    sock.sendto(b"ping", ("192.168.77.1", 9))
    host.run(100)
    assert [(d[1], d[3]) for d in got] == [(5000, b"ping")]
    host.pc.udp_send(9, CHIP_IP, 5000, b"pong")
    host.run(100)
    assert sock.recvfrom(100) == (b"pong", ("192.168.77.1", 9))
    assert host.chip.guest_errors.keys() <= {"CONNECT in UDP", "LISTEN in UDP", "OPEN in UDP"}
    assert R.UDP in [host.state(sn) for sn in range(R.SOCKETS)]
