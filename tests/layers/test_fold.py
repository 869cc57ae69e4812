from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import onelip
from onelip.core import errors
from onelip.core.errors import IntegrityError
from onelip.layers import (
    BatchCentering,
    ChannelBias,
    ConcatResidual,
    ConvexResidual,
    InputNormalization,
    MaxMin,
    OrthogonalConv2d,
    OrthogonalConvTranspose2d,
    OrthogonalLinear,
    PrescaledResidual,
    Reparametrized,
    SpectralConv2d,
    SpectralConvTranspose2d,
    UnitNormLinear,
    fold,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        InputNormalization([0.4, 0.5, 0.6], 0.25),
        OrthogonalConv2d(3, 8, 3, stride=2, scale=1.7, learnable_scale=True),
        MaxMin(),
        BatchCentering(8),
        ConvexResidual(SpectralConv2d(8, 8, 3, groups=2, bias=True)),
        PrescaledResidual(nn.Sequential(OrthogonalConv2d(8, 8, 3, dilation=2), BatchCentering(8))),
        ConcatResidual(OrthogonalConv2d(4, 4, 3, padding_mode="circular")),
        OrthogonalConvTranspose2d(8, 4),
        SpectralConvTranspose2d(4, 4, 3),
        nn.Flatten(),
        OrthogonalLinear(4 * 16 * 16, 8),
        UnitNormLinear(8, 3),
    )


