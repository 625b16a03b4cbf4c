"""Files over the REPL: the board's code is run by CPython in a folder, behind a line that can damage and break."""

import asyncio
import hashlib
import json
import random

import pytest
from mpremote.transport import TransportError

from hardwire.wire import files as wire
from hardwire_host.cli import run
from hardwire_host.clients import files_repl_board
from hardwire_host.clients.files import FilesError
from hardwire_host.clients.files_repl import ReplFiles
from hardwire_host.clients.files_repl_board import CHUNK, TRIES
from hardwire_host.errors import FAILED, NO_BOARD, HardwireError
from hardwire_host.target import Target
from repl_standin import FREE, Board


@pytest.fixture
def board(tmp_path, monkeypatch):
    made = Board(tmp_path / "board")
    monkeypatch.setattr(files_repl_board, "session", made.session)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return made


def over(board, work, **options):
    """What `work(files)` returns."""

    async def main():
        files = ReplFiles(Target("serial", "usb", port="/dev/none"), **options)
        try:
            return await work(files)
        finally:
            await files.close()

    return asyncio.run(main())


@pytest.fixture
def source(tmp_path):
    """A file of seven and a half pieces, with every byte value."""
    path = tmp_path / "source.bin"
    path.write_bytes(random.Random(1).randbytes(7 * CHUNK + CHUNK // 2))
    return path


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 40_000])
@pytest.mark.parametrize("fat", [False, True])
def test_a_file_comes_back_as_it_went(board, tmp_path, size, fat):
    board.options = {"fat": fat}
    data = random.Random(size).randbytes(size)
    (tmp_path / "data").write_bytes(data)
    (board.root / "x").write_bytes(b"old")

    async def work(files):
        digest = await files.put(tmp_path / "data", "x", verify=True)
        return digest, await files.get("x", tmp_path / "back")

    assert over(board, work) == (hashlib.sha256(data).digest(),) * 2
    assert board.files == {"x": data}
    assert not (board.root / ".put").exists()
    assert (tmp_path / "back").read_bytes() == data
    assert not (tmp_path / "back.part").exists()


@pytest.mark.parametrize("fat", [False, True])
def test_a_file_takes_the_name_of_another(board, fat):
    board.options = {"fat": fat}
    (board.root / "new").write_bytes(b"new")
    (board.root / "old").write_bytes(b"old")
    over(board, lambda files: files.rename("new", "old", replace=True))
    assert board.files == {"old": b"new"}


def test_every_byte_value_passes_but_ctrl_c(board, tmp_path):
    sent = []
    board.damage = lambda data: sent.append(bytes(data)) or data
    data = bytes(range(256)) * 40 + b"\x03" * 5000
    (tmp_path / "data").write_bytes(data)
    over(board, lambda files: files.put(tmp_path / "data", "x"))
    assert board.files == {"x": data}
    assert b"\x03" not in b"".join(sent)


