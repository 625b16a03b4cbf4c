"""Device time: nanoseconds since power-on, and alarms. Everything virtual reads this clock and no other.

`Clock` holds the alarms; who owns it moves time on: a test by `advance()`, the emulated board by its own cycle count.
"""

import heapq
from collections.abc import Callable
from itertools import count

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Alarm:
    """A callback due at `when` (ns). `cancel()` is safe at any time, any number of times."""

    __slots__ = ("callback", "when")

    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """Alarms in order of time, then of creation: repeatable for the same sequence of calls."""

    def __init__(self) -> None:
        self._now = 0
        self._heap: list[tuple[int, int, Alarm]] = []
        self._order = count()

    @property
    def now(self) -> int:
        """Device time in ns."""
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` when device time reaches `when` (ns); at once-but-not-now if that is past."""
        alarm = Alarm(max(when, self.now), callback)
        heapq.heappush(self._heap, (alarm.when, next(self._order), alarm))
        return alarm

    def call_later(self, delay: int, callback: Callable[[], None]) -> Alarm:
        """Run `callback` after `delay` ns."""
        return self.call_at(self.now + delay, callback)

    def next_due(self) -> int | None:
        """Time of the earliest alarm, None without one."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def advance_to(self, when: int) -> None:
        """Move time on to `when`, running every alarm due on the way at its own time."""
        while (due := self.next_due()) is not None and due <= when:
            alarm = heapq.heappop(self._heap)[2]
            self._now = max(self._now, due)
            callback, alarm.callback = alarm.callback, None
            if callback is not None:
                callback()
        self._now = max(self._now, when)

    def advance(self, delta: int) -> None:
        """Move time on by `delta` ns."""
        self.advance_to(self.now + delta)
