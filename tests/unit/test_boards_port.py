"""The firmware on every board's description, on a `machine` as strict as that board's port, with the chip model."""

import asyncio
import os
import sys
import time
import types
from importlib import util
from pathlib import Path

import pytest

from hardwire import compat, config
from hardwire.addresses import ip_bytes
from hardwire.service import Service
from hardwire.services.modbus import ModbusServer
from hardwire.wire.modbus import Bank
from hardwire_host.bundle import board_constants, boards, build
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S
from machine_images import IMAGES
from machine_standin import EUI48, SPI_MOST, Rig, parse, plain, pll_reaches

FIRMWARE = Path(compat.__file__).parents[1]
BOARDS = boards()
REQUEST = bytes.fromhex("000100000006 01 03 0000 0002")
ANSWER = bytes.fromhex("000100000007 01 03 04 1234 abcd")
POLL, POLLIN = 3, 1  # as asyncio's poller calls Pump.ioctl


@pytest.fixture
def rig(request, monkeypatch):
    made = Rig(board_constants(request.param))
    made.install(monkeypatch)
    return made


every_board = pytest.mark.parametrize("rig", BOARDS, indirect=True)


def port_of(rig):
    from hardwire.port import Port

    return Port(rig.pins)


class Client:
    """A TcpUser that sends a request as soon as it can."""

    def __init__(self, rig, address, port, request):
        self.got, self.ended = b"", None
        self._request = request
        rig.pc.connect(self, None, address, port)

    def attached(self, tcb):
        self._tcb = tcb

    def room(self):
        return 0xFFFF

    def established(self):
        self._tcb.send(self._request)

    def received(self, data):
        self.got += data

    def acked(self, n):
        pass

    sent = acked

    def fin(self):
        self.ended = "fin"

    def closed(self, reason):
        self.ended = reason


# The files themselves


@pytest.mark.parametrize("name", BOARDS)
def test_every_file_has_the_same_constants(name):
    pins = board_constants(name)
    wanted = {key for key in vars(board_constants("w5500_evb_pico")) if key.isupper()} - {"FLASH_BLOCK"}
    assert wanted <= set(vars(pins))
    assert bool(pins.FLASH_FS_BLOCKS) == hasattr(pins, "FLASH_BLOCK") == pins.MCU.startswith("rp2")
    assert (pins.SPI_ID is None) == hasattr(pins, "PIO_SM")


@pytest.mark.parametrize("name", BOARDS)
def test_the_image_is_for_this_mcu(name):
    pins = board_constants(name)
    image = IMAGES[pins.IMAGE]
    assert pins.MCU in image.machine.lower()
    assert pins.FLASH_FS_BLOCKS * getattr(pins, "FLASH_BLOCK", 0) == image.fs_bytes
    assert ("armv6m" if pins.MCU == "rp2040" else "armv7emsp") == pins.ARCH


@pytest.mark.parametrize("name", BOARDS)
def test_the_firmware_compiles_for_every_board(name):
    bundle = build(name)
    arch = {"armv6m": 4, "armv7emsp": 7}[board_constants(name).ARCH]
    native = {data[2] >> 2 for path, data in bundle.files.items() if path.endswith(".mpy")} - {0}
    assert native == {arch}
    assert f"hardwire/boards/{name}.mpy" in bundle.files


# Construction


@every_board
def test_the_bus_reads_the_chip(rig):
    port = port_of(rig)
    buffer = bytearray(1)
    if port.reset:
        port.reset(0)
        rig.clock.advance(NS_PER_MS)
        port.reset(1)
        rig.clock.advance(5 * NS_PER_MS)
    port.bus.read(0, 0x39, buffer)
    assert buffer[0] == 4  # VERSIONR
    port.bus.write(0, 0x01, b"\xc0\xa8\x4d\x01")
    back = bytearray(6)
    port.bus.read(0, 0x00, back)
    assert back == b"\x00\xc0\xa8\x4d\x01\x00"
    assert not rig.chip.guest_errors


@every_board
def test_clocks_are_as_the_file_says(rig):
    port_of(rig)
    assert rig.cpu_hz == rig.pins.CPU_HZ
    assert rig.pins.SPI_HZ <= SPI_MOST
    if rig.spi:  # PIO is checked where it is set up
        assert (rig.peripheral_hz, rig.spi.baudrate) == (rig.pins.PERIPHERAL_HZ, rig.pins.SPI_HZ)


@every_board
def test_led(rig):
    port = port_of(rig)
    if rig.pins.LED is None:
        port.led(True)
        return
    name = rig.resolve(rig.pins.LED)
    assert rig.levels[name] == 1 - rig.pins.LED_ON  # dark after start
    port.led(True)
    assert rig.levels[name] == rig.pins.LED_ON
    port.led(False)
    assert rig.levels[name] == 1 - rig.pins.LED_ON


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("image", IMAGES)
def test_a_file_for_another_mcu_is_refused(name, image, monkeypatch):
    pins = board_constants(name)
    rig = Rig(pins, image=pins.IMAGE)
    rig.install(monkeypatch)
    machine = IMAGES[image].machine
    monkeypatch.setattr(sys.implementation, "_machine", machine)
    if pins.MCU in machine.lower():
        port_of(rig)
    else:
        with pytest.raises(ValueError, match=f"{pins.MCU}, this is a {machine.lower()}"):
            port_of(rig)
        assert not rig.owners  # and nothing was touched


