"""wire.modbus_diagnostics and wire.modbus_records: vectors, counters that count, files that are damaged or cut."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vectors_functions as F
from hardwire import records as R
from hardwire.record_file import File
from hardwire.wire import bank as B
from hardwire.wire import modbus as M
from hardwire.wire import modbus_records as X
from hardwire.wire.mbap import answer as answer_adus
from modbus_common import adu, content, execute, fresh_bank, functions_bank, steps


@pytest.mark.parametrize(("requests", "responses"), [pytest.param(*v[1:3], id=v[0]) for v in F.FUNCTIONS])
def test_function(tmp_path, requests, responses):
    bank = functions_bank(tmp_path)
    for request, response in steps(requests, responses):
        before = content(bank), files(tmp_path)
        assert execute(bank, request) == response
        if response[0] & 0x80:
            assert (content(bank), files(tmp_path)) == before


def files(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


# Counters


class Line:
    """Requests to `bank` in ADUs, as a connection brings them."""

    def __init__(self, bank):
        self.bank = bank
        bank.tally[B.ROOM] = 260

    def ask(self, request):
        data = adu(bytes.fromhex(request))
        out = bytearray(260)
        answer_adus(data, 0, len(data), self.bank, self.bank.functions, out)
        return out[7 : self.bank.tally[B.PRODUCED]].hex().upper()

    def counter(self, sub):
        answer = self.ask(f"08 {sub:04X} 0000")
        assert answer.startswith(f"08{sub:04X}")
        return int(answer[6:], 16)


def test_counters(tmp_path):
    line = Line(functions_bank(tmp_path))
    for request in ("03 0000 0001", "03 0000 0000", "06 0000 1234", "63"):
        line.ask(request)
    assert [line.counter(sub) for sub in (0x0B, 0x0E, 0x0D, 0x0C, 0x0F, 0x10, 0x11, 0x12)] == [
        5,
        6,
        2,
        0,
        0,
        0,
        0,
        0,
    ]
    line.bank.tally[B.FRAME_ERRORS] = 3
    line.bank.tally[B.DISCARDED] = 10
    assert line.counter(0x0C) == 3 and line.counter(0x0B) == 14 + 13
    line.bank.coils.before_write(lambda *_: M.SERVER_DEVICE_BUSY)
    line.bank.holding_registers.before_write(lambda *_: 7)
    for request in ("05 0000 FF00", "05 0000 FF00", "06 0000 1234"):
        line.ask(request)
    assert [line.counter(sub) for sub in (0x11, 0x10, 0x0D)] == [2, 1, 5]
    line.ask("08 000A 0000")
    assert [line.counter(sub) for sub in (0x0B, 0x0E, 0x0D, 0x0C, 0x11, 0x10)] == [1, 2, 0, 0, 0, 0]
    assert line.bank.tally[B.EXCEPTIONS] == 5, "the server's own count goes on"


def test_counters_wrap_at_16_bits(tmp_path):
    line = Line(functions_bank(tmp_path))
    line.bank.tally[B.EXCEPTIONS] = 0x1FFFF
    assert line.counter(0x0D) == 0xFFFF
    line.ask("63")
    assert line.counter(0x0D) == 0


def test_event_counter_counts_what_ended_well(tmp_path):
    """AP 6.9: not exceptions, not fetching it."""
    line = Line(functions_bank(tmp_path))
    for request in ("03 0000 0001", "63", "0B", "0B", "06 0000 0001"):
        line.ask(request)
    assert line.ask("0B") == "0B00000002"
    line.ask("08 0001 0000")
    assert line.ask("0B") == "0B00000000"


def test_event_log(tmp_path):
    """AP 6.10: newest first, a receive event, a send event with what was sent."""
    line = Line(functions_bank(tmp_path))
    line.ask("03 0000 0001")
    line.ask("63")
    assert line.ask("0C") == "0C0B0000000100038041804080"
    line.bank.coils.before_write(lambda *_: 4)
    line.ask("05 0000 FF00")
    line.ask("08 0001 FF00")
    assert line.ask("0C") == "0C090000000000018040" + "00"
    for _ in range(70):
        line.ask("03 0000 0001")
    log = line.ask("0C")
    assert log.startswith("0C46") and log[16:] == "80" + "4080" * 31 + "40"


def test_texts_may_be_functions(tmp_path):
    bank = functions_bank(tmp_path)
    errors = []
    bank.on_error = errors.append
    bank.identity[5] = lambda: b"now"
    bank.identity[6] = lambda: 1 // 0
    bank.identity[2] = b"z" * 300
    bank.exception_status = lambda: 0x181
    bank.diagnostic_register = lambda: 0x12345
    assert execute(bank, bytes.fromhex("2B 0E 04 05"))[-3:] == b"now"
    assert execute(bank, bytes.fromhex("2B 0E 04 06")).hex() == "2b0e0483000001" + "0600"
    assert len(execute(bank, bytes.fromhex("2B 0E 04 02"))) == M.MAX_PDU
    assert execute(bank, b"\7") == b"\7\x81"
    assert execute(bank, bytes.fromhex("08 0002 0000")).hex() == "0800022345"
    assert len(execute(bank, b"\x11")) <= M.MAX_PDU
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_a_bank_without_texts_has_the_mandatory_objects():
    bank = fresh_bank()
    from hardwire.wire import modbus_diagnostics

    modbus_diagnostics.install(bank)
    assert execute(bank, bytes.fromhex("2B 0E 01 00")).hex() == "2b0e0181000003" + "000001000200"


# Files


@pytest.fixture
def bank(tmp_path):
    return functions_bank(tmp_path)


def test_damage_is_found(tmp_path, bank):
    path = tmp_path / "4"
    whole = path.read_bytes()
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert execute(bank, bytes.fromhex("14 07 06 0004 0000 0001")).hex() == "9408"
        assert execute(bank, bytes.fromhex("15 09 06 0004 0007 0001 06AF")).hex() == "9508"
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        assert execute(bank, bytes.fromhex("14 07 06 0004 0000 0001")).hex() == "9408"
    path.write_bytes(whole)
    assert execute(bank, bytes.fromhex("14 07 06 0004 0000 0001")).hex() == "140403060dfe"


def test_a_file_grows_without_holes(tmp_path):
    bank = functions_bank(tmp_path)
    bank.files[9] = File(f"{tmp_path}/9", 10000)
    assert execute(bank, bytes.fromhex("14 07 06 0009 0000 0002")).hex() == "14060506" + "00000000"
    write = bytes.fromhex("15 0D 06 0009 270D 0003 1111 2222 3333")
    assert execute(bank, write) == write
    assert execute(bank, bytes.fromhex("14 07 06 0009 270C 0004")).hex() == "140a0906" + "0000111122223333"
    assert execute(bank, bytes.fromhex("14 07 06 0009 1000 0002")).hex() == "14060506" + "00000000"
    across = bytes.fromhex("15 0B 06 0009 003F 0002 AAAA BBBB")
    assert execute(bank, across) == across
    assert execute(bank, bytes.fromhex("14 07 06 0009 003E 0004")).hex() == "140a0906" + "0000aaaabbbb0000"


def test_flash_that_fails(bank, tmp_path):
    errors = []
    bank.on_error = errors.append
    bank.files[9] = File(f"{tmp_path}/nowhere/9", 10)
    assert execute(bank, bytes.fromhex("15 09 06 0009 0000 0001 06AF")).hex() == "9504"
    bank.files[9] = File(str(tmp_path), 10)
    assert execute(bank, bytes.fromhex("14 07 06 0009 0000 0001")).hex() == "9404"
    assert len(errors) == 2
    bank.files[9] = R.Plain(f"{tmp_path}/none")
    assert execute(bank, bytes.fromhex("14 07 06 0009 0000 0001")).hex() == "9402"


def test_any_file_can_be_read(bank, tmp_path):
    (tmp_path / "odd").write_bytes(b"12345")
    bank.files[9] = R.Plain(f"{tmp_path}/odd")
    assert execute(bank, bytes.fromhex("14 07 06 0009 0000 0003")).hex() == "14080706" + "313233343500"
    assert execute(bank, bytes.fromhex("14 07 06 0009 0002 0001")).hex() == "14040306" + "3500"
    assert execute(bank, bytes.fromhex("14 07 06 0009 0002 0002")).hex() == "9402"


def test_fifo():
    fifo = X.Fifo(3)
    for value in range(5):
        fifo.put(value)
    assert [fifo[i] for i in range(len(fifo))] == [2, 3, 4] and fifo.lost == 2
    assert (fifo.get(), fifo.get(), len(fifo)) == (2, 3, 1)
    fifo.clear()
    for wrong in (fifo.get, lambda: fifo[0]):
        with pytest.raises(IndexError):
            wrong()
    for value in (-1, 65536):
        with pytest.raises(ValueError, match="not in"):
            fifo.put(value)
    for depth in (0, 32):
        with pytest.raises(ValueError, match="1 to 31"):
            X.Fifo(depth)


def test_longest_answer_of_a_fifo(bank):
    bank.fifos[1] = X.Fifo()
    for value in range(40):
        bank.fifos[1].put(value)
    assert execute(bank, bytes.fromhex("18 0001")).hex() == "180040001f" + "".join(
        f"{n:04x}" for n in range(9, 40)
    )


CODES = st.sampled_from((7, 8, 0x0B, 0x0C, 0x11, 0x14, 0x15, 0x18, 0x2B))
SMALL = st.sampled_from((0, 1, 3, 4, 6, 7, 9, 0x0E, 0x64, 0xFF))


@given(CODES, st.lists(SMALL | st.integers(0, 255), max_size=252))
def test_any_request(tmp_path_factory, code, rest):
    folder = tmp_path_factory.mktemp("any")
    bank = functions_bank(folder)
    before = content(bank)
    response = execute(bank, bytes([code, *rest]))
    assert response[0] in (code, code | 0x80)
    assert content(bank) == before
    if response[0] & 0x80:
        assert len(response) == 2 and response[1] in (1, 2, 3, 8)
