"""Exhaustive search over every relabelling of tiny images: certified values must equal the true minimum."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from onelip.certify import PixelAccuracy, Recall, Stability, pixel_radius

NORMS = [1, 2, math.inf]


def relabel_cost(logits: np.ndarray, a: int, b: int, p: float) -> float:
    """Least l_p change of one pixel's logits after which class b is at least as large as class a.

    Found by scanning how the gap is split between lowering a and raising b.
    """
    gap = logits[a] - logits[b]
    if gap <= 0:
        return 0.0
    lowered = np.linspace(0.0, gap, 2001)  # contains the half
    changes = np.stack([lowered, gap - lowered])
    return float(np.linalg.norm(changes, ord=p, axis=0).min())


def feature_cost(gap: float, direction: np.ndarray, p: float) -> float:
    """Distance to the half space `direction . x <= -gap`, by its explicit minimiser."""
    if gap <= 0:
        return 0.0
    if p == 1:  # all of it on the largest coordinate
        return gap / np.abs(direction).max()
    if p == 2:
        return gap / math.sqrt(float(direction @ direction))
    step = gap / np.abs(direction).sum()  # every coordinate by the same amount
    moved = -step * np.sign(direction)
    assert math.isclose(float(direction @ moved), -gap, rel_tol=1e-9)
    return float(np.abs(moved).max())


def cheapest(costs: np.ndarray, kept: np.ndarray, valid: np.ndarray, p: float) -> list[tuple[float, float]]:
    """(total cost, value) of every subset of flipped pixels."""
    outcomes = []
    indices = np.flatnonzero(kept & valid)
    for chosen in itertools.product([False, True], repeat=len(indices)):
        flipped = indices[np.array(chosen, dtype=bool)]
        total = float(np.linalg.norm(costs[flipped], ord=p)) if len(flipped) else 0.0
        outcomes.append((total, (len(indices) - len(flipped)) / valid.sum()))
    return outcomes


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_worst_case_and_radius_equal_exhaustive_search(p, weighted, seed):
    rng = np.random.default_rng(seed)
    classes, pixels, lipschitz = 3, 7, 1.7
    features = rng.normal(size=(5, pixels))
    weight = rng.normal(size=(classes, 5))
    logits = weight @ features
    target = rng.integers(0, classes, pixels)
    target[: pixels // 2] = logits.argmax(0)[: pixels // 2]
    void = rng.random(pixels) < 0.15
    prediction, valid = logits.argmax(0), ~void

    def pixel_cost(i: int) -> float:
        a, column = prediction[i], logits[:, i]
        others = [b for b in range(classes) if b != a]
        if weighted:
            return min(feature_cost(column[a] - column[b], weight[a] - weight[b], p) for b in others)
        return min(relabel_cost(column, a, b, p) for b in others)

    costs = np.array([pixel_cost(i) for i in range(pixels)])
    x = torch.tensor(logits).reshape(1, classes, 1, pixels)
    y = torch.tensor(np.where(void, 255, target)).reshape(1, 1, pixels)
    options = {"lipschitz": lipschitz, "p": p, "classifier": (torch.tensor(weight),) if weighted else None}

    right = prediction == target
    cases = [(PixelAccuracy(), right, valid), (Stability(), np.ones(pixels, bool), valid)]
    cases += [(Recall(k), right, valid & (target == k)) for k in range(classes)]
    for criterion, kept, counted in cases:
        if not counted.any():
            assert criterion.value(x, y).isnan().all()
            assert criterion.worst_case(x, y, eps=[0.0, 9.0], **options).isnan().all()
            continue
        outcomes = cheapest(costs, kept, counted, p)
        eps = [0.0, *np.quantile([c for c, _ in outcomes], [0.1, 0.3, 0.55, 0.8, 0.99]) * 1.0001 / lipschitz]
        found = criterion.worst_case(x, y, eps=eps, **options).flatten().tolist()
        true = [min(v for c, v in outcomes if c <= e * lipschitz) for e in eps]
        assert found == pytest.approx(true, abs=1e-12)
        assert criterion.value(x, y).item() == pytest.approx(max(v for _, v in outcomes))
        for threshold in (0.0, 0.25, 0.5, 0.75, 1.0):
            reach = [c for c, v in outcomes if v <= threshold]
            radius = criterion.radius(x, y, threshold=threshold, **options).item()
            assert radius <= min(reach) / lipschitz
            assert radius == pytest.approx(min(reach) / lipschitz, rel=1e-6)

    radii = pixel_radius(x, None, **options).flatten().numpy()
    assert (radii <= costs / lipschitz * (1 + 1e-12)).all()
    assert radii == pytest.approx(costs / lipschitz, rel=1e-6)


@pytest.mark.parametrize("p", NORMS)
def test_no_random_change_below_the_cost_flips_a_pixel_and_one_at_the_cost_does(p):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    features = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    logits = (features @ weight.T).T.reshape(1, 4, 10, 20)
    label = logits.argmax(1).flatten()
    for classifier in (None, (weight[..., None, None],)):
        radius = pixel_radius(logits, lipschitz=1.0, p=p, classifier=classifier).flatten()
        width = 4 if classifier is None else 3
        best = torch.full((200,), math.inf, dtype=torch.float64)
        for _ in range(3000):
            step = torch.randn(200, width, generator=generator, dtype=torch.float64)
            step = torch.where(torch.rand(200, 1, generator=generator) < 0.3, step.sign(), step)
            step = step * (torch.rand(200, width, generator=generator) < 0.6)
            norm = torch.linalg.vector_norm(step, ord=p, dim=1, keepdim=True).clamp_min(1e-12)
            # Smallest multiple of the unit step that makes another class reach the label.
            move = step / norm if classifier is None else step / norm @ weight.T
            value = logits.flatten(2)[0].T
            gap = value.gather(1, label[:, None]) - value
            speed = move - move.gather(1, label[:, None])
            reach = torch.where((speed > 0) & (gap > 0), gap / speed, math.inf).amin(1)
            best = torch.minimum(best, reach)
        assert (best >= radius).all()
        # The sampling is dense enough to come close, so that the assertion above can fail.
        assert (best / radius).median() < 1.2
