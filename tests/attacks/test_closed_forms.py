"""Models whose strongest attack is known: a 1x1 convolution with an orthogonal weight fills the certificate's ball."""

import math

import pytest
import torch

from onelip import attacks
from onelip.attacks import CriterionGoal, Knapsack, MinNorm, Misclassify, PixelErrors, SegPGD, Strongest
from onelip.certify import PixelAccuracy, Recall, Stability, segmentation


class Orthogonal(torch.nn.Module):
    """f(x) = Q x at every pixel, Q orthogonal: ||f(x + d) - f(x)|| = ||d||, and every displacement can be reached."""

    def __init__(self, seed=0, classes=3):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        rotation = torch.linalg.qr(torch.randn(classes, classes, generator=draw, dtype=torch.float64)).Q
        self.conv = torch.nn.Conv2d(classes, classes, 1, bias=False).double()
        self.conv.weight.data.copy_(rotation[:, :, None, None])
        self.eval()

    def forward(self, x):
        return self.conv(x - 0.5)


def problem(seed, spread=0.1, side=6):
    """Images in the middle of the box, which therefore never binds; labels are the predictions but for a few."""
    model = Orthogonal(seed)
    draw = torch.Generator().manual_seed(seed + 1)
    images = 0.5 + spread * (torch.rand(2, 3, side, side, generator=draw, dtype=torch.float64) - 0.5)
    target = model(images).argmax(1)
    target[:, 0, :2] = (target[:, 0, :2] + 1) % 3
    target[:, 1, 0] = 255
    return model, images, target


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("attack", [Knapsack, Strongest])
def test_the_knapsack_attack_reaches_the_certificate_of_a_rotation(seed, attack):
    model, images, target = problem(seed)
    eps = [0.02, 0.06, 0.12]
    certified = segmentation(model, images, target, lipschitz=1.0).curve(PixelAccuracy(), eps).certified
    adversarial = attack(PixelErrors(), steps=60)(model, images, target, eps)
    attacked = adversarial.values(PixelAccuracy())
    assert (certified <= attacked).all()
    assert (attacked - certified).max() <= 2.01 / 35  # at most two of 35 pixels are left
    clean = adversarial.clean_values(PixelAccuracy())
    assert (attacked < clean).all()


def test_a_plain_loss_stays_behind_on_the_same_images():
    """The knapsack's own pixels are worth the trouble: cross-entropy spends its budget on all pixels alike."""
    model, images, target = problem(0)
    plain = attacks.PGD(PixelErrors(), steps=60)(model, images, target, [0.06]).scores.mean()
    assert Knapsack(PixelErrors(), steps=60)(model, images, target, [0.06]).scores.mean() > plain


def test_linf_flips_every_pixel_within_reach():
    model = torch.nn.Conv2d(3, 3, 1, bias=False).double().eval()
    model.weight.data.copy_(torch.eye(3)[:, :, None, None])
    _, images, _ = problem(2)
    target = model(images).argmax(1)
    eps = [0.005, 0.02]
    adversarial = Knapsack(PixelErrors(), p=math.inf)(model, images, target, eps)
    certified = segmentation(model, images, target, p=math.inf, lipschitz=1.0).curve(PixelAccuracy(), eps)
    assert torch.equal(adversarial.values(PixelAccuracy()), certified.certified)


def test_l1_attacks_respect_their_ball_and_do_something():
    model, images, target = problem(3)
    adversarial = Strongest(PixelErrors(), p=1, steps=60)(model, images, target, [0.1, 0.3])
    size = (adversarial.images - images).flatten(2).abs().sum(2)
    assert (size <= adversarial.eps[:, None]).all()
    assert (adversarial.scores[-1] > adversarial.clean_scores + 0.1).all()


@pytest.mark.parametrize(
    ("criterion", "threshold"),
    [(PixelAccuracy(), 0.7), (Recall(positive=1), 0.5), (Stability(), 0.8)],
)
def test_the_smallest_norm_is_close_above_the_certified_radius(criterion, threshold):
    model, images, target = problem(4)
    radius = segmentation(model, images, target, lipschitz=1.0).radius(criterion, threshold)
    goal = CriterionGoal(criterion, threshold=threshold)
    found = MinNorm(goal, max_eps=1.0, steps=40, searches=12)(model, images, target)
    assert found.success.all()
    assert (radius <= found.radius).all()
    assert (found.radius <= 1.1 * radius).all()
    assert (found.values(criterion)[0] <= threshold).all()


def test_the_smallest_norm_of_a_linear_classifier_is_its_distance():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4)).double().eval()
    torch.manual_seed(0)
    images = 0.5 + 0.02 * torch.rand(3, 3, 2, 2, dtype=torch.float64)
    logits = model(images).detach()
    target = logits.argmax(1)
    weight, own = model[1].weight.detach(), torch.arange(3)
    gaps = logits[own, target][:, None] - logits
    lengths = (weight[target][:, None] - weight[None]).norm(dim=2)
    distance = (gaps / lengths).nan_to_num(nan=math.inf).amin(1)
    found = MinNorm(Misclassify(), max_eps=2.0)(model, images, target)
    assert found.predictions.shape == (1, 3)
    assert (found.predictions[0] != target).all()
    assert (found.radius >= distance * (1 - 1e-9)).all()
    assert (found.radius <= 1.02 * distance).all()


def test_what_cannot_be_reached_is_infinite_and_what_is_reached_costs_nothing():
    model = Orthogonal()
    images = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
    images[:, 0] += 0.4
    target = model(images).argmax(1)
    assert MinNorm(Misclassify(), max_eps=0.01, steps=5)(model, images, target).radius.tolist() == [math.inf]
    wrong = (target + 1) % 3
    found = MinNorm(Misclassify(), max_eps=0.01, steps=5)(model, images, wrong)
    assert found.radius.tolist() == [0.0]
    assert torch.equal(found.images[0], images)


def test_segpgd_needs_no_more_queries_than_it_says():
    model, images, target = problem(5)
    counted = []
    model.register_forward_hook(lambda _m, args, _o: counted.append(args[0].shape[0]))
    adversarial = SegPGD(PixelErrors(), steps=7, restarts=2, batch_size=1)(model, images, target, [0.05, 0.1])
    assert adversarial.queries == sum(counted)
