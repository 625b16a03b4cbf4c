"""What every command shares: options, output, errors.

A command is a function of `Output` and its own parameters:

    @command(examples=["hardwire modbus read holding 0 10"], target=True)
    @click.argument("table")
    def read(out, table):
        target = out.find(NETWORK)          # a hardwire_host.target.Target, or HardwireError
        out.note("reading ...")             # stderr, not with --json
        out.result({"values": values}, lines)

Rules: data on stdout, everything else on stderr. `out.result` is called once, at the end or when ready;
what fails raises HardwireError. With --json stdout gets exactly one line: one object whose first keys are
the envelope (`schema`, `ok`, `tool`, `target`, `error`) and whose other keys are the command's data, at top
level.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FAILED, INTERRUPTED, USAGE, HardwireError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..target import Target, Where

SCHEMA = 1  # version of the envelope; it changes only when a key changes its meaning or goes
PIPE_SIZE = 4096, 25  # columns and rows when stdout is no terminal: whoever reads a pipe wants whole lines
LOG_LEVELS = (logging.CRITICAL, logging.INFO, logging.DEBUG)  # none, -v, -vv
COLORS = ("auto", "always", "never")


def _colored(stream: Any, when: str) -> bool:
    """Flag over NO_COLOR (no-color.org) over FORCE_COLOR over "is it a terminal that can"."""
    if when != "auto":
        return when == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Output:
    """Where a command's words go, and what was asked of all commands alike."""

    def __init__(self) -> None:
        self.json = False
        self.verbose = 0
        self.color = "auto"
        self.where: dict[str, str | None] = {}
        self.command = "hardwire"
        self.target: Target | None = None

    def console(self, stream: Any) -> "Console":
        """A rich console on `stream` with the colours that were asked for."""
        from rich.console import Console

        colored = _colored(stream, self.color)
        width, height = (None, None) if stream.isatty() else PIPE_SIZE
        return Console(
            file=stream,
            force_terminal=colored,
            color_system="standard" if colored else None,
            no_color=not colored,
            width=width,
            height=height,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def find(self, need: str = "any") -> "Target":
        """The board that is meant (see target.resolve); from here on it stands in the envelope."""
        from ..target import resolve

        self.target = resolve(self.flags(), need)
        return self.target

    def flags(self) -> "Where":
        """--port, --host and --virtual as given."""
        from ..target import Where

        return Where(**self.where)

    def note(self, text: str) -> None:
        """One line for the person who waits: stderr, silent with --json."""
        if not self.json:
            print(text, file=sys.stderr, flush=True)

    def show(self, *parts: "RenderableType") -> None:
        """Data for people: stdout, silent with --json."""
        if self.json:
            return
        if all(isinstance(part, str) for part in parts):  # plain text does without rich, 60 ms of import
            text = "".join(f"{part}\n" for part in parts)
        else:
            console = self.console(sys.stdout)
            with console.capture() as capture:
                console.print(*parts, sep="\n")
            text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())  # cells are padded
        sys.stdout.write(text)
        sys.stdout.flush()

    def result(self, data: dict, *parts: "RenderableType") -> None:
        """The command's data: `parts` for people, or `data` in the envelope with --json."""
        self.show(*parts)
        if self.json:
            self._emit(True, data, None)

    def fail(self, error: HardwireError) -> int:
        """Say what failed in one line; returns the exit code."""
        if self.json:
            details = {"code": error.code, "message": error.message, "hint": error.hint}
            self._emit(False, error.data, details)
        else:
            print(f"hardwire: {error}", file=sys.stderr, flush=True)
        return error.code

    def _emit(self, ok: bool, data: dict, error: dict | None) -> None:
        envelope = {
            "schema": SCHEMA,
            "ok": ok,
            "tool": self.command,
            "target": self.target.name if self.target else None,
            "error": error,
        }
        print(json.dumps(envelope | data), flush=True)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:  # not given here: what stands before the command stays
            setattr(context.ensure_object(Output), name, value)

    return callback


def _set_where(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Output).where[parameter.name] = value


def _common_options() -> list[click.Option]:
    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_set(names[-1].lstrip("-")), **settings)

    return [
        option("--json", is_flag=True, help="One JSON object on stdout, nothing else there."),
        option("-v", "--verbose", count=True, help="Say what happens, on stderr; -vv for all of it."),
        option("--color", type=click.Choice(COLORS), help="Colours; auto heeds NO_COLOR and FORCE_COLOR."),
    ]


