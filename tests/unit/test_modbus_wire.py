"""wire.modbus against the vectors, hooks that refuse, and applications that err."""

from array import array

import pytest

import vectors as V
from hardwire.wire import bank as B
from hardwire.wire import mbap
from hardwire.wire import modbus as M
from hardwire.wire.mbap import FrameError
from hardwire.wire.mbap import answer as answer_adus
from modbus_common import TABLES, adu, content, execute, fresh_bank, steps

GUARD = b"\xa5" * 16  # behind the room for responses: nobody may write there


def answer(bank, data, at=0, room=1024):
    """(responses, position, tally) of one call."""
    bank.tally[B.ROOM] = room
    out = bytearray(room) + GUARD
    at = answer_adus(memoryview(data), at, len(data), bank, bank.functions, out)
    assert out[room:] == GUARD
    return bytes(out[: bank.tally[B.PRODUCED]]), at, bank.tally


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
    assert (tally[B.REQUESTS], tally[B.EXCEPTIONS], tally[B.DISCARDED]) == (len(pairs), refused, 0)


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
        with pytest.raises(FrameError):
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
    for count in (B.REQUESTS, B.EXCEPTIONS, B.DISCARDED, B.LOGGED):
        bank.tally[count] = B.WRAP
    _, _, tally = answer(bank, bytes.fromhex("0001 0001 0002 FF 07") + adu(b"\x07"))
    assert list(tally[: B.DISCARDED + 1]) == [0, 0, 0]
    assert tally[B.LOGGED] == 1


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


def refusing(hook, code):
    """A bank whose tables all have this hook; `calls` gets its arguments."""
    bank = fresh_bank()
    calls = []

    def called(values, address, count):
        calls.append((values, address, count))
        if isinstance(code, Exception):
            raise code
        return code

    for table in TABLES:
        getattr(getattr(bank, table), hook)(called)
    return bank, calls


KINDS = (("before_read", READS), ("before_write", WRITES), ("after_write", WRITES))


@pytest.mark.parametrize(("hook", "cases"), KINDS)
@pytest.mark.parametrize("code", [None, 0, 2, 4, 6, 0x80])
def test_hook_is_asked_once_and_may_refuse(hook, cases, code):
    for request, table, address, count in cases:
        bank, calls = refusing(hook, code)
        plain = fresh_bank()
        request = bytes.fromhex(request)
        response = execute(bank, request)
        values = bank.proposed if hook == "before_write" else getattr(bank, table)
        assert calls == [(values, address, count)]
        if code:
            assert response == bytes([request[0] | 0x80, code])
            if hook != "before_read" or request[0] != 0x17:  # 17 has written when it reads
                assert content(bank) == content(plain)
                assert bank.tally[B.WRITES] == 0
        else:
            assert response == execute(plain, request)
            assert content(bank) == content(plain)


@pytest.mark.parametrize("code", [None, 2, ValueError("hook")])
def test_after_read_has_no_say(code):
    for request, table, address, count in READS:
        bank, calls = refusing("after_read", code)
        request = bytes.fromhex(request)
        assert execute(bank, request) == execute(fresh_bank(), request)
        assert calls == ([] if request[0] == 0x16 else [(getattr(bank, table), address, count)])


def test_acknowledge_keeps_what_was_written():
    for hook in ("before_write", "after_write"):
        for request, _, _, _ in WRITES:
            bank, _ = refusing(hook, M.ACKNOWLEDGE)
            plain = fresh_bank()
            request = bytes.fromhex(request)
            execute(plain, request)
            assert execute(bank, request) == bytes([request[0] | 0x80, 5])
            assert content(bank) == content(plain)


@pytest.mark.parametrize("code", [ValueError("hook"), 256, -1, "no"])
def test_hook_with_a_bug_is_device_failure(code):
    for hook, cases in KINDS:
        for request, _, _, _ in cases:
            errors = []
            bank, _ = refusing(hook, code)
            bank.on_error = errors.append
            request = bytes.fromhex(request)
            assert execute(bank, request) == bytes([request[0] | 0x80, 4])
            assert [type(error) for error in errors] == [TypeError if code == "no" else ValueError]
            if hook != "before_read":
                assert content(bank) == content(fresh_bank())


@pytest.mark.parametrize("hook", ["before_read", "after_read", "before_write", "after_write"])
def test_hook_is_not_asked_about_refused_requests(hook):
    for name, requests, responses, _ in V.PDUS:
        request, response = next(steps(requests, responses))
        if response[0] & 0x80:
            bank, calls = refusing(hook, 4)
            assert execute(bank, request) == response, name
            assert calls == [], name


