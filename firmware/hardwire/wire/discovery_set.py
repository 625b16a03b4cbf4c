"""Discovery: a new address from whoever has the key. Loaded when somebody wants to set one; see discovery.py.

In: SET messages of the right length. Out: RESULT messages; `apply` of the Responder is called. Never: a setting from
somebody without the key.
"""

from struct import pack, unpack_from

from ..compat import const, ticks_diff
from . import discovery as D
from .auth import hmac, same

_LOCK_MS = const(1000)  # after the first wrong key, doubled with every one
_LOCKS = const(5)  # times: 32 s


def _netmask(prefix):
    return (0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big")


def _usable(address, prefix, gateway):
    """Whether a host may have `address` in a network of that size, with `gateway` as its neighbour or none."""
    if not 8 <= prefix <= 30 or not 1 <= address[0] <= 223 or address[0] == 127:
        return False
    host = (1 << (32 - prefix)) - 1
    own = int.from_bytes(address, "big")
    other = int.from_bytes(gateway, "big")
    if not 0 < own & host < host:
        return False
    return other == 0 or (other | host == own | host and other != own and 0 < other & host < host)


class Setter:
    """Sets what `responder`, a discovery.Responder, is asked to."""

    def __init__(self, responder):
        self._responder = responder
        self._last = None  # the last SET that was done, and its result, in case that gets lost
        self._failures = 0
        self._failed_at = 0

    def set(self, message, nonce, now):
        """Do what an authentic SET asks for. Returns the result's bytes."""
        board = self._responder
        if self._last is not None and message == self._last[0]:
            return self._last[1]
        if not board.key:
            return self._result(nonce, D.NO_KEY)
        if self._failures:
            wait = _LOCK_MS << min(self._failures - 1, _LOCKS)
            if 0 <= ticks_diff(now, self._failed_at) < wait:
                return self._result(nonce, D.LATER)
        challenge, address, gateway, prefix, mode, _ = unpack_from(D.NEW, message, D.HEADER_SIZE)
        if challenge != board.challenge:
            return self._result(nonce, D.STALE)
        if not same(hmac(board.key, message[: -D.TAG]), message[-D.TAG :]):
            self._failures += 1
            self._failed_at = now
            return self._result(nonce, D.WRONG_KEY)
        self._failures = 0
        board.renew(now)
        if mode == D.STATIC:
            code = D.BAD_VALUE
            if _usable(address, prefix, gateway):
                code = D.DONE if board.apply(mode, address, _netmask(prefix), gateway) else D.FAILED
        elif mode == D.DHCP:
            code = D.DONE if board.apply(mode, None, None, None) else D.FAILED
        else:
            code = D.BAD_VALUE
        result = self._result(nonce, code, board.key)
        if code == D.DONE:
            board.done = True
            self._last = message, result
        return result

    def _result(self, nonce, code, key=None):
        """A result; with a tag for somebody who has shown that he knows the key, else with zeros."""
        message = self._responder.header(D.RESULT, 0, nonce) + pack(D.CODE, code, 0, 0)
        return message + (hmac(key, message) if key else bytes(D.TAG))
