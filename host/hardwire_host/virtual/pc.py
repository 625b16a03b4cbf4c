"""The PC's side of a segment: a host for the forwarded ports, the kernel's TAP interface, DHCP and name servers.

In: the network's settings, what is wanted of it. Out: PC addresses that lead to boards. Never: an address on the
segment that two hosts have.
"""

import errno
from collections.abc import Callable
from contextlib import AsyncExitStack

from hardwire.addresses import ip_bytes

from ..errors import BUSY, USAGE, HardwireError
from .dhcp import DhcpServer
from .dns import DnsServer
from .ether import Segment
from .forward import Forwarder
from .tcpip import Stack

MAC = b"\x02\x00\x00\x00\x00\x01"  # locally administered; the boards' are made from their unique ids
POOL_FIRST, POOL_SIZE = 100, 32  # of the DHCP server, where the network is large enough


def bind_error(host: str, port: int, board_port: int, error: OSError) -> HardwireError:
    """Why `host`:`port` cannot lead to `board_port`."""
    if error.errno == errno.EADDRINUSE:
        return HardwireError(
            BUSY, f"port {port} of {host} is in use", f"--forward 0:{board_port} takes a free one"
        )
    if error.errno == errno.EACCES:
        return HardwireError(BUSY, f"port {port} of {host} needs root", "choose a port from 1024")
    return HardwireError(
        USAGE, f"cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}"
    )


def _beside(gateway: bytes, netmask: bytes, taken: list[bytes]) -> bytes:
    """The highest address of the gateway's network that is not `taken`."""
    mask = int.from_bytes(netmask, "big")
    last = (int.from_bytes(gateway, "big") | ~mask & 0xFFFFFFFF) - 1
    addresses = ((last - n).to_bytes(4, "big") for n in range(len(taken) + 2))
    return next(ip for ip in addresses if ip not in taken and ip != gateway)


def _pool(gateway: bytes, netmask: bytes) -> dict:
    """Addresses for the DHCP server."""
    hosts = ~int.from_bytes(netmask, "big") & 0xFFFFFFFF
    offset = min(POOL_FIRST, hosts // 2)
    first = (int.from_bytes(gateway, "big") & ~hosts) + offset
    return {"first": first.to_bytes(4, "big"), "size": max(1, min(POOL_SIZE, hosts - offset - 2))}


class PcSide:
    """A host named "pc" at the gateway's address; with a TAP interface, which takes that one, at the highest free one.

    Args:
        network: the section of the settings. boards: addresses of the boards. names: of boards, for
            DNS; asked each time.
        tap: name of the TAP interface to make, None for none. dhcp: whether to serve DHCP.
        undo: takes what must be undone at the end.

    Attributes:
        dhcp: the server, None without.

    Raises:
        HardwireError: what Tap raises.
    """

    def __init__(
        self,
        segment: Segment,
        network: dict,
        boards: list[bytes],
        names: Callable[[], dict[str, bytes]],
        undo: AsyncExitStack,
        *,
        tap: str | None = None,
        dhcp: bool = False,
    ) -> None:
        ip = gateway = ip_bytes(network["gateway"])
        netmask = ip_bytes(network["netmask"])
        if tap is not None:
            from .tap import Tap

            undo.callback(Tap(segment, tap, ip=gateway, netmask=netmask).close)
            ip = _beside(gateway, netmask, boards)
        port = segment.attach("pc")
        stack = Stack(segment.clock, port, mac=MAC, ip=ip, netmask=netmask, gateway=gateway, seed=0)
        self.dhcp: DhcpServer | None = None
        if dhcp:
            self.dhcp = DhcpServer(stack, **_pool(gateway, netmask), dns=(ip,))
            undo.callback(self.dhcp.close)
        undo.callback(DnsServer(stack, lambda: names() | {"pc": ip}).close)
        self._forwarder = Forwarder(stack)
        undo.push_async_callback(self._forwarder.close)

    async def forward(
        self, host: str, port: int, target: Callable[[], bytes], board_port: int
    ) -> tuple[str, int]:
        """As Forwarder.listen; raises HardwireError."""
        try:
            return await self._forwarder.listen(host, port, target, board_port)
        except OSError as error:
            raise bind_error(host, port, board_port, error) from None
