"""Discovery: a board's half and an asker's half on each other, the layout from tables of bytes, and attackers."""

import hmac
import ipaddress
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire.wire import discovery as D
from hardwire_host.clients import discovery as H

MAC = bytes.fromhex("020000123456")
MAC_TEXT = "02:00:00:12:34:56"
NONCE = bytes.fromhex("0102030405060708")
KEY = b"a key of this plant"
ADDRESS, NETMASK, GATEWAY = bytes((192, 168, 77, 20)), bytes((255, 255, 255, 0)), bytes((192, 168, 77, 1))
NEAR, FAR = bytes((192, 168, 77, 9)), bytes((10, 1, 2, 3))
ALL = b"\xff" * 4
PORT = 40000
SERVICES = (("modbus", 502), ("files", 7770))
SETTING = H.Setting(ipaddress.IPv4Interface("10.0.0.5/16"), ipaddress.IPv4Address("10.0.0.1"))


class Board:
    """A responder, what it was told to apply, and a clock in ms."""

    def __init__(
        self, *, key=KEY, address=ADDRESS, services=SERVICES, name="press-3", stored=True, start=0, seed=1
    ):
        self.now = start
        self.about = (name, "w5500_evb_pico", "0.1.0", address, NETMASK, GATEWAY, D.STATIC, 4711, services)
        self.stored = stored
        self.settings = []
        self.questions = 0
        self.responder = D.Responder(MAC, random.Random(seed).randbytes, lambda: self.about, self._apply, key)

    def _apply(self, *setting):
        self.settings.append(setting)
        return self.stored

    def hear(self, payload, ip=NEAR, port=PORT, ms=300):
        """Give it a datagram, then let time pass; returns all it sends as (ip, port, payload)."""
        self.responder.received(payload, ip, port, self.now % 2**30)
        return self.run(ms)

    def run(self, ms):
        sent = []
        for _ in range(ms):
            while (what := self.responder.poll(self.now % 2**30)) is not None:
                sent.append(what)
            self.now += 1
        return sent

    def ask(self):
        """Its answer to a question, parsed."""
        self.questions += 1
        nonce = b"ask" + self.questions.to_bytes(5, "big")
        ((_, _, data),) = self.hear(H.question(nonce, MAC))
        return H.parse_answer(data, (nonce,), ("192.168.77.20", D.PORT))

    def set(self, setting=SETTING, *, key=KEY, nonce=b"set......"[:8], challenge=None, mac=MAC):
        """The code of its result, None if there is none."""
        challenge = self.ask().challenge if challenge is None else challenge
        sent = self.hear(setting.encode(nonce, mac, challenge, key))
        return H.parse_result(sent[0][2], nonce, mac, key) if sent else None


# The layout

QUESTION = bytes.fromhex("68777264 01 01 00 00 0102030405060708 000000000000 0000").ljust(384, b"\0")
ANSWER = (
    bytes.fromhex("68777264 01 02 02 00 0102030405060708 020000123456 0000")
    + random.Random(1).randbytes(16)
    + ADDRESS
    + NETMASK
    + GATEWAY
    + bytes.fromhex("00001267 00")
    + b"\x07press-3\x0ew5500_evb_pico\x050.1.0"
    + b"\x02\x01\xf6\x06modbus\x1e\x5a\x05files"
)
SET = bytes.fromhex(
    "68777264 01 03 00 00 0102030405060708 020000123456 0000"
    "000102030405060708090a0b0c0d0e0f 0a000005 0a000001 10 00 0000"
)


