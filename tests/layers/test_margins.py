"""Losses of transport for classifiers: closed forms by hand, gradients, state, and the temperature of soft HKR."""

from __future__ import annotations

import math

import pytest
import torch

from onelip.layers import HingeMarginLoss, HKRLoss, HKRMulticlassLoss, KRLoss, LseHKRLoss

LOGITS = torch.tensor([[1.0, 0.5, -0.5], [0.2, -0.4, 0.1]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])


def softmax(*values: float) -> list[float]:
    top = [math.exp(value) for value in values]
    return [value / sum(top) for value in top]


def test_soft_hkr_by_hand() -> None:
    margin, temperature, alpha = 0.8, 3.0, 0.7
    mean = 0.99 * margin + 0.01 * (1 + 0.5 + 0.5 + 0.2 + 0.4 + 0.1) / 6
    sharp = temperature * margin / max(mean, margin)
    assert mean < margin  # so that the smallest magnitude is what counts
    transport, hinge = 0.0, 0.0
    for own, rivals in ((1.0, (0.5, -0.5)), (-0.4, (0.2, 0.1))):
        q = softmax(*(sharp * rival for rival in rivals))
        transport += -own + sum(w * f for w, f in zip(q, rivals, strict=True))
        hinge += max(0.0, margin / 2 - own)
        hinge += sum(w * max(0.0, margin / 2 + f) for w, f in zip(q, rivals, strict=True))
    expected = ((1 - alpha) * transport + alpha * hinge) / 2
    assert HKRLoss(alpha, margin, temperature)(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_hkr_by_hand() -> None:
    # Class 0: 1 - 0.2; class 1: -0.4 - 0.5; class 2, without positives: minus the mean of -0.5 and 0.1.
    kr = (0.8 - 0.9 + 0.2) / 3
    assert KRLoss()(LOGITS, LABELS).item() == pytest.approx(-kr)
    # Half a margin of 0.4; the label counts twice: first 0, 0.9, 0; then 0.6, 2 * 0.8, 0.5.
    hinge = (0.9 + 0.6 + 1.6 + 0.5) / 6
    assert HingeMarginLoss(0.8)(LOGITS, LABELS).item() == pytest.approx(hinge)
    mixed = 0.7 * hinge - 0.3 * kr
    assert HKRMulticlassLoss(0.7, 0.8)(LOGITS, LABELS).item() == pytest.approx(mixed)


def test_lse_hkr_by_hand() -> None:
    t = math.log(2) / (0.8 / 2)
    expected = 0.0
    for own, rivals in ((2.0, (1.0, -1.0)), (-0.8, (0.4, 0.2))):  # the logits times 2
        top = math.log(sum(math.exp(t * f) for f in rivals)) / t
        expected += 0.3 * (top - own) + 0.7 * (max(0.0, 0.4 - own) + max(0.0, 0.4 + top))
    assert LseHKRLoss(0.7, 0.8, 2.0)(LOGITS, LABELS).item() == pytest.approx(expected / 2, rel=1e-6)


def test_lse_hkr_of_two_classes_is_the_plain_pair() -> None:
    logits = torch.tensor([[0.3, -0.1], [0.2, 0.6]])
    found = LseHKRLoss(0.5, 1.0)(logits, torch.tensor([0, 0]))
    pairs = [(0.3, -0.1), (0.2, 0.6)]
    terms = [0.5 * (b - a) + 0.5 * (max(0.0, 0.5 - a) + max(0.0, 0.5 + b)) for a, b in pairs]
    assert found.item() == pytest.approx(sum(terms) / 2)


@pytest.mark.parametrize(
    "loss",
    [HKRLoss(0.7, 0.3, 4.0), HKRLoss(0.0, 0.3, 4.0), HKRMulticlassLoss(0.7, 0.3), LseHKRLoss(0.7, 0.3, 2.0)],
    ids=lambda loss: type(loss).__name__,
)
def test_gradients_are_those_of_the_value(loss: torch.nn.Module) -> None:
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 3])
    loss.eval()  # the magnitude stays: a finite difference sees one and the same function
    assert torch.autograd.gradcheck(lambda f: loss(f, labels), (logits,))


def test_weights_of_rivals_carry_a_gradient_and_the_temperature_none() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    loss = HKRLoss(0.0, 1.0, 2.0).eval()
    (slope,) = torch.autograd.grad(loss(logits, torch.tensor([0])), logits)
    q = softmax(2.0, 1.0)
    mean = q[0] * 1.0 + q[1] * 0.5
    assert slope[0, 0].item() == pytest.approx(-1.0)
    assert slope[0, 1].item() == pytest.approx(q[0] * (1 + 2.0 * (1.0 - mean)), rel=1e-5)
    assert slope[0, 2].item() == pytest.approx(q[1] * (1 + 2.0 * (0.5 - mean)), rel=1e-5)
    large = (100 * torch.ones(1, 3)).requires_grad_()  # in train mode the temperature moves with the logits
    HKRLoss(0.0, 1.0, 2.0)(large, torch.tensor([0])).backward()
    assert large.grad[0].tolist() == pytest.approx([-1.0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("temperature", "magnitude", "expected"), [(1e6, 1.0, 250.0), (1e-6, 1.0, 0.005), (10.0, 4.0, 2.5)]
)
def test_temperature_falls_with_the_logits_and_is_clamped(
    temperature: float, magnitude: float, expected: float
) -> None:
    loss = HKRLoss(0.5, 1.0, temperature).eval()
    loss.magnitude.fill_(magnitude)
    assert loss._sharpness(torch.zeros(1, 2)).item() == pytest.approx(expected)


def test_magnitude_is_an_exponential_mean_and_survives_a_round_trip() -> None:
    loss, mean = HKRLoss(0.9, 0.5, 2.0), 0.5
    for size in (3.0, 0.1, 700.0):
        loss(torch.full((2, 3), size), torch.tensor([0, 1]))
        mean = 0.99 * mean + 0.01 * size
    assert loss.magnitude.item() == pytest.approx(mean, rel=1e-6)
    for _ in range(300):
        loss(torch.full((2, 3), 1e6), torch.tensor([0, 1]))
    assert loss.magnitude.item() == 1000.0
    loss.magnitude.fill_(3.0)
    copy = HKRLoss(0.9, 0.5, 2.0)
    copy.load_state_dict(loss.state_dict(), strict=True)
    logits = torch.tensor([[0.4, 0.1, 2.0]])
    assert copy(logits, torch.tensor([0])) == loss(logits, torch.tensor([0]))
    assert copy(logits, torch.tensor([0])) != HKRLoss(0.9, 0.5, 2.0)(logits, torch.tensor([0]))
