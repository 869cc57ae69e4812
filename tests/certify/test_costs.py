"""Costs of leaving and of reaching a class: against constrained optimisation, closed forms and attacks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from onelip.bounds import linear_norm
from onelip.certify import IoU, PixelAccuracy, costs
from onelip.core import errors

NORMS = [1.0, 2.0, math.inf]


def solved(f: np.ndarray, k: int, p: float) -> float:
    """Least l_p change of f that makes class k the largest, by linear or quadratic programming."""
    classes = len(f)
    others = [j for j in range(classes) if j != k]
    if p == 2.0:
        # Dual of the projection on {z: z_k >= z_j}: non-negative least squares over the cone of normals.
        normals = np.array(
            [[1.0 if i == j else -1.0 if i == k else 0.0 for i in range(classes)] for j in others]
        )
        gram = normals @ normals.T
        root = np.linalg.cholesky(gram + 1e-13 * np.eye(len(others)))
        weights, _ = optimize.nnls(root.T, np.linalg.solve(root, normals @ f), maxiter=1000)
        return float(np.linalg.norm(weights @ normals))
    # Variables: positive and negative parts of the change, and (p = inf) their common bound.
    rows = [[(i == j) - (i == k) for i in range(classes)] for j in others]
    a = np.hstack([np.array(rows, float), -np.array(rows, float)])
    b = np.array([f[k] - f[j] for j in others])
    if p == 1.0:
        return float(optimize.linprog(np.ones(2 * classes), A_ub=a, b_ub=b).fun)
    eye = np.eye(2 * classes)
    a = np.vstack([np.hstack([a, np.zeros((len(others), 1))]), np.hstack([eye, -np.ones((2 * classes, 1))])])
    b = np.concatenate([b, np.zeros(2 * classes)])
    return float(optimize.linprog([0.0] * 2 * classes + [1.0], A_ub=a, b_ub=b).fun)


@pytest.mark.parametrize("p", NORMS)
def test_the_cost_of_a_class_is_the_solution_of_the_optimisation_problem(p):
    rng = np.random.default_rng(3)
    for _ in range(60):
        classes = int(rng.integers(2, 8))
        f = rng.normal(size=classes).round(int(rng.integers(0, 4)))
        k = int(rng.integers(classes))
        cost = costs.to_cost(torch.tensor(f).reshape(1, -1, 1, 1), k, p=p).item()
        assert cost == pytest.approx(solved(f, k, p), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_water_filling_equals_the_best_prefix_of_the_sorted_gaps(seed):
    generator = torch.Generator().manual_seed(seed)
    gaps = torch.randn(30, 400, generator=generator, dtype=torch.float64)
    if seed % 2:
        gaps = gaps.mul(2).round()  # many equal gaps
    down = gaps.clamp_min(0).sort(0, descending=True).values
    count = torch.arange(1, 31, dtype=torch.float64).unsqueeze(1)
    total = down.cumsum(0)
    active = (down * (count + 1) > total).sum(0, keepdim=True)  # the r with g_r > t >= g_(r+1)
    squares = down.square().cumsum(0) - total.square() / (count + 1)
    true = squares.gather(0, (active - 1).clamp_min(0)).squeeze(0) * (active.squeeze(0) > 0)
    torch.testing.assert_close(costs.water_fill(gaps).square(), true, rtol=1e-11, atol=1e-12)


def test_golden_water_filling():
    logits = torch.tensor([1.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    assert costs.to_cost(logits, 2, p=2.0).square().item() == pytest.approx(2 / 3, rel=1e-14)


@pytest.mark.parametrize("p", NORMS)
def test_reaching_costs_at_least_leaving_and_the_cheapest_class_costs_the_same(p):
    logits = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prediction = logits.argmax(1)
    leave = costs.leave_cost(logits, prediction, p=p)
    reach = torch.stack([costs.to_cost(logits, k, p=p) for k in range(6)], 1)
    assert (reach.gather(1, prediction.unsqueeze(1)) == 0).all()
    others = reach.scatter(1, prediction.unsqueeze(1), math.inf).amin(1)
    torch.testing.assert_close(others, leave, rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", NORMS)
def test_two_classes_cost_the_same_both_ways(p):
    logits = torch.randn(1, 2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    into = costs.to_cost(logits, 1, p=p)
    zeros = torch.zeros(1, 4, 5, dtype=torch.int64)
    torch.testing.assert_close(into, costs.leave_cost(logits, zeros, p=p).clamp_min(0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("p", NORMS)
def test_feature_costs_of_a_class_are_bounds_and_never_below_the_output_space(p):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    features = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    logits = (weight @ features).reshape(1, 5, 10, 20)
    for k in range(5):
        cost = costs.to_cost(logits, k, p=p, classifier=(weight[..., None, None],)).flatten()
        output = costs.to_cost(logits, k, p=p).flatten() / linear_norm(weight, p)
        assert (cost >= output * (1 - 1e-12)).all()
        # No random change of the features below the cost reaches the class.
        best = torch.full((200,), math.inf, dtype=torch.float64)
        for _ in range(1000):
            step = torch.randn(3, 200, generator=generator, dtype=torch.float64)
            step = torch.where(torch.rand(1, 200, generator=generator) < 0.3, step.sign(), step)
            step /= torch.linalg.vector_norm(step, ord=p, dim=0)
            gap = logits[0].flatten(1) - logits[0, k].flatten()
            speed = (weight[k] - weight) @ step
            reach = torch.where(gap > 0, torch.where(speed > 0, gap / speed, math.inf), 0.0).amax(0)
            best = torch.minimum(best, reach)
        assert (best >= cost * (1 - 1e-12)).all()
        reachable = (cost > 0) & best.isfinite()
        assert (best / cost)[reachable].median() < 1.6


def test_equal_rows_can_never_be_passed():
    logits = torch.tensor([2.0, 1.0, 1.0]).reshape(1, 3, 1, 1)
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert costs.to_cost(logits, 1, p=2.0, classifier=(weight,)).item() == math.inf
    assert costs.to_cost(logits, 2, p=2.0, classifier=(weight,)).item() == pytest.approx(math.sqrt(0.5))
    zero = (torch.zeros(3, 2),)
    assert costs.to_cost(logits, 2, p=2.0, classifier=zero).item() == math.inf


def test_gaps_at_the_ends_of_float64():
    huge = torch.tensor([1.5e308, 0.0, -1.5e308], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert costs.to_cost(huge, 2, p=2.0).item() == math.inf
    tiny = torch.tensor([1e-200, 1e-200, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert costs.to_cost(tiny, 2, p=2.0).item() <= 1e-200
    # Squares of such costs lose all their digits; what is lost goes to the attacker.
    target = torch.zeros(1, 1, 1, dtype=torch.int64)
    for gap in (1e-200, 3e-162, 7e-155):
        logits = torch.tensor([gap, 0.0], dtype=torch.float64).reshape(1, 2, 1, 1)
        for criterion in (PixelAccuracy(), IoU(0)):
            assert criterion.worst_case(logits, target, eps=gap, lipschitz=1.0).item() == 0.0
            assert criterion.radius(logits, target, threshold=0.5, lipschitz=1.0).item() <= gap


def test_chunks_columns_and_dtypes_do_not_matter():
    logits = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(2))
    whole = costs.to_cost(logits, 3, p=2.0)
    assert torch.equal(whole, costs.to_cost(logits, 3, p=2.0, chunk=7))
    assert torch.equal(whole, costs.to_cost(logits.double(), 3, p=2.0))
    assert torch.equal(whole[1].flatten(), costs.to_cost(logits[1].flatten(1), 3, p=2.0))


def test_a_class_that_is_not_there():
    for k in (-1, 3):
        with pytest.raises(errors.InputError, match=rf"class {k} for 3 logits.*0\.\.2"):
            costs.to_cost(torch.zeros(1, 3, 1, 1), k, p=2.0)


def test_the_lowest_index_of_a_tie_is_predicted():
    logits = torch.randint(0, 3, (2, 7, 20, 20), generator=torch.Generator().manual_seed(4)).float()
    first, second, prediction = costs.top_two(logits)
    down = logits.sort(1, descending=True).values
    assert torch.equal(first, down[:, 0])
    assert torch.equal(second, down[:, 1])
    assert torch.equal(prediction, torch.from_numpy(logits.numpy().argmax(1)))
