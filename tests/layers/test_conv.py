from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from dense import singular_values
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import onelip
from onelip.core.errors import InputError
from onelip.layers import (
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    Reparametrized,
    SpectralConv2d,
    SpectralConvTranspose2d,
    SpectralLinear,
    UnitNormLinear,
    fold,
    retract_,
    rms_gain,
)

ROUNDING = 2e-6


def drift(layer: nn.Module, amount: float = 0.1) -> nn.Module:
    """Move the free matrices off the manifold, as optimiser steps do."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2.5).add_(amount * torch.randn_like(parameter))
    return layer.eval()


geometries = st.fixed_dictionaries(
    {
        "stride": st.sampled_from([1, 1, 2, 3]),
        "extra": st.sampled_from([0, 1, 2, 3, 4]),
        "dilation": st.sampled_from([1, 1, 2, 3]),
        "groups": st.sampled_from([1, 1, 2]),
        "ins": st.integers(1, 4),
        "outs": st.integers(1, 6),
        "seed": st.integers(0, 999),
    }
)


def build(kind, g, **options):
    kernel = g["stride"] + g["extra"]
    assume(kernel % 2 == 1 or g["extra"] == 0)
    assume(math.gcd(g["stride"], g["dilation"]) == 1)
    torch.manual_seed(g["seed"])
    try:
        layer = kind(
            g["ins"] * g["groups"],
            g["outs"] * g["groups"],
            kernel,
            stride=g["stride"],
            dilation=g["dilation"],
            groups=g["groups"],
            **options,
        )
    except InputError as error:
        if "too few channels per group" not in str(error):
            raise
        assume(False)
    return drift(layer)


@settings(max_examples=40, deadline=None)
@given(geometries)
def test_zero_padding_is_at_most_one(g):
    layer = build(OrthogonalConv2d, g)
    shape = (layer.in_channels, 7, 6)
    values = singular_values(fold(layer).double(), shape)
    assert values.max() <= 1 + ROUNDING
    assert values.max() <= onelip.lipschitz(layer, shape[1:], in_channels=shape[0]).value <= 1 + 2e-5


@settings(max_examples=40, deadline=None)
@given(geometries)
def test_circular_padding_is_orthogonal(g):
    layer = build(OrthogonalConv2d, g, padding_mode="circular")
    assume(max(layer.padding) <= 6)
    values = singular_values(fold(layer).double(), (layer.in_channels, 6, 6))
    # without padding (kernel = stride) a dilated kernel does not wrap: the border is lost
    full = layer.kernel_size != layer.stride or layer.dilation == (1, 1)
    assert values.max() <= 1 + ROUNDING
    assert not full or values.min() >= 1 - ROUNDING


@settings(max_examples=40, deadline=None)
@given(geometries)
def test_transposed_is_at_most_one_and_multiplies_the_size(g):
    layer = build(OrthogonalConvTranspose2d, g)
    shape = (layer.in_channels, 4, 3)
    folded = fold(layer).double()
    values = singular_values(folded, shape)
    assert values.max() <= 1 + ROUNDING
    assert values.max() <= onelip.lipschitz(layer, shape[1:], in_channels=shape[0]).value <= 1 + 2e-5
    s = g["stride"]
    if s > 1 or g["dilation"] == 1:
        out = folded(torch.zeros(1, *shape, dtype=torch.float64))
        assert out.shape == (1, layer.out_channels, 4 * s, 3 * s)


@pytest.mark.parametrize("channels", [(8, 4), (4, 1), (3, 5)])
def test_transposed_kernel_equal_to_stride_has_all_singular_values_one(channels):
    layer = drift(OrthogonalConvTranspose2d(*channels))
    values = singular_values(fold(layer).double(), (channels[0], 3, 5))
    top = values[: min(channels[0], 4 * channels[1]) * 15]
    assert (top - 1).abs().max() <= ROUNDING


@settings(max_examples=40, deadline=None)
@given(geometries, st.booleans())
def test_spectral_is_at_most_one(g, transposed):
    layer = build(SpectralConvTranspose2d if transposed else SpectralConv2d, g)
    values = singular_values(fold(layer).double(), (layer.in_channels, 6, 5))
    assert values.max() <= 1 + ROUNDING
    bound = onelip.lipschitz(layer, (6, 5), in_channels=layer.in_channels).value
    assert values.max() <= bound <= 1 + 2e-5


def test_spectral_equals_orthogonal_when_kernel_is_stride():
    values = singular_values(fold(SpectralConv2d(2, 8, 2, stride=2)).double(), (2, 4, 4))
    assert torch.allclose(values, torch.ones_like(values), atol=ROUNDING)


@pytest.mark.parametrize("kernel", [(1, 3), (5, 3)])
def test_rectangular_kernels(kernel):
    layer = drift(OrthogonalConv2d(3, 4, kernel, padding_mode="circular"))
    assert layer.weight.shape == (4, 3, *kernel)
    values = singular_values(fold(layer).double(), (3, 6, 6))
    assert (values - 1).abs().max() <= ROUNDING


@pytest.mark.parametrize("kind", [OrthogonalLinear, SpectralLinear])
@pytest.mark.parametrize("size", [(3, 7), (7, 3), (5, 5), (1, 4)])
def test_linear_singular_values_are_the_scale(kind, size):
    layer = drift(kind(*size, scale=1.5, bias=False))
    layer.coeff.fill_(1.5)
    assert torch.allclose(torch.linalg.svdvals(layer.weight), torch.full((min(size),), 1.5), atol=1e-5)


def test_unit_norm_rows_and_joint_bound():
    head = drift(UnitNormLinear(10, 64))
    with torch.no_grad():
        rows = head.weight.norm(dim=1)
        joint = torch.linalg.matrix_norm(head.weight.double(), 2)
    assert torch.allclose(rows, torch.ones(64), atol=1e-6)
    bound = onelip.lipschitz(nn.Sequential(nn.Flatten(), head).eval(), (1, 1), in_channels=10).value
    assert joint > 1.5
    assert joint <= bound <= joint * (1 + 1e-6)


def test_scale_multiplies_every_singular_value_and_is_trained_when_asked():
    layer = OrthogonalConv2d(4, 4, 3, padding_mode="circular", scale=3.0, learnable_scale=True)
    layer(torch.randn(1, 4, 6, 6)).square().sum().backward()
    assert layer.coeff.grad is not None
    assert layer.coeff.grad != 0
    with torch.no_grad():
        layer.coeff.fill_(-0.5)
    values = singular_values(fold(layer.eval()).double(), (4, 4, 4))
    assert torch.allclose(values, torch.full_like(values, 0.5), atol=ROUNDING)
    assert "coeff" not in dict(OrthogonalConv2d(4, 4, 3, scale=3.0).named_parameters())


def test_rms_gain_keeps_the_root_mean_square():
    torch.manual_seed(0)
    for layer, size in (
        (OrthogonalConv2d(4, 16, 3, padding_mode="circular", scale=rms_gain(4, 16)), 8),
        (OrthogonalConvTranspose2d(16, 8, scale=rms_gain(16, 8, transposed=True)), 8),
    ):
        x = torch.randn(1, layer.in_channels, size, size)
        y = layer(x)
        assert y.square().mean().sqrt().item() == pytest.approx(x.square().mean().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize(("size", "stride", "expected"), [(8, 1, 8), (9, 2, 5), (8, 2, 4), (7, 3, 3)])
def test_default_padding_gives_the_rounded_up_size(size, stride, expected):
    layer = OrthogonalConv2d(2, 4, 5, stride=stride)
    assert layer(torch.zeros(1, 2, size, size)).shape == (1, 4, expected, expected)


# ---- guards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (
            (4, 4, 4),
            {"stride": 4, "dilation": 2},
            "stride and dilation have a common divisor.*norm reaches 2",
        ),
        ((4, 4, 3), {"padding_mode": "reflect"}, "padding_mode raises the norm.*'reflect'"),
        ((4, 4, 3), {"padding_mode": "replicate"}, "padding_mode raises the norm.*'replicate'"),
        (
            (4, 4, 3),
            {"padding_mode": "circular", "padding": 2},
            r"circular padding differs.*padding=\(1, 1\)",
        ),
        ((4, 4, 3), {"groups": 4}, "too few channels per group.*shifts"),
        ((1, 1, 3), {}, "too few channels per group"),
        ((4, 4, 4), {"stride": 2}, "even kernel.*use kernel_size=5"),
        ((4, 4, 2), {}, "even kernel"),
        ((4, 4, 1), {"stride": 2}, "kernel is smaller than the stride"),
        ((4, 6, 3), {"groups": 4}, "do not divide into groups"),
        ((0, 6, 3), {}, "in_channels is not usable"),
        ((4, 4, 3), {"scale": float("nan")}, "scale is not usable"),
        ((4, 4, 3), {"mode": "cayley"}, "mode is unknown.*'project' or 'retract'"),
        ((4, 4, (3, 3, 3)), {}, "kernel_size is not usable"),
        ((4, 4, 3), {"stride": 0}, "stride is not usable"),
        ((4, 4, 3), {"padding": -1}, "padding is not usable"),
    ],
)
def test_refused_settings(arguments, options, text):
    with pytest.raises(InputError, match=text):
        OrthogonalConv2d(*arguments, **options)


def test_transposed_refuses_circular_padding():
    with pytest.raises(InputError, match="padding_mode of a transposed convolution"):
        OrthogonalConvTranspose2d(4, 4, padding_mode="circular")


def test_circular_padding_checks_the_size_at_run_time():
    layer = OrthogonalConv2d(2, 8, 3, stride=2, padding_mode="circular")
    with pytest.raises(InputError, match=r"stride does not divide.*size \(8, 9\), stride \(2, 2\)"):
        layer(torch.zeros(1, 2, 8, 9))


def forced_norm(layer, shape, **changes):
    """Singular value of the layer's own kernel under a setting that the guards refuse."""
    settings_ = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation} | changes
    mode = settings_.pop("padding_mode", "zeros")
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, bias=False, padding_mode=mode, **settings_
    ).double()
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
    return singular_values(plain, shape).max()


