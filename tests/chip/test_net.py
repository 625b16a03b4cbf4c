"""The network core on the chip model: connections, limits, ends, back-pressure. Device time, one process."""

import errno

import pytest

from hardwire.service import Service
from hardwire.transport import CLOSE_TICKS, SILENT_TICKS, STALL_TICKS, TICK_MS, WRITE_QUEUE
from hardwire.w5500.chip import CHUNK
from hardwire_host.virtual.inprocess import InProcessBoard
from peers import Peer

PORT = 7


class Echo:
    """Echo with correct back-pressure; keeps what happened to it."""

    def __init__(self, log):
        self.log = log
        self.pending = False

    def connection_made(self, transport):
        self.transport = transport
        self.log.append(("made", transport.get_extra_info("peername")[0]))

    def data_received(self, view):
        if bytes(view) == b"bug":
            raise RuntimeError("a bug in a service")
        if bytes(view) == b"close":
            self.transport.close()
            return
        if bytes(view) == b"half":
            self.pending = True
            return
        self.transport.write(view)

    def eof_received(self):
        self.log.append("eof")

    def pause_writing(self):
        self.log.append("pause")
        self.transport.pause_reading()

    def resume_writing(self):
        self.log.append("resume")
        self.transport.resume_reading()

    def connection_lost(self, error):
        self.log.append(("lost", error and error.errno))


@pytest.fixture
def log():
    return []


@pytest.fixture
def board(log):
    return InProcessBoard(Service("echo", lambda: Echo(log), PORT, connections=3))


def test_echo_and_a_clean_end(board, log):
    peer = Peer(board, PORT)
    peer.send(b"hello")
    assert peer.expect(5) == b"hello"
    peer.tcb.shutdown()
    assert board.run_until(lambda: peer.reason is not None)
    assert peer.reason == "done"
    assert log == [("made", "192.168.77.1"), "eof", ("lost", None)]
    assert board.net.sockets_in_use() == 0


def test_request_and_fin_together_are_answered(board):
    peer = Peer(board, PORT)
    peer.send(b"question")
    peer.tcb.shutdown()
    assert peer.expect(8) == b"question"
    peer.wait_closed()


def test_more_clients_than_connections_are_refused_and_room_comes_back(board):
    peers = [Peer(board, PORT) for _ in range(3)]
    for peer in peers:
        peer.wait_up()
    board.run(0.01)
    fourth = Peer(board, PORT)
    assert board.run_until(lambda: fourth.reason is not None)
    assert fourth.reason == "reset" and not fourth.up
    peers[1].tcb.shutdown()
    assert board.run_until(lambda: peers[1].reason is not None)
    fifth = Peer(board, PORT)
    fifth.send(b"x")
    assert fifth.expect(1) == b"x"
    peers[0].send(b"y")
    assert peers[0].expect(1) == b"y"


def test_peer_reset_is_told(board, log):
    peer = Peer(board, PORT)
    peer.wait_up()
    board.run(0.01)
    peer.tcb.abort()
    assert board.run_until(lambda: log[-1][0] == "lost")
    assert log[-1] == ("lost", errno.ECONNRESET)
    again = Peer(board, PORT)
    again.send(b"z")
    assert again.expect(1) == b"z"


def test_close_by_the_service_sends_what_was_written_then_fin(board):
    peer = Peer(board, PORT)
    peer.send(b"abc")
    assert peer.expect(3) == b"abc"
    peer.send(b"close")
    assert board.run_until(lambda: peer.eof)
    peer.tcb.shutdown()
    assert board.run_until(lambda: board.net.sockets_in_use() == 0)


def test_close_without_an_answer_is_bounded(board, log):
    peer = Peer(board, PORT)
    peer.wait_up()
    board.run(0.01)
    peer.send(b"close")
    board.run_until(lambda: peer.eof)
    assert board.run_until(lambda: ("lost", None) in log, 2 * CLOSE_TICKS * TICK_MS / 1000)


def test_a_bug_in_a_service_ends_its_connection_only(board, log, capsys):
    other, peer = Peer(board, PORT), Peer(board, PORT)
    peer.send(b"bug")
    peer.wait_closed()
    other.send(b"ok")
    assert other.expect(2) == b"ok"
    assert board.net.errors == 1
    assert "a bug in a service" in capsys.readouterr().out


