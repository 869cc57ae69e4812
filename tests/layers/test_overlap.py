"""The loss on soft overlap: closed forms, a plain loop, margins, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.layers import JaccardLoss


def by_hand(logits: torch.Tensor, labels: torch.Tensor, tau: float, margin: float) -> float:
    """The formula, pixel by pixel."""
    classes = logits.shape[1]
    rows = [(logits[b, :, i], int(labels[b, i])) for b in range(len(labels)) for i in range(labels.shape[1])]
    rows = [(f.tolist(), y) for f, y in rows if y != 255]
    hits, sums, counts, entropy = [0.0] * classes, [0.0] * classes, [0] * classes, 0.0
    for values, y in rows:
        powers = [math.exp(tau * (v - margin * (k == y))) for k, v in enumerate(values)]
        p = [power / sum(powers) for power in powers]
        hits[y] += p[y]
        counts[y] += 1
        sums = [a + b for a, b in zip(sums, p, strict=True)]
        entropy -= math.log(p[y])
    shown = [k for k in range(classes) if counts[k]]
    overlap = [hits[k] / (sums[k] + counts[k] - hits[k]) for k in shown]
    return 1 - sum(overlap) / len(shown) + entropy / len(rows)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4), tau=st.floats(0.1, 5), margin=st.floats(0, 2))
def test_it_is_the_formula(seed: int, classes: int, tau: float, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 5), generator=generator)
    labels[0, 0] = 255
    found = float(JaccardLoss(tau, margin)(logits, labels))
    assert found == pytest.approx(by_hand(logits, labels, tau, margin), rel=1e-9)


def test_a_margin_asks_for_more_and_hard_predictions_give_the_iou() -> None:
    labels = torch.tensor([[0, 0, 0, 1, 1]])
    sure = torch.tensor([[[9.0, 9.0, -9.0, -9.0, -9.0], [-9.0, -9.0, 9.0, 9.0, 9.0]]])
    wrong = float(JaccardLoss(1.0)(sure, labels))
    entropy = 18.0 / 5  # one pixel, wrong by 18
    assert wrong == pytest.approx(1 - (2 / 3 + 2 / 3) / 2 + entropy, abs=1e-3)
    right = torch.tensor([[[0.1, -0.1], [-0.1, 0.1]]])
    two = torch.tensor([[0, 1]])
    losses = [float(JaccardLoss(20.0, margin)(right, two)) for margin in (0.0, 0.1, 0.3)]
    assert losses == sorted(losses)
    assert losses[0] < 0.1 < losses[2]


def test_a_small_class_pulls_as_hard_as_a_large_one() -> None:
    labels = torch.zeros(1, 1000, dtype=torch.int64)
    labels[0, 0] = 1
    logits = (
        torch.tensor([3.0, -3.0])[None, :, None].repeat(1, 1, 1000).requires_grad_()
    )  # all called the large one
    JaccardLoss(1.0)(logits, labels).backward()
    assert logits.grad is not None
    own = logits.grad[0, 1]
    assert -float(own[0]) > 100 * float(own[1:].abs().max())


def test_nothing_to_count_and_wrong_input() -> None:
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    loss = JaccardLoss()(logits, torch.full((1, 3), 255))
    loss.backward()
    assert float(loss.detach()) == 0.0
    for tau, margin in [(0.0, 0.0), (math.nan, 0.0), (1.0, -1.0), (1.0, math.inf)]:
        with pytest.raises(InputError, match="tau or margin is not usable"):
            JaccardLoss(tau, margin)
    with pytest.raises(InputError, match="label out of range"):
        JaccardLoss()(torch.zeros(1, 2, 1), torch.tensor([[2]]))