RANGES = (  # (first, count) of a hook, what a request for 100..109 tells it
    ((0, 100), None),
    ((110, 5), None),
    ((0, 101), (100, 1)),
    ((109, 100), (109, 1)),
    ((100, 10), (100, 10)),
    ((102, 3), (102, 3)),
    ((0, 65536), (100, 10)),
    ((0,), (100, 10)),
    ((105,), (105, 5)),
)


@pytest.mark.parametrize(
    ("hook", "request_"),
    [
        ("before_read", "03 0064 000A"),
        ("after_read", "03 0064 000A"),
        ("before_write", "10 0064 000A 14" + "0001" * 10),
        ("after_write", "10 0064 000A 14" + "0001" * 10),
    ],
)
def test_hooks_are_told_their_part_in_the_order_of_registration(hook, request_):
    bank = fresh_bank()
    calls = []
    for span, _ in RANGES:
        getattr(bank.holding_registers, hook)(lambda _, *part, span=span: calls.append((span, part)), *span)
    assert not execute(bank, bytes.fromhex(request_))[0] & 0x80
    assert calls == [(span, part) for span, part in RANGES if part]


@pytest.mark.parametrize("span", [(-1, 1), (0, 0), (5, -1)])
def test_hook_for_no_range(span):
    with pytest.raises(ValueError, match="hook for range"):
        fresh_bank().coils.before_read(print, *span)


def test_first_refusal_ends_the_asking():
    bank = fresh_bank()
    calls = []
    bank.coils.before_write(lambda *_: calls.append(1) or 6, 0, 8)
    bank.coils.before_write(lambda *_: calls.append(2), 0, 8)
    assert execute(bank, bytes.fromhex("05 0000 FF00")) == b"\x85\x06"
    assert calls == [1]


def test_values_computed_on_read():
    bank = fresh_bank()

    @bank.input_registers.before_read
    def refresh(table, address, count):
        for i in range(address, address + count):
            table[i] = 100 + i

    assert execute(bank, bytes.fromhex("04 0002 0003")).hex() == "0406006600670068"


def test_before_write_sees_what_is_wanted_and_what_is_there():
    bank = fresh_bank()
    seen = []
    bank.coils.before_write(
        lambda values, address, count: seen.append(
            [(values[address + i], bank.coils[address + i]) for i in range(count)]
        )
    )
    execute(bank, bytes.fromhex("0F 0013 0004 01 0A"))
    assert seen == [[(False, True), (True, False), (False, True), (True, True)]]
    bank.holding_registers.before_write(
        lambda values, address, count: seen.append((values[1001], values[address + count - 1]))
    )
    execute(bank, bytes.fromhex("10 03E9 0002 04 1234 FFFF"))
    assert seen[1:] == [(0x1234, 0xFFFF)]
    for outside in (1000, 1003, 0, 65535):
        with pytest.raises(IndexError):
            bank.proposed[outside]


def test_after_write_sees_the_new_values():
    bank = fresh_bank()
    seen = []
    bank.coils.after_write(
        lambda table, address, count: seen.append([table[address + i] for i in range(count)])
    )
    execute(bank, bytes.fromhex("0F 0006 0004 01 09"))
    assert seen == [[True, False, False, True]]


# What clients may write

LOCKED = (  # locked 20..23; what touches these
    ("05 0014 FF00", "85 02"),
    ("05 0013 FF00", "05 0013 FF00"),
    ("05 0018 FF00", "05 0018 FF00"),
    ("0F 0013 0001 01 01", "0F 0013 0001"),
    ("0F 0013 0002 01 01", "8F 02"),
    ("0F 0017 0002 01 01", "8F 02"),
    ("06 0017 1234", "86 02"),
    ("10 0000 0014 28" + "1111" * 20, "10 0000 0014"),
    ("10 0000 0015 2A" + "1111" * 21, "90 02"),
    ("16 0014 00F2 0025", "96 02"),
    ("17 0014 0001 0013 0002 04 1111 2222", "97 02"),
    ("17 0014 0001 0013 0001 02 1111", "17 02 0000"),
    ("06 0014 12", "86 03"),  # quantity, length and value come first
    ("05 0014 1234", "85 03"),
)


