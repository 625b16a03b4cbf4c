"""Discovery, the board's half: says who it is, and takes a new address from whoever has the key.

In: UDP payloads that came to PORT, with their sender, and the time in milliseconds. Out: payloads to send from PORT.
Never: I/O, a clock of its own, an exception on what somebody sends, more bytes than were received, an answer to
an address outside the network unless it was asked for that, a setting from somebody without the key.

docs/discovery.md has the protocol and its reasons; the asker's half is hardwire_host/clients/discovery.py. The
layouts here are of both. Numbers are big-endian.
"""

from struct import calcsize, pack, unpack_from

from ..compat import const, ticks_diff

PORT = const(7771)
SIZE = const(384)  # of a question, at least, and of an answer, at most: nobody gets more than he sends

HEADER = (
    ">4sBBBB8s6sH"  # magic, version, kind, flags, 0, nonce of the asker, MAC of the board (zeros: any), 0
)
ABOUT = (
    ">16s4s4s4sIB"  # ANSWER: challenge, address, netmask, gateway, uptime in seconds, mode; then the texts
)
NEW = ">16s4s4sBBH"  # SET: challenge, address, gateway, prefix length, mode, 0; then the tag
CODE = ">BBH"  # RESULT: code, 0, 0; then the tag
MAGIC = b"hwrd"
VERSION = const(1)
TAG = const(32)  # HMAC-SHA256 of all bytes before it

# Kinds
QUESTION = const(1)
ANSWER = const(2)
SET = const(3)
RESULT = const(4)

# Flags
DIRECT = const(1)  # QUESTION, SET: answer to the asker, wherever he is
SETTABLE = const(2)  # ANSWER: a key is configured

# Modes: how the board came to its address
STATIC = const(0)
DHCP = const(1)
FALLBACK = const(2)  # DHCP is wanted, nobody answers, the static address is used; never in a SET

# Codes of RESULT
DONE = const(0)
WRONG_KEY = const(1)
STALE = const(2)  # the challenge is not the current one: ask again
NO_KEY = const(3)  # none is configured, so nobody may set anything
BAD_VALUE = const(4)  # no host can use that
FAILED = const(5)  # it could not be stored
LATER = const(6)  # after a wrong key, nothing is looked at for a while

HEADER_SIZE = calcsize(HEADER)
_SET_SIZE = HEADER_SIZE + calcsize(NEW) + TAG
_EPHEMERAL = const(1024)  # askers use ports from here on; below are services that a forged question would hit
_QUEUE = const(4)  # answers that wait for their time; as many as the rate allows in a second
_RATE = const(4)  # answers in a second
_SECOND_MS = const(1000)
_CHALLENGE_MS = const(60000)  # a challenge that was seen but not used is good for so long
_TEXT = const(63)  # bytes in a name
_ANY = bytes(6)
_EVERYBODY = b"\xff\xff\xff\xff"


def _text(value):
    data = value.encode()[:_TEXT]
    return bytes([len(data)]) + data


