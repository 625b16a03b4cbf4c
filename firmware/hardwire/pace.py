"""When may flash be busy? An erase stops the processor for 45 ms, and somebody may wait for an answer.

In: a count of requests answered, time. Out: yes or no, for one piece of 1 KB at most. Never: no for ever.

Where nobody asks, always. Right after an answer to somebody who asks regularly and seldom: the piece is done before the
next request. Where requests follow each other, once in so many that less than one in a hundred meets a piece.
"""

from .compat import const, ticks_diff, ticks_ms

_QUIET_MS = const(1000)  # without a request: nobody asks
_PIECE_MS = const(48)  # an erase, and the pages of 1 KB
_REQUESTS = const(400)  # between two pieces, each of which three of them meet
_HOLD_MS = const(500)  # a piece waits no longer


class Pace:
    """`requests()` is a number that grows with every request answered."""

    def __init__(self, requests):
        self._requests = requests
        self._count = requests()
        self._at = ticks_ms() - _QUIET_MS  # when the last request was seen
        self._gap = _QUIET_MS  # the shortest time between two of them, of late
        self._left = 0  # requests until the next piece
        self._piece_at = self._at

    def pressed(self):
        """Whether somebody asks so often that every turn should be short."""
        return ticks_diff(ticks_ms(), self._at) < _QUIET_MS or self._requests() != self._count

    def may_write(self):
        """Whether a piece may be written now."""
        now = ticks_ms()
        passed = ticks_diff(now, self._at)
        count = self._requests()
        if count != self._count:
            self._left -= count - self._count
            self._count = count
            self._gap = min(passed, self._gap + (self._gap >> 3) + 1)  # what is longer is believed slowly
            self._at = now
            passed = 0
        if passed >= _QUIET_MS or passed + _PIECE_MS <= self._gap:
            return True
        if self._left <= 0 or ticks_diff(now, self._piece_at) >= _HOLD_MS:
            self._left = _REQUESTS
            self._piece_at = now
            return True
        return False
