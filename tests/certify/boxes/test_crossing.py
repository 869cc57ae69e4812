"""Statements about logits against the enumeration of all subsets, fine grids, and exact arithmetic at ties."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.certify import budget as budget_module
from onelip.certify.boxes import crossing
from onelip.certify.boxes.crossing import new_candidates, takeover_cost
from onelip.certify.boxes.scene import Scene, Settings
from onelip.certify.boxes.shared import fallen, largest
from onelip.certify.budget import budgets

numbers = st.floats(-2, 2, allow_nan=False, width=16)


def budget(rho, items=8):
    return budgets(torch.tensor([rho], dtype=torch.float64), lipschitz=1.0, p=2.0, items=items)


def subsets(items):
    return itertools.chain.from_iterable(itertools.combinations(items, n) for n in range(len(items) + 1))


def scene(logits, boxes=None, labels=None, points=None, **settings_):
    logits = torch.as_tensor(logits, dtype=torch.float64)
    count = len(logits)
    points = torch.zeros(count, 2, dtype=torch.float64) + 4.0 if points is None else points
    boxes = torch.zeros(0, 4, dtype=torch.float64) if boxes is None else torch.as_tensor(boxes).double()
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.as_tensor(labels)
    options = {"lipschitz": 1.0, "kappa": None, "nms": 0.6} | settings_
    sides = torch.ones(count, 4, dtype=torch.float64)
    return Scene(
        logits, sides, points, torch.ones(count).double(), (64, 64), boxes, labels, Settings(**options)
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=8), numbers, st.floats(0, 3))
def test_new_candidates_equal_the_largest_affordable_subset(logits, theta, rho):
    gaps = [theta - z for z in logits if z <= theta]
    # Strictly inside the ball, where ties and slack play no part.
    costs = [sum(Fraction(g) ** 2 for g in chosen) for chosen in subsets(gaps)]
    if any(abs(float(cost) - rho * rho) < 1e-6 for cost in costs):
        return
    best = max(
        len(c)
        for c in subsets(gaps)
        if sum(Fraction(g) ** 2 for g in c) < Fraction(rho) ** 2 + Fraction(1, 10**12)
    )
    found = new_candidates(scene([[z] for z in logits]), theta, budget(rho))
    assert found.tolist() == [best]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.floats(0, 2), max_size=3), min_size=1, max_size=4), st.floats(0, 4))
def test_fallen_objects_equal_the_best_choice_of_supports(margins, rho):
    """All subsets of locations are taken down; an object is lost when all its supports are."""
    items = [(g, m) for g, own in enumerate(margins) for m in own]
    worst, near = 0, False
    for chosen in subsets(range(len(items))):
        cost = sum(items[i][1] ** 2 for i in chosen)
        near |= abs(cost - rho * rho) < 1e-6
        if cost <= rho * rho:
            lost = sum(
                all(i in chosen for i in range(len(items)) if items[i][0] == g) for g in range(len(margins))
            )
            worst = max(worst, lost)
    costs = torch.tensor([[[sum(m * m for m in own)]] for own in margins], dtype=torch.float64)
    if not near:
        assert fallen(costs, budget(rho)).tolist() == [worst]


def test_location_costs_add_up_only_where_they_are_disjoint():
    boxes = [[0.0, 0.0, 10.0, 10.0], [2.0, 2.0, 9.0, 9.0], [0.0, 0.0, 10.0, 10.0]]
    points = torch.tensor([[1.0, 1.0], [5.0, 5.0], [30.0, 30.0]]).double()
    one = scene([[0.3, 0.5], [0.4, -0.2], [0.9, 0.9]], boxes, [0, 0, 1], points)
    alone = largest(crossing.location_costs(one, 0.0, disjoint=False))
    shared = largest(crossing.location_costs(one, 0.0, disjoint=True))
    torch.testing.assert_close(alone, torch.tensor([0.09 + 0.16, 0.16, 0.25]).double())
    torch.testing.assert_close(shared, torch.tensor([0.09, 0.16, 0.25]).double())
    # Both objects of class 0 are gone for 0.25, which the sum of the costs alone would not admit.
    assert fallen(shared[:2, None, None], torch.tensor([0.2500001])).tolist() == [2]
    assert fallen(alone[:2, None, None], torch.tensor([0.2500001])).tolist() == [1]


@settings(max_examples=200, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6), numbers)
def test_takeover_equals_a_fine_grid_and_is_attained(own, rival):
    found = takeover_cost(torch.tensor(own, dtype=torch.float64), rival)
    grid = torch.linspace(min(*own, rival), max(*own, rival) + 1e-9, 4001, dtype=torch.float64)
    costs = (grid - rival).clamp_min(0).square()
    costs += (torch.tensor(own, dtype=torch.float64)[:, None] - grid).clamp_min(0).square().sum(0)
    assert found <= float(costs.min()) + 1e-12
    assert found == pytest.approx(float(costs.min()), abs=1e-5)


def test_takeover_of_one_location_is_the_distance_to_the_bisector():
    assert takeover_cost(torch.tensor([1.0]), 0.0) == pytest.approx(0.5)
    assert takeover_cost(torch.tensor([0.0, -1.0]), 0.0) == 0.0
    assert takeover_cost(torch.tensor([1.0, 1.0]), 0.0) == pytest.approx(2 / 3)


def test_labels_by_hand():
    points = torch.tensor([[5.0, 5.0], [6.0, 6.0], [30.0, 30.0]]).double()
    one = scene([[0.5, -0.5], [0.2, -0.9], [-3.0, 2.0]], [[0.0, 0.0, 10.0, 10.0]], [0], points)
    cost = crossing.label_costs(one)
    assert float(cost) == pytest.approx(takeover_cost(torch.tensor([0.5, 0.2]), -0.5))
    assert float(crossing.mislabel_costs(one, 0.0)) == pytest.approx(0.25 + 0.04 + 0.25)
    far = scene([[0.5, 0.9]], [[40.0, 40.0, 50.0, 50.0]], [0])
    assert crossing.label_costs(far).tolist() == [0.0]  # no location of its own
    alone = scene([[0.5]], [[0.0, 0.0, 10.0, 10.0]], [0])
    assert crossing.label_costs(alone).tolist() == [math.inf]
    assert crossing.mislabel_costs(alone, 0.0).tolist() == [math.inf]


def test_a_location_in_two_objects_belongs_to_the_smaller_one():
    points = torch.tensor([[5.0, 5.0], [1.0, 1.0]]).double()
    boxes = [[0.0, 0.0, 10.0, 10.0], [4.0, 4.0, 6.0, 6.0]]
    one = scene([[0.1, 0.9], [0.7, 0.0]], boxes, [0, 1], points)
    assert one.owner.tolist() == [1, 0]
    assert crossing.label_costs(one).tolist() == pytest.approx([0.245, 0.32])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=7), st.floats(0, 2))
def test_relabelled_locations_equal_the_best_subset(rows, rho):
    logits = torch.tensor(rows, dtype=torch.float64)
    one = scene(logits)
    costs = []
    for row in rows:
        top = sorted(row, reverse=True)
        if top[0] > 0.0:
            costs.append((top[0] - top[1]) ** 2 / 2)
    sums = [(len(c), sum(c)) for c in subsets(costs)]
    if not any(abs(s - rho * rho) < 1e-6 for _, s in sums):
        assert crossing.relabelled(one, 0.0, budget(rho)).tolist() == [
            max(n for n, s in sums if s <= rho * rho)
        ]


def exact_ties(seed, count=3):
    """Gaps and a budget root that pays for all of them exactly, though their float64 sum says that it does not."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        gaps = torch.rand(count, generator=generator, dtype=torch.float64)
        total = sum(Fraction(g) ** 2 for g in gaps.tolist())
        rho = math.sqrt(float(total))
        rho = rho if Fraction(rho) ** 2 > total else math.nextafter(rho, 2.0)
        if float((gaps**2).sort().values.cumsum(0)[-1]) > rho * rho:
            return gaps, rho


