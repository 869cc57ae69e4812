"""Activations, centring, pools, structures: closed forms, norms by brute force, bounds."""

from __future__ import annotations

import math

import pytest
import torch
from dense import singular_values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import onelip
from onelip.core.errors import InputError
from onelip.layers import (
    Abs,
    BatchCentering,
    ChannelBias,
    Concat,
    ConcatResidual,
    ConvexResidual,
    GroupSort,
    Householder,
    InputNormalization,
    LayerCentering,
    MaxMin,
    Merge,
    OrthogonalConv2d,
    PrescaledResidual,
    Resample,
    ScaledAvgPool2d,
    ScaledGlobalAvgPool2d,
    ScaledL2NormPool2d,
    Split,
    fold,
)


def bound(layer, p=2.0, size=(6, 6), channels=4):
    return onelip.lipschitz(layer.eval(), size, in_channels=channels, p=p).value


def turned_householder() -> Householder:
    layer = Householder(4).double()
    with torch.no_grad():
        layer.angle.copy_(torch.tensor([0.3, 2.5]))
    return layer


POINTWISE = [MaxMin(), GroupSort(2), GroupSort(4), GroupSort(None), turned_householder(), Abs()]
MAPS = [
    *POINTWISE,
    LayerCentering(),
    ScaledAvgPool2d(2),
    ScaledAvgPool2d((3, 2)),
    ScaledL2NormPool2d(2),
    ScaledL2NormPool2d((2, 3)),
    ScaledL2NormPool2d(None),
    ScaledGlobalAvgPool2d(),
    Resample(2),
    Resample(3),
    Resample(2, mode="bilinear"),
    Resample(3, mode="bilinear"),
    InputNormalization([0.1, 0.2, 0.3, 0.4], [0.5, 1.0, 2.0, 0.7]),
    ChannelBias(4),
    BatchCentering(4),
]


@pytest.mark.parametrize("layer", POINTWISE, ids=repr)
def test_activation_jacobian_is_orthogonal(layer):
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(layer, x).reshape(36, 36)
    assert torch.allclose(jacobian @ jacobian.T, torch.eye(36, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    which=st.integers(0, len(MAPS) - 1),
    p=st.sampled_from([1.0, 2.0, math.inf]),
    seed=st.integers(0, 9999),
    step=st.sampled_from([1e-3, 1.0, 30.0]),
    size=st.sampled_from([(6, 6), (5, 7)]),
)
def test_no_pair_of_inputs_beats_the_bound(which, p, seed, step, size):
    layer = MAPS[which].double().eval()
    generator = torch.Generator().manual_seed(seed)
    x, d = (torch.randn(1, 4, *size, dtype=torch.float64, generator=generator) for _ in range(2))
    moved = layer(x + step * d) - layer(x)
    ratio = torch.linalg.vector_norm(moved, p) / torch.linalg.vector_norm(step * d, p)
    assert ratio <= bound(layer, p, size) * (1 + 1e-12)


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 9)])
@pytest.mark.parametrize(
    "layer",
    [m for m in MAPS if isinstance(m, (LayerCentering, ScaledAvgPool2d, ScaledGlobalAvgPool2d, Resample))],
)
def test_linear_layers_have_norm_one(layer, size):
    if isinstance(layer, ScaledAvgPool2d) and min(size) < max(layer.kernel_size):
        size = (max(size), max(size))
    top = singular_values(layer.double(), (1, *size)).max()
    assert top <= 1 + 1e-7
    assert top >= 0.8
    assert top <= bound(layer, size=size) <= 1 + 1e-6


def test_sorting_closed_forms():
    x = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
    assert GroupSort(2)(x).tolist() == [[1, 4, 2, 3]]
    assert GroupSort(4)(x).tolist() == [[1, 2, 3, 4]]
    assert GroupSort(None)(x).tolist() == [[1, 2, 3, 4]]
    assert MaxMin()(x).tolist() == [[4, 2, 3, 1]]


