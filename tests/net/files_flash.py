"""The board's flash for tests in one process: littlefs, as MicroPython has it, on blocks that power can be cut from."""

import contextlib
import io

from littlefs import LittleFS, LittleFSError, UserContext

BLOCK, BLOCKS = 4096, 160  # bytes; a board has more of them
# As MicroPython's VfsLfs2 with progsize=256 makes it
GEOMETRY = {
    "block_size": BLOCK,
    "block_count": BLOCKS,
    "read_size": 32,
    "prog_size": 256,
    "cache_size": 1024,
    "lookahead_size": 32,
}
IO = -5  # LFS_ERR_IO


class Flash(UserContext):
    """Blocks in RAM. Attributes: until_cut: programs and erases before power goes, None for never; off: it has gone."""

    def __init__(self, content: bytes | None = None) -> None:
        super().__init__(buffer=bytearray(content or b"\xff" * (BLOCK * BLOCKS)))
        self.until_cut = None
        self.operations = 0

    @property
    def off(self) -> bool:
        return self.until_cut is not None and self.until_cut < 0

    def _goes_on(self) -> bool:
        """Count one. False: power goes in the middle of it."""
        self.operations += 1
        if self.until_cut is not None:
            self.until_cut -= 1
        return not self.off

    def prog(self, cfg, block, off, data):
        was_off = self.off
        whole = self._goes_on()
        if not was_off:
            super().prog(cfg, block, off, data if whole else data[: len(data) // 2])
        return 0 if whole else IO

    def erase(self, cfg, block):
        was_off = self.off
        whole = self._goes_on()
        if was_off:
            return IO
        super().erase(cfg, block)
        return 0 if whole else IO


@contextlib.contextmanager
def _as_os_error():
    try:
        yield
    except LittleFSError as error:
        raise OSError(-error.code, error.name) from None
    except OSError as error:
        if error.errno is None:  # littlefs-python gives none
            number = {FileNotFoundError: 2, FileExistsError: 17, IsADirectoryError: 21}[type(error)]
            raise OSError(number, type(error).__name__) from None
        raise


class _File(io.RawIOBase):
    """A file of it. On the board, write is unbuffered but for littlefs's own, and flush is lfs_file_sync."""

    def __init__(self, raw) -> None:
        self._raw = raw

    def readinto(self, buffer):
        with _as_os_error():
            return self._raw.readinto(buffer)

    def write(self, data):
        with _as_os_error():
            return self._raw.write(data)

    def read(self, n=-1):
        data = bytearray(n)
        return bytes(data[: self.readinto(data)])

    def seek(self, offset, whence=0):
        with _as_os_error():
            return self._raw.seek(offset, whence)

    def flush(self):
        with _as_os_error():
            self._raw.flush()

    def close(self):
        with _as_os_error():
            self._raw.close()


class Folder:
    """What hardwire.board_files.Folder is on the board, on `flash`; it is formatted if nothing is there."""

    replaces = True
    spare = 16384

    def __init__(self, flash: Flash) -> None:
        blank = not any(byte != 0xFF for byte in flash.buffer[:BLOCK])
        self._lfs = LittleFS(context=flash, mount=False, **GEOMETRY)
        if blank:
            self._lfs.format()
        self._lfs.mount()

    def stat(self, path):
        if not path:
            return 1, 0, 0
        with _as_os_error():
            found = self._lfs.stat(path)
        return (1, 0, 0) if found.type == 2 else (0, found.size, 0)

    def scan(self, path):
        with _as_os_error():
            for found in list(self._lfs.scandir(path or "/")):
                yield found.name, 1 if found.type == 2 else 0, found.size, 0

    def open(self, path, mode):
        with _as_os_error():
            return _File(self._lfs.open(path, mode, buffering=0))

    def rename(self, old, new):
        with _as_os_error():
            self._lfs.rename(old, new)

    def remove(self, path):
        with _as_os_error():
            self._lfs.remove(path)

    rmdir = remove

    def mkdir(self, path):
        with _as_os_error():
            self._lfs.mkdir(path)

    def space(self):
        return BLOCK * BLOCKS, BLOCK * (BLOCKS - self._lfs.used_block_count)

    def sync(self, file):
        file.flush()

    def content(self) -> dict[str, bytes]:
        """Every file, by path; a folder has its name and "/"."""
        found = {}
        for folder, folders, names in self._lfs.walk("/"):
            found |= {f"{folder}/{name}/".lstrip("/"): b"" for name in folders}
            for name in names:
                path = f"{folder}/{name}".lstrip("/")
                with self._lfs.open(path, "rb") as file:
                    found[path] = file.read()
        return found
