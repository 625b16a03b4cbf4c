"""File server: a protocol per connection around wire.files, and the turns in which their work is done.

In: bytes of a connection, cut in any way, through the callbacks of asyncio.Protocol; calls of `work` and `tick`. Out:
transport.write of whole frames. Never: waiting, a slice of work that takes long, a path outside the folder, an error
that ends another request. docs/files.md has the protocol; file_work.py and file_put.py do
the requests.

Fixed RAM: 2 KB for all, 2 KB per connection for a frame and what may come behind it; a running transfer adds 2 KB.
"""

from struct import pack, unpack_from

from .. import log
from ..compat import WRITE_COPIES, const, entropy, micropython
from ..wire import files as F
from ..wire.auth import same
from . import file_work as work
from .file_put import put
from .staging import FOLDER, Staging

CHUNK = const(1024)  # for Service: bytes taken from the chip at once
_LOCK_TICKS = const(10)  # of 100 ms, after a wrong key; doubled with every further one
_LOCKS = const(3)  # times: 8 s
_FORGIVEN_TICKS = const(600)  # after the last lock
_REMEMBERED = const(4)  # addresses that gave a wrong key
_HUSH_TICKS = const(10)  # between complaints: who insists must not push everything else out of the log
_SWEEP_TICKS = const(10)  # between looks at what may be too old
_REQUESTS = {  # type: the right that it needs, and what does it
    F.LIST: (F.READ, work.list_folder),
    F.STAT: (F.READ, work.stat),
    F.GET: (F.READ, work.get),
    F.HASH: (F.READ, work.hash_file),
    F.SPACE: (F.READ, work.space),
    F.PUT: (F.WRITE, put),
    F.DELETE: (F.WRITE, work.delete),
    F.RENAME: (F.WRITE, work.rename),
    F.MKDIR: (F.WRITE, work.mkdir),
    F.RMDIR: (F.WRITE, work.rmdir),
}


