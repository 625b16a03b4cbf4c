"""A deadline that is moved and cancelled with almost every packet, and almost never comes.

In: a clock's alarms. Out: one call when the deadline is reached. The alarm is left where it is and looks at the
deadline when it rings: moving the deadline on costs an assignment.
"""

from collections.abc import Callable

from .clock import Alarm, Clock


class Timer:
    """Calls `due()` at the deadline, once per `start`."""

    __slots__ = ("_alarm", "_clock", "_deadline", "_due")

    def __init__(self, clock: Clock, due: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._alarm: Alarm | None = None
        self._deadline: int | None = None

    @property
    def running(self) -> bool:
        """Whether there is a deadline."""
        return self._deadline is not None

    def start(self, delay: int) -> None:
        """Set the deadline `delay` ns from now, in place of the last one."""
        self._deadline = deadline = self._clock.now + delay
        alarm = self._alarm
        if alarm is None:
            self._alarm = self._clock.call_at(deadline, self._ring)
        elif alarm.when > deadline:
            alarm.cancel()
            self._alarm = self._clock.call_at(deadline, self._ring)

    def stop(self) -> None:
        """No deadline; soon to be started again."""
        self._deadline = None

    def cancel(self) -> None:
        """No deadline, and no alarm left behind."""
        self._deadline = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        deadline = self._deadline
        if deadline is None:
            return
        if deadline > self._clock.now:
            self._alarm = self._clock.call_at(deadline, self._ring)
            return
        self._deadline = None
        self._due()
