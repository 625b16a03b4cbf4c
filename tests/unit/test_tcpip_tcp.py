"""TCP of the engine: two stacks on a segment, every way of opening, closing, losing and waiting, in device time."""

import random
from itertools import pairwise

import pytest

from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from tcpip_common import A_IP, B_IP, PORT, Pair, User, segment

# Opening


def test_handshake():
    pair = Pair()
    user = pair.connect()
    assert user.tcb.state == "SYN-SENT"
    pair.run(5)
    assert pair.flags() == ["a:S", "b:SA", "a:A"]
    assert user.tcb.state == pair.b_user.tcb.state == "ESTABLISHED"
    assert (user.tcb.remote_ip, user.tcb.remote_port, pair.b_user.tcb.remote_port) == (B_IP, PORT, 40000)
    assert user.tcb.remote_mac == pair.b.mac and pair.b_user.tcb.remote_mac == pair.a.mac
    assert user.tcb.mss == pair.b_user.tcb.mss == 1460


@pytest.mark.parametrize("isn", [0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFFF, 0])
def test_sequence_numbers_wrap(isn):
    pair = Pair()
    for stack in (pair.a, pair.b):
        stack.random.getrandbits = lambda n: isn
    user, other = pair.established()
    for each in (user, other):
        each.tcb.send(bytes(100_000))
    pair.until(
        lambda: len(user.data) == len(other.data) == 100_000 if not (user.read(), other.read())[0] else 0
    )
    user.tcb.shutdown()
    other.tcb.shutdown()
    pair.until(lambda: user.calls[-1] == other.calls[-1] == "done")


def test_refused():
    pair = Pair()
    user = pair.connect(port=8)
    pair.run(5)
    assert user.calls == ["reset"]
    assert pair.flags() == ["a:S", "b:RA"]
    pair.b_user = None
    assert pair.connect(local_port=40001).calls == []
    pair.run(5)
    assert pair.flags() == ["a:S", "b:RA"]


def test_simultaneous_open():
    pair = Pair()
    users = User(), User()
    pair.a.connect(users[0], 5001, B_IP, 5002)
    pair.b.connect(users[1], 5002, A_IP, 5001)
    pair.run(5)
    assert [user.calls for user in users] == [["established"]] * 2
    assert [user.tcb.state for user in users] == ["ESTABLISHED"] * 2
    assert sorted(pair.flags()[:2]) == ["a:S", "b:S"]
    users[0].tcb.send(b"one")
    users[1].tcb.send(b"two")
    pair.run(100)
    assert (users[0].data, users[1].data) == (b"two", b"one")


def test_mss_of_either_side_counts():
    class Small(User):
        def attached(self, tcb):
            super().attached(tcb)
            tcb.mss = 536

    pair = Pair()
    pair.b_user = Small()
    user, other = pair.established()
    for each in (user, other):
        each.tcb.send(bytes(1000))
    pair.run(100)
    assert sorted(size for *_, size in pair.frames if size) == [464, 464, 536, 536]


def test_data_and_fin_before_the_handshake_is_complete():
    pair = Pair()
    user = pair.connect()
    user.tcb.send(b"early")
    user.tcb.shutdown()
    assert user.tcb.unsent == 5
    pair.run(100)
    assert pair.b_user.data == b"early"
    assert pair.b_user.calls == ["established", "fin"]
    assert user.tcb.state == "FIN-WAIT-2"


def test_ephemeral_ports_differ_and_run_out_cleanly():
    pair = Pair()
    pair.b.on_syn = lambda port, ip, remote: User()
    users = [pair.connect(local_port=None) for _ in range(16384)]
    assert len({user.tcb.local_port for user in users}) == 16384
    extra = pair.connect(local_port=None)
    pair.run(0)
    assert extra.calls == ["unreachable"]


def test_ports_in_use():
    pair = Pair()
    user, _ = pair.established()
    second = pair.connect()
    assert second.calls == []
    pair.run(1)
    assert second.calls == ["unreachable"]
    assert user.tcb.state == "ESTABLISHED"


# Data


