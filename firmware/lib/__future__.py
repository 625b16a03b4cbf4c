"""For `from __future__ import annotations` in third-party libraries; MicroPython evaluates none."""

annotations = None
