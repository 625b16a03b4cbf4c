"""The segment's faults, one by one and all together, as receivers and captures see them."""

from chip.peers import Peer
from hardwire.service import Service
from hardwire_host.virtual.clock import NS_PER_MS, Clock
from hardwire_host.virtual.faults import HEADER, NONE, REORDER_NS, Faults, FaultySegment
from hardwire_host.virtual.inprocess import InProcessBoard
from hardwire_host.virtual.pcap import Capture
from tshark import faults, fields, needs_tshark, unclean

FRAMES = [bytes([number]) * 100 for number in range(20)]
WIRE_NS = (8 + 100 + 4) * 80  # preamble, frame, FCS; 10 ns per bit
GAP_NS = 12 * 80
ALL = Faults(loss=0.1, dup=0.1, reorder=0.2, corrupt=0.1, delay_ms=0.5)


def sent(harm, seed=0):
    """FRAMES from a to b under `harm`: what b hears, (ns, frame), and what a tap does, (ns, frame, comment)."""
    segment = FaultySegment(Clock(), seed=seed)
    a, b = (segment.attach(name) for name in "ab")
    segment.faults = harm
    heard, seen = [], []
    b.receive = lambda frame: heard.append((segment.clock.now, frame))
    segment.taps.append(lambda time, _, frame, comment: seen.append((time, frame, comment)))
    for frame in FRAMES:
        a.send(frame)
    segment.clock.advance(1000 * NS_PER_MS)
    return heard, seen, segment.counts


def on_time(delay_ns=0):
    return [(n * (WIRE_NS + GAP_NS) + WIRE_NS + delay_ns, frame) for n, frame in enumerate(FRAMES)]


def test_none():
    heard, seen, counts = sent(NONE)
    assert heard == on_time()
    assert seen == [(time, frame, "") for time, frame in heard]
    assert set(counts.values()) == {0}


def test_loss_is_shown_and_not_heard():
    heard, seen, counts = sent(Faults(loss=1))
    assert heard == []
    assert seen == [(time, frame, "segment: lost") for time, frame in on_time()]
    assert counts["lost"] == len(FRAMES)


def test_delay_is_no_damage():
    heard, seen, _ = sent(Faults(delay_ms=5))
    assert heard == on_time(5 * NS_PER_MS)
    assert seen == [(time, frame, "") for time, frame in heard]


def test_dup():
    heard, seen, counts = sent(Faults(dup=1))
    assert [frame for _, frame in heard] == [frame for frame in FRAMES for _ in range(2)]
    assert [comment for *_, comment in seen] == ["", "segment: doubled"] * len(FRAMES)
    assert counts["doubled"] == len(FRAMES)


def test_reorder():
    heard, seen, counts = sent(Faults(reorder=0.5))
    assert sorted(frame for _, frame in heard) == FRAMES != [frame for _, frame in heard]
    assert [seen[n][:2] for n in range(len(FRAMES))] == heard
    comments = {frame: comment for _, frame, comment in seen}
    arrivals = {frame: time for time, frame in heard}
    held = [arrivals[frame] - time for time, frame in on_time()]
    assert 3 < sum(delay > 0 for delay in held) == counts["held back"] < len(FRAMES)
    assert max(held) < REORDER_NS
    for frame, delay in zip(FRAMES, held, strict=True):
        assert comments[frame] == (f"segment: held back {delay // 1000} us" if delay else "")


def test_corrupt_is_one_bit_behind_the_header_and_named():
    heard, seen, counts = sent(Faults(corrupt=1))
    bits = set()
    for (_, frame), original, (*_, comment) in zip(heard, FRAMES, seen, strict=True):
        assert frame[:HEADER] == original[:HEADER]
        (place,) = (index for index in range(100) if frame[index] != original[index])
        bit = (frame[place] ^ original[place]).bit_length() - 1
        assert frame[place] ^ original[place] == 1 << bit
        assert comment == f"segment: bit {bit} of byte {place} flipped"
        bits.add((place, bit))
    assert counts["corrupted"] == len(FRAMES)
    assert len(bits) > 10


def test_same_seed_same_faults():
    assert sent(ALL, seed=3) == sent(ALL, seed=3)
    assert sent(ALL, seed=3) != sent(ALL, seed=4)


class Echo:
    """A service."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, view):
        self.transport.write(view)

    def eof_received(self):
        pass

    def connection_lost(self, error):
        pass


@needs_tshark
def test_tshark_sees_what_the_segment_did(tmp_path):
    path = tmp_path / "faults.pcapng"
    board = InProcessBoard(Service("echo", Echo, 7), seed=5)
    segment = board.segment
    seen = []
    segment.taps.append(lambda *fields: seen.append(fields))
    segment.faults = ALL
    capture = Capture(segment, path)
    peer = Peer(board, 7)
    text = bytes(range(256)) * 200
    for start in range(0, len(text), 1024):
        peer.send(text[start : start + 1024])
        assert peer.expect(len(text[start : start + 1024]), 60) == text[start : start + 1024]
    peer.tcb.shutdown()
    assert board.run_until(lambda: peer.reason == "done", 60)
    board.run(1)
    capture.stop()
    names = "frame.time_epoch", "frame.interface_name", "frame.interface_id", "frame.len", "frame.comment"
    numbers = {"pc": "0", "board": "1"}
    assert fields(path, *names) == [
        [f"{ns // 10**9}.{ns % 10**9:09}", port, numbers[port], str(len(frame)), comment]
        for ns, port, frame, comment in seen
    ]
    once = [comment for *_, comment in seen if "doubled" not in comment]
    words = {"lost": "lost", "held back": "held back", "corrupted": "flipped"}
    counted = {what: sum(word in comment for comment in once) for what, word in words.items()}
    assert counted | {"doubled": len(seen) - len(once)} == segment.counts
    assert min(segment.counts.values()) > 5
    assert faults(path) != []
    assert faults(path, unless="flipped") == []
    assert unclean(path) == []
