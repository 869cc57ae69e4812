"""Biases of classes: what is fitted never costs accuracy, and gains what a search over biases gains."""

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
def test_neither_accuracy_nor_radius_gets_worse(seed: int, scale: float) -> None:
    logits, labels, constants = sample(seed)
    bias = fitted_bias(scale * logits, labels, constants)
    before, after = (
        score(scale * logits.double() + shift, labels, constants) for shift in (torch.zeros(4), bias)
    )
    assert after[0] >= before[0]
    assert after[1] >= before[1]
    assert abs(float(bias.sum())) < 1e-9 * scale + 1e-12
    assert torch.equal(bias, fitted_bias(scale * logits, labels, constants))


def test_two_classes_as_good_as_a_search() -> None:
    labels = torch.tensor([0] * 30 + [1] * 30)
    draw = torch.Generator().manual_seed(0)
    gap = torch.cat([4.0 + 0.1 * torch.rand(30, generator=draw), -1.0 - 0.1 * torch.rand(30, generator=draw)])
    logits = torch.stack([gap, torch.zeros(60)], 1)  # all right, class 1 nearer to the boundary
    constants = torch.tensor([[0.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    lopsided = torch.cat([logits, logits[:30] + torch.tensor([-4.2, 0.0])])  # 30 of class 0 that are wrong
    truth = torch.cat([labels, torch.zeros(30, dtype=torch.int64)])
    bias = fitted_bias(lopsided, truth, constants)
    found = score(lopsided.double() + bias, truth, constants)[1]
    grid = [torch.tensor([0.5 * s, -0.5 * s]).double() for s in torch.linspace(-6, 6, 241)]
    legal = [score(lopsided.double() + b, truth, constants) for b in grid]
    best = max(radius for right, radius in legal if right >= score(lopsided, truth, constants)[0])
    assert found > score(lopsided, truth, constants)[1] + 0.01
    assert found >= 0.9 * best


def test_nothing_to_gain_gives_zeros() -> None:
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    constants = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    assert fitted_bias(logits, torch.tensor([0, 1]), constants).tolist() == [0.0, 0.0]


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
