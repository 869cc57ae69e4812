"""Attacks on detectors as a user calls them: balls, determinism, what is fixed, other judges, bad input."""

import dataclasses
import math

import pytest
import torch

import onelip
from onelip import attacks
from onelip.attacks import (
    PGD,
    DetectionErrors,
    Erase,
    FabricateBoxes,
    FabricateCount,
    Knapsack,
    MinNorm,
    Mislabel,
    RandomNoise,
    SegPGD,
    ShiftBoxes,
    Strongest,
    Vanish,
    VanishBoxes,
)
from onelip.attacks.boxes.base import pursued
from onelip.attacks.boxes.false import false_objects
from onelip.attacks.boxes.heads import iou
from onelip.certify import PixelAccuracy
from onelip.core.errors import InputError, NonFiniteError, TrainModeError

GOALS = [
    VanishBoxes(),
    VanishBoxes(support="location"),
    VanishBoxes(form="all"),
    FabricateBoxes(),
    FabricateBoxes(form="margin"),
    FabricateCount(),
    FabricateCount(after_nms=False),
    Mislabel(mode="random"),
    Mislabel(mode="untargeted"),
    ShiftBoxes(),
    DetectionErrors(),
]
NONE = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def names(goal):
    return f"{goal.name}-{'-'.join(goal.losses)}-{goal.support}"


@pytest.fixture(scope="module")
def fcos():
    torch.manual_seed(0)
    det = onelip.fold(
        onelip.models.create("fcos", classes=2, size="XS", strides=(8, 16), prior=0.45, kappa=0.5).eval()
    )
    images = torch.rand(2, 3, 36, 42, generator=torch.Generator().manual_seed(1))
    target = [
        {
            "boxes": torch.tensor([[4.0, 5.0, 22.0, 26.0], [20.0, 8.0, 40.0, 30.0]]),
            "labels": torch.tensor([0, 1]),
        },
        NONE,
    ]
    return det, images, target


@pytest.fixture
def scene(make, target):
    """Two objects and an empty image, logits about the threshold."""
    draw = torch.Generator().manual_seed(3)
    offset = 0.3 * torch.randn(16, 2, generator=draw) - 0.3
    offset[0, 0], offset[10, 1] = 0.3, 0.4
    images = 0.5 + 0.1 * (torch.rand(3, 3, 16, 16, generator=draw, dtype=torch.float64) - 0.5)
    images[2, 0, :4] = 1.0
    return make(offset, gain=1.0), images, [target([0, 10], [0, 1]), target([5], [1]), NONE]


