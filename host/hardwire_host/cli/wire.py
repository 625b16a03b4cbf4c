"""`hardwire virtual link|fault|pcap|dhcp|sockets|reset`: what one does to a real board and its network."""

import os

import click

from ..errors import NO_BOARD, USAGE, HardwireError
from ..virtual.running import Running, running
from .common import Output, command

FOR_EVER_S = 0xFFFFFFFF  # as a DHCP message says it (RFC 2131, 3.3)
SOCKET_COLUMNS = ("number", "protocol", "state", "port", "peer", "received", "sent")


def _board(out: Output, name: str | None) -> Running:
    """The board named, or the only one. Raises HardwireError(NO_BOARD)."""
    from ..target import virtual_target

    boards = [board for board in running() if name in (None, board.name)]
    if len(boards) != 1:
        names = [board.name for board in boards]
        what = f"no virtual board named {name} is running" if name else "no virtual board is running"
        if names:
            what = f"{len(names)} virtual boards run: {', '.join(names)}"
        raise HardwireError(
            NO_BOARD, what, "--name NAME chooses one; hardwire virtual status", {"candidates": names}
        )
    out.target = virtual_target(boards[0])
    return boards[0]


def _named(function):
    return click.option("--name", metavar="NAME", help="Which virtual board; not needed if one runs.")(
        function
    )


@command(examples=["hardwire virtual link down", "hardwire virtual link up --name virtual-2"])
@click.argument("state", type=click.Choice(["up", "down"]))
@_named
def link(out: Output, state: str, name: str | None) -> None:
    """Plug the board's Ethernet cable in, or pull it."""
    answer = _board(out, name).ask("link", up=state == "up")
    out.result(answer, f"link {'up' if answer['link'] else 'down'}")


def _chance(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise click.BadParameter("a probability is from 0 to 1")
    return value


def _probability(name: str, text: str):
    return click.option(name, type=float, metavar="P", callback=_chance, help=text)


@command(
    examples=[
        "hardwire virtual fault --loss 0.05 --dup 0.05 --reorder 0.1",
        "hardwire virtual fault --spi-errors 0.0001",
        "hardwire virtual fault clear",
        "hardwire virtual fault --brown-out",
    ]
)
@click.argument("clear", required=False, type=click.Choice(["clear"]))
@_probability("--loss", "Chance that a frame is lost.")
@_probability("--dup", "Chance that a frame arrives twice.")
@_probability("--reorder", "Chance that a frame is held back for up to 3 ms.")
@_probability("--corrupt", "Chance that a bit of a frame is flipped.")
@click.option(
    "--delay", "delay_ms", type=click.FloatRange(0, 10_000), metavar="MS", help="Delay of every frame."
)
@_probability("--spi-errors", "Chance of a flipped bit, per byte on SPI and direction.")
@click.option("--stuck-cr", is_flag=True, help="Commands stay in the chip's Sn_CR and do nothing.")
@click.option("--brown-out", is_flag=True, help="Once: every register of the chip back to its reset value.")
@_named
def fault(
    out: Output, clear: str | None, stuck_cr: bool, brown_out: bool, name: str | None, **chances
) -> None:
    """Set faults on the wire and in the chip; without options show them. What is not named stays as it is.

    Repeatable: the same --seed of `virtual up` and the same traffic give the same faults.
    """
    wanted = {key: value for key, value in chances.items() if value is not None}
    if stuck_cr:
        wanted["stuck_cr"] = 1.0
    if clear and (wanted or brown_out):
        raise HardwireError(USAGE, "clear goes alone", "hardwire virtual fault clear")
    answer = _board(out, name).ask("fault", clear=bool(clear), brown_out=brown_out, **wanted)
    lines = [f"{key:<11} {value:g}" for key, value in answer["faults"].items()]
    lines += [f"{key:<11} {value} frames" for key, value in answer["counts"].items() if value]
    out.result(answer, *lines)


@command(examples=["hardwire virtual pcap start trace.pcapng", "hardwire virtual pcap stop"])
@click.argument("action", type=click.Choice(["start", "stop"]))
@click.argument("file", required=False)
@_named
def pcap(out: Output, action: str, file: str | None, name: str | None) -> None:
    """Capture the segment's frames into FILE (pcapng, device time in ns), or stop all captures."""
    if (action == "start") != (file is not None):
        raise HardwireError(USAGE, "start needs a file, stop takes none", "hardwire virtual pcap --help")
    answer = _board(out, name).ask("pcap", path=os.path.abspath(file) if file else None)
    if file:
        out.result(answer, f"capturing to {answer['started']}")
    else:
        out.result(answer, *(f"{path} is complete" for path in answer["stopped"]))


@command(
    examples=[
        "hardwire virtual dhcp",
        "hardwire virtual dhcp --lease 20",
        "hardwire virtual dhcp --nak",
        "hardwire virtual dhcp --no-nak --silent",
    ]
)
@click.option(
    "--lease",
    type=click.IntRange(1, FOR_EVER_S),
    metavar="S",
    help=f"Seconds of a lease; {FOR_EVER_S}: for ever.",
)
@click.option("--nak/--no-nak", default=None, help="Refuse every REQUEST.")
@click.option("--silent/--no-silent", default=None, help="Answer nothing.")
@_named
def dhcp(out: Output, lease: int | None, nak: bool | None, silent: bool | None, name: str | None) -> None:
    """Set how the segment's DHCP server behaves; without options show it, its leases and the messages it has seen.

    A board that has a lease comes to know of it when it renews: after half of that lease, or at once after
    `hardwire virtual link down` and `up`.
    """
    from rich.table import Table as Sheet

    answer = _board(out, name).ask("dhcp", lease=lease, nak=nak, silent=silent)
    sheet = Sheet("address", "mac", "left", box=None, pad_edge=False)
    for found in answer["leases"]:
        left = "for ever" if found["left"] is None else f"{found['left']:.0f} s"
        sheet.add_row(found["address"], found["mac"], left)
    behaviour = "silent" if answer["silent"] else "refuses" if answer["nak"] else "answers"
    lines = [f"{behaviour}, leases of {answer['lease']} s"]
    lines += [f"{way} {kind} {count}" for way in ("received", "sent") for kind, count in answer[way].items()]
    out.result(answer, *lines, *([sheet] if answer["leases"] else []))


@command(examples=["hardwire virtual sockets", "hardwire virtual sockets --json"])
@_named
def sockets(out: Output, name: str | None) -> None:
    """Show the chip's eight sockets: state, ports, peer, buffer fill, bytes carried."""
    from rich.table import Table as Sheet

    found = _board(out, name).ask("status")["sockets"]
    sheet = Sheet(*SOCKET_COLUMNS, "rx", "tx", box=None, pad_edge=False)
    for socket in found:
        fill = (f"{socket[side]}/{socket[side + '_size']}" for side in ("rx", "tx"))
        sheet.add_row(*("-" if socket[key] is None else str(socket[key]) for key in SOCKET_COLUMNS), *fill)
    out.result({"sockets": found}, sheet)


@command(examples=["hardwire virtual reset", "hardwire virtual reset --power"])
@click.option("--power", is_flag=True, help="Cut the power instead: the W5500 starts again, too.")
@_named
def reset(out: Output, power: bool, name: str | None) -> None:
    """Press the board's RESET button: RAM is lost, flash stays, the app starts again."""
    answer = _board(out, name).ask("reset", power=power, timeout=60.0)
    out.result(answer, f"reset {answer['resets']} times since the start")
