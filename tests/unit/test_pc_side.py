"""The PC's side of a segment: what a board finds there."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from hardwire import config
from hardwire.wire import dns
from hardwire_host.virtual.clock import NS_PER_MS, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.pc import PcSide
from hardwire_host.virtual.tcpip import Stack

BOARD = bytes((192, 168, 77, 20))
GATEWAY = bytes((192, 168, 77, 1))
MASK = b"\xff\xff\xff\0"


def ask(name, **options):
    """What the name server of the segment says about `name`."""

    async def run():
        clock = Clock()
        segment = Segment(clock)
        network = config.defaults()["network"]
        async with AsyncExitStack() as undo:
            PcSide(segment, network, [BOARD], lambda: {"virtual": BOARD, "hardwire": BOARD}, undo, **options)
            port = segment.attach("board")
            board = Stack(
                clock, port, mac=bytes((2, 0, 0, 0, 0, 9)), ip=BOARD, netmask=MASK, gateway=GATEWAY, seed=1
            )
            answers = []
            board.udp_bind(4000, lambda ip, source, target, data: answers.append(data))
            query = dns.query(name, 7)
            board.udp_send(4000, GATEWAY, dns.PORT, query)
            clock.advance(100 * NS_PER_MS)
        return dns.parse(answers[0], query)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("virtual", (dns.OK, BOARD)),
        ("HARDWIRE", (dns.OK, BOARD)),
        ("pc", (dns.OK, GATEWAY)),
        ("elsewhere.example", (dns.NAME_ERROR, None)),
    ],
)
def test_names_of_the_segment(name, said):
    assert ask(name) == ask(name, dhcp=True) == said
