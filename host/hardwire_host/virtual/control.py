"""The control socket of a running virtual board: how other processes ask it and change it.

In: lines of JSON on a unix socket, {"do": NAME, ...arguments}. Out: for each one line with the answer's
keys, or {"error": {...}} with HardwireError's arguments. Never: a board that ends because of a request.

A new request is a function of `Session` and its arguments and a line in REQUESTS. `Running.ask` is the
other end.
"""

import asyncio
import contextlib
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FAILED, USAGE, HardwireError
from .dhcp import DhcpServer
from .faults import NONE as NO_FAULTS
from .pcap import Capture
from .running import LINE_MAX, Running, control_path

if TYPE_CHECKING:
    from .board import VirtualBoard

log = logging.getLogger(__name__)

CHIP_FAULTS = ("spi_errors", "stuck_cr")  # probabilities among the chip's Options


@dataclass(frozen=True)
class Session:
    """A board while it runs: what requests work on. Setting `stop` ends it.

    captures: those being written. dhcp: the segment's DHCP server, if it has one.
    """

    board: "VirtualBoard"
    running: Running
    stop: asyncio.Event
    captures: list[Capture] = field(default_factory=list)
    dhcp: DhcpServer | None = None


async def _status(session: Session) -> dict:
    return session.running.record() | session.board.status()


async def _stop(session: Session) -> dict:
    session.stop.set()
    return {}


async def _link(session: Session, up: bool) -> dict:
    session.board.cable.link = up
    return {"link": session.board.chip.link}


async def _fault(session: Session, clear: bool = False, brown_out: bool = False, **wanted: float) -> dict:
    """`wanted`: fields of Faults for the segment, of CHIP_FAULTS for the chip."""
    segment, chip = session.board.segment, session.board.chip
    if clear:
        segment.faults = NO_FAULTS
        chip.options = replace(chip.options, **dict.fromkeys(CHIP_FAULTS, 0.0))
    on_chip = {name: wanted.pop(name) for name in CHIP_FAULTS if name in wanted}
    segment.faults = replace(segment.faults, **wanted)
    chip.options = replace(chip.options, **on_chip)
    if brown_out:
        chip.brown_out()
    faults = asdict(segment.faults) | {name: getattr(chip.options, name) for name in CHIP_FAULTS}
    return {"faults": faults, "counts": segment.counts}


async def _pcap(session: Session, path: str | None) -> dict:
    captures = session.captures
    if path is None:
        done = [capture.path for capture in captures]
        for capture in captures:
            capture.stop()
        captures.clear()
        return {"stopped": [str(path) for path in done]}
    captures.append(Capture(session.board.segment, Path(path)))
    return {"started": path}


async def _dhcp(
    session: Session, lease: int | None = None, nak: bool | None = None, silent: bool | None = None
) -> dict:
    server = session.dhcp
    if server is None:
        raise HardwireError(USAGE, "there is no DHCP server on the segment", "hardwire virtual up --dhcp")
    if lease is not None:
        server.lease_s = lease
    if nak is not None:
        server.refuse = nak
    if silent is not None:
        server.silent = silent
    return server.status()


async def _reset(session: Session, power: bool = False) -> dict:
    await (session.board.power_cycle() if power else session.board.hard_reset())
    return {"resets": session.board.status()["resets"]}


REQUESTS: dict[str, Callable[..., Awaitable[dict]]] = {
    "status": _status,
    "stop": _stop,
    "link": _link,
    "fault": _fault,
    "pcap": _pcap,
    "dhcp": _dhcp,
    "reset": _reset,
}


async def serve(session: Session) -> asyncio.Server:
    """Answer requests until the server is closed."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # ValueError: a line longer than the limit
        with contextlib.suppress(OSError, ValueError), contextlib.closing(writer):
            while line := await reader.readline():
                writer.write(json.dumps(await _answer(session, line)).encode() + b"\n")
                await writer.drain()

    path = control_path(session.running.name)
    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(connected, path, limit=LINE_MAX)


def _parse(line: bytes) -> tuple[Callable[..., Awaitable[dict]], dict]:
    """The handler that a request names, and its arguments. Raises HardwireError(USAGE)."""
    try:
        arguments = json.loads(line)
        handler = REQUESTS[arguments.pop("do")]
        inspect.signature(handler).bind(None, **arguments)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise HardwireError(
            USAGE, "the board does not know this request", "same version of hardwire on both sides?"
        ) from None
    return handler, arguments


async def _answer(session: Session, line: bytes) -> dict:
    try:
        handler, arguments = _parse(line)
        return await handler(session, **arguments)
    except HardwireError as error:
        return {"error": error.details()}
    except Exception as error:
        log.exception("request %r", line)
        return {"error": HardwireError(FAILED, f"internal error: {error!r}", "see the board's log").details()}
