"""Captures: blocks against bytes written out by hand, whole files against a reader of our own and tshark."""

import errno
import os
import signal
import subprocess
import sys
from struct import unpack_from

import pytest

from chip.peers import Peer
from hardwire.service import Service
from hardwire_host.errors import FAILED, HardwireError
from hardwire_host.virtual import pcap
from hardwire_host.virtual.clock import NS_PER_S, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.inprocess import InProcessBoard
from tshark import (
    ACK,
    COMPLETE,
    FIN,
    RST,
    SYN,
    completeness,
    connection_faults,
    faults,
    fields,
    needs_tshark,
    unclean,
)

FRAME = bytes(range(60))

SECTION = bytes.fromhex(
    "0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff"  # byte order, version 1.0, length unknown
    "0400 0800 6861726477697265 0000 0000"  # user application "hardwire", end of options
    "2c000000"
)
INTERFACE = bytes.fromhex(
    "01000000 2c000000 0100 0000 00000000"  # type, length, Ethernet, reserved, no snap length
    "0200 0500 626f617264 000000"  # name "board", padded
    "0900 0100 09 000000 0000 0000"  # nanoseconds, end of options
    "2c000000"
)
PACKET = bytes.fromhex(
    "06000000 24000000 02000000 01000000 02000000 03000000 03000000"  # interface 2, time, lengths
    "aabbcc 00 24000000"
)
COMMENTED = bytes.fromhex(
    "06000000 30000000 00000000 00000000 07000000 04000000 04000000"
    "aabbccdd 0100 0400 6c6f7374 0000 0000 30000000"  # comment "lost", end of options
)
DROPPED = bytes.fromhex(
    "06000000 30000000 00000000 00000000 00000000 00000000 00000000"
    "0400 0800 0301000000000000 0000 0000 30000000"  # drop count 259, end of options
)

BLOCKS = (
    ("section header", pcap.section_header(), SECTION),
    ("interface", pcap.interface("board"), INTERFACE),
    ("packet, padded", pcap.packet(2, (1 << 32) + 2, bytes.fromhex("aabbcc")), PACKET),
    ("packet with a comment", pcap.packet(0, 7, bytes.fromhex("aabbccdd"), "lost"), COMMENTED),
    ("packet after others that are missing", pcap.packet(0, 0, b"", dropped=259), DROPPED),
)


@pytest.mark.parametrize(("made", "real"), [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS])
def test_blocks(made, real):
    assert made == real