def _target_options() -> list[click.Option]:
    def option(name: str, **settings: Any) -> click.Option:
        return click.Option([name], expose_value=False, callback=_set_where, **settings)

    return [
        option(
            "--port",
            metavar="PORT",
            help="Serial port: /dev/ttyACM0, COM5, a0, id:SERIAL, a PTY. [$HARDWIRE_PORT]",
        ),
        option("--host", metavar="HOST[:PORT]", help="Network address of the board. [$HARDWIRE_HOST]"),
        option(
            "--virtual",
            metavar="[NAME]",
            is_flag=False,
            flag_value="",
            help="The virtual board that runs, or NAME.",
        ),
    ]


class _Shared(click.Command):
    """A command or group with the shared options, and examples on its help page."""

    takes_target = False
    examples: tuple[str, ...] = ()

    def share(self, *, target: bool, examples: Iterable[str]) -> None:
        self.takes_target = target
        self.examples = tuple(examples)
        self.params += (_target_options() if target else []) + _common_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self.takes_target:
            args = self._bare_virtual(args)
        return super().parse_args(ctx, args)

    def _bare_virtual(self, args: list[str]) -> list[str]:
        # --virtual takes the next word only if that can be nothing but a name: that of a virtual board that
        # runs, or any word for a command without arguments of its own. `--virtual=NAME` is always a name.
        if "--virtual" not in args[:-1]:
            return args
        at = args.index("--virtual")
        word = args[at + 1]
        positional = isinstance(self, click.Group) or any(isinstance(p, click.Argument) for p in self.params)
        if word.startswith("-"):
            return args
        if positional:
            from ..virtual.running import running

            if word not in {board.name for board in running()}:
                return [*args[:at], "--virtual=", *args[at + 1 :]]
        return [*args[:at], f"--virtual={word}", *args[at + 2 :]]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(" " * formatter.current_indent + example + "\n")


class Command(_Shared):
    """A command of the table."""

    def invoke(self, ctx: click.Context) -> Any:
        out = ctx.ensure_object(Output)
        out.command = ctx.command_path
        logging.basicConfig(
            level=LOG_LEVELS[min(out.verbose, len(LOG_LEVELS) - 1)],
            stream=sys.stderr,
            format="%(asctime)s %(name)s: %(message)s",
        )
        if out.where and not self.takes_target:
            raise click.UsageError(f"{ctx.command_path} takes no --{next(iter(out.where))}", ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would print an empty line
            raise HardwireError(INTERRUPTED, "interrupted") from None


class Group(_Shared, click.Group):
    """The root, or a first word such as `modbus`."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(Output).command = ctx.command_path
        return super().invoke(ctx)


def command(
    *, examples: Iterable[str], target: bool = False, **settings: Any
) -> Callable[[Callable], Command]:
    """Make a command of a function whose first parameter is `Output`; its docstring is the help text.

    Args:
        examples: command lines for the help page.
        target: whether --port, --host and --virtual are offered.
    """

    def decorate(function: Callable) -> Command:
        made = click.command(cls=Command, **settings)(click.pass_obj(function))
        made.share(target=target, examples=examples)
        return made

    return decorate


def usage_error(error: click.UsageError) -> HardwireError:
    """click's complaint as one of ours."""
    message = error.format_message().rstrip(".")
    return HardwireError(
        USAGE, message, f"{error.ctx.command_path} --help" if error.ctx else "hardwire --help"
    )


def os_error(error: OSError) -> HardwireError:
    """A file that cannot be read or written, as one of ours."""
    what = f"{error.filename}: " if error.filename else ""
    return HardwireError(FAILED, f"{what}{error.strerror or error}")


def board_module(name: str | None) -> str | None:
    """The module in boards/ that a user means: "W5500-EVB-Pico" is w5500_evb_pico."""
    return name.lower().replace("-", "_") if name else None


def read_text(path: str) -> str:
    """A text file that the user named. Raises HardwireError(USAGE)."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise HardwireError(USAGE, f"{path}: not valid UTF-8") from None
    except OSError as error:
        raise HardwireError(USAGE, f"{path}: {(error.strerror or str(error)).lower()}") from None
