"""assert_sound for detections: passes where certificates hold, and every claim of them can be caught."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import onelip
from onelip.attacks import (
    PGD,
    FabricateCount,
    MinNorm,
    Mislabel,
    RandomNoise,
    ShiftBoxes,
    VanishBoxes,
)
from onelip.certify import detection
from onelip.core.errors import InputError, UnsoundError
from onelip.testing import assert_sound
from onelip.testing.boxes import Attacked, average_precision

EPS = [0.3, 0.6]
BOXES = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 16.0]])
TARGETS = [
    {"boxes": BOXES, "labels": torch.tensor([0, 1])},
    {"boxes": BOXES[:1], "labels": torch.tensor([1])},
    {"boxes": BOXES[:0], "labels": torch.zeros(0, dtype=torch.int64)},
]


@pytest.fixture(params=["free", "lipschitz"])
def scene(request, toy):
    """Joint constant one, and nothing lost: whatever the certificate fears can be done, but for boxes."""
    offset, sides = torch.full((16, 2), -0.5), torch.full((16, 4), 0.5)
    for i in (0, 1, 4, 10):
        y, x = divmod(i, 4)
        centre = 1.0 if i < 10 else 3.0
        offset[i, 0 if i < 10 else 1] = 0.25
        sides[i] = (
            torch.tensor([x - centre + 0.5, y - centre + 0.5, centre - 0.5 - x, centre - 0.5 - y]) + 0.95
        )
    offset[4, 1] = 0.05
    det = toy(offset, sides, size=(16, 16), kind=request.param, kappa=1.0)
    return det, torch.full((3, 3, 16, 16), 0.5, dtype=torch.float64)


def certified(scene, lipschitz=1.0):
    return detection(*scene, TARGETS, lipschitz=lipschitz)


def attacked(scene, goal, steps=40, eps=EPS):
    return PGD(goal, steps=steps)(*scene, TARGETS, eps)


GOALS = [
    VanishBoxes(enough=None),
    VanishBoxes(enough=None, support="location"),
    FabricateCount(after_nms=False),
    Mislabel(mode="untargeted"),
    ShiftBoxes(enough=None),
]


@pytest.mark.parametrize("goal", GOALS, ids=lambda g: f"{g.name}-{g.support}")
def test_it_passes_with_the_right_constant_and_fails_with_a_smaller_one(scene, goal, tmp_path):
    adversarial = attacked(scene, goal)
    assert_sound(certified(scene), adversarial, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    if goal.name == "ShiftBoxes" and scene[0].regression_kind == "free":
        return  # nothing is claimed of boxes, and none moves
    with pytest.raises(UnsoundError, match="displacement of the logits"):
        assert_sound(certified(scene, 0.4), adversarial, folder=tmp_path)
    facts = json.loads((tmp_path / "unsound.json").read_text())
    assert facts["lipschitz"] == 0.4
    arrays = np.load(tmp_path / "unsound.npz")
    assert {"adversarial", "clean", "prediction_boxes", "prediction_labels", "target_boxes"} <= set(arrays)
    moved = np.linalg.norm(arrays["adversarial"] - arrays["clean"])
    assert moved == pytest.approx(facts["norm"])


def hidden(adversarial):
    return dataclasses.replace(adversarial, moved=torch.zeros_like(adversarial.moved))


@pytest.mark.parametrize(
    ("goal", "what"),
    [
        (FabricateCount(after_nms=False), "number of new candidates"),
        (VanishBoxes(enough=None, support="location"), "number of objects found"),
        (Mislabel(mode="untargeted"), "(number of objects found|number of new candidates|mislabel radius)"),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_without_the_displacement_the_claims_themselves_tell(scene, goal, what):
    with pytest.raises(UnsoundError, match=f"an attack beats the certificate: {what}"):
        assert_sound(certified(scene, 0.3), hidden(attacked(scene, goal)))


def test_smallest_norms_are_not_below_the_radii(scene):
    found = MinNorm(VanishBoxes(support="location"), max_eps=1.0, steps=20, searches=6)(*scene, TARGETS)
    assert found.success[0].tolist() == [True, True, False]
    certificate = certified(scene)
    assert_sound(certificate, found)
    assert found.radius[0].item() >= max(certificate.location_radius[0].tolist())
    assert found.radius[0].item() <= 1.05 * math.hypot(*certificate.location_radius[0].tolist())


CLAIMS = {
    "new_detections": (FabricateCount(after_nms=False), "number of new candidates"),
    "silent_radius": (FabricateCount(after_nms=False), "silent radius"),
    "alarm_radius": (FabricateCount(after_nms=False), "alarm radius"),
    "presence_radius": (VanishBoxes(enough=None, support="location"), "presence radius"),
    "relabelled": (Mislabel(mode="untargeted"), "number of new labels"),
    "reported": (FabricateCount(), "number of detections"),
    "found": (VanishBoxes(enough=None, support="location"), "number of objects found"),
    "alarms": (FabricateCount(), "number of false alarms"),
    "location_radius": (VanishBoxes(enough=None, support="location"), "location radius"),
    "vanish_radius": (VanishBoxes(enough=None, support="location"), "vanish radius"),
    "label_radius": (Mislabel(mode="untargeted"), "label radius"),
    "mislabel_radius": (Mislabel(mode="untargeted"), "mislabel radius"),
    "recall": (VanishBoxes(enough=None, support="location"), "recall of the batch"),
    "precision": (FabricateCount(), "precision of the batch"),
    "average_precision": (VanishBoxes(enough=None, support="location"), "average_precision of the batch"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_alone_is_caught_when_it_is_too_good(scene, claim):
    goal, what = CLAIMS[claim]
    free = scene[0].regression_kind == "free"
    if free and claim in ("precision", "average_precision"):
        with pytest.raises(InputError, match="cannot be certified"):
            getattr(certified(scene), claim)([0.1])
        return
    eps = [2.0] if claim in ("relabelled", "label_radius", "mislabel_radius") else [1.2]
    adversarial, certificate = attacked(scene, goal, eps=eps), certified(scene)
    assert_sound(certificate, adversarial)
    value = getattr(certificate, claim)
    if claim.endswith("radius"):
        lie = (
            [torch.full_like(v, 9.0) for v in value]
            if isinstance(value, list)
            else torch.full_like(value, 9.0)
        )
    elif claim in ("found", "recall", "precision", "average_precision"):

        def lie(eps, **_):
            clean = value([0.0])
            return clean.expand(len(eps), *clean.shape[1:])
    else:

        def lie(eps, **_):
            return value([0.0]).expand(len(eps), -1)

    certificate.__dict__[claim] = lie
    with pytest.raises(UnsoundError, match=f"an attack beats the certificate: {what} of image"):
        assert_sound(certificate, adversarial)


def test_noise_is_checked_without_having_to_be_better_than_nothing(scene):
    goal = VanishBoxes(enough=None)
    noise = RandomNoise(goal)(*scene, TARGETS, EPS)
    worse = dataclasses.replace(noise, clean_scores=noise.clean_scores + 1)
    assert_sound(certified(scene), worse)
    with pytest.raises(UnsoundError, match="score of the goal VanishBoxes"):
        assert_sound(certified(scene), dataclasses.replace(worse, control=False))


@pytest.mark.parametrize("what", ["images", "detector", "targets"])
def test_both_must_be_about_the_same(scene, toy, what):
    det, images = scene
    adversarial = attacked(scene, VanishBoxes(), steps=1)
    other, targets = det, TARGETS
    if what == "images":
        images = images + 1e-3
    if what == "detector":
        other = toy(det.offset + 0.5, det.sides, size=(16, 16), kind=det.regression_kind, kappa=1.0)
    if what == "targets":
        targets = [TARGETS[0], TARGETS[2], TARGETS[2]]
    with pytest.raises(InputError, match=f"not about the same {what}"):
        assert_sound(detection(other, images, targets, lipschitz=1.0), adversarial)


def test_a_norm_that_nothing_is_proven_for_is_refused(scene):
    adversarial = PGD(VanishBoxes(), steps=1, p=math.inf)(*scene, TARGETS, [0.01])
    with pytest.raises(InputError, match="not about the same norm p"):
        assert_sound(certified(scene), adversarial)


def test_unknown_criteria_are_named(scene):
    with pytest.raises(InputError, match=r"unknown criteria; received \['speed'\]"):
        assert_sound(certified(scene), attacked(scene, VanishBoxes(), steps=1), ["speed"])


def test_average_precision_is_that_of_a_small_example():
    """By falling score: right, wrong, right, and one object never found: (1 + 2/3) / 3."""
    truth = torch.tensor([[0.0, 0.0, 4.0, 4.0], [8.0, 0.0, 12.0, 4.0], [0.0, 8.0, 4.0, 12.0]])
    found = {
        "boxes": torch.stack([truth[0], torch.tensor([20.0, 20.0, 24.0, 24.0]), truth[1]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.zeros(3, dtype=torch.int64),
    }

    class Scene:
        boxes, labels = truth, torch.zeros(3, dtype=torch.int64)

    image = Attacked(Scene(), 0.0, torch.zeros(1, 1), found)
    assert average_precision([image]) == pytest.approx((1 + 2 / 3) / 3)
    twice = {k: torch.cat([v[:1], v]) for k, v in found.items()}  # a second detection of an object is false
    again = Attacked(Scene(), 0.0, torch.zeros(1, 1), twice)
    assert again.alarms(free=False) == 2
    assert average_precision([again]) == pytest.approx((1 + 2 / 4) / 3)


@pytest.mark.parametrize("regression", ["free", "lipschitz"])
def test_random_lipschitz_detectors_hold(regression):
    torch.manual_seed(0)
    det = onelip.models.create(
        "fcos", classes=2, size="XS", strides=(8, 16), prior=0.48, regression=regression, kappa=0.3
    ).eval()
    images = torch.rand(2, 3, 32, 40, dtype=torch.float64)
    targets = [
        {"boxes": torch.tensor([[4.0, 5.0, 22.0, 26.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[8.0, 2.0, 38.0, 30.0]]), "labels": torch.tensor([0])},
    ]
    certifier = onelip.certify.DetectionCertifier(det)
    certificate = certifier(images, targets)
    for goal in (
        FabricateCount(after_nms=False),
        VanishBoxes(form="either"),
        VanishBoxes(support="location"),
    ):
        adversarial = PGD(goal, steps=5, judge=certifier.model)(certifier.model, images, targets, [0.1, 1.0])
        assert_sound(certificate, adversarial)
