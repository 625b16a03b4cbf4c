"""The device of this board: its map, and behind it everything that Modbus can tell and keep.

In: a map.bin, the board. Out: a `map.Device` whose bank has all function codes, identification, files and queues, and
whose retained and safe values are at work. Never: no device: a map that cannot be used is logged, the next one taken.

Board.equip unloads this module: what is called later must not use its names.
"""

import gc
import io
import os
import sys

from . import __version__, log
from .compat import const
from .map_file import PATH, MapError, load, read
from .modules import Late
from .records import Frozen, Plain, Texts
from .status import Status

# Functions that most clients never use, and who has them.
_FUNCTIONS = (
    ("hardwire.wire.modbus_diagnostics", (0x07, 0x08, 0x0B, 0x0C, 0x11, 0x2B)),
    ("hardwire.wire.modbus_records", (0x14, 0x15, 0x18)),
)
_WRITE_FILE_RECORD = const(0x15)

_MAP_FILE = const(1)  # what FC 14 reads the map by
_LOG_FILE = const(0xFFFF)  # and the last messages

# Objects of the device identification (AP 6.21): where the map has none, and those that only the board knows
_VENDOR = const(0)
_PRODUCT_CODE = const(1)
_REVISION = const(2)
_MODEL = const(5)
_APPLICATION = const(6)
_MAP_CRC = const(0x80)
_RESET_CAUSE = const(0x81)
_CHIP = const(0x82)
_UPTIME = const(0x83)
_MAC = const(0x84)

_NO_MAP = b"HWM1\0\0\0\0"


def equip(board):
    """The map.Device of `board`. Its map: the user's /map.bin, else what came with the app, else what is frozen in."""
    device, source, refused = _first_map()
    bank = device.bank
    for module, codes in _FUNCTIONS:
        for code in codes:
            bank.register(code, Late(module, code), writes=code == _WRITE_FILE_RECORD)
    bank.files[_MAP_FILE] = source
    bank.files[_LOG_FILE] = Texts(log.lines, log.RING, log.LONGEST + log.STAMP)
    if device.files:
        from .record_file import File

        for number, records, writable, path in device.files:
            _make_folders(path)
            bank.files[number] = File(path, records, writable)
    device.queues = {}
    if device.fifos:
        from .wire.modbus_records import Fifo

        for address, depth, name in device.fifos:
            device.queues[name] = bank.fifos[address] = Fifo(depth)
    _identify(board, bank, source)

    retained = None
    if any(device.retained):
        from .retained import Retained

        retained = Retained(bank, device.retained)
        retained.load()
        device.changed = retained.changed
        board.net.every_tick(retained.tick)
        board.at_stop(retained.close)
    if device.safe:
        from .safety import Safety

        board.net.every_tick(Safety(bank, *device.safe).tick)

    bank.exception_status = Status(bank, retained, refused)
    return device


def _first_map():
    """(Device, what FC 14 reads as its file, whether a map was there and could not be used)"""
    refused = False
    for folder in [""] + [folder + "/" for folder in sys.path if folder and folder[0] != "."]:
        path = folder + PATH
        try:
            return load(path), Plain(path), refused
        except OSError:  # there is none
            continue
        except (MapError, MemoryError) as error:
            refused = True
            log.error("%s: %s", path, error)
            gc.collect()
    try:
        import map_bin
    except ImportError:
        log.error("no map: this device has no data")
        data = _NO_MAP
    else:
        data = map_bin.DATA
    return read(io.BytesIO(data)), Frozen(data), refused


def _make_folders(path):
    at = path.find("/", 1)
    while at > 0:
        try:
            os.mkdir(path[:at])
        except OSError:  # it is there
            pass
        at = path.find("/", at + 1)


def _identify(board, bank, source):
    head = bytearray(8)
    source.read(0, 4, head, 0)  # magic, CRC-32
    name = board.settings["name"].encode()
    mac = ":".join(["%02x" % byte for byte in board.mac]).encode()
    known = bank.identity
    for number, value in (
        (_VENDOR, b"hardwire"),
        (_PRODUCT_CODE, board.settings["board"].encode()),
        (_REVISION, __version__.encode()),
        (_MODEL, board.pins.NAME.encode()),
        (_APPLICATION, name),
        (_MAP_CRC, b"map %08x" % int.from_bytes(head[4:], "little")),
        (_RESET_CAUSE, board.started_by().encode()),
        (_CHIP, lambda: b"W5500 version %d" % board.chip_version),
        (_UPTIME, lambda: b"up %d s" % board.net.uptime_s),
        (_MAC, mac),
    ):
        known.setdefault(number, value)
    bank.server_id = b"\x01"