def test_data_both_ways():
    pair = Pair()
    user, other = pair.established()
    chance = random.Random(3)
    data = chance.randbytes(200_000), chance.randbytes(300_000)
    user.tcb.send(data[0])
    other.tcb.send(data[1])

    def done():
        user.read()
        other.read()
        return len(other.data) == len(data[0]) and len(user.data) == len(data[1])

    pair.until(done)
    assert (other.data, user.data) == data
    assert user.sent_bytes == len(data[0])
    pair.run(100)
    assert user.acked_bytes == len(data[0]) and other.acked_bytes == len(data[1])
    assert user.tcb.unacknowledged == 0


def test_answer_from_received_carries_the_acknowledgement():
    pair = Pair()
    user, other = pair.established()
    other.on_received = lambda data: other.tcb.send(b"answer")
    user.tcb.send(b"question")
    pair.run(30)
    assert pair.flags() == ["a:PA", "b:PA"]
    pair.run(20)
    assert pair.flags() == ["a:A"]  # delayed


@pytest.mark.parametrize(("no_delay", "delay_ms"), [(False, 40), (True, 0)])
def test_delayed_acknowledgement(no_delay, delay_ms):
    pair = Pair()
    user, other = pair.established()
    other.tcb.no_delay_ack = no_delay
    user.tcb.send(b"x")
    start = pair.clock.now
    end = pair.until(lambda: user.acked_bytes == 1)
    assert (end - start) // NS_PER_MS == delay_ms


def test_every_second_segment_is_acknowledged_at_once():
    pair = Pair()
    user, _ = pair.established()
    for _ in range(4):
        user.tcb.send(b"x")
    pair.run(1)
    assert sorted(pair.flags()) == ["a:PA"] * 4 + ["b:A"] * 2
    assert user.acked_bytes == 4


# Windows


def test_zero_window_and_probes():
    pair = Pair()
    pair.b_user = User(limit=3000)
    user, other = pair.established()
    data = random.Random(5).randbytes(10_000)
    user.tcb.send(data)
    pair.run(100_000)  # longer than any timeout: the probes are answered
    assert other.data == data[:3000]
    assert user.calls == ["established"]
    probes = [time for time, name, _, size in pair.frames if name == "a" and size == 1]
    gaps = [round((b - a) / NS_PER_MS) for a, b in pairwise(probes)]
    assert gaps[:6] == [400, 800, 1600, 3200, 6400, 6400]
    while len(other.data) < len(data):
        other.read()
        pair.run(10)
    assert other.data == data
    pair.run(100)
    assert user.acked_bytes == len(data)


def test_window_opens_between_probes_and_all_goes_on_at_once():
    pair = Pair()
    pair.b_user = User(limit=2000)
    user, other = pair.established()
    user.tcb.send(bytes(4000))
    pair.run(1000)
    other.read()
    pair.run(1)
    assert len(other.data) == 4000


def test_lost_window_update():
    pair = Pair()
    pair.b_user = User(limit=2000)
    user, other = pair.established()
    user.tcb.send(bytes(4000))
    pair.run(1000)
    pair.b_cable.rule = lambda frame: []
    other.read()
    pair.run(1)
    pair.b_cable.rule = None
    pair.run(3000)
    assert len(other.data) == 4000


def test_silly_windows_are_avoided_by_both_ends():
    pair = Pair()
    pair.b_user = User(limit=4000)
    user, other = pair.established()
    user.tcb.send(bytes(20_000))
    pair.run(10)
    pair.frames.clear()
    for _ in range(3000):
        other.read(1)
        pair.run(0.1)
    assert all(size >= 1000 for _, name, _, size in pair.frames if name == "a" and size != 1)
    assert len(pair.frames) < 30


def test_eager_window():
    pair = Pair()
    user, other = pair.established()
    pair.b.eager_window = True
    user.tcb.send(b"x")
    pair.run(100)
    pair.frames.clear()
    other.read()
    pair.run(1)
    assert pair.flags() == ["b:A"]


def test_acknowledgement_and_reset_are_accepted_while_a_probe_is_in_flight():
    pair = Pair()
    pair.b_user = User(limit=1000)
    user, other = pair.established()
    user.tcb.send(bytes(2000))
    pair.run(1000)
    other.tcb.send(b"the other way")
    pair.run(100)
    assert user.data == b"the other way" and other.acked_bytes == 13
    user.tcb.abort()
    pair.run(1)
    assert other.calls[-1] == "reset"


