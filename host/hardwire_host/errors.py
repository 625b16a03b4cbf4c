"""What a user sees when something fails: one message, one hint, one exit code.

In: nothing. Out: the exit codes, and the one exception that every PC-side module raises for a failure that
is not its own bug. Never: imports, printing. Anything else that reaches the top of a command is a bug and
keeps its traceback.
"""

OK = 0
FAILED = 1  # the operation failed: remote exception, verify mismatch, a check that says "fail"
USAGE = 2  # a command line or a configuration that cannot be right (click's own code)
NO_BOARD = 3  # no board, no such port, cannot connect
BUSY = 4  # another program holds the serial port or the TCP port
WRONG_BOARD = 5  # wrong board, firmware, image or .mpy version
TIMEOUT = 6  # it is there and does not answer
MODBUS = 7  # the server answered with a Modbus exception
INTERRUPTED = 130  # Ctrl-C, as shells report it (128 + SIGINT)


class HardwireError(Exception):
    """A failure to show to the user as one line.

    Args:
        code: exit code, one of the constants above.
        message: what happened, without a trailing full stop.
        hint: what to do next, "" when there is nothing useful to say.
        data: facts for `--json`, merged into the envelope (the exception's number, the candidates, ...).
    """

    def __init__(self, code: int, message: str, hint: str = "", data: dict | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.data = data or {}

    def details(self) -> dict:
        """The constructor's arguments, as JSON can carry them to another process."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "data": self.data}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message
