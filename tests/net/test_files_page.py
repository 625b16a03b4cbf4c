"""docs/files.md: a client that knows nothing else against the server, and the bytes of its examples.

The client is tests/files_page.py. One server for each test, with a board's limits, on a socket of this PC.
"""

import errno
import os
import random
import re
import struct
import zlib
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

import files_page as P
from files_driven import Client, Served
from files_page import PageClient, Refused
from hardwire.services import files as service
from hardwire.services.files import FilesServer
from hardwire.wire import files as F
from hardwire_host.folder import Folder

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
KEY = "correct horse"
(NOT_FOUND, EXISTS, DENIED, BAD_PATH, NO_SPACE, TOO_LARGE, BAD_CHECKSUM, BUSY, BAD_REQUEST) = range(1, 10)
(WRONG_KIND, NOT_EMPTY, FAILED, NOT_SUPPORTED, CHANGED, CANCELLED, RIVAL) = range(10, 17)


class Disk(Folder):
    """One million bytes, half of them free; /broken cannot be read."""

    def space(self):
        return 1_000_000, 500_000

    def stat(self, path):
        if path == "broken":
            raise OSError(errno.EIO, "input/output error")
        return super().stat(path)


@pytest.fixture
def served(tmp_path):
    server = FilesServer(Disk(tmp_path), "press-3", b"\2\0\0\0\0\1", write_key=KEY, read_only=["ro"])
    with Served(server) as served:
        served.root = tmp_path
        yield served


@pytest.fixture
def client(served):
    with PageClient(served.address) as client:
        client.auth(KEY, 2)
        yield client


@contextmanager
def refused(code):
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.code == code, caught.value


def test_hello_and_auth(served):
    with PageClient(served.address) as client:
        assert (client.version, client.access, client.name) == (1, 4, "press-3")
        assert client.identity == b"\2\0\0\0\0\1"
        with refused(DENIED):
            client.list()
        client.auth(KEY, 2)
        assert client.list() == []


def test_a_wrong_key(served):
    with PageClient(served.address) as client:
        with refused(DENIED):
            client.auth("wrong", 2)
        with pytest.raises(P.Closed):
            client.receive()


def test_every_request(client, served):
    data = random.Random(1).randbytes(5000)
    client.mkdir("/a/b", parents=True)
    assert client.put("/a/b/f", data) == 0
    assert client.put("/a/b/f", data[:4000]) == 1
    assert client.stat("a/b/f")[:2] == (0, 4000)
    assert client.stat("/")[:2] == (1, 0)
    assert client.hash("a/b/f") == (4000, sha256(data[:4000]).digest())
    assert client.get("a/b/f") == data[:4000]
    assert client.get("a/b/f", offset=100, length=50) == data[100:150]
    assert client.get("a/b/f", offset=3990, length=50) == data[3990:4000]
    assert client.get("a/b/f", offset=9999) == b""
    digest = sha256(data[:4000]).digest()
    found = sorted(client.list("a", recursive=True, hashes=True), key=lambda entry: entry[4])
    assert [(kind, size, digest, path) for kind, size, _, digest, path in found] == [
        (1, 0, bytes(32), "b"),
        (0, 4000, digest, "b/f"),
    ]
    client.rename("a/b/f", "a/g")
    client.delete("a/g")
    client.rmdir("a/b")
    assert [entry[4] for entry in client.list(recursive=True)] == ["a"]
    assert client.space() == (1_000_000, 500_000)
    assert client.ask(P.PING) == b""


@pytest.mark.parametrize("size", [0, 1, 1009, 1010, 1011, 100_000])
def test_sizes(client, size):
    data = random.Random(size).randbytes(size)
    client.put("f", data)
    assert client.get("f") == data


def test_get_is_resumed(client, served):
    data = random.Random(2).randbytes(5000)
    (served.root / "f").write_bytes(data)
    for have in (0, 1, 3000, 5000):
        assert client.get("f", data[:have], resume=True) == data
    for have in (b"another beginning", data + b"more"):
        with refused(CHANGED):
            client.get("f", have, resume=True)


def test_put_is_resumed_on_another_connection(served):
    data = random.Random(3).randbytes(100_000)
    sent = 0
    for cut in (40_000, 30_000, None):
        with PageClient(served.address) as client:
            client.auth(KEY, 2)
            done = client.put("f", data, resume=True, cut=cut)
            sent += client.sent
            window = client.window
    assert done == 0 and client.started > 0
    assert sent <= len(data) + 2 * window
    assert (served.root / "f").read_bytes() == data


def test_put_of_a_file_that_is_another_by_now_begins_anew(served):
    one, other = random.Random(4).randbytes(50_000), random.Random(5).randbytes(50_000)
    with PageClient(served.address) as client:
        client.auth(KEY, 2)
        client.put("f", one, cut=40_000)
    with PageClient(served.address) as client:
        client.auth(KEY, 2)
        client.put("f", other, resume=True)
        assert client.started == 0
    assert (served.root / "f").read_bytes() == other