def test_each_refused_setting_really_exceeds_one():
    torch.manual_seed(0)
    one = OrthogonalConv2d(4, 4, 3)
    assert forced_norm(one, (4, 8, 8), padding_mode="reflect") > 1.05
    assert forced_norm(one, (4, 8, 8), padding_mode="replicate") > 1.05
    assert forced_norm(one, (4, 8, 8), padding_mode="circular", padding=3) > 1.2
    assert forced_norm(OrthogonalConv2d(4, 4, 2, stride=2), (4, 9, 9), dilation=2) > 1.2
    assert forced_norm(OrthogonalConv2d(2, 16, 4, stride=4), (2, 16, 16), dilation=2) > 1.2
    odd = OrthogonalConv2d(2, 8, 3, stride=2, padding_mode="circular")
    assert forced_norm(odd, (2, 9, 9), padding_mode="circular") > 1.5
    assert forced_norm(odd, (2, 8, 8), padding_mode="circular") <= 1 + ROUNDING


def test_one_channel_orthogonal_kernels_are_shifts():
    """Why one channel per group is refused: |sum_t w_t e^{iwt}| = 1 at all frequencies leaves a single tap."""
    single = torch.zeros(1, 1, 3, 3)
    single[0, 0, 2, 0] = 1.0
    assert torch.allclose(torch.fft.fft2(single, s=(8, 8)).abs(), torch.ones(8, 8))
    spread = torch.full((1, 1, 3, 3), 1 / 3)
    assert torch.fft.fft2(spread, s=(8, 8)).abs().max() > 2.9


