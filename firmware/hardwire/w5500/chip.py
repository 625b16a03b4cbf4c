"""The chip's fast data path: eight hardware sockets as endpoints. No asyncio, no policy, no waiting.

In: commands from net.py. Out: bytes and events. Pointers live on the board: the chip never moves RX_RD or TX_WR of a
connected socket (datasheet 4.2), so they are read once per connection. CR is never spun on: the chip takes a
command within the time of the next frame.
"""

from ..compat import const, micropython, ptr8, sleep_ms, ticks_diff, ticks_ms
from . import regs as R
from .regs import SEND, SN_TX_WR  # on the request path: found twice as fast as R.SEND

CHUNK = const(2048)  # most bytes handed over at once: the receive memory of a socket

# sleep_ms(n) ends at the n-th turn of the millisecond, so it may last little more than n - 1.
_RESET_LOW_MS = 2  # RSTn low >= 500 us (datasheet 5.5.1)
_START_MS = 2  # PLL lock >= 1 ms after RSTn
_VERSION_WAIT_MS = 200  # some chips answer 0 for a while after reset
_MEMORY_MAX = const(0x4000)
# A snapshot is torn only while a segment arrives; four in a row mean a broken bus.
_SNAPSHOT_TRIES = const(4)

_OPEN_TCP = bytes((R.P_TCP | R.MR_ND, R.OPEN))  # written as one burst: Sn_MR, then Sn_CR
_LISTEN = bytes((R.LISTEN,))
_DISCON = bytes((R.DISCON,))
_CLOSE = bytes((R.CLOSE,))
_CONNECT = bytes((R.CONNECT,))
_OPEN_UDP = bytes((R.P_UDP, R.OPEN))
_UDP_HEAD = const(8)  # address, port, size: before each datagram in receive memory (datasheet 5.3)
_four = bytearray(4)
_six = bytearray(6)
_ALL = b"\xff"
_NO_MODE = b"\0"
_RETRY = b"\x07\xd0\x08"  # RTR 200 ms, RCR 8: the chip's own values (datasheet 4.1), up to 31.8 s in all
_MEMORY_KB = b"\2\2"  # Sn_RXBUF_SIZE, Sn_TXBUF_SIZE
_block = bytearray(R.SOCKET_END)
_block_memory = memoryview(_block)[R.SN_RXBUF_SIZE : R.SN_TX_FSR]
_KEEPALIVE = (
    b"\x02"  # Sn_KPALVTR, 5 s each: ask a silent peer whether it is there (not before data has passed)
)
# SENDOK wakes nobody until a writer waits for it.
_IMR_QUIET = bytes((R.I_TIMEOUT | R.I_RECV | R.I_DISCON | R.I_CON,))
_IMR_SENDING = bytes((R.I_SENDOK | R.I_TIMEOUT | R.I_RECV | R.I_DISCON | R.I_CON,))


class ChipError(OSError):
    """The chip does not answer as a W5500 does."""


class BrokenBus(ChipError):
    """A socket's registers contradict each other or what was written: noise on SPI, or the chip lost power."""


_SMALL = const(64)  # views of the receive buffer up to this many bytes are made once and kept
_buffer = memoryview(bytearray(CHUNK))  # what was read, until the owner has had it; all endpoints share it
_views = [None] * (_SMALL + 1)
_last_view = _buffer


def _view(n):
    """The first `n` bytes of the shared buffer."""
    global _last_view
    if n <= _SMALL:
        view = _views[n] = _buffer[:n]
    else:
        view = _last_view
        if len(view) != n:
            view = _last_view = _buffer[:n]
    return view


_len = len  # a builtin is looked for among all names of this module first, which costs 9 us


