"""What goes on a board: the bundle, its manifest, the filesystem image, boot.py's choice, package.json."""

import gc
import json
import re
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest

import hardwire
from hardwire_host import bundle as bundles
from hardwire_host.bundle import (
    blank_filesystem,
    build,
    build_filesystem,
    check_room,
    compile_source,
    digest,
    settings_text,
)
from hardwire_host.errors import FAILED, USAGE, HardwireError
from hardwire_host.map.build import read

ROOT = Path(__file__).parents[2]
BOARD = "w5500_evb_pico"


def modules(folder: Path) -> list[str]:
    return [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")]


@pytest.fixture(scope="module")
def bundle():
    return build(BOARD)


def compiled(bundle):
    return [(path, data) for path, data in bundle.files.items() if path != bundles.MAP_FILE]


def test_everything_the_firmware_has_is_in_it(bundle):
    wanted = {"app"} | {f"hardwire/{name}" for name in modules(ROOT / "firmware/hardwire")}
    wanted |= set(modules(ROOT / "firmware/lib"))
    wanted -= {
        f"hardwire/{package}/__init__" for package in ("services", "w5500", "wire")
    }  # there is nothing in them
    wanted.add(f"hardwire/boards/{BOARD}")
    wanted |= {name.removesuffix(".py") for name in bundles.LIBRARIES}
    assert set(bundle.files) == {f"{name}.mpy" for name in wanted} | {bundles.MAP_FILE}
    assert set(bundle.root) == {"boot.py", "main.py"}


def test_libraries_are_complete():
    """Whatever the library files import at run time is on the board, part of MicroPython, or put in its place."""
    built_in = {"gc", "micropython", "random", "time"}
    stood_for = {"adafruit_ticks"}  # by hardwire/w5500/adafruit.py
    ours = {name.split("/")[0].removesuffix(".py") for name in bundles.LIBRARIES}
    ours |= set(modules(ROOT / "firmware/lib"))
    for name in bundles.LIBRARIES:
        source = bundles.library_file(name).read_text()
        for line in re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE):
            assert line in built_in | ours | stood_for, f"{name} imports {line}"


def test_manifest_describes_every_file(bundle):
    manifest = json.loads(bundle.manifest)
    assert manifest["version"] == hardwire.__version__
    assert manifest["board"] == BOARD
    assert manifest["mpy"] == [6, 3, "armv6m"]
    assert manifest["files"] == {path: [len(data), digest(data)] for path, data in bundle.files.items()}


def test_files_are_mpy_of_the_version_named(bundle):
    for path, data in compiled(bundle):
        # docs.micropython.org, "MicroPython .mpy files": magic, version, flags, bits of a small int
        assert data[:2] == b"M\x06", path
        arch, sub_version = data[2] >> 2 & 0x0F, data[2] & 3
        assert (arch, sub_version) in ((0, 0), (bundles.ARCHES["armv6m"], 3)), path
        assert data[3] <= 31, path


def test_builds_are_equal_and_tell_nothing_about_the_pc(bundle):
    again = build(BOARD)
    assert again == bundle
    for path, data in bundle.files.items():
        assert str(ROOT).encode() not in data, path
    for path, data in compiled(bundle):
        name = path.removesuffix(".mpy")
        dotted = name.startswith(("hardwire/", "adafruit_"))
        shown = name.replace("/", ".") if dotted else f"{name}.py"
        assert shown.encode() in data, "the name that tracebacks show"


def test_line_numbers_are_kept():
    compact = compile_source("x.py", b"\n" * 40 + b"a = 1\nb = a\n", "armv6m")
    assert compact != compile_source("x.py", b"a = 1\nb = a\n", "armv6m")


APP = "VERSION = 2\nasync def main(board):\n    pass\n"


