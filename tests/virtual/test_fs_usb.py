"""Files over the REPL of the emulated board: what MicroPython and littlefs make of it."""

import asyncio
import random

import pytest

from hardwire.wire import files as wire
from hardwire_host.clients.files import FilesError
from hardwire_host.clients.files_repl import ReplFiles
from hardwire_host.clients.files_repl_board import CHUNK
from hardwire_host.target import Target


@pytest.fixture
def over(bare, tmp_path, monkeypatch):
    """over(work): what `work(files)` returns."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(work):
        async def main():
            files = ReplFiles(Target("serial", "bare", port=bare.repl))
            try:
                return await work(files)
            finally:
                await files.close()

        return asyncio.run(main())

    return call


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(random.Random(3).randbytes(6 * CHUNK + 1) + b"\x03\x04" * 500 + bytes(range(256)))
    return path


def test_there_and_back(over, source, tmp_path):
    async def work(files):
        await files.mkdir("usb/deep", parents=True)
        await files.put(source, "usb/deep/x", verify=True)
        await files.put(source, "usb/deep/x")  # replaces it
        await files.get("usb/deep/x", tmp_path / "back")
        entries = await files.list(recursive=True)
        piece = await files.read("usb/deep/x", 100, 5000)
        await files.rename("usb/deep/x", "usb/y")
        for path in ("usb", "usb/deep/x"):
            with pytest.raises(FilesError):
                await files.rmdir(path)
        await files.delete("usb/y")
        await files.rmdir("usb/deep")
        await files.rmdir("usb")
        return entries, piece

    entries, piece = over(work)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert piece == source.read_bytes()[100:5100]
    found = {entry.path: (entry.folder, entry.size) for entry in entries}
    assert (
        found.items()
        >= {
            "usb": (True, 0),
            "usb/deep": (True, 0),
            "usb/deep/x": (False, source.stat().st_size),
        }.items()
    )
    assert not any(path.startswith(".put") for path in found)


def test_ctrl_c_in_an_upload_leaves_the_old_file_and_resumes(over, bare, source):
    old = source.with_name("old")
    old.write_bytes(b"old")
    over(lambda files: files.put(old, "x"))
    starts = []

    def interrupted(what, done, size):
        if what == "send" and done >= 3 * CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        over(lambda files: files.put(source, "x", progress=interrupted))
    assert over(lambda files: files.read("x")) == b"old"
    over(lambda files: files.put(source, "x", progress=lambda *now: starts.append(now)))
    assert starts[0][:2] == ("check", 3 * CHUNK)
    assert next(done for what, done, _ in starts if what == "send") == 4 * CHUNK
    assert over(lambda files: files.read("x")) == source.read_bytes()
    assert bare.exec("import os; print('.put' in os.listdir('/'))") == "False\n"
    over(lambda files: files.delete("x"))


def test_errors_of_littlefs_have_their_codes(over, source):
    async def work(files):
        found = []
        for call, *arguments in (
            (files.stat, "no"),
            (files.mkdir, "no/x"),
            (files.put, source, "no/x"),
            (files.read, "no"),
        ):
            with pytest.raises(FilesError) as caught:
                await call(*arguments)
            found.append(caught.value.number)
        await files.mkdir("d")
        await files.mkdir("d/e")
        for call, *arguments in (
            (files.mkdir, "d"),
            (files.rmdir, "d"),
            (files.read, "d"),
            (files.put, source, "d"),
        ):
            with pytest.raises(FilesError) as caught:
                await call(*arguments)
            found.append(caught.value.number)
        await files.rmdir("d/e")
        await files.rmdir("d")
        return found

    assert over(work) == [wire.NOT_FOUND] * 4 + [wire.EXISTS, wire.NOT_EMPTY] + [wire.WRONG_KIND] * 2


def test_a_full_disk_is_noticed_before_the_first_byte(over, tmp_path):
    big = tmp_path / "big"
    big.touch()
    with big.open("r+b") as file:
        file.truncate(8 << 20)
    before = over(lambda files: files.list())
    with pytest.raises(FilesError) as caught:
        over(lambda files: files.put(big, "big"))
    assert caught.value.number == wire.NO_SPACE
    assert over(lambda files: files.list()) == before
