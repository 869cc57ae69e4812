"""Curves of certified metrics: intervals, areas, pictures."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from onelip.core.errors import InputError
from onelip.oneclass import CertifiedScores, certified_aupr, certified_auroc, certified_f1, certified_tpr

RNG = np.random.default_rng(0)
NORMAL, ANOMALY = RNG.normal(1.0, 1.0, 200), RNG.normal(-1.0, 1.0, 60)
EPS = [0.0, 0.1, 0.25, 0.5]
SCORES = CertifiedScores(NORMAL, ANOMALY, 2.0)


@pytest.mark.parametrize(
    ("metric", "function", "options"),
    [
        ("auroc", certified_auroc, {}),
        ("aupr", certified_aupr, {}),
        ("tpr", certified_tpr, {"fpr": 0.1, "calibration": "clean"}),
        ("f1", certified_f1, {"threshold": 0.25}),
    ],
)
@pytest.mark.parametrize("attacker", ["both", "normals", "anomalies"])
def test_curves_hold_what_the_functions_give(metric, function, options, attacker):
    curve = SCORES.curve(metric, EPS, attacker=attacker, bootstrap=20, **options)
    expected = function(NORMAL, ANOMALY, EPS, 2.0, attacker=attacker, **options)
    assert curve.values.tolist() == expected.tolist()
    assert curve.clean == curve.values[0]
    assert curve.options == options
    assert curve.draws.shape == (20, 4)
    assert curve.clean_draws.tolist() == curve.draws[:, 0].tolist()
    assert (np.diff(curve.draws, axis=1) <= 0).all()
    record = json.loads(json.dumps(curve.to_dict()))
    assert record["values"] == expected.tolist()
    assert record["draws"] == 20


def test_the_bootstrap_redraws_each_class_with_the_seed():
    first, again, other = (SCORES.curve("auroc", EPS, bootstrap=30, seed=s) for s in (1, 1, 2))
    assert first.draws.tolist() == again.draws.tolist()
    assert first.draws.tolist() != other.draws.tolist()
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 200, 200), rng.integers(0, 60, 60)
    expected = certified_auroc(np.sort(NORMAL)[ours], np.sort(ANOMALY)[theirs], EPS, 2.0)
    assert first.draws[0].tolist() == expected.tolist()


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    truth = 0.5 * math.erfc(-(2 - 2 * 0.2) / 2)  # gaps are N(2, 2)
    covered = []
    for seed in range(150):
        scores = CertifiedScores(rng.normal(1, 1, 80), rng.normal(-1, 1, 40))
        curve = scores.curve("auroc", [0.2], bootstrap=100, level=0.9, seed=seed)
        low, high = curve.intervals[0]
        covered.append(low <= truth <= high)
    assert 0.8 < np.mean(covered) < 0.97


def test_areas_are_below_the_integral_and_the_trapezoid_near_it():
    fine = SCORES.curve("auroc", np.linspace(0, 0.5, 2001)).area()
    coarse = SCORES.curve("auroc", [0.1, 0.2, 0.3, 0.4, 0.5], bootstrap=50)
    assert coarse.area() < fine < coarse.area(method="trapezoid") + 0.002
    assert coarse.area(method="trapezoid") == pytest.approx(fine, abs=0.005)
    # by hand: steps of 0.1, each with its right value
    assert coarse.area() == pytest.approx(coarse.values.mean())
    low, high = coarse.area_interval()
    assert low < coarse.area() < high
    assert CertifiedScores([9.0], [-9.0]).curve("auroc", [0.1, 0.7]).area() == 1.0
    with pytest.raises(InputError, match="eps = 0 alone"):
        SCORES.curve("auroc", [0.0]).area()
    with pytest.raises(InputError, match="'lower' or 'trapezoid'"):
        coarse.area(method="simpson")


def test_without_draws_there_are_no_intervals():
    curve = SCORES.curve("auroc", [0.1])
    assert curve.intervals is None
    assert curve.clean_interval is None
    assert curve.area_interval() is None
    assert SCORES.curve("auroc", 0.0).to_dict()["area"] is None
    low, high = SCORES.curve("auroc", [0.1], bootstrap=50).clean_interval
    assert low < curve.clean < high


def test_pictures_show_the_curves_and_their_bands():
    curve = SCORES.curve("auroc", EPS, bootstrap=10)
    figure = curve.figure(SCORES.curve("auroc", EPS, attacker="normals"), labels=("both", "normals"))
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata().tolist() == curve.values.tolist()
    assert len(axes.lines) == 2
    assert len(axes.collections) == 1  # the second has no draws
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["both", "normals"]
    figure.draw_without_rendering()


def test_scores_of_a_detector_come_from_one_call():
    calls = []

    def score(X):
        calls.append(len(X))
        return -np.abs(X[:, 0])

    X = np.array([[0.0], [3.0], [0.5], [2.0]])
    toy = SimpleNamespace(score_samples=score, lipschitz_=1.0)
    found = CertifiedScores.of(toy, X, [0, 1, 0, 1]).curve("auroc", [0.5, 0.8])
    assert calls == [4]
    assert found.values.tolist() == [1.0, 0.75]
    for wrong in ([0, 1, 0], [0, 1, 2, 1], [0, -1, 1, 1]):
        with pytest.raises(InputError, match="anomalous"):
            CertifiedScores.of(toy, X, wrong)
    with pytest.raises(InputError, match=r"scores_anomaly.*empty"):
        CertifiedScores.of(toy, X, [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({"metric": "auc"}, "'auroc' or 'aupr' or 'tpr' or 'f1'"),
        ({"eps": [0.2, 0.1]}, "does not increase"),
        ({"eps": [0.1, 0.1]}, "does not increase"),
        ({"attacker": "none"}, "attacker"),
        ({"bootstrap": -1}, "bootstrap"),
        ({"bootstrap": 1.5}, "bootstrap"),
        ({"seed": -1}, "seed"),
        ({"level": 1.0}, "level"),
        ({"fpr": 0.1}, "no such option; received fpr; expected none"),
        ({"metric": "f1"}, "threshold"),
        ({"metric": "tpr", "fpr": 2.0}, "fpr"),
    ],
)
def test_bad_requests_are_refused(call, text):
    with pytest.raises(InputError, match=text):
        SCORES.curve(**{"metric": "auroc", "eps": [0.1], **call})
