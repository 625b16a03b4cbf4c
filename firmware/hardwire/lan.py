"""The board's own conversations on its network, all on one hardware socket: DHCP, name lookup, time, discovery.

In: the "network" settings, ticks of net.py. Out: the chip's addresses, `resolve`, wall-clock time for the log. Never: a
wait, or a pause of a service: an exchange is a datagram sent and another one that comes, between other sockets' events.

The socket's port is DHCP's while an answer may come, else that of discovery; queries go out from either.
"""

import asyncio

from . import __version__, log
from .addresses import ConfigError, ip_bytes, ip_text
from .compat import const, entropy, ticks_diff, ticks_ms
from .udp import Datagrams
from .wire import discovery

FALLBACK_S = const(8)  # without an answer from a DHCP server: the configured address, until one answers
_RESPOND_TICKS = const(10)  # an answer leaves within a quarter of a second; up to four may wait
_TRIES = const(3)  # of a question
ANSWER_S = 1.5  # for an answer, before the question is asked again
SYNC_S, RESYNC_S = const(3600), const(60)  # between questions for the time, and after one without an answer


DHCP_PORT, DHCP_SERVER_PORT = const(68), const(67)


class Lan:
    """Addresses and name service of the board that `settings` (all of them) describe. `net` must be started.

    Attributes:
        dynamic: whether the address is wanted from DHCP. address: in use, 4 bytes. dns, ntp: servers to ask.
        leases: acknowledged by a server since start, renewals not counted. fallbacks: how often none answered.
    """

    def __init__(self, net, settings, mac):
        self._net = net
        self._settings = settings
        self._mac = mac
        self._questions = []
        self._link = False
        self._responding = 0  # ticks
        self._unsent = None  # a message of DHCP that found the socket busy
        self.address = None
        self.leases = 0
        self.fallbacks = 0
        self._socket = Datagrams(net, net.chip.endpoints[0], discovery.PORT, self._received)
        key = settings["key"]
        self._responder = discovery.Responder(
            mac, entropy, self._describe, self._store, key.encode() if key else None
        )
        self._configure()
        net.resolve = self.resolve
        net.every_tick(self.tick)

    def _configure(self):
        """Begin with what the settings say."""
        settings = self._settings["network"]
        self._static = tuple(ip_bytes(settings[key]) for key in ("address", "netmask", "gateway"))
        self.dns = (ip_bytes(settings["dns"]),)
        self.ntp = (ip_bytes(settings["ntp"]),) if settings["ntp"] else ()
        self.dynamic = settings["mode"] == "dhcp"
        self._since = self._net.uptime_s
        self._client = None
        if self.dynamic:
            from .wire import dhcp

            self._client = dhcp.Client(self._mac, self._settings["name"], entropy)
            self._apply(bytes(4), bytes(4), bytes(4))
            self._client.start(self._since)
        else:
            self._apply(*self._static)

    def _apply(self, address, netmask, gateway):
        """Work with these addresses; connections of the old one are over."""
        before, self.address = self.address, address
        self._net.chip.configure(address, netmask, gateway, self._mac)
        if before not in (None, address):
            self._net.drop_connections()
        if any(address):
            log.info("address %s", ip_text(address))

    def tick(self):
        """A tenth of a second has passed."""
        if self._responding:
            self._respond()
        now = self._net.uptime_s
        conflict = self._net.conflict()
        if conflict:
            log.error("another host uses %s", ip_text(self.address))
        client = self._client
        if client is None:
            return
        link = self._net.link
        if link and not self._link:
            client.link_up(now)
        self._link = link
        if conflict:
            client.conflict(now)
        self._converse(now)
        if client.address is None and self.address == bytes(4) and now - self._since >= FALLBACK_S:
            self.fallbacks += 1
            log.warning("no DHCP server answers")
            self._apply(*self._static)

    def _converse(self, now):
        client = self._client
        if not self._link:
            return
        message = self._unsent or client.poll(now)
        if client.changed:
            client.changed = False
            self._take(client, now)
        if message is not None:
            if self._socket.port != DHCP_PORT:
                self._socket.rebind(DHCP_PORT)
            sent = self._socket.send(message[1], message[0], DHCP_SERVER_PORT)
            self._unsent = None if sent else message
        elif not client.waiting and self._socket.port != discovery.PORT:
            self._socket.rebind(discovery.PORT)

    def _take(self, client, now):
        if client.address is None:
            log.warning("DHCP lease lost")
            self._since = now
            self._apply(bytes(4), bytes(4), bytes(4))
            return
        self.leases += 1
        self.dns = client.dns or self.dns
        self.ntp = self.ntp or client.ntp
        self._apply(client.address, client.netmask, client.gateway)

    def _received(self, payload, address, port):
        if port == DHCP_SERVER_PORT and self._client is not None:
            now = self._net.uptime_s
            self._client.received(payload, now)
            self._converse(now)
            return
        for question in self._questions:
            if question.address == address and question.port == port:
                question.hear(payload)
                return
        self._responder.received(payload, address, port, ticks_ms())
        self._responding = _RESPOND_TICKS
        self._respond()

    # Discovery

    def _respond(self):
        self._responding -= 1
        responder = self._responder
        message = responder.poll(ticks_ms())
        if message is not None:
            address, port, payload = message
            self._socket.send(payload, address, port)
        if responder.applied:
            responder.applied = False
            self._configure()

    def _describe(self):
        """See discovery.Responder."""
        address, netmask, gateway, _ = self._net.chip.network()
        mode = discovery.STATIC
        if self.dynamic:
            mode = discovery.DHCP if self._client.address else discovery.FALLBACK
        services = self._net.services()
        name, board = self._settings["name"], self._settings["board"]
        return name, board, __version__, address, netmask, gateway, mode, self._net.uptime_s, services

    def _store(self, mode, address, netmask, gateway):
        """See discovery.Responder: the settings, and the file they come from."""
        network = self._settings["network"]
        network["mode"] = "dhcp" if mode == discovery.DHCP else "static"
        if mode == discovery.STATIC:
            values = ip_text(address), ip_text(netmask), ip_text(gateway)
            network["address"], network["netmask"], network["gateway"] = values
        try:
            from . import config  # not in memory since boot

            config.save(self._settings)
        except (ConfigError, OSError) as error:
            log.error("settings not stored: %s", error)
            return False
        return True

    # Questions to servers

    async def ask(self, message, address, port, understand, tries=_TRIES):
        """Send `message` to `address` until it is answered, `tries` times at most.

        `understand(payload)` gives the result, or None if that is no answer to this. Returns the result, None without.
        """
        question = _Question(address, port, understand)
        self._questions.append(question)
        try:
            for _ in range(tries):
                # While it is busy, ARP asks for a host that is not there: not for longer than an answer takes.
                self._socket.send(message, address, port)
                try:
                    await asyncio.wait_for(question.answered.wait(), ANSWER_S)
                    break
                except asyncio.TimeoutError:
                    pass
            return question.result
        finally:
            self._questions.remove(question)

    async def resolve(self, name):
        """The IPv4 address of a host, 4 bytes. Raises OSError: there is none, or no server answers."""
        from .wire import dns

        for server in self.dns:
            query = dns.query(name, int.from_bytes(entropy(2), "big"))
            if query is None:
                break

            def understand(payload, query=query):
                code, found = dns.parse(payload, query)
                return None if code == dns.NOT_OURS else (code, found)

            answer = await self.ask(query, server, dns.PORT, understand)
            if answer is not None:
                code, found = answer
                if code == dns.OK:
                    return found
                if code in (dns.NAME_ERROR, dns.NO_ADDRESS):
                    break
        else:
            raise OSError(110, "no name server answers")
        raise OSError(-2, "no host %s" % name)

    async def keep_time(self):
        """For ever: set the log's clock by a time server, if one is known."""
        while True:
            synchronized = False
            for server in self.ntp:
                from .wire import sntp

                token = entropy(8)
                start = ticks_ms()

                def understand(payload, token=token, start=start):
                    code, seconds, ms = sntp.parse(payload, token, ticks_diff(ticks_ms(), start))
                    return None if code == sntp.NOT_OURS else (code, seconds, ms)

                answer = await self.ask(sntp.request(token), server, sntp.PORT, understand, 1)
                if answer is not None and answer[0] == sntp.OK:
                    log.set_time(answer[1], answer[2])
                    synchronized = True
                    break
            await asyncio.sleep(SYNC_S if synchronized else RESYNC_S)


class _Question:
    """A datagram sent, and whose answer is waited for."""

    def __init__(self, address, port, understand):
        self.address = address
        self.port = port
        self.answered = asyncio.Event()
        self.result = None
        self._understand = understand

    def hear(self, payload):
        """A datagram came from there."""
        result = self._understand(payload)
        if result is not None:
            self.result = result
            self.answered.set()
