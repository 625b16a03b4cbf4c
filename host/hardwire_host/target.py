"""Where the board is, and the one door to its REPL. The only file that knows mpremote.

In: what the user said (`Where`: flags), else $HARDWIRE_PORT and $HARDWIRE_HOST, else what is plugged in or
running. Out: a `Target`, and `session(target)`, a context manager that holds mpremote's SerialTransport in
the raw REPL. Never: a guess between two boards, a filter on a port that was named, a board left in the raw
REPL, output.
"""

import contextlib
import errno
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError
from types import FrameType
from typing import TYPE_CHECKING

from hardwire import config

from .errors import BUSY, FAILED, NO_BOARD, TIMEOUT, USAGE, HardwireError
from .virtual.running import Running, running

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

log = logging.getLogger(__name__)

REPL, NETWORK, ANY = "repl", "network", "any"  # what a command needs of its target

# USB ids of MicroPython boards: (vendor, first product, last product). A hint: who the board is, it says
# itself. 2E8A:0005 rp2 port; F055 stm32 port; the rest are vendors that ship MicroPython boards under their
# own ids.
USB_IDS = (
    (0x2E8A, 0x0005, 0x0005),
    (0xF055, 0x9800, 0x980A),
    (0x239A, 0x0000, 0xFFFF),
    (0x2341, 0x0000, 0xFFFF),
    (0x16D0, 0x0000, 0xFFFF),
    (0x1B4F, 0x0000, 0xFFFF),
    (0x1209, 0x0000, 0xFFFF),
    (0x1FFB, 0x0000, 0xFFFF),
)
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a forward that listens everywhere is reached here
SHORTCUTS = {"a": "/dev/ttyACM", "u": "/dev/ttyUSB", "c": "COM"}  # a0 u0 c0, as in mpremote
GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF)  # what a pulled plug or a closed PTY gives
ANSWER_S = 10.0  # longest silence of a board that is well: an interrupted app closes its sockets first
FIRST_S = 3.0  # for the first attempt to interrupt it
POLL_S = 0.2  # mpremote looks at its deadlines between two reads
QUIET_S = (
    0.1  # of silence: what the board had said to nobody has arrived; it takes 40 ms from the emulated one
)
STALE_S = 1.0  # for that; an app that goes on printing does not end it
PROMPT_S = 2.0  # a free REPL answers Enter at once; the emulated one may be slowed by the PC


@dataclass(frozen=True)
class Where:
    """What the user said about the target. `virtual` is "" for "the one that runs", None when not said."""

    port: str | None = None
    host: str | None = None
    virtual: str | None = None

    def __bool__(self) -> bool:
        return (self.port, self.host, self.virtual) != (None, None, None)


@dataclass(frozen=True)
class Target:
    """One board. `port` is its REPL's device, `host` (and `host_port`) its address; either may be unknown."""

    kind: str  # "serial", "host" or "virtual"
    name: str
    port: str | None = None
    host: str | None = None
    host_port: int | None = None
    board: Running | None = None

    def endpoint(self, service: str) -> tuple[str, int]:
        """(host, port) at which the PC reaches `service` (a name in the configuration).

        Raises:
            HardwireError: nothing leads there.
        """
        if self.board is not None:
            board_port = self.board.services.get(service)
            for forward in self.board.forwards:
                if forward.board_port == board_port:
                    return LOOPBACK.get(forward.host, forward.host), forward.port
            raise HardwireError(
                NO_BOARD, f"{self.name} forwards no PC port to {service}", "hardwire virtual status"
            )
        if self.host is None:
            raise HardwireError(
                NO_BOARD,
                f"the network address of the board on {self.name} is not known",
                "give --host ADDRESS",
            )
        return self.host, self.host_port or config.defaults()["services"][service]["port"]

    @property
    def repl(self) -> str:
        """Device of the REPL. Raises HardwireError."""
        if self.port is None:
            raise HardwireError(
                USAGE, f"{self.name} is a network address; this needs the board's REPL", "give --port PORT"
            )
        return self.port


def parse_host(text: str) -> tuple[str, int | None]:
    """HOST, HOST:PORT, [IPV6]:PORT -> (host, port or None). Raises HardwireError(USAGE)."""
    match = re.fullmatch(
        r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\s\[\]]+))(?::(?P<port>\d{1,5}))?", text
    )
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise HardwireError(USAGE, f"{text!r} is no host", "HOST, HOST:PORT or [IPV6]:PORT")
    return match["v6"] or match["host"], port


def _device(port: str) -> str:
    """The device that a --port means. Raises HardwireError."""
    if port.startswith("id:"):
        from serial.tools import list_ports

        for candidate in list_ports.comports():
            if candidate.serial_number == port[3:]:
                return candidate.device
        raise HardwireError(NO_BOARD, f"no port with USB serial number {port[3:]}", _known_ports())
    if match := re.fullmatch(r"([auc])(\d+)", port):
        return SHORTCUTS[match[1]] + match[2]
    return port.removeprefix("port:")


