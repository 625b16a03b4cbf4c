"""Modbus clients that check every answer, faults at random, and the question after each: is service back?

Works on whatever lets device time pass: the in-process board and the emulated one.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace

from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from hardwire_host.virtual.faults import NONE, Faults

PORT = 502
BACK_S = 2.0  # device time until a new client is served after a fault
ANSWER_S = 3.0  # until a client gives up; losses are repeated after 0.2, 0.6 and 1.4 s
ROUNDS = 3
PAUSE_MS = 50  # before a client that was cut off or refused comes again


class Client:
    """A Modbus client of `soak`: writes a value of its own, reads it back, counts what was wrong.

    Each connection has a register of its own: what an earlier one has sent may still be done.
    """

    def __init__(self, soak):
        self.soak = soak
        self.tcb = None
        self.expected = b""
        self.got = b""
        self.transaction = 0
        self.value = None  # as the board has it, None if a write may or may not have happened
        self.deadline = None
        self.exchanges = 0
        self.once = False  # it does not come again
        self.connect()

    def connect(self):
        soak = self.soak
        self.got = self.expected = b""
        self.value = None
        self.register = soak.next_register()
        self.tcb = soak.pc.connect(self, None, soak.board_ip, PORT)
        self.wait()

    def come_again(self):
        if not self.soak.over:
            self.connect()

    def wait(self):
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.soak.clock.call_later(int(ANSWER_S * NS_PER_S), self.late)

    def late(self):
        self.soak.counts["late"] += 1
        self.deadline = None
        self.tcb.abort()

    def ask(self):
        self.transaction = (self.transaction + 1) & 0xFFFF
        head = self.transaction.to_bytes(2, "big") + b"\0\0\0\6\1"
        register = self.register.to_bytes(2, "big")
        if self.transaction % 2 or self.value is None:
            self.value = self.soak.random.randrange(0x10000).to_bytes(2, "big")
            request = head + b"\6" + register + self.value
            self.expected = request
        else:
            request = head + b"\3" + register + b"\0\1"
            self.expected = head[:5] + b"\5\1\3\2" + self.value
        self.got = b""
        self.wait()
        self.tcb.send(request)

    # TcpUser

    def attached(self, tcb):
        self.tcb = tcb

    def room(self):
        return 65535

    def established(self):
        self.ask()

    def received(self, data):
        self.got += data
        if len(self.got) < len(self.expected):
            return
        if self.got != self.expected:
            self.soak.wrong.append((self.expected, self.got))
            self.tcb.abort()
            return
        self.exchanges += 1
        self.soak.counts["exchanges"] += 1
        if not self.once:
            self.ask()

    def acked(self, n):
        pass

    def sent(self, n):
        pass

    def fin(self):
        self.tcb.shutdown()

    def closed(self, reason):
        self.soak.counts[reason] += 1
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
        if not (self.soak.over or self.once):
            self.soak.clock.call_later(PAUSE_MS * NS_PER_MS, self.come_again)


@dataclass
class Soak:
    """`clients` on the stack `pc` of `segment`; `run_until(predicate, device seconds)` lets time pass.

    `do(function, *arguments)` calls it where the board runs.
    """

    pc: object
    segment: object
    chip: object
    cable: object
    board_ip: bytes
    run_until: object
    do: object = lambda function, *arguments: function(*arguments)
    seed: int = 0
    clients: int = 4
    registers: int = 1000  # of the board

    def __post_init__(self):
        self.clock = self.pc.clock
        self.random = random.Random(self.seed)
        self.counts = Counter()
        self.faults = Counter()
        self.wrong = []
        self.over = False
        self.slowest = 0.0
        self._register = 0
        self.everyone = [Client(self) for _ in range(self.clients)]

    def next_register(self):
        self._register = (self._register + 1) % self.registers
        return self._register

    # Faults: each is set, lasts, and is cleared

    def wire(self):
        self.do(setattr, self.segment, "faults", Faults(loss=0.05, dup=0.05, reorder=0.1, corrupt=0.02))
        self.go(0.5)
        self.do(setattr, self.segment, "faults", NONE)

    def cable_pull(self):
        self.do(setattr, self.cable, "link", False)
        self.go(self.random.choice((0.1, 1.0, 3.0)))
        self.do(setattr, self.cable, "link", True)

    def peer_reset(self):
        self.do(self.random.choice(self.everyone).tcb.abort)

    def peer_vanishes(self):
        self.do(self.random.choice(self.everyone).tcb.abort)
        self.do(setattr, self.cable, "link", False)  # nobody hears it
        self.go(0.05)
        self.do(setattr, self.cable, "link", True)

    def torn_reads(self):
        self.option(torn_reads=0.2)

    def stuck_commands(self):
        self.option(stuck_cr=0.02)

    def all_commands_stick(self):
        self.option(stuck_cr=1.0)

    def brown_out(self):
        self.do(self.chip.brown_out)

    def spi_errors(self):
        self.option(spi_errors=0.0005)

    def option(self, **wanted):
        before = self.chip.options
        self.do(setattr, self.chip, "options", replace(before, **wanted))
        self.go(0.5)
        self.do(setattr, self.chip, "options", before)

    def go(self, seconds):
        self.run_until(lambda: False, seconds)

    # The soak

    def run(self, exchanges, faults, between):
        """`between` exchanges, one of `faults` (names), service back; until so many exchanges and ROUNDS of each."""
        deck = []
        while self.counts["exchanges"] < exchanges or self.faults.total() < ROUNDS * len(faults):
            self.wait_for(self.counts["exchanges"] + between)
            deck = deck or self.random.sample(faults, len(faults))
            name = deck.pop()
            self.faults[name] += 1
            getattr(self, name)()
            self.service_is_back(name)
        return self

    def wait_for(self, exchanges):
        assert self.run_until(lambda: self.counts["exchanges"] >= exchanges, 60.0), (self.counts, self.faults)

    def service_is_back(self, name):
        """A client that knows nothing of the fault is served within BACK_S."""
        start = self.clock.now
        probe = self.do(Client, self)
        assert self.run_until(lambda: probe.exchanges, BACK_S), (name, self.counts, self.faults)
        self.slowest = max(self.slowest, (self.clock.now - start) / NS_PER_S)
        probe.once = True
        self.do(probe.tcb.shutdown)

    def end(self):
        """Every client goes."""
        self.over = True
        for client in self.everyone:
            client.tcb.abort()