@pytest.mark.parametrize("fin", [False, True])
def test_probes_that_cross_in_shut_windows(fin):
    """Each end takes the other's byte, and what acknowledges it is lost: both are ahead of what the other knows."""
    pair = Pair()
    pair.b_user = User(limit=1000)
    user, other = users = pair.connect(User(limit=1000)), pair.b_user
    pair.run(5)
    for each in users:
        each.tcb.send(bytes(1001))
        if fin:
            each.tcb.shutdown()
    pair.run(1000)
    assert len(user.data) == len(other.data) == 1000
    for cable in (pair.a_cable, pair.b_cable):
        cable.rule = lambda frame: [frame] if segment(frame)["data"] else []
    for each in users:
        each.read(1)
    pair.until(lambda: len(user.data) == len(other.data) == 1001)
    pair.run(50)
    assert user.acked_bytes == other.acked_bytes == 1000
    for cable in (pair.a_cable, pair.b_cable):
        cable.rule = None
    pair.run(20_000)
    assert user.acked_bytes == other.acked_bytes == 1001
    for each in users:
        each.tcb.shutdown()
        each.read()
    pair.until(lambda: user.calls[-1] == other.calls[-1] == "done")


def test_persist_gives_up_only_when_the_peer_is_silent():
    pair = Pair()
    pair.b_user = User(limit=1000)
    user, _ = pair.established()
    user.tcb.send(bytes(2000))
    pair.run(60_000)
    assert user.calls == ["established"]
    pair.b_cable.rule = lambda frame: []
    pair.until(lambda: "timeout" in user.calls, 80)


# Closing


@pytest.mark.parametrize("first", ["a", "b"])
def test_close_in_four_segments(first):
    pair = Pair()
    users = dict(zip("ab", pair.established(), strict=True))
    one, two = users[first], users["b" if first == "a" else "a"]
    one.tcb.shutdown()
    assert one.tcb.state == "FIN-WAIT-1"
    pair.run(5)
    assert (one.tcb.state, two.tcb.state) == ("FIN-WAIT-2", "CLOSE-WAIT")
    assert two.calls == ["established", "fin"]
    two.tcb.shutdown()
    assert two.tcb.state == "LAST-ACK"
    pair.run(5)
    assert (one.tcb.state, two.calls) == ("TIME-WAIT", ["established", "fin", "done"])
    assert one.calls == ["established", "fin"]
    pair.run(2000)
    assert one.calls == ["established", "fin", "done"]
    f, s = first, "b" if first == "a" else "a"
    assert pair.flags() == [f"{f}:FA", f"{s}:A", f"{s}:FA", f"{f}:A"]
    assert pair.a.connections() == pair.b.connections() == []


def test_close_in_three_segments():
    pair = Pair()
    user, other = pair.established()
    other.on_fin = other.tcb.shutdown
    user.tcb.shutdown()
    pair.run(5)
    assert pair.flags() == ["a:FA", "b:FA", "a:A"]
    assert other.calls[-1] == "done"


def test_simultaneous_close():
    pair = Pair()
    user, other = pair.established()
    user.tcb.shutdown()
    other.tcb.shutdown()
    states = set()
    for _ in range(100):
        pair.run(0.001)
        states.add(user.tcb.state)
    assert "CLOSING" in states and user.tcb.state == other.tcb.state == "TIME-WAIT"
    pair.run(2000)
    assert user.calls == other.calls == ["established", "fin", "done"]


def test_half_close_both_ways():
    pair = Pair()
    user, other = pair.established()
    user.tcb.send(b"all I have")
    user.tcb.shutdown()
    user.tcb.send(b"too late")
    pair.run(5)
    assert other.data == b"all I have" and other.calls[-1] == "fin"
    other.tcb.send(bytes(50_000))
    pair.until(lambda: len(user.data) == 50_000)
    assert user.tcb.state == "FIN-WAIT-2"
    other.tcb.shutdown()
    pair.run(2000)
    assert user.calls[-1] == other.calls[-1] == "done"


