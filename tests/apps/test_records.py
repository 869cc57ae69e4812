"""Files of single-image results: torn, resumed, refused; and parsing of options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onelip.apps.common import parse_numbers, parse_size, percent
from onelip.apps.plan import Plan, read_keys, read_thresholds
from onelip.apps.records import Records
from onelip.apps.runs import spread
from onelip.core import errors

DONE = [{"index": i, "seconds": 0.5} for i in range(3)]


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


def test_criteria_and_thresholds():
    assert read_keys("miou, iou:car,") == ("miou", "iou:car")
    assert read_thresholds(None) == ()
    assert read_thresholds("fnr:a=b=0.5,accuracy=0.8,accuracy=0.8") == (("fnr:a=b", 0.5), ("accuracy", 0.8))
    with pytest.raises(errors.InputError, match="--criteria is empty"):
        read_keys(" ,")
    for text in ("accuracy", "accuracy=", "=0.5", "accuracy=nan", "accuracy=inf", "accuracy=0.5,miou"):
        with pytest.raises(errors.InputError, match="--threshold"):
            read_thresholds(text)


def test_a_plan_says_how_to_ask_for_it_again(tmp_path):
    import shlex

    from onelip.apps.arguments import join_lists

    plan = Plan(
        model="runs/a b",
        data="scenes",
        out=tmp_path,
        eps=(0.1 + 0.2, 0.1),
        criteria=("iou:traffic light",),
        thresholds=(("fnr:car", 0.123456789),),
        per_class=False,
        limit=3,
    )
    words = join_lists(shlex.split(plan.shell))
    assert words[:4] == ["onelip", "certify", "runs/a b", "scenes"]
    assert "--criteria=accuracy,stability,iou:traffic light" in words
    assert "--threshold=fnr:car=0.123456789" in words
    assert "--eps=0.30000000000000004,0.1" in words
    assert "--no-per-class" in words


def test_grids_hold_what_was_asked_for():
    plan = Plan(model="m", data="d", out=Path("o"), eps=(0.3, 0.1, 0.3))
    for grid in (plan.grid, plan.coarse, plan.dear):
        assert {0.0, 0.1, 0.3} <= set(grid)
        assert grid == sorted(set(grid))
    assert len(plan.dear) < 12 < len(plan.coarse) < 36 < len(plan.grid)
    assert plan.asked == [0.1, 0.3]