@pytest.mark.parametrize("goal", GOALS, ids=names)
def test_real_heads_answer_every_goal(fcos, goal):
    det, images, target = fcos
    adv = PGD(goal, steps=2)(det, images, target, eps=[1.0, 0.0, 3.0])
    assert adv.images.shape == (3, 2, 3, 36, 42)
    size = torch.linalg.vector_norm((adv.images - images.double()).flatten(2), dim=2)
    assert torch.equal(size, adv.norms)
    assert (size <= adv.eps[:, None]).all()
    assert adv.images.min() >= 0
    assert adv.images.max() <= 1
    assert torch.equal(adv.scores[1].nan_to_num(-1), adv.clean_scores.nan_to_num(-1))
    again = det.predict(adv.images[2].float())
    for mine, theirs in zip(adv.predictions[2], again, strict=True):
        assert torch.equal(mine["labels"], theirs["labels"])
        assert torch.allclose(mine["boxes"], theirs["boxes"], atol=1e-4)
    assert [len(found["labels"]) for found in adv.detections(0.01)[2]] == [
        len(found["labels"]) for found in det.predict(adv.images[2].float(), threshold=0.01)
    ]
    assert (adv.scores >= adv.clean_scores)[~adv.scores.isnan()].all()
    moved = det(adv.images[2].float()) - det(images)
    assert adv.moved[2].tolist() == pytest.approx(moved.flatten(1).norm(dim=1).tolist(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("goal", GOALS, ids=names)
def test_a_seed_decides_everything_and_a_batch_nothing(scene, goal):
    tool = PGD(goal, steps=5, restarts=2)
    one, again = (tool(*scene, [0.2, 0.6], seed=3) for _ in range(2))
    assert torch.equal(one.images, again.images)
    alone = dataclasses.replace(tool, batch_size=1)(*scene, [0.2, 0.6], seed=3)
    assert torch.allclose(alone.images, one.images, atol=1e-9)
    assert torch.equal(alone.scores.nan_to_num(-1), one.scores.nan_to_num(-1))


def test_another_seed_starts_elsewhere(scene):
    one, two = (PGD(FabricateBoxes(), steps=3, restarts=3)(*scene, [0.4], seed=s) for s in (0, 1))
    assert not torch.equal(one.images, two.images)


@pytest.mark.parametrize("goal", GOALS, ids=names)
def test_scores_grow_with_eps_and_with_restarts(scene, goal):
    few = PGD(goal, steps=5)(*scene, [0.1, 0.3, 0.9])
    many = PGD(goal, steps=5, restarts=3)(*scene, [0.1, 0.3, 0.9])
    assert few.scores.nan_to_num(0).diff(dim=0).ge(0).all()
    assert (many.scores.nan_to_num(0)[0] >= few.scores.nan_to_num(0)[0]).all()
    assert (few.scores[-1] > few.clean_scores).any()


@pytest.mark.parametrize("p", [1, math.inf])
def test_other_norms(scene, p):
    eps = [3.0] if p == 1 else [0.1]
    adv = PGD(VanishBoxes(), p=p, steps=30)(*scene, eps)
    size = torch.linalg.vector_norm((adv.images[0] - scene[1]).flatten(1), ord=p, dim=1)
    assert (size <= eps[0]).all()
    assert (adv.scores[0, :2] > 0).all()


def test_images_without_objects_are_left_alone_by_what_needs_objects_and_not_by_fabrication(scene):
    for goal in (VanishBoxes(), Mislabel(mode="untargeted"), ShiftBoxes()):
        adv = PGD(goal, steps=3)(*scene, [0.5])
        assert adv.scores[0].isnan().tolist() == [False, False, True]
        assert torch.equal(adv.images[0, 2], scene[1][2])
        assert not adv.success[0, 2]
    adv = PGD(FabricateCount(), steps=30)(*scene, [0.5])
    assert adv.success[0, 2]
    assert adv.norms[0, 2] > 0
    every = PGD(VanishBoxes(), steps=2)(scene[0], scene[1], [NONE] * 3, [0.5])
    assert every.scores.isnan().all()


def test_among_equal_scores_the_nearer_image_is_kept(scene):
    """Too little to win anything: the attack must not hand back the clean image, scores fall all the same."""
    det, images, target = scene
    adv = PGD(VanishBoxes(), steps=10)(det, images[:1], target[:1], [0.05])
    assert adv.scores.item() == 0
    assert adv.norms.item() > 0.04
    before, after = (det.raw(x).logits[0, [0, 10], [0, 1]] for x in (images[:1], adv.images[0]))
    assert (after < before).any()


def test_the_model_is_asked_for_the_image_and_never_for_its_padding(toy):
    """Ten pixels with stride four: the model pads to twelve inside, and no location or pixel is beyond the image."""
    det = toy(torch.full((9, 1), 0.2), torch.full((9, 4), 0.5), size=(10, 10))
    images = torch.full((1, 3, 10, 10), 0.5, dtype=torch.float64)
    target = [{"boxes": torch.tensor([[8.0, 8.0, 10.0, 10.0]]), "labels": torch.tensor([0])}]
    adv = PGD(VanishBoxes(), steps=20)(det, images, target, [1.0])
    assert adv.images.shape == (1, 1, 3, 10, 10)
    assert set(det.asked) == {(1, 3, 10, 10)}
    assert adv.clean_outputs.boxes.amax().item() == 10.0


def test_false_objects_are_the_same_for_every_model_batch_and_order(scene, toy, fcos):
    det, images, target = scene
    other = toy(torch.randn(4, 2), torch.full((4, 4), 0.5), size=(16, 16), stride=8)
    goal = FabricateBoxes(count=(3, 6), seed=5)
    mine = goal.prepare(goal.ask(det, images), target).false
    theirs = goal.prepare(goal.ask(other.float(), images.float()), target).false
    back = goal.prepare(goal.ask(det, images.flip(0)), target[::-1]).false[::-1]
    for one, two, three in zip(mine, theirs, back, strict=True):
        assert torch.equal(one["boxes"], two["boxes"])
        assert torch.equal(one["boxes"], three["boxes"])
        assert torch.equal(one["labels"], two["labels"])
    assert not torch.equal(mine[0]["boxes"][:3], mine[1]["boxes"][:3])
    reseeded = FabricateBoxes(count=(3, 6), seed=6)
    assert not torch.equal(
        reseeded.prepare(reseeded.ask(det, images), target).false[0]["boxes"][:3], mine[0]["boxes"][:3]
    )


@pytest.mark.parametrize("sizes", [None, torch.tensor([[20.0, 6.0], [3.0, 9.0]])])
def test_false_objects_are_where_nothing_is(fcos, sizes):
    det, _, target = fcos
    images = torch.rand(20, 3, 36, 42, generator=torch.Generator().manual_seed(2))
    goal = FabricateBoxes(count=(2, 4), sizes=sizes)
    heads = goal.ask(det, images)
    state = goal.prepare(heads, [target[0]] * 20)
    numbers = [len(false["labels"]) for false in state.false]
    assert set(numbers) == {2, 3, 4}
    for false in state.false:
        boxes = false["boxes"]
        assert (iou(boxes[:, None], target[0]["boxes"].double()[None]) < 0.1).all()
        between = iou(boxes[:, None], boxes[None]) - torch.eye(len(boxes), dtype=torch.float64)
        assert (between < 0.1).all()
        assert boxes.min() >= 0
        assert (boxes <= torch.tensor([42.0, 36.0, 42.0, 36.0])).all()
        assert false["labels"].unique().numel() <= 2
    everything = torch.cat([false["boxes"] for false in state.false])
    sides = everything[:, 2:] - everything[:, :2]
    if sizes is None:
        assert (sides.prod(1).sqrt() <= 36 / 3 + 1e-9).all()
        assert (sides.prod(1).sqrt() >= 36 / 16 / 8).all()
    else:
        scale = sides / sizes.double()[(sides[:, 0] < sides[:, 1]).long()]
        assert torch.allclose(scale[:, 0], scale[:, 1])
        assert (scale[:, 0] > 0.99).double().mean() > 0.7
    centres = (everything[:, :2] + everything[:, 2:]).div(2)
    assert centres.std(0).min() > 5


def test_an_image_that_is_full_gets_fewer_false_objects(make, gray, target):
    goal = FabricateBoxes(count=(5, 5), sizes=torch.tensor([[16.0, 16.0]]))
    heads = goal.ask(make(torch.zeros(16, 1)), gray())
    full = goal.prepare(
        heads, [{"boxes": torch.tensor([[0.0, 0.0, 16.0, 16.0]]), "labels": torch.tensor([0])}]
    )
    empty = goal.prepare(heads, [NONE])
    assert len(empty.false[0]["labels"]) == 5
    assert 1 <= len(full.false[0]["labels"]) <= 5
    small = false_objects(heads, full, count=(5, 5), sizes=torch.tensor([[2.0, 2.0]]), seed=0)
    assert len(small[0]["labels"]) == 5


def test_every_false_object_has_a_location_even_between_the_centres(make, gray):
    from onelip.attacks.boxes.fabricate import wanted

    goal = FabricateBoxes(count=(4, 4), sizes=torch.tensor([[0.5, 0.5]]))
    heads = goal.ask(make(torch.zeros(16, 2)), gray(2))
    state = goal.prepare(heads, [NONE, NONE])
    found = wanted(heads, state)
    for b in range(2):
        assert set(found.owner[b].tolist()) == {-1, 0, 1, 2, 3}
        for f in range(4):
            at = (found.owner[b] == f).nonzero()[0, 0]
            assert found.labels[b, at] == state.false[b]["labels"][f]
            assert torch.equal(found.boxes[b, at], state.false[b]["boxes"][f])


def test_an_attack_on_one_model_is_judged_on_another_with_other_locations(scene, toy):
    det, images, target = scene
    deaf = toy(torch.full((4, 2), -9.0), torch.full((4, 4), 0.5), size=(16, 16), stride=8)
    adv = PGD(FabricateCount(), steps=20, judge=deaf)(det, images, target, [0.5])
    assert adv.scores.tolist() == [[0.0] * 3]
    assert adv.predictions[0][0]["labels"].numel() == 0
    own = PGD(FabricateCount(), steps=20)(det, images, target, [0.5])
    assert own.success.all()
    double = PGD(FabricateCount(), steps=20, judge=det)(det, images, target, [0.5])
    assert torch.equal(double.images, own.images)


def test_classes_of_model_and_judge_must_agree(scene, make):
    other = make(torch.zeros(16, 3))
    with pytest.raises(InputError, match="model and judge have not the same classes"):
        PGD(VanishBoxes(), steps=1, judge=other)(*scene, [0.1])


def test_noise_has_the_norm_and_the_same_direction_for_every_eps(scene):
    det, images, target = scene
    found = RandomNoise(VanishBoxes())(det, images, target, [0.1, 0.4], seed=2)
    assert found.norms.flatten().tolist() == pytest.approx([0.1] * 3 + [0.4] * 3, rel=2e-2)
    one, two = ((found.images[i, 0] - images[0]).flatten() for i in (0, 1))
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) > 0.999
    again = RandomNoise(VanishBoxes(), batch_size=1)(det, images, target, [0.1, 0.4], seed=2)
    assert torch.equal(again.images, found.images)
    best = RandomNoise(FabricateCount(), draws=20)(det, images, target, [0.4])
    single = RandomNoise(FabricateCount())(det, images, target, [0.4])
    assert (best.scores >= single.scores).all()
    assert (best.scores > single.scores).any()


def test_the_cheapest_are_pursued_and_what_is_won_is_kept():
    cost = torch.tensor([[5.0, 1.0, 1e-13, 3.0, 0.5]])
    real = torch.tensor([[True, True, True, True, False]])
    assert pursued(cost, real, 0.0).tolist() == [[True, True, True, True, False]]
    assert pursued(cost, real, 0.5).tolist() == [[False, True, True, True, False]]
    assert pursued(cost, real, 0.99).tolist() == [[False, True, True, False, False]]
    assert pursued(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), 0.5).shape == (2, 0)


