"""clients.modbus_points: which requests read which points."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwire_host.clients.modbus import COIL, DISCRETE, HOLDING, INPUT, READ_BITS_MAX, READ_REGISTERS_MAX
from hardwire_host.clients.modbus_points import Span, number, plan
from hardwire_host.map.model import parse

WIDTHS = {"uint16": 1, "int32": 2, "float64": 4}
TABLES = ("holding_registers", "input_registers", "coils")

_points = st.lists(
    st.tuples(
        st.sampled_from(TABLES),
        st.sampled_from(sorted(WIDTHS)),
        st.sampled_from((1, 1, 2, 31, 63, 130, 2100)),  # values
        st.sampled_from((0, 0, 0, 1, 50)),  # unused addresses before it
    ),
    min_size=1,
    max_size=12,
)


def _map(points):
    """A map with `points`, one after the other in their tables; and each value's table, address and size."""
    ends = dict.fromkeys(TABLES, 0)
    lines, values = [], []
    for i, (table, kind, count, gap) in enumerate(points):
        width = 1 if table == "coils" else WIDTHS[kind]
        address = ends[table] + gap
        ends[table] = address + width * count
        lines += [f"[[{table}]]", f'name = "p{i}"', f"address = {address}", f"count = {count}"]
        if table != "coils":
            lines.append(f'type = "{kind}"')
        values += [(table, address + width * j, width) for j in range(count)]
    return parse("\n".join(lines), "test"), values


@settings(deadline=None)
@given(_points)
def test_each_value_is_in_one_request_and_nothing_else_is(points):
    device, values = _map(points)
    names = {"coils": COIL, "holding_registers": HOLDING, "input_registers": INPUT}
    spans = plan(device.find(name) for name in device.points)
    asked = [(span.table, span.address + i) for span in spans for i in range(span.count)]
    assert len(asked) == len(set(asked))
    assert set(asked) == {
        (names[table], address + i) for table, address, width in values for i in range(width)
    }
    bounds = [(span.table, span.address, span.address + span.count) for span in spans]
    for table, address, width in values:
        assert any(
            names[table] is where and first <= address and address + width <= end
            for where, first, end in bounds
        )
    for span in spans:
        assert span.count <= (READ_BITS_MAX if span.table.bits else READ_REGISTERS_MAX)
    for one, two in itertools.pairwise(spans):
        if one.table is two.table and one.address + one.count == two.address:  # the next value did not fit
            assert one.count + max(WIDTHS.values()) > (
                READ_BITS_MAX if one.table.bits else READ_REGISTERS_MAX
            )


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("00001", Span(COIL, 0, 1)),
        ("10016", Span(DISCRETE, 15, 1)),
        ("39999", Span(INPUT, 9998, 1)),
        ("400101:2", Span(HOLDING, 100, 2)),
        ("465536", Span(HOLDING, 65535, 1)),
        ("20001", None),
        ("4001", None),
        ("4000001", None),
        ("40001:", None),
        ("setpoint", None),
    ],
)
def test_numbers(text, span):
    assert number(text) == span
