"""`hardwire modbus read|write|map` by names and numbers, against this firmware's server with a map."""

import io
import json

import pytest

from hardwire import map_file as maps
from hardwire.records import Plain
from hardwire.wire.modbus import Bank
from hardwire_host.cli import run
from hardwire_host.errors import FAILED, MODBUS, USAGE
from hardwire_host.map.build import build
from hardwire_host.map.model import parse
from modbus_served import Served

TOML = """
[device]
vendor_name = "plant"
product_code = "P-7"
revision = "2.1"

[[coils]]
name = "pump"
address = 0

[[coils]]
name = "valves"
address = 1
count = 8

[[discrete_inputs]]
name = "door"
address = 40

[[holding_registers]]
name = "setpoint"
address = 0
type = "float32"
unit = "degC"
min = 5.0
max = 80.0
initial = 20.0

[[holding_registers]]
name = "status"
address = 2
type = "bits"
bits = { 0 = "running", 3 = "fault" }

[[holding_registers]]
name = "steps"
address = 3
type = "int16"
count = 3

[[holding_registers]]
name = "serial"
address = 10
type = "uint32"
access = "read-only"
initial = 70000

[[holding_registers]]
name = "label"
address = 300
type = "string"
length = 8

[[holding_registers]]
name = "curve"
address = 400
type = "float32"
count = 70
word_order = "CDAB"

[[input_registers]]
name = "temperature"
address = 0
type = "int16"
scale = 0.1
unit = "degC"

[[input_registers]]
name = "pressure"
address = 1
"""


class _Plant(Served):
    def __init__(self, path):
        path.write_bytes(build(parse(TOML, "plant.toml")))
        self.device = maps.read(io.BytesIO(path.read_bytes()))
        self.requests = []
        super().__init__(self.device.bank, files={1: Plain(path)})


@pytest.fixture
def plant(tmp_path):
    with _Plant(tmp_path / "map.bin") as running:
        yield running


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "plant.toml"
    path.write_text(TOML)
    return str(path)


@pytest.fixture
def hardwire(capsys):
    def call(*arguments):
        code = run(["modbus", *arguments])
        return code, *capsys.readouterr()

    return call


def sent(err):
    """PDUs of the requests in what --hex said."""
    return [bytes.fromhex(line[3:])[7:].hex(" ") for line in err.splitlines() if line.startswith("-> ")]


def values(out):
    return {point["name"]: point["value"] for point in json.loads(out)["points"]}


def test_names_come_from_the_board(plant, hardwire):
    plant.device.io.temperature = -3.5
    plant.device.io.pressure = 1013
    code, out, err = hardwire("read", "temperature", "pressure", "--host", plant.address)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["point", "table", "address", "number", "value"],
        ["temperature", "input", "0", "30001", "-3.5", "degC"],
        ["pressure", "input", "1", "30002", "1013"],
    ]


def test_adjoining_points_are_one_request_and_a_value_is_in_one(plant, toml, hardwire):
    arguments = ("read", "--json", "--hex", "--map", toml, "--host", plant.address)
    code, out, err = hardwire(*arguments)
    assert (code, len(values(out))) == (0, 11)
    assert sent(err) == [
        "01 00 00 00 09",  # pump and valves
        "02 00 28 00 01",
        "04 00 00 00 02",
        "03 00 00 00 06",  # setpoint, status, steps
        "03 00 0a 00 02",
        "03 01 2c 00 04",
        "03 01 90 00 7c",  # 62 values of 2 registers: 125 would tear the 63rd
        "03 02 0c 00 10",
    ]
    err = hardwire(*arguments, "steps[2]", "status.running", "setpoint", "valves[3]")[2]
    assert sent(err) == ["01 00 04 00 01", "03 00 00 00 03", "03 00 05 00 01"]


