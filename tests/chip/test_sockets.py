"""Who gets a hardware socket: listeners for every service, room made for others, who may connect."""

import pytest

from hardwire.service import Service
from hardwire_host.virtual import regs as R
from hardwire_host.virtual.inprocess import BOARD_IP, BOARD_MAC, InProcessBoard
from hardwire_host.virtual.packets import RST, SYN, tcp
from hardwire_host.virtual.tcpip import Stack
from peers import Peer

ONE, TWO, THREE = 7001, 7002, 7003
OTHER_IP = bytes((192, 168, 77, 9))
OTHER_MAC = bytes((2, 0, 0, 0, 0, 9))
IDLE_S = 5.5  # after which a connection may be closed to make room


class Echo:
    """Echo."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, view):
        self.transport.write(view)

    def eof_received(self):
        pass

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, error):
        pass


def service(port, settings=None, **limits):
    made = Service(f"s{port}", Echo, port, **limits)
    made.configure(settings or {})
    return made


def served(board, port, **options):
    """A client that has been answered."""
    peer = Peer(board, port, **options)
    peer.send(b"hello")
    assert peer.expect(5) == b"hello"
    return peer


def refused(board, port):
    """How a client does not get through."""
    peer = Peer(board, port)
    peer.send(b"hello")
    board.run(1.0)
    assert not peer.got
    peer.tcb.shutdown()
    board.run(1.0)
    return "end" if peer.eof else peer.reason


def listeners(board):
    return sum(endpoint.state() == R.LISTENING for endpoint in board.chip.endpoints)


def test_every_service_has_a_listener_and_spare_sockets_listen_too():
    services = [service(port, connections=7) for port in (ONE, TWO, THREE)]
    board = InProcessBoard(*services)
    assert [each.armed for each in services] == [3, 2, 2] and listeners(board) == 7
    first = [served(board, ONE) for _ in range(4)]
    assert [each.armed for each in services] == [1, 1, 1]
    for peer in first:
        peer.tcb.shutdown()
    board.run(0.5)
    assert sum(each.armed for each in services) == listeners(board) == 7


def test_the_idlest_connection_over_the_reserve_makes_room():
    one, two = service(ONE, connections=7, reserve=2), service(TWO, connections=3, reserve=1)
    board = InProcessBoard(one, two)
    peers = [served(board, ONE) for _ in range(6)]
    assert (one.open, one.armed, two.armed) == (6, 0, 1)
    board.run(3.0)
    for peer in peers[1:]:
        peer.send(b"again")
    board.run(3.0)  # the first one has been idle for six seconds, the others for three
    peers[0].tcb.shutdown()
    board.run(0.3)
    assert peers[0].eof and not any(peer.eof for peer in peers[1:])
    assert board.net.evicted == 1 and (one.open, one.armed) == (5, 1)
    served(board, ONE)


def test_a_service_with_all_its_connections_replaces_the_idlest():
    one = service(ONE, connections=3)
    board = InProcessBoard(one)
    peers = [served(board, ONE) for _ in range(3)]
    assert refused(board, ONE) == "reset"
    board.run(IDLE_S)
    peers[0].send(b"not me")
    board.run(1.0)
    served(board, ONE)
    board.run(0.1)
    assert [peer.eof for peer in peers] == [False, True, False] and board.net.evicted == 1


def test_an_offered_place_is_not_taken_from_who_speaks_again():
    one = service(ONE, connections=3)
    board = InProcessBoard(one)
    peers = [served(board, ONE) for _ in range(3)]
    board.run(IDLE_S + 1.0)
    assert listeners(board) == 1
    for peer in peers:
        peer.send(b"here I am")
    board.run(0.2)
    assert refused(board, ONE) == "end"
    assert not any(peer.eof for peer in peers) and board.net.evicted == 0


def test_busy_connections_stay():
    one, two = service(ONE, connections=7, reserve=2), service(TWO, connections=3, reserve=1)
    board = InProcessBoard(one, two)
    peers = [served(board, ONE) for _ in range(6)]
    for _ in range(8):
        for peer in peers:
            peer.send(b"busy")
        board.run(1.0)
    assert board.net.evicted == 0 and refused(board, ONE) == "reset"
    served(board, TWO)


def test_who_went_while_the_cable_was_out_makes_room_at_once():
    """Clients that give up and come again must not wait until their old connections count as idle."""
    one = service(ONE, connections=6, reserve=2)
    board = InProcessBoard(one)
    alive, gone = served(board, ONE), [served(board, ONE) for _ in range(5)]
    board.run(0.5)  # all is acknowledged: the board would notice by itself otherwise
    cable = board.segment.ports[0]
    cable.link = False
    board.run(1.5)
    for peer in gone:
        peer.tcb.forget()
    cable.link = True
    back = [Peer(board, ONE)]
    for _ in range(40):
        if len(back) == 4 and back[-1].up:
            break
        if back[-1].reason:
            back.pop()
        if not back or back[-1].up:
            back.append(Peer(board, ONE))
        alive.send(b"!")
        board.run(0.05)
    assert [peer.up for peer in back] == [True] * 4
    assert not alive.eof and alive.reason is None


def test_a_reserve_is_kept_for_its_service():
    one, two = service(ONE, connections=7, reserve=2), service(TWO, connections=3, reserve=2)
    board = InProcessBoard(one, two)
    ones = [served(board, ONE) for _ in range(6)]
    served(board, TWO)
    board.run(0.1)  # the service below its reserve needs no patience: somebody had to go at once
    (gone,) = (peer for peer in ones if peer.eof)
    gone.tcb.shutdown()
    board.run(0.3)
    assert (two.open, two.armed) == (1, 1)
    served(board, TWO)


def test_preferred_addresses_are_never_closed():
    one = service(ONE, {"priority": ["192.168.77.1"]}, connections=7, reserve=1)
    two = service(TWO, connections=3, reserve=1)
    board = InProcessBoard(one, two)
    peers = [served(board, ONE) for _ in range(6)]
    board.run(4 * IDLE_S)
    assert board.net.evicted == 0 and not any(peer.eof for peer in peers)


def test_only_some_may_connect():
    one = service(ONE, {"allow": ["192.168.77.8/29"]}, connections=4)
    board = InProcessBoard(one)
    assert refused(board, ONE) == "end" and one.refused == 1
    port = board.segment.attach("other")
    board.pc = Stack(
        board.clock,
        port,
        mac=bytes((2, 0, 0, 0, 0, 9)),
        ip=OTHER_IP,
        netmask=b"\xff\xff\xff\0",
        gateway=OTHER_IP,
        seed=5,
    )
    served(board, ONE)
    assert one.armed == 3


def test_one_address_has_no_more_than_its_part():
    one = service(ONE, {"per_peer": 2}, connections=6)
    board = InProcessBoard(one)
    first, second = served(board, ONE), served(board, ONE)
    assert refused(board, ONE) == "end"
    board.run(IDLE_S)
    second.send(b"busy")
    board.run(0.2)
    third = served(board, ONE)  # a client that lost its connection without a word gets its place back
    board.run(0.5)
    assert first.eof and not second.eof and not third.eof


@pytest.mark.parametrize("silent", [True, False], ids=["no ACK", "RST"])
def test_listeners_survive_a_scan(silent):
    """Half-open connections hold a listener for two seconds at most; a reset gives it back at once."""
    one = service(ONE, connections=7)
    board = InProcessBoard(one)
    board.run(1.0)
    pc = board.pc
    heard = pc.port.receive
    if silent:
        pc.port.receive = lambda frame: None
    for _ in range(20):
        peer = Peer(board, ONE)
        board.run(0.01)
        if not silent:
            peer.tcb.abort()
        else:
            peer.tcb.forget()
        board.run(0.01)
    if silent:
        pc.port.receive = heard
        board.run(2.5)
    assert listeners(board) == 7 == one.armed
    served(board, ONE)


def test_a_listener_lost_without_an_interrupt_is_found():
    one = service(ONE, connections=7)
    board = InProcessBoard(one)
    board.run(1.0)
    lost = board.chip.endpoints[3]
    lost.close()
    board.run(0.15)
    assert lost.state() == R.LISTENING and board.net.rearmed == 1


def test_a_thousand_connections_in_a_row():
    one = service(ONE, connections=6)
    board = InProcessBoard(one)
    spent = []
    for _ in range(1000):
        start = board.clock.now
        peer = served(board, ONE)
        spent.append(board.clock.now - start)
        peer.tcb.shutdown()
        assert board.run_until(lambda peer=peer: peer.reason == "done" or peer.eof)
    assert one.accepted == 1000 and board.run_until(lambda: one.open == 0)
    assert spent[-1] <= spent[1]


def test_two_hundred_connections_from_twenty_clients_at_once():
    one = service(ONE, connections=6)
    board = InProcessBoard(one)
    served_count = refused_count = 0
    for _ in range(10):
        peers = [Peer(board, ONE) for _ in range(20)]
        for peer in peers:
            peer.send(b"hello")
        assert board.run_until(lambda peers=peers: all(peer.reason or len(peer.got) == 5 for peer in peers))
        served_count += sum(bytes(peer.got) == b"hello" for peer in peers)
        refused_count += sum(peer.reason == "reset" for peer in peers)
        for peer in peers:
            peer.tcb.shutdown()
        assert board.run_until(lambda: one.open == 0)
    assert served_count + refused_count == 200 and served_count >= 60
    served(board, ONE)


@pytest.mark.parametrize("reset", [False, True], ids=["no ACK", "RST"])
def test_a_quiet_board_survives_a_scan(reset):
    """No interrupt tells of a SYN, nor of the reset that may follow it."""
    one = service(ONE, connections=6)
    board = InProcessBoard(one)
    port = board.segment.attach("scanner")
    board.run(10.0)
    for number in range(6):
        for flags in (SYN, RST) if reset else (SYN,):
            seq = 2 if flags == RST else 1
            source = bytes((10, 0, 0, number))
            port.send(tcp(BOARD_MAC, OTHER_MAC, source, BOARD_IP, 0, 40000, ONE, seq, 0, flags, 1024))
            board.run(0.005)
    board.run(2.2)  # a listener is looked at every two seconds at least
    assert listeners(board) == 6
    served(board, ONE)


def test_the_rest_of_a_dead_connection_is_not_sent_by_the_listener_that_has_its_socket():
    one = service(ONE, connections=6)
    board = InProcessBoard(one)
    peer = Peer(board, ONE, take=0)
    for _ in range(2):  # the second answer waits in the chip's memory for the end of the first SEND
        peer.send(bytes(100))
        board.run(0.05)
    peer.tcb.abort()
    board.run(0.5)
    assert board.net.rearmed == 0 and listeners(board) == 6
