"""The chip model with a host on its SPI, for the tests of the model: register access through `frame` only."""

from collections.abc import Callable

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_MS, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tcpip import Stack
from hardwire_host.virtual.w5500 import W5500, Options

CHIP_IP = bytes((192, 168, 77, 20))
PC_IP = bytes((192, 168, 77, 1))
NETMASK = bytes((255, 255, 255, 0))
CHIP_MAC = bytes.fromhex("020000000020")
PC_MAC = bytes.fromhex("020000000001")


class Host:
    """A W5500 on a segment with a PC's stack, and the microcontroller's view of it.

    `sn` arguments are socket numbers. Every access is one SPI frame.
    """

    def __init__(self, *, seed: int = 0, network: bool = True, **options) -> None:
        self.clock = Clock()
        self.segment = Segment(self.clock)
        self.port = self.segment.attach("chip")
        self.chip = W5500(self.clock, self.port, seed=seed, options=Options(**options))
        self.pc_port = self.segment.attach("pc")
        self.pc = Stack(
            self.clock, self.pc_port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=seed
        )
        if network:
            self.write(R.COMMON, R.GAR, PC_IP + NETMASK + CHIP_MAC + CHIP_IP)

    def read(self, block: int, address: int, n: int) -> bytes:
        miso = self.chip.frame(bytes((address >> 8, address & 0xFF, block)) + bytes(n))
        assert miso[:3] == b"\x01\x02\x03" and len(miso) == n + 3
        return miso[3:]

    def write(self, block: int, address: int, data: bytes) -> None:
        self.chip.frame(bytes((address >> 8, address & 0xFF, block | R.WRITE)) + bytes(data))

    def common(self, address: int, n: int = 1) -> int:
        return int.from_bytes(self.read(R.COMMON, address, n), "big")

    def set_common(self, address: int, value: int, n: int = 1) -> None:
        self.write(R.COMMON, address, value.to_bytes(n, "big"))

    def get(self, sn: int, address: int, n: int = 1) -> int:
        return int.from_bytes(self.read(R.SOCKET + sn * R.SOCKET_STEP, address, n), "big")

    def set(self, sn: int, address: int, value: int, n: int = 1) -> None:
        self.write(R.SOCKET + sn * R.SOCKET_STEP, address, value.to_bytes(n, "big"))

    def state(self, sn: int = 0) -> int:
        return self.get(sn, R.SN_SR)

    def ir(self, sn: int = 0) -> int:
        return self.get(sn, R.SN_IR)

    def command(self, sn: int, command: int) -> None:
        self.set(sn, R.SN_CR, command)

    def take_ir(self, sn: int = 0) -> int:
        """Sn_IR, cleared as a driver does."""
        value = self.ir(sn)
        self.set(sn, R.SN_IR, value)
        return value

    def open(self, sn: int, mode: int, port: int) -> None:
        self.set(sn, R.SN_MR, mode)
        self.set(sn, R.SN_PORT, port, 2)
        self.command(sn, R.OPEN)

    def listen(self, sn: int, port: int, mode: int = R.P_TCP) -> None:
        self.open(sn, mode, port)
        self.command(sn, R.LISTEN)
        assert self.state(sn) == R.LISTENING

    def connect(self, sn: int, local_port: int, ip: bytes, port: int) -> None:
        self.open(sn, R.P_TCP, local_port)
        self.aim(sn, ip, port)
        self.command(sn, R.CONNECT)

    def aim(self, sn: int, ip: bytes, port: int) -> None:
        self.write(R.SOCKET + sn * R.SOCKET_STEP, R.SN_DIPR, ip + port.to_bytes(2, "big"))

    def fill(self, sn: int, data: bytes) -> None:
        """Copy into transmit memory and move TX_WR; no SEND."""
        pointer = self.get(sn, R.SN_TX_WR, 2)
        self.write(R.TX + sn * R.SOCKET_STEP, pointer, data)
        self.set(sn, R.SN_TX_WR, pointer + len(data) & 0xFFFF, 2)

    def send(self, sn: int, data: bytes, command: int = R.SEND) -> None:
        self.fill(sn, data)
        self.command(sn, command)

    def waiting(self, sn: int = 0) -> int:
        return self.get(sn, R.SN_RX_RSR, 2)

    def free(self, sn: int = 0) -> int:
        return self.get(sn, R.SN_TX_FSR, 2)

    def recv(self, sn: int, n: int | None = None) -> bytes:
        """Read `n` (None: all) received bytes and give the memory back."""
        n = self.waiting(sn) if n is None else n
        pointer = self.get(sn, R.SN_RX_RD, 2)
        data = self.read(R.RX + sn * R.SOCKET_STEP, pointer, n)
        self.set(sn, R.SN_RX_RD, pointer + n & 0xFFFF, 2)
        self.command(sn, R.RECV)
        return data

    def run(self, ms: float) -> None:
        self.clock.advance(int(ms * NS_PER_MS))

    def until(self, done: Callable[[], bool], limit_ms: float = 100_000) -> int:
        """Run from alarm to alarm until `done()`; returns device time (ns). Fails after `limit_ms`."""
        end = self.clock.now + int(limit_ms * NS_PER_MS)
        while not done():
            due = self.clock.next_due()
            assert due is not None and due <= end, "it never came"
            self.clock.advance_to(due)
        return self.clock.now

    def until_state(self, state: int, sn: int = 0, limit_ms: float = 100_000) -> int:
        return self.until(lambda: self.state(sn) == state, limit_ms)

    def record(self) -> list[tuple[int, bytes]]:
        """From now on, every frame the chip sends: (time, frame)."""
        frames: list[tuple[int, bytes]] = []
        self.segment.taps.append(
            lambda time, name, frame, comment: name == "chip" and frames.append((time, frame))
        )
        return frames


class Peer:
    """A connection at the PC's end: a `TcpUser` that remembers everything it was told."""

    def __init__(self, window: int = 0x4000) -> None:
        self.window = window
        self.tcb = None
        self.data = b""
        self.is_established = self.got_fin = False
        self.acknowledged = 0
        self.reason: str | None = None

    def attached(self, tcb) -> None:
        self.tcb = tcb

    def room(self) -> int:
        return self.window - len(self.data)

    def established(self) -> None:
        self.is_established = True

    def received(self, data: bytes) -> None:
        self.data += data

    def acked(self, n: int) -> None:
        self.acknowledged += n

    def sent(self, n: int) -> None:
        pass

    def fin(self) -> None:
        self.got_fin = True

    def closed(self, reason: str) -> None:
        self.reason = reason

    def take(self) -> bytes:
        """What has arrived, making room."""
        data, self.data = self.data, b""
        self.tcb.window_opened()
        return data


def is_tcp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 6


def tcp_flags(frame: bytes) -> str:
    """Letters of the flags set, in the order of the header's bits from FIN up."""
    return "".join(letter for bit, letter in enumerate("FSRPAU") if frame[47] >> bit & 1)


def deaf(host: Host) -> None:
    """From now on the PC hears no TCP: the peer has vanished, its cable and its ARP have not."""
    host.pc.raw = is_tcp


def dial(host: Host, port: int, *, local_port: int = 40000, window: int = 0x4000, ms: float = 50) -> Peer:
    """Connect from the PC to the chip's `port`, and let `ms` pass."""
    peer = Peer(window)
    host.pc.connect(peer, local_port, CHIP_IP, port)
    host.run(ms)
    return peer