def test_fin_waits_for_the_data_before_it():
    pair = Pair()
    pair.b_user = User(limit=1000)
    user, other = pair.established()
    user.tcb.send(bytes(3000))
    user.tcb.shutdown()
    pair.run(1000)
    assert other.calls == ["established"]
    while "fin" not in other.calls:
        other.read()
        pair.run(100)
    assert len(other.data) == 3000


def test_abort():
    pair = Pair()
    user, other = pair.established()
    user.tcb.abort()
    assert user.calls == ["established", "reset"]
    pair.run(5)
    assert other.calls == ["established", "reset"]
    assert pair.flags() == ["a:RA"]
    user.tcb.abort()
    user.tcb.send(b"x")
    user.tcb.shutdown()
    user.tcb.window_opened()
    user.tcb.send_keepalive()
    pair.run(5)
    assert pair.flags() == [] and user.calls == ["established", "reset"]


def test_forgotten_connection_answers_with_reset():
    pair = Pair()
    user, other = pair.established()
    user.tcb.forget()
    pair.run(50)
    assert pair.flags() == [] and user.calls == ["established"]
    other.tcb.send(b"are you there?")
    pair.run(5)
    assert pair.flags() == ["b:PA", "a:R"]
    assert other.calls == ["established", "reset"]


def test_half_open_connection_is_found_out_when_its_end_opens_again():
    """RFC 9293, 3.5.1, figure 9: one end has crashed, and dials from the same port."""
    pair = Pair()
    user, other = pair.established()
    user.tcb.forget()
    pair.b_user = User()
    again = pair.connect()
    pair.run(300)
    assert pair.flags() == ["a:S", "b:A", "a:R", "a:S", "b:SA", "a:A"]
    assert other.calls == ["established", "reset"]
    assert again.calls == pair.b_user.calls == ["established"]


def test_port_is_reused_out_of_time_wait_from_either_side():
    pair = Pair()
    user, other = pair.established()
    user.tcb.shutdown()
    other.on_fin = other.tcb.shutdown
    pair.run(5)
    assert user.tcb.state == "TIME-WAIT"
    pair.b_user = User()
    again = pair.connect()
    pair.run(5)
    assert user.calls[-1] == "done" and again.calls == ["established"]
    second = pair.b_user
    second.tcb.shutdown()
    again.on_fin = again.tcb.shutdown
    pair.run(5)
    pair.run(5)
    assert second.tcb.state == "TIME-WAIT"
    pair.b_user = User()
    third = pair.connect()
    pair.run(5)
    assert third.calls == ["established"] and second.calls[-1] == "done"


# Time: RTR in 100 us, RCR, seconds to the end (W5500 datasheet 4.1)
TIMES = ((2000, 8, 31.8), (1000, 5, 6.3), (2000, 0, 0.2), (40000, 3, 16.0), (1, 20, 22.9375))


def silence(pair):
    pair.b_cable.rule = lambda frame: []


@pytest.mark.parametrize(("rtr", "rcr", "seconds"), TIMES)
@pytest.mark.parametrize("what", ["SYN", "data", "FIN", "keep-alive"])
def test_peer_vanishes(what, rtr, rcr, seconds):
    pair = Pair()
    pair.a.rtr, pair.a.rcr = rtr, rcr
    if what == "SYN":
        user = User()
        pair.b_cable.rule = lambda frame: [frame] if frame[12:14] == b"\x08\x06" else []
        pair.a.connect(user, 40000, B_IP, PORT)
    else:
        user, _ = pair.established()
        silence(pair)
        if what == "data":
            user.tcb.send(b"x")
        elif what == "FIN":
            user.tcb.shutdown()
        else:
            user.tcb.send_keepalive()
    end = pair.until(lambda: "timeout" in user.calls)
    sent = [time for time, name, *_ in pair.frames if name == "a"]
    assert len(sent) == rcr + 1
    assert round((end - sent[0]) / NS_PER_S, 4) == pytest.approx(seconds, abs=1e-4)
    assert user.calls.count("timeout") == 1 and user.tcb.state == "CLOSED"
    assert pair.a.connections() == []