def test_damaged_pieces_are_sent_again_both_ways(board, source, tmp_path):
    generator = random.Random(7)
    hits = []

    def damage(data):
        data = bytearray(data)
        if len(data) > 100 and generator.random() < 0.2:
            hits.append(len(data))
            data[generator.randrange(20, len(data))] ^= 1 << generator.randrange(3, 8)  # makes no Ctrl-C
        return bytes(data)

    board.damage = damage

    async def work(files):
        await files.put(source, "x")
        there = len(hits)
        await files.get("x", tmp_path / "back")
        return there

    there = over(board, work)
    assert 0 < there < len(hits)
    assert board.files["x"] == (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_line_that_always_damages_is_given_up(board, source):
    board.damage = lambda data: data[:-1] + bytes([data[-1] ^ 8])
    with pytest.raises(HardwireError, match="damages") as caught:
        over(board, lambda files: files.put(source, "x"))
    assert caught.value.code == FAILED
    assert board.lines[0].sent <= TRIES * (CHUNK + 20)
    assert "x" not in board.files


class Cut(TransportError):
    pass


def _cut_after(n):
    left = n

    def damage(data):
        nonlocal left
        left -= len(data)
        if left < 0:
            raise Cut
        return data

    return damage


@pytest.mark.parametrize("seed", range(10))
def test_an_upload_cut_anywhere_leaves_the_old_file_and_resumes(board, source, seed):
    (board.root / "x").write_bytes(b"old")
    size = source.stat().st_size
    board.damage = _cut_after(random.Random(seed).randrange(size))
    with pytest.raises(Cut):
        over(board, lambda files: files.put(source, "x"))
    assert board.files["x"] == b"old"
    staged = sum(len(data) for name, data in board.files.items() if name.startswith(".put/"))
    board.damage = bytes
    over(board, lambda files: files.put(source, "x"))
    assert board.files == {"x": source.read_bytes()}
    # Heads of pieces are the 5 %.
    assert board.lines[0].sent <= staged * 1.05 + 2 * CHUNK
    assert size - staged <= board.lines[1].sent <= (size - staged) * 1.05 + 30


def test_a_download_resumes_and_one_of_another_file_begins_anew(board, source, tmp_path):
    to = tmp_path / "back"
    (board.root / "x").write_bytes(source.read_bytes())
    board.damage = _cut_after(3 * CHUNK + 1000)
    with pytest.raises(Cut):
        over(board, lambda files: files.get("x", to))
    held = (tmp_path / "back.part").stat().st_size
    assert held == 3 * CHUNK
    assert not to.exists()
    board.damage = bytes
    seen = []
    over(board, lambda files: files.get("x", to, progress=lambda *now: seen.append(now)))
    assert next(done for what, done, _ in seen if what == "receive") == held + CHUNK
    assert to.read_bytes() == source.read_bytes()
    (tmp_path / "back.part").write_bytes(b"of another file")
    over(board, lambda files: files.get("x", to))
    assert to.read_bytes() == source.read_bytes()


def test_a_source_that_became_another_is_not_glued_to_what_is_staged(board, source):
    board.damage = _cut_after(3 * CHUNK)
    with pytest.raises(Cut):
        over(board, lambda files: files.put(source, "x"))
    board.damage = bytes
    source.write_bytes(b"y" * 20_000)
    over(board, lambda files: files.put(source, "x"))
    assert board.files == {"x": b"y" * 20_000}


def test_a_source_that_changes_meanwhile_is_not_stored(board, source):
    def change(what, done, size):
        if what == "send":
            source.write_bytes(b"z" * size)

    with pytest.raises(FilesError, match="was changed") as caught:
        over(board, lambda files: files.put(source, "x", progress=change))
    assert caught.value.number == wire.CHANGED
    assert board.files == {}


def _put(source, path, **options):
    return lambda files: files.put(source, path, **options)


@pytest.mark.parametrize(
    ("work", "number"),
    [
        (lambda files: files.stat("no"), wire.NOT_FOUND),
        (lambda files: files.read("no"), wire.NOT_FOUND),
        (lambda files: files.read("folder"), wire.WRONG_KIND),
        (lambda files: files.hash("no"), wire.NOT_FOUND),
        (lambda files: files.delete("folder"), wire.WRONG_KIND),
        (lambda files: files.rmdir("file"), wire.WRONG_KIND),
        (lambda files: files.rmdir("folder"), wire.NOT_EMPTY),
        (lambda files: files.mkdir("folder"), wire.EXISTS),
        (lambda files: files.mkdir("no/folder"), wire.NOT_FOUND),
        (lambda files: files.mkdir("file/x", parents=True), wire.WRONG_KIND),
        (lambda files: files.rename("file", "folder"), wire.WRONG_KIND),
        (lambda files: files.rename("folder", "folder/x"), wire.BAD_PATH),
        (lambda files: files.rename("file", "folder/inside"), wire.EXISTS),
        (lambda files: files.rename("no", "other"), wire.NOT_FOUND),
        (lambda files: files.stat("../file"), wire.BAD_PATH),
        (lambda files: files.stat(".put/x"), wire.NOT_FOUND),
        (lambda files: files.read("Config.json"), wire.DENIED),
        (lambda files: files.delete("main.py"), wire.DENIED),
        (lambda files: files.rename("file", "a/file"), wire.DENIED),
        (lambda files: files.rename("boot.py", "file2"), wire.DENIED),
    ],
)
def test_what_is_refused(board, work, number):
    (board.root / "folder").mkdir()
    (board.root / "folder" / "inside").write_bytes(b"1")
    for name in ("file", "config.json", "main.py", "boot.py"):
        (board.root / name).write_bytes(b"2")
    before = board.files
    with pytest.raises(FilesError) as caught:
        over(board, work)
    assert caught.value.number == number
    assert board.files == before


@pytest.mark.parametrize(
    ("path", "options", "number"),
    [
        ("folder", {}, wire.WRONG_KIND),
        ("file", {"only_new": True}, wire.EXISTS),
        ("no/x", {}, wire.NOT_FOUND),
        ("main.py", {}, wire.DENIED),
        (".put/x", {}, wire.NOT_FOUND),
    ],
)
def test_uploads_that_are_refused_leave_nothing(board, source, path, options, number):
    (board.root / "folder").mkdir()
    (board.root / "file").write_bytes(b"2")
    with pytest.raises(FilesError) as caught:
        over(board, _put(source, path, **options))
    assert caught.value.number == number
    assert board.files == {"file": b"2"}
    assert not (board.root / ".put").exists()


def test_space_is_looked_at_before_the_first_byte(board, source):
    board.options = {"free": 4 * CHUNK}
    with pytest.raises(FilesError) as caught:
        over(board, _put(source, "x"))
    assert caught.value.number == wire.NO_SPACE
    assert board.lines[0].sent == 0
    assert not (board.root / ".put").exists()


def test_listings(board):
    (board.root / "a").mkdir()
    (board.root / "a" / "boot.mpy").write_bytes(b"1")
    (board.root / "log" / "a").mkdir(parents=True)
    (board.root / "log" / "a" / "x").write_bytes(b"12")

    async def work(files):
        return [
            sorted((entry.path, entry.folder, entry.size) for entry in entries)
            for entries in (
                await files.list(),
                await files.list(recursive=True),
                await files.list("log", recursive=True),
            )
        ] + [(await files.list("log/a", hashes=True))[0].digest, await files.space()]

    below = [("a", True, 0), ("a/x", False, 2)]
    assert over(board, work) == [
        [("log", True, 0)],
        [("log", True, 0), ("log/a", True, 0), ("log/a/x", False, 2)],
        below,
        hashlib.sha256(b"12").digest(),
        (512 * 4096, FREE),
    ]
    with_firmware = over(board, lambda files: files.list(recursive=True), force=True)
    assert {"a", "a/boot.mpy"} < {entry.path for entry in with_firmware}


def test_calls_of_several_tasks_take_turns(board, source):
    async def work(files):
        await asyncio.gather(*(files.put(source, f"f{i}") for i in range(4)), files.list())

    over(board, work)
    assert set(board.files) == {f"f{i}" for i in range(4)}
    assert len(board.lines) == 1


def test_the_command_says_that_the_app_stops(board, source, capsys):
    code = run(["fs", "put", str(source), "/x", "--port", "/dev/none", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (code, answer["files"][0]["path"], answer["bytes"]) == (0, "/x", source.stat().st_size)
    assert run(["fs", "ls", "--port", "/dev/none"]) == 0
    out, err = capsys.readouterr()
    assert out == "/x\n"
    assert "/dev/none: the app stops meanwhile" in err


def test_usb_comes_after_a_network_that_is_down(board, capsys, monkeypatch):
    async def connect(*_, **__):
        raise HardwireError(NO_BOARD, "nobody there")

    monkeypatch.setattr("hardwire_host.clients.files.connect", connect)
    (board.root / "x").write_bytes(b"1")
    assert run(["fs", "ls", "--port", "/dev/none", "--host", "127.0.0.1:1"]) == 0
    out, err = capsys.readouterr()
    assert out == "/x\n"
    assert err.startswith("nobody there\nover USB serial")
    assert run(["fs", "ls", "--host", "127.0.0.1:1"]) == NO_BOARD
