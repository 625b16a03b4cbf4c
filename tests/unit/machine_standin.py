"""`machine` of a board for tests on a PC, with the chip model on its pins: refuses what the board's port refuses.

In: the firmware's calls. Out: SPI bytes to the model, its INTn back, wake-ups. Never: a default that hides a mistake:
what MicroPython 1.25 does not take (argument, value, pin, frequency) raises what it raises there; what it takes though
it makes no sense (driving a pin that SPI owns, more than 33.3 MHz) raises AssertionError.

From the C sources: ports/rp2/machine_{pin,spi,i2c,timer,wdt}.c, modmachine.c; ports/stm32/pin.c, machine_spi.c, spi.c,
machine_wdt.c, machine_adc.c, modmachine.c and its file of interrupt lines; extmod/machine_{spi,timer,wdt}.c.
"""

import sys
import types

import pio_standin
from hardwire import compat
from hardwire.w5500.bus import Sequences
from hardwire_host.virtual.clock import NS_PER_MS, Clock
from hardwire_host.virtual.ether import Segment
from hardwire_host.virtual.tcpip import Stack
from hardwire_host.virtual.w5500 import W5500
from machine_images import IMAGES

PC_IP, NETMASK, PC_MAC = b"\xc0\xa8\x4d\x01", b"\xff\xff\xff\x00", bytes.fromhex("020000000001")
SPI_MOST = 33_300_000  # Hz: what the W5500 guarantees (datasheet 5.5.4)
RP2_CLK_PERI = 48_000_000  # after boot: ports/rp2/main.c
PIO_SYNC_BYPASS_SET = (0x50202038, 0x50302038)  # RP2040 datasheet 3.7, atomic set alias; RP2350 the same
SCRATCH4 = {"rp2040": 0x4005801C, "rp2350": 0x400D801C}  # pico-sdk, addressmap.h
WATCHDOG_CLEAR = {"rp2040": 0x4005B000, "rp2350": 0x400DB000}  # CTRL, alias that clears bits
WATCHDOG_ENABLE = 1 << 30
WATCHDOG_TIMED_OUT = 0x6AB73121  # pico-sdk, hardware_watchdog/watchdog.c
CALL_NS = 1000  # the least that a call takes on these MCUs, and so the least that CS is high
EUI48 = bytes.fromhex("80342812abcd")


# Arguments, as py/argcheck.c takes them

REQUIRED = object()


def parse(specification, positional, keywords):
    """Values by name. `specification`: (name, kind, default, keyword only), kind int, bool or object."""
    values = {}
    if len(positional) > sum(not only for _, _, _, only in specification):
        raise TypeError("extra positional arguments given")
    for index, (name, kind, default, _) in enumerate(specification):
        if index < len(positional):
            value = positional[index]
        elif name in keywords:
            value = keywords.pop(name)
        elif default is REQUIRED:
            raise TypeError(f"'{name}' argument required")
        else:
            values[name] = default
            continue
        if kind is int and not isinstance(value, int):
            raise TypeError(f"can't convert {type(value).__name__} to int")
        values[name] = bool(value) if kind is bool else value
    if keywords:
        raise TypeError("extra keyword arguments given")
    return types.SimpleNamespace(**values)


def plain(*arguments):
    """(name, kind, default) by position or keyword."""
    return [(*argument, False) for argument in arguments]


def named(*arguments):
    """(name, kind, default) by keyword only."""
    return [(*argument, True) for argument in arguments]


def pll_reaches(hertz):
    """pico-sdk, clocks.c, check_sys_clock_khz: 12 MHz crystal, VCO from 750 to 1600 MHz."""
    for multiplier in range(63, 134):
        for first in range(1, 8):
            for second in range(1, first + 1):
                if 12_000 * multiplier == hertz // 1000 * first * second:
                    return True
    return False


def pl022(source, wanted):
    """pico-sdk, hardware_spi/spi.c, spi_set_baudrate: what comes of `wanted`."""
    assert wanted <= source, "faster than its clock"
    prescale = next(p for p in range(2, 256, 2) if source < p * 256 * wanted)
    post = 256
    while post > 1 and source // (prescale * (post - 1)) <= wanted:
        post -= 1
    return source // (prescale * post)


