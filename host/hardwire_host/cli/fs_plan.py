"""What makes one tree like another: which files go, which must be compared, what is removed.

In: two trees. Out: a `Plan`. Never: I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..errors import FAILED, HardwireError

EXCLUDED = ("__pycache__", ".git", "*.part")


@dataclass(frozen=True)
class Item:
    """What a tree has at a path. time: of a file of this PC, in ns; None there."""

    folder: bool
    size: int
    time: int | None = None


Tree = dict[str, Item]
"""By path, relative to the top."""


@dataclass
class Plan:
    """What makes `target` like `source`; paths. remove: in this order, what is in a folder before it."""

    send: list[str] = field(default_factory=list)
    compare: list[str] = field(default_factory=list)  # of one size: only their hashes tell
    folders: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    same: int = 0


def make_plan(source: Tree, target: Tree, delete: bool, known: dict[str, Item]) -> Plan:
    """Sizes first. known: files of the source as they were when both had the same. Raises HardwireError."""
    plan = Plan()
    for path, item in source.items():
        there = target.get(path)
        if there is not None and there.folder != item.folder:
            if not delete:
                kinds = ("a file", "a folder")
                message = (
                    f"{path} is {kinds[item.folder]} in the source and {kinds[there.folder]} in the target"
                )
                raise HardwireError(FAILED, message, "--delete replaces it")
            there = None
        if item.folder:
            if there is None:
                plan.folders.append(path)
        elif there is None or there.size != item.size:
            plan.send.append(path)
        elif item.size == 0 or (item.time is not None and known.get(path) == item):
            plan.same += 1
        else:
            plan.compare.append(path)
    if delete:
        gone = [
            path for path, item in target.items() if path not in source or source[path].folder != item.folder
        ]
        plan.remove = sorted(gone, key=lambda path: path.split("/"), reverse=True)
    return plan


def excluded(path: str, patterns: Sequence[str]) -> bool:
    """Whether a part of the path, or all of it, has one of these forms."""
    return any(
        fnmatchcase(path, pattern) or any(fnmatchcase(part, pattern) for part in path.split("/"))
        for pattern in patterns
    )


@dataclass(frozen=True)
class Side:
    """One of the two: what it has of the tree, and folders that stay, because excluded things are in them."""

    tree: Tree
    pinned: frozenset[str] = frozenset()


def side_of(tree: Tree, patterns: Sequence[str]) -> Side:
    """`tree` without what has one of these forms."""
    hidden = {path for path in tree if excluded(path, patterns)}
    pinned = frozenset(folder for path in hidden for folder in above(path))
    return Side({path: item for path, item in tree.items() if path not in hidden}, pinned)


def above(path: str) -> list[str]:
    """The folders that `path` is in."""
    parts = path.split("/")
    return ["/".join(parts[:at]) for at in range(1, len(parts))]


def in_the_way(path: str, source: Tree) -> bool:
    """Whether the source has something else where `path` or a folder of it is."""
    return path in source or any(one in source and not source[one].folder for one in above(path))
