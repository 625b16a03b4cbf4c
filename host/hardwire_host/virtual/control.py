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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import FAILED, USAGE, HardwireError
from .running import LINE_MAX, Running, control_path

if TYPE_CHECKING:
    from .board import VirtualBoard

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A board while it runs: what requests work on. Setting `stop` ends it."""

    board: "VirtualBoard"
    running: Running
    stop: asyncio.Event


async def _status(session: Session) -> dict:
    return session.running.record() | session.board.status()


async def _stop(session: Session) -> dict:
    session.stop.set()
    return {}


REQUESTS: dict[str, Callable[..., Awaitable[dict]]] = {
    "status": _status,
    "stop": _stop,
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
