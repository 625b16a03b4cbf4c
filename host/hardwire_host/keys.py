"""Keys of file servers, as this PC keeps them: one JSON file, its owner's alone.

In: a server's id, 6 bytes (a board's MAC address). Out: its `Key`. Never: a key that others may read, half a file, a
key on the screen.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_path

from hardwire.wire.files import READ, WRITE

from .errors import FAILED, HardwireError
from .settings_store import write_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

VARIABLE = "HARDWIRE_KEY"  # "read:KEY" for a key that reads, else one that writes
_ROLES = {"read": READ, "write": WRITE}
_OWN = "own"  # entry of this PC: who it is as a client and as a server


@dataclass(frozen=True, repr=False)
class Key:
    """role: READ or WRITE of hardwire.wire.files."""

    role: int
    text: str


def path() -> Path:
    """The file."""
    return user_config_path("hardwire") / "keys.json"


def generate() -> str:
    """A new key, 32 characters."""
    return secrets.token_urlsafe(24)


def given() -> Key | None:
    """What $HARDWIRE_KEY says."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if text.startswith("read:"):
        return Key(READ, text[len("read:") :])
    return Key(WRITE, text)


def own_key() -> str:
    """The key of this user's virtual boards: they come and go, and share ids."""
    return hashlib.sha256(b"virtual boards" + own()).hexdigest()[:32]


def into(text: str, key: str) -> tuple[str, str]:
    """Settings, JSON, with `key` as the key that writes files if they have none: (settings, the key they have)."""
    given = json.loads(text)
    services = given.get("services", {})
    files = services.get("files", {})
    present = files.get("write_key")
    if present is not None:
        return text, present
    given["services"] = services | {"files": files | {"write_key": key}}
    return json.dumps(given, indent=2), key


def find(identity: bytes) -> Key | None:
    """The key for the server `identity`: the environment's, else the kept one. Raises HardwireError."""
    return given() or kept(identity)


def kept(identity: bytes) -> Key | None:
    """The key that the file has for the server `identity`. Raises HardwireError."""
    entry = _load().get(identity.hex())
    if entry is None:
        return None
    try:
        return Key(_ROLES[entry["role"]], entry["key"])
    except (KeyError, TypeError):
        raise HardwireError(
            FAILED, f"{path()} holds no key for {identity.hex()}", "remove that entry, then `hardwire deploy`"
        ) from None


def store(identity: bytes, key: Key) -> None:
    """Keep `key`. Raises HardwireError, OSError."""
    role = next(name for name, number in _ROLES.items() if number == key.role)
    with _locked():
        known = _load()
        known[identity.hex()] = {"role": role, "key": key.text}
        _save(known)


def own() -> bytes:
    """16 random bytes of this user on this PC, made once: for names of transfers, and for an id as a server."""
    known = _load()
    if _OWN not in known:
        made = secrets.token_hex(16)
        try:
            with _locked():
                known = _load()
                known.setdefault(_OWN, made)
                _save(known)
        except OSError:  # nowhere to keep it: then nothing is resumed by a later run
            known[_OWN] = made
    try:
        return bytes.fromhex(known[_OWN])
    except (TypeError, ValueError):
        raise HardwireError(FAILED, f"{path()}: {_OWN!r} is not hexadecimal", "remove that entry") from None


def _load() -> dict:
    file = path()
    try:
        status = file.stat()
        if os.name == "posix" and status.st_mode & 0o077:
            raise HardwireError(FAILED, f"others may read the keys in {file}", f"chmod 600 {file}")
        known = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (ValueError, UnicodeError):
        raise HardwireError(FAILED, f"{file} is not valid JSON", "repair it, or remove it") from None
    if not isinstance(known, dict):
        raise HardwireError(FAILED, f"{file} holds no keys", "repair it, or remove it")
    return known


def _save(known: dict) -> None:
    write_file(path(), (json.dumps(known, indent=2) + "\n").encode(), private=True)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """The folder is there, and no other program changes the file meanwhile."""
    folder = path().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
