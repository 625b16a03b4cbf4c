"""What a hardware socket does: commands, states, TCP, UDP and MACRAW on the TCP/IP engine.

In: commands from its registers (w5500_registers.py); the engine's calls: a Socket is the engine's `TcpUser`.
Out: register contents and interrupts; calls to the engine. A command in a state where it means nothing is
counted by `chip.guest_error` and ignored.
Source: datasheet v1.0.9, tables of Sn_CR and Sn_SR (pages 46 to 50).
"""

from . import regs as R
from .packets import IP_FIELDS, IpFields
from .w5500_memory import get16, load, put16
from .w5500_registers import SocketRegisters

UDP_MAX = 1472  # payload of one Ethernet frame; more goes out as several datagrams, never as fragments
FRAME_MIN = 60  # without FCS; the MAC pads to this
FRAME_MAX = 1514
KEEPALIVE_UNIT_S = 5
IP_UDP = 17
BROADCAST = b"\xff" * 4

TCP_CONNECTED = (R.ESTABLISHED, R.CLOSE_WAIT)
TCP_OPENING = (R.SYNSENT, R.SYNRECV)

STATE_NAMES = {
    R.CLOSED: "CLOSED",
    R.INIT: "INIT",
    R.LISTENING: "LISTEN",
    R.SYNSENT: "SYNSENT",
    R.SYNRECV: "SYNRECV",
    R.ESTABLISHED: "ESTABLISHED",
    R.FIN_WAIT: "FIN_WAIT",
    R.CLOSING: "CLOSING",
    R.TIME_WAIT: "TIME_WAIT",
    R.CLOSE_WAIT: "CLOSE_WAIT",
    R.LAST_ACK: "LAST_ACK",
    R.UDP: "UDP",
    R.MACRAW: "MACRAW",
}
PROTOCOL_NAMES = {R.INIT: "TCP", R.UDP: "UDP", R.MACRAW: "MACRAW"}

# The engine's state (RFC 9293) once both ends have sent FIN, ours first, as Sn_SR shows it.
_CLOSING_STATES = {"CLOSING": R.CLOSING, "TIME-WAIT": R.TIME_WAIT}