def test_write_by_name(plant, hardwire):
    arguments = ("pump=on", "setpoint=21.5", "valves[3]=1", "steps=1,-2,3", "label=bay 4", "status.fault=on")
    code, out, err = hardwire("write", *arguments, "--hex", "--host", plant.address)
    assert (code, out) == (0, "")
    assert sent(err)[-6:] == [
        "05 00 00 ff 00",
        "10 00 00 00 02 04 41 ac 00 00",
        "05 00 04 ff 00",
        "10 00 03 00 03 06 00 01 ff fe 00 03",
        "10 01 2c 00 04 08 62 61 79 20 34 00 00 00",
        "16 00 02 ff f7 00 08",  # the neighbours stay as they are
    ]
    io_ = plant.device.io
    assert (io_.pump, io_.setpoint, list(io_.steps), io_.label) == (True, 21.5, [1, -2, 3], "bay 4")
    out = hardwire("read", "status", "status.running", "valves[3]", "--json", "--host", plant.address)[1]
    assert values(out)["status.running"] is False
    assert values(out)["valves[3]"] is True
    assert json.loads(out)["points"][0]["raw"] == [8]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pump=on", "setpoint=80.5"], ["setpoint", "80"]),
        (["pump=on", "setpoint=4.9"], ["setpoint", "5"]),
        (["pump=on", "steps=1,2,40000"], ["steps"]),
        (["pump=on", "steps=1,2"], ["steps"]),
        (["pump=on", "serial=5"], ["serial", "read-only"]),
        (["pump=on", "temperature=5"], ["temperature", "read-only"]),
        (["pump=on", "label=much too long"], ["label"]),
        (["pump=maybe"], ["pump"]),
        (["pump=on", "setpiont=5"], ["setpiont", "setpoint"]),
        (["pump=on", "valves[8]=5"], ["valves"]),
        (["pump=on", "pump"], ["POINT=VALUE"]),
        (["pump=on", "40011=70000"], ["70000"]),
        (["pump=on", "40011=1", "--type", "string:0"], ["string:0"]),
        (["pump=on", "40011=1", "--order", "all"], ["one order"]),
        (["pump=on", "--type", "int16"], ["--type"]),
    ],
)
def test_nothing_is_written_if_one_value_is_wrong(plant, hardwire, arguments, words):
    code, out, err = hardwire("write", *arguments, "--host", plant.address)
    assert (code, out, err.count("\n")) == (USAGE, "", 1)
    assert all(word in err for word in words)
    assert plant.device.io.pump is False


def test_a_refused_write_says_what_was_written(plant, hardwire):
    arguments = ("write", "pump=on", "40100=5", "valves[0]=on", "--host", plant.address)
    code, out, _ = hardwire(*arguments, "--json")
    assert (code, [point["name"] for point in json.loads(out)["written"]]) == (MODBUS, ["pump"])
    code, _, err = hardwire(*arguments)
    assert code == MODBUS and "written: pump = " in err
    assert plant.device.io.valves[0] is False


@pytest.mark.parametrize(
    ("arguments", "registers", "expected"),
    [
        (["40001"], [0x41AC, 0], 0x41AC),
        (["400001:2"], [0x41AC, 0], [0x41AC, 0]),
        (["40001", "--type", "float32"], [0x41AC, 0], 21.5),
        (["40001", "--type", "float32", "--order", "CDAB"], [0, 0x41AC], 21.5),
        (["40001", "--type", "uint32", "--order", "BADC"], [0x2211, 0x4433], 0x11223344),
        (["40001", "--type", "int32", "--order", "DCBA"], [0xFEFF, 0xFFFF], -2),
        (["40001", "--type", "int16", "--scale", "0.5"], [0xFFFD], -1.5),
        (["40001", "--type", "float64"], [0x3FF8, 0, 0, 0], 1.5),
        (["40001", "--type", "string:4"], [0x4142, 0x4300], "ABC"),
        (["40001:2", "--type", "int32"], [0, 1, 0, 2], [1, 2]),
        (["holding", "0", "2", "--type", "int32"], [0, 1, 0, 2], [1, 2]),
    ],
)
def test_numbers_have_the_type_that_is_said(hardwire, arguments, registers, expected):
    bank = Bank(holding_registers=len(registers))
    for address, value in enumerate(registers):
        bank.holding_registers[address] = value
    with Served(bank) as server:
        code, out, _ = hardwire("read", *arguments, "--json", "--host", server.address)
        (point,) = json.loads(out)["points"]
        assert (code, point["value"], point["traditional"]) == (0, expected, "40001")
        for address in range(len(registers)):
            bank.holding_registers[address] = 0
        text = ",".join(map(str, expected)) if isinstance(expected, list) else str(expected)
        number, options = (
            (arguments[0], arguments[1:]) if arguments[0] != "holding" else ("40001:2", arguments[3:])
        )
        assert hardwire("write", f"{number}={text}", *options, "--host", server.address)[0] == 0
        assert [bank.holding_registers[address] for address in range(len(registers))] == registers


