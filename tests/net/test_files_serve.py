"""`hardwire fs serve`: a folder of this PC, offered by a real process on 127.0.0.1."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from files_page import PageClient, Refused
from hardwire_host.files_serve import identity

BOUND_S = 60  # for a process on a PC under load


@pytest.fixture
def environment():
    with tempfile.TemporaryDirectory(prefix="hw-") as folder:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HARDWIRE_")}
        yield clean | {"XDG_RUNTIME_DIR": folder, "XDG_CONFIG_HOME": f"{folder}/config"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a.txt").write_bytes(b"hello")
    (path / "a.bak").write_bytes(b"before")
    return path


def command(*arguments):
    return [sys.executable, "-m", "hardwire_host.cli", "fs", "serve", *map(str, arguments)]


@contextmanager
def serving(environment, *arguments, end=signal.SIGTERM):
    """The process with --json and a free port: what it said when it was ready, and then `err` and `code`."""
    process = subprocess.Popen(
        command(*arguments, "--listen", "127.0.0.1:0", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    said = {}
    try:
        said |= json.loads(process.stdout.readline())
        yield said
        process.send_signal(end)
        out, said["err"] = process.communicate(timeout=BOUND_S)
        said["code"] = process.returncode
        assert out == "", "one line"
    finally:
        process.kill()
        process.communicate()


def failing(environment, *arguments):
    """(exit code, stderr) of a process that does not serve."""
    done = subprocess.run(
        command(*arguments), capture_output=True, check=False, text=True, env=environment, timeout=BOUND_S
    )
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.returncode, done.stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_ends_cleanly(environment, folder, end):
    with serving(environment, folder, "--hidden", "*.BAK", "-v", end=end) as said:
        assert said["ok"] and said["folder"] == str(folder) and not said["write_key"]
        with PageClient((said["host"], said["port"])) as client:
            assert client.identity.hex(":") == said["id"] and client.name == said["name"]
            assert [entry[4] for entry in client.list()] == ["a.txt"]
            assert client.get("a.txt") == b"hello"
            with pytest.raises(Refused):
                client.get("a.bak")
            with pytest.raises(Refused):
                client.put("b", b"1")
    assert said["code"] == 0
    assert "connected" in said["err"] and "denied" in said["err"] and "Traceback" not in said["err"]


def test_people_get_one_line(environment, folder):
    process = subprocess.Popen(
        command(folder, "--listen", "127.0.0.1:0"), stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = process.stdout.readline()
        assert line.startswith(f"serving {folder} on 127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=BOUND_S)[0] == "" and process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_keys_and_an_upload_that_the_end_of_the_server_interrupts(environment, folder, tmp_path):
    for name in ("read", "write"):
        (tmp_path / name).write_text(f"to {name}\n")
        (tmp_path / name).chmod(0o600)
    keys = ("--read-key-file", tmp_path / "read", "--write-key-file", tmp_path / "write")
    data = bytes(range(256)) * 12000
    with serving(environment, folder, *keys) as said:
        with PageClient((said["host"], said["port"])) as client:
            with pytest.raises(Refused):
                client.list()
            client.auth("to read", 1)
            assert client.get("a.txt") == b"hello"
            with pytest.raises(Refused):
                client.put("b", data)
        client = PageClient((said["host"], said["port"]))
        client.auth("to write", 2)
        client.put("b", data, cut=2_000_000)
    client.close()
    assert said["code"] == 0 and not (folder / "b").exists()
    with (
        serving(environment, folder, *keys) as again,
        PageClient((again["host"], again["port"])) as client,
    ):
        assert again["id"] == said["id"]
        client.auth("to write", 2)
        client.put("b", data, resume=True)
        assert client.sent <= len(data) - 2_000_000 + client.window
    assert (folder / "b").read_bytes() == data


def test_a_key_is_made_once_and_kept(environment, folder):
    for _ in range(2):
        with serving(environment, folder, "--make-key") as said:
            kept = json.loads(Path(environment["XDG_CONFIG_HOME"], "hardwire", "keys.json").read_text())
            key = kept[said["id"].replace(":", "")]["key"]
            with PageClient((said["host"], said["port"])) as client:
                assert client.access == 4
                client.auth(key, 2)
                client.put("b", b"1")
        assert key not in said["err"]
    code, err = failing(environment, folder, "--make-key", "--read-only")
    assert code == 2 and "one to write" in err


def test_a_port_in_use(environment, folder):
    with serving(environment, folder) as said:
        code, err = failing(environment, folder, "--listen", f"127.0.0.1:{said['port']}")
        assert code == 4 and "in use" in err


def test_command_lines_that_cannot_be_right(environment, folder, tmp_path):
    key = tmp_path / "key"
    key.write_text("a key\n")
    key.chmod(0o644)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    for arguments, words in (
        ((tmp_path / "none",), "no such folder"),
        ((key,), "not a folder"),
        ((folder, "--listen", "a:b:c"), "no host"),
        ((folder, "--listen", "192.0.2.1:7770"), "cannot listen"),
        ((folder, "--write-key-file", key), "chmod 600"),
        ((folder, "--write-key-file", empty), "no key"),
        ((folder, "--write-key-file", tmp_path / "none"), "no such file"),
        ((folder, "--write-key-file", key, "--read-only"), "--read-only"),
        ((folder, "--write-key-file", key, "--make-key"), "--make-key"),
        ((folder, "--hidden", "a/*"), "--hidden"),
    ):
        code, err = failing(environment, *arguments)
        assert code == 2 and words in err


def test_each_folder_has_its_own_identity(tmp_path):
    found = {identity(seed, tmp_path / name) for seed in (b"one", b"two") for name in ("a", "b")}
    assert len(found) == 4
    assert all(len(one) == 6 and one[0] & 3 == 2 for one in found)
    assert identity(b"one", tmp_path / "a") == identity(b"one", tmp_path / "b" / ".." / "a")