# ---- state ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["in place", "data", "load"])
def test_weight_is_never_stale(write):
    layer = OrthogonalConv2d(4, 4, 3).eval()
    with torch.no_grad():
        before = layer.weight
        assert layer.weight is before  # kept
        other = OrthogonalConv2d(4, 4, 3).eval()
        if write == "in place":
            layer.base.copy_(other.base)
            layer.projectors.copy_(other.projectors)
        elif write == "data":
            layer.base.data.copy_(other.base)
            layer.projectors.data.copy_(other.projectors)
        else:
            layer.load_state_dict(other.state_dict())
        assert torch.equal(layer.weight, other.weight)
        assert not torch.equal(layer.weight, before)


def test_scale_change_is_noticed():
    layer = OrthogonalLinear(4, 4).eval()
    with torch.no_grad():
        before = layer.weight
        layer.coeff.fill_(2.0)
        assert torch.equal(layer.weight, 2 * before)


def test_weight_has_gradient_whenever_gradients_are_enabled():
    layer = OrthogonalConv2d(4, 4, 3).eval()
    with torch.no_grad():
        _ = layer.weight
    assert layer.weight.requires_grad
    layer.requires_grad_(False)
    assert layer.weight is layer.weight


def test_copies_and_state_dict_round_trip(tmp_path):
    layer = OrthogonalConv2d(4, 8, 3, stride=2, bias=True).eval()
    with torch.no_grad():
        expected = layer.weight.clone()
    twin = copy.deepcopy(layer)
    assert twin._kept is None
    torch.save(layer, tmp_path / "layer.pt")
    stored = torch.load(tmp_path / "layer.pt", weights_only=False)
    fresh = OrthogonalConv2d(4, 8, 3, stride=2, bias=True)
    fresh.load_state_dict(layer.state_dict())
    for other in (twin, stored, fresh.eval()):
        with torch.no_grad():
            assert torch.equal(other.weight, expected)


