"""`hardwire fs`: every verb, over the network (the firmware's server on a socket) and over USB (a REPL's stand-in)."""

import asyncio
import hashlib
import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from files_served import FilesServed
from hardwire import log
from hardwire_host.cli import fs_sync, run
from hardwire_host.clients import files_repl_board
from hardwire_host.errors import FAILED, INTERRUPTED, NO_BOARD, USAGE, HardwireError
from repl_standin import Board

KEY = "correct horse"
WAIT_S = 20  # for what comes at once on an idle PC


@pytest.fixture(autouse=True)
def silent_server(monkeypatch):
    """The firmware prints what it logs; here stdout is the command's."""
    monkeypatch.setattr(log, "level", len(log.NAMES))


@pytest.fixture(params=["network", "usb"])
def place(request, tmp_path, monkeypatch):
    """root: the folder there; where: options that lead to it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HARDWIRE_KEY", KEY)
    root = tmp_path / "there"
    if request.param == "usb":
        board = Board(root)
        monkeypatch.setattr(files_repl_board, "session", board.session)
        yield SimpleNamespace(root=root, where=("--port", "/dev/none"))
        return
    root.mkdir()
    with FilesServed(root, write_key=KEY) as served:
        yield SimpleNamespace(root=root, where=("--host", served.address))


@pytest.fixture
def fs(place, capsys, tmp_path, monkeypatch):
    """Run `hardwire fs ARGUMENTS` in an own folder; returns (exit code, stdout, stderr)."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments):
        code = run(["fs", *map(str, arguments), *place.where])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def here(fs, tmp_path):
    """The current folder."""
    return tmp_path / "here"


def write(top, files):
    """Make {path: text}."""
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tree(top):
    """{path: text, None for a folder}, without what is staged."""
    return {
        path.relative_to(top).as_posix(): path.read_text() if path.is_file() else None
        for path in sorted(top.rglob("*"))
        if ".put" not in path.parts
    }


PLANT = {"log/a.csv": "1", "log/b.csv": "22", "log/old/c.csv": "333", "data.json": "{}"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "/data.json /log/"),
        (["/log"], "/log/a.csv /log/b.csv /log/old/"),
        (["-r"], "/data.json /log/ /log/a.csv /log/b.csv /log/old/ /log/old/c.csv"),
        (["/data.json"], "/data.json"),
        (["/log/[ab].csv"], "/log/a.csv /log/b.csv"),
        (["/*.json", "/**/?.csv"], "/data.json /log/a.csv /log/b.csv /log/old/c.csv"),
        (["/log/a.csv", "/**/a.csv"], "/log/a.csv"),
        (["log//old/"], "/log/old/c.csv"),
    ],
)
def test_ls(fs, place, words, shown):
    write(place.root, PLANT)
    code, out, _ = fs("ls", *words)
    assert (code, out.split()) == (0, shown.split())


def test_ls_long_and_json(fs, place):
    write(place.root, PLANT)
    os.utime(place.root / "data.json", (1_700_000_000, 1_700_000_000))
    assert "2  2023-11-14 22:13  /data.json" in fs("ls", "-l")[1]
    entry, folder = json.loads(fs("ls", "--json")[1])["entries"]
    assert entry == {"path": "/data.json", "folder": False, "size": 2, "time": 1_700_000_000}
    assert (folder["path"], folder["folder"], folder["size"]) == ("/log", True, 0)


def test_tree(fs, place):
    write(place.root, PLANT)
    assert fs("tree")[1].splitlines() == [
        "/",
        "├── data.json  2 bytes",
        "└── log/",
        "    ├── a.csv  1 bytes",
        "    ├── b.csv  2 bytes",
        "    └── old/",
        "        └── c.csv  3 bytes",
        "4 files, 8 bytes",
    ]
    assert json.loads(fs("tree", "/log", "--json")[1])["files"] == 3


def test_cat(fs, place):
    (place.root / "x").write_bytes(b"hello\n")
    (place.root / "y").write_bytes(b"\xff\x00\x01")
    files = json.loads(run_json(fs, "cat", "/x", "/y"))["files"]
    assert files == [{"path": "/x", "text": "hello\n"}, {"path": "/y", "base64": "/wAB"}]


