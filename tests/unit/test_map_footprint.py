"""The estimate of a board's heap, against what the emulated board had allocated.

That is by hardwire.map_file.load, and for the objects that hardwire.device.equip makes of files, queues, retained and
safe values.
"""

import pytest

from hardwire_host.map.footprint import heap
from hardwire_host.map.model import parse


def points(count, step=1, lines="", every=1):
    """`lines` for every `every`-th."""
    return "".join(
        f'[[holding_registers]]\nname = "p{at}"\naddress = {at * step}\n{lines if at % every == 0 else ""}\n'
        for at in range(count)
    )


def array(table, count, lines=""):
    return f'[[{table}]]\nname = "{table[:3]}"\naddress = 0\ncount = {count}\n{lines}\n'


LARGE = "".join(
    array(table, count)
    for table, count in (
        ("coils", 2000),
        ("discrete_inputs", 2000),
        ("holding_registers", 1000),
        ("input_registers", 1000),
    )
)
FILE = '[[files]]\nname = "f{0}"\nnumber = {0}\npath = "/data/f{0}"\nrecords = 5\n'
MEASURED = (  # map, bytes: MicroPython 1.25
    ("", 2784),
    (array("holding_registers", 1000), 4784),
    (array("coils", 2000), 3056),
    (array("holding_registers", 4000), 10784),
    (LARGE, 7312),
    (points(100, step=2), 4176),
    (points(10, lines="max = 5"), 4144),
    (points(100, lines="max = 5"), 14496),
    (array("holding_registers", 500, 'type = "uint32"'), 4944),
    (points(100, lines='access = "read-only"', every=2), 3424),
    (points(40, lines="retained = true", every=2), 4864),
    ("[communication]\ntimeout_s = 1\n" + points(40, lines="safe = 3", every=2), 4400),
    (
        "[device]\n"
        + "".join(
            f'{key} = "{"x" * 100}"\n'
            for key in (
                "vendor_name",
                "product_code",
                "revision",
                "vendor_url",
                "product_name",
                "model_name",
            )
        ),
        3600,
    ),
    ("".join(FILE.format(number) for number in range(2, 12)), 4064),
    ("".join(f'[[fifos]]\nname = "q{at}"\naddress = {at}\n' for at in range(10)), 4944),
)


@pytest.mark.parametrize(("text", "measured"), MEASURED, ids=range(len(MEASURED)))
def test_estimate(text, measured):
    assert heap(parse(text, "x")) == pytest.approx(measured, rel=0.1)
