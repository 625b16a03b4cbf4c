"""The emulated RP2040: rp2040py with silicon's clocks and SPI, its time as a `Clock`, and turns of bounded length.

In: flash content; `run` from whoever owns the wall clock. Out: guest code executed, peripherals at `spi` and `pins`.
Never: threads, waiting, a look at the wall clock beyond rp2040py's own 5 ms bound of a turn.
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
from .rp2040_spi import Clocks, Pl022

log = logging.getLogger(__name__)

CPU_HZ = 125_000_000  # rp2040py's, whatever clk_sys the guest sets
_EXACT = 1  # instructions between two looks at the clock; more would be faster by nothing and let alarms slip


class GuestStopped(Exception):
    """The guest has executed a breakpoint: the pico-sdk does so in its hard fault and panic handlers."""


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
        """Device time in ns: inside a callback of a peripheral, the start of the instruction that caused it."""
        return round(self._source.nanos)

    def call_at(self, when: int, callback: Callable[[], None]) -> Alarm:
        """As in `Clock`; `on_alarm` tells the engine, which may be asleep."""
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
    """What rp2040py has to say about the guest."""

    def debug(self, component: str, message: str) -> None:
        pass

    def info(self, component: str, message: str) -> None:
        pass

    def warning(self, component: str, message: str) -> None:
        log.debug("%s: %s", component, message)

    def error(self, component: str, message: str) -> None:
        log.warning("%s: %s", component, message)


class Emulator:
    """An RP2040 with `flash` in its flash chip. `on_reset` is called after every reset, before the guest runs."""

    def __init__(self, flash: bytes, seed: int = 0) -> None:
        self.mcu = mcu = RP2040(SimulationClock())
        mcu.logger = _GuestLog()
        self.clock = DeviceClock(mcu.clock)
        self.clocks = Clocks(mcu)
        self.spi = [Pl022(mcu, self.clocks, number) for number in range(2)]
        mcu.load_bootrom(BOOTROM_B1)
        mcu.flash[: len(flash)] = flash
        self.on_reset: Callable[[], None] = lambda: None
        self.resets = 0
        self._random = random.Random(seed)
        self._cycles = 0
        self._stop = mcu.clock.create_alarm(self.end_turn)
        self._simulator = Simulator(rp2040=mcu)  # its own loop is never started
        mcu.on_break = self._break
        mcu.watchdog.on_watchdog_trigger = self._watchdog
        self.power_on()

    # Time

    @property
    def idle(self) -> bool:
        """Whether the guest waits for an interrupt."""
        return self.mcu.core.waiting

    @property
    def idle_ns(self) -> int | None:
        """Time to the next alarm, None if there is none: an idle guest then sleeps until something from outside."""
        clock = self.mcu.clock
        return round(clock.nanos_to_next_alarm) if clock.has_scheduled_alarm else None

    @property
    def cycles(self) -> int:
        """CPU cycles executed, without those asleep."""
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
            execute_batch(self._simulator, _EXACT)
        finally:
            self._stop.cancel()

    def end_turn(self) -> None:
        """Make `run` return after the current instruction."""
        self._simulator.stopped = True

    # Resets

    def power_on(self) -> None:
        """A power cycle of the MCU: nothing but flash survives."""
        self.mcu.sram[:] = self._random.randbytes(len(self.mcu.sram))
        self._reset(HAD_POR)

    def reset(self) -> None:
        """A pulse on the RUN pin."""
        self._reset(HAD_RUN)

    def _reset(self, cause: int) -> None:
        mcu = self.mcu
        self._enter(from_watchdog=False)
        mcu.watchdog.reset()
        mcu.vreg_and_chip_reset.record_reset_cause(cause)
        mcu.leave_reset()
        self.on_reset()

    def _watchdog(self) -> None:
        self._enter(from_watchdog=True)
        self.mcu.leave_reset()
        self.on_reset()

    def _enter(self, *, from_watchdog: bool) -> None:
        self.resets += 1
        self._cycles += self.mcu.core.cycles
        self.mcu.enter_reset(from_watchdog=from_watchdog)

    def _break(self, code: int) -> None:
        raise GuestStopped(f"breakpoint {code} at 0x{self.mcu.core.pc:08x}")

    # Memory and pins

    def read_flash(self, start: int, size: int) -> bytes:
        """`size` bytes of flash, from `start` on."""
        return bytes(self.mcu.flash[start : start + size])

    def write_flash(self, start: int, data: bytes) -> None:
        """Put `data` into flash at `start`; for a guest that is not running."""
        self.mcu.flash[start : start + len(data)] = data

    def drive(self, pin: int, level: bool) -> None:
        """Drive GPIO `pin` from outside."""
        self.mcu.gpio[pin].set_input_value(level)

    def watch(self, pin: int, callback: Callable[[bool | None], None]) -> None:
        """Call `callback` when the guest changes GPIO `pin`: True high, False low, None not driven."""
        levels = {GPIOPinState.HIGH: True, GPIOPinState.LOW: False}
        self.mcu.gpio[pin].add_listener(lambda new, old: callback(levels.get(new)))