def test_app_is_a_file_or_a_folder(tmp_path):
    (tmp_path / "plant.py").write_text(APP)
    of_file = build(BOARD, tmp_path / "plant.py")
    folder = tmp_path / "plant"
    (folder / "parts").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "parts/pump.py").write_text("RPM = 3000\n")
    of_folder = build(BOARD, folder)
    assert of_file.files["app.mpy"] == of_folder.files["app.mpy"] != build(BOARD).files["app.mpy"]
    assert of_folder.files.keys() - of_file.files.keys() == {"parts/pump.mpy"}


def test_the_map_beside_the_app_counts(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    assert build(BOARD, tmp_path).files[bundles.MAP_FILE] == build(BOARD).files[bundles.MAP_FILE]
    (tmp_path / "map.toml").write_text('[[coils]]\nname = "pump"\naddress = 7\n')
    for app in (tmp_path, tmp_path / "app.py"):
        assert list(read(build(BOARD, app).files[bundles.MAP_FILE]).points) == ["pump"]
    (tmp_path / "map.toml").write_text('[[coils]]\nname = "pump"\naddr = 7\n')
    with pytest.raises(HardwireError, match=r"map\.toml: pump: has no address") as caught:
        build(BOARD, tmp_path)
    assert caught.value.code == USAGE


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"def main(board):\n    x = (1,\n", "app.py:3: SyntaxError: invalid syntax"),
        (b"x = 1\n  y = 2\n", "app.py:2: IndentationError: unexpected indent"),
        (b"@micropython.viper\ndef f(a: ptr8):\n    return a + 1.5\n", "app.py:2: ViperTypeError: "),
        (b"import micropython\n@micropython.viper\ndef f(a: ptr8):\n    return a.b\n", "app.py: mpy-cross: "),
    ],
)
def test_an_error_in_the_app_is_one_line(tmp_path, source, message):
    path = tmp_path / "app.py"
    path.write_bytes(source)
    with pytest.raises(HardwireError) as caught:
        build(BOARD, path)
    assert caught.value.code == FAILED
    assert caught.value.message.startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.py", "empty", "", "."])
def test_no_such_app(tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HardwireError) as caught:
        build(BOARD, Path(name))
    assert caught.value.code == USAGE


@pytest.mark.parametrize("name", ["pico9", "__init__", "../boards/w5500_evb_pico", ""])
def test_unknown_board_lists_those_there_are(name):
    with pytest.raises(HardwireError) as caught:
        build(name)
    assert caught.value.code == USAGE
    assert BOARD in str(caught.value)


def test_native_code_follows_the_board():
    source = b"@micropython.native\ndef f():\n    return 1\n"
    arches = {arch: compile_source("f.py", source, arch)[2] >> 2 & 0x0F for arch in bundles.ARCHES}
    assert arches == bundles.ARCHES


# Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {"board": BOARD}),
        ("{}", {"board": BOARD}),
        ('{"board": "other_board", "name": "x"}', {"board": BOARD, "name": "x"}),
        ('{"network": {"mode": "dhcp"}}', {"board": BOARD, "network": {"mode": "dhcp"}}),
    ],
)
def test_settings_name_the_board(text, expected):
    assert json.loads(settings_text(text, BOARD)) == expected


def test_settings_that_need_nothing_stay_as_they_are():
    text = f'{{ "name":"x",\n  "board": "{BOARD}" }}'
    assert settings_text(text, BOARD) == text


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"nonsense": 1}', '{"network": {"address": "1.2.3"}}', "[" * 5000]
)
def test_bad_settings_are_refused(text):
    with pytest.raises(HardwireError) as caught:
        settings_text(text, BOARD)
    assert caught.value.code == USAGE


# The filesystem image


def test_filesystem_holds_the_bundle_in_slot_a(bundle):
    constants = bundles.board_constants(BOARD)
    image = build_filesystem(BOARD, '{"name": "north"}')
    assert len(image) == constants.FLASH_BLOCK * constants.FLASH_FS_BLOCKS
    wanted = {f"a/{path}": data for path, data in bundle.files.items()} | bundle.root
    wanted |= {"a/manifest.json": bundle.manifest, "slot": b"a"}
    wanted |= {"config.json": settings_text('{"name": "north"}', BOARD).encode()}
    assert bundles.unpack(BOARD, image) == wanted


