"""A TAP device as a port of the segment: the kernel of this PC becomes a host on the virtual wire.

In: frames from the kernel, when the asyncio loop finds the device readable; they enter at the clock's now.
Out: the segment's frames, into the kernel at once. Never: a wait, or a queue but the kernel's own: while the
    wire is busy nothing is read, and a frame that the kernel does not take is lost and counted, as with any
    network card.

Linux only. Needs CAP_NET_ADMIN, or a device that root has prepared for this user. One made here is gone when
it is closed, or when the process ends.

Source: Linux Documentation/networking/tuntap.rst, linux/if_tun.h, linux/sockios.h; netdevice(7).
"""

import asyncio
import contextlib
import errno
import getpass
import logging
import os
import socket
import struct
import sys
from fcntl import ioctl

from ..errors import BUSY, FAILED, USAGE, HardwireError
from .clock import NS_PER_MS
from .ether import Segment

log = logging.getLogger(__name__)

DEVICE = "/dev/net/tun"
FRAME_MAX = 1518  # bytes without FCS: a full frame with a VLAN tag (IEEE 802.3, 3.2.7)
BURST = 32  # frames read in one go, so that the board gets its turn
QUEUE_NS = 4 * NS_PER_MS  # wire time of what was read and not sent yet: 32 full frames at 100 Mbit/s

# linux/if_tun.h, as encoded on all architectures but MIPS, PowerPC and SPARC
_TUNSETIFF = 0x400454CA
_TUNSETCARRIER = 0x400454E2
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
# linux/sockios.h, linux/if.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCGIFADDR, _SIOCSIFADDR = 0x8915, 0x8916
_SIOCGIFNETMASK, _SIOCSIFNETMASK = 0x891B, 0x891C
_IFF_UP = 0x1
_NAME_MAX = 15  # IFNAMSIZ, with its terminator, is 16
_FLAGS = struct.Struct("16sH22x")  # struct ifreq, the 40 bytes of a 64-bit kernel
_ADDRESS = struct.Struct("16sHxx4s16x")  # the same with a sockaddr_in

NETMASK = b"\xff\xff\xff\x00"


