"""The W5500 as its host sees it: SPI frames, the RSTn and INTn pins; Ethernet frames on a segment's port.

In: whole SPI frames by `frame` (in process), or CS edges and bytes by `select` and `shift` (emulator); RSTn.
Out: MISO bytes, INTn, Ethernet frames. Never raises on what a guest does: its mistakes are counted in
`guest_errors`, its uses of what is missing here in `unimplemented`; both are logged.
Source: W5500 datasheet v1.0.9 (2.2 SPI frame, 3 memory map, 4 registers, 5.5 timing). Points that no source
settles are fields of `Options`.

Not modelled: PPPoE, whose registers only store; IPRAW and Sn_PROTO, which the datasheet lacks; FARP in TCP (in
UDP it acts); the SR code ARP, which W5500s do not document; IGMP's fall-back to version 1; ICMP "fragmentation
needed"; auto-negotiation time; sockets that share memory because the sizes add up to more than 16 KB (each keeps
its own); SPI timing other than the CS-high time, and what a chip misses when that is too short (it is counted).
"""

import logging
from collections import Counter
from collections.abc import Callable

from . import regs as R
from .clock import NS_PER_MS, NS_PER_S, NS_PER_US, Alarm, Clock
from .tcpip import Stack
from .w5500_memory import get16, put16, read_image
from .w5500_options import Options
from .w5500_phy import Phy
from .w5500_sockets import IP_UDP, Socket
from .w5500_spi import SpiSlave

__all__ = ["W5500", "Options"]

log = logging.getLogger(__name__)

RESET_LOW_NS = 500 * NS_PER_US  # RSTn low at least this long (5.5.1)
PLL_LOCK_NS = 1 * NS_PER_MS  # then the chip is silent for this long (5.5.1)
RTR_UNIT_NS = 100 * NS_PER_US  # (4.1)
INTLEVEL_HZ = 150_000_000 // 4  # INTn stays high for (INTLEVEL + 1) of these periods (4.1)

BROADCAST_IP = b"\xff" * 4
BROADCAST_MAC = b"\xff" * 6
ETHERTYPE_IPV4 = b"\x08\x00"
ETHERTYPE_IPV6 = b"\x86\xdd"
IP_TCP = 6
_IP_END = 14 + 20  # Ethernet header and an IPv4 header without options

_RESET = bytearray(R.COMMON_END)
_RESET[R.RTR : R.RTR + 2] = b"\x07\xd0"
_RESET[R.RCR] = 8
_RESET[R.PTIMER] = 0x28
_RESET[R.PMRU : R.PMRU + 2] = b"\xff\xff"
_RESET[R.PHYCFGR] = R.PHY_RST | R.PHY_OPMDC
_RESET[R.VERSIONR] = R.VERSION


