"""The front door with real detectors: what it refuses, what it returns, and that gradient attacks stay above it."""

from __future__ import annotations

import copy
import math
from functools import cache

import pytest
import torch

import onelip
from onelip.certify import DetectionCertifier, detection, segmentation
from onelip.certify.boxes.parts import parts_of
from onelip.core import errors
from onelip.models import FCOS
from onelip.models.decoding import clip, decode
from onelip.models.detection import Part

SIZE = (32, 32)


@cache
def trained(regression, classes, options):
    torch.manual_seed(0)
    settings = {"kappa": 0.3, "temperature": 0.5, "strides": (8, 16)} | dict(options)
    model = onelip.models.create("fcos", classes=classes, size="XS", regression=regression, **settings)
    with torch.no_grad():
        images = torch.rand(4, 3, *SIZE)
        for _ in range(2):
            model(images)
        logits = model.eval()(images)[..., :classes]
    model.shift = float(logits.flatten().quantile(0.95))
    return model


def detector(regression="lipschitz", *, classes=2, **options):
    return copy.deepcopy(trained(regression, classes, tuple(options.items())))


def threshold_of(model):
    """A score that five in a hundred logits exceed."""
    return 1.0 / (1.0 + math.exp(-model.shift / model.temperature))


def batch(seed=0, count=2):
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def targets_of(model, images):
    """Objects where the model sees some: its own boxes of the highest logits, one or two an image."""
    found = []
    raw = model.raw(images)
    for z, r in zip(raw.logits, raw.regression, strict=True):
        place = z.amax(1).argsort(descending=True)
        boxes = clip(decode(raw.locations[place], raw.strides[place], r[place]), SIZE).detach()
        fine = (boxes[:, 2:] - boxes[:, :2]).amin(1) > 2.0
        boxes, place = boxes[fine][:1], place[fine][:1]
        found.append({"boxes": boxes, "labels": z[place].argmax(1)})
    return found


