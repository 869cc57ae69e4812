"""Detectors whose cheapest attack is known: objects that vanish, appear, change class and move at their price."""

import math

import pytest
import torch

from onelip.attacks import (
    PGD,
    DetectionErrors,
    FabricateBoxes,
    FabricateCount,
    MinNorm,
    Mislabel,
    RandomNoise,
    ShiftBoxes,
    VanishBoxes,
)


def quiet(classes=1, cells=16, level=-2.0):
    return torch.full((cells, classes), level)


def wide(toy, cells, margins, classes=1, scale=1.0, **options):
    """One object over 2 x 2 cells (0, 1, 4, 5); the boxes of the given cells are all its box, or a smaller one."""
    offset, sides = quiet(classes), torch.full((16, 4), 0.5)
    for i, margin in zip(cells, margins, strict=True):
        y, x = divmod(i, 4)
        offset[i, 0] = margin
        sides[i] = torch.tensor([x - 0.5, y - 0.5, 0.5 - x, 0.5 - y]) + scale
    return toy(offset, sides, size=(16, 16), **options)


WIDE = {"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}


@pytest.mark.parametrize("support", ["box", "location"])
def test_an_object_vanishes_at_the_norm_of_all_its_margins(toy, gray, support):
    margins = [0.3, 0.2, 0.1]
    det, price = wide(toy, [0, 1, 5], margins), math.hypot(*margins)
    goal = VanishBoxes(support=support)
    adv = PGD(goal, steps=60)(det, gray(), [WIDE], eps=[0.99 * price, 1.03 * price])
    assert adv.scores[:, 0].tolist() == [0.0, 1.0]
    found = MinNorm(goal, max_eps=2.0, steps=30, searches=8)(det, gray(), [WIDE]).radius.item()
    assert price <= found <= 1.03 * price


@pytest.mark.parametrize("form", ["margin", "either", "tog", "all"])
def test_every_form_of_vanishing_reaches_its_goal_with_room(toy, gray, form):
    det = wide(toy, [0, 1, 5], [0.3, 0.2, 0.1])
    adv = PGD(VanishBoxes(form=form), steps=60)(det, gray(), [WIDE], eps=[0.9])
    assert adv.success.all()
    assert det.predict(adv.images[0])[0]["boxes"].shape == (0, 4)
    assert len(det.predict(gray())[0]["boxes"]) == 1


def lost(costs, eps):
    """How many of the objects a budget buys, the cheapest first."""
    paid = 0.0
    for n, cost in enumerate(sorted(costs)):
        paid += cost**2
        if paid > eps**2:
            return n
    return len(costs)


@pytest.mark.parametrize("eps", [0.15, 0.3, 0.5, 0.8, 1.3])
def test_as_many_objects_vanish_as_the_budget_buys(make, gray, target, eps):
    costs = [0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
    offset = quiet()
    cells = [0, 2, 5, 7, 10, 13]
    offset[cells, 0] = torch.tensor(costs)
    adv = PGD(VanishBoxes(enough=None), steps=80)(make(offset), gray(), [target(cells)], eps=[eps])
    assert adv.scores.item() * 6 == pytest.approx(lost(costs, eps))


@pytest.mark.parametrize("after_nms", [False, True])
@pytest.mark.parametrize("eps", [0.3, 0.62, 1.0])
def test_as_many_false_detections_appear_as_the_budget_buys(make, gray, target, eps, after_nms):
    draw = torch.Generator().manual_seed(1)
    gaps = 0.1 + 0.4 * torch.rand(16, 1, generator=draw)
    gaps[3] = -1.0
    best = lost(gaps.flatten()[gaps.flatten() > 0].tolist(), eps)
    assert best >= 1
    goal = FabricateCount(after_nms=after_nms)
    adv = PGD(goal, steps=100, restarts=2)(make(-gaps), gray(), [target([3])], eps=[eps])
    assert adv.clean_scores.item() == 0
    assert best - 1 <= adv.scores.item() <= best
    assert adv.success.item() is (adv.scores.item() > 0)


def test_clusters_that_suppress_each_other_are_not_pulled_twice(toy, gray):
    """Four locations with one and the same box count once; a dearer one elsewhere is worth more than the second."""
    det = wide(toy, [0, 1, 4, 5], [-0.1] * 4)
    det.offset[15] = -0.35
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    adv = PGD(FabricateCount(), steps=80)(det, gray(), nothing, eps=[0.38])
    assert adv.scores.item() == 2
    pairs = PGD(FabricateCount(after_nms=False), steps=80)(det, gray(), nothing, eps=[0.38])
    assert pairs.scores.item() == 4


@pytest.mark.parametrize("mode", ["most_likely", "least_likely", "untargeted"])
def test_a_label_changes_at_the_norm_of_both_gaps(toy, gray, mode):
    det = wide(toy, [0, 1], [0.3, 0.2], classes=3)
    det.offset[0, 1], det.offset[1, 1] = -0.4, -0.9
    det.offset[0, 2], det.offset[1, 2] = -0.7, -1.5
    gap = 0.7 if mode == "least_likely" else 0.4
    price = math.sqrt(0.3**2 + 0.2**2 + gap**2)
    goal = Mislabel(mode=mode)
    adv = PGD(goal, steps=80)(det, gray(), [WIDE], eps=[0.99 * price, 1.04 * price])
    assert adv.scores[:, 0].tolist() == [0.0, 1.0]
    labels = adv.predictions[1][0]["labels"].tolist()
    assert labels == [2 if mode == "least_likely" else 1]
    assert (
        price
        <= MinNorm(goal, max_eps=3.0, steps=30, searches=8)(det, gray(), [WIDE]).radius.item()
        <= 1.04 * price
    )


def test_random_classes_are_others_and_the_same_for_every_model(toy, gray, target):
    images = gray() + 0.02 * torch.rand(1, 3, 16, 16, dtype=torch.float64)
    offsets = [quiet(4) + 0.1 * torch.randn(16, 4) for _ in range(2)]
    goal, wanted = Mislabel(mode="random"), []
    for offset in offsets:
        det = toy(offset, torch.full((16, 4), 0.5), size=(16, 16))
        state = goal.prepare(goal.ask(det, images), [target(list(range(16)), [i % 4 for i in range(16)])])
        wanted.append(state.wanted)
        assert (state.wanted != state.labels).all()
        assert state.wanted.min() >= 0
        assert state.wanted.max() <= 3
    assert torch.equal(*wanted)
    assert len(set(wanted[0].flatten().tolist())) > 1
    other = Mislabel(mode="random", seed=1)
    assert not torch.equal(
        other.prepare(other.ask(det, images), [target(list(range(16)))]).wanted,
        goal.prepare(goal.ask(det, images), [target(list(range(16)))]).wanted,
    )


def test_a_box_moves_away_at_its_price(toy, gray):
    """A square of 0.9 of the object shrinks on four sides by d, until (0.9 - d)^2 = 1/2 of the object is left."""
    gain = 2.0
    det = wide(toy, [0], [1.0], scale=0.9, gain=gain)
    price = 2 * (0.9 - math.sqrt(0.5)) / gain
    found = MinNorm(ShiftBoxes(), max_eps=3.0, steps=30, searches=8)(det, gray(), [WIDE])
    assert 0.99 * price <= found.radius.item() <= 1.1 * price
    assert found.predictions[0][0]["scores"].item() > 0.99
    stiff = wide(toy, [0], [1.0], scale=0.9)
    assert PGD(ShiftBoxes(), steps=20)(stiff, gray(), [WIDE], 1.0).scores.tolist() == [[0.0]]


def test_either_takes_the_way_that_is_cheaper(toy, gray):
    """The logit is dear and the box cheap; then the other way round."""
    moving = wide(toy, [0], [2.0], gain=4.0)
    assert PGD(VanishBoxes(form="either"), steps=60)(moving, gray(), [WIDE], eps=[0.6]).success.all()
    assert not PGD(VanishBoxes(), steps=60)(moving, gray(), [WIDE], eps=[0.6]).success.any()
    firm = wide(toy, [0], [0.4], gain=0.1)
    assert PGD(VanishBoxes(form="either"), steps=60)(firm, gray(), [WIDE], eps=[0.5]).success.all()
    assert not PGD(VanishBoxes(form="boxes"), steps=60)(firm, gray(), [WIDE], eps=[0.5]).success.any()


@pytest.mark.parametrize("form", ["focal", "margin", "all"])
def test_false_objects_appear_when_there_is_budget_and_not_before(make, gray, target, form):
    det = make(quiet(level=-0.2))
    goal = FabricateBoxes(count=(2, 2), form=form, sizes=torch.tensor([[4.0, 4.0]]))
    adv = PGD(goal, steps=60)(det, gray(), [target([3])], eps=[0.19, 3.0])
    assert adv.scores[0].item() == 0  # every gap is 0.2
    assert adv.scores[1].item() >= 2
    assert adv.success[:, 0].tolist() == [False, True]


def test_errors_of_any_kind_are_counted_together(make, gray, target):
    offset = quiet(level=-0.3)
    offset[0] = 0.3
    adv = PGD(DetectionErrors(), steps=60)(make(offset), gray(), [target([0])], eps=[2.0])
    assert adv.clean_scores.item() == 0
    assert adv.scores.item() >= 10


@pytest.mark.parametrize(
    "goal", [VanishBoxes(), FabricateCount(), FabricateBoxes(form="margin"), Mislabel(), ShiftBoxes()]
)
def test_an_attack_does_more_than_noise_of_the_same_norm(toy, gray, target, goal):
    det = wide(toy, [0, 1, 5], [0.3, 0.2, 0.1], classes=2, gain=2.0)
    det.offset[det.offset < -1] = -0.5
    attack, noise = (a(det, gray(), [WIDE], [1.0]) for a in (PGD(goal, steps=40), RandomNoise(goal)))
    assert noise.norms.item() == pytest.approx(1.0, rel=1e-6)
    assert noise.norms.item() <= 1.0
    assert noise.control
    assert not attack.control
    assert attack.scores.item() > noise.scores.item()
    assert noise.scores.item() == noise.clean_scores.item()
