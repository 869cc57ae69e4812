"""Attacks as a user calls them: goals, determinism, void pixels, what they leave untouched, bad input."""

import dataclasses
import math

import pytest
import torch

from onelip import attacks
from onelip.attacks import (
    PGD,
    CriterionGoal,
    Erase,
    Fabricate,
    Knapsack,
    MinNorm,
    Misclassify,
    PixelErrors,
    Region,
    SegPGD,
    Strongest,
    Vanish,
)
from onelip.attacks.base import predict
from onelip.certify import Dice, FalseNegativeRate, IoU, MeanIoU, PixelAccuracy, Recall, Stability
from onelip.core.errors import InputError, NonFiniteError, TrainModeError

ALL = [PGD, SegPGD, Knapsack, Erase, Strongest]
CRITERIA = [
    PixelAccuracy(),
    Stability(),
    Recall(positive=1),
    FalseNegativeRate(positive=1),
    IoU(label=1),
    Dice(label=1),
    MeanIoU(),
]


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 3, padding=1)]
    return torch.nn.Sequential(*layers).eval()


@pytest.fixture
def scene(net):
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 10, 10, generator=draw)
    target = net(images).argmax(1)
    target[:, 0] = 255
    target[:, 1] = (target[:, 1] + 1) % 3
    return images, target


@pytest.mark.parametrize("attack", ALL)
def test_a_seed_decides_everything_and_a_batch_nothing(net, scene, attack):
    images, target = scene
    tool = attack(PixelErrors(), steps=4, restarts=3)
    one, again = (tool(net, images, target, [0.3, 0.6], seed=3) for _ in range(2))
    assert torch.equal(one.images, again.images)
    other = tool(net, images, target, [0.3, 0.6], seed=4)
    assert not torch.equal(one.images, other.images)
    alone = dataclasses.replace(tool, batch_size=1)(net, images, target, [0.3, 0.6], seed=3)
    assert (alone.images - one.images).abs().max() < 0.2
    assert torch.allclose(alone.scores, one.scores, atol=0.05)


def test_restarts_never_hurt(net, scene):
    few = SegPGD(PixelErrors(), steps=3)(net, *scene, [0.2])
    many = SegPGD(PixelErrors(), steps=3, restarts=4)(net, *scene, [0.2])
    assert (many.scores >= few.scores).all()


@pytest.mark.parametrize("attack", ALL)
def test_void_pixels_are_worth_nothing(net, scene, attack):
    """Other labels where all is void, and no gradient from there: the attack is the same."""
    images, target = scene
    found = attack(PixelErrors(), steps=4)(net, images, target, [0.3])
    share = ((found.predictions[0] != target) & (target != 255)).flatten(1).sum(1) / 90.0
    assert found.scores[0].tolist() == pytest.approx(share.tolist())
    other = attack(PixelErrors(ignore_index=254), steps=4)(
        net, images, target.masked_fill(target == 255, 254), [0.3]
    )
    assert torch.equal(found.images, other.images)


def test_images_without_anything_to_win_are_left_alone(net, scene):
    images, target = scene
    target[1] = 255
    found = Strongest(PixelErrors(), steps=3)(net, images, target, [0.3])
    assert found.scores[:, 1].isnan().all()
    assert torch.equal(found.images[0, 1], images[1].double())
    assert found.norms[0, 1] == 0
    assert not found.success[0, 1]
    assert found.norms[0, 0] > 0


def test_goals_move_what_they_name(net, scene):
    images, target = scene
    start = net(images).argmax(1)
    valid = target != 255

    def share(mask, prediction, label):
        return ((prediction == label) & mask).flatten(1).sum(1).double() / mask.flatten(1).sum(1).double()

    label = int(target[target != 255].mode().values)
    gone = Knapsack(Vanish(label), steps=20)(net, images, target, [1.0])
    mine = (target == label) & valid
    assert gone.scores[0].tolist() == pytest.approx((1 - share(mine, gone.predictions[0], label)).tolist())
    assert (share(mine, gone.predictions[0], label) < share(mine, start, label)).all()
    made = Knapsack(Fabricate(label), steps=20)(net, images, target, [1.0])
    others = (target != label) & valid
    assert (share(others, made.predictions[0], label) > share(others, start, label)).all()
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[4:7, 4:7] = True
    painted = Knapsack(Region(mask, label), steps=20)(net, images, None, [3.0])
    assert (painted.scores[0] >= share(mask.expand(3, -1, -1), start, label)).all()
    assert painted.success.any()


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
@pytest.mark.parametrize("attack", [SegPGD, Knapsack])
def test_any_criterion_can_be_the_goal(net, scene, criterion, attack):
    images, target = scene
    found = attack(CriterionGoal(criterion), steps=10)(net, images, target, [0.5])
    value, clean = found.values(criterion)[0], found.clean_values(criterion)
    if criterion.higher_is_better:
        assert (value < clean).all()
    else:
        assert (value > clean).all()
    sign = -1.0 if criterion.higher_is_better else 1.0
    assert torch.allclose(found.scores[0], sign * value, rtol=0, atol=1e-12)
    assert found.success.all()