class FilesServer:
    """What the connections to one `folder` share, and their factory: call it for a protocol.

    Args:
        folder: where the files are. name, identity: who the server is, 63 bytes of text at most and 6 bytes.
        read_key, write_key: texts, None for none. read_only, hidden: clean paths, with all that is in them.
        keep_s: for so long an interrupted PUT can be resumed. limit: largest payload, bytes; window: bytes that a
            client may be ahead of ACK. operations: requests in flight on a connection. depth: of paths. block: bytes in
            a DATA frame that the server sends, if the client takes so many.

    Attributes:
        on_work: called when there is work for `work`, and was none. pace: a pace.Pace, where others must not wait for
            flash. stored: called with the path of each file that was stored.
    """

    def __init__(
        self,
        folder,
        name="hardwire",
        identity=bytes(6),
        read_key=None,
        write_key=None,
        read_only=(),
        hidden=(),
        keep_s=86400,
        limit=1014,
        window=32768,
        operations=2,
        depth=8,
        block=2034,
    ):
        self.folder = folder
        while len(name.encode()) > 63:
            name = name[:-1]
        self.name = name.encode()
        self.identity = identity
        self.keys = {F.READ: read_key, F.WRITE: write_key}
        self.access = (0 if read_key or write_key else F.OPEN) | (F.READ_KEY if read_key else 0)
        self.access |= F.WRITE_KEY if write_key else 0
        self.read_only = [path.lower() for path in read_only]
        self.hidden = [path.lower() for path in hidden] + [FOLDER, "config.json", "config.json.new"]
        self.limit = limit
        self.window = window
        self.operations = operations
        self.depth = depth
        self.staging = Staging(folder, keep_s)
        self.out = memoryview(bytearray(F.HEADER + 4 + block))  # one frame of DATA
        self.parts = self.out[:6], self.out[F.HEADER :]  # see wire.files.seal
        self.block = self.out[F.HEADER + 4 :]  # the bytes in it
        self.owner = None  # the request that has used it last
        self.holder = None  # the request that must go on before others may use it
        self.on_work = None
        self.pace = None
        self.stored = None
        self.connections = []
        self.queue = []  # requests that have something to do, in turn
        self._failures = []  # [address, how many before, ticks until it is looked at again]
        self._until_swept = _SWEEP_TICKS
        self._hush = 0  # ticks until something may be complained of again

    def __call__(self):
        return FilesProtocol(self)

    @micropython.native
    def work(self):
        """Do a slice of what is to be done; true while there is more."""
        if self.holder is not None:
            self.turn(self.holder)
        elif self.queue:
            self.turn(self.queue[0])
        return bool(self.queue)

    @micropython.native
    def turn(self, request):
        """A slice of `request`, which is due: nobody else holds the turn."""
        if not request.step():
            self.holder = request
            return
        self.holder = None
        queue = self.queue
        if request in queue:
            queue.remove(request)
        if request.runs:
            queue.append(request)

    def pressed(self):
        """Whether somebody else wants answers, so that every slice should be short."""
        return self.pace is not None and self.pace.pressed()

    def wake(self, request):
        """`request` has something to do."""
        if request not in self.queue:
            self.queue.append(request)
            if self.on_work is not None:
                self.on_work()

    def tick(self):
        """100 ms have passed."""
        for connection in self.connections:
            connection.tick()
        if self._hush:
            self._hush -= 1
        if self._failures:
            self._forgive()
        self._until_swept -= 1
        if not self._until_swept:
            self._until_swept = _SWEEP_TICKS
            self.staging.sweep()

    def _forgive(self):
        for failure in self._failures[:]:
            failure[2] -= 1
            if failure[2] <= -_FORGIVEN_TICKS:
                self._failures.remove(failure)

    def everyone(self):
        """All requests in flight."""
        return [request for connection in self.connections for request in connection.requests.values()]

    def changed(self, path):
        """What was at `path` is there no more: who reads it is told."""
        for request in self.everyone():
            if request.reads is not None and F.among(request.reads, (path.lower(),)):
                request.fail(F.CHANGED, "replaced, renamed or deleted meanwhile")

    def protected(self, path):
        """Whether something in `path` is read-only or hidden."""
        start = path.lower() + "/"
        return any(one.startswith(start) for one in self.read_only + self.hidden)

    def complain(self, text, *values):
        """Log it, unless something was complained of just now."""
        if not self._hush:
            self._hush = _HUSH_TICKS
            log.warning("files: " + text, *values)

    # Wrong keys

    def locked(self, address):
        """Whether no key from `address` is looked at for now."""
        return any(failure[0] == address and failure[2] > 0 for failure in self._failures)

    def failed(self, address):
        """A wrong key came from `address`."""
        count = 0
        for failure in self._failures:
            if failure[0] == address:
                count = min(failure[1] + 1, _LOCKS)
                self._failures.remove(failure)
                break
        if len(self._failures) >= _REMEMBERED:
            self._failures.pop(0)
        self._failures.append([address, count, _LOCK_TICKS << count])
        log.warning("files: %s: wrong key", address)

    def passed(self, address):
        """A right key came from `address`."""
        self._failures = [failure for failure in self._failures if failure[0] != address]


