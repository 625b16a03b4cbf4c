"""A board in real time, for a kernel that knows no other: firmware and chip in process, behind a TAP."""

import asyncio
import contextlib
import socket
import time
from pathlib import Path

from hardwire.addresses import ip_bytes
from hardwire_host.virtual.clock import NS_PER_MS
from hardwire_host.virtual.inprocess import TURN_NS, InProcessBoard
from hardwire_host.virtual.packets import ECHO, icmp
from hardwire_host.virtual.tap import Tap

KERNEL = "192.168.77.2"  # on the TAP device; 192.168.77.1 is the board's `pc`
BOARD = "192.168.77.20"
SOON_S = 20  # bound of what takes milliseconds
NAP_S = 0.001  # how late the board may notice a frame
LAG_NS = 50 * NS_PER_MS  # of a PC that was busy, to be made up for; beyond, the board is slower than silicon
RTO_MIN = Path("/proc/sys/net/ipv4/tcp_rto_min_us")  # since Linux 6.11; of the namespace


async def _run(board):
    clock = board.clock
    origin = time.monotonic_ns() - clock.now  # what the wall clock showed at device time 0
    while True:
        wall = time.monotonic_ns()
        origin = max(origin, wall - clock.now - LAG_NS)
        end = wall - origin
        while clock.now < end:
            if board.net.turn() or not board.model.intn:
                clock.advance(TURN_NS)
            else:
                wake = clock.now + board.net.due() * NS_PER_MS + TURN_NS
                due = clock.next_due()
                clock.advance_to(min(end, wake if due is None else min(wake, due)))
        await asyncio.sleep(NAP_S)


@contextlib.asynccontextmanager
async def running(board):
    """Let the board's time pass as on the wall, in the background. Whatever stops it is raised at the end."""
    task = asyncio.create_task(_run(board))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def tapped(*services, **arguments):
    """A running board at BOARD and the kernel at KERNEL on one segment: yields (board, tap)."""
    board = InProcessBoard(*services, **arguments)
    tap = Tap(board.segment, "hw%d", ip=ip_bytes(KERNEL))
    try:
        async with running(board):
            yield board, tap
    finally:
        tap.close()


def hurry(board, ms):
    """Let both ends repeat what was lost after `ms`.

    With 2 KB of chip memory there is never enough in flight for a fast retransmission: each lost segment is a wait
    of 200 ms, the least of Linux and the chip's RTR at reset, in real time because the kernel knows no other.
    """
    board.model.stack.rtr = (
        10 * ms
    )  # not by the register: the firmware looks after that, and would put it right
    if RTO_MIN.exists():  # else the kernel takes its time
        RTO_MIN.write_text(str(1000 * ms))


async def until(predicate):
    """Wait for `predicate()`, within SOON_S."""
    async with asyncio.timeout(SOON_S):
        while not predicate():  # noqa: ASYNC110 - neither kernel nor firmware sets an event
            await asyncio.sleep(0.01)


async def ping(body):
    """The kernel's echo request to the board, and the answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setblocking(False)
        await loop.sock_sendto(raw, icmp(ECHO, 0, body), (BOARD, 0))
        answer, (sender, _) = await asyncio.wait_for(loop.sock_recvfrom(raw, 2048), SOON_S)
    assert sender == BOARD
    assert answer[20:22] == b"\0\0" and answer[24:] == body


class Echo:
    """A service: sends back what it gets, no faster than it is taken."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, view):
        self.transport.write(view)

    def eof_received(self):
        pass

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, error):
        pass