def run_json(fs, *arguments):
    """Its one line of output."""
    code, out, _ = fs(*arguments, "--json")
    assert (code, out.count("\n")) == (0, 1)
    return out


def test_cat_writes_bytes_and_parts_of_them(place, capfdbinary):
    (place.root / "x").write_bytes(bytes(range(256)) * 20)
    run(["fs", "cat", "/x", "--offset", "100", "--length", "5000", *place.where])
    assert capfdbinary.readouterr().out == (bytes(range(256)) * 20)[100:5100]


def test_hash_df_mkdir_mv(fs, place):
    write(place.root, PLANT)
    code, out, _ = fs("hash", "/log/*.csv")
    assert (code, out.split()[1::2]) == (0, ["/log/a.csv", "/log/b.csv"])
    assert out.split()[0] == hashlib.sha256(b"1").hexdigest()
    answer = json.loads(run_json(fs, "df"))
    assert answer["total"] == answer["used"] + answer["free"]
    assert fs("mkdir", "/x/y/z")[0] == FAILED
    assert fs("mkdir", "-p", "/x/y/z")[0] == 0
    assert fs("mkdir", "/x")[0] == FAILED
    assert fs("mv", "/log/*.csv", "/x")[:2] == (0, "/log/a.csv -> /x/a.csv\n/log/b.csv -> /x/b.csv\n")
    code, _, err = fs("mv", "/data.json", "/x/a.csv")
    assert code == FAILED
    assert "exists" in err
    assert fs("mv", "--force", "/data.json", "/x/a.csv")[0] == 0
    assert tree(place.root) == {
        "log": None,
        "log/old": None,
        "log/old/c.csv": "333",
        "x": None,
        "x/a.csv": "{}",
        "x/b.csv": "22",
        "x/y": None,
        "x/y/z": None,
    }


def test_rm(fs, place):
    write(place.root, PLANT)
    assert fs("rm", "/log")[0] == USAGE
    code, out, err = fs("rm", "-r", "/log", "--dry-run")
    assert (code, set(out.split())) == (
        0,
        {"/log/old/c.csv", "/log/old/", "/log/b.csv", "/log/a.csv", "/log/"},
    )
    assert "nothing was" in err
    assert (place.root / "log" / "a.csv").exists()
    assert fs("rm", "-r", "/log")[0] == 0
    assert tree(place.root) == {"data.json": "{}"}
    assert fs("rm", "-r", "/")[0] == USAGE
    code, _, err = fs("rm", "/no.json", "/data.json")
    assert code == FAILED
    assert "no.json" in err
    assert fs("rm", "-q", "/*") == (0, "", fs("df")[2])
    assert tree(place.root) == {}


def test_get(fs, place, here):
    write(place.root, PLANT)
    code, out, err = fs("get", "/data.json")
    assert code == 0
    assert out == "1 file, 2 bytes\n"
    assert "/data.json: 2 bytes\n" in err
    assert fs("get", "/log/*.csv", "logs")[0] == USAGE  # no such folder
    assert fs("get", "/log/*.csv", "logs/", "-q")[:2] == (0, "")
    assert fs("get", "/log", "copy")[0] == USAGE
    assert fs("get", "-r", "/log", "copy", "--jobs", "4")[0] == 0
    assert fs("get", "/data.json", "other.json", "--verify")[0] == 0
    assert tree(here) == {
        "copy": None,
        "copy/a.csv": "1",
        "copy/b.csv": "22",
        "copy/old": None,
        "copy/old/c.csv": "333",
        "data.json": "{}",
        "logs": None,
        "logs/a.csv": "1",
        "logs/b.csv": "22",
        "other.json": "{}",
    }


