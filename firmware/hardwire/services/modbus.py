"""Modbus TCP server: a protocol per connection around wire.modbus.

In: bytes of a connection, cut in any way, through the callbacks of asyncio.Protocol. Out: transport.write of whole
responses, in the order of the requests. Never: waiting, time, heap per exchange once the sizes of responses are known.

Pipelining (IG 4.4.1.2): any number of transactions may be outstanding. Those that arrive together are answered
together, in one write per OUT bytes. While the peer does not take answers nothing is read, so the server holds at most
what one data_received brought (2048 bytes on the board), and TCP holds back the client: exception 06 is not needed.
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
    TALLY,
    FrameError,
    answer,
    copy,
    frame_length,
)

PREFIX = const(6)  # bytes of an ADU after which its length is known
OUT = const(1024)  # responses to one write; one buffer for all connections. At least MAX_ADU
VIEWS = const(32)  # lengths of responses kept as slices: 16 bytes each


class ModbusServer:
    """What the connections to one `bank` share, and their factory: `Service("modbus", ModbusServer(bank), 502)`."""

    def __init__(self, bank):
        self.bank = bank
        self.connections = 0  # open now
        self.frame_errors = 0  # connections closed because the stream could not be cut into ADUs
        self.hook_errors = 0  # exceptions raised by the application's hooks
        self.tally = array("I", bytes(4 * TALLY))
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
    """One connection, as an asyncio.Protocol. `pending`: the first part of an ADU is held; the core times it out."""

    def __init__(self, server):
        self._server = server
        self._transport = None
        self._write = None
        self._part = bytearray(MAX_ADU)
        self._held = 0  # bytes in _part: an ADU whose end has not come
        self._paused = False  # set by pause_writing, cleared by resume_writing
        self._rest = None  # input that came before the pause and is not answered yet
        self._eof = False  # the peer has sent its last byte

    @property
    def pending(self):
        return self._held > 0

    def connection_made(self, transport):
        self._transport = transport
        self._server.connections += 1
        if WRITE_COPIES:
            self._write = transport.write
        else:
            self._write = lambda data: transport.write(bytes(data))

    def connection_lost(self, exc):
        self._server.connections -= 1
        self._rest = None
        self._held = 0

    @micropython.viper
    def data_received(self, data):
        n = int(len(data))
        at = 0
        if self._held:
            at = int(self._complete(data, n))
            if self._paused:
                self._keep(data, at, n)
                return
        _serve(self, data, at, n)

    def eof_received(self):
        """Whatever is complete has been answered, or will be by resume_writing; an incomplete ADU is dropped."""
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
            _serve(self, rest, 0, len(rest))
        if not self._paused:
            if self._eof:
                self._transport.close()
            else:
                self._transport.resume_reading()

    def _complete(self, data, n):
        """Answer the ADU in _part when data[:n] completes it. Returns how much of data is used up."""
        part = self._part
        held = self._held
        at = 0
        size = PREFIX
        try:
            if held >= PREFIX:
                size = frame_length(part, 0, MAX_ADU)
            while at < n and held < size:
                take = min(size - held, n - at)
                copy(held, at, part, data, take)
                held += take
                at += take
                if held == PREFIX:
                    size = frame_length(part, 0, MAX_ADU)
        except FrameError:
            self._broken()
            return n
        if held < size:
            self._held = held
        else:
            self._held = 0
            _serve(self, part, 0, size)
        return at

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
def _serve(protocol, data, at: int, n: int):
    """Answer the ADUs in data[at:n]; keep the beginning of the last one, or everything that a pause leaves over."""
    server = protocol._server
    tally = server.tally
    broken = False
    while at < n:
        try:
            at = int(answer(data, at, n, server.bank, server.out, OUT, tally))
        except FrameError:
            broken = True
        produced = tally[PRODUCED]
        if produced:
            try:
                view = server.views[produced]
            except KeyError:
                view = server.view(produced)
            protocol._write(view)
        if broken:
            protocol._broken()
            return
        if protocol._paused or not produced:
            protocol._keep(data, at, n)
            return