def test_stability_needs_no_labels(net, scene):
    found = SegPGD(CriterionGoal(Stability()), steps=5)(net, scene[0], None, [0.5])
    assert found.clean_values(Stability()).tolist() == [1.0] * 3
    assert (found.values(Stability()) < 1).all()


def test_thresholds_are_compared_as_a_caller_would(net, scene):
    goal = CriterionGoal(PixelAccuracy(), threshold=0.7)
    score = -torch.tensor([0.7, 0.7000001, math.nan], dtype=torch.float64)
    assert goal.reached(score, score).tolist() == [True, False, False]
    rate = CriterionGoal(FalseNegativeRate(positive=1), threshold=0.3)
    score = torch.tensor([0.3, 0.29, math.nan], dtype=torch.float64)
    assert rate.reached(score, score).tolist() == [True, False, False]


def test_the_model_is_left_as_it_was(net, scene):
    frozen = next(net.parameters())
    frozen.requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    Strongest(PixelErrors(), steps=2)(net, *scene, [0.2])
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    with pytest.raises(InputError):
        PGD(PixelErrors())(net, scene[0], None, [0.2])
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]


def test_a_flat_start_is_left_by_a_random_step():
    """Dead units around the image: the gradient is zero there, and still errors are found."""

    class Dead(torch.nn.Module):
        def forward(self, x):
            bump = torch.relu((x - 0.5).abs() - 0.05).sum(1, keepdim=True)
            return torch.cat([torch.full_like(bump, 0.01), bump], dim=1)

    images, target = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 4, 4, dtype=torch.int64)
    found = SegPGD(PixelErrors(), steps=10)(Dead().eval(), images, target, [1.0])
    assert found.clean_scores.item() == 0
    assert found.scores.item() > 0


def test_the_judge_decides(net, scene):
    class Deaf(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x.mean(1) * 0 + 1, x.mean(1) * 0, x.mean(1) * 0], 1)

    target = torch.zeros_like(scene[1])
    found = SegPGD(PixelErrors(), steps=5, judge=Deaf().eval())(net, scene[0], target, [0.5])
    assert found.scores.tolist() == [[0.0] * 3]
    assert not found.success.any()
    assert torch.equal(found.images[0], scene[0].double())


@pytest.mark.parametrize("attack", [*ALL, MinNorm])
def test_train_mode_is_refused(net, scene, attack):
    net.train()
    arguments = () if attack is MinNorm else ([0.1],)
    with pytest.raises(TrainModeError, match="train mode"):
        attack(PixelErrors(), steps=1)(net, *scene, *arguments)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"images": torch.full((3, 3, 10, 10), 2.0)}, "`images` is out of range"),
        ({"images": torch.full((3, 3, 10, 10), math.nan)}, "`images` is not finite"),
        ({"images": torch.zeros(3, 3, 10)}, "`images` has the wrong shape"),
        ({"target": torch.zeros(3, 9, 10, dtype=torch.int64)}, "`target` does not fit"),
        ({"target": torch.zeros(3, 10, 10)}, "`target` has the wrong type"),
        ({"target": torch.full((3, 10, 10), 3)}, "labels outside the classes"),
        ({"target": None}, "`target` is missing"),
        ({"eps": []}, "`eps` is empty"),
        ({"eps": [0.1, -1.0]}, "`eps` has an unusable entry"),
        ({"eps": [math.inf]}, "`eps` has an unusable entry"),
        ({"seed": -1}, "seed is not usable"),
    ],
)
def test_bad_input_is_named(net, scene, change, text):
    arguments = {"images": scene[0], "target": scene[1], "eps": [0.1], "seed": 0, **change}
    with pytest.raises(ValueError, match=text):
        SegPGD(PixelErrors(), steps=1)(net, **arguments)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PGD(PixelErrors(), steps=0), "`steps` is not usable"),
        (lambda: PGD(PixelErrors(), restarts=0), "`restarts` is not usable"),
        (lambda: PGD(PixelErrors(), p=3), "`p` is not a supported norm"),
        (lambda: PGD(PixelErrors(), loss="cross"), "`loss` is unknown"),
        (lambda: Knapsack(PixelErrors(), lipschitz=0.0), "`lipschitz` is zero"),
        (lambda: MinNorm(PixelErrors(), max_eps=-1.0), "`max_eps` is out of range"),
    ],
)
def test_bad_options_are_named(make, text):
    with pytest.raises(InputError, match=text):
        make()


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Vanish(3), r"Vanish: `label` is not a class"),
        (Fabricate(-1), r"Fabricate: `label` is not a class"),
        (Region(torch.ones(9, 10, dtype=torch.bool), 1), "`mask` does not fit"),
        (Region(torch.ones(10, 10), 1), "`mask` does not fit"),
    ],
)
def test_bad_goals_are_named(net, scene, goal, text):
    with pytest.raises(InputError, match=text):
        SegPGD(goal, steps=1)(net, *scene, [0.1])


