# Runs on the board for deploy_link.py, which compiles this file and hands it over without touching the flash.
# In: calls in the raw REPL, and file content on stdin. Out: printed lines. Never: a change to the tree that boots.

import binascii
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
            yield name, os.stat(top + name)[6]


def state(wanted, root):
    """Print a line of JSON on the board, then [slot, path, size, sha256] of each file that may be written over.

    wanted: SHA-256 of the manifest that will be deployed; if the slot that boots has it, its files are listed too.
    """
    s = os.statvfs("/")
    m = {t: text("/" + t + "/manifest.json") for t in "ab"}
    slot = text("/slot")
    if slot not in ("a", "b") or m[slot] is None:  # as boot.py does it
        slot = slot and ("a" if m["a"] is not None else "b" if m["b"] is not None else None)
    same = slot and sha256("/" + slot + "/manifest.json") == wanted
    print(
        json.dumps(
            {
                "block": s[0],
                "free": s[3],
                "active": slot,
                "manifests": m,
                "root": {n: text("/" + n) for n in root},
            }
        )
    )
    for t in "ab":
        if t != slot or same:
            for path, size in walk("/" + t):
                print(json.dumps([t, path[1:], size, sha256("/" + t + path)]))


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
        except OSError:
            pass
        n = path.find("/", n + 1)


def put(files):
    """Write files that come on stdin, as [path, [[bytes, stand-in for byte 3 or -1], ...]]; print each one's SHA-256.

    A chunk is asked for by a dot once the one before it is in flash: a UART without flow control loses what comes
    while flash is being written. Byte 3 is Ctrl-C, which must go on stopping this program, so it never travels.
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
    """Copy files on the board; print each copy's SHA-256."""
    b = memoryview(bytearray(CHUNK))
    for p in paths:
        folders(target + p)
        with open(source + p, "rb") as s, open(target + p, "wb") as f:
            while True:
                n = s.readinto(b)
                if not n:
                    break
                f.write(b[:n])
        print(sha256(target + p))


def commit(paths):
    """The switch: PATH.new becomes PATH, in order; no Ctrl-C comes between."""
    micropython.kbd_intr(-1)
    try:
        for p in paths:
            os.rename(p + ".new", p)
    finally:
        micropython.kbd_intr(3)
