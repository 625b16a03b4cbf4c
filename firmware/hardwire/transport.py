"""One TCP connection: the Transport that protocols know from asyncio, on an endpoint of the chip.

In: events of its socket, and a protocol's calls. Out: calls to the protocol. A request is read, handed over and
answered inside one call of `event`. Never waits; net.py's ticks bound every wait.
"""

from . import log
from .compat import const, micropython
from .w5500 import regs as R
from .w5500.chip import ChipError

TICK_MS = const(100)  # net.py calls `tick` this often
CLOSE_TICKS = const(20)  # FIN not answered for this long: drop the connection
STALL_TICKS = const(100)  # half a message, and its end does not come: close, also if single bytes do
SILENT_TICKS = const(600)  # connected and never said a word: close; the chip's keepalive wants data first
_SEND_STALL_TICKS = const(300)  # a peer that takes nothing for this long: close
_SETTLE_TICKS = const(2)  # after the last byte: is all that was sent gone, did the chip take every command?
# Half of the transmit memory: what does not fit waits for so much room, because small pieces cost more.
PIECE = const(1024)
WRITE_QUEUE = const(4096)  # a protocol that writes on after pause_writing is cut off here
_WINDOW_KEEP = const(2048 - 1460)  # bytes read but not yet released: the peer's window stays at least one MSS


def reset_by_peer():
    """What connection_lost gets when the peer, or a restart of the chip, ended the connection."""
    return OSError(104, "ECONNRESET")


def timed_out():
    """What connection_lost gets when the peer does not acknowledge any more."""
    return OSError(110, "ETIMEDOUT")


