"""hardwire: puts the tree that /slot names in front of the module path. Runs before main.py and never raises.

It also keeps the heap in one piece while modules load.

`hardwire deploy` keeps two versions, /a and /b, and writes a tree's manifest.json last: a tree that has one
is complete. Without /slot (files copied by hand, or frozen into the image) nothing changes.
"""

import gc
import os
import sys


def _select():
    try:
        with open("/slot", "rb") as file:
            slot = file.read(1)
    except OSError:
        return
    for tree in ("/b", "/a") if slot == b"b" else ("/a", "/b"):
        try:
            os.stat(tree + "/manifest.json")
        except OSError:
            continue
        sys.path.insert(0, tree)
        return


# Every file that is imported leaves 1.4 KB of buffers behind. Collected now and then they are used again; else they
# lie between what stays, and with 80 KB free no 4 KB are to be had in one piece.
gc.threshold(48 * 1024)
_select()
del _select
