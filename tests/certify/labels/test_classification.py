"""Certificates of classes: exact on linear models, sound everywhere else, and refused where nothing is proven."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import onelip
from onelip.certify import ClassificationCertifier, class_radius, classification, pair_constants
from onelip.core.errors import (
    InputError,
    IntegrityError,
    NonFiniteError,
    PrecisionError,
    TrainModeError,
    UnknownLayerError,
)
from onelip.models import create

NORMS = (1, 2, math.inf)
DUAL = {1: math.inf, 2: 2, math.inf: 1}
BOTH = {1: 1.0, 2: math.sqrt(2.0), math.inf: 2.0}


def linear(classes=4, seed=0, features=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes)).double().eval()


def pictures(batch=6, seed=0, shape=(3, 2, 2)):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(**options):
    torch.manual_seed(3)
    return onelip.fold(create("convnet", classes=4, size="XS", in_channels=1, **options).eval())


@pytest.mark.parametrize("p", NORMS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 6))
def test_for_a_linear_model_radii_are_the_exact_distances_to_the_boundaries(p, seed, classes):
    model, images = linear(classes, seed), pictures(seed=seed)
    found = classification(model, images, p=p)
    logits = model(images)
    y = logits.argmax(1)
    w = model[1].weight
    for b in range(len(images)):
        gaps = logits[b, y[b]] - logits[b]
        exact = gaps / torch.linalg.vector_norm(w[y[b]] - w, ord=DUAL[p], dim=1)
        others = torch.arange(classes) != y[b]
        assert (found.radii[b, others] <= exact[others]).all()
        assert found.radii[b, others] == pytest.approx(exact[others].tolist(), abs=2e-7, rel=1e-6)
        assert found.radii[b, y[b]] == math.inf
    assert torch.equal(found.predicted, y)
    assert torch.equal(found.radius, found.radii.amin(1))
    assert torch.equal(found.radii.gather(1, found.runner_up[:, None])[:, 0], found.radius)


@pytest.mark.parametrize("p", NORMS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_step_across_the_boundary_of_a_linear_model_lies_beyond_the_radius_and_changes_the_class(p, seed):
    """The extremal step: what is certified is nearly attained, so a constant 1 % too small is beaten here."""
    model, images = linear(seed=seed), pictures(1, seed)
    found = classification(model, images, p=p)
    assume(float(found.radius) > 1e-4)
    y, j = int(found.predicted), int(found.runner_up)
    w = (model[1].weight[j] - model[1].weight[y]).detach()
    step = {1: w.sign() * (w.abs() == w.abs().max()), 2: w / w.norm(), math.inf: w.sign()}[p]
    size = float(found.radius) * 1.0001 + 4e-7
    beyond = images + size * step.reshape(images.shape)
    assert int(model(beyond).argmax()) != y
    within = images + float(found.radius) * step.reshape(images.shape)
    assert int(model(within).argmax()) == y
    false = 0.99 * float(found.constants[y, j]) / BOTH[p]
    wrong = classification(model, images, p=p, lipschitz=false)
    assert float(wrong.radii[0, j]) > size


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 5))
def test_the_nearest_point_of_a_class_is_never_nearer_than_certified(seed, classes):
    """Brute force over the exact regions of a linear model in the plane: distances to where each class wins."""
    model = linear(classes, seed, features=2)
    draw = torch.Generator().manual_seed(seed)
    centre = torch.rand(1, 1, 1, 2, generator=draw, dtype=torch.float64)
    found = classification(model, centre)
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    size = torch.linspace(0, 4, 401, dtype=torch.float64)
    offset = size[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)
    logits = model[1](centre.flatten() + offset.reshape(-1, 2))
    norm = size.repeat_interleave(len(angle))
    top = logits.amax(1, keepdim=True)
    for j in range(classes):
        wins = (logits[:, j : j + 1] >= top)[:, 0]
        if not bool(wins.any()):
            continue
        nearest = float(norm[wins].min())
        assert nearest >= float(found.targeted[0, j]) - 1e-12
        if j != int(found.predicted):
            assert nearest >= float(found.radii[0, j]) - 1e-12
            assert float(found.targeted[0, j]) >= float(found.radii[0, j])
    left = logits.argmax(1) != int(found.predicted)
    if bool(left.any()) and float(norm[left].min()) < 3.9:
        assert float(norm[left].min()) == pytest.approx(float(found.radius), abs=0.02, rel=0.01)


@pytest.mark.parametrize("p", NORMS)
def test_no_random_perturbation_of_a_tiny_network_beats_its_radius(p):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    images = pictures(8, shape=(1, 1, 3))
    found = classification(model, images, p=p)
    assert (found.radius > 0).all()
    draw = torch.Generator().manual_seed(1)
    closest = math.inf
    for scale in torch.linspace(0.2, 6, 60):
        step = torch.randn(4000, 8, 1, 1, 3, generator=draw, dtype=torch.float64)
        step = step / torch.linalg.vector_norm(step.flatten(2), ord=p, dim=2)[..., None, None, None]
        size = scale * found.radius
        moved = images + size[:, None, None, None] * step
        changed = (model(moved.flatten(0, 1)).argmax(1).reshape(4000, 8) != found.predicted).any(0)
        assert not (changed & (scale < 1)).any()
        if bool(changed.any()):
            closest = min(closest, float(scale))
    assert closest < 6  # the search does find changes, so a radius six times too large would be noticed


@pytest.mark.parametrize("head", ["joint", "unit"])
def test_never_below_what_rows_of_one_norm_or_the_joint_constant_give(head):
    model, images = network(head=head), pictures(8, shape=(1, 12, 12))
    found = classification(model, images)
    top = found.logits.topk(2, dim=1).values
    margin = top[:, 0] - top[:, 1]
    body, last = model.split()
    features = onelip.lipschitz(body, (12, 12)).value
    widest = float(last.weight.detach().norm(dim=1).max())
    assert (found.radius >= margin / (2 * widest * features) - 2e-7).all()
    assert (found.radius >= margin / (math.sqrt(2) * found.lipschitz) - 2e-7).all()


def test_pairs_certify_more_where_rows_are_close():
    model, images = linear(3), pictures(32)
    model[1].weight.data[2] = model[1].weight.data[0] + 0.01
    model[1].bias.data[1] = -9.0
    pairwise = classification(model, images).radius
    joint = classification(model, images, lipschitz=onelip.lipschitz(model, (3, 2, 2)).value).radius
    assert (pairwise >= joint).all()
    assert (pairwise > 5 * joint).all()


def test_one_logit_is_a_class_by_its_sign_and_a_radius_by_its_size():
    model, images = linear(1), pictures(16)
    value = model(images)[:, 0]
    labels = (value > 0).long()
    found = classification(model, images, labels)
    assert found.logits.shape == found.radii.shape == (16, 2)
    assert torch.equal(found.predicted, labels)
    exact = value.abs() / model[1].weight.norm()
    assert found.radius.tolist() == pytest.approx(exact.tolist(), abs=2e-7)
    assert (found.radius <= exact).all()
    assert not classification(model, images, 1 - labels).radius.any()
    given = classification(model, images, lipschitz=2.0)
    assert given.radius.tolist() == pytest.approx((value.abs() / 2).tolist(), abs=2e-7)
    model[1].weight.data.zero_()
    model[1].bias.data.zero_()
    tie = classification(model, images)
    assert not tie.radius.any()
    assert not tie.stability([0.0]).any()


def test_a_tie_is_not_robust_and_a_wrong_class_has_no_radius():
    model = linear(3)
    model[1].weight.data[1], model[1].bias.data[1] = model[1].weight.data[0], model[1].bias.data[0]
    model[1].bias.data[2] = -100.0
    images = pictures(4)
    found = classification(model, images, torch.zeros(4, dtype=torch.int64))
    assert found.clean_accuracy == 1.0
    assert not found.radius.any()
    assert found.accuracy([0.0]).tolist() == [0.0]
    other = linear()
    right = classification(other, images).predicted
    wrong = classification(other, images, (right + 1) % 4)
    assert not wrong.radius.any()
    assert (wrong.stable_radius > 0).all()
    assert wrong.accuracy([0.0]).tolist() == [0.0]
    assert wrong.stability([0.0]).tolist() == [1.0]


def test_accuracy_counts_closed_balls():
    model, images = linear(), pictures(20)
    right = classification(model, images).predicted
    right[:5] = (right[:5] + 1) % 4
    found = classification(model, images, right)
    eps = [0.0, *sorted(found.radius.tolist()), 9.0]
    expected = [float(((found.radius > e) & (found.predicted == right)).double().mean()) for e in eps]
    assert found.accuracy(eps).tolist() == expected
    assert expected[0] == 0.75 == found.clean_accuracy
    one = float(found.radius.max())
    assert found.accuracy([one]).tolist() == [0.0]  # at the radius itself nothing is promised
    assert found.accuracy([math.nextafter(one, 0.0)]).tolist() == [0.05]
    assert found.accuracy(0.1).shape == (1,)


def test_radii_are_reduced_for_rounding():
    images = pictures(4)
    model = linear()
    found = classification(model, images)
    exact = found.logits.gather(1, found.predicted[:, None]) - found.logits
    exact = exact / pair_constants(model, (12,))[found.predicted]
    other = torch.arange(4) != found.predicted[:, None]
    assert (found.radii[other] <= exact[other] - 1e-7).all()
    assert found.rounding >= 1e-7
    model[1].bias.data += 1e9  # what float64 loses in the sums is no part of any margin
    blurred = classification(model, images)
    assert (blurred.radii[other] <= exact[other] - 1e-4).all()


def test_features_that_cancel_are_charged_for_their_rounding():
    """Logits near zero may be differences of huge products, whose rounding they do not show."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 2)).double().eval()
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    model[1].weight.data, model[1].bias.data = one.clone(), torch.full((2,), 1e12, dtype=torch.float64)
    model[2].weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    model[2].bias.data.zero_()
    found = classification(model, torch.tensor([0.6, 0.4], dtype=torch.float64).reshape(1, 1, 1, 2))
    assert float(found.radius) == 0.0
    assert float(found.logits.abs().max()) < 1.0


