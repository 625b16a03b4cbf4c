"""Uploads cut at random points: power, cable, client. All of the board but MicroPython: littlefs, core, chip model.

What is there is the old file or the new one, always. Resuming sends a window twice at most, and nothing is left behind.
"""

import random
from hashlib import sha256
from struct import pack, unpack, unpack_from
from zlib import crc32

import pytest

from files_flash import Flash, Folder
from hardwire.service import Service
from hardwire.services.files import CHUNK, FilesServer
from hardwire.wire import files as wire
from hardwire_host.bench_client import User
from hardwire_host.virtual.inprocess import InProcessBoard

KEY = "k" * 32
CUTS = 50
SIZE = 131_072
WRITES = 160  # programs and erases that an upload takes
WINDOW = 32_768
CHUNK_SENT = 1010
LARGEST = 4096
TOKEN = b"one-file"
OLD = b"the old file"
UPLOAD_S, SETTLE_S = 60.0, 90.0
AGAIN_S = 1.0  # after a connection that was refused: three that have not noticed yet are there


class Uploader(User):
    """Puts `data` to /f: what a client does by docs/files.md, begun where the server is.

    Attributes: began_at: where the server let it begin, None before. data_sent: bytes of DATA. taken: bytes that the
    board's chip has. stored: it is over. errors: frames that say that it is not.
    """

    def __init__(self, board, data):
        self._data = data
        self._held = bytearray()
        self._at = self._acked = 0
        self._ended = False
        self.began_at = None
        self.data_sent = self.taken = 0
        self.stored = False
        self.errors = []
        super().__init__(board.pc, wire.PORT)

    def acked(self, n):
        self.taken += n

    def established(self):
        self._say(wire.HELLO, pack(wire.CLIENT_HELLO, wire.MAGIC, 1, 1, LARGEST, bytes(16)))

    def _say(self, kind, payload):
        self.tcb.send(bytes(wire.frame(kind, 7, payload)))

    def received(self, data):
        self._held += data
        while (found := wire.parse(self._held, 0, len(self._held), LARGEST)) is not None:
            length, kind, _, whole = found
            payload = bytes(self._held[wire.HEADER : length])
            del self._held[:length]
            assert whole
            self._take(kind, payload)

    def _take(self, kind, payload):
        if kind == wire.HELLO | wire.ANSWER:
            nonce = unpack_from(wire.SERVER_HELLO, payload)[7]
            proof = wire.proof(KEY.encode(), b"client", wire.WRITE, bytes(16), nonce)
            self._say(wire.AUTH, bytes((wire.WRITE,)) + proof)
        elif kind == wire.AUTH | wire.ANSWER:
            self._say(wire.PUT, pack(wire.CLIENT_PUT, wire.RESUME, len(self._data), TOKEN) + b"f")
        elif kind == wire.PUT | wire.ANSWER:
            self._at, crc, _ = unpack(wire.SERVER_PUT, payload)
            assert crc == crc32(self._data[: self._at])
            self.began_at = self._acked = self._at
            self._send()
        elif kind == wire.ACK:
            self._acked = unpack(">I", payload)[0]
            self._send()
        elif kind == wire.END | wire.ANSWER:
            self.stored = True
        elif kind != wire.NOTE:
            self.errors.append((kind, payload))

    def _send(self):
        data = self._data
        while self._at < len(data) and self._at + CHUNK_SENT <= self._acked + WINDOW:
            chunk = data[self._at : self._at + CHUNK_SENT]
            self._say(wire.DATA, pack(">I", self._at) + chunk)
            self._at += len(chunk)
            self.data_sent += len(chunk)
        if self._at == len(data) and not self._ended:
            self._ended = True
            self._say(wire.END, sha256(data).digest())


