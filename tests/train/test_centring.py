"""Biases of classes: what is fitted never costs accuracy, and puts boundaries where they belong."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import onelip
from onelip import data
from onelip.certify import class_radius
from onelip.train.centring import centre_bias, fitted_bias


def sample(seed: int, images: int = 60, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images,), generator=draw)
    logits = torch.randn(images, classes, generator=draw) + 2.0 * torch.nn.functional.one_hot(labels, classes)
    logits = logits + torch.randn(classes, generator=draw)  # no class lies where it should
    apart = torch.rand(classes, classes, generator=draw, dtype=torch.float64) + 0.5
    return logits, labels, (apart + apart.T).fill_diagonal_(0.0)


def score(logits: torch.Tensor, labels: torch.Tensor, constants: torch.Tensor) -> tuple[int, float]:
    radius = class_radius(logits, labels, constants=constants)
    return int((logits.argmax(1) == labels).sum()), float(radius.mean())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-4, 1.0, 1e3]))
def test_accuracy_never_gets_worse(seed: int, scale: float) -> None:
    logits, labels, constants = sample(seed)
    bias = fitted_bias(scale * logits, labels, constants)
    before, after = (
        score(scale * logits.double() + shift, labels, constants) for shift in (torch.zeros(4), bias)
    )
    assert after[0] >= before[0]
    assert abs(float(bias.sum())) < 1e-9 * scale + 1e-12
    assert torch.equal(bias, fitted_bias(scale * logits, labels, constants))


def test_two_classes_meet_midway() -> None:
    gap = torch.tensor([4.0, 4.5, 5.0, -1.0, -1.5, -2.0])  # class 1 lies three times nearer to the boundary
    logits = torch.stack([gap, torch.zeros(6)], 1)
    constants = torch.tensor([[0.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    bias = fitted_bias(logits, labels, constants)
    shift = float(bias[0] - bias[1])
    assert shift == pytest.approx(-1.5, abs=0.01)  # by symmetry: 4 - 1.5 = 1 + 1.5
    radius = class_radius(logits.double() + bias, labels, constants=constants)
    assert radius.tolist() == pytest.approx([1.25, 1.5, 1.75, 1.25, 1.5, 1.75], abs=0.01)


def test_no_other_bias_is_better() -> None:
    logits, labels, constants = sample(3)
    logits = logits + 3.0 * torch.nn.functional.one_hot(
        labels, 4
    )  # all right, so that no share of the way is left out
    start = torch.zeros(4, dtype=torch.float64)
    logits = logits - logits[torch.arange(60), labels].mean()

    def value(bias: torch.Tensor) -> float:
        gap = logits.double() + bias
        gap = (gap.gather(1, labels[:, None]) - gap) / constants[labels].clamp_min(1e-30)
        slack = gap.scatter(1, labels[:, None], torch.inf).amin(1)
        return float(torch.nn.functional.logsigmoid(slack / unit).mean())

    first = (logits.double().gather(1, labels[:, None]) - logits.double()) / constants[labels].clamp_min(
        1e-30
    )
    unit = float(first.scatter(1, labels[:, None], torch.inf).amin(1).abs().mean())
    bias = fitted_bias(logits, labels, constants)
    assert value(bias) > value(start) + 1e-3
    draw = torch.Generator().manual_seed(0)
    for size in (0.01, 0.1, 1.0):
        for _ in range(50):
            assert (
                value(bias + size * torch.randn(4, generator=draw, dtype=torch.float64)) < value(bias) + 1e-6
            )


def test_where_every_change_costs_accuracy_nothing_changes() -> None:
    # Nine images of class 0 are far on the wrong side and pull; one of class 1 is right by a hair and would be lost.
    logits = torch.tensor([[0.0, 40.0]] * 9 + [[0.0, 30.0]] * 20 + [[0.0, 1e-6]])
    labels = torch.tensor([0] * 9 + [1] * 21)
    constants = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    assert fitted_bias(logits, labels, constants).tolist() == [0.0, 0.0]
    pulled = fitted_bias(logits[:-1], labels[:-1], constants)  # without it they may pull
    assert pulled[0] > 0.1


def test_wrong_labels_are_refused() -> None:
    with pytest.raises(onelip.core.errors.InputError, match="labels outside the classes"):
        fitted_bias(torch.zeros(2, 2), torch.tensor([0, 2]), torch.ones(2, 2) - torch.eye(2))


def test_a_model_is_centred_in_place_and_keeps_its_constants() -> None:
    torch.manual_seed(0)
    source = data.open_labels("digits", "train").limited(200)
    options = {"norm": "bias", "head": "unit", "image_size": (8, 8), "widths": (8,), "hidden": (16,)}
    model = onelip.models.create("convnet", classes=10, size="XS", in_channels=1, scale="none", **options)
    images = torch.stack([image for image, _ in source])
    with torch.no_grad():  # a last layer of class means, wrongly biased
        features = onelip.fold(model).split()[0](images)
        means = torch.stack([features[source.labels == k].mean(0) for k in range(10)])
        model.head.base.copy_(means - means.mean(0))
        model.head.bias.copy_(torch.linspace(-0.05, 0.05, 10))
    model.train()
    before = onelip.certify.classification(onelip.fold(model), images, source.labels)
    assert centre_bias(model, source, batch=64)
    assert model.training
    after = onelip.certify.classification(onelip.fold(model), images, source.labels)
    assert after.clean_accuracy >= before.clean_accuracy > 0.3
    assert after.radius.mean() > before.radius.mean()
    assert torch.equal(after.constants, before.constants)


def test_a_model_without_a_bias_stays() -> None:
    class Plain(onelip.models.LipModel):
        def build(self, make, **_: object) -> None:
            self.body = torch.nn.Flatten()

    source = data.open_labels("digits", "train").limited(20)
    config = onelip.models.config.ModelConfig("plain", classes=10, in_channels=1)
    model = Plain(config, onelip.models.factory.Factory(None))
    assert not centre_bias(model, source)
