"""The PC's half of the agent on the board: who it is, what is on it; write, copy, remove, switch.

In: mpremote's transport in the raw REPL, paths and bytes. Out: an `Identity`, a `State`; content that was
read back from flash and had the right SHA-256. Never: a decision about what to write. Raises HardwireError
(FAILED) with what the board said, or TIMEOUT when it says nothing; what mpremote raises is for target.session
to explain.

The agent comes as .mpy, because compiling its source would take the board longer than anything else here, and
file content goes to its stdin as it is: 8 us of the board's time per byte. Deflate would save 3 us of them
(37 % of the bytes) and take 4 us; base64 and mpremote's repr() cost more of both.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import compile_source, digest
from .errors import FAILED, TIMEOUT, HardwireError

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

ANSWER_S = (
    60.0  # longest silence of the board: the SHA-256 of a large file, on an emulated board and a busy PC
)
CHUNK = 4096  # bytes of a file sent at a time; a flash block
CTRL_C = 3
NOTHING = "nothing was switched"

# Without sys.path no import searches the flash, which takes longer than all else. The restart brings it back.
_IDENTIFY = """import sys
sys.path.clear()
import json,machine
def t():
 try:
  with open("/config.json") as f:return f.read()
 except(OSError,UnicodeError):pass
i=sys.implementation
v=".".join(str(n)for n in i.version[:3])
print(json.dumps([getattr(i,"_machine",sys.platform),getattr(i,"_mpy",0),v,t(),machine.unique_id().hex()]))
"""

# A filesystem in RAM with one file: MicroPython imports .mpy from nowhere else.
_LOAD = """import io,sys,vfs
class A:
 def mount(s,*a):pass
 umount=mount
 def stat(s,p):
  if p!="/deploy_agent.mpy":raise OSError(2)
  return(32768,)+(0,)*9
 def open(s,p,m):return io.BytesIO(d)