def test_everything_named_in_the_contract_is_there():
    for name in ("VanishBoxes", "FabricateBoxes", "Mislabel", "ShiftBoxes", "FabricateCount"):
        assert getattr(attacks, name) is getattr(attacks.goals, name)


def test_results_of_detectors_and_of_dense_models_say_what_they_have(scene):
    adv = PGD(VanishBoxes(), steps=1)(*scene, [0.1])
    assert "AttackResult: PGD on VanishBoxes, 3 images" in repr(adv)
    with pytest.raises(InputError, match="the predictions are boxes"):
        adv.values(PixelAccuracy())
    with pytest.raises(InputError, match="`threshold` is out of range"):
        adv.detections(1.0)
    dense = PGD(Vanish(0), steps=1)(
        torch.nn.Conv2d(3, 2, 1).eval(), torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4).long(), [0.1]
    )
    with pytest.raises(InputError, match="there are no boxes"):
        dense.detections()


@pytest.mark.parametrize("attack", [Knapsack, SegPGD, Erase, Strongest, lambda g: PGD(g, loss="margin")])
def test_attacks_on_pixels_refuse_goals_of_boxes(attack):
    with pytest.raises(InputError, match=r"cannot reach VanishBoxes.*to fix: PGD\(VanishBoxes\(\)\)"):
        attack(VanishBoxes())


