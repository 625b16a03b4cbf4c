"""The firmware's Modbus server on a real socket of this PC: what the PC's commands talk to in tests without a board."""

import asyncio
import threading

from hardwire.services.modbus import ModbusServer
from hardwire.wire import modbus_diagnostics, modbus_records


class Served:
    """`bank` with all functions behind a free port, in a thread of its own. A context manager.

    Args:
        bank: what is served; `files`: number -> File or Plain of it.
        writes: whether clients may write.
    """

    def __init__(self, bank, writes=True, files=None):
        modbus_diagnostics.install(bank)
        modbus_records.install(bank)
        bank.files = files or {}
        self.server = ModbusServer(bank, writes)
        self._transports = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._listener = None
        self.port = 0
        self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.silence()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def listen(self):
        """Accept connections, at the port of the time before."""
        self._listener = self._call(self._loop.create_server(self._protocol, "127.0.0.1", self.port))
        self.port = self._listener.sockets[0].getsockname()[1]

    def silence(self):
        """Close what is open and accept nothing."""
        self._call(self._close())

    async def _close(self):
        self._listener.close()
        for transport in self._transports:
            transport.abort()
        self._transports.clear()
        await asyncio.sleep(0)  # their connection_lost

    def _protocol(self):
        protocol = self.server()
        made = protocol.connection_made

        def connection_made(transport):
            self._transports.add(transport)
            made(transport)

        protocol.connection_made = connection_made
        return protocol

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
