"""Requests of the file protocol, in slices of about half a millisecond; all but PUT, which is in file_put.py.

In: payloads of requests; calls of `step`. Out: frames, files. Never: two requests in one buffer at once, a name that
has half a file. A long request is a generator: it yields False after a slice where it must go on first (the server's
buffer is in use), True where others may.
"""

from binascii import crc32
from hashlib import sha256
from struct import pack, pack_into, unpack_from

from .. import log
from ..compat import const, micropython
from ..wire import files as F

_HASHED = const(1024)  # bytes hashed at once, 1.2 ms
_BRIEF_HASHED = const(512)  # ... while somebody else wants answers
_BRIEF = const(1010)  # bytes in a DATA frame meanwhile: 1024 with the header
_NO_DIGEST = bytes(32)
_CODES = {  # of OSError
    1: F.DENIED,
    2: F.NOT_FOUND,
    13: F.DENIED,
    17: F.EXISTS,
    20: F.WRONG_KIND,
    21: F.WRONG_KIND,
    28: F.NO_SPACE,
    30: F.DENIED,
    39: F.NOT_EMPTY,
    66: F.NOT_EMPTY,  # macOS
}
_TEXTS = {
    F.NOT_FOUND: "not found",
    F.EXISTS: "exists",
    F.DENIED: "denied",
    F.NO_SPACE: "no space",
    F.WRONG_KIND: "not a folder, or not a file",
    F.NOT_EMPTY: "not empty",
}


class Fault(Exception):
    """What ends a request: a code of ERROR, and a text."""


def fault(code, text=None):
    """The Fault for an ERROR; its text, where none is given, is that of the code."""
    return Fault(code, text or _TEXTS[code])


class Request:
    """One request of `connection`, which `work(request, payload)` does: at once, or by the generator that it returns.

    Attributes: reads: the path that is being read, None if none is. put: the Put it is, or None.
    """

    def __init__(self, connection, kind, number, work):
        self.connection = connection
        self.server = connection.server
        self.number = number
        self.reads = None
        self.put = None
        self.file = None
        self.writes = True  # whether the next slice may: then it waits while the client takes nothing
        self._kind = kind
        self._work = work
        self._ready = True
        self._job = None

    def start(self, payload):
        """Do it, or begin to."""
        try:
            self._job = self._work(self, payload)
        except Exception as error:
            self._failed(error)
            return
        if self._job is None:
            self.end()
        else:
            self.server.wake(self)

    def answer(self, payload=b""):
        """Send the answer that belongs to the request."""
        self.connection.send(self._kind | F.ANSWER, self.number, payload)

    def send(self, kind, payload):
        """Send another frame that belongs to it."""
        self.connection.send(kind, self.number, payload)

    # Turns

    @property
    @micropython.native
    def runs(self):
        """Whether there is something to do."""
        return self._ready and self._job is not None and not (self.connection.full and self.writes)

    @micropython.native
    def step(self):
        """Do a slice. Returns whether it is another's turn."""
        if not self.runs:
            return True
        try:
            return next(self._job)
        except StopIteration:
            self.end()
        except Exception as error:
            self._failed(error)
        return True

    def wake(self):
        """Go on when it is its turn."""
        if self.runs:
            self.server.wake(self)

    def pause(self):
        """There is nothing to do until `go_on`; the generator yields True after it."""
        self._ready = False

    def go_on(self):
        """There is."""
        self._ready = True
        self.wake()

    # Ends

    def _failed(self, error):
        if isinstance(error, Fault):
            self.fail(*error.args)
        elif isinstance(error, F.PathError):
            self.server.complain("%s: bad path: %s", self.connection.peer, error)
            self.fail(F.BAD_PATH, str(error))
        elif isinstance(error, OSError):
            code = _CODES.get(error.args[0] if error.args else None, F.FAILED)
            self.fail(code, _TEXTS.get(code) or str(error))
        elif isinstance(error, MemoryError):
            self.fail(F.BUSY, "out of memory")
        else:
            log.exception("files", error)
            self.fail(F.FAILED, "internal error")

    def fail(self, code, text):
        """End with ERROR."""
        if self.put is not None and self.file is not None and code in (F.NO_SPACE, F.BAD_CHECKSUM):
            self.put.forget = True
        self.end()
        self.connection.error(self.number, code, text)

    def cancel(self, forget):
        """End because the client wants so; `forget`: nothing is kept."""
        if self.put is not None and forget:
            self.put.forget = True
        self.fail(F.CANCELLED, "cancelled")

    def end(self):
        """Let go of everything."""
        self.reads = None
        self._job = None
        server = self.server
        if self in server.queue:
            server.queue.remove(self)
        if server.holder is self:
            server.holder = None
        if server.owner is self:
            server.owner = None
        file, self.file = self.file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                log.warning("files: %s", error)
        waited = self.put is not None and self.put.end()
        self.connection.ended(self.number)
        if waited:
            self.connection.stored()

    # Frames that belong to a PUT

    def data(self, payload):
        """DATA. True: it waits to be stored."""
        return self.put is not None and self.put.data(payload)

    def finish(self, payload):
        """END. Never waits."""
        if self.put is not None:
            self.put.finish(payload)
        return False

    def resend(self, again=False):
        """What came is damaged, or not what is due. again: also if that was said already."""
        if self.put is not None:
            self.put.resend(again)