@pytest.mark.parametrize("regression", ["lipschitz", "free"])
def test_the_certificate_is_about_the_folded_model_in_float64(regression):
    model, images = detector(regression), batch()
    certificate = detection(model, images, targets_of(model, images), threshold_of(model))
    bound = onelip.lipschitz(onelip.fold(model).double(), SIZE).value
    assert certificate.settings.lipschitz == pytest.approx(bound, rel=1e-9)
    assert certificate.bound.value == certificate.settings.lipschitz
    with torch.no_grad():
        raw = onelip.fold(model).double().raw(images.double())
    torch.testing.assert_close(certificate.raw.logits, raw.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(certificate.raw.regression, raw.regression, rtol=0, atol=1e-12)
    assert (certificate.settings.kappa is None) == (regression == "free")
    assert 1e-7 <= certificate.settings.rounding < 1e-6
    expected = onelip.fold(model).double().predict(images.double(), threshold_of(model))
    for mine, other in zip(certificate.detections, expected, strict=True):
        torch.testing.assert_close(mine["boxes"], other["boxes"])
    assert sum(len(d["labels"]) for d in certificate.detections) > 0
    assert certificate.theta == pytest.approx(model.threshold_logit(threshold_of(model)))


def ascend(model, images, eps, score, steps=8):
    """Images within eps that raise a score of the heads the most, by normalised gradient steps."""
    delta = torch.zeros_like(images)
    model.requires_grad_(False)
    best, found = torch.full((len(images),), -math.inf), images.clone()
    for _ in range(steps):
        delta.requires_grad_()
        value = score(model.raw(images + delta))
        better = value.detach() > best
        best = torch.where(better, value.detach(), best)
        found[better] = (images + delta).detach()[better]
        (gradient,) = torch.autograd.grad(value.sum(), delta)
        step = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
        delta = (images + delta.detach() + eps / 4 * step).clamp(0, 1) - images
        norm = delta.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        delta = delta * (eps / norm.clamp_min(1e-12)).clamp_max(1.0)
    return found


@pytest.mark.parametrize("regression", ["lipschitz", "free"])
def test_gradient_attacks_stay_above_the_certificate(regression):
    model, images = detector(regression), batch(3)
    threshold = threshold_of(model)
    certifier = DetectionCertifier(model, threshold)
    truth = targets_of(model, images)
    certificate = certifier(images, truth)
    double, theta, clean = certifier.model, certificate.theta, certificate.raw.logits
    beaten = False
    for eps in (0.2, 4.0):
        count = certificate.new_detections([eps])[0]
        kept = certificate.vanish_radius

        def fire(raw):
            return torch.sigmoid((raw.logits - theta) / 0.05).flatten(1).sum(1)

        def silence(raw):
            return -(raw.logits - theta + 0.05).clamp_min(0).square().flatten(1).sum(1)

        for score in (fire, silence):
            adversarial = ascend(double, images.double(), eps, score)
            with torch.no_grad():
                raw = double.raw(adversarial)
            moved = (raw.logits - clean).square().flatten(1).sum(1)
            if regression == "lipschitz":
                other = (raw.regression - certificate.raw.regression) / model.kappa
                moved = moved + other.square().flatten(1).sum(1)
            assert (moved.sqrt() <= certificate.settings.lipschitz * eps * (1 + 1e-9)).all()
            new = ((raw.logits > theta) & (clean <= theta)).flatten(1).sum(1)
            assert (new <= count).all()
            beaten |= bool((new > 0).any())
            for b, target in enumerate(truth):
                for g, k in enumerate(target["labels"].tolist()):
                    inside = certificate.scenes[b].contains[:, g]
                    fires = bool((raw.logits[b, inside, k] > theta).any())
                    assert fires or float(certificate.location_radius[b][g]) <= eps
                    assert (
                        float(kept[b][g]) <= float(certificate.location_radius[b][g])
                        or regression == "lipschitz"
                    )
    assert beaten  # far outside the attack does succeed, so that the comparison is not empty


def test_a_certifier_proves_once_for_each_size():
    certifier = DetectionCertifier(detector())
    first, second = certifier(batch()), certifier(batch(1))
    assert first.bound is second.bound
    assert first.weights_hash == second.weights_hash
    assert first.raw.locations.shape == second.raw.locations.shape


def test_a_given_constant_is_an_assumption():
    certificate = detection(detector(), batch(), lipschitz=3.0)
    assert certificate.bound is None
    assert certificate.settings.lipschitz == 3.0
    assert "given by the caller" in certificate.assumptions[0]
    assert certificate.to_dict()["bound"] is None


def test_the_model_is_left_as_it_was():
    model = detector()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    detection(model, batch())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32


def test_options_reach_the_settings():
    certificate = detection(detector(), batch(), nms=0.7, inside=0.5)
    assert certificate.settings.nms == 0.7
    assert certificate.settings.inside == 0.5
    model = detector()
    model.per_image = 7
    assert detection(model, batch()).settings.per_image == 7


def test_refusals():
    model = detector()
    with pytest.raises(errors.TrainModeError, match=r"certify.detection.*train mode.*model.eval"):
        detection(detector().train(), batch())
    with pytest.raises(errors.PrecisionError, match="half"):
        detection(detector().half(), batch())
    with pytest.raises(errors.InputError, match=r"no detector.*Conv2d.*certify.segmentation"):
        detection(torch.nn.Conv2d(3, 2, 1).eval(), batch())
    for p in (1, math.inf):
        with pytest.raises(errors.InputError, match=r"norm is not supported.*p=2.*squares"):
            detection(model, batch(), p=p)
    with pytest.raises(errors.InputError, match="threshold"):
        detection(model, batch(), threshold=1.0)
    with pytest.raises(errors.InputError, match="out of range"):
        detection(model, 255 * batch())
    with pytest.raises(errors.InputError, match="does not fit the images"):
        detection(model, batch(), [])
    with pytest.raises(errors.InputError):
        segmentation(model, batch())


class Doubled(FCOS):
    """Decodes other logits than forward returns."""

    def heads(self, images):
        raw, centre = super().heads(images)
        return raw._replace(logits=2.0 * raw.logits), centre


def test_a_model_that_decodes_what_is_not_proven_is_refused():
    model = detector()
    model.__class__ = Doubled
    with pytest.raises(errors.IntegrityError, match="output of forward answers differently"):
        detection(model, batch())


def test_centreness_orders_and_nothing_else():
    model, images = detector(centerness=True), batch()
    certificate = detection(model, images, targets_of(model, images), threshold_of(model))
    assert not certificate.settings.by_logit
    assert certificate.precision([0.0]).shape == (1,)
    with pytest.raises(errors.InputError, match="centre-ness"):
        certificate.average_precision([0.0])


@pytest.mark.parametrize("regression", ["lipschitz", "free"])
def test_each_part_has_its_own_proven_constant(regression):
    """Above what power iteration finds, below the joint one, and with radii that are no smaller for it."""
    model, images = detector(regression), batch()
    targets = targets_of(model, images)
    certificate = detection(model, images, targets, threshold_of(model))
    settings, joint = certificate.settings, certificate.settings.lipschitz
    folded = onelip.fold(model).eval()
    for name, part in (("logits", settings.logits), ("boxes", settings.boxes)):
        if name == "boxes" and regression == "free":
            assert part is None
            continue
        assert set(part.levels) == {float(s) for s in model.strides}
        for index, constant in ((None, part.joint), *((i, c) for i, c in enumerate(part.levels.values()))):
            chosen = Part(folded, name, None if index is None else [index])
            found = onelip.testing.lower_bound(chosen, SIZE, seed=0, iterations=8, starts=2)
            assert 0.15 * constant < float(found) <= constant <= joint
        assert min(part.levels.values()) < 0.8 * joint
    plain = detection(model, images, targets, threshold_of(model), lipschitz=joint)
    assert plain.settings.logits is None
    assert (certificate.silent_radius >= plain.silent_radius - 1e-9).all()
    assert (torch.cat(certificate.vanish_radius) >= torch.cat(plain.vanish_radius) - 1e-9).all()
    assert (certificate.presence_radius > plain.presence_radius + 1e-3).any()


class Louder(FCOS):
    """Its forward is not made of its parts: they say nothing about it, even where they happen to agree."""

    def bounded(self, maps):
        return 3.0 * super().bounded(maps)


def test_a_forward_that_is_not_made_of_the_parts_has_the_joint_constant_only():
    model = detector()
    before = detection(model, batch(), threshold=threshold_of(model))
    model.__class__ = Louder
    certificate = detection(model, batch(), threshold=0.5)
    assert before.settings.logits is not None
    assert certificate.settings.logits is None
    assert certificate.settings.boxes is None
    assert certificate.bound.value == pytest.approx(3 * before.bound.value, rel=1e-6)


def test_what_an_instance_overrides_is_seen_too():
    own = detector()
    own.forward = FCOS.forward.__get__(own)
    assert parts_of(own) == ("logits", "boxes")
    own.bounded = lambda maps: 2.0 * FCOS.bounded(own, maps)
    assert parts_of(own) == ()
