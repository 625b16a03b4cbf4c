"""The complete firmware for the bench: every service on that it asks, and what it asks of them.

In: a board's name. Out: a filesystem image, and what to ask. Never: another firmware than the one that is deployed;
its app has more registers, and tells how much heap is in use.
"""

import json
import tempfile
from pathlib import Path

from hardwire import config

from .bench_files import KEY, RAM_FILE, RAM_SIZE
from .bundle import CONFIG_FILE, MAP_SOURCE, build_filesystem, firmware_folder, pack, settings_text
from .errors import FAILED, HardwireError

SERVICES = ("modbus", "files", "discard", "chargen")  # with Echo, too, four Modbus clients find no socket
_DEFAULTS = config.defaults()["services"]
PORT = _DEFAULTS["modbus"]["port"]
SETTINGS = json.dumps(
    {
        "services": {name: {"connections": 1} for name in SERVICES if not _DEFAULTS[name]["connections"]}
        | {"modbus": {"writes": True}, "files": {"write_key": KEY}}
    }
)

# Port, and the request that starts it.
CHARGEN = _DEFAULTS["chargen"]["port"], b""
DISCARD = _DEFAULTS["discard"]["port"], b""
BULK_SKIPPED, BULK = 16_384, 131_072  # bytes not counted, while memories fill and windows open; bytes counted
FOUR = b""  # asked by the first of four clients, so that they are served in turn
HEAP_USED = bytes.fromhex(
    "000100000006010200100020"
)  # the answer ends with it: bytes, four of them, lowest first
FILES = _DEFAULTS["files"]["port"]
FREE_HEAP = bytes.fromhex("000100000006010400020001")  # the answer ends with it: KB, two bytes

# 125 registers are the most that one request reads. The hook reads its counter into 32 discrete inputs, which the
# other requests do not touch; it allocates nothing: small integers only.
_LARGER = "count = 100", "count = 125"
_POINT = """
[[discrete_inputs]]
name = "heap_used"
address = 16
count = 32
"""
# Coil 15 hooks ten ranges, of which the last holds the register that FC03 of 1 reads.
TEN_HOOKS = bytes.fromhex("0001000000060105000fff00")
_BEFORE = "    await board.run("
_HOOK = """
    def heap_used(table, address, count):
        data = table.data
        used = gc.mem_alloc()
        data[2] = used & 0xFF
        data[3] = used >> 8 & 0xFF
        data[4] = used >> 16 & 0xFF

    def nothing(table, address, count):
        return 0

    def hook_ten(table, address, count):
        for first in range(108, -1, -12):
            bank.holding_registers.before_read(nothing, first, 12)

    bank.discrete_inputs.before_read(heap_used, 16, 32)
    bank.coils.after_write(hook_ten, 15, 1)
"""
_SERVER = "        return file_server(board, requests)\n"
_OFFERING = f"""
        server = file_server(board, requests)
        server.folder.offer("{RAM_FILE}", bytes({RAM_SIZE}))
        return server
"""


def _changed(name: str, *changes: tuple[str, str]) -> str:
    text = (firmware_folder() / name).read_text()
    for before, after in changes:
        if text.count(before) != 1:
            raise HardwireError(FAILED, f"{name} does not say {before!r} once")
        text = text.replace(before, after)
    return text


def filesystem(board: str, size: int) -> bytes:
    """The firmware as it is deployed. Raises HardwireError."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "app.py")
        app.write_text(_changed("app.py", (_BEFORE, _HOOK + _BEFORE), (_SERVER, _OFFERING)))
        app.with_name(MAP_SOURCE).write_text(_changed(MAP_SOURCE, _LARGER) + _POINT)
        return build_filesystem(board, SETTINGS, app, size)


def frozen_filesystem(board: str, size: int) -> bytes:
    """For an image with the firmware frozen in: the settings alone."""
    return pack(board, {CONFIG_FILE: settings_text(SETTINGS, board).encode()}, size)
