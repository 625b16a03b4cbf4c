"""Frames of the file protocol: made and taken apart, whole and in pieces, damaged; paths; lists."""

import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hardwire.wire import files as F

KINDS = st.integers(0, 255)
IDS = st.integers(0, 0xFFFF)
PAYLOADS = st.binary(max_size=300)
LIMIT = 1014

# type, id, payload, header
CASES = [
    (F.PING, 0, b"", "0000 03 FC 0000 1FA984F9"),
    (F.PING, 0xFFFF, b"", "0000 03 FE FFFF A20B4268"),
    (F.ACK, 3, b"\0\0\0\5", "0004 22 D6 0003 FAECE471"),
    (F.ERROR, 7, b"\x01not found", "000A FF EF 0007 EF61BF97"),
]


@pytest.mark.parametrize(("kind", "number", "payload", "head"), CASES)
def test_frames(kind, number, payload, head):
    data = bytes.fromhex(head) + payload
    assert F.frame(kind, number, payload) == data
    assert F.parse(data, 0, len(data), LIMIT) == (len(data), kind, number, True)


@given(KINDS, IDS, PAYLOADS)
def test_there_and_back(kind, number, payload):
    data = F.frame(kind, number, payload)
    assert sum(data[:6]) % 256 == 255
    assert data[6:10] == zlib.crc32(bytes(data[:6]) + payload).to_bytes(4)
    assert F.parse(data, 0, len(data), LIMIT) == (len(data), kind, number, True)
    assert data[F.HEADER :] == payload


@given(KINDS, IDS, PAYLOADS, st.integers(0, 20))
def test_seal_is_frame_in_place(kind, number, payload, behind):
    buffer = bytearray(F.HEADER) + payload + b"\xaa" * behind
    length = F.seal(memoryview(buffer), kind, number, len(payload))
    assert buffer == F.frame(kind, number, payload) + b"\xaa" * behind
    assert length == F.HEADER + len(payload)


@given(PAYLOADS, PAYLOADS, st.binary(max_size=20))
def test_every_cut_waits_for_the_rest(first, second, before):
    frames = F.frame(1, 1, first), F.frame(2, 2, second)
    stream = before + frames[0] + frames[1]
    for end in range(len(before), len(stream) + 1):
        found = F.parse(stream, len(before), end, LIMIT)
        whole = end >= len(before) + len(frames[0])
        assert found == ((len(frames[0]), 1, 1, True) if whole else None)
    at = len(before) + len(frames[0])
    assert F.parse(stream, at, len(stream), LIMIT) == (len(frames[1]), 2, 2, True)


@given(st.binary(max_size=64), st.data())
def test_any_bit_of_a_frame_that_is_wrong_is_noticed(payload, data):
    frame = F.frame(F.DATA, 5, payload)
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    if bit < 48:
        with pytest.raises(F.FrameError):
            F.parse(frame, 0, len(frame), LIMIT)
    else:
        length, kind, number, intact = F.parse(frame, 0, len(frame), LIMIT)
        assert (length, kind, number, intact) == (len(frame), F.DATA, 5, False)


@given(st.binary(min_size=10, max_size=40))
@example(bytes(10))
@example(b"GET / HTTP/1.1\r\n\r\n")
def test_any_bytes_are_a_frame_that_adds_up_or_an_error(data):
    try:
        found = F.parse(data, 0, len(data), LIMIT)
    except F.FrameError:
        assert sum(data[:6]) % 256 != 255 or int.from_bytes(data[:2]) > LIMIT
    else:
        assert sum(data[:6]) % 256 == 255 and int.from_bytes(data[:2]) <= LIMIT
        assert (found is None) == (len(data) < 10 + int.from_bytes(data[:2]))


@pytest.mark.parametrize("limit", [0, 1, 256, LIMIT])
def test_the_limit_is_exact_and_known_from_the_header(limit):
    data = F.frame(1, 1, bytes(limit))
    assert F.parse(data, 0, len(data), limit)[0] == len(data)
    data = F.frame(1, 1, bytes(limit + 1))
    with pytest.raises(F.FrameError):
        F.parse(data, 0, F.HEADER, limit)
    assert F.parse(data, 0, F.HEADER - 1, limit) is None


# Paths

