"""pace.py against a flash that erases every block: how often somebody waits for it, and that it gets on."""

from dataclasses import dataclass

import pytest

from hardwire import pace as module
from hardwire.pace import BLOCK, Pace

ERASE_MS, PAGES_MS = 45, 4
PIECE = 1010  # bytes
SHORT_MS = 1  # to wait so long is no delay
USED = 4088  # bytes of a file in a block


@dataclass
class Board:
    """Time, requests every `gap_ms`, and a file that grows. `delayed`: requests that met a busy flash."""

    gap_ms: int
    now: int = 10_000
    asked: int = 0
    delayed: int = 0
    written: int = 0
    asks: bool = True

    def __post_init__(self):
        self.next = self.now

    def requests(self):
        return self.asked

    def passes(self, ms, *, busy=False):
        """Time passes; who asks meanwhile waits if flash is busy."""
        end = self.now + ms
        while self.asks and self.next < end:
            self.asked += 1
            self.delayed += busy and end - self.next > SHORT_MS
            self.next = (end if busy else self.next) + self.gap_ms
        self.now = end

    def write(self):
        erases = self.written // USED != (self.written + PIECE) // USED or not self.written
        self.written += PIECE
        self.passes(ERASE_MS + PAGES_MS if erases else PAGES_MS, busy=True)


@pytest.fixture
def upload(monkeypatch):
    """Let pieces be written for some seconds: the Board afterwards."""

    def run(gap_ms, seconds=60, *, asks=True):
        board = Board(gap_ms, asks=asks)
        monkeypatch.setattr(module, "ticks_ms", lambda: board.now)
        pace = Pace(board.requests)
        board.passes(2000)
        board.delayed = board.asked = 0
        end = board.now + seconds * 1000
        while board.now < end:
            if pace.may_write(PIECE):
                board.write()
                pace.wrote(PIECE)
            board.passes(1)
        return board

    return run


@pytest.mark.parametrize("gap_ms", [1, 2, 5, 10, 20, 30, 45, 60, 100, 500])
def test_fewer_than_one_in_a_hundred_wait(upload, gap_ms):
    board = upload(gap_ms)
    assert board.asked > 60
    assert board.delayed <= 1 + board.asked / 100


@pytest.mark.parametrize(
    ("gap_ms", "least"), [(1, 2000), (10, 2500), (20, 1400), (45, 600), (60, 15_000), (500, 40_000)]
)
def test_it_gets_on_beside_any_client(upload, gap_ms, least):
    """Bytes per second."""
    assert upload(gap_ms).written / 60 >= least


def test_nobody_asks(upload):
    board = upload(1, 10, asks=False)
    assert board.written / 10 >= 60_000


def test_who_stops_asking_is_not_waited_for(upload, monkeypatch):
    board = Board(5)
    monkeypatch.setattr(module, "ticks_ms", lambda: board.now)
    pace = Pace(board.requests)
    for _ in range(100):
        board.passes(1)
        pace.may_write(BLOCK)
    assert not pace.may_write(BLOCK)
    assert pace.pressed()
    board.asks = False
    board.passes(1000)
    assert pace.may_write(BLOCK)
    assert not pace.pressed()
