"""`hardwire virtual up|status|down`: virtual boards as processes of this PC. virtual.daemon does the work."""

import contextlib
import os
import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import NO_BOARD, TIMEOUT, USAGE, HardwireError
from ..virtual.running import LOOPBACK, Running, check_name, running, wait_gone
from .common import Output, board_module, command, read_text

if TYPE_CHECKING:
    from rich.table import Table as Sheet

ASK_S = 10.0  # to ask it politely
STOP_S = 20.0  # a board ends between two slices of emulation, then writes its flash file
KILL_S = 5.0

BOARDS_MAX = 16  # each is slower than the one before: they share a core

DHCP_CONFIG = '{"network": {"mode": "dhcp"}, "services": {"modbus": {"writes": true}}}'

_FORWARD = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]+):)?(?P<pc>\d{1,5}):(?P<board>\d{1,5})")


def parse_forward(text: str) -> tuple[str, int, int]:
    """[ADDR:]PC_PORT:BOARD_PORT -> (PC address, PC port or 0, board port). Raises HardwireError(USAGE)."""
    match = _FORWARD.fullmatch(text)
    if match:
        pc, board = int(match["pc"]), int(match["board"])
        if pc < 65536 and 0 < board < 65536:
            return (match["host"] or LOOPBACK).strip("[]"), pc, board
    raise HardwireError(USAGE, f"{text!r} is no forward", "[ADDR:]PC_PORT:BOARD_PORT, for example 11502:502")


def _poll(board: Running, service: str, address: str) -> str:
    """A command line that talks to a forwarded port."""
    if service == "modbus":
        return f"hardwire modbus read holding 0 10 --host {address}"
    if service == "files":
        return f"hardwire fs ls --host {address}"
    host, _, port = address.rpartition(":")
    return f"nc {host.strip('[]')} {port}"


def _ready_lines(board: Running) -> list[str]:
    names = {port: name for name, port in board.services.items()}
    lines = [f"{board.name}: {board.board}, {Path(board.image).name}, PID {board.pid}"]
    lines.append(f"REPL    {board.repl:<22} mpremote connect {board.repl}")
    for forward in board.forwards:
        service = names.get(forward.board_port, "")
        where = f"{forward} -> {forward.board_port}"
        lines.append(f"{service or 'port':<7} {where:<22} {_poll(board, service, str(forward))}")
    return lines


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path is not None else None


@command(
    examples=[
        "hardwire virtual up",
        "hardwire virtual up --detach --json",
        "hardwire virtual up --forward 127.0.0.1:11502:502 --config plant.json",
        "hardwire virtual up --tap hw0 --pcap trace.pcapng",
        "hardwire virtual up --boards 3 --dhcp",
        "hardwire virtual up --map plant.toml",
        "hardwire virtual up --image RPI_PICO-20260101-v1.28.0.uf2 --blank",
    ]
)
@click.option("--board", metavar="NAME", help="Board file in boards/ (w5500_evb_pico).")
@click.option(
    "--boards",
    metavar="N",
    type=click.IntRange(1, BOARDS_MAX),
    default=1,
    help="So many on one segment: the second has the next name, address and PC ports, and so on.",
)
@click.option("--image", metavar="UF2", help="MicroPython image; without it ours is built once and kept.")
@click.option(
    "--forward",
    "forwards",
    metavar="[ADDR:]PC_PORT:BOARD_PORT",
    multiple=True,
    help="A PC port for a board port; PC port 0 takes a free one. Without it each service's port + 10000.",
)
@click.option("--config", "config_file", metavar="FILE", help="The board's configuration, JSON.")
@click.option(
    "--map", "map_file", metavar="FILE", help="The device's map, TOML or map.bin, instead of the app's."
)
@click.option("--detach", is_flag=True, help="Return when ready and leave the board running.")
@click.option("--name", metavar="NAME", help="Name of the board (virtual, virtual-2 ...).")
@click.option("--blank", is_flag=True, help="An empty filesystem: MicroPython and nothing else.")
@click.option(
    "--flash", metavar="FILE", help="Keep the board's filesystem, settings included, in FILE between runs."
)
@click.option("--pcap", metavar="FILE", help="Capture every frame of the run, for Wireshark.")
@click.option(
    "--tap",
    metavar="NAME",
    help="A TAP interface: this PC's kernel is on the segment, at the gateway's address.",
)
@click.option(
    "--dhcp", is_flag=True, help="A DHCP server on the segment; without --config the board uses it."
)
@click.option("--rate", type=click.Choice(["10", "100"]), default="100", help="Of the segment, Mbit/s (100).")
@click.option(
    "--seed", metavar="S", type=int, default=0, help="Of everything random: faults, ISNs, unique id."
)
def up(
    out: Output,
    board: str | None,
    boards: int,
    image: str | None,
    forwards: tuple[str, ...],
    config_file: str | None,
    map_file: str | None,
    detach: bool,
    name: str | None,
    blank: bool,
    flash: str | None,
    pcap: str | None,
    tap: str | None,
    dhcp: bool,
    rate: str,
    seed: int,
) -> None:
    """Start virtual boards: real MicroPython on an emulated RP2040 with a W5500, on a virtual Ethernet.

    Prints how to reach it, then "ready". Ctrl-C, SIGTERM or `hardwire virtual down` ends it cleanly, exit
    code 0.
    """
    from ..virtual import daemon
    from .map import load

    spec = daemon.Spec(
        board=board_module(board),
        boards=boards,
        name=check_name(name) if name is not None else None,
        image=_absolute(image),
        config=read_text(config_file) if config_file is not None else DHCP_CONFIG if dhcp else None,
        forwards=[parse_forward(text) for text in forwards] or None,
        blank=blank,
        flash=_absolute(flash),
        pcap=_absolute(pcap),
        tap=tap,
        dhcp=dhcp,
        rate=int(rate),
        seed=seed,
        map=load(map_file).text if map_file is not None else None,
    )

    def ready(started: list[Running]) -> None:
        out.target = _target(started[0])
        data = started[0].record() | {"boards": [board.record() for board in started]}
        out.result(data, *(line for board in started for line in _ready_lines(board)), "ready")

    if detach:
        ready(daemon.detach(spec, out.note))
    else:
        daemon.run(spec, ready, out.note)


