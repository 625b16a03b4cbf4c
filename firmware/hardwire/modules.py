"""Modules that are not needed always: loaded late, unloaded early.

In: names. Out: heap. Never: a module unloaded whose functions somebody still calls: its names are gone.
"""

import sys

from .compat import const

_SERVER_DEVICE_FAILURE = const(4)


def unload(chosen):
    """Forget every module for whose name `chosen(name)`; importing it again loads it again.

    What the collector takes for a pointer (Thumb code in the heap looks like some) may keep one function alive, not all
    of a module by it: modules are emptied.
    """
    for name in list(sys.modules):
        if not chosen(name):
            continue
        parent, _, child = name.rpartition(".")
        if parent in sys.modules and hasattr(sys.modules[parent], child):
            delattr(sys.modules[parent], child)
        sys.modules[name].__dict__.clear()
        sys.modules[name] = None  # MicroPython's dict keeps the value of what is deleted
        del sys.modules[name]


class Late:
    """Function `code` of a bank (see BareBank.register), whose module is loaded when it is asked for first.

    The module's `install(bank)` registers what stands here until then. That one request takes some 60 ms.
    """

    def __init__(self, module, code):
        self._module = module
        self._code = code

    def __call__(self, request, at, n, bank, response, to):
        try:
            if bank.functions[self._code] is self:
                __import__(self._module)
                sys.modules[self._module].install(bank)
            function = bank.functions[self._code]
        except (ImportError, MemoryError, OSError) as error:
            sys.modules.pop(self._module, None)  # what came of it: the next request tries again
            if bank.on_error is not None:
                bank.on_error(error)
            return -_SERVER_DEVICE_FAILURE
        return function(request, at, n, bank, response, to)
