"""Modbus programs that others wrote, and the emulated board: mbpoll (libmodbus), nmap's modbus-discover."""

import re
import shutil
import subprocess

import pytest

MODBUS = 502
WAIT_S = 300  # a PC under load is slow


@pytest.fixture(scope="module")
def port(firmware):
    return str(firmware.forward(MODBUS))


def output(*command) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mbpoll(port, *arguments) -> str:
    # -0: addresses from 0; -1: once; -o: seconds to wait for an answer, 10 at most
    return output("mbpoll", "-m", "tcp", "-p", port, "-a", "1", "-0", "-1", "-o", "10", *arguments)


def values(text) -> dict[int, int]:
    return {int(at): int(value) for at, value in re.findall(r"^\[(\d+)\]:\s+(-?\d+)", text, re.MULTILINE)}


def test_mbpoll_writes_and_reads(port):
    place = port, "-t", "4", "-r", "40"
    assert "Written 3 references" in mbpoll(*place, "127.0.0.1", "11", "12", "13")
    assert values(mbpoll(*place, "-c", "3", "127.0.0.1")) == {40: 11, 41: 12, 42: 13}
    assert "Written 1 references" in mbpoll(port, "-t", "0", "-r", "5", "127.0.0.1", "1")
    assert values(mbpoll(port, "-t", "0", "-r", "4", "-c", "3", "127.0.0.1")) == {4: 0, 5: 1, 6: 0}
    assert values(mbpoll(port, "-t", "3", "-r", "10", "127.0.0.1")) == {10: 4}  # version of the chip
    assert values(mbpoll(port, "-t", "1", "-r", "0", "127.0.0.1")) == {0: 1}  # link


def test_nmap_discovers_what_it_is(port):
    found = output("nmap", "-Pn", "-n", "-p", port, "--script", "+modbus-discover", "127.0.0.1")
    assert "sid 0x1" in found
    assert re.search(r"Slave ID data: .*hardwire HW-W5500", found)
    assert re.search(r"Device identification: hardwire HW-W5500 \d+\.\d+", found)