class Endpoint:
    """One hardware socket: commands, pointers, bytes.

    `receive` and `look` go by the bus's snapshot, which `Bus.attend` has taken of this socket just before.
    """

    def __init__(self, bus, number):
        self._read = bus.read
        self._write = bus.write
        self._attend = bus.attend
        self._commit = bus.commit
        self._snapshot = bus.snapshot
        self.number = number
        self.bit = 1 << number
        self.regs = R.SOCKET + number * R.SOCKET_STEP
        self.tx = R.TX + number * R.SOCKET_STEP
        self.rx = R.RX + number * R.SOCKET_STEP
        self.size = 0  # of the transmit memory
        self.free = 0  # lower bound; the last snapshot less what was written since
        self.busy = False  # the last SEND had not ended at the last snapshot
        self.unsent = False  # bytes in transmit memory that no SEND has named yet
        self.kept = 0  # bytes read since the last RECV: still in the chip's count
        self.unread = 0  # bytes that the last snapshot showed and `receive` left
        self.owner = None  # who gets the events: net.py's listener or connection
        self._rx_rd = 0  # next byte to read
        self._tx_wr = 0  # next byte to write
        self._tx_sent = 0  # what the last SEND went up to
        self._two = bytearray(2)
        self._sending = False  # SENDOK is unmasked
        self._mode = _OPEN_TCP
        self._port = 0
        self.doubts = 0  # times in a row that it did not do as told; net.py's
        self.waited = 0  # ticks in a handshake; net.py's
        self.seen = 0  # Sn_SR as `sound` has found it

    def reset(self):
        """The chip was reset: the socket is nobody's."""
        self.owner = None
        self.doubts = self.waited = 0

    @micropython.native
    def _set16(self, address, value):
        two = self._two
        two[0] = value >> 8
        two[1] = value & 0xFF
        self._write(self.regs, address, two)

    def _open(self, mode, port):
        """OPEN as `mode` on `port`, whatever it was before."""
        self._write(self.regs, R.SN_CR, _CLOSE)
        self._write(self.regs, R.SN_IR, _ALL)
        self._mode = mode
        self._port = port
        self._sending = False
        self._set_up()
        self._write(self.regs, R.SN_MR, mode)

    def _set_up(self):
        self._set16(R.SN_PORT, self._port)
        self._write(self.regs, R.SN_IMR, _IMR_SENDING if self._sending else _IMR_QUIET)
        self._write(self.regs, R.SN_KPALVTR, _KEEPALIVE)

    def listen(self, port):
        """Arm the socket as a TCP listener on `port`."""
        self._open(_OPEN_TCP, port)
        self._write(self.regs, R.SN_CR, _LISTEN)

    def connect(self, local_port, address, port):
        """Begin a TCP connection to `address` (4 bytes): CON or TIMEOUT follows."""
        self._open(_OPEN_TCP, local_port)
        self._write(self.regs, R.SN_DIPR, address + bytes((port >> 8, port & 0xFF)))
        self._write(self.regs, R.SN_CR, _CONNECT)

    def open_udp(self, port):
        """Send and receive datagrams on `port`, broadcasts too."""
        self._open(_OPEN_UDP, port)
        self._attend(0, self.bit)
        self._take_over()

    def close(self):
        """Drop the connection at once and silently (datasheet, Sn_CR CLOSE)."""
        self._write(self.regs, R.SN_CR, _CLOSE)
        self._write(self.regs, R.SN_IR, _ALL)

    def disconnect(self):
        """Send FIN after what has been sent; the chip goes on by itself and ends in CLOSED."""
        self._write(self.regs, R.SN_CR, _DISCON)

    def events(self):
        """Read and clear what happened. Returns (Sn_IR << 8 | Sn_SR)."""
        two = self._two
        self._read(self.regs, R.SN_IR, two)
        value = two[0] << 8 | two[1]
        if two[0]:
            self._write(self.regs, R.SN_IR, two[:1])
        return value

    @micropython.native
    def state(self):
        """Sn_SR."""
        two = self._two
        self._read(self.regs, R.SN_IR, two)
        return two[1]

    def commanded(self):
        """Sn_CR << 8 | Sn_SR: a command that stays in Sn_CR was not taken."""
        self._read(self.regs, R.SN_MR, _four)
        return _four[1] << 8 | _four[3]

    def sound(self):
        """Whether its registers are as `listen`, `connect` or `open_udp` left them. One frame."""
        block = _block
        self._read(self.regs, R.SN_MR, block)
        self.seen = block[R.SN_SR]
        return (
            block[R.SN_MR] == self._mode[0]
            and block[R.SN_PORT] << 8 | block[R.SN_PORT + 1] == self._port
            and _block_memory == _MEMORY_KB
            and block[R.SN_IMR] == (_IMR_SENDING if self._sending else _IMR_QUIET)[0]
            and block[R.SN_KPALVTR] == _KEEPALIVE[0]
            and not block[R.SN_CR]
        )

    def repair(self):
        """Write again what does not disturb a connection."""
        self._write(self.regs, R.SN_MR, self._mode[:1])
        self._write(self.regs, R.SN_RXBUF_SIZE, _MEMORY_KB)
        self._set_up()

    def peer(self):
        """Who is at the other end: (4 bytes, port)."""
        self._read(self.regs, R.SN_DIPR, _six)
        return bytes(_six[:4]), _six[4] << 8 | _six[5]

    def connected(self):
        """Take over a connection just made: pointers from the chip. Returns the peer, (4 bytes, port)."""
        self._attend(0, self.bit)
        self._take_over()
        return self.peer()

    def _take_over(self):
        snapshot = self._snapshot
        self._rx_rd = snapshot[8] << 8 | snapshot[9]
        self._tx_wr = self._tx_sent = snapshot[4] << 8 | snapshot[5]
        self.kept = self.unread = 0
        self.unsent = False
        self.look()
        self.size = self.free

    @micropython.viper
    def look(self) -> int:
        """Understand the snapshot: `free`, `busy`, `unread`, which is returned too.

        Sixteen-bit counts may be torn while a segment arrives (datasheet, Sn_RX_RSR). So it counts only if RX_RSR is
        RX_WR - RX_RD, and both pointers of the host are where the board left them; else another one is taken. Raises
        BrokenBus when none makes sense.
        """
        snapshot = ptr8(self._snapshot)
        kept = int(self.kept)
        read = int(self._rx_rd) - kept & 0xFFFF
        sent = int(self._tx_sent)
        tries = 0
        while True:
            count = snapshot[6] << 8 | snapshot[7]
            rx_rd = snapshot[8] << 8 | snapshot[9]
            tx_wr = snapshot[4] << 8 | snapshot[5]
            received = (snapshot[10] << 8 | snapshot[11]) - rx_rd & 0xFFFF
            if received == count and rx_rd == read and tx_wr == sent and count <= int(_MEMORY_MAX):
                break
            if tries == int(_SNAPSHOT_TRIES):
                self._make_no_sense()
            self._attend(0, self.bit)
            tries += 1
        free = snapshot[0] << 8 | snapshot[1]
        if self.unsent:
            free -= int(self._tx_wr) - sent & 0xFFFF
        self.free = free
        self.busy = (snapshot[2] << 8 | snapshot[3]) != tx_wr  # TX_RD: the last SEND has not ended
        count -= kept
        self.unread = count
        return count

    def _make_no_sense(self):
        raise BrokenBus("socket %d: registers contradict each other" % self.number)

    def refresh(self):
        """`look` at a snapshot of now."""
        self._attend(0, self.bit)
        self.look()

    @micropython.viper
    def receive(self, most: int):
        """`look`, then read what has come, `most` bytes of it at most (not above CHUNK).

        Returns a view that is valid until the next call for any endpoint, None when nothing has come. Raises as `look`.
        """
        n = int(self.look())
        if n > most:
            self.unread = n - most
            n = most
        elif n:
            self.unread = 0
        if n <= 0:
            return None
        view = _views[n] if n <= _SMALL else _view(n)
        if not view:
            view = _view(n)
        rx_rd = int(self._rx_rd)
        self._read(self.rx, rx_rd, view)
        self._rx_rd = rx_rd + n & 0xFFFF
        self.kept = int(self.kept) + n
        return view

    def release(self):
        """Give the memory of the `kept` bytes back to the peer's window."""
        self.kept = 0
        self._commit(self.regs, R.SN_RX_RD, self._rx_rd, R.RECV)

    @micropython.viper
    def write(self, buffer):
        """Copy `buffer` (at most `free` bytes) into transmit memory; `send` puts it on the wire."""
        n = int(_len(buffer))
        tx_wr = int(self._tx_wr)
        self._write(self.tx, tx_wr, buffer)
        self._tx_wr = tx_wr + n & 0xFFFF
        self.free = int(self.free) - n
        self.unsent = True

    def notify(self):
        """Interrupt when the SEND under way has ended."""
        if not self._sending:
            self._sending = True
            self._write(self.regs, R.SN_IMR, _IMR_SENDING)

    @micropython.native
    def send(self):
        """SEND what was written, unless the last SEND is still under way (then SENDOK wakes the board)."""
        if self.busy:
            self.refresh()  # a frame on the wire takes less time than we do
            if self.busy:
                self.notify()
                return
        if self._sending:
            self._sending = False
            self._write(self.regs, R.SN_IMR, _IMR_QUIET)
        tx_wr = self._tx_wr
        self._commit(self.regs, SN_TX_WR, tx_wr, SEND)
        self._tx_sent = tx_wr
        self.busy = True
        self.unsent = False

    # Datagrams

    def send_to(self, data, address, port):
        """One datagram of at most `free` bytes; `busy` until ARP has an answer or TIMEOUT says that nobody is there."""
        self._write(self.regs, R.SN_DIPR, address + bytes((port >> 8, port & 0xFF)))
        self.write(data)
        self.send()

    def datagram(self):
        """The next datagram: (payload, address, port); None without one. The payload is a view as `receive` returns.

        Raises BrokenBus for a header that cannot be.
        """
        head = self.receive(_UDP_HEAD)
        if head is None or len(head) < _UDP_HEAD:
            return None
        address = bytes(head[:4])
        port = head[4] << 8 | head[5]
        size = head[6] << 8 | head[7]
        if size > self.unread:
            raise BrokenBus("socket %d: datagram of %d bytes, %d there" % (self.number, size, self.unread))
        payload = _view(min(size, CHUNK)) if size else _buffer[:0]
        if size:
            self._read(self.rx, self._rx_rd, payload)
        self._rx_rd = self._rx_rd + size & 0xFFFF
        self.kept += size
        self.release()
        return payload, address, port


