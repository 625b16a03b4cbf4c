"""A device by its own map on the emulated board: values, files, queues, what survives a power cut, what is safe.

Times are device time, heap is the board's.
"""

import pytest
from pymodbus.pdu.file_message import FileRecord

from hardwire.retained import EVERY_MS, Retained
from hardwire.wire.modbus import Bank
from hardwire_host.bundle import build_filesystem, pack, unpack
from hardwire_host.clients.modbus import COIL, HOLDING, ModbusClient
from hardwire_host.errors import MODBUS, WRONG_BOARD, HardwireError
from hardwire_host.map.build import build
from hardwire_host.map.model import parse
from hardwire_host.map_store import put
from hardwire_host.target import Target

BOARD = "w5500_evb_pico"
MODBUS_PORT = 502
WAIT_S = 300  # wall time; a PC under load is slow
TIMEOUT_S = 2  # of the communication
HEAP_MAX = 12 * 1024  # bytes, for the map in LARGE
BOOT_S = 20

PLANT = f"""
[device]
vendor_name = "Plant"
product_code = "PUMP"

[communication]
timeout_s = {TIMEOUT_S}

[[coils]]
name = "pump"
address = 0
initial = true
safe = false

[[coils]]
name = "spare"
address = 1
count = 15

[[holding_registers]]
name = "setpoint"
address = 0
type = "float32"
min = 0
max = 100
initial = 20.5
safe = 5.0

[[holding_registers]]
name = "total"
address = 2
type = "uint64"
retained = true

[[holding_registers]]
name = "serial"
address = 10
type = "uint32"
access = "read-only"
initial = 47110815

[[holding_registers]]
name = "recipe"
address = 1000
count = 120
retained = true

[[files]]
name = "recipes"
number = 2
path = "/data/recipes.bin"
records = 200

[[fifos]]
name = "samples"
address = 500
depth = 3
"""

APP = """
from hardwire.service import Service
from hardwire.services.modbus import ModbusServer

async def main(board):
    device = board.equip()
    if "samples" in device.queues:
        for value in (1, 2, 3, 4):
            device.queues["samples"].put(value)
    await board.run([Service("modbus", ModbusServer(device.bank), chunk=520)])
"""


