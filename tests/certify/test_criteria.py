"""Golden vectors, edge cases and error texts of the criteria."""

from __future__ import annotations

import dataclasses
import decimal
import math
import random

import pytest
import torch

from onelip.certify import (
    Criterion,
    Dice,
    FalseNegativeRate,
    IoU,
    MeanIoU,
    PixelAccuracy,
    Recall,
    Stability,
    pixel_radius,
)
from onelip.core import errors


def margins(*values: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two-class logits with these margins for class 0, and the all-zero target."""
    gap = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)
    return torch.cat([gap, torch.zeros_like(gap)], 1), torch.zeros(1, 1, len(values), dtype=torch.int64)


GOLDEN = {
    2: [0.70711, 1.58114, 2.64575, 3.87298],
    1: [1.0, 3.0, 6.0, 10.0],
    math.inf: [0.5, 1.0, 1.5, 2.0],
}


@pytest.mark.parametrize("lipschitz", [1.0, 4.0])
@pytest.mark.parametrize("p", GOLDEN)
def test_golden_cumulative_radii(p, lipschitz):
    logits, target = margins(1, 2, 3, 4)
    for criterion in (PixelAccuracy(), Stability()):
        thresholds = [0.75, 0.5, 0.25, 0.0]
        radii = [
            criterion.radius(logits, target, threshold=t, lipschitz=lipschitz, p=p).item() for t in thresholds
        ]
        assert radii == pytest.approx([r / lipschitz for r in GOLDEN[p]], abs=1e-5)
        # Just below each radius nothing more is lost, just above one pixel is.
        eps = [r * s for r in radii for s in (1 - 1e-6, 1 + 1e-6)]
        worst = criterion.worst_case(logits, target, eps=eps, lipschitz=lipschitz, p=p).flatten().tolist()
        assert worst == [1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0]


@pytest.mark.parametrize("lipschitz", [1.0, 4.0, 0.25])
@pytest.mark.parametrize("p", GOLDEN)
def test_golden_false_negative_rate(p, lipschitz):
    logits, target = margins(1, 2, 3, 4)
    # A pixel of the other class, easy to flip: it counts for neither.
    extra, _ = margins(-0.1)
    logits, target = torch.cat([logits, extra], -1), torch.cat([target, torch.ones(1, 1, 1).long()], -1)
    for share, golden in zip([0.25, 0.5, 0.75, 1.0], GOLDEN[p], strict=True):
        options = {"lipschitz": lipschitz, "p": p}
        missed = FalseNegativeRate(0).radius(logits, target, threshold=share, **options).item()
        found = Recall(0).radius(logits, target, threshold=1 - share, **options).item()
        assert missed == found == pytest.approx(golden / lipschitz, abs=1e-5 / lipschitz)
        around = [missed * (1 - 1e-6), missed * (1 + 1e-6)]
        worst = FalseNegativeRate(0).worst_case(logits, target, eps=around, **options).flatten().tolist()
        assert worst == [share - 0.25, share]


def test_false_negatives_are_one_minus_recall():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 9, 8, generator=generator)
    target = torch.randint(0, 4, (3, 9, 8), generator=generator)
    target[0] = torch.where(target[0] == 2, 255, target[0])
    options = {"eps": [0.0, 0.2, 1.0, 5.0], "lipschitz": [1.0, 2.0, 0.3]}
    recall, rate = (c.worst_case(logits, target, **options) for c in (Recall(2), FalseNegativeRate(2)))
    torch.testing.assert_close(recall, 1 - rate, equal_nan=True, rtol=1e-12, atol=1e-15)
    assert rate.isnan().any(0).tolist() == [True, False, False]
    assert FalseNegativeRate(2).value(logits, target).isnan().tolist() == [True, False, False]
    assert (rate[:, 1:].diff(dim=0) >= 0).all()
    assert not FalseNegativeRate(2).higher_is_better
    never = FalseNegativeRate(2).radius(logits, target, threshold=1.1, lipschitz=1.0)
    assert never[1:].tolist() == [math.inf] * 2


def test_golden_accuracy_at_one_and_two():
    logits, target = margins(1, 2, 3, 4)
    worst = PixelAccuracy().worst_case(logits, target, eps=[1, 2], lipschitz=1.0)
    assert worst.tolist() == [[0.75], [0.5]]
    assert worst.dtype == torch.float64


def test_golden_two_pixels():
    logits, target = margins(2, 2)
    eps = [1.41421, 1.41422, 1.99999, 2.00001]
    assert PixelAccuracy().worst_case(logits, target, eps=eps, lipschitz=1.0).flatten().tolist() == [
        1,
        0.5,
        0.5,
        0,
    ]


def test_the_ball_is_closed():
    # 0.75^2 + 1^2 = 1.25^2 exactly in binary, and p = 1 costs are the margins themselves.
    logits, target = margins(0.75, 1.0)
    at = PixelAccuracy().worst_case(logits, target, eps=[0.75, 1.75], lipschitz=1.0, p=1)
    assert at.flatten().tolist() == [0.5, 0.0]
    at = PixelAccuracy().worst_case(logits, target, eps=[0.375, 0.5], lipschitz=1.0, p=math.inf)
    assert at.flatten().tolist() == [0.5, 0.0]


@pytest.mark.parametrize("scale", [1.0, 1e-170, 1e-161, 1e-153, 1e140])
@pytest.mark.parametrize("p", [1, 2])
def test_the_smallest_number_not_below_the_true_cost_is_enough(p, scale):
    rng = random.Random(0)
    with decimal.localcontext(prec=60, Emin=-(10**6), Emax=10**6):
        for _ in range(60):
            gaps = [scale * rng.random() for _ in range(rng.randint(1, 12))]
            exact = [decimal.Decimal(gap) for gap in gaps]
            cost = sum(exact) if p == 1 else (sum(gap * gap for gap in exact) / 2).sqrt()
            eps = float(cost)
            if decimal.Decimal(eps) < cost:
                eps = math.nextafter(eps, math.inf)
            logits, target = margins(*gaps)
            options = {"lipschitz": 1.0, "p": p}
            assert PixelAccuracy().worst_case(logits, target, eps=eps, **options).item() == 0.0
            assert IoU(0).worst_case(logits, target, eps=eps, **options).item() == 0.0
            for criterion in (PixelAccuracy(), IoU(0)):
                radius = criterion.radius(logits, target, threshold=0.0, **options).item()
                assert decimal.Decimal(radius) <= cost


def test_zero_margins_are_not_robust_even_at_zero():
    logits, target = margins(0.0, 1.0, -1.0)
    assert PixelAccuracy().value(logits, target).item() == pytest.approx(2 / 3)
    assert PixelAccuracy().worst_case(logits, target, eps=0.0, lipschitz=1.0).item() == pytest.approx(1 / 3)
    assert Stability().worst_case(logits, eps=0.0, lipschitz=1.0).item() == pytest.approx(2 / 3)
    assert PixelAccuracy().radius(logits, target, threshold=1 / 3, lipschitz=1.0).item() == 0.0
    # A tie that the lowest index loses for the label: wrong in the clean value, and of no use to the
    # attacker.
    tie, label = torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.int64)
    assert PixelAccuracy().value(tie, label).item() == 0.0
    assert PixelAccuracy().worst_case(tie, label, eps=0.0, lipschitz=1.0).item() == 0.0


def test_void_pixels_neither_help_nor_hurt():
    logits, target = margins(1, 2, 3, 4)
    extra, _ = margins(-5, 0.0, 9)
    padded = torch.cat([logits, extra], -1)
    voided = torch.cat([target, torch.full((1, 1, 3), 7)], -1)
    criterion = PixelAccuracy(ignore_index=7)
    options = {"lipschitz": 1.3, "eps": [0, 0.5, 1, 2]}
    assert torch.equal(
        criterion.worst_case(padded, voided, **options), criterion.worst_case(logits, target, **options)
    )
    assert criterion.value(padded, voided).item() == 1.0
    stable = Stability(ignore_index=7)
    assert torch.equal(stable.worst_case(padded, voided, **options), stable.worst_case(logits, **options))
    radius = pixel_radius(padded, voided, lipschitz=1.0, ignore_index=7)
    assert radius.isnan().flatten().tolist() == [False] * 4 + [True] * 3


def test_an_image_without_valid_pixels_is_undefined():
    logits, target = margins(1, 2)
    logits, target = logits.repeat(2, 1, 1, 1), target.repeat(2, 1, 1)
    target[1] = 255
    for criterion in (PixelAccuracy(), Stability()):
        assert criterion.value(logits, target).isnan().tolist() == [False, True]
        worst = criterion.worst_case(logits, target, eps=[0.1, 9], lipschitz=1.0)
        assert worst.isnan().tolist() == [[False, True]] * 2
        assert criterion.radius(logits, target, threshold=0.5, lipschitz=1.0).isnan().tolist() == [
            False,
            True,
        ]


def test_wrong_pixels_have_radius_zero_only_with_a_target():
    logits, target = margins(2, -2)
    assert pixel_radius(logits, target, lipschitz=1.0)[0, 0, 1] == 0
    assert pixel_radius(logits, lipschitz=1.0)[0, 0, 1].item() == pytest.approx(math.sqrt(2), rel=1e-6)


def test_radius_at_the_ends():
    logits, target = margins(1, 2, -1)
    criterion = PixelAccuracy()
    assert criterion.radius(logits, target, threshold=0.9, lipschitz=1.0).item() == 0.0
    assert criterion.radius(logits, target, threshold=2 / 3, lipschitz=1.0).item() == 0.0
    assert criterion.radius(logits, target, threshold=-0.1, lipschitz=1.0).item() == math.inf
    # Equal classifier rows: their gap never moves, so nothing brings the value down.
    weight = (torch.ones(2, 3),)
    options = {"lipschitz": 1.0, "classifier": weight}
    assert criterion.radius(logits, target, threshold=0.0, **options).item() == math.inf
    worst = criterion.worst_case(logits, target, eps=[1e6], **options)
    assert worst.item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("total", [3, 7, 10, 30, 49, 100])
def test_thresholds_are_never_off_by_one(total):
    logits, target = margins(*range(1, total + 1))
    criterion = PixelAccuracy()
    for kept in range(total):
        threshold = kept / total
        radius = criterion.radius(logits, target, threshold=threshold, lipschitz=1.0, p=1).item()
        flips = total - kept
        assert radius == pytest.approx(flips * (flips + 1) / 2, rel=1e-8)
        below = math.nextafter(threshold, -1)
        assert criterion.radius(logits, target, threshold=below, lipschitz=1.0, p=1).item() > radius


def test_one_constant_for_each_image():
    logits, target = margins(1, 2, 3, 4)
    logits, target = logits.repeat(2, 1, 1, 1), target.repeat(2, 1, 1)
    criterion = PixelAccuracy()
    for constants in ([1.0, 4.0], torch.tensor([1.0, 4.0])):
        both = criterion.worst_case(logits, target, eps=[0.5], lipschitz=constants)
        assert both.tolist() == [[1.0, 0.5]]
    radius = criterion.radius(logits, target, threshold=0.5, lipschitz=[1.0, 4.0])
    assert (radius[0] / radius[1]).item() == pytest.approx(4.0)


def test_float32_and_float64_logits_agree():
    logits = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(3))
    options = {"eps": torch.linspace(0, 4, 9), "lipschitz": 1.0}
    low, high = (Stability().worst_case(x, **options) for x in (logits, logits.double()))
    assert torch.equal(low, high)


def test_criteria_are_small_immutable_objects():
    for criterion in (PixelAccuracy(), Stability()):
        assert isinstance(criterion, Criterion)
        assert criterion.exact is True
        assert criterion.higher_is_better is True
        assert criterion == type(criterion)()
        assert hash(criterion) == hash(type(criterion)())
        with pytest.raises(dataclasses.FrozenInstanceError):
            criterion.ignore_index = 3


def test_gradients_and_inputs_are_left_alone():
    logits, target = margins(1, 2)
    logits.requires_grad_()
    before = logits.detach().clone()
    worst = PixelAccuracy().worst_case(logits, target, eps=[1.0], lipschitz=1.0)
    assert not worst.requires_grad
    assert torch.equal(logits.detach(), before)


LOGITS, TARGET = margins(1, 2, 3)
BAD = {
    "infinite": (LOGITS + math.inf, TARGET, {}, "not finite"),
    "one nan among many": (torch.where(LOGITS == 2, math.nan, LOGITS), TARGET, {}, "1 NaN or infinite"),
    "empty eps": (LOGITS, TARGET, {"eps": []}, "`eps` is empty"),
    "infinite eps": (LOGITS, TARGET, {"eps": [math.inf]}, "inf at index 0"),
    "negative constant": (LOGITS, TARGET, {"lipschitz": -2.0}, "lipschitz.*out of range"),
    "nan": (LOGITS * math.nan, TARGET, {}, "not finite"),
    "bfloat16": (LOGITS.bfloat16(), TARGET, {}, "precision that cannot be certified.*bfloat16"),
    "half": (LOGITS.half(), TARGET, {}, "precision that cannot be certified"),
    "dimensions": (LOGITS[0], TARGET, {}, r"wrong shape.*\(B, K, H, W\)"),
    "target shape": (LOGITS, TARGET[..., :2], {}, "does not fit the logits"),
    "label range": (LOGITS, TARGET + 2, {}, r"labels outside the classes.*\[2\].*ignore_index=255"),
    "label type": (LOGITS, TARGET.float(), {}, "int64"),
    "missing target": (LOGITS, None, {}, "`target` is missing.*Stability"),
    "negative eps": (LOGITS, TARGET, {"eps": [0.1, -0.5]}, "-0.5 at index 1"),
    "nan eps": (LOGITS, TARGET, {"eps": [math.nan]}, "nan at index 0"),
    "norm": (LOGITS, TARGET, {"p": 3}, "not a supported norm"),
    "zero constant": (LOGITS, TARGET, {"lipschitz": 0.0}, "lipschitz.*zero"),
    "infinite constant": (LOGITS, TARGET, {"lipschitz": math.inf}, "lipschitz.*out of range"),
    "number of constants": (LOGITS, TARGET, {"lipschitz": [1.0, 2.0]}, "does not fit the batch.*2 constants"),
    "classifier": (LOGITS, TARGET, {"classifier": (torch.ones(3, 4),)}, r"1x1 layer.*\[3, 4\].*\(2, C\)"),
    "classifier kernel": (LOGITS, TARGET, {"classifier": (torch.ones(2, 4, 3, 3),)}, "1x1 layer"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("criterion", [Recall(0), FalseNegativeRate(1), Stability()], ids=lambda c: c.name)
def test_every_criterion_and_method_refuses_it(case, criterion):
    logits, target, change, text = BAD[case]
    if target is None and not criterion.needs_target:
        return
    text = text.split(".*Stability")[0]
    options = {"eps": [0.1], "lipschitz": 1.0, "p": 2} | change
    for method in (criterion.worst_case, criterion.evaluate):
        with pytest.raises(errors.InputError, match=text):
            method(logits, target, **options)
    if change.keys() & {"eps"}:
        return
    options.pop("eps")
    with pytest.raises(errors.InputError, match=text):
        criterion.radius(logits, target, threshold=0.5, **options)
    if target is not None:
        with pytest.raises(errors.InputError, match=text):
            pixel_radius(logits, target, **options)


def test_a_class_without_logits_and_a_class_that_is_none():
    for kind in (Recall, FalseNegativeRate):
        with pytest.raises(errors.InputError, match=r"class 2 for 2 logits.*0\.\.1"):
            kind(2).value(LOGITS, TARGET)
        for value in (-1, 255, 1.0, True, "car"):
            with pytest.raises(errors.InputError, match="`positive` is not a class"):
                kind(value)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_with_a_clear_text(case):
    logits, target, change, text = BAD[case]
    options = {"eps": [0.1], "lipschitz": 1.0, "p": 2} | change
    with pytest.raises(errors.InputError, match=text):
        PixelAccuracy().worst_case(logits, target, **options)


def test_a_threshold_must_be_a_number():
    for threshold in (math.nan, "high", None):
        with pytest.raises(errors.InputError, match="threshold"):
            PixelAccuracy().radius(LOGITS, TARGET, threshold=threshold, lipschitz=1.0)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_rows_that_nearly_agree_never_give_an_infinite_radius(p):
    """The true cost is beyond what float64 can square, yet somebody could pay it; between equal rows nobody can."""
    logits = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 1, 4)
    target = torch.zeros(1, 1, 4, dtype=torch.int64)
    for apart, reachable in ((1e-200, True), (0.0, False)):
        weight = torch.tensor([[0.0], [apart], [apart]], dtype=torch.float64)
        for criterion in (PixelAccuracy(), Recall(0), IoU(0), Dice(0), MeanIoU()):
            found = criterion.radius(
                logits, target, threshold=0.5, lipschitz=1.0, p=p, classifier=(weight,)
            ).item()
            assert math.isfinite(found) == reachable, criterion.name
        radius = pixel_radius(logits, lipschitz=1.0, p=p, classifier=(weight,))
        assert bool(radius.isfinite().all()) == reachable
