"""DHCP client: keeps one IPv4 lease alive.

In: UDP payloads from port 67, the time in whole seconds, events of the link. Out: payloads to send from port 68 to
port 67, and the configuration to apply. Never: I/O, a clock of its own, a wait, an exception on what a server
sends, heap while the lease needs nothing.

Sections are RFC 2131's; options RFC 2132's, long ones after RFC 3396.
"""

from struct import pack_into, unpack_from

from ..compat import const

CLIENT_PORT = const(68)
SERVER_PORT = const(67)
INFINITE_S = const(0xFFFFFFFF)  # Client.lease_s of a lease that does not end (3.3)
BROADCAST = b"\xff\xff\xff\xff"

# Values of Client.state (4.4, figure 5)
INIT = "INIT"
SELECTING = "SELECTING"
REQUESTING = "REQUESTING"
BOUND = "BOUND"
RENEWING = "RENEWING"
REBINDING = "REBINDING"
INIT_REBOOT = "INIT-REBOOT"
REBOOTING = "REBOOTING"

# Message types (RFC 2132, 9.6)
_DISCOVER = const(1)
_OFFER = const(2)
_REQUEST = const(3)
_DECLINE = const(4)
_ACK = const(5)
_NAK = const(6)
_RELEASE = const(7)

# Fields (2, figure 1)
_XID = const(4)
_SECS = const(8)
_FLAGS = const(10)
_CIADDR = const(12)
_YIADDR = const(16)
_CHADDR = const(28)
_SNAME = const(44)
_FILE = const(108)
_COOKIE = const(236)
_OPTIONS = const(240)
_HEAD = b"\x02\x01\x06"  # a reply on Ethernet, with addresses of six bytes
_MAGIC = b"\x63\x82\x53\x63"
_BROADCAST_FLAG = const(0x80)
_LEAST = const(300)  # bytes in a message: BOOTP's size, which some servers and relays insist on

# Options
_PAD = const(0)
_NETMASK = const(1)
_ROUTER = const(3)
_DNS = const(6)
_NAME = const(12)
_NTP = const(42)
_ADDRESS = const(50)
_LEASE = const(51)
_OVERLOAD = const(52)
_TYPE = const(53)
_SERVER = const(54)
_LIST = const(55)
_T1 = const(58)
_T2 = const(59)
_CLIENT = const(61)
_END = const(255)
_ASKED = b"\x01\x03\x06\x2a\x33\x3a\x3b"  # the parameter request list: all of these but type and server
_READ = (_NETMASK, _ROUTER, _DNS, _NTP, _LEASE, _OVERLOAD, _TYPE, _SERVER, _T1, _T2, _CLIENT)
_SERVERS = const(3)  # of DNS, and of NTP, that are kept; nobody asks a fourth

_BACKOFF_S = (4, 8, 16, 32, 64)  # before a message is repeated, +-1 s (4.1); and between one NAK and the next
_REQUESTS = const(4)  # before another server gets a chance: 60 s, as 3.1 (5) suggests
_REBOOTS = const(2)  # a server that knows nothing of us keeps silent: 12 s, then DISCOVER
_LEAST_RENEW_S = const(60)  # between two requests for an extension (4.4.5)
_DECLINED_S = const(10)  # before the next DISCOVER (3.1, 5)
_REPLY_S = const(4)  # an answer takes no longer, even if the server pings an address before it offers it
_FUZZ = const(16)  # T1 is up to 1/16 early: boards that started together do not renew together (4.4.5)


def _collect(data, at, end, found):
    """Add the wanted options in data[at:end] to `found`. Returns False if one is cut short."""
    while at < end and data[at] != _END:
        code = data[at]
        at += 1
        if code != _PAD:
            if at == end or at + 1 + data[at] > end:
                return False
            value = at + 1
            at = value + data[at]
            if code in _READ:
                found[code] = found.get(code, b"") + bytes(data[value:at])
    return True