def _target(board: Running):
    from ..target import virtual_target

    return virtual_target(board)


def _chosen(name: str | None) -> list[Running]:
    boards = running()
    if name is None:
        return boards
    boards = [board for board in boards if board.name == check_name(name)]
    if not boards:
        raise HardwireError(NO_BOARD, f"no virtual board named {name} is running", "hardwire virtual status")
    return boards


@command(examples=["hardwire virtual status", "hardwire virtual status virtual-2 --json"])
@click.argument("name", required=False)
def status(out: Output, name: str | None) -> None:
    """Show every virtual board that runs, or NAME: REPL, forwards, device time, LED, link, chip, sockets.

    With --json: `boards`, a list; and for exactly one board its keys at top level too.
    """
    boards = [board.ask("status") for board in _chosen(name)]
    data = {"boards": boards}
    if len(boards) == 1:
        data |= boards[0]
        out.target = _target(_chosen(boards[0]["name"])[0])
    if not boards:
        out.note("no virtual board is running")
    out.result(data, *[sheet for board in boards for sheet in _sheets(board)])


def _sheets(board: dict) -> list["Sheet"]:
    from rich.table import Table as Sheet

    spi = board["spi"]
    facts = [
        ("board", f"{board['name']}: {board['board']}, {Path(board['image']).name}, PID {board['pid']}"),
        *([("segment", ", ".join(board["segment"]))] if len(board["segment"]) > 1 else []),
        ("REPL", board["repl"]),
        *(("forward", f"{f['host']}:{f['port']} -> {f['board_port']}") for f in board["forwards"]),
        ("time", f"{board['device_seconds']:.1f} s of device time, {board['speed']:.2f} x wall time"),
        ("LED", "on" if board["led"] else "off"),
        ("link", f"{'up' if board['link'] else 'down'}, {board['address']}"),
        ("SPI", f"{spi['frames']} frames, {spi['bytes']} bytes, {spi['hz'] / 1e6:g} MHz"),
        ("errors", _counts(board["guest_errors"])),
    ]
    if board["unimplemented"]:
        facts.append(("missing", _counts(board["unimplemented"])))
    sheet = Sheet(box=None, show_header=False, pad_edge=False)
    sheet.add_column(style="bold")
    for row in facts:
        sheet.add_row(*row)
    sockets = Sheet("socket", "protocol", "state", "port", "peer", "rx", "tx", box=None, pad_edge=False)
    for socket in board["sockets"]:
        columns = ("number", "protocol", "state", "port", "peer")
        fill = (f"{socket[side]}/{socket[side + '_size']}" for side in ("rx", "tx"))
        sockets.add_row(*("-" if socket[key] is None else str(socket[key]) for key in columns), *fill)
    return [sheet, sockets]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or "none"


@command(examples=["hardwire virtual down", "hardwire virtual down virtual-2", "hardwire virtual down --all"])
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every virtual board that runs.")
def down(out: Output, name: str | None, everything: bool) -> None:
    """Stop the virtual board that runs, or NAME, and wait until it has ended.

    Boards that were started together, on one segment, end together.
    """
    boards = _chosen(name)
    if not everything and len({board.pid for board in boards}) != 1:
        names = [board.name for board in boards]
        found = (
            f"{len(boards)} virtual boards run: {', '.join(names)}"
            if boards
            else "no virtual board is running"
        )
        hint = "name one, or --all" if boards else "hardwire virtual up starts one"
        raise HardwireError(NO_BOARD, found, hint, {"candidates": names})
    stopped = []
    for board in {board.pid: board for board in boards}.values():
        _end(board, out)
        stopped += board.segment
    out.result({"stopped": stopped})


def _end(board: Running, out: Output) -> None:
    """Ask, then tell, then kill."""
    with _process(board) as process:
        try:
            board.ask("stop", timeout=ASK_S)
        except HardwireError as error:
            out.note(error.message)
            _signal(board, signal.SIGTERM)
        if not wait_gone(board.name, STOP_S):
            out.note(f"{board.name} does not end: killed")
            _signal(board, signal.SIGKILL)
            if not wait_gone(board.name, KILL_S):
                raise HardwireError(TIMEOUT, f"the process of {board.name} (PID {board.pid}) does not end")
        if process:
            select.select(process, [], [], KILL_S)  # the interpreter's own end
    out.note(f"{', '.join(board.segment)} stopped")


@contextlib.contextmanager
def _process(board: Running) -> Iterator[list[int]]:
    """A descriptor that is readable when the board's process has ended; none where the system has no such."""
    try:
        descriptors = [os.pidfd_open(board.pid)]
    except (AttributeError, OSError):
        descriptors = []
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _signal(board: Running, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(board.pid, number)