def _usb_boards() -> list[Target]:
    from serial.tools import list_ports

    return [
        Target("serial", candidate.device, port=candidate.device)
        for candidate in sorted(list_ports.comports())
        if candidate.vid is not None
        and any(candidate.vid == vid and low <= candidate.pid <= high for vid, low, high in USB_IDS)
    ]


def _known_ports() -> str:
    from serial.tools import list_ports

    names = [port.device for port in sorted(list_ports.comports()) if port.vid is not None]
    return "ports with a USB device: " + ", ".join(names) if names else "no USB serial device is connected"


def virtual_target(board: Running) -> Target:
    """A running virtual board as a target."""
    return Target("virtual", board.name, port=board.repl, board=board)


def candidates() -> list[Target]:
    """Every board that is meant when nothing is said: virtual ones first."""
    return [virtual_target(board) for board in running()] + _usb_boards()


def _virtual(name: str) -> Target:
    boards = running()
    if name:
        boards = [board for board in boards if board.name == name]
        if not boards:
            raise HardwireError(
                NO_BOARD, f"no virtual board named {name} is running", "hardwire virtual status"
            )
    return _only([virtual_target(board) for board in boards], "virtual board")


def _only(found: list[Target], what: str = "board") -> Target:
    if len(found) == 1:
        return found[0]
    names = [target.name for target in found]
    if found:
        message = f"{len(found)} {what}s found: {', '.join(names)}"
        hint = "choose one with --virtual NAME, --port PORT or --host HOST"
    else:
        message = f"no {what} found"
        hint = "hardwire virtual up starts a virtual one; --port or --host names a real one"
    raise HardwireError(NO_BOARD, message, hint, {"candidates": names})


def _named(where: Where) -> Target:
    if where.virtual is not None:
        if where.port is not None or where.host is not None:
            raise HardwireError(USAGE, "--virtual excludes --port and --host")
        return _virtual(where.virtual)
    host, host_port = parse_host(where.host) if where.host is not None else (None, None)
    if where.port is None:
        return Target("host", where.host, host=host, host_port=host_port)
    device = _device(where.port)
    return Target("serial", device, port=device, host=host, host_port=host_port)


def resolve(where: Where = Where(), need: str = ANY) -> Target:
    """The board that is meant: flags, else the environment, else the only one there is.

    Args:
        where: the flags.
        need: REPL, NETWORK or ANY; a target that was named and cannot offer it is an error at once.

    Raises:
        HardwireError: NO_BOARD with the candidates when none or several are meant, USAGE for a contradiction.
    """
    if where:
        target = _named(where)
    elif environment := Where(
        os.environ.get("HARDWIRE_PORT") or None, os.environ.get("HARDWIRE_HOST") or None
    ):
        target = _named(environment)
    else:
        target = _only(candidates())
    if need == REPL:
        _ = target.repl
    elif need == NETWORK and target.board is None and target.host is None:
        target.endpoint("modbus")
    return target


# The REPL


def _holders(device: str) -> list[int]:
    """PIDs of other processes that have `device` open, as far as /proc shows them."""
    wanted = os.path.realpath(device)
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == wanted:
                found.add(int(link.parts[2]))
    return sorted(found - {os.getpid()})


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C does nothing: what happens here takes a moment, and its outcome must be known."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread anyway
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt, more do nothing: what the first one has to put right goes on."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) in (None, signal.SIG_IGN):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _open_error(target: Target) -> HardwireError:
    """Why the port could not be opened; mpremote keeps that to itself, so it is tried once more."""
    import serial

    device = target.repl
    try:
        serial.serial_for_url(device, exclusive=True).close()
    except OSError as error:
        code, text = error.errno, str(error)
    except ValueError as error:  # a URL scheme that pyserial does not know
        return HardwireError(USAGE, f"{device}: {error}")
    else:
        return HardwireError(BUSY, f"{device} was held by another program", "try again")
    if code in (errno.EWOULDBLOCK, errno.EBUSY) or (os.name == "nt" and "PermissionError" in text):
        own = {target.board.pid} if target.board else set()
        pids = [pid for pid in _holders(device) if pid not in own]
        by = f"by PID {', '.join(map(str, pids))}" if pids else "by another program"
        return HardwireError(BUSY, f"{device} is held {by}", "close that program", {"pids": pids})
    if code in (errno.EACCES, errno.EPERM):
        return HardwireError(
            NO_BOARD, f"{device}: permission denied", 'sudo usermod -aG dialout "$USER", then log in again'
        )
    if code == errno.ENOENT or "FileNotFoundError" in text:
        return HardwireError(NO_BOARD, f"there is no port {device}", _known_ports())
    return HardwireError(NO_BOARD, f"{device} cannot be opened: {os.strerror(code) if code else text}")


