"""clients.modbus_map: the board's map.bin by function 14, in as few requests as its length allows."""

import struct
from binascii import crc32

import pytest

from hardwire.records import Plain
from hardwire.wire.modbus import Bank
from hardwire_host.clients.modbus import ModbusClient
from hardwire_host.clients.modbus_map import fetch
from hardwire_host.errors import FAILED, MODBUS, HardwireError
from hardwire_host.map.build import BYTES_MAX, SOURCE
from modbus_served import Served


def signed(*sections):
    data = b"".join(bytes((tag, 0)) + struct.pack("<H", len(body)) + body for tag, body in sections)
    return b"HWM1" + struct.pack("<I", crc32(data)) + data


def pattern(length):
    return bytes(i * 7 & 0xFF for i in range(length))


def fetched(path, data):
    """What fetch gives for a board that holds `data`, and the number of requests it took."""
    path.write_bytes(data)
    sent = []
    with (
        Served(Bank(), files={1: Plain(path)}) as board,
        ModbusClient(
            "127.0.0.1", board.port, trace=lambda sending, data: sending and sent.append(data)
        ) as client,
    ):
        return fetch(client), len(sent)


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (signed((SOURCE, pattern(3001))), 13),  # 3013 bytes: 13 requests of 121 records, the last one short
        (signed((1, pattern(40)), (2, pattern(600)), (99, b"x"), (SOURCE, pattern(1500))), 9),
        (signed((SOURCE, pattern(230))), 1),  # exactly one request
        (signed((SOURCE, pattern(231))), 2),
        (signed((SOURCE, b"abc")), 3),  # less than one request: it must not ask behind the end
        (signed((1, b""), (2, b"x"), (SOURCE, b"")), 7),
        (signed((1, pattern(15000)), (SOURCE, pattern(4976))), 83),  # as long as a map may be
    ],
)
def test_fetch(tmp_path, data, most):
    got, requests = fetched(tmp_path / "map.bin", data)
    assert got == data
    assert requests <= most


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a recipe, not a map", "no map of a hardwire board"),
        (signed((1, pattern(60000)), (SOURCE, b""))[:1000], f"longer than {BYTES_MAX} bytes"),
    ],
)
def test_what_is_no_map(tmp_path, data, message):
    with pytest.raises(HardwireError, match=message) as caught:
        fetched(tmp_path / "map.bin", data)
    assert caught.value.code == FAILED


def test_cut_short(tmp_path):
    with pytest.raises(HardwireError) as caught:
        fetched(tmp_path / "map.bin", signed((1, pattern(400)), (SOURCE, pattern(900)))[:-500])
    assert caught.value.code == MODBUS


def test_a_server_without_a_map():
    with (
        Served(Bank()) as board,
        ModbusClient("127.0.0.1", board.port) as client,
        pytest.raises(HardwireError) as caught,
    ):
        fetch(client)
    assert caught.value.code == MODBUS
    assert "gives no map" in caught.value.hint
