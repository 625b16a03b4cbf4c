"""What is frozen into an image: the programs here, `hardwire` with its boards, lib/, and the board libraries.

For MicroPython's own build, on any port:
    make -C ports/rp2 BOARD=W5500_EVB_PICO FROZEN_MANIFEST=/path/to/firmware/manifest.py
The board libraries are those installed for the Python (3.11 or later) that runs the build, at the versions
pinned in pyproject.toml, extra `board`; `make setup` installs them in .venv. A file of the same name on the
board's own filesystem comes before a frozen module, except for boot.py and main.py.
"""

import atexit
import glob
import importlib.metadata
import os
import sys
import tempfile

import tomllib

OPTIMISE = 2  # as deployed: no asserts, but line numbers in tracebacks

freeze("$(PORT_DIR)/modules")
include("$(MPY_DIR)/extmod/asyncio")

for program in sorted(glob.glob("*.py")):
    if program != "manifest.py":
        module(program, opt=OPTIMISE)
package("hardwire", opt=OPTIMISE)
freeze("lib", opt=OPTIMISE)

# A manifest cannot rename, and the package hardwire.boards lies in ../boards.
staging = tempfile.TemporaryDirectory()  # also for the map: a module that holds map.bin stays in flash
atexit.register(staging.cleanup)
os.mkdir(os.path.join(staging.name, "hardwire"))
os.symlink(os.path.abspath("../boards"), os.path.join(staging.name, "hardwire", "boards"))
package("hardwire/boards", base_path=staging.name, opt=OPTIMISE)

sys.path.insert(0, os.path.abspath("../host"))
from hardwire_host.map.build import build  # noqa: E402
from hardwire_host.map.model import parse  # noqa: E402

with open("map.toml", encoding="utf-8") as text:
    map_bin = build(parse(text.read(), text.name))
with open(os.path.join(staging.name, "map_bin.py"), "w") as made:
    made.write("DATA = %r\n" % map_bin)
freeze(staging.name, "map_bin.py")

with open("../pyproject.toml", "rb") as project:
    libraries = tomllib.load(project)["project"]["optional-dependencies"]["board"]
for library in libraries:
    distribution = importlib.metadata.distribution(library.partition("==")[0])
    for file in distribution.files:
        if file.suffix == ".py":
            freeze(str(distribution.locate_file("")), str(file), opt=OPTIMISE)


def align(path):
    """Put right what MicroPython (1.25 at least) generates: native functions aligned to 2 bytes.

    Those for ARMv6-M load literals relative to a program counter rounded to 4: some would read others.
    """
    if os.path.exists(path):
        with open(path) as generated:
            text = generated.read()
        aligned = text.replace("__attribute__ ((aligned (2)))", "__attribute__ ((aligned (4)))")
        if aligned != text:
            with open(path, "w") as generated:
                generated.write(aligned)


if "-o" in sys.argv:  # makemanifest.py's output, relative to the folder it was started in
    atexit.register(align, sys.argv[sys.argv.index("-o") + 1])
