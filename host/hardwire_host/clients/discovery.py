"""Finding boards by a UDP question, and giving one another address: the asker's half of docs/discovery.md.

In: where to ask, how long to wait; a key for settings. Out: `Board` records, HardwireError. Never: an answer to another
question than ours, an exception on what somebody sends, root.
"""

import contextlib
import errno
import hmac
import ipaddress
import os
import secrets
import select
import socket
import struct
import sys
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass

from hardwire.wire import discovery as wire

from ..errors import FAILED, NO_BOARD, TIMEOUT, HardwireError

TIMEOUT_S = 3.0  # three questions, so that a lost one or a board that is deaf for a moment does no harm
ROUNDS = 3
ATTEMPTS = 3  # at a setting, while others make settings at the same time
DATAGRAM_MAX = 2048  # larger than any answer: what is longer is none
BROADCAST = "255.255.255.255"
ANY_MAC = bytes(6)
MODES = ("static", "dhcp", "fallback")  # by number
REASONS = {
    wire.WRONG_KEY: "the key is wrong",
    wire.STALE: "another setting came between",
    wire.NO_KEY: "it has no key configured, so nobody may set its address from the network",
    wire.BAD_VALUE: "no host can have that address",
    wire.FAILED: "it could not store the setting",
    wire.LATER: "a wrong key was used a moment ago; it looks at nothing for up to 32 s",
}

_HEADER = struct.Struct(wire.HEADER)
_ABOUT = struct.Struct(wire.ABOUT)
_NEW = struct.Struct(wire.NEW)
_CODE = struct.Struct(wire.CODE)
_NONCE_SIZE = 8

# Linux, <linux/sockios.h> and <net/if.h>
_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFBRDADDR, _SIOCGIFNETMASK = 0x8913, 0x8915, 0x8919, 0x891B
_IFF_UP, _IFF_BROADCAST, _IFF_LOOPBACK = 0x1, 0x2, 0x8
_IFREQ = struct.Struct("16s24s")
_IP_PKTINFO = 8  # Python's socket module names it from 3.14 on
# A network that is down, or one that we may not broadcast to, is one where no board is found.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EACCES, errno.EPERM, errno.ENODEV)
_NO_WAY += (errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENOBUFS, errno.ECONNREFUSED)


@dataclass(frozen=True)
class Board:
    """What a board says of itself. `address` and `gateway` are "" while it has none.

    `heard_from` is where its answer came from, (address, port); `challenge` goes into a setting, once.
    """

    name: str
    board: str
    version: str
    mac: str
    address: str
    prefix: int
    gateway: str
    mode: str
    uptime_s: int
    services: dict[str, int]
    settable: bool
    heard_from: tuple[str, int]
    challenge: bytes

    def record(self) -> dict:
        """As JSON can hold it."""
        keys = ("name", "board", "version", "mac", "address", "prefix", "gateway", "mode", "uptime_s")
        return {key: getattr(self, key) for key in (*keys, "services", "settable")}


@dataclass(frozen=True)
class Interface:
    """A network that broadcasts go out to. `network` is None when nothing but its existence is known."""

    name: str
    index: int
    broadcast: str | None
    network: ipaddress.IPv4Network | None


# Bytes


def question(nonce: bytes, mac: bytes = ANY_MAC, *, direct: bool = False) -> bytes:
    """A question to the board with `mac`, or to all. `direct`: the answer shall come to us wherever we are."""
    flags = wire.DIRECT if direct else 0
    head = _HEADER.pack(wire.MAGIC, wire.VERSION, wire.QUESTION, flags, 0, nonce, mac, 0)
    return head.ljust(wire.SIZE, b"\0")


def _parse_header(data: bytes, kind: int, nonces: Container[bytes]) -> bytes | None:
    """The MAC of the board that answers to one of `nonces`, or None."""
    if len(data) < _HEADER.size:
        return None
    magic, version, found, _, _, nonce, mac, _ = _HEADER.unpack_from(data)
    matches = (magic, version, found) == (wire.MAGIC, wire.VERSION, kind) and nonce in nonces
    return mac if matches else None


def _take_text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError
    text = data[at + 1 : end].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text), end


