"""The MicroPython image for the RP2040: built from Debian's packages, kept under a key of its recipe.

In: the pins in pyproject.toml; for a frozen image also firmware/, boards/ and the board libraries installed
beside this package. Out: the path of a UF2. Never: half an image in the cache, a binary from the network.

`python -m hardwire_host.image [--frozen]` prints the path on stdout (`make image`).
"""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import debian
from .errors import FAILED, INTERRUPTED, HardwireError
from .uf2 import FLASH, describe

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "image"
PROJECT = ROOT / "pyproject.toml"
MANIFEST = ROOT / "firmware" / "manifest.py"

BOARD = "RPI_PICO"  # no network driver of its own: the W5500 is ours
PLAIN_MANIFEST = 'freeze("$(PORT_DIR)/modules")\ninclude("$(MPY_DIR)/extmod/asyncio")\n'
KEPT = 8  # images; each edit of firmware/ makes another frozen one (1 MB)

COMMANDS = {  # command -> Debian package that brings it
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "cmake": "cmake",
    "ninja": "ninja-build",
    "make": "make",
    "gcc": "gcc",  # mpy-cross and pioasm run here
    "g++": "g++",
}
LIBRARIES = {  # compiler, file it must find -> Debian package that brings it
    ("arm-none-eabi-gcc", "nano.specs"): "libnewlib-arm-none-eabi",
    ("gcc", "crt1.o"): "libc6-dev",
}

# The image has no C++ but pico-sdk's operator new, which nothing calls. Without that, linked as C, it needs
# no libstdc++-arm-none-eabi-newlib: 2 GB of disk, twice everything else together.
NO_NEW = "-DPICO_CXX_DISABLE_ALLOCATION_OVERRIDES=1"
LINK = "<CMAKE_C_COMPILER> <FLAGS> <CMAKE_CXX_LINK_FLAGS> <LINK_FLAGS> <OBJECTS> -o <TARGET> <LINK_LIBRARIES>"
LINK += " -lm"

PYTHON = Path(sys.executable).parent.resolve() / "python3"  # in one spelling: another one compiles all anew

Report = Callable[[str], None]


def find_or_build(frozen: bool = False, report: Report | None = None) -> Path:
    """The UF2 of this recipe, from the cache or built now (about a minute, and the tools' installation).

    Args:
        frozen: with firmware/, boards/ and the board libraries frozen in.
        report: gets a line per step when something has to be done; default: stderr.

    Raises:
        HardwireError: what is missing, or what failed and where its log is.
    """
    report = report or _stderr
    try:
        recipe = _recipe()
        image = _path(recipe, frozen)
        if not image.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            with _lock(report) as lock:
                while not (image := _path(recipe, frozen)).exists():
                    log = debian.Log(CACHE / "build.log", lock)
                    uf2 = _build(recipe, MANIFEST if frozen else None, log, report)
                    if image == _path(recipe, frozen):  # else a source was edited meanwhile
                        uf2.rename(image)
                _prune()
        with suppress(OSError):  # a cache of another user
            os.utime(image)
        return image
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}"
        raise HardwireError(FAILED, f"cannot build the MicroPython image: {reason}") from None


def _recipe():
    """Pinned suite and upstream versions, [tool.hardwire.image]."""
    if not PROJECT.exists():
        raise HardwireError(FAILED, "an image is built from a source tree", "give a ready one: --image PATH")
    return tomllib.loads(PROJECT.read_text())["tool"]["hardwire"]["image"]


def _frozen_files():
    """(name, path) of all that firmware/manifest.py freezes, and of that file."""
    for folder in (ROOT / "firmware", ROOT / "boards"):
        for path in sorted(folder.rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path
    for requirement in tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]["board"]:
        name = requirement.partition("==")[0]
        try:
            files = importlib.metadata.files(name)
        except importlib.metadata.PackageNotFoundError:
            raise HardwireError(FAILED, f"{name} is not installed", "make setup") from None
        for path in sorted(files or ()):
            if path.suffix == ".py":
                yield path.as_posix(), Path(path.locate())


def _path(recipe, frozen):
    kind = "-frozen" if frozen else ""
    key = _key(recipe, _frozen_files() if frozen else ())
    return CACHE / f"{BOARD}-{recipe['micropython']}{kind}-{key}.uf2"


def _key(recipe, files=()):
    digest = hashlib.sha256(repr(sorted(recipe.items())).encode())
    for name, path in [("recipe", Path(__file__)), *files]:
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()[:16]


