"""The only place where interpreters differ: MicroPython on the board, CPython on the PC and in tests."""

try:
    from sys import print_exception
    from time import sleep_ms, ticks_diff, ticks_ms

    import micropython
    from micropython import const

    WRITE_COPIES = True  # our Transport.write has no use for its argument once it returned
    ptr8 = ptr32 = None  # names in viper signatures: the compiler reads them, the interpreter never does
except ImportError:
    import time
    from traceback import print_exception as _print_exception

    def const(value):
        return value

    class micropython:  # noqa: N801  the compiler knows its emitters by these words: @micropython.viper
        @staticmethod
        def native(function):
            return function

        viper = native

    WRITE_COPIES = False  # from 3.12 on, asyncio's keeps a reference to what the socket did not take
    ptr8 = ptr32 = memoryview

    _PERIOD = 1 << 30  # as on the rp2 port
    now_ns = time.monotonic_ns  # a simulation puts its own clock here

    def ticks_ms():
        return now_ns() // 1_000_000 % _PERIOD

    def ticks_diff(end, start):
        return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def sleep_ms(duration):
        time.sleep(duration / 1000)

    def print_exception(error, file):
        _print_exception(error, file=file)


try:
    from os import urandom as entropy
except ImportError:  # an STM32 without a generator of random numbers
    from .entropy import entropy  # noqa: F401  needs `const`, so it comes last
