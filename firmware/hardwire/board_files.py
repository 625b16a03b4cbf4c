"""The board's file server: its files as services/files.py wants them, and bytes in RAM that look like files.

In: settings; clean paths, "" for the root. Out: what the filesystem has. Never: an access outside the root.
"""

import io
import os
from hashlib import sha256

from .compat import const, micropython
from .pace import Pace
from .services.files import FilesServer

_FOLDER = const(0x4000)  # of a mode
_SPARE = const(16384)  # bytes that uploads leave free: littlefs copies what it changes


def _replaces(root):
    """Whether a rename replaces a file at once: on littlefs; FAT deletes the old one first."""
    import vfs

    try:
        mounts = vfs.mount()
    except TypeError:  # before MicroPython 1.25: nobody knows
        return False
    return any(root.startswith(path) and "Lfs" in repr(filesystem) for filesystem, path in mounts)


class Folder:
    """The files in `root`. Methods raise OSError.

    Attributes: replaces: see _replaces. spare: bytes that stay free.
    """

    spare = _SPARE

    def __init__(self, root):
        self._root = root.rstrip("/") + "/"
        self._memory = {}  # path -> (bytes, SHA-256)
        self.replaces = _replaces(root)

    def offer(self, path, data):
        """Show `data` (bytes) as a file at clean `path`, to be read only; None: no more."""
        if data is None:
            self._memory.pop(path, None)
        else:
            self._memory[path] = data, sha256(data).digest()

    def digest(self, path):
        """SHA-256 of a file if it is known, else None."""
        return self._memory[path][1] if path in self._memory else None

    @micropython.native
    def stat(self, path):
        """(kind, size, time): 0 file, 1 folder; the time is not known: nobody sets the board's clock."""
        if path in self._memory:
            return 0, len(self._memory[path][0]), 0
        mode, _, _, _, _, _, size = os.stat(self._root + path)[:7]
        return (1, 0, 0) if mode & _FOLDER else (0, size, 0)

    def scan(self, path):
        """(name, kind, size, time) of each thing in it."""
        for found in os.ilistdir(self._root + path):
            if found[1] & _FOLDER:
                yield found[0], 1, 0, 0
            else:
                yield found[0], 0, found[3], 0
        start = path + "/" if path else ""
        for name, (data, _) in self._memory.items():
            if name.startswith(start) and "/" not in name[len(start) :]:
                yield name[len(start) :], 0, len(data), 0

    def open(self, path, mode):
        """A binary file."""
        if path in self._memory:
            if mode != "rb":
                raise OSError(30)  # EROFS
            return io.BytesIO(self._memory[path][0])
        return open(self._root + path, mode)

    def rename(self, old, new):
        """Give it another name; a file at `new` is replaced."""
        os.rename(self._root + old, self._root + new)

    def remove(self, path):
        """Delete a file."""
        os.remove(self._root + path)

    def mkdir(self, path):
        """Make a folder."""
        os.mkdir(self._root + path)

    def rmdir(self, path):
        """Delete an empty folder."""
        os.rmdir(self._root + path)

    def space(self):
        """(total, free) bytes."""
        found = os.statvfs(self._root)
        return found[1] * found[2], found[1] * found[4]

    def sync(self, file):
        """What was written to `file` is on flash."""
        file.flush()


def file_server(board, requests):
    """The FilesServer of `board`, by its settings; `requests()` counts what must not wait for flash."""
    settings = board.settings["services"]["files"]
    server = FilesServer(
        Folder(os.getcwd()),
        board.settings["name"],
        board.mac,
        settings["read_key"],
        settings["write_key"],
        settings["read_only"],
        settings["hidden"],
        settings["keep_s"],
    )
    server.on_work = lambda: board.net.work(server)
    server.pace = Pace(requests)
    board.net.every_tick(server.tick)
    return server
