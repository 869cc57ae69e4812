"""Sums over single-image results: definitions on small examples, worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from onelip.apps.summary import radius_row, summarise, worst


@dataclass(frozen=True)
class Asked:
    key: str
    eps: tuple[float, ...] = (0.0, 0.1)
    higher: bool = True

    @property
    def facts(self):
        return {
            "key": self.key,
            "name": self.key,
            "higher_is_better": self.higher,
            "exact": True,
            "exact_micro": True,
        }


ASKED = [Asked("accuracy"), Asked("stability"), Asked("iou:a")]


def record(index, valid, accuracy, confusion, iou=None):
    values = {"clean": accuracy[0], "certified": accuracy, "weight": valid, "seconds": 0.1}
    none = {"clean": None, "certified": [None, None], "weight": 0, "seconds": 0.1}
    share = none if iou is None else {"clean": iou[0], "certified": iou}
    return {
        "index": index,
        "id": f"i{index}",
        "valid": valid,
        "criteria": {
            "accuracy": values if valid else none,
            "stability": values if valid else none,
            "iou:a": {**share, "weight": None, "seconds": 0.1},
        },
        "radii": {"accuracy=0.5": [0.25, "inf", None][index % 3]},
        "confusion": confusion,
        "lipschitz": 1.0 + index,
        "seconds": 0.5,
        "seconds_forward": 0.25,
    }


DONE = [
    record(0, 10, [0.9, 0.5], [[9, 1], [0, 0]], iou=[0.8, 0.4]),
    record(1, 30, [0.5, 0.1], [[10, 10], [5, 5]]),
    record(2, 0, [None, None], [[0, 0], [0, 0]]),
]


def total(done, **changes):
    options = {"eps": [0.1], "classes": ("a", "b"), "p": 2.0} | changes
    return summarise(done, ASKED, **options)


def test_micro_macro_and_iou_by_hand():
    result = total(DONE)
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


def test_undefined_images_are_left_out_and_counted_for_each_criterion():
    result = total(DONE)
    counts = {c["key"]: (c["count"], c["undefined"]) for c in result["criteria"]}
    assert counts == {"accuracy": (2, 1), "stability": (2, 1), "iou:a": (1, 2)}
    assert result["rows"][0]["iou:a_macro"] == 0.4
    assert result["rows"][0]["iou:a_micro"] is None  # ratios do not add up
    assert [(c["key"], c["average"]) for c in result["curves"] if c["key"] == "iou:a"] == [("iou:a", "macro")]


def test_nothing_but_void_has_no_averages():
    result = total(DONE[2:])
    assert result["rows"][0]["accuracy_micro"] is None
    assert result["clean"]["miou"] is None
    assert result["curves"] == []
    assert worst(DONE[2:], [0.1], [0.0, 0.1], 3) == []
    json.dumps(result, allow_nan=False)


def test_absent_classes_do_not_count_in_the_mean():
    result = total(DONE[:1], eps=[0.0])
    assert result["clean"]["iou"] == {"a": pytest.approx(0.9), "b": 0.0}
    only = record(0, 10, [1.0, 1.0], [[10, 0], [0, 0]])
    result = total([only], eps=[0.0])
    assert result["clean"]["iou"]["b"] is None
    assert result["clean"]["miou"] == 1.0


def test_radii_by_hand():
    row = radius_row("fnr:a=b=0.95", [0.0, 0.5, "inf", None, 0.25, 1.0, "inf"])
    assert (row["criterion"], row["threshold"], row["name"]) == ("fnr:a=b", 0.95, "radius_fnr:a=b")
    assert (row["count"], row["undefined"], row["zero"], row["infinite"]) == (6, 1, 1, 2)
    # sorted: 0, .25, .5, 1, inf, inf; of two neighbours a quartile is the lower one
    assert (row["lower_quartile"], row["median"], row["upper_quartile"]) == (0.25, 0.5, 1.0)
    assert row["mean_of_finite"] == pytest.approx(1.75 / 4)
    endless = radius_row("accuracy=0", ["inf", "inf"])
    assert (endless["median"], endless["mean_of_finite"]) == ("inf", None)
    assert radius_row("accuracy=0", [None])["median"] is None
    json.dumps([row, endless], allow_nan=False)
    assert total(DONE, thresholds=["accuracy=0.5"])["radii"][0]["infinite"] == 1


def test_worst_images_are_those_with_the_lowest_certified_accuracy_at_the_middle_eps():
    done = [record(i, 10, [1.0, v], [[10, 0], [0, 0]]) for i, v in enumerate([0.5, 0.25, 0.75])]
    rows = worst(done, [0.0, 0.1], [0.0, 0.1], 2)
    assert [(r["index"], r["certified"], r["eps"]) for r in rows] == [(1, 0.25, 0.1), (0, 0.5, 0.1)]


def test_means_do_not_drift():
    values = [[0.1, 0.1]] * 10
    done = [record(i, 1, list(v), [[1, 0], [0, 0]]) for i, v in enumerate(values)]
    assert total(done)["rows"][0]["accuracy_macro"] == math.fsum([0.1] * 10) / 10