def all_fire(seed):
    gaps, rho = exact_ties(seed)
    return new_candidates(scene(-gaps[:, None]), 0.0, budget(rho)).tolist() == [3]


def all_fall(seed):
    gaps, rho = exact_ties(seed)
    return fallen((gaps**2)[:, None, None], budget(rho)).tolist() == [3]


@pytest.mark.parametrize("statement", [all_fire, all_fall])
def test_rounding_favours_the_attacker(statement):
    assert all(statement(seed) for seed in range(10))


@pytest.mark.parametrize("statement", [all_fire, all_fall])
def test_without_slack_rounding_would_favour_the_defender(statement, monkeypatch):
    monkeypatch.setattr(budget_module, "slack", lambda items: 0.0)
    monkeypatch.setattr(budget_module, "UNDERFLOW", 0.0)
    assert not any(statement(seed) for seed in range(10))


def closed(budget_):
    """A margin of exactly rho is lost, in the closed ball."""
    return fallen(torch.tensor([[[0.25]]], dtype=torch.float64), budget_).tolist() == [1]


def test_the_ball_is_closed():
    assert closed(budget(0.5))
    assert not closed(budget(math.nextafter(0.5, 0.0) * (1 - 1e-8)))
    # Dropping strictness on the wrong side, sum < rho^2 without slack, would miss it.
    assert not bool((torch.tensor([[0.25]]).double().cumsum(0) < 0.25).sum(0))
    one = scene([[0.5]], [[0.0, 0.0, 10.0, 10.0]], [0])
    assert float(crossing.radii(one, largest(crossing.location_costs(one, 0.0, disjoint=False)))) < 0.5
    # A logit at the threshold is no candidate, and fires for any budget.
    assert new_candidates(scene([[0.0]]), 0.0, budget(0.0)).tolist() == [1]
