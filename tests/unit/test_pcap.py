"""Captures: blocks against bytes written out by hand, and whole files against a reader of our own and tshark."""

import shutil
import signal
import subprocess
import sys
from struct import unpack_from

import pytest

from hardwire_host.virtual import pcap
from hardwire_host.virtual.clock import Clock
from hardwire_host.virtual.ether import Segment

FRAME = bytes(range(60))

SECTION = bytes.fromhex(
    "0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff"  # type, length, byte order, version 1.0, length unknown
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
    "06000000 34000000 00000000 00000000 07000000 04000000 04000000"
    "aabbccdd 0100 0400 6c6f7374 0000 0000 34000000"  # comment "lost", end of options
)

BLOCKS = (
    ("section header", pcap.section_header(), SECTION),
    ("interface", pcap.interface("board"), INTERFACE),
    ("packet, padded", pcap.packet(2, (1 << 32) + 2, bytes.fromhex("aabbcc")), PACKET),
    ("packet with a comment", pcap.packet(0, 7, bytes.fromhex("aabbccdd"), "lost"), COMMENTED),
)


@pytest.mark.parametrize(("made", "real"), [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS])
def test_blocks(made, real):
    assert made == real


def read(data):
    """(interface names, [(interface, ns, frame, comment)]) of a capture; checks lengths on the way."""
    names, frames = [], []
    at = 0
    while at < len(data):
        kind, size = unpack_from("<II", data, at)
        assert size % 4 == 0 and unpack_from("<I", data, at + size - 4) == (size,)
        if kind == 1:
            _, length = unpack_from("<HH", data, at + 16)
            names.append(data[at + 20 : at + 20 + length].decode())
        elif kind == 6:
            number, high, low, captured, original = unpack_from("<5I", data, at + 8)
            assert captured == original
            options = at + 28 + captured + -captured % 4
            comment = ""
            if options < at + size - 4:
                _, length = unpack_from("<HH", data, options)
                comment = data[options + 4 : options + 4 + length].decode()
            frames.append((names[number], high << 32 | low, data[at + 28 : at + 28 + captured], comment))
        at += size
    return names, frames


def test_capture_of_a_segment(tmp_path):
    clock = Clock()
    segment = Segment(clock)
    ports = [segment.attach(name) for name in ("board", "pc")]
    path = tmp_path / "segment.pcapng"
    seen = []
    with pcap.Capture(path) as capture:
        segment.taps += [capture.tap, lambda *frame: seen.append(frame)]
        for sender in (1, 0, 1):
            ports[sender].send(FRAME)
            clock.advance(5_000_000_000)
        assert read(path.read_bytes())[1]  # before anybody closes it
        assert capture.frames == 3
    names, frames = read(path.read_bytes())
    assert names == ["pc", "board"]
    assert frames == [(port, time, frame, comment) for time, port, frame, comment in seen]
    assert [port for port, *_ in frames] == ["pc", "board", "pc"]


def test_comment_and_close(tmp_path):
    path = tmp_path / "a.pcapng"
    capture = pcap.Capture(path)
    capture.tap(1, "pc", FRAME, "dropped: 5 % loss")
    capture.tap(2, "pc", FRAME, "x" * 100_000)
    capture.close()
    capture.close()
    capture.tap(3, "pc", FRAME, "too late")
    _, frames = read(path.read_bytes())
    assert [comment[:20] for *_, comment in frames] == ["dropped: 5 % loss", "x" * 20]


def test_path_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="missing"):
        pcap.Capture(tmp_path / "missing" / "a.pcapng")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_full_disk_ends_the_capture_and_nothing_else(caplog):
    capture = pcap.Capture("/dev/full")
    capture.tap(1, "pc", FRAME, "")
    assert len([record for record in caplog.records if "capture has ended" in record.message]) == 1


KILLED = """
import os, signal, sys
from hardwire_host.virtual.pcap import Capture
capture = Capture(sys.argv[1])
for i in range(10):
    capture.tap(i, "pc", bytes(60), "")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_process_leaves_a_readable_file(tmp_path):
    path = tmp_path / "a.pcapng"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(read(path.read_bytes())[1]) == 10


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_it(tmp_path):
    path = tmp_path / "a.pcapng"
    with pcap.Capture(path) as capture:
        capture.tap(1_000_000_007, "pc", bytes.fromhex("ffffffffffff0200000000010806") + bytes(46), "lost")
        capture.tap(2_000_000_000, "board", bytes.fromhex("ffffffffffff0200000000200806") + bytes(46), "")
    fields = ["frame.time_epoch", "frame.interface_name", "frame.comment", "frame.len"]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *(part for f in fields for part in ("-e", f))]
    lines = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True
    ).stdout.splitlines()
    assert [line.split("\t") for line in lines] == [
        ["1.000000007", "pc", "lost", "60"],
        ["2.000000000", "board", "", "60"],
    ]
