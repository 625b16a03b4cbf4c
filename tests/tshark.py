"""What tshark says about a capture. Tests that ask it carry the mark `needs_tshark`."""

import shutil
import subprocess

import pytest

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

# Bits of tcp.completeness
SYN, SYN_ACK, ACK, DATA, FIN, RST = 1, 2, 4, 8, 16, 32
COMPLETE = SYN | SYN_ACK | ACK | DATA | FIN
# Bits of tcp.flags
TH_FIN, TH_SYN, TH_RST, TH_ACK = 0x01, 0x02, 0x04, 0x10

CHECK = ("ip", "tcp", "udp")  # checksums that tshark does not verify unless told to
# Linux writes the other zero of one's complement, in one of 65536 frames (CSUM_MANGLED_0, skb_checksum_help).
OTHER_ZERO = "(tcp.checksum == 0xffff && tcp.checksum_calculated == 0)"
BAD = " || ".join(f'{name}.checksum.status == "Bad"' for name in (*CHECK, "icmp"))
FAULTS = f"_ws.malformed || _ws.short || (({BAD}) && !{OTHER_ZERO})"
ARRIVED = f'tcp && !(frame.comment contains "lost") && !({FAULTS})'


def fields(path, *names, where=""):
    """The values of the fields `names`, one list for each frame that matches the display filter `where`."""
    command = ["tshark", "-n", "-2", "-r", str(path), "-T", "fields"]
    for protocol in CHECK:
        command += ["-o", f"{protocol}.check_checksum:TRUE"]
    for name in names:
        command += ["-e", name]
    if where:
        command += ["-Y", where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def faults(path, unless=None):
    """Frames that are malformed, cut, or have a bad checksum, but for those with `unless` in their comment."""
    found = fields(path, "frame.number", "frame.comment", "_ws.col.Protocol", "_ws.col.Info", where=FAULTS)
    return [fault for fault in found if unless is None or unless not in fault[1]]


def completeness(path):
    """tcp.completeness of every TCP connection, in order of appearance."""
    seen = {stream: int(bits) for stream, bits in fields(path, "tcp.stream", "tcp.completeness", where="tcp")}
    return list(seen.values())


def unclean(path):
    """What is wrong with set-up and tear-down of the TCP connections in a capture, a line each.

    Right is, of what has arrived: SYN, SYN-ACK and ACK that agree, then data, then one FIN from each end, both
    acknowledged. An RST may come after that: the answer to a copy of the last ACK, which the segment has made.
    """
    names = "tcp.stream", "frame.interface_name", "tcp.flags", "tcp.seq_raw", "tcp.ack_raw", "tcp.len"
    streams = {}
    for stream, sender, *numbers in fields(path, *names, where=ARRIVED):
        streams.setdefault(stream, []).append((sender, *(int(number, 0) for number in numbers)))
    return [
        f"stream {stream}: {line}" for stream, frames in streams.items() for line in connection_faults(frames)
    ]


def connection_faults(frames):
    """As `unclean`, of one connection's frames: (sender, flags, sequence and acknowledgement number, bytes)."""
    client = frames[0][0]
    begins, ends = {}, {}  # by sender: the number behind its SYN, and its FIN
    acknowledged = set()  # who has acknowledged the other's FIN
    shaken = False
    for sender, flags, seq, ack, n in frames:
        begin = next((number for name, number in begins.items() if name != sender), None)
        end = next((number for name, number in ends.items() if name != sender), None)
        after = seq + n + 1 & 0xFFFFFFFF
        if flags & TH_RST:
            if len(acknowledged) < 2:
                yield f"RST from {sender}"
        elif flags & TH_SYN:
            if begins.setdefault(sender, after) != after:
                yield f"{sender} begins twice"
            if (flags & TH_ACK, ack) != ((0, 0) if sender == client else (TH_ACK, begin)):
                yield f"SYN from {sender} with flags {flags:#x}, ack {ack}"
        elif sender == client and len(begins) == 2 and not shaken:
            shaken = ack == begin
        if not shaken and (n or flags & TH_FIN):
            yield f"{sender} sends before the handshake is over"
        if flags & TH_FIN and ends.setdefault(sender, after) != after:
            yield f"{sender} ends twice"
        if flags & TH_ACK and ack == end:
            acknowledged.add(sender)
    if len(acknowledged) < 2:
        yield f"FIN from {sorted(ends)}, acknowledged by {sorted(acknowledged)}"