def test_double_precision():
    layer = drift(OrthogonalConv2d(4, 4, 3, padding_mode="circular")).double()
    assert layer.weight.dtype == torch.float64
    values = singular_values(layer, (4, 5, 5))
    assert (values - 1).abs().max() < 1e-13


def test_half_precision_computes_in_single():
    layer = OrthogonalConv2d(4, 4, 3).bfloat16()
    out = layer(torch.zeros(1, 4, 5, 5, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
    with pytest.raises(onelip.core.errors.BoundError):
        onelip.lipschitz(layer.eval(), (5, 5), in_channels=4)


def test_autocast_does_not_touch_the_weight():
    layer = drift(OrthogonalConv2d(8, 8, 3))
    expected = layer.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = layer.weight
        assert layer(torch.randn(1, 8, 6, 6)).dtype == torch.bfloat16
    assert weight.dtype == torch.float32
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("mode", ["project", "retract"])
def test_training_reaches_a_target_and_stays_orthogonal(mode):
    torch.manual_seed(0)
    student = OrthogonalConv2d(4, 4, 3, padding_mode="circular", mode=mode)
    teacher = OrthogonalConv2d(4, 4, 3, padding_mode="circular")
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        x = torch.randn(4, 4, 8, 8)
        loss = F.mse_loss(student(x), teacher(x).detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        retract_(student)
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert singular_values(fold(student).double(), (4, 6, 6)).max() <= 1 + ROUNDING


def test_retract_leaves_projecting_layers_alone():
    layer = drift(OrthogonalLinear(4, 4))
    before = layer.base.clone()
    retract_(layer)
    assert torch.equal(layer.base, before)


def test_without_retraction_the_bound_tells_the_truth():
    layer = drift(OrthogonalConv2d(4, 4, 3, mode="retract"), amount=0.0)
    true = singular_values(fold(layer).double(), (4, 6, 6)).max()
    assert true > 2
    assert onelip.lipschitz(layer, (6, 6), in_channels=4).value >= true


def test_compiles_and_exports_as_written():
    layer = drift(OrthogonalConv2d(4, 4, 3))
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        exported = torch.export.export(layer, (x,), strict=False).module()
        assert torch.allclose(exported(x), layer(x), atol=1e-5)


def test_every_reparametrised_layer_trains():
    torch.manual_seed(0)
    layers = [
        OrthogonalConv2d(4, 6, 3),
        OrthogonalConv2d(4, 6, 3, stride=2),
        OrthogonalConvTranspose2d(4, 6),
        SpectralConv2d(4, 6, 3),
        SpectralConvTranspose2d(4, 6, 3),
        OrthogonalLinear(6, 6),
        UnitNormLinear(6, 6),
    ]
    for layer in layers:
        assert isinstance(layer, Reparametrized)
        x = torch.randn(2, 4, 6, 6) if hasattr(layer, "stride") else torch.randn(2, 6)
        y = layer(x)
        (y * torch.randn_like(y)).sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.norm() > 1e-4, name
