"""Deploy: bring a board to a version of the firmware; a cut at any moment leaves the old or the new one.

In: a target and what to put on it. Out: a `Plan`, then the board as the plan says, its app running again.
Never: a write to the tree the board boots, a byte sent before it is known to fit, a switch before every file
was read back from flash and had the right SHA-256.

The board holds two trees, /a and /b, and boot.py runs the one that /slot names. Deploying fills the other one
and then switches by renames, each of which littlefs does completely or not at all. What is on flash decides,
not what a manifest claims, except for files copied from the running tree: those are hashed after the copy.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hardwire.addresses import mac_bytes, own_mac
from hardwire.config import defaults, parse
from hardwire.wire.files import WRITE

from . import bundle as bundles
from . import deploy_link as link
from . import keys
from .bundle import ARCHES, CONFIG_FILE, MANIFEST, SLOT_FILE, SLOTS, Bundle, digest
from .deploy_link import Identity, State
from .errors import FAILED, INTERRUPTED, WRONG_BOARD, HardwireError
from .keys import Key
from .target import Target, session, uninterrupted

if TYPE_CHECKING:
    from mpremote.transport_serial import SerialTransport

DEFAULT_BOARD = defaults()["board"]
OURS = '"""hardwire:'  # how our boot.py and main.py begin; any other is kept as NAME.old

# The switch, in this order. Once /slot is renamed, a board that had hardwire boots the new version. boot.py
# and main.py come after it, so that on a first deploy another program stays complete up to there, and so do
# the settings: an old version never meets settings it does not know. main.py is last: it is what makes a
# blank board start something.
SWITCH = (SLOT_FILE, "boot.py", CONFIG_FILE, "main.py")

LITTLEFS_FILE_OVERHEAD = (
    8  # bytes of a block that point to other blocks, on average (littlefs DESIGN.md, CTZ)
)
LITTLEFS_FOLDER_BLOCKS = 2  # a metadata pair
SPARE_BLOCKS = 8  # for copy on write while files are committed, and for metadata pairs that split


@dataclass(frozen=True)
class Plan:
    """What deploying will do. new, changed, same, stale: paths, compared with the version that boots now.

    slot: the tree that is filled. send, copy, keep: its files, from the PC, from the other tree, already
    right. drop: absolute paths removed first. switch: content by path in the root, in the order of the
    renames.
    """

    slot: str
    new: list[str]
    changed: list[str]
    same: list[str]
    stale: list[str]
    send: list[str]
    copy: list[str]
    keep: list[str]
    drop: list[str]
    switch: dict[str, bytes]

    @property
    def up_to_date(self) -> bool:
        """True if the board already is what it should be."""
        return not self.switch


@dataclass(frozen=True)
class Outcome:
    """What `deploy` did: the plan, the state before it, the text of /config.json and what is wrong in it.

    key: that writes the board's files, None if the settings cannot be read; key_is: see keep_key.
    """

    plan: Plan
    before: State
    bundle: Bundle
    config_text: str
    warning: str | None
    key: str | None = None
    key_is: str | None = None

    @property
    def slot(self) -> str | None:
        """The slot that boots now (after a dry run: that would boot)."""
        return self.plan.slot if SLOT_FILE in self.plan.switch else self.before.active


Progress = Callable[[str, str, int], None]
"""Called as (what, path, bytes) after each file; what is "sent" or "copied"."""


# Planning


def check_board(identity: Identity, board: str) -> None:
    """Raises HardwireError (WRONG_BOARD) unless it is a `board` that runs what is compiled for one."""
    constants = bundles.board_constants(board)
    if constants.MCU.upper() not in identity.machine.upper():
        raise HardwireError(
            WRONG_BOARD,
            f"this is a {identity.machine}, but {board} has an {constants.MCU.upper()}",
            f"choose with --board; boards: {', '.join(bundles.boards())}",
        )
    version, sub_version, arch = identity.mpy & 0xFF, identity.mpy >> 8 & 3, identity.mpy >> 10
    ours = bundles.mpy_version()
    if (version, sub_version) != ours:
        loads = f".mpy v{version}.{sub_version}" if identity.mpy else "no .mpy files"
        raise HardwireError(
            WRONG_BOARD,
            f"MicroPython {identity.release} there loads {loads}, mpy-cross here writes v{ours[0]}.{ours[1]}",
            "flash an image that fits, or install the mpy-cross of that MicroPython",
        )
    if not ARCHES[constants.ARCH] <= arch <= max(ARCHES.values()):
        raise HardwireError(
            WRONG_BOARD,
            f"MicroPython on the board runs native code of architecture {arch}, not {constants.ARCH}",
            f"flash the image {constants.IMAGE}",
        )