def test_a_model_without_numbers_is_refused(scene):
    class Nan(torch.nn.Module):
        def forward(self, x):
            return x * math.nan

    with pytest.raises(NonFiniteError, match="logits"):
        SegPGD(PixelErrors(), steps=1)(Nan().eval(), *scene, [0.1])


def test_classifiers_have_one_prediction_an_image():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    images = torch.rand(4, 3, 2, 2)
    target = model(images).argmax(1)
    found = PGD(Misclassify(), steps=20)(model, images, target, [1e-6, 3.0])
    assert found.predictions.shape == (2, 4)
    assert found.success.tolist() == [[False] * 4, [True] * 4]
    assert (found.predictions[1] != target).all()


def test_everything_named_in_the_contract_is_there():
    for name in ("PGD", "SegPGD", "MinNorm", "goals"):
        assert hasattr(attacks, name)
    for name in ("Misclassify", "PixelErrors", "Vanish", "Fabricate", "Region", "CriterionGoal"):
        assert hasattr(attacks.goals, name)
    assert "AttackResult: SegPGD" in repr(
        SegPGD(PixelErrors(), steps=1)(
            torch.nn.Conv2d(3, 2, 1).eval(), torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2).long(), [0.1]
        )
    )


def small_class():
    """A net that looks at each pixel alone, and an image of 400 pixels with four of class 1."""
    model = torch.nn.Conv2d(3, 2, 1).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])[:, :, None, None])
        model.bias.copy_(torch.tensor([0.5, -0.5]))
    target = torch.zeros(1, 20, 20, dtype=torch.int64)
    target[0, 9:11, 9:11] = 1
    return model, torch.where(target == 1, 0.7, 0.1)[:, None].expand(-1, 3, -1, -1).clone(), target


def test_erase_takes_a_small_class_away_where_a_loss_over_all_pixels_forgets_it():
    model, images, target = small_class()
    goal, eps = CriterionGoal(IoU(1)), [0.41]  # four pixels that have to move by 0.2 each
    erased, plain = (a(goal, steps=5)(model, images, target, eps) for a in (Erase, PGD))
    assert erased.values(IoU(1)).item() == 0.0
    assert plain.values(IoU(1)).item() > 0.5
    assert erased.norms.item() <= 0.41
    assert (
        Erase(goal, steps=20)(model, images, target, [0.39]).values(IoU(1)).item() > 0
    )  # below the distance


def test_an_attack_stops_when_nothing_is_left_to_win_and_finds_the_same(monkeypatch):
    model, images, target = small_class()
    eps = [0.5, 1.0, 2.0]
    for goal in (CriterionGoal(Recall(1)), Vanish(1), CriterionGoal(FalseNegativeRate(1))):
        early = PGD(goal, steps=30, loss="margin")(model, images, target, eps)
        monkeypatch.setattr("onelip.attacks.search.Best.done", lambda *_: False)
        full = PGD(goal, steps=30, loss="margin")(model, images, target, eps)
        monkeypatch.undo()
        assert torch.equal(early.scores, full.scores)
        assert torch.equal(early.images, full.images)
        assert early.scores[-1].item() == goal.top
        assert early.queries < full.queries / 4


def test_without_fresh_starts_only_the_first_eps_begins_at_the_clean_image(net, scene):
    eps = [0.2, 0.4, 0.6]
    often, once = (PGD(PixelErrors(), steps=4, fresh=f)(net, *scene, eps) for f in (True, False))
    assert once.queries == often.queries - 2 * len(scene[0]) * 5
    assert once.scores.diff(dim=0).ge(0).all()
    assert (once.scores[0] == often.scores[0]).all()


def test_the_prediction_of_a_tie_is_the_lowest_class():
    logits = torch.tensor([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 3.0], [1.0, torch.nan, 1.0]])
    assert predict(logits).tolist() == [1, 0, 2, 2]