def test_a_tiny_constant_does_not_turn_rounding_into_radius():
    """Rows that agree but for 1e-13: what float64 loses in their difference is more than it can move."""
    model = linear(2)
    model[1].weight.data[1] = model[1].weight.data[0] * (1 + 1e-13)
    model[1].bias.data[:] = torch.tensor([1e-11, 0.0], dtype=torch.float64)
    found = classification(model, pictures(4))
    assert (found.logits[:, 0] > found.logits[:, 1]).all()
    assert (found.constants[0, 1] > 0) & (found.constants[0, 1] < 1e-12)
    assert not found.radius.any()
    model[1].bias.data[0] = 1e-6
    assert (classification(model, pictures(4)).radius > 1e5).all()


def test_many_batches_prove_once_for_each_size():
    certifier = ClassificationCertifier(network())
    images = pictures(4, shape=(1, 12, 12))
    whole = certifier(images)
    parts = [certifier(images[i : i + 1]) for i in range(4)]
    assert torch.allclose(torch.cat([c.radius for c in parts]), whole.radius, atol=1e-12)
    assert all(c.bound is whole.bound for c in parts)
    assert certifier(pictures(1, shape=(1, 16, 16))).bound is not whole.bound


@pytest.mark.parametrize("name", ["convnet", "resnet18", "mlp"])
@pytest.mark.parametrize("constraint", ["orthogonal", "spectral", None])
def test_the_classifiers_and_their_twins_are_certified(name, constraint):
    torch.manual_seed(0)
    options = {
        "mlp": {"image_size": (16, 16)},
        "convnet": {},
        "resnet18": {"widths": (4, 8), "depths": (1, 1)},
    }[name]
    model = create(name, classes=3, size="XS", constraint=constraint, **options)
    with torch.no_grad():  # batch statistics that are not those of the start
        model.train()(pictures(4, 9, (3, 16, 16)).float())
    images = pictures(2, shape=(3, 16, 16))
    certifier = ClassificationCertifier(model.eval())
    found = certifier(images.float())
    assert found.bound.features is not None
    assert (found.radius >= 0).all()
    assert torch.equal(found.predicted, model(images.float()).argmax(1))
    assert found.weights_hash == ClassificationCertifier(onelip.fold(model)).weights_hash


