"""Where a settings file is: on a board, behind its REPL, or on this PC. Both are read and changed alike.

In: a target or a path; a function from what is there to what shall be there. Out: `Configuration`s. Never: half a file,
whatever is cut at whatever moment; a file that its reader refuses; a board left without its app, unless that was
asked for.

A board is asked what it makes of its file, and tries a new one with its own parser, from flash, before it takes it.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hardwire import config

from . import settings
from .errors import FAILED, INTERRUPTED, USAGE, WRONG_BOARD, HardwireError
from .settings import Configuration
from .target import Target, session, uninterrupted

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

ANSWER_S = 60.0  # longest silence: imports from flash, on an emulated board and a busy PC
PRIVATE = 0o600  # mode of a file with secrets
KEPT = "nothing was changed"

Change = Callable[[Configuration], str | None]
"""From what is there to the text of the new file; None: it stays as it is. May raise HardwireError."""


@dataclass(frozen=True)
class Update:
    """What `update` found and left; `written`: whether there is a new file."""

    before: Configuration
    after: Configuration
    written: bool


class Store(Protocol):
    """A place with a settings file. `name` is for messages."""

    name: str

    def read(self) -> Configuration:
        """What is there. Raises HardwireError."""

    def update(self, change: Change, *, restart: bool = True) -> Update:
        """Replace the file by what `change` returns. Raises HardwireError; unless it says otherwise, nothing changed.

        restart: start the board's app again.
        """


# On the board. The first line printed is JSON; null: there is no firmware of ours.

# As start.py does it: what the app will use, and why not what the file says.
_READ = """import json, sys
def own_board():
 try:
  from hardwire.start import own_board
  return own_board()
 except ImportError: return config.defaults()["board"]
def walk(tree, path):
 for key, rule in tree.items():
  if isinstance(rule, dict): walk(rule, path + key + ".")
  elif rule[1] is mark: secrets.append(path + key)
def main():
 try:
  with open(config.PATH, "rb") as file: data = file.read(config.MAX_BYTES + 1).hex()
 except OSError: data = None
 settings, problem = config.in_use()
 try: __import__("hardwire.boards." + settings["board"])
 except ImportError:
  problem = "board: no board file " + settings["board"]
  settings["board"] = own_board()
 walk(config.SCHEMA, "")
 print(json.dumps([data, settings, problem, secrets]))
secrets = []
try: from hardwire import config
except ImportError: print("null")
else:
 mark = getattr(config, "secret", 0)
 main()
"""

_STAGE = """import json, os
from hardwire import config
def main(data):
 path = config.PATH + ".new"
 with open(path, "wb") as file: file.write(data)
 with open(path, "rb") as file:
  if file.read() != data: raise OSError(5)
 settings = problem = None
 try:
  settings = config.load(path)
  __import__("hardwire.boards." + settings["board"])
 except config.ConfigError as error: problem = str(error)
 except ImportError: problem = "board: no board file " + settings["board"]
 if problem: os.remove(path)
 print(json.dumps([settings, problem]))
main(%r)
"""

_SWITCH = """import micropython, os
from hardwire import config
micropython.kbd_intr(-1)
try: os.rename(config.PATH + ".new", config.PATH)
finally: micropython.kbd_intr(3)
"""


class BoardFile:
    """The settings of the board at `target`. Each call interrupts its app, and starts it again."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.name = f"{target.name}:/{config.PATH}"

    def read(self) -> Configuration:
        """See Store."""
        return self.update(lambda present: None).before

    def update(self, change: Change, *, restart: bool = True) -> Update:
        """See Store."""
        written = False
        try:
            with session(self._target, soft_reset=True, restart=restart, timeout=ANSWER_S) as transport:
                before = after = self._read(transport)
                text = change(before)
                if text is not None:
                    after = self._stage(transport, text.encode(), before)
                    with uninterrupted():
                        self._run(transport, _SWITCH, "the old or the new configuration is in place")
                        written = True
        except KeyboardInterrupt:
            state = "the new configuration is in place" if written else KEPT
            raise HardwireError(INTERRUPTED, f"interrupted: {state}") from None
        return Update(before, after, written)

    def _read(self, transport: "SerialTransport") -> Configuration:
        answer = self._run(transport, _READ)
        if answer is None:
            raise HardwireError(
                WRONG_BOARD, f"there is no hardwire firmware on {self._target.name}", "hardwire deploy"
            )
        data, effective, problem, secrets = answer
        return settings.understand(
            bytes.fromhex(data) if data is not None else None, effective, problem, secrets
        )

    def _stage(self, transport: "SerialTransport", data: bytes, before: Configuration) -> Configuration:
        effective, problem = self._run(transport, _STAGE % data)
        if problem:
            way = "hardwire deploy --board NAME" if problem.startswith("board:") else "hardwire deploy"
            raise HardwireError(
                WRONG_BOARD,
                f"the firmware on {self._target.name} does not take it: {problem}",
                f"{KEPT}; `{way}` brings a firmware that does",
            )
        return settings.understand(data, effective, None, before.secrets)

    def _run(self, transport: "SerialTransport", code: str, hint: str = KEPT):
        """What `code` prints on the board, JSON; None if nothing. Raises HardwireError when it raises."""
        output, errors = transport.exec_raw(code, timeout=ANSWER_S)
        if errors:
            last = (errors.decode(errors="replace").strip().splitlines() or ["no traceback"])[-1]
            raise HardwireError(FAILED, f"{self._target.name} says {last}", hint)
        return json.loads(output or b"null")


class LocalFile:
    """A settings file on this PC. `update` makes one if there is none."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.name = path

    def read(self) -> Configuration:
        """See Store."""
        configuration = self._read()
        if configuration.data is None:
            raise HardwireError(USAGE, f"{self.name}: no such file or directory")
        return configuration

    def update(self, change: Change, *, restart: bool = True) -> Update:
        """See Store."""
        before = self._read()
        text = change(before)
        if text is None:
            return Update(before, before, False)
        after = settings.read(text.encode())
        write_file(self._path, text.encode(), private=has_secrets(after))
        return Update(before, after, True)

    def _read(self) -> Configuration:
        try:
            return settings.read(self._path.read_bytes())
        except FileNotFoundError:
            return settings.read(None)
        except OSError as error:
            raise HardwireError(USAGE, f"{self.name}: {(error.strerror or str(error)).lower()}") from None


def has_secrets(configuration: Configuration) -> bool:
    """Whether the file itself says a secret, or may: nobody can tell in one that is not JSON."""
    return not configuration.readable or any(
        settings.find(configuration.given, path) not in (settings.UNSET, None)
        for path in configuration.secrets
    )


def write_file(path: Path, data: bytes, *, private: bool) -> None:
    """Write a file of this PC, all of it or nothing; it keeps its mode. private: a new one is its owner's alone.

    Raises OSError.
    """
    path = Path(os.path.realpath(path))  # the link stays
    with contextlib.ExitStack() as undo:
        handle, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        undo.callback(lambda: Path(new).unlink(missing_ok=True))
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(new, _mode(path, private))
        os.replace(new, path)


def _mode(path: Path, private: bool) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        if private:
            return PRIVATE
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
