"""One running virtual board: board, PC side of the segment, forwards, control socket; and its clean end.

In: a `Spec`. Out: a `Running` record when ready; then answers on the control socket until Ctrl-C, SIGTERM or
`stop`. Never: anything left behind (state files, PTY, sockets), whatever ends it; output of its own.

`run` serves in this process; `detach` starts another (`python -m hardwire_host.virtual.daemon`) that reads
its Spec from stdin, answers on stdout with JSON lines - {"note"}..., then {"ready"} or {"error"} - and
lives on.
"""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hardwire import config
from hardwire.config import ConfigError, ip_bytes

from ..errors import BUSY, FAILED, INTERRUPTED, TIMEOUT, USAGE, HardwireError
from ..uf2 import describe
from . import control
from .control import Session
from .running import LOOPBACK, Claim, Forward, Running, claim, log_path

if TYPE_CHECKING:
    from .board import VirtualBoard

log = logging.getLogger(__name__)

FORWARD_OFFSET = 10000  # PC port = board port + this, where nothing else is said
PC_MAC = b"\x02\x00\x00\x00\x00\x01"  # locally administered; the only other host of the segment
LISTEN_DEVICE_S = (
    30  # device time from power-on to listening: seconds, and DHCP's retries before its fallback
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Spec:
    """What to run.

    board: module name in boards/. name: None takes the first free one. image: UF2, None builds ours. config:
    JSON text, None for defaults. forwards: (PC address, PC port or 0, board port), None for one per service.
    blank: an empty filesystem instead of the firmware. flash: file that keeps the filesystem between runs.
    pcap: file for a capture of the whole run. tap: name of a TAP interface that takes the gateway's address.
    dhcp: a DHCP server on the segment. seed: of faults, sequence numbers, the board's unique id.
    """

    board: str | None = None
    name: str | None = None
    image: str | None = None
    config: str | None = None
    forwards: list[tuple[str, int, int]] | None = None
    blank: bool = False
    flash: str | None = None
    pcap: str | None = None
    tap: str | None = None
    dhcp: bool = False
    seed: int = 0


def _settings(spec: Spec) -> dict:
    """The configuration's values, with the board that was named. Raises HardwireError(USAGE)."""
    from ..bundle import board_constants

    try:
        settings = config.parse(spec.config) if spec.config is not None else config.defaults()
    except ConfigError as error:
        raise HardwireError(USAGE, f"configuration: {error}") from None
    if spec.board is not None:
        settings["board"] = spec.board
    board_constants(settings["board"])  # it exists
    return settings


def _services(settings: dict) -> dict[str, int]:
    return {name: service["port"] for name, service in settings["services"].items() if service["connections"]}


def _default_forwards(services: dict[str, int]) -> list[tuple[str, int, int]]:
    shifted = ((port, port + FORWARD_OFFSET) for port in services.values())
    return [(LOOPBACK, pc if pc < 65536 else 0, port) for port, pc in shifted]


def _bind_error(host: str, port: int, board_port: int, error: OSError) -> HardwireError:
    if error.errno == errno.EADDRINUSE:
        return HardwireError(
            BUSY, f"port {port} of {host} is in use", f"--forward 0:{board_port} takes a free one"
        )
    if error.errno == errno.EACCES:
        return HardwireError(BUSY, f"port {port} of {host} needs root", "choose a port from 1024")
    return HardwireError(
        USAGE, f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}"
    )


def _check_free(forwards: list[tuple[str, int, int]]) -> None:
    # Before the slow steps; the forwarder binds later, and reports the same error should it lose a race.
    for host, port, board_port in forwards:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            raise _bind_error(host, port, board_port, error) from None


def _check_files(spec: Spec) -> None:
    # Before the slow steps, too.
    if spec.image is not None and not Path(spec.image).is_file():
        raise HardwireError(USAGE, f"there is no image {spec.image}", "without --image ours is built")
    if spec.config is not None and _kept(spec):
        raise HardwireError(
            USAGE, f"{spec.flash} has a configuration of its own", "hardwire deploy --config FILE"
        )


