"""rp2040py's compiled core, compiled once more for this very Python: three times as fast as the wheel's.

In: the C files that the rp2040py wheel carries beside its modules. Out: the same modules in a cache folder, which
`install` makes Python import instead. Never: a change to the installed package, a need: without a compiler or
Python.h the wheel's own modules serve.

The wheel is built for the stable ABI, where each call between its modules goes through an attribute lookup; compiled
for one Python version the same C makes direct calls. `python -m hardwire_host.virtual.native` compiles.
"""

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

from ..errors import FAILED, HardwireError

PACKAGE = "rp2040py.native"
FLAGS = ("-O1", "-fPIC", "-shared", "-fwrapv", "-DNDEBUG", "-w")  # -O3 takes twice as long to compile and runs no faster


def cache() -> Path | None:
    """The folder of the modules for this Python and the installed rp2040py, None where there is no rp2040py."""
    try:
        key = f"rp2040py-{version('rp2040py')}-{sysconfig.get_config_var('SOABI')}"
    except PackageNotFoundError:
        return None
    checkout = Path(__file__).resolve().parents[3]
    root = checkout / ".cache" if (checkout / "pyproject.toml").is_file() else platformdirs.user_cache_path("hardwire")
    return root / key


class _Finder:
    """Finds the modules of `PACKAGE` in the cache, if they are there."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != PACKAGE or (folder := cache()) is None:
            return None
        file = folder / f"{module}{EXTENSION_SUFFIXES[0]}"
        return importlib.util.spec_from_file_location(name, file) if file.exists() else None


def install() -> None:
    """Prefer the cache from now on; to be called before rp2040py is imported."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def build(report: Callable[[str], None] = lambda line: None) -> bool:
    """Fill the cache if it is empty; takes some 20 s of CPU time, on all CPUs.

    Returns:
        False: this machine cannot compile; `report` has been told what it lacks.

    Raises:
        HardwireError: the compiler fails.
    """
    folder = cache()
    spec = importlib.util.find_spec("rp2040py")
    if folder is None or spec is None or folder.exists():
        return spec is not None
    include = sysconfig.get_paths()["include"]
    compiler = shutil.which("gcc") or shutil.which("cc")
    sources = sorted(Path(spec.submodule_search_locations[0], "native").glob("*.c"))
    if lacking := [
        what
        for what, there in (("gcc", compiler), ("python3-dev", Path(include, "Python.h").exists()), ("C files", sources))
        if not there
    ]:
        report(f"the emulator stays slow: no {' and no '.join(lacking)} here")
        return False
    report("compiling the emulator for this Python")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as new, ThreadPoolExecutor(os.cpu_count()) as pool:

        def compile_one(source: Path) -> subprocess.CompletedProcess:
            output = Path(new, "modules", source.stem + EXTENSION_SUFFIXES[0])
            command = [compiler, *FLAGS, f"-I{include}", str(source), "-o", str(output)]
            return subprocess.run(command, capture_output=True, text=True)

        Path(new, "modules").mkdir()
        for run in pool.map(compile_one, sources):
            if run.returncode:
                reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
                raise HardwireError(FAILED, f"compiling the emulator failed: {reason}")
        try:
            Path(new, "modules").rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
    return True


if __name__ == "__main__":
    try:
        build(lambda line: print(line, file=sys.stderr))
    except HardwireError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
