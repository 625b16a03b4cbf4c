"""The engine under random operations and segments.

Two joined engines on a segment with random faults: nothing is lost, doubled or reordered. One engine against a peer
that follows no rules: nothing is raised, nothing runs away.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire_host.virtual.clock import NS_PER_S
from hardwire_host.virtual.faults import NONE, Faults
from tcpip_common import B_IP, B_MAC, PORT, Pair, Script, User

SIDES = st.integers(0, 1)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIDES, st.one_of(st.integers(1, 40), st.integers(1, 6000))),
        st.tuples(st.just("read"), SIDES, st.integers(1, 5000)),
        st.tuples(st.just("run"), SIDES, st.sampled_from((0.01, 0.1, 1, 30, 250, 2000))),
        st.tuples(st.just("shutdown"), SIDES, st.just(0)),
        st.tuples(st.just("no delay"), SIDES, st.integers(0, 1)),
        st.tuples(st.just("keepalive"), SIDES, st.just(0)),
    ),
    min_size=10,
    max_size=50,
)
CHANCES = st.sampled_from((0.0, 0.05, 0.2))
FAULTS = st.builds(
    Faults,
    loss=CHANCES,
    dup=CHANCES,
    reorder=CHANCES,
    corrupt=st.sampled_from((0.0, 0.05)),
    delay_ms=st.floats(0, 2),
)


class Half(User):
    """One side: what it has sent, and what the other must therefore hear."""

    def __init__(self, limit, seed):
        super().__init__(limit)
        self.random = random.Random(seed)
        self.written = bytearray()
        self.shut = False

    def write(self, n):
        if not self.shut:
            data = self.random.randbytes(n)
            self.written += data
            self.tcb.send(data)

    def shutdown(self):
        self.shut = True
        self.tcb.shutdown()


@settings(max_examples=150, deadline=None)
@given(
    operations=OPERATIONS,
    faults=st.one_of(st.just(NONE), FAULTS),
    buffers=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    isn=st.integers(0, 0xFFFFFFFF),
    seed=st.integers(0, 1000),
)
def test_streams_arrive_as_they_were_sent(operations, faults, buffers, isn, seed):
    pair = Pair(seed)
    pair.corrupt = True
    pair.a.arp.learn(B_IP, B_MAC)  # ARP has no checksum to find what is corrupt
    pair.segment.faults = faults
    for stack in (pair.a, pair.b):
        stack.rcr = 30  # so many losses in a row do not happen
        stack.time_wait = 600 * NS_PER_S  # longer than a few repetitions of FIN, which come 6.4 s apart
    pair.a.random.getrandbits = lambda n: isn
    halves = Half(buffers[0], seed), Half(buffers[1], seed + 1)
    accept = iter(halves[1:])
    pair.b.on_syn = lambda port, ip, remote: next(accept, None)
    pair.connect(halves[0])
    pair.until(lambda: halves[1].tcb is not None)
    for operation, side, amount in operations:
        half = halves[side]
        if operation == "send":
            half.write(amount)
        elif operation == "read":
            half.read(amount)
        elif operation == "run":
            pair.run(amount)
        elif operation == "shutdown":
            half.shutdown()
        elif operation == "no delay":
            half.tcb.no_delay_ack = bool(amount)
        else:
            half.tcb.send_keepalive()
        for one, two in (halves, halves[::-1]):
            assert one.written.startswith(two.data)
            assert one.acked_bytes <= len(two.data) and one.sent_bytes <= len(one.written)

    def over():
        for each in halves:
            each.read()
        return all(each.calls[-1:] == ["done"] for each in halves)

    for half in halves:
        half.shutdown()
    pair.until(over, 20_000)
    for one, two in (halves, halves[::-1]):
        assert two.data == one.written and one.acked_bytes == len(one.written)
        assert one.calls == ["established", "fin", "done"]


# Numbers close to where the connection is, and far off
NEAR = st.one_of(st.integers(-3, 3), st.sampled_from((-70_000, -1000, 50, 99, 100, 101, 70_000, 1 << 31)))
ACTIONS = {
    "send": lambda user: user.tcb.send(bytes(150)),
    "shutdown": lambda user: user.tcb.shutdown(),
    "abort": lambda user: user.tcb.abort(),
    "keepalive": lambda user: user.tcb.send_keepalive(),
    "read": lambda user: user.read(50),
}
SEGMENTS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(("A", "PA", "FA", "FPA", "S", "SA", "R", "RA", "F", "", "SFRPA")),
            NEAR,
            NEAR,
            st.sampled_from((0, 1, 100, 65535)),
            st.integers(0, 200),
        ),
        st.sampled_from((*ACTIONS, "connect", "wait", "wait long")),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(segments=SEGMENTS, isn=st.sampled_from((0, 1000, 0xFFFFFFFF)), seed=st.integers(0, 9))
def test_peer_without_rules(segments, isn, seed):
    script = Script(seed)
    script.seq = isn
    users = []

    def accept(port, ip, remote):
        users.append(User(limit=100))
        return users[-1] if port == PORT else None

    script.a.on_syn = accept
    for segment in segments:
        if segment == "connect":
            users.append(User())
            script.a.connect(users[-1], PORT, B_IP, script.ports[0])
        elif segment == "wait":
            script.run(250)
        elif segment == "wait long":
            script.run(40_000)
        elif isinstance(segment, str):
            if users:
                ACTIONS[segment](users[-1])
        else:
            flags, seq, ack, window, size = segment
            script.send(flags, bytes(size), seq=script.seq + seq, ack=script.ack + ack, window=window)
        for fields in script.take():  # follow the stack, so that what is near stays near
            if "A" in fields["flags"]:
                script.seq = fields["ack"]
            script.ack = (
                fields["seq"] + len(fields["data"]) + ("S" in fields["flags"]) + ("F" in fields["flags"])
            )
    for user in users:
        user.tcb.abort()
        assert sum(call in ("done", "reset", "timeout", "unreachable") for call in user.calls) == 1
        assert user.calls.count("established") <= 1 and user.calls.count("fin") <= 1
    assert script.a.connections() == []
