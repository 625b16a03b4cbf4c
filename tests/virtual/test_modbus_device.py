"""The Modbus core in an RP2040's machine code: the answers it gives on CPython, no heap in steady state."""

import binascii
import inspect
from pathlib import Path

import pytest

import hardwire
import vectors as V
from hardwire.wire import modbus as M
from hardwire_host.bundle import compile_source, pack
from modbus_common import fresh_bank

BOARD = "w5500_evb_pico"
ARCH = "armv6m"
FILES = (
    *("__init__.py", "compat.py", "addresses.py", "log.py", "services/__init__.py", "services/modbus.py"),
    *("wire/__init__.py", "wire/bank.py", "wire/mbap.py", "wire/modbus.py"),
)
FUNCTIONS = bytes((1, 2, 3, 4, 5, 6, 0x0F, 0x10, 0x16, 0x17, 7, 0, 0x83))
SIZE = 150  # addresses in each table for random requests, which mostly fit
ROUNDS = 500  # random requests


# These two run on both sides.


def random_pdu(state, pdu):
    """A nearly right request from a linear congruential generator; returns its length and the next state."""

    def draw(limit):
        nonlocal state
        state = (state * 1103 + 12345) & 0xFFFFF
        return (state >> 4) % limit

    for at in range(11):
        pdu[at] = 0
    function = pdu[0] = FUNCTIONS[draw(len(FUNCTIONS))]
    pdu[2] = draw(SIZE)
    n = 5
    if function in (5, 6):
        pdu[3] = 0xFF * draw(2)
        pdu[4] = draw(256) if function == 6 or draw(8) == 0 else 0
    elif function == 0x16:
        for at in range(3, 7):
            pdu[at] = draw(256)
        n = 7
    else:
        count = pdu[4] = draw(SIZE - pdu[2] + 2)
        n = 6
        if function == 0x17:
            pdu[6] = draw(SIZE)
            count = pdu[8] = draw(min(SIZE - pdu[6] + 2, 123))
            n = 10
        if function in (0x0F, 0x10, 0x17):
            size = min((count + 7) // 8 if function == 0x0F else count * 2, 243)
            pdu[n - 1] = size
            for at in range(n, n + size):
                pdu[at] = draw(256)
            n += size
        else:
            n = 5
    if draw(16) == 0:
        n += draw(3) - 1
    return n, state


def digest(crc32):
    """Of all the answers to random requests, and of the bank after them."""
    bank = M.Bank(SIZE, SIZE, ((0, SIZE - 20), (SIZE - 10, 10)), SIZE)
    pdu = bytearray(253)
    out = bytearray(253)
    value = 0
    state = 1
    for _ in range(ROUNDS):
        n, state = random_pdu(state, pdu)
        value = crc32(out[: M.respond(pdu, 0, n, bank, bank.functions, out, 0)], value)
    return [crc32(table.data, value) for table in (bank.coils, bank.holding_registers)]


RANDOM = f"""
import binascii
from hardwire.wire import modbus as M
FUNCTIONS, SIZE, ROUNDS = {FUNCTIONS}, {SIZE}, {ROUNDS}
{inspect.getsource(random_pdu)}
{inspect.getsource(digest)}
print(digest(binascii.crc32))
"""

VECTORS = f"""
import vectors as V
from hardwire.wire import modbus as M

{inspect.getsource(fresh_bank)}

def unhex(text):
    return bytes.fromhex(text.replace(" ", ""))


out = bytearray(253)
wrong = []
for name, requests, responses, _ in V.PDUS:
    bank = fresh_bank()
    for request, response in zip(requests.split("|"), responses.split("|")):
        request = unhex(request)
        if out[: M.respond(request, 0, len(request), bank, bank.functions, out, 0)] != unhex(response):
            wrong.append(name)
"""

SERVER = """
from hardwire.services.modbus import ModbusServer


class Transport:
    def __init__(self):
        self.out = bytearray(4096)
        self.n = 0
        self.closed = False

    def write(self, data):
        for byte in data:
            self.out[self.n] = byte
            self.n += 1

    def close(self):
        self.closed = True

    def get_extra_info(self, name):
        return "192.0.2.1", 50000


def connected():
    protocol = ModbusServer(fresh_bank())()
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


for table, closed in ((V.FRAMES, False), (V.BROKEN, True)):
    for name, stream, responses, _ in table:
        stream = unhex(stream)
        for size in (1, 5, 300):
            protocol, transport = connected()
            for at in range(0, len(stream), size):
                if not transport.closed:
                    protocol.data_received(memoryview(stream)[at : at + size])
            if transport.out[: transport.n] != unhex(responses) or transport.closed != closed:
                wrong.append(name)
"""

HEAP = """
import gc


class Sink(Transport):
    @micropython.native
    def write(self, data):
        pass


protocol = ModbusServer(fresh_bank())()
protocol.connection_made(Sink())
requests = [memoryview(unhex(text)) for text in (
    "0001 0000 0006 FF 03 0000 0001",
    "0001 0000 0006 FF 03 0000 007D",
    "0001 0000 0006 FF 01 0003 07D0",
    "0001 0000 0006 FF 01 0003 0700",
    "0001 0000 0006 FF 05 0003 FF00",
    "0001 0000 0006 FF 06 0003 1234",
    "0001 0000 00FD FF 0F 0001 07B0 F6" + "55" * 246,
    "0001 0000 00CF FF 10 0001 0064 C8" + "55" * 200,
    "0001 0000 0008 FF 16 0003 0001 0002",
    "0001 0000 000D FF 17 0000 007D 0003 0001 02 5555",
    "0001 0000 0002 FF 07",
    "0001 0001 0002 FF 07",
    "0001 0000 0006 FF 03 0000 0001" * 20,
    "0001 0000 0006 FF", "03 0000 0001",
)]


def heap(rounds):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(rounds):
        for request in requests:
            protocol.data_received(request)
    used = gc.mem_alloc() - before
    gc.enable()
    return used


heap(1)
"""


@pytest.fixture(scope="module")
def device(boot):
    root = Path(hardwire.__file__).parent
    content = {
        f"hardwire/{name[:-3]}.mpy": compile_source(name, (root / name).read_bytes(), ARCH) for name in FILES
    }
    content["vectors.mpy"] = compile_source("vectors.py", Path(V.__file__).read_bytes(), ARCH)
    return boot(filesystem=pack(BOARD, content), pace=False)


def test_random_requests(device):
    assert device.exec(RANDOM).strip() == str(digest(binascii.crc32))


def test_vectors(device):
    assert device.exec(VECTORS + SERVER + "print(wrong, len(V.PDUS))").strip() == f"[] {len(V.PDUS)}"


def test_no_heap_in_steady_state(device):
    assert device.exec(VECTORS + SERVER + HEAP + "print(heap(1), heap(5))").strip() == "0 0"
