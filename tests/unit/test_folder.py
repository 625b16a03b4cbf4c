"""A folder of this PC as the file server sees one: what leads out of it, and what is no file, is not there."""

import contextlib
import errno
import os
import re
import socket
import stat

import pytest

from hardwire.wire.files import FILE, FOLDER, LARGEST
from hardwire_host import folder as module
from hardwire_host.folder import Folder

posix = pytest.mark.skipif(os.name == "nt", reason="links, FIFOs and modes of POSIX")


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    path.mkdir()
    (path / "sub").mkdir()
    (path / "sub" / "a.txt").write_bytes(b"inside")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_bytes(b"outside")
    (tmp_path / "rootlike").write_bytes(b"begins like the root")
    return path


@pytest.fixture
def folder(root):
    return Folder(root)


@pytest.fixture(params=[True, False], ids=["step by step", "as on Windows"])
def either(root, request, monkeypatch):
    """With both ways to open."""
    monkeypatch.setattr(module, "_STEPS", request.param)
    return Folder(root)


@contextlib.contextmanager
def failing(*numbers):
    """What is done inside raises OSError with one of these."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        yield
    assert caught.value.errno in numbers


def tree(path):
    """Everything below `path`, with what is in it."""
    return {
        str(item.relative_to(path)): item.read_bytes() if item.is_file() else None for item in path.rglob("*")
    }


def test_files(either, root):
    with either.open("new", "wb") as file:
        file.write(b"12345")
        either.sync(file)
        assert (root / "new").read_bytes() == b"12345"
    with either.open("new", "ab") as file:
        file.write(b"678")
    with either.open("new", "r+b") as file:
        file.seek(1)
        file.write(b"x")
        file.seek(0)
        assert file.read() == b"1x345678"
    with either.open("sub/a.txt", "rb") as file:
        assert file.read() == b"inside"
    with either.open("new", "wb") as file:
        assert file.tell() == 0
    assert either.stat("new")[:2] == (FILE, 0)


def test_stat(either, root):
    os.utime(root / "sub" / "a.txt", (5, 1234567890.9))
    assert either.stat("sub/a.txt") == (FILE, 6, 1234567890)
    assert either.stat("sub")[:2] == (FOLDER, 0)
    assert either.stat("")[:2] == (FOLDER, 0)


@posix
@pytest.mark.parametrize(("time", "told"), [(-1, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x100000001, 0xFFFFFFFF)])
def test_a_time_beyond_the_protocol_is_the_next_that_it_has(folder, root, time, told):
    os.utime(root / "sub" / "a.txt", (time, time))
    assert folder.stat("sub/a.txt")[2] == told


def test_scan(either, root):
    (root / "b").write_bytes(b"1")
    assert sorted(entry[:3] for entry in either.scan("")) == [("b", FILE, 1), ("sub", FOLDER, 0)]
    assert [entry[:3] for entry in either.scan("sub")] == [("a.txt", FILE, 6)]


def test_rename_replaces_a_file_and_nothing_else(either, root):
    (root / "b").write_bytes(b"b")
    either.rename("b", "sub/a.txt")
    assert tree(root) == {"sub": None, os.path.join("sub", "a.txt"): b"b"}
    (root / "empty").mkdir()
    for old, new in (("sub/a.txt", "empty"), ("sub", "empty")):
        with failing(errno.EEXIST):
            either.rename(old, new)
    either.rename("sub", "other")
    assert sorted(tree(root)) == ["empty", "other", os.path.join("other", "a.txt")]


def test_folders(either, root):
    either.mkdir("sub/inner")
    for path in ("sub", "sub/a.txt"):
        with failing(errno.EEXIST):
            either.mkdir(path)
    with failing(errno.ENOTEMPTY, errno.EEXIST):
        either.rmdir("sub")
    either.rmdir("sub/inner")
    with pytest.raises(NotADirectoryError):
        either.rmdir("sub/a.txt")
    either.remove("sub/a.txt")
    either.rmdir("sub")
    assert tree(root) == {}


def test_what_is_not_there(either):
    for act in (
        lambda: either.stat("no"),
        lambda: either.stat("no/way"),
        lambda: either.scan("no"),
        lambda: either.open("no", "rb"),
        lambda: either.open("no", "r+b"),
        lambda: either.open("no/way", "wb"),
        lambda: either.remove("no"),
        lambda: either.rmdir("no"),
        lambda: either.mkdir("no/way"),
        lambda: either.rename("no", "new"),
        lambda: either.rename("sub/a.txt", "no/way"),
    ):
        with pytest.raises(FileNotFoundError):
            act()


def test_of_another_kind(either):
    for act, number in (
        (lambda: either.open("sub", "rb"), errno.EISDIR),
        (lambda: either.open("sub", "wb"), errno.EISDIR),
        (lambda: either.remove("sub"), errno.EISDIR),
        (lambda: either.scan("sub/a.txt"), errno.ENOTDIR),
        (lambda: either.stat("sub/a.txt/x"), errno.ENOTDIR),
        (lambda: either.rename("sub", "sub/inner"), errno.EINVAL),
    ):
        with failing(number):
            act()


def test_the_root_stays(either, root):
    for act in (
        lambda: either.remove(""),
        lambda: either.rmdir(""),
        lambda: either.mkdir(""),
        lambda: either.rename("", "x"),
        lambda: either.rename("sub", ""),
        lambda: either.open("", "rb"),
        lambda: either.open("", "wb"),
    ):
        with failing(errno.EBUSY, errno.EISDIR):
            act()
    assert sorted(tree(root)) == ["sub", os.path.join("sub", "a.txt")]


def test_a_root_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Folder(tmp_path / "file")


LEADING_OUT = (
    "../out/secret",
    "../out",
    "../rootlike",
    "/",
    "/dev/null",
    "nowhere",
    "../nowhere",
    "me",
    "..",
    "sub/../..",
)


@posix
@pytest.mark.parametrize("to", LEADING_OUT)
def test_a_link_that_leads_out_is_not_there(either, root, to):
    link = root / "me"
    link.symlink_to(to)
    before = tree(root.parent / "out")
    for act in (
        lambda: either.stat("me"),
        lambda: either.stat("me/secret"),
        lambda: either.scan("me"),
        lambda: either.open("me", "rb"),
        lambda: either.open("me", "r+b"),
        lambda: either.open("me", "wb"),
        lambda: either.open("me", "ab"),
        lambda: either.open("me/secret", "rb"),
        lambda: either.open("me/new", "wb"),
        lambda: either.remove("me"),
        lambda: either.remove("me/secret"),
        lambda: either.mkdir("me/new"),
        lambda: either.rmdir("me"),
        lambda: either.rename("me", "you"),
        lambda: either.rename("me/secret", "mine"),
        lambda: either.rename("sub/a.txt", "me"),
        lambda: either.rename("sub/a.txt", "me/new"),
    ):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            act()
    assert [entry[0] for entry in either.scan("")] == ["sub"]
    assert tree(root.parent / "out") == before
    assert os.readlink(link) == to
    assert not (root.parent / "nowhere").exists() and not (root / "nowhere").exists()


@posix
def test_a_link_that_stays_inside_is_followed(either, root):
    (root / "file").symlink_to("sub/a.txt")
    (root / "folder").symlink_to(root / "sub")
    (root / "sub" / "up").symlink_to("../sub/a.txt")
    assert either.stat("file")[:2] == (FILE, 6)
    assert {entry[:3] for entry in either.scan("")} == {
        ("file", FILE, 6),
        ("folder", FOLDER, 0),
        ("sub", FOLDER, 0),
    }
    assert {entry[0] for entry in either.scan("folder")} == {"a.txt", "up"}
    with either.open("folder/up", "rb") as file:
        assert file.read() == b"inside"
    with either.open("file", "wb") as file:
        file.write(b"new")
    assert (root / "sub" / "a.txt").read_bytes() == b"new"
    either.remove("file")
    assert (root / "sub" / "a.txt").exists() and not (root / "file").is_symlink()


@posix
def test_a_link_moved_so_that_it_leads_out_is_not_there_any_more(either, root):
    (root / "sub" / "link").symlink_to("../sub/a.txt")
    assert either.stat("sub/link")[0] == FILE
    either.rename("sub/link", "link")
    with pytest.raises(FileNotFoundError):
        either.stat("link")


@posix
def test_a_walk_through_all_links_ends(either, root):
    for number in range(4):
        (root / f"loop{number}").symlink_to(".")
        (root / "sub" / f"loop{number}").symlink_to("..")

    def walk(path):
        for name, kind, _, _ in either.scan(path):
            yield f"{path}/{name}"
            if kind == FOLDER:
                yield from walk(f"{path}/{name}" if path else name)

    paths = list(walk(""))
    assert "loop0/sub/a.txt" in paths and "sub/loop1/sub/a.txt" in paths
    assert len(paths) < 100


@posix
def test_fifos_devices_and_sockets_are_not_there(either, root):
    os.mkfifo(root / "fifo")
    server = socket.socket(socket.AF_UNIX)
    place = os.open(root, os.O_RDONLY)
    with server:
        server.bind(f"/proc/self/fd/{place}/socket")  # a path as long as tmp_path is none for a socket
        os.close(place)
        try:
            os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            os.mkfifo(root / "null")
        for name in ("fifo", "socket", "null"):
            for mode in ("rb", "wb", "ab", "r+b"):
                with pytest.raises(FileNotFoundError):
                    either.open(name, mode)
            for act in (either.stat, either.remove):
                with pytest.raises(FileNotFoundError):
                    act(name)
            with failing(errno.ENOTDIR):
                either.scan(name)
        assert [entry[0] for entry in either.scan("")] == ["sub"]


@posix
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_made_between_the_look_and_the_opening_leads_nowhere(folder, root, monkeypatch, what):
    """What was checked is a link to the outside when it is opened."""
    real = Folder._real

    def swap(self, path):
        found = real(self, path)
        if what == "file" and not (root / "sub" / "a.txt").is_symlink():
            (root / "sub" / "a.txt").unlink()
            (root / "sub" / "a.txt").symlink_to("../../out/secret")
        elif what == "folder" and not (root / "sub").is_symlink():
            (root / "sub").rename(root / "was")
            (root / "sub").symlink_to("../out")
        return found

    path = "sub/a.txt" if what == "file" else "sub/secret"
    acts = [lambda: folder.open(path, "rb"), lambda: folder.open(path, "wb"), lambda: folder.stat(path)]
    if what == "folder":
        acts.append(lambda: folder.remove(path))
    for act in acts:
        with monkeypatch.context() as patch:
            patch.setattr(os.path, "islink", lambda _: False)  # asked before the swap: the worst moment
            patch.setattr(Folder, "_real", swap)
            with pytest.raises((FileNotFoundError, NotADirectoryError)):
                act()
    assert tree(root.parent / "out") == {"secret": b"outside"}


@posix
def test_a_name_that_is_no_text_is_not_listed(folder, root):
    (root / os.fsdecode(b"\xff\xfe")).touch()
    assert [entry[0] for entry in folder.scan("")] == ["sub"]


def test_hidden_names_are_not_there(root):
    for path in ("sub/My.KEY", "sub/.git/config", "sub/.put/x", ".put/token"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"1")
    folder = Folder(root, ["*.key", ".*"])
    assert {entry[0] for entry in folder.scan("")} == {"sub", ".put"}  # the server's own
    assert {entry[0] for entry in folder.scan("sub")} == {"a.txt"}
    for path in ("sub/My.KEY", "sub/.git", "sub/.git/config", "sub/.put/x", "new.key", "sub/.new"):
        for act in (
            lambda path=path: folder.stat(path),
            lambda path=path: folder.open(path, "rb"),
            lambda path=path: folder.open(path, "wb"),
            lambda path=path: folder.mkdir(path),
            lambda path=path: folder.remove(path),
            lambda path=path: folder.rename("sub/a.txt", path),
            lambda path=path: folder.rename(path, "mine"),
        ):
            with failing(errno.ENOENT):
                act()
    assert folder.stat(".put/token")[1] == 1
    if os.name != "nt":
        (root / "link").symlink_to("sub/My.KEY")
        (root / "into").symlink_to("sub/.git")
        for path in ("link", "into/config"):
            with failing(errno.ENOENT):
                folder.open(path, "rb")
        assert {entry[0] for entry in folder.scan("")} == {"sub", ".put"}


def test_a_file_that_the_protocol_has_no_numbers_for_is_too_large(folder, root):
    with open(root / "large", "wb") as file:
        file.truncate(5 << 30)
    assert folder.stat("large")[1] == 0xFFFFFFFF > LARGEST


@posix
def test_modes(folder, root):
    before = os.umask(0)
    try:
        folder.open("open", "wb").close()
        folder.mkdir("made")
        os.umask(0o077)
        folder.open("closed", "wb").close()
    finally:
        os.umask(before)
    modes = {name: (root / name).stat().st_mode & 0o7777 for name in ("open", "closed", "made")}
    assert modes == {"open": 0o644, "closed": 0o600, "made": 0o755}


@posix
def test_no_descriptor_is_left_open(folder, root):
    def count():
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    (root / "link").symlink_to("../out")
    before = count()
    for _ in range(5):
        for act in (
            lambda: folder.stat("sub/a.txt"),
            lambda: folder.open("sub/a.txt", "rb").close(),
            lambda: list(folder.scan("")),
            lambda: next(folder.scan("sub")),
            lambda: folder.scan(""),
            lambda: folder.open("sub", "rb"),
            lambda: folder.open("link", "rb"),
            lambda: folder.stat("sub/no/way"),
            lambda: folder.scan("sub/a.txt"),
            lambda: folder.rename("sub/a.txt", "sub"),
        ):
            with contextlib.suppress(OSError):
                act()
    assert count() == before


def test_space(folder):
    total, free = folder.space()
    assert 0 < free <= total


@pytest.mark.parametrize("name", ["NUL", "con", "com1", "LPT9.txt", "aux .c", "nul.", "CONIN$", "com¹"])
def test_names_that_windows_gives_to_devices(name):
    assert module._DEVICE.fullmatch(name)


@pytest.mark.parametrize("name", ["null", "console", "com", "com10", "a.nul", "lpt"])
def test_names_that_are_like_those_of_devices(name):
    assert not re.fullmatch(module._DEVICE, name)
