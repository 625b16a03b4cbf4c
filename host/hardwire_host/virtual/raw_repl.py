"""MicroPython's raw REPL, sans I/O: one program in, its output or its traceback out.

In: bytes the board prints. Out: bytes to type, by `send`. Never: a wait; a second program.
Source: MicroPython docs, reference/repl.html, "Raw mode and raw-paste mode".
"""

from collections.abc import Callable

_INTERRUPT, _RAW, _FRIENDLY, _END = b"\r\x03", b"\r\x01", b"\x02", b"\x04"
_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_ACCEPTED = b"OK"


class RawReplError(Exception):
    """The program has raised; the text is its traceback's last line."""


class RawRepl:
    """Runs `source` once: `start()`, then `feed()` until `done`, then `result()`."""

    def __init__(self, source: str, send: Callable[[bytes], None]) -> None:
        self.done = False
        self._source = source.encode()
        self._send = send
        self._input = b""
        self._next = self._banner

    def start(self) -> None:
        """Interrupt what runs and ask for the raw REPL."""
        self._send(_INTERRUPT + _RAW)

    def feed(self, data: bytes) -> None:
        """Take what the board has printed."""
        if not self.done:
            self._input += data
            self._next()

    def result(self) -> str:
        """What the program has printed. Raises RawReplError."""
        output, error, _ = self._input.split(_END, 2)
        if error:
            raise RawReplError(error.decode(errors="replace").strip().splitlines()[-1])
        return output.decode(errors="replace").replace("\r\n", "\n")

    def _banner(self) -> None:
        if _BANNER in self._input:
            self._input = b""
            self._next = self._accepted
            self._send(self._source + _END)

    def _accepted(self) -> None:
        if len(self._input) >= len(_ACCEPTED):
            self._input = self._input[len(_ACCEPTED) :]
            self._next = self._output
            self._output()

    def _output(self) -> None:
        if self._input.count(_END) == 2 and self._input.endswith(_END + b">"):
            self.done = True
            self._send(_FRIENDLY)
