"""Budgets of levels beside the joint one, against the enumeration of all subsets and against sampled attacks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.certify import detection_from_raw
from onelip.certify.boxes import crossing
from onelip.certify.boxes.scene import Scene, Settings
from onelip.certify.boxes.shared import fallen
from onelip.certify.boxes.sums import Constants, sums
from onelip.core.errors import InputError
from onelip.models.detection import Raw

numbers = st.floats(-1.5, 1.5, allow_nan=False, width=16)
places = st.lists(st.tuples(numbers, st.sampled_from([4.0, 8.0])), min_size=1, max_size=8)
constants = st.fixed_dictionaries({4.0: st.floats(0.2, 1.0), 8.0: st.floats(0.2, 1.0)})


def scene(rows, levels, *, objects=0, classes=1):
    """Locations (logit or logits, stride); object g holds those whose number leaves g modulo the objects."""
    logits = torch.tensor([row[:-1] for row in rows], dtype=torch.float64).reshape(len(rows), classes)
    strides = torch.tensor([row[-1] for row in rows], dtype=torch.float64)
    number = torch.arange(len(rows)).double()
    points = torch.stack([10.0 * (number % max(objects, 1)) + 5.0, number], 1)
    left = 10.0 * torch.arange(objects).double()
    boxes = torch.stack([left, 0 * left - 1, left + 10, 0 * left + 99], 1)
    labels = torch.zeros(objects, dtype=torch.int64)
    sides = torch.ones(len(rows), 4, dtype=torch.float64)
    given_ = Settings(1.0, None, 0.6, logits=Constants(1.0, levels))
    return Scene(logits, sides, points, strides, (99, 99), boxes, labels, given_)


def needed(moves, strides, levels):
    """Smallest rho whose balls, joint and of each level, hold these moves."""
    squares = [m * m for m in moves]
    alone = [
        math.sqrt(sum(q for q, s in zip(squares, strides, strict=True) if s == level)) / constant
        for level, constant in levels.items()
    ]
    return max(math.sqrt(sum(squares)), *alone)


def subsets(count):
    return itertools.chain.from_iterable(itertools.combinations(range(count), n) for n in range(count + 1))


@settings(max_examples=150, deadline=None)
@given(places, constants, st.floats(0, 2))
def test_new_candidates_equal_the_best_subset(rows, levels, rho):
    one = scene(rows, levels)
    gaps = [(-z, s) for z, s in rows if z <= 0]
    found = {
        chosen: needed([gaps[i][0] for i in chosen], [gaps[i][1] for i in chosen], levels)
        for chosen in subsets(len(gaps))
    }
    if any(abs(value - rho) < 1e-6 for value in found.values()):
        return
    best = max(len(chosen) for chosen, value in found.items() if value < rho or not chosen)
    assert crossing.new_candidates(one, 0.0, one.budget(torch.tensor([rho]))).tolist() == [best]
    first = min((value for chosen, value in found.items() if len(chosen) == 1), default=math.inf)
    assert float(crossing.radii(one, crossing.silent_cost(one, 0.0))) == pytest.approx(
        first, rel=1e-6, abs=1e-9
    )


@settings(max_examples=150, deadline=None)
@given(places, constants, st.integers(1, 3), st.floats(0, 3))
def test_objects_fall_no_easier_than_the_best_choice(rows, levels, objects, rho):
    one = scene(rows, levels, objects=objects)
    costs = crossing.location_costs(one, 0.0, disjoint=True)
    radii = crossing.radii(one, costs.amax(1))
    margins = [max(z, 0.0) for z, _ in rows]
    strides = [s for _, s in rows]
    worst = 0
    for lost in subsets(objects):
        moves = [m if i % objects in lost else 0.0 for i, m in enumerate(margins)]
        price = needed(moves, strides, levels)
        if len(lost) == 1:
            assert float(radii[lost[0]]) == pytest.approx(price, rel=1e-6, abs=1e-9)
        worst = max(worst, len(lost)) if price <= rho else worst
    found = int(fallen(costs[..., None], one.budget(torch.tensor([rho])))[0])
    plain = int(fallen(costs[:, :1, None], one.budget(torch.tensor([rho])))[0])
    assert worst <= found <= plain


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from([4.0, 8.0])), min_size=1, max_size=5), constants)
def test_labels_hold_against_sampled_attacks(rows, levels):
    """Below the radius no move of the logits in all balls makes the other class as high, or the own one silent."""
    one = scene(rows, levels, objects=1, classes=2)
    generator = torch.Generator().manual_seed(len(rows))
    radius = float(crossing.radii(one, crossing.label_costs(one)))
    wrong = float(crossing.radii(one, crossing.mislabel_costs(one, 0.0)))
    plain = scene(rows, {}, objects=1, classes=2)
    assert radius >= float(crossing.radii(plain, crossing.label_costs(plain))) * (1 - 1e-9)
    assert wrong >= float(crossing.radii(plain, crossing.mislabel_costs(plain, 0.0))) * (1 - 1e-9)
    strides = [s for *_, s in rows for _ in range(2)]
    for _ in range(300):
        aim = one.logits.clone()
        level = torch.rand((), generator=generator, dtype=torch.float64) * 3 - 1.5
        rival = int(torch.randint(len(rows), (), generator=generator))
        aim[:, 0] = aim[:, 0].minimum(level)
        aim[rival, 1] = aim[rival, 1].maximum(level)
        price = needed((aim - one.logits).flatten().tolist(), strides, levels)
        assert price >= radius * (1 - 1e-9)
        silent = one.logits.clone()
        silent[:, 0] = silent[:, 0].clamp_max(0.0)
        silent[rival, 1] = silent[rival, 1].clamp_min(0.0)
        assert needed((silent - one.logits).flatten().tolist(), strides, levels) >= wrong * (1 - 1e-9)


coordinates = st.lists(st.floats(-1, 1, width=16), min_size=4, max_size=4)


@settings(max_examples=200, deadline=None)
@given(coordinates, coordinates, constants, constants)
def test_every_sum_holds_for_every_move_within_the_constants(logits, boxes, first, second):
    """Two locations of two levels, moved as far as all constants allow: no sum exceeds the budget."""
    z, t = Constants(0.9, first), Constants(0.7, second)
    found = sums(torch.tensor([4.0, 8.0, 4.0, 8.0]).double(), 1.0, z, t)
    a, b = torch.tensor(logits).double(), torch.tensor(boxes).double()
    stretch = 0.0
    for move, part in ((a, z), (b, t)):
        for rows, constant in (
            (slice(None), part.joint),
            *((slice(i, None, 2), part.levels[s]) for i, s in enumerate((4.0, 8.0))),
        ):
            stretch = max(stretch, float(move[rows].norm()) / min(constant, part.joint))
    stretch = max(stretch, math.hypot(float(a.norm()), float(b.norm())))
    if stretch == 0.0:
        return
    a, b = (a / stretch).square(), (b / stretch).square()
    total = a @ found.logits + b @ found.boxes
    assert float(total.max()) <= 1.0 + 1e-9
    everyone = torch.arange(4)
    for i, j in itertools.product(range(4), range(4)):
        own = sorted({i, j})
        price = found.of_pair(
            found.scope(everyone[i : i + 1], everyone[j : j + 1]),
            a[own].sum()[None, None],
            b[own].sum()[None, None],
        )
        assert float(price) <= 1.0 + 1e-9
    assert float((found.of_logit() * a).max()) <= 1.0 + 1e-9
    assert float((found.of_box() * b).max()) <= 1.0 + 1e-9


def test_sums_of_a_mixture_are_within_two_of_the_best():
    found = sums(torch.tensor([4.0]).double(), 1.0, Constants(0.95), Constants(0.3))
    assert found.w[0].tolist() == pytest.approx([1.0, 1 / (2 * 0.95**2), 1 / 0.95**2])
    assert found.u[0].tolist() == pytest.approx([1.0, 1 / (2 * 0.3**2), 0.0])


def test_bad_constants_of_parts_are_refused():
    raw = Raw(torch.zeros(1, 2, 1), torch.ones(1, 2, 4), torch.ones(2, 2), torch.tensor([4.0, 8.0]))

    def certify(kappa=None, **parts):
        return detection_from_raw(raw, size=(16, 16), lipschitz=1.0, kappa=kappa, **parts)

    with pytest.raises(InputError, match="strides that are not there"):
        certify(logits=Constants(1.0, {16.0: 0.1}))
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"logits.levels\[4\]"):
            certify(logits=Constants(1.0, {4.0: bad}))
    for kappa, parts in (
        (None, {"boxes": Constants(1.0)}),
        (0.1, {"boxes": Constants(1.0)}),
        (0.1, {"logits": Constants(1.0)}),
    ):
        with pytest.raises(InputError, match="with `kappa` both or none"):
            certify(kappa, **parts)
    found = certify(logits=Constants(2.0, {4.0: 5.0, 8.0: 0.0}))
    assert found.settings.logits == Constants(1.0, {4.0: 1.0, 8.0: 0.001})
    assert found.to_dict()["constants"] == {"logits": {"joint": 1.0, "4": 1.0, "8": 0.001}}
