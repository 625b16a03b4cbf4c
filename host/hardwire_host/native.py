"""rp2040py's compiled core, compiled once more for this very Python: three times as fast as the wheel's.

In: the C files that the rp2040py wheel carries beside its modules. Out: the same modules in a cache folder,
which `install` makes Python import instead. Never: a change to the installed package; a need: without a
compiler or Python.h the wheel's own modules serve.

The wheel is built for the stable ABI, where every call between its modules starts with an attribute lookup.
Compiled for one version of Python the same C makes direct calls. `python -m hardwire_host.native` compiles.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from .errors import FAILED, HardwireError

PACKAGE = "rp2040py.native"
SUFFIX = EXTENSION_SUFFIXES[0]
# -O3 takes twice as long to compile and runs no faster: the time goes into calls, not into arithmetic.
FLAGS = ("-O1", "-fPIC", "-shared", "-fwrapv", "-DNDEBUG", "-w")


@functools.cache
def cache() -> Path | None:
    """The folder of the modules for this Python and the installed rp2040py; None without rp2040py."""
    try:
        key = f"rp2040py-{version('rp2040py')}-{sysconfig.get_config_var('SOABI')}"
    except PackageNotFoundError:
        return None
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".cache" / key
    return platformdirs.user_cache_path("hardwire") / key


class _Finder:
    """Finds the modules of `PACKAGE` in the cache, if they are there."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != PACKAGE or (folder := cache()) is None:
            return None
        file = folder / f"{module}{SUFFIX}"
        return importlib.util.spec_from_file_location(name, file) if file.exists() else None


def install() -> None:
    """Prefer the cache from now on; to be called before rp2040py is imported."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def build(report: Callable[[str], None] = lambda line: None) -> bool:
    """Fill the cache if it is empty: some 20 s of CPU time, on all CPUs.

    Returns:
        Whether the cache is filled; if not, `report` has been told what this machine lacks.

    Raises:
        HardwireError: the compiler fails.
    """
    folder = cache()
    if folder is None:
        return False
    if folder.exists():
        return True
    compiler = shutil.which("gcc") or shutil.which("cc")
    include = sysconfig.get_paths()["include"]
    package = Path(importlib.util.find_spec("rp2040py").submodule_search_locations[0])
    sources = sorted((package / "native").glob("*.c"))
    needs = {
        "gcc": compiler,
        "python3-dev": Path(include, "Python.h").exists(),
        "C files in rp2040py": sources,
    }
    if lacking := [name for name, there in needs.items() if not there]:
        report(f"the emulator stays slow: no {', no '.join(lacking)}")
        return False
    report("compiling the emulator for this Python")
    _compile([compiler, *FLAGS, f"-I{include}"], sources, folder)
    return True


def _compile(command: list[str], sources: list[Path], folder: Path) -> None:
    def module(source: Path) -> subprocess.CompletedProcess:
        output = ["-o", str(new / f"{source.stem}{SUFFIX}"), str(source)]
        return subprocess.run([*command, *output], check=False, capture_output=True, text=True)

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for run in pool.map(module, sources):
                if run.returncode:
                    reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
                    raise HardwireError(FAILED, f"compiling the emulator failed: {reason}")
        try:
            new.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise


if __name__ == "__main__":
    try:
        build(lambda line: print(line, file=sys.stderr))
    except HardwireError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
