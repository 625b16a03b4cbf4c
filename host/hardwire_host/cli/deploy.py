"""`hardwire deploy`: the words around deploy.py."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from hardwire.config import ConfigError, defaults, parse

from .. import deploy as work
from .. import health, keys
from ..bundle import Bundle
from ..deploy import Plan
from ..errors import INTERRUPTED, TIMEOUT, HardwireError
from ..target import REPL, Target
from .common import Output, board_module, command, read_text

WAIT_VIRTUAL_S = 300.0  # an emulated boot takes 10 to 20 s of an idle PC; a crashed app ends it early
WAIT_REAL_S = 20.0  # link and DHCP take 2 to 6 s
MARKS = (("+", "new"), ("~", "changed"), ("-", "stale"))


@command(
    target=True,
    examples=[
        "hardwire deploy",
        "hardwire deploy --port /dev/ttyACM0 --board w5500_evb_pico",
        "hardwire deploy --app plant/app.py --config plant.json",
        "hardwire deploy --dry-run --json",
    ],
)
@click.option(
    "--board", metavar="NAME", help="Board file in boards/; without it what the board's settings say."
)
@click.option("--app", metavar="PATH", help="Your app: a file, or a folder with app.py and its modules.")
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    help="New settings for the board, JSON; kept as they are without.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what would change and change nothing (the app is restarted)."
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    metavar="S",
    help="For the services to answer (20; virtual: 300).",
)
def deploy(
    out: Output,
    board: str | None,
    app: str | None,
    config_file: str | None,
    dry_run: bool,
    wait: float | None,
) -> None:
    """Put this firmware on a board, without ever leaving it with half a version.

    Compiles to .mpy, fills the tree that is not running with what differs, verifies it on flash, switches,
    restarts, and waits until the services answer. Killed or unplugged at any moment, the board boots the old
    or the new version.
    """
    start = time.monotonic()
    target = out.find(REPL)
    with _progress(out) as (planned, progress):
        outcome = work.deploy(
            target,
            board=board_module(board),
            app=Path(app) if app is not None else None,
            config_text=read_text(config_file) if config_file is not None else None,
            dry_run=dry_run,
            planned=planned,
            progress=progress,
        )
    plan = outcome.plan
    if outcome.warning:
        out.note(f"warning: {outcome.warning}")
    data = {
        "board": outcome.bundle.board,
        "slot": outcome.slot,
        "before": outcome.before.active,
        "up_to_date": plan.up_to_date,
        "dry_run": dry_run,
        "files": {"new": plan.new, "changed": plan.changed, "stale": plan.stale, "same": len(plan.same)},
        "sent": plan.send,
        "copied": plan.copy,
        "files_key": outcome.key_is,
    }
    summary = f"+{len(plan.new)} ~{len(plan.changed)} ={len(plan.same)} -{len(plan.stale)}"
    if dry_run:
        lines = [f"{mark} {path}" for mark, name in MARKS for path in getattr(plan, name)]
        out.result(data, *lines, f"{target.name}: {summary}, nothing was written")
        return
    if outcome.key_is in ("made", "learned"):
        out.note(f"files: the key was {outcome.key_is}; it is in {keys.path()}")
    data["services"] = _wait(out, target, outcome.config_text, wait)
    data["seconds"] = round(time.monotonic() - start, 1)
    done = "up to date" if plan.up_to_date else summary
    out.result(data, f"{target.name}: {done}, runs slot {outcome.slot} ({data['seconds']} s)")


@contextmanager
def _progress(out: Output) -> Iterator[tuple]:
    """The two callbacks of deploy.deploy: a bar on a terminal, else a line per file."""
    if out.json or not sys.stderr.isatty():

        def planned(plan: Plan, _bundle: Bundle) -> None:
            send, copy, keep = len(plan.send), len(plan.copy), len(plan.keep)
            out.note(f"{send} files to send, {copy} to copy on the board, {keep} in place")

        yield planned, lambda what, path, size: out.note(f"{what:<6} {path} ({size} bytes)")
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<44}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out.console(sys.stderr), transient=True) as bar:
        task = bar.add_task("asking the board", total=None)

        def begin(plan: Plan, bundle: Bundle) -> None:
            total = sum(len(bundle.files[path]) for path in plan.send + plan.copy)
            bar.update(task, total=total, description="switching" if not total else "writing")

        def step(what: str, path: str, size: int) -> None:
            bar.update(task, advance=size, description=f"{what} {path}")

        yield begin, step


def _wait(out: Output, target: Target, config_text: str, wait: float | None) -> dict:
    """Wait for the services. Returns {name: {"address", "answers"}}, None where this PC cannot know."""
    try:
        settings = parse(config_text)
    except ConfigError:
        settings = defaults()  # so does the board
    places = health.endpoints(target, settings)
    known = {name: place for name, place in places.items() if place is not None}
    for name in places.keys() - known.keys():
        out.note(f"warning: how this PC reaches {name} is not known, so it was not asked")
    if wait is None:
        wait = WAIT_VIRTUAL_S if target.board else WAIT_REAL_S
    silent = {}
    if known and wait:
        out.note(f"waiting for {', '.join(f'{name} at {_text(place)}' for name, place in known.items())}")
        silent = _ask(out, target, known, wait)
    return {
        name: {
            "address": place and _text(place),
            "answers": name not in silent if name in known and wait else None,
        }
        for name, place in places.items()
    }


def _ask(out: Output, target: Target, known: dict, wait: float) -> dict:
    try:
        silent = health.wait_for(known, wait, target)
    except KeyboardInterrupt:
        raise HardwireError(
            INTERRUPTED, "interrupted while waiting: the new version is in place and started"
        ) from None
    if silent:
        if error := health.why_silent(target):
            raise HardwireError(
                error.code, f"deployed, but the app does not run: {error.message}", error.hint
            )
        which = ", ".join(f"{name} at {_text(place)}" for name, place in silent.items())
        message = f"deployed, but {which} did not answer within {wait:g} s"
        if target.board is not None or target.host is not None:
            raise HardwireError(TIMEOUT, message, "hardwire doctor")
        out.note(f"warning: {message}; is this PC on the board's network?")
    return silent


def _text(place: tuple[str, int]) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
