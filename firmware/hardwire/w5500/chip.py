"""The chip's fast data path: eight hardware sockets as endpoints. No asyncio, no policy, no waiting.

In: commands from net.py. Out: bytes and events. Pointers live on the board: the chip never moves RX_RD or TX_WR of a
connected socket (datasheet 4.2), so they are read once per connection. CR is never spun on: the chip takes a
command within the time of the next frame.
"""

from ..compat import const, micropython, ptr8, sleep_ms, ticks_diff, ticks_ms
from . import regs as R
from .regs import SN_CR, SN_IR, SN_TX_FSR, SN_TX_WR  # on the request path: found twice as fast as R.SN_CR

_RESET_LOW_MS = 1  # RSTn low >= 500 us (datasheet 5.5.1)
_START_MS = 2  # PLL lock >= 1 ms after RSTn
_VERSION_WAIT_MS = 200  # some chips answer 0 for a while after reset
# Parts of a snapshot's digest
_MEMORY_MAX = const(0x4000)
_BUSY = const(0x8000)
_COUNT = const(0x7FFF)
_SNAPSHOT_TRIES = 4  # a snapshot is torn only while a segment arrives; four in a row means a broken bus

_OPEN_TCP = bytes((R.P_TCP | R.MR_ND, R.OPEN))  # written as one burst: Sn_MR, then Sn_CR
_LISTEN = bytes((R.LISTEN,))
_DISCON = bytes((R.DISCON,))
_CLOSE = bytes((R.CLOSE,))
_SEND = bytes((R.SEND,))
_RECV = bytes((R.RECV,))
_ALL = b"\xff"
_KEEPALIVE = (
    b"\x02"  # Sn_KPALVTR, 5 s each: ask a silent peer whether it is there (not before data has passed)
)
_IR_DATA = bytes((R.I_RECV | R.I_SENDOK,))
# SENDOK wakes nobody until a writer waits for it.
_IMR_QUIET = bytes((R.I_TIMEOUT | R.I_RECV | R.I_DISCON | R.I_CON,))
_IMR_SENDING = bytes((R.I_SENDOK | R.I_TIMEOUT | R.I_RECV | R.I_DISCON | R.I_CON,))


@micropython.viper
def _digest(snapshot: ptr8, rx_rd: int, tx_wr: int) -> int:
    """Sn 0x20..0x2B in one number: free << 16 | busy << 15 | count; -1 if they do not agree.

    They agree if RX_RSR == RX_WR - RX_RD and both pointers of the host are where the board left them. `busy`: TX_RD has
    not reached TX_WR, so the last SEND has not ended.
    """
    count = snapshot[6] << 8 | snapshot[7]
    rd = snapshot[8] << 8 | snapshot[9]
    wr = snapshot[4] << 8 | snapshot[5]
    received = (snapshot[10] << 8 | snapshot[11]) - rd & 0xFFFF
    if received != count or rd != rx_rd or wr != tx_wr or count > _MEMORY_MAX:
        return -1
    value = (snapshot[0] << 8 | snapshot[1]) << 16 | count
    if snapshot[2] << 8 | snapshot[3] != wr:
        value |= _BUSY
    return value


class ChipError(OSError):
    """The chip does not answer as a W5500 does."""


class BrokenBus(ChipError):
    """A socket's registers contradict each other or what was written: noise on SPI, or the chip lost power."""