def test_damaged_frames(client):
    def damaged(kind, number, payload):
        data = bytearray(P.frame(kind, number, payload))
        data[10] ^= 1
        client.socket.sendall(data)

    damaged(P.STAT, 700, b"f")
    with refused(BAD_CHECKSUM):
        client.answer(700)
    client.send(P.PUT, struct.pack(">BI8sB", 0, 5, b"token...", ord("f")), 701)
    client.answer(701, P.PUT | P.ANSWER)
    for kind, offset, payload in ((P.DATA, 0, bytes(4) + b"hello"), (P.END, 5, sha256(b"hello").digest())):
        damaged(kind, 701, payload)
        while client.answer(701, P.RESEND, P.ACK) != (P.RESEND, struct.pack(">I", offset)):
            pass
        client.send(kind, payload, 701)
    while client.answer(701, P.ACK, P.STORED)[0] != P.STORED:
        pass
    assert client.get("f") == b"hello"


def test_frames_out_of_step_close_the_connection(client):
    client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(P.Closed):
        client.receive()


def test_every_error_but_busy_and_the_like(client, served):
    (served.root / "f").write_bytes(b"1")
    (served.root / "d").mkdir()
    (served.root / "d" / "f").write_bytes(b"2")
    (served.root / "ro").mkdir()
    for code, act in (
        (NOT_FOUND, lambda: client.get("none")),
        (NOT_FOUND, lambda: client.get("config.json")),
        (NOT_FOUND, lambda: client.put("none/f", b"1")),
        (EXISTS, lambda: client.put("f", b"1", only_new=True)),
        (EXISTS, lambda: client.mkdir("d")),
        (EXISTS, lambda: client.rename("d/f", "f")),
        (DENIED, lambda: client.put("ro/f", b"1")),
        (DENIED, lambda: client.delete("ro")),
        (BAD_PATH, lambda: client.get("../f")),
        (BAD_PATH, lambda: client.get("a:b")),
        (BAD_PATH, lambda: client.get("1/2/3/4/5/6/7/8/9")),
        (NO_SPACE, lambda: client.put("g", bytes(500_001))),
        (TOO_LARGE, lambda: client.put("g", bytes(1_000_001))),
        (BAD_REQUEST, lambda: client.ask(P.GET, b"\0")),
        (WRONG_KIND, lambda: client.get("d")),
        (WRONG_KIND, lambda: client.delete("d")),
        (WRONG_KIND, lambda: client.rmdir("f")),
        (WRONG_KIND, lambda: client.put("d", b"1")),
        (NOT_EMPTY, lambda: client.rmdir("d")),
        (FAILED, lambda: client.get("broken")),
        (NOT_SUPPORTED, lambda: client.ask(0x55)),
    ):
        with refused(code):
            act()
    client.rename("d/f", "f", replace=True)
    assert client.get("f") == b"2"


def test_a_wrong_sha_256(client, served):
    number = client.send(P.PUT, struct.pack(">BI8sB", 0, 0, b"token...", ord("f")))
    client.answer(number, P.PUT | P.ANSWER)
    client.send(P.END, bytes(32), number)
    with refused(BAD_CHECKSUM):
        client.answer(number)
    assert client.list() == []


def test_busy(client):
    for number in (1001, 1002):
        client.send(P.PUT, struct.pack(">BIQB", 0, 5, number, ord("f")), number)
        client.answer(number, P.PUT | P.ANSWER)
    with refused(BUSY):
        client.list()


def test_two_writers_and_a_reader_are_told(served):
    data = random.Random(6).randbytes(20_000_000)
    (served.root / "f").write_bytes(data)
    with PageClient(served.address) as one, PageClient(served.address) as two:
        for client in (one, two):
            client.auth(KEY, 2)
        reading = one.send(P.GET, struct.pack(">BIII", 0, 0, P.TO_THE_END, 0) + b"f")
        one.answer(reading, P.GET | P.ANSWER)
        writing = one.send(P.PUT, struct.pack(">BI8sB", 0, 5, b"one.....", ord("f")))
        assert two.put("f", b"two", token=b"two.....") == 1
        with refused(CHANGED):
            while True:
                one.answer(reading, P.DATA)
        one.send(P.DATA, bytes(4) + b"third", writing)
        one.send(P.END, sha256(b"third").digest(), writing)
        while (answer := one.answer(writing, P.PUT | P.ANSWER, P.ACK, P.STORED))[0] != P.STORED:
            pass
        assert answer[1][0] & 1
    assert (served.root / "f").read_bytes() == b"third"


def test_cancel(client):
    number = client.send(P.PUT, struct.pack(">BI8sB", 0, 5, b"token...", ord("f")))
    client.answer(number, P.PUT | P.ANSWER)
    cancel = client.send(P.CANCEL, struct.pack(">HB", number, 1))
    with refused(CANCELLED):
        client.answer(number)
    assert client.answer(cancel, P.CANCEL | P.ANSWER) == (P.CANCEL | P.ANSWER, b"")


