"""A board's settings as the PC handles them: keys by path, values from text, what a file says, what differs.

In: a settings file's text; keys as dotted paths ("network.mode"), values as words. Out: a `Configuration`; the
content of a new file. Never: I/O; a key, default or limit of its own: they are those of hardwire.config, and for a
board those of the firmware it runs.

`given` is what a file says, nested, and may be anything that JSON can hold. `effective` is complete and flat: path ->
value. Where `given` leaves this PC without being asked for with --reveal, secrets in it are replaced by HIDDEN; a file
that comes back with HIDDEN in it means the value that is there. hardwire.config takes HIDDEN for no key, so such a
file can do no harm elsewhere.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from hardwire import config
from hardwire.config import ConfigError

from .errors import USAGE, HardwireError

SECRET_CHECK = config.secret  # what marks a key of SCHEMA as a secret: that this is its check
HIDDEN = {"hidden": True}  # in place of a secret
FILE, DEFAULT = "file", "default"  # where a value comes from
UNSET = object()  # as a new value: the key goes, its default counts


def flatten(tree: dict, path: str = "") -> dict[str, Any]:
    """Nested sections -> {dotted path: leaf}; also for SCHEMA."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value != HIDDEN:
            found |= flatten(value, f"{path}{key}.")
        else:
            found[path + key] = value
    return found


RULES = flatten(config.SCHEMA)
DEFAULTS = {path: rule[0] for path, rule in RULES.items()}
SECRETS = frozenset(path for path, rule in RULES.items() if rule[1] is SECRET_CHECK)


@dataclass(frozen=True)
class Configuration:
    """A settings file, and what its reader makes of it.

    data: the file's bytes, None if there is no file. given: what it says, {} if that cannot be read. effective: by
    path, in use. problem: why some or all of the file is not used, None if nothing is wrong. secrets: paths.
    """

    data: bytes | None
    given: dict
    effective: dict[str, Any]
    problem: str | None
    secrets: frozenset[str] = SECRETS

    @property
    def readable(self) -> bool:
        """Whether it is JSON with sections at all, so that parts of it can be kept."""
        return self.data is None or _object(self.data) is not None

    @property
    def ignored(self) -> bool:
        """Whether nothing of the file is used."""
        return self.problem is not None and all(
            value == DEFAULTS.get(path, value) for path, value in self.effective.items()
        )

    def origin(self, path: str) -> str:
        """FILE or DEFAULT: where the value in use comes from."""
        return DEFAULT if self.ignored or find(self.given, path) != self.effective[path] else FILE

    def warning(self) -> str | None:
        """What is wrong with the file, and which defaults are in use because of it; None if nothing is."""
        if self.problem is None:
            return None
        lost = [
            f"{path}={as_text(value)}"
            for path, value in self.effective.items()
            if find(self.given, path) not in (UNSET, value)
        ]
        if not self.ignored and not lost:
            return self.problem
        scope = "the default of every key is in use" if self.ignored else "defaults are in use"
        return f"{self.problem}; {scope}" + (f": {', '.join(lost)}" if lost else "")

    def shown(self, path: str, reveal: bool) -> Any:
        """The value in use, or HIDDEN."""
        value = self.effective[path]
        return HIDDEN if path in self.secrets and value is not None and not reveal else value


def understand(
    data: bytes | None, effective: dict, problem: str | None, secrets: Iterable[str] = ()
) -> Configuration:
    """A `Configuration` from a file and from what its reader (a board, or `read`) says of it; `effective` is nested."""
    flat = flatten(effective)
    flat = {path: flat[path] for path in [*RULES, *flat] if path in flat}  # MicroPython's dicts have no order
    given = _object(data) if data is not None else {}
    if given is None and problem is None:  # MicroPython's json takes more than JSON: go by what it made of it
        given = change({}, {path: value for path, value in flat.items() if DEFAULTS.get(path) != value})
        problem = "not valid JSON, though the board reads it"
    return Configuration(data, given or {}, flat, problem, SECRETS | set(secrets))


