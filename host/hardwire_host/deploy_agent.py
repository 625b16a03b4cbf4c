"""Runs on the board for deploy_link.py, which compiles this file and hands it over past the flash.

In: calls in the raw REPL, and file content on stdin. Out: printed lines. Never: a change to the tree that
boots, unless `commit` is told to make another one boot.
"""

import binascii
import errno
import hashlib
import json
import os
import sys

import micropython

CHUNK = 4096  # bytes of a file in RAM at a time: a flash block

made = set()  # folders known to exist: asking the filesystem takes milliseconds


def sha256(path):
    h = hashlib.sha256()
    b = memoryview(bytearray(CHUNK))
    with open(path, "rb") as f:
        while True:
            n = f.readinto(b)
            if not n:
                return binascii.hexlify(h.digest()).decode()
            h.update(b[:n])


def text(path):
    try:
        with open(path, "rb") as f:
            return f.read().decode()
    except (OSError, UnicodeError):
        return None


def walk(top, path=""):
    try:
        entries = list(os.ilistdir(top + path))
    except OSError:
        return
    for entry in entries:
        name = path + "/" + entry[0]
        if entry[1] & 0x4000:
            yield from walk(top, name)
        else:
            yield name, entry[3]


def state(wanted, root):
    """Print a line of JSON on the board, then [slot, path, size, sha256] of each file of one slot.

    It is the slot that boots if its manifest has the SHA-256 `wanted`, else the other, or slot a if none
    boots.
    """
    s = os.statvfs("/")
    m = {t: text("/" + t + "/manifest.json") for t in "ab"}
    slot = text("/slot")
    if slot not in ("a", "b") or m[slot] is None:  # as boot.py does it
        slot = slot and ("a" if m["a"] is not None else "b" if m["b"] is not None else None)
    listed = "b" if slot == "a" else "a"
    if slot and sha256("/" + slot + "/manifest.json") == wanted:
        listed = slot
    print(
        json.dumps(
            {
                "block": s[0],
                "free": s[3],
                "active": slot,
                "manifests": m,
                "root": {n: text("/" + n) for n in root},
                "listed": listed,
            }
        )
    )
    for path, size in walk("/" + listed):
        print(json.dumps([path[1:], size, sha256("/" + listed + path)]))


def drop(paths):
    """Remove files, and the folders that become empty."""
    made.clear()
    for p in paths:
        try:
            os.remove(p)
            while p.count("/") > 2:
                p = p[: p.rfind("/")]
                os.rmdir(p)
        except OSError:
            pass


def folders(path):
    if path[: path.rfind("/")] in made:
        return
    n = path.find("/", 1)
    while n > 0:
        made.add(path[:n])
        try:
            os.mkdir(path[:n])
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        n = path.find("/", n + 1)


def put(files):
    """Write files that come on stdin; print the SHA-256 of each, as read back.

    files: [[path, [[length of a chunk, what stands for byte 3 in it or -1], ...]], ...]

    A chunk is asked for by a dot once the one before it is in flash: a UART without flow control loses what
    comes while flash is being written. Byte 3 is Ctrl-C, which must go on stopping this program, so it never
    travels.
    """
    for path, chunks in files:
        folders(path)
        with open(path, "wb") as f:
            for n, stand_in in chunks:
                b = bytearray(n)
                print(".", end="")
                sys.stdin.buffer.readinto(b)
                f.write(b if stand_in < 0 else bytes(b).replace(bytes([stand_in]), b"\x03"))
        print(sha256(path))


def copy(source, target, paths):
    """Copy files on the board; print the SHA-256 of each copy, or that there is no such file."""
    b = memoryview(bytearray(CHUNK))
    for p in paths:
        folders(target + p)
        try:
            with open(source + p, "rb") as s, open(target + p, "wb") as f:
                while True:
                    n = s.readinto(b)
                    if not n:
                        break
                    f.write(b[:n])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            print("missing")
        else:
            print(sha256(target + p))


def commit(paths):
    """The switch: PATH.new becomes PATH, in order; no Ctrl-C comes between."""
    micropython.kbd_intr(-1)
    try:
        for p in paths:
            os.rename(p + ".new", p)
    finally:
        micropython.kbd_intr(3)
