"""Which virtual boards run on this PC, and how to ask them: state files, locks, the control socket's client.

In: nothing but the state folder. Out: `Running` records, answers of a board's control socket, HardwireError.
Never: imports of the emulator, so that `hardwire --help` and the commands for real boards stay quick.

A board NAME owns four files: NAME.lock, held with flock(2) as long as its process lives, whatever kills it;
NAME.json, the record, written when the board is ready; NAME.sock, the control socket; NAME.log, what a
detached board had to say. A record whose lock is free is stale and is removed by whoever finds it.
"""

import contextlib
import errno
import itertools
import json
import os
import re
import socket
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from ..errors import BUSY, FAILED, TIMEOUT, USAGE, HardwireError

try:
    import fcntl
except ImportError:  # Windows: no PTY either, so no virtual boards; everything else works
    fcntl = None

DEFAULT_NAME = "virtual"
LOOPBACK = "127.0.0.1"
NAME_MAX = 32
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_MAX - 1}}}")
SOCKET_PATH_MAX = 103  # sun_path holds 104 bytes with its NUL on macOS and the BSDs, 108 on Linux
LINE_MAX = 1 << 20  # an answer of the control socket is one line; all state of a board is far below this
ASK_TIMEOUT_S = 30  # the board answers between two slices of emulation; a loaded PC makes slices long


@dataclass(frozen=True)
class Forward:
    """PC address `host`:`port` leads to the board's TCP port `board_port`."""

    host: str
    port: int
    board_port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Running:
    """A virtual board that is ready.

    `repl` is a PTY's path, `image` the UF2's, `started` seconds since the epoch, `services` TCP ports by
    name as its configuration has them, `segment` the names of the boards on its segment, itself among them: they
    share a process.
    """

    name: str
    pid: int
    board: str
    image: str
    repl: str
    started: float
    services: dict[str, int] = field(default_factory=dict)
    forwards: list[Forward] = field(default_factory=list)
    segment: list[str] = field(default_factory=list)

    def record(self) -> dict:
        """The record as JSON can hold it."""
        return asdict(self)

    @classmethod
    def parse(cls, record: dict) -> Self:
        """What `record()` gave. Raises TypeError, KeyError for anything else."""
        return cls(**record | {"forwards": [Forward(**forward) for forward in record["forwards"]]})

    def ask(self, do: str, *, timeout: float = ASK_TIMEOUT_S, **arguments) -> dict:
        """Send one request to the board's control socket, return the answer's keys.

        Raises:
            HardwireError: what the board answered, or TIMEOUT when it does not.
        """
        request = json.dumps({"do": do, **arguments}).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(timeout)
                control.connect(str(control_path(self.name)))
                control.sendall(request)
                answer = json.loads(_line(control))
        except TimeoutError:
            raise self._silent(f"does not answer within {timeout:g} s") from None
        except (OSError, ValueError) as error:
            raise self._silent(f"cannot be asked: {error}") from error
        if error := answer.get("error"):
            raise HardwireError(**error)
        return answer

    def _silent(self, what: str) -> HardwireError:
        return HardwireError(
            TIMEOUT, f"virtual board {self.name} {what}", f"hardwire virtual down {self.name}"
        )


def _line(control: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        chunk = control.recv(65536)
        if not chunk or len(data) > LINE_MAX:
            raise OSError("the answer was cut short")
        data += chunk
    return data


def _folders() -> Iterator[Path]:
    import platformdirs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs says when it had to choose a folder itself
        folder = Path(platformdirs.user_runtime_dir("hardwire"))
    yield folder
    yield Path(tempfile.gettempdir()) / f"hardwire-{os.getuid()}"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    owners = {status.st_uid, folder.parent.stat().st_uid}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or not owners <= {0, os.getuid()}:
        raise OSError(errno.EPERM, "others could change it")
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    if len(os.fsencode(folder)) + NAME_MAX + len("/.sock") > SOCKET_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "path too long for a socket")


