"""Do the services of a board answer, as seen from this PC? And if not, why not?

In: a target and the board's settings. Out: where each service is reached, which stay silent, what the app
says. Never: a claim about what this PC cannot see.
"""

import socket
import time

from .clients.modbus import INPUT, ModbusClient
from .errors import FAILED, MODBUS, HardwireError
from .target import LOOPBACK, Target, at_prompt, session

PROBE_S = 2.0  # for a service to answer; a listening board takes milliseconds, an emulated one below 0.1 s
PAUSE_S = 0.2  # between two rounds of asking
LOOK_S = 3.0  # between two looks at the console
IDLE_LOOKS = 2  # prompts in a row: one may be what was printed before the restart
START_S = 60.0  # for `import app` on an emulated board


def endpoints(target: Target, settings: dict) -> dict[str, tuple[str, int] | None]:
    """Where this PC reaches each service that the settings enable; None where that is not known."""
    return {
        name: _endpoint(target, settings["network"], service["port"])
        for name, service in settings["services"].items()
        if service["connections"]
    }


def _endpoint(target: Target, network: dict, port: int) -> tuple[str, int] | None:
    if target.board is not None:
        for forward in target.board.forwards:
            if forward.board_port == port:
                return LOOPBACK.get(forward.host, forward.host), forward.port
        return None
    if target.host is not None:
        return target.host, target.host_port or port
    return (network["address"], port) if network["mode"] == "static" else None


def answers(service: str, host: str, port: int) -> bool:
    """Whether `service` works. Modbus is asked: a connection alone proves the chip, not the firmware."""
    try:
        if service == "modbus":
            with ModbusClient(host, port, timeout=PROBE_S) as client:
                client.read(INPUT, 0)
        else:
            socket.create_connection((host, port), PROBE_S).close()
    except HardwireError as error:
        return error.code == MODBUS  # an exception is an answer
    except OSError:
        return False
    return True


def wait_for(
    places: dict[str, tuple[str, int]], seconds: float, target: Target | None = None
) -> dict[str, tuple[str, int]]:
    """Wait until every service answers, at most `seconds`. Returns those that do not.

    With `target`, the board at the other end, it also ends when no app runs there any more.
    """
    silent = dict(places)
    start = time.monotonic()
    look, idle = start + LOOK_S, 0
    while True:
        silent = {name: place for name, place in silent.items() if not answers(name, *place)}
        now = time.monotonic()
        if not silent or now > start + seconds:
            return silent
        if target and now > look:
            idle = idle + 1 if _idle(target) else 0
            if idle == IDLE_LOOKS:
                return silent
            look = time.monotonic() + LOOK_S
        time.sleep(PAUSE_S)


def _idle(target: Target) -> bool:
    try:
        return at_prompt(target)
    except HardwireError:  # somebody else has the port by now: that is their right
        return False


def why_silent(target: Target) -> HardwireError | None:
    """What keeps the app from running; None if it runs. A board that is idle is started once more."""
    if not _idle(target):
        return None
    try:
        with session(target, soft_reset=True, restart=True, timeout=START_S) as transport:
            transport.exec("import hardwire.start, app")
    except HardwireError as error:
        return error
    hint = f"mpremote connect {target.repl} repl, then Ctrl-D, shows why"
    return HardwireError(FAILED, "the app has ended", hint)
