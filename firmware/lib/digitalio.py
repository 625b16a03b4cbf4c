"""CircuitPython's digitalio on top of machine, as far as drivers of SPI devices use it. Board only."""

from machine import Pin


class Direction:
    INPUT = 0
    OUTPUT = 1


class Pull:
    UP = Pin.PULL_UP
    DOWN = Pin.PULL_DOWN


class DriveMode:
    PUSH_PULL = 0
    OPEN_DRAIN = 1


class DigitalInOut:
    """A pin: `pin` is a machine.Pin or what its constructor takes."""

    def __init__(self, pin):
        self._pin = pin if isinstance(pin, Pin) else Pin(pin)
        self.direction = Direction.INPUT

    def switch_to_output(self, value=False, drive_mode=DriveMode.PUSH_PULL):
        mode = Pin.OPEN_DRAIN if drive_mode == DriveMode.OPEN_DRAIN else Pin.OUT
        self._pin.init(mode, value=value)
        self.direction = Direction.OUTPUT

    def switch_to_input(self, pull=None):
        self._pin.init(Pin.IN, pull)
        self.direction = Direction.INPUT

    @property
    def value(self):
        return bool(self._pin())

    @value.setter
    def value(self, level):
        self._pin(1 if level else 0)

    def deinit(self):
        self._pin.init(Pin.IN)