def options_of(block, at):
    """{code: value} of the options that begin at `at`."""
    options = {}
    while at < len(block) - 4:
        code, length = unpack_from("<HH", block, at)
        if code == 0:
            assert at + 4 == len(block) - 4, "something behind the end of the options"
            break
        options[code] = block[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return options


def read(data):
    """(interface names, [(interface, ns, frame, comment, dropped)]); a block that is not whole fails."""
    names, frames = [], []
    at = 0
    while at < len(data):
        kind, size = unpack_from("<II", data, at)
        block = data[at : at + size]
        assert len(block) == size and size % 4 == 0 and unpack_from("<I", block, size - 4) == (size,)
        if kind == 1:
            options = options_of(block, 16)
            assert options[9] == b"\x09"
            names.append(options[2].decode())
        elif kind == 6:
            number, high, low, captured, original = unpack_from("<5I", block, 8)
            assert captured == original
            options = options_of(block, 28 + captured + -captured % 4)
            dropped = int.from_bytes(options.get(4, b""), "little")
            frame = block[28 : 28 + captured]
            frames.append((names[number], high << 32 | low, frame, options.get(1, b"").decode(), dropped))
        at += size
    return names, frames


class Wire:
    """A segment with two ports."""

    def __init__(self):
        self.clock = Clock()
        self.segment = Segment(self.clock)
        self.ports = {name: self.segment.attach(name) for name in ("board", "pc")}

    def send(self, *senders):
        for sender in senders:
            self.ports[sender].send(FRAME)
            self.clock.advance(5 * NS_PER_S)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "segment.pcapng"


def test_a_segment_between_start_and_stop(wire, path):
    path.write_bytes(bytes(10_000))  # what was there is replaced
    seen = []
    wire.segment.taps.append(lambda *frame: seen.append(frame))
    wire.send("pc")
    capture = pcap.Capture(wire.segment, path)
    assert path.read_bytes() == SECTION
    wire.send("pc", "board")
    assert len(read(path.read_bytes())[1]) == 2  # before anybody closes it
    wire.send("pc")
    capture.stop()
    capture.stop()
    wire.send("pc")
    assert not capture.active
    assert capture.frames == 3
    names, frames = read(path.read_bytes())
    assert names == ["pc", "board"]  # in order of appearance
    assert frames == [(port, time, frame, comment, 0) for time, port, frame, comment in seen[1:4]]


def test_two_captures_of_one_segment(wire, tmp_path):
    first = pcap.Capture(wire.segment, tmp_path / "first")
    wire.send("pc")
    second = pcap.Capture(wire.segment, tmp_path / "second")
    wire.send("board")
    first.stop()
    wire.send("board")
    second.stop()
    assert (first.frames, second.frames) == (2, 2)
    assert read((tmp_path / "second").read_bytes())[0] == ["board"]


def test_same_run_same_bytes(tmp_path):
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        wire = Wire()
        pcap.Capture(wire.segment, path)
        wire.send("pc", "board")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_text_is_bounded_and_never_raises():
    for text in ("x" * 100_000, "\udcff", "ü" * 40_000):
        names, frames = read(pcap.interface(text[:9]) + pcap.packet(0, 0, FRAME, text[:700]))
        assert len(names) == len(frames) == 1
        assert len(pcap.packet(0, 0, bytes(1514), text)) < 4096  # PIPE_BUF on Linux


BAD_PATHS = (
    ("no such folder", lambda tmp: tmp / "missing" / "a.pcapng", "No such file"),
    ("a folder", lambda tmp: tmp, "directory"),
    ("a null byte", lambda tmp: "a\0b", "path"),
)


@pytest.mark.parametrize(
    ("where", "reason"), [row[1:] for row in BAD_PATHS], ids=[row[0] for row in BAD_PATHS]
)
def test_path_that_cannot_be_written(wire, tmp_path, where, reason):
    with pytest.raises(HardwireError, match=reason) as caught:
        pcap.Capture(wire.segment, where(tmp_path))
    assert caught.value.code == FAILED
    assert "\n" not in str(caught.value)
    assert wire.segment.taps == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_full_disk_at_the_start(wire):
    with pytest.raises(HardwireError, match="No space left"):
        pcap.Capture(wire.segment, "/dev/full")
    assert wire.segment.taps == []


# In a process of its own: a limit of the file's size, in the middle of a frame, stands for a full disk.
FULL = """
import logging, resource, sys
sys.path[:0] = sys.argv[2:]
from unit.test_pcap import Wire
from hardwire_host.virtual.pcap import Capture
logging.basicConfig(format="%(message)s")
wire, others = Wire(), []
capture = Capture(wire.segment, sys.argv[1])
wire.segment.taps.append(lambda *frame: others.append(frame))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
wire.send(*["pc"] * 20)
print(capture.active, len(others), len(wire.segment.taps))
"""


def test_full_disk_ends_the_capture_and_nothing_else(path):
    command = [sys.executable, "-c", FULL, str(path), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "20", "1"]  # the tap behind it has missed nothing
    assert done.stderr == f"the capture {path} has ended: no room for another frame\n"
    size = path.stat().st_size
    assert 1000 - len(pcap.packet(0, 0, FRAME)) < size < 1000
    assert read(path.read_bytes())[0] == ["pc"]


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from unit.test_pcap import Wire
from hardwire_host.virtual.pcap import Capture
wire = Wire()
capture = Capture(wire.segment, sys.argv[1])
wire.send(*["pc"] * 10)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_process_leaves_a_readable_file(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), *sys.path], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read(path.read_bytes())[1]) == 10


def test_pipe_needs_its_reader_first(wire, path):
    os.mkfifo(path)
    with pytest.raises(HardwireError, match="reads the pipe first"):
        pcap.Capture(wire.segment, path)


def test_pipe_with_a_slow_reader_loses_frames_and_says_so(wire, path):
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        capture = pcap.Capture(wire.segment, path)
        wire.send("board")
        while not capture.lost:
            wire.send("pc")
        wire.send("pc")
        got = os.read(reader, 1 << 20)
        wire.send("board", "pc", "pc")
        got += os.read(reader, 1 << 20)
        assert capture.active and capture.lost == 2
    finally:
        os.close(reader)
    _, frames = read(got)
    assert len(frames) == capture.frames
    assert [(port, dropped) for port, *_, dropped in frames[-3:]] == [("board", 0), ("pc", 2), ("pc", 0)]


def test_pipe_whose_reader_has_gone_ends_the_capture(wire, path, caplog):
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    capture = pcap.Capture(wire.segment, path)
    os.close(reader)
    wire.send("pc", "pc")
    assert not capture.active
    assert [record.getMessage() for record in caplog.records] == [
        f"the capture {path} has ended: {os.strerror(errno.EPIPE)}"
    ]