def _kept(spec: Spec) -> bool:
    return spec.flash is not None and Path(spec.flash).exists()


def _image(spec: Spec, report: Report) -> Path:
    if spec.image is not None:
        return Path(spec.image)
    from ..image import find_or_build

    return find_or_build(report=report)


def _filesystem(spec: Spec, settings: dict, image: Path, report: Report) -> bytes:
    from ..bundle import blank_filesystem, build_filesystem

    if _kept(spec):
        return Path(spec.flash).read_bytes()
    size = describe(image).fs_size
    if spec.blank:
        return blank_filesystem(settings["board"], size)
    report("compiling the firmware")
    return build_filesystem(settings["board"], spec.config, size=size)


def _beside(gateway: bytes, netmask: bytes, taken: bytes) -> bytes:
    """The highest address of the gateway's network that is not `taken`."""
    mask = int.from_bytes(netmask, "big")
    last = (int.from_bytes(gateway, "big") | ~mask & 0xFFFFFFFF) - 1
    return next(ip for n in range(3) if (ip := (last - n).to_bytes(4, "big")) not in (taken, gateway))


def _pool(gateway: bytes, netmask: bytes) -> dict:
    """Addresses for the DHCP server: up to 32 from the hundredth on, fewer in a small network."""
    hosts = ~int.from_bytes(netmask, "big") & 0xFFFFFFFF
    offset = min(100, hosts // 2)
    first = (int.from_bytes(gateway, "big") & ~hosts) + offset
    return {"first": first.to_bytes(4, "big"), "size": max(1, min(32, hosts - offset - 2))}


async def _forwards(
    board: "VirtualBoard", settings: dict, wanted: list, spec: Spec, undo: AsyncExitStack
) -> list[Forward]:
    from .forward import Forwarder
    from .tcpip import Stack

    network = settings["network"]
    ip = gateway = ip_bytes(network["gateway"])
    netmask = ip_bytes(network["netmask"])
    if spec.tap is not None:
        from .tap import Tap

        undo.callback(Tap(board.segment, spec.tap, ip=gateway, netmask=netmask).close)
        ip = _beside(gateway, netmask, ip_bytes(network["address"]))
    stack = Stack(
        board.clock, board.segment.attach("pc"), mac=PC_MAC, ip=ip, netmask=netmask, gateway=gateway, seed=0
    )
    if spec.dhcp:
        from .dhcp import DhcpServer

        undo.callback(DhcpServer(stack, **_pool(gateway, netmask), dns=(gateway,)).close)
    forwarder = Forwarder(stack)
    undo.push_async_callback(forwarder.close)
    made = []
    for host, port, board_port in wanted:
        try:
            address = await forwarder.listen(host, port, lambda: board.chip.ip, board_port)
        except OSError as error:
            raise _bind_error(host, port, board_port, error) from None
        made.append(Forward(address[0], address[1], board_port))
    return made


def _save(path: Path, filesystem: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(filesystem)
    new.replace(path)


async def _start(
    spec: Spec,
    settings: dict,
    image: Path,
    filesystem: bytes | None,
    name: Claim,
    undo: AsyncExitStack,
    report: Report,
) -> Session:
    from .board import VirtualBoard
    from .faults import FaultySegment
    from .pcap import Capture

    services = _services(settings)
    board = VirtualBoard(
        board=settings["board"],
        image=image,
        filesystem=filesystem,
        seed=spec.seed,
        segment=lambda clock: FaultySegment(clock, seed=spec.seed),
    )
    captures = [Capture(board.segment, spec.pcap)] if spec.pcap is not None else []
    report("starting the board")
    undo.push_async_callback(board.stop)
    await board.start()
    if spec.flash is not None:
        undo.callback(lambda: _save(Path(spec.flash), board.filesystem()))
    wanted = _default_forwards(services) if spec.forwards is None else spec.forwards
    forwards = await _forwards(board, settings, wanted, spec, undo)
    if not spec.blank:
        report("waiting for its services")
        await _listening(spec, board, services, report)
    running = Running(
        name=name.name,
        pid=os.getpid(),
        board=settings["board"],
        image=str(image),
        repl=board.repl,
        started=time.time(),
        services=services,
        forwards=forwards,
    )
    session = Session(board, running, asyncio.Event(), captures)
    undo.callback(lambda: [capture.stop() for capture in captures])
    undo.callback((await control.serve(session)).close)
    undo.callback(name.withdraw)
    name.publish(running)
    return session


async def _listening(spec: Spec, board: "VirtualBoard", services: dict[str, int], report: Report) -> None:
    try:
        await board.wait_listening(list(services.values()), LISTEN_DEVICE_S)
    except HardwireError as error:
        if spec.flash is None or error.code != TIMEOUT:
            raise
        # What is in the user's flash is for the user to mend.
        report(f"{error.message}; the REPL is at {board.repl}")


async def _stopped(session: Session) -> None:
    """Until somebody wants it to end, or the board dies: then raises what it died of."""
    tasks = [asyncio.create_task(session.stop.wait()), asyncio.create_task(session.board.ended())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        await task


async def _serve(
    spec: Spec, settings: dict, prepared: tuple, name: Claim, ready: Callable, report: Report
) -> None:
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    session: Session | None = None

    def end() -> None:
        if session is None:
            starting.cancel()
        else:
            session.stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    async with AsyncExitStack() as undo:
        session = await _start(spec, settings, *prepared, name, undo, report)
        ready(session.running)
        await _stopped(session)


def run(spec: Spec, ready: Callable[[Running], None], report: Report) -> None:
    """Run a virtual board until Ctrl-C, SIGTERM or the control socket's `stop`.

    Args:
        spec: what to run.
        ready: called once, when the board can be used.
        report: gets a line for each slow step before that.

    Raises:
        HardwireError: it cannot start: BUSY for a name or port in use, USAGE for a bad configuration, board
            or image, TIMEOUT when its services do not come up, and what building image and filesystem raises.
        KeyboardInterrupt: Ctrl-C or SIGTERM before it was ready.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = _settings(spec)
        _check_files(spec)
        wanted = _default_forwards(_services(settings)) if spec.forwards is None else spec.forwards
        name = claim(spec.name)
        try:
            _check_free(wanted)
            image = _image(spec, report)
            prepared = image, _filesystem(spec, settings, image, report)
            asyncio.run(_serve(spec, settings, prepared, name, ready, report))
        except BaseException as error:
            name.release(keep_log=True)
            if isinstance(error, asyncio.CancelledError):
                raise KeyboardInterrupt from None
            raise
        name.release()
    finally:
        signal.signal(signal.SIGTERM, before)


def detach(spec: Spec, report: Report) -> Running:
    """Run a virtual board in a process of its own; return when it is ready. Raises HardwireError as `run`."""
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            text=True,
        )
        try:
            with child.stdin as stdin, contextlib.suppress(BrokenPipeError):
                json.dump(asdict(spec), stdin)
            with child.stdout as answers:
                for line in answers:
                    message = json.loads(line)
                    if "ready" in message:
                        return Running.parse(message["ready"])
                    if error := message.get("error"):
                        raise HardwireError(**error)
                    report(message["note"])
        except BaseException:
            child.terminate()
            child.wait()
            raise
        code = child.wait()
        errors.seek(0)
        log.info("%s", errors.read())
    raise HardwireError(
        FAILED, f"the virtual board's process ended with {code} before it was ready", "-v shows why"
    )


def _child() -> None:
    """The other end of `detach`."""

    def say(**message: object) -> None:
        print(json.dumps(message), flush=True)

    def ready(running: Running) -> None:
        say(ready=running.record())
        out = os.open(log_path(running.name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):  # whoever started us is gone from here on
            os.dup2(out, stream)
        os.close(out)

    spec = Spec(**json.load(sys.stdin))
    os.chdir("/")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        run(spec, ready, lambda text: say(note=text))
    except HardwireError as error:
        say(error=error.details())
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    _child()
