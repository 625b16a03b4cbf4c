"""TCP of the engine against segments written by hand: RFC 9293, 3.10.7, point by point."""

import pytest

from hardwire_host.virtual.clock import NS_PER_S
from hardwire_host.virtual.packets import ICMP, TCP, ipv4, unreachable
from tcpip_common import PORT, Script, User

M32 = 0xFFFFFFFF


def last(script):
    """The only segment that has come: (flags, seq, ack)."""
    (fields,) = script.take()
    return fields["flags"], fields["seq"], fields["ack"]


# No connection (3.10.7.1): flags, data -> flags, seq, ack of the answer; the peer sends seq 1000, ack 77

NOBODY = (
    ("S", b"", ("RA", 0, 1001)),
    ("S", b"data", ("RA", 0, 1005)),
    ("SF", b"", ("RA", 0, 1002)),
    ("SA", b"", ("R", 77, 0)),
    ("A", b"", ("R", 77, 0)),
    ("PA", b"data", ("R", 77, 0)),
    ("FA", b"", ("R", 77, 0)),
    ("F", b"", ("RA", 0, 1001)),
    ("P", b"data", ("RA", 0, 1004)),
    ("", b"", ("RA", 0, 1000)),
    ("R", b"", None),
    ("RA", b"", None),
    ("SR", b"", None),
)


CASES = [(PORT + 1, *row) for row in NOBODY] + [(PORT, *row) for row in NOBODY if row[0] not in ("S", "SF")]


@pytest.mark.parametrize(("port", "flags", "data", "answer"), CASES)
def test_no_connection(port, flags, data, answer):
    script = Script()
    script.ports = (5000, port)
    script.send(flags, data, ack=77)
    assert script.take() == [] if answer is None else last(script) == answer
    assert script.a.connections() == []


# SYN-RECEIVED


@pytest.mark.parametrize(("options", "mss"), [(1460, 1460), (536, 536), (9000, 1460), (0, 536)])
def test_mss_option(options, mss):
    script = Script()
    user = script.accepted(mss=options)
    assert user.tcb.mss == mss
    user.tcb.send(bytes(3000))
    script.run(1)
    assert max(len(fields["data"]) for fields in script.take()) == mss


def test_data_and_fin_on_a_syn_are_left_to_be_repeated():
    script = Script()
    script.send("SF", b"early")
    flags, seq, ack = last(script)
    assert (flags, ack) == ("SA", 1001)
    script.send("A", seq=1001, ack=seq + 1)
    script.send("FA", b"early", seq=1001, ack=seq + 1)
    assert script.a_user.data == b"early" and script.a_user.calls == ["established", "fin"]


def test_syn_repeated_is_the_same_connection():
    script = Script()
    script.send("S")
    (first,) = script.take()
    script.send("S")
    assert [fields["flags"] for fields in script.take()] == ["A"]
    script.run(250)
    assert script.take() == [first | {"window": first["window"]}]
    assert len(script.a.connections()) == 1


@pytest.mark.parametrize("wrong", [-1, 1, 1 << 31])
def test_third_segment_must_acknowledge_our_syn(wrong):
    script = Script()
    script.send("S")
    (answer,) = script.take()
    good = answer["seq"] + 1
    script.send("A", seq=1001, ack=good + wrong)
    assert last(script) == ("R", good + wrong & M32, 0)
    script.send("A", seq=1001, ack=good)
    assert script.a_user.calls == ["established"]


def test_third_segment_with_data_and_fin():
    script = Script()
    script.send("S")
    (answer,) = script.take()
    script.send("FPA", b"hello", seq=1001, ack=answer["seq"] + 1)
    assert script.a_user.data == b"hello" and script.a_user.calls == ["established", "fin"]
    assert last(script) == ("A", answer["seq"] + 1, 1007)


def test_half_open_connection_is_reset():
    script = Script()
    script.send("S")
    script.take()
    script.send("R", seq=1001)
    assert script.a_user.calls == ["reset"] and script.take() == []


