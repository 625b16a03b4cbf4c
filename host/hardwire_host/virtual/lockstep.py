"""Several emulators and what is between them, each with a clock of its own, run so that none hears of the past.

In: `run` from whoever owns the wall clock. Out: what happens in all of them, in the order of device time. Never: a
frame that arrives at a time its receiver has passed; a result that depends on the wall clock.

Conservative co-simulation: whoever has something to do earliest runs, until somebody else could have sent it a
frame. That is not before LOOKAHEAD_NS after the next thing that somebody else does; who sleeps does nothing before
its next alarm, so idle time is still passed in one step. A frame that is sent changes who acts next: its sender stops.
"""

import time
from collections.abc import Callable
from functools import partial

from .clock import Alarm, Clock
from .emulator import FOREVER, Emulator
from .ether import WIRE_NS_MIN

LOOKAHEAD_NS = WIRE_NS_MIN
TURN_S = 0.005  # wall time of `run`, as Emulator.run has it


class _Between(Clock):
    """The clock of what no emulator owns: the segment, hosts on the PC's side, captures."""

    def __init__(self, on_alarm: Callable[[], None]) -> None:
        super().__init__()
        self._on_alarm = on_alarm

    def call_at(self, when: int, callback: Callable[[], None]) -> Alarm:
        alarm = super().call_at(when, callback)
        self._on_alarm()
        return alarm


class Lockstep:
    """Emulators as one: what engine.py runs.

    Attributes:
        clock: device time of what is between them; after `run` no emulator is behind it.
        on_alarm: called when something is to happen that was not known of.
    """

    def __init__(self) -> None:
        self.clock = _Between(partial(self._alarm_set, None))
        self.on_alarm: Callable[[], None] = lambda: None
        self._emulators: list[Emulator] = []
        self._running: Emulator | None = None
        self._stopped = False

    def add(self, emulator: Emulator) -> None:
        """Take part from now on."""
        self._emulators.append(emulator)
        emulator.clock.on_alarm = partial(self._alarm_set, emulator)

    @property
    def idle(self) -> bool:
        """Whether every guest waits for an interrupt."""
        return all(emulator.idle for emulator in self._emulators)

    @property
    def idle_ns(self) -> int | None:
        """Time to the next alarm of any of them, None without one."""
        due = min((emulator.next_event for emulator in self._emulators), default=FOREVER)
        due = min(due, self._own_event())
        return None if due == FOREVER else due - self.clock.now

    def run(self, until: int) -> None:
        """Run up to device time `until` (ns), or for some 5 ms of wall time, or until `end_turn`.

        Raises:
            GuestStopped: as Emulator.run.
        """
        wall_end = time.monotonic() + TURN_S
        self._stopped = False
        while not self._stopped and time.monotonic() < wall_end:
            first, soonest, second = None, self._own_event(), FOREVER
            for emulator in self._emulators:
                event = emulator.next_event
                if event < soonest:
                    first, soonest, second = emulator, event, soonest
                elif event < second:
                    second = event
            if soonest >= until:
                break
            if first is None:
                self.clock.advance_to(soonest)
            else:
                self._running = first
                first.run(min(until, second + LOOKAHEAD_NS))
                self._running = None
        self._pass_idle_time(until)

    def end_turn(self) -> None:
        """Make `run` return soon."""
        self._stopped = True
        if self._running is not None:
            self._running.end_turn()

    def _pass_idle_time(self, until: int) -> None:
        """Bring those who sleep as far as the others are: what comes from outside now is not late for anybody."""
        soonest = min(until, *(emulator.next_event for emulator in self._emulators))
        for emulator in self._emulators:
            emulator.run(min(soonest, self._own_event()))
        self.clock.advance_to(min(emulator.clock.now for emulator in self._emulators))

    def _own_event(self) -> int:
        due = self.clock.next_due()
        return FOREVER if due is None else due

    def _alarm_set(self, owner: Emulator | None) -> None:
        if self._running is not None and self._running is not owner:
            self._running.end_turn()
        self.on_alarm()
