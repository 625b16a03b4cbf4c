"""The file of keys: its owner's alone, whole, and what is wrong with it is said."""

import json
import os
import threading

import pytest

from hardwire.wire.files import READ, WRITE
from hardwire_host import keys
from hardwire_host.errors import HardwireError
from hardwire_host.keys import Key

BOARD = bytes(range(6))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    return tmp_path / "hardwire" / "keys.json"


def test_a_key_is_kept_for_its_owner_alone(place):
    assert keys.find(BOARD) is None
    keys.store(BOARD, Key(WRITE, "secret"))
    assert keys.find(BOARD) == Key(WRITE, "secret")
    assert keys.find(bytes(6)) is None
    assert place.stat().st_mode & 0o777 == 0o600
    keys.store(BOARD, Key(READ, "other"))
    assert keys.find(BOARD) == Key(READ, "other")


def test_a_key_is_not_in_what_python_shows_of_it():
    assert "secret" not in repr(Key(WRITE, "secret"))


@pytest.mark.parametrize(
    ("text", "key"), [("abc", Key(WRITE, "abc")), ("read:abc", Key(READ, "abc")), ("", None)]
)
def test_the_environment_comes_first(monkeypatch, text, key):
    keys.store(BOARD, Key(WRITE, "kept"))
    monkeypatch.setenv(keys.VARIABLE, text)
    assert keys.find(BOARD) == (key or Key(WRITE, "kept"))


def test_made_keys_are_long_and_all_different():
    made = {keys.generate() for _ in range(100)}
    assert len(made) == 100
    assert {len(key) for key in made} == {32}


def test_a_file_that_others_may_read_is_refused(place):
    keys.store(BOARD, Key(WRITE, "secret"))
    place.chmod(0o640)
    with pytest.raises(HardwireError, match="others may read") as caught:
        keys.find(BOARD)
    assert caught.value.hint == f"chmod 600 {place}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "\xff",
        *(json.dumps({BOARD.hex(): entry}) for entry in (3, {}, {"role": "x", "key": "k"})),
    ],
)
def test_a_file_that_holds_no_keys(place, text):
    place.parent.mkdir()
    place.write_text(text, encoding="latin-1")
    place.chmod(0o600)
    with pytest.raises(HardwireError, match=str(place)):
        keys.find(BOARD)


def test_own_is_made_once(place):
    own = keys.own()
    assert len(own) == 16
    assert keys.own() == own
    assert keys.own_key() == keys.own_key()
    keys.store(BOARD, Key(WRITE, "secret"))
    assert keys.own() == own


@pytest.mark.parametrize("value", [3, "xyz", None])
def test_own_that_is_damaged_is_said(place, value):
    keys.own()
    place.write_text(json.dumps({"own": value}))
    with pytest.raises(HardwireError, match="hexadecimal"):
        keys.own()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_nowhere_to_keep_it(place):
    place.parent.mkdir(mode=0o500)
    assert len(keys.own()) == 16


def test_many_at_once_lose_nothing():
    """Programs that deploy to several boards at the same time."""
    boards = [number.to_bytes(6) for number in range(20)]
    threads = [threading.Thread(target=keys.store, args=(board, Key(WRITE, board.hex()))) for board in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [keys.kept(board) for board in boards] == [Key(WRITE, board.hex()) for board in boards]


def test_settings_get_a_key_once():
    text, key = keys.into('{"board": "b"}', "made")
    assert (json.loads(text), key) == ({"board": "b", "services": {"files": {"write_key": "made"}}}, "made")
    assert keys.into(text, "another") == (text, "made")
    assert json.loads(keys.into('{"services": {"files": {"port": 1}, "modbus": {}}}', "k")[0]) == {
        "services": {"files": {"port": 1, "write_key": "k"}, "modbus": {}}
    }