class Transport:
    """One connection. The methods that protocols use have the meaning of asyncio.Transport's."""

    def __init__(self, net, endpoint, service, peer):
        self._net = net
        self._endpoint = endpoint
        self._bit = endpoint.bit
        self._queue = None  # bytearray of what did not fit into the chip
        self._full = False  # pause_writing was called
        self._most = service.chunk  # bytes to read at once, 0 while nothing is to be read
        self._reading = True
        self._closing = False
        self._fin_sent = False
        self._eof = False
        self._active = False  # set by every exchange, cleared by the tick
        self._stalled = 0  # ticks in a row at which the protocol held half a message
        self._silent = True  # no byte has come since connect
        self._received = None
        self.idle_ticks = 0  # since the last byte came or went; reset by `_active`
        self.doubtful = False  # nothing has come since the cable was put back
        self.service = service
        self.peer = peer
        self.protocol = None

    def start(self, protocol):
        """Connect `protocol`."""
        self.protocol = protocol
        self._received = protocol.data_received  # bound once: a look-up less per request
        protocol.connection_made(self)

    def get_extra_info(self, name, default=None):
        """Known: "peername", (address, port)."""
        if name == "peername":
            return "%d.%d.%d.%d" % tuple(self.peer[0]), self.peer[1]
        return default

    def is_closing(self):
        """True once close or abort was called, or the connection is gone."""
        return self._closing

    def pause_reading(self):
        """No data_received until resume_reading; the chip's memory fills and the peer's window closes."""
        self._reading = False
        self._most = 0

    def resume_reading(self):
        """Read on, from the next turn."""
        self._reading = True
        if not self._closing:
            self._most = self.service.chunk
            self._net.wake(self._bit)

    @micropython.native
    def write(self, data):
        """Send `data` (bytes-like; free for reuse on return).

        Calls pause_writing when there is no room for PIECE bytes more; what is written then is queued in RAM.
        """
        n = len(data)
        if self._closing or not n:
            return
        endpoint = self._endpoint
        if self._queue is None and n <= endpoint.free:
            endpoint.write(data)
            if endpoint.free < PIECE and not self._full:
                self._pause()
        else:
            self._enqueue(data)
        if self._full or self._net.serving is not self:
            self._send_now(endpoint)

    def _send_now(self, endpoint):
        """What was written belongs to no event of this socket, after which it would be sent; or no more can follow."""
        try:
            if endpoint.unsent:
                endpoint.send()
        except ChipError:
            self._net.wake(self._bit)  # `event` will find the same, and knows what to do

    def _pause(self):
        self._full = True
        self._net.wait_for_room(self._bit, True)
        self.protocol.pause_writing()

    def _enqueue(self, data):
        if self._queue is None:
            endpoint = self._endpoint
            data = memoryview(data)
            room = endpoint.free
            if room >= PIECE:
                endpoint.write(data[:room])
                data = data[room:]
            self._queue = bytearray(data)
            if not self._full:
                self._pause()
        elif len(self._queue) + len(data) > WRITE_QUEUE:
            log.warning("%s: %d bytes unsent, connection dropped", self.service.name, len(self._queue))
            self.abort()
        else:
            self._queue += data

    def close(self):
        """Send what was written, then FIN; connection_lost(None) follows."""
        if not self._closing:
            self._closing = True
            self._most = 0
            self.idle_ticks = 0
            self._net.wake(self._bit)

    def abort(self):
        """Close without sending what is queued: the chip has no RST to send, so the peer sees FIN."""
        self._queue = None
        self._full = False
        self._endpoint.unsent = False
        self._net.wait_for_room(self._bit, False)
        self.close()

    # For net.py

    @micropython.native
    def event(self, endpoint):
        """Something happened at the socket: read and answer, or find out what it was."""
        net = self._net
        net.serving = self
        try:
            view = endpoint.receive(self._most)
            if view is None:
                self._status(endpoint)
            else:
                self._active = True
                self._received(view)
                if endpoint.unsent:
                    endpoint.send()
                if endpoint.kept > _WINDOW_KEEP:
                    endpoint.release()
                if endpoint.unread:
                    net.wake(self._bit)
            if self._full or endpoint.unsent:
                self._flush(endpoint)
            if self._closing:
                self._finish(endpoint)
        except ChipError as error:
            self._broken(endpoint, error)
        except Exception as error:
            net.bug(self, error)
        net.serving = None

    def _flush(self, endpoint):
        """Move queued bytes into the chip and send them; let the protocol go on when there is room."""
        queue = self._queue
        room = endpoint.free
        if queue is not None and (room >= PIECE or room >= len(queue)):
            endpoint.write(memoryview(queue)[:room])
            self._queue = queue[room:] if room < len(queue) else None
        if endpoint.unsent:
            endpoint.send()
        if self._full and self._queue is None and endpoint.free >= self.service.burst:
            self._full = False
            self.idle_ticks = 0
            self._net.wait_for_room(self._bit, False)
            self.protocol.resume_writing()
            if endpoint.unsent:
                endpoint.send()

    def _status(self, endpoint):
        """No data to hand over: what else happened? Uses Sn_SR, which stays true when an interrupt bit is lost."""
        events = endpoint.events()
        state = events & 0xFF
        if events >> 8 & R.I_RECV:
            self._net.wake(self._bit)  # came after the snapshot
        if state == R.CLOSED:
            timeout = events >> 8 & R.I_TIMEOUT
            closed = self._fin_sent and not timeout
            self._lost(None if closed else timed_out() if timeout else reset_by_peer())
        elif state == R.CLOSE_WAIT and not self._eof and not endpoint.unread:
            self._eof = True
            if not self.protocol.eof_received():
                self.close()

    def _broken(self, endpoint, error):
        """The registers contradict what was written: after a reset by the peer that is no wonder."""
        if endpoint.state() == R.CLOSED:
            error = reset_by_peer()
        else:
            log.error("%s", error)
            endpoint.close()
        self._net.suspect()
        self._lost(error)

    def _finish(self, endpoint):
        """Closing: FIN when all is sent, then wait for CLOSED; the tick bounds the wait."""
        if endpoint.owner is not self:
            return
        if self.idle_ticks >= CLOSE_TICKS:
            endpoint.close()
            self._lost(None)
        elif not self._fin_sent:
            if self._queue is None and not endpoint.unsent:
                endpoint.refresh()
                if endpoint.busy:
                    endpoint.notify()
                else:
                    self._fin_sent = True
                    self.idle_ticks = 0
                    endpoint.disconnect()
        elif endpoint.state() in (R.CLOSED, R.TIME_WAIT):
            endpoint.close()
            self._lost(None)

    def _lost(self, error):
        if self._endpoint.owner is self:
            self._endpoint.owner = None
            self._endpoint.unsent = False  # `event` may go on, and the socket be a listener by then
            self._end(error)

    def _end(self, error):
        self._closing = True
        self._most = 0
        self._queue = None
        self._full = False
        net = self._net
        net.wait_for_room(self._bit, False)
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(error)
        except Exception as bug:
            net.bug(self, bug)
        net.closed(self.service)

    def doubt(self):
        """The cable was out: the peer may have gone."""
        if not self._closing:
            self.doubtful = True
            self.idle_ticks = 0

    def drop(self):
        """Close at once and silently."""
        self._endpoint.close()
        self._lost(OSError(103, "ECONNABORTED"))

    def chip_was_reset(self):
        """The chip has forgotten the connection, and its socket may be another's."""
        self._end(reset_by_peer())

    def tick(self, endpoint):
        """TICK_MS have passed."""
        self._stalled = self._stalled + 1 if getattr(self.protocol, "pending", False) else 0
        if self._stalled >= STALL_TICKS and not self._closing:
            log.info("%s: half a message for too long: closed", self.service.name)
            self.close()
        if self._active and not self._closing:
            self._active = self._silent = self.doubtful = False
            self.idle_ticks = 0
            return
        self.idle_ticks += 1
        ticks = self.idle_ticks
        if self._closing:
            self._net.wake(self._bit)
        elif ticks in (_SETTLE_TICKS, _SEND_STALL_TICKS):
            self._look(endpoint)
        elif self._full:
            if ticks > _SEND_STALL_TICKS:
                self._take_no_more()
        elif (self._silent and ticks >= SILENT_TICKS) or 0 < self.service.idle_s * 1000 <= ticks * TICK_MS:
            self.close()

    def _look(self, endpoint):
        """Quiet: because there is nothing to do, or because something was missed?"""
        endpoint.refresh()
        commanded = endpoint.commanded()
        if commanded >> 8 and endpoint.commanded() >> 8:
            self._net.stuck(endpoint)
        elif commanded & 0xFF != R.ESTABLISHED or (endpoint.unread and self._most):
            self._net.wake(self._bit)
        elif endpoint.free < endpoint.size and self.idle_ticks >= _SEND_STALL_TICKS:
            self._take_no_more()

    def _take_no_more(self):
        log.info("%s: peer takes no data: closed", self.service.name)
        self.abort()
