"""`hardwire boards [set-address]`: who is on the network, and another address for one of them."""

import ipaddress
import re
from typing import TYPE_CHECKING

import click

from ..errors import TIMEOUT, USAGE, HardwireError
from ..virtual.running import running
from .common import Group, Output, command, read_text

if TYPE_CHECKING:
    from ..clients.discovery import Asker, Board

COLUMNS = ("name", "address", "mode", "MAC", "board", "version", "services", "up", "note")
MAC = re.compile(r"[0-9a-f]{2}([:-]?[0-9a-f]{2}){5}", re.IGNORECASE)
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _ways(function):
    """The options that say where to ask, and how long."""
    function = click.option(
        "--timeout", type=click.FloatRange(0.1, 60), default=3.0, metavar="S", help="How long to wait. [3]"
    )(function)
    return click.option(
        "--host",
        "hosts",
        multiple=True,
        metavar="HOST[:PORT]",
        help="Ask there, also beyond a router, instead of every network of this PC; several are possible.",
    )(function)


def _asker(hosts: tuple[str, ...]) -> "Asker":
    import socket

    from hardwire.wire.discovery import PORT

    from ..clients.discovery import Asker
    from ..target import parse_host

    found = []
    for text in hosts:
        host, port = parse_host(text)
        try:
            found.append((socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0], port or PORT))
        except (OSError, UnicodeError):
            raise HardwireError(USAGE, f"{host}: no IPv4 address is known for it") from None
    return Asker(found)


@click.command(cls=Group, invoke_without_command=True)
@_ways
@click.pass_context
def boards(context: click.Context, hosts: tuple[str, ...], timeout: float) -> None:
    """Ask who is on the network: every board answers, also one with an address of another network.

    Virtual boards without a TAP device are on a network of their own; they are listed with the PC's ports that lead
    to them.
    """
    if context.invoked_subcommand is not None:
        return
    from ..clients.discovery import find

    out: Output = context.obj
    if out.where:
        raise click.UsageError(
            f"{context.command_path} takes no --{next(iter(out.where))} before it", context
        )
    virtual = [] if hosts else [_virtual(board) for board in running()]
    with _asker(hosts) as asker:
        try:
            found = find(asker, timeout)
        except HardwireError:
            if not virtual:
                raise
            found = []  # a PC without a network has its virtual boards
        networks = [interface.network for interface in asker.interfaces if interface.network]
    if hosts and not found:
        raise HardwireError(TIMEOUT, f"{', '.join(hosts)}: no answer", "hardwire doctor --host HOST")
    notes = {board.mac: _note(board, found, networks) for board in found}
    records = [{**board.record(), "note": notes[board.mac]} for board in found]
    if not found and not virtual:
        out.note("no board answered")
    out.result({"boards": records, "virtual": virtual}, *_sheet(found, virtual, notes))


boards.share(
    target=False,
    examples=[
        "hardwire boards",
        "hardwire boards --host 192.168.77.20 --json",
        "hardwire boards set-address 02:00:00:12:34:56 192.168.77.21/24 --key-file plant.key",
    ],
)


def _note(board: "Board", boards: list["Board"], networks: list) -> str:
    """What is wrong with a board's address, "" if nothing is."""
    if not board.address:
        return "has no address"
    twins = [other.name for other in boards if other.address == board.address and other is not board]
    if twins:
        return f"same address as {', '.join(twins)}"
    if networks and not any(ipaddress.ip_address(board.address) in network for network in networks):
        return "in none of this PC's networks"
    return ""


def _virtual(board) -> dict:
    """A virtual board that runs, and where its services are on this PC."""
    names = {port: name for name, port in board.services.items()}
    services = {names.get(way.board_port, str(way.board_port)): str(way) for way in board.forwards}
    return {"name": board.name, "board": board.board, "services": services}