def parse_answer(data: bytes, nonces: Container[bytes], heard_from: tuple[str, int]) -> Board | None:
    """A board's answer to a question with one of `nonces`; None if it is anything else. What follows is ignored."""
    mac = _parse_header(data, wire.ANSWER, nonces)
    if mac is None or len(data) < _HEADER.size + _ABOUT.size:
        return None
    challenge, address, netmask, gateway, uptime_s, mode = _ABOUT.unpack_from(data, _HEADER.size)
    try:
        at = _HEADER.size + _ABOUT.size
        name, at = _take_text(data, at)
        board, at = _take_text(data, at)
        version, at = _take_text(data, at)
        services = {}
        left, at = data[at], at + 1
        for _ in range(left):
            port = data[at] << 8 | data[at + 1]
            service, at = _take_text(data, at + 2)
            services[service] = port
    except IndexError:
        return None
    return Board(
        name=name,
        board=board,
        version=version,
        mac=mac.hex(":"),
        address=_address(address),
        prefix=int.from_bytes(netmask, "big").bit_count(),
        gateway=_address(gateway),
        mode=MODES[mode] if mode < len(MODES) else str(mode),
        uptime_s=uptime_s,
        services=services,
        settable=bool(data[6] & wire.SETTABLE),
        heard_from=heard_from,
        challenge=challenge,
    )


def _address(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data)) if any(data) else ""


@dataclass(frozen=True)
class Setting:
    """A new configuration. `interface` None: by DHCP."""

    interface: ipaddress.IPv4Interface | None
    gateway: ipaddress.IPv4Address | None = None

    def encode(
        self, nonce: bytes, mac: bytes, challenge: bytes, key: bytes, *, direct: bool = False
    ) -> bytes:
        """A SET for the board with `mac`, authentic by `key`."""
        flags = wire.DIRECT if direct else 0
        message = _HEADER.pack(wire.MAGIC, wire.VERSION, wire.SET, flags, 0, nonce, mac, 0)
        address, prefix, mode = bytes(4), 0, wire.DHCP
        if self.interface is not None:
            address, prefix, mode = self.interface.packed, self.interface.network.prefixlen, wire.STATIC
        gateway = self.gateway.packed if self.gateway else bytes(4)
        message += _NEW.pack(challenge, address, gateway, prefix, mode, 0)
        return message + _tag(key, message)


