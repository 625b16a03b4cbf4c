"""Modbus TCP server: a protocol per connection around wire.modbus.

In: bytes of a connection, cut in any way, through the callbacks of asyncio.Protocol. Out: transport.write of
whole responses, in the order of the requests. Never: waiting, time, heap per exchange once a response's size
is known.

Pipelining (IG 4.4.1.2): any number of transactions may be outstanding. Those that arrive together are
answered together, in one write per OUT bytes. While the peer does not take answers nothing is read: the
server then holds at most what one data_received brought (2048 bytes on the board) and TCP holds back the
client, so that no transaction has to be refused with exception 06.
"""

from array import array

from .. import log
from ..compat import WRITE_COPIES, const, micropython
from ..wire.modbus import (
    DISCARDED,
    EXCEPTIONS,
    MAX_ADU,
    PRODUCED,
    REQUESTS,
    ROOM,
    TALLY,
    FrameError,
    answer,
    copy,
)

OUT = const(1024)  # bytes of responses in one write: three of the longest, or 90 short ones
VIEWS = const(32)  # lengths of responses whose slices are kept, 16 bytes each

_len = len  # a builtin is looked for among all names of this module first, which costs 9 us


class ModbusServer:
    """What the connections to one `bank` share, and their factory: call it for a protocol."""

    def __init__(self, bank):
        self.bank = bank
        self.connections = 0  # open now
        self.frame_errors = 0  # connections closed because the stream could not be cut into ADUs
        self.hook_errors = 0  # exceptions raised by the application's hooks
        self.tally = array("I", bytes(4 * TALLY))
        self.tally[ROOM] = OUT
        self.out = bytearray(OUT)
        self.views = {}
        if bank.on_error is None:
            bank.on_error = self._hook_failed

    def __call__(self):
        return ModbusProtocol(self)

    @property
    def requests(self):
        """Requests answered, by a response or an exception."""
        return self.tally[REQUESTS]

    @property
    def exceptions(self):
        """Requests answered by an exception."""
        return self.tally[EXCEPTIONS]

    @property
    def discarded(self):
        """ADUs skipped because their protocol identifier was not 0."""
        return self.tally[DISCARDED]

    def view(self, n):
        """out[:n], which is made once for each of the VIEWS lengths seen last."""
        if len(self.views) >= VIEWS:
            self.views.clear()
        view = self.views[n] = memoryview(self.out)[:n]
        return view

    def _hook_failed(self, error):
        self.hook_errors += 1
        log.exception("modbus: hook", error)


class ModbusProtocol:
    """One connection, as an asyncio.Protocol.

    It relies on transport.write, close, pause_reading, resume_reading and get_extra_info("peername").
    """

    def __init__(self, server):
        self._server = server
        self._transport = None
        self._tools = None  # what every exchange needs, in one attribute: a look-up costs 2 us
        self._part = bytearray(MAX_ADU)
        self._held = 0  # bytes in _part: an ADU whose end has not come
        self._paused = False  # set by pause_writing, cleared by resume_writing
        self._rest = None  # input that came before the pause and is not answered yet
        self._eof = False  # the peer has sent its last byte

    @property
    def pending(self):
        """True while part of an ADU is held: the network core closes a connection where that lasts."""
        return self._held > 0

    def connection_made(self, transport):
        self._transport = transport
        self._server.connections += 1
        write = transport.write if WRITE_COPIES else lambda data: transport.write(bytes(data))
        server = self._server
        self._tools = server.bank, server.out, server.tally, server.views, write

    def connection_lost(self, exc):
        self._server.connections -= 1
        self._rest = None
        self._held = 0

    @micropython.viper
    def data_received(self, data):
        n = int(_len(data))
        at = 0
        try:
            if self._held:
                at = int(self._complete(data, n))
            at = int(_serve(self, data, at, n))
            if at < n:
                self._keep(data, at, n)
        except FrameError:
            self._broken()

    def eof_received(self):
        """What is complete has been answered, or will be after the pause; an incomplete ADU is dropped."""
        self._eof = True
        return self._paused  # a false value lets the transport close

    def pause_writing(self):
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self):
        self._paused = False
        rest = self._rest
        if rest:
            self._rest = None
            self.data_received(rest)
        if not self._paused:
            if self._eof:
                self._transport.close()
            else:
                self._transport.resume_reading()

    @micropython.viper
    def _complete(self, data, n: int) -> int:
        """Add to the ADU in _part, answer it when it is whole. Returns how much of data[:n] that took."""
        part = self._part
        held = int(self._held)
        total = held + n
        most = int(MAX_ADU)
        if total > most:
            total = most
        copy(held, 0, part, data, total - held)
        done = int(_serve(self, part, 0, total))  # one ADU or more; what is left over is in `data` too
        if done:
            self._held = 0
            return done - held
        self._held = total
        return n

    @micropython.native
    def _keep(self, data, at, n):
        """data[at:n] cannot be answered now: it waits for resume_writing, or for the rest of its ADU."""
        if self._paused:
            self._rest = bytes(data[at:n])
        else:
            self._held = n - at
            copy(0, at, self._part, data, n - at)

    def _broken(self):
        """The stream cannot be cut any more."""
        self._server.frame_errors += 1
        log.debug("modbus: %s: stream out of step, closed", self._transport.get_extra_info("peername"))
        self._held = 0
        self._transport.close()


@micropython.viper
def _serve(protocol, data, at: int, n: int) -> int:
    """Answer the ADUs in data[at:n]. Returns where it stopped: at n, or before an ADU that must wait."""
    bank, out, tally, views, write = protocol._tools
    while at < n:
        if protocol._paused:
            break
        at = int(answer(data, at, n, bank, out, tally))
        produced = tally[PRODUCED]
        if not produced:
            break
        try:
            view = views[produced]
        except KeyError:
            view = protocol._server.view(produced)
        write(view)
    return at