# SYN-SENT: flags, whether the acknowledgement is right -> calls, flags of the answer

SYN_SENT = (
    ("SA", True, ["established"], ["A"]),
    ("SA", False, [], ["R"]),
    ("RA", True, ["reset"], []),
    ("RA", False, [], []),
    ("R", True, [], []),
    ("A", True, [], []),
    ("A", False, [], ["R"]),
    ("S", True, [], ["SA"]),
    ("FA", True, [], []),
)


@pytest.mark.parametrize(("flags", "right", "calls", "answers"), SYN_SENT)
def test_syn_sent(flags, right, calls, answers):
    script = Script()
    user = User()
    script.a.connect(user, PORT, bytes((10, 0, 0, 2)), 5000)
    script.run(1)
    (syn,) = script.take()
    assert (syn["flags"], syn["mss"]) == ("S", 1460)
    script.send(flags, ack=syn["seq"] + 1 + (0 if right else 5), mss=1460 if "S" in flags else 0)
    assert (user.calls, script.flags()) == (calls, answers)
    if not calls and "S" not in flags:
        script.send("SA", ack=syn["seq"] + 1)
        assert user.calls == ["established"]


def test_simultaneous_open_against_the_standards_figure():
    """RFC 9293, figure 7: SYN, SYN, SYN-ACK, SYN-ACK."""
    script = Script()
    user = User()
    script.a.connect(user, PORT, bytes((10, 0, 0, 2)), 5000)
    script.run(1)
    iss = last(script)[1]
    script.send("S", seq=100)
    assert last(script) == ("SA", iss, 101)
    script.send("SA", seq=100, ack=iss + 1)
    assert user.calls == ["established"]
    script.send("PA", b"x", seq=101, ack=iss + 1)
    assert user.data == b"x"


def test_segment_before_arp_has_an_answer():
    script = Script()
    script.answers_arp = False
    user = User()
    script.a.connect(user, PORT, bytes((10, 0, 0, 2)), 5000)
    script.run(1)
    for flags in ("SA", "S", "RA", "A"):
        script.send(flags, ack=1)
    assert (user.calls, script.take(), user.tcb.state) == ([], [], "SYN-SENT")


# Established: seq relative to RCV.NXT, flags, ack relative to SND.NXT -> calls, answers. The window is 100.

ESTABLISHED = (
    # RST (RFC 9293, 3.10.7.4, second; RFC 5961, 3.2)
    (0, "R", 0, ["reset"], []),
    (0, "RA", 0, ["reset"], []),
    (1, "R", 0, [], ["A"]),
    (99, "R", 0, [], ["A"]),
    (100, "R", 0, [], []),
    (-1, "R", 0, [], []),
    (1 << 31, "R", 0, [], []),
    # SYN (fourth; RFC 5961, 4.2)
    (0, "S", 0, [], ["A"]),
    (50, "S", 0, [], ["A"]),
    (5000, "S", 0, [], ["A"]),
    (-5000, "SA", 0, [], ["A"]),
    # outside the window
    (100, "PA", 0, [], ["A"]),
    (-1000, "PA", 0, [], ["A"]),
    (-1, "A", 0, [], ["A"]),
    (101, "A", 0, [], ["A"]),
    (100, "A", 0, [], []),
    # ACK (fifth; RFC 5961, 5.2)
    (0, "A", 1, [], ["A"]),
    (0, "PA", 1, [], ["A"]),
    (0, "A", -1, [], []),
    (0, "A", -20_000, [], ["A"]),
    (0, "P", 0, [], []),
    (0, "F", 0, [], []),
    # FIN out of order waits
    (5, "FA", 0, [], ["A"]),
    (0, "FA", 0, ["fin"], ["A"]),
)


