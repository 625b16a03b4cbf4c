"""DNS: queries and answers from tables of bytes, and bytes that are neither."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.wire import dns

# A query for the time server's name as a resolver sends it, and an answer by a chain of aliases
QUERY = bytes.fromhex("beef 0100 0001 0000 0000 0000 046e747030 05706c616e74 03636f6d 00 0001 0001")
NTP0 = "c00c"  # a pointer to the question's name; c011 is plant.com, c017 com
ADDRESS = bytes((192, 0, 2, 7))
A = "0001 0001 00000e10 0004 c0000207"


def answer(records, *, count=1, flags="8180", head="beef", question=QUERY[12:]):
    return bytes.fromhex(f"{head} {flags} 0001 {count:04x} 0000 0000") + question + bytes.fromhex(records)


def test_query():
    assert dns.query("ntp0.plant.com", 0xBEEF) == QUERY
    assert dns.query("ntp0.plant.com.", 0xBEEF) == QUERY
    assert dns.query("a" * 63 + ".b", 1)[12:] == b"\x3f" + b"a" * 63 + b"\1b\0\0\1\0\1"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", ".a", "a" * 64, "a" * 64 + ".b", ".".join(["a" * 63] * 4), "a." * 127]
)
def test_names_that_cannot_be(name):
    assert (dns.query(name, 1) is None) == (name != "a." * 127)


CNAME_A = f"{NTP0} 0005 0001 00000e10 0004 0161 c011 0161 c011 {A}"
CASES = {
    "address": (answer(NTP0 + A), (dns.OK, ADDRESS)),
    "name in full": (answer("046e747030 05706c616e74 03636f6d 00" + A), (dns.OK, ADDRESS)),
    "name half compressed": (answer("046e747030 c011" + A), (dns.OK, ADDRESS)),
    "other letters": (answer("044e545030 c011" + A), (dns.OK, ADDRESS)),
    "other letters in the question": (
        answer(NTP0 + A, question=QUERY[12:].replace(b"plant", b"PLANT")),
        (dns.OK, ADDRESS),
    ),
    "two addresses": (answer(NTP0 + A + NTP0 + A[:-2] + "08", count=2), (dns.OK, ADDRESS)),
    "authoritative": (answer(NTP0 + A, flags="8580"), (dns.OK, ADDRESS)),
    "more sections": (answer(NTP0 + A + "ff" * 40), (dns.OK, ADDRESS)),
    "alias": (answer(CNAME_A, count=2), (dns.OK, ADDRESS)),
    "alias after its address": (
        answer(f"0161 c011 {A} {NTP0} 0005 0001 00000e10 0004 0161 c011", count=2),
        (dns.OK, ADDRESS),
    ),
    "another record first": (
        answer(f"{NTP0} 0010 0001 00000001 0002 0141 {NTP0}{A}", count=2),
        (dns.OK, ADDRESS),
    ),
    "truncated, with an address": (answer(NTP0 + A, flags="8380"), (dns.OK, ADDRESS)),
    "truncated": (answer("", count=0, flags="8380"), (dns.TRUNCATED, None)),
    "truncated in a record": (answer(NTP0 + A[:-6], flags="8380"), (dns.TRUNCATED, None)),
    "no such name": (answer("", count=0, flags="8183"), (dns.NAME_ERROR, None)),
    "server failure": (answer("", count=0, flags="8182"), (dns.SERVER_FAILURE, None)),
    "refused": (answer("", count=0, flags="8185"), (dns.REFUSED, None)),
    "no records": (answer("", count=0), (dns.NO_ADDRESS, None)),
    "somebody else's address": (answer(f"c011 {A}"), (dns.NO_ADDRESS, None)),
    "alias without an address": (answer(CNAME_A, count=1), (dns.NO_ADDRESS, None)),
    "AAAA only": (answer(f"{NTP0} 001c 0001 00000001 0010 {'20' * 16}"), (dns.NO_ADDRESS, None)),
    "another class": (answer(f"{NTP0} 0001 0003 00000001 0004 c0000207"), (dns.NO_ADDRESS, None)),
    "address of five bytes": (answer(f"{NTP0} 0001 0001 00000001 0005 c000020700"), (dns.NO_ADDRESS, None)),
    "alias of itself": (answer(f"{NTP0} 0005 0001 00000001 0002 {NTP0}"), (dns.MALFORMED, None)),
    "two aliases of each other": (
        answer(f"{NTP0} 0005 0001 00000001 0004 0161 c011 0161 c011 0005 0001 00000001 0002 {NTP0}", count=2),
        (dns.MALFORMED, None),
    ),
    "alias longer than its record": (
        answer(f"{NTP0} 0005 0001 00000001 0002 0161 c011 {NTP0}{A}", count=2),
        (dns.MALFORMED, None),
    ),
    "fewer records than promised": (answer(f"c011 {A}", count=9), (dns.MALFORMED, None)),
    "record cut short": (answer((NTP0 + A)[:-2]), (dns.MALFORMED, None)),
    "pointer to itself": (answer("c020" + A), (dns.MALFORMED, None)),
    "pointer forward": (answer("c022 0161 00" + A), (dns.MALFORMED, None)),
    "pointer out of the message": (answer("ffff" + A), (dns.MALFORMED, None)),
    "half a pointer": (answer("c0"), (dns.MALFORMED, None)),
    "label of a kind that is not used": (answer("40" + A), (dns.MALFORMED, None)),
    "label out of the message": (answer("3f61"), (dns.MALFORMED, None)),
    "endless name": (answer("3f" + "61" * 63 + "c020" + A), (dns.MALFORMED, None)),
    "a query": (answer(NTP0 + A, flags="0180"), (dns.NOT_OURS, None)),
    "another operation": (answer(NTP0 + A, flags="a180"), (dns.NOT_OURS, None)),
    "another id": (answer(NTP0 + A, head="beee"), (dns.NOT_OURS, None)),
    "another question": (
        answer(NTP0 + A, question=QUERY[12:].replace(b"plant", b"plane")),
        (dns.NOT_OURS, None),
    ),
    "our own query": (QUERY, (dns.NOT_OURS, None)),
    "nothing": (b"", (dns.NOT_OURS, None)),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_answers(what, kind):
    message, expected = CASES[what]
    assert dns.parse(kind(message), QUERY) == expected


@pytest.mark.parametrize("what", [what for what, (_, expected) in CASES.items() if expected[0] == dns.OK])
def test_every_prefix(what):
    message, expected = CASES[what]
    for size in range(len(message)):
        code, address = dns.parse(message[:size], QUERY)
        assert code in (dns.OK, dns.NOT_OURS, dns.MALFORMED, dns.TRUNCATED)
        assert address == (expected[1] if code == dns.OK else None)


@pytest.mark.parametrize(("depth", "code"), [(7, dns.OK), (8, dns.MALFORMED)])
def test_nested_pointers(depth, code):
    """A chain of pointers, each to the one before; the first leads to the question's name."""
    at = len(QUERY) + 12
    chain = NTP0 + "".join(f"{0xC000 | at + 2 * n:04x}" for n in range(depth - 1))
    filler = f"c017 0010 0001 00000000 {2 * depth:04x} {chain}"
    last = f"{0xC000 | at + 2 * (depth - 1):04x}"
    assert dns.parse(answer(filler + last + A, count=2), QUERY)[0] == code


