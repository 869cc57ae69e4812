"""Losses of detectors: plain loops, torchvision's versions, closed forms, gradients, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from onelip.core.errors import InputError
from onelip.layers import CenternessLoss, FocalHingeLoss, FocalLoss, GIoULoss
from onelip.layers.detection_losses import BACKGROUND, IGNORED, centerness


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -500 else 0.0


def by_hand(
    logits: torch.Tensor, labels: torch.Tensor, alpha: float, term: Callable[[float, float], float]
) -> float:
    """Sum over locations and classes of the term of (logit, sign), divided by the number of objects."""
    total, count = 0.0, 0
    for row, label in zip(logits.flatten(0, -2).tolist(), labels.flatten().tolist(), strict=True):
        count += label >= 0
        for k, z in enumerate(row):
            if label != IGNORED:
                total += (alpha if k == label else 1 - alpha) * term(z, 1.0 if k == label else -1.0)
    return total / max(1, count)


def case(seed: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 7, classes, generator=generator, dtype=torch.float64) * 2
    return logits, torch.randint(IGNORED, classes, (2, 7), generator=generator)


numbers = {
    "seed": st.integers(0, 10**6),
    "classes": st.integers(1, 4),
    "alpha": st.floats(0.05, 0.95),
    "gamma": st.floats(0, 4),
    "temperature": st.floats(0.05, 3),
    "threshold": st.floats(-1, 1),
    "margin": st.floats(0.01, 2),
}


@settings(max_examples=60, deadline=None)
@given(**numbers)
def test_focal_is_the_formula(
    seed: int,
    classes: int,
    alpha: float,
    gamma: float,
    temperature: float,
    threshold: float,
    margin: float,
) -> None:
    def term(z: float, s: float) -> float:
        p = sigmoid((s * (z - threshold) - margin) / temperature)
        return (1 - p) ** gamma * -math.log(max(p, 1e-300))

    loss = FocalLoss(alpha=alpha, gamma=gamma, temperature=temperature, threshold=threshold, margin=margin)
    logits, labels = case(seed, classes)
    assert float(loss(logits, labels)) == pytest.approx(by_hand(logits, labels, alpha, term), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(**numbers)
def test_hinge_is_the_formula(
    seed: int,
    classes: int,
    alpha: float,
    gamma: float,
    temperature: float,
    threshold: float,
    margin: float,
) -> None:
    def term(z: float, s: float) -> float:
        missing = (margin - s * (z - threshold)) / temperature
        return sigmoid(missing) ** gamma * max(0.0, missing)

    loss = FocalHingeLoss(margin, alpha=alpha, gamma=gamma, temperature=temperature, threshold=threshold)
    logits, labels = case(seed, classes)
    assert float(loss(logits, labels)) == pytest.approx(by_hand(logits, labels, alpha, term), rel=1e-9)


def test_focal_is_torchvisions_without_margin() -> None:
    logits, labels = case(3, 3)
    labels[labels == IGNORED] = BACKGROUND
    truth = torch.nn.functional.one_hot(labels.clamp_min(0), 3).double() * (labels >= 0).unsqueeze(-1)
    reference = ops.sigmoid_focal_loss(logits / 0.3, truth, alpha=0.25, gamma=2.0, reduction="sum")
    found = FocalLoss(alpha=0.25, gamma=2.0, temperature=0.3)(logits, labels)
    assert float(found) == pytest.approx(float(reference) / int((labels >= 0).sum()), rel=1e-9)


def test_the_hinge_is_zero_exactly_when_every_margin_is_there() -> None:
    labels = torch.tensor([[0, BACKGROUND]])
    loss = FocalHingeLoss(0.25, threshold=0.5, temperature=0.1)
    enough = torch.tensor([[[0.75], [0.25]]], requires_grad=True)
    value = loss(enough, labels)
    value.backward()
    assert float(value.detach()) == 0.0
    assert enough.grad is not None
    assert bool((enough.grad == 0).all())
    for spoiled in ([[[0.74], [0.25]]], [[[0.75], [0.26]]]):
        assert float(loss(torch.tensor(spoiled), labels)) > 1e-3
    # Focal loss with the same margin still pulls.
    assert float(FocalLoss(margin=0.25, threshold=0.5, temperature=0.1)(enough.detach(), labels)) > 1e-3


def test_hard_negatives_count_more_than_their_share() -> None:
    labels = torch.full((1, 1), BACKGROUND)
    one = {x: float(FocalHingeLoss(0.5, gamma=2.0)(torch.tensor([[[x]]]), labels)) for x in (-0.4, 0.1, 2.5)}
    assert one[0.1] / 0.6 > 1.4 * one[-0.4] / 0.1  # by unit of what is missing
    assert one[2.5] / 3.0 > 1.4 * one[0.1] / 0.6


@pytest.mark.parametrize(
    "loss", [FocalLoss(margin=0.1, temperature=0.2), FocalHingeLoss(0.3, temperature=0.2)]
)
def test_what_is_ignored_has_no_gradient_and_extremes_stay_finite(loss: torch.nn.Module) -> None:
    logits = torch.tensor([[[1e4], [-1e4], [0.0]]], requires_grad=True)
    value = loss(logits, torch.tensor([[BACKGROUND, 0, IGNORED]]))
    value.backward()
    assert logits.grad is not None
    assert math.isfinite(float(value.detach()))
    assert logits.grad[0, 2] == 0
    assert bool((logits.grad[0, :2] != 0).all())
    none = loss(torch.zeros(1, 2, 1), torch.full((1, 2), IGNORED))
    assert float(none) == 0.0


def test_without_objects_negatives_are_divided_by_one() -> None:
    logits = torch.zeros(2, 3, 2)
    found = float(FocalLoss(alpha=0.25, gamma=0.0)(logits, torch.full((2, 3), BACKGROUND)))
    assert found == pytest.approx(0.75 * 12 * math.log(2), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_giou_is_torchvisions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner, side = (
        torch.rand(2, 6, 2, generator=generator, dtype=torch.float64),
        torch.rand(2, 6, 2, generator=generator, dtype=torch.float64),
    )
    a, b = torch.cat([corner, corner + side + 1e-3], -1)
    reference = ops.generalized_box_iou_loss(a, b, reduction="mean", eps=0.0)
    assert float(GIoULoss()(a, b)) == pytest.approx(float(reference), rel=1e-9)


def test_giou_in_closed_form() -> None:
    loss, unit = GIoULoss(), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert float(loss(unit, unit)) == 0.0
    quarter = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert float(loss(quarter, unit)) == pytest.approx(0.75)  # inside: 1 - IoU
    far = torch.tensor([[9.0, 0.0, 10.0, 1.0]])
    assert float(loss(far, unit)) == pytest.approx(1 + 8 / 10)
    diagonal = torch.tensor([[0.5, 0.5, 1.5, 1.5]])  # I = 1/4, U = 7/4, C = 9/4
    assert float(loss(diagonal, unit)) == pytest.approx(1 - 1 / 7 + 2 / 9)
    assert float(loss(torch.cat([quarter, far]), unit.expand(2, 4))) == pytest.approx((0.75 + 1.8) / 2)
    nothing = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert float(loss(nothing, unit)) == pytest.approx(1.0)
    assert float(loss(unit[:0], unit[:0])) == 0.0


def test_gradients_are_those_of_the_formulas() -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(4, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corner, corner + 0.3 + torch.rand(4, 2, generator=generator, dtype=torch.float64)], 1)
    targets = boxes.roll(1, 0).clone()
    assert torch.autograd.gradcheck(lambda b: GIoULoss()(b, targets), boxes.clone().requires_grad_())
    logits, labels = case(5, 2)
    for loss in (FocalLoss(temperature=0.5, margin=0.1), FocalHingeLoss(0.3, temperature=0.5)):
        assert torch.autograd.gradcheck(lambda z, f=loss: f(z, labels), logits.clone().requires_grad_())
    sides = torch.rand(4, 4, generator=generator, dtype=torch.float64) + 0.1
    rows = logits.flatten()[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: CenternessLoss()(z, sides), rows)


def test_a_box_below_its_target_is_pulled_towards_it() -> None:
    box = torch.tensor([[3.0, 3.0, 4.0, 4.0]], requires_grad=True)
    GIoULoss()(box, torch.tensor([[0.0, 0.0, 2.0, 2.0]])).backward()
    assert box.grad is not None
    assert bool((box.grad[0, :2] > 0).all())  # descending moves the near corner to the target


def test_centreness() -> None:
    sides = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 4.0, 8.0], [3.0, 1.0, 1.0, 1.0]])
    expected = [1.0, math.sqrt(1 / 4 * 2 / 8), math.sqrt(1 / 3)]
    assert centerness(sides).tolist() == pytest.approx(expected)
    logits = torch.tensor([0.3, -1.0, 2.0])
    terms = [
        -(t * math.log(sigmoid(z)) + (1 - t) * math.log(1 - sigmoid(z)))
        for t, z in zip(expected, logits.tolist(), strict=True)
    ]
    assert float(CenternessLoss()(logits, sides)) == pytest.approx(sum(terms) / 3, rel=1e-5)
    assert float(CenternessLoss()(logits[:0], sides[:0])) == 0.0


@pytest.mark.parametrize("kind", [FocalLoss, FocalHingeLoss])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 0.0),
        ("alpha", 1.0),
        ("gamma", -0.1),
        ("gamma", math.inf),
        ("temperature", 0.0),
        ("temperature", math.nan),
        ("margin", -1.0),
        ("margin", math.nan),
        ("threshold", math.inf),
    ],
)
def test_wrong_settings_are_refused(kind: type[torch.nn.Module], name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} is not usable"):
        kind(**{name: value})


def test_a_hinge_without_margin_is_refused() -> None:
    with pytest.raises(InputError, match="use FocalLoss"):
        FocalHingeLoss(0.0)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (torch.zeros(1, 2, dtype=torch.int64), r"do not fit the logits; received logits \(1, 3, 2\)"),
        (torch.zeros(1, 3), "torch.int64"),
        (torch.tensor([[0, 2, 0]]), r"label out of range; received 2; expected 0 \.\. 1, -1 for background"),
        (torch.tensor([[0, -3, 0]]), "label out of range; received -3"),
    ],
)
def test_wrong_labels_are_refused(labels: torch.Tensor, text: str) -> None:
    with pytest.raises(InputError, match=text):
        FocalLoss()(torch.zeros(1, 3, 2), labels)


def test_wrong_rows_are_refused() -> None:
    with pytest.raises(InputError, match="boxes and targets do not fit"):
        GIoULoss()(torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(InputError, match="logits and distances do not fit"):
        CenternessLoss()(torch.zeros(2), torch.zeros(3, 4))
