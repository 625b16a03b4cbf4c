"""Results of the bench as files: which is the last one, what has changed since, and what was missed."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from hardwire_host import bench_keep
from hardwire_host.bench import missed
from hardwire_host.bench_keep import Change, compare, keep, last, record
from hardwire_host.errors import FAILED, HardwireError

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
IMAGE = "RPI_PICO.uf2"


def row(name="fc03_1", ours=0.6, better="less", unit="ms", must=None, stock=42.0):
    return {
        "name": name, "unit": unit, "better": better, "must": must, "ours": ours, "stock": stock, "note": ""
    }  # fmt: skip


def made(rows, exchanges=500, of="abc1234", when=NOON):
    return record(rows, IMAGE, exchanges, of, when)


COMPARISONS = [  # before, now, what is worse: None where nothing has changed
    (row(ours=0.6), row(ours=0.6), None),
    (row(ours=0.6), row(ours=0.61), None),  # 1.7 %
    (row(ours=0.6), row(ours=0.59), None),
    (row(ours=0.6), row(ours=0.613), True),  # 2.2 %
    (row(ours=0.6), row(ours=0.587), False),
    (row(ours=1.2, better="more"), row(ours=1.17, better="more"), True),
    (row(ours=1.2, better="more"), row(ours=1.23, better="more"), False),
    (row(ours=0), row(ours=0), None),
    (row(ours=0), row(ours=0.1), True),  # nothing is tolerated beyond nothing
    (row(ours=16), row(ours=0), False),
    (row(ours=None), row(ours=1), None),  # an installed package has no frozen image
    (row(ours=1), row(ours=None), None),
    (row(ours=600, unit="us"), row(ours=0.6), None),  # another measure by the same name
    (row(name="gone"), row(name="new", ours=99), None),
    (row(stock=42.0), row(stock=84.0), None),  # the library is not ours
]


@pytest.mark.parametrize(("before", "now", "worse"), COMPARISONS)
def test_compare(before, now, worse):
    changes = compare(made([before]), [now])
    expected = [] if worse is None else [Change(now["name"], now["unit"], before["ours"], now["ours"], worse)]
    assert changes == expected


def test_a_change_reads():
    assert str(Change("fc03_1", "ms", 0.5, 0.6, True)) == "fc03_1: 0.5 -> 0.6 ms (+20.0%)"
    assert str(Change("heap", "bytes", 0, 16, True)) == "heap: 0 -> 16 bytes"


def test_kept_and_found_again(tmp_path):
    folder = tmp_path / "new" / "bench"
    rows = [
        row(),
        row("free_heap", 117, "more", "KB"),
        row("free_heap_frozen", 195, "more", "KB", stock=None),
    ]
    path = keep(folder, made(rows))
    assert path.name == "2026-11-23T120000-abc1234.json"
    assert last(folder, 500) == (path, made(rows))
    assert json.loads(path.read_text()) == made(rows)
    assert compare(made(rows), rows) == []


def test_a_figure_is_a_line(tmp_path):
    one = keep(tmp_path, made([row(), row("b"), row("c")])).read_text().splitlines()
    other = keep(tmp_path, made([row(), row("b", 0.7), row("c")])).read_text().splitlines()
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 1


def test_the_last_is_that_of_the_latest_time(tmp_path):
    east = timezone(timedelta(hours=9))
    keep(tmp_path, made([row(ours=1)], of="zzzzzzz", when=NOON.astimezone(east)))
    newest = keep(tmp_path, made([row(ours=2)], of="0000000", when=NOON + timedelta(seconds=1)))
    assert last(tmp_path, 500)[0] == newest


def test_only_as_many_exchanges_compare(tmp_path):
    path = keep(tmp_path, made([row()], exchanges=60))
    keep(tmp_path, made([row()], when=NOON + timedelta(days=1)))
    assert last(tmp_path, 60)[0] == path
    assert last(tmp_path, 61) is None


def test_nothing_kept_yet(tmp_path):
    assert last(tmp_path, 500) is None
    assert last(tmp_path / "none", 500) is None


KEPT = '{"schema": 1, "exchanges": 500, "results": %s}'
NO_RESULT = ["", "{", "{}", "[]", "null", '"text"', KEPT % "[]", KEPT % '{"a": {}}', KEPT % '{"a": 1}']


@pytest.mark.parametrize("text", NO_RESULT)
def test_a_file_that_is_no_result_is_named(tmp_path, text):
    (tmp_path / "2026.json").write_text(text)
    with pytest.raises(HardwireError, match=r"2026\.json") as caught:
        last(tmp_path, 500)
    assert caught.value.code == FAILED


def test_revision_is_a_commit_or_the_version(monkeypatch):
    assert bench_keep.revision()
    monkeypatch.setenv("PATH", "")  # no git
    assert bench_keep.revision() == bench_keep.hardwire.__version__


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (row(ours=0.7, must=0.7), False),
        (row(ours=0.701, must=0.7), True),
        (row(ours=0, must=0), False),
        (row(ours=16, must=0), True),
        (row(ours=1.0, must=1.0, better="more"), False),
        (row(ours=0.99, must=1.0, better="more"), True),
        (row(ours=99, must=None), False),
        (row(ours=None, must=1), False),
    ],
)
def test_missed(measured, expected):
    assert missed(measured) is expected
