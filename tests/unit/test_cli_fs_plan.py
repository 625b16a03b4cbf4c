"""`hardwire fs sync`: what is decided before anything happens. Random trees; no files, no board."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardwire_host.cli.fs_common import matches
from hardwire_host.cli.fs_plan import EXCLUDED, Item, above, excluded, in_the_way, make_plan, side_of
from hardwire_host.errors import HardwireError

FOLDER = None  # else the content of a file


def _items(content):
    return {path: Item(data is FOLDER, 0 if data is FOLDER else len(data)) for path, data in content.items()}


@st.composite
def contents(draw):
    """A tree: {path: FOLDER or bytes}, folders before what is in them."""
    found = {}
    for path in draw(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), max_size=8)):
        folders = ["/".join(path[:at]) for at in range(1, len(path))]
        name = "/".join(path)
        if name in found or any(found.get(folder, FOLDER) is not FOLDER for folder in folders):
            continue
        found.update(dict.fromkeys(folders, FOLDER))
        found[name] = draw(st.sampled_from([FOLDER, b"", b"x", b"y", b"xy"]))
    return dict(sorted(found.items()))


def _apply(plan, source, target):
    """The order in which `Sync.run` does it, on dicts that refuse what a filesystem refuses."""
    target = dict(target)

    def remove(paths):
        for path in paths:
            assert not any(other.startswith(path + "/") for other in target), "not empty"
            del target[path]

    blocked = [path for path in plan.remove if in_the_way(path, _items(source))]
    remove(blocked)
    for path in plan.folders + plan.send:
        assert all(target.get(folder, b"") is FOLDER for folder in above(path)), "no folder for it"
        assert path not in target or (target[path] is not FOLDER and source[path] is not FOLDER)
        target[path] = source[path]
    remove(path for path in plan.remove if path not in blocked)
    return target


@given(contents(), contents())
def test_with_delete_the_target_becomes_the_source(source, target):
    plan = make_plan(_items(source), _items(target), True, {})
    plan.send += [path for path in plan.compare if source[path] != target[path]]
    assert _apply(plan, source, target) == source


@given(contents(), contents())
def test_what_is_sent_differs_and_nothing_is_lost_without_delete(source, target):
    try:
        plan = make_plan(_items(source), _items(target), False, {})
    except HardwireError:
        both = source.keys() & target.keys()
        assert any((source[path] is FOLDER) != (target[path] is FOLDER) for path in both)
        return
    assert plan.remove == []
    assert all(path not in target or len(target[path]) != len(source[path]) for path in plan.send)
    assert all(len(target[path]) == len(source[path]) > 0 for path in plan.compare)
    files = [path for path, data in source.items() if data is not FOLDER]
    assert len(plan.send) + len(plan.compare) + plan.same == len(files)


def test_a_file_that_did_not_change_since_is_not_compared_again():
    before, after = Item(False, 3, 1000), Item(False, 3, 2000)
    there = {"a": Item(False, 3)}
    assert make_plan({"a": before}, there, False, {"a": before}).compare == []
    assert make_plan({"a": after}, there, False, {"a": before}).compare == ["a"]


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("__pycache__", True),
        ("a/__pycache__/b.pyc", True),
        (".git/HEAD", True),
        ("big.bin.part", True),
        ("a/b.part", True),
        ("part", False),
        ("a.gitignore", False),
    ],
)
def test_what_is_always_left_out(path, out):
    assert excluded(path, EXCLUDED) == out


def test_a_folder_with_something_excluded_in_it_stays():
    tree = _items({"old": FOLDER, "old/sub": FOLDER, "old/sub/x.part": b"1", "old/y": b"1", "z": FOLDER})
    side = side_of(tree, EXCLUDED)
    assert set(side.tree) == {"old", "old/sub", "old/y", "z"}
    assert side.pinned == {"old", "old/sub"}


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.csv", "*.csv", True),
        ("log/a.csv", "*.csv", False),
        ("log/a.csv", "**/*.csv", True),
        ("a.csv", "**/*.csv", True),
        ("x/y/z/a.csv", "x/**/a.csv", True),
        ("x/a.csv", "x/**/a.csv", True),
        ("x/a.csv", "x/*/a.csv", False),
        ("A.csv", "a.csv", False),
        ("a1", "a[0-9]", True),
        ("ab", "a?", True),
        ("a", "a?", False),
        ("a/b", "**", True),
    ],
)
def test_globs(path, pattern, fits):
    assert matches(path.split("/"), pattern.split("/")) == fits
