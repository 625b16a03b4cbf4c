"""Two thousand exchanges on the emulated board with everything that goes wrong on a wire and in a chip, and on SPI."""

import pytest

from hardwire.addresses import ip_bytes
from hardwire_host.bundle import build_filesystem
from hardwire_host.virtual.faults import FaultySegment
from hardwire_host.virtual.tcpip import Stack
from soak import Client, Soak

BOARD = "w5500_evb_pico"
BOARD_IP, PC_IP = ip_bytes("192.168.77.20"), ip_bytes("192.168.77.1")
NETMASK, PC_MAC = ip_bytes("255.255.255.0"), bytes((2, 0, 0, 0, 0, 1))
MODBUS, LISTENERS = 502, 6
EXCHANGES, BETWEEN = 2000, 40
GONE_S = 60  # a peer that vanished is asked after 10 s, and given up 31.8 s later
HEAP, RECOVERIES = 2, 13  # input registers

WIRE_AND_CHIP = (
    *("wire", "cable_pull", "peer_reset", "peer_vanishes"),
    *("torn_reads", "stuck_commands", "all_commands_stick", "brown_out"),
)


class Inputs(Client):
    """Reads the input registers once."""

    def ask(self):
        self.once = True
        self.expected = bytes(9 + 32)
        self.wait()
        self.tcb.send(bytes.fromhex("0001 0000 0006 01 04 0000 0010"))

    def received(self, data):
        self.got += data
        if len(self.got) >= len(self.expected):
            self.exchanges = 1
            self.tcb.shutdown()

    def registers(self):
        return [int.from_bytes(self.got[at : at + 2], "big") for at in range(9, 41, 2)]


@pytest.fixture(scope="module")
def live(boot):
    return boot(
        filesystem=build_filesystem(BOARD),
        pace=False,
        segment=lambda clock: FaultySegment(clock, seed=5),
    )


def registers(live, soak):
    client = live.do(Inputs, soak)
    assert live.run_until(lambda: client.exchanges, 10)
    return client.registers()


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
    before = registers(live, soak)
    soak.run(EXCHANGES, faults, BETWEEN)
    assert not (clean and soak.wrong), soak.wrong[:3]
    live.do(soak.end)
    live.run_until(lambda: False, GONE_S)
    after = registers(live, soak)
    live.run_until(lambda: False, 1)
    states = [socket["state"] for socket in live.status()["sockets"] if socket["port"] == MODBUS]
    assert states == ["LISTEN"] * LISTENERS
    assert after[HEAP] >= before[HEAP] - 1, (before, after)
    assert not clean or after[RECOVERIES] - before[RECOVERIES] >= soak.faults["brown_out"]
    live.do(board.segment.detach, port)