GOOD = [
    ("", ""),
    ("/", ""),
    ("//", ""),
    ("a", "a"),
    ("/a", "a"),
    ("/a/", "a"),
    ("a//b", "a/b"),
    ("a b.c-d_e~f", "a b.c-d_e~f"),
    (".hidden", ".hidden"),
    ("..a", "..a"),
    ("a..b", "a..b"),
    ("ä/ö", "ä/ö"),
    ("x" * 64, "x" * 64),
    ("ä" * 32, "ä" * 32),
    ("1/2/3", "1/2/3"),
    ("~", "~"),
    ("~a1", "~a1"),
]
BAD = [
    ".",
    "..",
    "a/..",
    "../a",
    "a/../b",
    "a/.",
    "a.",
    "a./b",
    "...",
    " a",
    "a ",
    "a / b",
    "a\\b",
    "a:b",
    "C:",
    "a*",
    "a?",
    'a"',
    "<",
    ">",
    "|",
    "a\0",
    "a\n",
    "\x1f",
    "\x7f",
    "~1",
    "A~0.B",
    "a/CONFIG~1.JSO",
    "x" * 65,
    "ä" * 33,
    "1/2/3/4",
]


@pytest.mark.parametrize(("path", "cleaned"), GOOD)
def test_good_paths(path, cleaned):
    assert F.clean(path, 3) == F.clean(path.encode(), 3) == F.clean(memoryview(path.encode()), 3) == cleaned


@pytest.mark.parametrize("path", BAD)
def test_bad_paths(path):
    for form in (path, path.encode()):
        with pytest.raises(F.PathError):
            F.clean(form, 3)


@pytest.mark.parametrize(
    "path", [b"\xff", b"a\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"]
)
def test_bytes_that_are_no_text(path):
    with pytest.raises(F.PathError):
        F.clean(path, 3)


NEARLY_PATHS = st.one_of(
    st.text(alphabet="ab./\\ ~1:\0ä.\u202e", max_size=30),
    st.text(max_size=30),
    st.lists(st.sampled_from(["..", ".", "a", "", "...", "..a", " "]), max_size=6).map("/".join),
    st.binary(max_size=30),
)


@given(NEARLY_PATHS, st.integers(0, 5))
def test_a_clean_path_stays_inside_and_as_it_is(path, depth):
    try:
        cleaned = F.clean(path, depth)
    except F.PathError:
        return
    parts = cleaned.split("/") if cleaned else []
    assert len(parts) <= depth
    for part in parts:
        assert part not in ("", ".", "..") and "\\" not in part and ":" not in part and "\0" not in part
        assert 0 < len(part.encode()) <= 64
    assert F.clean(cleaned, depth) == F.clean("/" + cleaned, depth) == cleaned


@given(
    st.lists(st.sampled_from(["a", "A", "b", "ab"]), max_size=3),
    st.lists(st.sampled_from(["a", "b", "ab", "a/b"])),
)
def test_among(parts, chosen):
    path = "/".join(parts)
    above = {"/".join(parts[:count]).lower() for count in range(1, len(parts) + 1)}
    assert F.among(path, chosen) == bool(above & set(chosen))


# Lists

ENTRIES = st.tuples(
    st.integers(0, 1),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=50),
)


@given(st.lists(ENTRIES, max_size=5), st.booleans())
def test_entries_there_and_back(entries, hashes):
    entries = [(*facts, digest if hashes else None, path) for *facts, digest, path in entries]
    payload = b"".join(F.entry(*entry) for entry in entries)
    assert F.entries(payload, hashes) == F.entries(memoryview(payload), hashes) == entries


@given(ENTRIES, st.booleans())
def test_a_list_that_is_cut_is_noticed(entry, hashes):
    *facts, digest, path = entry
    payload = bytes(F.entry(*facts, digest if hashes else None, path))
    for end in range(1, len(payload)):
        with pytest.raises(F.FrameError):
            F.entries(payload[:end], hashes)


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_list_or_an_error(payload, hashes):
    try:
        found = F.entries(payload, hashes)
    except F.FrameError:
        return
    assert b"".join(F.entry(*entry) for entry in found) == payload


# Layouts


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (F.CLIENT_HELLO, 24),
        (F.SERVER_HELLO, 34),
        (F.CLIENT_GET, 13),
        (F.CLIENT_PUT, 13),
        (F.SERVER_PUT, 9),
        (F.ENTRY, 9),
    ],
)
def test_layouts_have_the_sizes_of_the_page(layout, size):
    assert struct.calcsize(layout) == size


def test_a_proof_depends_on_all_that_it_is_made_of():
    parts = [b"key", b"client", F.READ, bytes(16), bytes(16)]
    others = [b"kez", b"server", F.WRITE, bytes(15) + b"\1", b"\1" + bytes(15)]
    proofs = {F.proof(*parts)}
    for at, other in enumerate(others):
        proofs.add(F.proof(*parts[:at], other, *parts[at + 1 :]))
    assert len(proofs) == 6
