"""The model's TCP: every transition of Sn_SR against a second stack on the segment, memory, windows, timers.

The peer is the engine in a PC's role. Whether the engine itself keeps to the RFCs is tested elsewhere; frames
matter here only where the chip is known to be silent.
"""

import random

import pytest

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_MS
from model_host import CHIP_IP, PC_IP, PC_MAC, Host, Peer, deaf, dial, is_tcp, tcp_flags

PORT = 502


def connected(window: int = 0x4000, sn: int = 0, **options) -> tuple[Host, Peer]:
    """A host whose socket `sn` has accepted a connection; interrupts cleared."""
    host = Host(**options)
    host.listen(sn, PORT)
    peer = dial(host, PORT, window=window)
    assert host.state(sn) == R.ESTABLISHED
    host.take_ir(sn)
    return host, peer


# Opening


def test_accept():
    host = Host()
    host.listen(0, PORT)
    peer = Peer()
    host.pc.connect(peer, 40000, CHIP_IP, PORT)
    host.until_state(R.SYNRECV)
    assert host.ir() == 0
    host.until_state(R.ESTABLISHED)
    assert host.ir() == R.I_CON
    assert host.read(R.SOCKET, R.SN_DHAR, 12) == PC_MAC + PC_IP + (40000).to_bytes(2, "big")
    assert (host.get(0, R.SN_PORT, 2), host.free(), host.waiting()) == (PORT, 2048, 0)
    host.run(50)
    assert peer.is_established
    assert host.chip.sockets()[0]["peer"] == "192.168.77.1:40000"
    assert not host.chip.guest_errors


def test_connect():
    host = Host()
    peer = Peer()
    host.pc.on_syn = lambda port, ip, remote_port: (
        peer if (port, ip, remote_port) == (7, CHIP_IP, 5001) else None
    )
    host.connect(0, 5001, PC_IP, 7)
    assert host.state() == R.SYNSENT
    host.until_state(R.ESTABLISHED)
    assert host.ir() == R.I_CON
    assert host.read(R.SOCKET, R.SN_DHAR, 6) == PC_MAC
    host.run(50)
    assert peer.is_established


@pytest.mark.parametrize(("ip", "port"), [(bytes(4), 7), (bytes((255,) * 4), 7), (PC_IP, 0)])
def test_connect_to_nowhere_ends_and_is_counted(ip, port):
    host = Host()
    host.connect(0, 5001, ip, port)
    assert host.chip.guest_errors == {"CONNECT to nowhere": 1}
    host.until_state(R.CLOSED)


def test_connect_refused():
    host = Host()
    host.connect(0, 5001, PC_IP, 7)
    host.run(50)
    assert (host.state(), host.ir()) == (R.CLOSED, 0)


def test_half_open_connection_occupies_its_listener():
    host = Host()
    host.listen(0, PORT)
    host.pc.connect(Peer(), 40000, CHIP_IP, PORT)
    host.until_state(R.SYNRECV)
    assert not host.chip.listening(PORT)


def test_reset_of_a_half_open_connection():
    host = Host()
    host.listen(0, PORT)
    peer = Peer()
    host.pc.connect(peer, 40000, CHIP_IP, PORT)
    host.until_state(R.SYNRECV)
    peer.tcb.forget()  # answers SYN/ACK with RST
    host.run(50)
    assert (host.state(), host.ir()) == (R.CLOSED, 0)


def test_nobody_listens():
    host = Host()
    assert dial(host, PORT).reason == "reset"
    host.open(0, R.P_TCP, PORT)
    assert dial(host, PORT, local_port=40001).reason == "reset"


@pytest.mark.parametrize(("highest", "order"), [(False, [1, 4, 6]), (True, [6, 4, 1])])
def test_several_listeners_each_take_one(highest, order):
    host = Host(highest_listener=highest)
    for sn in (4, 1, 6):
        host.listen(sn, PORT)
    host.listen(0, PORT + 1)
    for i, sn in enumerate(order):
        assert host.chip.listening(PORT)
        peer = dial(host, PORT, local_port=40000 + i)
        assert peer.is_established
        assert host.state(sn) == R.ESTABLISHED
        assert host.get(sn, R.SN_DPORT, 2) == 40000 + i
    assert not host.chip.listening(PORT)
    assert dial(host, PORT, local_port=40009).reason == "reset"
    assert host.state(0) == R.LISTENING


