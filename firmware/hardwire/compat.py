"""The only place where interpreters differ: MicroPython on the board, CPython on the PC and in tests."""

try:
    from micropython import const
    from time import sleep_ms, ticks_add, ticks_diff, ticks_ms, ticks_us
    import micropython

    native = micropython.native
    viper = micropython.viper
    ptr8 = None  # names in viper signatures; the compiler reads them, the interpreter never does
except ImportError:
    import time

    def const(value):
        return value

    def native(function):
        return function

    viper = native
    ptr8 = memoryview

    _PERIOD = 1 << 30  # as on the rp2 port

    def ticks_ms():
        return time.monotonic_ns() // 1_000_000 % _PERIOD

    def ticks_us():
        return time.monotonic_ns() // 1000 % _PERIOD

    def ticks_add(ticks, delta):
        return (ticks + delta) % _PERIOD

    def ticks_diff(end, start):
        return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def sleep_ms(duration):
        time.sleep(duration / 1000)