def test_layout():
    assert H.question(NONCE) == QUESTION
    assert Board().hear(QUESTION) == [(NEAR, PORT, ANSWER)]
    assert H.parse_answer(ANSWER, (NONCE,), ("192.168.77.20", D.PORT)) == H.Board(
        name="press-3",
        board="w5500_evb_pico",
        version="0.1.0",
        mac=MAC_TEXT,
        address="192.168.77.20",
        prefix=24,
        gateway="192.168.77.1",
        mode="static",
        uptime_s=4711,
        services=dict(SERVICES),
        settable=True,
        heard_from=("192.168.77.20", D.PORT),
        challenge=random.Random(1).randbytes(16),
    )
    message = SETTING.encode(NONCE, MAC, bytes(range(16)), KEY)
    assert message == SET + hmac.digest(KEY, SET, "sha256")


# Who is answered, and where


@pytest.mark.parametrize(
    ("address", "asker", "direct", "to"),
    [
        (ADDRESS, NEAR, False, NEAR),
        (ADDRESS, FAR, False, ALL),
        (ADDRESS, FAR, True, FAR),
        (bytes(4), NEAR, False, ALL),  # no address yet
        (ADDRESS, bytes(4), False, ALL),  # the asker has none
        (ADDRESS, bytes(4), True, ALL),
        (ADDRESS, b"\xe0\0\0\1", True, ALL),
        (ADDRESS, ADDRESS, False, ALL),  # forged
    ],
)
def test_where_an_answer_goes(address, asker, direct, to):
    sent = Board(address=address).hear(H.question(NONCE, direct=direct), ip=asker)
    assert [what[:2] for what in sent] == [(to, PORT)]


def changed(at, value, data=QUESTION):
    return data[:at] + value + data[at + len(value) :]


SILENCE = {
    "nothing": b"",
    "too short": QUESTION[:383],
    "only a header": QUESTION[:24],
    "another protocol": changed(0, b"HWRD"),
    "another version": changed(4, b"\2"),
    "an answer": changed(5, b"\2"),
    "a result": changed(5, b"\4"),
    "a kind that is not used": changed(5, b"\0"),
    "to another board": changed(16, b"\2\0\0\x12\x34\x57"),
    "a setting to any board": changed(16, bytes(6), SET + bytes(32)),
    "a setting to another board": changed(21, b"\x57", SET + bytes(32)),
    "a setting cut short": SET + bytes(31),
    "a setting with more behind": SET + bytes(33),
}


@pytest.mark.parametrize("what", SILENCE)
def test_silence(what):
    board = Board()
    assert board.hear(SILENCE[what]) == [] and board.settings == []


def test_no_answer_to_a_port_of_services():
    board = Board()
    assert (
        board.hear(QUESTION, port=53) == board.hear(QUESTION, port=1023) == board.hear(QUESTION, port=0) == []
    )
    assert len(board.hear(QUESTION, port=1024)) == 1


def test_a_question_that_comes_by_three_ways_is_answered_once():
    board = Board()
    for _ in range(3):
        board.responder.received(QUESTION, NEAR, PORT, 0)
    assert len(board.run(300)) == 1
    assert len(board.hear(H.question(b"another."))) == 1


def test_a_hundred_boards_do_not_answer_at_once():
    times = []
    for seed in range(100):
        board = Board(seed=seed)
        board.responder.received(QUESTION, NEAR, PORT, 0)
        times.append(next(now for now in range(256) if board.responder.poll(now) is not None))
    assert len(set(times)) > 50


def test_rate():
    """Four answers in a second, whoever asks, however much; memory does not grow."""
    board = Board()
    sent = []
    for n in range(10_000):
        board.responder.received(H.question(n.to_bytes(8, "big")), FAR, PORT, board.now)
        sent += board.run(1)
        assert len(board.responder._queue) <= 4
    assert 30 <= len(sent) <= 44


def test_never_more_bytes_than_were_sent():
    services = tuple((f"service-number-{n}", n) for n in range(60))
    board = Board(services=services, name="n" * 63)
    ((_, _, data),) = board.hear(QUESTION)
    assert len(data) <= D.SIZE == len(QUESTION)
    found = H.parse_answer(data, (NONCE,), ("", 0)).services
    assert 5 < len(found) < 60 and found == dict(services[: len(found)])
    ((_, _, data),) = board.hear(SET + bytes(32))
    assert len(data) <= len(SET) + 32


