"""Group membership of one host, versions 1 and 2 (RFC 1112, appendix I; RFC 2236).

In: groups that are joined and left, received IGMP messages. Out: reports and leave messages. Joining sends one
report; queries are answered after a random part of the time that they give, unless another member was quicker.
Never: a report for the group of all hosts. Not here: falling back to version 1 where a router speaks that.
"""

from typing import TYPE_CHECKING

from .clock import NS_PER_MS, NS_PER_S, Alarm
from .packets import IGMP_LEAVE, IGMP_QUERY, IGMP_V1_REPORT, IGMP_V2_REPORT, IP_ANY, igmp, parse_igmp

if TYPE_CHECKING:
    from .tcpip import Stack

ALL_HOSTS = bytes((224, 0, 0, 1))
ALL_ROUTERS = bytes((224, 0, 0, 2))
V1_RESPONSE_NS = 10 * NS_PER_S  # for a query without a time (RFC 2236, 8.3 and 4)


class _Membership:
    __slots__ = ("alarm", "joined", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self.joined = 0  # how often
        self.alarm: Alarm | None = None  # a report that is due


class Igmp:
    """The groups of `stack`."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._groups: dict[bytes, _Membership] = {}

    def join(self, group: bytes, version: int = 2) -> None:
        """Become a member. The last caller's version (1 or 2) counts."""
        member = self._groups.setdefault(group, _Membership(version))
        member.version = version
        member.joined += 1
        self._report(group, member)

    def leave(self, group: bytes, *, silently: bool = False) -> None:
        """Undo one join; the last one says so to the routers, in version 2 (RFC 2236, 3)."""
        member = self._groups.get(group)
        if member is None:
            return
        member.joined -= 1
        if not member.joined:
            self._cancel(member)
            del self._groups[group]
            if member.version != 1 and group != ALL_HOSTS and not silently:
                self._send(ALL_ROUTERS, IGMP_LEAVE, group)

    def received(self, frame: bytes, start: int, end: int) -> None:
        """A message, from `start` to `end` of the frame."""
        fields = parse_igmp(frame, start, end)
        if fields is None:
            return
        kind, time, group = fields
        if kind == IGMP_QUERY:
            limit = time * 100 * NS_PER_MS or V1_RESPONSE_NS
            for each, member in self._groups.items():
                if group in (IP_ANY, each) and each != ALL_HOSTS:
                    self._report_within(limit, each, member)
        elif kind in (IGMP_V1_REPORT, IGMP_V2_REPORT) and (member := self._groups.get(group)) is not None:
            self._cancel(member)

    def _report_within(self, limit: int, group: bytes, member: _Membership) -> None:
        clock = self._stack.clock
        when = clock.now + self._stack.random.randrange(limit)
        if member.alarm is not None:
            if member.alarm.when <= clock.now + limit:
                return
            member.alarm.cancel()
        member.alarm = clock.call_at(when, lambda: self._report(group, member))

    def _report(self, group: bytes, member: _Membership) -> None:
        self._cancel(member)
        if group != ALL_HOSTS:
            self._send(group, IGMP_V1_REPORT if member.version == 1 else IGMP_V2_REPORT, group)

    def _cancel(self, member: _Membership) -> None:
        if member.alarm is not None:
            member.alarm.cancel()
            member.alarm = None

    def _send(self, target: bytes, kind: int, group: bytes) -> None:
        stack = self._stack
        stack.port.send(igmp(stack.mac, stack.ip, target, stack.ident(), kind, group))
