"""For `from __future__ import annotations` in third-party libraries: MicroPython never evaluates annotations."""

annotations = None