def box(*sides, label=0):
    return {"boxes": torch.tensor([sides]), "labels": torch.tensor([label])}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "VanishBoxes: `targets` are missing"),
        (torch.zeros(3, 16, 16), "`targets` are not those of a detector; received Tensor"),
        ([NONE, NONE], "not one target for each image; received 2; expected 3"),
        ([NONE, NONE, {"boxes": torch.zeros(0, 4)}], "target 2 is not usable"),
        ([NONE, NONE, {"boxes": [[0, 0, 4, 4]], "labels": [0]}], "target 2 is not usable"),
        ([NONE, NONE, torch.zeros(1, 4)], "target 2 is not usable; received Tensor"),
        (
            [NONE, box(0.0, 0.0, 4.0, 4.0, label=2), NONE],
            r"a label that is no class; received 2; expected 0\.\.1",
        ),
        ([NONE, box(0.0, 0.0, 4.0, 4.0, label=-1), NONE], "target 1 has a negative label"),
        ([box(4.0, 0.0, 2.0, 4.0), NONE, NONE], "target 0 has a box without area"),
        ([box(4.0, 0.0, 4.0, 4.0), NONE, NONE], "target 0 has a box without area"),
        ([box(4.0, 0.0, 17.0, 4.0), NONE, NONE], "target 0 has a box outside the image"),
        ([box(-1.0, 0.0, 3.0, 4.0), NONE, NONE], "target 0 has a box outside the image"),
        ([box(math.nan, 0.0, 3.0, 4.0), NONE, NONE], "NaN"),
        ([{"boxes": torch.zeros(1, 5), "labels": torch.zeros(1).long()}, NONE, NONE], "wrong shapes"),
        ([{"boxes": torch.zeros(1, 4), "labels": torch.zeros(1)}, NONE, NONE], "wrong types"),
    ],
)
def test_bad_targets_are_named(scene, given, text):
    with pytest.raises(InputError, match=text):
        PGD(VanishBoxes(), steps=1)(scene[0], scene[1], given, [0.1])