def read(data: bytes | None) -> Configuration:
    """What the firmware of this version makes of a file."""
    try:
        effective, problem = config.usable(data.decode()) if data is not None else (config.defaults(), None)
    except UnicodeDecodeError:
        effective, problem = config.defaults(), "not valid UTF-8"
    return understand(data, effective, problem)


def check(text: str) -> None:
    """Raises HardwireError (USAGE) naming what is wrong in a settings file, and the key that may have been meant."""
    try:
        text.encode()
        config.parse(text)
    except UnicodeEncodeError:
        raise HardwireError(USAGE, "configuration: not valid UTF-8") from None
    except ConfigError as error:
        for path in _unknown(_object(text.encode()) or {}, config.SCHEMA):
            if str(error).startswith(f"{path}: "):
                raise _unknown_key(path) from None
        raise HardwireError(USAGE, f"configuration: {error}") from None


def _object(data: bytes) -> dict | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# Keys


def _unknown(given: Any, schema: Any, path: str = "") -> Iterator[str]:
    if not isinstance(given, dict) or not isinstance(schema, dict):
        return
    for key, value in given.items():
        if key in schema:
            yield from _unknown(value, schema[key], f"{path}{key}.")
        else:
            yield path + key


def _unknown_key(path: str) -> HardwireError:
    # Half a path is the likeliest mistake, then a slip of the keyboard; the last word may tell which.
    leaf = path.rpartition(".")[2]
    near = [known for known in RULES if f".{known}".endswith(f".{path}")]
    near += get_close_matches(path, RULES, 1)
    near += [known for known in RULES if known.rpartition(".")[2] == leaf]
    hint = f"did you mean {near[0]}?" if near else "hardwire config show lists the keys"
    return HardwireError(USAGE, f"{path}: unknown key", hint)


def is_section(path: str) -> bool:
    """Whether `path` is a group of keys."""
    return any(known.startswith(f"{path}.") for known in RULES)


def require_key(path: str) -> None:
    """Raises HardwireError (USAGE) if `path` is no key."""
    if path in RULES:
        return
    if is_section(path):
        keys = [known for known in RULES if known.startswith(f"{path}.")]
        raise HardwireError(USAGE, f"{path} is a group of keys", f"such as {keys[0]}")
    raise _unknown_key(path)


# Values


def typed(path: str, text: str) -> Any:
    """What `text` means for the key `path`: itself, else as JSON; for a list, words with commas between do.

    Raises HardwireError (USAGE).
    """
    require_key(path)
    default, checked = RULES[path][:2]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HardwireError(USAGE, f"{path}: not valid UTF-8") from None
    if isinstance(default, list) and not text.startswith("["):
        candidates = [[word.strip() for word in text.split(",")] if text else []]
    else:
        candidates = [text]
    with suppress(ValueError, RecursionError):
        candidates.append(json.loads(text))
    refusals = []
    for candidate in candidates:
        try:
            return checked(candidate)
        except ConfigError as error:
            refusals.append(error)
    # The last reading of a list and the first of anything else say best what was expected.
    raise HardwireError(USAGE, f"{path}: {refusals[-1 if isinstance(default, list) else 0]}")


def as_text(found: Any) -> str:
    """A value as `typed` reads it."""
    if found == HIDDEN:
        return "(hidden)"
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


# Files


def find(given: Any, path: str) -> Any:
    """The value at `path` (a section too), UNSET if there is none."""
    for key in path.split("."):
        if not isinstance(given, dict) or key not in given:
            return UNSET
        given = given[key]
    return given


def change(given: dict, changes: dict[str, Any]) -> dict:
    """`given` with other values by path; UNSET removes a key or section, and sections that become empty."""
    given = deepcopy(given)
    for path, new in changes.items():
        if new is UNSET:
            _remove(given, path.split("."))
            continue
        *sections, key = path.split(".")
        place = given
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[key] = deepcopy(new)
    return given