# Identity, causes, watchdog


@every_board
def test_addresses_are_local_and_of_this_mcu_alone(rig):
    mac = port_of(rig).mac()
    if rig.pins.MAC_EEPROM:
        assert mac == EUI48
        return
    assert len(mac) == 6 and mac[0] == 2
    unique = rig.module.unique_id()
    other = bytes((unique[0] ^ 1,)) + unique[1:] if not rig.rp2 else unique[:-1] + bytes((unique[-1] ^ 1,))
    rig.module.unique_id = lambda: other  # the next chip on the wafer
    assert port_of(rig).mac() != mac


def test_without_its_wing_the_shim_takes_the_unique_id(monkeypatch):
    rig = Rig(board_constants("sil_rp2040_shim"), eeprom=False)
    rig.install(monkeypatch)
    assert port_of(rig).mac() == b"\x02" + rig.module.unique_id()[-5:]


CAUSES = [  # cause, timed out, RP2, STM32
    (0, False, None, "soft reset"),
    (1, False, "power-on", "power-on"),
    (2, False, None, "reset pin"),
    (3, True, "watchdog", "watchdog"),
    (3, False, "reset by program", "watchdog"),
    (4, False, None, "deep sleep"),
]


@every_board
@pytest.mark.parametrize(("cause", "timed_out", "rp2", "stm32"), CAUSES)
def test_reset_cause(rig, cause, timed_out, rp2, stm32):
    from hardwire.port import CAUSES, reset_cause

    rig.cause, rig.timed_out = cause, timed_out
    wanted = rp2 if rig.rp2 else stm32
    if wanted:
        assert CAUSES[reset_cause()] == wanted


@every_board
@pytest.mark.parametrize("timeout", [1, 5000, 8388, 8389, 32_767, 32_768, 10**6])
def test_watchdog(rig, timeout):
    from hardwire.port import Watchdog

    watchdog = Watchdog(timeout)
    assert rig.watchdog_ms == min(timeout, 8388 if rig.rp2 else 32_767)
    watchdog.feed()
    assert rig.fed == [rig.clock.now]
    watchdog.stop()
    assert (rig.watchdog_ms is None) == Watchdog.STOPPABLE == rig.rp2


@pytest.mark.parametrize(
    "rig", [name for name in BOARDS if not IMAGES[board_constants(name).IMAGE].rng], indirect=True
)
def test_random_bytes_without_a_generator(rig, monkeypatch):
    monkeypatch.setattr(time, "ticks_us", lambda: time.perf_counter_ns() // 1000 & 0x3FFFFFFF, raising=False)
    monkeypatch.delattr(os, "urandom")
    specification = util.spec_from_file_location("hardwire.compat_without_rng", compat.__file__)
    fresh = util.module_from_spec(specification)
    specification.loader.exec_module(fresh)
    drawn = [fresh.entropy(n) for n in (0, 1, 8, 32, 33, 100, 32, 32)]
    assert [len(data) for data in drawn] == [0, 1, 8, 32, 33, 100, 32, 32]
    assert len(set(drawn[3:])) == 5


# The firmware


@every_board
def test_start_and_a_modbus_exchange(rig, monkeypatch):
    # MicroPython's asyncio asks its task queue and poller; here nothing else runs.
    queue = types.SimpleNamespace(peek=lambda: None)
    monkeypatch.setattr(asyncio, "core", types.SimpleNamespace(_task_queue=queue), raising=False)
    monkeypatch.syspath_prepend(str(FIRMWARE / "lib"))
    from hardwire.board import Board

    settings = config.defaults()
    settings["board"] = rig.pins.__name__.rpartition(".")[2]
    board = Board(settings)
    board.start()
    bank = Bank(holding_registers=2)
    bank.holding_registers[0], bank.holding_registers[1] = 0x1234, 0xABCD
    board.serve(Service("modbus", ModbusServer(bank), 502))
    address = ip_bytes(settings["network"]["address"])
    assert rig.chip.ip == address
    assert board.mac == board.port.mac()

    pump = board._pump
    pump.start()
    client = None
    end = rig.clock.now + 5 * NS_PER_S
    while not (client and len(client.got) >= len(ANSWER)):
        assert rig.clock.now < end
        pump.ioctl(POLL, POLLIN)
        if client is None and rig.chip.listening(502):
            client = Client(rig, address, 502, REQUEST)
        rig.sleep()
    assert (client.got, client.ended) == (ANSWER, None)

    # Idle: the chip is left alone but for the health check where its INTn is wired, and asked now and then where not.
    def idle(seconds):
        frames, end = rig.chip.frames, rig.clock.now + seconds * NS_PER_S
        while rig.clock.now < end:
            pump.ioctl(POLL, POLLIN)
            rig.sleep()
        return (rig.chip.frames - frames) / seconds

    idle(5)  # the last exchange is over, listeners are armed
    rate = idle(5)
    assert 1 <= rate <= 4 if rig.pins.INT is not None else 10 <= rate <= 20, rate

    board._guard()
    assert (rig.watchdog_ms is not None) == rig.rp2  # "auto": only one that Ctrl-C can stop
    board.stop()
    assert rig.watchdog_ms is None
    assert not rig.handlers and rig.timer is None
    assert not rig.chip.guest_errors and not rig.chip.unimplemented


# PIO


@pytest.fixture
def pio(monkeypatch):
    made = Rig(board_constants("w55rp20_evb_pico"))
    made.install(monkeypatch)
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 63, 64, 1460, 2048])
def test_pio_frames_of_any_length(pio, size):
    bus = port_of(pio).bus
    data = bytes(i * 7 + 1 & 0xFF for i in range(size))
    bus.write(0x10, 0x07FD, data)  # transmit memory of socket 0, across its end
    back = bytearray(size)
    bus.read(0x10, 0x07FD, back)
    assert back == data
    assert pio.chip.frames == 2