def test_class_radius_is_that_of_the_certificate_up_to_rounding():
    model, images = network(), pictures(6, shape=(1, 12, 12))
    found = classification(model, images)
    labels = found.predicted.clone()
    labels[0] = (labels[0] + 1) % 4
    constants = pair_constants(model, (12, 12))
    radius = class_radius(found.logits, labels, constants=constants)
    assert radius[0] == 0
    assert radius[1:].tolist() == pytest.approx(found.radius[1:].tolist(), abs=1e-6)
    single = class_radius(torch.tensor([[-3.0], [2.0]]), constants=2.0)
    assert single.tolist() == pytest.approx([1.5, 1.0])
    joint = {1: 1.0, 2: math.sqrt(0.5), math.inf: 0.5}
    for p, share in joint.items():
        assert class_radius(torch.tensor([[1.0, 0.0]]), constants=1.0, p=p).item() == pytest.approx(share)


def test_record_and_files(tmp_path, capsys):
    model, images = network(), pictures(3, shape=(1, 12, 12))
    found = classification(model, images, torch.tensor([0, 1, 2]))
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["kind"] == "classification certificate"
    assert np.array(record["constants"]).shape == (4, 4)
    assert record["bound"]["features"]
    found.save(tmp_path / "c")
    arrays = np.load(tmp_path / "c" / "arrays.npz")
    assert np.array_equal(arrays["radii"], found.radii.numpy())
    assert json.loads((tmp_path / "c" / "certificate.json").read_text()) == record
    found.show()
    text = capsys.readouterr().out
    assert "3 images of 12x12, 4 classes" in text
    assert "the ball is closed" in text
    given = classification(model, images, lipschitz=3.0)
    assert given.bound is None
    assert "given by the caller" in given.assumptions[0]
    assert given.to_dict()["bound"] is None


