"""MeanIoU against exhaustive search over all relabellings, its closed forms, and an attack that is built in full."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.certify import IoU, MeanIoU, dual_search
from onelip.certify.budget import budgets
from onelip.certify.lagrangian import Alone, Prices, ladders, solve, transfers
from onelip.certify.output_attack import OutputAttack
from onelip.certify.roles import build

NORMS = [1, 2, math.inf]


def scene(classes, size, *, seed=0, noise=0.5, scale=3.0):
    """Smooth logits and labels with classes of very different sizes."""
    generator = torch.Generator().manual_seed(seed)

    def field(coarse):
        values = torch.randn(1, classes, coarse, coarse, generator=generator, dtype=torch.float64)
        values = torch.nn.functional.interpolate(values, (size, size), mode="bicubic")
        return values / values.std()

    truth = field(5) + torch.linspace(0.6, -1.0, classes, dtype=torch.float64).reshape(1, -1, 1, 1)
    return scale * (truth + noise * field(9)), truth.argmax(1)


def tiny(classes, pixels, *, seed, wrong=0.25, void=0.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(classes, pixels))
    target = logits.argmax(0)
    target = np.where(rng.random(pixels) < wrong, rng.integers(0, classes, pixels), target)
    target[rng.random(pixels) < void] = 255
    return logits, target


def reach(column, k, p):
    """Least l_p change after which class k is above all others: bisection on the level they meet at."""
    gaps = np.sort(np.maximum(column - column[k], 0.0))[::-1]
    if p != 2:
        return gaps[0] if p == 1 else gaps[0] / 2
    # For each number r of lowered classes the level is the mean; the right one is the best feasible.
    best = math.inf
    for r in range(len(gaps) + 1):
        level = gaps[:r].sum() / (1 + r)
        if r == len(gaps) or level >= gaps[r] - 1e-15:
            best = min(best, math.sqrt(level**2 + ((gaps[:r] - level) ** 2).sum()))
    return best


@functools.cache
def _relabellings(classes, pixels):
    return np.array(list(itertools.product(range(classes), repeat=pixels)))


def outcomes(logits, target, p):
    """(norm, mean IoU) of every relabelling of the valid pixels."""
    valid = target != 255
    logits, target = logits[:, valid], target[valid]
    classes, pixels = logits.shape
    table = _relabellings(classes, pixels)
    costs = np.array([[reach(logits[:, i], k, p) for k in range(classes)] for i in range(pixels)])
    norms = np.linalg.norm(costs[np.arange(pixels), table], ord=p, axis=1)
    terms = [
        ((table == k) & (target == k)).sum(1) / ((table == k) | (target == k)).sum(1)
        for k in np.unique(target)
    ]
    return norms, np.mean(terms, axis=0)


def batch(logits, target):
    return (
        torch.tensor(logits).reshape(1, len(logits), 1, -1),
        torch.tensor(target).reshape(1, 1, -1),
    )


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("block", range(4))
def test_two_classes_are_exact_in_exhaustive_search(p, block):
    for seed in range(25 * block, 25 * block + 25):  # 300 problems over all norms
        logits, target = tiny(2, 8, seed=seed, void=0.1 if seed % 2 else 0.0)
        if (target == 255).all():
            continue
        norms, values = outcomes(logits, target, p)
        x, y = batch(logits, target)
        lipschitz = 1.7
        eps = [0.0, *(np.quantile(norms, [0.02, 0.1, 0.3, 0.6, 0.95]) * (1 + 1e-6) / lipschitz)]
        found = MeanIoU().worst_case(x, y, eps=eps, lipschitz=lipschitz, p=p).flatten().tolist()
        assert found == pytest.approx([values[norms <= e * lipschitz].min() for e in eps], abs=1e-12)
        for threshold in (0.0, 0.25, 0.5, 0.7, *np.unique(values)[:3]):
            true = norms[values <= threshold].min(initial=math.inf) / lipschitz
            radius = MeanIoU().radius(x, y, threshold=float(threshold), lipschitz=lipschitz, p=p).item()
            assert radius <= true
            assert radius == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("classes", [3, 4])
def test_more_classes_are_bounded_from_both_sides(p, classes):
    for seed in range(6):
        logits, target = tiny(classes, 7 if classes == 3 else 5, seed=seed, void=0.1)
        norms, values = outcomes(logits, target, p)
        x, y = batch(logits, target)
        eps = [0.0, *(np.quantile(norms, [0.01, 0.05, 0.2, 0.5, 0.9]) * (1 + 1e-6))]
        true = torch.tensor([values[norms <= e].min() for e in eps])
        certified = MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0, p=p).flatten()
        attained = MeanIoU().attainable(x, y, eps=eps, lipschitz=1.0, p=p).flatten()
        assert (certified <= true + 1e-12).all()
        assert (attained >= true - 1e-12).all()
        assert MeanIoU().value(x, y).item() == pytest.approx(true[0].item())
        threshold = (0.0, 0.3, 0.6)[seed % 3]
        radius = MeanIoU().radius(x, y, threshold=threshold, lipschitz=2.0, p=p).item()
        assert radius <= norms[values <= threshold].min(initial=math.inf) / 2.0
        if 0 < radius < math.inf:  # it was certified there, and hardly more is
            below, above = (
                MeanIoU().worst_case(x, y, eps=e, lipschitz=2.0, p=p).item() for e in (radius, radius * 1.02)
            )
            assert below > threshold - 1e-9
            assert above <= threshold + 0.02


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 4),
    levels=st.integers(1, 4),
    p=st.sampled_from(NORMS),
)
def test_ties_favour_the_attacker(seed, classes, levels, p):
    # Few distinct logits: many pixels tie, which costs the attacker nothing.
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, levels, size=(classes, 5)).astype(float)
    target = rng.integers(0, classes, 5)
    norms, values = outcomes(logits, target, p)
    x, y = batch(logits, target)
    eps = [0.0, 0.5, 1.0, 2.0]
    certified = MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0, p=p).flatten().numpy()
    true = [values[norms <= e * (1 + 1e-12)].min() for e in eps]
    assert (certified <= np.array(true) + 1e-12).all()


def test_the_lagrangian_bound_is_close_to_the_attack_where_the_naive_one_is_not():
    x, y = scene(19, 96)
    eps = torch.tensor([1.0, 3.0, 10.0])
    certified = MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0).flatten()
    attained = MeanIoU().attainable(x, y, eps=eps, lipschitz=1.0).flatten()
    present = [k for k in range(19) if bool((y == k).any())]
    alone = [IoU(k).worst_case(x, y, eps=eps, lipschitz=1.0).flatten() for k in present]
    naive = torch.stack(alone).mean(0)
    clean = MeanIoU().value(x, y)
    assert (certified >= naive - 1e-9).all()
    assert (certified <= attained).all()
    assert (attained < clean).all()
    gap, naive_gap = attained - certified, attained - naive
    assert (gap < 0.01).all()
    assert (gap < 0.2 * naive_gap).all()


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_the_bound_at_any_price_is_the_minimum_over_all_pairs_of_losses_and_gains(p, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 4, 6, 7, generator=generator, dtype=torch.float64)
    y = torch.where(torch.rand(1, 6, 7, generator=generator) < 0.6, x.argmax(1), seed % 4)
    roles = next(build(MeanIoU()._scores(x, y, 1.0, p), [math.inf]))
    budget = float(roles.leave.sum()) * (0.01, 0.1, 0.4)[seed % 3]
    caps = Alone(roles, budget).caps(budget)
    for level in torch.logspace(-3, 1, 25).tolist():
        values = 0.2 * torch.rand(2, 4, generator=generator, dtype=torch.float64)
        prices = Prices(level, *values, part=None if seed % 2 else float(torch.rand(1, generator=generator)))
        transfer = transfers(roles, prices)
        assert ((transfer >= 0) & (transfer <= roles.leave)).all()
        total = -level * budget
        for j in range(4):
            own = slice(roles.starts[j], roles.starts[j + 1])
            lose = (roles.leave - transfer)[own][roles.leave[own] <= budget]
            charge = roles.gain[j].clone()
            charge[: len(transfer)] += transfer - roles.leave
            gain = charge[roles.gain[j] <= budget]
            lost, gained = (
                torch.cat([torch.zeros(1), part.sort().values.cumsum(0)])[:, None] for part in (lose, gain)
            )
            m, n = torch.arange(len(lost))[:, None], torch.arange(len(gained))[None]
            table = (roles.hits[j] - m) / (4 * (roles.union[j] + n)) + level * (lost + gained.T)
            allowed = torch.full((len(lost),), -1)
            allowed[: len(caps[j])] = caps[j]
            total += float(table[n <= allowed[:, None]].min())
        parts = ladders(roles, transfer, level=level, budget=budget)
        assert solve(roles, parts, level=level, budget=budget, caps=caps).value == pytest.approx(
            total, abs=1e-12
        )


def attack_logits(x, labels):
    """The cheapest logits in which each pixel wins its new class, overshot by a hair; (K, N)."""
    moved = x.clone()
    for i, k in enumerate(labels.tolist()):
        gaps = (x[:, i] - x[k, i]).clamp_min(0.0)
        ranked = gaps.sort(descending=True).values
        for r in range(1, len(ranked) + 1):
            level = ranked[:r].sum() / (1 + r)
            if r == len(ranked) or level >= ranked[r]:
                break
        moved[:, i] = torch.minimum(x[:, i], x[k, i] + level)
        moved[k, i] = x[k, i] + level * (1 + 1e-8) + 1e-12
    return moved


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("classes", [2, 5, 12])
def test_the_attack_is_feasible_and_its_value_is_that_of_the_moved_logits(p, classes):
    x, y = scene(classes, 40, seed=classes)
    y[0, :3] = 255
    y[y == 1] = 0  # a class without labels: pixels may still be turned into it
    eps = {1: 200.0, 2: 6.0, math.inf: 0.4}[p]
    scores = MeanIoU()._scores(x, y, 1.0, p)
    limit = budgets(torch.tensor([eps]), lipschitz=1.0, p=p, items=int((y != 255).sum()))
    roles = next(build(scores, limit.tolist()))
    attack = OutputAttack(roles)
    flips = attack.best(float(limit))
    prediction = x[0].flatten(1).argmax(0)
    if p == 2:
        pixels = roles.pixels[flips.columns]
        inside = flips.classes < len(roles.classes)
        labels = roles.classes[flips.classes.clamp_max(len(roles.classes) - 1)]
        runner_up = x[0].flatten(1)[:, pixels].topk(2, 0).indices[1]
        labels = torch.where(inside, labels, runner_up)
        moved = x[0].flatten(1).clone()
        moved[:, pixels] = attack_logits(moved[:, pixels], labels)
        assert torch.linalg.vector_norm(moved - x[0].flatten(1)) <= eps
        assert (moved[:, pixels].argmax(0) == labels).all()
        changed = moved.argmax(0) != prediction
        assert changed.nonzero().squeeze(1).equal(pixels.sort().values)
        assert MeanIoU().value(moved.reshape(x.shape), y).item() == pytest.approx(flips.value, abs=1e-12)
    assert MeanIoU().attainable(x, y, eps=eps, lipschitz=1.0, p=p).item() == pytest.approx(flips.value)
    assert flips.value < MeanIoU().value(x, y).item() - 0.01


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("classes", [2, 3])
def test_curves_fall_and_one_call_agrees_with_single_calls(p, classes):
    x, y = scene(classes, 24, seed=3)
    eps = [2.0, 0.0, 0.5, 8.0, 0.5]
    together = MeanIoU().worst_case(x, y, eps=eps, lipschitz=0.7, p=p).flatten()
    assert together[1] == pytest.approx(MeanIoU().value(x, y).item(), abs=1e-6)
    assert together[2] == together[4]
    assert together[[1, 2, 0, 3]].diff().le(0).all()
    alone = [MeanIoU().worst_case(x, y, eps=e, lipschitz=0.7, p=p).item() for e in eps]
    # Found prices may differ a little with more than two classes; the bound is flat around the best.
    assert together.tolist() == pytest.approx(alone, abs=1e-12 if classes == 2 else 5e-3)


def test_value_is_the_mean_over_label_present_classes():
    prediction = torch.tensor([[[0, 0, 1, 2]]])
    target = torch.tensor([[[0, 1, 1, 255]]])
    logits = torch.nn.functional.one_hot(prediction, 4).permute(0, 3, 1, 2).double()
    # Class 0: 1 / 2, class 1: 1 / 2; class 2 is predicted on a void pixel only, class 3 nowhere.
    assert MeanIoU().value(logits, target).item() == 0.5
    target[0, 0, 3] = 1
    # Now one more pixel of class 1 is lost to class 2, which has no labels and no term.
    assert MeanIoU().value(logits, target).item() == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_a_class_without_labels_is_no_way_to_lower_the_mean_but_a_way_to_lose_pixels():
    # Three pixels of class 0 whose runner-up is class 2, which has no labels.
    logits = torch.tensor([[3.0, 3.0, 3.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    x, y = logits.reshape(1, 3, 1, 3), torch.zeros(1, 1, 3, dtype=torch.int64)
    for criterion in (MeanIoU().worst_case, MeanIoU().attainable):
        found = criterion(x, y, eps=[0.0, 0.71, 1.01, 1.23], lipschitz=1.0).flatten().tolist()
        assert found == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0], abs=1e-6)


def test_two_classes_closed_form():
    # Four pixels a class with gaps 1 and 10: each cheap flip costs sqrt(1/2) and moves both terms.
    gaps = torch.tensor([1.0, 1.0, 10.0, 10.0], dtype=torch.float64)
    x = torch.zeros(1, 2, 2, 4, dtype=torch.float64)
    x[0, 0, 0], x[0, 1, 1] = gaps, gaps
    y = torch.tensor([[[0] * 4, [1] * 4]])
    root = math.sqrt(0.5)
    eps = [0.9 * root, root, math.sqrt(2) * root, 2 * root]
    one = (3 / 4 + 4 / 5) / 2
    two = min((2 / 4 + 4 / 6) / 2, (3 / 5 + 3 / 5) / 2)
    assert MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0).flatten().tolist() == [
        1.0,
        one,
        two,
        (2 / 6 + 2 / 6) / 2,
    ]
    assert MeanIoU().radius(x, y, threshold=one, lipschitz=1.0).item() == pytest.approx(root)
    assert MeanIoU().radius(x, y, threshold=1.0, lipschitz=1.0).item() == 0.0
    assert MeanIoU().radius(x, y, threshold=-0.1, lipschitz=1.0).item() == math.inf


@pytest.mark.parametrize("classes", [2, 3])
def test_undefined_radius_zero_and_infinite(classes):
    x, y = scene(classes, 12)
    x, y = x.repeat(2, 1, 1, 1), y.repeat(2, 1, 1)
    y[1] = 255
    eps = [0.0, 1.0]
    assert MeanIoU().value(x, y).isnan().tolist() == [False, True]
    assert MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0).isnan().tolist() == [[False, True]] * 2
    assert MeanIoU().attainable(x, y, eps=eps, lipschitz=1.0).isnan().tolist() == [[False, True]] * 2
    radius = MeanIoU().radius(x, y, threshold=-1.0, lipschitz=1.0)
    assert radius[0] == math.inf
    assert radius[1].isnan()
    assert MeanIoU().radius(x, y, threshold=1.0, lipschitz=1.0)[0] == 0.0


@pytest.mark.parametrize("classes", [2, 4])
def test_each_image_has_its_own_constant_and_budget(classes):
    first, second = scene(classes, 14, seed=1), scene(classes, 14, seed=2)
    x, y = torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
    together = MeanIoU().worst_case(x, y, eps=[0.5, 2.0], lipschitz=[1.0, 2.0])
    for i, constant in enumerate((1.0, 2.0)):
        own = MeanIoU().worst_case(x[i : i + 1], y[i : i + 1], eps=[0.5, 2.0], lipschitz=constant)
        assert own[:, 0].equal(together[:, i])


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_feature_space_costs_are_sound_and_not_worse_where_rows_are_short(classes):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 6, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, 5, generator=generator, dtype=torch.float64)
    weight /= 1.1 * torch.linalg.matrix_norm(weight, 2)
    x = torch.einsum("kc,bchw->bkhw", weight, features)
    y = x.argmax(1)
    eps = [0.1, 0.5, 1.0]
    plain = MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0)
    tighter = MeanIoU().worst_case(x, y, eps=eps, lipschitz=1.0, classifier=(weight,))
    assert (tighter >= plain - (1e-12 if classes == 2 else 5e-3)).all()
    # No step of the features within the budget goes below.
    for _ in range(200):
        step = torch.randn(features.shape, generator=generator, dtype=torch.float64)
        step -= 0.7 * features * torch.rand(1, generator=generator)
        step *= eps[1] / step.norm()
        moved = torch.einsum("kc,bchw->bkhw", weight, features + step)
        assert MeanIoU().value(moved, y) >= tighter[1]


def test_exactness_is_said():
    assert MeanIoU().exact is False
    assert MeanIoU().exact_for(2) is True
    assert MeanIoU().exact_for(3) is False
    assert MeanIoU().higher_is_better
    assert MeanIoU().name == "MeanIoU"


@pytest.mark.parametrize("method", ["value", "worst_case", "attainable", "radius"])
def test_bad_input_raises_and_names_the_argument(method):
    x, y = scene(3, 6)
    options = {
        "value": {},
        "worst_case": {"eps": [0.1], "lipschitz": 1.0},
        "attainable": {"eps": [0.1], "lipschitz": 1.0},
        "radius": {"threshold": 0.5, "lipschitz": 1.0},
    }[method]
    call = getattr(MeanIoU(), method)
    bad = x.clone()
    bad[0, 0, 0, 0] = math.nan
    for logits, target, name in (
        (bad, y, "logits"),
        (x.clone().fill_(math.inf), y, "logits"),
        (x[:, :, :3], y, "target"),
        (x, y.double(), "target"),
        (x, y + 7, "target"),
        (x, None, "target"),
        (x[:, :1], y.clamp_max(0), "logits"),
    ):
        with pytest.raises(ValueError, match=name):
            call(logits, target, **options)
    for key, value in (
        ("lipschitz", 0.0),
        ("lipschitz", -1.0),
        ("lipschitz", math.nan),
        ("eps", []),
        ("eps", [-0.1]),
        ("eps", [math.inf]),
        ("threshold", math.nan),
    ):
        if key in options:
            with pytest.raises(ValueError, match=key):
                call(x, y, **{**options, key: value})
    if options:
        with pytest.raises(ValueError, match="`p`"):
            call(x, y, **options, p=3)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("classes", [2, 3])
def test_units_do_not_matter_and_the_ends_of_float64_go_to_the_attacker(p, classes):
    x, y = scene(classes, 10, seed=1)
    eps, criterion = [0.0, 0.5, 2.0], MeanIoU()
    plain = criterion.worst_case(x, y, eps=eps, lipschitz=1.0, p=p)
    tolerance = 1e-12 if classes == 2 else 2e-3
    for scale in (1e-60, 1e60, 1e120):
        scaled = criterion.worst_case(x * scale, y, eps=eps, lipschitz=scale, p=p)
        assert scaled.sub(plain).abs().max() <= tolerance
        radius = criterion.radius(x * scale, y, threshold=0.3, lipschitz=scale, p=p)
        assert radius.item() == pytest.approx(
            criterion.radius(x, y, threshold=0.3, lipschitz=1.0, p=p).item(), rel=5e-3
        )
    for scale in (1e-200, 1e135):
        found = criterion.worst_case(x * scale, y, eps=eps, lipschitz=scale, p=p)
        assert found.isfinite().all()
        assert (found <= plain + tolerance).all()
        radius = criterion.radius(x * scale, y, threshold=0.3, lipschitz=scale, p=p)
        assert radius <= criterion.radius(x, y, threshold=0.3, lipschitz=1.0, p=p) * (1 + tolerance)
    assert criterion.worst_case(x, y, eps=1e200, lipschitz=1e200, p=p).item() == 0.0
    with pytest.raises(ValueError, match="`logits` are too large"):
        criterion.worst_case(x * 1e160, y, eps=eps, lipschitz=1.0, p=p)


def test_a_far_smaller_eps_beside_one_does_not_loosen_its_bound(monkeypatch):
    x, y = scene(6, 48, seed=3)
    assert y.numel() > dual_search.TINY
    alone = [MeanIoU().worst_case(x, y, eps=e, lipschitz=1.0).item() for e in (1.0, 3.0)]
    beside = MeanIoU().worst_case(x, y, eps=[1e-6, 1.0, 3.0], lipschitz=1.0).flatten().tolist()[1:]
    assert beside == pytest.approx(alone, abs=1e-3)
    monkeypatch.setattr(dual_search, "NEAR", math.inf)  # prices of any smaller budget: the search is lost
    astray = MeanIoU().worst_case(x, y, eps=[1e-6, 1.0, 3.0], lipschitz=1.0).flatten().tolist()[1:]
    assert astray[0] < alone[0] - 5e-3
