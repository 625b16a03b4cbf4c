"""The command `hardwire`: the table of commands, and what happens to their errors.

In: the command line. Out: data on stdout, words on stderr, an exit code of errors.py. Never: a traceback for
anything but a bug, an import of a command that was not asked for.
"""

import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from ..errors import FAILED, INTERRUPTED, OK, HardwireError
from .common import Command, Group, Output, os_error, usage_error

# words, module in this folder, function in it, one line for the list
COMMANDS = (
    ("doctor", "doctor", "doctor", "Check PC, board, chip, link and services."),
    ("deploy", "deploy", "deploy", "Put the firmware on a board: stage, verify, switch, restart."),
    ("config show", "config", "show", "Show the settings of a board."),
    ("config get", "config", "get", "Print one setting."),
    ("config set", "config", "set_", "Change settings."),
    ("config unset", "config", "unset", "Go back to defaults."),
    ("config edit", "config", "edit", "Change settings in an editor."),
    ("config push", "config", "push", "Replace a board's settings by those in a file."),
    ("config pull", "config", "pull", "Copy a board's settings to a file."),
    ("config diff", "config", "diff", "Compare a board's settings with a file."),
    ("boards", "boards", "boards", "Find the boards on the network; give one another address."),
    ("log", "log", "log", "Show the last messages of a board."),
    ("modbus read", "modbus", "read", "Read points by name or number, or a table."),
    ("modbus write", "modbus", "write", "Write points by name or number, or to a table."),
    ("modbus watch", "modbus_watch", "watch", "Show values as they change."),
    ("modbus identify", "modbus_device", "identify", "Ask a Modbus server what it is."),
    ("modbus diag", "modbus_device", "diag", "Show a server's counters and event log."),
    ("modbus map", "modbus_device", "map_", "Fetch the map that a board gives of itself."),
    ("modbus scan", "modbus_scan", "scan", "Find out which units, functions and addresses answer."),
    ("modbus bench", "modbus_bench", "bench", "Measure how fast a server answers."),
    ("map check", "map", "check", "Look for mistakes in a map, and say what it takes."),
    ("map build", "map", "build", "Make map.bin, which a board reads."),
    ("map docs", "map", "docs", "Make a page of a map."),
    ("map csv", "map", "csv", "Make a table of a map, for other tools."),
    ("fs ls", "fs", "ls", "List what is in folders."),
    ("fs tree", "fs", "tree", "Show a folder and all that is in it."),
    ("fs get", "fs_copy", "get", "Copy files to this PC."),
    ("fs put", "fs_copy", "put", "Copy files to one board, or to several."),
    ("fs rm", "fs", "rm", "Remove files and folders."),
    ("fs mv", "fs", "mv", "Rename files and folders, or move them."),
    ("fs mkdir", "fs", "mkdir", "Make folders."),
    ("fs cat", "fs", "cat", "Write what is in files to standard output."),
    ("fs df", "fs", "df", "Show how much is used, and how much is free."),
    ("fs hash", "fs", "hash_", "Show the SHA-256 of files."),
    ("fs sync", "fs_sync", "sync", "Make a folder there like one here, or the other way round."),
    ("fs watch", "fs_sync", "watch", "Sync whenever something changes here."),
    ("fs serve", "fs_serve", "serve", "Offer a folder of this PC by the same protocol."),
    ("virtual up", "virtual", "up", "Start a virtual board."),
    ("virtual status", "virtual", "status", "Show the virtual boards that run."),
    ("virtual down", "virtual", "down", "Stop a virtual board."),
    ("virtual link", "wire", "link", "Plug the board's Ethernet cable in, or pull it."),
    ("virtual fault", "wire", "fault", "Lose, double, swap or damage frames; disturb the chip."),
    ("virtual pcap", "wire", "pcap", "Capture the segment's frames for Wireshark."),
    ("virtual dhcp", "wire", "dhcp", "Make the segment's DHCP server refuse, keep silent, lease briefly."),
    ("virtual sockets", "wire", "sockets", "Show the chip's eight sockets."),
    ("virtual reset", "wire", "reset", "Reset the board, or cut its power."),
    ("bench", "bench", "bench", "Device time beside the stock library, and the virtual board's wall time."),
)
GROUPS = {
    "config": "Read and change the settings of a board, or of a file.",
    "fs": "Files of a board: over the network, or over USB serial.",
    "map": "Describe a device: the names, addresses and types of its data.",
    "modbus": "Talk to a Modbus-TCP server, ours or any other.",
    "virtual": "Run boards that need no hardware.",
}
EXAMPLES = (
    "hardwire virtual up --detach             a board without hardware",
    "hardwire modbus read holding 0 10        ten holding registers of the one board there is",
    "hardwire modbus write led=on             its LED, by the name that its map has",
    "hardwire doctor --host 192.168.77.20     what works and what does not",
    "hardwire deploy --port /dev/ttyACM0      put the firmware on a real board",
)


class Table(Group):
    """A group: the rows of COMMANDS that start with `words`. A row's module is imported when it is used."""

    def __init__(self, words: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._words = words

    def _rows(self) -> dict[str, tuple[str, str, str] | None]:
        rows = {}
        for words, module, function, line in COMMANDS:
            before, _, name = words.rpartition(" ")
            if before == self._words:
                rows[name] = (module, function, line)
            elif not self._words:
                rows[before] = None  # a group
        return rows

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._rows())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        rows = self._rows()
        if cmd_name not in rows:
            return None
        if rows[cmd_name] is None:
            group = Table(cmd_name, name=cmd_name, help=GROUPS[cmd_name], **BARE)
            group.share(target=False, examples=())
            return group
        module, function, _ = rows[cmd_name]
        found: Command = getattr(import_module(f".{module}", __name__), function)
        found.name = cmd_name
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = self._rows()
        with formatter.section("Commands"):
            formatter.write_dl([(name, rows[name][2] if rows[name] else GROUPS[name]) for name in rows])


@click.pass_context
def _help_if_bare(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        ctx.obj.result({"commands": ctx.command.list_commands(ctx)}, ctx.get_help())


BARE = {"invoke_without_command": True, "callback": _help_if_bare}


def _root() -> Table:
    root = Table(
        name="hardwire",
        help="MicroPython boards with a W5500: deploy, talk to, check, and run them without hardware.",
        **BARE,
    )
    root.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Show the version.",
        )
    )
    root.share(target=True, examples=EXAMPLES)
    return root


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        ctx.obj.result({"version": version("hardwire")}, f"hardwire {version('hardwire')}")
        ctx.exit()


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    out = Output()
    # Wherever the command line is wrong, its reader may be a program.
    out.json = "--json" in arguments
    try:
        result = _root().main(arguments, prog_name="hardwire", standalone_mode=False, obj=out)
        sys.stdout.flush()
        return result if isinstance(result, int) else OK
    except HardwireError as error:
        if out.verbose > 1:
            raise
        return out.fail(error)
    except click.UsageError as error:
        return out.fail(usage_error(error))
    except click.ClickException as error:
        return out.fail(HardwireError(FAILED, error.format_message()))
    except (KeyboardInterrupt, click.Abort):
        return out.fail(HardwireError(INTERRUPTED, "interrupted"))
    except BrokenPipeError:
        # Whoever read stdout has enough. Python flushes it once more at exit: that must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return out.fail(os_error(error))
    except Exception as error:
        if out.json:
            out.fail(HardwireError(FAILED, f"internal error: {error!r}", "this is a bug"))
        raise


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
