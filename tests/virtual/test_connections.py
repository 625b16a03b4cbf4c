"""Connections by the hundred, and those that come to nothing, on the emulated board. Times are device time.

Every client is on a stack of the segment and has the segment's clock: what it measures does not depend on this PC.
After each test the board is as before: a new client is served within BACK_S, every socket listens again, and the
board's own counters show no connection, no heap lost and no chip set up anew.
"""

import contextlib
import statistics

import pytest

from hardwire.addresses import ip_bytes
from hardwire_host.bundle import build_filesystem
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from hardwire_host.virtual.packets import SYN, tcp
from hardwire_host.virtual.tcpip import Stack

BOARD = "w5500_evb_pico"
BOARD_IP, PC_IP = ip_bytes("192.168.77.20"), ip_bytes("192.168.77.1")
NETMASK, PC_MAC = ip_bytes("255.255.255.0"), bytes((2, 0, 0, 0, 0, 1))
MODBUS, LISTENERS = 502, 5  # and as many connections
WINDOW = 65535
SYN_PORTS = 49151  # below those that the PC's connections have
BACK_S = 3.5  # on a quiet board a listener is looked at every second or two, and there are two services

CONNECTIONS, SAMPLE = 300, 50  # a thousand: tests/chip, in process
SLOWER = 1.2  # what a median may differ by the phase of the board's ticks, and of what else it does
SLOWEST_MS = 50  # of a single connection; the longest are those that meet a garbage collection, 25 ms
CLIENTS, EACH = 20, 10
REFUSED_MS = 20  # before a client that was refused comes again
POLL_MS = 250  # of the client that is served beside others
ALONE_S = 3  # for what it measures without them
IDLE_S = 6  # a connection is idle after 5; the board looks for one once a second
QUIET_S = 10  # without an event: the board looks at nothing but the chip's health
CLOSE_S = 3  # for FIN, its repetition, and the board's ticks
HEAP_S = 11  # so old the board's figure of its free heap may be
FLOOD_S, FLOOD_MS = 3, 5  # 200 SYNs a second take every listener within 30 ms

HEAP, IN_USE, RECOVERIES, REPAIRS = 2, 4, 13, 14  # input registers
REGISTERS = 16


def read(transaction, function=3, count=1):
    """A request for `count` registers."""
    return transaction.to_bytes(2) + b"\0\0\0\6\1" + bytes((function, 0, 0, 0, count))


def zeros(transaction, count=1):
    """The answer to `read` of holding registers, which are all 0 on a board that has just started."""
    return transaction.to_bytes(2) + bytes((0, 0, 0, 3 + 2 * count, 1, 3, 2 * count)) + bytes(2 * count)


class Peer:
    """A TCP client that keeps what it gets and answers FIN with FIN. It takes `window` bytes at a time.

    Times in ns: `began`; `up`, `ended`: None until the connection was made, until the board has ended it.
    """

    window = WINDOW

    def __init__(self, pc):
        self.clock = pc.clock
        self.began = self.clock.now
        self.up = self.ended = None
        self.refused = False
        self.got = b""
        self.tcb = pc.connect(self, None, BOARD_IP, MODBUS)

    # TcpUser

    def attached(self, tcb):
        self.tcb = tcb

    def room(self):
        return self.window

    def established(self):
        self.up = self.clock.now

    def received(self, data):
        self.got += data

    def acked(self, n):
        pass

    def sent(self, n):
        pass

    def fin(self):
        self._end()
        self.tcb.shutdown()

    def closed(self, reason):
        self.refused = self.up is None and reason == "reset"
        self._end()

    def _end(self):
        if self.ended is None:
            self.ended = self.clock.now
            self.over()

    def over(self):
        """The board has ended it."""


class Silent(Peer):
    """Connects, and never says a word."""

    bounds_s = 59.5, 61


class SlowBytes(Peer):
    """Sends a byte a second of a request that never ends."""

    bounds_s = 9.5, 11

    def established(self):
        super().established()
        self.rest = read(1)[:-1] * 2
        self.next_byte()

    def next_byte(self):
        if self.ended is None:
            self.tcb.send(self.rest[:1])
            self.rest = self.rest[1:]
            self.clock.call_later(NS_PER_S, self.next_byte)


class NeverReads(Peer):
    """Asks for more than the board has memory for, and takes none of it."""

    window = 0
    bounds_s = 29.5, 33

    def established(self):
        super().established()
        self.tcb.send(read(1, count=125) * 40)