def test_half_a_message_and_silence_is_dropped(board):
    peer = Peer(board, PORT)
    peer.send(b"half")
    seconds = STALL_TICKS * TICK_MS / 1000
    board.run(seconds * 0.9)
    assert not peer.eof
    board.run(seconds * 0.3)
    assert peer.eof


def test_half_a_message_in_slow_bytes_is_dropped(board):
    peer = Peer(board, PORT)
    peer.send(b"half")
    for _ in range(STALL_TICKS * TICK_MS // 1000 + 2):
        board.run(1.0)
        if not peer.eof:
            peer.send(b"half")
    assert peer.eof


def test_a_peer_that_does_not_read_stops_only_itself(board, log):
    slow = Peer(board, PORT, take=0)
    quick = Peer(board, PORT)
    slow.send(bytes(6 * CHUNK))
    board.run(0.5)
    assert "pause" in log
    quick.send(b"quick")
    assert quick.expect(5) == b"quick"
    slow.take = 65535
    slow.tcb.window_opened()
    assert slow.expect(6 * CHUNK, 60) == bytes(6 * CHUNK)
    assert "resume" in log


def test_a_service_that_ignores_pause_is_cut_off(log):
    class Flood(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            for _ in range(20):
                transport.write(bytes(1024))

        def pause_writing(self):
            pass

    board = InProcessBoard(Service("flood", lambda: Flood(log), PORT))
    peer = Peer(board, PORT, take=0)
    assert board.run_until(lambda: log[-1:] == [("lost", None)], 10)
    assert len(peer.got) <= CHUNK + WRITE_QUEUE


def test_idle_connections_are_closed_when_asked(log):
    board = InProcessBoard(Service("echo", lambda: Echo(log), PORT, idle_s=2))
    peer = Peer(board, PORT)
    peer.wait_up()
    board.run(1.5)
    peer.send(b"x")
    peer.expect(1)
    board.run(1.5)
    assert not peer.eof
    board.run(1.0)
    assert peer.eof


def test_a_client_that_never_says_a_word_is_closed(board):
    peer = Peer(board, PORT)
    peer.wait_up()
    board.run(SILENT_TICKS * TICK_MS / 1000 * 0.9)
    assert not peer.eof
    board.run(SILENT_TICKS * TICK_MS / 1000 * 0.2)
    assert peer.eof


def test_every_byte_of_a_long_stream(board):
    data = bytes(i * 7 + (i >> 8) & 0xFF for i in range(100_000))
    peer = Peer(board, PORT)
    peer.send(data)
    assert peer.expect(len(data), 120) == data


def test_stopping_tells_the_peers(board, monkeypatch):
    peer = Peer(board, PORT)
    peer.send(b"x")
    peer.expect(1)
    monkeypatch.setattr("hardwire.net.sleep_ms", lambda ms: board.clock.advance(ms * 1_000_000))
    board.net.stop()
    assert peer.eof
    late = Peer(board, PORT)
    board.run(0.1)
    assert late.reason == "reset"


def test_link_is_followed(board):
    board.run(1.0)
    assert board.net.link
    board.segment.ports[0].link = False
    board.run(1.0)
    assert not board.net.link


def test_nothing_is_asked_of_the_chip_while_nothing_happens(board):
    board.run(1.0)
    frames = board.model.frames
    board.run(10.0)
    # three listeners looked at ten times a second, the PHY twice
    assert board.model.frames - frames <= 10 * (3 * 10 + 2) + 5


def test_a_service_without_a_listener_gets_a_spare_one(log):
    first = Service("first", lambda: Echo(log), PORT, connections=7)
    second = Service("second", lambda: Echo(log), PORT + 2, connections=2)
    board = InProcessBoard(first, second)
    for port in (PORT + 2, PORT, PORT, PORT, PORT + 2):
        peer = Peer(board, port)
        peer.send(b"hello")
        assert peer.expect(5) == b"hello"
    assert (first.open, second.open) == (3, 2)
