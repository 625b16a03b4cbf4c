"""Runs emulators in the caller's loop: short turns, naps while the guests sleep, and whoever waits for them.

In: a `Lockstep`; `wake` whenever something outside has changed. Out: device time that passes, `run_until`.
Never: threads; more than some 5 ms without a turn for the rest of the loop; a guest or an emulator that has
died without an error for everyone who waits.

Device time is the only time that counts. With `pace` it never runs ahead of the wall clock, nor catches up
with it where the emulator was slower than silicon. Without, idle time is skipped while somebody waits.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import FAILED, NO_BOARD, HardwireError
from .clock import NS_PER_MS, NS_PER_S
from .emulator import FOREVER, GuestStopped
from .lockstep import Lockstep

log = logging.getLogger(__name__)

SKIP_NS = 10 * NS_PER_MS  # device time of a turn that skips idle time: how late a waiter may notice
LAG_NS = 20 * NS_PER_MS  # how much the PC may wake up late and make up for it; beyond, the emulator is slower
NAP_S = 0.02  # the longest nap: so old device time may be when something comes in from outside


@dataclass(eq=False)
class _Waiter:
    predicate: Callable[[], bool]
    deadline: int
    done: asyncio.Future


class Engine:
    """`start`, then `run_until` from any task of the loop, then `stop`."""

    def __init__(self, lockstep: Lockstep, *, pace: bool) -> None:
        self.lockstep = lockstep
        self.pace = pace
        self._task: asyncio.Task | None = None
        self._awake = asyncio.Event()
        self._dead = asyncio.Event()
        self._failure = HardwireError(NO_BOARD, "the virtual board is not running")
        self._waiters: list[_Waiter] = []

    def start(self) -> None:
        """Begin to run, in the running loop; again is nothing."""
        if self._task is None and not self._dead.is_set():
            self._task = asyncio.create_task(self._run())
            self.lockstep.on_alarm = self.wake

    async def stop(self) -> None:
        """End, for good; who waits gets an error."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            self._die(HardwireError(NO_BOARD, "the virtual board was stopped"))

    def wake(self) -> None:
        """Something has changed: no napping now."""
        self._awake.set()

    async def ended(self) -> None:
        """Wait until it has died or was stopped.

        Raises:
            HardwireError: always, with the reason.
        """
        await self._dead.wait()
        raise self._failure

    async def run_until(self, predicate: Callable[[], bool], device_seconds: float | None = None) -> bool:
        """Let the guest run until `predicate()`, asked between turns, for at most `device_seconds`.

        Returns:
            `predicate()`: False when the time is over.

        Raises:
            HardwireError: the board has died, or is not running.
        """
        if self._task is None or self._dead.is_set():
            raise self._failure
        if predicate():
            return True
        now = self.lockstep.clock.now
        deadline = FOREVER if device_seconds is None else now + round(device_seconds * NS_PER_S)
        waiter = _Waiter(predicate, deadline, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self.wake()
        return await waiter.done

    async def _run(self) -> None:
        try:
            await self._turns()
        except GuestStopped as error:
            self._die(HardwireError(FAILED, f"the guest has crashed: {error}", error.hint))
        except Exception as error:
            log.exception("the emulator has failed")
            self._die(HardwireError(FAILED, f"the emulator has failed: {error!r}", "a bug; -v shows where"))

    def _die(self, error: HardwireError) -> None:
        if self._dead.is_set():
            return
        self._failure = error
        self._dead.set()
        for waiter in self._waiters:
            if not waiter.done.done():
                waiter.done.set_exception(error)
        self._waiters.clear()

    async def _turns(self) -> None:
        lockstep, clock = self.lockstep, self.lockstep.clock
        origin = time.monotonic_ns() - clock.now  # what the wall clock showed at device time 0
        while True:
            self._awake.clear()
            skip = self._waiters and not self.pace
            if skip:
                lockstep.run(min(clock.now + SKIP_NS, *(waiter.deadline for waiter in self._waiters)))
            else:
                lockstep.run(time.monotonic_ns() - origin)
            self._ask_waiters()
            wall = time.monotonic_ns()
            origin = max(origin, wall - clock.now - LAG_NS)
            if skip or not lockstep.idle:
                await asyncio.sleep(0)
            else:
                behind = wall - origin - clock.now
                idle = lockstep.idle_ns
                await self._nap(NAP_S if idle is None else min((idle - behind) / NS_PER_S, NAP_S))

    async def _nap(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._awake.set)
        try:
            await self._awake.wait()
        finally:
            timer.cancel()

    def _ask_waiters(self) -> None:
        now = self.lockstep.clock.now
        for waiter in self._waiters[:]:
            if waiter.done.done():  # cancelled
                self._waiters.remove(waiter)
                continue
            try:
                met = waiter.predicate()
            except Exception as error:  # a bug of who waits, not of the board
                self._waiters.remove(waiter)
                waiter.done.set_exception(error)
                continue
            if met or now >= waiter.deadline:
                self._waiters.remove(waiter)
                waiter.done.set_result(met)