# Paths


@micropython.native
def path_of(request, data, write=False):
    """The clean path in `data`. Raises PathError, Fault: hidden, read-only."""
    server = request.server
    path = F.clean(data, server.depth)
    if F.among(path, server.hidden):
        raise fault(F.NOT_FOUND)
    if write and (not path or F.among(path, server.read_only)):
        server.complain("%s: /%s is read-only", request.connection.peer, path)
        raise fault(F.DENIED, "read-only")
    return path


def need(payload, n):
    """Raises Fault if the payload has less than `n` bytes."""
    if len(payload) < n:
        raise fault(F.BAD_REQUEST, "too short")


def kind_of(folder, path):
    """Kind of what is at `path`, or None."""
    try:
        return folder.stat(path)[0]
    except OSError as error:
        if error.args[0] not in (2, 20):
            raise
        return None


# Requests that are done at once


def stat(request, payload):
    """STAT."""
    request.answer(pack(F.ENTRY, *request.server.folder.stat(path_of(request, payload))))


def delete(request, payload):
    """DELETE."""
    path = path_of(request, payload, write=True)
    folder = request.server.folder
    if folder.stat(path)[0] != F.FILE:
        raise fault(F.WRONG_KIND, "a folder")
    request.server.changed(path)
    folder.remove(path)
    request.answer()


def rename(request, payload):
    """RENAME."""
    need(payload, 3)
    flags, n = unpack_from(">BH", payload)
    need(payload, 3 + n)
    old = path_of(request, payload[3 : 3 + n], write=True)
    new = path_of(request, payload[3 + n :], write=True)
    server = request.server
    folder = server.folder
    kind = folder.stat(old)[0]
    if server.protected(old):
        raise fault(F.DENIED, "something in it is read-only")
    if (new + "/").startswith(old + "/"):
        if new != old:
            raise fault(F.BAD_PATH, "a folder cannot be in itself")
        request.answer()
        return
    there = kind_of(folder, new)
    if there is not None:
        if there != kind:
            raise fault(F.WRONG_KIND)
        if kind == F.FOLDER or not flags & F.REPLACE:
            raise fault(F.EXISTS)
    server.changed(old)
    server.changed(new)
    folder.rename(old, new)
    request.answer()


def mkdir(request, payload):
    """MKDIR."""
    need(payload, 1)
    path = path_of(request, payload[1:], write=True)
    folder = request.server.folder
    if payload[0] & F.PARENTS:
        _make_folders(folder, path)
    else:
        folder.mkdir(path)
    request.answer()


def _make_folders(folder, path):
    at = 0
    while at >= 0:
        at = path.find("/", at + 1)
        part = path if at < 0 else path[:at]
        kind = kind_of(folder, part)
        if kind is None:
            folder.mkdir(part)
        elif kind == F.FILE:
            raise fault(F.WRONG_KIND, "/%s is a file" % part)


def rmdir(request, payload):
    """RMDIR."""
    path = path_of(request, payload, write=True)
    folder = request.server.folder
    if folder.stat(path)[0] != F.FOLDER:
        raise fault(F.WRONG_KIND, "not a folder")
    if request.server.protected(path):
        raise fault(F.DENIED, "something in it is read-only")
    for _ in folder.scan(path):
        raise fault(F.NOT_EMPTY)
    folder.rmdir(path)
    request.answer()


def space(request, payload):
    """SPACE."""
    request.answer(pack(">QQ", *request.server.folder.space()))


# Reading


@micropython.native
def _open(request, path):
    """Open `path` for reading; returns its size and time. Raises OSError, Fault."""
    folder = request.server.folder
    kind, size, time = folder.stat(path)
    if kind != F.FILE:
        raise fault(F.WRONG_KIND, "a folder")
    if size > F.LARGEST:
        raise fault(F.TOO_LARGE, "4 GiB are too much")
    request.file = folder.open(path, "rb")
    request.reads = path
    return size, time


def close_file(request):
    """Close the open file, which nobody reads any more."""
    file, request.file = request.file, None
    request.reads = None
    file.close()


