"""A segment that loses, doubles, swaps, damages and delays frames, by chance but repeatable.

In: probabilities, changeable at any time. Out: what Segment carries, less or more; a comment in the captures for each
frame that was touched. The same seed and the same frames give the same faults.
"""

import random
from dataclasses import dataclass
from functools import partial

from .clock import NS_PER_MS, Clock
from .ether import RATE_MAX, Port, Segment

REORDER_NS = 3 * NS_PER_MS  # most a frame is held back so that later ones overtake it
HEADER = 14  # addresses and type of a frame stay whole: a real switch would not carry it otherwise


@dataclass(frozen=True)
class Faults:
    """Probabilities, 0 to 1, for each frame; `delay_ms` for all."""

    loss: float = 0.0
    dup: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay_ms: float = 0.0


NONE = Faults()


class FaultySegment(Segment):
    """A Segment with `faults`; counts what it did in `counts`."""

    def __init__(self, clock: Clock, *, seed: int = 0, rate: int = RATE_MAX) -> None:
        super().__init__(clock, seed=seed, rate=rate)
        self.faults = NONE
        self.counts = {"lost": 0, "doubled": 0, "held back": 0, "corrupted": 0}
        self._random = random.Random(seed)

    def carry(self, sender: Port, frame: bytes, arrival: int, comment: str = "") -> None:
        """As Segment.carry, with the faults of the moment."""
        faults = self.faults
        if faults == NONE:
            super().carry(sender, frame, arrival, comment)
            return
        chance = self._random.random
        arrival += int(faults.delay_ms * NS_PER_MS)
        comments = [comment] if comment else []
        if chance() < faults.corrupt:
            frame, damage = self._damaged(frame)
            comments.append(damage)
        if chance() < faults.reorder:
            held = self._random.randrange(REORDER_NS)
            arrival += held
            self._count("held back", comments, f"held back {held // 1000} us")
        if chance() < faults.loss:
            self._count("lost", comments, "lost")
            self.clock.call_at(arrival, partial(self.show, sender, frame, ", ".join(comments)))
            return
        super().carry(sender, frame, arrival, ", ".join(comments))
        if chance() < faults.dup:
            self._count("doubled", comments, "doubled")
            super().carry(sender, frame, arrival + 1, ", ".join(comments))

    def _count(self, what: str, comments: list[str], comment: str) -> None:
        self.counts[what] += 1
        comments.append(f"segment: {comment}")

    def _damaged(self, frame: bytes) -> tuple[bytes, str]:
        """One bit behind the Ethernet header flipped."""
        self.counts["corrupted"] += 1
        bit = self._random.randrange(HEADER * 8, len(frame) * 8)
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged), f"segment: bit {bit % 8} of byte {bit // 8} flipped"
