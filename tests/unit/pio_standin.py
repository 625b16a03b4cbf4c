"""`rp2` for tests on a PC: assembles a PIO program as the module of that name does, and runs it on pins.

In: calls as of MicroPython 1.25 (ports/rp2/modules/rp2.py, rp2_pio.c). Out: edges on the pins of `Wires`, words in the
FIFOs. Never: an instruction or argument that the port refuses, a wait that on silicon would not end: both raise. Covers
the instructions that our program has; clocks are counted, so that what is too fast for the chip raises too.
"""

from types import FunctionType

DEPTH = 4  # words in a FIFO (RP2040 datasheet 3.2)
WORD = 0xFFFFFFFF
SHORTEST = 2  # clocks that SCK must be high or low: 16 ns at 125 MHz, half of 31.25 MHz
SYNCHRONISER = 2  # clocks that a pin's level needs to be seen, unless bypassed (datasheet 3.5.6.3)


class PIO:
    """Constants of the class that bus_pio.py uses."""

    OUT_LOW = 2
    SHIFT_LEFT = 0


class Instruction:
    """One assembled instruction; `.side(level)` and `[delay]` as in rp2.py."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments
        self.level, self.delay = None, 0

    def side(self, level):
        assert level in (0, 1)
        self.level = level
        return self

    def __getitem__(self, delay):
        assert 0 <= delay <= 15, "one bit of five is the side set's"
        self.delay = delay
        return self


class Program:
    """What the decorator returns."""

    def __init__(self, code, labels, push_thresh):
        self.code, self.labels, self.push_thresh = code, labels, push_thresh


def asm_pio(*, out_init, sideset_init, autopush, push_thresh):
    """The decorator, with the keyword arguments in use."""
    assert out_init == PIO.OUT_LOW and sideset_init == PIO.OUT_LOW and autopush
    assert 1 <= push_thresh <= 32

    def assemble(function):
        code, labels = [], {}

        def instruction(name, *kinds):
            def emit(*arguments):
                assert len(arguments) == len(kinds), name
                for argument, allowed in zip(arguments, kinds, strict=True):
                    assert argument in allowed, f"{name} {argument}"
                code.append(Instruction(name, *arguments))
                return code[-1]

            return emit

        class AnyLabel:
            def __contains__(self, value):
                return isinstance(value, str)

        bits = range(1, 33)
        names = {name: name for name in ("pins", "x", "y", "null", "isr", "x_dec", "y_dec", "not_x")}
        jump = instruction("jmp", ("always", "x_dec", "y_dec", "not_x"), AnyLabel())
        names |= {
            "label": lambda name: labels.__setitem__(name, len(code)),
            "pull": instruction("pull"),
            "push": instruction("push"),
            "nop": instruction("nop"),
            "out": instruction("out", ("pins", "x", "y", "isr"), bits),
            "in_": instruction("in", ("pins",), bits),
            "mov": instruction("mov", ("x", "y", "isr"), ("x", "y", "isr", "null")),
            "set": instruction("set", ("x", "y"), range(32)),
            "jmp": lambda *target: jump(*target) if len(target) == 2 else jump("always", *target),
        }
        FunctionType(function.__code__, names)()
        assert len(code) <= 32, "instruction memory"
        for step in code:
            assert step.level is not None, "side set is not optional"
            assert step.name != "jmp" or step.arguments[1] in labels
        return Program(code, labels, push_thresh)

    return assemble


class Wires:
    """SCK, MOSI and MISO between a state machine and the chip model, mode 0, and CS from outside."""

    def __init__(self, chip):
        self._chip = chip
        self.sck = self.mosi = self.miso = 0
        self._miso_since = self._edge = 0
        self._was = 0
        self.select(False)

    def select(self, active):
        """An edge of CS."""
        assert not active or not self.sck, "mode 0 begins with SCK low"
        assert not self._edges_in_byte(), "CS rose in the middle of a byte"
        self._chip.select(active)
        self._bits = self._byte = 0
        self._header = bytearray()
        self._out = 1 if active else None

    def _edges_in_byte(self):
        return getattr(self, "_bits", 0) % 8

    def clock(self, level, now):
        """SCK becomes `level` at clock `now`."""
        if level == self.sck:
            return
        assert now - self._edge >= SHORTEST, "SCK is too fast"
        self.sck, self._edge = level, now
        if level:
            if (
                self._out is None
            ):  # a byte read is fetched with its first clock, so that none is fetched in excess
                self._out = self._chip.shift(0)
            self._drive(now)
            self._byte = self._byte << 1 & 0xFF | self.mosi
        else:
            self._bits += 1
            if self._bits % 8 == 0:
                self._byte_done()

    def _reading(self):
        return len(self._header) == 3 and not self._header[2] & 4

    def _byte_done(self):
        if not self._reading():
            self._out = self._chip.shift(self._byte)
        if len(self._header) < 3:
            self._header.append(self._byte)
        if self._reading():
            self._out = None

    def _drive(self, now):
        """MISO for this bit. It has changed with the falling edge before; here it does so with the rising one."""
        level = self._out >> (7 - self._bits % 8) & 1
        if level != self.miso:
            self._was, self.miso, self._miso_since = self.miso, level, now

    def sample(self, now, bypassed):
        """What `in` sees at clock `now`."""
        late = 0 if bypassed else SYNCHRONISER
        return self.miso if now - late >= self._miso_since else self._was


class StateMachine:
    """A state machine of block `number // 4`. `rig` has `wires`, `bypassed` (pins) and `cpu_hz`."""

    rig = None  # set by who installs this

    def __init__(self, number):
        assert number in range(8), "the RP2040 has two blocks of four"
        self._program = None
        self._running = False

    def init(self, prog, freq=-1, *, out_base, sideset_base, in_base):
        """As rp2_state_machine_init_helper: configured, FIFOs empty, not running."""
        rig = self.rig
        divider = rig.cpu_hz * 256 // freq
        if not 256 <= divider <= 65536 * 256:
            raise ValueError("freq out of range")
        assert divider == 256, "SPI would be slower than its board file says"
        pins = rig.pins
        assert (out_base.name, sideset_base.name, in_base.name) == (pins.MOSI, pins.SCK, pins.MISO)
        self._program, self._tx, self._rx = prog, [], []
        self._registers = {"x": 0, "y": 0, "isr": 0, "null": 0}
        self._osr = self._shifted = self._pc = 0
        self._running = False

    def active(self, value):
        self._running = bool(value)

    def put(self, value, shift=0):
        """As rp2_state_machine_put: a number, or each item of a buffer."""
        if isinstance(value, (bytes, bytearray)):
            items = value
        else:
            view = memoryview(value)
            assert view.format in "BHI", "unsupported buffer type"
            items = view
        for item in items:
            self._run()
            assert len(self._tx) < DEPTH, "put would wait for ever"
            self._tx.append(item << shift & WORD)
        self._run()

    def get(self, buffer=None, shift=0):
        """As rp2_state_machine_get."""
        values = []
        for _ in range(1 if buffer is None else len(buffer)):
            self._run()
            assert self._rx, "get would wait for ever"
            values.append(self._rx.pop(0) >> shift)
        if buffer is None:
            return values[0]
        buffer[:] = bytes(value & 0xFF for value in values)
        return buffer

    # Execution

    def _run(self):
        assert self._running
        while self._step(self._program.code[self._pc]):
            pass

    def _step(self, step):
        """Execute one instruction; False when it has to wait."""
        rig, wires, registers = self.rig, self.rig.wires, self._registers
        wires.clock(step.level, rig.clocks)  # also when the instruction waits
        following = self._pc + 1
        if step.name == "pull":
            if not self._tx:
                return False
            self._osr = self._tx.pop(0)
        elif step.name == "push":
            if len(self._rx) == DEPTH:
                return False
            self._push()
        elif step.name == "out":
            target, bits = step.arguments
            value, self._osr = self._osr >> 32 - bits, self._osr << bits & WORD
            if target == "pins":
                wires.mosi = value & 1
            else:
                registers[target] = value
                if target == "isr":
                    self._shifted = bits
        elif step.name == "in":
            if self._shifted + 1 >= self._program.push_thresh and len(self._rx) == DEPTH:
                return False
            bit = wires.sample(rig.clocks, rig.pins.MISO in rig.bypassed)
            registers["isr"] = registers["isr"] << 1 & WORD | bit
            self._shifted += 1
            if self._shifted >= self._program.push_thresh:
                self._push()
        elif step.name == "mov":
            target, source = step.arguments
            registers[target] = registers[source]
            if target == "isr":
                self._shifted = 0
        elif step.name == "set":
            registers[step.arguments[0]] = step.arguments[1]
        elif step.name == "jmp":
            condition, label = step.arguments
            register = condition.removesuffix("_dec").removeprefix("not_")
            taken = {
                "always": True,
                "not_x": not registers["x"],
                "x_dec": registers["x"] != 0,
                "y_dec": registers["y"] != 0,
            }[condition]
            if condition.endswith("_dec"):
                registers[register] = registers[register] - 1 & WORD
            if taken:
                following = self._program.labels[label]
        rig.clocks += 1 + step.delay
        self._pc = following % len(self._program.code)
        return True

    def _push(self):
        self._rx.append(self._registers["isr"])
        self._registers["isr"] = self._shifted = 0
