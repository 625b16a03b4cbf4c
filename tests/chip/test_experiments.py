"""tests/hw/experiments.py on the chip model in this process: prints what experiments.txt says."""

from pathlib import Path

import pytest

from hardwire_host.virtual import regs as R
from hardwire_host.virtual.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from hw import experiments
from model_host import Host

EXPECTED = Path(experiments.__file__).with_suffix(".txt").read_text().splitlines()
FRAME_NS = 50 * NS_PER_US  # what one frame takes a board


class ModelBench:
    """The bench of experiments.py on the model. Device time moves with frames and sleeps."""

    def __init__(self, **options):
        host = Host(network=False, **options)
        self._clock, self._model = host.clock, host.chip

    def frame(self, mosi):
        miso = self._model.frame(mosi)
        self._clock.advance(FRAME_NS)
        return miso

    def reset(self, low):
        self._model.reset_pin(low)

    def intn(self):
        return int(self._model.intn)

    def now_ms(self):
        return self._clock.now // NS_PER_MS

    def sleep_ms(self, duration):
        self._clock.advance(duration * NS_PER_MS)


def lines(capsys, **options):
    experiments.run(ModelBench(**options))
    return capsys.readouterr().out.splitlines()


def test_experiments(capsys):
    assert lines(capsys) == [line.partition("  #")[0].rstrip() for line in EXPECTED]


@pytest.mark.parametrize(
    "options",
    [
        {"imr_gates_ir": True},
        {"ir_on_idle_discon": R.I_DISCON},
        {"mode_in_burst": False},
        {"close_clears_port": True},
        {"intn_high_on_clear": False},
        {"start_pointer": 0xFFF0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_chip_that_differs_in_an_open_point_is_seen(capsys, options):
    """It changes lines, and only lines marked as open: else an option would have no experiment, or no [?]."""
    seen = lines(capsys, **options)
    assert len(seen) == len(EXPECTED)
    marks = [
        "[?]" in expected
        for expected, line in zip(EXPECTED, seen, strict=True)
        if expected.partition("  #")[0].rstrip() != line
    ]
    assert marks and all(marks)


def test_no_chip_is_one_line(capsys):
    assert lines(capsys, version_delay_ns=NS_PER_S) == ["no W5500 on SPI: VERSIONR is 00, not 04"]
