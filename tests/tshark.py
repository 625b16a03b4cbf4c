"""What tshark says about a capture. Tests that ask it carry the mark `needs_tshark`."""

import shutil
import subprocess

import pytest

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

# Bits of tcp.completeness
SYN, SYN_ACK, ACK, DATA, FIN, RST = 1, 2, 4, 8, 16, 32
COMPLETE = SYN | SYN_ACK | ACK | DATA | FIN

CHECK = ("ip", "tcp", "udp")  # checksums that tshark does not verify unless told to
FAULTS = " || ".join(
    ("_ws.malformed", "_ws.short", *(f'{name}.checksum.status == "Bad"' for name in (*CHECK, "icmp")))
)


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


def faults(path):
    """Frames that are malformed, cut, or have a bad checksum."""
    return fields(path, "frame.number", "_ws.col.Protocol", "_ws.col.Info", where=FAULTS)


def completeness(path):
    """tcp.completeness of every TCP connection, in order of appearance."""
    seen = {stream: int(bits) for stream, bits in fields(path, "tcp.stream", "tcp.completeness", where="tcp")}
    return list(seen.values())