class W5500(SpiSlave):
    """The chip on `port` of a segment. It answers at once after construction: power-on is long past.

    `intn`: level of the pin, True is high; `on_intn(level)` hears its edges.
    """

    def __init__(self, clock: Clock, port, *, seed: int = 0, options: Options | None = None) -> None:
        super().__init__(clock, options or Options(), seed)
        self.unimplemented: Counter[str] = Counter()
        self.intn = True
        self.on_intn: Callable[[bool], None] | None = None
        self.registers = bytearray(_RESET)
        self._reset_low = False  # level of RSTn
        self._reset_edge = 0  # when RSTn fell
        self._reset_alarm: Alarm | None = None
        self._version_alarm: Alarm | None = None
        self._intn_alarm: Alarm | None = None
        self._intn_hold = 0  # INTn may not fall before this time
        self._macraw: Socket | None = None
        self.phy = Phy(port, self._phy_changed)
        self.stack = Stack(
            clock, self.phy, mac=bytes(6), ip=bytes(4), netmask=bytes(4), gateway=bytes(4), seed=seed
        )
        self.stack.arp.lifetime = 0  # there is no cache: each CONNECT asks, UDP see Socket
        self.stack.on_syn = self._on_syn
        self.stack.on_unreachable = self._on_unreachable
        self.stack.on_conflict = self._on_conflict
        self._sockets = [Socket(self, number) for number in range(R.SOCKETS)]
        self._connect_blocks()
        self._reset()

    def _connect_blocks(self) -> None:
        self.readers[R.COMMON] = self._read_common
        self.writers[R.COMMON | R.WRITE] = self._write_common
        for socket in self._sockets:
            step = socket.number * R.SOCKET_STEP
            for block, read, write in (
                (R.SOCKET, socket.read_registers, socket.write_registers),
                (R.TX, socket.read_tx, socket.write_tx),
                (R.RX, socket.read_rx, socket.write_rx),
            ):
                self.readers[block + step] = read
                self.writers[block + step | R.WRITE] = write

    # What the owner of the board sees

    @property
    def ip(self) -> bytes:
        """SIPR."""
        return bytes(self.registers[R.SIPR : R.SIPR + 4])

    @property
    def mac(self) -> bytes:
        """SHAR."""
        return bytes(self.registers[R.SHAR : R.SHAR + 6])

    @property
    def link(self) -> bool:
        """PHYCFGR LNK."""
        return self.phy.link

    def sockets(self) -> list[dict]:
        """The eight sockets; keys as in `Socket.describe`."""
        return [socket.describe() for socket in self._sockets]

    def listening(self, port: int) -> bool:
        """True if a SYN to `port` would be taken now."""
        return self._listener(port) is not None

    def brown_out(self) -> None:
        """A dip of the supply: every register back to its reset value, nobody told."""
        self._reset()

    # Faults

    def torn_high(self, number: int, address: int) -> int | None:
        """See SpiSlave."""
        return self._sockets[number].torn.pop(address, None)

    def command_sticks(self) -> bool:
        """Whether the command written now stays in Sn_CR."""
        return bool(self.options.stuck_cr) and self.random.random() < self.options.stuck_cr

    def lost_bits(self) -> int:
        """Bits that a SEND which ends now does not raise."""
        chance = self.options.sendok_lost
        return R.I_SENDOK if chance and self.random.random() < chance else 0

    def asks_each_time(self) -> bool:
        """Whether UDP asks for the MAC of a peer that it knows."""
        return self.options.arp_each_send or bool(self.registers[R.MR] & R.MR_FARP)

    def start_pointer(self) -> int:
        """Where the pointers of a socket start."""
        start = self.options.start_pointer
        return self.random.randrange(0x10000) if start is None else start

    # Common registers

    def _read_common(self, offset: int, n: int) -> bytes | bytearray:
        return read_image(self.registers, offset, n)

    def _write_common(self, offset: int, data: bytes) -> None:
        for address, value in enumerate(data, offset):
            address &= 0xFFFF
            if address < R.COMMON_END:
                _WRITERS[address](self, address, value)
            else:
                self.guest_error("write above the register block", f"common, 0x{address:04x}")

    def _write_plain(self, address: int, value: int) -> None:
        self.registers[address] = value

    def _write_read_only(self, address: int, value: int) -> None:
        self.guest_error("write to a read-only register", f"common, 0x{address:02x}")

    def _write_mode(self, address: int, value: int) -> None:
        if value & R.MR_RST:
            self._reset()
            return
        self.registers[address] = value
        self._update_mode()

    def _write_network(self, address: int, value: int) -> None:
        self.registers[address] = value
        self._update_network()

    def _write_ir(self, address: int, value: int) -> None:
        cleared = self.registers[address] & value & self.registers[R.IMR]
        self.registers[address] &= ~value
        self._update_intn(bool(cleared))

    def _write_mask(self, address: int, value: int) -> None:
        self.registers[address] = value
        self._update_intn()

    def _write_phy(self, address: int, value: int) -> None:
        self.phy.configure(value)

    def _phy_changed(self, value: int) -> None:
        self.registers[R.PHYCFGR] = value

    def _update_mode(self) -> None:
        mode = self.registers[R.MR]
        self.stack.ping_reply = not mode & R.MR_PB
        self._update_raw()

    def _update_network(self) -> None:
        registers = self.registers
        stack = self.stack
        stack.gateway = bytes(registers[R.GAR : R.GAR + 4])
        stack.netmask = bytes(registers[R.SUBR : R.SUBR + 4])
        stack.mac = bytes(registers[R.SHAR : R.SHAR + 6])
        stack.ip = bytes(registers[R.SIPR : R.SIPR + 4])
        stack.rtr = get16(registers, R.RTR)
        stack.rcr = registers[R.RCR]
        stack.ack_delay = stack.rtr * RTR_UNIT_NS  # unless Sn_MR says no delay (4.2)

    # Reset

    def reset_pin(self, low: bool) -> None:
        """The level of RSTn. Low for 500 us resets; after the rising edge the chip is silent for 1 ms."""
        if low == self._reset_low:
            return
        self._reset_low = low
        if self._reset_alarm is not None:
            self._reset_alarm.cancel()
            self._reset_alarm = None
        now = self.clock.now
        if low:
            self._reset_edge = now
            self.silent = True
            self._reset_alarm = self.clock.call_later(RESET_LOW_NS, self._reset)
        elif now - self._reset_edge < RESET_LOW_NS:
            self.guest_error("RSTn low too short", f"{now - self._reset_edge} ns: the chip was not reset")
            self.silent = False
        else:
            self._reset_alarm = self.clock.call_later(PLL_LOCK_NS, self._start)

    def _start(self) -> None:
        self.silent = False
        self._delay_version()

    def _reset(self) -> None:
        for socket in self._sockets:
            socket.reset()
        self.stack.arp.forget()
        self.registers[:] = _RESET
        self.phy.reset()
        self._update_network()
        self._update_mode()
        self._update_intn()
        self._delay_version()

    def _delay_version(self) -> None:
        if self._version_alarm is not None:
            self._version_alarm.cancel()
            self._version_alarm = None
        if delay := self.options.version_delay_ns:
            self.registers[R.VERSIONR] = 0
            self._version_alarm = self.clock.call_later(delay, self._show_version)

    def _show_version(self) -> None:
        self.registers[R.VERSIONR] = R.VERSION

    # Interrupts

    def socket_interrupt(self, number: int, active: bool) -> None:
        """Sn_IR & Sn_IMR of a socket is now non-zero (`active`) or zero."""
        registers = self.registers
        before = registers[R.SIR]
        now = before | 1 << number if active else before & ~(1 << number)
        if now != before:
            registers[R.SIR] = now
            self._update_intn(bool(before & ~now & registers[R.SIMR]))

    def _raise(self, bits: int) -> None:
        self.registers[R.IR] |= bits
        self._update_intn()

    def _update_intn(self, cleared: bool = False) -> None:
        registers = self.registers
        pending = registers[R.IR] & registers[R.IMR] or registers[R.SIR] & registers[R.SIMR]
        if not self.intn and (not pending or (cleared and self.options.intn_high_on_clear)):
            pause = (get16(registers, R.INTLEVEL) + 1) * NS_PER_S // INTLEVEL_HZ
            self._intn_hold = self.clock.now + pause
            self._set_intn(True)
        if pending and self.intn:
            if self.clock.now >= self._intn_hold:
                self._set_intn(False)
            elif self._intn_alarm is None:
                self._intn_alarm = self.clock.call_at(self._intn_hold, self._intn_due)

    def _intn_due(self) -> None:
        self._intn_alarm = None
        self._update_intn()

    def _set_intn(self, level: bool) -> None:
        self.intn = level
        if self.on_intn is not None:
            self.on_intn(level)

    # From the engine, and what the sockets need of the chip

    def _listener(self, port: int) -> Socket | None:
        waiting = [s for s in self._sockets if s.state == R.LISTENING and s.port == port]
        if not waiting:
            return None
        return waiting[-1 if self.options.highest_listener else 0]

    def _on_syn(self, port: int, ip: bytes, remote_port: int) -> Socket | None:
        return self._listener(port)

    def _on_conflict(self) -> None:
        self._raise(R.IR_CONFLICT)

    def _on_unreachable(self, ip: bytes, port: int) -> None:
        self.registers[R.UIPR : R.UIPR + 4] = ip
        put16(self.registers, R.UPORTR, port)
        self._raise(R.IR_UNREACH)

    def is_broadcast(self, ip: bytes) -> bool:
        """True for the limited broadcast address and that of the subnet."""
        if ip == BROADCAST_IP:
            return True
        mask = int.from_bytes(self.stack.netmask, "big")
        host = ~mask & 0xFFFFFFFF
        return bool(mask) and int.from_bytes(ip, "big") == (
            int.from_bytes(self.stack.ip, "big") & mask | host
        )

    def udp_in_use(self, port: int, opening: Socket) -> bool:
        """True if another socket has this UDP port; the last to open it gets the datagrams."""
        return any(s is not opening and s.state == R.UDP and s.port == port for s in self._sockets)

    def check_settings(self) -> None:
        """What a socket that opens now builds on: mode bits, a memory layout that fits (datasheet 3.3)."""
        self.stack.time_wait = self.options.time_wait_ns
        if self.registers[R.MR] & R.MR_PPPOE:
            self.unsupported("PPPoE")
        for name, address in (("receive", R.SN_RXBUF_SIZE), ("transmit", R.SN_TXBUF_SIZE)):
            if sum(socket.registers[address] for socket in self._sockets) > R.MEMORY_KB:
                self.guest_error("memory sizes add up to more than 16 KB", name)

    def set_macraw(self, socket: Socket | None) -> None:
        """Give received frames to `socket`, or to nobody."""
        self._macraw = socket
        self._update_raw()

    def _update_raw(self) -> None:
        wanted = self._macraw is not None or self.registers[R.MR] & R.MR_WOL
        self.stack.raw = self._raw_frame if wanted else None

    def _raw_frame(self, frame: bytes) -> bool:
        """MACRAW and Wake on LAN look at each frame first; True: the TCP/IP engine must not see it.

        ARP and ICMP go both ways. TCP and UDP go to the socket they belong to, else to MACRAW only: where the
        host runs its own stack on MACRAW the chip must not reset that stack's peers.
        """
        registers = self.registers
        mac = registers[R.SHAR : R.SHAR + 6]
        if registers[R.MR] & R.MR_WOL and b"\xff" * 6 + mac * 16 in frame:
            self._raise(R.IR_MP)
        socket = self._macraw
        if socket is None:
            return False
        flow = _flow(frame)
        taken = flow is not None and any(s.takes(*flow) for s in self._sockets)
        if (not taken or self.options.macraw_shares) and _passes(frame, socket.registers[R.SN_MR], mac):
            socket.raw_frame(frame)
        return flow is not None and not taken

    def unsupported(self, what: str) -> None:
        """Count the use of something the model does not have."""
        self.unimplemented[what] += 1
        log.warning("not modelled: %s", what)