def large() -> str:
    """2,000 coils, 2,000 discrete inputs, 1,000 holding and 1,000 input registers; 280 names."""
    lines = []
    for table, count, step in (
        ("coils", 2000, 40),
        ("discrete_inputs", 2000, 40),
        ("holding_registers", 1000, 10),
        ("input_registers", 1000, 12),
    ):
        for at in range(0, count, step):
            size = min(step, count - at)
            lines += [
                f"[[{table}]]",
                f'name = "{table[:3]}_value_{at}"',
                f"address = {at}",
                f"count = {size}",
            ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def live(boot, tmp_path_factory):
    app = tmp_path_factory.mktemp("plant") / "app.py"
    app.write_text(APP)
    own = build(parse(PLANT, "plant.toml"))
    content = unpack(BOARD, build_filesystem(BOARD, app=app, own_map=own))
    content["large.bin"] = build(parse(large(), "large.toml"))
    live = boot(filesystem=pack(BOARD, content))
    live.wait_listening(MODBUS_PORT)
    return live


@pytest.fixture(scope="module")
def place(live):
    return "127.0.0.1", live.forward(MODBUS_PORT)


@pytest.fixture
def client(place):
    with ModbusClient(*place, timeout=WAIT_S) as client:
        yield client


def read(client, name):
    where = parse(PLANT, "plant.toml").find(name)
    table = COIL if where.table == "coils" else HOLDING
    return where.decode(client.read(table, where.address, where.size))


def write(client, name, value):
    where = parse(PLANT, "plant.toml").find(name)
    client.write(COIL if where.table == "coils" else HOLDING, where.address, where.encode(value))


def refused(function, *arguments):
    """The exception's code."""
    with pytest.raises(HardwireError) as caught:
        function(*arguments)
    assert caught.value.code == MODBUS
    return caught.value.data["exception"]["code"]


def test_initial_values(client):
    assert (read(client, "pump"), read(client, "setpoint"), read(client, "serial")) == (True, 20.5, 47110815)
    objects = client.identify()
    assert (objects["vendor_name"], objects["product_code"]) == ("Plant", "PUMP")


def test_what_the_map_forbids(client):
    assert refused(client.write, HOLDING, 10, [1, 2]) == 2  # read-only
    assert refused(client.write, HOLDING, 1, [0]) == 2  # half of a value
    assert refused(client.write, HOLDING, 0, [0x42C8, 0x0001]) == 4  # 100.00001
    assert refused(client.write, HOLDING, 0, [0x7FC0, 0x0000]) == 4  # no number
    assert refused(client.read, HOLDING, 8, 1) == 2
    assert refused(client.read, HOLDING, 10, 3) == 2
    assert read(client, "setpoint") == 20.5
    write(client, "setpoint", 100)
    assert read(client, "setpoint") == 100


def test_queue(client):
    pdu = client.request("read_fifo_queue", address=500)
    assert pdu.values == [2, 3, 4]  # the oldest went for the fourth
    assert refused(lambda: client.request("read_fifo_queue", address=501)) == 2


def test_records_of_a_file(client):
    assert client.read_records(2, 0, 3) == bytes(6)  # nothing has been written
    written = bytes(range(200))
    client.request("write_file_record", [FileRecord(file_number=2, record_number=60, record_data=written)])
    assert client.read_records(2, 59, 102) == bytes(2) + written + bytes(2)
    assert refused(client.read_records, 2, 199, 2) == 2
    assert refused(client.read_records, 3, 0, 1) == 2


def test_safe_values_when_nobody_is_heard(live, client):
    write(client, "setpoint", 80)
    write(client, "pump", True)
    assert client.request("read_exception_status").status == 0
    live.run_until(lambda: False, TIMEOUT_S + 0.5)
    assert (read(client, "setpoint"), read(client, "pump")) == (5.0, False)
    assert client.request("read_exception_status").status == 1
    write(client, "setpoint", 80)  # heard again
    live.run_until(lambda: False, 0.3)
    assert client.request("read_exception_status").status == 0


def test_retained_values_survive_a_power_cut(live, client):
    write(client, "total", 0x0102030405060708)
    live.run_until(lambda: False, EVERY_MS / 1000 + 1)
    client.close()
    live.call(live.board.power_cycle())
    live.wait_listening(MODBUS_PORT)
    with ModbusClient("127.0.0.1", live.forward(MODBUS_PORT), timeout=WAIT_S) as again:
        assert read(again, "total") == 0x0102030405060708
        assert read(again, "setpoint") == 20.5  # not retained


def test_power_cut_at_any_moment_of_a_retained_write(live, client, tmp_path):
    """The flash is looked at after every command it gets. The file is too long to be kept in littlefs's folder."""
    old, new = [0x1111] * 120, [0x2222] * 120
    spans = [[], [(2, 5), (1000, 1119)]]
    images, values = [None], []

    def look(*_levels):
        image = live.board.filesystem()
        if image == images[0]:
            return
        images[0] = image
        content = unpack(BOARD, image)
        paths = [tmp_path / "a", tmp_path / "b"]
        for path, name in zip(paths, ("retained.a", "retained.b"), strict=True):
            path.write_bytes(content.get(name, b""))
        bank = Bank(holding_registers=[(2, 4), (1000, 120)])
        Retained(bank, spans, [str(path) for path in paths]).load()
        values.append([bank.holding_registers[address] for address in range(1000, 1120)])

    write(client, "recipe", old)
    live.run_until(lambda: False, EVERY_MS / 1000 + 1)
    live.do(live.board._emulator.mcu.qspi[1].add_listener, look)  # a command takes effect when QSPI_SS rises
    write(client, "recipe", new)
    live.run_until(lambda: new in values, EVERY_MS / 1000 + 1)
    switch = values.index(new)
    assert switch >= 2  # the data are written before the folder that names them
    assert values == [old] * switch + [new] * (len(values) - switch)


def test_another_map_is_pushed_and_taken_away(live, place):
    target = Target("serial", live.repl, port=live.repl)
    other = build(parse('[[holding_registers]]\nname = "x"\naddress = 7\ninitial = 77', "other.toml"))
    with pytest.raises(HardwireError, match="does not take the map: the map is damaged") as caught:
        put(target, other[:-1])
    assert caught.value.code == WRONG_BOARD
    live.wait_listening(MODBUS_PORT)
    with ModbusClient(*place, timeout=WAIT_S) as client:
        assert read(client, "serial") == 47110815

    assert put(target, other).endswith(":/map.bin")
    live.wait_listening(MODBUS_PORT)
    with ModbusClient(*place, timeout=WAIT_S) as client:
        assert client.read(HOLDING, 7) == [77] and refused(client.read, HOLDING, 0) == 2

    put(target, None)
    live.wait_listening(MODBUS_PORT)
    with ModbusClient(*place, timeout=WAIT_S) as client:
        assert client.read(HOLDING, 99) == [0]  # the default app's


def test_a_large_map_in_memory(live):
    """Last: it stops the app."""
    code = """
import gc
from hardwire import map_file
gc.collect()
before = gc.mem_alloc()
device = map_file.load("/large.bin")
gc.collect()
print(gc.mem_alloc() - before, len(device.bank.coils), len(device.bank.input_registers))
"""
    used, coils, inputs = map(int, live.exec(code).split())
    assert (coils, inputs) == (2000, 1000)
    assert used <= HEAP_MAX
