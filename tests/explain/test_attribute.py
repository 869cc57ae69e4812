"""captum's methods against closed forms and our own gradients; warnings; Lipschitz efficiency."""

import sys
import warnings

import pytest
import torch
from torch import nn

import onelip
from onelip.core.errors import BoundError, InputError, MissingExtraError, UnsoundError
from onelip.explain import AttributionWarning, RegionLogits, attribute, lipschitz_efficiency, saliency
from onelip.explain.methods import METHODS

captum = pytest.importorskip("captum")


def linear(seed=0, bias=False):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=bias)).eval()
    return model, torch.rand(2, 1, 4, 4), model[1].weight.detach().reshape(3, 1, 4, 4)


@pytest.fixture(scope="module")
def lipnet():
    torch.manual_seed(0)
    return onelip.models.create("convnet", classes=3, size="XS", in_channels=1).eval(), torch.rand(
        2, 1, 28, 28
    )


def relu_net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return model.eval(), torch.rand(2, 1, 4, 4)


def test_linear_model_is_exact():
    model, x, weight = linear()
    target = torch.tensor([2, 0])
    gradient, product = weight[target], weight[target] * x
    exact = {
        "saliency": gradient,
        "smoothgrad": gradient,
        "guided_backprop": gradient,
        "deconvolution": gradient,
        "input_x_gradient": product,
        "integrated_gradients": product,
        "deep_lift": product,
        "occlusion": product,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttributionWarning)
        for method, expected in exact.items():
            found = attribute(model, x, target, method, window=1)
            assert torch.allclose(found, expected, atol=1e-6), method
            assert found.dtype == x.dtype


def test_saliency_is_our_own(lipnet):
    model, x = lipnet
    for target in (None, 1):
        assert torch.allclose(attribute(model, x, target), saliency(model, x, target), atol=1e-7)


def test_integrated_gradients_are_complete_from_any_baseline(lipnet):
    model, x = lipnet
    grey = torch.full((1, 1, 28, 28), 0.3)
    wide = onelip.fold(model).double()
    change = (wide(x.double()) - wide(grey.double()))[:, 1]
    found = attribute(model, x, 1, "integrated_gradients", baseline=grey, samples=200)
    assert torch.allclose(found.double().flatten(1).sum(1), change, rtol=1e-2, atol=1e-3)


def test_methods_for_relus_are_the_gradient_of_a_lipnet_and_say_so(lipnet):
    model, x = lipnet
    for method in ("guided_backprop", "deconvolution"):
        with pytest.warns(AttributionWarning, match="equals the plain gradient"):
            found = attribute(model, x, 1, method)
        assert torch.allclose(found, saliency(model, x, 1), atol=1e-7)
    with pytest.warns(AttributionWarning, match="DeepLift: the map of an image adds up to"):
        attribute(model, x, 1, "deep_lift")
    with pytest.raises(InputError, match="LRP has no rules for this model"):
        attribute(model, x, 1, "lrp")


def test_where_they_mean_something_there_is_no_warning():
    model, x = relu_net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guided = attribute(model, x, 1, "guided_backprop")
        attribute(model, x, 1, "deep_lift")
        attribute(model, x, 1, "lrp")
    assert not torch.allclose(guided, saliency(model, x, 1), atol=1e-4)


def test_lrp_conserves_relevance_without_biases():
    model, x = relu_net()
    for module in model:
        if hasattr(module, "bias"):
            module.bias.data.zero_()
    found = attribute(model, x, 1, "lrp")
    assert torch.allclose(found.flatten(1).sum(1), model(x)[:, 1], rtol=1e-3, atol=1e-4)


def test_mixed_activations_are_named():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), onelip.layers.GroupSort(2)
    ).eval()
    with pytest.warns(AttributionWarning, match="not of GroupSort"):
        attribute(model, torch.rand(1, 1, 4, 4), 0, "guided_backprop")