def state_folder() -> Path:
    """The folder of the state files: private to the user, created on demand.

    Raises:
        HardwireError: the folder cannot be made, or someone else could write to it.
    """
    for folder in _folders():
        try:
            _make_private(folder)
            return folder
        except OSError as error:
            reason = f"{folder}: {error.strerror}"
    raise HardwireError(FAILED, f"no folder for the state of virtual boards: {reason}", "set XDG_RUNTIME_DIR")


def lock_path(name: str) -> Path:
    return state_folder() / f"{name}.lock"


def record_path(name: str) -> Path:
    return state_folder() / f"{name}.json"


def control_path(name: str) -> Path:
    return state_folder() / f"{name}.sock"


def log_path(name: str) -> Path:
    return state_folder() / f"{name}.log"


class Claim:
    """The right to be the virtual board `name`: a lock that dies with the process."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    def publish(self, running: Running) -> None:
        """Write the record, so that other programs find the board."""
        path = record_path(self.name)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(running.record()))
        new.replace(path)

    def withdraw(self) -> None:
        """Remove the record: the board is ending."""
        record_path(self.name).unlink(missing_ok=True)

    def release(self, *, keep_log: bool = False) -> None:
        """Give the name back: no file of the board is left."""
        with _names_held():
            self.clear(keep_log=keep_log)

    def clear(self, *, keep_log: bool) -> None:
        """`release` for a caller that holds the names."""
        paths = [record_path(self.name), record_path(self.name).with_suffix(".new"), control_path(self.name)]
        log = log_path(self.name)
        if not keep_log or (log.exists() and not log.stat().st_size):
            paths.append(log)
        for path in (*paths, lock_path(self.name)):
            path.unlink(missing_ok=True)
        os.close(self._descriptor)


@contextlib.contextmanager
def _names_held() -> Iterator[Path]:
    # Taking a name and clearing a stale one are several steps each. The folder's own lock keeps them apart.
    folder = state_folder()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def _try_claim(name: str) -> Claim | None:
    descriptor = os.open(lock_path(name), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Claim(name, descriptor)


def check_name(name: str) -> str:
    """`name` if it can name a virtual board, else HardwireError(USAGE)."""
    if not NAME.fullmatch(name):
        raise HardwireError(
            USAGE, f"{name!r} cannot name a virtual board", f"letters, digits and . _ -, at most {NAME_MAX}"
        )
    return name


def claim(name: str | None = None) -> Claim:
    """Take `name`, or the first free one of virtual, virtual-2, virtual-3 ...

    Raises:
        HardwireError: BUSY when a board of that name runs (or starts).
    """
    if fcntl is None:
        raise HardwireError(FAILED, "virtual boards need a POSIX system (PTY)", "on Windows, use WSL")
    with _names_held():
        if name is None:
            defaults = (
                DEFAULT_NAME if number == 1 else f"{DEFAULT_NAME}-{number}" for number in itertools.count(1)
            )
            return next(filter(None, map(_try_claim, defaults)))
        if taken := _try_claim(check_name(name)):
            return taken
    raise HardwireError(
        BUSY, f"a virtual board named {name} is already running", f"hardwire virtual down {name}"
    )


def _read(name: str) -> Running | None:
    try:
        return Running.parse(json.loads(record_path(name).read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # not ready yet, just gone, or written by another version


def _names() -> Iterator[str]:
    yield from sorted(path.stem for path in state_folder().glob("*.lock"))


def alive(name: str) -> bool:
    """Whether the process of board `name` lives; cleans up behind it if not."""
    with _names_held():
        if not lock_path(name).exists():
            return False
        dead = _try_claim(name)
        if dead:
            dead.clear(keep_log=True)
        return dead is None


def running() -> list[Running]:
    """Every virtual board that is ready, in order of name."""
    if fcntl is None:
        return []
    found = (_read(name) for name in list(_names()) if alive(name))
    return [board for board in found if board is not None]


def wait_gone(name: str, seconds: float) -> bool:
    """Wait until the process of board `name` has ended, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while alive(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
