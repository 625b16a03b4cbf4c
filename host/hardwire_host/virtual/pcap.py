"""Captures for Wireshark: a tap of the segment that writes pcapng, each frame before the next one moves.

In: frames with device time, from a Segment's taps. Out: a pcapng file or pipe: one interface per port,
    nanoseconds since power-on (the year reads 1970), a comment where the segment dropped or changed a frame.
    The same run gives the same bytes. Never: an exception into the segment, or a wait for a reader. A full
    disk ends the capture with a warning; a pipe with a slow reader loses frames and says so in the next one.
    Only whole blocks are written, each at once: a process that is killed leaves a file that can be read.

Source: draft-ietf-opsawg-pcapng: blocks 3.1, options 3.5, SHB 4.1, IDB 4.2, EPB 4.3.
"""

import contextlib
import errno
import logging
import os
from collections import Counter
from struct import Struct

from ..errors import FAILED, HardwireError
from .ether import Segment

log = logging.getLogger(__name__)

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
ENHANCED_PACKET = 6

BYTE_ORDER_MAGIC = 0x1A2B3C4D
VERSION = 1, 0
UNKNOWN_LENGTH = 0xFFFF_FFFF_FFFF_FFFF
LINKTYPE_ETHERNET = 1
NANOSECONDS = 9  # value of IF_TSRESOL: a power of ten, negative

OPT_ENDOFOPT = 0
OPT_COMMENT = 1
SHB_USERAPPL = 4
IF_NAME = 2
IF_TSRESOL = 9
EPB_DROPCOUNT = 4

_BLOCK = Struct("<II")  # type, length
_LENGTH = Struct("<I")
_OPTION = Struct("<HH")  # code, length
_SECTION = Struct("<IHHQ")  # byte order, version, section length
_INTERFACE = Struct("<HHI")  # link type, reserved, snap length: 0 is none
_PACKET = Struct("<IIIII")  # interface, time high and low, captured and original length
_COUNT = Struct("<Q")

_TEXT_MAX = 1024  # bytes of a name or comment: a block stays below PIPE_BUF, which pipes take whole or not


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + _padded(value)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode(errors="replace")[:_TEXT_MAX])


def _block(kind: int, body: bytes, options: bytes = b"") -> bytes:
    if options:
        options += _option(OPT_ENDOFOPT, b"")
    size = _BLOCK.size + len(body) + len(options) + _LENGTH.size
    return _BLOCK.pack(kind, size) + body + options + _LENGTH.pack(size)


def section_header() -> bytes:
    """What a file begins with."""
    section = _SECTION.pack(BYTE_ORDER_MAGIC, *VERSION, UNKNOWN_LENGTH)
    return _block(SECTION_HEADER, section, _text(SHB_USERAPPL, "hardwire"))


def interface(name: str) -> bytes:
    """An Ethernet interface; they count from 0 in order of appearance."""
    options = _text(IF_NAME, name) + _option(IF_TSRESOL, bytes((NANOSECONDS,)))
    return _block(INTERFACE_DESCRIPTION, _INTERFACE.pack(LINKTYPE_ETHERNET, 0, 0), options)


def packet(number: int, time_ns: int, frame: bytes, comment: str = "", dropped: int = 0) -> bytes:
    """A frame without FCS on interface `number`, after `dropped` ones there that were not written."""
    size = len(frame)
    body = _PACKET.pack(number, time_ns >> 32, time_ns & 0xFFFFFFFF, size, size) + _padded(frame)
    options = _text(OPT_COMMENT, comment) if comment else b""
    if dropped:
        options += _option(EPB_DROPCOUNT, _COUNT.pack(dropped))
    return _block(ENHANCED_PACKET, body, options)


class Capture:
    """A capture of `segment` into `path`, from now until `stop`.

    Args:
        segment: whose taps it joins.
        path: file, replaced if it exists; or a named pipe that Wireshark reads.

    Attributes:
        path: as given. frames: written so far. lost: not written, because the pipe was full.

    Raises:
        HardwireError: FAILED, `path` cannot be written.
    """

    def __init__(self, segment: Segment, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.frames = self.lost = 0
        self._segment = segment
        self._interfaces: dict[str, int] = {}
        self._dropped: Counter[str] = Counter()  # by port, since the last frame written
        self._size = 0  # bytes of whole blocks
        self._fd = -1
        try:
            # Non-blocking is for pipes: opening one would wait for a reader, writing for a slow one.
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
            self._write(section_header())
        except OSError as error:
            self._close()
            hint = "start what reads the pipe first" if error.errno == errno.ENXIO else ""
            raise HardwireError(FAILED, f"cannot write {self.path}: {error.strerror}", hint) from None
        except ValueError:
            raise HardwireError(FAILED, f"{self.path!r} is no path") from None  # a null byte
        segment.taps.append(self._tap)

    @property
    def active(self) -> bool:
        """False after `stop`, and when writing has failed."""
        return self._fd >= 0

    def stop(self) -> None:
        """End the capture; safe at any time."""
        if self.active:
            # Not `remove`: a tap that fails is in the middle of a walk through that list.
            self._segment.taps = [tap for tap in self._segment.taps if tap != self._tap]
            self._close()

    def _tap(self, time_ns: int, port: str, frame: bytes, comment: str) -> None:
        try:
            number = self._interfaces.get(port)
            if number is None:
                self._write(interface(port))
                number = self._interfaces[port] = len(self._interfaces)
            self._write(packet(number, time_ns, frame, comment, self._dropped[port]))
        except BlockingIOError:
            self.lost += 1
            self._dropped[port] += 1
        except OSError as error:
            log.warning("the capture %s has ended: %s", self.path, error.strerror)
            self.stop()
        else:
            self.frames += 1
            del self._dropped[port]

    def _write(self, block: bytes) -> None:
        """The whole block, or OSError and no part of it. BlockingIOError: the pipe is full for now."""
        if os.write(self._fd, block) < len(block):
            with contextlib.suppress(OSError):  # a pipe keeps what it has
                os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, "no room for another frame")
        self._size += len(block)

    def _close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # a network disk's last word; what matters was reported before
                os.close(self._fd)
            self._fd = -1
