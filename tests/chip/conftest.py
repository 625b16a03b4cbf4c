"""The firmware has one clock, and an InProcessBoard puts its own there: give it back after each test."""

import pytest

from hardwire import compat


@pytest.fixture(autouse=True)
def real_time_afterwards(monkeypatch):
    monkeypatch.setattr(compat, "now_ns", compat.now_ns)
