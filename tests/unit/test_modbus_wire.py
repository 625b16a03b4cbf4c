"""wire.modbus against the vectors, hooks that refuse, and applications that err."""

from array import array

import pytest

import vectors as V
from hardwire.wire import bank as B
from hardwire.wire import modbus as M
from modbus_common import TABLES, adu, content, execute, fresh_bank, steps

GUARD = b"\xa5" * 16  # behind the room for responses: nobody may write there


def answer(bank, data, at=0, room=1024):
    """(responses, position, tally) of one call."""
    tally = array("I", bytes(4 * M.TALLY))
    tally[M.ROOM] = room
    out = bytearray(room) + GUARD
    at = M.answer(memoryview(data), at, len(data), bank, out, tally)
    assert out[room:] == GUARD
    return bytes(out[: tally[M.PRODUCED]]), at, tally


def named(table):
    return pytest.mark.parametrize(("requests", "responses"), [pytest.param(*v[1:3], id=v[0]) for v in table])


def test_names_are_unique():
    names = [v[0] for v in V.PDUS + V.FRAMES + V.BROKEN]
    assert len(names) == len(set(names))


@named(V.PDUS)
def test_pdu(requests, responses):
    bank = fresh_bank()
    for request, response in steps(requests, responses):
        before = content(bank)
        assert execute(bank, request) == response
        if response[0] & 0x80:
            assert content(bank) == before


@named(V.PDUS)
def test_pdu_does_not_look_at_what_lies_behind(requests, responses):
    for behind in (bytes(260), b"\xff" * 260):
        bank = fresh_bank()
        for request, response in steps(requests, responses):
            assert execute(bank, request, behind=behind) == response


@named(V.PDUS)
def test_pdu_framed_all_in_one_segment(requests, responses):
    pairs = list(steps(requests, responses))
    stream = b"".join(adu(request, n) for n, (request, _) in enumerate(pairs))
    expected = b"".join(adu(response, n) for n, (_, response) in enumerate(pairs))
    refused = sum(response[0] >> 7 for _, response in pairs)
    out, at, tally = answer(fresh_bank(), stream)
    assert (out, at) == (expected, len(stream))
    assert (tally[M.REQUESTS], tally[M.EXCEPTIONS], tally[M.DISCARDED]) == (len(pairs), refused, 0)


@named(V.FRAMES)
def test_frames_whole_and_with_a_beginning_behind(requests, responses):
    stream, expected = bytes.fromhex(requests), bytes.fromhex(responses)
    for behind in (b"", b"\0", bytes.fromhex("0009 0000 0006 FF 03 0000 00")):
        out, at, _ = answer(fresh_bank(), stream + behind)
        assert (out, at) == (expected, len(stream))


@named(V.FRAMES)
def test_frames_byte_by_byte(requests, responses):
    stream = bytes.fromhex(requests)
    bank = fresh_bank()
    at = 0
    out = b""
    for n in range(1, len(stream) + 1):
        part, at, _ = answer(bank, stream[:n], at)
        out += part
    assert (out, at) == (bytes.fromhex(responses), len(stream))


@named(V.BROKEN)
def test_broken_streams(requests, responses):
    stream = bytes.fromhex(requests)
    bank = fresh_bank()
    out, at, _ = answer(bank, stream) if responses else (b"", 0, None)
    assert out == bytes.fromhex(responses)
    for n in range(at, at + 6):
        assert answer(bank, stream[:n], at)[:2] == (b"", at)
    for n in range(at + 6, len(stream) + 1):
        with pytest.raises(M.FrameError):
            answer(bank, stream[:n], at)


