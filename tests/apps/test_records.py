"""Sums over single-image results: definitions on small examples, and torn files."""

from __future__ import annotations

import json

import pytest

from onelip.apps.common import parse_numbers, parse_size, percent
from onelip.apps.evaluate import spread
from onelip.apps.records import Records, summarise
from onelip.core import errors


def record(index, valid, accuracy, confusion):
    values = [[v] for v in accuracy] if valid else [[None]] * 2
    return {
        "index": index,
        "valid": valid,
        "accuracy": values,
        "stability": values,
        "confusion": confusion,
        "lipschitz": 1.0 + index,
        "seconds": 0.5,
    }


DONE = [
    record(0, 10, [0.9, 0.5], [[9, 1], [0, 0]]),
    record(1, 30, [0.5, 0.1], [[10, 10], [5, 5]]),
    record(2, 0, [], [[0, 0], [0, 0]]),
]


def test_micro_macro_and_iou_by_hand():
    result = summarise(DONE, [0.0, 0.1], [0.1], classes=("a", "b"), p=2.0)
    assert result["undefined"] == 1
    assert result["lipschitz"] == 3.0
    (row,) = result["rows"]
    assert row["accuracy_macro"] == pytest.approx((0.5 + 0.1) / 2)
    assert row["accuracy_micro"] == pytest.approx((10 * 0.5 + 30 * 0.1) / 40)
    clean = result["clean"]
    assert clean["pixel_accuracy_micro"] == pytest.approx(24 / 40)
    assert clean["pixel_accuracy_macro"] == pytest.approx((0.9 + 0.5) / 2)
    assert clean["iou"] == pytest.approx({"a": 19 / (19 + 11 + 5), "b": 5 / (5 + 11 + 5)})
    assert clean["miou"] == pytest.approx((19 / 35 + 5 / 21) / 2)


def test_nothing_but_void_has_no_averages():
    result = summarise(DONE[2:], [0.0, 0.1], [0.1], classes=("a", "b"), p=2.0)
    assert result["rows"][0]["accuracy_micro"] is None
    assert result["clean"]["miou"] is None
    json.dumps(result, allow_nan=False)


def test_absent_classes_do_not_count_in_the_mean():
    result = summarise(DONE[:1], [0.0, 0.1], [0.0], classes=("a", "b"), p=2.0)
    assert result["clean"]["iou"] == {"a": pytest.approx(0.9), "b": 0.0}
    only = record(0, 10, [1.0, 1.0], [[10, 0], [0, 0]])
    result = summarise([only], [0.0, 0.1], [0.0], classes=("a", "b"), p=2.0)
    assert result["clean"]["iou"]["b"] is None
    assert result["clean"]["miou"] == 1.0


def test_records_survive_a_torn_line(tmp_path):
    path = tmp_path / "results.jsonl"
    records = Records(path, {"data": "x"}, resume=False)
    for entry in DONE:
        records.add(entry)
    path.write_text(path.read_text()[:-20])
    again = Records(path, {"data": "x"}, resume=True)
    assert [r["index"] for r in again.chosen([0, 1, 2])] == [0, 1]
    again.add(DONE[2])
    assert [json.loads(line).get("index") for line in path.read_text().splitlines()] == [None, 0, 1, 2]


def test_records_of_something_else_are_refused_and_kept(tmp_path):
    path = tmp_path / "results.jsonl"
    Records(path, {"data": "x", "p": "2"}, resume=False).add(DONE[0])
    before = path.read_text()
    with pytest.raises(errors.InputError, match="other data than asked for"):
        Records(path, {"data": "y", "p": "2"}, resume=True)
    assert path.read_text() == before
    fresh = Records(path, {"data": "y", "p": "2"}, resume=False)
    assert fresh.chosen([0, 1]) == []


def test_spread_and_parsing():
    assert spread(10, 0) == list(range(10))
    assert spread(3, 100) == [0, 1, 2]
    assert spread(100, 4) == [0, 25, 50, 75]
    assert parse_size(None) is None
    assert parse_size("8X9") == (8, 9)
    for text in ("8", "8x", "0x4", "ax3", "1x2x3"):
        with pytest.raises(errors.InputError, match="--size"):
            parse_size(text)
    with pytest.raises(errors.InputError, match="--eps"):
        parse_numbers("0.1,,0.2")


def test_shares_are_never_rounded_up():
    assert percent(0.99999) == "99.99 %"
    assert percent(0.29) == "29.00 %"
    assert percent(None) == "-"
