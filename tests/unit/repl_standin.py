"""A board behind its REPL, for tests: what is sent there to run is run by CPython, in a folder.

In: code as for mpremote's transport, and what it reads and writes. Out: changes in the folder. Never: a real port.
"""

import contextlib
import subprocess
import sys

FREE = 1 << 20

# argv: the folder that is "/"; "fat" if a rename replaces nothing; free bytes. Code comes after its length, and
# ends as in the raw REPL: what it wrote, 04, its traceback, 04.
BOARD = r"""
import errno, io, os, sys, types

root, fat, free = sys.argv[1], sys.argv[2] == "fat", int(sys.argv[3])
stdin, stdout = io.FileIO(0), io.FileIO(1, "w")


class In:
    def read(self, n):
        data = b""
        while len(data) < n:
            more = stdin.read(n - len(data))
            if not more:
                raise SystemExit
            data += more
        return data

    def readinto(self, view):
        view[:] = self.read(len(view))


class Out:
    def write(self, data):
        data = memoryview(data)
        while data:
            data = data[stdout.write(data) :]


def rename(old, new):
    if fat and os.path.exists(new):
        raise OSError(errno.EEXIST, "")
    os.rename(old, new)


def ilistdir(path):
    return [(entry.name, 0x4000 if entry.is_dir() else 0x8000, 0) for entry in os.scandir(path)]


def rooted(function):
    return lambda *paths: function(*(root + path if path[0] == "/" else path for path in paths))


functions = {"stat": os.stat, "remove": os.remove, "mkdir": os.mkdir, "rmdir": os.rmdir}
functions |= {"rename": rename, "ilistdir": ilistdir, "statvfs": lambda path: (4096, 4096, 512, free // 4096)}
line, out = In(), Out()
scope = {"open": rooted(open), "print": lambda text: out.write((text + "\r\n").encode())}
modules = {
    "os": {name: rooted(function) for name, function in functions.items()},
    "micropython": {"kbd_intr": lambda key: None},
    "sys": {"stdin": types.SimpleNamespace(buffer=line), "stdout": types.SimpleNamespace(buffer=out)},
}
for name, members in modules.items():
    sys.modules[name] = types.SimpleNamespace(**members)
while True:
    code = line.read(int(line.read(8), 16)).decode()
    problem = ""
    try:
        exec(code, scope)
    except OSError as error:
        problem = "Traceback\r\nOSError: [Errno %d] E\r\n" % error.errno
    except Exception as error:
        problem = "Traceback\r\n%r\r\n" % error
    out.write(b"\4" + problem.encode() + b"\4")
"""


class Line:
    """mpremote's transport, as far as it is used, to a process that runs BOARD; and its serial port.

    Attributes: damage: called with what goes either way, returns what arrives. sent: bytes written.
    """

    def __init__(self, root, fat=False, free=FREE):
        arguments = [sys.executable, "-c", BOARD, str(root), "fat" if fat else "littlefs", str(free)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.serial = self
        self.damage = bytes
        self.sent = 0

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def exec_raw_no_follow(self, code):
        self._process.stdin.write(b"%08x" % len(code.encode()) + code.encode())

    def write(self, data):
        self.sent += len(data)
        self._process.stdin.write(self.damage(data))

    def read(self, n):
        data = self._process.stdout.read(n)
        return self.damage(data) if len(data) > 100 else data

    def read_until(self, _least, ending, timeout):
        data = b""
        while not data.endswith(ending):
            data += self._process.stdout.read(1)
        return data

    def follow(self, timeout):
        return tuple(self.read_until(1, b"\x04", timeout)[:-1] for _ in range(2))


class Board:
    """The folder `root`, and the lines that were made to it; `options` and `damage` are for the next one."""

    def __init__(self, root):
        root.mkdir()
        self.root = root
        self.lines = []
        self.options = {}
        self.damage = bytes

    @contextlib.contextmanager
    def session(self, target, **_):
        """Stands in for target.session."""
        line = Line(self.root, **self.options)
        line.damage = self.damage
        self.lines.append(line)
        try:
            yield line
        finally:
            line.close()

    @property
    def files(self):
        """What is in all files, by path."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }
