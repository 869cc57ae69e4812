"""assert_sound: passes where certificates hold, and fails where they do not."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import onelip
from onelip.attacks import PGD, CriterionGoal, Knapsack, MinNorm, PixelErrors, SegPGD, Strongest, Vanish
from onelip.certify import Certifier, FalseNegativeRate, IoU, PixelAccuracy, Stability, segmentation
from onelip.core.errors import InputError, UnsoundError
from onelip.testing import assert_sound


class Swap(torch.nn.Module):
    """f(x) = 3 x: the constant is 3, and perturbations of the image move the logits three times as far."""

    def forward(self, x):
        return 3.0 * (x - 0.5)


@pytest.fixture
def scene():
    draw = torch.Generator().manual_seed(0)
    images = 0.5 + 0.1 * (torch.rand(2, 3, 5, 5, generator=draw, dtype=torch.float64) - 0.5)
    target = images.argmax(1)
    target[:, 0, 0] = 255
    return images, target


def attack(scene, goal=None, eps=(0.03, 0.06)):
    return Knapsack(PixelErrors() if goal is None else goal, steps=30)(Swap().eval(), *scene, eps)


def test_it_passes_with_the_right_constant_and_fails_with_half_of_it(scene, tmp_path):
    adversarial = attack(scene)
    assert_sound(segmentation(Swap().eval(), *scene, lipschitz=3.0), adversarial, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnsoundError, match=r"an attack beats the certificate.*saved in .*unsound.npz"):
        assert_sound(segmentation(Swap().eval(), *scene, lipschitz=1.5), adversarial, folder=tmp_path)
    facts = json.loads((tmp_path / "unsound.json").read_text())
    assert facts["lipschitz"] == 1.5
    assert facts["violations"] > 1
    arrays = np.load(tmp_path / "unsound.npz")
    moved = np.linalg.norm(arrays["adversarial"] - arrays["clean"])
    assert moved == pytest.approx(facts["norm"])
    assert arrays["target"].shape == (5, 5)


@pytest.mark.parametrize(
    "criterion", [PixelAccuracy(), Stability(), IoU(label=1), FalseNegativeRate(positive=1)]
)
def test_each_criterion_alone_catches_a_wrong_constant(scene, criterion):
    """With the displacement of the logits hidden, the values themselves must tell."""
    adversarial = attack(scene, CriterionGoal(criterion), eps=(0.02, 0.05))
    adversarial = dataclasses.replace(adversarial, moved=torch.zeros_like(adversarial.moved))
    right, wrong = (segmentation(Swap().eval(), *scene, lipschitz=x) for x in (3.0, 1.5))
    assert_sound(right, adversarial, [criterion])
    with pytest.raises(UnsoundError, match=criterion.name.replace("(", r"\(").replace(")", r"\)")):
        assert_sound(wrong, adversarial, [criterion])


def test_radii_are_compared_with_the_smallest_norms(scene):
    goal = CriterionGoal(PixelAccuracy(), threshold=0.6)
    found = MinNorm(goal, max_eps=1.0)(Swap().eval(), *scene)
    assert found.success.all()
    found = dataclasses.replace(found, moved=torch.zeros_like(found.moved))
    assert_sound(segmentation(Swap().eval(), *scene, lipschitz=3.0), found)
    with pytest.raises(UnsoundError, match=r"radius of PixelAccuracy at 0\.6"):
        assert_sound(segmentation(Swap().eval(), *scene, lipschitz=1.5), found, criteria=[])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"eps": torch.tensor([1e-3, 2e-3], dtype=torch.float64)}, "norm of the perturbation"),
        ({"images": torch.full((2, 2, 3, 5, 5), 1.5, dtype=torch.float64)}, "norm of the perturbation"),
        ({"clean_scores": torch.full((2,), 2.0, dtype=torch.float64)}, "score of the goal"),
        ({"moved": torch.full((2, 2), math.nan, dtype=torch.float64)}, "displacement"),
        ({"moved": torch.full((2, 2), 9.0, dtype=torch.float64)}, "displacement"),
    ],
)
def test_every_other_check_can_fail(scene, change, text):
    certificate = segmentation(Swap().eval(), *scene, lipschitz=3.0)
    with pytest.raises(UnsoundError, match=text):
        assert_sound(certificate, dataclasses.replace(attack(scene), **change))


def test_a_certified_value_that_is_lost_to_nan_is_a_violation(scene):
    class Broken(PixelAccuracy):
        def _worst(self, *args):
            return super()._worst(*args) * math.nan

    certificate = segmentation(Swap().eval(), *scene, lipschitz=3.0)
    with pytest.raises(UnsoundError, match="nan"):
        assert_sound(certificate, attack(scene), [Broken()])


def test_undefined_values_are_no_violation(scene):
    images, target = scene
    target = target.masked_fill(target == 1, 255)  # no pixel of class 1 is left
    adversarial = SegPGD(Vanish(1), steps=3)(Swap().eval(), images, target, [0.05])
    certificate = segmentation(Swap().eval(), images, target, lipschitz=3.0)
    assert adversarial.scores.isnan().all()
    assert_sound(certificate, adversarial, [*certificate.criteria, FalseNegativeRate(positive=1)])


@pytest.mark.parametrize("what", ["images", "labels", "norm p"])
def test_both_must_be_about_the_same(scene, what):
    adversarial = attack(scene)
    images, target = scene
    p = math.inf if what == "norm p" else 2
    if what == "images":
        images = images + 1e-3
    if what == "labels":
        target = (target + 1).clamp(max=2)
    certificate = segmentation(Swap().eval(), images, target, lipschitz=3.0, p=p)
    with pytest.raises(InputError, match=f"not about the same {what}"):
        assert_sound(certificate, adversarial)


@pytest.mark.parametrize("name", ["fcn", "unet"])
@pytest.mark.parametrize("p", [2, math.inf])
def test_random_lipnets_hold_against_the_pool(name, p):
    torch.manual_seed(0)
    model = onelip.fold(onelip.models.create(name, classes=3, size="XS").eval())
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    certifier = Certifier(model, p=p)
    target = certifier(images).prediction.clone()
    target[:, :2] = 255
    common = int(target[:, 2:].flatten().mode().values)
    target[:, 2:4] = (common + 1) % 3
    certificate = certifier(images, target)
    eps = [0.05, 0.5] if p == 2 else [0.002, 0.02]
    iou = IoU(label=common)
    for goal in (PixelErrors(), CriterionGoal(iou)):
        pool = Strongest(goal, p=p, steps=6, judge=certifier.model)
        adversarial = pool(model, images, target, eps)
        assert_sound(certificate, adversarial, [*certificate.criteria, iou])
        assert (adversarial.scores[-1] > adversarial.clean_scores).all()


def test_a_float32_search_is_judged_in_float64(scene):
    certifier = Certifier(onelip.load("scenes"))
    image, target = (t[None] for t in onelip.data.open("scenes", "test", size=(32, 48))[0])
    adversarial = PGD(PixelErrors(), steps=5, judge=certifier.model)(
        onelip.load("scenes"), image, target, [0.2]
    )
    again = certifier.model(adversarial.images[0]).argmax(1)
    assert torch.equal(again, adversarial.predictions[0])
    assert_sound(certifier(image, target), adversarial)