def _options(message):
    """The wanted options of a whole message: code -> bytes; None if any is cut short."""
    found = {}
    if not _collect(message, _OPTIONS, len(message), found):
        return None
    overload = found.get(_OVERLOAD, b"\0")[-1:]
    if overload in (b"\1", b"\3") and not _collect(message, _FILE, _COOKIE, found):
        return None
    if overload in (b"\2", b"\3") and not _collect(message, _SNAME, _FILE, found):
        return None
    return found


def _seconds(options, code):
    """An option that is a time, None if it is missing or of another size."""
    value = options.get(code, b"")
    return unpack_from(">I", value)[0] if len(value) == 4 else None


def _addresses(options, code):
    """An option that is a list of addresses, as a tuple of the first of them."""
    value = options.get(code, b"")
    found = [value[at : at + 4] for at in range(0, len(value) - 3, 4)]
    return tuple([address for address in found if _is_host(address)][:_SERVERS])


def _is_host(address):
    return 1 <= address[0] <= 223 and address[0] != 127


def _netmask(options, address):
    """The subnet mask; that of the address's class if the server gives none that can be one."""
    value = options.get(_NETMASK, b"")
    mask = _seconds(options, _NETMASK)
    if mask and (mask | (mask - 1)) == 0xFFFFFFFF:
        return value
    size = 1 if address[0] < 128 else 2 if address[0] < 192 else 3
    return (b"\xff" * size + bytes(4))[:4]


