"""PUT of the file protocol: a file that comes, is kept in staging, read back, and gets its name.

In: DATA and END frames, in any order that a damaged line makes of them. Out: ACK for what is on flash, RESEND, STORED;
a whole file. Never: flash written while others must not wait for it (`pace`).
"""

from binascii import crc32
from hashlib import sha256
from struct import pack, unpack_from

from ..compat import const, micropython, ticks_diff, ticks_ms
from ..pace import BLOCK
from ..wire import files as F
from .file_work import close_file, fault, kind_of, need, path_of, read_digest, read_piece

_CHECK = const(1024)  # bytes of the prefix checked at once
_ALIVE_MS = const(
    1000
)  # of waiting: what was acknowledged is said again, so that the client does not give up


class Put:
    """A file that comes. `size` bytes, to be `path`; `token`: text of its staging file."""

    def __init__(self, request, path, size, token, flags):
        self.path = path
        self.forget = False
        self.left = size  # bytes that do not have their place on flash yet
        self.rival = False  # another PUT has stored a file of this name meanwhile
        self._request = request
        self._server = request.server
        self._size = size
        self._token = token
        self._only_new = flags & F.ONLY_NEW
        self._expected = 0  # offset of the DATA that is due
        self._acked = 0  # what is on flash
        self._said = ticks_ms()  # when it was said last
        self._chunk = None
        self._resending = False
        self._digest = None

    @micropython.native
    def data(self, payload):
        """See Request."""
        n = len(payload) - 4
        if n <= 0 or self._digest is not None:
            self._request.fail(F.BAD_REQUEST, "no DATA is due")
            return False
        offset = unpack_from(">I", payload)[0]
        if offset != self._expected:
            if offset > self._expected:
                self.resend(False)
            return False  # else it was here before
        self._resending = False
        if offset + n > self._size:
            self._request.fail(F.BAD_REQUEST, "more than was announced")
            return False
        self._chunk = payload[4:]
        self._request.go_on()
        return True

    def resend(self, again):
        """See Request."""
        if again or not self._resending:
            self._resending = True
            self._request.send(F.RESEND, pack(">I", self._expected))

    def finish(self, payload):
        """See Request."""
        if len(payload) != 32 or self._digest is not None:
            self._request.fail(F.BAD_REQUEST, "no END is due")
        elif self._expected < self._size:
            self.resend(False)
        else:
            self._digest = bytes(payload)
            self._request.go_on()

    def end(self):
        """Let go. Returns whether DATA was waiting."""
        if self.forget:
            self._server.staging.drop(self._token)
        else:
            self._server.staging.leave(self._token, self._request)
        chunk, self._chunk = self._chunk, None
        return chunk is not None

    def others(self):
        """Other PUTs to this name."""
        return [
            request
            for request in self._server.everyone()
            if request.put is not None and request.put is not self and request.put.path == self.path
        ]

    def work(self, resume):
        """The generator."""
        request = self._request
        server = self._server
        staging = server.staging
        crc = 0
        if resume:
            left = self._expected = staging.length(self._token)
            if left > self._size:
                left = self._expected = 0
            if left:
                request.file = server.folder.open(staging.path(self._token), "rb")
            while left:
                n = read_piece(request, min(left, _CHECK))
                crc = crc32(server.block[:n], crc)
                left -= n
                yield True
            if request.file is not None:
                file, request.file = request.file, None
                file.close()
        self._acked = self._expected
        self.left = self._size - self._acked
        self._check_space()
        request.file = file = staging.begin(self._token, request, self._acked > 0)
        rivals = self.others()
        for other in rivals:
            other.send(F.NOTE, bytes((F.RIVAL,)) + b"another PUT to this name has begun")
        request.answer(pack(F.SERVER_PUT, self._acked, crc, min(len(rivals), 255)))
        # Seldom, as littlefs copies half a block after it; before the client has to wait.
        until_sync = server.window - 2 * server.limit
        while self._digest is None:
            chunk = self._chunk
            if chunk is None:
                if request.connection.over:
                    raise fault(F.CANCELLED, "the client has ended before the file")
                request.pause()
                yield True
                continue
            # At once: one request of others meets it, and not one for each page.
            yield from self._written(len(chunk), file.write, chunk)
            self._expected += len(chunk)
            self._chunk = None
            if self._expected - self._acked >= until_sync or self._expected == self._size:
                yield from self._written(BLOCK, server.folder.sync, file)
                self._acked = self._expected
                self.left = self._size - self._acked
                self._acknowledge()
            request.connection.stored()
            yield True
        yield from self._check()
        self._publish()

    def _check_space(self):
        server = self._server
        if self._size > F.LARGEST:
            raise fault(F.TOO_LARGE, "4 GiB are too much")
        total, free = server.folder.space()
        if self._size > total:
            raise fault(F.TOO_LARGE, "the filesystem has %d bytes" % total)
        for other in server.everyone():
            if other.put is not None and other.put is not self:
                free -= other.put.left
        if self.left > free - server.folder.spare:
            raise fault(F.NO_SPACE, "%d bytes are free, %d are needed" % (max(0, free), self.left))

    def _written(self, n, write, *arguments):
        """Call `write(*arguments)`, which writes `n` bytes, when flash may be busy. A part of the generator."""
        pace = self._server.pace
        while pace is not None and not pace.may_write(n):
            if ticks_diff(ticks_ms(), self._said) >= _ALIVE_MS:
                self._acknowledge()
            yield True
        write(*arguments)
        if pace is not None:
            pace.wrote(n)

    def _acknowledge(self):
        self._said = ticks_ms()
        self._request.send(F.ACK, pack(">I", self._acked))

    def _check(self):
        """Read back what was stored. Raises Fault."""
        request = self._request
        file, request.file = request.file, None
        file.close()
        request.file = self._server.folder.open(self._server.staging.path(self._token), "rb")
        digest = sha256()
        yield from read_digest(request, self._size, digest)
        if digest.digest() != self._digest or request.file.read(1):
            raise fault(F.BAD_CHECKSUM, "what was stored is not what was sent: it was removed")
        close_file(request)

    def _publish(self):
        request = self._request
        server = self._server
        there = kind_of(server.folder, self.path)
        if there == F.FOLDER:
            raise fault(F.WRONG_KIND, "a folder")
        if there is not None and self._only_new:
            raise fault(F.EXISTS)
        server.changed(self.path)
        server.staging.publish(self._token, self.path)
        flags = (F.REPLACED if there is not None else 0) | (F.OVERTOOK if self.rival else 0)
        for other in self.others():
            other.put.rival = True
            other.send(F.NOTE, bytes((F.RIVAL,)) + b"another PUT to this name was stored")
        request.send(F.END | F.ANSWER, bytes((flags,)) + self._digest)
        if server.stored is not None:
            server.stored(self.path)


def put(request, payload):
    """See docs/files.md, Writing."""
    need(payload, 13)
    flags, size, token = unpack_from(F.CLIENT_PUT, payload)
    path = path_of(request, payload[13:], write=True)
    server = request.server
    there = kind_of(server.folder, path)
    if there == F.FOLDER:
        raise fault(F.WRONG_KIND, "a folder")
    if there is not None and flags & F.ONLY_NEW:
        raise fault(F.EXISTS)
    parent = path.rpartition("/")[0]
    if kind_of(server.folder, parent) != F.FOLDER:
        raise fault(F.NOT_FOUND, "there is no folder /%s" % parent)
    name = server.staging.token(token)
    before = server.staging.used.get(name)
    if before is not None:
        before.fail(F.CANCELLED, "taken over by another connection")
    request.put = Put(request, path, size, name, flags)
    server.staging.used[name] = request
    return request.put.work(flags & F.RESUME)