def test_long_chain_of_aliases():
    def chain(n):
        names = [NTP0, *(f"01{0x61 + i:02x} c011" for i in range(n))]
        records = "".join(f"{a} 0005 0001 00000001 0004 {b}" for a, b in pairwise(names))
        return answer(records + names[-1] + A, count=n + 1)

    assert dns.parse(chain(7), QUERY) == (dns.OK, ADDRESS)
    assert dns.parse(chain(8), QUERY) == (dns.MALFORMED, None)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=512), st.integers(0, 0xFFFF), st.data())
def test_no_bytes_do_harm(junk, count, data):
    message = bytearray(answer("", count=count) + junk)
    for at in data.draw(st.lists(st.integers(0, len(message) - 1), max_size=3)):
        message[at] ^= data.draw(st.integers(1, 255))
    for whole in (message, QUERY[:2] + junk, answer(NTP0 + A, count=count) + junk):
        code, address = dns.parse(whole, QUERY)
        assert 0 <= code <= dns.NOT_OURS and (len(address) == 4 if code == dns.OK else address is None)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_any_name(name):
    query = dns.query(name, 7)
    if query is not None:
        assert len(query) <= 12 + 255 + 4
        assert dns.parse(query[:2] + b"\x81\x80" + query[4:], query) == (dns.NO_ADDRESS, None)
