"""`hardwire fs serve`: a folder of this PC, by the protocol that boards serve theirs with."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import stat
from pathlib import Path

import click

from hardwire.wire.files import PORT, READ, WRITE

from ..errors import BUSY, USAGE, HardwireError
from ..target import parse_host
from .common import Output, command, read_text

LOOPBACK = "127.0.0.1"
KEY_MAX = 64  # characters, as in the settings of a board
_LOOPBACK = re.compile(r"127\..*|::1|localhost")


def _address(text: str) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPV6]:PORT; port 0 takes a free one. Raises HardwireError(USAGE)."""
    if text.endswith(":0"):
        return parse_host(text[:-2])[0], 0
    host, port = parse_host(text)
    return host, PORT if port is None else port


def _key(path: str | None) -> str | None:
    """The key in a file. Raises HardwireError(USAGE): none; others can read it."""
    if path is None:
        return None
    key = read_text(path).strip()
    if not key or len(key) > KEY_MAX or not key.isprintable():
        raise HardwireError(USAGE, f"{path}: that is no key", f"one line of 1 to {KEY_MAX} characters")
    if os.name != "nt" and os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise HardwireError(USAGE, f"{path}: others can read it", f"chmod 600 {path}")
    return key


def _kept_key(identity: bytes, role: int) -> tuple[str, bool]:
    """(key that this PC keeps for the server, whether it was made now). Raises HardwireError: it keeps another kind."""
    from .. import keys

    kept = keys.find(identity)
    if kept is None:
        kept = keys.Key(role, keys.generate())
        keys.store(identity, kept)
        return kept.text, True
    if kept.role != role:
        what = {READ: "read", WRITE: "write"}
        raise HardwireError(USAGE, f"the key that this PC has for it is one to {what[kept.role]}")
    return kept.text, False


def _listen_error(host: str, port: int, error: OSError) -> HardwireError:
    if error.errno == errno.EADDRINUSE:
        return HardwireError(BUSY, f"port {port} of {host} is in use", "--listen HOST:0 takes a free one")
    if error.errno == errno.EACCES:
        return HardwireError(BUSY, f"port {port} of {host} needs root", "choose a port from 1024")
    # asyncio says more than the reason, and of an unknown name the number is none of errno.
    reason = os.strerror(error.errno) if (error.errno or 0) > 0 else error.strerror or str(error)
    return HardwireError(USAGE, f"cannot listen on {host} port {port}: {reason.lower()}")


@command(
    examples=[
        "hardwire fs serve recipes",
        "hardwire fs serve recipes --make-key",
        "hardwire fs serve logs --listen 0.0.0.0 --write-key-file write.key --hidden '*.bak'",
        "hardwire fs serve firmware --listen 192.168.77.1:7771 --read-key-file read.key --read-only",
    ]
)
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "--listen",
    default=f"{LOOPBACK}:{PORT}",
    metavar="HOST[:PORT]",
    help=f"Where to listen ({LOOPBACK}:{PORT}); port 0 takes a free one.",
)
@click.option("--read-key-file", metavar="FILE", help="Who wants to read must have the key in FILE.")
@click.option("--write-key-file", metavar="FILE", help="Who wants to write must have the key in FILE.")
@click.option(
    "--make-key",
    is_flag=True,
    help="Take the key that this PC keeps for DIR, and make it if there is none: to write, or to read if --read-only.",
)
@click.option("--read-only", is_flag=True, help="Nobody may write.")
@click.option(
    "--hidden", metavar="GLOB", multiple=True, help="Names that nobody may see, in every folder; repeatable."
)
def serve(
    out: Output,
    folder: str,
    listen: str,
    read_key_file: str | None,
    write_key_file: str | None,
    make_key: bool,
    read_only: bool,
    hidden: tuple[str, ...],
) -> None:
    """Offer DIR of this PC to boards and to `hardwire fs`, until Ctrl-C.

    Without a key everybody may read and nobody may write; with one, only who has it. -v logs who connects.
    """
    from .. import files_serve
    from ..keys import own
    from ..keys import path as keys_path

    host, port = _address(listen)
    for pattern in hidden:
        if "/" in pattern or not pattern:
            raise HardwireError(USAGE, f"--hidden {pattern}: a name has no /", "--hidden '*.bak'")
    if read_only and write_key_file is not None:
        raise HardwireError(USAGE, "--read-only and --write-key-file: nobody may write, or somebody")
    role = READ if read_only else WRITE
    given = {READ: read_key_file, WRITE: write_key_file}
    if make_key and given[role] is not None:
        raise HardwireError(USAGE, "--make-key, and a file with that key: one of them")
    keys = {which: _key(path) for which, path in given.items()}
    path = Path(folder)
    if not path.is_dir():
        raise HardwireError(USAGE, f"{folder}: {'not a folder' if path.exists() else 'no such folder'}")

    identity = files_serve.identity(own(), path)
    if make_key:
        keys[role], new = _kept_key(identity, role)
        out.note(f"{'a key was made; it' if new else 'the key'} is in {keys_path()}")
    name = f"{socket.gethostname()}:{path.resolve().name}".encode("ascii", "replace").decode()
    server = files_serve.make_server(
        path, name, identity, read_key=keys[READ], write_key=keys[WRITE], hidden=hidden
    )

    def started(host: str, port: int) -> None:
        data = {"folder": str(path.resolve()), "host": host, "port": port, "id": identity.hex(":")}
        data |= {"name": name, "read_key": keys[READ] is not None, "write_key": keys[WRITE] is not None}
        if not any(keys.values()) and not _LOOPBACK.fullmatch(host):
            out.note("without a key everybody who can reach this PC may read")
        shown = f"[{host}]" if ":" in host else host
        out.result(data, f"serving {folder} on {shown}:{port}")

    async def main() -> None:
        task = asyncio.current_task()
        with contextlib.suppress(NotImplementedError):  # Windows, where Ctrl-C is a KeyboardInterrupt
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await files_serve.serve(server, host, port, started)

    with files_serve.logged(), contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(main())
        except OSError as error:
            raise _listen_error(host, port, error) from None
    out.note("stopped: an interrupted upload can be resumed")
