"""What `hardwire deploy` decides, from what is on the board; and how it keeps Ctrl-C out of what it sends."""

import json

import pytest

from hardwire_host import bundle as bundles
from hardwire_host import deploy as work
from hardwire_host.bundle import Bundle, digest
from hardwire_host.deploy_link import Identity, State, chunks
from hardwire_host.errors import FAILED, WRONG_BOARD, HardwireError

BOARD = "w5500_evb_pico"
BOOT, MAIN, SETTINGS = b'"""hardwire: boot"""', b'"""hardwire: main"""', b"{}"
MPY = 6 | 3 << 8 | 4 << 10  # sys.implementation._mpy of the RP2040 port since MicroPython 1.23


PICO = {"machine": "Raspberry Pi Pico with RP2040", "mpy": MPY, "release": "1.25.0", "config_text": None}


def make_bundle(**files: bytes) -> Bundle:
    files = {f"{name}.mpy": data for name, data in files.items()}
    manifest = {"files": {path: [len(data), digest(data)] for path, data in files.items()}}
    return Bundle(BOARD, files, {"boot.py": BOOT, "main.py": MAIN}, json.dumps(manifest).encode())


def make_state(active=None, *, listed=None, root=True, free=300, **trees: Bundle | dict) -> State:
    """A board with `trees` a and b: a bundle is complete, a dict of bytes has no manifest."""
    manifests = {name: tree.manifest.decode() for name, tree in trees.items() if isinstance(tree, Bundle)}
    listed = listed or ("b" if active == "a" else "a")
    tree = trees.get(listed, {})
    content = tree.files | {bundles.MANIFEST: tree.manifest} if isinstance(tree, Bundle) else tree
    texts = {
        "slot": active,
        "boot.py": BOOT.decode(),
        "main.py": MAIN.decode(),
        "config.json": SETTINGS.decode(),
    }
    return State(
        block=4096,
        free=free,
        active=active,
        manifests={"a": None, "b": None} | manifests,
        root=texts if root else dict.fromkeys(texts),
        listed=listed,
        files={path: (len(data), digest(data)) for path, data in content.items()},
    )


OLD = make_bundle(app=b"old", net=b"net", gone=b"gone")
NEW = make_bundle(app=b"new", net=b"net", more=b"more")


def test_blank_board():
    plan = work.make_plan(make_state(root=False), NEW, SETTINGS)
    assert (plan.slot, plan.new, plan.stale) == ("a", ["app.mpy", "net.mpy", "more.mpy"], [])
    assert (plan.send, plan.copy) == (["app.mpy", "net.mpy", "more.mpy"], [])
    assert list(plan.switch) == ["a/manifest.json", "slot", "boot.py", "config.json", "main.py"]


def test_only_what_differs_travels():
    plan = work.make_plan(make_state("a", a=OLD), NEW, SETTINGS)
    assert plan.slot == "b"
    assert (plan.new, plan.changed) == (["more.mpy"], ["app.mpy"])
    assert (plan.same, plan.stale) == (["net.mpy"], ["gone.mpy"])
    assert (plan.send, plan.copy, plan.keep) == (["app.mpy", "more.mpy"], ["net.mpy"], [])
    assert list(plan.switch.items()) == [("b/manifest.json", NEW.manifest), ("slot", b"b")]


def test_what_the_other_tree_has_stays_and_the_rest_goes():
    leftovers = {"net.mpy": b"net", "app.mpy": b"ne", "x/y.mpy": b"", "manifest.json.new": b"{"}
    plan = work.make_plan(make_state("b", b=OLD, a=leftovers), NEW, SETTINGS)
    assert (plan.slot, plan.keep, plan.copy) == ("a", ["net.mpy"], [])
    assert plan.send == ["app.mpy", "more.mpy"]
    # the manifest first: a tree that is being changed is not complete
    assert plan.drop == ["/a/manifest.json", "/a/app.mpy", "/a/x/y.mpy", "/a/manifest.json.new"]


def test_a_deploy_that_was_killed_before_the_switch_only_switches():
    plan = work.make_plan(make_state("a", a=OLD, b=NEW), NEW, SETTINGS)
    assert (plan.send, plan.copy, plan.drop) == ([], [], [])
    assert plan.switch == {"slot": b"b"}


def test_a_deploy_that_was_killed_before_the_manifest_adds_it():
    plan = work.make_plan(make_state("a", a=OLD, b=dict(NEW.files)), NEW, SETTINGS)
    assert (plan.send, plan.copy, plan.drop) == ([], [], [])
    assert list(plan.switch) == ["b/manifest.json", "slot"]


def test_going_back_is_a_switch():
    plan = work.make_plan(make_state("b", a=OLD, b=NEW), OLD, SETTINGS)
    assert (plan.send, plan.copy, plan.switch) == ([], [], {"slot": b"a"})


