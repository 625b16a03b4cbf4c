"""The chip's health: what was written to it is read back at intervals, put right, or the chip is set up anew.

In: ticks of net.py, suspicion from whoever got an answer that cannot be. Out: registers as they should be; after a
power dip or a command that the chip does not take, a chip that was reset, and services back. One frame each half
second: all common registers, or one socket's. Nothing here waits longer than a reset takes, 5 ms.
"""

from . import log
from .compat import const
from .service import Service
from .w5500 import regs as R
from .w5500.chip import LOST, SOUND, ChipError

_HALF_PERIOD = const(5)  # ticks between two looks
_LOOKS = const(8)  # a round: the chip every other time, between that three listeners, one other socket
_PATIENCE_MS = const(5)  # for the chip to answer after a reset; then again at the next look


class Health:
    """Looks after the chip of `net`."""

    def __init__(self, net):
        self._net = net
        self._ticks = 0
        self._looks = 0
        self._last = [0, 0]  # sockets looked at last: one that does not listen, and one that does
        self._suspected = False
        self.link = False
        self.conflict = False  # another host uses our address; cleared by who reads it
        self.recovering = False
        self.recoveries = 0
        self.repairs = 0

    def suspect(self):
        """Look at the chip in the next tick."""
        self._suspected = True

    def tick(self):
        """TICK_MS have passed."""
        self._ticks += 1
        if self._suspected or self._ticks >= _HALF_PERIOD:
            self._ticks = 0
            if self.recovering:
                self._set_up()
            else:
                self._look()

    def _look(self):
        """Every other time the chip, else a listener, now and then another socket."""
        endpoint = None
        if self._suspected:
            self._suspected = False
        else:
            self._looks = (self._looks + 1) % _LOOKS
            if not self._looks & 1:
                endpoint = self._choose(self._looks > 0)
        if endpoint is None:
            self._look_at_chip()
        else:
            self._look_at_socket(endpoint)

    def _choose(self, listening):
        """The next socket in use that listens, or does not; None if there is none."""
        endpoints = self._net.chip.endpoints
        for _ in endpoints:
            number = self._last[listening] = (self._last[listening] + 1) % len(endpoints)
            owner = endpoints[number].owner
            if owner is not None and isinstance(owner, Service) == listening:
                return endpoints[number]
        return None

    def _look_at_chip(self):
        chip = self._net.chip
        verdict = chip.survey()
        if verdict != SOUND:
            verdict = chip.survey()  # it may have been the answer
        if verdict not in (SOUND, LOST):
            self.repairs += 1
            log.warning("chip: settings found wrong, written again")
            chip.restore()
            verdict = chip.survey()
        if verdict != SOUND:
            self.recover("the chip has lost its settings")
            return
        if chip.linked != self.link:
            self.link = chip.linked
            log.info("link %s", "up" if self.link else "down")
            if self.link:
                self._net.link_came_back()
        if chip.conflict:
            self.conflict = True

    def _look_at_socket(self, endpoint):
        if not endpoint.sound() and not endpoint.sound():
            if endpoint.commanded() >> 8:
                self._net.stuck(endpoint)
                return
            self.repairs += 1
            log.warning("socket %d: settings found wrong, written again", endpoint.number)
            endpoint.repair()
            self._net.wake(endpoint.bit)
            self._suspected = (
                True  # after a power dip every socket is like that: the chip's own registers tell
            )
        if endpoint.seen in (R.CLOSED, R.SYNRECV):
            self._net.alert()  # no interrupt tells of a SYN, nor of the reset that may follow it

    def recover(self, reason):
        """Set the chip up anew. Every connection is lost, every service listens again."""
        if not self.recovering:
            log.error("%s: set up anew", reason)
            self.recovering = True
            self.recoveries += 1
            self._set_up()

    def _set_up(self):
        chip = self._net.chip
        try:
            chip.reset(_PATIENCE_MS)
            chip.restore()
        except ChipError as error:
            log.error("%s", error)
            return
        owners = [endpoint.owner for endpoint in chip.endpoints]
        for endpoint in chip.endpoints:
            endpoint.reset()
        for owner in owners:
            if owner is not None:
                owner.chip_was_reset()
        self.recovering = False
        self._net.came_back()
