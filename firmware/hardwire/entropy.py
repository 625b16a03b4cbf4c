"""Random bytes for boards whose MCU has no generator (STM32F411, F446): there os.urandom is missing.

In: noise of the temperature sensor's conversions and the time they take. Out: SHA-256 of all of it so far. For nonces
and transaction numbers, which must be new and hard to guess; not for long-lived keys.
"""

from hashlib import sha256
from time import ticks_us

from machine import ADC, unique_id

from .compat import const

_FIRST = const(256)  # conversions before the first answer; each moves about a bit of noise
_EACH = const(16)  # before every further one

_pool = b""


def _stir(count):
    global _pool
    sensor = ADC(ADC.CORE_TEMP)
    pool = sha256(_pool or unique_id())
    for _ in range(count):
        pool.update((sensor.read_u16() ^ ticks_us()).to_bytes(4, "little"))
    _pool = pool.digest()


def entropy(n):
    """`n` random bytes."""
    _stir(_EACH if _pool else _FIRST)
    out = b""
    while len(out) < n:
        out += sha256(_pool + len(out).to_bytes(4, "little")).digest()
    return out[:n]
