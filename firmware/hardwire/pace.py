"""When may flash be busy? An erase stops the processor for 45 ms, and somebody may wait for an answer.

In: a count of requests answered, time, bytes about to be written, and that they were. Out: yes or no, for one piece.
Never: no for ever.

Where nobody asks, always. Right after an answer to somebody who asks regularly, when the piece is done before the next
request. Else once in so many requests that less than one in a hundred meets it. A piece is long where it needs a new
block, which is known by the last one that did.
"""

from .compat import const, micropython, ticks_diff, ticks_ms

BLOCK = const(4096)  # erased at once
_USED = const(4088)  # bytes of a file in a block: littlefs keeps two pointers in it, or more
_QUIET_MS = const(1000)  # without a request: nobody asks
_PAGES_MS = const(8)  # 1 KB without an erase
_ERASE_MS = const(52)  # ... and with it
_SURELY_MS = const(20)  # what took so long was an erase
_AT_ONCE_MS = const(3)  # after an answer
_CONTINUOUS_MS = const(4)
_REQUESTS = const(400)  # between two pieces where requests follow each other: the network's part is met, too
_SPARE = const(130)  # ... where they do not: the piece alone is met
_HOLD_MS = const(5000)  # a piece waits no longer


class Pace:
    """`requests()` is a number that grows with every request answered."""

    def __init__(self, requests):
        self._requests = requests
        self._count = requests()
        self._at = ticks_ms() - _QUIET_MS  # when the last request was seen
        self._gap = _QUIET_MS  # the shortest time between two of them, of late
        self._left = 0  # requests until a piece that does not fit between two of them
        self._held = False  # a piece waits ...
        self._held_at = self._at  # ... since then
        self._began = self._at  # when the last piece was allowed
        self._since = BLOCK  # bytes written from the last erase on

    @micropython.native
    def pressed(self):
        """Whether somebody asks so often that every turn should be short."""
        return ticks_diff(ticks_ms(), self._at) < _QUIET_MS or self._requests() != self._count

    @micropython.native
    def may_write(self, n):
        """Whether a piece of `n` bytes may be written now."""
        now = ticks_ms()
        passed = ticks_diff(now, self._at)
        count = self._requests()
        if count != self._count:
            self._left -= count - self._count
            self._count = count
            self._gap = min(passed, self._gap + (self._gap >> 3) + 1)  # what is longer is believed slowly
            self._at = now
            passed = 0
        if passed < _QUIET_MS:
            need = _ERASE_MS if self._since + n > _USED else _PAGES_MS
            gap = self._gap
            # Late in the gap only where there is room enough for the next one to be earlier.
            if passed + need > (gap if passed <= _AT_ONCE_MS else gap - (gap >> 2)):
                if not self._held:
                    self._held = True
                    self._held_at = now
                if (need <= gap or self._left > 0) and ticks_diff(now, self._held_at) < _HOLD_MS:
                    return False
                self._left = _REQUESTS if gap <= _CONTINUOUS_MS else _SPARE
        self._held = False
        self._began = now
        return True

    def wrote(self, n):
        """It was."""
        if ticks_diff(ticks_ms(), self._began) >= _SURELY_MS:
            self._since = 0
        self._since += n