class Socket(SocketRegisters):
    """Hardware socket `number`: its commands, and what the network does to it."""

    def __init__(self, chip, number: int) -> None:
        super().__init__(chip, number)
        self.port = 0  # Sn_PORT as it was at OPEN
        self._sent_bytes = 0
        self._tcb = None
        self._udp = None
        self._sending = False  # from SEND until SENDOK or TIMEOUT
        self._epoch = 0  # counts OPEN and CLOSE: ARP's answer to a SEND before the last one is dropped
        self._asked = (b"", b"")  # Sn_DIPR of the last ARP in UDP, its answer
        self._group: bytes | None = None  # multicast address joined at OPEN
        self._fields = IP_FIELDS  # Sn_TOS, Sn_FRAG, Sn_TTL as they were at OPEN
        self.reset()

    def reset(self) -> None:
        """Everything to reset values; connections are forgotten without a segment."""
        self._drop()
        self._reset_registers()
        self.port = 0
        self._sent_bytes = 0

    def describe(self) -> dict:
        """One line of the socket table: what a person wants to know."""
        state = self.state
        registers = self.registers
        is_open = state != R.CLOSED
        return {
            "number": self.number,
            "protocol": PROTOCOL_NAMES.get(state, "TCP") if is_open else None,
            "state": STATE_NAMES[state],
            "port": self.port if is_open and state != R.MACRAW else None,
            "peer": _address(registers) if self._tcb is not None else None,
            "rx": get16(registers, R.SN_RX_RSR),
            "rx_size": len(self.rx),
            "tx": len(self.tx) - get16(registers, R.SN_TX_FSR),
            "tx_size": len(self.tx),
            "received": self.received_bytes,
            "sent": self._sent_bytes,
        }

    def takes(self, protocol: int, port: int, remote_ip: bytes, remote_port: int) -> bool:
        """True if a received segment or datagram belongs to this socket (IP protocol numbers)."""
        if port != self.port:
            return False
        if protocol == IP_UDP:
            return self._udp is not None
        tcb = self._tcb
        if tcb is None:
            return self.state == R.LISTENING
        return (tcb.remote_ip, tcb.remote_port) == (remote_ip, remote_port)

    def _set_peer_mac(self, mac: bytes) -> None:
        self.registers[R.SN_DHAR : R.SN_DHAR + 6] = mac

    def _drop(self) -> None:
        """Leave the network without a word: what CLOSE, OPEN and reset have in common."""
        self._epoch += 1
        self._sending = False
        self._asked = (b"", b"")
        self._leave(silently=True)
        if self._command_alarm is not None:
            self._command_alarm.cancel()
            self._command_alarm = None
        if self._tcb is not None:
            self._tcb.forget()
            self._tcb = None
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self.registers[R.SN_SR] == R.MACRAW:
            self.chip.set_macraw(None)
        self.registers[R.SN_SR] = R.CLOSED

    def _leave(self, *, silently: bool) -> None:
        if self._group is not None:
            self.chip.stack.igmp.leave(self._group, silently=silently)
            self._group = None

    def _set_keepalive(self) -> None:
        if self._tcb is not None:
            self._tcb.keepalive(self.registers[R.SN_KPALVTR] * KEEPALIVE_UNIT_S)

    # Commands

    def _execute(self, value: int) -> None:
        entry = _COMMANDS.get(value)
        if entry is None:
            if value:
                self.chip.guest_error("unknown command", f"socket {self.number}: 0x{value:02x}")
            return
        name, states, method = entry
        state = self.registers[R.SN_SR]
        if states is None or state in states:
            method(self)
        else:
            # Harmless ones too: adafruit_wiznet5k sends LISTEN and CONNECT in UDP.
            self.chip.guest_error(f"{name} in {STATE_NAMES[state]}", f"socket {self.number}")

    def _open(self) -> None:
        chip = self.chip
        registers = self.registers
        frame, before = self._mode_write
        late = frame == chip.frames and not chip.options.mode_in_burst
        protocol = (before if late else registers[R.SN_MR]) & 0x0F
        if protocol == R.P_IPRAW:
            chip.unsupported("IPRAW")
            return
        if protocol not in (R.P_TCP, R.P_UDP, R.P_MACRAW) or (protocol == R.P_MACRAW and self.number):
            chip.guest_error("OPEN of a protocol the socket has not", f"socket {self.number}: {protocol}")
            return
        if self.state != R.CLOSED:
            chip.guest_error(f"OPEN in {STATE_NAMES[self.state]}", f"socket {self.number}")
        if protocol == R.P_UDP and chip.udp_in_use(get16(registers, R.SN_PORT), self):
            chip.guest_error("two UDP sockets on one port", f"socket {self.number}")
        chip.check_settings()
        self._drop()
        self.port = get16(registers, R.SN_PORT)
        self._fields = IpFields(registers[R.SN_TOS], get16(registers, R.SN_FRAG), registers[R.SN_TTL])
        if protocol == R.P_TCP:
            self._set_pointers(0)
            registers[R.SN_SR] = R.INIT
            return
        self._set_pointers(chip.start_pointer())
        if protocol == R.P_UDP:
            if registers[R.SN_MR] & R.MR_MULTI:
                self._join()
            self._udp = chip.stack.udp_bind(self.port, self._datagram)
            registers[R.SN_SR] = R.UDP
        else:
            chip.set_macraw(self)
            registers[R.SN_SR] = R.MACRAW

    def _join(self) -> None:
        """Sn_DIPR at OPEN is the group (4.2, Sn_MR MULTI)."""
        group = bytes(self.registers[R.SN_DIPR : R.SN_DIPR + 4])
        if not 224 <= group[0] < 240:
            self.chip.guest_error("MULTI without a group in Sn_DIPR", f"socket {self.number}")
            return
        self._group = group
        self.chip.stack.igmp.join(group, 1 if self.registers[R.SN_MR] & R.MR_ND else 2)

    def _listen(self) -> None:
        self.registers[R.SN_SR] = R.LISTENING

    def _connect(self) -> None:
        registers = self.registers
        ip = bytes(registers[R.SN_DIPR : R.SN_DIPR + 4])
        port = get16(registers, R.SN_DPORT)
        if not port or ip in (bytes(4), BROADCAST):
            self.chip.guest_error("CONNECT to nowhere", f"socket {self.number}")
        self.chip.stack.connect(self, self.port, ip, port)

    def _disconnect(self) -> None:
        registers = self.registers
        if registers[R.SN_SR] in TCP_CONNECTED:
            registers[R.SN_SR] = R.FIN_WAIT if registers[R.SN_SR] == R.ESTABLISHED else R.LAST_ACK
            self._tcb.shutdown()
        else:
            self._drop()
            if bits := self.chip.options.ir_on_idle_discon:
                self._raise(bits)

    def _close(self) -> None:
        self._leave(silently=False)
        self._drop()
        if self.chip.options.close_clears_port:
            put16(self.registers, R.SN_PORT, 0)

    def _receive(self) -> None:
        registers = self.registers
        left = self._rx_write - get16(registers, R.SN_RX_RD) & 0xFFFF
        if left > self._fill():
            self.chip.guest_error("RECV with RX_RD outside the received data", f"socket {self.number}")
            left = min(left, len(self.rx))
        self._rx_read = self._rx_write - left & 0xFFFF
        put16(registers, R.SN_RX_RSR, left)
        self.torn.pop(R.SN_RX_RSR, None)
        if left and self.chip.options.recv_again:
            self._raise(R.I_RECV)
        if self._tcb is not None:
            self._tcb.window_opened()

    def _send(self) -> None:
        self._transmit(None)

    def _send_mac(self) -> None:
        self._transmit(bytes(self.registers[R.SN_DHAR : R.SN_DHAR + 6]))

    def _send_keep(self) -> None:
        if self.registers[R.SN_KPALVTR]:
            self.chip.guest_error("SEND_KEEP with KPALVTR set", f"socket {self.number}")
        else:
            self._tcb.send_keepalive()

    def _transmit(self, mac: bytes | None) -> None:
        """SEND: the bytes between the end of the last SEND and TX_WR. `mac` spares UDP the ARP request."""
        chip = self.chip
        tcb = self._tcb
        start = self._tx_end
        n = get16(self.registers, R.SN_TX_WR) - start & 0xFFFF
        if self._sending:
            chip.guest_error("SEND before SENDOK", f"socket {self.number}")
            if tcb is None:
                return
        room = len(self.tx) - (start - self._tx_ack & 0xFFFF)
        if n > room:
            chip.guest_error("SEND of more than the memory holds", f"socket {self.number}: {n}")
            n = room
        data = bytes(load(self.tx, start, n))
        self._tx_end = start + n & 0xFFFF
        self._sending = True
        if tcb is not None:
            if n:
                tcb.send(data)
            else:
                self._sent_all(R.I_SENDOK)
        elif self._udp is None:
            self._send_frame(data)
        else:
            self._send_datagrams(data, mac)

    def _send_datagrams(self, data: bytes, mac: bytes | None) -> None:
        registers = self.registers
        ip = bytes(registers[R.SN_DIPR : R.SN_DIPR + 4])
        port = get16(registers, R.SN_DPORT)
        epoch = self._epoch

        def resolved(mac: bytes | None) -> None:
            if epoch != self._epoch:
                return
            if mac is None:
                self._release_sent(R.I_TIMEOUT)
                return
            self._asked = ip, mac
            self._set_peer_mac(mac)
            self._put_datagrams(data, ip, port, mac)

        asked, known = self._asked
        if mac is None and asked == ip and not self.chip.asks_each_time():
            mac = known
            self._set_peer_mac(mac)
        if mac is None:
            self.chip.stack.resolve(ip, resolved)
        else:
            self._put_datagrams(data, ip, port, mac)

    def _put_datagrams(self, data: bytes, ip: bytes, port: int, mac: bytes) -> None:
        registers = self.registers
        limit = min(get16(registers, R.SN_MSSR) or UDP_MAX, UDP_MAX)
        for i in range(0, len(data), limit) or (0,):
            self.chip.stack.udp_send(self.port, ip, port, data[i : i + limit], mac=mac, fields=self._fields)
        self._sent_bytes += len(data)
        self._release_sent(R.I_SENDOK)

    def _send_frame(self, frame: bytes) -> None:
        if not 14 <= len(frame) <= FRAME_MAX:
            self.chip.guest_error("MACRAW frame of a size Ethernet has not", f"{len(frame)} bytes")
        else:
            self.chip.phy.send(frame.ljust(FRAME_MIN, b"\0"))
        self._sent_bytes += len(frame)
        self._release_sent(R.I_SENDOK)

    def _release_sent(self, bits: int) -> None:
        """The end of a SEND without acknowledgements: its memory is free again."""
        if self.chip.options.stall_without_link and not self.chip.link:
            return
        self._tx_ack = self._tx_end
        self._update_free()
        self._sent_all(bits)

    def _sent_all(self, bits: int) -> None:
        self._sending = False
        put16(self.registers, R.SN_TX_RD, self._tx_end)
        self._raise(bits & ~self.chip.lost_bits())

    # From the engine: UDP and raw frames

    def _datagram(self, src_ip: bytes, src_port: int, dst_ip: bytes, payload: bytes) -> None:
        mode = self.registers[R.SN_MR]
        if mode & R.MR_BCASTB and self.chip.is_broadcast(dst_ip):
            return
        multicast = 224 <= dst_ip[0] < 240
        if multicast and dst_ip != self._group:
            return
        if mode & R.MR_MULTI and mode & R.MR_UCASTB and not multicast and not self.chip.is_broadcast(dst_ip):
            return
        header = src_ip + src_port.to_bytes(2, "big") + len(payload).to_bytes(2, "big")
        self._put_packet(header + payload)

    def raw_frame(self, frame: bytes) -> None:
        """MACRAW reception, after the chip's filter: the length counts itself."""
        self._put_packet((len(frame) + 2).to_bytes(2, "big") + frame)

    def _put_packet(self, packet: bytes) -> None:
        """Whole or not at all."""
        if len(packet) <= len(self.rx) - self._fill():
            self._put_received(packet)
            self._raise(R.I_RECV)

    # From the engine: TCP (tcpip.TcpUser)

    def attached(self, tcb) -> None:
        """A SYN was accepted or CONNECT has begun."""
        registers = self.registers
        self._tcb = tcb
        self._set_pointers(self.chip.start_pointer())
        if registers[R.SN_SR] == R.LISTENING:
            registers[R.SN_SR] = R.SYNRECV
            registers[R.SN_DIPR : R.SN_DIPR + 4] = tcb.remote_ip
            put16(registers, R.SN_DPORT, tcb.remote_port)
            self._set_peer_mac(tcb.remote_mac)
        else:
            registers[R.SN_SR] = R.SYNSENT
        tcb.no_delay_ack = bool(registers[R.SN_MR] & R.MR_ND)
        tcb.fields = self._fields
        if self.chip.options.mssr_in_syn:
            self._limit_mss(tcb)

    def _limit_mss(self, tcb) -> None:
        if limit := get16(self.registers, R.SN_MSSR):
            tcb.mss = min(tcb.mss, limit)

    def room(self) -> int:
        """The receive window."""
        return max(0, len(self.rx) - self._fill())

    def established(self) -> None:
        """The handshake is complete."""
        registers = self.registers
        self._set_peer_mac(self._tcb.remote_mac)
        self._limit_mss(self._tcb)
        if self.chip.options.mssr_shows_mss:
            put16(registers, R.SN_MSSR, self._tcb.mss)
        self._set_keepalive()
        registers[R.SN_SR] = R.ESTABLISHED
        self._raise(R.I_CON)

    def received(self, data: bytes) -> None:
        """More of the peer's stream, within room()."""
        self._put_received(data)
        self._raise(R.I_RECV)

    def sent(self, n: int) -> None:
        """`n` bytes are on the wire for the first time."""
        registers = self.registers
        position = get16(registers, R.SN_TX_RD) + n & 0xFFFF
        put16(registers, R.SN_TX_RD, position)
        self._sent_bytes += n
        if self._sending and position == self._tx_end:
            self._sending = False
            self._raise(R.I_SENDOK & ~self.chip.lost_bits())

    def acked(self, n: int) -> None:
        """`n` bytes of transmit memory are free again."""
        high = self.registers[R.SN_TX_FSR]
        self._tx_ack = self._tx_ack + n & 0xFFFF
        self._update_free()
        self.torn[R.SN_TX_FSR] = high

    def fin(self) -> None:
        """The peer's FIN, after all its data."""
        if self.registers[R.SN_SR] == R.ESTABLISHED:
            self.registers[R.SN_SR] = R.CLOSE_WAIT
            self._raise(R.I_DISCON)
        else:
            self.registers[R.SN_SR] = _CLOSING_STATES.get(self._tcb.state, self.state)

    def closed(self, reason: str) -> None:
        """The connection is over."""
        was = self.registers[R.SN_SR]
        self._tcb = None
        self._sending = False
        self.registers[R.SN_SR] = R.CLOSED
        if reason in ("timeout", "unreachable"):
            self._raise(R.I_TIMEOUT)
        elif reason == "done":
            self._raise(self.chip.options.ir_on_last_ack if was == R.LAST_ACK else R.I_DISCON)
        elif was not in TCP_OPENING and self.chip.options.ir_on_reset:
            self._raise(self.chip.options.ir_on_reset)


