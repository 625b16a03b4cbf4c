"""The MicroPython image: what it must be, what a UF2 is refused for, and where its sources come from."""

import os
import shutil
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hardwire.boards import w5500_evb_pico as board

from hardwire_host import debian, image, uf2
from hardwire_host.errors import FAILED, WRONG_BOARD, HardwireError

ROOT = Path(__file__).resolve().parents[2]
PICO_FLASH = 2 << 20
RP2350_ARM_S = 0xE48BFF59


def uf2_file(content, base=uf2.FLASH, family=uf2.RP2040, flags=0x2000):
    """A UF2 of 256-byte blocks, as microsoft/uf2 describes it."""
    chunks = [content[i : i + 256] for i in range(0, len(content), 256)]
    blocks = []
    for number, chunk in enumerate(chunks):
        header = (0x0A324655, 0x9E5D5157, flags, base + 256 * number, 256, number, len(chunks), family)
        blocks.append(struct.pack("<8I476sI", *header, chunk, 0x0AB16F30))
    return b"".join(blocks)


def program(*entries, texts=b""):
    """Flash content with these binary info entries (12 to 20 bytes each) and `texts` from offset 0x200 on."""
    at, pointers, places = 0x300, b"", b""
    for entry in entries:
        pointers += struct.pack("<I", uf2.FLASH + at + len(places))
        places += entry.ljust(20, b"\0")
    header = struct.pack(
        "<5I", 0x7188EBF2, uf2.FLASH + 0x120, uf2.FLASH + 0x120 + len(pointers), 0, 0xE71AA390
    )
    content = bytearray(b"\xff" * 0x400)
    for offset, data in ((0x100, header), (0x120, pointers), (0x200, texts), (at, places)):
        content[offset : offset + len(data)] = data
    return bytes(content)


VERSION = struct.pack("<H2sII", 6, b"RP", 0x11A9BC3A, uf2.FLASH + 0x200)
BOARD = struct.pack("<H2sII", 6, b"RP", 0xB63CFFBB, uf2.FLASH + 0x208)
FROZEN = struct.pack("<H2sII", 6, b"MP", 0x4A99D719, uf2.FLASH + 0x220)
DEVICE = struct.pack("<H2sIII", 7, b"MP", uf2.FLASH + 0x208, uf2.FLASH + 0x100000, 0x100000)
TEXTS = b"v1.27.0\0wiznet_w5500_evb_pico\0".ljust(0x20, b"\0") + b"asyncio/core\0"


def test_image_is_the_pinned_one_for_the_board():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hardwire"]["image"]
    built = uf2.describe(image.find_or_build())
    assert built.version == f"v{pins['micropython']}"
    assert built.board == "pico"
    assert built.size <= built.fs_start
    assert built.fs_start + built.fs_size == PICO_FLASH
    assert built.fs_size == board.FLASH_FS_BLOCKS * board.FLASH_BLOCK
    assert "hardwire" not in built.frozen
    assert "asyncio/core" in built.frozen


def test_frozen_image_has_all_of_the_firmware():
    firmware = ROOT / "firmware"
    names = {path.relative_to(firmware).with_suffix("") for path in firmware.rglob("*.py")} - {
        Path("manifest")
    }
    expected = {name.as_posix().removeprefix("lib/").removesuffix("/__init__") for name in names}
    expected |= {"hardwire/boards/w5500_evb_pico", "adafruit_wiznet5k/adafruit_wiznet5k", "adafruit_ticks"}
    expected |= {"adafruit_bus_device/spi_device", "asyncio/core", "rp2"}
    built = uf2.describe(image.find_or_build(frozen=True))
    assert expected <= built.frozen
    assert "manifest" not in built.frozen
    assert built.size <= built.fs_start


def test_image_of_another_board_is_described(tmp_path):
    path = tmp_path / "official.uf2"
    content = program(VERSION, BOARD, FROZEN, DEVICE, texts=TEXTS)
    path.write_bytes(uf2_file(content))
    expected = uf2.Image(
        "v1.27.0", "wiznet_w5500_evb_pico", frozenset({"asyncio/core"}), 0x100000, 0x100000, len(content)
    )
    assert uf2.describe(path) == expected