@pytest.mark.parametrize("start", [0, 2**30 - 150, 2**29 - 100, 12345])
def test_time_may_run_over(start):
    board = Board(start=start)
    for _ in range(5):
        assert board.ask() is not None
    board.now += 9 * 86_400_000  # silence of more than the half of the clock's period
    assert board.ask() is not None
    assert board.set() == D.DONE


# Setting


def test_set():
    board = Board()
    before = board.ask().challenge
    assert board.set() == D.DONE
    assert board.settings == [
        (D.STATIC, bytes((10, 0, 0, 5)), bytes((255, 255, 0, 0)), bytes((10, 0, 0, 1))),
    ]
    assert board.responder.applied and board.ask().challenge != before


def test_set_dhcp():
    board = Board()
    assert board.set(H.Setting(None)) == D.DONE
    assert board.settings == [(D.DHCP, None, None, None)]


def test_it_takes_effect_after_the_result_has_left():
    board = Board()
    challenge = board.ask().challenge
    board.responder.received(SETTING.encode(NONCE, MAC, challenge, KEY), FAR, PORT, board.now)
    assert not board.responder.applied
    assert board.responder.poll(board.now)[0] == ALL
    assert not board.responder.applied
    assert board.responder.poll(board.now + 1) is None and board.responder.applied


def test_result_that_was_lost_is_said_again_and_done_once():
    board = Board()
    message = SETTING.encode(NONCE, MAC, board.ask().challenge, KEY)
    first, second = board.hear(message), board.hear(message)
    assert first == second and len(board.settings) == 1
    board.responder.applied = False
    board.now += 10_000
    assert board.hear(message) == first
    assert len(board.settings) == 1 and not board.responder.applied


def test_a_challenge_is_good_once():
    board = Board()
    challenge = board.ask().challenge
    assert board.set(challenge=challenge, nonce=b"first...") == D.DONE
    assert board.set(challenge=challenge, nonce=b"second..") == D.STALE
    assert len(board.settings) == 1


def test_a_challenge_is_good_for_a_minute():
    board = Board()
    challenge = board.ask().challenge
    board.now += 30_000
    assert board.ask().challenge == challenge  # those who only ask take it from nobody
    board.now += 30_000
    assert board.ask().challenge != challenge
    assert board.set(challenge=challenge) == D.STALE


def test_without_a_key_nobody_sets_anything():
    for key in (None, b""):
        board = Board(key=key)
        assert not board.ask().settable
        assert board.set(key=b"") == D.NO_KEY and board.settings == []


def test_every_bit_counts():
    challenge = Board().ask().challenge
    message = SETTING.encode(NONCE, MAC, challenge, KEY)
    for at in range(24, len(message)):
        board = Board()
        board.ask()
        sent = board.hear(changed(at, bytes((message[at] ^ 1,)), message))
        code = sent[0][2][24]
        assert code == (D.STALE if at < 40 else D.WRONG_KEY) and board.settings == []
        assert sent[0][2][-32:] == bytes(32)  # nothing that a guess of the key could be tried on
    for at in (6, 7, 8, 22, 23):
        board = Board()
        board.ask()
        assert board.hear(changed(at, bytes((message[at] ^ 2,)), message))[0][2][24] == D.WRONG_KEY