@pytest.mark.parametrize(("offset", "flags", "ack", "calls", "answers"), ESTABLISHED)
def test_established(offset, flags, ack, calls, answers):
    script = Script()
    script.a_user = User(limit=100)
    user = script.accepted()
    script.send(flags, b"bad" if "P" in flags else b"", seq=script.seq + offset, ack=script.ack + ack)
    got = script.take()
    assert (user.calls[1:], [fields["flags"] for fields in got]) == (calls, answers)
    assert user.data == b""
    assert all(
        (fields["seq"], fields["ack"]) == (script.ack, script.seq + ("fin" in calls)) for fields in got
    )
    if not calls:
        script.send("PA", b"good")
        assert user.data == b"good"


def test_answers_to_segments_without_data_do_not_become_a_storm():
    script = Script()
    script.accepted()
    for _ in range(1000):
        script.send("A", seq=script.seq - 5)
    assert len(script.take()) == 10
    for _ in range(10):
        script.send("PA", b"old", seq=script.seq - 5)
    assert len(script.take()) == 10


ORDERS = (
    ([(0, 3), (3, 6), (6, 9)], "in order"),
    ([(3, 6), (0, 3), (6, 9)], "two swapped"),
    ([(6, 9), (3, 6), (0, 3)], "reversed"),
    ([(3, 9), (0, 3)], "gap first"),
    ([(0, 5), (3, 9)], "overlap"),
    ([(4, 9), (2, 6), (0, 3)], "overlaps, reversed"),
    ([(3, 6), (3, 6), (6, 9), (0, 9)], "all again"),
    ([(0, 9), (0, 9), (3, 6)], "old"),
    ([(6, 9), (6, 9), (0, 6), (5, 9)], "overlap at both ends"),
)


@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(("order", "_name"), ORDERS, ids=[name for _, name in ORDERS])
def test_order(order, _name, wrap, fin):
    script = Script()
    if wrap:
        script.seq = 0xFFFFFFFF - 4
    user = script.accepted()
    for first, end in order:
        flags = "FPA" if fin and end == 9 else "PA"
        script.send(flags, b"123456789"[first:end], seq=script.seq + first)
    assert user.data == b"123456789"
    assert user.calls == ["established", "fin"] if fin else ["established"]
    script.run(50)
    assert script.take()[-1]["ack"] == script.seq + 9 + fin & M32


def test_held_segments_are_bounded_by_the_window():
    script = Script()
    script.a_user = User(limit=1000)
    user = script.accepted()
    script.send("PA", bytes(900), seq=script.seq + 500)
    script.send("FPA", bytes(10), seq=script.seq + 1400)
    for i in range(300):
        script.send("PA", b"x", seq=script.seq + 100 + i)
    script.send("PA", bytes(500))
    assert len(user.data) == 1000 and user.calls == ["established"]
    assert script.take()[-1]["window"] == 0


def test_more_than_the_window_is_cut():
    script = Script()
    script.a_user = User(limit=10)
    user = script.accepted()
    script.send("FPA", b"0123456789abc")
    assert user.data == b"0123456789" and user.calls == ["established"]
    (answer,) = script.take()
    assert (answer["ack"], answer["window"]) == (script.seq + 10, 0)


@pytest.mark.parametrize("flags", ["R", "A"])
def test_shut_window_lets_control_through(flags):
    script = Script()
    script.a_user = User(limit=10)
    user = script.accepted()
    script.send("PA", bytes(10))
    script.take()
    user.tcb.send(b"data")
    script.run(1)
    (data,) = script.take()
    assert data["window"] == 0
    script.seq += 10
    if flags == "R":
        script.send("R")
        assert user.calls[-1] == "reset"
    else:
        script.send("PA", b"probe", ack=script.ack + 4)
        assert user.acked_bytes == 4 and len(user.data) == 10
        assert last(script)[2] == script.seq


