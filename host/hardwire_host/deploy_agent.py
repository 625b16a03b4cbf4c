# Runs on the board, in the raw REPL, for deploy.py, which sends this file without its comment lines.
# In: calls, and file content on stdin. Out: printed lines. Never: a change to the tree that the board boots.

import binascii
import hashlib
import json
import os
import sys

import micropython

CHUNK = 4096  # bytes of a file in RAM at a time: a flash block
# Ctrl-C must still stop the agent, so byte 3 never travels; nor does CR, which some consoles change to LF.
ESCAPES = ((b"\x1b\x02", b"\r"), (b"\x1b\x01", b"\x03"), (b"\x1b\x00", b"\x1b"))


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


# Prints a line of JSON about the board, then one [slot, path, size, sha256] per file of each slot that may be
# written or be up to date; `wanted` is the SHA-256 of the manifest to be deployed.
def state(wanted, root):
    i = sys.implementation
    s = os.statvfs("/")
    m = {t: text("/" + t + "/manifest.json") for t in "ab"}
    slot = text("/slot")
    if slot not in ("a", "b") or m[slot] is None:
        slot = slot and ("a" if m["a"] is not None else "b" if m["b"] is not None else None)
    same = slot and sha256("/" + slot + "/manifest.json") == wanted
    d = {
        "machine": i._machine,
        "mpy": getattr(i, "_mpy", 0),
        "release": ".".join(str(n) for n in i.version[:3]),
        "block": s[0],
        "free": s[3],
        "active": slot,
        "manifests": m,
        "root": {n: text("/" + n) for n in root},
    }
    print(json.dumps(d))
    for t in "ab":
        if t != slot or same:
            for path, size in walk("/" + t):
                print(json.dumps([t, path[1:], size, sha256("/" + t + path)]))


# Removes files, and the folders that become empty.
def drop(paths):
    for p in paths:
        try:
            os.remove(p)
            while p.count("/") > 2:
                p = p[: p.rfind("/")]
                os.rmdir(p)
        except OSError:
            pass


def folders(path):
    n = path.find("/", 1)
    while n > 0:
        try:
            os.mkdir(path[:n])
        except OSError:
            pass
        n = path.find("/", n + 1)


# Writes files that come on stdin, each in chunks of the lengths `sent`; prints each one's hash as read from
# flash. A chunk is asked for by a dot once the one before it is in flash: a UART without flow control loses
# what comes while flash is being written.
def put(files):
    for path, sent in files:
        folders(path)
        with open(path, "wb") as f:
            for n in sent:
                b = bytearray(n)
                print(".", end="")
                sys.stdin.buffer.readinto(b)
                b = bytes(b)
                for a, c in ESCAPES:
                    b = b.replace(a, c)
                f.write(b)
        print(sha256(path))


# Copies files on the board; prints each copy's hash as read from flash.
def copy(source, target, paths):
    b = memoryview(bytearray(CHUNK))
    for p in paths:
        folders(target + p)
        with open(source + p, "rb") as s:
            with open(target + p, "wb") as f:
                while True:
                    n = s.readinto(b)
                    if not n:
                        break
                    f.write(b[:n])
        print(sha256(target + p))


# The switch: renames that no Ctrl-C can separate.
def commit(paths):
    micropython.kbd_intr(-1)
    try:
        for p in paths:
            os.rename(p + ".new", p)
    finally:
        micropython.kbd_intr(3)
    print("ok")