def test_wrong_keys_are_slow():
    board = Board()
    tried = []
    start = board.now
    for n in range(400_000 // 301):
        challenge = board.responder.challenge
        sent = board.hear(SETTING.encode(n.to_bytes(8, "big"), MAC, challenge, b"wrong"))
        if sent and sent[0][2][24] == D.WRONG_KEY:
            tried.append((board.now - start) // 1000)
    assert len(tried) < 20 and max(b - a for a, b in pairwise(tried)) >= 32
    board.now += 33_000
    assert board.set(key=b"wrong") == D.WRONG_KEY
    assert board.set() == D.LATER
    board.now += 33_000
    assert board.set() == D.DONE


VALUES = (
    ("192.168.77.21/24", "192.168.77.1", D.DONE),
    ("192.168.77.21/24", None, D.DONE),
    ("10.0.0.1/8", None, D.DONE),
    ("10.0.0.1/30", "10.0.0.2", D.DONE),
    ("192.168.77.0/24", None, D.BAD_VALUE),
    ("192.168.77.255/24", None, D.BAD_VALUE),
    ("192.168.77.21/24", "192.168.78.1", D.BAD_VALUE),
    ("192.168.77.21/24", "192.168.77.21", D.BAD_VALUE),
    ("192.168.77.21/24", "192.168.77.255", D.BAD_VALUE),
    ("192.168.77.21/24", "192.168.77.0", D.BAD_VALUE),
    ("192.168.77.21/31", None, D.BAD_VALUE),
    ("192.168.77.21/32", None, D.BAD_VALUE),
    ("192.168.77.21/7", None, D.BAD_VALUE),
    ("192.168.77.21/0", None, D.BAD_VALUE),
    ("127.0.0.5/8", None, D.BAD_VALUE),
    ("224.0.0.5/8", None, D.BAD_VALUE),
    ("255.255.255.255/8", None, D.BAD_VALUE),
    ("0.0.0.5/8", None, D.BAD_VALUE),
)


@pytest.mark.parametrize(("address", "gateway", "code"), VALUES)
def test_values(address, gateway, code):
    board = Board()
    setting = H.Setting(ipaddress.IPv4Interface(address), ipaddress.IPv4Address(gateway) if gateway else None)
    assert board.set(setting) == code
    assert len(board.settings) == (code == D.DONE)


def test_prefix_and_mode_that_are_none():
    for at, value in ((48, 33), (48, 255), (49, D.FALLBACK), (49, 9)):
        board = Board()
        message = SETTING.encode(NONCE, MAC, board.ask().challenge, KEY)[:-32]
        message = changed(at, bytes((value,)), message)
        ((_, _, data),) = board.hear(message + hmac.digest(KEY, message, "sha256"))
        assert H.parse_result(data, NONCE, MAC, KEY) == D.BAD_VALUE and board.settings == []


def test_what_cannot_be_stored():
    board = Board(stored=False)
    assert board.set() == D.FAILED and not board.responder.applied


# Bytes that are neither


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=450), st.integers(0, 3), st.integers(0, 0xFFFF), st.binary(min_size=4, max_size=4))
def test_no_bytes_do_harm(junk, kind, port, ip):
    board = Board()
    head = (b"", QUESTION[:16], SET[:24], changed(5, bytes((kind,)), QUESTION[:24]))[kind]
    for data in (head + junk, memoryview(head + junk), QUESTION[: len(junk)] + junk):
        for to, to_port, answer in board.hear(data, ip, port):
            assert (len(to), to_port) == (4, port) and len(answer) <= len(data)
    assert board.settings == []


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=450), st.integers(0, 500), st.integers(1, 255))
def test_no_answer_does_harm(junk, at, bit):
    spoiled = bytearray(ANSWER + junk)
    spoiled[at % len(spoiled)] ^= bit
    for data in (junk, ANSWER[: len(junk)], ANSWER[:24] + junk, bytes(spoiled)):
        found = H.parse_answer(data, (NONCE,), ("192.0.2.1", 7771))
        assert found is None or found.name.isprintable()
        assert H.parse_result(data, NONCE, MAC, KEY) is None or data[5] == D.RESULT


def test_forged_success_is_not_believed():
    data = bytes.fromhex("68777264 01 04 00 00 0102030405060708 020000123456 0000 00000000") + bytes(32)
    assert H.parse_result(data, NONCE, MAC, KEY) is None
    assert H.parse_result(changed(24, b"\3", data), NONCE, MAC, KEY) == D.NO_KEY
