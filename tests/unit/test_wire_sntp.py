"""SNTP: requests and answers from tables of bytes, and bytes that are neither."""

import calendar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.wire import sntp

TOKEN = bytes.fromhex("0123456789abcdef")
LAST_OF_ERA = calendar.timegm((2036, 2, 7, 6, 28, 15))  # RFC 4330, 3: then the seconds run over


def answer(
    *,
    first=0x24,
    stratum=2,
    delay="00000140",
    dispersion="00000200",
    reference="c0000201",
    originate=TOKEN,
    time="ee0a1b2c 80000000",
):
    """A server's answer, as RFC 4330, 4 lays it out; the reference time and the arrival are of no interest."""
    head = bytes((first, stratum, 6, 0xE9)) + bytes.fromhex(delay + dispersion + reference)
    return head + b"\xee" * 8 + originate + b"\xee" * 8 + bytes.fromhex(time)


def test_request():
    assert sntp.request(TOKEN) == b"\x23" + bytes(39) + TOKEN


UNIX = 0xEE0A1B2C - 2208988800
GOOD = (sntp.OK, UNIX, 500)
NOT_OURS, UNSYNCHRONIZED = (sntp.NOT_OURS, 0, 0), (sntp.UNSYNCHRONIZED, 0, 0)
CASES = {
    "good": (answer(), GOOD),
    "with an authenticator behind": (answer() + bytes(20), GOOD),
    "version 3": (answer(first=0x1C), GOOD),
    "a leap second today": (answer(first=0x64), GOOD),
    "primary server": (answer(stratum=1, reference="47505300"), GOOD),
    "stratum 15": (answer(stratum=15), GOOD),
    "alone in its plant: 10 s": (answer(dispersion="000a0000"), GOOD),
    "stratum 16": (answer(stratum=16), UNSYNCHRONIZED),
    "not synchronised": (answer(first=0xE4), UNSYNCHRONIZED),
    "too far from the truth": (answer(dispersion="000fff60"), UNSYNCHRONIZED),
    "too far by its delay": (answer(delay="00200000"), UNSYNCHRONIZED),
    "no time": (answer(time="00000000 00000000"), UNSYNCHRONIZED),
    "asked too often": (answer(first=0xE4, stratum=0, reference="52415445"), (sntp.KISS, b"RATE", 0)),
    "not allowed": (answer(stratum=0, reference="44454e59"), (sntp.KISS, b"DENY", 0)),
    "kiss to somebody else": (answer(stratum=0, reference="44454e59", originate=bytes(8)), NOT_OURS),
    "answer to somebody else": (answer(originate=TOKEN[::-1]), NOT_OURS),
    "answer to nobody": (answer(originate=bytes(8)), NOT_OURS),
    "a client's": (answer(first=0x23), NOT_OURS),
    "a broadcast": (answer(first=0x25), NOT_OURS),
    "symmetric": (answer(first=0x22), NOT_OURS),
    "version 0": (answer(first=0x04), NOT_OURS),
    "our own request": (sntp.request(TOKEN), NOT_OURS),
    "cut short": (answer()[:47], NOT_OURS),
    "nothing": (b"", NOT_OURS),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_answers(what, kind):
    message, expected = CASES[what]
    assert sntp.parse(kind(message), TOKEN, 0) == expected


ERAS = (
    # seconds in the message, Unix time
    (0x80000000, calendar.timegm((1968, 1, 20, 3, 14, 8))),
    (2208988800, 0),
    (0xFFFFFFFF, LAST_OF_ERA),
    (0x00000001, LAST_OF_ERA + 2),
    (0x7FFFFFFF, calendar.timegm((2104, 2, 26, 9, 42, 23))),
)


@pytest.mark.parametrize(("seconds", "unix"), ERAS)
def test_eras(seconds, unix):
    assert sntp.parse(answer(time=f"{seconds:08x} 00000001"), TOKEN, 0) == (sntp.OK, unix, 0)


@pytest.mark.parametrize(
    ("fraction", "elapsed", "ms"),
    [
        (0, 0, 0),
        (0, 41, 20),
        (0x80000000, 1000, 1000),
        (0xFFFFFFFF, 0, 999),
        (0xFFFFFFFF, 2, 1000),
        (0, -5, 0),
    ],
)
def test_half_of_the_round_trip_is_added(fraction, elapsed, ms):
    code, seconds, found = sntp.parse(answer(time=f"ee0a1b2c {fraction:08x}"), TOKEN, elapsed)
    assert (code, (seconds - UNIX) * 1000 + found) == (sntp.OK, ms) and found < 1000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 1 << 30))
def test_no_bytes_do_harm(junk, elapsed):
    for message in (
        junk,
        answer()[: len(junk)],
        answer()[:24] + TOKEN + junk,
        b"\x24\1" + junk[:22] + TOKEN + junk,
    ):
        code, seconds, ms = sntp.parse(message, TOKEN, elapsed)
        assert 0 <= code <= sntp.KISS and 0 <= ms < 1000
        assert code == sntp.OK or code == sntp.KISS or seconds == 0