@pytest.mark.parametrize(
    ("make_goal", "text"),
    [
        (lambda: VanishBoxes(threshold=1.0), "VanishBoxes: `threshold` is out of range"),
        (lambda: VanishBoxes(threshold=math.nan), "`threshold` is out of range"),
        (lambda: VanishBoxes(iou=0.0), "`iou` is out of range"),
        (
            lambda: VanishBoxes(form="best"),
            "VanishBoxes: `form` is unknown; received 'best'; expected margin",
        ),
        (lambda: VanishBoxes(support="pixel"), "`support` is unknown"),
        (lambda: VanishBoxes(enough=math.inf), "`enough` is out of range"),
        (lambda: ShiftBoxes(form="tog"), "ShiftBoxes: `form` is unknown"),
        (lambda: ShiftBoxes(support="location"), "ShiftBoxes: `support` is unknown"),
        (lambda: Mislabel(mode="likely"), "Mislabel: `mode` is unknown"),
        (lambda: FabricateBoxes(count=(5, 2)), "FabricateBoxes: `count` is not usable"),
        (lambda: FabricateBoxes(count=3), "FabricateBoxes: `count` is not usable"),
        (lambda: FabricateBoxes(count=(0, 2)), r"`count\[0\]` is not usable"),
        (lambda: FabricateBoxes(sizes=torch.ones(3)), "FabricateBoxes: `sizes` are not usable"),
        (lambda: FabricateBoxes(sizes=torch.zeros(3, 2)), "FabricateBoxes: `sizes` are not usable"),
        (lambda: FabricateBoxes(form="tog"), "FabricateBoxes: `form` is unknown"),
        (lambda: RandomNoise(VanishBoxes(), draws=0), "`draws` is not usable"),
        (lambda: RandomNoise(VanishBoxes(), p=3), "`p` is not a supported norm"),
    ],
)
def test_bad_options_are_named(make_goal, text):
    with pytest.raises(InputError, match=text):
        make_goal()


def test_models_that_cannot_be_attacked_are_named(scene, make):
    det, images, target = scene
    dense = torch.nn.Conv2d(3, 2, 1).eval()
    with pytest.raises(InputError, match="the model is not a detector; received Conv2d without raw"):
        PGD(VanishBoxes(), steps=1)(dense.double(), images, target, [0.1])
    with pytest.raises(InputError, match="Mislabel: there is no other class"):
        PGD(Mislabel(), steps=1)(make(torch.zeros(16, 1)), images, [NONE] * 3, [0.1])
    det.offset[0] = math.nan
    with pytest.raises(NonFiniteError, match="logits"):
        PGD(VanishBoxes(), steps=1)(det, images, target, [0.1])
    for attack in (PGD(VanishBoxes()), MinNorm(VanishBoxes()), RandomNoise(VanishBoxes())):
        with pytest.raises(TrainModeError, match="train mode"):
            attack(make(torch.zeros(16, 2)).train(), images, target)