def test_put(fs, place, here):
    write(here, PLANT | {"empty.txt": ""})
    answer = json.loads(run_json(fs, "put", "data.json", "/", "--verify"))
    assert answer["files"] == [
        {"path": "/data.json", "local": "data.json", "size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    ]
    assert fs("put", "data.json", "/other.json")[0] == 0
    assert fs("put", "data.json", "empty.txt", "/new/er")[0] == 0
    assert fs("put", "log", "/")[0] == USAGE
    assert fs("put", "-r", "log", "/", "--jobs", "3")[0] == 0
    assert fs("put", "-r", "log", "/plant/log")[0] == 0
    assert fs("put", "no.json", "/")[0] == USAGE
    assert fs("put", "data.json", "/other.json", "--only-new")[0] == FAILED
    assert fs("put", "data.json", "empty.txt", "/other.json")[0] == FAILED
    assert tree(place.root) == {
        "data.json": "{}",
        "log": None,
        "log/a.csv": "1",
        "log/b.csv": "22",
        "log/old": None,
        "log/old/c.csv": "333",
        "new": None,
        "new/er": None,
        "new/er/data.json": "{}",
        "new/er/empty.txt": "",
        "other.json": "{}",
        "plant": None,
        "plant/log": None,
        "plant/log/a.csv": "1",
        "plant/log/b.csv": "22",
        "plant/log/old": None,
        "plant/log/old/c.csv": "333",
    }


def test_names_that_the_server_cannot_have_are_said_before_anything_is_sent(fs, place, here):
    write(here / "x", {"a.txt": "1"})
    (here / "x" / "b:c").write_text("2")
    code, _, err = fs("put", "-r", "x", "/")
    assert code == USAGE
    assert "x/b:c" in err
    assert tree(place.root) == {}


def test_one_of_several_files_fails_and_the_others_go_on(fs, place, here):
    write(here, {"a.txt": "1", "b.txt": "2", "c.txt": "3"})
    (place.root / "b.txt").mkdir()
    code, out, _ = fs("put", "a.txt", "b.txt", "c.txt", "/", "--json")
    answer = json.loads(out)
    assert (code, answer["ok"]) == (FAILED, False)
    assert [one["path"] for one in answer["failed"]] == ["/b.txt"]
    assert "1 of 3 failed: /b.txt" in answer["error"]["message"]
    assert tree(place.root) == {"a.txt": "1", "b.txt": None, "c.txt": "3"}


def test_sync_there_and_back(fs, place, here):
    write(here / "www", {"index.html": "<p>", "css/a.css": "a", "css/b.css": "b"})
    write(here / "www", {"x.part": "no", "__pycache__/m.pyc": "no"})
    assert fs("sync", "www", "/www")[0] == 0
    expected = {"css": None, "css/a.css": "a", "css/b.css": "b", "index.html": "<p>"}
    assert tree(place.root / "www") == expected
    again = json.loads(run_json(fs, "sync", "www", "/www"))
    assert (again["files"], again["same"], again["removed"]) == ([], 3, [])

    write(here / "www", {"index.html": "<b>", "css/c.css": "cc"})  # of the same size; new
    (here / "www" / "css" / "a.css").unlink()
    write(place.root, {"www/logs/keep.part": "1"})
    code, out, err = fs("sync", "www", "/www", "--delete", "--dry-run")
    assert (code, out) == (0, "2 to copy, 1 to remove, 1 same; nothing was changed\n")
    assert "would remove /www/css/a.css\nwould copy /www/css/c.css\nwould copy /www/index.html\n" in err
    code, out, err = fs("sync", "www", "/www", "--delete")
    assert (code, out) == (0, "2 files, 5 bytes; 1 same, 1 removed\n")
    assert err.index("removing /www/css/a.css") < err.index("/www/index.html: 3 bytes")
    expected = {"css": None, "css/b.css": "b", "css/c.css": "cc", "index.html": "<b>"}
    assert tree(place.root / "www") == expected | {"logs": None, "logs/keep.part": "1"}

    write(here / "back", {"css": "a file", "old.txt": "1"})
    code, _, err = fs("sync", "back", "/www", "--pull")
    assert code == FAILED
    assert "css is a folder in the source and a file in the target" in err
    assert fs("sync", "back", "/www", "--pull", "--delete", "--exclude", "*.html")[0] == 0
    assert tree(here / "back") == {"css": None, "css/b.css": "b", "css/c.css": "cc", "logs": None}


def test_two_hundred_small_files_several_at_a_time(fs, place, here):
    write(here / "src", {f"{i % 7}/{i}.txt": str(i) * (i % 3) for i in range(200)})
    assert fs("sync", "src", "/data", "--jobs", "8", "-q")[0] == 0
    assert tree(place.root / "data") == tree(here / "src")
    assert fs("sync", "back", "/data", "--pull", "--jobs", "8", "-q")[0] == 0
    assert tree(here / "back") == tree(here / "src")


def test_sync_needs_a_source(fs, place, here):
    write(here, {"back/a.txt": "1"})
    assert fs("sync", "no", "/")[0] == USAGE
    assert fs("sync", "back", "/no", "--pull", "--delete")[0] == FAILED
    assert tree(here) == {"back": None, "back/a.txt": "1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "/a/../b"], "'/a/../b' is no path"),
        (["cat", "/no"], "/no"),
        (["get", "/*.none"], "matches /*.none"),
        (["ls", "/no"], "/no"),
        (["cat", "/"], "is a folder"),
        (["mv", "/no", "/x"], "/no"),
        (["hash", "/no"], "/no"),
        (["rm", "-r", "/no*"], "matches /no*"),
    ],
)
def test_words_that_cannot_be(fs, words, message):
    code, out, err = fs(*words)
    assert code in (FAILED, USAGE)
    assert out == ""
    assert message in err
    assert json.loads(fs(*words, "--json")[1])["error"]["code"] == code


def test_ctrl_c_says_that_the_same_command_goes_on(fs, place, here, monkeypatch):
    (here / "big").write_bytes(os.urandom(1 << 20))
    (place.root / "big").write_bytes(b"old")
    from hardwire_host.cli.fs_bars import Bar

    def stop(_bar, what, done, _total):
        if what == "send" and done > 100_000 and not stop.done:
            stop.done = True
            signal.raise_signal(signal.SIGINT)

    stop.done = False
    monkeypatch.setattr(Bar, "__call__", stop)
    code, _, err = fs("put", "big", "/")
    assert code == INTERRUPTED
    assert "interrupted: 0 done, of the rest is kept what came; the same command goes on from there" in err
    assert (place.root / "big").read_bytes() == b"old"
    assert any((place.root / ".put").iterdir())
    sent = []
    monkeypatch.setattr(Bar, "__call__", lambda _bar, what, done, _total: sent.append((what, done)))
    assert fs("put", "big", "/")[0] == 0
    assert min(done for what, done in sent if what == "send") > 50_000
    assert (place.root / "big").read_bytes() == (here / "big").read_bytes()


def test_watch_sends_what_changes(fs, place, here, monkeypatch, capsys):
    monkeypatch.setattr(fs_sync, "POLL_S", 0.05)
    write(here / "src", {"a.txt": "1"})
    main, over = threading.get_ident(), threading.Event()

    def change():
        try:
            wait(lambda: tree(place.root) == {"lib": None, "lib/a.txt": "1"}, over)
            write(here / "src", {"b.txt": "2"})
            wait((place.root / "lib" / "b.txt").exists, over)
            (here / "src" / "a.txt").unlink()
            wait(lambda: not (place.root / "lib" / "a.txt").exists(), over)
            over.wait(1)  # idle: else the command rightly says that it was interrupted
        finally:
            if not over.is_set():
                signal.pthread_kill(main, signal.SIGINT)

    changes = threading.Thread(target=change)
    changes.start()
    code, out, err = fs("watch", "src", "/lib", "--delete")
    over.set()
    changes.join()
    assert (code, out.count("same")) == (0, 3)
    assert "watching src; Ctrl-C ends" in err
    assert tree(place.root) == {"lib": None, "lib/b.txt": "2"}


def wait(condition, over):
    """Until it is so, or `over`."""
    end = time.monotonic() + WAIT_S
    while not condition() and not over.is_set() and time.monotonic() < end:
        time.sleep(0.01)


# Several boards, and ways to get there that fail


@pytest.fixture
def boards(tmp_path, monkeypatch):
    """Three servers; the third lets nobody write."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HARDWIRE_KEY", KEY)
    roots = [tmp_path / name for name in "abc"]
    for root in roots:
        root.mkdir()
    with (
        FilesServed(roots[0], write_key=KEY) as a,
        FilesServed(roots[1], write_key=KEY) as b,
        FilesServed(roots[2], write_key=KEY, read_only=("x",)) as c,
    ):
        yield roots, [a.address, b.address, c.address]


def test_several_boards_at_once(boards, tmp_path, capsys):
    roots, hosts = boards
    write(tmp_path, {"x.txt": "1"})
    assert run(["fs", "put", str(tmp_path / "x.txt"), "/", "--host", ",".join(hosts)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{host}: 1 file, 1 bytes" for host in hosts]
    assert set(err.splitlines()) == {f"{host}:/x.txt: 1 bytes" for host in hosts}
    assert [tree(root) for root in roots] == [{"x.txt": "1"}] * 3


def test_one_of_several_boards_fails_and_is_named(boards, tmp_path, capsys):
    roots, hosts = boards
    write(tmp_path, {"src/a.txt": "1"})
    code = run(["fs", "sync", str(tmp_path / "src"), "/x", "--host", ",".join(hosts), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == FAILED
    assert answer["error"]["message"] == f"1 of 3 boards failed: {hosts[2]}"
    assert [answer["boards"][host]["error"] is None for host in hosts] == [True, True, False]
    assert [tree(root) for root in roots] == [{"x": None, "x/a.txt": "1"}] * 2 + [{}]


def test_sync_keeps_what_the_server_does_not_let_go(boards, tmp_path, capsys):
    roots, hosts = boards
    write(roots[2], {"x/y/z": "1", "old": "2"})
    (tmp_path / "src").mkdir()
    assert run(["fs", "sync", str(tmp_path / "src"), "/", "--delete", "--host", hosts[2]]) == 0
    out, err = capsys.readouterr()
    assert out == "0 files, 0 bytes; 0 same, 1 removed, 3 read-only\n"
    assert "kept /x/y/z: read-only\n" in err
    assert tree(roots[2]) == {"x": None, "x/y": None, "x/y/z": "1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "--host", "a,b"], "this takes one board"),
        (["put", "x", "/", "--host", "a,b", "--port", "c"], "several boards are named by --host alone"),
        (["put", "x", "/", "--host", "a,a"], "twice"),
        (["sync", ".", "/", "--pull", "--host", "a,b"], "--pull takes one board"),
    ],
)
def test_wrong_boards(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"x": "1"})
    assert run(["fs", *arguments]) == USAGE
    assert message in capsys.readouterr().err


def test_without_a_key_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HARDWIRE_KEY", raising=False)
    (tmp_path / "there").mkdir()
    write(tmp_path, {"x.txt": "1"})
    with FilesServed(tmp_path / "there") as served:
        assert run(["fs", "put", str(tmp_path / "x.txt"), "/", "--host", served.address]) == FAILED
        assert run(["fs", "ls", "--host", served.address]) == 0
    assert tree(tmp_path / "there") == {}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "a//b", "a\x1b[2J"])
def test_what_a_server_lists_is_not_believed(place, tmp_path, monkeypatch, capsys, name):
    from hardwire_host.clients.files import Entry

    class Liar:
        name = "liar"

        async def list(self, *_, **__):
            return [Entry(name, False, 1, 0)]

        async def stat(self, path):
            return Entry(path, True, 0, 0)

        async def close(self):
            pass

    from hardwire_host.cli.fs_common import Link

    async def connect(*_):
        return Liar()

    monkeypatch.setattr(Link, "_connect", connect)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert run(["fs", "get", "-r", "/", "out", *place.where]) == FAILED
    assert "which is no path" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_each_stops_when_the_board_is_gone():
    from hardwire_host.cli.fs_common import each

    seen = []

    async def work(item):
        seen.append(item)
        if item == 3:
            raise HardwireError(NO_BOARD, "gone")
        if item == 1:
            raise HardwireError(FAILED, "this one")

    with pytest.raises(HardwireError, match="gone"):
        asyncio.run(each(range(10), work, 1))
    assert seen == [0, 1, 2, 3]
