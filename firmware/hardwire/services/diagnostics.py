"""Echo (RFC 862), Discard (RFC 863) and Chargen (RFC 864): is the network there, and how fast is it?

In: bytes. Out: the same bytes, nothing, or a pattern without end. Each keeps to what the peer takes.
"""

from ..compat import const
from ..w5500.chip import CHUNK

BLOCK = const(1024)  # half of a socket's memory: one block is written while the other is on its way


class Echo:
    """Sends back what comes; what does not fit holds the peer back."""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, view):
        self._transport.write(view)

    def eof_received(self):
        """All that came has been written."""

    def pause_writing(self):
        self._transport.pause_reading()

    def resume_writing(self):
        self._transport.resume_reading()

    def connection_lost(self, error):
        pass


class Discard:
    """Takes everything."""

    def connection_made(self, transport):
        pass

    def data_received(self, view):
        pass

    def eof_received(self):
        pass

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    def connection_lost(self, error):
        pass


_pattern = None


def pattern():
    """BLOCK bytes: lines of 72 characters, each a character further along (RFC 864)."""
    global _pattern
    if _pattern is None:
        printable = bytes(range(32, 127))
        lines = b""
        shift = 0
        while len(lines) < BLOCK:
            lines += (printable + printable)[shift : shift + 72] + b"\r\n"
            shift = (shift + 1) % len(printable)
        _pattern = lines[:BLOCK]
    return _pattern


class Chargen(Discard):
    """Sends `pattern()` over and over, as fast as the peer takes it."""

    def connection_made(self, transport):
        self._transport = transport
        self._full = False
        self._block = pattern()
        self.resume_writing()

    def pause_writing(self):
        self._full = True

    def resume_writing(self):
        self._full = False
        transport = self._transport
        while not (self._full or transport.is_closing()):
            transport.write(self._block)


# Name: protocol, and how much it is handed at once. Echo takes half a memory: one goes while the other comes.
OFFER = {"echo": (Echo, BLOCK), "discard": (Discard, CHUNK), "chargen": (Chargen, CHUNK)}
