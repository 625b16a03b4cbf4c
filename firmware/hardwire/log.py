"""Messages with a level and a time, printed and kept in a ring: the last ones can be read when nobody watched.

`log.info("link %s", "up")`. Times are milliseconds since start (they wrap with ticks_ms); once a time server has told
the time, UTC.
"""

import sys
import time

from .compat import const, print_exception, ticks_diff, ticks_ms

DEBUG = const(0)
INFO = const(1)
WARNING = const(2)
_ERROR = const(3)
NAMES = ("debug", "info", "warning", "error")

RING = const(32)  # messages kept
LONGEST = const(120)  # characters kept of each: bounds the ring at 5 KB
STAMP = const(34)  # characters before them at most: time, level

level = INFO  # least level that is printed and kept
counts = [0, 0, 0, 0]
_ring = [None] * RING
_next = 0
_EPOCH_S = 946684800 if time.gmtime(0)[0] == 2000 else 0  # where a port counts from, in Unix seconds
_clock = None  # [Unix seconds, milliseconds, ticks then]


def set_time(seconds, ms):
    """It is `seconds` (Unix) and `ms` now."""
    global _clock
    if _clock is None:
        _clock = [seconds, ms, ticks_ms()]
        info("time set")
    else:
        _clock[:] = seconds, ms, ticks_ms()


def now():
    """The time as text: UTC if it is known, else milliseconds since start."""
    if _clock is None:
        return "%d" % ticks_ms()
    ms = _clock[1] + ticks_diff(ticks_ms(), _clock[2])
    _clock[0] += ms // 1000  # kept up, because ticks wrap: at least a message a day, or a new time
    _clock[1] = ms % 1000
    _clock[2] = ticks_ms()
    return "%04d-%02d-%02dT%02d:%02d:%02d" % time.gmtime(_clock[0] - _EPOCH_S)[:6] + ".%03dZ" % _clock[1]


def _log(at, text, values):
    global _next
    counts[at] += 1
    if at < level:
        return
    if values:
        text = text % values
    line = "%s %s: %s" % (now(), NAMES[at], text[:LONGEST])
    _ring[_next] = line
    _next = (_next + 1) % RING
    print(line)


def debug(text, *values):
    """For developers: every event."""
    _log(DEBUG, text, values)


def info(text, *values):
    """Something a user may want to know: link, address, services."""
    _log(INFO, text, values)


def warning(text, *values):
    """Something was wrong and has been dealt with."""
    _log(WARNING, text, values)


def error(text, *values):
    """Something is wrong."""
    _log(_ERROR, text, values)


def exception(text, error):
    """An exception nobody expected: a line in the ring, the traceback on the console."""
    _log(_ERROR, "%s: %s: %s", (text, type(error).__name__, error))
    print_exception(error, sys.stdout)


def lines():
    """The messages kept, oldest first."""
    return [line for line in _ring[_next:] + _ring[:_next] if line is not None]