# Data from the peer


def test_received_data():
    host, peer = connected()
    peer.tcb.send(b"hello")
    host.run(50)
    assert (host.take_ir(), host.waiting(), host.get(0, R.SN_RX_WR, 2)) == (R.I_RECV, 5, 5)
    peer.tcb.send(b" world")
    host.run(50)
    assert (host.take_ir(), host.waiting()) == (R.I_RECV, 11)
    assert host.recv(0, 6) == b"hello "
    assert (host.waiting(), host.ir()) == (5, 0)
    assert host.recv(0) == b"world"
    assert (host.waiting(), host.ir()) == (0, 0)
    assert not host.chip.guest_errors


def test_recv_can_raise_the_interrupt_again_for_the_rest():
    host, peer = connected(recv_again=True)
    peer.tcb.send(b"hello")
    host.run(50)
    host.take_ir()
    host.recv(0, 4)
    assert host.take_ir() == R.I_RECV
    host.recv(0, 1)
    assert host.ir() == 0


def test_rx_rd_counts_only_from_recv_on():
    host, peer = connected()
    peer.tcb.send(b"x" * 100)
    host.run(50)
    host.set(0, R.SN_RX_RD, 60, 2)
    assert host.waiting() == 100
    peer.tcb.send(b"y")
    host.run(50)
    assert host.waiting() == 101
    host.command(0, R.RECV)
    assert host.waiting() == 41


def test_full_memory_closes_the_window_and_recv_opens_it():
    host, peer = connected()
    data = random.Random(1).randbytes(5000)
    peer.tcb.send(data)
    host.run(20_000)
    assert host.waiting() == 2048
    got = host.recv(0, 1000)
    host.run(20_000)
    assert host.waiting() == 2048
    while len(got) < len(data):
        got += host.recv(0)
        host.run(20_000)
    assert got == data
    assert not host.chip.guest_errors


def test_recv_outside_the_received_data():
    host, peer = connected()
    peer.tcb.send(b"hello")
    host.run(50)
    host.set(0, R.SN_RX_RD, 6, 2)
    host.command(0, R.RECV)
    assert host.chip.guest_errors == {"RECV with RX_RD outside the received data": 1}
    assert host.waiting() <= 2048


# Data to the peer


def test_send():
    host, peer = connected()
    host.fill(0, b"hello")
    assert (host.free(), host.get(0, R.SN_TX_RD, 2), host.get(0, R.SN_TX_WR, 2)) == (2043, 0, 5)
    host.run(50)
    assert peer.data == b""
    host.command(0, R.SEND)
    host.run(50)
    assert (host.take_ir(), host.free(), host.get(0, R.SN_TX_RD, 2)) == (R.I_SENDOK, 2048, 5)
    assert peer.data == b"hello"
    assert not host.chip.guest_errors


@pytest.mark.parametrize(
    ("mssr", "sizes"), [(0, [1460, 540]), (536, [536, 536, 536, 392]), (9000, [1460, 540])]
)
def test_mssr_limits_the_segment(mssr, sizes):
    host = Host()
    host.set(0, R.SN_MSSR, mssr, 2)
    host.listen(0, PORT)
    peer = dial(host, PORT)
    frames = host.record()
    host.send(0, bytes(2000))
    host.run(50)
    assert len(peer.data) == 2000
    assert [len(frame) - 54 for _, frame in frames if "P" in tcp_flags(frame)] == sizes


def test_sendok_does_not_wait_for_the_acknowledgement_but_tx_fsr_does():
    host, peer = connected()
    deaf(host)
    host.send(0, b"x" * 100)
    host.run(50)
    assert (host.ir(), host.get(0, R.SN_TX_RD, 2), host.free()) == (R.I_SENDOK, 100, 1948)
    host.pc.raw = None
    host.run(1000)
    assert host.free() == 2048
    assert peer.data == b"x" * 100


def test_sendok_waits_for_the_peers_window():
    host, peer = connected(window=600)
    data = bytes(i & 0xFF for i in range(2000))
    host.send(0, data)
    host.run(100)
    assert host.ir() == 0
    assert host.get(0, R.SN_TX_RD, 2) == 600
    got = b""
    for _ in range(5):
        got += peer.take()
        host.run(20_000)
    got += peer.take()
    assert got == data
    assert host.ir() == R.I_SENDOK


