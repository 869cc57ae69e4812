"""IoU, Dice and the micro IoU of a data set: against every relabelling of tiny images, and golden vectors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.certify import Dice, IoU, dataset_iou
from onelip.certify.budget import ceiling, running_cost
from onelip.certify.frontier import corners
from onelip.certify.sweep import Sweep, sweep
from onelip.core import errors

NORMS = [1.0, 2.0, math.inf]


def reach(f: np.ndarray, k: int, p: float) -> float:
    """Cost of making class k the largest: best prefix of the sorted gaps for p = 2."""
    gaps = np.sort(np.maximum(f - f[k], 0.0))[::-1]
    if p == 1.0:
        return float(gaps[0])
    if p == math.inf:
        return float(gaps[0]) / 2
    for r in range(len(gaps), 0, -1):
        level = gaps[:r].sum() / (1 + r)
        if gaps[r - 1] > level:
            return float(np.sqrt(level**2 + ((gaps[:r] - level) ** 2).sum()))
    return 0.0


def overlaps(logits, target, k, p):
    """(cost, hits, union) of every relabelling of the valid pixels of one image, logits (K, N)."""
    keep = target != 255
    logits, target = logits[:, keep], target[keep]
    table = np.array([[reach(logits[:, i], b, p) for b in range(len(logits))] for i in range(len(target))])
    found = []
    for labels in itertools.product(range(len(logits)), repeat=len(target)):
        costs = table[np.arange(len(target)), list(labels)] if len(target) else np.zeros(1)
        chosen = np.array(labels, dtype=int)
        both, either = (chosen == k) & (target == k), (chosen == k) | (target == k)
        found.append((float(np.linalg.norm(costs, ord=p)), int(both.sum()), int(either.sum())))
    return found


def problem(rng, classes, pixels, void=0.15):
    logits = rng.normal(size=(classes, pixels))
    if rng.random() < 0.4:
        logits = (logits * 2).round() / 2  # ties
    target = rng.integers(0, classes, pixels)
    right = rng.random(pixels) < 0.6
    target = np.where(right, logits.argmax(0), target)
    return logits, np.where(rng.random(pixels) < void, 255, target)


def tensors(logits, target):
    return torch.tensor(logits)[None, :, None], torch.tensor(target)[None, None]


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("seed", range(12))
def test_worst_case_and_radius_equal_exhaustive_search(p, seed):
    rng = np.random.default_rng(seed)
    classes, pixels = (3, 6) if seed % 2 else (2, 8)
    logits, target = problem(rng, classes, pixels)
    lipschitz = 1.3
    for k in range(classes):
        outcomes = overlaps(logits, target, k, p)
        for criterion in (IoU(k), Dice(k)):
            ratio = (lambda i, u: i / u) if isinstance(criterion, IoU) else (lambda i, u: 2 * i / (i + u))
            x, y = tensors(logits, target)
            clean = criterion.value(x, y).item()
            eps = [0.0, *np.quantile([c for c, _, _ in outcomes], [0.05, 0.2, 0.5, 0.9]) * 1.0001 / lipschitz]
            worst = criterion.worst_case(x, y, eps=eps, lipschitz=lipschitz, p=p).flatten().tolist()
            if math.isnan(clean):
                assert np.isnan(worst).all()
                continue
            values = [(c, ratio(i, u)) for c, i, u in outcomes if u]
            assert worst == [min(v for c, v in values if c <= e * lipschitz * (1 + 1e-12)) for e in eps]
            for threshold in (0.0, 0.2, 1 / 3, 0.5, 0.75, 1.0, -0.1):
                needed = min((c for c, v in values if v <= threshold), default=math.inf) / lipschitz
                radius = criterion.radius(x, y, threshold=threshold, lipschitz=lipschitz, p=p).item()
                assert radius <= needed
                assert radius == pytest.approx(needed, rel=1e-8)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("seed", range(15))
def test_micro_iou_equals_exhaustive_search_over_two_images(p, seed):
    rng = np.random.default_rng(seed)
    images = [problem(rng, 3, 4), problem(rng, 3, 4)]
    if seed % 3 == 0:
        images[1][1][images[1][1] == 1] = 0  # an image without the class
    constants = [1.0, 0.7]
    both = [overlaps(*image, 1, p) for image in images]
    eps = [0.0, 0.3, 0.8, 1.5]
    pairs = [tensors(*image) for image in images]
    found = dataset_iou(pairs, 1, eps, lipschitz=constants, p=p).tolist()
    clean = sum(IoU(1).overlap(*pair)[0, 1].item() for pair in pairs)
    for e, value in zip(eps, found, strict=True):
        choices = [
            {(i, u) for c, i, u in outcomes if c <= e * constant * (1 + 1e-12)}
            for outcomes, constant in zip(both, constants, strict=True)
        ]
        sums = {(a[0] + b[0], a[1] + b[1]) for a, b in itertools.product(*choices)}
        true = min((i / u for i, u in sums if u), default=math.nan)
        assert value == true if clean else math.isnan(value)


def test_golden_micro_iou():
    # Image A: one sure hit, 100 pixels that are nearly the class; image B: 1000 sure hits.
    gap = torch.tensor([-1.2, *[0.12] * 100], dtype=torch.float64)
    a = torch.stack([gap, torch.zeros(101).double()])[None, :, None]
    b = torch.zeros(1, 2, 1, 1000, dtype=torch.float64)
    b[:, 1] = 50.0
    target = torch.tensor([1] + [0] * 100)[None, None]
    ones = torch.ones(1, 1, 1000, dtype=torch.int64)
    eps = math.sqrt(0.73)
    assert IoU(1).worst_case(a, target, eps=eps, lipschitz=1.0).item() == 0.0
    assert dataset_iou([(a, target), (b, ones)], 1, eps, lipschitz=1.0).tolist() == [1001 / 1101]


def test_golden_micro_iou_with_an_absent_class():
    a = torch.tensor([0.0, 5.0]).reshape(1, 2, 1, 1).repeat(1, 1, 1, 4)
    b = torch.tensor([0.1, 0.0]).reshape(1, 2, 1, 1).repeat(1, 1, 1, 4)
    pairs = [(a, torch.ones(1, 1, 4).long()), (b, torch.zeros(1, 1, 4).long())]
    assert dataset_iou(iter(pairs), 1, 1.0, lipschitz=1.0).tolist() == [0.5]
    # Alone the second image is undefined, and so is a data set of it.
    assert IoU(1).value(*pairs[1]).isnan().all()
    assert IoU(1).worst_case(*pairs[1], eps=[0.0, 9.0], lipschitz=1.0).isnan().all()
    assert IoU(1).radius(*pairs[1], threshold=0.5, lipschitz=1.0).isnan().all()
    assert dataset_iou(pairs[1:], 1, [0.0, 9.0], lipschitz=1.0).isnan().all()


def test_batches_in_any_grouping_and_order_give_the_same_micro_iou():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 8, 9, generator=generator)
    target = torch.randint(0, 3, (5, 8, 9), generator=generator)
    eps, constants = [0.0, 0.5, 2.0, 5.0], [1.0, 2.0, 0.5, 1.5, 1.0]
    whole = dataset_iou([(logits, target)], 2, eps, lipschitz=torch.tensor(constants))
    order = [3, 1, 4, 0, 2]
    mixed = [(logits[[i]], target[[i]]) for i in order]
    assert torch.equal(whole, dataset_iou(mixed, 2, eps, lipschitz=[constants[i] for i in order]))
    # Never above the ratio of the sums of any particular choice: every image at its own minimum.
    alone = IoU(2).worst_case(logits, target, eps=eps, lipschitz=constants)
    assert (alone.amin(1) <= whole).all()
    clean = IoU(2).overlap(logits, target).sum(0)
    assert (whole <= clean[0] / clean[1]).all()
    assert whole[-1] < whole[0]


def test_void_pixels_play_no_part():
    rng = np.random.default_rng(1)
    logits, target = problem(rng, 3, 30, void=0.0)
    extra = rng.normal(size=(3, 20))
    x, y = tensors(logits, target)
    padded = tensors(np.hstack([logits, extra]), np.hstack([target, np.full(20, 255)]))
    options = {"eps": [0.0, 0.4, 1.0, 3.0], "lipschitz": 1.0}
    for criterion in (IoU(1), Dice(2)):
        assert torch.equal(criterion.worst_case(x, y, **options), criterion.worst_case(*padded, **options))
        assert criterion.radius(x, y, threshold=0.3, lipschitz=1.0) == criterion.radius(
            *padded, threshold=0.3, lipschitz=1.0
        )


def test_a_tie_is_lost_at_once_and_the_ball_is_closed():
    # Pixel 0: predicted 0, tied with the class. Pixel 1: a hit by a gap of 1.
    logits = torch.tensor([[0.0, 0.0], [0.0, 1.0]])[None, :, None]
    target = torch.tensor([0, 1])[None, None]
    assert IoU(1).value(logits, target).item() == 1.0
    worst = IoU(1).worst_case(logits, target, eps=[0.0, 1 - 1e-6, 1.0], lipschitz=1.0, p=1)
    assert worst.flatten().tolist() == [0.5, 0.5, 0.0]


problems = st.tuples(
    st.integers(2, 5), st.integers(1, 300), st.integers(0, 10_000), st.sampled_from(NORMS), st.booleans()
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(problems, st.floats(0, 1))
def test_radius_is_the_inverse_of_the_worst_case_and_curves_fall(case, threshold):
    classes, pixels, seed, p, weighted = case
    x, y = tensors(*problem(np.random.default_rng(seed), classes, pixels))
    weight = (torch.randn(classes, 3, generator=torch.Generator().manual_seed(seed)).double(),)
    options = {"lipschitz": 1.7, "p": p, "classifier": weight if weighted else None}
    for criterion in (IoU(1), Dice(0)):
        clean = criterion.value(x, y).item()
        radius = criterion.radius(x, y, threshold=threshold, **options).item()
        assert math.isnan(radius) == math.isnan(clean)
        if math.isnan(radius):
            continue
        curve = criterion.worst_case(x, y, eps=torch.linspace(0, 20, 40), **options).flatten()
        assert curve[0] <= clean
        assert (curve.diff() <= 0).all()
        assert clean > threshold or radius == 0
        if radius > 0:
            inside = math.nextafter(radius, 0.0)
            assert criterion.worst_case(x, y, eps=inside, **options).item() > threshold
        outside = criterion.worst_case(x, y, eps=radius * (1 + 1e-8) + 1e-12, **options)
        assert outside.item() <= threshold


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 10_000), st.sampled_from(NORMS))
def test_branch_and_bound_and_frontier_equal_the_plain_sweep(hits, spare, seed, p):
    rng = np.random.default_rng(seed)
    lists = [torch.tensor(rng.exponential(size=n) ** rng.integers(1, 4)) for n in (hits, spare)]
    lost, gained = (torch.cat([torch.zeros(1).double(), running_cost(c, p)]) for c in lists)
    union = hits + int(rng.integers(0, 50))
    one = Sweep(lost, gained, hits, union, p)
    budget = torch.cat([torch.zeros(1), torch.rand(6)]).double() ** 2 * float(lost[-1] + gained[-1]) * 1.1

    def ratio(i, u):
        return i.double() / u.double()

    worst = one.worst(budget, ratio)
    for b, value in zip(budget, worst.tolist(), strict=True):
        m = torch.arange(len(lost))[lost <= b]
        n = torch.searchsorted(gained, b - lost[m] * (p < math.inf), right=True) - 1
        i, u = hits - m, union + n
        assert value == ratio(i, u).min().item()
        hull = corners(i, u)
        assert set(map(tuple, hull.tolist())) <= set(zip(i.tolist(), u.tolist(), strict=True))
        for price in (0.0, 0.01, 0.3, 0.77, 1.0):
            assert (hull[:, 0] - price * hull[:, 1]).min() == pytest.approx((i - price * u).min().item())
        assert ratio(*hull.unbind(1)).min().item() == value


def test_corners_of_a_large_curve_are_few_and_strictly_convex():
    m = torch.arange(200_001)
    n = (4e10 - m.double() ** 2).sqrt().long()
    hull = corners(500_000 - m, 500_000 + n)
    assert len(hull) < 20_000
    step = hull.diff(dim=0)
    assert (step[1:, 1] * step[:-1, 0] > step[:-1, 1] * step[1:, 0]).all()


@pytest.mark.parametrize("p", NORMS)
def test_items_left_out_for_a_limit_never_matter(p):
    # Large enough for the sampled ceiling, and with many water-filling costs above the pairwise ones.
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 6, 200, 300, generator=generator)
    target = torch.where(torch.rand(1, 200, 300, generator=generator) < 0.7, logits.argmax(1), 0)
    from onelip.certify.scores import Scores

    scores = Scores(logits, target, 255, (1.0,), p)
    full = sweep(scores, 0, 1)
    for share in (1e-5, 1e-3, 0.05, 0.6):
        limit = float(full.gained[-1]) * share
        cut = sweep(scores, 0, 1, limit=limit)
        for few, all_ in ((cut.lost, full.lost), (cut.gained, full.gained)):
            kept = int((all_ <= limit).sum())
            assert torch.equal(few[:kept], all_[:kept])
            assert len(few) == kept or few[kept] > limit
        assert share > 0.1 or p == math.inf or len(cut.gained) < len(full.gained) / 2


def test_pixels_with_many_competitors_do_not_hide_the_truly_cheapest():
    # Two kinds of pixels, by the charge to the top class alone 0.5 and 0.6; the first have five equal
    # competitors and truly charge 5/6. The second kind is what a wise attacker buys.
    many = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    one = torch.tensor([1.2**0.5, -9.0, -9.0, -9.0, -9.0, 0.0], dtype=torch.float64)
    logits = torch.stack([many, one], 1).repeat(1, 2**14)[None, :, None]
    target = torch.zeros(1, 1, 2**15, dtype=torch.int64)
    target[..., -1], logits[:, 5, :, -1] = 5, 99.0
    worst = IoU(5).worst_case(logits, target, eps=math.sqrt(600.3), lipschitz=1.0).item()
    assert worst == 1 / 1001


def test_the_ceiling_is_proven_even_when_the_sample_misleads():
    # Every sampled item is far cheaper than the others, and the other way round.
    for sampled, others in ((1e-6, 1.0), (1.0, 1e-6), (1e-6, 1.5e-6)):
        charges = torch.full((2**15,), others, dtype=torch.float64)
        charges[::64] = sampled
        for limit in (1e-7, 1e-3, 0.02, 0.5, 30.0, 1e5):
            top = ceiling(charges, limit, 2.0)
            running = charges.sort().values.cumsum(0)
            bought = int((running <= limit).sum())
            assert (charges <= top).sum() >= bought
            assert top <= limit


def test_exactness_is_said():
    assert IoU(1).exact
    assert IoU(1).exact_for(3)
    assert not Dice(1).exact_for(3, (torch.ones(3, 2),))
    assert (IoU(2).name, Dice(0).name) == ("IoU(2)", "Dice(0)")


LOGITS, TARGET = torch.zeros(1, 2, 1, 3), torch.zeros(1, 1, 3, dtype=torch.int64)
BAD = {
    "nan": ({"logits": LOGITS * math.nan}, "`logits` is not finite"),
    "infinite": ({"logits": LOGITS + math.inf}, "`logits` is not finite"),
    "shape": ({"target": TARGET[..., :2]}, "`target` does not fit the logits"),
    "label range": ({"target": TARGET + 2}, "labels outside the classes"),
    "label type": ({"target": TARGET.float()}, "`target` has the wrong type"),
    "missing target": ({"target": None}, "target"),
    "empty eps": ({"eps": []}, "`eps` is empty"),
    "negative eps": ({"eps": [-1.0]}, "`eps` has an unusable entry"),
    "infinite eps": ({"eps": [math.inf]}, "`eps` has an unusable entry"),
    "constant": ({"lipschitz": 0.0}, "`lipschitz` is zero"),
    "negative constant": ({"lipschitz": -1.0}, "`lipschitz` is out of range"),
    "norm": ({"p": 3}, "`p` is not a supported norm"),
    "class": ({"label": 2}, r"class 2 for 2 logits"),
    "void class": ({"label": 255}, "`label` is not a class"),
    "fractional class": ({"label": 1.0}, "`label` is not a class"),
    "classifier": ({"classifier": (torch.ones(3, 2),)}, "1x1 layer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_with_a_clear_text(case):
    change, text = BAD[case]
    given = {"logits": LOGITS, "target": TARGET, "eps": [0.1], "lipschitz": 1.0, "label": 1} | change
    logits, target, label = (given.pop(name) for name in ("logits", "target", "label"))
    with pytest.raises(errors.InputError, match=text):
        IoU(label).worst_case(logits, target, **given)
    with pytest.raises(errors.InputError, match=text):
        Dice(label).frontier(logits, target, **given)
    with pytest.raises(errors.InputError, match=text):
        dataset_iou([(logits, target)], label, given.pop("eps"), **given)


def test_bad_data_sets():
    with pytest.raises(errors.InputError, match="`pairs` is empty"):
        dataset_iou([], 1, [0.1], lipschitz=1.0)
    for constants, text in (([1.0] * 3, "more constants"), ([1.0], "fewer constants")):
        with pytest.raises(errors.InputError, match=text):
            dataset_iou([(LOGITS, TARGET)] * 2, 1, [0.1], lipschitz=constants)
