"""Address resolution of one host (RFC 826): a bounded cache that ages, requests repeated as the W5500 does.

In: received ARP frames, questions. Out: ARP frames, answers by callback, `stack.on_conflict()`. Addresses,
RTR and RCR are read from the stack when they are needed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .clock import NS_PER_S, NS_PER_US, Alarm
from .packets import IP_ANY, MAC_BROADCAST, REPLY, REQUEST, arp, parse_arp

if TYPE_CHECKING:
    from .tcpip import Stack

LIFETIME_NS = 60 * NS_PER_S  # of an entry that is not renewed (RFC 1122, 2.3.2.1: "on the order of a minute")
ENTRIES = 1024  # a /22 full of talkers; more is a flood, and the oldest goes
WAITING = 64  # callers per address; one more is told at once that nobody answers

Done = Callable[[bytes | None], None]


class _Question:
    """An address asked for: requests sent so far, who wants to know."""

    __slots__ = ("alarm", "callers", "sent")

    def __init__(self) -> None:
        self.alarm: Alarm | None = None
        self.callers: list[Done] = []
        self.sent = 0


class Arp:
    """The cache and the open questions of `stack`. `lifetime` (ns) of an entry: 0 asks every time."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self.lifetime = LIFETIME_NS
        self._cache: dict[bytes, tuple[bytes, int]] = {}  # address: MAC, time of expiry; oldest first
        self._questions: dict[bytes, _Question] = {}

    def forget(self) -> None:
        """Drop the cache and the open questions, and whoever waits for an answer."""
        self._cache.clear()
        for question in self._questions.values():
            question.alarm.cancel()
        self._questions.clear()

    def resolve(self, ip: bytes, done: Done) -> None:
        """Tell `done` the MAC of `ip` on this link, at once if known.

        None after RTR x (RCR + 1) without an answer: ARPTO (datasheet 4.1, RCR).
        """
        entry = self._cache.get(ip)
        if entry is not None and entry[1] > self._stack.clock.now:
            done(entry[0])
            return
        question = self._questions.get(ip)
        if question is None:
            question = self._questions[ip] = _Question()
            question.callers.append(done)
            self._ask(ip, question)
        elif len(question.callers) < WAITING:
            question.callers.append(done)
        else:
            done(None)

    def learn(self, ip: bytes, mac: bytes) -> None:
        """Remember an address seen on this link."""
        self._cache.pop(ip, None)
        if len(self._cache) >= ENTRIES:
            del self._cache[next(iter(self._cache))]
        self._cache[ip] = mac, self._stack.clock.now + self.lifetime

    def received(self, frame: bytes) -> None:
        """An ARP frame to us or to all."""
        fields = parse_arp(frame)
        if fields is None:
            return
        operation, mac, sender, target = fields
        stack = self._stack
        if mac == stack.mac:
            return
        if sender == stack.ip != IP_ANY:
            stack.on_conflict()  # RFC 5227, 2.4; an answer would take its traffic from it
            return
        question = self._questions.pop(sender, None)
        if sender != IP_ANY and (target == stack.ip or question is not None or sender in self._cache):
            self.learn(sender, mac)
        if operation == REQUEST and target == stack.ip != IP_ANY:
            stack.port.send(arp(REPLY, stack.mac, stack.ip, mac, sender))
        if question is not None:
            question.alarm.cancel()
            for done in question.callers:
                done(mac)

    def _ask(self, ip: bytes, question: _Question) -> None:
        stack = self._stack
        if question.sent > stack.rcr:
            del self._questions[ip]
            for done in question.callers:
                done(None)
            return
        question.sent += 1
        stack.port.send(arp(REQUEST, stack.mac, stack.ip, MAC_BROADCAST, ip))
        question.alarm = stack.clock.call_later(stack.rtr * 100 * NS_PER_US, lambda: self._ask(ip, question))
