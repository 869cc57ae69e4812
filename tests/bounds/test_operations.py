# ruff: noqa: E501
"""Rules of single layers and operations against dense matrices, fine grids and known constants."""

import math

import bound_oracles as oracles
import pytest
import torch
import torch.nn.functional as F
from bound_oracles import NORMS, Apply, check_layer
from torch import nn

import onelip
from onelip.testing import check_rule


def test_average_pools():
    oracles.check_pools()


def test_resizing():
    oracles.check_resizes()


def test_max_pools():
    oracles.check_max_pools()


def test_slopes():
    oracles.check_slopes()


def test_softmax():
    oracles.check_softmax()


def test_reductions_and_rearrangements():
    oracles.check_norm_layers()


def test_structure():
    oracles.check_structure()


@pytest.mark.parametrize(("out", "windows"), [((3, 2), 4), ((5, 7), 1), ((2, 3), 4), ((4, 1), 2)])
def test_adaptive_max_pool(out, windows):
    pool = nn.AdaptiveMaxPool2d(out).eval()
    assert onelip.lipschitz(pool, (1, 5, 7)).value == pytest.approx(math.sqrt(windows))
    check_rule(pool, (2, 5, 7))


@pytest.mark.parametrize("p", NORMS)
def test_numbers_are_not_rounded_down(p):
    """0.3 in float32 is smaller than 0.3: the constant must cover both."""
    for c in (0.3, 0.7, 1.1, 1 / 3, 16777217.0):
        for function in (
            lambda x, c=c: x * c,
            lambda x, c=c: x / (1 / c),
            lambda x, c=c: torch.lerp(x * 0, x, c),
        ):
            module = Apply(function).double().eval()
            assert onelip.lipschitz(module, (3,), p=p).value >= c * (1 - 1e-15)


NONLINEAR = {
    "maximum of branches": lambda x: torch.maximum(2 * x, -x.flip(1)),
    "torch.max of two": lambda x: torch.max(x[:, :2], x[:, 2:]),
    "torch.min with a constant": lambda x: torch.min(3 * x, torch.zeros(1)),
    "values of max": lambda x: x.max(dim=1).values,
    "values of sort": lambda x: torch.sort(x, dim=1)[0],
    "topk": lambda x: torch.topk(x, 2, dim=1).values,
    "amax": lambda x: x.amax(dim=(2, 3)),
    "norm": lambda x: torch.norm(x, dim=1),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=(1, 2)),
    "unfolded": lambda x: x.unfold(2, 3, 1).relu(),
    "windows": lambda x: F.unfold(x, 2, dilation=2),
    "clamped and broadcast": lambda x: x[:, :1].clamp(min=-torch.arange(3.0).reshape(3, 1, 1)),
    "softmax of a scale": lambda x: torch.softmax(7 * x, dim=1),
    "in place": lambda x: (x * 2).relu_().add_(1).mul_(3),
    "max pool": lambda x: F.max_pool2d(x, 3, 1),
    "glued": lambda x: torch.cat([x[..., ::2].relu(), x[..., 1::2].abs()], dim=3),
    "where": lambda x: torch.where(torch.arange(4) > 1, x.sin(), 2 * x),
    "hard": lambda x: F.hardswish(x) - F.hardtanh(x) + F.softshrink(x),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_code_is_not_falsified(name):
    module = Apply(NONLINEAR[name]).double().eval()
    for p in (2.0,) if "norm" in name else NORMS:
        check_rule(module, (4, 4, 4), p=p, trials=6)


TORCH_LAYERS = [
    (nn.PReLU(4), (4, 3, 3)), (nn.BatchNorm1d(5), (5,)), (nn.BatchNorm2d(4, affine=False), (4, 3, 3)),
    (nn.ReflectionPad2d((2, 1, 0, 2)), (2, 4, 4)), (nn.ReplicationPad2d(2), (2, 3, 3)), (nn.CircularPad2d(3), (2, 4, 4)),
    (nn.ZeroPad2d(2), (2, 3, 3)), (nn.ConstantPad2d(1, 4.0), (2, 3, 3)), (nn.PixelShuffle(2), (4, 3, 3)),
    (nn.PixelUnshuffle(2), (2, 4, 4)), (nn.ChannelShuffle(2), (4, 3, 3)), (nn.Flatten(), (4, 3, 3)),
    (nn.Unflatten(1, (2, 2)), (4, 3, 3)), (nn.Unfold(3, stride=2, padding=1), (2, 7, 7)), (nn.Identity(), (3,)),
    (nn.Dropout(), (3,)), (nn.Softmax2d(), (4, 2, 2)), (nn.LogSoftmax(-1), (4, 2, 3)), (nn.Linear(3, 5), (4, 3)),
    (nn.MaxPool2d(2, ceil_mode=True), (2, 5, 5)), (nn.MaxPool3d(2, 1), (1, 3, 4, 3)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2, dilation=2), (4, 4, 4)),
    (nn.Conv2d(4, 4, (1, 4), padding="same", padding_mode="reflect", groups=4), (4, 5, 6)),
    (nn.UpsamplingBilinear2d(scale_factor=2), (2, 3, 4)), (nn.UpsamplingNearest2d(size=(5, 7)), (2, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape"), TORCH_LAYERS, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("p", NORMS)
def test_torch_layers_are_not_falsified(layer, shape, p):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    check_rule(layer.eval(), shape, p=p, trials=5)


def test_reparametrised_weights_are_the_effective_ones():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)).eval()
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(50)
    truth = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    assert onelip.lipschitz(layer, (6,)).value == pytest.approx(truth, rel=1e-6)
    check_layer(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), (2, 4, 4), 2.0)
