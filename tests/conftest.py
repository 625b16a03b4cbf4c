"""For all tests: the firmware has one clock, an InProcessBoard puts its own there, and gets it taken away again."""

import os
import tempfile

import pytest

from hardwire import compat

# Keys of virtual boards are kept here, not with those of the user.
_CONFIG = tempfile.TemporaryDirectory(prefix="hardwire-config-")
os.environ["XDG_CONFIG_HOME"] = _CONFIG.name


@pytest.fixture(autouse=True)
def real_time_afterwards(monkeypatch):
    monkeypatch.setattr(compat, "now_ns", compat.now_ns)


def pytest_addoption(parser):
    parser.addoption(
        "--target", metavar="HOST[:PORT]", help="run the Modbus conformance tests against this server"
    )
    parser.addoption(
        "--target-write", type=int, metavar="ADDRESS", help="four holding registers there that they may write"
    )
