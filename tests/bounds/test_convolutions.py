"""Convolutions against the singular values, row sums and column sums of their dense matrices."""

import math

import numpy as np
import pytest
import torch
from bound_oracles import (
    NORMS,
    check_convs,
    check_wide_kernels,
    conv_bound,
    dense_norm,
    fill,
    matrix,
    near_orthogonal,
    polyphase_by_hand,
    sound,
    worst_polynomials,
)  # fmt: skip
from torch import nn

import onelip
from onelip.bounds import conv_norm, linear_norm
from onelip.bounds.convolution import polyphase
from onelip.core.errors import InputError, NonFiniteError, PrecisionError


@pytest.mark.parametrize("seed", range(9))
def test_random_convolutions(seed):
    ratios = check_convs(100 + seed, 300)
    assert np.median(ratios) < 1.35  # small maps make the infinite grid pessimistic, paddings repeat pixels


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_many_random_convolutions(seed):
    check_convs(1000 + seed, 500)


def ratios_of(make, shape, count, seed=0):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(count):
        layer = make().double().eval()
        fill(layer.weight, ("gaussian", "positive", "orthogonal")[i % 3], draw)
        truth = dense_norm(matrix(layer, shape), 2)
        bound = conv_bound(layer, shape, 2.0)
        assert sound(bound, truth)
        found.append(bound / truth)
    return found


TIGHT = {
    "larger maps, zeros": (lambda: nn.Conv2d(1, 2, 3, padding=1), (1, 16, 16), 1.06),
    "signals": (lambda: nn.Conv1d(3, 2, 3, padding=1), (3, 80), 1.02),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 9, 9), 1.04),
    "circular, strided": (lambda: nn.Conv2d(2, 3, 3, 2, 1, padding_mode="circular"), (2, 8, 8), 1.06),
    "strided": (lambda: nn.Conv1d(2, 5, 5, stride=3, padding=2), (2, 90), 1.02),
    "patches": (lambda: nn.Conv2d(3, 5, 2, stride=2), (3, 4, 4), 1 + 1e-8),
    "pointwise": (lambda: nn.Conv2d(4, 5, 1), (4, 2, 2), 1 + 1e-8),
    "transposed patches": (lambda: nn.ConvTranspose2d(3, 5, 3, stride=3), (3, 3, 3), 1 + 1e-8),
    "dilated": (lambda: nn.Conv1d(2, 3, 3, padding=3, dilation=3), (2, 90), 1.03),
    "groups": (lambda: nn.Conv1d(4, 6, 3, padding=1, groups=2), (4, 60), 1.03),
}


@pytest.mark.parametrize("name", TIGHT)
def test_bounds_are_tight(name):
    make, shape, limit = TIGHT[name]
    assert np.median(ratios_of(make, shape, 12)) < limit


def test_sums_are_exact_away_from_borders():
    draw = np.random.default_rng(3)
    for stride, dilation, groups in ((1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 2, 1), (4, 2, 1)):
        layer = nn.Conv1d(4, 4, 3, stride=stride, dilation=dilation, groups=groups).double()
        fill(layer.weight, "gaussian", draw)
        m = matrix(layer, (4, 40))
        for p in (1.0, math.inf):
            assert conv_bound(layer, (4, 40), p) == pytest.approx(dense_norm(m, p), rel=1e-8)


def test_grid_between_the_points():
    worst_polynomials()


def test_residual_branch():
    near_orthogonal()


def test_wide_kernels():
    check_wide_kernels()


def test_polyphase_is_a_permutation_of_phases():
    weight = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    ours = polyphase(weight[None], (2, 2), (1, 1))[0]
    by_hand = polyphase_by_hand(weight, 2)
    assert ours.shape == by_hand.shape
    spectra = [torch.linalg.svdvals(torch.fft.fft2(w, s=(8, 8)).permute(2, 3, 0, 1)) for w in (ours, by_hand)]
    assert torch.allclose(*spectra)


@pytest.mark.parametrize(("scale", "limit"), [(1e-170, 1e-9), (1e150, 1e-9), (1e-40, 1e-9)])
def test_extreme_scales(scale, limit):
    weight = scale * torch.randn(3, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = conv_norm(weight / scale)
    assert conv_norm(weight) == pytest.approx(scale * reference, rel=limit)
    assert linear_norm(weight.flatten(1)) == pytest.approx(
        scale * linear_norm(weight.flatten(1) / scale), rel=limit
    )


@pytest.mark.parametrize("p", NORMS)
def test_matrices(p):
    draw = np.random.default_rng(0)
    for rows, columns in [(1, 5), (5, 1), (3, 3), (2, 9), (40, 7), (7, 40)]:
        m = torch.from_numpy(draw.standard_normal((rows, columns)))
        assert sound(linear_norm(m, p), dense_norm(m, p))
        assert linear_norm(m, p) == pytest.approx(dense_norm(m, p), rel=1e-8)


def test_empty_zero_and_bad_weights():
    assert conv_norm(torch.zeros(2, 3, 3, 3)) == 0
    assert linear_norm(torch.zeros(0, 3)) == 0
    with pytest.raises(NonFiniteError, match="not finite"):
        conv_norm(torch.full((1, 1, 3), float("nan")))
    with pytest.raises(PrecisionError, match="float32 or float64"):
        linear_norm(torch.eye(2, dtype=torch.bfloat16))
    with pytest.raises(InputError, match="supported norm"):
        linear_norm(torch.eye(2), p=3)
    with pytest.raises(InputError, match="per axis"):
        conv_norm(torch.ones(1, 1, 3, 3), stride=(1, 1, 1))


def test_a_weight_changed_in_place_changes_the_bound():
    layer = nn.Conv2d(2, 2, 3, padding=1).eval()
    before = onelip.lipschitz(layer, (2, 5, 5)).value
    with torch.no_grad():
        layer.weight.mul_(2)
    assert onelip.lipschitz(layer, (2, 5, 5)).value == pytest.approx(2 * before, rel=1e-9)
    with torch.no_grad():
        layer.weight.view(-1)[7] += 5
    assert onelip.lipschitz(layer, (2, 5, 5)).value > 2 * before


def test_norms_remembered_for_one_geometry_are_not_those_of_another():
    weight = torch.ones(2, 2, 4)
    assert conv_norm(weight, stride=1) > conv_norm(weight, stride=2) > conv_norm(weight, stride=4)
    assert conv_norm(weight, stride=2) < conv_norm(weight, stride=2, dilation=2)
    assert conv_norm(weight, p=1) != conv_norm(weight, p=1, stride=2)
    shaped = torch.arange(8.0)
    assert linear_norm(shaped.reshape(2, 4)) != linear_norm(shaped.reshape(1, 8))
    strided = torch.randn(3, 3)
    assert linear_norm(strided.T, 1) == pytest.approx(linear_norm(strided, math.inf))
