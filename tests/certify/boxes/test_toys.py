"""Random toy detectors under five attacks on their outputs: no bound of recall, precision, alarms or AP is beaten."""

from __future__ import annotations

import math

import pytest
import torch

from onelip.certify import DetectionCurves, detection_from_raw
from onelip.certify.boxes import outcome, pooled
from onelip.certify.boxes.sums import Constants

LIMIT, LOW = 0.6, -0.75
THETAS = [-0.75 + 0.25 * i for i in range(7)]
SCORES = [1.0 / (1.0 + math.exp(-theta)) for theta in THETAS]
RHOS = [0.0, 0.05, 0.15, 0.3, 0.6]


def certified(toys, toy, rhos=RHOS, *, lipschitz=1.0, parts=None, scores=SCORES, iou=0.5):
    curves = DetectionCurves(rhos, scores, iou=iou)
    for raw, target in zip(toys.padded(toy), toy.targets, strict=True):
        given = (toy.parts if parts is None else parts) or {}
        curves.update(
            detection_from_raw(
                raw, [target], size=toys.SIZE, lipschitz=lipschitz, kappa=toy.kappa, nms=LIMIT, **given
            )
        )
    return curves.compute()


def beaten(toys, toy, bounds, *, seed=0, modes=None, iou=0.5):
    """What attacks bring below its certified value: names of values."""
    found = set()
    classes = sorted({int(k) for t in toy.targets for k in t["labels"]})
    for e, rho in enumerate(bounds.eps.tolist()):
        for mode in modes or toys.MODES:
            aim = THETAS[(seed + e) % 7]
            batch = toys.attacked(toy, rho, mode, seed, aim, LIMIT)
            areas = [toys.average_precision(batch, toy.targets, LOW, LIMIT, k, iou) for k in classes]
            means = torch.tensor(areas, dtype=torch.float64).mean(0).tolist()
            for name, mean in zip(("average_precision", "average_precision_101"), means, strict=True):
                if mean < float(getattr(bounds, name)[e]) - 1e-12:
                    found.add(name)
            for j in {THETAS.index(aim), 3}:
                recall, precision, alarms = toys.rates(batch, toy.targets, THETAS[j], LIMIT, iou)
                if recall < float(bounds.recall[j, e]) - 1e-12:
                    found.add("recall")
                if precision < float(bounds.precision[j, e]) - 1e-12:
                    found.add("precision")
                for a, allowed in enumerate(bounds.allowed.tolist()):
                    calm = sum(x <= allowed for x in alarms) / len(alarms)
                    if calm < float(bounds.quiet[a, j, e]) - 1e-12:
                        found.add("quiet")
    return found


@pytest.mark.parametrize(
    ("seed", "classes", "overlapping"), [(0, 1, False), (1, 1, False), (2, 2, True), (3, 2, False)]
)
def test_no_attack_beats_a_bound(toys, seed, classes, overlapping):
    toy = toys.world(seed, classes=classes, overlapping=overlapping, kappa=(0.1, 0.3, 0.6)[seed % 3])
    assert beaten(toys, toy, certified(toys, toy), seed=seed) == set()


def parts(logits, boxes):
    return {"logits": Constants(*logits), "boxes": Constants(*boxes)}


LEVELS = parts((1.0, {4.0: 0.5, 8.0: 0.9}), (1.0, {4.0: 0.5, 8.0: 0.9}))
APART = parts((0.8, {4.0: 0.8, 8.0: 0.8}), (0.6, {4.0: 0.6, 8.0: 0.6}))
BOTH = parts((0.9, {4.0: 0.9, 8.0: 0.3}), (0.45, {4.0: 0.2, 8.0: 0.45}))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("constants", [LEVELS, APART, BOTH])
def test_no_attack_beats_a_bound_with_constants_of_parts(toys, seed, constants):
    toy = toys.world(seed, classes=1 + seed % 2, kappa=(0.1, 0.3, 0.6)[seed], parts=constants)
    bounds, plain = certified(toys, toy), certified(toys, toy, parts={})
    for again in range(2):
        assert beaten(toys, toy, bounds, seed=seed + 7 * again) == set()
    names = ("recall", "quiet", "average_precision")
    gains = [getattr(bounds, name) - getattr(plain, name) for name in names]
    assert min(float(gain.min()) for gain in gains) >= -1e-12
    assert max(float(gain.max()) for gain in gains) > 0.02


@pytest.mark.parametrize(
    ("small", "modes"),
    [
        (parts((0.45, {4.0: 0.4, 8.0: 0.4}), (0.6, {})), ["spawn", "vanish"]),
        (parts((0.8, {4.0: 0.3, 8.0: 0.3}), (0.6, {})), ["spawn", "vanish"]),
        (parts((0.8, {}), (0.02, {})), ["shift"]),
        (parts((0.8, {}), (0.6, {4.0: 0.02, 8.0: 0.02})), ["shift"]),
    ],
)
def test_constants_of_parts_that_are_too_small_would_be_beaten(toys, small, modes):
    kappa = 3.0 if "shift" in modes else 0.6
    toys_ = [toys.world(seed, parts=APART, kappa=kappa, images=4) for seed in range(6)]
    rhos = [0.3, 0.6, 1.0, 1.5]
    assert any(beaten(toys, t, certified(toys, t, rhos, parts=small), modes=modes) for t in toys_)
    assert not any(beaten(toys, t, certified(toys, t, rhos), modes=modes) for t in toys_)


