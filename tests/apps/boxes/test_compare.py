"""`onelip compare` with detectors: the figures of certificate and smoothing, one table, resuming."""

from __future__ import annotations

import json

import pytest
import torch

import onelip
from onelip.apps.boxes.comparison import compare_boxes
from onelip.apps.boxes.comparison_plan import ComparisonBoxes
from onelip.core.errors import InputError

EPS, SIGMA = (0.003, 0.05, 1.0), 0.05
pytestmark = pytest.mark.filterwarnings("ignore::onelip.smoothing.counts.FeasibilityWarning")


def plan(world, out, **options):
    _, model, data, score = world
    usual = {"eps": EPS, "sigmas": (SIGMA,), "n": 40, "limit": 2, "score": score, "attack_steps": 4}
    return ComparisonBoxes(model=str(model), data=str(data), out=out, **{**usual, **options})


@pytest.fixture(scope="module")
def done(seen_world, tmp_path_factory):
    run = plan(seen_world, tmp_path_factory.mktemp("compare"))
    return run, compare_boxes(run)


def rows(results, method):
    return [row for row in results["comparison"] if row["method"].startswith(method)]


def test_certificate_and_attack_enclose_what_is_left(seen_world, done):
    _, results = done
    mine = rows(results, "Lipschitz")
    assert [row["eps"] for row in mine] == list(EPS)
    for row in mine:
        assert row["accuracy"] <= row["attacked"] <= row["clean"] == 1.0
        assert row["passes"] == 1
    assert mine[0]["accuracy"] > 0
    assert mine[-1]["attacked"] < 1.0
    assert mine[0]["criterion"] == ("recall_located" if seen_world[0] == "free" else "recall")


def test_smoothing_is_that_of_the_library(seen_world, done):
    run, results = done
    _, model, data, score = seen_world
    dataset = onelip.data.open_boxes(str(data), "val")
    base = onelip.fold(onelip.load(model))
    found, objects = torch.zeros(len(EPS)), 0
    for index in (0, 2):
        image, target = dataset[index]
        smooth = onelip.smoothing.median_detection(
            base,
            image,
            sigma=SIGMA,
            eps=EPS,
            n=40,
            alpha=run.alpha,
            threshold=score,
            seed=index,
            batch_size=8,
        )
        found += smooth.certified(target)[0].sum(1)
        objects += len(target["labels"])
    theirs = rows(results, "median smoothing sigma=0.05")
    assert [row["accuracy"] for row in theirs] == pytest.approx((found / objects).tolist())
    assert {row["passes"] for row in theirs} == {40}
    assert theirs[-1]["note"] == "impossible with so few samples"  # 20 sigma
    assert theirs[0]["note"].startswith("statistical")


def test_the_printed_python_runs(done, capsys):
    run, results = done
    assert results["python"] == run.python
    space: dict[str, object] = {"onelip": onelip}
    exec(run.python, space)
    found, objects = space["found"], space["objects"]
    for row in rows(results, "Lipschitz"):
        assert found["Lipschitz", row["eps"]] / objects == pytest.approx(row["accuracy"])
    capsys.readouterr()


def test_images_that_are_done_are_not_sampled_again(done, monkeypatch):
    run, results = done
    monkeypatch.setattr(
        "onelip.apps.boxes.comparison.median_detection", lambda *_a, **_k: pytest.fail("again")
    )
    again = compare_boxes(plan_of(run, resume=True))
    assert again["comparison"] == results["comparison"]
    with pytest.raises(InputError, match="cannot be resumed"):
        compare_boxes(plan_of(run, resume=True, n=61))


def plan_of(run, **options):
    import dataclasses

    return dataclasses.replace(run, **options)


def test_the_command_prints_a_table(one_world, tmp_path, call):
    _, model, data, score = one_world
    words = ["compare", model, data, "--smoothing", "sigma=0.05", "--eps", 0.003, "--score", score, "--n", 20]
    done = call(*words, "--limit", 1, "--attack-steps", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("recall of", "Lipschitz", "median smoothing", "attacked"):
        assert text in done.stdout
    assert json.loads((tmp_path / "results.json").read_text())["task"] == "detection"
    assert "Comparison with median smoothing" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--n0", "5"], "--n0 means nothing for a detector"),
        (["--correction", "holm"], "--correction means nothing for a detector"),
        (["--base", "scenes"], "--base does not fit"),
        (["--smoothing", "sigma=0"], "sigma"),
    ],
)
def test_bad_input_is_one_sentence(one_world, tmp_path, call, words, text):
    done = call("compare", *one_world[1:3], *words, "--limit", 1, "--n", 2, "--out", tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
