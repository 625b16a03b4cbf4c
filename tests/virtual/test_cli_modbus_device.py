"""`hardwire modbus` and the emulated board: it is known by the map that it gives, counts, and says who it is."""

import json
import tomllib

import pytest

from hardwire import config
from hardwire_host.cli import run
from hardwire_host.errors import MODBUS, USAGE

PORT = config.defaults()["services"]["modbus"]["port"]


@pytest.fixture(scope="module")
def address(firmware):
    return f"127.0.0.1:{firmware.forward(PORT)}"


@pytest.fixture
def modbus(address, capsys):
    """Run `hardwire modbus ARGUMENTS --json` in this process; returns (exit code, the objects it printed)."""

    def call(*arguments):
        code = run(["modbus", *arguments, "--host", address, "--json"])
        return code, *(json.loads(line) for line in capsys.readouterr().out.splitlines())

    return call


@pytest.fixture(scope="module")
def chart(address):
    """The map that the board gives."""
    from hardwire_host.clients.modbus import ModbusClient
    from hardwire_host.clients.modbus_map import fetch
    from hardwire_host.map.build import read

    host, port = address.split(":")
    with ModbusClient(host, int(port)) as client:
        return read(fetch(client))


def test_map(modbus, chart):
    code, answer = modbus("map")
    assert (code, answer["text"], answer["points"]) == (0, chart.text, len(chart.points))
    assert {"led", "uptime", "link"} <= set(chart.points)
    assert tomllib.loads(answer["text"])


def test_read_everything(modbus, chart):
    code, answer = modbus("read")
    assert code == 0
    assert [point["name"] for point in answer["points"]] == list(chart.points)


def test_names_and_numbers_read_the_same(modbus):
    _, named = modbus("read", "uptime", "link")
    uptime, link = named["points"]
    number = f"{uptime['traditional']}:{len(uptime['raw'])}"
    code, numbered = modbus("read", number, link["traditional"])
    assert code == 0
    first, second = numbered["points"]
    assert (first["table"], first["address"], second["value"]) == ("input", uptime["address"], True)
    assert 0 <= int.from_bytes(b"".join(raw.to_bytes(2) for raw in first["raw"])) - uptime["value"] < 60


def test_write(modbus):
    code, answer = modbus("write", "led=on", "registers[99]=-1", "registers[98]=0xFFFF")
    assert code == USAGE and "registers[99]" in answer["error"]["message"]
    assert modbus("read", "led")[1]["points"][0]["value"] is False
    assert modbus("write", "led=on", "registers[99]=7")[0] == 0
    values = [point["value"] for point in modbus("read", "led", "registers[99]", "40100")[1]["points"]]
    assert values == [True, 7, 7]
    assert modbus("write", "led=off", "40100=0")[0] == 0
    assert modbus("write", "uptime=5")[0] == USAGE


def test_identify(modbus, chart):
    code, answer = modbus("identify")
    assert code == 0
    assert answer["objects"]["vendor_name"] and answer["objects"]["product_code"]
    assert answer["server_id"]["running"] is True


def test_diag(modbus):
    assert modbus("read", "holding", "65535")[0] == MODBUS
    code, answer = modbus("diag", "--clear")
    assert code == 0
    assert answer["counters"]["exceptions"] >= 1
    assert answer["counters"]["bus_messages"] > answer["counters"]["exceptions"]
    assert {"entry": 0x41, "means": "sent: exception 01-03"} in answer["event_log"]["log"]
    assert modbus("diag")[1]["counters"]["exceptions"] == 0


def test_scan(modbus, chart):
    code, answer = modbus("scan", "--units", "1", "--tables", "--addresses", "0-20", "--timeout", "3")
    assert code == 0
    (device,) = answer["devices"]
    unsupported = [one["code"] for one in device["functions"] if not one["supported"]]
    assert unsupported == []
    led = chart.find("led").address
    assert any(first <= led <= last for first, last in device["ranges"]["coil"])


def test_watch_and_bench(modbus):
    code, *samples = modbus("watch", "uptime", "--count", "3", "--every", "0")
    assert (code, len(samples)) == (0, 3)
    assert samples[0]["values"]["uptime"] <= samples[2]["values"]["uptime"]
    code, answer = modbus("bench", "uptime", "--requests", "20", "--clients", "2")
    assert (code, answer["errors"], answer["requests"]) == (0, {}, 20)


def test_log(address, capsys):
    assert run(["log", "--host", address, "--json"]) == 0
    messages = json.loads(capsys.readouterr().out)["messages"]
    assert messages[0]["text"].startswith("hardwire ")
    assert any(message["text"].startswith("modbus on port 502") for message in messages)
    assert {message["level"] for message in messages} <= {"info", "warning"}
    assert run(["log", "--host", address, "--level", "error", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == []
