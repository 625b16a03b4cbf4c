"""The file server: who may do what, what is refused, and that nothing is ever half there. See docs/files.md."""

import errno
import os
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from files_driven import NONCE, Client, Clock, Served
from files_page import PageClient
from hardwire import log
from hardwire.services.files import FilesServer
from hardwire.wire import files as F
from hardwire_host.files_serve import make_server
from hardwire_host.folder import Folder

ERROR = 3  # index of log.counts
READ_KEY, WRITE_KEY = "to read", "to write"
KEYS = {F.READ: READ_KEY, F.WRITE: WRITE_KEY}


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    path.mkdir()
    return path


def serve(root, **options):
    return FilesServer(Folder(root), **{"write_key": WRITE_KEY} | options)


def writer(server, **options):
    client = Client(server, **options)
    assert client.auth(WRITE_KEY, F.WRITE)[-1][0] == F.AUTH | F.ANSWER
    return client


def tree(root):
    """Path -> content, None for a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def rename(old, new, flags=0):
    return struct.pack(">BH", flags, len(old)) + old + new


def get(path, offset=0, length=F.TO_THE_END, flags=0, crc=0):
    return struct.pack(F.CLIENT_GET, flags, offset, length, crc) + path


def put(path, size=0, flags=0, token=b"12345678"):
    return struct.pack(F.CLIENT_PUT, flags, size, token) + path


def requests(path):
    """Every request that names `path`: (type, payload)."""
    return [
        (F.LIST, b"\0" + path),
        (F.STAT, path),
        (F.GET, get(path)),
        (F.HASH, path),
        (F.PUT, put(path)),
        (F.DELETE, path),
        (F.RENAME, rename(path, b"new")),
        (F.RENAME, rename(b"a", path)),
        (F.RENAME, rename(b"a", path, F.REPLACE)),
        (F.MKDIR, b"\0" + path),
        (F.MKDIR, b"\1" + path),
        (F.RMDIR, path),
    ]


READING = {F.LIST, F.STAT, F.GET, F.HASH}


# Keys


def test_a_wrong_key_is_denied_after_a_second_and_the_connection_closed(root, clock):
    server = serve(root)
    client = Client(server)
    assert client.auth("wrong", F.WRITE) == []
    clock.move(server, 0.9)
    assert client.frames[1:] == [] and not client.closed
    clock.move(server, 0.2)
    assert client.frames[-1][2][0] == F.DENIED and client.closed


def test_nothing_is_done_for_who_gave_a_wrong_key(root, clock):
    server = serve(root)
    client = writer(server)
    client.auth("wrong", F.WRITE)
    assert client.ask(F.MKDIR, b"\0x") == []
    clock.move(server, 1.1)
    assert client.closed and tree(root) == {}


def test_after_a_wrong_key_all_from_there_wait_longer_each_time(root, clock):
    server = serve(root)
    for seconds in (1, 2, 4, 8, 8, 8):
        Client(server).auth("wrong", F.WRITE)
        other = Client(server)
        clock.move(server, seconds - 0.2)
        assert other.auth(WRITE_KEY, F.WRITE)[-1][2][0] == F.BUSY
        assert other.code(F.LIST, b"\0") == F.DENIED
        writer(server, address="10.0.0.2")
        clock.move(server, 0.3)
    writer(server)
    Client(server).auth("wrong", F.WRITE)
    clock.move(server, 1.1)
    writer(server)


def test_a_wrong_key_is_not_held_against_anybody_a_week_later(root, clock):
    server = serve(root)
    Client(server).auth("wrong", F.WRITE)
    clock.move(server, 7 * 86400)
    writer(server)


@pytest.mark.parametrize(
    "payload", [b"", b"\2", b"\2" + bytes(31), b"\2" + bytes(33), b"\0" + bytes(32), b"\3" + bytes(32)]
)
def test_an_auth_that_is_none_is_a_wrong_key(root, clock, payload):
    server = serve(root)
    client = Client(server)
    client.ask(F.AUTH, payload)
    clock.move(server, 1.1)
    assert client.frames[-1][2][0] == F.DENIED and client.closed


def test_a_recorded_handshake_is_worth_nothing(root, clock):
    server = serve(root)
    recorded = writer(server).sent
    replay = Client(server, limit=None, address="10.0.0.2")
    replay.feed(recorded)
    replay.send(F.MKDIR, b"\0x", 77)
    replay.drive()
    clock.move(server, 1.1)
    assert replay.frames[-1][2][0] == F.DENIED and replay.closed
    assert tree(root) == {}


def test_the_proofs_of_the_server_and_of_another_role_are_none(root, clock):
    server = serve(root, read_key=READ_KEY)
    for number, (who, key, role) in enumerate(
        ((b"server", WRITE_KEY, F.WRITE), (b"client", READ_KEY, F.WRITE), (b"client", WRITE_KEY, F.READ))
    ):
        client = Client(server, address=f"10.0.1.{number}")
        proof = F.proof(key.encode(), who, role, NONCE, client.hello[7])
        assert client.ask(F.AUTH, bytes([role]) + proof) == []
        clock.move(server, 1.1)
        assert client.closed


def test_the_server_proves_its_key_and_its_nonces_are_new(root):
    server = serve(root)
    client = Client(server)
    ((_, _, payload),) = client.auth(WRITE_KEY, F.WRITE)
    assert payload == b"\2" + F.proof(WRITE_KEY.encode(), b"server", F.WRITE, NONCE, client.hello[7])
    assert len({Client(server).hello[7] for _ in range(20)}) == 20


@pytest.mark.parametrize("keys", [(), (F.READ,), (F.WRITE,), (F.READ, F.WRITE)])
def test_rights(root, keys):
    (root / "a").write_bytes(b"1")
    server = FilesServer(
        Folder(root),
        read_key=READ_KEY if F.READ in keys else None,
        write_key=WRITE_KEY if F.WRITE in keys else None,
    )
    for role in (None, *keys):
        client = Client(server)
        access = (0 if keys else F.OPEN) | F.READ_KEY * (F.READ in keys) | F.WRITE_KEY * (F.WRITE in keys)
        assert client.hello[1] == access
        if role is not None:
            client.auth(KEYS[role], role)
        for kind, payload in [*requests(b"missing/path"), (F.SPACE, b"")]:
            may_read = not keys or role is not None
            may = may_read if kind in READING | {F.SPACE} else role == F.WRITE
            assert (client.code(kind, payload) != F.DENIED) == may, (role, kind)
    assert set(tree(root)) - {"missing", "missing/path"} == {"a"}


def test_nothing_but_hello_before_hello(root):
    client = Client(serve(root, write_key=None), limit=None)
    for kind, payload in [*requests(b"a"), (F.SPACE, b""), (F.PING, b""), (F.AUTH, bytes(33))]:
        assert client.code(kind, payload) == F.DENIED


# Paths

ESCAPES = [
    b"..",
    b"../out",
    b"/../out",
    b"a/../../out",
    b"/a/..",
    b".",
    b"./a",
    b"a/.",
    b"a\\b",
    b"..\\out",
    b"C:\\out",
    b"c:out",
    b"\\\\server\\share",
    b"a\0b",
    b"a\nb",
    b"\x7f",
    b"\xff\xfe",
    b"\xed\xb3\xbf",
    b"\xc0\xaf",
    b"..\xc0\xaf",
    b"a ",
    b" a",
    b"a.",
    b"...",
    b"CONFIG~1.JSO",
    b"a?",
    b"a*",
    b'"a"',
    b"<a>",
    b"a|b",
    b"x" * 65,
    b"1/2/3/4/5/6/7/8/9",
]
HIDDEN = [
    b"config.json",
    b"CONFIG.JSON",
    b"/Config.Json",
    b"config.json/x",
    b".put",
    b".PUT/3132333435363738.part",
    b"//.put//x",
    b"secret",
    b"Secret/x",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_bad_path_is_refused_and_touches_nothing(tmp_path, root, path):
    (root / "a").write_bytes(b"1")
    client = writer(serve(root))
    for kind, payload in requests(path):
        assert client.code(kind, payload) == F.BAD_PATH
    assert tree(tmp_path) == {"root": None, "root/a": b"1"}


@pytest.mark.parametrize("path", HIDDEN)
def test_a_hidden_path_is_not_there(root, path):
    before = {"a": b"1", "config.json": b"key", ".put": None, ".put/3132333435363738.part": b"1"}
    before |= {"secret": None, "secret/x": b"2"}
    for name, content in before.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
    client = writer(serve(root, hidden=["secret"]))
    for kind, payload in requests(path):
        assert client.code(kind, payload) == F.NOT_FOUND
    (*entries, _) = client.ask(F.LIST, b"\3")
    assert [entry[4] for frame in entries for entry in F.entries(frame[2], True)] == [b"a"]
    assert tree(root) == before


def test_what_is_read_only_is_read_and_not_written(root):
    (root / "ro" / "in").mkdir(parents=True)
    (root / "ro" / "in" / "x").write_bytes(b"1")
    (root / "a").write_bytes(b"2")
    (root / "up").mkdir()
    (root / "up" / "Main.py").write_bytes(b"3")
    before = tree(root)
    client = writer(serve(root, read_only=["ro", "up/main.py"]))
    for path in (b"ro", b"RO/in/x", b"ro/new", b"up/Main.py", b"up/MAIN.PY"):
        for kind, payload in requests(path):
            if kind not in READING:
                assert client.code(kind, payload) == F.DENIED
    assert client.code(F.GET, get(b"ro/in/x")) == client.code(F.LIST, b"\1ro") == 0
    for kind, payload in ((F.RENAME, rename(b"up", b"down")), (F.RMDIR, b"up")):
        assert client.code(kind, payload) == F.DENIED
    assert tree(root) == before


def test_the_root_is_no_file_and_stays(root):
    client = writer(serve(root))
    for path in (b"", b"/", b"//"):
        for kind, payload in requests(path):
            assert (client.code(kind, payload) == 0) == (kind in (F.LIST, F.STAT)), kind
    assert tree(root) == {}


# PUT


SIZES = [0, 1, 1009, 1010, 1011, 2020, 5000]  # 1010 is a whole DATA of 1014


@pytest.mark.parametrize("size", SIZES)
def test_put_and_get(root, size):
    data = random.Random(size).randbytes(size)
    server = serve(root)
    client = writer(server)
    assert client.put("f", data) == b"\0" + sha256(data).digest()
    assert client.put("f", data) == b"\1" + sha256(data).digest()
    assert tree(root) == {"f": data, ".put": None}
    first, *chunks, end = client.ask(F.GET, get(b"f"))
    assert first[2][:4] == struct.pack(">I", size)
    assert b"".join(payload[4:] for _, _, payload in chunks) == data
    assert end[0] == F.END and end[2] == struct.pack(">I", size) + sha256(data).digest()


def test_until_it_is_stored_the_name_has_what_it_had(root):
    (root / "f").write_bytes(b"old")
    server = serve(root)
    client = writer(server)
    data = bytes(3000)
    number = client.begin("f", len(data))
    for at in range(0, 3000, 1000):
        client.data(number, data, at, 1000)
        client.drive()
        assert (root / "f").read_bytes() == b"old"
    assert client.finish(number, data)[0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == data


def test_a_wrong_checksum_leaves_nothing(root, clock):
    (root / "f").write_bytes(b"old")
    server = serve(root)
    client = writer(server)
    number = client.begin("f", 5)
    client.data(number, b"hello", 0, 5)
    client.send(F.END, bytes(32), number)
    client.drive()
    assert client.of(number)[-1][2][0] == F.BAD_CHECKSUM
    assert client.begin("f", 5, flags=F.RESUME) and client.offset == 0
    client.lose()
    clock.move(server, 90000)
    assert tree(root) == {"f": b"old"}


def test_only_new(root):
    client = writer(serve(root))
    client.put("f", b"1", flags=F.ONLY_NEW)
    assert client.code(F.PUT, put(b"f", 1, F.ONLY_NEW)) == F.EXISTS
    number = client.begin("g", 1, flags=F.ONLY_NEW)
    (root / "g").write_bytes(b"meanwhile")
    assert client.finish(number, b"2")[2][0] == F.EXISTS
    assert (root / "g").read_bytes() == b"meanwhile"


def test_two_to_one_name_are_both_told_and_the_last_stays(root):
    server = serve(root)
    one, two = writer(server), writer(server)
    first = one.begin("f", 3, token=b"one.....")
    assert one.others == 0
    second = two.begin("f", 3, token=b"two.....")
    assert two.others == 1
    assert one.of(first)[-1][0] == F.NOTE and one.of(first)[-1][2][0] == F.RIVAL
    assert two.finish(second, b"two")[2][0] == 0
    assert one.of(first)[-1][0] == F.NOTE and len(one.of(first)) == 3
    assert one.finish(first, b"one")[2][0] == F.REPLACED | F.OVERTOOK
    assert (root / "f").read_bytes() == b"one"


def test_the_token_of_another_connection_is_taken_over(root):
    server = serve(root)
    data = random.Random(1).randbytes(40000)
    one, two = writer(server), writer(server)
    number = one.begin("f", len(data))
    for at in range(0, 20000, 1000):
        one.data(number, data, at, 1000)
    one.drive()
    taken = two.begin("f", len(data), flags=F.RESUME)
    assert two.offset > 0 and two.crc == zlib.crc32(data[: two.offset])
    assert one.of(number)[-1][2][0] == F.CANCELLED
    assert two.finish(taken, data)[0] == F.END | F.ANSWER
    assert one.code(F.STAT, b"f") == 0
    assert (root / "f").read_bytes() == data


def test_who_loses_a_token_while_data_waits_can_go_on(root):
    server = serve(root)
    one, two = writer(server), writer(server)
    number = one.begin("f", 2000)
    one.data(number, bytes(2000), 0, 1000)  # comes, and waits for its turn
    two.begin("f", 2000, flags=F.RESUME)
    assert one.of(number)[-1][2][0] == F.CANCELLED
    assert one.ask(F.PING) != []


class Full(Folder):
    """A disk with `room` bytes."""

    room = 1000
    writes = False  # whether that is noticed by writing only

    def space(self):
        return (1 << 20, 1 << 20) if self.writes else (2000, self.room)

    def open(self, path, mode):
        file = super().open(path, mode)
        if not self.writes or mode == "rb":
            return file
        return _FullFile(file, self)


class _FullFile:
    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, data):
        self._disk.room -= len(data)
        if self._disk.room < 0:
            raise OSError(errno.ENOSPC, "no space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_no_space_and_too_large_are_said_before_the_first_byte(root):
    client = writer(FilesServer(Full(root), write_key=WRITE_KEY))
    assert client.code(F.PUT, put(b"f", 1001)) == F.NO_SPACE
    assert client.code(F.PUT, put(b"f", 2001)) == F.TOO_LARGE
    assert client.code(F.PUT, put(b"f", 0xFFFFFFFF)) == F.TOO_LARGE
    assert tree(root) == {}
    number = client.begin("f", 600)
    assert client.code(F.PUT, put(b"g", 600, token=b"other...")) == F.NO_SPACE  # 600 are promised
    assert client.finish(number, bytes(600))[0] == F.END | F.ANSWER


def test_no_space_while_it_is_written(root, clock):
    folder = Full(root)
    folder.writes = True
    server = FilesServer(folder, write_key=WRITE_KEY)
    client = writer(server)
    number = client.begin("f", 3000)
    for at in (0, 1000, 2000):
        client.data(number, bytes(3000), at, 1000)
    client.drive()
    assert client.of(number)[-1][2][0] == F.NO_SPACE
    assert client.ask(F.PING) != [], "the connection goes on"
    clock.move(server, 60)
    assert tree(root) == {}


def test_a_refused_put_leaves_nothing_to_sweep(root, clock):
    server = FilesServer(Full(root), write_key=WRITE_KEY)
    client = writer(server)
    for number in range(50):
        assert client.code(F.PUT, put(b"f", 1001, token=number.to_bytes(8))) == F.NO_SPACE
    warnings = log.counts[log.WARNING]
    clock.move(server, 90000)
    assert log.counts[log.WARNING] == warnings
    assert tree(root) == {}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("restart", [False, True], ids=["connection lost", "reset"])
def test_a_put_cut_anywhere_is_resumed_with_at_most_a_window_sent_twice(root, clock, seed, restart):
    chance = random.Random(seed)
    (root / "f").write_bytes(b"old")
    data = chance.randbytes(chance.choice([0, 1, 5000, 100_000]))
    window = 8192
    server = serve(root, window=window)
    sent = cuts = 0
    stored = False
    while not stored:
        client = writer(server)
        number = client.begin("f", len(data), flags=F.RESUME)
        at = acknowledged = client.offset
        assert client.crc == zlib.crc32(data[:at])
        until = chance.randrange(at, len(data) + 1) if cuts < 5 else len(data) + 1
        while at < min(until, len(data)) and acknowledged < len(data):
            if at - acknowledged < window:
                before = at
                at = client.data(number, data, at, min(900, acknowledged + window - at))
                sent += at - before
            if chance.random() < 0.5 or at - acknowledged >= window:
                client.drive()
            for kind, _, payload in client.of(number):
                if kind == F.ACK:
                    acknowledged = struct.unpack(">I", payload)[0]
        if until > len(data):
            client.send(F.END, sha256(data).digest(), number)
            client.drive()
            stored = client.of(number)[-1][0] == F.END | F.ANSWER
            assert stored
        else:
            cuts += 1
            assert (root / "f").read_bytes() == b"old"
            if restart:
                for request in list(client.protocol.requests.values()):
                    request.file.close()  # what was written and not synced may be there or not
                server = serve(root, window=window)
            else:
                client.lose()
    assert sent <= len(data) + cuts * window
    assert (root / "f").read_bytes() == data
    clock.move(server, 90000)
    assert tree(root) == {"f": data}


def test_an_interrupted_put_is_swept_when_its_time_is_over_and_not_before(root, clock):
    server = serve(root, keep_s=3600)
    client = writer(server)
    number = client.begin("f", 50000)
    for at in range(0, 40000, 1000):
        client.data(number, bytes(50000), at, 1000)
    client.drive()
    clock.move(server, 5000)  # it is not interrupted
    assert len(tree(root)) == 2
    client.lose()
    clock.move(server, 3500)
    assert len(tree(root)) == 2
    clock.move(server, 200)
    assert tree(root) == {}


def test_what_a_reset_interrupted_is_swept_too(root, clock):
    client = writer(serve(root))
    number = client.begin("f", 50000)
    for at in range(0, 40000, 1000):
        client.data(number, bytes(50000), at, 1000)
    client.drive()
    server = serve(root, keep_s=3600)
    clock.move(server, 3500)
    assert len(tree(root)) == 2
    clock.move(server, 200)
    assert tree(root) == {}


def test_without_the_flag_a_put_begins_anew(root):
    client = writer(serve(root))
    number = client.begin("f", 50000)
    client.data(number, bytes(50000), 0, 1000)
    client.drive()
    client.ask(F.CANCEL, struct.pack(">HB", number, 0))
    data = random.Random(7).randbytes(5000)
    number = client.begin("f", len(data))
    assert client.offset == 0
    assert client.finish(number, data)[0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == data


def test_a_put_that_is_shorter_than_what_there_is_of_it_begins_anew(root):
    client = writer(serve(root))
    number = client.begin("f", 50000)
    client.data(number, bytes(50000), 0, 1000)
    client.drive()
    client.ask(F.CANCEL, struct.pack(">HB", number, 0))
    number = client.begin("f", 500, flags=F.RESUME)
    assert (client.offset, client.crc) == (0, 0)
    assert client.finish(number, b"x" * 500)[0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == b"x" * 500


def test_an_end_that_is_not_due_is_asked_for_again(root):
    client = writer(serve(root))
    data = random.Random(7).randbytes(2000)
    number = client.begin("f", len(data))
    client.data(number, data, 0, 1000)  # the other half is lost
    client.send(F.END, sha256(data).digest(), number)
    client.drive()
    assert client.of(number)[-1][::2] == (F.RESEND, struct.pack(">I", 1000))
    client.offset = 1000
    assert client.finish(number, data)[0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == data


def test_a_client_that_ends_its_stream_lets_go_of_its_put(root):
    """It was killed: its kernel says so by FIN."""
    server = serve(root)
    client = writer(server)
    number = client.begin("f", 5000)
    client.data(number, bytes(5000), 0, 1000)
    client.drive()
    stays = client.protocol.eof_received()
    client.drive()
    assert client.closed or not stays


def test_a_client_that_ends_its_stream_gets_what_it_asked_for(root):
    (root / "f").write_bytes(bytes(5000))
    server = serve(root)
    client = writer(server)
    number = client.send(F.GET, get(b"f"))
    assert client.protocol.eof_received()
    client.drive()
    assert client.of(number)[-1][0] == F.END and client.closed


def test_data_that_is_not_due_is_asked_for_again_once(root):
    client = writer(serve(root))
    data = random.Random(3).randbytes(5000)
    number = client.begin("f", len(data))
    client.data(number, data, 0, 1000)
    for at in (2000, 3000, 4000):  # one is lost
        client.data(number, data, at, 1000)
    client.drive()
    assert [(kind, payload) for kind, _, payload in client.of(number)[1:]] == [
        (F.RESEND, struct.pack(">I", 1000))
    ]
    client.offset = 1000
    assert client.finish(number, data)[0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == data


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (F.DATA, b""),
        (F.DATA, bytes(3)),
        (F.DATA, bytes(4)),
        (F.DATA, bytes(10)),  # six bytes of five
        (F.END, b""),
        (F.END, bytes(31)),
        (F.END, bytes(33)),
    ],
)
def test_frames_of_a_put_that_make_no_sense_end_it_alone(root, kind, payload):
    client = writer(serve(root))
    number = client.begin("f", 5)
    client.send(kind, payload, number)
    client.drive()
    assert client.of(number)[-1][0] == F.ERROR and client.of(number)[-1][2][0] == F.BAD_REQUEST
    client.put("g", b"1")
    assert not (root / "f").exists()


# Damage


def test_a_damaged_request_of_any_type_is_asked_for_again(root):
    (root / "a").write_bytes(b"1")
    client = writer(serve(root))
    before = tree(root)
    for kind, payload in [
        *requests(b"a"),
        (F.SPACE, b""),
        (F.PING, b""),
        (F.CANCEL, bytes(3)),
        (F.AUTH, bytes(33)),
        (F.HELLO, bytes(24)),
        (0x55, b"x"),
    ]:
        for damage in {0, len(payload) // 2, max(0, len(payload) - 1)}:
            (answer,) = client.ask(kind, payload, damage=damage)
            assert answer[0] == F.ERROR and answer[2][0] == F.BAD_CHECKSUM
    assert tree(root) == before and not client.closed


def test_damaged_data_and_end_are_asked_for_again(root):
    client = writer(serve(root))
    data = random.Random(5).randbytes(3000)
    number = client.begin("f", len(data))
    for at in (0, 1000, 2000):
        client.send(F.DATA, struct.pack(">I", at) + data[at : at + 1000], number, damage=at // 3)
        client.drive()
        assert client.of(number)[-1][::2] == (F.RESEND, struct.pack(">I", at))
        client.data(number, data, at, 1000)
        client.drive()
    client.send(F.END, sha256(data).digest(), number, damage=7)
    client.drive()
    assert client.of(number)[-1][::2] == (F.RESEND, struct.pack(">I", 3000))
    client.send(F.END, sha256(data).digest(), number)
    client.drive()
    assert client.of(number)[-1][0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == data


def test_a_stream_out_of_step_is_closed(root):
    for at in range(6):
        client = writer(serve(root))
        frame = F.frame(F.PING, 99)
        frame[at] ^= 1
        client.feed(bytes(frame) + bytes(F.frame(F.MKDIR, 98, b"\0x")))
        client.drive()
        assert client.closed and client.of(99) == []
    client = writer(serve(root))
    client.feed(bytes(F.frame(F.MKDIR, 99, bytes(client.server.limit + 1))))
    assert client.closed
    assert tree(root) == {}


# Several at once


def test_busy(root):
    (root / "f").write_bytes(bytes(50000))
    server = serve(root, operations=2)
    client, other = writer(server), writer(server)
    numbers = [client.send(F.GET, get(b"f")) for _ in range(3)]
    assert other.code(F.STAT, b"f") == 0
    client.drive()
    assert client.of(numbers[2])[0][2][0] == F.BUSY
    assert all(client.of(number)[-1][0] == F.END for number in numbers[:2])
    assert client.code(F.STAT, b"f") == 0


def test_an_id_in_use_ends_the_connection(root):
    client = writer(serve(root))
    number = client.begin("f", 5)
    client.send(F.STAT, b"", number)
    assert client.frames[-1][:2] == (F.ERROR, 0) and client.closed


def test_cancel(root, clock):
    (root / "f").write_bytes(bytes(50000))
    server = serve(root)
    client = writer(server)
    number = client.send(F.GET, get(b"f"))
    assert client.ask(F.CANCEL, struct.pack(">HB", number, 0))[-1][0] == F.CANCEL | F.ANSWER
    assert client.of(number)[-1][2][0] == F.CANCELLED
    for forget, left in ((0, 40000), (F.FORGET, 0)):
        number = client.begin("g", 50000)
        for at in range(0, 40000, 1000):
            client.data(number, bytes(50000), at, 1000)
        client.drive()
        client.ask(F.CANCEL, struct.pack(">HB", number, forget))
        assert client.of(number)[-1][2][0] == F.CANCELLED
        again = client.begin("g", 50000, flags=F.RESUME)
        assert client.offset == left
        client.ask(F.CANCEL, struct.pack(">HB", again, F.FORGET))
    assert client.ask(F.CANCEL, struct.pack(">HB", 999, 0))[-1][0] == F.CANCEL | F.ANSWER
    clock.move(server, 60)
    assert tree(root) == {"f": bytes(50000)}


@pytest.mark.parametrize("how", ["put", "delete", "rename", "rename over", "rename its folder"])
def test_who_reads_what_changes_is_told(root, how):
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(bytes(200_000))
    (root / "g").write_bytes(b"new")
    server = serve(root)
    reader, other = writer(server), writer(server)
    number = reader.send(F.GET, get(b"d/f"))
    beside = reader.send(F.GET, get(b"g"))
    for _ in range(20):
        server.work()
    reader.protocol.pause_writing()
    if how == "put":
        other.put("d/f", b"new")
    elif how == "delete":
        assert other.code(F.DELETE, b"d/f") == 0
    else:
        paths = {
            "rename": (b"d/f", b"d/h"),
            "rename over": (b"g", b"d/f"),
            "rename its folder": (b"d", b"e"),
        }
        assert other.code(F.RENAME, rename(*paths[how], F.REPLACE)) == 0
    reader.protocol.resume_writing()
    reader.drive()
    assert reader.of(number)[-1][0] == F.ERROR and reader.of(number)[-1][2][0] == F.CHANGED
    assert reader.of(beside)[-1][0] == F.END or how == "rename over"


def test_a_client_that_takes_nothing_holds_up_nobody(root):
    (root / "f").write_bytes(bytes(100_000))
    server = serve(root)
    slow, other = writer(server), writer(server)
    number = slow.send(F.GET, get(b"f"))
    server.work()
    slow.protocol.pause_writing()
    count = len(slow.frames)
    other.put("g", bytes(30000))
    slow.send(F.PING)
    slow.drive()
    assert len(slow.frames) == count
    slow.protocol.resume_writing()
    slow.drive()
    assert slow.of(number)[-1][0] == F.END and slow.frames[-1][0] in (F.END, F.PING | F.ANSWER)


def test_a_client_that_takes_nothing_is_not_read_from_without_bound(root):
    server = serve(root)
    client = writer(server)
    client.protocol.pause_writing()
    pings = bytes(F.frame(F.PING, 999)) * 2000
    client.feed(pings)
    assert client.ahead > len(pings) - 4 * 1024
    client.protocol.resume_writing()
    client.drive()
    assert len(client.of(999)) == 2000 and client.ahead == 0


# Reading


def test_ranges_and_resume(root):
    data = random.Random(8).randbytes(5000)
    (root / "f").write_bytes(data)
    client = writer(serve(root))
    for offset, length in ((0, 0), (0, 1), (10, 2500), (4999, 1), (5000, 1), (4000, 5000), (6000, 5)):
        _, *chunks, end = client.ask(F.GET, get(b"f", offset, length))
        wanted = data[offset : offset + length]
        assert b"".join(payload[4:] for _, _, payload in chunks) == wanted
        assert end[2] == struct.pack(">I", min(offset, 5000) + len(wanted)) + sha256(wanted).digest()
    for have in (0, 1, 2500, 5000):
        crc = zlib.crc32(data[:have])
        _, *chunks, end = client.ask(F.GET, get(b"f", have, flags=F.RESUME, crc=crc))
        assert b"".join(payload[4:] for _, _, payload in chunks) == data[have:]
        assert end[2][4:] == sha256(data).digest()
        assert client.code(F.GET, get(b"f", have, flags=F.RESUME, crc=crc ^ 1)) == F.CHANGED
    assert client.code(F.GET, get(b"f", 5001, flags=F.RESUME)) == F.CHANGED


def test_list_with_hashes_in_small_frames(root):
    for number in range(60):
        (root / f"folder{number % 7}").mkdir(exist_ok=True)
        (root / f"folder{number % 7}" / f"a file with a long name {number}").write_bytes(bytes(number))
    (root / "bad~1").touch()
    (root / " bad").mkdir()
    client = writer(serve(root))
    *frames, (kind, _, count) = client.ask(F.LIST, b"\3")
    assert kind == F.LIST | F.ANSWER and len(frames) > 3
    assert all(len(payload) <= 1024 for _, _, payload in frames)
    found = [entry for _, _, payload in frames for entry in F.entries(payload, True)]
    assert struct.unpack(">I", count) == (len(found),)
    bad = {"bad~1", " bad"}
    assert {path.decode(): digest for _, _, _, digest, path in found} == {
        path: bytes(32) if content is None else sha256(content).digest()
        for path, content in tree(root).items()
        if path not in bad
    }


def test_the_longest_paths_fit_the_smallest_frames(root):
    server = make_server(root, "pc", bytes(6), write_key=WRITE_KEY)
    client = writer(server)
    path = "/".join(["x" * 64] * server.depth)
    (root / path).mkdir(parents=True)
    *frames, _ = client.ask(F.LIST, b"\3")
    assert frames and all(0 < len(payload) <= 1024 for _, _, payload in frames)
    assert max(len(entry[4]) for _, _, payload in frames for entry in F.entries(payload, True)) == len(path)


def test_a_file_of_more_than_4_gib_is_listed_and_not_sent(root):
    with open(root / "large", "wb") as file:
        file.truncate(5 << 30)
    client = writer(serve(root))
    *_, (_, _, count) = client.ask(F.LIST, b"\0")
    assert count == struct.pack(">I", 1)
    assert client.code(F.STAT, b"large") == 0
    assert client.code(F.GET, get(b"large")) == F.TOO_LARGE
    assert client.code(F.HASH, b"large") == F.TOO_LARGE


def test_a_long_name_of_the_server_is_cut_between_letters(root):
    client = Client(serve(root, name="ä" * 40), limit=None)
    client.send(F.HELLO, struct.pack(F.CLIENT_HELLO, F.MAGIC, 1, 1, 1024, NONCE))
    assert client.frames[0][2][34:].decode().strip("ä") == ""


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (b"", F.BAD_REQUEST),
        (struct.pack(F.CLIENT_HELLO, b"HWFX", 1, 1, 1024, NONCE), F.BAD_REQUEST),
        (struct.pack(F.CLIENT_HELLO, F.MAGIC, 2, 9, 1024, NONCE), F.NOT_SUPPORTED),
        (struct.pack(F.CLIENT_HELLO, F.MAGIC, 1, 1, 1023, NONCE), F.NOT_SUPPORTED),
    ],
)
def test_a_hello_that_is_none(root, hello, code):
    client = Client(serve(root), limit=None)
    assert client.code(F.HELLO, hello) == code
    assert client.closed


def test_a_later_version_is_offered_ours(root):
    client = Client(serve(root), limit=None)
    ((_, _, answer),) = client.ask(F.HELLO, struct.pack(F.CLIENT_HELLO, F.MAGIC, 1, 9, 1024, NONCE))
    assert answer[0] == F.VERSION


# Any bytes

frames = st.builds(
    lambda kind, number, payload: bytes(F.frame(kind, number, payload)),
    st.sampled_from([*range(0x01, 0x04), *range(0x10, 0x1B), *range(0x20, 0x26), 0x93, 0xFF]),
    st.integers(0, 3),
    st.one_of(
        st.binary(max_size=60),
        st.builds(lambda n, rest: bytes(n) + rest, st.integers(0, 40), st.binary(max_size=20)),
        st.builds(put, st.binary(max_size=20), st.integers(0, 3), st.integers(0, 3)),
        st.builds(get, st.binary(max_size=20), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    ),
)
streams = st.lists(st.one_of(frames, frames, frames, st.binary(max_size=40)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(streams, st.booleans(), st.integers(1, 200), st.randoms(use_true_random=False))
def test_any_bytes_disturb_nobody(tmp_path_factory, pieces, hello, cut, chance):
    root = tmp_path_factory.mktemp("any")
    (root / "f").write_bytes(b"content")
    server = FilesServer(Folder(root), read_key=READ_KEY, write_key=WRITE_KEY)
    good = writer(server)
    number = good.begin("g", 3000)
    errors = log.counts[ERROR]
    bad = Client(server, address="10.0.0.9", limit=1024 if hello else None)
    stream = b"".join(pieces)
    data = bytes(range(250)) * 12
    at = 0
    while stream or at < len(data):
        if stream:
            bad.feed(stream[:cut])
            stream = stream[cut:]
        if at < len(data):
            at = good.data(number, data, at, 500)
        if chance.random() < 0.5:
            server.work()
    good.offset = len(data)
    good.drive()
    assert good.finish(number, data)[0] == F.END | F.ANSWER
    assert good.ask(F.GET, get(b"f"))[-1][0] == F.END
    if not bad.closed:
        bad.lose()
    assert tree(root) == {"f": b"content", "g": data, ".put": None}
    assert log.counts[ERROR] == errors, "an internal error"


@settings(max_examples=150, deadline=None)
@given(streams)
def test_any_requests_of_a_writer_are_answered_or_the_connection_is_closed(tmp_path_factory, pieces):
    root = tmp_path_factory.mktemp("any") / "root"
    root.mkdir()
    server = serve(root)
    errors = log.counts[ERROR]
    bad, good = writer(server), writer(server)
    bad.feed(b"".join(pieces))
    bad.drive()
    assert set(tree(root.parent)) == {"root"} | {f"root/{path}" for path in tree(root)}
    assert good.put("good", b"1")[1:] == sha256(b"1").digest()
    if not bad.closed and not bad.protocol._held and not bad.protocol._denied:
        for request in list(bad.protocol.requests):
            bad.ask(F.CANCEL, struct.pack(">HB", request, F.FORGET))
        assert bad.ask(F.PING)[-1][0] == F.PING | F.ANSWER
    assert log.counts[ERROR] == errors, "an internal error"


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_after_any_operations_in_any_order_nothing_is_left(tmp_path_factory, chance):
    root = tmp_path_factory.mktemp("any")
    contents = {size: random.Random(size).randbytes(size) for size in (0, 1, 3000, 9000)}
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        server = serve(root, window=4096, keep_s=10)
        errors = log.counts[ERROR]
        clients, ends = [], {}
        for _ in range(60):
            if len(clients) < 3:
                clients.append(writer(server))
            client = chance.choice(clients)
            name = chance.choice((b"a", b"b"))
            data = chance.choice(list(contents.values()))
            act = chance.randrange(10)
            if act < 3:
                token = chance.choice((b"token1..", b"token2.."))
                number = client.send(F.PUT, put(name, len(data), chance.randrange(4), token))
                ends[client, number] = data
            elif act < 7 and ends:
                (client, number), data = chance.choice(list(ends.items()))
                answers = [payload for kind, _, payload in client.of(number) if kind == F.PUT | F.ANSWER]
                if answers and not client.closed:
                    at = struct.unpack_from(">I", answers[0])[0]
                    while at < len(data):
                        at = client.data(number, data, at, 900)
                    client.send(F.END, sha256(data).digest(), number)
                    del ends[client, number]
            elif act == 7:
                client.send(F.GET, get(name))
            elif act == 8:
                request = chance.choice([F.DELETE, F.HASH, F.RENAME, F.CANCEL, F.LIST])
                other = {F.RENAME: rename(b"a", b"b", F.REPLACE), F.LIST: b"\3"}
                other[F.CANCEL] = struct.pack(">HB", client.number(), chance.randrange(2))
                client.send(request, other.get(request, name))
            elif chance.random() < 0.5:
                client.protocol.eof_received()
                clients.remove(client)
            else:
                client.lose()
                clients.remove(client)
            for _ in range(chance.choice((0, 1, 5, 50))):
                server.work()
        Client(server).drive()
        for protocol in list(server.connections):
            protocol.connection_lost(None)
        assert not server.connections and not server.work() and not server.everyone()
        assert not server.staging.used
        assert all((root / name).read_bytes() in contents.values() for name in "ab" if (root / name).exists())
        clock.move(server, 60)
        assert set(tree(root)) <= {"a", "b"}
        assert log.counts[ERROR] == errors, "an internal error"


def test_bytes_one_by_one(root):
    server = serve(root)
    client = writer(server)
    data = random.Random(9).randbytes(1500)
    number = client.begin("f", len(data))
    for at in (0, 750):
        for byte in bytes(F.frame(F.DATA, number, struct.pack(">I", at) + data[at : at + 750])):
            client.feed(bytes([byte]))
    client.offset = len(data)
    client.drive()
    assert client.finish(number, data)[0] == F.END | F.ANSWER
    assert (root / "f").read_bytes() == data


# Sockets


def test_three_clients_and_200_small_files(root):
    server = make_server(root, "pc", bytes(6), write_key=WRITE_KEY)
    files = {f"f{number}": random.Random(number).randbytes(number * 7) for number in range(200)}

    def store(names):
        with PageClient(served.address) as client:
            client.auth(WRITE_KEY, 2)
            for name in names:
                client.put(name, files[name], token=name.encode().ljust(8))
            return {name: client.get(name) for name in names}

    with Served(server) as served, ThreadPoolExecutor(3) as pool:
        names = list(files)
        for found in pool.map(store, (names[0::3], names[1::3], names[2::3])):
            assert all(found[name] == files[name] for name in found)
        with PageClient(served.address, limit=65000) as client:
            client.auth(WRITE_KEY, 2)
            assert {path: digest for *_, digest, path in client.list(hashes=True)} == {
                name: sha256(data).digest() for name, data in files.items()
            }


def test_a_megabyte_up_and_down_through_sockets_while_another_is_killed(root):
    server = make_server(root, "pc", bytes(6), write_key=WRITE_KEY)
    data = random.Random(10).randbytes(1 << 20)
    with Served(server) as served:
        other = PageClient(served.address)
        other.auth(WRITE_KEY, 2)
        other.put("g", data, token=b"other...", cut=300_000)
        other.close()
        with PageClient(served.address, limit=65000) as client:
            client.auth(WRITE_KEY, 2)
            assert client.put("f", data) == 0
            assert client.get("f") == data
            assert client.put("g", data, token=b"other...", resume=True) == 0
            assert client.started + client.sent == len(data)
    assert (root / "f").read_bytes() == (root / "g").read_bytes() == data
    assert not os.listdir(root / ".put")