@pytest.mark.parametrize("training", [True, False])
def test_every_derivative_of_maxmin_is_that_of_the_sort(training):
    layer = MaxMin().train(training)
    x = torch.randn(
        2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(layer, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(layer, (x,))
    with torch.no_grad():
        plain = layer(x)
    assert torch.equal(layer(x), plain)


def test_maxmin_is_exported_as_plain_operators():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), MaxMin()).eval()
    exported = torch.export.export(model, (torch.zeros(1, 3, 2, 2),), strict=False)
    names = [str(node.target) for node in exported.graph.nodes]
    assert "aten.maximum.default" in names


def test_householder_starts_as_maxmin_and_is_continuous():
    x = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(Householder(4)(x), MaxMin()(x), atol=1e-6)
    layer = turned_householder()
    half = layer.angle.detach() / 2
    line = torch.cat((torch.cos(half), torch.sin(half)))[None] * 3.0  # on the mirror of each pair
    for side in (1e-9, -1e-9):
        nudge = side * torch.cat((-torch.sin(half), torch.cos(half)))[None]
        assert torch.allclose(layer(line + nudge), line, atol=1e-8)


def test_householder_equals_torchlip():
    torchlip = pytest.importorskip("deel.torchlip")
    theirs = torchlip.HouseHolder(4)
    ours = Householder(4)
    with torch.no_grad():
        theirs.theta.copy_(torch.tensor([0.4, 1.9]))
        ours.angle.copy_(torch.tensor([0.4, 1.9]))
    x = torch.randn(5, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    # theirs reflects the other side of the line
    assert torch.allclose(ours(x), -theirs(-x), atol=1e-6)


def test_l2_pool_gradient_at_zero_is_zero():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    ScaledL2NormPool2d(2)(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_pool_closed_forms():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert ScaledAvgPool2d(2)(x).item() == pytest.approx((0 + 1 + 3 + 4) / 2)
    assert ScaledGlobalAvgPool2d()(x).item() == pytest.approx(36 / 3)
    assert ScaledL2NormPool2d(None)(x).item() == pytest.approx(math.sqrt(204))
    assert ScaledL2NormPool2d(3)(x).item() == pytest.approx(math.sqrt(204))


# ---- centring -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
def test_batch_centering_centres_in_train_and_translates_in_eval(shape):
    torch.manual_seed(0)
    layer = BatchCentering(3, momentum=0.1)
    x = torch.randn(shape) + 5
    dims = [d for d in range(len(shape)) if d != 1]
    assert layer(x).mean(dims).abs().max() < 1e-5
    assert torch.allclose(layer.running_mean.flatten(), x.mean(dims), atol=1e-5)
    layer.eval()
    y = torch.randn(shape)
    assert torch.allclose(layer(y) - y, -layer.running_mean.reshape(1, 3, *[1] * (len(shape) - 2)), atol=1e-6)
    assert torch.equal(layer(y)[:1], layer(y[:1]))


def test_batch_centering_averages_first_and_then_forgets():
    layer = BatchCentering(1, momentum=0.25)
    values = [1.0, 2.0, 3.0, 6.0, 10.0, 10.0]
    expected = 0.0
    for i, value in enumerate(values):
        layer(torch.full((2, 1, 2, 2), value))
        expected += max(0.25, 1 / (i + 1)) * (value - expected)
        assert layer.running_mean.item() == pytest.approx(expected, rel=1e-6)


def test_batch_centering_buffers_have_a_fixed_shape():
    fresh, used = BatchCentering(3), BatchCentering(3)
    shapes = {k: v.shape for k, v in fresh.state_dict().items()}
    used(torch.randn(2, 3, 4, 4))
    assert {k: v.shape for k, v in used.state_dict().items()} == shapes
    fresh.load_state_dict(used.state_dict())
    assert torch.equal(fresh.running_mean, used.running_mean)


def test_batch_centering_gradient_flows_through_the_mean():
    x = torch.randn(4, 2, 3, 3, requires_grad=True)
    BatchCentering(2)(x).square().sum().backward()
    assert x.grad.mean((0, 2, 3)).abs().max() < 1e-6


def test_training_mode_is_refused_by_the_engine():
    with pytest.raises(onelip.core.errors.TrainModeError):
        onelip.lipschitz(nn.Sequential(BatchCentering(3)).train(), (4, 4))


def test_input_normalization_bound_is_one_over_the_smallest_deviation():
    layer = InputNormalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert bound(layer, channels=3) == pytest.approx(1 / 0.224, rel=1e-6)
    assert bound(layer, channels=3) >= 1 / float(layer.std.min())
    assert torch.equal(InputNormalization(0.0, 1.0)(torch.ones(1, 3, 2, 2)), torch.ones(1, 3, 2, 2))


# ---- structures -----------------------------------------------------------------------------------------------


class Tripling(nn.Module):
    def forward(self, x):
        return 3.0 * x


@pytest.mark.parametrize(
    ("layer", "constant"),
    [
        (ConvexResidual(nn.Identity(), share=0.3), 1.0),
        (ConvexResidual(Tripling(), share=0.25), 0.25 + 0.75 * 3),
        (PrescaledResidual(nn.Identity(), gain=-0.7), 1.0),
        (PrescaledResidual(Tripling(), gain=2.0), 7 / 3),
        (ConcatResidual(nn.Identity()), 1.0),
        (ConcatResidual(Tripling()), 3.0),
        (ConcatResidual(nn.Sequential(OrthogonalConv2d(2, 2, 3))), 1.0),
    ],
)
def test_residual_constants(layer, constant):
    assert bound(layer) == pytest.approx(constant, rel=1e-5)
    exact = fold(layer).double()  # sigmoid and quotient are rounded anew
    assert singular_values(exact, (4, 6, 6)).max() <= bound(exact)


def test_concatenation_and_split():
    class Branches(nn.Module):
        def __init__(self, scaled):
            super().__init__()
            self.concat = Concat(scaled=scaled)

        def forward(self, x):
            return self.concat(x, 2 * x)

    assert bound(Branches(True)) == pytest.approx(math.sqrt((1 + 4) / 2), rel=1e-6)
    assert bound(Branches(False)) == pytest.approx(math.sqrt(5), rel=1e-6)

    class Pieces(nn.Module):
        def __init__(self):
            super().__init__()
            self.split, self.merge = Split((1, 3)), Merge()

        def forward(self, x):
            first, second = self.split(x)
            return self.merge(2 * first, second)

    assert bound(Pieces()) == pytest.approx(2.0, rel=1e-6)
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(Merge()(*Split((1, 3))(x)), x)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: MaxMin()(torch.zeros(1, 3)), "MaxMin needs pairs of channels.*3 channels"),
        (lambda: GroupSort(2)(torch.zeros(1, 3)), "do not divide into groups to sort"),
        (lambda: GroupSort(1), "group_size is not usable"),
        (lambda: Householder(3), "Householder needs pairs"),
        (lambda: Householder(4)(torch.zeros(1, 6)), "channels differ"),
        (lambda: BatchCentering(3, momentum=0.0), "momentum is not usable"),
        (lambda: InputNormalization(0.5, 0.0), "std > 0"),
        (lambda: InputNormalization([0.5, 0.5], [1.0, 1.0, 1.0]), "differ in length"),
        (lambda: InputNormalization(float("nan"), 1.0), "finite values"),
        (lambda: LayerCentering()(torch.zeros(2, 3)), "needs pixels"),
        (lambda: ScaledAvgPool2d(0), "kernel_size is not usable"),
        (lambda: Split(()), "sizes of a split"),
        (lambda: ConvexResidual(nn.Identity(), share=1.0), r"\(0, 1\)"),
        (lambda: PrescaledResidual(nn.Identity(), gain=math.inf), "scale is not usable"),
        (lambda: Resample(1), "scale is not usable"),
        (lambda: Resample(2, mode="bicubic"), "mode is unknown"),
    ],
)
def test_errors(make, text):
    with pytest.raises(InputError, match=text):
        make()
