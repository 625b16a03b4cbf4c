"""tests/conformance.py against servers on sockets: in process, on the emulated board, or behind --target HOST[:PORT].

With --target nothing is written unless --target-write says where four registers may be.
"""

import asyncio
import re
import socket
import threading

import pytest

from conformance import PDUS, STREAMS, WRITES
from hardwire.services.modbus import ModbusServer
from hardwire.wire.modbus import Bank

MODBUS = 502
ANSWER_S = 30  # a busy PC runs the emulated board slowly
SILENCE_S = 0.3  # nothing more may come after what a test expects
DEFAULT_REGISTERS = 100  # of the app
MANY = 20  # transactions at once


class Server:
    """A server's address, what it holds, and connections to it. `ready()` waits until it can take one more."""

    def __init__(self, address, writable, ready=lambda: None):
        self.address = address
        self.ready = ready
        self.places = {"h": "0000"}
        if writable is not None:
            self.places["r"] = f"{writable:04X}"
        self.places["end"] = f"{self._end():04X}"

    def connect(self):
        self.ready()
        connection = socket.create_connection(self.address, ANSWER_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, pdu, connection=None):
        """The response PDU, or None if the connection was closed. Its header is checked."""
        if connection is None:
            with self.connect() as connection:
                return self.ask(pdu, connection)
        connection.sendall(b"\x12\x34\0\0" + (len(pdu) + 1).to_bytes(2) + b"\xff" + pdu)
        header = take(connection, 7)
        if not header:
            return None
        assert header[:4] == b"\x12\x34\0\0" and header[6] == 0xFF, header.hex()
        length = int.from_bytes(header[4:6])
        assert 2 <= length <= 254
        return take(connection, length - 1)

    def _end(self):
        """First address behind the holding registers from 0 on."""
        with self.connect() as connection:
            if self.ask(bytes.fromhex("03 0000 0001"), connection)[0] & 0x80:
                pytest.skip("the target has no holding register 0")
            low, high = 0, 0x10000
            while high - low > 1:
                middle = (low + high) // 2
                answer = self.ask(b"\3" + middle.to_bytes(2) + b"\0\1", connection)
                low, high = (low, middle) if answer[0] & 0x80 else (middle, high)
            return high & 0xFFFF

    def fill(self, text):
        """The bytes of `text`, pattern signs kept; a test whose place the server has not is skipped."""
        for name in re.findall(r"{(\w+)}", text):
            if name not in self.places:
                pytest.skip("the target may not be written (--target-write)")
        return text.format(**self.places).replace(" ", "")


def take(connection, n):
    """n bytes, or what came before the end."""
    data = b""
    while len(data) < n:
        try:
            part = connection.recv(n - len(data))
        except ConnectionResetError:
            break
        if not part:
            break
        data += part
    return data


def allowed(server, answer, expected):
    """Whether `answer`, bytes or None for a closed connection, is one of those `expected` allows."""
    if answer is None:
        return "closed" in expected
    options = [server.fill(option) for option in expected.split(" or ") if option != "closed"]
    patterns = [option.replace("?", "[0-9A-F]").replace("*", "([0-9A-F]{2})*") for option in options]
    return any(re.fullmatch(pattern, answer.hex().upper()) for pattern in patterns)


@pytest.fixture(scope="session")
def in_process():
    """ModbusServer on a socket of this PC."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    bank = Bank(coils=16, discrete_inputs=16, holding_registers=DEFAULT_REGISTERS, input_registers=16)

    async def listen():
        return await loop.create_server(ModbusServer(bank), "127.0.0.1", 0)

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    yield Server(listener.sockets[0].getsockname(), 0)
    loop.call_soon_threadsafe(listener.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def emulated(firmware):
    def listening():
        return "LISTEN" in [socket["state"] for socket in firmware.board.status()["sockets"]]

    def ready():
        # The chip has no backlog: while the sockets of the tests before are closing, it refuses.
        assert firmware.run_until(listening, 10)

    return Server(("127.0.0.1", firmware.forward(MODBUS)), 0, ready)


@pytest.fixture(scope="session")
def server(request):
    target = request.config.getoption("--target")
    if target is None:
        return request.getfixturevalue(request.param)
    host, _, port = target.partition(":")
    return Server((host, int(port or MODBUS)), request.config.getoption("--target-write"))


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames:
        target = metafunc.config.getoption("--target")
        metafunc.parametrize("server", [target] if target else ["in_process", "emulated"], indirect=True)


def cases(table):
    return pytest.mark.parametrize(
        ("sent", "expected", "reason"), [pytest.param(*c[1:], id=c[0]) for c in table]
    )


@cases(PDUS)
def test_pdu(server, sent, expected, reason):
    answer = server.ask(bytes.fromhex(server.fill(sent)))
    assert allowed(server, answer, expected), (answer and answer.hex(" "), expected, reason)


@cases(WRITES)
def test_writes(server, sent, expected, reason):
    requests = [bytes.fromhex(server.fill(step)) for step in sent.split("|")]
    with server.connect() as connection:
        for request, option in zip(requests, expected.split(" | "), strict=True):
            answer = server.ask(request, connection)
            assert allowed(server, answer, option), (answer and answer.hex(" "), option, reason)


@cases(STREAMS)
def test_stream(server, sent, expected, reason):
    with server.connect() as connection:
        connection.sendall(bytes.fromhex(server.fill(sent)))
        answer = b""
        longest = max(len(server.fill(option)) // 2 for option in expected.split(" or "))
        if expected != "closed":
            answer = take(connection, longest)
        connection.settimeout(ANSWER_S if "closed" in expected else SILENCE_S)
        try:
            closed = not take(connection, 1)
        except TimeoutError:
            closed = False
    if closed and not answer:
        answer = None
    assert allowed(server, answer, expected), (answer and answer.hex(" "), expected, reason)


def test_a_request_byte_by_byte(server):
    request = bytes.fromhex("0001 0000 0006 FF 03 0000 0001")
    with server.connect() as connection:
        for at in range(len(request)):
            connection.sendall(request[at : at + 1])
        assert len(take(connection, 11)) == 11


def test_half_a_request_delays_nobody_else(server):
    with server.connect() as slow, server.connect() as other:
        slow.sendall(bytes.fromhex("0001 0000 0006 FF 03"))
        assert server.ask(bytes.fromhex("03 0000 0001"), other)[0] == 3
        slow.sendall(bytes.fromhex("0000 0001"))
        assert len(take(slow, 11)) == 11


def test_many_transactions_are_answered_in_order_or_refused_as_busy(server):
    request = bytes.fromhex("0000 0006 FF 03 0000 0001")
    with server.connect() as connection:
        connection.sendall(b"".join(n.to_bytes(2) + request for n in range(MANY)))
        for n in range(MANY):
            header = take(connection, 7)
            assert header[:4] == n.to_bytes(2) + b"\0\0"
            pdu = take(connection, int.from_bytes(header[4:6]) - 1)
            assert pdu[0] == 3 or pdu == b"\x83\6"


def test_who_has_said_all_gets_its_answer(server):
    with server.connect() as connection:
        connection.sendall(bytes.fromhex("0001 0000 0006 FF 03 0000 0001"))
        connection.shutdown(socket.SHUT_WR)
        assert len(take(connection, 12)) == 11
