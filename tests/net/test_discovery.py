"""Boards found through this PC's kernel: broadcasts on every network, answers from addresses that have no route."""

import asyncio
import contextlib
import ipaddress
import random
import time
from pathlib import Path

import pytest

from hardwire.addresses import ip_bytes
from hardwire.wire import discovery as D
from hardwire_host.clients import discovery as H
from hardwire_host.errors import NO_BOARD, HardwireError
from hardwire_host.virtual.clock import NS_PER_MS, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tap import Tap
from hardwire_host.virtual.tcpip import Stack

NETMASK = bytes((255, 255, 255, 0))
KEY = b"a key of this plant"
TIMEOUT_S = 1.5


class Board:
    """A host of the segment with a responder, which has the chip's view of datagrams."""

    def __init__(self, segment, number, address):
        mac = bytes((2, 0, 0, 0, 0, number))
        port = segment.attach(f"board-{number}")
        network = {"ip": ip_bytes(address), "netmask": NETMASK, "gateway": bytes(4)}
        self.stack = Stack(segment.clock, port, mac=mac, **network)
        self.heard = 0
        self.responder = D.Responder(mac, random.Random(number).randbytes, self._about, self._apply, KEY)
        self.stack.udp_bind(D.PORT, self._received)

    @property
    def now(self):
        return self.stack.clock.now // NS_PER_MS % 2**30

    def _about(self):
        name = f"board-{self.stack.mac[-1]}"
        return name, "pico", "0.1.0", self.stack.ip, NETMASK, bytes(4), D.STATIC, 1, (("modbus", 502),)

    def _apply(self, mode, address, netmask, gateway):
        self.new = address
        return True

    def _received(self, ip, port, to, payload):
        self.heard += 1
        self.responder.received(payload, ip, port, self.now)

    def tick(self):
        while (what := self.responder.poll(self.now)) is not None:
            self.stack.udp_send(D.PORT, what[0], what[1], what[2])
        if self.responder.applied:
            self.responder.applied = False
            self.stack.ip = self.new


@contextlib.asynccontextmanager
async def running(segments, boards):
    """Time passes as on the wall."""

    async def run():
        last = time.monotonic_ns()
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic_ns()
            for segment in segments:
                segment.clock.advance(now - last)
            last = now
            for board in boards:
                board.tick()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def accept_foreign_sources():
    """As on a PC with a default route through the network; without one, rp_filter drops what has no way back."""
    for path in Path("/proc/sys/net/ipv4/conf").glob("*/rp_filter"):
        try:
            path.write_text("0")
        except OSError as error:
            pytest.skip(f"rp_filter: {error.strerror}")


def plant():
    """Two networks: boards 1 (a neighbour), 2 (of another network) and 3 (without address); and 4."""
    one, two = Segment(Clock()), Segment(Clock())
    taps = [Tap(one, "hw%d", ip=ip_bytes("192.168.77.1")), Tap(two, "hw%d", ip=ip_bytes("192.168.78.1"))]
    boards = [
        *(Board(one, 1, "192.168.77.20"), Board(one, 2, "10.9.8.7"), Board(one, 3, "0.0.0.0")),
        Board(two, 4, "192.168.78.20"),
    ]
    accept_foreign_sources()
    return [one, two], taps, boards


def ask(function, *arguments):
    """In a thread: this PC asks."""

    def run():
        with H.Asker([]) as asker:
            return function(asker, *arguments)

    return asyncio.to_thread(run)


async def test_every_board_is_found_in_every_network():
    segments, taps, boards = plant()
    assert [(i.name, i.broadcast, str(i.network)) for i in H.interfaces()] == [
        (taps[0].name, "192.168.77.255", "192.168.77.0/24"),
        (taps[1].name, "192.168.78.255", "192.168.78.0/24"),
    ]
    async with running(segments, boards):
        found = await ask(H.find, TIMEOUT_S)
    assert [(board.name, board.address) for board in found] == [
        ("board-1", "192.168.77.20"),
        ("board-2", "10.9.8.7"),
        ("board-3", ""),
        ("board-4", "192.168.78.20"),
    ]
    assert all(board.heard for board in boards)


async def test_a_board_of_another_network_comes_home():
    segments, _taps, boards = plant()
    setting = H.Setting(ipaddress.IPv4Interface("192.168.77.22/24"), ipaddress.IPv4Address("192.168.77.1"))
    async with running(segments, boards):
        before = await ask(H.configure, boards[1].stack.mac, setting, KEY, TIMEOUT_S)
        after = await ask(H.find, TIMEOUT_S, boards[1].stack.mac)
    assert before.address == "10.9.8.7" and [board.address for board in after] == ["192.168.77.22"]


async def test_no_network():
    with H.Asker([]) as asker, pytest.raises(HardwireError, match="no network to ask in") as caught:
        H.find(asker, 0.1)
    assert caught.value.code == NO_BOARD
