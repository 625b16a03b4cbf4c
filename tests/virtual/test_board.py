"""The emulated board: its console through the real mpremote, its pins, its clocks, its time, its failures."""

import hashlib
import os
import random
import subprocess
import sys
import time

import pytest

from hardwire_host import native
from hardwire_host.bundle import blank_filesystem
from hardwire_host.errors import FAILED, NO_BOARD, TIMEOUT, USAGE, WRONG_BOARD, HardwireError
from hardwire_host.virtual.board import VirtualBoard
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from hardwire_host.virtual.usb_serial import CLOSED_KEPT

BOARD = "w5500_evb_pico"
WAIT_S = 300
BOOTED_NS = 500 * NS_PER_MS  # by then it waits for input
SPI = """
import machine
machine.freq(125_000_000, {peripheral})
spi = machine.SPI(
    0, {hz}, polarity={phase}, phase={phase}, sck=machine.Pin(18), mosi=machine.Pin(19), miso=machine.Pin(16)
)
cs = machine.Pin(17, machine.Pin.OUT, value=1)
"""
FAST_SPI = SPI.format(peripheral=125_000_000, hz=31_250_000, phase=0)


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


class Terminal:
    """The PTY, opened as a program would."""

    def __init__(self, live):
        self._file = os.open(live.repl, os.O_RDWR | os.O_NOCTTY)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self._file)

    def write(self, data):
        while data:
            data = data[os.write(self._file, data) :]

    def read_until(self, end):
        data = b""
        while not data.endswith(end):
            data += os.read(self._file, 65536)
        return data


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
    mpremote(bare, "exec", "here = 1\nwith open('kept', 'w') as file: file.write('x')")
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


def test_mpremote_run(bare, tmp_path):
    (tmp_path / "program.py").write_text("print('it runs')")
    assert mpremote(bare, "run", str(tmp_path / "program.py")) == "it runs\n"


@pytest.mark.parametrize(
    "busy", ["while True: pass", "import time\nwhile True: time.sleep(1)"], ids=["computing", "sleeping"]
)
def test_mpremote_interrupts(bare, busy):
    mpremote(bare, "exec", "--no-follow", busy)
    assert mpremote(bare, "exec", "print('interrupted')") == "interrupted\n"


def test_mpremote_interrupts_the_app_and_reset_brings_it_back(firmware):
    assert mpremote(firmware, "exec", "print('interrupted')") == "interrupted\n"
    assert not firmware.board.chip.listening(502)
    mpremote(firmware, "reset")
    firmware.wait_listening(502)


def test_pty_keeps_the_last_output_for_the_next_reader(bare):
    started = bare.board.clock.now
    with Terminal(bare) as terminal:
        terminal.write(b"from machine import Pin\r")
        terminal.write(b"all(print(i) is None for i in range(3000)) and Pin(25, Pin.OUT, value=1)\r")
    assert bare.run_until(lambda: bare.board.led, 60)
    assert bare.board.clock.now - started < 20 * NS_PER_S  # nobody reads, and the board does not wait
    bare.run_until(lambda: False, 0.1)  # the prompt comes after the LED
    with Terminal(bare) as terminal:
        data = terminal.read_until(b"\r\n>>> ")
    assert len(data) <= CLOSED_KEPT
    assert b"\r\n2998\r\n2999\r\n" in data
    assert b"\r\n1000\r\n" not in data


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
    with Terminal(bare) as terminal:
        terminal.write(b"!" + data)
        answer = terminal.read_until(b"\x04>")
    assert hashlib.sha256(data).hexdigest().encode() in answer


# Time


def test_device_time_is_the_guests_time(bare):
    before = bare.board.clock.now
    program = "from time import *\nt = ticks_us()\nsleep_ms(2000)\nprint(ticks_diff(ticks_us(), t))"
    assert 2_000_000 <= int(bare.exec(program)) < 2_001_000
    assert 2000 * NS_PER_MS <= bare.board.clock.now - before < 2100 * NS_PER_MS


def test_a_sleeping_guest_executes_nothing(bare):
    bare.exec("pass")
    before = bare.status()["cycles"]
    assert not bare.run_until(lambda: False, 10)
    assert bare.status()["cycles"] - before < 100_000  # of 1250 million


def test_paced_device_time_never_runs_ahead(boot):
    live = boot()
    started = time.monotonic()
    live.exec("import time\ntime.sleep_ms(700)")
    assert time.monotonic() - started >= 0.65  # less what it may have been behind
    status = live.status()
    assert status["device_seconds"] <= status["wall_seconds"]


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