def test_errors_say_what_to_do():
    model, images = network(), pictures(2, shape=(1, 12, 12))
    with pytest.raises(TrainModeError, match=r"certify.classification.*model.eval\(\)"):
        classification(network().train(), images)
    with pytest.raises(NonFiniteError, match="`images` is not finite"):
        classification(model, images.masked_fill(images > 0.9, math.nan))
    with pytest.raises(InputError, match="values in \\[0, 1\\]"):
        classification(model, images * 255)
    with pytest.raises(InputError, match=r"labels outside the classes; received \[4\]; expected 0..3"):
        classification(model, images, torch.tensor([0, 4]))
    with pytest.raises(InputError, match=r"outside the classes; received \[-1\]"):
        classification(model, images, torch.tensor([0, -1]))
    for wrong in (torch.zeros(3).long(), torch.zeros(2), torch.zeros(2, 1).long(), [0, 1]):
        with pytest.raises(InputError, match=r"`targets` are not labels of these images.*int64 \(2,\)"):
            classification(model, images, wrong)
    with pytest.raises(InputError, match=r"the model is no classifier.*certify.segmentation serves dense"):
        classification(nn.Conv2d(1, 3, 1).eval(), images)
    with pytest.raises(InputError, match="the model is no classifier"):
        classification(create("fcos", classes=1, size="XS").eval(), pictures(1, shape=(3, 32, 32)))
    with pytest.raises(PrecisionError, match="half precision"):
        classification(network().half(), images)
    with pytest.raises(InputError, match="`p` is not a supported norm"):
        classification(model, images, p=3)
    with pytest.raises(InputError, match="`lipschitz` is zero"):
        classification(model, images, lipschitz=0.0)
    with pytest.raises(InputError, match=r"the certificate has no targets.*stability"):
        classification(model, images).accuracy([0.1])
    with pytest.raises(InputError, match="`eps` has an unusable entry"):
        classification(model, images).stability([-0.1])
    broken = network()
    broken.head.weight.data[0, 0] = math.nan
    with pytest.raises(NonFiniteError):
        classification(broken, images)

    class Softmax(nn.Module):
        def forward(self, x):
            return torch.special.ndtr(x).flatten(1)

    with pytest.raises(UnknownLayerError):
        classification(nn.Sequential(Softmax(), nn.Linear(144, 3)).eval(), images)


def test_constants_of_other_classes_are_refused():
    logits = torch.tensor([[1.0, 0.0, 0.5]])
    good = torch.ones(3, 3).fill_diagonal_(0.0)
    bad = [torch.ones(2, 2), good.triu(), -good, good * math.inf, good.long()]
    for constants in bad:
        with pytest.raises(InputError, match=r"no constants of pairs.*pair_constants"):
            class_radius(logits, constants=constants)
    with pytest.raises(InputError, match="`logits` are not those of a classifier"):
        class_radius(logits[0], constants=good)
    with pytest.raises(NonFiniteError):
        class_radius(logits * math.nan, constants=good)


def test_a_model_that_splits_otherwise_on_some_images_is_refused():
    """Checked on the very images that are certified, not on random ones alone."""
    model = network()
    certifier = ClassificationCertifier(model)
    certifier(pictures(1, shape=(1, 12, 12)))
    certifier.model.head.bias.data += 0.0
    body, last = certifier.model.split()
    other = nn.Linear(last.in_features, last.out_features).double()
    certifier.model.split = lambda: (body, other)
    with pytest.raises(IntegrityError, match="do not compute the model's logits"):
        certifier(pictures(1, shape=(1, 12, 12)))