def test_answer_stops_where_the_next_response_might_not_fit():
    stream = adu(bytes.fromhex("03 0000 007D"), 7) * 5
    bank = fresh_bank()
    for room in (260, 300, 518, 519, 520, 1024):
        out, at, _ = answer(bank, stream, 0, room)
        assert at == 12 * ((room - 260) // 259 + 1)
        assert len(out) == 259 * (at // 12)


def test_counts_wrap_before_they_need_the_heap():
    bank = fresh_bank()
    tally = array("I", [0, 0x3FFFFFFF, 0x3FFFFFFE, 0x3FFFFFFF, 260])
    out = bytearray(260)
    skipped = bytes.fromhex("0001 0001 0002 FF 07")
    M.answer(skipped, 0, len(skipped), bank, out, tally)
    M.answer(adu(b"\x07"), 0, 8, bank, out, tally)
    assert list(tally) == [9, 0, 0x3FFFFFFF, 0, 260]


# Hooks

WRITES = (
    ("05 0014 FF00", "coils", 0x14, 1),
    ("0F 0013 0013 03 FFFFFF", "coils", 0x13, 19),
    ("0F 0008 0080 10" + "FF" * 16, "coils", 8, 128),
    ("0F 001F 07B0 F6" + "81" * 246, "coils", 31, 1968),
    ("06 FFFF 1234", "holding_registers", 65535, 1),
    ("10 03E9 0003 06 1111 2222 3333", "holding_registers", 1001, 3),
    ("10 0000 007B F6" + "1234" * 123, "holding_registers", 0, 123),
    ("16 0004 00F2 0025", "holding_registers", 4, 1),
    ("17 0000 0001 0003 0002 04 1111 2222", "holding_registers", 3, 2),
)
READS = (
    ("01 0013 0013", "coils", 0x13, 19),
    ("02 00C4 0016", "discrete_inputs", 0xC4, 22),
    ("03 03E8 000A", "holding_registers", 1000, 10),
    ("04 0008 0001", "input_registers", 8, 1),
    ("16 0004 00F2 0025", "holding_registers", 4, 1),
    ("17 0003 0006 000E 0001 02 00FF", "holding_registers", 3, 6),
)


def refusing(hook, kind, code):
    """A bank whose tables all have this hook; `calls` gets its arguments."""
    bank = fresh_bank()
    calls = []

    def called(table, address, count):
        calls.append((table, address, count))
        if isinstance(code, Exception):
            raise code
        return code

    for table in TABLES:
        setattr(getattr(bank, table), hook, called)
    return bank, calls


@pytest.mark.parametrize(("hook", "cases"), [("on_read", READS), ("on_write", WRITES)])
@pytest.mark.parametrize("code", [None, 0, 2, 4, 6, 0x80])
def test_hook_is_asked_once_and_may_refuse(hook, cases, code):
    for request, table, address, count in cases:
        bank, calls = refusing(hook, table, code)
        plain = fresh_bank()
        request = bytes.fromhex(request)
        response = execute(bank, request)
        assert calls == [(getattr(bank, table), address, count)]
        if code:
            assert response == bytes([request[0] | 0x80, code])
            if hook == "on_write" or request[0] != 0x17:  # 17 has written when it reads
                assert content(bank) == content(plain)
        else:
            assert response == execute(plain, request)
            assert content(bank) == content(plain)


def test_acknowledge_keeps_what_was_written():
    for request, _, _, _ in WRITES:
        bank, _ = refusing("on_write", None, M.ACKNOWLEDGE)
        plain = fresh_bank()
        request = bytes.fromhex(request)
        execute(plain, request)
        assert execute(bank, request) == bytes([request[0] | 0x80, 5])
        assert content(bank) == content(plain)


@pytest.mark.parametrize("code", [ValueError("hook"), 256, -1, "no"])
def test_hook_with_a_bug_is_device_failure(code):
    for hook, cases in (("on_read", READS), ("on_write", WRITES)):
        for request, _, _, _ in cases:
            errors = []
            bank, _ = refusing(hook, None, code)
            bank.on_error = errors.append
            request = bytes.fromhex(request)
            assert execute(bank, request) == bytes([request[0] | 0x80, 4])
            assert [type(error) for error in errors] == [TypeError if code == "no" else ValueError]
            if hook == "on_write":
                assert content(bank) == content(fresh_bank())


@pytest.mark.parametrize("hook", ["on_read", "on_write"])
def test_hook_is_not_asked_about_refused_requests(hook):
    for name, requests, responses, _ in V.PDUS:
        request, response = next(steps(requests, responses))
        if response[0] & 0x80:
            bank, calls = refusing(hook, None, 4)
            assert execute(bank, request) == response, name
            assert calls == [], name


def test_values_computed_on_read():
    bank = fresh_bank()

    def refresh(table, address, count):
        for i in range(address, address + count):
            table[i] = 100 + i

    bank.input_registers.on_read = refresh
    assert execute(bank, bytes.fromhex("04 0002 0003")).hex() == "0406006600670068"


def test_on_write_sees_the_new_values():
    bank = fresh_bank()
    seen = []
    bank.coils.on_write = lambda table, address, count: seen.append(
        [table[address + i] for i in range(count)]
    )
    execute(bank, bytes.fromhex("0F 0006 0004 01 09"))
    assert seen == [[True, False, False, True]]


def test_own_function_code(monkeypatch):
    def echo(request, at, n, bank, response, to):
        if n == 1:
            return -M.ILLEGAL_DATA_VALUE
        response[to : to + n] = request[at : at + n]
        return n

    monkeypatch.setattr(M, "FUNCTIONS", M.FUNCTIONS[:])
    M.FUNCTIONS[0x41] = echo
    assert execute(fresh_bank(), b"\x41abc") == b"\x41abc"
    assert execute(fresh_bank(), b"\x41") == b"\xc1\x03"


# The bank as the application sees it


def test_typed_access():
    bank = fresh_bank()
    bank.holding_registers[65535] = 0xBEEF
    bank.coils[1999] = 1
    bank.coils[1998] = 0
    assert (bank.holding_registers[65535], bank.holding_registers[65534]) == (0xBEEF, 0)
    assert (bank.coils[1999], bank.coils[1998]) == (True, False)
    assert [len(getattr(bank, table)) for table in TABLES] == [2000, 2000, 212, 125]


@pytest.mark.parametrize("address", [-1, 200, 999, 1010, 65533, 65536, 1 << 40])
def test_typed_access_outside(address):
    bank = fresh_bank()
    for table in (bank.holding_registers, B.Bits(V.HOLDING_REGISTERS)):
        with pytest.raises(IndexError):
            table[address]
        with pytest.raises(IndexError):
            table[address] = 1


@pytest.mark.parametrize("value", [-1, 65536])
def test_register_values_that_do_not_fit(value):
    with pytest.raises(ValueError, match=str(value)):
        fresh_bank().holding_registers[0] = value


@pytest.mark.parametrize(
    "ranges", [-1, 65537, ((0, 0),), ((-1, 5),), ((65535, 2),), ((0, 10), (9, 1)), ((5, 5), (0, 6))]
)
def test_impossible_ranges(ranges):
    for table in (B.Bits, B.Registers):
        with pytest.raises(ValueError, match="range"):
            table(ranges)


def test_adjoining_ranges_are_one():
    bank = M.Bank(holding_registers=((10, 5), (0, 10)), coils=((8, 8), (0, 8)))
    assert execute(bank, bytes.fromhex("10 0000 000F 1E") + bytes(range(30)))[0] == 0x10
    assert execute(bank, bytes.fromhex("03 0009 0002")).hex() == "030412131415"
    assert execute(bank, bytes.fromhex("01 0000 0010"))[0] == 0x01
    assert execute(bank, bytes.fromhex("03 000E 0002")) == b"\x83\2"


def test_empty_tables():
    bank = M.Bank()
    for request in (
        "01 0000 0001",
        "02 0000 0001",
        "03 0000 0001",
        "04 0000 0001",
        "05 0000 FF00",
        "06 0000 0000",
    ):
        request = bytes.fromhex(request)
        assert execute(bank, request) == bytes([request[0] | 0x80, 2])