def test_all_orders_side_by_side(hardwire):
    bank = Bank(holding_registers=2)
    bank.holding_registers[1] = 0x41AC
    with Served(bank) as server:
        arguments = ("read", "40001", "--type", "float32", "--order", "all", "--host", server.address)
        out = hardwire(*arguments)[1]
        assert out.split()[4:8] == ["ABCD", "CDAB", "BADC", "DCBA"]
        orders = json.loads(hardwire(*arguments, "--json")[1])["points"][0]["orders"]
    assert list(orders) == ["ABCD", "CDAB", "BADC", "DCBA"]
    assert orders["CDAB"] == 21.5 and orders["ABCD"] != 21.5


@pytest.mark.parametrize("number", ["40000", "00000", "465537", "40001:0", "465536:2"])
def test_numbers_outside_the_table(hardwire, number):
    code, _, err = hardwire("read", number, "--host", "127.0.0.1:1")  # nothing is asked
    assert (code, err.count("\n")) == (USAGE, 1)


def test_a_board_without_a_map(hardwire):
    with Served(Bank(holding_registers=1)) as server:
        code, _, err = hardwire("read", "temperature", "--host", server.address)
        assert code == MODBUS and "--map FILE" in err
        assert hardwire("read", "40001", "--host", server.address)[0] == 0


def test_texts_of_a_device_do_not_steer_the_terminal(plant, hardwire):
    plant.device.io.label = "\x1b[2Jhi"
    out = hardwire("read", "label", "--host", plant.address)[1]
    assert out.splitlines()[1].split()[-1] == "\N{REPLACEMENT CHARACTER}[2Jhi"
    assert values(hardwire("read", "label", "--json", "--host", plant.address)[1]) == {"label": "\x1b[2Jhi"}


def test_map(plant, hardwire, tmp_path):
    code, out, err = hardwire("map", "--host", plant.address)
    assert (code, err) == (0, "")
    assert out.strip() == TOML.strip()
    target = tmp_path / "fetched.toml"
    code, out, err = hardwire("map", "-o", str(target), "--host", plant.address)
    assert (code, out, target.read_text().strip()) == (0, "", TOML.strip())
    assert "11 points" in err
    assert "setpoint" in hardwire("map", "--markdown", "--host", plant.address)[1]
    assert "setpoint" in hardwire("map", "--csv", "--host", plant.address)[1]
    code, _, err = hardwire("map", "-o", str(tmp_path / "no" / "file"), "--host", plant.address)
    assert code != 0 and err.count("\n") == 1


def test_map_of_a_file(plant, hardwire, tmp_path):
    assert values(
        hardwire("read", "serial", "--json", "--map", str(tmp_path / "map.bin"), "--host", plant.address)[1]
    ) == {"serial": 70000}
    code, _, err = hardwire("read", "serial", "--map", str(tmp_path / "none.toml"), "--host", plant.address)
    assert (code, err.count("\n")) == (USAGE, 1)


def test_damaged_map(hardwire, tmp_path):
    data = bytearray(build(parse(TOML, "plant.toml")))
    data[-3] ^= 1
    (tmp_path / "map.bin").write_bytes(data)
    with Served(Bank(), files={1: Plain(tmp_path / "map.bin")}) as server:
        code, _, err = hardwire("read", "setpoint", "--host", server.address)
    assert code in (USAGE, FAILED) and err.count("\n") == 1


def test_bench_of_points(plant, hardwire):
    arguments = ("bench", "setpoint", "status", "--requests", "20", "--json", "--host", plant.address)
    answer = json.loads(hardwire(*arguments)[1])
    assert (answer["address"], answer["count"], answer["errors"]) == (0, 3, {})
    code, _, err = hardwire("bench", "setpoint", "serial", "--host", plant.address)
    assert code == USAGE and "2 requests" in err
