"""Running virtual boards on one segment: boards, PC side, forwards, control sockets; and their clean end.

In: a `Spec`. Out: `Running` records when ready; then answers on the control sockets until Ctrl-C, SIGTERM or
`stop`. Never: anything left behind (state files, PTY, sockets), whatever ends it; output of its own.

`run` serves in this process; `detach` starts another (`python -m hardwire_host.virtual.daemon`) that reads
its Spec from stdin, answers on stdout with JSON lines - {"note"}..., then {"ready": [...]} or {"error"} - and
lives on.
"""

import asyncio
import contextlib
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
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from hardwire import config
from hardwire.addresses import ConfigError, ip_bytes, ip_text, mac_bytes

from ..errors import FAILED, INTERRUPTED, TIMEOUT, USAGE, HardwireError
from ..uf2 import describe
from . import control
from .control import Session
from .pc import bind_error
from .running import LOOPBACK, Claim, Forward, Running, claim, log_path

log = logging.getLogger(__name__)

FORWARD_OFFSET = 10000  # PC port = board port + this, where nothing else is said
LISTEN_DEVICE_S = (
    30  # device time from power-on to listening: seconds, and DHCP's retries before its fallback
)

Report = Callable[[str], None]
Ready = Callable[[list[Running]], None]


@dataclass(frozen=True)
class Spec:
    """What to run.

    board: module name in boards/. boards: how many. name: None takes the first free one; more boards take NAME-2,
    NAME-3 ... image: UF2, None builds ours. config: JSON text, None for defaults; the second board has the next
    address, and so on. forwards: (PC address, PC port or 0, board port), None for one per service; the second board
    has the next PC port, and so on. blank: an empty filesystem instead of the firmware. flash: file that keeps the
    filesystem between runs. pcap: file for a capture of the whole run. tap: name of a TAP interface that takes the
    gateway's address. dhcp: a DHCP server on the segment. rate: of the segment, Mbit/s. seed: of faults, sequence
    numbers, the boards' unique ids. map: TOML text of the boards' own map.
    """

    board: str | None = None
    boards: int = 1
    name: str | None = None
    image: str | None = None
    config: str | None = None
    forwards: list[tuple[str, int, int]] | None = None
    blank: bool = False
    flash: str | None = None
    pcap: str | None = None
    tap: str | None = None
    dhcp: bool = False
    rate: int = 100
    seed: int = 0
    map: str | None = None


@dataclass(frozen=True)
class _Plan:
    """One board to make. config: JSON text; settings: all of them; forwards: as Spec. key: that writes files."""

    config: str
    settings: dict
    forwards: list[tuple[str, int, int]]
    key: str

    @property
    def services(self) -> dict[str, int]:
        """TCP ports by name."""
        found = self.settings["services"]
        return {name: service["port"] for name, service in found.items() if service["connections"]}

    @property
    def address(self) -> bytes:
        return ip_bytes(self.settings["network"]["address"])


def _parse(text: str | None) -> dict:
    try:
        return config.parse(text) if text is not None else config.defaults()
    except ConfigError as error:
        raise HardwireError(USAGE, f"configuration: {error}") from None


def _plans(spec: Spec) -> list[_Plan]:
    """What to make. Raises HardwireError(USAGE)."""
    from .. import keys
    from ..bundle import VIRTUAL_SETTINGS, board_constants

    settings = _parse(spec.config)
    if spec.board is not None:
        settings["board"] = spec.board
    board_constants(settings["board"])  # it exists
    plans = []
    for number in range(spec.boards):
        text = _nth_config(spec.config, settings, number) if number else spec.config
        text, key = keys.into(text or VIRTUAL_SETTINGS, keys.own_key())
        plan = _Plan(text, _parse(text) | {"board": settings["board"]}, [], key)
        wanted = spec.forwards
        if wanted is None:
            wanted = [(LOOPBACK, port + FORWARD_OFFSET, port) for port in plan.services.values()]
        for host, port, board_port in wanted:
            plan.forwards.append((host, port + number if 0 < port < 65536 - number else 0, board_port))
        plans.append(plan)
    return plans