def test_same_seed_same_run(boot):
    identify = "import machine\nprint(machine.unique_id())"
    runs = []
    for seed in (5, 5, 6):
        live = boot(pace=False, seed=seed)
        cycles = []

        def note(board=live.board, cycles=cycles):
            cycles.append(board.status()["cycles"])

        live.do(live.board.clock.call_at, BOOTED_NS, note)
        assert live.run_until(lambda cycles=cycles: cycles, 1)
        runs.append((cycles, live.exec(identify)))
    assert runs[0] == runs[1]
    assert runs[0][1] != runs[2][1]


def test_the_core_compiled_for_this_python_is_used():
    if not native.build():
        pytest.skip("no compiler or no Python.h")
    from rp2040py.native import _simulator

    assert _simulator.__file__.startswith(str(native.cache()))


# SPI and pins


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
    bare.exec(FAST_SPI + "machine.freq(125_000_000, 48_000_000)")
    assert bare.status()["spi"]["hz"] == 12_000_000


@pytest.mark.parametrize("size", [1, 8, 31, 32, 2048])  # from 32 bytes on machine.SPI uses DMA
@pytest.mark.parametrize(("phase", "bits"), [(0, 10), (1, 8)])
@pytest.mark.parametrize("call", ["write", "readinto"])
def test_spi_time(bare, call, phase, bits, size):
    elapsed = int(
        bare.exec(
            SPI.format(peripheral=125_000_000, hz=1_000_000, phase=phase)
            + f"from time import sleep_ms, ticks_us\ndata = bytearray({size})\n"
            "sleep_ms(1)\n"  # until the console is quiet
            f"start = ticks_us(); spi.{call}(data); print(ticks_us() - start)"
        )
    )
    wire = (8 * size + (bits - 8) * (size - 1)) / 0.992063
    assert wire - 1 <= elapsed <= wire + 50 + size / 50  # the call, and readinto clears its buffer first


def test_spi_fifo_flags(bare):
    """Nothing reads: nine words fill FIFO and wire; then eight wait, and the ninth is an overrun (4.4.3)."""
    program = SPI.format(peripheral=48_000_000, hz=1_000, phase=1) + (
        "from machine import mem32\nimport time\n"
        "DR, SR, RIS, ICR = (0x4003C000 + offset for offset in (0x08, 0x0c, 0x18, 0x20))\n"
        "seen = [mem32[SR]]\n"
        "for word in range(9): mem32[DR] = word\n"
        "seen.append(mem32[SR])\n"
        "time.sleep_ms(100)\n"
        "seen += (mem32[SR], mem32[RIS])\n"
        "mem32[ICR] = 1\n"
        "seen.append(mem32[RIS])\n"
        "for word in range(8): mem32[DR]\n"
        "print(seen + [mem32[SR]])"
    )
    tfe, tnf, rne, rff, busy = 1, 2, 4, 8, 16
    half_empty, half_full, overrun = 8, 4, 1
    expected = [
        tfe | tnf,
        busy,
        tfe | tnf | rne | rff,
        half_empty | half_full | overrun,
        half_empty | half_full,
        tfe | tnf,
    ]
    assert bare.exec(program) == f"{expected}\n"


def test_spi_reaches_the_chip(bare):
    before = bare.status()["spi"]
    program = FAST_SPI + (
        "cs(0); spi.write(b'\\0\\x39\\0'); version = spi.read(1); cs(1)\n"
        "block = bytes(range(64))\n"
        "cs(0); spi.write(b'\\0\\0\\x14' + block); cs(1)\n"
        "cs(0); spi.write(b'\\0\\0\\x10'); back = spi.read(64); cs(1)\n"
        "print(version, back == block)"
    )
    assert bare.exec(program) == "b'\\x04' True\n"
    after = bare.status()["spi"]
    assert after["frames"] - before["frames"] == 3
    assert after["bytes"] - before["bytes"] == 4 + 67 + 67


def test_intn_interrupts_the_guest(bare):
    bare.exec(
        "import machine\nfalls = []\n"
        "intn = machine.Pin(21, machine.Pin.IN, machine.Pin.PULL_UP)\n"
        "intn.irq(lambda pin: falls.append(pin()), machine.Pin.IRQ_FALLING)"
    )
    assert bare.exec("print(falls, intn())") == "[] 1\n"
    bare.do(bare.board.chip.on_intn, False)
    assert bare.exec("print(falls, intn())") == "[0] 0\n"
    bare.do(bare.board.chip.on_intn, True)
    assert bare.exec("print(falls, intn())") == "[0] 1\n"