def test_empty_send_is_done_at_once():
    host, _ = connected()
    host.command(0, R.SEND)
    assert host.ir() == R.I_SENDOK


def test_send_before_sendok():
    host, peer = connected(window=100)
    host.send(0, b"a" * 150)
    host.send(0, b"b" * 50)
    assert host.chip.guest_errors == {"SEND before SENDOK": 1}
    host.run(20_000)
    got = peer.take()
    host.run(20_000)
    assert got + peer.take() == b"a" * 150 + b"b" * 50


def test_unacknowledged_data_must_not_be_overwritten():
    host, _ = connected()
    deaf(host)
    host.send(0, b"x" * 2000)
    host.write(R.TX, 2000, b"y" * 48)
    assert not host.chip.guest_errors
    host.write(R.TX, 2000, b"y" * 49)
    assert host.chip.guest_errors == {"write over unacknowledged data": 1}


def test_send_of_more_than_the_memory_holds():
    host, peer = connected()
    host.set(0, R.SN_TX_WR, 3000, 2)
    host.command(0, R.SEND)
    host.run(50)
    assert host.chip.guest_errors == {"SEND of more than the memory holds": 1}
    assert len(peer.data) == 2048


@pytest.mark.parametrize("start", [0, 0xFFF0, 0x7FFF, None])
@pytest.mark.parametrize("kb", [1, 2, 8])
def test_echo_over_the_wrap_of_memory_and_pointers(start, kb):
    host = Host(start_pointer=start, seed=4)
    for sn in range(R.SOCKETS):
        host.write(R.SOCKET + sn * R.SOCKET_STEP, R.SN_RXBUF_SIZE, bytes((kb, kb)) if sn == 2 else bytes(2))
    host.listen(2, PORT)
    peer = dial(host, PORT)
    if start is not None:
        for register in (R.SN_TX_RD, R.SN_TX_WR, R.SN_RX_RD, R.SN_RX_WR):
            assert host.get(2, register, 2) == start
    chance = random.Random(9)
    data = chance.randbytes(150_000 if kb == 8 else 30_000)
    peer.tcb.send(data)
    echoed = b""
    pending = b""
    for _ in range(3000):
        host.run(5)
        pending += host.recv(2, chance.randint(0, host.waiting(2)))
        if not host.get(2, R.SN_TX_WR, 2) - host.get(2, R.SN_TX_RD, 2) and host.free(2):
            n = min(len(pending), host.free(2), chance.randint(1, kb << 10))
            if n:
                host.send(2, pending[:n])
                pending = pending[n:]
        echoed += peer.take()
        if len(echoed) == len(data):
            break
    assert echoed == data
    assert not host.chip.guest_errors
    row = host.chip.sockets()[2]
    assert (row["received"], row["sent"], row["rx"], row["tx"]) == (len(data), len(data), 0, 0)


# Closing


def test_peer_closes_first_and_its_data_stays_readable():
    host, peer = connected()
    peer.tcb.send(b"last words")
    peer.tcb.shutdown()
    host.run(50)
    assert host.state() == R.CLOSE_WAIT
    assert host.take_ir() == R.I_RECV | R.I_DISCON
    assert host.recv(0) == b"last words"
    host.send(0, b"answer")
    host.run(50)
    assert peer.data == b"answer"
    assert host.take_ir() == R.I_SENDOK
    host.command(0, R.DISCON)
    assert host.state() == R.LAST_ACK
    host.until_state(R.CLOSED)
    assert host.ir() == R.I_DISCON
    host.run(200_000)
    assert (peer.got_fin, peer.reason) == (True, "done")
    assert not host.chip.guest_errors


def test_chip_closes_first():
    host, peer = connected()
    host.send(0, b"bye")
    host.command(0, R.DISCON)
    assert host.state() == R.FIN_WAIT
    host.run(50)
    assert (peer.data, peer.got_fin) == (b"bye", True)
    assert host.state() == R.FIN_WAIT
    peer.tcb.send(b"you too")
    host.run(50)
    assert host.waiting() == 7
    host.take_ir()
    peer.tcb.shutdown()
    host.run(50)
    assert host.state() in (R.TIME_WAIT, R.CLOSED)
    host.until_state(R.CLOSED)
    assert host.ir() == R.I_DISCON
    assert peer.reason == "done"
    assert host.recv(0) == b"you too"
    assert host.chip.guest_errors == {"RECV in CLOSED": 1}


