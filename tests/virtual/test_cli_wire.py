"""`hardwire virtual link|fault|pcap|dhcp|sockets|reset` on a running board, in processes of their own."""

import time

import pytest

from hardwire_host.errors import FAILED, NO_BOARD, TIMEOUT, USAGE

READ = ("modbus", "read", "input", "0", "13", "--virtual=app")
WAIT_S = 60  # wall time for a board to come back; takes some seconds


def uptime(hardwire):
    code, answer = hardwire(*READ)
    assert code == 0, answer["error"]
    return answer["values"][0] << 16 | answer["values"][1]


def serves(hardwire):
    deadline = time.monotonic() + WAIT_S
    while hardwire(*READ, "--timeout", "2")[0] != 0:
        assert time.monotonic() < deadline, "the board does not come back"
    return True


def test_cable(hardwire, board):
    assert hardwire("virtual", "link", "down")[1]["link"] is False
    assert hardwire("virtual", "status", "app")[1]["link"] is False
    # silence, or no answer to ARP where nobody had asked before
    assert hardwire(*READ, "--timeout", "2")[0] in (TIMEOUT, NO_BOARD)
    assert hardwire("virtual", "link", "up", "--name", "app")[1]["link"] is True
    assert serves(hardwire)


def test_faults_are_set_shown_counted_and_cleared(hardwire, board):
    code, answer = hardwire("virtual", "fault", "--dup", "1", "--delay", "2")
    assert (code, answer["faults"]["dup"], answer["faults"]["delay_ms"]) == (0, 1.0, 2.0)
    assert serves(hardwire)
    answer = hardwire("virtual", "fault")[1]
    assert answer["faults"]["dup"] == 1.0 and answer["counts"]["doubled"] > 5
    assert set(hardwire("virtual", "fault", "clear")[1]["faults"].values()) == {0.0}
    assert hardwire("virtual", "fault", "--stuck-cr")[1]["faults"]["stuck_cr"] == 1.0
    assert set(hardwire("virtual", "fault", "clear")[1]["faults"].values()) == {0.0}


def test_loss_is_made_good_by_tcp(hardwire, board):
    hardwire("virtual", "fault", "--loss", "0.2")
    for _ in range(3):
        assert serves(hardwire)
    assert hardwire("virtual", "fault", "clear")[0] == 0


def test_capture(hardwire, board, tmp_path):
    file = tmp_path / "trace.pcapng"
    assert hardwire("virtual", "pcap", "start", str(file))[1]["started"] == str(file)
    assert serves(hardwire)
    assert hardwire("virtual", "pcap", "stop")[1]["stopped"] == [str(file)]
    data = file.read_bytes()
    assert data[:4] == b"\x0a\x0d\x0d\x0a" and data.count(bytes((192, 168, 77, 20))) > 5
    assert hardwire("virtual", "pcap", "stop")[1]["stopped"] == []
    code, answer = hardwire("virtual", "pcap", "start", str(tmp_path / "none" / "x.pcapng"))
    assert code == FAILED and "cannot write" in answer["error"]["message"]


def test_sockets(hardwire, board):
    sockets = hardwire("virtual", "sockets")[1]["sockets"]
    assert [socket["number"] for socket in sockets] == list(range(8))
    assert {socket["port"] for socket in sockets if socket["state"] == "LISTEN"} == {502, 7770}


@pytest.mark.parametrize("how", [(), ("--power",)])
def test_reset_starts_the_app_again(hardwire, board, how):
    assert serves(hardwire)
    hardwire("modbus", "write", "holding", "7", "1234", "--virtual=app")
    resets = hardwire("virtual", "status", "app")[1]["resets"]
    assert hardwire("virtual", "reset", *how)[1]["resets"] == resets + 1
    assert serves(hardwire)
    assert hardwire("modbus", "read", "holding", "7", "--virtual=app")[1]["values"] == [0]
    assert uptime(hardwire) < 60


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("fault", "--loss", "2"), USAGE),
        (("fault", "clear", "--loss", "0.1"), USAGE),
        (("pcap", "start"), USAGE),
        (("pcap", "stop", "x"), USAGE),
        (("link", "sideways"), USAGE),
        (("sockets", "--name", "nobody"), NO_BOARD),
    ],
)
def test_what_cannot_be(hardwire, board, arguments, code):
    assert hardwire("virtual", *arguments)[0] == code


def test_dhcp_where_there_is_none(hardwire, board):
    code, answer = hardwire("virtual", "dhcp", "--name", "app")
    assert code == USAGE and "no DHCP server" in answer["error"]["message"]


def test_dhcp(hardwire):
    code, started = hardwire(
        "virtual", "up", "--name", "leased", "--dhcp", "--forward", "127.0.0.1:0:502", "--detach"
    )
    assert code == 0, started["error"]
    try:
        assert hardwire("virtual", "status", "leased")[1]["address"] == "192.168.77.100"
        assert hardwire("modbus", "read", "holding", "0", "--virtual=leased")[1]["values"] == [0]
        ask = ("virtual", "dhcp", "--name", "leased")
        shown = hardwire(*ask)[1]
        assert (shown["lease"], shown["nak"], shown["silent"]) == (3600, False, False)
        assert shown["sent"] == {"OFFER": 1, "ACK": 1} and 0 < shown["leases"][0]["left"] <= 3600
        assert [lease["address"] for lease in shown["leases"]] == ["192.168.77.100"]
        assert hardwire(*ask, "--lease", "20", "--nak")[1]["nak"] is True
        shown = hardwire(*ask, "--silent", "--no-nak")[1]
        assert (shown["lease"], shown["nak"], shown["silent"]) == (20, False, True)
        assert hardwire(*ask, "--lease", "0")[0] == USAGE
    finally:
        hardwire("virtual", "down", "leased")
