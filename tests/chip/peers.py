"""The other end of a connection in tests: a TcpUser that keeps what it gets."""


class Peer:
    """A TCP client of the PC stack. `take` bounds the receive window; nothing is read while it is 0."""

    def __init__(self, board, port, *, take=65535):
        self.board = board
        self.got = bytearray()
        self.take = take
        self.up = False
        self.eof = False
        self.reason = None
        board_ip = board.chip.network()[0]
        self.tcb = board.pc.connect(self, None, board_ip, port)

    # TcpUser

    def attached(self, tcb):
        self.tcb = tcb

    def room(self):
        return self.take

    def established(self):
        self.up = True

    def received(self, data):
        self.got += data

    def acked(self, n):
        pass

    def sent(self, n):
        pass

    def fin(self):
        self.eof = True

    def closed(self, reason):
        self.reason = reason

    # For tests

    def send(self, data):
        self.tcb.send(bytes(data))

    def expect(self, n, seconds=5.0):
        """Wait for `n` bytes and return them."""
        assert self.board.run_until(lambda: len(self.got) >= n, seconds), bytes(self.got)
        data = bytes(self.got[:n])
        self.got = self.got[n:]
        return data

    def wait_up(self):
        assert self.board.run_until(lambda: self.up or self.reason, 5.0)
        assert self.up, self.reason

    def wait_closed(self, seconds=5.0):
        assert self.board.run_until(lambda: self.eof or self.reason is not None, seconds)
