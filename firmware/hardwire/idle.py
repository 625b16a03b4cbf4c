"""The one place where the firmware waits: inside asyncio's own wait, which sleeps until an interrupt.

In: the network core and the chip's INTn pin. Out: `net.turn()` whenever INTn is low or something is due. asyncio
polls `Pump` as it polls any stream, so user tasks and other streams are ordinary asyncio, and a request is served
without a task switch. The level of INTn counts, not its edge: the edge only wakes the processor, and an edge between
the check and the sleep makes the sleep end at once (WFE on rp2), or is seen a millisecond later, when the system tick
ends it (WFI on stm32). Without an INTn the timer alone wakes, as often as `net.period()` says.
"""

import asyncio
import io

from machine import Pin, Timer

from .compat import const, micropython, ticks_diff, ticks_ms
from .transport import TICK_MS

_POLL = const(3)  # MP_STREAM_POLL
_POLLIN = const(1)


class Pump(io.IOBase):
    """A stream that never has data: being asked is what serves the sockets."""

    def __init__(self, net, intn):
        self._net = net
        self._intn = intn
        self._timer = Timer(-1)  # a software timer: the only kind on rp2, and the only one of these on stm32
        self._period = 0

    def start(self):
        """Wake up for INTn and for what is due."""
        if self._intn is not None:
            # `bool`: a handler that does nothing and needs no heap
            self._intn.irq(bool, Pin.IRQ_FALLING, hard=True)
        self._set_period(TICK_MS)

    def stop(self):
        """Let go of pin and timer."""
        if self._intn is not None:
            self._intn.irq(None)
        self._timer.deinit()

    def _set_period(self, period):
        self._period = period
        self._timer.init(mode=Timer.PERIODIC, period=period, callback=bool)

    def readable(self):
        """Await this for ever: it returns each time other tasks have become ready."""
        yield asyncio.core._io_queue.queue_read(self)

    @micropython.native
    def ioctl(self, request, flags):
        """Called by asyncio's poller before every sleep and after every interrupt."""
        if request != _POLL:
            return 0
        net = self._net
        # First sockets, then housekeeping: somebody waits for an answer. A level that stays low without an event, as
        # after a bit lost on SPI, is looked at again at the next interrupt or tick.
        while net.poll() or not net.due():
            net.turn()
            task = asyncio.core._task_queue.peek()
            if task and ticks_diff(task.ph_key, ticks_ms()) <= 0:
                return flags & _POLLIN
        period = net.period()
        if period != self._period:
            self._set_period(period)
        return 0
