"""device.equip: which map counts, what the board adds to it; functions that are loaded when they are asked for."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from hardwire import log
from hardwire.device import equip
from hardwire.modules import Late, unload
from hardwire.wire.bank import BareBank
from hardwire_host.map.build import build
from hardwire_host.map.model import parse
from modbus_common import execute

PUMP = b"PUMP"


def binary(name, more=""):
    return build(parse(f'{more}\n[[coils]]\nname = "{name}"\naddress = 0\n', "x.toml"))


@pytest.fixture
def board(tmp_path, monkeypatch):
    """What `equip` knows of a board; its flash is tmp_path, its tree tmp_path/a."""
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".frozen", str(tmp_path / "a"), *sys.path])
    monkeypatch.delitem(sys.modules, "map_bin", raising=False)
    ticking, stopping = [], []
    return SimpleNamespace(
        settings={"name": "press-4", "board": "w5500_evb_pico"},
        pins=SimpleNamespace(NAME="W5500-EVB-Pico"),
        mac=bytes((2, 0, 0, 0, 0, 0x1F)),
        started_by=lambda: "watchdog",
        chip_version=4,
        net=SimpleNamespace(uptime_s=17, every_tick=ticking.append),
        at_stop=stopping.append,
        ticking=ticking,
        stopping=stopping,
        flash=tmp_path,
    )


def frozen(monkeypatch, data):
    module = ModuleType("map_bin")
    module.DATA = data
    monkeypatch.setitem(sys.modules, "map_bin", module)


def status(device):
    return execute(device.bank, bytes([7]))[1]


def test_the_boards_own_map_comes_first(board, monkeypatch):
    frozen(monkeypatch, binary("frozen"))
    (board.flash / "a/map.bin").write_bytes(binary("of_the_app"))
    (board.flash / "map.bin").write_bytes(binary("own"))
    for name in ("own", "of_the_app", "frozen"):
        device = equip(board)
        assert name in device.io and status(device) == 0
        for path in (board.flash / "map.bin", board.flash / "a/map.bin"):
            if path.exists():
                path.unlink()
                break


@pytest.mark.parametrize("damage", [b"", b"HWM1", b"\0" * 100])
def test_a_map_that_cannot_be_used_costs_itself_alone(board, damage):
    (board.flash / "a/map.bin").write_bytes(binary("of_the_app"))
    (board.flash / "map.bin").write_bytes(damage or binary("own")[:-1])
    device = equip(board)
    assert "of_the_app" in device.io
    assert status(device) == 4
    assert "map.bin" in log.lines()[-1]


def test_no_map_at_all(board):
    device = equip(board)
    assert [len(table) for table in device.tables] == [0, 0, 0, 0]
    assert execute(device.bank, bytes.fromhex("03 0000 0001")) == bytes((0x83, 2))


@pytest.mark.parametrize("where", ["file", "frozen"])
def test_the_map_is_file_1(board, monkeypatch, where):
    data = binary("own", '[device]\nvendor_name = "x"')
    if where == "file":
        (board.flash / "map.bin").write_bytes(data)
    else:
        frozen(monkeypatch, data)
    device = equip(board)
    records = (len(data) + 1) // 2
    read = b""
    while len(read) < 2 * records:
        count = min(100, records - len(read) // 2)
        group = b"\x06\x00\x01" + (len(read) // 2).to_bytes(2) + count.to_bytes(2)
        answer = execute(device.bank, bytes((0x14, 7)) + group)
        assert answer[:4] == bytes((0x14, 2 * count + 2, 2 * count + 1, 6))
        read += answer[4:]
    assert read == data + bytes(len(data) % 2)


def test_the_log_is_the_last_file(board):
    device = equip(board)
    log.info("a line of this test")
    size = (log.LONGEST + log.STAMP) // 2
    number = len(log.lines()) - 1
    at = (number * size).to_bytes(2)
    answer = execute(device.bank, b"\x14\x07\x06\xff\xff" + at + size.to_bytes(2))
    assert answer[4:].rstrip(b"\0").endswith(b"info: a line of this test")
    beyond = (log.RING * size).to_bytes(2)
    assert execute(device.bank, b"\x14\x07\x06\xff\xff" + beyond + b"\0\1") == b"\x94\2"


def test_identification(board):
    (board.flash / "map.bin").write_bytes(binary("own", '[device]\nvendor_name = "Plant"'))
    known = {
        number: value() if callable(value) else value for number, value in equip(board).bank.identity.items()
    }
    assert known[0] == b"Plant"
    assert (known[1], known[5], known[6]) == (b"w5500_evb_pico", b"W5500-EVB-Pico", b"press-4")
    assert (known[0x81], known[0x82], known[0x83]) == (b"watchdog", b"W5500 version 4", b"up 17 s")
    assert known[0x84] == b"02:00:00:00:00:1f" and known[0x80].startswith(b"map ")


MORE = """
[communication]
timeout_s = 1.0
[[holding_registers]]
name = "kept"
address = 0
retained = true
safe = 7
[[files]]
name = "recipe"
number = 2
path = "data/of/recipe.bin"
records = 10
[[fifos]]
name = "samples"
address = 9
depth = 2
"""


def test_files_queues_retained_and_safe(board):
    (board.flash / "map.bin").write_bytes(build(parse(MORE, "x.toml")))
    device = equip(board)
    assert (board.flash / "data/of").is_dir()
    device.queues["samples"].put(0x1234)
    assert execute(device.bank, bytes.fromhex("18 0009")) == bytes.fromhex("18 0004 0001 1234")
    assert len(board.ticking) == 2
    device.io.kept = 99
    (close,) = board.stopping
    close()
    assert equip(board).io.kept == 99


def test_late_is_replaced_by_what_its_module_installs(monkeypatch):
    module = ModuleType("plant_functions")
    module.install = lambda bank: bank.register(65, lambda request, at, n, bank, response, to: 17)
    monkeypatch.setitem(sys.modules, "plant_functions", module)
    bank = BareBank()
    late = Late("plant_functions", 65)
    bank.register(65, late)
    for function in (late, late, bank.functions[65]):  # a connection may have kept it
        assert function(b"\x41", 0, 1, bank, bytearray(9), 0) == 17
    assert bank.functions[65] is not late


def test_late_without_its_module():
    bank, errors = BareBank(), []
    bank.on_error = errors.append
    bank.register(65, Late("no_such_module", 65))
    assert bank.functions[65](b"\x41", 0, 1, bank, bytearray(9), 0) == -4
    assert isinstance(errors[0], ImportError)


def test_unload():
    package, module = ModuleType("plant"), ModuleType("plant.pump")
    package.pump, module.RPM = module, 3000
    sys.modules |= {"plant": package, "plant.pump": module}
    unload(lambda name: name == "plant.pump")
    assert "plant.pump" not in sys.modules and not hasattr(package, "pump") and not vars(module)
    del sys.modules["plant"]