def test_up_to_date():
    plan = work.make_plan(make_state("a", a=NEW, listed="a"), NEW, SETTINGS)
    assert plan.up_to_date
    assert plan.same == list(NEW.files)


def test_a_manifest_is_not_believed():
    """The tree that boots claims to be the version wanted, but a file is damaged, lacking or too many."""
    for damage in ({"net.mpy": (3, digest(b"nex"))}, {"net.mpy": None}, {"more": (0, digest(b""))}):
        state = make_state("a", a=NEW, listed="a")
        state.files.update(damage)
        assert not work.runs(state, NEW)
    assert work.runs(make_state("a", a=NEW, listed="a"), NEW)


def test_a_damaged_tree_is_replaced():
    """Seen from the other tree: what can be copied is copied, and hashed afterwards."""
    plan = work.make_plan(make_state("a", a=NEW), NEW, SETTINGS)
    assert (plan.slot, plan.copy, plan.switch["slot"]) == ("b", list(NEW.files), b"b")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"files": 3}', '{"files": {"app.mpy": 5}}', "nonsense"])
def test_a_manifest_of_somebody_else_counts_as_nothing(text):
    state = make_state("a", a=OLD)
    state.manifests["a"] = text
    plan = work.make_plan(state, NEW, SETTINGS)
    assert (plan.slot, plan.copy, plan.send) == ("b", [], list(NEW.files))


@pytest.mark.parametrize(
    ("name", "content"), [("boot.py", "old boot"), ("main.py", None), ("config.json", '{"name": "x"}')]
)
def test_files_in_the_root_are_replaced_without_touching_the_trees(name, content):
    state = make_state("a", a=NEW, listed="a")
    state.root[name] = content
    plan = work.make_plan(state, NEW, SETTINGS)
    assert (plan.send, plan.copy, plan.drop) == ([], [], [])
    assert list(plan.switch) == [name]


@pytest.mark.parametrize(("free", "fits"), [(0, False), (23, False), (24, True), (300, True)])
def test_space_is_checked_for_every_file_folder_and_rename(free, fits):
    # 8 to spare, 2 for the folder, 10 for the file of 40,000 bytes, 4 for manifest, slot, boot.py and main.py
    big = make_bundle(app=bytes(40_000))
    state = make_state("a", a=OLD, root=True, free=free)
    state.root["main.py"] = state.root["boot.py"] = None
    if fits:
        assert work.make_plan(state, big, SETTINGS).send == ["app.mpy"]
        return
    with pytest.raises(HardwireError) as caught:
        work.make_plan(state, big, SETTINGS)
    assert caught.value.code == FAILED


def test_space_of_what_goes_counts():
    big = make_bundle(app=bytes(40_000))
    junk = {"junk.mpy": bytes(200_000)}
    work.make_plan(make_state("a", a=OLD, b=junk, free=0), big, SETTINGS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "PYBv1.1 with STM32F405RG"}, "PYBv1.1 with STM32F405RG"),
        ({"mpy": 6 | 2 << 8 | 4 << 10}, "v6.2, mpy-cross here writes v6.3"),
        ({"mpy": 5 | 4 << 10}, "v5.0"),
        ({"mpy": 0}, "no .mpy files"),
        ({"mpy": 6 | 3 << 8}, "architecture 0"),
        ({"mpy": 6 | 3 << 8 | 11 << 10}, "architecture 11"),
    ],
)
def test_the_wrong_board_is_refused(change, words):
    with pytest.raises(HardwireError) as caught:
        work.check_board(Identity(**PICO | change), BOARD)
    assert caught.value.code == WRONG_BOARD
    assert words in caught.value.message


@pytest.mark.parametrize("mpy", [MPY, 6 | 3 << 8 | 7 << 10])  # a Cortex-M33 (RP2350) runs code of an M0+
def test_the_right_board_passes(mpy):
    work.check_board(Identity(**PICO | {"mpy": mpy}), BOARD)


@pytest.mark.parametrize("most", [64, 255, 4096])
@pytest.mark.parametrize(
    "data",
    [b"", b"\x03", b"abc", bytes(range(256)), bytes(range(256)) * 40, b"\x00\x03" * 5000, bytes(10_000)],
    ids=["empty", "only", "none", "all", "all, long", "half", "zeros"],
)
def test_ctrl_c_never_travels(data, most):
    pieces = chunks(data, most)
    assert all(0 < len(piece) <= most and 3 not in piece for piece, _ in pieces)
    # as deploy_agent.py undoes it
    received = [
        piece if stand_in < 0 else piece.replace(bytes([stand_in]), b"\x03") for piece, stand_in in pieces
    ]
    assert b"".join(received) == data