class Bench:
    """A board with `flash`, which is served until it is cut."""

    def __init__(self, flash, seed):
        self.flash = flash
        self.folder = Folder(flash)
        self.server = FilesServer(self.folder, write_key=KEY, keep_s=3600)
        self.board = InProcessBoard(
            Service("files", self.server, wire.PORT, connections=3, chunk=CHUNK, burst=2048), seed=seed
        )
        self.server.on_work = lambda: self.board.net.work(self.server)
        self.board.net.every_tick(self.server.tick)

    def upload(self, data, until):
        """An Uploader, when it has ended, or `until(it)`."""
        while True:
            uploader = Uploader(self.board, data)
            assert self.board.run_until(
                lambda it=uploader: it.stored or it.errors or it.failed or until(it), UPLOAD_S
            )
            if not uploader.failed or uploader.began_at is not None:
                return uploader
            self.board.run(AGAIN_S)


def content(flash):
    """What a board that starts now finds on `flash`."""
    return Folder(Flash(flash.buffer)).content()


def visible(flash):
    return {path: data for path, data in content(flash).items() if not path.startswith(".put")}


@pytest.fixture
def flash():
    flash = Flash()
    folder = Folder(flash)
    file = folder.open("f", "wb")
    file.write(OLD)
    file.close()
    return flash


class Story:
    """Versions of /f that are uploaded one after the other, each cut a few times. `data`: the one that is under way."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.cuts = 0
        self.resumed = 0
        self.old = OLD
        self._begin()

    def _begin(self):
        self.data = self.chance.randbytes(SIZE)
        self._sent = self._cuts_here = 0

    def cut(self, uploader, flash):
        """`uploader` ended before its time. What is there is whole."""
        self.cuts += 1
        self._cuts_here += 1
        self._sent += uploader.data_sent
        self.resumed += bool(uploader.began_at)
        there = visible(flash)
        assert there in ({"f": self.old}, {"f": self.data})
        if there["f"] == self.data:  # cut before it was told that all is well
            self.old = self.data
            self._begin()

    def told(self, uploader, flash):
        """`uploader` has got through."""
        assert visible(flash) == {"f": self.data}
        assert self._sent + uploader.data_sent <= SIZE + self._cuts_here * WINDOW
        self.old = self.data
        self._begin()

    def end(self, bench):
        """One upload goes through, and leaves nothing."""
        last = bench.upload(self.data, lambda _: False)
        assert last.stored, (last.errors, last.failed)
        self.told(last, bench.flash)
        bench.board.run(SETTLE_S)
        assert content(bench.flash) == {"f": self.old}
        assert self.resumed


@pytest.mark.parametrize("seed", range(5))
def test_power_fails_at_any_write_to_flash(flash, seed):
    story = Story(seed)
    while story.cuts < CUTS // 5:
        flash.until_cut = story.chance.randrange(WRITES)
        bench = Bench(flash, seed)
        uploader = bench.upload(story.data, lambda _, flash=flash: flash.off)
        flash = Flash(flash.buffer)
        if uploader.stored:
            story.told(uploader, flash)
        else:
            story.cut(uploader, flash)
    story.end(Bench(flash, seed))


@pytest.mark.parametrize("how", ["killed", "cable"])
@pytest.mark.parametrize("seed", range(5))
def test_the_client_goes_at_any_moment(flash, how, seed):
    """Killed: its PC answers with RST. Cable: nothing is heard of it, and the cable is put back some time later."""
    story = Story(seed)
    bench = Bench(flash, seed)
    while story.cuts < CUTS // 5:
        point = story.chance.randrange(SIZE)
        uploader = bench.upload(story.data, lambda it, point=point: it.taken >= point)
        bench.board.run(story.chance.random() / 1000)
        assert not uploader.errors
        if uploader.stored:
            story.told(uploader, flash)
            continue
        cable = next(port for port in bench.board.segment.ports if port.name == "pc")
        cable.link = how != "cable"
        uploader.tcb.abort()
        bench.board.run(story.chance.choice([0.1, 1, 40]) if how == "cable" else 0.1)
        cable.link = True
        story.cut(uploader, flash)
    story.end(bench)
