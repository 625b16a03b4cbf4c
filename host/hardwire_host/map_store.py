"""A board's own map: the file that comes before the map of its firmware.

In: a target behind its REPL, map.bin or nothing. Out: the file, there or gone. Never: half a file; a map that the
board's firmware cannot load, tried there before it is taken; a board left without its app, unless that was asked for.
"""

import json

from .errors import FAILED, INTERRUPTED, WRONG_BOARD, HardwireError
from .target import Target, session, uninterrupted

ANSWER_S = 60.0  # longest silence: imports from flash, on an emulated board and a busy PC
PIECE = 1024  # bytes of a file sent at once: the board holds them twice

# On the board; what is printed is JSON. Without hardwire.map_file the firmware is older than maps.
_BEGIN = """import json
try:
 from hardwire.map_file import PATH, load
 print(json.dumps(PATH))
except ImportError: print("null")
file = None
"""
_OPEN = "file = open(PATH + '.new', 'wb')\n"
_WRITE = "file.write(%r)\n"
_TRY = """file.close()
import gc, os
gc.collect()
problem = None
try: load(PATH + ".new")
except (MemoryError, OSError, ValueError) as error: problem = str(error)
if problem: os.remove(PATH + ".new")
print(json.dumps(problem))
"""
_SWITCH = """import micropython, os
micropython.kbd_intr(-1)
try: os.rename(PATH + ".new", PATH)
finally: micropython.kbd_intr(3)
"""
_REMOVE = """import os
try: os.remove(PATH)
except OSError: pass
"""


def put(target: Target, data: bytes | None, *, restart: bool = True) -> str:
    """Make `data`, a map.bin, the board's own map; None: the one of its firmware counts again. Returns the file's path.

    restart: start the app again. Raises HardwireError: WRONG_BOARD if the board cannot load it; then nothing changed.
    """
    done = False

    def run(code: str):
        output, errors = transport.exec_raw(code, timeout=ANSWER_S)
        if errors:
            last = (errors.decode(errors="replace").strip().splitlines() or ["no traceback"])[-1]
            raise HardwireError(FAILED, f"{target.name} says {last}", "nothing was changed")
        return json.loads(output) if output else None

    try:
        with session(target, soft_reset=True, restart=restart, timeout=ANSWER_S) as transport:
            path = run(_BEGIN)
            if path is None:
                raise HardwireError(
                    WRONG_BOARD, f"no firmware that knows maps on {target.name}", "hardwire deploy"
                )
            if data is None:
                run(_REMOVE)
            else:
                run(_OPEN)
                for at in range(0, len(data), PIECE):
                    run(_WRITE % data[at : at + PIECE])
                problem = run(_TRY)
                if problem:
                    raise HardwireError(
                        WRONG_BOARD, f"{target.name} does not take the map: {problem}", "nothing was changed"
                    )
                with uninterrupted():
                    run(_SWITCH)
            done = True
    except KeyboardInterrupt:
        state = "the board has the new map" if done else "the board's map is as it was"
        raise HardwireError(INTERRUPTED, f"interrupted: {state}") from None
    return f"{target.name}:/{path}"