# tshark


@needs_tshark
def test_tshark_reads_names_times_and_comments(path):
    arp = bytes.fromhex("0806") + bytes(46)
    path.write_bytes(
        pcap.section_header()
        + pcap.interface("pc")
        + pcap.packet(0, 1_000_000_007, bytes.fromhex("ffffffffffff020000000001") + arp, "lost", 3)
        + pcap.interface("board")
        + pcap.packet(1, 2 * NS_PER_S, bytes.fromhex("ffffffffffff020000000020") + arp)
    )
    names = "frame.time_epoch", "frame.interface_name", "frame.comment", "frame.drop_count", "frame.len"
    assert fields(path, *names) == [
        ["1.000000007", "pc", "lost", "3", "60"],
        ["2.000000000", "board", "", "", "60"],
    ]


class Upper:
    """A service: answers in capitals."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, view):
        self.transport.write(bytes(view).upper())

    def eof_received(self):
        pass

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, error):
        pass


@needs_tshark
def test_tshark_finds_nothing_wrong_with_an_ordinary_exchange(path):
    board = InProcessBoard(Service("upper", Upper, 7))
    capture = pcap.Capture(board.segment, path)
    peer = Peer(board, 7)
    peer.send(b"hello" * 1000)
    assert peer.expect(5000) == b"HELLO" * 1000
    peer.tcb.shutdown()
    assert board.run_until(lambda: peer.reason == "done")
    refused = Peer(board, 8)
    assert board.run_until(lambda: refused.reason == "reset")
    capture.stop()
    assert faults(path) == []
    assert completeness(path) == [COMPLETE, SYN | ACK | RST]  # the ACK is that of RST,ACK
    assert (
        fields(path, "_ws.expert.message", where='_ws.expert.severity >= "Warning" && !tcp.flags.reset') == []
    )


@needs_tshark
def test_tshark_sees_what_is_wrong(path):
    """That the questions of the test above can be answered otherwise."""
    board = InProcessBoard(Service("upper", Upper, 7))
    capture = pcap.Capture(board.segment, path)
    peer = Peer(board, 7)
    peer.send(b"hello")
    assert peer.expect(5) == b"HELLO"
    capture.stop()
    assert completeness(path) == [COMPLETE & ~FIN]
    assert unclean(path) == ["stream 0: FIN from [], acknowledged by []"]
    data = path.read_bytes().replace(b"hello", b"jello")
    path.write_bytes(data)
    assert len(faults(path)) == 1


# SYN, SYN-ACK, ACK, and both FINs acknowledged: sender, flags, sequence and acknowledgement number, bytes
CLEAN = (
    ("pc", 0x02, 99, 0, 0),
    ("board", 0x12, 0xFFFFFFFF, 100, 0),
    ("pc", 0x10, 100, 0, 0),
    ("pc", 0x18, 100, 0, 5),
    ("board", 0x19, 0, 105, 5),
    ("pc", 0x11, 105, 6, 0),
    ("board", 0x10, 6, 106, 0),
)
UNCLEAN = (
    ("half of an end", (*CLEAN[:5], ("pc", 0x10, 105, 6, 0)), "FIN from ['board'], acknowledged by ['pc']"),
    ("end not acknowledged", CLEAN[:6], "FIN from ['board', 'pc'], acknowledged by ['pc']"),
    ("no end", CLEAN[:4], "FIN from [], acknowledged by []"),
    ("data before the handshake", CLEAN[:2] + CLEAN[4:], "board sends before the handshake is over"),
    ("SYN-ACK of another SYN", (CLEAN[0], ("board", 0x12, 0, 7, 0)), "SYN from board with flags 0x12, ack 7"),
    ("two SYNs that differ", (CLEAN[0], ("pc", 0x02, 98, 0, 0), *CLEAN[1:]), "pc begins twice"),
    ("two ends", (*CLEAN, ("pc", 0x11, 106, 6, 0)), "pc ends twice"),
    ("reset", (*CLEAN[:4], ("board", 0x14, 0, 105, 0)), "RST from board"),
)


def test_clean_connections():
    assert list(connection_faults(CLEAN)) == []
    assert list(connection_faults((*CLEAN, ("board", 0x04, 6, 0, 0)))) == []  # to a copy of the last ACK


@pytest.mark.parametrize(("frames", "line"), [row[1:] for row in UNCLEAN], ids=[row[0] for row in UNCLEAN])
def test_unclean_connections(frames, line):
    assert line in "\n".join(connection_faults(frames))