# RFC 9293, 3.10.7.4, "special allowance"; draft-gont-tcpm-tcp-seq-validation. The window is 100, or shut behind
# 100 bytes: seq relative to RCV.NXT, flags, bytes -> whether the acknowledgement counts.
BESIDE_THE_WINDOW = (
    (-1, "A", 0, True),  # crossed: it has not heard that its probe was taken
    (-1, "PA", 1, True),
    (-100, "PA", 100, True),  # repeats all that the window held
    (-5000, "PA", 100, False),  # nothing it can still mean
    (101, "FA", 0, True),  # FIN behind a probe
    (101, "A", 0, True),
    (5000, "A", 0, False),
    (1 << 31, "A", 0, False),
)


@pytest.mark.parametrize("shut", [False, True])
@pytest.mark.parametrize(("offset", "flags", "size", "counts"), BESIDE_THE_WINDOW)
def test_acknowledgement_beside_the_window(offset, flags, size, counts, shut):
    script = Script()
    script.a_user = User(limit=100)
    user = script.accepted()
    script.send("PA", bytes(100))
    script.seq += 100
    if not shut:
        user.read()
        script.run(50)
    user.tcb.send(b"data")
    script.run(1)
    assert script.take()[-1]["window"] == (0 if shut else 100)
    script.send(flags, bytes(size), seq=script.seq + offset, ack=script.ack + 4)
    assert user.acked_bytes == (4 if counts else 0)
    assert len(user.data) == 100 and "fin" not in user.calls
    (answer,) = script.take()
    assert (answer["flags"], answer["ack"]) == ("A", script.seq)


def test_window_is_taken_from_the_newest_segment_only():
    script = Script()
    user = script.accepted(window=10)
    script.send("A", window=5)
    script.send("A", seq=script.seq - 0, window=20)
    user.tcb.send(bytes(100))
    script.run(1)
    assert sum(len(fields["data"]) for fields in script.take()) == 20
    script.send("PA", b"new", ack=script.ack + 20, window=0)  # acknowledges, and shuts the window
    script.send("A", seq=script.seq, ack=script.ack + 20, window=10000)  # older by its sequence number
    script.run(50)
    assert sum(len(fields["data"]) for fields in script.take()) == 0


def test_partial_acknowledgement():
    script = Script()
    user = script.accepted()
    user.tcb.send(bytes(range(100)))
    script.run(1)
    script.take()
    script.send("A", ack=script.ack + 40)
    assert user.acked_bytes == 40
    script.run(250)
    (again,) = script.take()
    assert (again["seq"], again["data"]) == (script.ack + 40, bytes(range(40, 100)))


def test_retransmission_goes_on_where_the_peer_lacks_data():
    script = Script()
    user = script.accepted(mss=100)
    user.tcb.send(bytes(500))
    script.run(1)
    assert len(script.take()) == 5
    script.run(250)
    assert [fields["seq"] - script.ack for fields in script.take()] == [0]
    script.send("A", ack=script.ack + 100)
    assert [fields["seq"] - script.ack for fields in script.take()] == [100]
    script.send("A", ack=script.ack + 500)
    script.run(1000)
    assert script.take() == [] and user.acked_bytes == 500


def test_window_that_shrinks_under_data_in_flight():
    script = Script()
    user = script.accepted(window=10000, mss=1000)
    user.tcb.send(bytes(3000))
    script.run(1)
    assert len(script.take()) == 3
    script.send("A", window=0)
    for _ in range(100):
        script.run(1000)
        for fields in script.take():
            assert len(fields["data"]) == 1 and fields["seq"] == script.ack
            script.send("A", window=0)
    assert user.calls == ["established"]
    script.send("A", window=10000)
    script.run(7000)
    assert script.take()[-1]["seq"] == script.ack


# The end of things: state, our FIN's fate


def closing(script, state):
    """Bring the stack's end to `state`; returns its user."""
    user = script.accepted()
    if state in ("CLOSE-WAIT", "LAST-ACK"):
        script.send("FA")
        script.seq += 1
        if state == "LAST-ACK":
            user.tcb.shutdown()
            script.run(1)
    elif state != "ESTABLISHED":
        user.tcb.shutdown()
        script.run(1)
        if state in ("FIN-WAIT-2", "TIME-WAIT"):
            script.ack += 1
            script.send("A")
        if state in ("CLOSING", "TIME-WAIT"):
            script.send("FA")
            script.seq += 1
    script.run(50)
    script.take()
    assert user.tcb.state == state
    return user