def _address(registers: bytearray) -> str:
    ip = ".".join(map(str, registers[R.SN_DIPR : R.SN_DIPR + 4]))
    return f"{ip}:{get16(registers, R.SN_DPORT)}"


_OPEN_STATES = frozenset(STATE_NAMES) - {R.CLOSED}

# Sn_CR: name, the states it works in (None: all), what it does (datasheet, pages 46 to 48).
_COMMANDS = {
    R.OPEN: ("OPEN", None, Socket._open),
    R.LISTEN: ("LISTEN", {R.INIT}, Socket._listen),
    R.CONNECT: ("CONNECT", {R.INIT}, Socket._connect),
    R.DISCON: ("DISCON", {R.INIT, R.LISTENING, *TCP_OPENING, *TCP_CONNECTED}, Socket._disconnect),
    R.CLOSE: ("CLOSE", None, Socket._close),
    R.SEND: ("SEND", {*TCP_CONNECTED, R.UDP, R.MACRAW}, Socket._send),
    R.SEND_MAC: ("SEND_MAC", {R.UDP}, Socket._send_mac),
    R.SEND_KEEP: ("SEND_KEEP", set(TCP_CONNECTED), Socket._send_keep),
    R.RECV: ("RECV", _OPEN_STATES, Socket._receive),
}