# Verdicts of Chip.survey
SOUND = const(0)
WRONG = const(1)  # a setting is not what was written
LOST = const(2)  # it was reset, or is not there


class Chip:
    """The chip as a whole: version, settings, interrupts, and its `endpoints`.

    `reset_pin` is RSTn (a callable taking 0 or 1) or None where the board does not wire it.
    """

    def __init__(self, bus, reset_pin=None):
        self.bus = bus
        self._reset_pin = reset_pin
        self._one = bytearray(1)
        self._common = bytearray(R.COMMON_END)  # as read last, and parts of it
        self._network = memoryview(self._common)[R.GAR : R.INTLEVEL]
        self._retry = memoryview(self._common)[R.RTR : R.PTIMER]
        self._settings = bytes(18)  # from GAR on
        self._simr = 0
        self.endpoints = [Endpoint(bus, number) for number in range(R.SOCKETS)]
        self.linked = False  # as seen by the last survey
        self.conflict = False  # another host used our address before the last survey

    def version(self):
        """VERSIONR: 4 on every W5500."""
        self.bus.read(R.COMMON, R.VERSIONR, self._one)
        return self._one[0]

    def reset(self, patience_ms=_VERSION_WAIT_MS):
        """Reset all registers and wait until the chip answers. Raises ChipError naming what it read."""
        if self._reset_pin:
            self._reset_pin(0)
            sleep_ms(_RESET_LOW_MS)
            self._reset_pin(1)
            sleep_ms(_START_MS)
        else:
            self.bus.write(R.COMMON, R.MR, bytes((R.MR_RST,)))
        start = ticks_ms()
        while (version := self.version()) != R.VERSION:
            if ticks_diff(ticks_ms(), start) > patience_ms:
                raise ChipError(
                    "no W5500 on SPI: version register is 0x%02x, not 0x%02x" % (version, R.VERSION)
                )
            sleep_ms(1)

    def interrupts(self, sockets):
        """Let INTn fall for events of the sockets in the bit mask `sockets`."""
        self._simr = sockets
        self.bus.write(R.COMMON, R.SIMR, bytes((sockets,)))

    def link(self):
        """True while the PHY has link."""
        self.bus.read(R.COMMON, R.PHYCFGR, self._one)
        return bool(self._one[0] & R.PHY_LNK)

    def configure(self, address, netmask, gateway, mac):
        """Set what `network` returns."""
        self._settings = bytes(gateway) + bytes(netmask) + bytes(mac) + bytes(address)
        self.bus.write(R.COMMON, R.GAR, self._settings)

    def network(self):
        """What the chip was told: (address, netmask, gateway, mac) as bytes."""
        settings = self._settings
        return settings[14:18], settings[4:8], settings[0:4], settings[8:14]

    def survey(self):
        """Compare the common registers with what was written: SOUND, WRONG or LOST; `linked`, `conflict`. One frame."""
        common = self._common
        self.bus.read(R.COMMON, R.MR, common)
        same = self._network == self._settings
        if common[R.VERSIONR] != R.VERSION or not (same or any(self._network)):
            return LOST
        if not same or self._retry != _RETRY or common[R.SIMR] != self._simr or common[R.MR] or common[R.IMR]:
            return WRONG
        self.linked = bool(common[R.PHYCFGR] & R.PHY_LNK)
        self.conflict = bool(common[R.IR] & R.IR_CONFLICT)
        if common[R.IR]:
            self.bus.write(R.COMMON, R.IR, _ALL)
        return SOUND

    def restore(self):
        """Write every setting again."""
        write = self.bus.write
        write(R.COMMON, R.MR, _NO_MODE)
        write(R.COMMON, R.GAR, self._settings)
        write(R.COMMON, R.IMR, _NO_MODE)
        write(R.COMMON, R.SIMR, bytes((self._simr,)))
        write(R.COMMON, R.RTR, _RETRY)