def read_digest(request, size, digest):
    """Add the next `size` bytes of the open file to `digest`. A part of other generators."""
    block = request.server.block
    while size:
        n = read_piece(request, min(size, _BRIEF_HASHED if request.server.pressed() else _HASHED))
        digest.update(block[:n])
        size -= n
        yield True


def hash_file(request, payload):
    """HASH."""
    size, _ = _open(request, path_of(request, payload))
    return _hashing(request, size)


def _hashing(request, size):
    digest = sha256()
    yield from read_digest(request, size, digest)
    request.answer(pack(">I", size) + digest.digest())


@micropython.native
def get(request, payload):
    """GET."""
    need(payload, 13)
    flags, offset, length, crc = unpack_from(F.CLIENT_GET, payload)
    path = path_of(request, payload[13:])
    size, time = _open(request, path)
    if flags & F.RESUME and offset > size:
        raise fault(F.CHANGED, "shorter than what you have")
    known = None
    if offset == 0 and length >= size and hasattr(request.server.folder, "digest"):
        known = request.server.folder.digest(path)
    return _sending(request, flags, min(offset, size), length, crc, size, time, known)


def _sending(request, flags, offset, length, crc, size, time, known):
    server = request.server
    file = request.file
    digest = sha256()
    if flags & F.RESUME:
        found = 0
        left = offset
        while left:
            n = read_piece(request, min(left, _BRIEF_HASHED))
            found = crc32(server.block[:n], found)
            digest.update(server.block[:n])
            left -= n
            yield True
        if found != crc:
            raise fault(F.CHANGED, "the file does not begin with what you have")
    elif offset:
        file.seek(offset)
    request.answer(pack(">II", size, time))
    most = min(len(server.block), request.connection.limit - 4)
    end = size if length >= size - offset else offset + length
    at = offset
    while at < end:
        # Read, checked and hashed while the client takes what went before; then it has only to be written.
        request.writes = False
        brief = server.pressed()
        n = read_piece(request, min(_BRIEF if brief else most, end - at))
        if brief:
            yield False
        total = _seal(request, at, n)
        done = n if known else 0
        step = _BRIEF_HASHED if brief else _HASHED
        while done < n:
            yield False
            digest.update(server.block[done : min(n, done + step)])
            done += step
        request.writes = True
        yield True
        if server.owner is not request:  # somebody else has used the buffer
            file.seek(at)
            n = read_piece(request, n)
            total = _seal(request, at, n)
        request.connection.write(server.out if total == len(server.out) else server.out[:total])
        at += n
    request.send(F.END, pack(">I", at) + (known or digest.digest()))


@micropython.native
def read_piece(request, n):
    """The next `n` bytes of the open file, or as many as it gives at once, into the server's buffer."""
    server = request.server
    server.owner = request
    n = request.file.readinto(server.block if n == len(server.block) else server.block[:n])
    if not n:
        raise fault(F.CHANGED, "shorter than it was")
    return n


@micropython.native
def _seal(request, at, n):
    """Make DATA of the `n` bytes in the server's buffer."""
    server = request.server
    pack_into(">I", server.out, F.HEADER, at)
    parts = server.parts if n == len(server.block) else None
    return F.seal(server.out, F.DATA, request.number, 4 + n, parts)


def list_folder(request, payload):
    """LIST."""
    need(payload, 1)
    path = path_of(request, payload[1:])
    folder = request.server.folder
    if folder.stat(path)[0] != F.FOLDER:
        raise fault(F.WRONG_KIND, "not a folder")
    return _listing(request, payload[0], path)


def _shown(server, path):
    try:
        F.clean(path, server.depth)
    except F.PathError:
        return False
    return not F.among(path, server.hidden)


def _listing(request, flags, path):
    server = request.server
    base = path + "/" if path else ""
    folders = [""]  # that were not looked at yet, relative to `path`
    batch = b""
    count = 0
    while folders:
        inside = folders.pop()
        for name, kind, size, time in server.folder.scan((base + inside).rstrip("/")):
            relative = inside + name
            full = base + relative
            if not _shown(server, full):
                continue
            digest = None
            if flags & F.HASHES:
                digest = _NO_DIGEST
                if kind == F.FILE:
                    hashed = sha256()
                    size, time = _open(request, full)
                    yield from read_digest(request, size, hashed)
                    close_file(request)
                    digest = hashed.digest()
            one = F.entry(kind, size, time, digest, relative.encode())
            if len(batch) + len(one) > min(server.limit, request.connection.limit):
                request.send(F.ENTRIES, batch)
                batch = b""
            batch += one
            count += 1
            if flags & F.RECURSIVE and kind == F.FOLDER:
                folders.append(relative + "/")
            yield True
    if batch:
        request.send(F.ENTRIES, batch)
    request.answer(pack(">I", count))