d=bytearray(%d)
print(".",end="")
sys.stdin.buffer.readinto(d)
if %d>=0:d=bytes(d).replace(bytes([%d]),b"\\3")
vfs.mount(A(),"/agent")
sys.path.append("/agent")
from deploy_agent import *
"""


@dataclass(frozen=True)
class Identity:
    """Who the board is: sys.implementation._machine and _mpy, MicroPython's release, text of /config.json, MCU's id."""

    machine: str
    mpy: int
    release: str
    config_text: str | None
    unique: str = ""


@dataclass(frozen=True)
class State:
    """What is on the board.

    block, free: bytes per block and free blocks of the filesystem. active: the slot that boots, None if
    neither. manifests: text by slot; root: text of files in the root; None where there is none. listed: the
    slot whose files were hashed. files: (size, sha256) by path, of that slot.
    """

    block: int
    free: int
    active: str | None
    manifests: dict[str, str | None]
    root: dict[str, str | None]
    listed: str
    files: dict[str, tuple[int, str]] = field(default_factory=dict)


def identify(transport: "SerialTransport") -> Identity:
    """Ask the board who it is. Leaves it without sys.path."""
    return Identity(*json.loads(_call(transport, _IDENTIFY)))


def start_agent(transport: "SerialTransport", arch: str) -> None:
    """Load the agent; the other functions need it. The board must be able to run .mpy files for `arch`."""
    source = Path(__file__).with_name("deploy_agent.py")
    ((data, stand_in),) = chunks(compile_source(source.name, source.read_bytes(), arch), CHUNK)
    transport.exec_raw_no_follow(_LOAD % (len(data), stand_in, stand_in))
    _first(transport)
    transport.serial.write(data)
    _end(transport)


def read_state(transport: "SerialTransport", wanted: bytes, root: Sequence[str]) -> State:
    """What is on the board, in one round trip.

    wanted: the manifest that will be deployed. If the active slot claims to be that, its files are hashed to
    see if
        it is true; else those of the other slot, to see what of them can stay.
    root: names of the files in the root to return.
    """
    head, *lines = _call(transport, f"state({digest(wanted)!r},{list(root)})").splitlines()
    state = State(**json.loads(head))
    for line in lines:
        path, size, sha256 = json.loads(line)
        state.files[path] = size, sha256
    return state


def _failure(errors: bytes, hint: str = NOTHING) -> HardwireError:
    lines = errors.decode(errors="replace").strip().splitlines() or ["no traceback"]
    return HardwireError(FAILED, f"the board says {lines[-1]}", hint)


def _call(transport: "SerialTransport", code: str, hint: str = NOTHING) -> str:
    """Run `code` on the board, return what it printed. Raises HardwireError when it raises."""
    output, errors = transport.exec_raw(code, timeout=ANSWER_S)
    if errors:
        raise _failure(errors, hint)
    return output.decode()


def _first(transport: "SerialTransport") -> bytes:
    """The next character that the running code prints. Raises HardwireError when it raises."""
    answer = transport.serial.read(1)
    if answer == b"\x04":  # end of its output; its traceback follows
        raise _failure(transport.read_until(1, b"\x04", timeout=ANSWER_S)[:-1])
    if not answer:
        raise HardwireError(
            TIMEOUT, "the board stopped answering", f"{NOTHING}; reset the board and try again"
        )
    return answer


def _line(transport: "SerialTransport") -> str:
    return (_first(transport) + transport.read_until(1, b"\n", timeout=ANSWER_S)).decode().strip()


def _end(transport: "SerialTransport") -> None:
    _, errors = transport.follow(ANSWER_S)
    if errors:
        raise _failure(errors)


def chunks(data: bytes, most: int) -> list[tuple[bytes, int]]:
    """`data` in pieces of at most `most` bytes without byte 3, each with what stands for it (-1: none).

    Any value that a piece does not contain can stand in, so one that contains all of them is made shorter.
    """
    pieces = []
    while data:
        size = most
        while not (free := set(range(256)) - set(data[:size]) - {CTRL_C}) and CTRL_C in data[:size]:
            size //= 2
        piece, data = data[:size], data[size:]
        stand_in = min(free) if CTRL_C in piece else -1
        pieces.append(
            (piece.replace(bytes([CTRL_C]), bytes([stand_in])) if stand_in >= 0 else piece, stand_in)
        )
    return pieces


def put(transport: "SerialTransport", files: dict[str, bytes], done: Callable[[str], None]) -> None:
    """Write `files` by path on the board. Raises HardwireError if flash then holds anything else."""
    if not files:
        return
    parts = {path: chunks(data, CHUNK) for path, data in files.items()}
    wanted = [
        [path, [[len(piece), stand_in] for piece, stand_in in pieces]] for path, pieces in parts.items()
    ]
    transport.exec_raw_no_follow(f"put({json.dumps(wanted, separators=(',', ':'))})")
    for path, pieces in parts.items():
        for piece, _ in pieces:
            _first(transport)
            transport.serial.write(piece)
        if _line(transport) != digest(files[path]):
            raise HardwireError(FAILED, f"{path} reads back different from what was written", NOTHING)
        done(path)
    _end(transport)


def copy(
    transport: "SerialTransport", source: str, target: str, files: dict[str, bytes]
) -> Iterator[tuple[str, bool]]:
    """Copy `files` between folders of the board. Yields each path and whether it has the content given."""
    if not files:
        return
    transport.exec_raw_no_follow(f"copy({source!r},{target!r},{list(files)})")
    for path, data in files.items():
        yield path, _line(transport) == digest(data)
    _end(transport)


def drop(transport: "SerialTransport", paths: Sequence[str]) -> None:
    """Remove files that may be there, and folders that become empty."""
    _call(transport, f"drop({list(paths)})")


def commit(transport: "SerialTransport", paths: Sequence[str]) -> None:
    """Rename PATH.new to PATH for each path, in order; Ctrl-C on the board's side cannot separate them."""
    _call(transport, f"commit({list(paths)})", "the board boots the old or the new version; deploy again")