def test_led(bare):
    bare.exec("import machine\nled = machine.Pin(25, machine.Pin.OUT, value=1)")
    assert bare.status()["led"] is True
    bare.exec("led(0)")
    assert bare.status()["led"] is False


def test_pio_runs_when_it_is_used(bare):
    program = (
        "import rp2\nfrom machine import Pin, mem32\nfrom time import ticks_diff, ticks_us\n"
        "@rp2.asm_pio(set_init=rp2.PIO.OUT_LOW)\n"
        "def wave():\n"
        "    set(pins, 1) [31]\n"
        "    nop() [31]\n"
        "    set(pins, 0) [31]\n"
        "    nop() [31]\n"
        "machine = rp2.StateMachine(0, wave, freq=12800, set_base=Pin(2))\n"  # a period of 10 ms
        "machine.active(1)\n"
        "levels, start = '', ticks_us()\n"
        "for n in range(6):\n"
        "    while ticks_diff(ticks_us(), start) < 2500 + 5000 * n: pass\n"
        "    levels += str(mem32[0x40014010] >> 9 & 1)\n"  # IO_BANK0 GPIO2_STATUS OUTTOPAD
        "machine.active(0)\n"
        "print(levels)"
    )
    assert bare.exec(program) == "101010\n"


# Resets


def test_hard_reset_spares_the_chip_and_power_cycle_does_not(bare):
    bare.exec(
        FAST_SPI + "cs(0); spi.write(b'\\0\\x0f\\x04\\x0a\\0\\0\\x07'); cs(1)\n"
        "led = machine.Pin(25, machine.Pin.OUT, value=1)\n"
        "with open('flash', 'w') as file: file.write('x')"
    )
    assert bare.status()["address"] == "10.0.0.7"
    bare.call(bare.board.hard_reset())
    assert bare.status()["address"] == "10.0.0.7"
    assert bare.status()["led"] is False
    assert bare.exec("import os\nprint('led' in globals(), 'flash' in os.listdir())") == "False True\n"
    bare.call(bare.board.power_cycle())
    assert bare.status()["address"] == "0.0.0.0"
    assert bare.exec("import os\nprint('flash' in os.listdir())") == "True\n"


def test_the_boards_reset_pin_of_the_chip(bare):
    reset = "import time\nrst = machine.Pin(20, machine.Pin.OUT, value=0); time.sleep_ms(1); rst(1)\n"
    bare.exec(FAST_SPI + "cs(0); spi.write(b'\\0\\x0f\\x04\\x0a\\0\\0\\x07'); cs(1)")
    assert bare.status()["address"] == "10.0.0.7"
    bare.exec(reset)
    assert bare.status()["address"] == "0.0.0.0"


def test_the_filesystem_can_be_taken_out_and_put_in(bare, boot):
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


def test_an_error_of_the_emulator_is_an_error(boot):
    live = boot(pace=False)
    live.do(live.board.clock.call_later, 1000, lambda: 1 // 0)
    with pytest.raises(HardwireError, match="ZeroDivisionError"):
        live.call(live.board.ended())


def test_an_error_of_who_waits_is_their_own(bare):
    answers = [False]
    with pytest.raises(IndexError):
        bare.run_until(answers.pop, 1)
    assert bare.exec("print('alive')") == "alive\n"


def test_services_that_do_not_come_up(bare):
    bare.exec("print('a line')")
    with Terminal(bare) as terminal:
        terminal.write(b"print('what', 'the board said')\r")
        terminal.read_until(b"\nwhat the board said\r\n>>> ")
    with pytest.raises(HardwireError) as caught:
        bare.call(bare.board.wait_listening([502, 7770], 0.5))
    assert (caught.value.code, caught.value.hint) == (TIMEOUT, "what the board said")
    assert "port 502, 7770" in caught.value.message


def test_stop_leaves_nothing(boot):
    live = boot(pace=False)
    live.call(live.board.stop())
    assert not os.path.exists(live.repl)
    for _ in range(2):
        with pytest.raises(HardwireError) as caught:
            live.run_until(lambda: True, 1)
        assert caught.value.code == NO_BOARD
        live.call(live.board.stop())


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