GOOD = uf2_file(program(VERSION, BOARD, DEVICE, texts=TEXTS))

REFUSED = [
    ("empty", b"", "not a UF2 file: 0 bytes"),
    ("a text", b"#!/bin/sh\n", "not a UF2 file: 10 bytes"),
    ("512 zeros", bytes(512), "no UF2 block at byte 0"),
    ("cut short", GOOD[:-1], "not a UF2 file: 2047 bytes"),
    ("a block overwritten", GOOD[:512] + bytes(512) + GOOD[1024:], "no UF2 block at byte 512"),
    ("end marker wrong", GOOD[:508] + bytes(4) + GOOD[512:], "no UF2 block at byte 0"),
    ("payload larger than a block", GOOD[:16] + b"\xff\xff" + GOOD[18:], "no UF2 block at byte 0"),
    ("for RP2350", uf2_file(bytes(256), family=RP2350_ARM_S), "for another chip: family 0xe48bff59"),
    ("no family", uf2_file(bytes(256), flags=0), "for another chip"),
    ("to RAM", uf2_file(bytes(256), base=0x20000000), "a block is for address 0x20000000"),
    ("past the end of flash", uf2_file(bytes(256), base=0x10FFFF80), "a block is for address 0x10ffff80"),
    ("RP2040, no binary info", uf2_file(bytes(4096)), "not MicroPython"),
    ("RP2040, no filesystem", uf2_file(program(VERSION, BOARD, texts=TEXTS)), "not MicroPython"),
    ("RP2040, no version", uf2_file(program(BOARD, DEVICE, texts=TEXTS)), "not MicroPython"),
    ("info points outside", uf2_file(program(VERSION, DEVICE)[:0x110] + bytes(0x100)), "not MicroPython"),
    ("only blocks outside flash", uf2_file(bytes(256), flags=0x2001), "not MicroPython"),
]