def stm32_divided(source, wanted):
    """ports/stm32/spi.c, spi_set_params: the prescaler is a power of two."""
    divider = -(-source // wanted)
    return source // next(2**n for n in range(1, 9) if divider <= 2**n or n == 8)


class Rig:
    """A board as `pins` says, a PC on its segment; `module` is its `machine`. Its time passes in `sleep` only.

    `cause`: of the last reset. `fed`: times of feeding the watchdog. `spi`: the SPI opened last.
    """

    def __init__(self, pins, *, image=None, eeprom=True, seed=0):
        self.pins = pins
        self.image = IMAGES[image or pins.IMAGE]
        self.mcu = self.image.machine.rpartition(" ")[2].lower()
        self.rp2 = self.mcu.startswith("rp2")
        self.clock = Clock()
        self.segment = Segment(self.clock, seed=seed)
        self.chip = W5500(self.clock, self.segment.attach("board"), seed=seed)
        self.chip.on_intn = self._intn
        self.pc = Stack(
            self.clock,
            self.segment.attach("pc"),
            mac=PC_MAC,
            ip=PC_IP,
            netmask=NETMASK,
            gateway=PC_IP,
            seed=seed + 1,
        )
        self.cpu_hz = 125_000_000 if self.mcu == "rp2040" else 150_000_000 if self.rp2 else self.image.cpu_hz
        self.peripheral_hz = RP2_CLK_PERI
        self.cause, self.timed_out = 1, False
        self.eeprom = eeprom
        self.levels = {}  # of outputs, by CPU name
        self.owners = {}  # what a pin is for
        self.handlers = {}  # of EXTI lines or GPIOs: (pin, handler)
        self.timer = None  # the running one: (period in ms, due in ns, callback)
        self.spi = None
        self.watchdog_ms = None  # while it runs
        self.fed = []
        self.clocks = 0  # of PIO
        self.bypassed = set()
        self.wires = pio_standin.Wires(self.chip) if pins.SPI_ID is None else None
        self.module = (_rp2 if self.rp2 else _stm32)(self)
        self.clock.advance(10 * NS_PER_MS)

    def install(self, monkeypatch):
        """Make it the machine of what is imported from here on."""
        pio_standin.StateMachine.rig = self
        modules = {"machine": self.module, "micropython": types.SimpleNamespace(const=lambda value: value)}
        if self.rp2:
            modules["rp2"] = pio_standin
        if self.mcu == "rp2040":
            modules["hardwire.w5500.bus_rp2040"] = types.SimpleNamespace(
                Bus=lambda *args: _AsmBus(self, *args)
            )
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("board", "idle", "port", "entropy", "mac_eeprom", "w5500.bus_pio"):
            monkeypatch.delitem(sys.modules, f"hardwire.{name}", raising=False)
        monkeypatch.setattr(sys.implementation, "_machine", self.image.machine, raising=False)
        monkeypatch.setattr(compat, "now_ns", lambda: self.clock.now)
        for user in ("w5500.chip", "w5500.adafruit", "net"):
            monkeypatch.setattr(f"hardwire.{user}.sleep_ms", lambda ms: self.clock.advance(ms * NS_PER_MS))

    def sleep(self, most_ms=1000):
        """Until an interrupt wakes the processor: INTn, the timer, on STM32 also the system tick. Returns its name."""
        end = self.clock.now + most_ms * NS_PER_MS
        self.woken = None
        while self.woken is None and self.clock.now < end:
            stops = [end, self.clock.next_due()]
            if self.timer:
                stops.append(self.timer[1])
            if not self.rp2:
                stops.append(self.clock.now + NS_PER_MS)
            self.clock.advance_to(max(self.clock.now, min(stop for stop in stops if stop is not None)))
            if self.timer and self.clock.now >= self.timer[1]:
                period, due, callback = self.timer
                self.timer = (period, due + period * NS_PER_MS, callback)
                callback(None)
                self.woken = "timer"
            elif not self.rp2 and self.woken is None:
                self.woken = "tick"
        return self.woken

    # Pins

    def resolve(self, pin):
        """CPU name of a pin as given to Pin."""
        if self.rp2:
            if isinstance(pin, int) and 0 <= pin < 30:
                return pin
            raise ValueError("invalid pin" if isinstance(pin, int) else f'unknown named pin "{pin}"')
        if not isinstance(pin, str):
            raise TypeError(f"can't convert {type(pin).__name__} to str")
        if pin not in self.image.names:
            raise ValueError(f"Pin({pin}) doesn't exist")
        return self.image.names[pin]

    def own(self, name, purpose):
        """A pin has one purpose."""
        assert self.owners.setdefault(name, purpose) == purpose, (
            f"pin {name} is {self.owners[name]} and {purpose}"
        )

    def output(self, name, level):
        """An output pin is driven."""
        self.own(name, "an output")
        self.levels[name] = level
        pins = self.pins
        if name == self.resolve(pins.CS):
            self.clock.advance(CALL_NS)
            (self.wires or self.chip).select(not level)
        elif pins.RST is not None and name == self.resolve(pins.RST):
            self.chip.reset_pin(not level)

    def read(self, name):
        """The level of an input pin."""
        assert self.owners.get(name) == "an input", f"pin {name} is no input"
        assert self.pins.INT is not None and name == self.resolve(self.pins.INT), f"nothing drives pin {name}"
        return int(self.chip.intn)

    def _intn(self, level):
        if self.pins.INT is None or level:
            return
        name = self.resolve(self.pins.INT)
        for pin, handler in self.handlers.values():
            if pin == name:
                handler(0)
                self.woken = "INTn"

    # SPI

    def transfer(self, data):
        """Bytes on hardware SPI."""
        assert self.levels.get(self.resolve(self.pins.CS)) == 0, "CS is high"
        return bytes(map(self.chip.shift, data))


class _AsmBus(Sequences):
    """bus_rp2040.Bus: the same frames, but in no assembler. It relies on what Port has set up before."""

    def __init__(self, rig, spi_id, cs):
        super().__init__()
        assert rig.mcu == "rp2040", "other registers elsewhere"
        assert rig.spi is not None and rig.spi.number == spi_id, "SPI is not set up"
        assert rig.levels.get(cs) == 1, "CS is no output, or low"
        self._rig, self._cs = rig, cs

    def _frame(self, header, data):
        self._rig.output(self._cs, 0)
        answer = self._rig.transfer(header + bytes(data))
        self._rig.output(self._cs, 1)
        return answer[3:]

    def read(self, block, address, buffer):
        buffer[:] = self._frame(bytes((address >> 8, address & 0xFF, block)), bytes(len(buffer)))

    def write(self, block, address, buffer):
        self._frame(bytes((address >> 8, address & 0xFF, block | 4)), buffer)


# What both ports have


def _common(rig, pin_constants, pin_arguments, pin_modes):
    class Pin:
        def __init__(self, pin, *args, **kwargs):
            self.name = pin.name if isinstance(pin, Pin) else rig.resolve(pin)
            if args or kwargs:
                self.init(*args, **kwargs)

        def init(self, *args, **kwargs):
            given = parse(pin_arguments, args, kwargs)
            if given.mode not in pin_modes:
                raise ValueError(f"invalid pin mode: {given.mode}")
            if given.pull not in (None, 0, Pin.PULL_UP, Pin.PULL_DOWN):
                raise ValueError(f"invalid pin pull: {given.pull}")
            if given.mode == Pin.IN:
                rig.own(self.name, "an input")
            else:
                rig.output(self.name, 1 if given.value is None else int(bool(given.value)))

        def __call__(self, *value):
            if len(value) > 1:
                raise TypeError(f"function expected at most 1 arguments, got {len(value)}")
            if not value:
                return rig.read(self.name)
            assert self.name in rig.levels, f"pin {self.name} is no output"
            rig.output(self.name, int(bool(value[0])))
            return None

        value = __call__

        def irq(self, *args, **kwargs):
            both = Pin.IRQ_FALLING | Pin.IRQ_RISING
            given = parse(
                plain(("handler", object, None), ("trigger", int, both), ("hard", bool, False)), args, kwargs
            )
            # On STM32 one interrupt line serves the pins of that number in all ports.
            line = self.name if rig.rp2 else int(self.name[1:])
            if not rig.rp2 and rig.handlers.get(line, (self.name,))[0] != self.name:
                raise OSError("IRQ resource already taken")
            if given.handler is None:
                rig.handlers.pop(line, None)
                return
            assert given.hard and given.handler is bool, "it may be called at any time, without heap"
            assert given.trigger == Pin.IRQ_FALLING, "INTn is active low"
            rig.handlers[line] = (self.name, given.handler)

    for name, value in pin_constants.items():
        setattr(Pin, name, value)

    class Timer:
        ONE_SHOT, PERIODIC = (0, 1) if rig.rp2 else (1, 2)

        def __init__(self, *args, **kwargs):
            number, *args = args or (-1,)
            if number != -1:
                raise ValueError("Timer doesn't exist")
            if args or kwargs:
                self.init(*args, **kwargs)

        def init(self, *args, **kwargs):
            given = parse(
                named(
                    ("mode", int, Timer.PERIODIC),
                    ("callback", object, None),
                    ("period", int, 0xFFFFFFFF),
                    ("tick_hz", int, 1000),
                    ("freq", object, None),
                ),
                args,
                kwargs,
            )
            assert given.mode == Timer.PERIODIC and given.freq is None and given.tick_hz == 1000
            assert callable(given.callback) and 1 <= given.period < 0x40000000
            rig.timer = (given.period, rig.clock.now + given.period * NS_PER_MS, given.callback)

        def deinit(self):
            rig.timer = None

    class WDT:
        def __init__(self, *args, **kwargs):
            given = parse(plain(("id", int, 0), ("timeout", int, 5000)), args, kwargs)
            if given.id != 0:
                raise ValueError(f"WDT({given.id}) doesn't exist")
            if rig.rp2 and given.timeout > 8388:
                raise ValueError("timeout exceeds 8388")
            if not rig.rp2 and given.timeout <= 0:
                raise ValueError("WDT timeout too short")
            if not rig.rp2 and given.timeout >= 512 << 6:
                raise ValueError("WDT timeout too long")
            self.timeout = given.timeout
            rig.watchdog_ms = given.timeout

        def feed(self):
            rig.fed.append(rig.clock.now)

    def transfers(cls):
        def octets(buffer):
            return bytes(memoryview(buffer).cast("B"))

        def write(self, buffer):
            rig.transfer(octets(buffer))

        def readinto(self, buffer, write=0):
            memoryview(buffer)[:] = rig.transfer(bytes((write & 0xFF,)) * len(buffer))

        def write_readinto(self, out, into):
            if len(out) != len(into):
                raise ValueError("buffers must be the same length")
            memoryview(into)[:] = rig.transfer(octets(out))

        cls.write, cls.readinto, cls.write_readinto = write, readinto, write_readinto
        return cls

    def open_spi(self, given, actual, wires):
        assert (given.bits, given.firstbit) == (8, 0)
        assert (given.polarity, given.phase) in ((0, 0), (1, 1)), "the W5500 has modes 0 and 3"
        assert actual <= SPI_MOST, f"{actual} Hz"
        self.number, self.baudrate = given.id, actual
        for name in wires:
            rig.own(name, "SPI")
        pins = rig.pins
        assert wires == tuple(map(rig.resolve, (pins.SCK, pins.MOSI, pins.MISO))), "the chip is on other pins"
        rig.spi = self

    module = types.ModuleType("machine")
    module.Pin, module.Timer, module.WDT = Pin, Timer, WDT
    module.reset_cause = lambda: rig.cause
    spi_arguments = [
        *plain(("id", object, REQUIRED), ("baudrate", int, 500_000)),
        *named(("polarity", int, 0), ("phase", int, 0), ("bits", int, 8), ("firstbit", int, 0)),
        *named(("sck", object, None), ("mosi", object, None), ("miso", object, None)),
    ]
    return module, transfers, open_spi, spi_arguments


def _rp2(rig):
    constants = {"IN": 0, "OUT": 1, "OPEN_DRAIN": 2, "ALT": 3, "PULL_UP": 1, "PULL_DOWN": 2}
    constants |= {"IRQ_FALLING": 4, "IRQ_RISING": 8}
    arguments = [
        *plain(("mode", object, None), ("pull", object, None)),
        *named(("value", object, None), ("alt", int, 5)),
    ]
    module, transfers, open_spi, spi_arguments = _common(rig, constants, arguments, (0, 1, 2))

    def freq(*args):
        if len(args) > 2:
            raise TypeError(f"function expected at most 2 arguments, got {len(args)}")
        if not args:
            return rig.cpu_hz
        if not pll_reaches(args[0]):
            raise ValueError("cannot change frequency")
        rig.cpu_hz, rig.peripheral_hz = args[0], RP2_CLK_PERI
        if len(args) == 2:
            if args[1] not in (args[0], RP2_CLK_PERI):
                raise ValueError("peripheral freq must be 48_000_000 or the same as the MCU freq")
            rig.peripheral_hz = args[1]
        return None

    @transfers
    class SPI:
        def __init__(self, *args, **kwargs):
            given = parse(spi_arguments, args, kwargs)
            if given.id not in (0, 1):
                raise ValueError(f"SPI({given.id}) doesn't exist")
            wires = []
            for name, remainder in (("sck", 2), ("mosi", 3), ("miso", 0)):
                pin = getattr(given, name)
                assert isinstance(pin, module.Pin), "the image's default may be another pin"
                if pin.name & 3 != remainder or pin.name >> 3 & 1 != given.id:
                    raise ValueError(f"bad {name.upper()} pin")
                wires.append(pin.name)
            open_spi(self, given, pl022(rig.peripheral_hz, given.baudrate), tuple(wires))

    class I2C:
        def __init__(self, *args, **kwargs):
            given = parse(
                [
                    *plain(("id", int, REQUIRED), ("freq", int, 400_000)),
                    *named(("scl", object, None), ("sda", object, None), ("timeout", int, 50_000)),
                ],
                args,
                kwargs,
            )
            if given.id not in (0, 1):
                raise ValueError(f"I2C({given.id}) doesn't exist")
            for name, odd in (("scl", 1), ("sda", 0)):
                pin = getattr(given, name).name
                if pin & 1 != odd or pin >> 1 & 1 != given.id:
                    raise ValueError(f"bad {name.upper()} pin")
                rig.own(pin, "I2C")

        def readfrom_mem(self, address, memory, size):
            if not rig.eeprom or address != rig.pins.MAC_EEPROM[3]:
                raise OSError(5)
            return (bytes(0xFA) + EUI48)[memory : memory + size]

    class Memory:
        def __getitem__(self, address):
            assert address == SCRATCH4[rig.mcu], f"nothing to read at {address:#x}"
            return WATCHDOG_TIMED_OUT if rig.timed_out else 0

        def __setitem__(self, address, value):
            if address == WATCHDOG_CLEAR[rig.mcu]:
                assert value == WATCHDOG_ENABLE
                rig.watchdog_ms = None
                return
            assert address == PIO_SYNC_BYPASS_SET[rig.pins.PIO_SM // 4], f"nothing to write at {address:#x}"
            rig.bypassed |= {pin for pin in range(30) if value >> pin & 1}

    module.freq, module.SPI, module.I2C, module.mem32 = freq, SPI, I2C, Memory()
    module.unique_id = lambda: bytes.fromhex("e66118604b224a58")[:8]
    return module


def _stm32(rig):
    constants = {"IN": 0, "OUT": 1, "OPEN_DRAIN": 0x11, "ALT": 2, "ALT_OPEN_DRAIN": 0x12, "ANALOG": 3}
    constants |= {"PULL_UP": 1, "PULL_DOWN": 2, "IRQ_RISING": 0x10110000, "IRQ_FALLING": 0x10210000}
    arguments = [
        *plain(("mode", int, REQUIRED), ("pull", object, None), ("af", int, -1)),
        *named(("value", object, None), ("alt", int, -1)),
    ]
    module, transfers, open_spi, spi_arguments = _common(rig, constants, arguments, (0, 1, 0x11))

    def freq(*args):
        assert not args, "PLL, USB and flash are set up by the image"
        return rig.cpu_hz, rig.cpu_hz, rig.cpu_hz // 4, rig.cpu_hz // 2

    @transfers
    class SPI:
        def __init__(self, *args, **kwargs):
            given = parse(spi_arguments, args, kwargs)
            if given.id not in rig.image.spi:
                raise ValueError(f"SPI({given.id}) doesn't exist")
            if (given.sck, given.mosi, given.miso) != (None,) * 3:
                raise ValueError("explicit choice of sck/mosi/miso is not implemented")
            wires, source = rig.image.spi[given.id]
            rig.peripheral_hz = source
            open_spi(self, given, stm32_divided(source, given.baudrate), wires)

    class ADC:
        CORE_TEMP = 16
        seed = 1

        def __init__(self, channel):
            assert channel == ADC.CORE_TEMP

        def read_u16(self):
            ADC.seed = ADC.seed * 1103515245 + 12345 & 0x7FFFFFFF
            return 0x3A40 + (ADC.seed >> 16 & 0x3F)

    module.freq, module.SPI, module.ADC = freq, SPI, ADC
    module.unique_id = lambda: bytes.fromhex("2f0031000e51353236373434")  # wafer, then the lot in ASCII
    return module