RESET_REASONS = (
    ("ESTABLISHED", "reset"),
    ("CLOSE-WAIT", "reset"),
    ("FIN-WAIT-1", "reset"),
    ("FIN-WAIT-2", "reset"),
    ("CLOSING", "done"),
    ("LAST-ACK", "done"),
    ("TIME-WAIT", "done"),
)


@pytest.mark.parametrize(("state", "reason"), RESET_REASONS)
def test_reset_in_every_state(state, reason):
    script = Script()
    user = closing(script, state)
    script.send("R", seq=script.seq + 1)
    assert user.tcb.state == state and script.flags() == ["A"]
    script.send("R")
    assert user.calls[-1] == reason and script.a.connections() == []


@pytest.mark.parametrize("state", ["CLOSE-WAIT", "LAST-ACK", "CLOSING", "TIME-WAIT"])
def test_fin_repeated_is_acknowledged_again(state):
    script = Script()
    user = closing(script, state)
    script.send("FA", seq=script.seq - 1)
    assert script.flags() == ["A"]
    assert user.tcb.state == state and user.calls.count("fin") == 1


def test_time_wait_starts_again_with_a_repeated_fin():
    script = Script()
    user = closing(script, "TIME-WAIT")
    script.run(900)
    script.send("FA", seq=script.seq - 1)
    script.run(900)
    assert user.tcb.state == "TIME-WAIT"
    script.run(200)
    assert user.calls[-1] == "done"
    assert script.a.clock.now < 3 * NS_PER_S


def test_time_wait_ends_whatever_the_window_does():
    script = Script()
    user = closing(script, "TIME-WAIT")
    for window in (0, 100, 0):
        script.send("A", window=window)
    script.run(1100)
    assert user.calls[-1] == "done"


def test_time_wait_ends_though_a_keepalive_probe_was_under_way():
    script = Script()
    user = closing(script, "FIN-WAIT-2")
    user.tcb.send_keepalive()
    script.run(1)
    script.send("FA", ack=script.ack - 1)  # sent before ours came
    script.seq += 1
    assert user.tcb.state == "TIME-WAIT"
    script.send("A")
    script.run(1100)
    assert user.calls[-1] == "done"


@pytest.mark.parametrize("state", ["CLOSE-WAIT", "LAST-ACK", "CLOSING", "TIME-WAIT"])
def test_data_after_fin_is_dropped(state):
    script = Script()
    user = closing(script, state)
    script.send("PA", b"after the end")
    assert user.data == b""


@pytest.mark.parametrize("state", ["FIN-WAIT-1", "FIN-WAIT-2"])
def test_data_after_our_fin_is_taken(state):
    script = Script()
    user = closing(script, state)
    script.send("PA", b"more")
    assert user.data == b"more"


def test_syn_out_of_time_wait_gets_a_larger_sequence_number():
    script = Script()
    user = closing(script, "TIME-WAIT")
    end = user.tcb._nxt
    script.a_user = User()
    script.send("S", seq=script.seq - 10)
    assert script.flags() == ["A"]
    script.send("S", seq=script.seq + 10)
    (answer,) = script.take()
    assert answer["flags"] == "SA" and 0 < (answer["seq"] - end & M32) < 1 << 31
    assert user.calls[-1] == "done"


def test_unreachable_port_ends_an_open():
    script = Script()
    receive = script.port.receive

    def refuse(frame):
        receive(frame)
        if frame[23] == TCP:
            script.port.send(
                ipv4(frame[6:12], frame[:6], ICMP, frame[30:34], frame[26:30], 1, unreachable(frame, 34))
            )

    script.port.receive = refuse
    user = User()
    script.a.connect(user, PORT, bytes((10, 0, 0, 2)), 5000)
    script.run(1)
    assert user.calls == ["unreachable"]
