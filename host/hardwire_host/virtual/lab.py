"""Where virtual boards stand: one Ethernet segment, and device time that passes for all of them.

In: how the segment is made. Out: `segment`, and the engine that runs every board that was made on it.
"""

from collections.abc import Callable

from .clock import Clock
from .engine import Engine
from .ether import Segment
from .lockstep import Lockstep


class Lab:
    """Boards made on it start together or one by one, and end together.

    Args:
        segment: makes the Ethernet segment on the clock it is given.
        pace: False skips idle time while somebody waits (engine.py).

    Attributes:
        clock: device time, of all that no board owns. segment: the Ethernet. engine: lets time pass.
    """

    def __init__(self, segment: Callable[[Clock], Segment] = Segment, *, pace: bool = True) -> None:
        self.lockstep = Lockstep()
        self.clock = self.lockstep.clock
        self.segment = segment(self.clock)
        self.engine = Engine(self.lockstep, pace=pace)
