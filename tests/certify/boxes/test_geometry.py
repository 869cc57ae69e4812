"""Overlap of boxes with moving sides: vertices against sampling and against a minimiser, rates and distances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from onelip.certify.boxes import movement
from onelip.certify.boxes.geometry import best_iou, reach, table
from onelip.certify.boxes.movement import break_distance, rate
from onelip.models.boxes import iou, worst_iou
from onelip.models.decoding import clip, decode


def boxes(count, seed, low=0.5, high=5.0):
    generator = torch.Generator().manual_seed(seed)
    corner = 6 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    side = low + (high - low) * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([corner, corner + side], 1)


def test_iou_equals_a_count_of_small_squares():
    a, b = boxes(20, 0).mul(4).round(), boxes(20, 1).mul(4).round()
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(60) + 0.5, indexing="ij")

    def mask(box):
        return (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])

    for i, j in itertools.product(range(20), range(20)):
        both, any_ = (mask(a[i]) & mask(b[j])).sum(), (mask(a[i]) | mask(b[j])).sum()
        assert float(table(a, b)[i, j]) == pytest.approx(int(both) / int(any_), abs=1e-12)


def test_empty_and_inverted_boxes_overlap_nothing():
    empty = torch.tensor([[1.0, 1.0, 1.0, 4.0], [3.0, 3.0, 2.0, 2.0]])
    assert iou(empty, torch.tensor([0.0, 0.0, 5.0, 5.0])).tolist() == [0.0, 0.0]
    assert iou(empty, empty).tolist() == [0.0, 0.0]


def test_the_worst_vertex_is_below_every_sample_and_is_attained():
    generator = torch.Generator().manual_seed(2)
    centre, target = boxes(400, 3), boxes(400, 4)
    target[:200] = centre[:200] + 0.3 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    fine = (target[:, 2:] > target[:, :2]).all(1)
    centre, target = centre[fine], target[fine]
    half = 0.6 * torch.rand(len(centre), 4, generator=generator, dtype=torch.float64)
    low, high = centre - half, centre + half
    worst, best = worst_iou(low, high, target), best_iou(low, high, target)
    upright = (low[:, 2:] > high[:, :2]).all(1)
    assert upright.any()
    assert not upright.all()
    least = torch.full_like(worst, math.inf)
    for _ in range(60):
        sample = low + (high - low) * torch.rand(low.shape, generator=generator, dtype=torch.float64)
        value = iou(sample, target)
        assert (value >= worst).all()
        assert (value <= best + 1e-12).all()
    for corner in itertools.product((0, 1), repeat=4):
        choice = torch.where(torch.tensor(corner).bool(), high, low)
        least = torch.minimum(least, iou(choice, target))
    assert torch.equal(least[upright], worst[upright])
    assert (worst[~upright] == 0).all()


def test_no_minimiser_finds_less_than_the_worst_vertex():
    centre, target = boxes(6, 5, 2.0), boxes(6, 5, 2.0) + 0.25
    half = torch.full((6, 4), 0.4, dtype=torch.float64)
    worst = worst_iou(centre - half, centre + half, target)
    for i in range(6):
        found = []

        def value(x, i=i):
            return float(iou(torch.from_numpy(np.asarray(x)), target[i]))

        for corner in itertools.product((-0.5, 0.5), repeat=4):  # 16 starts inside the intervals
            start = (centre[i] + half[i] * torch.tensor(corner)).numpy()
            bounds = list(zip((centre - half)[i].tolist(), (centre + half)[i].tolist(), strict=True))
            found.append(minimize(value, start, method="L-BFGS-B", bounds=bounds).fun)
        assert min(found) >= float(worst[i]) - 1e-9
        assert min(found) == pytest.approx(float(worst[i]), abs=1e-6)


def test_the_naive_quotient_is_looser_than_the_vertices():
    box = torch.tensor([0.0, 0.0, 0.4, 0.4], dtype=torch.float64)
    for half, exact in ((0.02, 0.81), (0.04, 0.64), (0.06, 0.49)):  # shrinking: ((0.4 - 2h) / 0.4)^2
        assert float(worst_iou(box - half, box + half, box)) == pytest.approx(exact)
        naive = (0.4 - 2 * half) ** 2 / (0.4 + 2 * half) ** 2
        assert naive < exact


def heads(count, seed):
    generator = torch.Generator().manual_seed(seed)
    points = 6 + 20 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    strides = 2.0 ** torch.randint(1, 4, (count,), generator=generator).double()
    sides = 12 * torch.rand(count, 4, generator=generator, dtype=torch.float64) / strides[:, None]
    return points, strides, sides


def test_a_moved_box_stays_within_its_reach_and_within_its_rate():
    generator = torch.Generator().manual_seed(7)
    points, strides, sides = heads(300, 6)
    size = (32, 40)
    clean = clip(decode(points, strides, sides), size)
    for rho in (0.01, 0.3, 2.0):
        move = torch.randn(300, 4, generator=generator, dtype=torch.float64)
        move[::3] = -move[::3].abs()  # shrinking is the worst
        move[1::3, 2:] = 0.0
        kappa = 0.4
        move = kappa * rho * move / move.norm(dim=1, keepdim=True)
        moved = clip(decode(points, strides, (sides + move).clamp_min(0)), size)
        low, high = reach(points, strides, sides, move.abs(), size)
        assert ((moved >= low - 1e-12) & (moved <= high + 1e-12)).all()
        lost = 1.0 - iou(clean, moved)
        assert (lost <= rate(clean, strides, kappa) * rho + 1e-12).all()


def test_two_boxes_drift_apart_at_most_at_the_joint_rate_and_nearly_that_fast():
    """Both shrink: for small budgets the first order of the bound is attained."""
    size, kappa, rho = (64, 64), 1.0, 0.01
    points, strides = torch.tensor([[30.0, 30.0]] * 2).double(), torch.ones(2).double()
    sides = torch.tensor([[10.0, 10.0, 10.0, 10.0], [10.0, 10.0, 10.0, 10.0]]).double()
    clean = clip(decode(points, strides, sides), size)
    speed = rate(clean, strides, kappa)
    bound = float(torch.hypot(*speed)) * rho
    grow = torch.tensor([[-1.0], [1.0]]).double() * rho / math.sqrt(8)
    moved = clip(decode(points, strides, sides + grow), size)
    reached = float(iou(clean[0], clean[1]) - iou(moved[0], moved[1]))
    assert 0.99 * bound < reached <= bound


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 0.9))
def test_no_movement_within_the_distance_breaks_the_level(seed, level):
    generator = torch.Generator().manual_seed(seed)
    points, strides, sides = heads(30, seed)
    size = (32, 32)
    target = clip(decode(points, strides, sides), size)
    target += 0.4 * torch.randn(30, 4, generator=generator, dtype=torch.float64)
    fine = (target[:, 2:] - target[:, :2]).amin(1) > 0.5
    points, strides, sides, target = (t[fine] for t in (points, strides, sides, target))
    goal = torch.full((len(points),), level, dtype=torch.float64)
    plain = break_distance(points, strides, sides, size, target, goal, refine=False)
    fine_ = break_distance(points, strides, sides, size, target, goal)
    assert (plain <= fine_).all()
    assert (fine_ <= 2.0 * plain).all()
    reached = iou(clip(decode(points, strides, sides), size), target) >= goal
    assert torch.equal(fine_ > 0, reached & (plain > 0))
    for k in range(40):
        move = torch.randn(len(points), 4, generator=generator, dtype=torch.float64)
        if k % 2:
            move = move.sign() * (torch.rand(len(points), 4, generator=generator) < 0.7)
        move = move / move.norm(dim=1, keepdim=True).clamp_min(1e-9) * fine_[:, None]
        moved = clip(decode(points, strides, (sides + move).clamp_min(0)), size)
        assert (iou(moved, target) >= goal - 1e-9)[reached].all()


def test_the_distance_is_at_most_a_fifth_below_the_true_one():
    """A square that shrinks on all sides: (1 - R / w)^2 = level, R the norm over four equal movements."""
    points, strides = torch.tensor([[16.0, 16.0]]).double(), torch.ones(1).double()
    sides, target = torch.full((1, 4), 4.0).double(), torch.tensor([[12.0, 12.0, 20.0, 20.0]]).double()
    for level in (0.5, 0.75, 0.9):
        true = 8.0 * (1.0 - math.sqrt(level))
        found = float(
            break_distance(points, strides, sides, (32, 32), target, torch.tensor([level]).double())
        )
        plain = float(
            break_distance(
                points, strides, sides, (32, 32), target, torch.tensor([level]).double(), refine=False
            )
        )
        assert plain == pytest.approx(true / 2, rel=1e-6)  # all four ends at once
        assert 0.8 * true < found <= true


def test_shares_cover_the_ball():
    generator = torch.Generator().manual_seed(0)
    shares = movement._shares(movement.PARTS)
    move = torch.randn(2000, 4, generator=generator, dtype=torch.float64)
    move[::5, 1:3] = 0.0
    move = (move / move.norm(dim=1, keepdim=True)).abs()
    assert (move[:, None] <= shares[None] + 1e-12).all(2).any(1).all()


def test_a_rate_without_its_root_would_be_beaten(monkeypatch):
    """The mutation that forgets that two sides move: the test of rates must notice."""
    monkeypatch.setattr(movement.math, "sqrt", lambda _: 1.0)
    size = (64, 64)
    points, strides = torch.tensor([[30.0, 30.0]]).double(), torch.ones(1).double()
    sides = torch.full((1, 4), 10.0).double()
    clean = clip(decode(points, strides, sides), size)
    moved = clip(decode(points, strides, sides - 0.5 * 0.1), size)
    assert float(1.0 - iou(clean, moved)) > float(rate(clean, strides, 1.0)) * 0.1
