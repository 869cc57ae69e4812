"""The front door: what it refuses, what it returns, and that no attack beats it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import onelip
from onelip.certify import Certifier, PixelAccuracy, Stability, pixel_radius, segmentation
from onelip.certify import dense as dense_module
from onelip.certify import ready as ready_module
from onelip.core import errors

NORMS = [1, 2, math.inf]


def small_model(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, classes, 1),
    ).eval()


def small_batch(seed: int = 0, images: int = 2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(images, 3, 6, 7, generator=generator)
    y = torch.randint(0, 3, (images, 6, 7), generator=generator)
    y[:, 0, :3] = 255
    return x, y


def test_certificate_agrees_with_the_criteria_on_float64_logits():
    model, (x, y) = small_model(), small_batch()
    cert = segmentation(model, x, y)
    with torch.no_grad():
        logits = model.double()(x.double())
    bound = onelip.lipschitz(model, (6, 7)).value
    assert cert.lipschitz == pytest.approx(bound)
    assert cert.bound.value == cert.lipschitz
    torch.testing.assert_close(cert.logits, logits, rtol=0, atol=1e-12)
    eps = [0.0, 0.01, 0.1]
    curve = cert.curve(PixelAccuracy(), eps)
    shifted = torch.tensor(eps, dtype=torch.float64) + cert.rounding
    assert 1e-7 <= cert.rounding < 2e-7
    expected = PixelAccuracy().worst_case(cert.logits, y, eps=shifted, lipschitz=bound)
    assert torch.equal(curve.certified, expected)
    assert curve.eps.tolist() == eps
    assert curve.clean.tolist() == PixelAccuracy().value(logits, y).tolist()
    radius = pixel_radius(cert.logits, y, lipschitz=bound)
    torch.testing.assert_close(cert.radius_map, (radius - cert.rounding).clamp_min(0), equal_nan=True)
    assert cert.radius_map.isnan().equal(y == 255)
    assert torch.equal(cert.prediction, cert.logits.argmax(1))
    found = cert.radius(Stability(), 0.5)
    plain = Stability().radius(cert.logits, y, threshold=0.5, lipschitz=bound)
    assert torch.equal(found, plain - cert.rounding)


@pytest.mark.parametrize("p", NORMS)
def test_gradient_attacks_stay_above_the_certificate(p):
    """Projected gradient ascent on the margins of the currently correct pixels, in the l_p ball and [0, 1]."""
    model = small_model(3)
    x, _ = small_batch(3)
    with torch.no_grad():
        model[-1].bias -= model(x).mean((0, 2, 3))  # all classes occur
        y = model(x).argmax(1)
    assert len(y.unique()) == 3
    y[:, 0, :2] = 255
    cert = segmentation(model, x, y, p=p)
    for shrink in (0.3, 0.6, 1.0, 4.0):
        eps = float(cert.radius(PixelAccuracy(), 0.5).max()) * shrink
        attacked = attack(model, x, y, eps, p)
        certified = cert.curve(PixelAccuracy(), [eps]).certified[0]
        assert (attacked >= certified).all()
    # Far outside the attack does succeed, so the comparison above is not empty.
    assert attack(model, x, y, 20 * eps, p).min() < 1.0


def attack(model, x, y, eps, p, steps=25):
    worst = torch.ones(len(x), dtype=torch.float64)
    delta = torch.zeros_like(x)
    for _ in range(steps):
        delta.requires_grad_()
        logits = model(x + delta)
        worst = torch.minimum(worst, PixelAccuracy().value(logits.detach(), y))
        loss = torch.nn.functional.cross_entropy(logits, y, ignore_index=255, reduction="none")
        right = logits.argmax(1) == y
        (gradient,) = torch.autograd.grad((loss * right).sum() + 1e-3 * loss.sum(), delta)
        step = (
            gradient.sign()
            if p == math.inf
            else gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        )
        delta = (x + delta.detach() + eps / 4 * step).clamp(0, 1) - x
        norm = torch.linalg.vector_norm(delta.flatten(1).double(), ord=p, dim=1).reshape(-1, 1, 1, 1)
        # Scaling towards the clean image keeps [0, 1]; the small factor keeps float32 inside the ball.
        delta = delta * (eps / norm).clamp(max=1.0).float() * (1 - 1e-6)
    return worst


def test_a_linear_pixel_classifier_is_certified_up_to_its_true_distance():
    """Orthogonal rows: the closest adversarial image is known in closed form, and the radius reaches it."""
    layer = nn.Conv2d(3, 2, 1, bias=False).eval()
    layer.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).reshape(2, 3, 1, 1)
    x = torch.full((1, 3, 2, 2), 0.5)
    x[0, 0] = torch.tensor([[0.9, 0.8], [0.7, 0.6]])
    cert = segmentation(layer, x)
    margin = x[0, 0].double() - x[0, 1].double()
    torch.testing.assert_close(cert.radius_map[0], margin / math.sqrt(2), rtol=1e-5, atol=2e-7)
    closest = x.double().clone()
    closest[0, 0] -= margin / 2
    closest[0, 1] += margin / 2
    assert (layer.double()(closest).diff(dim=1).abs() < 1e-12).all()
    assert float(cert.radius(Stability(), 0.0)) <= float((closest - x).norm())
    assert float(cert.radius(Stability(), 0.0)) == pytest.approx(float((closest - x).norm()), rel=1e-5)


def test_the_model_and_the_images_are_not_changed():
    model, (x, y) = small_model(), small_batch()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = x.clone()
    segmentation(model, x, y)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32
    assert torch.equal(x, before)


def test_a_certifier_folds_once_and_proves_once_for_each_size(monkeypatch):
    calls = []
    prove, fold = dense_module.prove, ready_module.fold
    monkeypatch.setattr(dense_module, "prove", lambda *a, **k: calls.append("prove") or prove(*a, **k))
    monkeypatch.setattr(ready_module, "fold", lambda m: calls.append("fold") or fold(m))
    model, (x, _) = small_model(), small_batch()
    certifier = Certifier(model)
    one, two = certifier(x), certifier(x.flip(0))
    certifier(x[..., :5])
    assert calls == ["fold", "prove", "prove"]
    assert torch.equal(one.radius_map.flip(0), two.radius_map)
    direct = segmentation(model, x)
    assert torch.equal(direct.radius_map, one.radius_map)


def test_a_given_constant_is_used_and_named_in_the_assumptions():
    x, y = small_batch()
    cert = segmentation(small_model(), x, y, lipschitz=2.5)
    assert cert.lipschitz == 2.5
    assert cert.bound is None
    assert any("given by the caller" in line for line in cert.assumptions)
    assert cert.to_dict()["bound"] is None
    proven = segmentation(small_model(), x, y)
    assert not any("given by the caller" in line for line in proven.assumptions)
    assert any("float64" in line and "1.0e-07" in line for line in proven.assumptions)


def test_weights_hash_follows_the_weights_and_equals_that_of_a_saved_model(tmp_path):
    x, _ = small_batch()
    first, second = segmentation(small_model(0), x), segmentation(small_model(1), x)
    assert first.weights_hash != second.weights_hash
    assert first.weights_hash == segmentation(small_model(0), x).weights_hash
    torch.manual_seed(0)
    model = onelip.models.create("fcn", classes=3, size="XS").eval()
    model.save(tmp_path / "model", size=(16, 16))
    record = json.loads((tmp_path / "model" / "config.json").read_text())
    certifier = Certifier(model)
    assert certifier.weights_hash == record["weights_sha256"]
    assert Certifier(onelip.load(tmp_path / "model")).weights_hash == record["weights_sha256"]


@pytest.mark.parametrize("name", ["deeplabv3", "unet", "fcn"])
def test_models_of_the_package_are_certified_at_any_size(name):
    torch.manual_seed(0)
    model = onelip.models.create(name, classes=4, size="XS").eval()
    cert = segmentation(model, torch.rand(1, 3, 21, 18))
    assert cert.logits.shape == (1, 4, 21, 18)
    assert (cert.radius_map > 0).any()


def test_save_writes_json_and_arrays(tmp_path):
    x, y = small_batch()
    cert = segmentation(small_model(), x, y, p=math.inf)
    cert.save(tmp_path / "cert")
    record = json.loads((tmp_path / "cert" / "certificate.json").read_text())
    assert record == json.loads(json.dumps(cert.to_dict(), allow_nan=False))
    assert record["p"] == "inf"
    assert record["weights_sha256"] == cert.weights_hash
    assert record["versions"]["torch"]
    assert len(record["bound"]) == len(cert.bound.layers)
    with np.load(tmp_path / "cert" / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["radius_map"], cert.radius_map.numpy())
        np.testing.assert_array_equal(arrays["prediction"], cert.prediction.numpy())
        np.testing.assert_array_equal(arrays["target"], y.numpy())


def test_show_prints_and_pictures_are_drawn(capsys):
    x, y = small_batch()
    cert = segmentation(small_model(), x, y)
    cert.show()
    text = capsys.readouterr().out
    assert "Lipschitz constant at most" in text
    assert "PixelAccuracy: clean" in text
    assert len(repr(cert).splitlines()) <= 6
    assert len(cert.figure(1).axes) == 5  # image, truth, prediction, radius, colour bar
    assert len(segmentation(small_model(), x).figure().axes) == 4
    assert '<img src="data:image/png;base64,' in cert._repr_html_()


def test_all_void_images_are_reported_as_undefined():
    x, y = small_batch()
    cert = segmentation(small_model(), x, torch.full_like(y, 255))
    assert cert.curve(PixelAccuracy(), [0.1]).certified.isnan().all()
    assert cert.to_dict()["clean"]["PixelAccuracy"] == [None, None]
    assert cert.figure().axes
    assert repr(cert)


def test_a_constant_model_is_robust_to_everything():
    model = nn.Conv2d(3, 2, 1).eval()
    nn.init.zeros_(model.weight)
    model.bias.data = torch.tensor([1.0, 0.0])
    cert = segmentation(model, torch.rand(1, 3, 4, 4))
    assert (cert.radius_map > 1e6).all()
    assert cert.curve(Stability(), [0.0, 1e6]).certified.tolist() == [[1.0], [1.0]]


def test_nearly_equal_logits_below_the_rounding_are_not_certified():
    """Margins of a few roundoffs of a large bias would be noise: the slack grows with the logits."""
    model = nn.Conv2d(3, 2, 1).eval().double()
    model.weight.data = (
        torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-9
    )
    model.bias.data = torch.tensor([1e3, 1e3 - 1e-10], dtype=torch.float64)
    cert = segmentation(model, torch.rand(1, 3, 4, 4))
    assert cert.rounding > 1e-7
    assert (cert.radius_map == 0).all()
    assert cert.curve(Stability(), [0.0]).certified.item() == 0.0


X, Y = small_batch()
REFUSED = {
    "train mode": (lambda: small_model().train(), X, Y, errors.TrainModeError, "train mode.*eval"),
    "one layer in train mode": (lambda: training(2), X, Y, errors.TrainModeError, "first 2"),
    "bf16 model": (lambda: small_model().bfloat16(), X, Y, errors.PrecisionError, "0.weight.*bfloat16"),
    "half images": (small_model, X.half(), Y, errors.PrecisionError, "images.*float16"),
    "range": (small_model, X * 255, Y, errors.InputError, r"out of range.*\[0, 1\]"),
    "nan": (small_model, X * math.nan, Y, errors.InputError, "not finite"),
    "labels": (small_model, X, Y.clamp(max=254), errors.InputError, "labels outside the classes.*254"),
    "shape of labels": (small_model, X, Y[:, 1:], errors.InputError, "does not fit the logits"),
    "unknown layer": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.LayerNorm(7)).eval(),
        *(X, Y),
        *(errors.UnknownLayerError, "LayerNorm"),
    ),
    "casts": (lambda: Casting().eval(), X, Y, errors.OnelipError, "."),
}


def training(layer):
    model = small_model()
    model[layer].train()
    return model


class Casting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.layer(x).float()


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_certified_is_refused(case):
    make, x, y, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        segmentation(make(), x, y)


def test_bad_queries_are_refused():
    cert = segmentation(small_model(), X)
    with pytest.raises(errors.InputError, match=r"-0\.1 at index 1"):
        cert.curve(Stability(), [0.0, -0.1])
    with pytest.raises(errors.InputError, match="`target` is missing"):
        cert.curve(PixelAccuracy(), [0.1])
    with pytest.raises(errors.InputError, match="supported norm"):
        segmentation(small_model(), X, p=3)


class LooksAtItsLayer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = onelip.layers.OrthogonalConv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x) * (10.0 if isinstance(self.layer, onelip.layers.OrthogonalConv2d) else 1.0)


class LooksAtItsInput(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.layer(x) * (10.0 if x.dtype == torch.float32 else 1.0)


@pytest.mark.parametrize("model", [LooksAtItsLayer(), LooksAtItsInput()])
def test_a_model_that_changes_when_it_is_folded_is_refused(model):
    with pytest.raises(onelip.core.errors.IntegrityError, match="answers differently"):
        onelip.certify.segmentation(model.eval(), torch.rand(1, 3, 8, 8))
