"""The PC's half of the agent on the board: read what is there, write, copy, remove, switch.

In: mpremote's transport in the raw REPL, paths and bytes. Out: a `State`; content that was read back from
flash and had the right SHA-256. Never: a decision about what to write. Raises HardwireError (FAILED) with
what the board said, or TIMEOUT when it says nothing; what mpremote raises is for target.session to explain.

File content goes to the agent's stdin as it is, but for three escaped bytes: 8 us of the board's time per
byte. Deflate would save 3 us of them (37 % of the bytes) and take 4 us; base64 and mpremote's repr() cost
more of both.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import digest
from .errors import FAILED, TIMEOUT, HardwireError

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

ANSWER_S = (
    60.0  # longest silence of the board: the SHA-256 of a large file, on an emulated board and a busy PC
)
CHUNK = 4096  # bytes of a file sent at a time; a flash block
NOTHING = "nothing was switched"


@dataclass(frozen=True)
class State:
    """What is on the board.

    mpy: sys.implementation._mpy. block, free: bytes per block and free blocks of the filesystem. active: the
    slot that boots, None if neither. manifests: text by slot; root: text of files in the root; None where
    there is none. files: {slot: {path: (size, sha256)}}, only of slots that were hashed.
    """

    machine: str
    mpy: int
    release: str
    block: int
    free: int
    active: str | None
    manifests: dict[str, str | None]
    root: dict[str, str | None]
    files: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)


def read_state(transport: "SerialTransport", wanted: bytes, root: Sequence[str]) -> State:
    """Start the agent and ask what is on the board: one round trip.

    wanted: the manifest that will be deployed; the active slot is hashed only if it claims to be that
    already. root: names of the files in the root to return.
    """
    call = f"state({digest(wanted)!r},{list(root)})"
    head, *lines = _call(transport, _agent() + call).splitlines()
    state = State(**json.loads(head))
    for line in lines:
        slot, path, size, sha256 = json.loads(line)
        state.files.setdefault(slot, {})[path] = size, sha256
    return state


def _agent() -> str:
    """The agent's source, short: the board takes about 8 us for each character."""
    source = Path(__file__).with_name("deploy_agent.py").read_text()
    lines = (line for line in source.splitlines() if line and not line.lstrip().startswith("#"))
    return "".join(line.replace("    ", " ") + "\n" for line in lines)


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


def escape(data: bytes) -> bytes:
    """`data` without the bytes 3 (Ctrl-C) and 13 (CR): they become 27 1 and 27 2, and 27 becomes 27 0."""
    return data.replace(b"\x1b", b"\x1b\x00").replace(b"\x03", b"\x1b\x01").replace(b"\r", b"\x1b\x02")


def put(transport: "SerialTransport", files: dict[str, bytes], done: Callable[[str], None]) -> None:
    """Write `files` by path on the board. Raises HardwireError if flash then holds anything else."""
    if not files:
        return
    parts = {
        path: [escape(data[start : start + CHUNK]) for start in range(0, len(data), CHUNK)]
        for path, data in files.items()
    }
    lengths = [[path, [len(chunk) for chunk in chunks]] for path, chunks in parts.items()]
    transport.exec_raw_no_follow(f"put({json.dumps(lengths, separators=(',', ':'))})")
    for path, chunks in parts.items():
        for chunk in chunks:
            _first(transport)
            transport.serial.write(chunk)
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