def _passes(frame: bytes, mode: int, mac: bytes) -> bool:
    """The MACRAW filter: MFEN, BCASTB, MMB and MIP6B of Sn_MR."""
    to = frame[:6]
    if to == BROADCAST_MAC:
        wanted = not mode & R.MR_BCASTB
    elif to[0] & 1:
        wanted = not mode & R.MR_ND
    else:
        wanted = to == mac or not mode & R.MR_MULTI
    return wanted and not (mode & R.MR_UCASTB and frame[12:14] == ETHERTYPE_IPV6)


def _flow(frame: bytes) -> tuple[int, int, bytes, int] | None:
    """(protocol, local port, remote address, remote port) of a received TCP or UDP frame, else None."""
    if frame[12:14] != ETHERTYPE_IPV4 or len(frame) < _IP_END or frame[23] not in (IP_TCP, IP_UDP):
        return None
    ports = 14 + (frame[14] & 0x0F) * 4
    if len(frame) < ports + 4:
        return None
    return frame[23], get16(frame, ports + 2), frame[26:30], get16(frame, ports)


def _writers() -> list[Callable[[W5500, int, int], None]]:
    """Who takes a byte written to each address. Reserved addresses read 0 and ignore writes."""
    table = [W5500._write_read_only] * R.COMMON_END
    table[R.GAR : R.INTLEVEL] = [W5500._write_network] * (R.INTLEVEL - R.GAR)
    table[R.RTR : R.PTIMER] = [W5500._write_network] * (R.PTIMER - R.RTR)
    for first, end in ((R.INTLEVEL, R.IR), (R.PTIMER, R.UIPR)):
        table[first:end] = [W5500._write_plain] * (end - first)
    table[R.MR] = W5500._write_mode
    table[R.IR] = W5500._write_ir
    table[R.IMR] = table[R.SIMR] = W5500._write_mask
    table[R.PHYCFGR] = W5500._write_phy
    return table


_WRITERS = _writers()