def trained(model: nn.Module, *shape: int) -> nn.Module:
    """Two optimiser steps and a last forward pass in train mode, so that every buffer is filled and fresh."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(3, *shape)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        model(torch.randn(3, *shape))
    return model.eval()


def test_same_outputs_same_paths_no_reparametrisation():
    model = trained(network(), 3, 8, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    folded = fold(model)
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(folded(x), model(x), atol=1e-6)
    assert not any(isinstance(m, Reparametrized | BatchCentering) for m in folded.modules())
    assert dict(folded.named_modules()).keys() == dict(model.named_modules()).keys()
    assert type(folded[1]) is nn.Conv2d
    assert type(folded[3]) is ChannelBias
    assert type(folded[7]) is nn.ConvTranspose2d
    assert type(folded[11]) is nn.Linear
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert any(isinstance(m, Reparametrized) for m in model.modules())


def test_weights_are_baked_bit_for_bit_and_idempotently():
    model = trained(network(), 3, 8, 8)
    folded = fold(model)
    for name, module in model.named_modules():
        if isinstance(module, Reparametrized):
            assert torch.equal(folded.get_submodule(name).weight, module.weight)
    again = fold(folded)
    assert str(again) == str(folded)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in folded.state_dict().items())


def test_bound_of_both_forms_is_the_same():
    model = trained(network(), 3, 8, 8)
    folded = onelip.lipschitz(fold(model), (8, 8)).value
    assert onelip.lipschitz(model, (8, 8)).value == pytest.approx(folded, rel=1e-9)


def test_state_dict_round_trip_through_a_fresh_model():
    model = trained(network(), 3, 8, 8)
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(fold(fresh)(x), fold(model)(x))


def test_double_precision_survives():
    folded = fold(network().double())
    assert folded(torch.rand(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_a_lone_layer_is_folded():
    assert type(fold(OrthogonalLinear(3, 4))) is nn.Linear
    assert type(fold(BatchCentering(3))) is ChannelBias


def test_shared_layer_stays_shared():
    shared = OrthogonalConv2d(4, 4, 3)
    folded = fold(nn.Sequential(shared, MaxMin(), shared))
    assert folded[0] is folded[2]


def test_folded_flag_is_set():
    class Model(nn.Sequential):
        folded = False

    model = Model(OrthogonalLinear(2, 2))
    assert fold(model).folded is True
    assert model.folded is False


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_torch_parametrisations(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), getattr(parametrizations, kind)(nn.Linear(12, 5))).eval()
    folded = fold(model)
    assert type(folded[1]) is nn.Linear
    x = torch.rand(2, 3, 2, 2)
    with torch.no_grad():
        assert torch.allclose(folded(x), model(x), atol=1e-6)


def test_parametrised_layers_without_a_plain_form_lose_the_parametrisation():
    model = nn.Sequential(parametrizations.weight_norm(nn.Bilinear(3, 3, 2))).eval()
    folded = fold(model)
    assert folded.state_dict().keys() == {"0.bias", "0.weight"}
    x = torch.rand(4, 3)
    assert torch.allclose(folded[0](x, x), model[0](x, x))


def test_a_layer_that_does_more_than_its_weight_is_refused():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(errors.UnknownLayerError, match="ParametrizedDoubled cannot be folded"):
        fold(parametrizations.weight_norm(Doubled(3, 3)))


orthogonium = pytest.importorskip("orthogonium.layers")


@pytest.mark.parametrize(
    ("make", "shape", "kind"),
    [
        (lambda o: o.AdaptiveOrthoConv2d(4, 8, 3, padding=1, padding_mode="zeros"), (4, 8, 8), nn.Conv2d),
        (lambda o: o.AdaptiveOrthoConv2d(4, 8, 3, padding=1), (4, 8, 8), nn.Conv2d),
        (lambda o: o.AdaptiveOrthoConv2d(4, 8, 3, stride=2, padding=1), (4, 8, 8), nn.Conv2d),
        (lambda o: o.AdaptiveOrthoConv2d(4, 8, 2, stride=2, padding=0), (4, 8, 8), nn.Conv2d),
        (lambda o: o.AdaptiveOrthoConv2d(4, 8, 3, groups=2, dilation=2), (4, 8, 8), nn.Conv2d),
        (lambda o: o.AdaptiveOrthoConvTranspose2d(8, 4, 2, stride=2), (8, 4, 4), nn.ConvTranspose2d),
        (lambda o: o.AdaptiveOrthoConvTranspose2d(8, 4, 4, stride=2), (8, 4, 4), nn.ConvTranspose2d),
        (lambda o: o.OrthoLinear(8, 4), (8,), nn.Linear),
        (lambda o: o.UnitNormLinear(8, 4), (8,), nn.Linear),
    ],
)
def test_orthogonium_layers(make, shape, kind):
    torch.manual_seed(0)
    check_foreign(make(orthogonium), shape, kind)


torchlip = pytest.importorskip("deel.torchlip")


@pytest.mark.parametrize(
    ("make", "shape", "kind"),
    [
        (lambda t: t.SpectralConv2d(4, 8, 3, padding=1), (4, 8, 8), nn.Conv2d),
        (
            lambda t: t.SpectralConv2d(4, 8, 3, stride=2, padding=1, padding_mode="circular"),
            (4, 8, 8),
            nn.Conv2d,
        ),
        (lambda t: t.SpectralConv2d(4, 8, 3, padding=1, padding_mode="symmetric"), (4, 8, 8), nn.Conv2d),
        (lambda t: t.SpectralConvTranspose2d(8, 4, 2, stride=2), (8, 4, 4), nn.ConvTranspose2d),
        (lambda t: t.SpectralLinear(8, 4), (8,), nn.Linear),
        (lambda t: t.FrobeniusLinear(8, 1), (8,), nn.Linear),
    ],
)
def test_torchlip_layers(make, shape, kind):
    torch.manual_seed(0)
    check_foreign(make(torchlip), shape, kind)


def check_foreign(layer, shape, kind):
    model = trained(nn.Sequential(layer), *shape)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    folded = fold(model)
    assert type(folded[0]) is kind
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.allclose(folded(x), model(x), atol=1e-5)
    assert folded.double()(x.double()).dtype == torch.float64


def test_torchlip_stale_weight_is_refreshed():
    """After an optimiser step torchlip's eval output is that of the step before; the fold has the new weight."""
    torch.manual_seed(0)
    layer = torchlip.SpectralLinear(6, 6)
    model = trained(nn.Sequential(layer), 6)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.linalg.qr(torch.randn(6, 6))[0])
    folded = fold(model)
    with torch.no_grad():
        new = layer.parametrizations.weight.original
        assert torch.allclose(folded[0].weight, new, atol=0.05)
        assert not torch.allclose(layer.weight, new, atol=0.05)


def test_torchlip_symmetric_padding_has_no_plain_form():
    layer = torchlip.SpectralConv2d(4, 4, 5, padding=2, padding_mode="symmetric")
    with pytest.raises(IntegrityError, match="folding changes the output"):
        fold(nn.Sequential(layer))


class TenTimes(OrthogonalConv2d):
    def forward(self, x):
        return 10 * super().forward(x)


class ShiftedCentering(BatchCentering):
    def forward(self, x):
        return 10 * super().forward(x)


def hooked():
    layer = OrthogonalConv2d(3, 4, 3)
    layer.register_forward_hook(lambda module, args, output: 10 * output)
    return layer


def patched():
    layer = OrthogonalConv2d(3, 4, 3)
    plain = layer.forward
    layer.forward = lambda x: 10 * plain(x)
    return layer


@pytest.mark.parametrize("make", [lambda: TenTimes(3, 4, 3), lambda: ShiftedCentering(3), hooked, patched])
def test_a_layer_that_does_more_than_its_class_is_not_folded(make):
    model = nn.Sequential(make()).eval()
    with pytest.raises(errors.UnknownLayerError, match="cannot be folded"):
        onelip.fold(model)
    with pytest.raises(errors.UnknownLayerError, match="cannot be folded"):
        onelip.certify.segmentation(model, torch.rand(1, 3, 8, 8))
