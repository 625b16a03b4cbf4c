"""`async def` tests in here run in a child process with a network of its own: a loopback, and what they make.

Interfaces, addresses and routes are gone with the child; those of this machine are not touched. Where that
is not permitted, the tests are skipped. Fixtures are made before the fork; sockets and tasks belong into the
test.
"""

import asyncio
import ctypes
import inspect
import json
import os
import signal
import socket
import struct
import sys
import traceback
from fcntl import ioctl
from pathlib import Path

import pytest

BOUND_S = 300  # for one test on a PC under load; most take a second
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def enter_namespace():
    """Move this process into a new network namespace, as root of a new user namespace if need be."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER):
        pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path("/proc/self", name).write_text(text)
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def outcome(test):
    """["passed" | "skipped" | "failed", text] of the coroutine function `test`."""

    async def bounded():
        async with asyncio.timeout(BOUND_S):
            await test()

    try:
        enter_namespace()
        asyncio.run(bounded())
    except pytest.skip.Exception as skipped:
        return ["skipped", str(skipped)]
    except BaseException:
        return ["failed", traceback.format_exc()]
    return ["passed", ""]


def in_namespace(test):
    """Run the coroutine function `test` in a child process; its outcome becomes that of the caller."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        with open(writer, "w") as pipe:
            json.dump(outcome(test), pipe)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(writer)
    try:
        with open(reader) as pipe:
            answer = pipe.read()
    finally:
        os.kill(child, signal.SIGKILL)  # it has ended, unless this is a timeout
        _, status = os.waitpid(child, 0)
    what, text = json.loads(answer) if answer else ("failed", f"the child ended with status {status}")
    if what == "skipped":
        pytest.skip(text)
    if what == "failed":
        pytest.fail(text, pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    in_namespace(lambda: test(**arguments))
    return True
