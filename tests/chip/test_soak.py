"""A hundred thousand exchanges in process, with everything that goes wrong on a wire, in a chip and on SPI."""

import pytest

from hardwire.service import Service
from hardwire.services.modbus import ModbusServer
from hardwire.wire.modbus import Bank
from hardwire_host.virtual import regs as R
from hardwire_host.virtual.inprocess import BOARD_IP, InProcessBoard
from soak import PORT, Soak

ON_THE_WIRE = ("wire", "cable_pull", "peer_reset", "peer_vanishes")
IN_THE_CHIP = ("torn_reads", "stuck_commands", "all_commands_stick", "brown_out")
ON_SPI = ("spi_errors",)

GONE_S = 60.0  # a peer that vanished is asked after 10 s, and given up 31.8 s later


def soaked(seed, exchanges, faults, between=200, clients=4, clean=True):
    server = ModbusServer(Bank(holding_registers=Soak.registers))
    service = Service("modbus", server, PORT, connections=6)
    board = InProcessBoard(service, seed=seed)
    soak = Soak(
        pc=board.pc,
        segment=board.segment,
        chip=board.model,
        cable=board.segment.ports[0],
        board_ip=BOARD_IP,
        run_until=board.run_until,
        seed=seed,
        clients=clients,
    )
    soak.run(exchanges, faults, between)
    assert not (clean and soak.wrong), soak.wrong[:3]
    soak.end()
    board.run(GONE_S)
    assert server.connections == service.open == 0
    states = [endpoint.state() for endpoint in board.chip.endpoints[1:]]
    assert states.count(R.LISTENING) == service.armed == 6, states  # no socket is lost
    assert board.net.errors == 0
    return board, soak


@pytest.mark.parametrize("seed", range(3))
def test_faults_of_the_wire_and_of_the_chip(seed):
    board, soak = soaked(seed, 34_000, ON_THE_WIRE + IN_THE_CHIP)
    assert board.net.recoveries >= soak.faults["brown_out"]


@pytest.mark.parametrize("seed", range(2))
def test_bit_errors_on_spi(seed):
    """SPI has no checksum: a payload may be wrong in the exchange that it hits. Nothing wedges for it."""
    _, soak = soaked(seed, 20_000, ON_SPI, clean=False)
    assert len(soak.wrong) < soak.counts["exchanges"] / 100
