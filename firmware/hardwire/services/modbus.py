"""Modbus TCP server: a protocol per connection around wire.modbus.

In: bytes of a connection, cut in any way, through the callbacks of asyncio.Protocol. Out: transport.write of
whole responses, in the order of the requests. Never: waiting, time, heap per exchange once a response's size
is known.

Pipelining (IG 4.4.1.2): any number of transactions may be outstanding. Those that arrive together are
answered together, in one write per OUT bytes. While the peer does not take answers nothing is read: the
server then holds at most what one data_received brought (2048 bytes on the board) and TCP holds back the
client, so that no transaction has to be refused with exception 06.
"""

from .. import log
from ..addresses import among, ip_bytes, networks
from ..compat import WRITE_COPIES, const, micropython, ticks_diff, ticks_ms
from ..wire.bank import DISCARDED, EXCEPTIONS, FRAME_ERRORS, PRODUCED, REQUESTS, ROOM, WRAP
from ..wire.mbap import MAX_ADU, FrameError, answer
from ..wire.modbus import copy, read_only

OUT = const(1024)  # bytes of responses in one write: three of the longest, or 90 short ones
_REFUSAL_MS = const(1000)
_VIEWS = const(32)  # lengths of responses whose slices are kept, 16 bytes each

_len = len  # a builtin is looked for among all names of this module first, which costs 9 us


class ModbusServer:
    """What the connections to one `bank` share, and their factory: call it for a protocol.

    `writes`: whether clients may write at all.
    """

    def __init__(self, bank, writes=True):
        self.bank = bank
        self.connections = 0  # open now
        self.hook_errors = 0  # exceptions raised by the application's hooks
        self.out = bytearray(OUT)
        self.views = {}
        self._writes = writes
        self._writers = ()  # networks that may write; none: all
        self._read_only = None  # functions for clients that may not, once there was one
        self._refusal_at = ticks_ms() - _REFUSAL_MS
        self._silent = 0  # refused writes not logged
        if bank.on_error is None:
            bank.on_error = self._hook_failed
        if bank.on_refused is None:
            bank.on_refused = self._write_refused

    def __call__(self):
        return ModbusProtocol(self)

    def configure(self, settings):
        """Take `writes` and `write_allow` of a section of the settings; for connections that begin then."""
        self._writes = settings["writes"]
        self._writers = networks(settings["write_allow"])

    def functions(self, session):
        """The functions for a client, by its address (IG 4.2.3)."""
        if self._writes and (not self._writers or among(ip_bytes(session.peer[0]), self._writers)):
            return self.bank.functions
        if self._read_only is None:
            self._read_only = read_only(self.bank)
        return self._read_only

    @property
    def requests(self):
        """Requests answered, by a response or an exception."""
        return self.bank.tally[REQUESTS]

    @property
    def exceptions(self):
        """Requests answered by an exception."""
        return self.bank.tally[EXCEPTIONS]

    @property
    def discarded(self):
        """ADUs skipped because their protocol identifier was not 0."""
        return self.bank.tally[DISCARDED]

    @property
    def frame_errors(self):
        """Connections closed because the stream could not be cut into ADUs."""
        return self.bank.tally[FRAME_ERRORS]

    def view(self, n):
        """out[:n], which is made once for each of the _VIEWS lengths seen last."""
        if len(self.views) >= _VIEWS:
            self.views.clear()
        view = self.views[n] = memoryview(self.out)[:n]
        return view

    def _hook_failed(self, error):
        self.hook_errors += 1
        log.exception("modbus: hook", error)

    def _write_refused(self, function, address, count):
        """One line per _REFUSAL_MS: a client that insists must not push everything else out of the log."""
        now = ticks_ms()
        if ticks_diff(now, self._refusal_at) < _REFUSAL_MS:
            self._silent += 1
            return
        silent, self._silent, self._refusal_at = self._silent, 0, now
        session = self.bank.session
        peer = session.peer if session is not None else None
        who = peer[0] if peer else "a client"
        more = ", and %d before" % silent if silent else ""
        log.warning(
            "modbus: %s may not write: function %d, %d from %d%s", who, function, count, address, more
        )


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

    @property
    def peer(self):
        """(address, port) of the client, the address as dotted quad."""
        return self._transport.get_extra_info("peername")

    def connection_made(self, transport):
        self._transport = transport
        self._server.connections += 1
        write = transport.write if WRITE_COPIES else lambda data: transport.write(bytes(data))
        server = self._server
        functions = server.functions(self)
        server.bank.tally[ROOM] = OUT
        self._tools = server.bank, functions, server.out, server.views, write

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
        tally = self._server.bank.tally
        tally[FRAME_ERRORS] = tally[FRAME_ERRORS] + 1 & WRAP
        log.debug("modbus: %s: stream out of step, closed", self.peer)
        self._held = 0
        self._transport.close()


@micropython.viper
def _serve(protocol, data, at: int, n: int) -> int:
    """Answer the ADUs in data[at:n]. Returns where it stopped: at n, or before an ADU that must wait."""
    bank, functions, out, views, write = protocol._tools
    bank.session = protocol
    while at < n:
        if protocol._paused:
            break
        at = int(answer(data, at, n, bank, functions, out))
        produced = bank.tally[PRODUCED]
        if not produced:
            break
        try:
            view = views[produced]
        except KeyError:
            view = protocol._server.view(produced)
        write(view)
    return at
