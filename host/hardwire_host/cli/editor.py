"""A settings file in the user's editor.

In: a `Configuration`. Out: the text of a file that is right, or None. Never: what the user wrote thrown away because it
could not be used; a secret in the editor that was not asked for, where the file can be read.
"""

import contextlib
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from .. import settings
from ..errors import FAILED, USAGE, HardwireError
from ..settings import Configuration

COMMENT = "#"  # begins lines that are not part of the file; no line of JSON does

Ask = Callable[[str, str | None], str]
"""Called with a text and what is wrong with it; returns what the user has made of it."""


def edited(ask: Ask, present: Configuration, reveal: bool) -> str | None:
    """A file's text that is right; None if there is nothing to do."""
    if present.readable:
        given = present.given if reveal else settings.conceal(present.given, present.secrets)
        first = settings.dump(given)
    else:
        first = present.data.decode(errors="replace")
    before, problem = first, present.problem
    while True:
        text = ask(before, problem)
        if not text.strip() or text.strip() == first.strip():
            return None
        try:
            settings.check(settings.restore(text, present))
            return text
        except HardwireError as error:
            if text == before:  # given up, or nobody is there
                raise
            before, problem = text, str(error)


@contextlib.contextmanager
def editor(name: str) -> Iterator[Ask]:
    """A function that lets the user edit a text; what was written is kept when the block fails, and named."""
    folder = Path(tempfile.mkdtemp(prefix="hardwire-"))  # its owner's alone
    path = folder / "config.json"
    kept = False

    def ask(text: str, problem: str | None) -> str:
        nonlocal kept
        path.write_text(_page(name, text, problem), encoding="utf-8")
        # Ctrl-C in the editor is the editor's, but the terminal sends it to this process too.
        before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
        try:
            click.edit(filename=str(path))
        except click.ClickException as error:
            raise HardwireError(FAILED, error.format_message()) from None
        finally:
            signal.signal(signal.SIGINT, before)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise HardwireError(USAGE, f"{path}: not valid UTF-8") from None
        found = "".join(f"{line}\n" for line in lines if not line.startswith(COMMENT))
        kept = kept or found.strip() != text.strip()
        return found

    try:
        yield ask
    except HardwireError as error:
        if kept:
            error.hint = f"{error.hint}; " * bool(error.hint) + f"what you wrote is in {path}"
        else:
            shutil.rmtree(folder)
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def _page(name: str, text: str, problem: str | None) -> str:
    """What the user sees in the editor."""
    head = [f"{name}. Lines that begin with {COMMENT} are not part of it; an empty file changes nothing."]
    if problem is not None:
        head += [f"WRONG: {problem}"]
    foot = ["Keys, and what they are when they are not in the file:"]
    foot += [f"  {key} = {json.dumps(default)}" for key, default in settings.DEFAULTS.items()]
    parts = (
        [f"{COMMENT} {line}" for line in head],
        [text.rstrip("\n")],
        [f"{COMMENT} {line}" for line in foot],
    )
    return "".join(f"{line}\n" for part in parts for line in part)
