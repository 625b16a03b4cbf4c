"""`hardwire modbus` against pymodbus's own server, and against servers that misbehave on purpose."""

import asyncio
import json
import socket
import threading

import pytest
from pymodbus.pdu.device import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hardwire_host.cli import run
from hardwire_host.clients.modbus import COIL, HOLDING, INPUT, AppInfo, ModbusClient
from hardwire_host.errors import MODBUS, NO_BOARD, TIMEOUT, USAGE, HardwireError

BITS, REGISTERS = DataType.BITS, DataType.REGISTERS
APP = [1, 2, 120, 1, 5, 0, 7, 3, 2, 9, 4, 1, 0x0102, 0, 0, 0]


def _address(listener):
    host, port = listener.getsockname()
    return f"{host}:{port}"


def _answer(pdu):
    """The rest of an answer's MBAP header, for unit 1, and its PDU."""
    return (len(pdu) + 1).to_bytes(2, "big") + b"\x01" + pdu


def _device():
    coils = [SimData(0, values=[True, False, True] * 1000, datatype=BITS)]
    discrete = [SimData(0, values=[False] * 16, datatype=BITS)]
    holding = [SimData(0, values=list(range(300)), datatype=REGISTERS)]
    inputs = [SimData(0, values=APP, datatype=REGISTERS)]
    return SimDevice(id=0, simdata=(coils, discrete, holding, inputs))


