"""The segment: who hears what, and when."""

import pytest

from hardwire_host.virtual.clock import Clock
from hardwire_host.virtual.ether import Segment

US = 1000


def wired(*names, **options):
    """A clock, a segment, its ports, and what each port has received: (time, frame)."""
    clock = Clock()
    segment = Segment(clock, **options)
    ports = [segment.attach(name) for name in names]
    heard = {name: [] for name in names}
    for port in ports:
        port.receive = lambda frame, name=port.name: heard[name].append((clock.now, frame))
    return clock, segment, ports, heard


def test_everyone_else_hears_a_frame_and_never_inside_send():
    clock, _, (a, *_), heard = wired("a", "b", "c")
    frame = bytes(range(100))
    a.send(frame)
    assert not any(heard.values())
    clock.advance(100 * US)
    assert [[f for _, f in heard[name]] for name in "abc"] == [[], [frame], [frame]]


# bytes given, bit/s -> bytes on the segment, ns until they are there: 8 bytes preamble, 4 of FCS
TIMES = (
    (60, 100_000_000, 60, 5_760),
    (14, 100_000_000, 60, 5_760),
    (1514, 100_000_000, 1514, 122_080),
    (1514, 10_000_000, 1514, 1_220_800),
)


@pytest.mark.parametrize(("size", "rate", "padded", "ns"), TIMES)
def test_time_on_the_wire(size, rate, padded, ns):
    clock, _, (a, _), heard = wired("a", "b", rate=rate)
    a.send(b"\xaa" * size)
    clock.advance(ns - 1)
    assert heard["b"] == []
    clock.advance(1)
    assert heard["b"] == [(ns, b"\xaa" * size + bytes(padded - size))]


def test_frames_of_a_port_queue_and_directions_are_independent():
    clock, _, (a, b), heard = wired("a", "b")
    for _ in range(3):
        a.send(bytes(60))
        b.send(bytes(60))
    assert a.free_at == 3 * 6_720
    clock.advance(1_000_000)
    assert [time for time, _ in heard["a"]] == [time for time, _ in heard["b"]] == [5_760, 12_480, 19_200]
    a.send(bytes(60))
    clock.advance(1_000_000)
    assert heard["b"][-1][0] == 1_005_760


def test_rate_of_a_port():
    clock, _, (a, b), heard = wired("a", "b")
    a.rate = 10_000_000
    a.send(bytes(60))
    b.send(bytes(60))
    clock.advance(1_000_000)
    assert heard["b"][0][0] == 10 * heard["a"][0][0] == 57_600


def test_cable():
    clock, _, (a, b), heard = wired("a", "b")
    changes = []
    a.on_link = changes.append
    a.link = False
    a.link = False
    a.send(bytes(60))
    b.send(bytes(60))
    clock.advance(1_000_000)
    assert heard == {"a": [], "b": []}
    a.link = True
    b.send(bytes(60))
    clock.advance(1_000_000)
    assert len(heard["a"]) == 1 and changes == [False, True]


def test_frame_on_its_way_when_the_cable_is_pulled():
    clock, _, (a, b), heard = wired("a", "b")
    a.send(bytes(60))
    b.link = False
    clock.advance(1_000_000)
    assert heard["b"] == []


def test_taps_see_every_frame_once_in_order():
    clock, segment, (a, b, _), _ = wired("a", "b", "c")
    seen = []
    segment.taps.append(lambda *fields: seen.append(fields))
    b.send(b"b" * 60)
    a.send(b"a" * 61)
    clock.advance(1_000_000)
    assert seen == [(5_760, "b", b"b" * 60, ""), (5_840, "a", b"a" * 61, "")]


def test_names_are_unique():
    _, segment, _, _ = wired("a")
    with pytest.raises(ValueError, match="port a"):
        segment.attach("a")


def test_detach():
    clock, segment, (a, b), heard = wired("a", "b")
    a.send(bytes(60))
    segment.detach(b)
    clock.advance(1_000_000)
    assert heard["b"] == [] and segment.ports == [a]
    segment.attach("b")


def test_answer_from_receive_comes_later():
    clock, _, (a, b), heard = wired("a", "b")
    order = []

    def answer(frame):
        b.send(frame)
        order.append("answered")

    b.receive = answer
    a.receive = lambda frame: order.append("heard")
    a.send(bytes(60))
    clock.advance(1_000_000)
    assert order == ["answered", "heard"]
    assert heard["a"] == []


def test_a_port_may_have_a_clock_of_its_own():
    """Its owner sends and hears at its own time, whatever time it is on the segment."""
    clock, segment, (a, _), heard = wired("a", "b")
    own = Clock()
    c = segment.attach("c", own)
    c.receive = lambda frame: heard.setdefault("c", []).append((own.now, frame))
    seen = []
    segment.taps.append(lambda time_ns, port, frame, comment: seen.append((time_ns, port)))
    own.advance(100 * US)
    c.send(bytes(60))  # while it is 0 for the others
    clock.advance(110 * US)
    assert heard["a"] == heard["b"] == [(100 * US + 5_760, bytes(60))]
    a.send(bytes(60))
    clock.advance(10 * US)
    assert "c" not in heard  # its time has not come
    own.advance_to(110 * US + 5_759)
    assert "c" not in heard
    own.advance(1)
    assert heard["c"] == [(110 * US + 5_760, bytes(60))]
    assert seen == [(100 * US + 5_760, "c"), (110 * US + 5_760, "a")]
    a.send(bytes(60))
    segment.detach(c)
    own.advance(100 * US)
    assert len(heard["c"]) == 1