class Tap:
    """A TAP device on `segment`, until `close`. To be made where an asyncio loop runs.

    Args:
        segment: gets a port of the interface's name.
        name: of the interface; "hw%d" lets the kernel choose the number.
        ip, netmask: 4 bytes each; the interface gets this address and is set up. Without `ip` its
            configuration is somebody else's.

    Attributes:
        name: what the interface is called. port: on the segment; without its cable, the interface has no
            carrier. lost: frames that one side could not take.

    Raises:
        HardwireError: FAILED without Linux, the tun module or the permission; BUSY if another program uses
            the device; USAGE for a name that cannot be.
    """

    def __init__(
        self, segment: Segment, name: str, *, ip: bytes | None = None, netmask: bytes = NETMASK
    ) -> None:
        self.lost = 0
        self._segment = segment
        self._loop = asyncio.get_running_loop()
        self._fd, self.name = _open(name, ip, netmask)
        try:
            if ip is not None:
                _configure(self.name, ip, netmask)
            self.port = segment.attach(self.name)
        except ValueError as error:
            os.close(self._fd)
            raise HardwireError(USAGE, str(error), "choose another name") from None
        except HardwireError:
            os.close(self._fd)
            raise
        self.port.receive = self._to_kernel
        self.port.on_link = self._carrier
        self._loop.add_reader(self._fd, self._from_kernel)

    def close(self) -> None:
        """Leave segment and kernel; safe at any time."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self.port.receive = self.port.on_link = None
        self._segment.detach(self.port)
        os.close(self._fd)
        self._fd = -1

    def _from_kernel(self) -> None:
        clock = self._segment.clock
        for _ in range(BURST):
            queued = self.port.free_at - clock.now
            if queued > QUEUE_NS:
                self._loop.remove_reader(self._fd)
                clock.call_later(queued - QUEUE_NS // 2, self._resume)
                return
            try:
                frame = os.read(self._fd, FRAME_MAX + 1)
            except BlockingIOError:
                return
            except OSError as error:  # somebody has deleted the interface
                self._loop.remove_reader(self._fd)
                log.warning("the TAP device %s has gone: %s", self.name, error.strerror)
                return
            if len(frame) > FRAME_MAX:
                self.lost += 1
                continue
            self.port.send(frame)

    def _resume(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._from_kernel)

    def _to_kernel(self, frame: bytes) -> None:
        try:
            os.write(self._fd, frame)
        except OSError:  # the interface is down or gone, or its queue is full
            self.lost += 1

    def _carrier(self, up: bool) -> None:
        with contextlib.suppress(OSError):  # before Linux 5.0: the kernel is not told
            ioctl(self._fd, _TUNSETCARRIER, struct.pack("i", up))


def _open(name: str, ip: bytes | None, netmask: bytes) -> tuple[int, str]:
    """The device's file descriptor, and the name that the kernel gave it."""
    if sys.platform != "linux":
        raise HardwireError(FAILED, "a TAP device needs Linux", "forwarded ports need nothing")
    interface = os.fsencode(name)
    if not 0 < len(interface) <= _NAME_MAX or b"\0" in interface:
        raise _bad_name(name)
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        raise HardwireError(
            FAILED, f"no permission to open {DEVICE}", "run as root; forwarded ports need none"
        ) from None
    except OSError as error:
        raise HardwireError(
            FAILED,
            f"cannot open {DEVICE}: {error.strerror}",
            "as root: modprobe tun; a container needs --device /dev/net/tun",
        ) from None
    try:
        request = ioctl(fd, _TUNSETIFF, _FLAGS.pack(interface, _IFF_TAP | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EPERM:
            raise _not_permitted(name, ip, netmask) from None
        if error.errno == errno.EBUSY:
            raise HardwireError(
                BUSY, f"another program uses the TAP device {name}", "choose another name"
            ) from None
        if error.errno == errno.EINVAL:
            raise _bad_name(name) from None
        raise HardwireError(FAILED, f"cannot make the TAP device {name}: {error.strerror}") from None
    return fd, os.fsdecode(_FLAGS.unpack(request)[0].rstrip(b"\0"))


def _bad_name(name: str) -> HardwireError:
    return HardwireError(
        USAGE,
        f"{name!r} cannot be a TAP device",
        f"1 to {_NAME_MAX} characters without space, / and :, and no other interface's name",
    )


def _not_permitted(name: str, ip: bytes | None, netmask: bytes) -> HardwireError:
    steps = [f"ip tuntap add {name} mode tap user {getpass.getuser()}"]
    if ip is not None:
        prefix = int.from_bytes(netmask, "big").bit_count()
        steps += [f"ip address add {socket.inet_ntoa(ip)}/{prefix} dev {name}", f"ip link set {name} up"]
    return HardwireError(
        FAILED,
        f"no permission to make the TAP device {name}",
        f"run as root, or once as root: {' && '.join(steps)}",
    )


def _configure(name: str, ip: bytes, netmask: bytes) -> None:
    """Address, mask, up. What is so already is left alone: that needs no permission."""
    interface = os.fsencode(name)
    wanted = ((_SIOCGIFADDR, _SIOCSIFADDR, ip), (_SIOCGIFNETMASK, _SIOCSIFNETMASK, netmask))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            for get, put, value in wanted:
                request = _ADDRESS.pack(interface, socket.AF_INET, value)
                if _address(control, get, request) != value:
                    ioctl(control, put, request)
            _, flags = _FLAGS.unpack(ioctl(control, _SIOCGIFFLAGS, _FLAGS.pack(interface, 0)))
            if not flags & _IFF_UP:
                ioctl(control, _SIOCSIFFLAGS, _FLAGS.pack(interface, flags | _IFF_UP))
        except PermissionError:
            raise _not_permitted(name, ip, netmask) from None
        except OSError as error:
            address = f"{socket.inet_ntoa(ip)} netmask {socket.inet_ntoa(netmask)}"
            raise HardwireError(FAILED, f"{name} cannot get {address}: {error.strerror}") from None


def _address(control: socket.socket, get: int, request: bytes) -> bytes | None:
    try:
        return _ADDRESS.unpack(ioctl(control, get, request))[2]
    except OSError:  # EADDRNOTAVAIL: it has none
        return None
