"""The emulated board: its console through the real mpremote, its pins, its clocks and its time."""

import hashlib
import os
import random
import subprocess
import sys
import time

import pytest

from hardwire_host.bundle import blank_filesystem
from hardwire_host.errors import FAILED, TIMEOUT, USAGE, WRONG_BOARD, HardwireError
from hardwire_host.virtual.board import VirtualBoard
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from hardwire_host.virtual.usb_serial import CLOSED_KEPT

BOARD = "w5500_evb_pico"
WAIT_S = 300
SPI = (
    "import machine\n"
    "machine.freq(125_000_000, {peripheral})\n"
    "spi = machine.SPI(0, {hz}, polarity={phase}, phase={phase},"
    " sck=machine.Pin(18), mosi=machine.Pin(19), miso=machine.Pin(16))\n"
)


def mpremote(live, *arguments):
    """Run the real program; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", live.repl, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# The console


def test_exec(bare):
    assert bare.exec("print(1 + 1)\nprint('ü')") == "2\nü\n"


def test_exec_longer_than_every_buffer(bare):
    assert bare.exec(f"print(len('{'x' * 3000}'))") == "3000\n"
    assert bare.exec("print('y' * 3000)") == "y" * 3000 + "\n"


def test_exec_traceback(bare):
    with pytest.raises(HardwireError) as caught:
        bare.exec("def f(): raise ValueError('no')\nf()")
    assert (caught.value.code, caught.value.message) == (FAILED, "ValueError: no")


def test_exec_without_end(bare):
    with pytest.raises(HardwireError) as caught:
        bare.exec("while True: pass", device_seconds=0.1)
    assert caught.value.code == TIMEOUT
    assert bare.exec("print('free again')") == "free again\n"


def test_mpremote_exec_one_after_the_other(bare):
    for number in range(3):
        assert mpremote(bare, "exec", f"print({number})") == f"{number}\n"


def test_mpremote_files(bare, tmp_path):
    data = random.Random(1).randbytes(3000)
    (tmp_path / "there").write_bytes(data)
    mpremote(bare, "cp", str(tmp_path / "there"), ":file")
    mpremote(bare, "cp", ":file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert "3000 file" in mpremote(bare, "ls")


def test_mpremote_reset_keeps_path_and_files(bare):
    path = bare.repl
    mpremote(bare, "exec", "open('kept', 'w').write('x'); here = 1")
    resets = bare.status()["resets"]
    mpremote(bare, "reset")
    assert bare.run_until(lambda: bare.board.status()["resets"] == resets + 1, 5)
    assert bare.repl == path
    assert mpremote(bare, "exec", "print('here' in globals(), open('kept').read())") == "False x\n"


def test_mpremote_soft_reset(bare):
    mpremote(bare, "exec", "here = 1")
    mpremote(bare, "soft-reset")
    assert mpremote(bare, "resume", "exec", "print('here' in globals())") == "False\n"


def test_mpremote_mount(bare, tmp_path):
    (tmp_path / "mounted.py").write_text("print('from the PC')")
    assert "from the PC" in mpremote(bare, "mount", str(tmp_path), "exec", "import mounted")


@pytest.mark.parametrize(
    "busy", ["while True: pass", "import time\nwhile True: time.sleep(1)"], ids=["computing", "sleeping"]
)
def test_mpremote_interrupts(bare, busy):
    mpremote(bare, "exec", "--no-follow", busy)
    assert mpremote(bare, "exec", "print('interrupted')") == "interrupted\n"


def test_mpremote_interrupts_the_app_and_reset_brings_it_back(firmware):
    assert mpremote(firmware, "exec", "print('interrupted')") == "interrupted\n"
    mpremote(firmware, "reset")
    firmware.run_until(lambda: not firmware.board.chip.listening(502), 5)
    firmware.call(firmware.board.wait_listening([502], 20))


def test_pty_keeps_the_last_output_for_the_next_reader(bare):
    started = bare.board.clock.now
    bare.do(bare.board._usb.send, b"[print(i) for i in range(3000)] and None\r\n")
    assert bare.run_until(lambda: b"2999\r\n>>>" in bare.board._pty._output, 60)
    assert bare.board.clock.now - started < 20 * NS_PER_S  # nobody reads, and the board does not wait
    terminal = os.open(bare.repl, os.O_RDWR | os.O_NOCTTY)
    try:
        data = b""
        while not data.endswith(b">>> "):
            data += os.read(terminal, 65536)
    finally:
        os.close(terminal)
    assert len(data) <= CLOSED_KEPT
    assert b"2998\r\n2999\r\n" in data


def test_pty_makes_a_fast_writer_wait(bare):
    data = random.Random(2).randbytes(20000).translate(bytes.maketrans(b"\x03", b"\x04"))
    mpremote(
        bare,
        "exec",
        "--no-follow",
        "import sys, micropython, hashlib, binascii\n"
        "micropython.kbd_intr(-1)\n"
        "while sys.stdin.buffer.read(1) != b'!': pass\n"  # mpremote's good-bye
        f"left, hash = {len(data)}, hashlib.sha256()\n"
        "while left:\n"
        "    part = sys.stdin.buffer.read(min(left, 100))\n"
        "    left -= len(part)\n"
        "    hash.update(part)\n"
        "micropython.kbd_intr(3)\n"
        "print(binascii.hexlify(hash.digest()).decode())",
    )
    terminal = os.open(bare.repl, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(terminal, b"!")
        sent = 0
        while sent < len(data):
            sent += os.write(terminal, data[sent:])
        answer = b""
        while answer.count(b"\x04") < 2:
            answer += os.read(terminal, 65536)
    finally:
        os.close(terminal)
    assert hashlib.sha256(data).hexdigest().encode() in answer


# Time


def test_device_time_is_the_guests_time(bare):
    before = bare.board.clock.now
    elapsed = int(
        bare.exec("import time\nt = time.ticks_us()\ntime.sleep_ms(2000)\nprint(time.ticks_diff(time.ticks_us(), t))")
    )
    assert 2_000_000 <= elapsed < 2_001_000
    assert 2000 * NS_PER_MS <= bare.board.clock.now - before < 2100 * NS_PER_MS


def test_a_sleeping_guest_executes_nothing(bare):
    bare.exec("pass")
    before = bare.status()["cycles"]
    assert not bare.run_until(lambda: False, 10)
    assert bare.status()["cycles"] - before < 100_000  # a train of USB packets would take half of 1250 million


def test_paced_device_time_never_runs_ahead(boot):
    live = boot()
    started = time.monotonic()
    live.exec("import time\ntime.sleep_ms(700)")
    assert time.monotonic() - started >= 0.65  # 700 ms less what may be made up for
    assert live.status()["device_seconds"] <= live.status()["wall_seconds"]


def test_alarms_ring_at_their_own_time(bare):
    clock = bare.board.clock
    rung = []

    def arm():
        now = clock.now
        for delay in (3_000_001, 1_000, 2_500_000, 1_000):
            clock.call_later(delay, lambda delay=delay: rung.append((clock.now - now, delay)))
        clock.call_later(2_000_000, lambda: rung.append("cancelled")).cancel()

    bare.do(arm)
    assert bare.run_until(lambda: len(rung) == 4, 1)
    assert rung == [(delay, delay) for delay in (1_000, 1_000, 2_500_000, 3_000_001)]


def test_same_seed_same_time(boot, image):
    runs = []
    for _ in range(2):
        live = boot(pace=False, seed=5)
        live.exec("print(sum(range(100)))")
        runs.append((live.board.status()["cycles"], live.exec("import machine\nprint(machine.unique_id())")))
    assert runs[0] == runs[1]
    assert boot(pace=False, seed=6).exec("import machine\nprint(machine.unique_id())") != runs[0][1]


# Pins and SPI


@pytest.mark.parametrize(
    ("peripheral", "hz", "got"),
    [
        (48_000_000, 31_250_000, 24_000_000),  # what MicroPython leaves: PLL_USB
        (48_000_000, 20_000_000, 12_000_000),
        (48_000_000, 8_000_000, 8_000_000),
        (125_000_000, 31_250_000, 31_250_000),
        (125_000_000, 20_000_000, 15_625_000),
        (125_000_000, 62_500_000, 62_500_000),
        (125_000_000, 1_000_000, 992_063),
    ],
)
def test_spi_clock(bare, peripheral, hz, got):
    said = bare.exec(SPI.format(peripheral=peripheral, hz=hz, phase=0) + "print(spi)")
    assert bare.status()["spi"]["hz"] == got
    assert f"baudrate={got}" in said


def test_spi_clock_follows_a_later_change(bare):
    bare.exec(SPI.format(peripheral=125_000_000, hz=31_250_000, phase=0) + "machine.freq(125_000_000, 48_000_000)")
    assert bare.status()["spi"]["hz"] == 12_000_000


@pytest.mark.parametrize("size", [1, 8, 31, 32, 2048])  # from 32 bytes on machine.SPI uses DMA
@pytest.mark.parametrize(("phase", "bits"), [(0, 10), (1, 8)])
@pytest.mark.parametrize("call", ["write", "readinto"])
def test_spi_time(bare, call, phase, bits, size):
    elapsed = int(
        bare.exec(
            SPI.format(peripheral=125_000_000, hz=1_000_000, phase=phase)
            + f"from time import ticks_us\ndata = bytearray({size})\n"
            f"start = ticks_us(); spi.{call}(data); print(ticks_us() - start)"
        )
    )
    wire = (8 * size + (bits - 8) * (size - 1)) / 0.992063
    assert wire - 1 <= elapsed <= wire + 30 + size / 50  # set-up, and readinto clears its buffer first


def test_spi_reaches_the_chip(bare):
    frames, count = bare.status()["spi"]["frames"], bare.status()["spi"]["bytes"]
    program = SPI.format(peripheral=125_000_000, hz=31_250_000, phase=0) + (
        "cs = machine.Pin(17, machine.Pin.OUT, value=1)\n"
        "cs(0); spi.write(b'\\0\\x39\\0'); version = spi.read(1); cs(1)\n"
        "block = bytes(range(64))\n"
        "cs(0); spi.write(b'\\0\\0\\x14' + block); cs(1)\n"
        "cs(0); spi.write(b'\\0\\0\\x10'); back = spi.read(64); cs(1)\n"
        "print(version, back == block)"
    )
    assert bare.exec(program) == "b'\\x04' True\n"
    assert bare.status()["spi"]["frames"] - frames == 3
    assert bare.status()["spi"]["bytes"] - count == 4 + 67 + 67


def test_intn_interrupts_the_guest(bare):
    bare.exec(
        "import machine\nfalls = []\n"
        "intn = machine.Pin(21, machine.Pin.IN, machine.Pin.PULL_UP)\n"
        "intn.irq(lambda pin: falls.append(pin()), machine.Pin.IRQ_FALLING)"
    )
    bare.do(bare.board.chip.on_intn, False)
    bare.do(bare.board.chip.on_intn, True)
    assert bare.exec("print(falls, intn())") == "[1] 1\n"


def test_led(bare):
    bare.exec("import machine\nled = machine.Pin(25, machine.Pin.OUT, value=1)")
    assert bare.status()["led"]
    bare.exec("led(0)")
    assert not bare.status()["led"]


# Resets


def test_hard_reset_spares_the_chip_and_power_cycle_does_not(bare):
    bare.exec(
        SPI.format(peripheral=125_000_000, hz=31_250_000, phase=0)
        + "cs = machine.Pin(17, machine.Pin.OUT, value=0)\nspi.write(b'\\0\\x0f\\x04\\x0a\\0\\0\\x07')\ncs(1)\n"
        "led = machine.Pin(25, machine.Pin.OUT, value=1)\nopen('flash', 'w').write('x')"
    )
    assert bare.status()["address"] == "10.0.0.7"
    bare.call(bare.board.hard_reset())
    assert bare.status()["address"] == "10.0.0.7"
    assert not bare.status()["led"]
    assert bare.exec("import os, machine\nprint('led' in globals(), 'flash' in os.listdir())") == "False True\n"
    bare.call(bare.board.power_cycle())
    assert bare.status()["address"] == "0.0.0.0"
    assert bare.exec("import os\nprint('flash' in os.listdir())") == "True\n"


def test_reset_of_the_chip_while_the_board_holds_its_pin(bare):
    bare.exec(
        "import machine, time\nrst = machine.Pin(20, machine.Pin.OUT, value=0)\ntime.sleep_ms(1)\nrst(1)\ntime.sleep_ms(2)"
    )
    assert bare.status()["address"] == "0.0.0.0"


def test_the_filesystem_can_be_taken_out_and_put_back(bare, boot):
    bare.exec("with open('moved', 'w') as file: file.write('along')")
    other = boot(filesystem=bare.do(bare.board.filesystem), pace=False)
    assert other.exec("print(open('moved').read())") == "along\n"


def test_erased_flash_is_formatted(boot):
    assert boot(pace=False).exec("import os\nprint(os.listdir())") == "[]\n"


# What goes wrong


def test_a_crash_of_the_guest_is_an_error(boot):
    live = boot(pace=False)
    crash = "@micropython.asm_thumb\ndef crash(): data(2, 0xBE00)\ncrash()"
    with pytest.raises(HardwireError, match="guest has crashed: breakpoint 0 at 0x"):
        live.exec(crash)
    for waiting in (live.board.ended(), live.board.run_until(lambda: True)):
        with pytest.raises(HardwireError, match="guest has crashed"):
            live.call(waiting)


def test_an_error_of_the_engine_is_an_error(boot):
    live = boot(pace=False)
    live.do(live.board.clock.call_later, 1000, lambda: 1 // 0)
    with pytest.raises(HardwireError, match="ZeroDivisionError"):
        live.call(live.board.ended())


def test_services_that_do_not_come_up(bare):
    bare.do(bare.board._usb.send, b"print('what the board said')\r\n")
    with pytest.raises(HardwireError) as caught:
        bare.call(bare.board.wait_listening([502, 7770], 0.5))
    assert (caught.value.code, caught.value.hint) == (TIMEOUT, "what the board said")
    assert "502, 7770" in caught.value.message


def test_stop_leaves_nothing(boot):
    live = boot(pace=False)
    path, open_files = live.repl, set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    live.call(live.board.stop())
    assert not os.path.exists(path)
    if open_files:
        assert len(os.listdir("/proc/self/fd")) < len(open_files)
    with pytest.raises(HardwireError, match="stopped"):
        live.run_until(lambda: True, 1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"filesystem": b"short"}, USAGE),
        ({"board": "none_such"}, USAGE),
        ({"image": "missing.uf2"}, WRONG_BOARD),
        ({"image": "text.uf2"}, WRONG_BOARD),
    ],
)
def test_bad_arguments(image, tmp_path, change, code):
    (tmp_path / "text.uf2").write_text("no UF2")
    if "image" in change:
        change = {"image": tmp_path / change["image"]}
    with pytest.raises(HardwireError) as caught:
        VirtualBoard(**{"board": BOARD, "image": image, "filesystem": blank_filesystem(BOARD)} | change)
    assert caught.value.code == code
