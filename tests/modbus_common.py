"""What the Modbus tests share: the bank that tests/vectors.py describes, and ways to put a request to it."""

import vectors as V
import vectors_functions as F
from hardwire.record_file import File
from hardwire.records import Plain
from hardwire.wire import modbus as M
from hardwire.wire import modbus_diagnostics as D
from hardwire.wire import modbus_records as X

TABLES = ("coils", "discrete_inputs", "holding_registers", "input_registers")
GUARD = b"\xa5" * 16  # around the room for a response: nobody may write there


def fresh_bank():
    bank = M.Bank(V.COILS, V.DISCRETE_INPUTS, V.HOLDING_REGISTERS, V.INPUT_REGISTERS)
    for address in V.COILS_ON:
        bank.coils[address] = True
    for address in V.DISCRETE_INPUTS_ON:
        bank.discrete_inputs[address] = True
    for address, value in V.HOLDING.items():
        bank.holding_registers[address] = value
    for address, value in V.INPUT.items():
        bank.input_registers[address] = value
    return bank


def content(bank):
    return tuple(bytes(getattr(bank, table).data) for table in TABLES)


def steps(requests, responses):
    return zip(
        [bytes.fromhex(part) for part in requests.split("|")],
        [bytes.fromhex(part) for part in responses.split("|")],
        strict=True,
    )


def adu(pdu, transaction=1, unit=0xFF):
    return transaction.to_bytes(2) + b"\0\0" + (len(pdu) + 1).to_bytes(2) + bytes([unit]) + pdu


def execute(bank, pdu, before=b"\x55" * 3, behind=b""):
    """One PDU through respond, surrounded by other bytes, with guards around the room for the response."""
    out = bytearray(GUARD + bytes(M.MAX_PDU) + GUARD)
    n = M.respond(
        memoryview(before + pdu + behind), len(before), len(pdu), bank, bank.functions, out, len(GUARD)
    )
    assert 2 <= n <= M.MAX_PDU
    assert out[: len(GUARD)] == GUARD and out[-len(GUARD) :] == GUARD
    return bytes(out[len(GUARD) : len(GUARD) + n])


class Recorder:
    """A transport and its peer, to the letter of the contract.

    Data is gone when data_received or write return; nothing may be written during a pause; nothing is
    delivered while reading is paused or after close.

    `room`: bytes the peer takes before writing pauses, until the next `feed` or `drain`; None: any number.
    """

    def __init__(self, server, room=None):
        self.room = self.free = room
        self.out = b""
        self.writes = 0
        self.closed = self.paused = self.ended = False
        self.reading = True
        self.protocol = server()
        self.protocol.connection_made(self)

    def write(self, data):
        assert len(data) and not self.closed and not self.paused
        self.out += data
        self.writes += 1
        if self.room is not None:
            self.free -= len(data)
            if self.free < 0:
                self.paused = True
                self.protocol.pause_writing()

    def feed(self, data):
        self.drain()
        if data and not self.closed:
            buffer = bytearray(data)
            with memoryview(buffer) as view:
                self.protocol.data_received(view)
            buffer[:] = b"\xee" * len(buffer)

    def end(self):
        """The peer sends no more."""
        if not self.closed and not self.protocol.eof_received():
            self.closed = True

    def drain(self):
        """The peer reads all there is."""
        while self.paused:
            self.paused = False
            self.free = self.room
            self.protocol.resume_writing()
        assert self.reading or self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_extra_info(self, name):
        return {"peername": ("192.0.2.1", 50000)}[name]


def functions_bank(folder):
    """The bank that tests/vectors_functions.py describes; its files are in `folder`."""
    bank = fresh_bank()
    D.install(bank)
    X.install(bank)
    bank.identity.update(F.IDENTITY)
    bank.server_id = F.SERVER_ID
    bank.exception_status = F.STATUS
    bank.diagnostic_register = F.REGISTER
    for number, (records, data) in F.FILES.items():
        bank.files[number] = File(f"{folder}/{number}", records)
        bank.files[number].write([(0, data)])
    bank.files[1] = Plain(f"{folder}/3")
    for address, values in F.FIFO.items():
        bank.fifos[address] = X.Fifo()
        for value in values:
            bank.fifos[address].put(value)
    return bank
