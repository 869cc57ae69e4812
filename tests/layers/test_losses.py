from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.layers import (
    CategoricalHingeLoss,
    CosineLoss,
    HingeMarginLoss,
    HKRLoss,
    HKRMulticlassLoss,
    KRLoss,
    LseHKRLoss,
    TauCrossEntropy,
)

LOSSES = [
    TauCrossEntropy(8.0),
    TauCrossEntropy(8.0, [0.5, 2.0]),
    CosineLoss(),
    CosineLoss(per_pixel=False),
    KRLoss(),
    HingeMarginLoss(0.5),
    HKRMulticlassLoss(0.9, 0.5),
    HKRLoss(0.95, 0.01, 5.0),
    LseHKRLoss(0.5, 1.0, 3.0),
    CategoricalHingeLoss(0.5),
]
names = [f"{type(loss).__name__}-{i}" for i, loss in enumerate(LOSSES)]


def batch(n=40, classes=5, seed=0):
    torch.manual_seed(seed)
    return torch.randn(n, classes), torch.randint(0, classes, (n,))


def one_hot(labels, classes):
    return 2.0 * F.one_hot(labels, classes).float() - 1


torchlip = pytest.importorskip("deel.torchlip")


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (KRLoss(), torchlip.KRMulticlassLoss),
        (HingeMarginLoss(0.7), lambda: torchlip.HingeMulticlassLoss(min_margin=0.7)),
        (HKRMulticlassLoss(0.8, 0.7), lambda: torchlip.HKRMulticlassLoss(0.8, 0.7)),
        (LseHKRLoss(0.6, 0.7, 2.0, penalty=0.5), lambda: torchlip.LseHKRMulticlassLoss(0.6, 2.0, 0.5, 0.7)),
        (CategoricalHingeLoss(0.7), lambda: torchlip.CategoricalHingeLoss(0.7)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_and_gradients_equal_torchlip(ours, theirs, classes):
    logits, labels = batch(classes=classes)
    logits.requires_grad_()
    sign = -1 if isinstance(ours, KRLoss) else 1  # theirs is to be maximised
    expected = sign * theirs()(logits, one_hot(labels, classes))
    found = ours(logits, labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    (want,) = torch.autograd.grad(expected, logits)
    (have,) = torch.autograd.grad(found, logits)
    assert torch.allclose(want, have, atol=1e-7)


@pytest.mark.parametrize(
    "arguments", [(0.9, 1.0, 1.0), (0.95, 0.01, 5.0), (0.0, 0.2, 10.0), (1.0, 0.2, 50.0)]
)
def test_soft_hkr_equals_torchlip_over_many_batches(arguments):
    alpha, margin, temperature = arguments
    ours = HKRLoss(alpha, margin, temperature)
    theirs = torchlip.SoftHKRMulticlassLoss(alpha=alpha, min_margin=margin, temperature=temperature)
    for seed in range(5):
        logits, labels = batch(seed=seed)
        logits = (3 * logits).requires_grad_()
        expected, found = theirs(logits, one_hot(labels, 5)), ours(logits, labels)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        (want,) = torch.autograd.grad(expected, logits)
        (have,) = torch.autograd.grad(found, logits)
        assert torch.allclose(want, have, atol=1e-6)


def test_tau_cross_entropy_equals_torch():
    logits, labels = batch()
    weight = torch.tensor([0.1, 1.0, 2.0, 0.5, 3.0])
    expected = F.cross_entropy(4.0 * logits, labels, weight) / 4.0
    assert TauCrossEntropy(4.0, weight)(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    theirs = torchlip.TauCrossEntropyLoss(4.0)(logits, labels)
    assert TauCrossEntropy(4.0)(logits, labels).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_cosine_closed_forms():
    logits = torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]])
    labels = torch.tensor([0, 1, 255])
    assert CosineLoss()(logits, labels).item() == pytest.approx(1 - (0.6 + 1.0) / 2)
    image = logits.T.reshape(1, 2, 1, 3)
    together = 1 - (3 + 2) / (math.sqrt(25 + 4) * math.sqrt(2))
    assert CosineLoss(per_pixel=False)(image, labels.reshape(1, 1, 3)).item() == pytest.approx(together)


def test_cosine_per_image_skips_images_without_labels():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 4, 4))
    target[1] = 255
    loss = CosineLoss(per_pixel=False)
    assert loss(logits, target).item() == pytest.approx(loss(logits[:1], target[:1]).item())