class Client:
    """One lease: `poll` says what to send, `received` takes what comes, the attributes say what holds.

    `mac` is 6 bytes, `name` the host name ("" for none), `random(n)` gives n random bytes. Times are whole seconds
    of a clock that never goes back.

    Attributes, to be read:
        state: as RFC 2131 names them.
        address, netmask, gateway: 4 bytes each, while there is a lease; else None. No gateway: four zeros.
        dns, ntp: tuples of addresses. server: the server's identifier. lease_s: seconds the lease was given for.
        waiting: a reply may come, so port 68 must be open. Once unanswered, not before the next message.
    and to be cleared by whoever acted on it:
        changed: the configuration is another one, or lost.
    """

    def __init__(self, mac, name, random):
        self._mac = bytes(mac)
        self._name = name.encode()
        self._random = random
        self.changed = False
        self._stop()
        self._clear()

    # What happens to it

    def start(self, now_s, address=None):
        """Begin, or begin anew. `address`: the one of an earlier life, which is asked for first."""
        self._lose()
        self._wish = address
        self._naks = 0
        self._enter(INIT_REBOOT if address else INIT, now_s)

    def link_up(self, now_s):
        """The cable is back, maybe in another network: make sure of the lease and use it meanwhile (3.7)."""
        if self.address is not None:
            self._wish = self.address
            self._enter(INIT_REBOOT, now_s)
        elif self.state != INIT_REBOOT:
            self._enter(INIT, now_s)

    def conflict(self, now_s):
        """Somebody else uses our address: decline it and look for another one."""
        if self.address is None:
            return
        self._declined = self.address, self.server
        self._lose()
        self._wish = None
        self._enter(INIT, now_s)

    def release(self):
        """Give the lease back and stop. Returns what to send before the address is taken down, or None."""
        message = None
        if self.address is not None:
            self._xid = self._random(4)
            message = self.server, self._message(_RELEASE, 0, self.address, None, self.server)
        self._lose()
        self._stop()
        return message

    def poll(self, now_s):
        """What to send now: (address to send to, payload), or None. Call often, and after every datagram."""
        if self.waiting and now_s >= self._reply_until:
            self.waiting = False
        due = self._due
        if due is None or now_s < due:
            return None
        return self._act(now_s)

    def received(self, payload, now_s):
        """A datagram came to port 68."""
        n = len(payload)
        if n < _OPTIONS or self._due is None:
            return
        if bytes(payload[:3]) != _HEAD or bytes(payload[_COOKIE:_OPTIONS]) != _MAGIC:
            return
        if bytes(payload[_XID:_SECS]) != self._xid or bytes(payload[_CHADDR : _CHADDR + 6]) != self._mac:
            return
        options = _options(payload)
        if options is None:
            return
        server = options.get(_SERVER, b"")
        if len(server) != 4 or not _is_host(server):
            return
        if options.get(_CLIENT, self._id()) != self._id():  # RFC 6842, 3
            return
        kind = options.get(_TYPE, b"")
        address = bytes(payload[_YIADDR : _YIADDR + 4])
        if kind == b"\6":
            self._refused(options, now_s)
        elif _is_host(address) and _seconds(options, _LEASE):
            if kind == b"\2" and self.state == SELECTING:
                self._wish = address
                self._chosen = server
                self._enter(REQUESTING, now_s)
            elif kind == b"\5" and self._expects(options):
                self._bind(address, options, now_s)

    # What it does

    def _stop(self):
        self.state = INIT
        self.waiting = False  # set by _send, cleared by poll and by the answer
        self._due = None  # when poll has something to do; None: never
        self._wish = None  # the address to ask for
        self._declined = None  # (address, server) that DECLINE has still to name
        self._chosen = None  # the server whose offer was taken
        self._naks = 0  # since the last lease
        self._xid = bytes(4)
        self._reply_until = 0  # when `waiting` ends

    def _clear(self):
        self.address = self.netmask = self.gateway = self.server = None
        self.dns = self.ntp = ()
        self.lease_s = 0
        self._renew_at = self._rebind_at = self._expires_at = None

    def _lose(self):
        if self.address is not None:
            self._clear()
            self.changed = True

    def _enter(self, state, now):
        self.state = state
        self.waiting = False
        self._tries = 0
        self._due = now

    def _act(self, now):
        if self._declined is not None:
            address, server = self._declined
            self._declined = None
            self._due = now + _DECLINED_S
            self._xid = self._random(4)
            return BROADCAST, self._message(_DECLINE, 0, None, address, server)
        if self._expires_at is not None and now >= self._expires_at:
            self._wish = self.address
            self._lose()
            self._enter(INIT, now)
        elif self.state == REQUESTING and self._tries == _REQUESTS:
            self._enter(INIT, now)
        elif self.state == REBOOTING and self._tries == _REBOOTS:
            if self.address is None:
                self._enter(INIT, now)
            else:  # nobody contradicts, so it holds for the rest of its time (3.2, 3)
                self._rest()
                return None
        if self.state in (INIT, INIT_REBOOT):
            self.state = SELECTING if self.state == INIT else REBOOTING
            self._since = now
            self._xid = self._random(4)
        if self.state in (BOUND, RENEWING, REBINDING):
            return self._extend(now)
        if self.state == SELECTING:
            self._secs = min(now - self._since, 0xFFFF)
            message = self._message(_DISCOVER, self._secs, None, self._wish, None)
        elif self.state == REQUESTING:  # with the seconds of its DISCOVER (3.1, 3)
            message = self._message(_REQUEST, self._secs, None, self._wish, self._chosen)
        else:
            message = self._message(_REQUEST, min(now - self._since, 0xFFFF), None, self._wish, None)
        if self._tries == 0:
            self._asked_at = now  # a lease counts from the first request that may have got it (4.4.1)
        wait = _BACKOFF_S[min(self._tries, len(_BACKOFF_S) - 1)] + self._random(1)[0] % 3 - 1
        self._tries += 1
        return self._send(BROADCAST, message, now, now + wait)

    def _extend(self, now):
        """Ask for more time: first the server that gave the lease, later any (4.4.5)."""
        if self.state == BOUND:
            self._since = now
        rebinding = now >= self._rebind_at
        self.state = REBINDING if rebinding else RENEWING
        until = self._expires_at if rebinding else self._rebind_at
        self._xid = self._random(4)  # one for each request, so that it is known which one is answered
        self._asked_at = now
        message = self._message(_REQUEST, min(now - self._since, 0xFFFF), self.address, None, None)
        again = min(now + max((until - now) // 2, _LEAST_RENEW_S), until)
        return self._send(BROADCAST if rebinding else self.server, message, now, again)

    def _send(self, to, message, now, due):
        self.waiting = True
        self._reply_until = now + _REPLY_S
        if self._expires_at is not None and due > self._expires_at:
            due = self._expires_at
        self._due = due
        return to, message

    def _expects(self, options):
        if self.state == REQUESTING:
            return options[_SERVER] == self._chosen
        return self.state in (REBOOTING, RENEWING, REBINDING)

    def _refused(self, options, now):
        if not self._expects(options):
            return
        self._lose()
        self._wish = None
        self._enter(INIT, now)
        if self._naks:
            self._due = now + _BACKOFF_S[min(self._naks, len(_BACKOFF_S)) - 1]
        self._naks += 1

    def _bind(self, address, options, now):
        before = self.address, self.netmask, self.gateway, self.dns, self.ntp
        self.address = address
        self.netmask = _netmask(options, address)
        self.gateway = (_addresses(options, _ROUTER) or (bytes(4),))[0]
        self.dns = _addresses(options, _DNS)
        self.ntp = _addresses(options, _NTP)
        if before != (self.address, self.netmask, self.gateway, self.dns, self.ntp):
            self.changed = True
        self.server = options[_SERVER]
        self._naks = 0
        self._set_times(options)
        self._rest()

    def _set_times(self, options):
        lease = self.lease_s = _seconds(options, _LEASE)
        if lease == INFINITE_S:
            self._renew_at = self._rebind_at = self._expires_at = None
            return
        t1, t2 = _seconds(options, _T1), _seconds(options, _T2)
        if t2 is None or t2 > lease or (t1 is not None and t2 < t1):
            t2 = lease * 7 // 8
        if t1 is None or t1 > t2:
            t1 = min(lease // 2, t2)
        t1 = max(t1 - t1 * self._random(1)[0] // (_FUZZ * 256), 1)  # not 0: a lease of 1 s must not flood
        self._renew_at = self._asked_at + t1
        self._rebind_at = self._asked_at + max(t2, t1)
        self._expires_at = self._asked_at + lease

    def _rest(self):
        self.state = BOUND
        self.waiting = False
        self._due = self._renew_at

    # Messages

    def _id(self):
        return b"\x01" + self._mac

    def _message(self, kind, secs, ciaddr, address, server):
        """A message (4.4.1, table 5). `ciaddr`: our address if it is in use, else None."""
        options = [(_TYPE, bytes([kind])), (_CLIENT, self._id())]
        if address is not None:
            options.append((_ADDRESS, address))
        if server is not None:
            options.append((_SERVER, server))
        if kind in (_DISCOVER, _REQUEST):
            options.append((_LIST, _ASKED))
            if self._name:
                options.append((_NAME, self._name))
        size = _OPTIONS + 1
        for _, value in options:
            size += 2 + len(value)
        message = bytearray(max(size, _LEAST))
        message[:3] = b"\x01\x01\x06"
        message[_XID:_SECS] = self._xid
        pack_into(">H", message, _SECS, secs)
        if ciaddr is not None:
            message[_CIADDR:_YIADDR] = ciaddr
        elif kind != _DECLINE:
            message[_FLAGS] = _BROADCAST_FLAG  # the chip takes no unicast for an address it does not have
        message[_CHADDR : _CHADDR + 6] = self._mac
        message[_COOKIE:_OPTIONS] = _MAGIC
        at = _OPTIONS
        for code, value in options:
            message[at] = code
            message[at + 1] = len(value)
            message[at + 2 : at + 2 + len(value)] = value
            at += 2 + len(value)
        message[at] = _END
        return message