class Endpoint:
    """One hardware socket: commands, pointers, bytes."""

    def __init__(self, bus, number):
        self._read = bus.read
        self._write = bus.write
        self.number = number
        self.regs = R.SOCKET + number * R.SOCKET_STEP
        self.tx = R.TX + number * R.SOCKET_STEP
        self.rx = R.RX + number * R.SOCKET_STEP
        self.free = 0  # lower bound; the last snapshot less what was written since
        self.busy = False  # the last SEND had not ended at the last snapshot
        self.unsent = False  # bytes in transmit memory that no SEND has named yet
        self.kept = 0  # bytes read since the last RECV: still in the chip's count
        self.owner = None  # who gets the events: net.py's listener or connection
        self._rx_rd = 0  # next byte to read
        self._tx_wr = 0  # next byte to write
        self._tx_sent = 0  # what the last SEND went up to
        self._two = bytearray(2)
        self._snapshot = bytearray(12)
        self._sending = False  # SENDOK is unmasked

    @micropython.native
    def _set16(self, address, value):
        two = self._two
        two[0] = value >> 8
        two[1] = value & 0xFF
        self._write(self.regs, address, two)

    def listen(self, port):
        """Arm the socket as a TCP listener on `port`, whatever it was before."""
        write = self._write
        regs = self.regs
        write(regs, R.SN_CR, _CLOSE)
        write(regs, R.SN_IR, _ALL)
        self._set16(R.SN_PORT, port)
        write(regs, R.SN_IMR, _IMR_QUIET)
        self._sending = False
        write(regs, R.SN_KPALVTR, _KEEPALIVE)
        write(regs, R.SN_MR, _OPEN_TCP)
        write(regs, R.SN_CR, _LISTEN)

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

    def state(self):
        """Sn_SR."""
        two = self._two
        self._read(self.regs, R.SN_IR, two)
        return two[1]

    def connected(self):
        """Take over a connection just made: pointers from the chip. Returns the peer, (4 bytes, port)."""
        snapshot = self._snapshot
        self._read(self.regs, R.SN_TX_FSR, snapshot)
        self._rx_rd = snapshot[8] << 8 | snapshot[9]
        self._tx_wr = self._tx_sent = snapshot[4] << 8 | snapshot[5]
        self.kept = 0
        value = _digest(snapshot, self._rx_rd, self._tx_wr)
        if value < 0:
            value = self._look_again()
        self.free = value >> 16
        self.busy = self.unsent = False
        peer = bytearray(6)
        self._read(self.regs, R.SN_DIPR, peer)
        return bytes(peer[:4]), peer[4] << 8 | peer[5]

    @micropython.native
    def update(self):
        """Clear RECV and SENDOK, then look again: one burst of all pointers. Returns the number of unread bytes.

        Sixteen-bit counts may be torn while a segment arrives (datasheet, Sn_RX_RSR), so the burst is checked
        against itself and against the pointers kept here. Raises BrokenBus when it never agrees.
        """
        snapshot = self._snapshot
        kept = self.kept
        regs = self.regs
        self._write(regs, SN_IR, _IR_DATA)
        self._read(regs, SN_TX_FSR, snapshot)
        value = _digest(snapshot, self._rx_rd - kept & 0xFFFF, self._tx_sent)
        if value < 0:
            value = self._look_again()
        if self.unsent:
            self.free = (value >> 16) - (self._tx_wr - self._tx_sent & 0xFFFF)
        else:
            self.free = value >> 16
        self.busy = value & _BUSY
        return (value & _COUNT) - kept

    def _look_again(self):
        for _ in range(_SNAPSHOT_TRIES):
            self._read(self.regs, R.SN_TX_FSR, self._snapshot)
            value = _digest(self._snapshot, self._rx_rd - self.kept & 0xFFFF, self._tx_sent)
            if value >= 0:
                return value
        raise BrokenBus("socket %d: registers contradict each other" % self.number)

    @micropython.native
    def read(self, buffer):
        """Fill `buffer` with the next bytes received: at most what `update` counted."""
        self._read(self.rx, self._rx_rd, buffer)
        n = len(buffer)
        self._rx_rd = self._rx_rd + n & 0xFFFF
        self.kept += n

    def release(self):
        """Give the memory of the `kept` bytes back to the peer's window."""
        self.kept = 0
        self._set16(R.SN_RX_RD, self._rx_rd)
        self._write(self.regs, R.SN_CR, _RECV)

    @micropython.native
    def write(self, buffer):
        """Copy `buffer` (at most `free` bytes) into transmit memory; `send` puts it on the wire."""
        n = len(buffer)
        self._write(self.tx, self._tx_wr, buffer)
        self._tx_wr = self._tx_wr + n & 0xFFFF
        self.free -= n
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
            self.notify()
            return
        if self._sending:
            self._sending = False
            self._write(self.regs, R.SN_IMR, _IMR_QUIET)
        tx_wr = self._tx_wr
        two = self._two
        two[0] = tx_wr >> 8
        two[1] = tx_wr & 0xFF
        regs = self.regs
        write = self._write
        write(regs, SN_TX_WR, two)
        write(regs, SN_CR, _SEND)
        self._tx_sent = tx_wr
        self.busy = True
        self.unsent = False


class Chip:
    """The chip as a whole: version, settings, interrupts, and its `endpoints`.

    `reset` is the RSTn pin (a callable taking 0 or 1) or None where the board does not wire it.
    """

    def __init__(self, bus, reset=None):
        self.bus = bus
        self._reset = reset
        self._one = bytearray(1)
        self.endpoints = [Endpoint(bus, number) for number in range(R.SOCKETS)]

    def _get8(self, address):
        self.bus.read(R.COMMON, address, self._one)
        return self._one[0]

    def version(self):
        """VERSIONR: 4 on every W5500."""
        return self._get8(R.VERSIONR)

    def reset(self):
        """Reset all registers and wait until the chip answers. Raises ChipError naming what it read."""
        if self._reset:
            self._reset(0)
            sleep_ms(_RESET_LOW_MS)
            self._reset(1)
            sleep_ms(_START_MS)
        else:
            self.bus.write(R.COMMON, R.MR, bytes((R.MR_RST,)))
        start = ticks_ms()
        while (version := self.version()) != R.VERSION:
            if ticks_diff(ticks_ms(), start) > _VERSION_WAIT_MS:
                raise ChipError(
                    "no W5500 on SPI: version register is 0x%02x, not 0x%02x" % (version, R.VERSION)
                )
            sleep_ms(1)

    def interrupts(self, sockets):
        """Let INTn fall for events of the sockets in the bit mask `sockets`."""
        self.bus.write(R.COMMON, R.SIMR, bytes((sockets,)))

    def link(self):
        """True while the PHY has link."""
        return bool(self._get8(R.PHYCFGR) & R.PHY_LNK)

    def configure(self, address, netmask, gateway, mac):
        """Set what `network` returns; for a chip that lost it."""
        self.bus.write(R.COMMON, R.GAR, gateway + netmask + mac + address)

    def network(self):
        """What the chip works with now: (address, netmask, gateway, mac) as bytes."""
        block = bytearray(R.SIPR + 4 - R.GAR)
        self.bus.read(R.COMMON, R.GAR, block)
        return bytes(block[14:18]), bytes(block[4:8]), bytes(block[0:4]), bytes(block[8:14])