def _nth_config(text: str | None, settings: dict, number: int) -> str:
    """The configuration of the board `number` places behind the first: the next name, address and MAC."""
    from ..bundle import VIRTUAL_SETTINGS

    given = json.loads(text or VIRTUAL_SETTINGS)
    network = settings["network"]
    mask = int.from_bytes(ip_bytes(network["netmask"]), "big")
    first = int.from_bytes(ip_bytes(network["address"]), "big")
    address = first + number
    gateway = int.from_bytes(ip_bytes(network["gateway"]), "big")
    if (address ^ first) & mask or not ~(address | mask) & 0xFFFFFFFF or first < gateway <= address:
        message = f"{network['address']} has not {number} free addresses behind it in its network"
        raise HardwireError(USAGE, message, "network.address of --config FILE, or fewer --boards")
    changed = {"address": ip_text(address.to_bytes(4, "big"))}
    if network["mac"] is not None:
        mac = int.from_bytes(mac_bytes(network["mac"]), "big") + number
        changed["mac"] = (mac % (1 << 48)).to_bytes(6, "big").hex(":")
    given["network"] = given.get("network", {}) | changed
    given["name"] = f"{settings['name']}-{number + 1}"
    return json.dumps(given)


def _check_free(forwards: list[tuple[str, int, int]]) -> None:
    # Before the slow steps; the forwarder binds later, and reports the same error should it lose a race.
    for host, port, board_port in forwards:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            raise bind_error(host, port, board_port, error) from None


def _check_files(spec: Spec) -> None:
    # Before the slow steps, too.
    if spec.image is not None and not Path(spec.image).is_file():
        raise HardwireError(USAGE, f"there is no image {spec.image}", "without --image ours is built")
    if spec.flash is not None and spec.boards > 1:
        raise HardwireError(USAGE, "--flash keeps the filesystem of one board", "leave out --boards")
    if spec.config is not None and _kept(spec):
        raise HardwireError(
            USAGE, f"{spec.flash} has a configuration of its own", "hardwire deploy --config FILE"
        )
    if spec.map is not None and (spec.blank or _kept(spec)):
        what = "--blank: nothing would read it" if spec.blank else f"{spec.flash} is a filesystem already"
        raise HardwireError(USAGE, f"--map, and {what}", "hardwire config push --map FILE")


def _kept(spec: Spec) -> bool:
    return spec.flash is not None and Path(spec.flash).exists()


def _image(spec: Spec, report: Report) -> Path:
    if spec.image is not None:
        return Path(spec.image)
    from ..image import find_or_build

    return find_or_build(report=report)


def _filesystems(spec: Spec, plans: list[_Plan], image: Path, report: Report) -> list[bytes]:
    from ..bundle import blank_filesystem, build, build_filesystem
    from ..map.build import build as build_map
    from ..map.model import parse

    size = describe(image).fs_size
    board = plans[0].settings["board"]
    if _kept(spec):
        return [Path(spec.flash).read_bytes()]
    if spec.blank:
        return [blank_filesystem(board, size)] * len(plans)
    report("compiling the firmware")
    bundle = build(board)
    own_map = build_map(parse(spec.map, "the map")) if spec.map is not None else None
    return [build_filesystem(board, plan.config, size=size, bundle=bundle, own_map=own_map) for plan in plans]


def _claims(spec: Spec, undo: ExitStack) -> list[Claim]:
    """A name for each board; given back by `undo`."""

    def release(claimed: Claim) -> None:
        undo.push(lambda kind, *_: claimed.release(keep_log=kind is not None))

    claims = []
    for number in range(spec.boards):
        claims.append(claim(f"{spec.name}-{number + 1}" if spec.name and number else spec.name))
        release(claims[-1])
    return claims