class _Server:
    """A pymodbus server on a free port of this PC, in a thread of its own."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._call(self._start())
        self.address = _address(self._server.transport.sockets[0])

    async def _start(self):
        identity = ModbusDeviceIdentification(
            info_name={
                "VendorName": "hardwire",
                "ProductCode": "test",
                "MajorMinorRevision": "1.2",
                "ModelName": "m",
            }
        )
        server = ModbusTcpServer(_device(), identity=identity, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        return server

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self):
        self._call(self._server.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server():
    running = _Server()
    yield running
    running.close()


@pytest.fixture
def hardwire(capsys):
    """Run a command line in this process; returns (exit code, stdout, stderr)."""

    def call(*arguments):
        code = run(list(arguments))
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def scripted():
    """Start a server that answers requests with given byte strings, in order; None closes, b"" is silence."""
    listeners = []

    def start(*answers):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve():
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    request = connection.recv(300)
                    if not request or answer is None:
                        return
                    connection.sendall(request[:4] + answer if answer else b"")
                connection.recv(300)

        threading.Thread(target=serve, daemon=True).start()
        return _address(listener)

    yield start
    for listener in listeners:
        listener.close()


def test_read_prints_both_addresses(server, hardwire):
    code, out, err = hardwire("modbus", "read", "holding", "0x0A", "2", "--host", server.address)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["address", "4xxxx", "value", "signed", "hex"],
        ["10", "40011", "10", "10", "0x000A"],
        ["11", "40012", "11", "11", "0x000B"],
    ]


@pytest.mark.parametrize("alias", ["coil", "coils", "c", "0x", "COIL"])
def test_table_names(server, hardwire, alias):
    code, out, _ = hardwire("modbus", "read", alias, "0", "3", "--json", "--host", server.address)
    answer = json.loads(out)
    assert (code, answer["table"], answer["values"]) == (0, "coil", [1, 0, 1])
    assert answer["target"] == server.address


def test_long_reads_become_several_requests(server, hardwire):
    out = hardwire("modbus", "read", "holding", "0", "300", "--json", "--host", server.address)[1]
    assert json.loads(out)["values"] == list(range(300))
    out = hardwire("modbus", "read", "coil", "1", "2999", "--json", "--host", server.address)[1]
    assert json.loads(out)["values"] == ([1, 0, 1] * 1000)[1:]


@pytest.mark.parametrize(
    ("table", "values", "stored"),
    [
        ("holding", ["7"], [7]),
        ("holding", ["-1", "0xFFFF", "-32768", "65535"], [0xFFFF, 0xFFFF, 0x8000, 0xFFFF]),
        ("coil", ["off"], [0]),
        ("coil", ["ON", "false", "1", "0"], [1, 0, 1, 0]),
    ],
)
def test_write(server, hardwire, table, values, stored):
    code, out, err = hardwire("modbus", "write", table, "5", *values, "--host", server.address)
    assert (code, out, err.count("\n")) == (0, "", 1)
    out = hardwire("modbus", "read", table, "5", str(len(values)), "--json", "--host", server.address)[1]
    assert json.loads(out)["values"] == stored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "holding", "65536"], "address 65536"),
        (["read", "holding", "65535", "2"], "leave the table"),
        (["read", "holding", "0", "0"], "0 values"),
        (["write", "input", "0", "1"], "read-only"),
        (["write", "discrete", "0", "1"], "read-only"),
        (["write", "holding", "0", "65536"], "65536 is no value"),
        (["write", "holding", "0", "-32769"], "-32769 is no value"),
        (["write", "coil", "0", "2"], "2 is no value"),
        (["write", "holding", "0", "one"], "'one' is no value"),
        (["write", "holding", "0", *["1"] * 124], "124 values"),
    ],
)
def test_impossible_requests_are_not_sent(server, hardwire, arguments, message):
    code, out, err = hardwire("modbus", *arguments, "--host", server.address)
    assert (code, out) == (USAGE, "")
    assert message in err


def test_exception_is_named(server, hardwire):
    code, out, err = hardwire("modbus", "read", "holding", "299", "2", "--host", server.address)
    assert (code, out) == (MODBUS, "")
    assert err == f"hardwire: {server.address} answered exception 02 illegal data address to function 03\n"
    out = hardwire("modbus", "read", "holding", "299", "2", "--host", server.address, "--json")[1]
    assert json.loads(out)["exception"] == {"code": 2, "name": "illegal data address", "function": 3}


def test_identify(server, hardwire):
    code, out, _ = hardwire("modbus", "identify", "--host", server.address, "--json")
    assert code == 0
    objects = json.loads(out)["objects"]
    assert objects == {
        "vendor_name": "hardwire",
        "product_code": "test",
        "revision": "1.2",
        "model_name": "m",
    }


def test_identify_without_device_identification(hardwire, scripted):
    registers = b"".join(value.to_bytes(2, "big") for value in APP[: AppInfo.COUNT])
    address = scripted(
        _answer(b"\xab\x01"),  # 2B/0E: illegal function
        _answer(b"\x81\x02"),
        _answer(b"\x82\x02"),
        _answer(b"\x04\x02\x00\x01"),
        _answer(b"\x83\x02"),
        _answer(b"\x04\x1a" + registers),
        _answer(b"\x91\x01"),  # 11: illegal function
    )
    code, out, err = hardwire("modbus", "identify", "--host", address, "--json")
    answer = json.loads(out)
    assert (code, err, answer["objects"], answer["tables"]) == (0, "", None, ["input"])
    assert answer["server_id"] is None
    assert answer["exception"] == {"code": 1, "name": "illegal function", "function": 0x2B}
    assert answer["app"]["version"] == "1.2"
    assert answer["app"]["uptime_s"] == 0x10002


def test_app_registers():
    info = AppInfo.parse(APP)
    assert info == AppInfo(0x10002, 120, True, 5, 7, 3, 2, 9, 4, 1, "1.2")


def test_no_server(hardwire):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = _address(listener)
    code, out, err = hardwire("modbus", "read", "coil", "0", "--host", address)
    assert (code, out) == (NO_BOARD, "")
    assert err.startswith(f"hardwire: cannot connect to {address}: connection refused")


def test_unknown_host_name(hardwire):
    code, _, err = hardwire("modbus", "read", "coil", "0", "--host", "no-such-host.invalid")
    assert code == NO_BOARD
    assert err.count("\n") == 1


def test_silence_is_a_timeout(hardwire, scripted):
    code, _, err = hardwire("modbus", "read", "coil", "0", "--host", scripted(b""), "--timeout", "0.2")
    assert code == TIMEOUT
    assert "does not answer within 0.2 s" in err


def test_a_lost_connection_is_not_hidden(scripted):
    host, port = scripted(_answer(b"\x03\x7a" + bytes(122))).split(":")  # 61 of the 125 registers asked for
    with ModbusClient(host, int(port)) as client, pytest.raises(HardwireError) as caught:
        client.read(HOLDING, 0, 125)
    assert "61 values, 125 were asked for" in str(caught.value)
    host, port = scripted(None).split(":")
    with ModbusClient(host, int(port)) as client:
        for _ in range(2):  # no silent reconnect either
            with pytest.raises(HardwireError) as caught:
                client.read(COIL, 0)
            assert caught.value.code == NO_BOARD


@pytest.mark.parametrize(
    ("table", "address", "form"),
    [(COIL, 0, "00001"), (INPUT, 9998, "39999"), (HOLDING, 9999, "410000"), (HOLDING, 65535, "465536")],
)
def test_traditional_addresses(table, address, form):
    assert table.traditional(address) == form