class FilesProtocol:
    """One connection, as an asyncio.Protocol.

    It relies on transport.write, close, pause_reading, resume_reading and get_extra_info("peername").
    """

    def __init__(self, server):
        self.server = server
        self.requests = {}  # id -> Request
        self.limit = F.FIRST_LIMIT  # largest payload that the client takes
        self.full = False  # the client takes nothing more for now
        self._transport = None
        self._rights = server.access & F.OPEN
        self._nonces = None  # (client's, server's) after HELLO
        self._denied = None  # [id, ticks until it is said] of a wrong key
        self._in = bytearray(F.HEADER + server.limit + CHUNK)
        self._at = 0  # what came and is not taken yet: _in[_at:_held]
        self._held = 0
        self._waiting = 0  # length of the frame at _at while it waits for flash
        self._reading = True
        self._eof = False
        self._closing = False

    @property
    def pending(self):
        """True while part of a frame is held: the network core closes a connection where that lasts."""
        return self._held > self._at and not self._waiting and self._reading

    @property
    def peer(self):
        """Address of the client, dotted quad."""
        return self._transport.get_extra_info("peername")[0]

    @property
    def over(self):
        """Whether no frame will come any more."""
        return self._eof and not (self._waiting or self.full)

    # asyncio.Protocol

    def connection_made(self, transport):
        self._transport = transport
        self.server.connections.append(self)

    def connection_lost(self, error):
        self._closing = True
        self.server.connections.remove(self)
        for request in list(self.requests.values()):
            request.end()

    @micropython.native
    def data_received(self, data):
        n = len(data)
        if self._held + n > len(self._in):
            self._make_room(n)
        self._in[self._held : self._held + n] = data
        self._held += n
        self._cut()

    def _make_room(self, n):
        rest = self._held - self._at
        most = len(self._in)
        if rest + n > most or self._waiting:  # CPython brings as much as there is; what waits is looked at
            most = rest + n
        kept = memoryview(self._in)[self._at : self._held]
        self._in = bytearray(most)
        self._in[:rest] = kept
        self._at = 0
        self._held = rest

    def eof_received(self):
        """What was asked for is still answered, as far as it is all there."""
        self._eof = True
        for request in list(self.requests.values()):
            request.go_on()
        return bool(self.requests)

    def pause_writing(self):
        self.full = True
        if self._held:
            self._flow()

    @micropython.native
    def resume_writing(self):
        self.full = False
        server = self.server
        ready = server.owner
        mine = ready is not None and ready.connection is self and ready.writes
        if mine and server.holder is None and not server.pressed():
            server.turn(ready)  # what is ready goes now: the chip waits
        for request in list(self.requests.values()):
            request.wake()
        if self._held:
            self._cut()

    def _flow(self):
        """Read while there is room for what one read may bring, and the client takes answers."""
        room = len(self._in) - self._held + (0 if self._waiting else self._at)
        read = room >= CHUNK and not self.full
        if read != self._reading and not self._closing:
            self._reading = read
            if read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # Frames that come

    @micropython.native
    def _cut(self):
        """Take frames, until one waits."""
        try:
            while not (self._waiting or self._closing or self.full or self._denied):
                found = F.parse(self._in, self._at, self._held, self.server.limit)
                if found is None:
                    break
                length, kind, number, intact = found
                payload = memoryview(self._in)[self._at + F.HEADER : self._at + length]
                if self._take(kind, number, payload, intact):
                    self._waiting = length
                else:
                    self._at += length
        except F.FrameError:
            log.debug("files: %s: stream out of step, closed", self.peer)
            self.close()
        if self._at == self._held:
            self._at = self._held = 0
        self._flow()

    def stored(self):
        """What waited is on its way to flash."""
        self._at += self._waiting
        self._waiting = 0
        self._cut()

    @micropython.native
    def _take(self, kind, number, payload, intact):
        """Do what a frame asks for. True: it is DATA, and waits."""
        request = self.requests.get(number)
        if kind in (F.DATA, F.END):
            if request is None:
                return False  # has ended with ERROR
            if not intact:
                request.resend(True)
                return False
            return request.data(payload) if kind == F.DATA else request.finish(payload)
        if not intact:
            self.error(number, F.BAD_CHECKSUM, "damaged on the way")
        elif kind == F.HELLO:
            self._hello(number, payload)
        elif self._nonces is None:
            self.error(number, F.DENIED, "HELLO comes first")
        elif kind == F.AUTH:
            self._authenticate(number, payload)
        elif kind == F.PING:
            self.send(kind | F.ANSWER, number)
        elif kind == F.CANCEL:
            self._cancel(number, payload)
        elif kind not in _REQUESTS:
            self.error(number, F.NOT_SUPPORTED, "no such request")
        elif not self._rights & _REQUESTS[kind][0]:
            self._refuse(kind, number)
        elif request is not None:
            self.error(0, F.BAD_REQUEST, "the id %d is in use" % number)
            self.close()
        elif len(self.requests) >= self.server.operations:
            self.error(number, F.BUSY, "%d requests are in flight" % self.server.operations)
        else:
            self.requests[number] = request = work.Request(self, kind, number, _REQUESTS[kind][1])
            request.start(bytes(payload))
        return False

    def _hello(self, number, payload):
        if len(payload) != 24 or payload[:4] != F.MAGIC or self._nonces is not None:
            self.error(number, F.BAD_REQUEST, "no HELLO that is due")
            self.close()
            return
        _, low, high, limit, nonce = unpack_from(F.CLIENT_HELLO, payload)
        if not low <= F.VERSION <= high or limit < F.LEAST_LIMIT:
            self.error(number, F.NOT_SUPPORTED, "version %d, payloads of %d" % (F.VERSION, F.LEAST_LIMIT))
            self.close()
            return
        self.limit = limit
        server = self.server
        self._nonces = bytes(nonce), entropy(16)
        hello = F.VERSION, server.access, server.limit, server.window, server.operations, server.depth, 0
        self.send(
            F.HELLO | F.ANSWER,
            number,
            pack(F.SERVER_HELLO, *hello, self._nonces[1], server.identity) + server.name,
        )

    def _authenticate(self, number, payload):
        server = self.server
        key = server.keys.get(payload[0]) if len(payload) == 33 else None
        if server.locked(self.peer):
            self.error(number, F.BUSY, "after a wrong key: later")
            return
        if key is not None:
            role = payload[0]
            nonces = self._nonces
            if same(F.proof(key.encode(), b"client", role, *nonces), payload[1:]):
                server.passed(self.peer)
                self._rights = F.READ | F.WRITE if role == F.WRITE else F.READ
                proof = F.proof(key.encode(), b"server", role, *nonces)
                self.send(F.AUTH | F.ANSWER, number, bytes((role,)) + proof)
                return
        server.failed(self.peer)
        self._denied = [number, _LOCK_TICKS]

    def tick(self):
        """100 ms have passed."""
        if self._denied is not None and not self._closing:
            self._denied[1] -= 1
            if not self._denied[1]:
                self.error(self._denied[0], F.DENIED, "wrong key")
                self.close()

    def _refuse(self, kind, number):
        server = self.server
        if not server.access & (F.READ_KEY | F.WRITE_KEY):
            why = "no key for writing is configured"
        elif self._rights:
            why = "this key does not write"
        else:
            why = "a key is needed"
        server.complain("%s: request %02x denied: %s", self.peer, kind, why)
        self.error(number, F.DENIED, why)

    def _cancel(self, number, payload):
        request = None
        if len(payload) == 3:
            request = self.requests.get(unpack_from(">H", payload)[0])
        if request is not None:
            request.cancel(payload[2] & F.FORGET)
        self.send(F.CANCEL | F.ANSWER, number)

    # Frames that go

    def write(self, data):
        """Send a frame; it may be used again at once."""
        if not self._closing:
            self._transport.write(data if WRITE_COPIES else bytes(data))

    def send(self, kind, number, payload=b""):
        """Send a frame."""
        self.write(F.frame(kind, number, payload))

    def error(self, number, code, text):
        """End a request by ERROR."""
        self.send(F.ERROR, number, bytes((code,)) + text.encode()[:200])

    def close(self):
        """Send what was written, then close."""
        if not self._closing:
            self._closing = True
            self._transport.close()

    def ended(self, number):
        """A request is over."""
        self.requests.pop(number, None)
        if self._eof and not self.requests:
            self.close()