def test_no_attack_beats_a_bound_at_a_high_iou(toys):
    toy = toys.world(5, noise=0.01, images=4)
    bounds = certified(toys, toy, [0.0, 0.1, 0.3], iou=0.75)
    assert float(bounds.average_precision[0]) > 0.2
    assert beaten(toys, toy, bounds, iou=0.75) == set()


@pytest.mark.parametrize("lipschitz", [1 / 3])
def test_a_constant_of_single_outputs_would_be_beaten(toys, lipschitz):
    """The mutation that takes the constant of one class or location for the joint one."""
    toys_ = [toys.world(seed) for seed in range(3)]
    assert any(
        beaten(toys, t, certified(toys, t, lipschitz=lipschitz), modes=["spawn", "vanish"]) for t in toys_
    )


def test_forgotten_new_candidates_would_be_beaten(toys, monkeypatch):
    monkeypatch.setattr(outcome, "affordable", lambda running, budget: torch.zeros_like(budget).long())
    toy = toys.world(0)
    assert "precision" in beaten(toys, toy, certified(toys, toy), modes=["spawn"])


def test_values_never_rise_with_eps(toys):
    for seed in range(2):
        bounds = certified(toys, toys.world(seed, images=3), torch.linspace(0, 0.8, 12).tolist())
        for name in ("recall", "average_precision", "average_precision_101", "recall_allowed", "quiet"):
            assert (getattr(bounds, name).diff(dim=-1) <= 1e-12).all()
        fall = bounds.precision.nan_to_num(0.0).diff(dim=-1)
        assert (fall <= 1e-12)[~bounds.precision.isnan()[:, 1:]].all()


def test_without_a_perturbation_the_bounds_are_the_clean_values(toys):
    """Recall exactly (dominance); precision up to groups that are no cliques, which is rare."""
    differences = []
    for seed in range(4):
        toy = toys.world(seed, classes=1 + seed % 2)
        bounds = certified(toys, toy, [0.0])
        for j, theta in enumerate(THETAS):
            recall, precision, _ = toys.rates(toy.batch, toy.targets, theta, LIMIT)
            assert float(bounds.clean_recall[j]) == pytest.approx(recall)
            assert float(bounds.recall[j, 0]) == pytest.approx(recall)
            if math.isnan(precision):
                assert bounds.clean_precision[j].isnan()
            else:
                assert float(bounds.clean_precision[j]) == pytest.approx(precision)
                differences.append(precision - float(bounds.precision[j, 0]))
        classes = sorted({int(k) for t in toy.targets for k in t["labels"]})
        clean = torch.tensor([toys.average_precision(toy.batch, toy.targets, LOW, LIMIT, k) for k in classes])
        assert bounds.clean_average_precision == pytest.approx(float(clean.mean(0)[0]))
        assert bounds.clean_average_precision_101 == pytest.approx(float(clean.mean(0)[1]))
    assert min(differences) >= -1e-12
    assert sum(differences) / len(differences) < 0.02


def test_with_every_score_as_a_threshold_clean_and_certified_ap_agree(toys):
    toy = toys.world(1, images=4)
    scores = torch.cat([torch.sigmoid(z[z > LOW]) for z, *_ in toy.batch])
    bounds = certified(toys, toy, [0.0], scores=[*(scores * (1 - 1e-5)).tolist(), SCORES[0]])
    assert bounds.clean_average_precision > 0.5
    assert float(bounds.average_precision) == pytest.approx(bounds.clean_average_precision, abs=0.02)
    assert float(bounds.average_precision) <= bounds.clean_average_precision + 1e-12


def test_precision_is_the_least_ratio_over_all_choices(toys):
    """Dinkelbach's answer against the enumeration of one point for each image."""
    toy = toys.world(2, images=4)
    rho = torch.tensor([0.3, 0.6], dtype=torch.float64)
    outcomes = []
    for raw, target in zip(toys.padded(toy), toy.targets, strict=True):
        certificate = detection_from_raw(
            raw, [target], size=toys.SIZE, lipschitz=1.0, kappa=toy.kappa, nms=LIMIT
        )
        outcomes += certificate.outcomes(0.0, rho)
    found = pooled.precision(outcomes)
    for e in range(2):
        totals = {(0, 0)}
        for one in outcomes:
            totals = {(a + int(p[0]), b + int(p[1])) for a, b in totals for p in one.points[e]}
        assert float(found[e]) == min(a / b for a, b in totals)


def test_area_by_hand():
    recalls = torch.tensor([[0.2, 0.5], [0.8, 0.5], [0.5, math.nan]], dtype=torch.float64)
    precisions = torch.tensor([[0.9, 0.2], [0.4, 0.6], [math.nan, 0.9]], dtype=torch.float64)
    assert float(pooled.area_under(recalls[:, :1], precisions[:, :1])) == pytest.approx(0.2 * 0.9 + 0.6 * 0.4)
    expected = (21 * 0.9 + 60 * 0.4) / 101
    assert float(pooled.area_under(recalls[:, :1], precisions[:, :1], "101")) == pytest.approx(expected)
    assert float(pooled.area_under(recalls[:2, 1:], precisions[:2, 1:])) == pytest.approx(0.5 * 0.6)
    for how in ("all", "101"):
        assert pooled.area_under(recalls, precisions, how)[1].isnan()
    with pytest.raises(ValueError, match="interpolation"):
        pooled.area_under(recalls, precisions, "11")