def _sheet(boards: list["Board"], virtual: list[dict], notes: dict[str, str]) -> list:
    if not boards and not virtual:
        return []
    from rich.table import Table as Sheet

    sheet = Sheet(*COLUMNS, box=None, pad_edge=False)
    for board in boards:
        services = " ".join(f"{name}:{port}" for name, port in board.services.items())
        address = f"{board.address}/{board.prefix}" if board.address else "-"
        sheet.add_row(
            *(board.name, address, board.mode, board.mac, board.board, board.version),
            *(services, _duration(board.uptime_s), notes[board.mac]),
        )
    for record in virtual:
        services = " ".join(f"{name}@{way}" for name, way in record["services"].items())
        sheet.add_row(record["name"], "-", "virtual", "-", record["board"], "-", services, "-", "")
    return [sheet]


def _duration(seconds: int) -> str:
    size, unit = next(row for row in UNITS if seconds >= row[0] or row[0] == 1)
    return f"{seconds // size} {unit}"


def _setting(address: str, gateway: str | None):
    from ..clients.discovery import Setting

    if address == "dhcp":
        if gateway is not None:
            raise HardwireError(USAGE, "with dhcp the server tells the gateway")
        return Setting(None)
    if "/" not in address:
        raise HardwireError(USAGE, f"{address}: the size of its network is missing", f"{address}/24")
    try:
        interface = ipaddress.IPv4Interface(address)
        router = ipaddress.IPv4Address(gateway) if gateway is not None else None
    except ValueError as error:
        raise HardwireError(USAGE, str(error)) from None
    network = interface.network
    usable = 8 <= network.prefixlen <= 30 and interface.ip not in (network[0], network[-1])
    first = interface.packed[0]
    if not usable or not 1 <= first <= 223 or first == 127:
        raise HardwireError(USAGE, f"{address} is no address of a host")
    if router is not None and (router not in network or router in (network[0], network[-1], interface.ip)):
        raise HardwireError(USAGE, f"{router} is no neighbour of {address}, so it cannot be its gateway")
    return Setting(interface, router)


def _key(path: str) -> bytes:
    key = read_text(path).strip()
    if not key:
        raise HardwireError(USAGE, f"{path}: there is no key in it")
    return key.encode()


@command(
    examples=[
        "hardwire boards set-address 02:00:00:12:34:56 192.168.77.21/24 --key-file plant.key",
        "hardwire boards set-address 02:00:00:12:34:56 dhcp --key-file plant.key",
    ]
)
@click.argument("mac")
@click.argument("address", metavar="ADDRESS/PREFIX|dhcp")
@click.option("--gateway", metavar="ADDRESS", help="Its way out of the network; none if not given.")
@click.option(
    "--key-file",
    required=True,
    envvar="HARDWIRE_KEY_FILE",
    metavar="FILE",
    help="A text file with the key that the board has too. [$HARDWIRE_KEY_FILE]",
)
@_ways
def set_address(
    out: Output,
    mac: str,
    address: str,
    gateway: str | None,
    key_file: str,
    hosts: tuple[str, ...],
    timeout: float,
) -> None:
    """Give the board with that MAC address another IP address, whatever it has now. It keeps it for good.

    The key never goes over the network. A board without a key refuses.
    """
    if not MAC.fullmatch(mac):
        raise HardwireError(USAGE, f"{mac!r} is no MAC address", "such as 02:00:00:12:34:56")
    wanted = _setting(address, gateway)
    key = _key(key_file)
    from ..clients.discovery import configure

    with _asker(hosts) as asker:
        before = configure(asker, bytes.fromhex(re.sub("[:-]", "", mac)), wanted, key, timeout)
    was = f"{before.address}/{before.prefix}" if before.address else "none"
    data = {"name": before.name, "mac": before.mac, "before": was, "address": address, "gateway": gateway}
    out.result(data, f"{before.name} ({before.mac}): {address}, was {was}")


boards.add_command(set_address)
