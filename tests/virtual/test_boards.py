"""Several boards on one segment: they talk to each other, keep one time, and are started and stopped together."""

import asyncio

import pytest

from hardwire_host.bundle import build_filesystem, pack
from hardwire_host.errors import BUSY, NO_BOARD, USAGE
from hardwire_host.virtual.board import VirtualBoard
from hardwire_host.virtual.ether import WIRE_NS_MIN
from hardwire_host.virtual.lab import Lab

BOARD = "w5500_evb_pico"
READ_UPTIME = bytes.fromhex("0001 0000 0006 01 04 0000 0002")
TALK_S = 20  # device time; takes 2 s

# A Modbus client by registers, main.py of a board that has only MicroPython; 192.168.77.21 asks 192.168.77.20.
CLIENT = f"""
from machine import Pin, SPI
import time
time.sleep(2)
REQUEST = {READ_UPTIME!r}
spi, cs = SPI(0, 10_000_000, sck=Pin(18), mosi=Pin(19), miso=Pin(16)), Pin(17, Pin.OUT, value=1)
def frame(address, control, data):
    cs(0); spi.write(bytes((address >> 8, address & 255, control)))
    answer = bytearray(len(data)); spi.write_readinto(data, answer); cs(1)
    return bytes(answer)
def get(address, n=1): return int.from_bytes(frame(address, 0x08, bytes(n)), "big")
def put(address, value, n=1): frame(address, 0x0C, value.to_bytes(n, "big"))
def command(code):
    put(0x01, code)
    while get(0x01): pass
def wait(state):
    for _ in range(1000):
        if get(0x03) == state: return
        time.sleep_ms(1)
    raise OSError(get(0x03))
frame(0x01, 0x04, bytes((192,168,77,1, 255,255,255,0, 2,0,0,0,0,0x21, 192,168,77,21)))
frame(0x0C, 0x0C, bytes((192,168,77,20)))
put(0x10, 502, 2); put(0x04, 50000, 2); put(0x00, 1); command(0x01); wait(0x13); command(0x04); wait(0x17)
answers = []
for _ in range(3):
    at = get(0x24, 2)
    frame(at, 0x14, REQUEST)
    put(0x24, at + len(REQUEST) & 0xFFFF, 2); command(0x20)
    while (n := get(0x26, 2)) < 13: pass
    at = get(0x28, 2)
    answers.append(frame(at, 0x18, bytes(n)).hex())
    put(0x28, at + n & 0xFFFF, 2); command(0x40)
command(0x08); wait(0x00)
"""
FIN = 0x01  # among the flags of a TCP segment; ARP has a zero there


async def _talk(image):
    """A server board and a client board; returns what the client was answered, and the frames: (ns, port, bytes)."""
    lab = Lab(pace=False)
    server = VirtualBoard(image=image, filesystem=build_filesystem(BOARD), seed=1, lab=lab, port="server")
    filesystem = pack(BOARD, {"main.py": CLIENT.encode()})
    client = VirtualBoard(image=image, filesystem=filesystem, seed=2, lab=lab, port="client")
    frames = []
    lab.segment.taps.append(lambda time_ns, port, frame, comment: frames.append((time_ns, port, frame)))
    try:
        await server.start()
        await client.start()
        await client.run_until(lambda: sum(frame[47] & FIN for _, _, frame in frames) == 2, TALK_S)
        assert abs(server.clock.now - client.clock.now) < 10 * WIRE_NS_MIN
        return await client.exec("print(*answers)"), list(frames)
    finally:
        await server.stop()
        await client.stop()


@pytest.fixture(scope="module")
def conversation(image):
    return asyncio.run(_talk(image))


def test_boards_talk_to_each_other(conversation):
    printed, frames = conversation
    answers = printed.split()
    assert len(answers) == 3 and all(answer.startswith("000100000007010404") for answer in answers)
    assert {port for _, port, _ in frames} == {"server", "client"}
    requests = [frame for _, port, frame in frames if port == "client" and READ_UPTIME in frame]
    assert len(requests) == 3  # none was repeated: nothing was late, nothing lost


def test_no_frame_arrives_before_it_can(conversation):
    times = [time_ns for time_ns, _, _ in conversation[1]]
    assert times == sorted(times)
    turns = [
        later - earlier
        for (earlier, one, _), (later, other, _) in zip(conversation[1], conversation[1][1:], strict=False)
        if one != other
    ]
    assert len(turns) > 10 and min(turns) >= WIRE_NS_MIN


def test_boards_are_repeatable(conversation, image):
    """Without a PC that talks to them, two runs are the same to the nanosecond."""
    assert asyncio.run(_talk(image)) == conversation


# The command


@pytest.fixture(scope="module")
def three(hardwire):
    code, answer = hardwire(
        *("virtual", "up", "--boards", "3", "--name", "row", "--detach"),
        *("--forward", "127.0.0.1:0:502", "--rate", "10"),
    )
    assert code == 0, answer["error"]
    yield answer["boards"]
    hardwire("virtual", "down", "--all")


def test_each_has_a_name_a_repl_an_address_and_a_port(hardwire, three):
    assert [board["name"] for board in three] == ["row", "row-2", "row-3"]
    assert len({board["repl"] for board in three}) == 3
    assert len({board["forwards"][0]["port"] for board in three}) == 3
    status = hardwire("virtual", "status")[1]["boards"]
    assert [board["address"] for board in status] == ["192.168.77.20", "192.168.77.21", "192.168.77.22"]
    assert all(board["segment"] == ["row", "row-2", "row-3"] for board in status)


def test_a_cable_is_one_boards(hardwire, three):
    assert hardwire("virtual", "link", "down", "--name", "row-2")[1]["link"] is False
    for name in ("row", "row-3"):
        code, answer = hardwire("modbus", "read", "holding", "0", "2", f"--virtual={name}")
        assert code == 0, answer
    assert hardwire("modbus", "read", "holding", "0", "2", "--virtual=row-2", "--timeout", "1")[0] != 0
    assert hardwire("virtual", "link", "up", "--name", "row-2")[1]["link"] is True


def test_names_are_needed_and_taken(hardwire, three):
    assert hardwire("virtual", "link", "down")[0] == NO_BOARD
    assert hardwire("virtual", "up", "--name", "row-3", "--detach")[0] == BUSY


@pytest.mark.parametrize(
    "options",
    [("--boards", "0"), ("--boards", "2", "--flash", "kept.img"), ("--rate", "1000")],
)
def test_what_cannot_be(hardwire, options, tmp_path):
    assert hardwire("virtual", "up", "--detach", *options)[0] == USAGE


def test_a_network_may_be_too_small(hardwire, tmp_path):
    file = tmp_path / "c.json"
    file.write_text('{"network": {"address": "192.168.77.253"}}')
    code, answer = hardwire("virtual", "up", "--detach", "--boards", "3", "--config", str(file))
    assert code == USAGE and "192.168.77.253" in answer["error"]["message"]


def test_they_end_together(hardwire, three):
    assert sorted(hardwire("virtual", "down", "row-2")[1]["stopped"]) == ["row", "row-2", "row-3"]
    assert hardwire("virtual", "status")[1]["boards"] == []