@pytest.mark.parametrize(("content", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_uf2_is_refused(tmp_path, content, reason):
    path = tmp_path / "given.uf2"
    path.write_bytes(content)
    with pytest.raises(HardwireError) as refused:
        uf2.describe(path)
    assert refused.value.code == WRONG_BOARD
    assert reason in refused.value.message
    assert "\n" not in str(refused.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(HardwireError, match="cannot read"):
        uf2.describe(tmp_path / "none.uf2")


def test_flash_content_with_a_gap(tmp_path):
    path = tmp_path / "gap.uf2"
    path.write_bytes(uf2_file(b"\x01" * 256) + uf2_file(b"\x02" * 256, base=uf2.FLASH + 512))
    assert uf2.flash(path) == b"\x01" * 256 + b"\xff" * 256 + b"\x02" * 256


# Debian


TARGETS = """\
http://mirror.invalid/debian/|bookworm|main
http://mirror.invalid/debian/|bookworm-updates|main
http://mirror.invalid/debian-security/|bookworm-security|main
http://mirror.invalid/debian/|bookworm|non-free-firmware
https://vendor.invalid/apt/|stable|main
https://vendor.invalid/node/|nodistro|main
"""


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (TARGETS, ["http://mirror.invalid/debian/", "https://vendor.invalid/apt/"]),
        ("http://mirror.invalid/debian/|trixie|main\n", ["http://mirror.invalid/debian/"]),
        ("http://mirror.invalid/debian/|unstable|main\n", ["http://mirror.invalid/debian/"]),
        ("http://mirror.invalid/ubuntu/|noble|main\n", []),
        ("", []),
    ],
)
def test_mirrors(targets, expected):
    assert debian.mirrors(targets, {"bookworm", "trixie"}) == expected


MADISON = """\
micropython | 1.25.0+ds-1 | http://mirror.invalid/debian trixie/main amd64 Packages
micropython | 1.25.0+ds-1 | http://mirror.invalid/debian trixie/main Sources
   mbedtls | 3.6.6-0.1~deb13u1 | http://mirror.invalid/debian trixie/main Sources
tinyusb-source | 0.18.0+dfsg-1 | http://mirror.invalid/debian trixie/main amd64 Packages
     epoch | 1:2.4-1-3 | http://mirror.invalid/debian trixie/main Sources
N: a remark
"""


@pytest.mark.parametrize(
    ("name", "pin", "kind", "expected"),
    [
        ("micropython", "1.25.0", "Sources", "1.25.0+ds-1"),
        ("mbedtls", "3.6", "Sources", "3.6.6-0.1~deb13u1"),
        ("tinyusb-source", "0.18.0", "Packages", "0.18.0+dfsg-1"),
        ("epoch", "2.4", "Sources", "1:2.4-1-3"),
    ],
)
def test_version_of_a_pin(name, pin, kind, expected):
    assert debian.pick(MADISON, "trixie", name, pin, kind) == expected


@pytest.mark.parametrize(
    ("name", "pin", "kind", "have"),
    [
        ("micropython", "1.26.0", "Sources", "1.25.0+ds-1"),
        ("mbedtls", "3.60", "Sources", "3.6.6-0.1~deb13u1"),
        ("micropython", "1.2", "Sources", "1.25.0+ds-1"),
        ("tinyusb-source", "0.18.0", "Sources", "none"),
    ],
)
def test_pin_that_the_suite_does_not_have(name, pin, kind, have):
    with pytest.raises(HardwireError) as error:
        debian.pick(MADISON, "trixie", name, pin, kind)
    assert error.value.message == f"{name} {pin} is not in trixie (it has {have})"


PYTHON_ERROR = """\
MPY hardwire/wire/modbus.py
error compiling hardwire/wire/modbus.py:
Traceback (most recent call last):
  File "wire/modbus.py", line 482, in respond
ViperTypeError: local 'error' has no type

ninja: build stopped: subcommand failed.
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", "no output"),
        ("one\ntwo\n\n", "two"),
        ("Reading package lists...\nE: Unable to locate package x\nmore\n", "E: Unable to locate package x"),
        (
            "x.c: In function f:\nx.c:1:2: error: no ;\nmake: *** [Makefile:1] Error 1\n",
            "x.c:1:2: error: no ;",
        ),
        (
            PYTHON_ERROR,
            "File \"wire/modbus.py\", line 482, in respond: ViperTypeError: local 'error' has no type",
        ),
    ],
)
def test_reason_of_a_failure(output, expected):
    assert debian.first_error(output) == expected


def test_failed_command_says_why_and_where_the_log_is(tmp_path):
    log = debian.Log(tmp_path / "build.log")
    log.run("the first", ["sh", "-c", "echo E: not this one"], cwd=tmp_path, env=os.environ)
    with pytest.raises(HardwireError) as failed:
        log.run("the second", ["sh", "-c", "echo E: this one; exit 3"], cwd=tmp_path, env=os.environ)
    assert failed.value.message == "the second failed: E: this one"
    assert str(log.path) in failed.value.hint
    assert "not this one" in log.path.read_text()


# As a program


def run_image(root, *options, path=""):
    environment = os.environ | {"PATH": str(path), "PYTHONPATH": str(root / "host")}
    command = [sys.executable, "-m", "hardwire_host.image", *options]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)


def copy_of_the_tree(tmp_path):
    for name in ("host", "firmware", "boards"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("options", [[], ["--frozen"]])
def test_cached_image_needs_no_tools(options):
    expected = image.find_or_build(frozen=bool(options))
    run = run_image(ROOT, *options)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{expected}\n", "")


def test_no_debian_is_one_line(tmp_path):
    run = run_image(copy_of_the_tree(tmp_path))
    assert (run.returncode, run.stdout) == (FAILED, "")
    assert run.stderr.count("\n") == 1
    assert "no apt-get" in run.stderr
    assert "--image PATH" in run.stderr


def test_frozen_image_follows_its_sources(tmp_path, monkeypatch):
    root = copy_of_the_tree(tmp_path)
    monkeypatch.setattr(image, "ROOT", root)
    seen = {image._path(image._recipe(), frozen=True)}
    for name in (
        "firmware/app.py",
        "firmware/lib/busio.py",
        "firmware/manifest.py",
        "boards/w5500_evb_pico.py",
    ):
        with (root / name).open("a") as file:
            file.write("# edited\n")
        seen.add(image._path(image._recipe(), frozen=True))
    assert len(seen) == 5
