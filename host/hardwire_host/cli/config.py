"""`hardwire config show|get|set|unset|edit|push|pull|diff`: the words around settings.py and settings_store.py."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hardwire.config import MAX_BYTES

from .. import settings
from ..errors import FAILED, USAGE, HardwireError
from ..settings import HIDDEN, UNSET, Configuration, as_text
from .common import Output, command, read_text
from .editor import edited, editor

if TYPE_CHECKING:
    from ..settings_store import Change, Store

STDIO = "-"  # as a file's name
DIFFERENT = 1  # diff(1)
TROUBLE = 2  # diff(1); elsewhere some of it would be 1


# Options and arguments


def _keys(_context: click.Context, _parameter: click.Parameter, start: str) -> list[str]:
    return [key for key in settings.RULES if key.startswith(start)]


_file = click.option(
    "--file", "path", metavar="FILE", help="A settings file on this PC, instead of a board's."
)
_reveal = click.option("--reveal", is_flag=True, help="Show secrets too.")
_origin = click.option("--origin", is_flag=True, help="Say whether a value is from the file or the default.")
_no_restart = click.option(
    "--no-restart", is_flag=True, help="Leave the app stopped; its next start takes the new settings."
)


def _store(out: Output, path: str | None) -> "Store":
    """What the user means. Raises HardwireError."""
    from ..settings_store import BoardFile, LocalFile
    from ..target import REPL

    if path is None:
        return BoardFile(out.find(REPL))
    if out.flags():
        raise HardwireError(USAGE, "--file excludes --port, --host and --virtual")
    return LocalFile(path)


def _text(path: str) -> str:
    """The content of a file that the user named, or of stdin."""
    if path != STDIO:
        return read_text(path)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise HardwireError(USAGE, "stdin: not valid UTF-8") from None


def _warn(out: Output, store: "Store", present: Configuration) -> None:
    if warning := present.warning():
        out.note(f"warning: {store.name}: {warning}")


# Looking


@command(
    target=True,
    examples=[
        "hardwire config show",
        "hardwire config show --origin --port /dev/ttyACM0",
        "hardwire config show --file plant.json --json",
    ],
)
@_origin
@_reveal
@_file
def show(out: Output, origin: bool, reveal: bool, path: str | None) -> None:
    """Show every setting in use: the board's file, and the defaults for what it does not say.

    A board's app is interrupted for that, and starts again.
    """
    store = _store(out, path)
    present = store.read()
    _warn(out, store, present)
    values = {key: present.shown(key, reveal) for key in present.effective}
    data = {
        "file": store.name,
        "problem": present.problem,
        "settings": settings.nest(values),
        "origins": {key: present.origin(key) for key in values},
    }
    width = max(map(len, values))
    lines = []
    for key, value in values.items():
        where = f"{present.origin(key):<8}" if origin else ""
        lines.append(f"{where}{key:<{width}}  {as_text(value)}")
    out.result(data, *lines)


@command(
    target=True,
    examples=["hardwire config get network.address", "hardwire config get services.modbus.port --origin"],
)
@click.argument("key", shell_complete=_keys)
@_origin
@_reveal
@_file
def get(out: Output, key: str, origin: bool, reveal: bool, path: str | None) -> None:
    """Print the value in use for KEY and nothing else: text as it is, other values as JSON."""
    settings.require_key(key)
    store = _store(out, path)
    present = store.read()
    _warn(out, store, present)
    if key not in present.effective:
        raise HardwireError(FAILED, f"the firmware on {out.target.name} has no {key}", "hardwire deploy")
    value = present.shown(key, reveal)
    if value == HIDDEN:
        raise HardwireError(FAILED, f"{key} is a secret", "--reveal prints it")
    where = present.origin(key)
    out.result(
        {"key": key, "value": value, "origin": where, "problem": present.problem},
        f"{where}\t{as_text(value)}" if origin else as_text(value),
    )


@command(
    target=True,
    examples=["hardwire config diff plant.json", "hardwire config diff - --virtual < plant.json"],
)
@click.argument("new", metavar="FILE")
@_reveal
@_file
def diff(out: Output, new: str, reveal: bool, path: str | None) -> int:
    """Show what `config push FILE` would change; exit code 1 if anything, 2 for trouble.

    Lines with - are the board's, lines with + are FILE's; a key that is not in a file has its default.
    """
    try:
        text = _text(new)
        store = _store(out, path)
        present = store.read()
        text = settings.restore(text, present)
        settings.check(text)
    except HardwireError as error:
        error.code = TROUBLE if error.code == DIFFERENT else error.code
        raise
    _warn(out, store, present)
    found = settings.differences(present, settings.read(text.encode()), reveal)
    lines = [f"--- {store.name}", f"+++ {new}"]
    for each in found:
        lines += [f"-{each.key}={as_text(each.before)}", f"+{each.key}={as_text(each.after)}"]
    data = {"different": bool(found or present.problem), "differences": [asdict(each) for each in found]}
    out.result(data | {"problem": present.problem}, *(lines if found else ()))
    return DIFFERENT if data["different"] else 0


@command(
    target=True,
    examples=[
        "hardwire config pull plant.json",
        "hardwire config pull --port /dev/ttyACM0 > plant.json",
    ],
)
@click.argument("to", metavar="[FILE]", default=STDIO)
@_reveal
@_file
def pull(out: Output, to: str, reveal: bool, path: str | None) -> None:
    """Copy the board's settings file to FILE, as it is, secrets included; without FILE, or for -, print it.

    Printed, each secret is {"hidden": true}; a file with that in it can be pushed to the same board, whose secrets
    stay as they are.
    """
    from ..settings_store import has_secrets, write_file

    store = _store(out, path)
    present = store.read()
    _warn(out, store, present)
    data = present.data if present.data is not None else settings.dump({}).encode()
    if len(data) > MAX_BYTES:  # a board was asked for no more
        raise HardwireError(FAILED, f"{store.name}: {present.problem}", "`mpremote cp` copies any file")
    if to != STDIO:
        write_file(Path(to), data, private=has_secrets(present))
        out.result({"file": to, "bytes": len(data), "problem": present.problem}, f"{store.name} -> {to}")
        return
    if not reveal and has_secrets(present):
        if not present.readable:
            raise HardwireError(
                FAILED,
                f"{store.name} cannot be read, so nobody knows what in it is secret",
                "--reveal prints it all the same; `config pull FILE` keeps it",
            )
        data = settings.dump(settings.conceal(present.given, present.secrets)).encode()
        out.note("secrets are left out; --reveal prints them")
    text = data.decode(errors="replace")
    out.result({"file": None, "text": text, "problem": present.problem}, text.removesuffix("\n"))


# Changing


def _apply(out: Output, store: "Store", change: "Change", no_restart: bool) -> None:
    """Change the file, say what changed and where the board goes."""
    from ..settings_store import LocalFile

    def checked(present: Configuration) -> str | None:
        _warn(out, store, present)
        text = change(present)
        if text is not None:
            settings.check(text)
        return None if text is None or text.encode() == present.data else text

    done = store.update(checked, restart=not no_restart)
    local = isinstance(store, LocalFile)
    found = settings.differences(done.before, done.after)
    moves = [] if local else settings.moves(done.before, done.after)
    if not done.written:
        out.note("nothing to change")
    elif not done.before.readable and not done.before.given:
        out.note(f"{store.name} was not readable; all of it was replaced")
    for text in moves:
        out.note(text)
    if not local and no_restart:
        out.note("the app is stopped; a reset of the board starts it, Ctrl-D at its REPL too")
    data = {
        "file": store.name,
        "written": done.written,
        "changed": [asdict(each) for each in found],
        "moves": moves,
        "problem": done.before.problem,
        "restarted": not local and not no_restart,
    }
    out.result(data, *(f"{each.key}: {as_text(each.before)} -> {as_text(each.after)}" for each in found))


def _assignment(text: str) -> tuple[str, object]:
    key, equals, word = text.partition("=")
    if not equals:
        raise HardwireError(USAGE, f"{text!r} is no KEY=VALUE", f"{key}=VALUE; `hardwire config get` reads")
    if key in settings.SECRETS and word.startswith("@"):
        word = _text(word[1:]).strip()
    return key, settings.typed(key, word)


@command(
    target=True,
    examples=[
        "hardwire config set network.mode=dhcp name=press-4",
        "hardwire config set services.modbus.allow=10.0.0.0/24,10.0.1.7",
        "hardwire config set key=@plant.key",
        "hardwire config set services.modbus.port=1502 --file plant.json",
    ],
)
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True, shell_complete=_keys)
@_no_restart
@_file
def set_(out: Output, assignments: tuple[str, ...], no_restart: bool, path: str | None) -> None:
    """Give settings other values, all or none of them. The board's app restarts with them.

    A VALUE is text, or JSON where the key wants no text (a number, null); lists are words with commas between. The
    value of a secret may be @FILE: its content is that of FILE, and does not stay in the shell's history.

    This PC checks every value before it asks the board, and the board checks the whole file before it takes it.
    """
    changes = dict(_assignment(text) for text in assignments)
    _apply(out, _store(out, path), lambda present: _changed(present, changes), no_restart)


@command(
    target=True,
    examples=["hardwire config unset network.mac", "hardwire config unset services.modbus"],
)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=_keys)
@_no_restart
@_file
def unset(out: Output, keys: tuple[str, ...], no_restart: bool, path: str | None) -> None:
    """Go back to the default of KEY, or of a whole group of keys, by taking it out of the file."""

    def change(present: Configuration) -> str | None:
        for key in keys:
            if settings.find(present.given, key) is UNSET and not settings.is_section(key):
                settings.require_key(key)  # what is in the file and no key of ours can go, too
        return _changed(present, dict.fromkeys(keys, UNSET))

    _apply(out, _store(out, path), change, no_restart)


def _changed(present: Configuration, changes: dict) -> str | None:
    given = settings.change(present.given, changes)
    if given == present.given and present.readable:
        return None
    text = settings.dump(given)
    try:
        settings.check(text)
    except HardwireError as error:
        if present.problem is not None:  # it was there before
            error.hint = "`hardwire config edit` or `unset` mends what is in the file"
        raise
    return text


@command(
    target=True,
    examples=[
        "hardwire config push plant.json",
        "hardwire config push - --port /dev/ttyACM0 < plant.json",
        "hardwire config push --map plant.toml",
    ],
)
@click.argument("new", metavar="[FILE]", required=False)
@click.option(
    "--map", "map_file", metavar="FILE", help="The device's map, TOML or map.bin, instead of settings."
)
@click.option("--default-map", is_flag=True, help="Take the board's own map away: the one of its app counts.")
@_no_restart
@_file
def push(
    out: Output, new: str | None, map_file: str | None, default_map: bool, no_restart: bool, path: str | None
) -> None:
    """Replace the board's settings file by FILE (- is stdin). What is not in FILE goes back to its default.

    With --map: its map. The board tries it first. Retained values are lost if retained addresses change.
    """
    if (new is not None) + (map_file is not None) + default_map != 1:
        raise HardwireError(USAGE, "give settings, FILE, or --map FILE, or --default-map")
    if new is None:
        _push_map(out, map_file, no_restart, path)
        return
    text = _text(new)
    if not settings.has_hidden(text):
        settings.check(text)  # before the board is disturbed
    _apply(out, _store(out, path), lambda present: settings.restore(text, present), no_restart)


def _push_map(out: Output, map_file: str | None, no_restart: bool, path: str | None) -> None:
    from ..map.build import build
    from ..map_store import put
    from ..target import REPL
    from .map import load

    if path is not None:
        raise HardwireError(USAGE, "--file is for settings", "hardwire map build writes a map.bin")
    data = build(load(map_file)) if map_file is not None else None
    place = put(out.find(REPL), data, restart=not no_restart)
    size = len(data) if data is not None else None
    what = f"{place}: {size} bytes" if data is not None else f"{place} is away: the map of the app counts"
    out.result({"file": place, "bytes": size, "restarted": not no_restart}, what)


@command(target=True, examples=["hardwire config edit", "EDITOR=nano hardwire config edit --virtual"])
@_reveal
@_no_restart
@_file
def edit(out: Output, reveal: bool, no_restart: bool, path: str | None) -> None:
    """Open the board's settings file in $VISUAL or $EDITOR, check it, and push it. The app runs meanwhile.

    What is wrong is said at the top of the file, and the editor opens again. An empty or unchanged file changes
    nothing. A secret that stays {"hidden": true} stays what it is.
    """
    from ..settings_store import LocalFile

    store = _store(out, path)
    try:
        present = store.read()
    except HardwireError:
        if not isinstance(store, LocalFile):
            raise
        present = settings.read(None)
    with editor(store.name) as ask:
        text = edited(ask, present, reveal)
        if text is None:
            out.note("nothing to change")
            out.result({"file": store.name, "written": False, "changed": [], "problem": present.problem})
            return

        def change(now: Configuration) -> str:
            if now.data != present.data:
                raise HardwireError(FAILED, f"{store.name} has been changed by somebody else meanwhile")
            return settings.restore(text, present)

        _apply(out, store, change, no_restart)
