"""Two thousand exchanges on the emulated board with everything that goes wrong on a wire and in a chip, and on SPI."""

import struct

import pytest

from hardwire.addresses import ip_bytes
from hardwire_host.bundle import build_filesystem
from hardwire_host.virtual.faults import FaultySegment
from hardwire_host.virtual.tcpip import Stack
from soak import Client, Soak

BOARD = "w5500_evb_pico"
BOARD_IP, PC_IP = ip_bytes("192.168.77.20"), ip_bytes("192.168.77.1")
NETMASK, PC_MAC = ip_bytes("255.255.255.0"), bytes((2, 0, 0, 0, 0, 1))
MODBUS, LISTENERS = 502, 5
EXCHANGES, BETWEEN = 2000, 40
GONE_S = 60  # a peer that vanished is asked after 10 s, and given up 31.8 s later
HEAP, RECOVERIES = 2, 13  # input registers
LOG_KB = 5  # what the ring of log messages takes once it is full of long ones
LATE = ("0b", "14 07 06 0001 0000 0001")  # a request for each module that is loaded when asked for

WIRE_AND_CHIP = (
    *("wire", "cable_pull", "peer_reset", "peer_vanishes"),
    *("torn_reads", "stuck_commands", "all_commands_stick", "brown_out"),
)


class Once(Client):
    """Sends the request `pdu` and keeps the PDU of the response."""

    def __init__(self, soak, pdu):
        self.request = struct.pack(">HHHB", 1, 0, 1 + len(pdu), 1) + pdu
        self.response = None
        super().__init__(soak)

    def ask(self):
        self.once = True
        self.wait()
        self.tcb.send(self.request)

    def received(self, data):
        self.got += data
        if len(self.got) >= 6 and len(self.got) >= 6 + int.from_bytes(self.got[4:6], "big"):
            self.response = self.got[7:]
            self.tcb.shutdown()


@pytest.fixture(scope="module")
def live(boot):
    return boot(
        filesystem=build_filesystem(BOARD),
        pace=False,
        segment=lambda clock: FaultySegment(clock, seed=5),
    )


def ask(live, soak, pdu):
    client = live.do(Once, soak, bytes.fromhex(pdu))
    assert live.run_until(lambda: client.response, 10), pdu
    return client.response


def inputs(live, soak):
    """The first 16 input registers."""
    return struct.unpack(">16H", ask(live, soak, "04 0000 0010")[2:])


@pytest.mark.parametrize(
    ("faults", "clean"), [(WIRE_AND_CHIP, True), (("spi_errors",), False)], ids=["all", "spi"]
)
def test_soak(live, faults, clean):
    live.wait_listening(MODBUS)
    board = live.board
    name = f"pc-{len(faults)}"
    port = live.do(board.segment.attach, name)
    stack = Stack(board.segment.clock, port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=3)
    soak = live.do(
        lambda: Soak(
            pc=stack,
            segment=board.segment,
            chip=board.chip,
            cable=board.cable,
            board_ip=BOARD_IP,
            run_until=live.run_until,
            do=live.do,
            seed=7,
            registers=100,
        )
    )
    for pdu in LATE:  # a flipped bit would make one of them out of FC03
        assert ask(live, soak, pdu)[0] == int(pdu[:2], 16)
    before = inputs(live, soak)
    soak.run(EXCHANGES, faults, BETWEEN)
    assert not (clean and soak.wrong), soak.wrong[:3]
    live.do(soak.end)
    live.run_until(lambda: False, GONE_S)
    after = inputs(live, soak)
    live.run_until(lambda: False, 1)
    states = [socket["state"] for socket in live.status()["sockets"] if socket["port"] == MODBUS]
    assert states == ["LISTEN"] * LISTENERS
    assert after[HEAP] >= before[HEAP] - LOG_KB, (before, after)
    assert not clean or after[RECOVERIES] - before[RECOVERIES] >= soak.faults["brown_out"]
    live.do(board.segment.detach, port)
