"""Constants of pairs of classes: proven, tight where the last layer is known, and never about another function."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import onelip
from onelip.certify import pair_constants
from onelip.core.errors import InputError, IntegrityError, TrainModeError, UnknownLayerError
from onelip.models import create
from onelip.models.convnet import ConvNet

NORMS = (1, 2, math.inf)
DUAL = {1: math.inf, 2: 2, math.inf: 1}
BOTH = {1: 1.0, 2: math.sqrt(2.0), math.inf: 2.0}


def linear(classes=4, features=12, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes)).double().eval()


def classifiers():
    torch.manual_seed(1)
    yield create("convnet", classes=5, size="XS", in_channels=1), (1, 12, 12)
    yield create("convnet", classes=5, size="XS", in_channels=1, head="unit"), (1, 12, 12)
    yield create("convnet", classes=5, size="XS", in_channels=1, constraint=None), (1, 12, 12)
    yield create("mlp", classes=5, size="XS", in_channels=1, image_size=(6, 6)), (1, 6, 6)
    yield create("mlp", classes=5, size="XS", in_channels=7), (7, 1, 1)
    yield create("mlp", classes=1, widths=(), in_channels=7), (7, 1, 1)
    yield create("resnet18", classes=5, widths=(4, 8), depths=(1, 1)), (3, 16, 16)


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_for_a_linear_model_they_are_the_dual_norms_of_the_differences_of_rows(p, seed):
    model = linear(seed=seed)
    w = model[1].weight
    exact = torch.linalg.vector_norm(w[:, None] - w[None], ord=DUAL[p], dim=-1)
    found = pair_constants(model, (3, 2, 2), p=p)
    assert found.dtype == torch.float64
    assert torch.equal(found, found.T)
    assert not found.diagonal().any()
    off = ~torch.eye(4, dtype=torch.bool)
    assert (found[off] >= exact[off]).all()
    assert (found[off] <= exact[off] * (1 + 1e-6)).all()


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("index", range(7))
def test_no_pair_of_inputs_moves_a_difference_further(p, index):
    model, shape = list(classifiers())[index]
    model = onelip.fold(model).double()
    constants = pair_constants(model, shape, p=p)
    draw = torch.Generator().manual_seed(2)
    x = torch.rand(8, *shape, generator=draw, dtype=torch.float64)
    with torch.enable_grad():
        x.requires_grad_()
        logits = model(x)
        logits = torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
        for i in range(logits.shape[1]):
            for j in range(i):
                slope = torch.autograd.grad((logits[:, i] - logits[:, j]).sum(), x, retain_graph=True)[0]
                size = torch.linalg.vector_norm(slope.flatten(1), ord=DUAL[p], dim=1)
                assert (size <= constants[i, j]).all()
                assert size.max() > 1e-6


@pytest.mark.parametrize("p", NORMS)
def test_never_above_what_the_joint_constant_gives(p):
    for model, shape in classifiers():
        joint = onelip.lipschitz(model.eval(), shape, p=p).value
        found = pair_constants(model, shape, p=p)
        factor = 1.0 if model.classes == 1 else BOTH[p]
        assert (found <= joint * factor * (1 + 1e-9)).all()


@pytest.mark.parametrize("index", range(7))
def test_models_know_their_features_and_last_layer(index):
    model, shape = list(classifiers())[index]
    model = onelip.fold(model)
    body, head = model.split()
    x = torch.rand(3, *shape)
    assert type(head) is nn.Linear
    assert not body.training
    assert torch.allclose(head(body(x)), model(x), atol=1e-6)
    assert create("unet", classes=2, size="XS").split() is None


def test_equal_rows_never_move_apart():
    model = linear()
    model[1].weight.data[2] = model[1].weight.data[0]
    found = pair_constants(model, (12,))
    assert found[0, 2] == 0
    assert (found[0, [1, 3]] > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(-320, 300), st.integers(0, 2**31))
def test_tiny_and_huge_rows_lose_nothing(exponent, seed):
    model = linear(classes=2, seed=seed)
    model[1].weight.data *= 10.0**exponent
    exact = float(math.dist(*model[1].weight.tolist()))
    assert float(pair_constants(model, (12,))[0, 1]) >= exact


def test_without_a_split_the_joint_constant_serves():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear()

        def forward(self, x):
            return self.inner(x)

    model = Wrapped().eval()
    joint = onelip.lipschitz(model, (12,)).value
    found = pair_constants(model, (12,))
    assert found[0, 1].item() == pytest.approx(math.sqrt(2) * joint)
    assert (found >= pair_constants(model.inner, (12,))).all()


def test_a_split_that_is_not_the_model_is_refused():
    class Doubled(ConvNet):
        def network(self, x):
            return super().network(x) * 1.000001

    class Sine(ConvNet):
        def split(self):
            body, head = super().split()
            other = nn.Linear(head.in_features, head.out_features)
            return body, other.to(head.weight)

    for kind in (Doubled, Sine):
        model = create("convnet", classes=3, size="XS", in_channels=1).eval()
        model.__class__ = kind
        with pytest.raises(IntegrityError, match="do not compute the model's logits"):
            pair_constants(model, (8, 8))


def test_errors_say_what_to_do():
    model = linear()
    with pytest.raises(TrainModeError, match=r"certify.pair_constants.*model.eval\(\)"):
        pair_constants(model.train(), (12,))
    with pytest.raises(InputError, match="`p` is not a supported norm"):
        pair_constants(model.eval(), (12,), p=3)
    with pytest.raises(InputError, match=r"no classifier.*\(2, 2, 8, 8\).*certify.segmentation"):
        pair_constants(nn.Conv2d(3, 2, 1).eval(), (8, 8))

    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.erf(x).flatten(1)

    with pytest.raises(UnknownLayerError):
        pair_constants(nn.Sequential(Odd(), nn.Linear(12, 2)).eval(), (12,))


def test_the_model_is_not_changed():
    model = create("convnet", classes=3, size="XS", in_channels=1).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pair_constants(model, (8, 8))
    assert all(
        torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in model.state_dict().items()
    )
