"""The complete firmware on the emulated board, polled from outside: raw sockets of this PC, and pymodbus's client."""

import contextlib
import socket
import subprocess
import sys
import threading

import pytest
from pymodbus.client import ModbusTcpClient

from hardwire_host.virtual import regs as R

MODBUS = 502
WAIT_S = 120  # wall time for one answer; an exchange takes 30 ms of it, a PC under load much more
CONNECTIONS = 5  # default of the service


@pytest.fixture(scope="module")
def forwarded(firmware):
    return firmware.forward(MODBUS)


@pytest.fixture
def port(firmware, forwarded):
    """The forwarded port, once the connections of the test before are gone: a board has few, and may refuse."""
    assert firmware.run_until(lambda: in_use(firmware) == 0, 20)
    return forwarded


def in_use(firmware):
    """Connections on the chip. Cheap, and may be called from any thread."""
    return sum(socket["state"] not in ("LISTEN", "CLOSED", "UDP") for socket in firmware.board.chip.sockets())


class Client:
    """A Modbus client made of a plain socket."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def take(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def answer(self):
        """(transaction, unit, PDU) of the next response."""
        header = self.take(7)
        assert header[2:4] == b"\0\0"
        return int.from_bytes(header[:2], "big"), header[6], self.take(int.from_bytes(header[4:6], "big") - 1)

    def ask(self, pdu, transaction=1, unit=1):
        self.send(adu(pdu, transaction, unit))
        found = self.answer()
        assert found[:2] == (transaction, unit)
        return found[2]


def adu(pdu, transaction=1, unit=1):
    return transaction.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu


def test_read_write_read(port):
    values = bytes(range(200))
    with Client(port) as client:
        assert client.ask(b"\x10\0\0\0\x64\xc8" + values) == b"\x10\0\0\0\x64"
        assert client.ask(b"\x03\0\0\0\x64") == b"\x03\xc8" + values
        assert client.ask(b"\x03\0\x63\0\x02") == b"\x83\x02"
        assert client.ask(b"\x63") == b"\xe3\x01"
        assert client.ask(b"\x03\0\0\0\x7e") == b"\x83\x03"


def test_coil_0_is_the_led(port, firmware):
    with Client(port) as client:
        assert client.ask(b"\x05\0\0\xff\0") == b"\x05\0\0\xff\0"
        assert firmware.status()["led"] is True
        assert client.ask(b"\x01\0\0\0\x01") == b"\x01\x01\x01"
        assert client.ask(b"\x05\0\0\0\0") == b"\x05\0\0\0\0"
        assert firmware.status()["led"] is False


def test_five_requests_in_one_segment_are_answered_in_order(port):
    with Client(port) as client:
        client.send(b"".join(adu(b"\x03\0\0\0" + bytes((n,)), transaction=n) for n in range(1, 6)))
        for n in range(1, 6):
            transaction, _, pdu = client.answer()
            assert (transaction, pdu[1], len(pdu)) == (n, 2 * n, 2 + 2 * n)


def test_a_request_byte_by_byte(port):
    with Client(port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in adu(b"\x03\0\0\0\x01"):
            client.send(bytes((byte,)))
        assert len(client.answer()[2]) == 4


def test_more_requests_at_once_than_the_chip_can_hold_answers(port):
    count = 150  # 1,800 bytes in, 38 KB out; the chip's memory has 2 KB for each direction
    with Client(port) as client:
        sender = threading.Thread(
            target=client.send, args=(b"".join(adu(b"\x03\0\0\0\x64", n) for n in range(count)),)
        )
        sender.start()
        for n in range(count):
            transaction, _, pdu = client.answer()
            assert (transaction, len(pdu)) == (n, 202)
        sender.join()


def test_half_closing_client_gets_its_answer(port):
    with Client(port) as client:
        client.send(adu(b"\x03\0\0\0\x01"))
        client.socket.shutdown(socket.SHUT_WR)
        assert len(client.answer()[2]) == 4
        assert client.socket.recv(1) == b""


def test_what_cannot_be_cut_into_requests_is_closed_and_others_live(port):
    with Client(port) as other, Client(port) as broken:
        assert other.ask(b"\x03\0\0\0\x01")
        broken.send(b"\0\1\0\0\xff\xff\1\3\0\0\0\1")
        with contextlib.suppress(ConnectionResetError):
            assert broken.socket.recv(1) == b""
        assert other.ask(b"\x03\0\0\0\x01")


def test_another_protocol_is_skipped(port):
    with Client(port) as client:
        client.send(b"\0\1\0\x07\0\6\1\3\0\0\0\1" + adu(b"\x03\0\0\0\x01", transaction=9))
        assert client.answer()[0] == 9


def test_five_clients_poll_at_once_and_a_sixth_is_refused(port, firmware):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(port)) for _ in range(CONNECTIONS)]
        for client in clients:
            assert client.ask(b"\x03\0\0\0\x01")
        assert in_use(firmware) == CONNECTIONS
        with contextlib.suppress(ConnectionError), Client(port) as sixth:
            sixth.send(adu(b"\x03\0\0\0\x01"))
            assert sixth.socket.recv(1) == b""
        failed = []

        def poll(number, client):
            answers = [client.ask(b"\x06\0" + bytes((number, 0, n)), n, number) for n in range(10)]
            failed.extend(n for n in range(10) if answers[n][4] != n)

        threads = [threading.Thread(target=poll, args=item) for item in enumerate(clients, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed


def test_pymodbus(port):
    with ModbusTcpClient("127.0.0.1", port=port, timeout=WAIT_S, retries=0) as client:
        assert client.write_registers(10, [1, 65535, 3], device_id=1).isError() is False
        assert client.read_holding_registers(10, count=3, device_id=1).registers == [1, 65535, 3]
        assert client.write_coils(3, [True, False, True], device_id=7).isError() is False
        assert client.read_coils(3, count=3, device_id=7).bits[:3] == [True, False, True]
        assert client.mask_write_register(address=10, and_mask=0xF2, or_mask=0x25).isError() is False
        assert client.read_holding_registers(10, count=1).registers == [1 & 0xF2 | 0x25 & ~0xF2]
        exchanged = client.readwrite_registers(
            read_address=10, read_count=2, write_address=11, values=[7, 8], device_id=1
        )
        assert exchanged.registers[1] == 7
        assert client.read_discrete_inputs(0, count=1).bits[0] is True
        inputs = client.read_input_registers(0, count=16).registers
        assert inputs[3] == 1 and inputs[4] >= 1 and inputs[10] == R.VERSION and 60 < inputs[2] < 250
        refused = client.read_input_registers(16, count=1)
        assert refused.isError() and refused.exception_code == 2


def test_the_driver_makes_no_mistake_the_chip_model_knows(port, firmware):
    with Client(port) as client:
        assert client.ask(b"\x03\0\0\0\x01")
    status = firmware.status()
    # the library probes for other chips of the family before it finds this one
    assert set(status["guest_errors"]) <= {"reserved block", "write above the register block"}
    assert status["unimplemented"] == {}


def test_interrupted_by_mpremote_and_started_again(boot):
    from hardwire_host.bundle import build_filesystem

    live = boot(filesystem=build_filesystem("w5500_evb_pico"))
    live.call(live.board.wait_listening([MODBUS], 20))
    port = live.forward(MODBUS)
    with Client(port) as client:
        assert client.ask(b"\x03\0\0\0\x01")
        mpremote = (sys.executable, "-m", "mpremote", "connect", live.repl)
        shown = subprocess.run(
            [*mpremote, "exec", "import os; print(os.listdir())"],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
        assert "main.py" in shown.stdout
        assert client.socket.recv(1) == b""  # the app has closed its connections on the way out
    subprocess.run([*mpremote, "reset"], capture_output=True, timeout=WAIT_S, check=True)
    live.call(live.board.wait_listening([MODBUS], 20))
    with Client(port) as client:
        assert client.ask(b"\x03\0\0\0\x01")
