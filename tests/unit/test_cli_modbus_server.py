"""`hardwire modbus diag|scan|bench|identify` and --hex, against this firmware's server on a socket of this PC."""

import json
import re
import socket
import threading

import pytest

from hardwire.wire.modbus import Bank
from hardwire_host.cli import run
from hardwire_host.clients.modbus import COIL, DISCRETE, HOLDING, INPUT, ModbusClient
from hardwire_host.clients.modbus_diagnostics import COUNTERS, event
from hardwire_host.clients.modbus_scan import FUNCTIONS, ranges
from hardwire_host.errors import FAILED, MODBUS, TIMEOUT, USAGE
from modbus_served import Served

APP = [0, 1, 120, 1, 5, 0, 7, 3, 2, 9, 4, 1, 0x0102]  # the default app's input registers


@pytest.fixture
def served():
    bank = Bank(coils=1, holding_registers=[(0, 9), (100, 250)], input_registers=len(APP))
    bank.identity = {0: b"plant", 1: b"P-7", 2: b"2.1", 0x80: b"bay 4"}
    bank.server_id = b"\x07"
    with Served(bank) as running:
        yield running


@pytest.fixture
def hardwire(capsys):
    def call(*arguments):
        code = run(["modbus", *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def refusing():
    """A server that answers every request with exception 01 and closes; units above 5 with 0B, 3 not at all."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while request := connection.recv(300):
                    unit, function = request[6], request[7]
                    if unit != 3:
                        code = 0x0B if unit > 5 else 1
                        connection.sendall(request[:4] + bytes((0, 3, unit, function | 0x80, code)))
                    if function == 0x2B:
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_hex_shows_both_directions_and_nothing_twice(served, hardwire):
    code, out, err = hardwire("read", "holding", "0", "2", "--hex", "--json", "--host", served.address)
    assert (code, json.loads(out)["values"]) == (0, [0, 0])
    assert err == "-> 00 01 00 00 00 06 01 03 00 00 00 02\n<- 00 01 00 00 00 07 01 03 04 00 00 00 00\n"


def test_identify_names_what_the_server_says_of_itself(served, hardwire):
    code, out, _ = hardwire("identify", "--json", "--host", served.address)
    answer = json.loads(out)
    assert code == 0
    assert answer["objects"] == {
        "vendor_name": "plant",
        "product_code": "P-7",
        "revision": "2.1",
        "object_0x80": "bay 4",
    }
    assert answer["server_id"] == {"id": "07", "running": True, "text": "plant P-7 2.1"}
    out = hardwire("identify", "--host", served.address)[1]
    assert [line.split(maxsplit=1) for line in out.splitlines()][-1] == [
        "server_id",
        "plant P-7 2.1, id 07, runs",
    ]


def test_diag_counts_and_clears(served, hardwire):
    assert hardwire("read", "holding", "10", "--host", served.address)[0] == MODBUS
    code, out, _ = hardwire("diag", "--clear", "--json", "--host", served.address)
    answer = json.loads(out)
    assert (code, answer["cleared"], answer["exception_status"]) == (0, True, 0)
    assert list(answer["counters"]) == [name for name, _ in COUNTERS]
    assert (answer["counters"]["bus_messages"], answer["counters"]["exceptions"]) == (3, 1)
    assert answer["event_log"]["log"][-2:] == [
        {"entry": 0x41, "means": "sent: exception 01-03"},
        {"entry": 0x80, "means": "received"},
    ]
    counters = json.loads(hardwire("diag", "--json", "--host", served.address)[1])["counters"]
    assert (counters["bus_messages"], counters["exceptions"]) == (2, 0)


def test_diag_shows_the_log_as_exchanges(served, hardwire):
    for address in ("0", "1", "10"):
        hardwire("read", "holding", address, "--host", served.address)
    code, out, _ = hardwire("diag", "--host", served.address)
    assert code == 0
    assert [line.split() for line in out.splitlines()[-4:]] == [
        ["1", "x", "received"],
        ["10", "x", "received,", "sent"],
        ["1", "x", "received,", "sent:", "exception", "01-03"],
        ["2", "x", "received,", "sent"],
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (0x00, "communication restarted"),
        (0x04, "listen-only mode entered"),
        (0x80, "received"),
        (0xD2, "received: communication error, character overrun, broadcast"),
        (0x40, "sent"),
        (0x44, "sent: exception 05-06"),
        (0x58, "sent: exception 07, write timeout"),
        (0x3F, "unknown"),
    ],
)
def test_events_in_words(entry, words):
    assert event(entry) == words


def test_diag_of_a_server_without_any(refusing, hardwire):
    code, out, err = hardwire("diag", "--host", refusing)
    assert (code, out) == (MODBUS, "")
    assert "exception 01 illegal function" in err and "none of 07, 08, 0B and 0C" in err


def test_scan_of_a_plain_device(served, hardwire):
    arguments = ("scan", "--tables", "--addresses", "0-199,300-400", "--host", served.address)
    code, out, err = hardwire(*arguments, "--json")
    answer = json.loads(out)
    assert (code, err, answer["tried"], len(answer["units"])) == (0, "", 247, 247)
    (device,) = answer["devices"]
    assert device["unit"] == 1
    assert device["objects"]["vendor_name"] == "plant"
    assert device["ranges"] == {
        "coil": [[0, 0]],
        "discrete": [],
        "holding": [[0, 8], [100, 199], [300, 349]],
        "input": [[0, 12]],
    }
    assert {one["code"]: one["supported"] for one in device["functions"]} == {
        code: True for code, *_ in FUNCTIONS
    }
    out = hardwire(*arguments, "--units", "9,10")[1]
    assert "units 9-10: answers\n" in out
    assert re.search(r"holding +0-8, 100-199, 300-349$", out, re.MULTILINE)


def test_scan_tells_silence_and_gateways_from_answers(refusing, hardwire):
    arguments = ("scan", "--units", "1-10", "--timeout", "0.1", "--host", refusing)
    answer = json.loads(hardwire(*arguments, "--json")[1])
    assert answer["units"] == dict.fromkeys("1245", "exception 01 illegal function")
    assert [device["unit"] for device in answer["devices"]] == [1, 2, 4, 5]
    assert not any(one["supported"] for one in answer["devices"][0]["functions"])
    code, _, err = hardwire("scan", "--units", "6-7", "--host", refusing)
    assert code == FAILED and "none of 2 units answers" in err


@pytest.mark.parametrize("wrong", ["0-256", "5-1", "x", "1,,2"])
def test_scan_of_no_units(wrong, hardwire):
    code, _, err = hardwire("scan", "--units", wrong, "--host", "127.0.0.1:1")
    assert code == USAGE and err.count("\n") == 1


def test_ranges_take_few_requests(served):
    sent = []
    with ModbusClient(
        "127.0.0.1", served.port, trace=lambda sending, data: sending and sent.append(data)
    ) as client:
        assert ranges(client, HOLDING, 0, 499, lambda _: None) == [(0, 8), (100, 349)]
        missing = 91 + 150
        assert len(sent) < missing + 40
        assert ranges(client, COIL, 0, 0, lambda _: None) == [(0, 0)]
        assert ranges(client, DISCRETE, 0, 3, lambda _: None) == []
        assert ranges(client, INPUT, 5, 12, lambda _: None) == [(5, 12)]
        assert ranges(client, INPUT, 65530, 65535, lambda _: None) == []


def test_bench(served, hardwire):
    arguments = ("bench", "holding", "0", "5", "--clients", "3", "--requests", "50", "--host", served.address)
    code, out, _ = hardwire(*arguments, "--json")
    answer = json.loads(out)
    assert (code, answer["requests"], answer["errors"], answer["clients"]) == (0, 50, {}, 3)
    assert 0 < answer["ms"]["p50"] <= answer["ms"]["p99"] <= answer["ms"]["max"]
    assert served.server.requests == 50
    out = hardwire("bench", "--seconds", "0.05", "--host", served.address)[1]
    assert "wall time" in out
    code, _, err = hardwire("bench", "holding", "10", "--requests", "5", "--host", served.address)
    assert code == FAILED and "5 x exception 02 illegal data address" in err


def test_writes_that_are_off_are_explained(hardwire):
    bank = Bank(holding_registers=1, input_registers=len(APP))
    for address, value in enumerate(APP):
        bank.input_registers[address] = value
    with Served(bank, writes=False) as running:
        code, _, err = hardwire("write", "holding", "0", "1", "--host", running.address)
    assert code == MODBUS
    assert "exception 01" in err and "hardwire config set services.modbus.writes=true" in err


def test_a_foreign_refusal_has_no_such_hint(refusing, hardwire):
    code, _, err = hardwire("write", "holding", "0", "1", "--host", refusing)
    assert code == MODBUS and "writes" not in err


def test_silence_of_a_unit_is_a_timeout(refusing, hardwire):
    assert hardwire("diag", "--unit", "3", "--timeout", "0.1", "--host", refusing)[0] == TIMEOUT
