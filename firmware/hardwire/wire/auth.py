"""What proves that somebody has a key: HMAC-SHA256, and a comparison that takes the same time for any answer.

Source: RFC 2104. MicroPython has no module hmac.
"""

from hashlib import sha256

from ..compat import const

_BLOCK = const(64)  # of SHA-256


def hmac(key, message):
    """HMAC-SHA256 of `message`, 32 bytes."""
    if len(key) > _BLOCK:
        key = sha256(key).digest()
    key = key + bytes(_BLOCK - len(key))
    inner = sha256(bytes([byte ^ 0x36 for byte in key]))
    inner.update(message)
    outer = sha256(bytes([byte ^ 0x5C for byte in key]))
    outer.update(inner.digest())
    return outer.digest()


def same(a, b):
    """Whether two texts of one length are equal, in a time that says nothing about where they differ."""
    difference = 0
    for at in range(len(a)):
        difference |= a[at] ^ b[at]
    return difference == 0