def _remove(tree: Any, keys: list[str]) -> None:
    if isinstance(tree, dict) and keys[0] in tree:
        if len(keys) > 1:
            _remove(tree[keys[0]], keys[1:])
        if len(keys) == 1 or tree[keys[0]] == {}:
            del tree[keys[0]]


def dump(given: dict) -> str:
    """A settings file; for people where the board has room for it."""
    # Characters as they are: MicroPython's json makes nonsense of surrogate pairs.
    text = json.dumps(given, indent=2, ensure_ascii=False) + "\n"
    if len(text.encode(errors="replace")) <= config.MAX_BYTES:
        return text
    return json.dumps(given, separators=(",", ":"), ensure_ascii=False)


def nest(flat: dict[str, Any]) -> dict:
    """The inverse of `flatten`."""
    return change({}, flat)


def conceal(given: dict, secrets: Iterable[str]) -> dict:
    """`given` with HIDDEN for the secrets in it."""
    return change(given, {path: HIDDEN for path in secrets if find(given, path) not in (UNSET, None)})


def restore(text: str, present: Configuration) -> str:
    """A file with the `present` secrets where it has HIDDEN. Raises HardwireError (USAGE): there is no such secret."""
    given = _object(text.encode(errors="replace")) or {}
    hidden = [path for path in flatten(given) if find(given, path) == HIDDEN]
    secrets = {path: find(present.given, path) for path in hidden}
    for path, secret in secrets.items():
        if secret is UNSET or secret == HIDDEN:
            raise HardwireError(USAGE, f"{path} is hidden, and there is no value that could stay", "give one")
    return dump(change(given, secrets)) if hidden else text


def has_hidden(text: str) -> bool:
    """Whether a file has HIDDEN in it."""
    return HIDDEN in flatten(_object(text.encode(errors="replace")) or {}).values()


# Comparing


@dataclass(frozen=True)
class Difference:
    """A key whose value is another one; each value HIDDEN if it may not be shown."""

    key: str
    before: Any
    after: Any


def differences(before: Configuration, after: Configuration, reveal: bool = False) -> list[Difference]:
    """What is different in effect. A key that one side does not know counts as its default."""
    found = []
    for path in before.effective | after.effective:
        default = DEFAULTS.get(path)
        old, new = (side.effective.get(path, default) for side in (before, after))
        if old != new:
            if path in before.secrets | after.secrets and not reveal:
                old, new = (value and HIDDEN for value in (old, new))
            found.append(Difference(path, old, new))
    return found


def moves(before: Configuration, after: Configuration) -> list[str]:
    """Where the board will be found instead of where it was, a sentence for each thing that moves."""
    found = []
    old, new = _place(before), _place(after)
    if old != new:
        found.append(f"the board moves from {old} to {new}; `hardwire boards` finds it")
    elif new == _DHCP and before.effective["network.mac"] != after.effective["network.mac"]:
        found.append("with another MAC address it may get another IP address; `hardwire boards` finds it")
    for path in after.effective:
        service, _, key = path.removeprefix("services.").partition(".")
        if path.startswith("services.") and key == "port":
            was, port = (_port(side, service) for side in (before, after))
            if None not in (was, port) and was != port:
                found.append(f"{service} moves from port {was} to {port}")
    return found


def _port(configuration: Configuration, service: str) -> int | None:
    """Where a service is offered, None if it is off."""
    effective = configuration.effective
    return (
        effective.get(f"services.{service}.port")
        if effective.get(f"services.{service}.connections")
        else None
    )


_DHCP = "an address from DHCP"


def _place(configuration: Configuration) -> str:
    effective = configuration.effective
    return _DHCP if effective["network.mode"] == "dhcp" else effective["network.address"]