def test_ctrl_c_in_a_frame_leaves_pio_ready(pio):
    port = port_of(pio)
    bus = port.bus
    put = bus._put

    def interrupt(*arguments):
        put(*arguments)
        raise KeyboardInterrupt

    for interrupted in (bus.read, bus.write):
        bus._put = interrupt
        with pytest.raises(KeyboardInterrupt):
            interrupted(0, 0x01, bytearray(4))
        bus._put = put
        assert pio.levels[pio.pins.CS] == 1
        buffer = bytearray(1)
        bus.read(0, 0x39, buffer)
        assert buffer[0] == 4


# The stand-in itself


def test_the_stand_in_takes_arguments_as_micropython_does():
    specification = plain(("id", int, 0), ("timeout", int, 5000))
    assert vars(parse(specification, (1,), {"timeout": 2})) == {"id": 1, "timeout": 2}
    for positional, keywords in (((1, 2, 3), {}), (("a",), {}), ((), {"time": 1}), ((1,), {"id": 1})):
        with pytest.raises(TypeError):
            parse(specification, positional, keywords)


@pytest.mark.parametrize(
    ("hertz", "reached"),
    [
        (125_000_000, True),
        (133_000_000, True),
        (150_000_000, True),
        (126_000_000, True),
        (137_000_000, False),
    ],
)
def test_frequencies_of_the_rp2_pll(hertz, reached):
    assert pll_reaches(hertz) is reached


WRONG = [  # board, what to do with its `machine`, what the port raises
    ("w5500_evb_pico", lambda m: m.freq(137_000_000), ValueError),
    ("w5500_evb_pico", lambda m: m.freq(125_000_000, 62_500_000), ValueError),
    ("w5500_evb_pico", lambda m: m.freq(1, 2, 3), TypeError),
    ("w5500_evb_pico", lambda m: m.Pin(30), ValueError),
    ("w5500_evb_pico", lambda m: m.Pin("X1"), ValueError),
    ("w5500_evb_pico", lambda m: m.SPI(2), ValueError),
    ("w5500_evb_pico", lambda m: m.SPI(0, sck=m.Pin(10), mosi=m.Pin(19), miso=m.Pin(16)), ValueError),
    ("w55rp20_evb_pico", lambda m: m.SPI(0, sck=m.Pin(21), mosi=m.Pin(23), miso=m.Pin(22)), ValueError),
    ("w5500_evb_pico", lambda m: m.Timer(0), ValueError),
    ("w5500_evb_pico", lambda m: m.ADC, AttributeError),
    ("pybv11", lambda m: m.Pin(5), TypeError),
    ("pybv11", lambda m: m.Pin("GP5"), ValueError),
    ("pybv11", lambda m: m.Pin("X1", pull=1), TypeError),
    ("pybv11", lambda m: m.SPI(1, sck=m.Pin("X6")), ValueError),
    ("pybv11", lambda m: m.SPI(3), ValueError),
    ("pybv11", lambda m: m.Timer(1), ValueError),
    ("pybv11", lambda m: m.mem32, AttributeError),
    ("weact_f411_blackpill", lambda m: m.SPI(1), ValueError),
    ("weact_f411_blackpill", lambda m: m.Pin("PB12"), ValueError),
]


@pytest.mark.parametrize(("name", "call", "error"), WRONG)
def test_the_stand_in_refuses_what_the_port_refuses(name, call, error):
    with pytest.raises(error):
        call(Rig(board_constants(name)).module)


def test_one_interrupt_line_serves_one_pin():
    machine = Rig(board_constants("pybv11")).module
    machine.Pin("X3", machine.Pin.IN).irq(bool, machine.Pin.IRQ_FALLING, hard=True)
    with pytest.raises(OSError, match="taken"):
        machine.Pin("C2", machine.Pin.IN).irq(bool, machine.Pin.IRQ_FALLING, hard=True)  # X3 is A2