def _save(path: Path, filesystem: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(filesystem)
    new.replace(path)


async def _start(
    spec: Spec,
    plans: list[_Plan],
    image: Path,
    filesystems: list[bytes],
    claims: list[Claim],
    undo: AsyncExitStack,
    report: Report,
) -> list[Session]:
    from hardwire.wire.files import WRITE

    from .. import keys
    from ..keys import Key
    from .board import VirtualBoard
    from .faults import FaultySegment
    from .lab import Lab
    from .pc import PcSide
    from .pcap import Capture

    lab = Lab(lambda clock: FaultySegment(clock, seed=spec.seed, rate=spec.rate * 1_000_000))
    boards = []
    for number, plan in enumerate(plans):
        port = "board" if not number else f"board-{number + 1}"
        board = VirtualBoard(
            board=plan.settings["board"],
            image=image,
            filesystem=filesystems[number],
            seed=spec.seed + number,
            lab=lab,
            port=port,
        )
        boards.append(board)
        undo.push_async_callback(board.stop)
    captures = [Capture(lab.segment, spec.pcap)] if spec.pcap is not None else []
    undo.callback(lambda: [capture.stop() for capture in captures])
    report("starting the board" if len(boards) == 1 else f"starting {len(boards)} boards")
    for board in boards:
        await board.start()
    if spec.flash is not None:
        undo.callback(lambda: _save(Path(spec.flash), boards[0].filesystem()))
    addresses = [plan.address for plan in plans]
    network = plans[0].settings["network"]

    def names() -> dict[str, bytes]:
        """What boards are called here, and what their settings call them."""
        known = {}
        for plan, board, claimed in zip(plans, boards, claims, strict=True):
            known |= {claimed.name: board.chip.ip, plan.settings["name"]: board.chip.ip}
        return known

    pc = PcSide(lab.segment, network, addresses, names, undo, tap=spec.tap, dhcp=spec.dhcp)
    stop = asyncio.Event()
    sessions = []
    for plan, board, name in zip(plans, boards, claims, strict=True):
        made = []
        for host, port, board_port in plan.forwards:
            address = await pc.forward(host, port, lambda chip=board.chip: chip.ip, board_port)
            made.append(Forward(*address, board_port))
        running = Running(
            name=name.name,
            pid=os.getpid(),
            board=plan.settings["board"],
            image=str(image),
            repl=board.repl,
            started=time.time(),
            services=plan.services,
            forwards=made,
            segment=[claim.name for claim in claims],
        )
        sessions.append(Session(board, running, stop, captures, pc.dhcp))
    if not spec.blank:
        report("waiting for the services")
        for session, plan in zip(sessions, plans, strict=True):
            await _listening(spec, session, report)
            if not _kept(spec):
                try:
                    keys.store(session.board.chip.mac, Key(WRITE, plan.key))
                except OSError as error:
                    report(f"the key for its files is not kept: {error}")
    for session, name in zip(sessions, claims, strict=True):
        undo.callback((await control.serve(session)).close)
        undo.callback(name.withdraw)
        name.publish(session.running)
    return sessions


async def _listening(spec: Spec, session: Session, report: Report) -> None:
    try:
        await session.board.wait_listening(list(session.running.services.values()), LISTEN_DEVICE_S)
    except HardwireError as error:
        if spec.flash is None or error.code != TIMEOUT:
            raise
        # What is in the user's flash is for the user to mend.
        report(f"{error.message}; the REPL is at {session.board.repl}")


async def _stopped(session: Session) -> None:
    """Until somebody wants it to end, or the board dies: then raises what it died of."""
    tasks = [asyncio.create_task(session.stop.wait()), asyncio.create_task(session.board.ended())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        await task


async def _serve(
    spec: Spec, plans: list[_Plan], prepared: tuple, claims: list[Claim], ready: Ready, report: Report
) -> None:
    loop, starting = asyncio.get_running_loop(), asyncio.current_task()
    sessions: list[Session] = []

    def end() -> None:
        if sessions:
            sessions[0].stop.set()
        else:
            starting.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    async with AsyncExitStack() as undo:
        sessions += await _start(spec, plans, *prepared, claims, undo, report)
        ready([session.running for session in sessions])
        await _stopped(sessions[0])


def run(spec: Spec, ready: Ready, report: Report) -> None:
    """Run virtual boards until Ctrl-C, SIGTERM or the `stop` of a control socket.

    Args:
        spec: what to run.
        ready: called once, when the boards can be used, with a record of each.
        report: gets a line for each slow step before that.

    Raises:
        HardwireError: they cannot start: BUSY for a name or port in use, USAGE for a bad configuration, board
            or image, TIMEOUT when their services do not come up, and what building image and filesystem raises.
        KeyboardInterrupt: Ctrl-C or SIGTERM before they were ready.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        plans = _plans(spec)
        _check_files(spec)
        with ExitStack() as undo:
            claims = _claims(spec, undo)
            _check_free([forward for plan in plans for forward in plan.forwards])
            image = _image(spec, report)
            prepared = image, _filesystems(spec, plans, image, report)
            asyncio.run(_serve(spec, plans, prepared, claims, ready, report))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


def detach(spec: Spec, report: Report) -> list[Running]:
    """Run virtual boards in a process of their own; return when they are ready. Raises HardwireError as `run`."""
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
                        return [Running.parse(record) for record in message["ready"]]
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

    def ready(boards: list[Running]) -> None:
        say(ready=[board.record() for board in boards])
        out = os.open(log_path(boards[0].name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
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