# Examples


def examples():
    """{"HELLO, client": bytes, ...} of the page."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Examples\n")[2]
    found = re.findall(r"^\*\*(.+?)\*\*.*\n\n```\n([0-9A-F \n]+)```", text, re.MULTILINE)
    return {name: bytes.fromhex(digits) for name, digits in found}


EXAMPLES = examples()
CLIENT_NONCE, SERVER_NONCE = bytes(range(16)), bytes(range(16, 32))
IDENTITY = bytes.fromhex("0208DC010203")
TOKEN = bytes(range(1, 9))
DIGEST = sha256(b"hello").digest()
TIME = 1_700_000_000


def payloads():
    """Name -> (type, id, payload), from what the page says in words."""
    rest = bytes([1, 2]) + CLIENT_NONCE + SERVER_NONCE
    proofs = [P.hmac.digest(KEY.encode(), b"HWFS " + who + rest, "sha256") for who in (b"client", b"server")]
    hello = struct.pack(">BBHIBBH", 1, 4, 1014, 32768, 2, 8, 0) + SERVER_NONCE + IDENTITY + b"press-3"
    return {
        "HELLO, client": (0x01, 1, b"HWFS\1\1" + struct.pack(">H", 1024) + CLIENT_NONCE),
        "HELLO, server": (0x81, 1, hello),
        "AUTH, client": (0x02, 2, b"\2" + proofs[0]),
        "AUTH, server": (0x82, 2, b"\2" + proofs[1]),
        "PUT, client": (0x13, 3, b"\1" + struct.pack(">I", 5) + TOKEN + b"/a.txt"),
        "DATA, client": (0x20, 3, bytes(4) + b"hello"),
        "END, client": (0x21, 3, DIGEST),
        "ENTRIES, server": (0x25, 4, struct.pack(">BII", 0, 5, TIME) + DIGEST + b"\0\5a.txt"),
    }


def test_the_page_has_these_examples():
    assert list(EXAMPLES) == list(payloads())


@pytest.mark.parametrize("name", payloads())
def test_an_example_byte_by_byte(name):
    """By zlib and hmac alone, by the client of the page, and by ours."""
    data = EXAMPLES[name]
    kind, number, payload = payloads()[name]
    assert data[:3] == struct.pack(">HB", len(payload), kind) and data[4:6] == struct.pack(">H", number)
    assert sum(data[:6]) % 256 == 255
    assert data[6:10] == zlib.crc32(data[:6] + payload).to_bytes(4)
    assert data[10:] == payload
    assert data == P.frame(kind, number, payload) == F.frame(kind, number, payload)
    assert F.parse(data, 0, len(data), 1024) == (len(data), kind, number, True)


def test_the_examples_by_our_functions():
    proof = F.proof(KEY.encode(), b"client", F.WRITE, CLIENT_NONCE, SERVER_NONCE)
    assert EXAMPLES["AUTH, client"][11:] == proof
    assert F.entries(EXAMPLES["ENTRIES, server"][10:], True) == [(F.FILE, 5, TIME, DIGEST, b"a.txt")]
    assert EXAMPLES["ENTRIES, server"][10:] == F.entry(F.FILE, 5, TIME, DIGEST, b"a.txt")
    assert struct.unpack_from(F.CLIENT_PUT, EXAMPLES["PUT, client"], 10) == (F.RESUME, 5, TOKEN)
    assert struct.unpack_from(F.SERVER_HELLO, EXAMPLES["HELLO, server"], 10)[7:] == (SERVER_NONCE, IDENTITY)


def test_the_server_answers_as_the_examples_say(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "entropy", lambda count: SERVER_NONCE[:count])
    server = FilesServer(Folder(tmp_path), "press-3", IDENTITY, write_key=KEY)
    client = Client(server, limit=None)

    def exchange(name):
        """Send an example; the last frame that comes."""
        client.feed(EXAMPLES[name])
        client.drive()
        return bytes(F.frame(*client.frames[-1]))

    assert exchange("HELLO, client") == EXAMPLES["HELLO, server"]
    assert exchange("AUTH, client") == EXAMPLES["AUTH, server"]
    assert exchange("PUT, client") == F.frame(F.PUT | F.ANSWER, 3, bytes(9))
    assert exchange("DATA, client") == F.frame(F.ACK, 3, struct.pack(">I", 5))
    assert exchange("END, client") == F.frame(F.END | F.ANSWER, 3, b"\0" + DIGEST)
    os.utime(tmp_path / "a.txt", (TIME, TIME))
    client.send(F.LIST, bytes([F.HASHES]), 4)
    client.drive()
    assert bytes(F.frame(*client.of(4)[0])) == EXAMPLES["ENTRIES, server"]