def _prune():
    for old in sorted(CACHE.glob("*.uf2"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink()


@contextmanager
def _lock(report: Report) -> Iterator[int]:
    """One build at a time. The file descriptor is for the tools: those of a killed build may still run."""
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("image: waiting for another build")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _build(recipe, manifest, log, report):
    for stale in CACHE.glob("new-*"):  # of a killed build
        shutil.rmtree(stale)
    missing = _missing()
    if missing:
        debian.install(missing, log, report)
    tree = CACHE / f"tree-{_key(recipe)}"
    if not tree.exists():
        for stale in CACHE.glob("tree-*"):  # of another recipe
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix="new-", dir=CACHE) as temporary:
            new = Path(temporary) / "micropython"
            _unpack(recipe, _downloads(recipe, log, report), new, log, report)
            report("image: compiling mpy-cross")
            options = [f"-j{os.cpu_count()}", f"PYTHON={PYTHON}", "COPT=-O0"]  # it runs for a second
            make = ["make", "-C", "mpy-cross", *options]
            log.run("compiling mpy-cross", make, cwd=new, env=_environment(recipe, new))
            new.rename(tree)
    return _compile(recipe, tree, manifest, log, report)


def _missing():
    """Debian packages to install."""
    missing = {package for command, package in COMMANDS.items() if not shutil.which(command)}
    missing |= {package for (compiler, name), package in LIBRARIES.items() if not _finds(compiler, name)}
    return missing


def _finds(compiler, name):
    if not shutil.which(compiler):
        return False
    command = [compiler, f"-print-file-name={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return os.sep in found  # a compiler that does not find it prints the name as it is


def _downloads(recipe, log, report):
    """Folder with the pinned packages, fetched once."""
    names = [f"{name}={recipe[name]}" for name in ("suite", "micropython", "pico-sdk", "tinyusb", "mbedtls")]
    folder = CACHE / f"debian-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:16]}"
    if not folder.exists():
        report(f"image: fetching the sources of MicroPython {recipe['micropython']} from Debian")
        with tempfile.TemporaryDirectory(prefix="new-", dir=CACHE) as temporary:
            new = Path(temporary) / "debian"
            new.mkdir()
            debian.fetch(
                recipe["suite"],
                {name: recipe[name] for name in ("micropython", "mbedtls")},
                {f"{name}-source": recipe[name] for name in ("pico-sdk", "tinyusb")},
                new,
                log,
            )
            new.rename(folder)
    return folder


def _unpack(recipe, folder, new, log, report):
    """MicroPython's source tree with the submodules that Debian packages separately, in `new`."""
    report("image: unpacking")
    _extract(folder, "micropython_*.orig.tar.*", new)
    (new / "lib" / "micropython-lib").mkdir(exist_ok=True)
    (new / "lib" / "micropython-lib" / "README.md").touch()  # CMake's sign that it is there; nothing needs it
    _extract(folder, "mbedtls_*.orig.tar.*", new / "lib" / "mbedtls", ("library", "include", "3rdparty"))
    for name in ("pico-sdk", "tinyusb"):
        package = _only(folder, f"{name}-source_*.deb")
        unpacked = new.parent / name
        log.run("unpacking", ["dpkg-deb", "-x", package, unpacked], cwd=folder, env=_environment(recipe))
        shutil.rmtree(new / "lib" / name, ignore_errors=True)
        (unpacked / "usr" / "src" / name).rename(new / "lib" / name)


def _extract(folder, pattern, to, parts=None):
    """Unpack a source archive without its top folder; `parts` of that folder only."""
    shutil.rmtree(to, ignore_errors=True)
    with tarfile.open(_only(folder, pattern)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # 3.11.4 and later have it
        for member in archive:
            member.name = member.name.partition("/")[2]
            if member.name and (not parts or member.name.partition("/")[0] in parts):
                archive.extract(member, to)


def _only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def _compile(recipe, tree, manifest, log, report):
    """Build in the tree, where a second image (frozen, or with changed files) costs seconds."""
    build = tree / "build"
    env = _environment(recipe, tree)
    report("image: compiling MicroPython" + ("" if build.exists() else ", about a minute"))
    for old in ("frozen_mpy", "frozen_content.c", "firmware.bin"):  # reused by date; we go by content
        path = build / old
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if not manifest:
        manifest = tree / "plain_manifest.py"
        manifest.write_text(PLAIN_MANIFEST)
    options = {
        "MICROPY_BOARD": BOARD,
        "MICROPY_FROZEN_MANIFEST": manifest,
        "CMAKE_CXX_LINK_EXECUTABLE": LINK,
        "PICO_NO_PICOTOOL": 1,  # it would be downloaded; uf2conv makes the UF2
        "Python3_EXECUTABLE": PYTHON,  # the manifest finds the board libraries where it runs
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    configure = ["cmake", "-S", tree / "ports" / "rp2", "-B", build, "-G", "Ninja", *defines]
    log.run("configuring MicroPython", configure, cwd=tree, env=env | {"CXXFLAGS": NO_NEW})
    log.run("compiling MicroPython", ["ninja", "-C", build], cwd=tree, env=env)
    uf2 = build / "firmware.uf2"
    uf2conv = [PYTHON, tree / "tools" / "uf2conv.py", "-f", "RP2040", "-b", hex(FLASH), "-c", "-o", uf2]
    log.run("writing the UF2", [*uf2conv, build / "firmware.bin"], cwd=tree, env=env)
    describe(uf2)
    return uf2


def _environment(recipe, tree=None):
    """For the tools: of the caller's variables those that cannot change the result, and the sources' date."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    env |= {"LC_ALL": "C", "MICROPY_GIT_TAG": f"v{recipe['micropython']}"}
    if tree:
        env["SOURCE_DATE_EPOCH"] = str(int((tree / "py" / "mpconfig.h").stat().st_mtime))
    return env


def _stderr(line):
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Command line of `make image`."""
    try:
        print(find_or_build(frozen="--frozen" in sys.argv[1:]))
    except HardwireError as error:
        _stderr(f"image: {error}")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
