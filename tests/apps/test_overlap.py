"""IoU over a data set, image by image and joined: equal to the library in one go, and resumable."""

from __future__ import annotations

import json

import pytest
import torch

import onelip
from onelip.apps.evaluate import evaluate
from onelip.apps.plan import Plan
from onelip.certify import IoU, dataset_iou
from onelip.core import errors

EPS = (0.02, 0.1)


@pytest.fixture(scope="module")
def plan(model, tmp_path_factory):
    return Plan(
        model=str(model),
        data="scenes",
        out=tmp_path_factory.mktemp("overlap"),
        eps=EPS,
        criteria=("iou:1", "dice:1"),
        limit=3,
        size=(24, 32),
        pictures=0,
    )


@pytest.fixture(scope="module")
def results(plan):
    return evaluate(plan)


@pytest.fixture(scope="module")
def certificates(plan):
    certifier = onelip.certify.Certifier(onelip.load(plan.model))
    dataset = onelip.data.open("scenes", "val", size=plan.size)
    return [certifier(*(t[None] for t in dataset[i])) for i in (0, 10, 21)]


def test_each_class_is_the_dataset_iou_of_the_library(results, certificates):
    rounding = certificates[0].rounding
    pairs = [(c.logits, c.target) for c in certificates]
    eps = torch.tensor(EPS, dtype=torch.float64) + rounding
    assert len(results["classes"]) == 8
    for label, row in enumerate(results["classes"]):
        expected = dataset_iou(pairs, label, eps, lipschitz=certificates[0].lipschitz)
        found = [float("nan") if v is None else v for v in row["certified"]]
        assert found == pytest.approx(expected.tolist(), abs=1e-12, nan_ok=True)
        if row["clean"] is not None:
            assert 0 <= found[1] <= found[0] <= row["clean"] == results["clean"]["iou"][row["class"]]


def test_criteria_have_micro_and_macro_side_by_side(results, certificates):
    values = torch.cat([c.curve(IoU(1), list(EPS)).certified for c in certificates], 1)
    macro = [row["iou:1_macro"] for row in results["rows"]]
    assert macro == pytest.approx(values.nanmean(1).tolist())
    assert [row["iou:1_micro"] for row in results["rows"]] == results["classes"][1]["certified"]
    for row in results["rows"]:  # Dice is 2 J / (1 + J) of the IoU, over a data set as well
        iou = row["iou:1_micro"]
        assert row["dice:1_micro"] == pytest.approx(2 * iou / (1 + iou))
    averages = {(c["key"], c["average"]) for c in results["curves"]}
    assert {("iou:1", "micro"), ("iou:1", "macro"), ("dice:1", "micro")} <= averages


def test_a_lost_file_is_made_again_and_nothing_else(plan, results):
    from dataclasses import replace

    lines = (plan.out / "results.jsonl").read_text().splitlines()
    (plan.out / "frontiers" / "00010.npz").unlink()
    again = evaluate(replace(plan, resume=True))
    for section in ("rows", "classes", "curves", "clean"):
        assert again[section] == results[section]
    after = (plan.out / "results.jsonl").read_text().splitlines()
    assert after[: len(lines)] == lines
    assert [json.loads(line)["index"] for line in after[len(lines) :]] == [10]


def test_without_the_table_there_are_no_files(plan, tmp_path):
    from dataclasses import replace

    results = evaluate(replace(plan, out=tmp_path, per_class=False, criteria=("accuracy",), limit=1))
    assert results["classes"] == []
    assert not (tmp_path / "frontiers").exists()


def test_a_table_of_classes_is_part_of_what_is_resumed(plan, results):
    from dataclasses import replace

    with pytest.raises(errors.InputError, match="other classes than asked for"):
        evaluate(replace(plan, resume=True, per_class=False))