def make_plan(state: State, bundle: Bundle, settings: bytes) -> Plan:
    """What to do to get from `state` to `bundle`, with `settings` as the content of /config.json.

    Raises HardwireError (FAILED) if it would not fit.
    """
    wanted = _entries(bundle)
    running = _claims(state)
    plan = Plan(
        slot=SLOTS[1] if state.active == SLOTS[0] else SLOTS[0],
        new=[path for path in wanted if path not in running],
        changed=[path for path in wanted if path in running and running[path] != wanted[path]],
        same=[path for path in wanted if running.get(path) == wanted[path]],
        stale=[path for path in running if path not in wanted],
        send=[],
        copy=[],
        keep=[],
        drop=[],
        switch={},
    )
    if not runs(state, bundle):
        _plan_tree(plan, state, wanted, running)
        if state.manifests[plan.slot] != bundle.manifest.decode():
            plan.switch[f"{plan.slot}/{MANIFEST}"] = bundle.manifest
        plan.switch[SLOT_FILE] = plan.slot.encode()
    for name in SWITCH:
        content = settings if name == CONFIG_FILE else bundle.root.get(name)
        if content is not None and state.root[name] != content.decode():
            plan.switch[name] = content
    _check_space(plan, state, bundle)
    return plan


def runs(state: State, bundle: Bundle) -> bool:
    """Whether the tree that boots is `bundle`, file by file."""
    found = {path: entry for path, entry in state.files.items() if path != MANIFEST}
    return state.listed == state.active and found == _entries(bundle)


def _entries(bundle: Bundle) -> dict[str, tuple[int, str]]:
    return {path: (len(data), digest(data)) for path, data in bundle.files.items()}