def _open(target: Target, timeout: float) -> "SerialTransport":
    from mpremote import transport_serial

    # mpremote prints what it received before it raises; stdout is for data.
    transport_serial.print = lambda *what: log.info("mpremote: %s", *what)
    try:
        # Without a timeout a read from a silent PTY would never return.
        transport = transport_serial.SerialTransport(target.repl, timeout=timeout)
    except (transport_serial.TransportError, ValueError):
        raise _open_error(target) from None
    transport.serial.write_timeout = timeout
    return transport


def _enter(transport: "SerialTransport", target: Target, soft_reset: bool, timeout: float) -> None:
    from mpremote.transport import TransportError

    # The end of an earlier session would be taken for an answer to this one.
    transport.serial.timeout = QUIET_S
    deadline = time.monotonic() + STALE_S
    while transport.serial.read(4096) and time.monotonic() < deadline:
        pass
    transport.serial.timeout = POLL_S
    for limit in (min(FIRST_S, timeout), timeout):  # a board left inside raw-paste swallows the first attempt
        try:
            transport.enter_raw_repl(soft_reset=soft_reset, timeout_overall=limit)
            break
        except TransportError as error:
            log.info("raw REPL of %s: %s", target.name, error)
    else:
        raise HardwireError(
            TIMEOUT,
            f"the REPL of {target.name} does not answer",
            "reset or power-cycle the board, then try again",
        )
    transport.serial.timeout = timeout


def _leave(transport: "SerialTransport", *, running_code: bool, restart: bool) -> None:
    """Stop what runs, leave the raw REPL, close. Must work for any state of the board and of the line."""
    with uninterrupted():  # an impatient Ctrl-C must not leave the board without its app
        with contextlib.suppress(OSError):
            if running_code:
                transport.serial.write(b"\r\x03\x03")
            transport.exit_raw_repl()
            if restart:
                transport.serial.write(b"\x04")
        with contextlib.suppress(OSError):
            transport.close()


@contextlib.contextmanager
def session(
    target: Target, *, soft_reset: bool = False, restart: bool = False, timeout: float = ANSWER_S
) -> Iterator["SerialTransport"]:
    """The board's raw REPL, as mpremote's SerialTransport (`exec`, `eval`, `exec_raw`, `fs_*`).

    Interrupts the app. Whatever ends the block, Ctrl-C included, the board's code is stopped, the raw REPL
    is left and the port closed.

    Args:
        target: any target with a REPL.
        soft_reset: start from a fresh heap (main.py does not run).
        restart: on leaving, soft-reset the board so that main.py runs again.
        timeout: longest silence of the board in seconds.

    Raises:
        HardwireError: NO_BOARD no such port or it went away, BUSY held by another program, TIMEOUT no answer,
            FAILED code raised an exception on the board (the last line of its traceback is the message).
    """
    from mpremote.transport import TransportError, TransportExecError
    from serial import SerialException, SerialTimeoutException

    with interrupted_once():
        transport = _open(target, timeout)
        clean = False
        try:
            _enter(transport, target, soft_reset, timeout)
            yield transport
            clean = True
        except TransportExecError as error:
            lines = error.error_output.strip().splitlines() or ["no traceback"]
            log.info("on the board:\n%s", error.error_output)
            raise HardwireError(
                FAILED, f"{target.name}: {lines[-1]}", "the board raised this; -v shows its traceback"
            ) from error
        except (TransportError, SerialTimeoutException, StructError) as error:
            # struct.error: mpremote unpacks an answer that did not come
            raise HardwireError(
                TIMEOUT, f"{target.name} stopped answering: {error}", "reset it, then try again"
            ) from error
        except OSError as error:
            if isinstance(error, SerialException) or error.errno in GONE:
                raise HardwireError(
                    NO_BOARD, f"{target.name} went away: {error}", "is it still connected?"
                ) from error
            raise
        finally:
            _leave(transport, running_code=not clean, restart=restart)


def at_prompt(target: Target, timeout: float = PROMPT_S) -> bool:
    """Whether the REPL is free (no app runs): it answers Enter by a prompt. Disturbs nothing.

    Raises:
        HardwireError: as `session`.
    """
    transport = _open(target, timeout)
    try:
        transport.serial.reset_input_buffer()
        transport.serial.write(b"\r")
        data, deadline = b"", time.monotonic() + timeout
        transport.serial.timeout = 0.05
        while not data.endswith(b">>> ") and time.monotonic() < deadline:
            data += transport.serial.read(256)
        return data.endswith(b">>> ")
    except OSError as error:
        raise HardwireError(
            NO_BOARD, f"{target.name} went away: {error}", "is it still connected?"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            transport.close()