def test_smoothgrad_is_seeded_and_leaves_the_generator_alone():
    model, x = relu_net()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = (attribute(model, x, 0, "smoothgrad", seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, attribute(model, x, 0, "smoothgrad", seed=4))
    assert torch.equal(attribute(model, x, 0, "smoothgrad", std=0.0), attribute(model, x, 0))
    own = onelip.explain.smoothgrad(model, x, 0, sigma=0.2, samples=1500, seed=1).maps
    many = attribute(model, x, 0, "smoothgrad", samples=1500)
    assert torch.allclose(many, own.to(many), atol=0.15 * own.abs().max().item())


def test_maps_of_layers_and_windows():
    model, x = relu_net()
    found = attribute(model, x, 1, "grad_cam")
    assert found.shape == (2, 1, 4, 4)
    assert (found >= 0).all()
    assert attribute(model, x, 1, "grad_cam", layer="0").shape == (2, 1, 4, 4)
    occluded = attribute(model, x, 1, "occlusion", window=4)
    drop = (model(x) - model(torch.zeros_like(x)))[:, 1]
    assert torch.allclose(occluded, drop.reshape(2, 1, 1, 1).expand(2, 1, 4, 4), atol=1e-5)
    for layer, text in (("nothing", "no such layer"), ("5", "has no map")):
        with pytest.raises(InputError, match=text):
            attribute(model, x, 1, "grad_cam", layer=layer)
    with pytest.raises(InputError, match="no such layer"):
        attribute(linear()[0], x, 1, "grad_cam")


def test_dense_models_have_regions():
    torch.manual_seed(0)
    model, x = nn.Conv2d(1, 2, 3, padding=1).eval(), torch.rand(2, 1, 5, 5)
    region = torch.zeros(5, 5, dtype=torch.bool)
    region[0, 0] = True
    found = attribute(model, x, 1, region=region)
    assert torch.allclose(found, saliency(RegionLogits(model, region), x, 1), atol=1e-7)
    assert (found[:, :, 2:] == 0).all()


def test_errors_of_attributions(monkeypatch):
    model, x, _ = linear()
    with pytest.raises(InputError, match="`method` is unknown"):
        attribute(model, x, 0, "gradient")
    with pytest.raises(InputError, match="`baseline` is unknown"):
        attribute(model, x, 0, "integrated_gradients", baseline="black")
    with pytest.raises(InputError, match="samples"):
        attribute(model, x, 0, "smoothgrad", samples=0)
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r'pip install "onelip\[explain\]"'):
        attribute(model, x, 0)


def test_every_method_leaves_the_model_alone():
    model, x = relu_net()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for method in METHODS:
        assert attribute(model, x, 0, method).isfinite().all()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_efficiency_is_one_along_the_weight_and_minus_one_against_it():
    model, x, weight = linear(1)
    unit = weight[0] / weight[0].norm()
    unit = unit / unit.abs().max() / 2
    base = torch.full((1, 1, 4, 4), 0.5)
    joint = torch.eye(3)[:, :1] * weight[0].flatten()  # one logit moves alone: its constant is the joint one
    model[1].weight.data.copy_(joint)
    for sign in (1, -1):
        x = base + sign * unit[None]
        found = lipschitz_efficiency(model, x, x, 0, shares=[1.0], baseline=base)
        assert found.item() == pytest.approx(sign, abs=1e-6)


@pytest.mark.parametrize("baseline", ["zero", "uniform", "blur", "mean"])
def test_efficiency_is_never_beyond_one(lipnet, baseline):
    model, x = lipnet
    for maps in (saliency(model, x), x, -x):
        found = lipschitz_efficiency(model, x, maps, baseline=baseline)
        assert found.shape == (2,)
        assert (found.abs() <= 1).all()
        assert (found != 0).all()
    # The map that knows the drops beats the one that is its opposite.
    drops = saliency(model, x) * (x - onelip.explain.baseline_images(x, baseline))
    best, worst = (lipschitz_efficiency(model, x, sign * drops, baseline=baseline) for sign in (1, -1))
    assert (best > worst).all()


def test_efficiency_needs_a_bound_and_notices_a_wrong_one(monkeypatch):
    model, x, _ = linear()
    assert lipschitz_efficiency(model, torch.zeros_like(x), x).isnan().all()  # black by black
    with pytest.raises(InputError, match="`shares`"):
        lipschitz_efficiency(model, x, x, shares=[])

    class Odd(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2].pow(3)

    with pytest.raises(BoundError, match="no proven constant"):
        lipschitz_efficiency(Odd().eval(), x, x)
    monkeypatch.setattr("onelip.explain.classifier.Classifier.logit_constant", lambda *_: 1e-3)
    with pytest.raises(UnsoundError, match="falls faster"):
        lipschitz_efficiency(model, x, x)