def _claims(state: State) -> dict[str, tuple[int, str]]:
    """What the tree that boots has in it, by its manifest; nothing if the manifest is not one of ours."""
    try:
        files = json.loads(state.manifests[state.active])["files"]
        return {path: tuple(entry) for path, entry in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _plan_tree(plan: Plan, state: State, wanted: dict, running: dict) -> None:
    for path, entry in wanted.items():
        if state.files.get(path) == entry:
            plan.keep.append(path)
        elif running.get(path) == entry:
            plan.copy.append(path)
        else:
            plan.send.append(path)
    gone = [path for path in state.files if path not in plan.keep and path != MANIFEST]
    if gone or plan.copy or plan.send:  # the manifest goes first: from now on the tree is incomplete
        plan.drop.extend(f"/{plan.slot}/{path}" for path in [MANIFEST, *gone])


def _check_space(plan: Plan, state: State, bundle: Bundle) -> None:
    sizes = [len(bundle.files[path]) for path in plan.send + plan.copy] + [
        len(data) for data in plan.switch.values()
    ]
    folders = {str(Path(path).parent) for path in bundle.files}
    needed = SPARE_BLOCKS + len(folders) * LITTLEFS_FOLDER_BLOCKS
    needed += sum(-(-size // (state.block - LITTLEFS_FILE_OVERHEAD)) for size in sizes)
    freed = sum(
        size // state.block for path, (size, _) in state.files.items() if f"/{plan.slot}/{path}" in plan.drop
    )
    if plan.send + plan.copy and needed > state.free + freed:
        raise HardwireError(
            FAILED,
            f"the board's filesystem has {(state.free + freed) * state.block // 1024} KB free, "
            f"{needed * state.block // 1024} KB are needed",
            "remove files of yours with `mpremote rm`",
        )


# Doing it


def deploy(
    target: Target,
    *,
    board: str | None = None,
    app: Path | None = None,
    config_text: str | None = None,
    dry_run: bool = False,
    planned: Callable[[Plan, Bundle], None] = lambda plan, bundle: None,
    progress: Progress = lambda what, path, size: None,
) -> Outcome:
    """Bring the board at `target` to the firmware here, and restart its app whatever happens.

    Args:
        board: its board file; else the one its settings name, else the only sensible guess.
        app: see bundle.build. config_text: new settings, JSON; None keeps those on the board.
        dry_run: plan only.
        planned: called once, before anything is written.

    Raises:
        HardwireError: anything; unless it says otherwise, nothing was switched.
    """
    # What is wrong in a file is found before the board is disturbed.
    if config_text is not None:
        bundles.check_settings(config_text)
    chosen = board or _board_in(config_text)
    guess = chosen or (target.board.board if target.board else DEFAULT_BOARD)
    bundles.check_room(guess)
    bundle = bundles.build(guess, app)
    outcome = None
    try:
        with session(target, soft_reset=True, restart=True, timeout=link.ANSWER_S) as transport:
            identity = link.identify(transport)
            named = chosen or _board_in(identity.config_text) or guess
            bundles.check_room(named)
            if named != guess:
                bundle = bundles.build(named, app)
            check_board(identity, named)
            outcome = update(
                transport,
                bundle,
                config_text,
                virtual=target.board is not None,
                dry_run=dry_run,
                planned=planned,
                progress=progress,
            )
            if not dry_run:
                outcome = replace(outcome, key_is=keep_key(outcome, identity.unique))
    except KeyboardInterrupt:
        kept = "nothing was switched, the board restarts what it ran"
        what = "the new version is in place" if outcome and not dry_run else kept
        raise HardwireError(INTERRUPTED, f"interrupted: {what}") from None
    return outcome


def update(
    transport: "SerialTransport",
    bundle: Bundle,
    config_text: str | None = None,
    *,
    virtual: bool = False,
    dry_run: bool = False,
    planned: Callable[[Plan, Bundle], None] = lambda plan, bundle: None,
    progress: Progress = lambda what, path, size: None,
) -> Outcome:
    """Bring the board in this session, `virtual` or not, to `bundle`; other arguments and errors as of `deploy`."""
    link.start_agent(transport, bundles.board_constants(bundle.board).ARCH)
    state = link.read_state(transport, bundle.manifest, SWITCH)
    if state.listed == state.active and not runs(state, bundle):  # it is damaged: look at the other one
        state = link.read_state(transport, b"", SWITCH)
    text, warning = _settings(state, bundle.board, config_text, virtual)
    key = None
    if warning is None:
        text, key = keys.into(text, keys.own_key() if virtual else keys.generate())
    plan = make_plan(state, bundle, text.encode())
    planned(plan, bundle)
    if not dry_run and not plan.up_to_date:
        _fill(transport, plan, bundle, progress)
        _stage(transport, plan, state, bundle)
        with uninterrupted():
            link.commit(transport, ["/" + path for path in plan.switch])
    return Outcome(plan, state, bundle, text, warning, key)


def keep_key(outcome: Outcome, unique: str) -> str | None:
    """Keep the key of the board whose MCU has this id on the PC: "made", "learned" or "known"; None: there is none.

    Raises HardwireError, OSError.
    """
    if outcome.key is None:
        return None
    settings = parse(outcome.config_text)
    mac = settings["network"]["mac"]
    rp2 = bundles.board_constants(outcome.bundle.board).MCU.startswith("rp2")
    identity = mac_bytes(mac) if mac else own_mac(bytes.fromhex(unique), rp2)
    kept = keys.kept(identity)
    if kept is not None and kept.text == outcome.key:
        return "known"
    keys.store(identity, Key(WRITE, outcome.key))
    before = outcome.before.root[CONFIG_FILE] or ""
    return "learned" if outcome.key in before else "made"


def _board_in(text: str | None) -> str | None:
    """The board that settings name, None if they name none."""
    try:
        return json.loads(text or "{}").get("board")
    except (ValueError, AttributeError):
        return None


def _settings(state: State, board: str, given: str | None, virtual: bool) -> tuple[str, str | None]:
    """The settings the board shall have, and what is wrong with them (the board then uses defaults)."""
    present = state.root[CONFIG_FILE]
    if given is not None:
        return bundles.settings_text(given, board), None
    try:
        return bundles.settings_text(present, board, virtual), None
    except HardwireError as error:  # the user's, so it stays
        return present, f"/{CONFIG_FILE} on the board: {error.message}; it will use defaults"


def _fill(transport: "SerialTransport", plan: Plan, bundle: Bundle, progress: Progress) -> None:
    if plan.drop:
        link.drop(transport, plan.drop)
    send = list(plan.send)
    other = SLOTS[1 - SLOTS.index(plan.slot)]
    copies = {path: bundle.files[path] for path in plan.copy}
    for path, right in link.copy(transport, f"/{other}/", f"/{plan.slot}/", copies):
        if right:
            progress("copied", path, len(bundle.files[path]))
        else:  # the running tree is not what its manifest claims
            send.append(path)
    top = f"/{plan.slot}/"
    link.put(
        transport,
        {top + path: bundle.files[path] for path in send},
        lambda path: progress("sent", path.removeprefix(top), len(bundle.files[path.removeprefix(top)])),
    )


def _stage(transport: "SerialTransport", plan: Plan, state: State, bundle: Bundle) -> None:
    """Write everything of the switch under another name, and keep what is not ours."""
    files = {f"/{path}.new": data for path, data in plan.switch.items()}
    for name in bundle.root:
        present = state.root[name]
        if name in plan.switch and present and not present.startswith(OURS):
            files[f"/{name}.old"] = present.encode()
    link.put(transport, files, lambda path: None)
