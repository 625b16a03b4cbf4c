"""The emulated RP2040: rp2040py with silicon's clocks and SPI, its time as a `Clock`, in turns.

In: flash content; `run` from whoever owns the wall clock. Out: guest code executed, pins and SPI controllers
that call back. Never: threads, waiting, a look at the wall clock beyond rp2040py's own, which ends a turn.
"""

import logging
import random
from collections.abc import Callable

from rp2040py.clock.simulation_clock import SimulationClock
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.execute_batch import execute_batch
from rp2040py.gpio_pin import GPIOPinState
from rp2040py.peripherals.vreg_and_chip_reset import HAD_POR, HAD_RUN
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator

from .clock import Alarm, Clock
from .rp2040_flash import Flash
from .rp2040_pio import PioPower
from .rp2040_spi import Clocks, Pl022

log = logging.getLogger(__name__)

NS_PER_CYCLE = 8  # as rp2040py has it: 125 MHz
EXACT = 1  # instructions between two looks at the clock; more would make alarms late, and gains nothing
FOREVER = 1 << 63  # ns
LEVELS = {GPIOPinState.HIGH: True, GPIOPinState.LOW: False}  # in other states the guest does not drive it


class GuestStopped(Exception):
    """The guest has run into a breakpoint: the pico-sdk has one in its hard fault handler and in panic().

    `hint`: what the emulator's owner knows more.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class DeviceClock(Clock):
    """`Clock` on the emulator's time. All alarms share one of the emulator's, set to the earliest."""

    def __init__(self, source: SimulationClock) -> None:
        super().__init__()
        self.on_alarm: Callable[[], None] = lambda: None
        self._source = source
        self._alarm = source.create_alarm(self._ring)
        self._armed: int | None = None
        self._ringing = False

    @property
    def now(self) -> int:
        """Device time in ns; in a callback of a pin or SPI, the start of the instruction that caused it."""
        return round(self._source.nanos)

    def call_at(self, when: int, callback: Callable[[], None]) -> Alarm:
        """As in `Clock`; `on_alarm` tells whoever runs the emulator, which may be asleep."""
        alarm = super().call_at(when, callback)
        if not self._ringing and (self._armed is None or alarm.when < self._armed):
            self._arm(alarm.when)
        self.on_alarm()
        return alarm

    def _arm(self, when: int | None) -> None:
        self._armed = when
        if when is not None:
            self._alarm.schedule(when - self._source.nanos)

    def _ring(self) -> None:
        self._ringing = True
        try:
            self.advance_to(self.now)
        finally:
            self._ringing = False
            self._arm(self.next_due())


class _GuestLog:
    """What rp2040py has to say about the guest; its `Logger`."""

    def debug(self, component: str, message: str) -> None:
        pass  # several for each packet on USB

    info = debug

    def warning(self, component: str, message: str) -> None:
        log.debug("%s: %s", component, message)

    def error(self, component: str, message: str) -> None:
        log.warning("%s: %s", component, message)


class Emulator:
    """An RP2040 with `flash` in its flash chip, powered on.

    `mcu`: rp2040py's. `clock`: device time. `spi`: both controllers. `resets`: how often it has started.
    `on_reset` is called after a reset, before the guest runs; `hint` when it has crashed.
    """

    def __init__(self, flash: bytes, seed: int = 0) -> None:
        self.mcu = mcu = RP2040(SimulationClock())
        mcu.logger = _GuestLog()
        self.clock = DeviceClock(mcu.clock)
        self.resets = 0
        self.on_reset: Callable[[], None] = lambda: None
        self.hint: Callable[[], str] = str
        self._random = random.Random(seed)
        clocks = Clocks(mcu)
        self.spi = [Pl022(mcu, clocks, number) for number in range(2)]
        Flash(mcu, self._random.randbytes(8), self._flash_busy)
        self._pio = PioPower(mcu)
        mcu.load_bootrom(BOOTROM_B1)
        mcu.flash[: len(flash)] = flash
        mcu.watchdog.on_watchdog_trigger = lambda: self._reset(None)
        self._simulator = Simulator(rp2040=mcu)  # for execute_batch; its own loop is never started
        mcu.on_break = self._break
        self._stop = mcu.clock.create_alarm(self.end_turn)
        self._cycles = 0
        self._busy_until = 0  # device time at which flash can be read again
        self.power_on()

    # Time

    @property
    def idle(self) -> bool:
        """Whether the guest does nothing: it waits for an interrupt, or for flash."""
        return self.mcu.core.waiting or self._busy_until > self.clock.now

    @property
    def next_event(self) -> int:
        """Device time before which nothing happens here, unless from outside: now, or an idle guest's next alarm."""
        now = self.clock.now
        busy = self._busy_until > now
        if not (self.mcu.core.waiting or busy):
            return now
        clock = self.mcu.clock
        alarm = now + round(clock.nanos_to_next_alarm) if clock.has_scheduled_alarm else FOREVER
        return min(alarm, self._busy_until) if busy else alarm

    @property
    def cycles(self) -> int:
        """CPU cycles executed; none while asleep."""
        return self._cycles + self.mcu.core.cycles

    def run(self, until: int) -> None:
        """Run up to device time `until` (ns), or for some 5 ms of wall time, or until `end_turn`.

        Raises:
            GuestStopped: see there.
        """
        left = until - self.clock.now
        if left <= 0:
            return
        self._simulator.stopped = False
        self._stop.schedule(left)
        try:
            if self._busy_until > self.clock.now:
                self._wait_for_flash()
            if not self._simulator.stopped:
                execute_batch(self._simulator, EXACT)
        finally:
            self._stop.cancel()

    def _flash_busy(self, ns: int) -> None:
        """The guest does nothing for `ns`: it asks flash, with interrupts off, whether it has written."""
        self._busy_until = self.clock.now + ns
        self.end_turn()

    def _wait_for_flash(self) -> None:
        """Let time pass as rp2040py does for a core that waits, but without waking it for an interrupt."""
        clock = self.mcu.clock
        while not self._simulator.stopped and (left := self._busy_until - clock.nanos) > 0:
            step = min(left, clock.nanos_to_next_alarm)  # there is one: the end of `run`
            clock.tick(step)
            for pio in self.mcu.pio:
                if not pio.stopped:
                    pio.advance(int(step / NS_PER_CYCLE))

    def end_turn(self) -> None:
        """Make `run` return after the current instruction."""
        self._simulator.stopped = True

    # Resets

    def power_on(self) -> None:
        """A power cycle: only flash is kept."""
        self.mcu.sram[:] = self._random.randbytes(len(self.mcu.sram))
        self._busy_until = 0
        self._reset(HAD_POR)

    def reset(self) -> None:
        """A pulse on the RUN pin."""
        self._reset(HAD_RUN)

    def _reset(self, cause: int | None) -> None:
        """`cause`: the bit of CHIP_RESET; None for the watchdog, which keeps its own record."""
        mcu = self.mcu
        self.resets += 1
        self._cycles += mcu.core.cycles
        self._pio.wake()
        mcu.enter_reset(from_watchdog=cause is None)
        self._pio.sleep()
        if cause is not None:
            mcu.watchdog.reset()
            mcu.vreg_and_chip_reset.record_reset_cause(cause)
        mcu.leave_reset()
        self.on_reset()

    def _break(self, code: int) -> None:
        raise GuestStopped(f"breakpoint {code} at 0x{self.mcu.core.pc:08x}", self.hint())

    # Memory and pins

    def read_flash(self, start: int, size: int) -> bytes:
        """`size` bytes of flash, from `start` on."""
        return bytes(self.mcu.flash[start : start + size])

    def write_flash(self, start: int, data: bytes) -> None:
        """Put `data` into flash at `start`."""
        self.mcu.flash[start : start + len(data)] = data

    def drive(self, pin: int, level: bool) -> None:
        """Drive GPIO `pin` from outside."""
        self.mcu.gpio[pin].set_input_value(level)

    def watch(self, pin: int, callback: Callable[[bool | None], None]) -> None:
        """Call `callback` when the guest changes GPIO `pin`: True high, False low, None not driven."""
        self.mcu.gpio[pin].add_listener(lambda new, old: callback(LEVELS.get(new)))