@pytest.mark.parametrize(("rtr", "rcr", "seconds"), [(2000, 8, 1.8), (1000, 5, 0.6), (2000, 0, 0.2)])
def test_nobody_has_the_address(rtr, rcr, seconds):
    pair = Pair()
    pair.a.rtr, pair.a.rcr = rtr, rcr
    user = User()
    pair.a.connect(user, 40000, bytes((10, 0, 0, 99)), PORT)
    end = pair.until(lambda: bool(user.calls))
    assert user.calls == ["unreachable"]
    assert end / NS_PER_S == seconds


@pytest.mark.parametrize("ip", [bytes((255,) * 4), bytes((10, 0, 0, 255)), bytes((224, 0, 0, 1))])
def test_address_that_is_no_hosts(ip):
    pair = Pair()
    user = User()
    pair.a.connect(user, 40000, ip, PORT)
    assert user.calls == []
    pair.run(0)
    assert user.calls == ["unreachable"] and pair.frames == []


# Keep-alive


def test_keepalive_comes_after_data_and_silence():
    pair = Pair()
    user, other = pair.established()
    user.tcb.keepalive(10)
    pair.run(100_000)
    assert pair.frames == []
    other.tcb.send(b"x")
    pair.run(1000)
    pair.frames.clear()
    pair.run(30_500)
    sent = [(time // NS_PER_S, name, size) for time, name, _, size in pair.frames]
    assert [row[1:] for row in sent] == [("a", 1), ("b", 0)] * 3
    assert [b[0] - a[0] for a, b in zip(sent[::2], sent[2::2], strict=False)] == [10, 10]
    assert user.data == b"x" and other.data == b""
    user.tcb.keepalive(0)
    pair.run(100_000)
    assert len(pair.frames) == 6


def test_data_takes_over_from_a_keepalive_probe():
    pair = Pair()
    user, other = pair.established()
    silence(pair)
    user.tcb.send_keepalive()
    pair.run(100)
    user.tcb.send(b"data")
    pair.run(100)
    pair.b_cable.rule = None
    pair.run(1000)
    assert other.data == b"data" and user.acked_bytes == 4
    pair.run(100_000)
    assert user.calls == ["established"]


# Losses: every single frame of a conversation, lost, doubled or late


def conversation(rule):
    """Open, 6000 bytes each way, close from a; `rule(number, frame, cable)` is asked for each TCP frame."""
    pair = Pair()
    pair.corrupt = True
    count = 0

    def through(cable):
        def each(frame):
            nonlocal count
            count += 1
            return rule(count - 1, frame, cable)

        return each

    for cable in (pair.a_cable, pair.b_cable):
        cable.rule = through(cable)
    one, two = User(), User()
    users = iter((two,))
    pair.b.on_syn = lambda port, ip, remote: next(users, None)
    data = random.Random(1).randbytes(6000)
    two.on_received = lambda chunk: (two.tcb.send(chunk), two.read())
    two.on_fin = lambda: two.tcb and two.tcb.shutdown()
    one.on_received = lambda chunk: one.read()
    pair.connect(one)
    one.tcb.send(data)
    one.tcb.shutdown()
    pair.until(lambda: one.calls[-1:] == ["done"] and two.calls[-1:] == ["done"], 60)
    assert one.data == two.data == data
    assert one.calls == two.calls == ["established", "fin", "done"]
    pair.run(60_000)  # an old SYN may have come late
    assert pair.a.connections() == pair.b.connections() == []
    return count


FRAMES = conversation(lambda number, frame, cable: [frame])


def late(delay_ms):
    def rule(frame, cable):
        cable.send_later(frame, int(delay_ms * NS_PER_MS))
        return []

    return rule


FAULTS = {
    "lost": lambda frame, cable: [],
    "doubled": lambda frame, cable: [frame, frame],
    "late": late(1),
    "very late": late(300),
    "corrupt": lambda frame, cable: [frame[:40] + bytes((frame[40] ^ 0x10,)) + frame[41:]],
}


@pytest.mark.parametrize("number", range(FRAMES))
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault(fault, number):
    conversation(lambda n, frame, cable: FAULTS[fault](frame, cable) if n == number else [frame])


@pytest.mark.parametrize("seed", range(20))
def test_many_faults(seed):
    chance = random.Random(seed)
    faults = list(FAULTS.values())
    conversation(
        lambda n, frame, cable: chance.choice(faults)(frame, cable) if chance.random() < 0.15 else [frame]
    )