@pytest.mark.parametrize(("request_", "response"), LOCKED)
def test_locked_ranges(request_, response):
    request, response = bytes.fromhex(request_), bytes.fromhex(response)
    bank = fresh_bank()
    refused = []
    bank.on_refused = lambda *what: refused.append(what)
    for table in (bank.coils, bank.holding_registers):
        table.locked = array("I", (20, 24, 65535, 65536))
    before = content(bank)
    assert execute(bank, request) == response
    if response[0] & 0x80:
        assert content(bank) == before
    assert len(refused) == bank.tally[B.REFUSED] == (response[-2:] == bytes((request[0] | 0x80, 2)))


def test_read_only_client():
    """AP 7, code 01: "the server is in the wrong state to process a request of this type"."""
    for name, requests, responses, _ in V.PDUS:
        bank = fresh_bank()
        functions = M.read_only(bank)
        before = content(bank)
        for request, response in steps(requests, responses):
            out = bytearray(M.MAX_PDU)
            n = M.respond(request, 0, len(request), bank, functions, out, 0)
            if request[0] in (5, 6, 0x0F, 0x10, 0x16, 0x17):
                assert out[:n] == bytes((request[0] | 0x80, 1)), name
            elif "|" not in requests:
                assert out[:n] == response, name
        assert content(bank) == before


def test_refused_write_is_reported():
    bank = fresh_bank()
    refused = []
    bank.on_refused = lambda *what: refused.append(what)
    out = bytearray(M.MAX_PDU)
    functions = M.read_only(bank)
    for request in (
        "05 0001 FF00",
        "0F 0002 0003 01 00",
        "10 0004 0002 04 00000000",
        "16 0005 FFFF 0000",
        "17 0000 0001 0006 0001 02 0000",
        "10",
    ):
        request = bytes.fromhex(request)
        M.respond(request, 0, len(request), bank, functions, out, 0)
    assert refused == [(5, 1, 1), (0x0F, 2, 3), (0x10, 4, 2), (0x16, 5, 1), (0x17, 6, 1), (0x10, 0, 0)]


WHOLE = (  # values start at 0, 2, 4 and from there at each register
    ("06 0000 1234", "86 02"),
    ("06 0001 1234", "86 02"),
    ("06 0004 1234", "06 0004 1234"),
    ("10 0000 0002 04 11112222", "10 0000 0002"),
    ("10 0001 0002 04 11112222", "90 02"),
    ("10 0000 0003 06 111122223333", "90 02"),
    ("10 0002 0004 08 1111222233334444", "10 0002 0004"),
    ("16 0001 FFFF 0000", "96 02"),
    ("17 0001 0001 0000 0002 04 11112222", "17 02 2222"),
    ("06 FFFF 1234", "06 FFFF 1234"),  # the last there is
)


@pytest.mark.parametrize(("request_", "response"), WHOLE)
def test_values_are_written_whole(request_, response):
    bank = fresh_bank()
    bank.holding_registers.starts = bytearray(b"\x15" + b"\xff" * 26)
    bank.holding_registers.starts[0] |= 0xE0
    assert execute(bank, bytes.fromhex(request_)) == bytes.fromhex(response)


def test_own_function_code():
    def echo(request, at, n, bank, response, to):
        if n == 1:
            return -M.ILLEGAL_DATA_VALUE
        response[to : to + n] = request[at : at + n]
        return n

    bank = fresh_bank()
    bank.register(0x41, echo)
    bank.register(0x42, echo, writes=True)
    assert execute(bank, b"\x41abc") == b"\x41abc"
    assert execute(bank, b"\x42abc") == b"\x42abc"
    assert execute(bank, b"\x41") == b"\xc1\x03"
    assert execute(fresh_bank(), b"\x41abc") == b"\xc1\x01"
    functions = M.read_only(bank)
    assert functions[0x41] is echo and functions[0x42] is not echo
    for code in (0, 128, -1):
        with pytest.raises(ValueError, match="function code"):
            bank.register(code, echo)


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


def test_places_in_the_tally_are_said_alike():
    for module in (M, mbap):
        for name in (
            "REQUESTS",
            "EXCEPTIONS",
            "DISCARDED",
            "BUSY",
            "NAKS",
            "LOGGED",
            "WRITES",
            "PRODUCED",
            "ROOM",
            "WRAP",
        ):
            assert getattr(module, "_" + name, getattr(B, name)) == getattr(B, name)
    assert mbap._LAST_EVENT == B.EVENTS - 1