def test_kr_is_minus_the_mean_difference():
    logits = torch.tensor([[1.0, 0.0], [3.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0, 1])
    # class 0: (1 + 3) / 2 - 0 = 2; class 1: 2 - (0 + 1) / 2 = 1.5
    assert KRLoss()(logits, labels).item() == pytest.approx(-1.75)


@pytest.mark.parametrize("loss", LOSSES, ids=names)
def test_pixels_and_void_are_the_flattened_counted_pixels(loss):
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 5, 6)
    target = torch.randint(0, 2, (1, 5, 6))
    target[torch.rand(1, 5, 6) < 0.3] = 255
    kept = target != 255
    loss.eval()
    flat = logits.movedim(1, -1)[kept]
    if isinstance(loss, CosineLoss) and not loss.per_pixel:
        flat, labels = flat.T[None], target[kept][None]
    else:
        labels = target[kept]
    assert loss(logits, target).item() == pytest.approx(loss(flat, labels).item(), rel=1e-5)
    other = torch.where(kept.unsqueeze(1), logits, 1e3 * torch.randn_like(logits))
    assert loss(other, target).item() == pytest.approx(loss(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=names)
def test_all_void_gives_zero_with_a_gradient(loss):
    logits = torch.randn(2, 2, 3, 3, requires_grad=True)
    value = loss.train()(logits, torch.full((2, 3, 3), 255))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@settings(max_examples=25, deadline=None)
@given(
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
    labels=st.sampled_from([[0, 0, 0], [0, 1, 1], [1, 255, 0]]),
    which=st.integers(0, len(LOSSES) - 1),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_are_finite_for_two_classes(scale, labels, which, seed):
    torch.manual_seed(seed)
    logits = (scale * torch.randn(3, 2)).requires_grad_()
    value = LOSSES[which].train()(logits, torch.tensor(labels))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES, ids=names)
def test_half_precision_is_summed_in_single(loss):
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 2, 64, 64), torch.randint(0, 2, (4, 64, 64))
    loss.eval()
    value = loss(logits.bfloat16(), labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.bfloat16().float(), labels).item(), rel=1e-5)


def test_soft_hkr_mean_is_a_buffer_frozen_in_eval_mode():
    loss = HKRLoss(0.9, 0.1, 5.0)
    logits, labels = batch()
    loss(logits, labels)
    expected = 0.99 * 0.1 + 0.01 * logits.abs().mean().item()
    assert loss.magnitude.item() == pytest.approx(expected, rel=1e-5)
    loss.eval()
    first, second = loss(10 * logits, labels), loss(10 * logits, labels)
    assert first == second
    assert loss.magnitude.item() == pytest.approx(expected, rel=1e-5)
    fresh = HKRLoss(0.9, 0.1, 5.0)
    fresh.load_state_dict(loss.state_dict())
    assert fresh.magnitude == loss.magnitude


def test_lse_smooth_maximum_lies_between_max_and_max_plus_penalty():
    logits, labels = batch(classes=7)
    loss = LseHKRLoss(0.0, 1.0, penalty=0.4)
    others = logits.masked_fill(F.one_hot(labels, 7) > 0, -math.inf)
    rise = loss._smooth_maximum(others) - others.amax(1)
    assert (rise >= -1e-6).all()
    assert (rise <= 0.4 * 0.5 + 1e-6).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TauCrossEntropy(0.0), "tau is not usable"),
        (lambda: TauCrossEntropy(1.0, [1.0, -1.0]), "class weights are not usable"),
        (lambda: TauCrossEntropy(1.0, [0.0, 0.0]), "class weights are not usable"),
        (lambda: HKRLoss(10.0), "alpha is not usable.*pass alpha=0.909091"),
        (lambda: HKRLoss(0.5, -1.0), "min_margin is not usable"),
        (lambda: LseHKRLoss(0.5, 1.0, math.inf), "temperature is not usable"),
        (lambda: KRLoss()(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long)), "need two classes"),
        (lambda: KRLoss()(torch.zeros(2, 3), torch.tensor([0, 3])), "label out of range.*received 3.*0 .. 2"),
        (lambda: KRLoss()(torch.zeros(2, 3), torch.tensor([0, -1])), "label out of range.*received -1"),
        (lambda: KRLoss()(torch.zeros(2, 3), torch.tensor([0.0, 1.0])), "wrong type.*call target.long"),
        (lambda: KRLoss()(torch.zeros(2, 3, 4), torch.zeros(2, 5).long()), "target does not fit"),
        (
            lambda: TauCrossEntropy(1.0, [1.0, 1.0])(torch.zeros(1, 3), torch.tensor([0])),
            "one weight per class",
        ),
    ],
)
def test_errors(make, text):
    with pytest.raises(InputError, match=text):
        make()
