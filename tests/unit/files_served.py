"""The firmware's file server on a real socket of this PC, with a folder: what `hardwire fs` talks to in tests."""

import asyncio
import threading

from hardwire.services.files import FilesServer
from hardwire_host.folder import Folder

TICK_S = 0.1


class FilesServed:
    """`folder` (a path) behind a free port, in a thread of its own. A context manager.

    Everything else goes to FilesServer. Attribute server.
    """

    def __init__(self, folder, **options):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._transports = set()
        self._listener = self._ticks = None
        self.server = self.port = None
        self._call(self._start(folder, options))

    async def _start(self, folder, options):
        self.server = FilesServer(Folder(folder), **options)
        self.server.on_work = lambda: self._loop.call_soon(self._work)
        self._listener = await self._loop.create_server(self._protocol, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._ticks = asyncio.create_task(self._tick())

    def _work(self):
        if self.server.work():
            self._loop.call_soon(self._work)

    async def _tick(self):
        while True:
            await asyncio.sleep(TICK_S)
            self.server.tick()

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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self):
        self._ticks.cancel()
        self._listener.close()
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)  # their connection_lost

    @property
    def address(self):
        """For --host."""
        return f"127.0.0.1:{self.port}"
