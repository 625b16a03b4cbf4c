"""The driver on the model, through SPI frames: pointers at their worst, torn reads, a chip that is not there."""

import dataclasses

import pytest

from hardwire.service import Service
from hardwire.w5500.bus import Sequences
from hardwire.w5500.chip import BrokenBus, Chip, ChipError
from hardwire_host.virtual.inprocess import InProcessBoard
from hardwire_host.virtual.w5500 import Options
from peers import Peer

PORT = 7


class Echo:
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, view):
        self.transport.write(view)

    def eof_received(self):
        return False

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, error):
        pass


def echo_board(**options):
    return InProcessBoard(Service("echo", Echo, PORT, connections=4), options=Options(**options))


class DeadBus(Sequences):
    """SPI with nothing on it: MISO stays at one level."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def read(self, block, address, buffer):
        buffer[:] = bytes((self.level,)) * len(buffer)

    def write(self, block, address, buffer):
        pass


@pytest.mark.parametrize("level", [0x00, 0xFF])
def test_no_chip_is_named_with_what_was_read(level):
    with pytest.raises(ChipError, match=f"version register is 0x{level:02x}, not 0x04"):
        Chip(DeadBus(level)).reset()


@pytest.mark.parametrize("start", [0, 0xFFF0, 0x8000, None])
def test_streams_cross_the_end_of_the_pointers(start):
    board = echo_board(start_pointer=start)
    data = bytes(i * 31 & 0xFF for i in range(20_000))
    peer = Peer(board, PORT)
    peer.send(data)
    assert peer.expect(len(data), 60) == data


def test_torn_reads_lose_nothing():
    board = echo_board(torn_reads=0.5)
    data = bytes(i * 13 & 0xFF for i in range(30_000))
    peers = [Peer(board, PORT) for _ in range(3)]
    for peer in peers:
        peer.send(data)
    for peer in peers:
        assert peer.expect(len(data), 120) == data


def test_single_bytes_at_every_fill():
    board = echo_board(torn_reads=0.5)
    peer = Peer(board, PORT)
    for i in range(600):  # past 00FF -> 0100, where a torn count reads as nothing
        peer.send(bytes((i & 0xFF,)))
        assert peer.expect(1) == bytes((i & 0xFF,)), i


def test_registers_lost_under_a_connection_are_noticed():
    board = echo_board()
    peer = Peer(board, PORT)
    peer.send(b"x")
    peer.expect(1)
    endpoint = next(e for e in board.chip.endpoints if getattr(e.owner, "peer", None))
    board.model.brown_out()
    with pytest.raises(BrokenBus):
        endpoint.refresh()


def test_the_driver_makes_no_mistake_the_model_knows():
    board = echo_board()
    for _ in range(3):
        peer = Peer(board, PORT)
        peer.send(b"hello")
        peer.expect(5)
        peer.tcb.shutdown()
        board.run(0.2)
    assert not board.model.guest_errors
    assert not board.model.unimplemented


def test_version_register_may_come_late(monkeypatch):
    board = echo_board()
    board.model.options = dataclasses.replace(board.model.options, version_delay_ns=50_000_000)
    board.model.brown_out()
    waits = []

    def sleep_ms(ms):
        waits.append(ms)
        board.clock.advance(ms * 1_000_000)

    monkeypatch.setattr("hardwire.w5500.chip.sleep_ms", sleep_ms)
    chip = Chip(board.chip.bus)
    chip.reset()
    assert chip.version() == 4
    assert 45 < sum(waits) < 60
