"""Attacks on classifiers: goals with and without labels, smallest norms, and certificates that they never beat."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import onelip
from onelip.attacks import PGD, MinNorm, Misclassify, PixelErrors, Reclassify
from onelip.certify import ClassificationCertifier, classification, pair_constants
from onelip.core.errors import InputError, UnsoundError
from onelip.models import create
from onelip.testing import assert_sound


def linear(classes=3, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, classes)).double().eval()
    # All classes meet near the middle of the box, far from its walls.
    model[1].bias.data = 0.02 * model[1].bias.data - 0.51 * model[1].weight.data.sum(1)
    return model


def pictures(batch=4, shape=(1, 3, 3)):
    draw = torch.Generator().manual_seed(0)
    return 0.5 + 0.02 * torch.rand(batch, *shape, generator=draw, dtype=torch.float64)


def exact(model, images, j):
    """(B,) l_2 distances to the region of class j of a linear model with three classes, by its two half spaces."""
    w, b = model[1].weight.detach(), model[1].bias.detach()
    x = images.flatten(1)
    others = [k for k in range(len(w)) if k != j]
    normals = torch.stack([w[k] - w[j] for k in others])
    gaps = x @ normals.T + torch.stack([b[k] - b[j] for k in others])
    found = []
    for gap in gaps:
        sizes = [0.0] if (gap <= 0).all() else []
        for rows in ([0], [1], [0, 1]):
            n = normals[rows]
            step = -torch.linalg.lstsq(n, gap[rows, None]).solution[:, 0]
            if (gap + normals @ step <= 1e-9).all():
                sizes.append(float(step.norm()))
        found.append(min(sizes))
    return torch.tensor(found, dtype=torch.float64)


@pytest.fixture(scope="module")
def trained():
    """A small convolutional classifier that has learned where a bright quarter is."""
    torch.manual_seed(0)
    model = create("convnet", classes=4, widths=(8, 16), repeats=1, in_channels=1, scale="none")
    draw = torch.Generator().manual_seed(0)

    def batch(count):
        labels = torch.randint(4, (count,), generator=draw)
        images = 0.4 * torch.rand(count, 1, 8, 8, generator=draw)
        for image, label in zip(images, labels.tolist(), strict=True):
            row, column = divmod(label, 2)
            image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.4
        return images, labels

    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        images, labels = batch(32)
        optimiser.zero_grad()
        nn.functional.cross_entropy(8.0 * model(images), labels).backward()
        optimiser.step()
    return onelip.fold(model.eval()), *batch(6)


def test_smallest_norms_of_a_linear_model_are_the_exact_distances():
    model, images = linear(), pictures()
    own = model(images).argmax(1)
    found = classification(model, images)
    smallest = MinNorm(Reclassify(), max_eps=4.0)(model, images).radius
    assert smallest.tolist() == pytest.approx(found.radius.tolist(), rel=0.02)
    assert (smallest >= found.radius).all()
    for j in range(3):
        targeted = MinNorm(Reclassify(to=j), max_eps=8.0)(model, images).radius
        distance = exact(model, images, j)
        reached = targeted.isfinite()
        assert (targeted >= distance - 1e-9).all()
        assert targeted[reached].tolist() == pytest.approx(distance[reached].tolist(), rel=0.05)
        assert bool(reached.any())
        assert (distance >= found.targeted[:, j] - 1e-9).all()
        assert (targeted[own == j] == 0).all()


def test_each_image_may_have_a_class_of_its_own_to_reach():
    model, images = linear(), pictures()
    own = model(images).argmax(1)
    to = (own + 1) % 3
    found = PGD(Reclassify(to=to), steps=20)(model, images, eps=[4.0])
    assert found.target is None
    assert bool(found.success.any())
    assert torch.equal(found.predictions[0][found.success[0]], to[found.success[0]])
    one = PGD(Reclassify(to=int(to[1])), steps=20, batch_size=1)(model, images, eps=[4.0])
    assert torch.equal(one.success[0, 1], found.success[0, 1])


@pytest.mark.parametrize("goal", [Misclassify(), Reclassify()])
def test_a_single_logit_is_attacked_by_its_sign(goal):
    model, images = linear(1), pictures()
    labels = (model(images)[:, 0] > 0).long()
    found = classification(model, images, labels)
    attacked = MinNorm(goal, max_eps=4.0)(model, images, labels)
    assert torch.equal(attacked.clean_predictions, labels)
    assert attacked.classes == 2
    assert attacked.radius.tolist() == pytest.approx(found.radius.tolist(), rel=0.02, abs=2e-7)
    assert_sound(found, attacked)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_no_attack_beats_the_radius_of_a_trained_network(trained, p):
    model, images, labels = trained
    certifier = ClassificationCertifier(model, p=p)
    found = certifier(images, labels)
    assert found.clean_accuracy == 1.0
    top = {1: 20.0, 2: 3.0, math.inf: 0.5}[p]
    options = {"p": p, "judge": certifier.model}
    smallest = MinNorm(Misclassify(), max_eps=top, steps=20, searches=6, **options)(model, images, labels)
    assert smallest.radius.isfinite().any()
    assert (smallest.radius >= found.radius).all()
    assert_sound(found, smallest)
    eps = [0.3 * top, top]
    for goal in (Misclassify(), Reclassify(to=found.runner_up)):
        attacked = PGD(goal, steps=20, loss="margin", **options)(model, images, labels, eps=eps)
        assert_sound(found, attacked)
    accuracy = (attacked.predictions == labels).double().mean(1)
    assert (found.accuracy(eps) <= accuracy).all()


def test_a_wrong_constant_is_beaten(trained, tmp_path):
    """Attacks come within a factor of the pairwise radius, so constants that are too small by more are found out."""
    model, images, labels = trained
    certifier = ClassificationCertifier(model)
    found = certifier(images, labels)
    attacked = MinNorm(Reclassify(), max_eps=4.0, steps=20, judge=certifier.model)(model, images, labels)
    ratio = float((attacked.radius / found.radius).min())
    assert 1 <= ratio < 2
    hidden = dataclasses.replace(attacked, moved=torch.zeros_like(attacked.moved))
    assert_sound(found, hidden, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    wrong = dataclasses.replace(found, constants=found.constants / (1.01 * ratio))
    with pytest.raises(UnsoundError, match=r"radius of the class of image \d; saved in .*unsound.npz"):
        assert_sound(wrong, hidden, folder=tmp_path)
    joint = onelip.lipschitz(model, (8, 8)).value
    with pytest.raises(UnsoundError):
        assert_sound(certifier_with(model, joint / 4)(images, labels), attacked)


def certifier_with(model, lipschitz):
    return ClassificationCertifier(model, lipschitz=lipschitz)


def test_a_wrong_constant_towards_one_class_is_beaten():
    model, images = linear(), pictures(1)
    found = classification(model, images)
    y, j = int(found.predicted), int(found.radii[0].masked_fill(found.radii[0].isinf(), -1).argmax())
    attacked = MinNorm(Reclassify(to=j), max_eps=8.0)(model, images)
    assert attacked.success.all()
    assert_sound(found, attacked)
    constants = found.constants.clone()
    constants[y, j] = constants[j, y] = constants[y, j] / 1.5
    constants[3 - y - j, j] = constants[j, 3 - y - j] = constants[j, 3 - y - j] / 1.5
    with pytest.raises(UnsoundError, match=f"radius to class {j} of the class"):
        assert_sound(dataclasses.replace(found, constants=constants), attacked)


def test_certificate_and_attack_of_different_things_are_not_compared():
    model, images = linear(), pictures()
    labels = model(images).argmax(1)
    found = classification(model, images, labels)
    attack = PGD(Misclassify(), steps=3)
    with pytest.raises(InputError, match="not about the same images"):
        assert_sound(found, attack(model, images + 1e-3, labels, 0.1))
    with pytest.raises(InputError, match="not about the same labels"):
        assert_sound(found, attack(model, images, (labels + 1) % 3, 0.1))
    with pytest.raises(InputError, match="not about the same norm"):
        assert_sound(found, PGD(Misclassify(), steps=3, p=1)(model, images, labels, 0.1))
    other = linear(seed=0)
    other[1].weight.data[labels[0]], other[1].bias.data[labels[0]] = 0.0, -50.0
    with pytest.raises(InputError, match=r"do not predict the same classes.*certifier.model"):
        assert_sound(found, attack(other, images, labels, 0.1))


def test_errors_say_what_to_do():
    model, images = linear(), pictures()
    for to in (3, -1, torch.tensor([0, 1]), torch.tensor([0.0] * 4), True):
        with pytest.raises(InputError, match=r"Reclassify: `to` are no classes.*in 0\.\.2"):
            PGD(Reclassify(to=to), steps=1)(model, images, eps=0.1)
    with pytest.raises(InputError, match=r"Reclassify: the model is no classifier"):
        PGD(Reclassify(), steps=1)(nn.Conv2d(1, 2, 1).double().eval(), images, eps=0.1)
    with pytest.raises(InputError, match="`target` is missing"):
        PGD(PixelErrors(), steps=1)(model, images, eps=0.1)


def test_pair_constants_of_the_trained_network_are_not_absurd(trained):
    """The largest slope of a difference of logits that random images show is near its constant."""
    model, images, _ = trained
    constants = pair_constants(model, (8, 8))
    x = images.clone().requires_grad_()
    logits = model(x)
    slope = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), x)[0].flatten(1).norm(dim=1)
    assert 0.2 < float(slope.max() / constants[0, 1]) <= 1
