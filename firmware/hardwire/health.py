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
        self._count = 0  # of looks at sockets
        self._looked = [0] * R.SOCKETS  # `_count` when each socket was looked at last
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
        """The socket in use that listens, or does not, whose turn it is; None if there is none.

        Services take turns, and the listeners of each: a flood that has taken all of one service's is found soon.
        """
        looked = self._looked
        chosen = None
        least = 0
        for endpoint in self._net.chip.endpoints:
            owner = endpoint.owner
            if owner is None or isinstance(owner, Service) != listening:
                continue
            at = owner.looked if listening else 0
            if (
                chosen is None
                or at < least
                or (at == least and looked[endpoint.number] < looked[chosen.number])
            ):
                chosen = endpoint
                least = at
        if chosen is not None:
            self._count += 1
            looked[chosen.number] = self._count
            if listening:
                chosen.owner.looked = self._count
        return chosen

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
