"""The chip's PHY: the cable on one side, the MAC on the other, PHYCFGR in the middle.

In: frames from the segment's port, writes to PHYCFGR. Out: frames while the PHY is up, the value of PHYCFGR, the rate
of the port. Auto-negotiation takes no time here. Source: datasheet 4.1, PHYCFGR.
"""

from collections.abc import Callable

from . import regs as R
from .ether import RATE_MAX, RATE_MIN

_ALL_CAPABLE = 0b111
_POWER_DOWN = 0b110
_MODES = {  # OPMDC: DPX and SPD once the link is up
    0b000: 0,
    0b001: R.PHY_DPX,
    0b010: R.PHY_SPD,
    0b011: R.PHY_SPD | R.PHY_DPX,
    0b100: R.PHY_SPD,
    0b101: R.PHY_SPD | R.PHY_DPX,  # "not used"
    _ALL_CAPABLE: R.PHY_SPD | R.PHY_DPX,
}
_FORCED_100 = (0b010, 0b011)  # no auto-negotiation: no link with a partner of 10 Mbit/s
_WRITABLE = R.PHY_RST | R.PHY_OPMD | R.PHY_OPMDC
_RESET = R.PHY_RST | R.PHY_OPMDC


class Phy:
    """Frames pass, and the link is up, while a cable is in and the PHY is neither in reset nor powered down.

    To the engine it looks like the segment's port: `send`, `receive`, `link`, `on_link`.
    """

    def __init__(self, port, changed: Callable[[int], None]) -> None:
        """`changed(value)` is called with each new value of PHYCFGR."""
        self._port = port
        self._partner = port.rate  # what the other end of the cable can
        self._changed = changed
        self._setting = _RESET
        self._enabled = True
        self.receive: Callable[[bytes], None] | None = None
        self.on_link: Callable[[bool], None] | None = None
        port.receive = self._receive
        port.on_link = lambda up: self._update()

    @property
    def link(self) -> bool:
        """PHYCFGR LNK."""
        fits = self._partner == RATE_MAX or self._mode() not in _FORCED_100
        return self._enabled and self._port.link and fits

    def reset(self) -> None:
        """The chip was reset."""
        self.configure(_RESET)

    def configure(self, value: int) -> None:
        """PHYCFGR was written."""
        self._setting = value & _WRITABLE
        self._enabled = bool(value & R.PHY_RST) and self._mode() != _POWER_DOWN
        self._update()

    def send(self, frame: bytes) -> None:
        """Send a frame without FCS; while the PHY is disabled it is lost."""
        if self.link:
            self._port.send(frame)

    def _receive(self, frame: bytes) -> None:
        if self.link and self.receive is not None:
            self.receive(frame)

    def _mode(self) -> int:
        return (self._setting & R.PHY_OPMDC) >> 3 if self._setting & R.PHY_OPMD else _ALL_CAPABLE

    def _update(self) -> None:
        link = self.link
        mode = _MODES.get(self._mode(), 0)
        if self._partner != RATE_MAX:
            mode &= ~R.PHY_SPD
        self._port.rate = RATE_MAX if mode & R.PHY_SPD else RATE_MIN
        self._changed(self._setting | (R.PHY_LNK | mode if link else 0))
        if self.on_link is not None:
            self.on_link(link)
