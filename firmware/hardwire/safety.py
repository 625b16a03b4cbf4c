"""Outputs go to safe values when the client that controls them is not heard any more.

In: counts of the bank, ticks of the network core. Out: values in the tables, told to their hooks.
"""

from . import log
from .compat import ticks_diff, ticks_ms
from .status import SAFE
from .wire.bank import REQUESTS, WRITES
from .wire.modbus import told


class Safety:
    """Sets `values`, [(table, first, count, data)], once `timeout_ms` have passed without a write.

    `any_request`: requests that only read count too. Attribute trips: how often it happened.
    """

    def __init__(self, bank, timeout_ms, any_request, values):
        self._bank = bank
        self._timeout_ms = timeout_ms
        self._place = REQUESTS if any_request else WRITES
        self._values = values
        self._seen = bank.tally[self._place]
        self._heard_at = ticks_ms()
        self._safe = False
        self.trips = 0

    def tick(self):
        """Look at the counts. Call it several times in `timeout_ms`."""
        count = self._bank.tally[self._place]
        if count != self._seen:
            self._seen = count
            self._heard_at = ticks_ms()
            if self._safe:
                self._safe = False
                self._bank.diagnostic_register &= ~SAFE
        elif not self._safe and ticks_diff(ticks_ms(), self._heard_at) >= self._timeout_ms:
            self._trip()

    def _trip(self):
        self._safe = True
        self.trips += 1
        self._bank.diagnostic_register |= SAFE
        log.warning("modbus: nothing heard for %d ms, outputs are at their safe values", self._timeout_ms)
        for table, first, count, data in self._values:
            table.put(first, count, data)
            told(self._bank, table, first, count)
