"""tests/hw/experiments.py on MicroPython, through the emulated SPI and pins: the lines of experiments.txt."""

from pathlib import Path

SOURCE = Path(__file__).parents[1] / "hw" / "experiments.py"
DEVICE_S = 60  # takes 6


def test_experiments(bare):
    expected = SOURCE.with_suffix(".txt").read_text().splitlines()
    printed = bare.exec(SOURCE.read_text(), DEVICE_S).splitlines()
    assert printed == [line.partition("  #")[0].rstrip() for line in expected]
