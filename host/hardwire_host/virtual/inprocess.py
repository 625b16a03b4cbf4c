"""The firmware's network core on the chip model in one CPython process: no emulator, thousands of exchanges a second.

In: services as in app.py. Out: the board's `net`, and a `pc` stack on the same segment to talk to it. Time is device
time and moves only in `run`; the firmware's ticks read the same clock.
"""

from collections.abc import Callable

from hardwire import compat
from hardwire.addresses import ip_bytes
from hardwire.net import Net
from hardwire.w5500.bus import Sequences
from hardwire.w5500.chip import Chip

from . import regs as R
from .clock import NS_PER_MS, NS_PER_S, Clock
from .faults import FaultySegment
from .tcpip import Stack
from .w5500 import W5500

BOARD_IP = ip_bytes("192.168.77.20")
PC_IP = ip_bytes("192.168.77.1")
NETMASK = ip_bytes("255.255.255.0")
BOARD_MAC = bytes.fromhex("020000000020")
PC_MAC = bytes.fromhex("020000000001")

TURN_NS = (
    20_000  # device time a turn of the core takes here; without it two busy ends would stand still in time
)


class ModelBus(Sequences):
    """bus.py's interface on the model: one call is one SPI frame."""

    def __init__(self, model: W5500) -> None:
        super().__init__()
        self._frame = model.frame

    def read(self, block: int, address: int, buffer) -> None:
        """Fill `buffer`."""
        buffer[:] = self._frame(bytes((address >> 8, address & 0xFF, block)) + bytes(len(buffer)))[3:]

    def write(self, block: int, address: int, buffer) -> None:
        """Write `buffer`."""
        self._frame(bytes((address >> 8, address & 0xFF, block | R.WRITE)) + bytes(buffer))


class InProcessBoard:
    """A board and a PC on one segment. Only one at a time: the firmware has one clock."""

    def __init__(self, *services, seed: int = 0, options=None) -> None:
        self.clock = Clock()
        compat.now_ns = lambda: self.clock.now
        self.segment = FaultySegment(self.clock, seed=seed)
        arguments = {} if options is None else {"options": options}
        self.model = W5500(self.clock, self.segment.attach("board"), seed=seed, **arguments)
        self.clock.advance(10 * NS_PER_MS)
        self.chip = Chip(ModelBus(self.model))
        self.chip.configure(BOARD_IP, NETMASK, PC_IP, BOARD_MAC)
        self.net = Net(self.chip, lambda: self.model.intn)
        for service in services:
            self.net.serve(service)
        self.net.start()
        self.pc = Stack(
            self.clock,
            self.segment.attach("pc"),
            mac=PC_MAC,
            ip=PC_IP,
            netmask=NETMASK,
            gateway=PC_IP,
            seed=seed + 1,
        )

    def turn(self) -> None:
        """One turn of the core; then time moves on to whatever happens next."""
        busy = self.net.turn()
        if busy or not self.model.intn:
            self.clock.advance(TURN_NS)
            return
        wake = self.clock.now + self.net.due() * NS_PER_MS + TURN_NS
        due = self.clock.next_due()
        self.clock.advance_to(wake if due is None else min(wake, max(due, self.clock.now)))

    def run(self, seconds: float) -> None:
        """Run for `seconds` of device time."""
        end = self.clock.now + int(seconds * NS_PER_S)
        while self.clock.now < end:
            self.turn()

    def run_until(self, done: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Run until `done()`, for at most `seconds` of device time. Returns done()."""
        end = self.clock.now + int(seconds * NS_PER_S)
        while not done():
            if self.clock.now >= end:
                return False
            self.turn()
        return True