class Question(Peer):
    """One exchange. `took`: ns from connect to the last byte of the answer, None if that never came."""

    def __init__(self, pc, function=3, count=1, over=lambda: None):
        self.request = read(1, function, count)
        self.size = 9 + 2 * count
        self.took = None
        self.over = over
        super().__init__(pc)

    def established(self):
        super().established()
        self.tcb.send(self.request)

    def received(self, data):
        super().received(data)
        if len(self.got) >= self.size:
            self.took = self.clock.now - self.began
            self.tcb.shutdown()

    @property
    def right(self):
        """Answered by zeros, or refused."""
        return self.got == (b"" if self.refused else zeros(1))


class Master(Peer):
    """Polls for ever. `took`: ns of each exchange; `wrong`: what was not the right answer."""

    def __init__(self, pc):
        self.took = []
        self.wrong = []
        super().__init__(pc)

    def established(self):
        super().established()
        self.ask()

    def ask(self):
        self.transaction = len(self.took) + 1
        self.count = 1 + self.transaction % 100
        self.got = b""
        self.asked = self.clock.now
        if self.ended is None:
            self.tcb.send(read(self.transaction, count=self.count))

    def received(self, data):
        super().received(data)
        if len(self.got) < 9 + 2 * self.count:
            return
        self.took.append(self.clock.now - self.asked)
        if self.got != zeros(self.transaction, self.count):
            self.wrong.append(self.got)
        self.clock.call_later(POLL_MS * NS_PER_MS, self.ask)


class Lan:
    """The board and a PC's stack on its segment."""

    def __init__(self, live):
        self.live = live
        segment = live.board.segment
        self.clock = segment.clock
        self.pc = live.do(self._stack, segment)
        self._port = 0
        self.heap = self.registers()[HEAP]

    @staticmethod
    def _stack(segment):
        port = segment.attach("pc")
        return Stack(segment.clock, port, mac=PC_MAC, ip=PC_IP, netmask=NETMASK, gateway=PC_IP, seed=3)

    def later(self, ms, function):
        self.clock.call_later(ms * NS_PER_MS, function)

    def start(self, kind, **arguments):
        return self.live.do(lambda: kind(self.pc, **arguments))

    def run(self, seconds, until=lambda: False):
        return self.live.run_until(until, seconds)

    def ask(self, **arguments):
        """What a client gets that comes again when it is refused, within BACK_S."""
        deadline = self.clock.now + BACK_S * NS_PER_S
        while True:
            question = self.start(Question, **arguments)
            left = (deadline - self.clock.now) / NS_PER_S
            assert self.run(left, lambda: question.took or question.refused), "not served"  # noqa: B023
            if question.took:
                return question.got
            self.run(REFUSED_MS / 1000)

    def registers(self):
        answer = self.ask(function=4, count=REGISTERS)
        return [int.from_bytes(answer[at : at + 2]) for at in range(9, len(answer), 2)]

    def states(self):
        return [each["state"] for each in self.live.board.chip.sockets() if each["port"] == MODBUS]

    def holds(self, peer):
        """Whether the chip has a connection with it."""
        name = f"{'.'.join(map(str, PC_IP))}:{peer.tcb.local_port}"
        return any(each["peer"] == name for each in self.live.board.chip.sockets())

    def listening(self):
        """Whether every socket of the service listens."""
        return self.states() == ["LISTEN"] * LISTENERS

    def end(self):
        """Whoever is still there goes."""
        for tcb in self.pc.connections():
            tcb.abort()

    @contextlib.contextmanager
    def unharmed(self):
        """Whatever happens inside, afterwards the board is as it was when it had started."""
        assert self.run(CLOSE_S, self.listening)
        yield
        assert self.ask() == zeros(1)
        assert self.run(CLOSE_S, self.listening), self.states()
        self.run(HEAP_S)
        registers = self.registers()
        assert registers[IN_USE] == 1  # who asks
        assert registers[HEAP] >= self.heap - 1
        assert registers[RECOVERIES] == registers[REPAIRS] == 0

    @contextlib.contextmanager
    def beside_a_master(self):
        """A client that is connected all the while notices nothing."""
        master = self.start(Master)
        self.run(ALONE_S)
        alone = len(master.took)
        yield
        self.run(ALONE_S)
        assert master.ended is None and master.wrong == []
        assert len(master.took) > alone
        beside = master.took[alone:]
        assert statistics.median(beside) <= SLOWER * statistics.median(master.took[:alone])
        assert max(beside) < SLOWEST_MS * NS_PER_MS
        self.live.do(master.tcb.shutdown)

    def syn(self, source):
        """A SYN without a connection behind it. From the PC's own address, its stack answers SYN-ACK with RST."""
        self._port = self._port % SYN_PORTS + 1
        to = self.live.board.chip.mac
        self.pc.port.send(tcp(to, PC_MAC, source, BOARD_IP, 0, self._port, MODBUS, 1, 0, SYN, WINDOW))

    def flood(self, seconds, source):
        """A SYN every FLOOD_MS, from the address source(number)."""
        count = seconds * 1000 // FLOOD_MS
        for number in range(count):
            self.later(number * FLOOD_MS, lambda number=number: self.syn(source(number)))


