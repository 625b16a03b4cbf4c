"""The exception status of a device: one byte of bits (Modbus function 07)."""

SAFE = 1  # outputs are at their safe values; the same bit of the diagnostic register (FC 08, sub-function 02)
NOT_RETAINED = 2  # flash did not take the retained values
MAP_REFUSED = 4  # a map that is on the board cannot be used, another one is


class Status:
    """The exception status of a device (FC 07); `retained`: its Retained, or None; `refused`: for MAP_REFUSED."""

    def __init__(self, bank, retained, refused):
        self._bank = bank
        self._retained = retained
        self._refused = MAP_REFUSED if refused else 0

    def __call__(self):
        failed = self._retained is not None and self._retained.failures
        return self._bank.diagnostic_register & SAFE | (NOT_RETAINED if failed else 0) | self._refused
