"""The shipped model, trained on synthetic scenes: bound against measurement, certificate against attack."""

import pytest
import torch

import onelip
from onelip.certify import Dice, IoU, PixelAccuracy, Recall

SIZE = (64, 96)


@pytest.fixture(scope="module")
def trained():
    return onelip.load("scenes")


@pytest.fixture(scope="module")
def scene():
    image, target = onelip.data.open("scenes", "test", size=SIZE)[1]
    return image[None].double(), target[None]


def test_the_bound_of_trained_weights_stands_above_the_measured_gain(trained):
    measured = onelip.testing.lower_bound(trained, SIZE, seed=0)
    claimed = onelip.lipschitz(trained, SIZE).value
    assert 0.2 * claimed < measured <= claimed


def test_shipped_models_are_listed_with_a_line():
    assert "synthetic" in onelip.pretrained()["scenes"]


def attack(model, image, target, eps, goal, criteria, steps=30):
    """Projected gradient descent in the l2 ball and the unit box; the best iterate by each criterion itself."""
    delta = torch.zeros_like(image)
    best = [1.0] * len(criteria)
    for _ in range(steps):
        delta.requires_grad_(True)
        logits = model(image + delta)
        values = [c.value(logits.detach(), target).item() for c in criteria]
        best = [min(pair) for pair in zip(best, values, strict=True)]
        (gradient,) = torch.autograd.grad(goal(logits, target), delta)
        with torch.no_grad():
            delta = delta + 0.3 * eps * gradient / gradient.norm()
            delta = delta * min(1.0, eps / float(delta.norm()))
            delta = (image + delta).clamp(0, 1) - image
    assert float(delta.norm()) <= eps * (1 + 1e-9)
    return best


def cross_entropy(logits, target):
    return torch.nn.functional.cross_entropy(30 * logits, target, ignore_index=255)


def cheapest_margins(logits, target):
    """Push down the margins of the tenth of the correct pixels that are cheapest to flip."""
    own = logits.gather(1, target.clamp(max=logits.shape[1] - 1)[:, None])[:, 0]
    others = logits.scatter(1, target.clamp(max=logits.shape[1] - 1)[:, None], -torch.inf).amax(1)
    margin = (own - others)[(target != 255) & (own > others)]
    return -margin.topk(max(1, margin.numel() // 10), largest=False).values.sum()


@pytest.mark.parametrize("eps", [0.05, 0.2])
@pytest.mark.parametrize("goal", [cross_entropy, cheapest_margins])
def test_no_attack_goes_below_the_certificate_and_attacks_do_something(trained, scene, eps, goal):
    image, target = scene
    certificate = onelip.certify.segmentation(trained, image, target)
    common = target[target != 255].mode().values.item()
    criteria = [PixelAccuracy(), Recall(common), IoU(common), Dice(common), IoU(1), Dice(2)]
    criteria = [c for c in criteria if not c.value(certificate.logits, target).isnan()]
    assert len(criteria) >= 4
    attacked = attack(onelip.fold(trained).double(), image, target, eps, goal, criteria)
    for criterion, found in zip(criteria, attacked, strict=True):
        curve = certificate.curve(criterion, [0.0, eps])
        assert curve.certified[1] <= found <= curve.clean
        assert curve.certified[1] < curve.clean
    assert certificate.curve(PixelAccuracy(), eps).certified[0] > 0
    assert attacked[0] < PixelAccuracy().value(certificate.logits, target)
    assert attacked[2] < IoU(common).value(certificate.logits, target)


def test_no_pixel_flips_below_its_radius(trained, scene):
    image, _ = scene
    certificate = onelip.certify.segmentation(trained, image)
    model = onelip.fold(trained).double()
    radius, predicted = certificate.radius_map[0], certificate.prediction[0]
    generator = torch.Generator().manual_seed(0)
    for index in torch.randperm(radius.numel(), generator=generator)[:12].tolist():
        y, x = divmod(index, SIZE[1])
        moved = image.clone().requires_grad_(True)
        logits = model(moved)[0, :, y, x]
        other = logits.detach().topk(2).indices[1]
        (gradient,) = torch.autograd.grad(logits[other] - logits[predicted[y, x]], moved)
        adversarial = image + 0.999 * float(radius[y, x]) * gradient / gradient.norm()
        assert model(adversarial)[0, :, y, x].argmax() == predicted[y, x]