@pytest.fixture(scope="module")
def board(boot):
    live = boot(filesystem=build_filesystem(BOARD), pace=False)
    live.wait_listening(MODBUS)
    return Lan(live)


@pytest.fixture
def lan(board):
    yield board
    board.live.do(board.end)


def test_hundreds_in_a_row(lan):
    """Every one is served, and the last ones, with some more, as fast as the first."""
    questions = []

    def come_again():
        if len(questions) < CONNECTIONS + SAMPLE:
            questions.append(Question(lan.pc, over=come_again))

    with lan.unharmed():
        lan.live.do(come_again)
        assert lan.run(60, lambda: len(questions) == CONNECTIONS + SAMPLE and questions[-1].ended)
    assert all(question.right and question.took for question in questions)
    took = [question.took for question in questions]
    assert statistics.median(took[CONNECTIONS:]) <= SLOWER * statistics.median(took[:SAMPLE])
    assert max(took) < SLOWEST_MS * NS_PER_MS


def test_two_hundred_from_twenty_clients_at_once(lan):
    questions = []

    def client(left=EACH):
        if left:
            questions.append(Question(lan.pc, over=lambda: lan.later(REFUSED_MS, lambda: client(left - 1))))

    def everyone():
        for _ in range(CLIENTS):
            client()

    with lan.unharmed():
        lan.live.do(everyone)
        assert lan.run(60, lambda: len(questions) == CLIENTS * EACH and all(each.ended for each in questions))
    assert all(question.right for question in questions)
    assert all(question.refused or question.took for question in questions)
    served = sum(question.took is not None for question in questions)
    assert all(question.took for question in questions[:LISTENERS])
    assert served >= EACH * LISTENERS // 2  # each time they come, most of the listeners are back


def test_clients_that_are_none(lan):
    """Each is let go at its time; meanwhile others are served."""
    with lan.unharmed(), lan.beside_a_master():
        wasters = [lan.start(kind) for kind in (SlowBytes, NeverReads, Silent)]
        assert lan.run(1, lambda: all(waster.up for waster in wasters))
        assert lan.ask() == zeros(1)
        there = wasters[:]
        for waster in wasters:
            low, high = waster.bounds_s
            age = (lan.clock.now - waster.began) / NS_PER_S
            assert not lan.run(low - age, lambda: not all(map(lan.holds, there)))
            there.remove(waster)
            assert lan.run(high - low, lambda: not lan.holds(waster))  # noqa: B023
            if waster.window:  # else FIN has no room either, and the chip has no RST to send
                assert waster.ended


def test_every_connection_taken_by_one_that_is_none(lan):
    """After IDLE_S the next client gets the place of one of them."""
    with lan.unharmed():
        wasters = []
        for _ in range(LISTENERS):
            wasters.append(lan.start(Silent))
            assert lan.run(1, lambda: wasters[-1].up)
            lan.run(0.01)  # until the next listener is there
        lan.run(IDLE_S)
        assert lan.ask() == zeros(1)
        assert lan.run(CLOSE_S, lambda: sum(map(lan.holds, wasters)) == LISTENERS - 1)
        lan.live.do(lan.end)


@pytest.mark.parametrize("own", [False, True], ids=["flood", "scan"])
def test_half_open(lan, own):
    """SYNs that nobody follows up, from many addresses; or from one that resets what answers."""
    with lan.unharmed(), lan.beside_a_master():
        lan.live.do(
            lan.flood, FLOOD_S, lambda number: PC_IP if own else bytes((10, 1, number >> 8, number & 0xFF))
        )
        lan.run(FLOOD_S - BACK_S)
        assert lan.ask() == zeros(1)  # who comes again and again gets in meanwhile, too
        lan.run(BACK_S)


@pytest.mark.parametrize("own", [False, True], ids=["flood", "scan"])
def test_half_open_on_a_quiet_board(lan, own):
    """No interrupt tells of a SYN, nor of its reset: the board has to look by itself."""
    with lan.unharmed():
        lan.run(QUIET_S)
        for number in range(LISTENERS):
            lan.live.do(lan.syn, PC_IP if own else bytes((10, 2, 0, number)))