def test_blank_filesystem_is_empty_and_of_the_oldest_version():
    image = bundles.blank_filesystem(BOARD)
    assert bundles.unpack(BOARD, image) == {}
    # littlefs SPEC.md, superblock: the magic, a tag, then the version
    at = image.index(b"littlefs") + len(b"littlefs") + 4
    assert int.from_bytes(image[at : at + 4], "little") == 0x00020000


@pytest.mark.parametrize("size", [0, 4096, 4096 * 352])
@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_what_is_no_filesystem_is_refused(size, byte):
    with pytest.raises(ValueError, match="not a littlefs image"):
        bundles.unpack(BOARD, byte * size)


# boot.py, as it is, but in a folder


def boot(root: Path) -> list[str]:
    """sys.path entries that boot.py puts in front, without the folder."""
    source = (ROOT / "firmware/boot.py").read_text()
    source = source.replace('"/slot"', f'"{root}/slot"').replace("os.stat(tree", f'os.stat("{root}" + tree')
    before = list(sys.path)
    try:
        with mock.patch.object(gc, "threshold", create=True):  # MicroPython's
            exec(compile(source, "boot.py", "exec"), {})
        return sys.path[: len(sys.path) - len(before)]
    finally:
        sys.path[:] = before


@pytest.mark.parametrize(
    ("slot", "complete", "chosen"),
    [
        (None, "", ""),
        (None, "ab", ""),  # copied by hand beside an unfinished first deploy
        (b"a", "a", "a"),
        (b"a", "ab", "a"),
        (b"b", "ab", "b"),
        (b"a", "b", "b"),
        (b"b", "a", "a"),
        (b"a", "", ""),
        (b"", "b", "b"),
        (b"\xff\n", "b", "b"),
        (b"b\n", "ab", "b"),
    ],
)
def test_boot_chooses_a_complete_tree(tmp_path, slot, complete, chosen):
    for tree in "ab":
        (tmp_path / tree).mkdir()
        if tree in complete:
            (tmp_path / tree / "manifest.json").write_text("{}")
    if slot is not None:
        (tmp_path / "slot").write_bytes(slot)
    assert boot(tmp_path) == ([f"/{chosen}"] if chosen else [])


def test_boot_survives_a_folder_named_slot(tmp_path):
    (tmp_path / "slot").mkdir()
    assert boot(tmp_path) == []


# package.json, for `mpremote mip install`


def test_package_lists_every_file():
    package = json.loads((ROOT / "package.json").read_text())
    assert package["version"] == hardwire.__version__
    urls = dict(package["urls"])
    local = {target: url for target, url in urls.items() if "://" not in url}
    wanted = {f"hardwire/{name}.py" for name in modules(ROOT / "firmware/hardwire")}
    wanted |= {f"hardwire/boards/{name}.py" for name in modules(ROOT / "boards")}
    wanted |= {f"{name}.py" for name in modules(ROOT / "firmware/lib")}
    assert set(local) ^ wanted == set(), (
        "package.json lists every file of firmware/hardwire, boards, firmware/lib"
    )
    assert all((ROOT / url).is_file() for url in local.values())
    remote = {target: url for target, url in urls.items() if "://" in url}
    assert set(remote) == set(bundles.LIBRARIES)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {pin.split("==")[1] for pin in project["optional-dependencies"]["board"]}
    assert {url.split("/")[5] for url in remote.values()} <= pins, "the versions pinned in pyproject.toml"


@pytest.mark.parametrize(
    "board", [name for name in bundles.boards() if not bundles.board_constants(name).FLASH_FS_BLOCKS]
)
def test_a_board_without_room_is_refused(board):
    image = bundles.board_constants(board).IMAGE
    for call in (check_room, blank_filesystem, build_filesystem):
        with pytest.raises(HardwireError, match=f"{board} has no room") as caught:
            call(board)
        assert f"BOARD={image} " in caught.value.hint
