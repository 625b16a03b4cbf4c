"""Random operations on two joined engines, on a segment with random faults: nothing lost, doubled or reordered."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire_host.virtual.clock import NS_PER_S
from hardwire_host.virtual.faults import NONE, Faults
from tcpip_common import B_IP, B_MAC, Pair, User

SIDES = st.integers(0, 1)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIDES, st.integers(1, 6000)),
        st.tuples(st.just("read"), SIDES, st.integers(1, 5000)),
        st.tuples(st.just("run"), SIDES, st.sampled_from((0.01, 0.1, 1, 30, 250, 2000))),
        st.tuples(st.just("shutdown"), SIDES, st.just(0)),
        st.tuples(st.just("no delay"), SIDES, st.integers(0, 1)),
        st.tuples(st.just("keepalive"), SIDES, st.just(0)),
    ),
    max_size=40,
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
