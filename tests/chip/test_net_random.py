"""Random operations on the firmware's network core, its driver and the chip model, on a segment with random faults.

Several connections at once, each a stream both ways: nothing is lost, doubled, reordered or mixed up.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.service import Service
from hardwire.transport import WRITE_QUEUE
from hardwire.w5500.chip import CHUNK
from hardwire_host.virtual.faults import NONE, Faults
from hardwire_host.virtual.inprocess import BOARD_IP, InProcessBoard
from hardwire_host.virtual.w5500 import Options

PORT = 7
CONNECTIONS = 3

SIDES = st.integers(0, CONNECTIONS - 1)
# Small ones are repeated in other company than they were sent in; large ones fill every memory on the way.
SIZES = st.one_of(st.integers(1, 40), st.integers(1, 6000))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIDES, SIZES),
        st.tuples(st.just("read"), SIDES, st.integers(1, 4000)),
        st.tuples(st.just("write"), SIDES, SIZES),
        st.tuples(st.just("hear"), SIDES, st.booleans()),
        st.tuples(st.just("run"), SIDES, st.sampled_from((0.02, 0.5, 5, 60, 400, 1500))),
        st.tuples(st.just("shutdown"), SIDES, st.just(0)),
    ),
    min_size=20,
    max_size=60,
)
CHANCES = st.sampled_from((0.0, 0.05, 0.25))
FAULTS = st.builds(
    Faults, loss=CHANCES, dup=CHANCES, reorder=CHANCES, corrupt=CHANCES, delay_ms=st.sampled_from((0.0, 0.3))
)
OPTIONS = st.builds(
    Options,
    start_pointer=st.sampled_from((0, 0xFFF0, 0x7FFF, None)),
    torn_reads=st.sampled_from((0.0, 0.3)),
    recv_again=st.booleans(),
    imr_gates_ir=st.booleans(),
    intn_high_on_clear=st.booleans(),
)


class Board:
    """A protocol of the firmware that keeps what it hears, and says what it is told to."""

    def __init__(self, made):
        self.made = made
        self.got = bytearray()
        self.written = bytearray()
        self.paused = self.eof = False
        self.queued = 0  # at most so many bytes wait in the transport
        self.lost = []

    def connection_made(self, transport):
        self.transport = transport
        self.made[transport.get_extra_info("peername")[1]] = self

    def data_received(self, view):
        assert not self.eof
        self.got += view

    def eof_received(self):
        self.eof = True
        return True

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.queued = 0

    def connection_lost(self, error):
        self.lost.append(error)

    def write(self, data):
        """As much as a service may: pause_writing is a warning, a full queue the end."""
        data = data[: WRITE_QUEUE - self.queued]
        self.written += data
        self.transport.write(data)
        if self.paused:
            self.queued += len(data)

    def hear(self, wanted):
        (self.transport.resume_reading if wanted else self.transport.pause_reading)()


class Client:
    """A TcpUser on the PC's stack with a buffer of `limit` bytes."""

    def __init__(self, board, limit):
        self.limit = limit
        self.got = bytearray()
        self.sent_data = bytearray()
        self.unread = 0
        self.up = self.eof = self.shut = False
        self.reasons = []
        self.tcb = board.pc.connect(self, None, BOARD_IP, PORT)

    def attached(self, tcb):
        self.tcb = tcb

    def room(self):
        return self.limit - self.unread

    def established(self):
        self.up = True

    def received(self, data):
        self.got += data
        self.unread += len(data)

    def sent(self, n):
        pass

    def acked(self, n):
        pass

    def fin(self):
        self.eof = True

    def closed(self, reason):
        self.reasons.append(reason)

    def send(self, data):
        if not self.shut:
            self.sent_data += data
            self.tcb.send(data)

    def read(self, n):
        self.unread -= min(n, self.unread)
        self.tcb.window_opened()

    def shutdown(self):
        self.shut = True
        self.tcb.shutdown()


@settings(max_examples=100, deadline=None)
@given(
    operations=OPERATIONS,
    faults=st.one_of(st.just(NONE), FAULTS),
    options=OPTIONS,
    limit=st.sampled_from((1, 700, 3000, 65535)),
    chunk=st.sampled_from((1, 300, CHUNK)),
    deaf=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_streams_arrive_as_they_were_sent(operations, faults, options, limit, chunk, deaf, seed):
    made = {}
    service = Service("streams", lambda: Board(made), PORT, connections=CONNECTIONS, chunk=chunk)
    board = InProcessBoard(service, seed=seed, options=options)
    board.pc.rcr = 30  # so many losses in a row do not happen
    chance = random.Random(seed)
    clients = [Client(board, limit) for _ in range(CONNECTIONS)]
    assert board.run_until(lambda: len(made) == CONNECTIONS and all(client.up for client in clients))
    ends = [made[client.tcb.local_port] for client in clients]
    for end in ends:
        end.hear(not deaf)
    board.segment.faults = faults
    for operation, side, amount in operations:
        client, end = clients[side], ends[side]
        if operation == "send":
            client.send(chance.randbytes(amount))
        elif operation == "read":
            client.read(amount)
        elif operation == "write":
            end.write(chance.randbytes(amount))
        elif operation == "hear":
            end.hear(amount)
        elif operation == "shutdown":
            client.shutdown()
        else:
            board.run(amount / 1000)
        for client, end in zip(clients, ends, strict=True):
            assert client.sent_data.startswith(end.got) and end.written.startswith(client.got)
            assert not end.lost and not client.reasons

    def all_heard():
        for client in clients:
            client.read(limit)
        return all(
            len(end.got) == len(client.sent_data) and len(client.got) == len(end.written) and end.eof
            for client, end in zip(clients, ends, strict=True)
        )

    board.segment.faults = NONE
    for client, end in zip(clients, ends, strict=True):
        end.hear(True)
        client.shutdown()
    assert board.run_until(all_heard, 200)
    for end in ends:
        end.transport.close()
    assert board.run_until(
        lambda: all(client.reasons for client in clients) and all(end.lost for end in ends)
    )
    for client, end in zip(clients, ends, strict=True):
        assert end.got == client.sent_data and client.got == end.written
        assert client.reasons == ["done"] and end.lost == [None]
    assert board.net.sockets_in_use() == 0 and board.net.errors == 0
    assert not board.model.guest_errors
