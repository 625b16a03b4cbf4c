"""Captures for Wireshark: a tap of the segment that writes pcapng, each frame in the file before the next one moves.

In: frames with device time, from a Segment's taps. Out: a pcapng file, one interface per port, nanoseconds, a comment
where the segment dropped or changed a frame. Never: an exception into the segment; a disk that is full ends the
capture with a warning. A process killed at any moment leaves a file that can be read.
Source: draft-ietf-opsawg-pcapng, sections 4.1 (SHB), 4.2 (IDB), 4.3 (EPB).
"""

import contextlib
import logging
import os
from struct import Struct

log = logging.getLogger(__name__)

_SECTION_HEADER = 0x0A0D0D0A
_INTERFACE = 1
_ENHANCED_PACKET = 6
_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = 0xFFFF_FFFF_FFFF_FFFF
_LINKTYPE_ETHERNET = 1
_OPTION_END = 0
_OPTION_COMMENT = 1
_USER_APPLICATION = 4  # of the section
_INTERFACE_NAME = 2
_TIME_RESOLUTION = 9
_NANOSECONDS = 9  # a power of ten, negative
_COMMENT_MAX = 0xFFFC  # bytes that an option's 16-bit length holds, padded

_BLOCK = Struct("<II")  # type, length
_LENGTH = Struct("<I")
_OPTION = Struct("<HH")
_SECTION = Struct("<IHHQ")
_INTERFACE_FIELDS = Struct("<HHI")  # link type, reserved, snap length: 0 is none
_PACKET = Struct("<IIIII")  # interface, time high and low, captured and original length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    size = _BLOCK.size + len(body) + _LENGTH.size
    return _BLOCK.pack(kind, size) + body + _LENGTH.pack(size)


def section_header() -> bytes:
    """What a file begins with."""
    options = _option(_USER_APPLICATION, b"hardwire") + _option(_OPTION_END, b"")
    return _block(_SECTION_HEADER, _SECTION.pack(_BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH) + options)


def interface(name: str) -> bytes:
    """An Ethernet interface; they count from 0 in order of appearance."""
    options = (
        _option(_INTERFACE_NAME, name.encode())
        + _option(_TIME_RESOLUTION, bytes((_NANOSECONDS,)))
        + _option(_OPTION_END, b"")
    )
    return _block(_INTERFACE, _INTERFACE_FIELDS.pack(_LINKTYPE_ETHERNET, 0, 0) + options)


def packet(number: int, time_ns: int, frame: bytes, comment: str = "") -> bytes:
    """A frame (without FCS) on interface `number`."""
    size = len(frame)
    head = _PACKET.pack(number, time_ns >> 32, time_ns & 0xFFFFFFFF, size, size)
    options = b""
    if comment:
        options = _option(_OPTION_COMMENT, comment.encode()[:_COMMENT_MAX]) + _option(_OPTION_END, b"")
    return _block(_ENHANCED_PACKET, head + _padded(frame) + options)


class Capture:
    """A capture into a file, which it replaces: `segment.taps.append(capture.tap)`. Raises OSError if it cannot."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "wb")  # noqa: SIM115: it lives as long as the capture
        self._interfaces: dict[str, int] = {}
        self.frames = 0
        self._write(section_header())

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def tap(self, time_ns: int, port: str, frame: bytes, comment: str) -> None:
        """One frame: see `Segment.taps`. Does nothing after close()."""
        if self._file.closed:
            return
        number = self._interfaces.get(port)
        if number is None:
            number = self._interfaces[port] = len(self._interfaces)
            self._write(interface(port))
        self._write(packet(number, time_ns, frame, comment))
        self.frames += 1

    def close(self) -> None:
        """End the capture; safe at any time."""
        with contextlib.suppress(OSError):  # what could not be written was reported then
            self._file.close()

    def _write(self, block: bytes) -> None:
        try:
            self._file.write(block)
            self._file.flush()
        except (OSError, ValueError) as error:  # ValueError: closed by the write before this one
            log.warning("the capture has ended: %s", error)
            self.close()