class Responder:
    """Answers for one board.

    Attributes: applied: see `apply`. For discovery_set.py: apply, key, done, challenge.

    Args:
        mac: 6 bytes. random(n): n random bytes.
        describe(): (name, board type, firmware version, address, netmask, gateway, mode, uptime in seconds,
            ((service name, port), ...)); addresses of 4 bytes, zeros while there is none.
        apply(mode, address, netmask, gateway): store new settings, for DHCP only the mode counts; True if stored.
            They must not take effect before `applied` is True, as the result still leaves from the old address.
        key: bytes, or None: nothing can be set.
    """

    def __init__(self, mac, random, describe, apply, key=None):
        self._mac = bytes(mac)
        self._random = random
        self._describe = describe
        self.apply = apply
        self.key = key
        self.applied = (
            False  # set when a result has been sent; cleared by whoever makes the settings take effect
        )
        self.done = False  # a SET was done, its result waits
        self._stored = False  # that result has been handed out
        self._queue = []  # (since, wait in ms, ip, port, flags, nonce, message or None for an answer)
        self._seen = None  # nonce of the last question: it comes once for each way that leads here
        self._second = 0  # start of the second that `_left` counts for
        self._left = _RATE
        self.challenge = self._random(16)
        self._challenge_at = 0
        self._setter = None  # made when somebody wants to set an address

    def received(self, payload, ip, port, now_ms):
        """A datagram came from `ip` (4 bytes), `port`."""
        n = len(payload)
        if n < HEADER_SIZE or port < _EPHEMERAL or len(self._queue) == _QUEUE:
            return
        magic, version, kind, flags, _, nonce, mac, _ = unpack_from(HEADER, payload)
        if magic != MAGIC or version != VERSION or not self._within_rate(now_ms):
            return
        if kind == QUESTION and n >= SIZE and mac in (self._mac, _ANY) and nonce != self._seen:
            self._seen = nonce
            if not 0 <= ticks_diff(now_ms, self._challenge_at) < _CHALLENGE_MS:
                self.renew(now_ms)
            wait = self._random(1)[0] if mac == _ANY else 0  # ms: a hundred boards hear the same question
            self._put(now_ms, wait, ip, port, flags, nonce, None)
        elif kind == SET and n == _SET_SIZE and mac == self._mac:
            if self._setter is None:
                from .discovery_set import Setter

                self._setter = Setter(self)
            self._put(now_ms, 0, ip, port, flags, nonce, self._setter.set(bytes(payload), nonce, now_ms))

    def poll(self, now_ms):
        """What to send now: (ip, port, payload), or None. Call often."""
        if self._stored:
            self._stored = False
            self.applied = True
        for at in range(len(self._queue)):
            since, wait = self._queue[at][:2]
            if ticks_diff(now_ms, since) >= wait:
                _, _, ip, port, flags, nonce, message = self._queue.pop(at)
                about = self._describe()
                if message is None:
                    message = self._answer(about, nonce)
                elif self.done and message[HEADER_SIZE] == DONE:
                    self.done = False
                    self._stored = True
                return self._reach(ip, flags, about[3], about[4]), port, message
        return None

    def _within_rate(self, now):
        if not 0 <= ticks_diff(now, self._second) < _SECOND_MS:
            self._second = now
            self._left = _RATE
        return self._left > 0

    def _put(self, now, wait, ip, port, flags, nonce, message):
        self._left -= 1
        self._queue.append((now, wait, bytes(ip), port, flags, nonce, message))

    def _reach(self, ip, flags, address, netmask):
        """Where an answer goes: to a neighbour, else to everybody on the segment, which never leaves it."""
        if flags & DIRECT and 0 < ip[0] < 224:
            return ip
        mask = int.from_bytes(netmask, "big")
        near = (int.from_bytes(ip, "big") ^ int.from_bytes(address, "big")) & mask == 0
        return ip if near and any(address) and ip != address else _EVERYBODY

    def header(self, kind, flags, nonce):
        """The first bytes of a message from here."""
        return pack(HEADER, MAGIC, VERSION, kind, flags, 0, nonce, self._mac, 0)

    def _answer(self, about, nonce):
        name, board, version, address, netmask, gateway, mode, uptime_s, services = about
        message = self.header(ANSWER, SETTABLE if self.key else 0, nonce)
        message += pack(ABOUT, self.challenge, address, netmask, gateway, uptime_s & 0xFFFFFFFF, mode)
        message += _text(name) + _text(board) + _text(version)
        count = 0
        listed = b""
        for service, port in services:
            more = pack(">H", port) + _text(service)
            if len(message) + 1 + len(listed) + len(more) > SIZE:
                break
            listed += more
            count += 1
        return message + bytes([count]) + listed

    def renew(self, now_ms):
        """A new challenge: the one before is worth nothing."""
        self.challenge = self._random(16)
        self._challenge_at = now_ms
