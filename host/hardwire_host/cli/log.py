"""`hardwire log`: the last messages of a board, while its app runs."""

from typing import TYPE_CHECKING

import click

from hardwire import log as board_log

from ..errors import MODBUS, HardwireError
from .common import Output, command
from .modbus_common import Server, server_options, shown

if TYPE_CHECKING:
    from ..clients.modbus import ModbusClient

FILE = 0xFFFF  # of Modbus function 14
RECORDS = (board_log.LONGEST + board_log.STAMP) // 2  # of a message


@command(target=True, examples=["hardwire log", "hardwire log --level warning --host 192.168.77.20"])
@click.option(
    "--level", type=click.Choice(board_log.NAMES), default=board_log.NAMES[0], help="Least level shown."
)
@server_options
def log(out: Output, level: str, server: Server) -> None:
    """Show the messages that a board keeps, oldest first: the last 32 since it started.

    Times are milliseconds since start, or UTC once the board knows the time. They come by Modbus function 14; the app
    is not disturbed.
    """
    with server.connect(out) as client:
        messages = _messages(client)
    least = board_log.NAMES.index(level)
    found = [message for message in messages if board_log.NAMES.index(message["level"]) >= least]
    out.result({"messages": found}, *(shown(f"{m['time']} {m['level']}: {m['text']}") for m in found))


def _messages(client: "ModbusClient") -> list[dict]:
    messages = []
    try:
        for number in range(board_log.RING):
            data = client.read_records(FILE, number * RECORDS, RECORDS).rstrip(b"\0")
            if not data:
                break
            time, _, rest = data.decode(errors="replace").partition(" ")
            level, _, text = rest.partition(": ")
            if level not in board_log.NAMES:
                level, text = board_log.NAMES[1], rest
            messages.append({"time": time, "level": level, "text": text})
    except HardwireError as error:
        if error.code == MODBUS:
            error.hint = "not a hardwire board, or an older firmware"
        raise
    return messages