def test_both_close_at_once():
    host, peer = connected()
    peer.tcb.shutdown()
    host.command(0, R.DISCON)
    seen = []

    def closed():
        if not seen or host.state() != seen[-1]:
            seen.append(host.state())
        return host.state() == R.CLOSED

    host.until(closed)
    assert seen[:2] == [R.FIN_WAIT, R.CLOSING]
    assert host.ir() == R.I_DISCON


@pytest.mark.parametrize("state", [R.ESTABLISHED, R.CLOSE_WAIT, R.FIN_WAIT])
@pytest.mark.parametrize("bits", [R.I_DISCON, 0, R.I_TIMEOUT])
def test_peer_resets(state, bits):
    host, peer = connected(ir_on_reset=bits)
    if state == R.CLOSE_WAIT:
        peer.tcb.shutdown()
    elif state == R.FIN_WAIT:
        host.command(0, R.DISCON)
    host.run(50)
    assert host.state() == state
    host.take_ir()
    peer.tcb.abort()
    host.run(50)
    assert (host.state(), host.ir()) == (R.CLOSED, bits)


# How a connection is dropped without a word
SILENT = {
    "CLOSE": lambda host: host.command(0, R.CLOSE),
    "OPEN": lambda host: host.command(0, R.OPEN),
    "reset bit": lambda host: host.set_common(R.MR, R.MR_RST),
    "brown-out": lambda host: host.chip.brown_out(),
}


@pytest.mark.parametrize("how", SILENT)
def test_silent_end(how):
    host, peer = connected()
    deaf(host)
    host.send(0, b"never acknowledged")
    host.run(1)
    host.pc.raw = None
    frames = host.record()
    SILENT[how](host)
    assert host.state() == (R.INIT if how == "OPEN" else R.CLOSED)
    host.run(60_000)
    assert not frames
    if how in ("CLOSE", "OPEN"):
        assert host.ir() & ~R.I_SENDOK == 0
        peer.tcb.send(b"are you there?")
        host.run(100)
        assert next(tcp_flags(frame) for _, frame in frames if is_tcp(frame)).startswith("R")
        assert peer.reason == "reset"


def test_a_closed_socket_listens_again():
    host, peer = connected()
    peer.tcb.shutdown()
    host.run(50)
    host.command(0, R.DISCON)
    host.until_state(R.CLOSED)
    host.listen(0, PORT)
    second = dial(host, PORT, local_port=40001)
    assert second.is_established
    second.tcb.send(b"again")
    host.run(50)
    assert host.recv(0) == b"again"


# Keep-alive


def test_keepalive_finds_a_vanished_peer_only_after_data():
    host, peer = connected()
    host.set(0, R.SN_KPALVTR, 2)
    deaf(host)
    host.run(120_000)
    assert host.state() == R.ESTABLISHED
    host.pc.raw = None
    peer.tcb.send(b"x")
    host.run(1000)
    deaf(host)
    start = host.clock.now
    end = host.until_state(R.CLOSED)
    assert host.ir() & R.I_TIMEOUT
    assert 9_000 <= (end - start) / NS_PER_MS <= 10_000 + 31_800 + 1


def test_send_keep():
    host, peer = connected()
    peer.tcb.send(b"x")
    host.run(50)
    frames = host.record()
    host.command(0, R.SEND_KEEP)
    host.run(50)
    assert [frame for _, frame in frames if is_tcp(frame)]
    assert host.state() == R.ESTABLISHED
    assert not host.chip.guest_errors
    host.set(0, R.SN_KPALVTR, 1)
    host.command(0, R.SEND_KEEP)
    assert host.chip.guest_errors == {"SEND_KEEP with KPALVTR set": 1}


# Torn reads


def test_torn_read_of_a_growing_size():
    host, peer = connected()
    host.chip.options = type(host.chip.options)(torn_reads=1.0)
    peer.tcb.send(b"x" * 0xFF)
    host.run(50)
    assert host.waiting() == 0xFF
    peer.tcb.send(b"x")
    host.run(50)
    assert [host.waiting() for _ in range(3)] == [0x000, 0x100, 0x100]
    host.recv(0)
    assert host.waiting() == 0
    deaf(host)
    host.send(0, b"y" * 0x180)
    host.run(1)
    assert host.free() == 0x680
    host.pc.raw = None
    host.run(2000)
    assert [host.free() for _ in range(2)] == [0x600, 0x800]