def _tag(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def parse_result(data: bytes, nonce: bytes, mac: bytes, key: bytes) -> int | None:
    """The code in the result of the SET with `nonce`; None if it is anything else, or a false DONE."""
    size = _HEADER.size + _CODE.size
    if _parse_header(data, wire.RESULT, (nonce,)) != mac or len(data) < size + wire.TAG:
        return None
    code = data[_HEADER.size]
    authentic = hmac.compare_digest(_tag(key, data[:size]), data[size : size + wire.TAG])
    return code if authentic or code != wire.DONE else None


# Networks


def interfaces() -> list[Interface]:
    """Networks of this PC that broadcasts can go out to; empty where the system does not tell (not Linux)."""
    if sys.platform != "linux":
        return []
    from fcntl import ioctl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:

        def ask(name: str, request: int) -> bytes | None:
            try:
                return ioctl(probe, request, _IFREQ.pack(os.fsencode(name), b""))[16:]
            except OSError:
                return None

        for index, name in socket.if_nameindex():
            answer = ask(name, _SIOCGIFFLAGS)
            flags = struct.unpack_from("=H", answer)[0] if answer else 0
            if flags & (_IFF_UP | _IFF_BROADCAST | _IFF_LOOPBACK) != _IFF_UP | _IFF_BROADCAST:
                continue
            address, mask, broadcast = (
                answer[4:8] if (answer := ask(name, request)) else None
                for request in (_SIOCGIFADDR, _SIOCGIFNETMASK, _SIOCGIFBRDADDR)
            )
            network = None
            if address and mask:
                prefix = int.from_bytes(mask, "big").bit_count()
                network = ipaddress.ip_network((address, prefix), strict=False)
            found.append(Interface(name, index, socket.inet_ntoa(broadcast) if broadcast else None, network))
    return found


class Asker:
    """A UDP socket that asks and hears. Use as a context manager.

    `hosts`: (address, port) each to ask alone, answers come straight back; none: every network of this PC.
    """

    def __init__(self, hosts: list[tuple[str, int]]) -> None:
        self.hosts = hosts
        self.interfaces = [] if hosts else interfaces()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.bind(("", 0))

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> int:
        """Send `data` by every way there is; returns by how many. A board hears it once or several times."""
        ways: list[tuple[tuple[str, int], list]] = [(host, []) for host in self.hosts]
        if not self.hosts:
            ways.append(((BROADCAST, wire.PORT), []))
        for interface in self.interfaces:
            # The limited broadcast goes to one network only, unless each is named.
            chosen = struct.pack("=I8x", interface.index)
            ways.append(((BROADCAST, wire.PORT), [(socket.IPPROTO_IP, _IP_PKTINFO, chosen)]))
            if interface.broadcast:
                ways.append(((interface.broadcast, wire.PORT), []))
        sent = 0
        for to, ancillary in ways:
            try:
                if ancillary:
                    self._socket.sendmsg([data], ancillary, 0, to)
                else:
                    self._socket.sendto(data, to)
                sent += 1
            except OSError as error:
                if error.errno not in _NO_WAY:
                    raise
        return sent

    def hear(self, seconds: float) -> Iterator[tuple[bytes, tuple[str, int]]]:
        """Datagrams of the next `seconds`, each with its sender."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                with contextlib.suppress(ConnectionError):  # "port unreachable" for a question we sent
                    yield self._socket.recvfrom(DATAGRAM_MAX)


def find(asker: Asker, timeout: float = TIMEOUT_S, mac: bytes = ANY_MAC) -> list[Board]:
    """Every board that answers within `timeout` seconds, by name; no longer than needed if they are known beforehand.

    Raises:
        HardwireError: NO_BOARD when there is no network to ask in.
    """
    found: dict[str, Board] = {}
    for _ in _answers(asker, timeout, mac, found):
        if mac != ANY_MAC or {board.heard_from for board in found.values()} == set(asker.hosts):
            break
    return sorted(found.values(), key=lambda board: (board.name, board.mac))


def _answers(asker: Asker, timeout: float, mac: bytes, found: dict[str, Board]) -> Iterator[None]:
    """Ask several times; every answer goes into `found`, by MAC address."""
    nonces: list[bytes] = []
    for _ in range(ROUNDS):
        nonces.append(secrets.token_bytes(_NONCE_SIZE))
        if not asker.send(question(nonces[-1], mac, direct=bool(asker.hosts))):
            raise HardwireError(NO_BOARD, "there is no network to ask in", "is a cable plugged in?")
        for data, heard_from in asker.hear(timeout / ROUNDS):
            board = parse_answer(data, nonces, heard_from)
            if board is not None:
                found[board.mac] = board
                yield


def configure(asker: Asker, mac: bytes, setting: Setting, key: bytes, timeout: float = TIMEOUT_S) -> Board:
    """Give the board with `mac` another configuration; returns what it was before.

    Raises:
        HardwireError: NO_BOARD when it does not answer to questions, TIMEOUT when it does not to the setting, FAILED
            when it refuses.
    """
    for _ in range(ATTEMPTS):
        boards = find(asker, timeout, mac)
        if not boards:
            raise HardwireError(
                NO_BOARD, f"no board with MAC address {mac.hex(':')} answers", "hardwire boards"
            )
        code = _set(asker, boards[0], setting, key, timeout)
        if code == wire.DONE:
            return boards[0]
        if code is None:
            raise HardwireError(
                TIMEOUT, f"{boards[0].name} does not answer to the setting", "hardwire boards"
            )
        if code != wire.STALE:
            break
    raise HardwireError(FAILED, f"{boards[0].name}: {REASONS.get(code, f'refused with code {code}')}")


def _set(asker: Asker, board: Board, setting: Setting, key: bytes, timeout: float) -> int | None:
    """The result of one setting. A refusal, which anybody could forge, counts when no DONE has come meanwhile."""
    if not board.settable:
        return wire.NO_KEY
    mac = bytes.fromhex(board.mac.replace(":", ""))
    nonce = secrets.token_bytes(_NONCE_SIZE)
    message = setting.encode(nonce, mac, board.challenge, key, direct=bool(asker.hosts))
    refusal = None
    for _ in range(ROUNDS):  # the same bytes: a board does it once, and repeats its result
        asker.send(message)
        for data, _ in asker.hear(timeout / ROUNDS):
            code = parse_result(data, nonce, mac, key)
            if code == wire.DONE:
                return code
            if refusal is None:
                refusal = code
        if refusal is not None:
            break
    return refusal
