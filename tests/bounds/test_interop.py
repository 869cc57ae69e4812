"""Layers of Orthogonium and torchlip: bounded from their effective weights, wherever they exceed what they promise."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from bound_oracles import NORMS, dense_norm, fill, matrix
from torch import nn

import onelip
from onelip.core.errors import UnknownLayerError
from onelip.testing import check_rule, lower_bound

warnings.filterwarnings("ignore", category=SyntaxWarning)
ortho = pytest.importorskip("orthogonium.layers")
tl = pytest.importorskip("deel.torchlip")
from deel.torchlip.functional import SymmetricPad  # noqa: E402
from orthogonium.layers import residual  # noqa: E402
from orthogonium.layers.conv.adaptiveSOC import AdaptiveSOCConv2d  # noqa: E402
from orthogonium.layers.conv.AOC.bcop_x_rko_conv import BcopRkoConv2d  # noqa: E402
from orthogonium.layers.conv.AOC.rko_conv import RKOConv2d  # noqa: E402
from orthogonium.layers.conv.AOL.aol import AOLConv2D, AOLConvTranspose2D  # noqa: E402
from orthogonium.layers.conv.SLL import sll_layer as sll  # noqa: E402
from orthogonium.layers.custom_activations import SoftHuber  # noqa: E402

A, T = ortho.AdaptiveOrthoConv2d, ortho.AdaptiveOrthoConvTranspose2d
S = (4, 6, 6)


def branch(c):
    return nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU())


# name -> (make, size, value of the bound or None)
LAYERS = {
    "rko": (lambda: A(4, 8, 2, stride=2, padding=0), S, 1),
    "fast block": (lambda: A(4, 8, 3, padding=1, padding_mode="zeros"), S, 1),
    "fast block, circular": (lambda: A(4, 4, 3, padding=1), S, 1),
    "two factors": (lambda: A(4, 8, 3, stride=2, padding=1), S, 1),
    "two factors, groups": (lambda: A(4, 8, 3, stride=2, padding=1, groups=2, padding_mode="zeros"), S, 1),
    "transposed": (lambda: T(4, 8, 3, stride=2, padding=1), S, 1),
    "transposed rko": (lambda: T(8, 2, 2, stride=2), (8, 4, 4), 1),
    "aol": (lambda: AOLConv2D(4, 8, 3, padding=1), S, None),
    "aol transposed": (lambda: AOLConvTranspose2D(4, 8, 3, padding=1), S, None),
    "soc": (lambda: AdaptiveSOCConv2d(4, 4, 3, padding=3, padding_mode="circular"), S, None),
    "soc, strided": (lambda: AdaptiveSOCConv2d(4, 8, 3, stride=2, padding=1, padding_mode="zeros"), S, None),
    "linear": (lambda: ortho.OrthoLinear(5, 7), (5,), 1),
    "unit rows": (lambda: ortho.UnitNormLinear(10, 64), (10,), None),
    "max min": (ortho.MaxMin, S, 1),
    "abs": (ortho.Abs, S, 1),
    "soft huber": (lambda: SoftHuber(0.05), S, 1),
    "householder": (lambda: ortho.HouseHolder(4), S, math.sqrt(0.5)),
    "householder 2": (lambda: ortho.HouseHolder_Order_2(4), S, math.sqrt(0.5)),
    "batch centering": (lambda: ortho.BatchCentering2D(4), S, 1),
    "layer centering": (lambda: ortho.LayerCentering2D(4), S, 1),
    "shuffle": (lambda: ortho.ChannelShuffle(2, 2), S, 1),
    "concat residual": (lambda: residual.ConcatResidual(branch(2)), S, None),
    "additive residual": (lambda: residual.AdditiveResidual(branch(4)), S, None),
    "prescaled residual": (lambda: residual.PrescaledAdditiveResidual(branch(4), -2.0), S, None),
    "l2 residual": (lambda: residual.L2NormResidual(branch(4)), S, None),
    "sll": (lambda: sll.SDPBasedLipschitzResBlock(4, 2), S, 1),
    "sll dense": (lambda: sll.SDPBasedLipschitzDense(5, 5, 7), (5,), 1),
    "sll x aoc": (lambda: sll.SLLxAOCLipschitzResBlock(4, 8, 2), S, 1),
    "sll x aoc 5/3": (lambda: sll.SLLxAOCLipschitzResBlock(4, 8, 2, kernel_size=5, stride=3), (4, 9, 9), 1),
    "sll x aoc groups": (lambda: sll.SLLxAOCLipschitzResBlock(4, 8, 2, groups=2), S, 1),
    "aoc residual": (lambda: sll.AOCLipschitzResBlock(4, 2, 3), S, 1),
    "spectral": (lambda: tl.SpectralConv2d(4, 5, 3, padding=1), S, None),
    "spectral symmetric": (lambda: tl.SpectralConv2d(4, 5, 5, padding=2, padding_mode="symmetric"), S, None),
    "spectral symmetric 1": (
        lambda: tl.SpectralConv2d(4, 5, 3, padding=1, padding_mode="symmetric"),
        S,
        None,
    ),
    "spectral circular": (lambda: tl.SpectralConv2d(4, 5, 3, padding=1, padding_mode="circular"), S, None),
    "spectral transposed": (lambda: tl.SpectralConvTranspose2d(4, 5, 2, stride=2), S, 1),
    "spectral linear": (lambda: tl.SpectralLinear(5, 7), (5,), 1),
    "frobenius conv": (lambda: tl.FrobeniusConv2d(4, 1, 3, padding=1), S, None),
    "frobenius linear": (lambda: tl.FrobeniusLinear(5, 7), (5,), None),
    "average": (lambda: tl.ScaledAvgPool2d(2), S, 1),
    "average, ceil": (lambda: tl.ScaledAvgPool2d(2, ceil_mode=True), (2, 7, 7), 2),
    "average, ceil 3": (lambda: tl.ScaledAvgPool2d(3, ceil_mode=True), (2, 7, 7), 3),
    "average, divisor": (lambda: tl.ScaledAvgPool2d(2, divisor_override=1), S, 4),
    "average, scaled": (lambda: tl.ScaledAvgPool2d((2, 3), k_coef_lip=-3.0), S, 3),
    "global average": (lambda: tl.ScaledAdaptiveAvgPool2d((1, 1)), (4, 3, 5), 1),
    "l2 pool": (lambda: tl.ScaledL2NormPool2d(2), S, 1),
    "global l2 pool": (tl.ScaledAdaptativeL2NormPool2d, S, 1),
    "down": (lambda: tl.InvertibleDownSampling(2, k_coef_lip=7.0), S, 1),
    "up": (lambda: tl.InvertibleUpSampling(2), S, 1),
    "group sort": (lambda: tl.GroupSort(4), S, 1),
    "group sort 2": (lambda: tl.GroupSort2(k_coef_lip=2.0), S, 2),
    "full sort": (tl.FullSort, (6,), 1),
    "crelu": (tl.MaxMin, S, 1),
    "lprelu": (lambda: tl.LPReLU(init=-0.9, k_coef_lip=0.5), S, 1),
    "lprelu, steep": (lambda: tl.LPReLU(init=-9.0, k_coef_lip=2.5), S, 2.5),
    "torchlip householder": (lambda: tl.HouseHolder(4, theta_initializer="normal"), S, 1),
    "torchlip batch centering": (lambda: tl.BatchCentering(4), S, 1),
    "torchlip layer centering": (lambda: tl.LayerCentering(4), S, 1),
    "batch lip norm": (lambda: tl.BatchLipNorm(4), S, None),
    "scale and bias": (lambda: tl.ScaleBiasLayer(-1.7, 4), S, 1.7),
    "scale and bias of one channel": (lambda: tl.ScaleBiasLayer(1.0, 4), (1, 3, 3), 2),
    "symmetric pad": (lambda: SymmetricPad(2), S, 2),
    "symmetric pad, odd": (lambda: SymmetricPad((2, 0)), S, 2),
}


def make(name, scale=0.05):
    torch.manual_seed(3)
    build, size, value = LAYERS[name]
    layer = build()
    for _ in range(3):
        layer(scale * torch.randn(3, *size))
    return layer.eval(), size, value


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    layer, size, value = make(name)
    bound = onelip.lipschitz(layer, size).value
    check_rule(layer, size, trials=6)
    if value is not None:
        assert bound == pytest.approx(value, rel=2e-5)
    x = 30 * torch.randn(size)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0].flatten(), x)
    assert bound >= dense_norm(jacobian.reshape(-1, x.numel()).double(), 2) * (1 - 1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "rko",
        "transposed",
        "max min",
        "householder",
        "layer centering",
        "average, ceil",
        "l2 pool",
        "crelu",
        "symmetric pad",
        "torchlip householder",
        "torchlip layer centering",
        "lprelu",
        "scale and bias",
        "l2 residual",
    ],
)
@pytest.mark.parametrize("p", [1.0, math.inf])
def test_other_norms(name, p):
    layer, size, _ = make(name)
    check_rule(layer, size, p=p, trials=6)


def test_rules_of_one_norm_say_so():
    with pytest.raises(UnknownLayerError, match="does not hold for this norm"):
        onelip.lipschitz(make("sll")[0], S, p=1)


# Configurations that are not 1-Lipschitz, and how large they really are at least
FAILING = {
    "circular, stride, odd side": (
        lambda: A(2, 8, 3, stride=2, padding=1, padding_mode="circular"),
        (2, 9, 9),
        1.9,
    ),
    "the same, 3 to 8": (lambda: A(3, 8, 3, stride=2, padding=1, padding_mode="circular"), (3, 9, 9), 1.5),
    "circular, pointwise, padded": (lambda: A(2, 2, 1, padding=1, padding_mode="circular"), (2, 4, 4), 1.9),
    "circular, padding 2": (lambda: A(4, 4, 3, padding=2, padding_mode="circular"), (4, 5, 5), 1.5),
    "circular, patches, padded": (
        lambda: A(2, 8, 2, stride=2, padding=1, padding_mode="circular"),
        (2, 4, 4),
        1.2,
    ),
    "reflect": (lambda: A(4, 4, 3, padding=1, padding_mode="reflect"), (4, 5, 5), 1.2),
    "replicate": (lambda: A(4, 4, 3, padding=2, padding_mode="replicate"), (4, 5, 5), 1.5),
    "stride 4, dilation 2": (lambda: A(2, 32, 4, stride=4, dilation=2, padding=0), (2, 15, 15), 1.3),
    "rko, stride 4, dilation 2": (
        lambda: RKOConv2d(4, 4, 4, stride=4, dilation=2, padding=0),
        (4, 15, 15),
        1.1,
    ),
    "two factors, dilation 2": (
        lambda: BcopRkoConv2d(8, 4, 3, stride=2, dilation=2, padding=0),
        (8, 7, 7),
        1.1,
    ),
    "transposed, dilation 2": (lambda: T(4, 16, 2, stride=2, dilation=2), (4, 4, 4), 1.2),
    "spectral, stride 2, dilation 2": (
        lambda: tl.SpectralConv2d(4, 5, 2, stride=2, dilation=2),
        (4, 9, 9),
        1.3,
    ),
    "spectral, stride 4, dilation 2": (
        lambda: tl.SpectralConv2d(4, 5, 4, stride=4, dilation=2),
        (4, 11, 11),
        1.1,
    ),
    "average, ceil": (lambda: tl.ScaledAvgPool2d(2, ceil_mode=True), (1, 7, 7), 1.99),
    "average, divisor": (lambda: tl.ScaledAvgPool2d(2, divisor_override=1), (1, 4, 4), 3.99),
    "ignored coefficient": (
        lambda: tl.Sequential(
            tl.SpectralLinear(5, 8, k_coef_lip=5.0), tl.SpectralLinear(8, 8), k_coef_lip=1.0
        ),
        (5,),
        4.9,
    ),
    "unit rows": (lambda: ortho.UnitNormLinear(10, 64), (10,), 2.0),
}


@pytest.mark.parametrize("name", FAILING)
def test_configurations_that_break_their_promise_are_caught(name):
    torch.manual_seed(0)
    build, size, least = FAILING[name]
    layer = build()
    layer(torch.randn(2, *size))
    layer.eval()
    truth = float(torch.linalg.svdvals(matrix(lambda x: layer(x.float()).double(), size))[0])
    assert truth > least
    assert onelip.lipschitz(layer, size).value >= truth * (1 - 1e-5)


def test_no_bjorck():
    """eps_bjorck=None: one power step under-estimates the norm."""
    torch.manual_seed(0)
    layer = tl.SpectralLinear(64, 64, eps_bjorck=None)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.dim() == 2:
                parameter.normal_()
    layer.eval()
    truth = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    assert truth > 1.05
    assert onelip.lipschitz(layer, (64,)).value >= truth * (1 - 1e-9)


def test_reflecting_box_filter():
    layer = tl.SpectralConv2d(1, 1, 3, padding=1, padding_mode="reflect")
    layer = layer.vanilla_export().eval()
    fill(layer.weight.data, "constant", np.random.default_rng(0))
    layer.weight.data.div_(layer.weight.data.sum())
    truth = float(torch.linalg.svdvals(matrix(lambda x: layer(x.float()).double(), (1, 9, 9)))[0])
    assert truth > 1.03
    assert onelip.lipschitz(layer, (1, 9, 9)).value >= truth


REFUSED = {
    "l2 pool, ceil": (lambda: tl.ScaledL2NormPool2d(2, ceil_mode=True), (2, 7, 7), "partial windows"),
    "householder of vectors": (lambda: ortho.HouseHolder(4), (4,), "cannot run|batch|keep the images"),
    "misaligned": (
        lambda: sll.SLLxAOCLipschitzResBlock(4, 50, 2, kernel_size=7, stride=5),
        (4, 10, 10),
        "paddings|cannot run",
    ),
    "sorting the batch": (lambda: ortho.MaxMin(axis=0), S, "batch"),
    "centering the batch": (lambda: tl.LayerCentering(4, dim=(0, 2)), S, "batch"),
    "wrong angles": (lambda: tl.HouseHolder(8), (2, 3, 3), "angles"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    build, size, text = REFUSED[name]
    with pytest.raises(UnknownLayerError, match=text):
        onelip.lipschitz(build().eval(), size)


def test_lip_residual_of_two_branches():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mix = nn.Conv2d(4, 4, 3, padding=1), tl.LipResidual()

        def forward(self, x):
            return self.mix(x, self.conv(x))

    block = Block().eval()
    block.mix.alpha.data.fill_(-1.0)
    inner = onelip.lipschitz(block.conv, S).value
    s = 1 / (1 + math.e)
    assert onelip.lipschitz(block, S).value == pytest.approx(s + (1 - s) * inner, rel=1e-6)
    check_rule(block, S)


def test_batch_lip_norm_can_exceed_one():
    layer, size, _ = make("batch lip norm")
    assert onelip.lipschitz(layer, size).value > 10  # it was warmed up on small values
    assert lower_bound(layer, size) == pytest.approx(onelip.lipschitz(layer, size).value, rel=1e-4)


def test_a_whole_network_of_each():
    torch.manual_seed(0)
    nets = [
        nn.Sequential(
            A(3, 8, 3, padding=1, padding_mode="zeros"),
            ortho.MaxMin(),
            A(8, 16, 2, stride=2, padding=0),
            ortho.BatchCentering2D(16),
            nn.Flatten(),
            ortho.OrthoLinear(256, 4),
        ),
        tl.Sequential(
            tl.SpectralConv2d(3, 8, 3, padding=1),
            tl.GroupSort2(),
            tl.BatchCentering(8),
            tl.ScaledL2NormPool2d(2),
            nn.Flatten(),
            tl.SpectralLinear(128, 4),
        ),
    ]
    for net in nets:
        net(torch.randn(4, 3, 8, 8))
        net.eval()
        bound = onelip.lipschitz(net, (8, 8)).value
        assert lower_bound(net, (8, 8), iterations=8) <= bound <= 1.0001


def test_nothing_is_imported_unasked():
    code = (
        "import sys, torch, onelip; onelip.lipschitz(torch.nn.ReLU().eval(), (3, 4, 4));"
        "assert not any(m.startswith(('orthogonium', 'deel')) for m in sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_all_norms_of_torchlip_pools():
    for p in NORMS:
        check_rule(tl.ScaledL2NormPool2d((2, 3)).eval(), (2, 4, 6), p=p)
        check_rule(tl.ScaledAdaptativeL2NormPool2d().eval(), (2, 4, 6), p=p)
