"""`hardwire modbus watch`: samples, their forms, lost connections, and the way it ends."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from hardwire.wire.modbus import Bank
from hardwire_host.cli import run
from hardwire_host.errors import MODBUS, NO_BOARD
from modbus_served import Served

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
WAIT_S = 20  # longest wait for what another thread or process does


@pytest.fixture
def counting():
    """A server whose holding register 0 counts the reads of it, and whose register 1 is 7."""
    bank = Bank(holding_registers=2, coils=1)
    bank.holding_registers[1] = 7

    def count(*_):
        bank.holding_registers[0] += 1

    bank.holding_registers.before_read(count)
    with Served(bank) as running:
        yield running


@pytest.fixture
def watch(capsys, counting):
    def call(*arguments):
        code = run(["modbus", "watch", *arguments, "--every", "0.01", "--host", counting.address])
        return code, *capsys.readouterr()

    return call


def until(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_lines(watch):
    code, out, err = watch("40001", "40002", "--count", "2")
    assert (code, err) == (0, "")
    assert [line.split()[1:] for line in out.splitlines()] == [
        ["40001", "1"],
        ["40002", "7"],
        ["40001", "2"],
        ["40002", "7"],
    ]
    assert all(re.match(TIME, line) for line in out.splitlines())


def test_changes_only(watch):
    out = watch("holding", "0", "2", "--count", "3", "--changes")[1]
    assert [line.split()[1:] for line in out.splitlines()] == [
        ["40001", "1"],
        ["40002", "7"],
        ["40001", "2"],
        ["40001", "3"],
    ]
    assert watch("40002", "--count", "5", "--changes")[1].count("\n") == 1


def test_jsonl(watch):
    out = watch("40001", "00001", "--count", "2", "--format", "jsonl")[1]
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["values"] for line in lines] == [
        {"40001": 1, "00001": False},
        {"40001": 2, "00001": False},
    ]
    assert all(re.fullmatch(TIME, line["time"]) for line in lines)


def test_json_is_an_envelope_for_each_sample(watch):
    lines = [json.loads(line) for line in watch("40001", "--count", "2", "--json")[1].splitlines()]
    assert [(line["ok"], line["values"]) for line in lines] == [(True, {"40001": 1}), (True, {"40001": 2})]


def test_csv(watch):
    rows = list(csv.reader(watch("40001:2", "40002", "--count", "2", "--format", "csv")[1].splitlines()))
    assert rows[0] == ["time", "40001:2", "40002"]
    assert [row[1:] for row in rows[1:]] == [["1 7", "7"], ["2 7", "7"]]
    rows = list(
        csv.reader(watch("40001", "40002", "--count", "2", "--format", "csv", "--changes")[1].splitlines())
    )
    assert [row[1:] for row in rows[1:]] == [["3", "7"], ["4", ""]]


def test_what_never_answered_is_an_error(watch, counting):
    assert watch("40003")[0] == MODBUS
    counting.silence()
    assert watch("40001")[0] == NO_BOARD
    counting.listen()


@pytest.mark.parametrize("form", [[], ["--format", "jsonl"], ["--json"]])
def test_a_lost_connection_is_made_again(watch, counting, form):
    def disturb():
        until(lambda: counting.server.requests >= 3)
        counting.silence()
        time.sleep(0.05)
        counting.listen()

    thread = threading.Thread(target=disturb)
    thread.start()
    code, out, err = watch("40002", "--count", "60", *form)
    thread.join()
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()] if form else out.splitlines()
    if "--json" in form:
        assert err == ""
        assert sum(line["ok"] for line in lines) == 60
        assert [line["error"]["code"] for line in lines if not line["ok"]] == [NO_BOARD]
        return
    assert len(err.splitlines()) == 2
    assert "closed the connection" in err and "trying again" in err and "answers again" in err
    if form:
        assert sum("error" in line for line in lines) == 1
        assert sum("values" in line for line in lines) == 60
    else:
        assert len(lines) == 60


def test_live_table_ends_by_ctrl_c(counting):
    command = [sys.executable, "-m", "hardwire_host.cli", "modbus", "watch", "40001", "--every", "0.05"]
    outer, inner = pty.openpty()
    with subprocess.Popen(
        [*command, "--host", counting.address],
        stdout=inner,
        stderr=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "80", "LINES": "24"},
    ) as process:
        os.close(inner)
        until(lambda: counting.server.requests >= 3)
        process.send_signal(signal.SIGINT)
        shown = b""
        while True:
            try:
                part = os.read(outer, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        err = process.stderr.read()
    os.close(outer)
    assert (process.returncode, err) == (0, b"")
    assert b"40001" in shown and b"Ctrl-C ends" in shown
    assert b"\x1b[7" in shown or b";7m" in shown  # the changed value is highlighted
    assert shown.endswith((b"\n", b"\x1b[?25h"))  # the cursor is back
