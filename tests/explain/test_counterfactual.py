"""Counterfactuals against closed forms: no flip below the lower bound, exact distances, box, mask, errors."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import onelip
from onelip.core.errors import InputError, NonFiniteError, PrecisionError, TrainModeError, UnsoundError
from onelip.explain import counterfactual
from onelip.explain.classifier import Classifier
from onelip.layers import GroupSort


def linear(weight, bias=None):
    weight = torch.tensor(weight) if not isinstance(weight, torch.Tensor) else weight
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))
    return nn.Sequential(nn.Flatten(), layer).eval()


class Radial(nn.Module):
    """f = c - |x - 1/2| scaled, against -f: the closed form of two circles."""

    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, x):
        f = self.c - torch.linalg.vector_norm((x - 0.5).flatten(1), dim=1, keepdim=True)
        return torch.cat([f, -f], 1) / 2


def network(seed, classes=4, width=8, pixels=6):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, width),
        GroupSort(2),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(width))
    return model.eval(), torch.rand(5, 1, 2, pixels // 2, generator=generator)


def pairwise(model, x):
    """Distances of a linear model to each class boundary, by hand."""
    weight, bias = model[1].weight.double(), model[1].bias.double()
    f = x.double().flatten(1) @ weight.T + bias
    y = f.argmax(1)
    gaps = f.gather(1, y[:, None]) - f
    size = (weight[y][:, None] - weight[None]).norm(dim=2)
    distance = gaps / size
    distance[torch.arange(len(x)), y] = torch.inf
    return distance


def test_two_circles():
    x = torch.full((3, 1, 1, 2), 0.5)
    x[0, 0, 0, 0], x[1, 0, 0, 1], x[2, 0, 0] = 0.6, 0.1, torch.tensor([0.53, 0.46])
    found = counterfactual(Radial(0.2).eval(), x)
    expected = (0.2 - (x - 0.5).flatten(1).norm(dim=1).double()).abs()
    assert found.crossed.all()
    assert torch.allclose(found.distance, expected, atol=1e-4)
    assert (found.distance >= expected - 1e-6).all()
    assert found.predicted.tolist() == [0, 1, 0]
    assert found.to.tolist() == [1, 0, 1]
    bound = counterfactual(Radial(0.2).eval(), x).lower_bound
    assert torch.equal(bound, found.lower_bound)
    assert (bound <= expected + 1e-9).all()


def test_the_certificate_of_the_two_circles_is_not_wrong_by_much():
    # The joint constant of (f, -f)/2 is sqrt(2)/2: times sqrt(2), the constant 1 of f, and the bound is exact.
    x = torch.full((1, 1, 1, 2), 0.5)
    x[0, 0, 0, 0] = 0.6
    found = counterfactual(Radial(0.2).eval(), x)
    assert not found.refusal
    assert found.lower_bound.item() == pytest.approx(0.1, abs=1e-5)
    assert 1 <= found.gap.item() < 1.001


def test_a_straight_ray_does_not_flip_before_one_and_flips_just_beyond():
    x = torch.full((1, 1, 1, 2), 0.5)
    x[0, 0, 0, 0] = 0.6
    model = Radial(0.2).eval()
    assert not counterfactual(model, x, overshoot=0.99).crossed.any()
    assert counterfactual(model, x, overshoot=1.05).crossed.all()
    far = counterfactual(model, x, overshoot=2.0)
    assert far.distance.item() == pytest.approx(2 * far.boundary_distance.item(), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_linear_models_are_solved_exactly(seed):
    generator = torch.Generator().manual_seed(seed)
    model = linear(torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator) * 0.1)
    x = torch.rand(4, 1, 2, 3, generator=generator)
    distance = pairwise(model, x)
    found = counterfactual(model, x)
    assert found.crossed.all()
    # the nearest boundary of all classes: the pair that is nearest is really met there
    assert torch.allclose(found.distance, distance.amin(1), rtol=1e-3, atol=1e-4)
    assert (found.distance >= distance.amin(1) * (1 - 1e-9)).all()
    assert (found.lower_bound <= distance.amin(1)).all()
    assert (found.gap >= 1).all()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_nothing_flips_below_the_lower_bound(seed):
    model, x = network(seed)
    judge = Classifier(model, "test")
    found = counterfactual(model, x, steps=40, refine=3)
    assert (found.distance >= found.lower_bound).all()
    assert (found.gap[found.crossed] >= 1).all()
    # the same images, anywhere within the bound: along the way found, along the gradient, at random
    ways = [found.images - x, onelip.explain.saliency(model, x), torch.randn(x.shape)]
    for way in ways:
        unit = way.double() / way.double().flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
        for t in (-0.999999, 0.5, 0.999999):
            z = x.double() + t * unit * found.lower_bound.reshape(-1, 1, 1, 1)
            assert torch.equal(judge.logits(z).argmax(1), found.predicted)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000))
def test_every_class_that_is_asked_for(seed):
    model, x = network(seed, classes=3)
    start = model(x).argmax(1)
    for shift in (1, 2):
        to = (start + shift) % 3
        found = counterfactual(model, x, to, steps=30, refine=1)
        assert (model(found.images).argmax(1) == to)[found.crossed].all()
        assert (found.distance >= found.lower_bound).all()
        # to reach one class is never easier than to leave one's own
        assert (found.lower_bound >= counterfactual(model, x, refine=0).lower_bound - 1e-12).all()


def test_a_class_behind_another_needs_all_to_be_overtaken():
    # f = (x, 0.5, 0) in one dimension... class 2 wins nowhere before both others are below it
    model = linear([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [0.0, 0.5, 0.0])
    x = torch.tensor([0.9, 0.1]).reshape(1, 1, 1, 2)
    found = counterfactual(model, x, to=2)
    # nearest point with b >= a and b >= 1/2, from (0.9, 0.1)
    assert found.distance.item() == pytest.approx(math.hypot(0.4, 0.4), rel=1e-3)
    assert found.crossed.all()
    one = counterfactual(model, x)
    assert one.to.item() == 1
    assert one.distance.item() == pytest.approx(0.4, rel=1e-3)


def test_the_lower_bound_is_the_certified_radius():
    model, x = network(11)
    radius = onelip.certify.classification(model, x).radius
    assert torch.allclose(counterfactual(model, x, refine=0).lower_bound, radius, rtol=1e-9)


def test_a_wrong_constant_is_found_out(monkeypatch):
    model = linear([[1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([0.8, 0.2]).reshape(1, 1, 1, 2)
    right = Classifier.certificate
    wrong = lambda self, z: replace(right(self, z), constants=right(self, z).constants / 2)  # noqa: E731
    monkeypatch.setattr(Classifier, "certificate", wrong)
    with pytest.raises(UnsoundError, match="below the proven lower bound"):
        counterfactual(model, x)


def test_box_and_mask_are_respected():
    model, x = network(3)
    free = torch.tensor([[1, 0, 1], [0, 1, 1]])
    found = counterfactual(model, x, mask=free, box=True, overshoot=3.0)
    assert found.found.any()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert torch.equal(found.images[:, :, free == 0], x[:, :, free == 0])
    for points in found.path:
        assert points.min() >= 0
        assert points.max() <= 1
    loose = counterfactual(model, x)
    assert (loose.boundary_distance[found.found] <= found.boundary_distance[found.found] * 1.05).all()


def test_the_box_is_solved_exactly_for_a_linear_model():
    # 0.2 up is all that the first pixel has; the rest must come from the second
    model = linear([[0.0, 0.0], [1.0, 0.5]], [0.0, -1.2])
    x = torch.tensor([0.8, 0.4]).reshape(1, 1, 1, 2)
    found = counterfactual(model, x, box=True)
    free = counterfactual(model, x)
    assert free.distance.item() == pytest.approx(0.2 / math.hypot(1, 0.5), rel=1e-3)
    assert found.distance.item() == pytest.approx(0.2 / math.hypot(1, 0.5), rel=1e-3)
    tight = counterfactual(linear([[0.0, 0.0], [1.0, 0.5]], [0.0, -1.3]), x, box=True)
    assert tight.distance.item() == pytest.approx(math.hypot(0.2, 0.2), rel=1e-3)
    assert tight.images.max() <= 1


def test_a_mask_only_leaves_its_own_way():
    model = linear([[0.0, 0.0], [1.0, 1.0]], [0.0, -1.2])
    x = torch.tensor([0.5, 0.5]).reshape(1, 1, 1, 2)
    found = counterfactual(model, x, mask=torch.tensor([[True, False]]))
    assert found.distance.item() == pytest.approx(0.2, rel=1e-3)
    assert found.lower_bound.item() == pytest.approx(0.2 / math.sqrt(2), rel=1e-3)
    assert found.gap.item() == pytest.approx(math.sqrt(2), rel=1e-3)


def test_what_cannot_be_reached_is_not_claimed():
    model = linear([[0.0, 0.0], [1.0, 1.0]], [0.0, -9.0])
    found = counterfactual(model, torch.full((1, 1, 1, 2), 0.5), box=True, steps=20)
    assert not found.crossed.any()
    assert found.distance.isinf().all()
    assert found.images.max() <= 1
    assert "0 crossed" in repr(found)


def test_the_same_twice_and_whatever_the_batches():
    model, x = network(5)
    first, again = (counterfactual(model, x, seed=2, refine=2) for _ in range(2))
    assert torch.equal(first.images, again.images)
    alone = counterfactual(model, x, seed=2, refine=2, batch_size=2)
    assert torch.allclose(first.images, alone.images, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(first.path, again.path, strict=True))


def test_paths_lead_from_the_image_to_the_boundary():
    model, x = network(7)
    found = counterfactual(model, x)
    assert len(found.path) == len(x)
    for i, points in enumerate(found.path):
        assert torch.equal(points[0], x[i])
        assert torch.equal(points[-1], found.boundary[i])


def test_without_a_bound_there_is_an_explanation_but_no_certificate():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cat([x.flatten(1).pow(3).sum(1, keepdim=True), torch.ones(len(x), 1)], 1)

    x = torch.full((2, 1, 2, 2), 0.9)
    found = counterfactual(Odd().eval(), x)
    assert found.crossed.all()
    assert found.lower_bound.isnan().all()
    assert found.gap.isnan().all()
    assert "no bound is proven" in found.refusal
    assert "no lower bound" in repr(found)
    assert found.to_dict()["lower_bound"] == [None, None]


def test_nothing_of_the_model_changes():
    model = onelip.models.create("convnet", classes=3, size="XS", in_channels=1).eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    counterfactual(model, x, steps=5, refine=1)
    onelip.explain.saliency(model, x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert x.requires_grad
    assert x.grad is None
    assert not model.training


def test_it_works_where_gradients_are_off():
    model, x = network(1)
    with torch.no_grad():
        first = counterfactual(model, x).distance
    with torch.inference_mode():
        again = counterfactual(model, x).distance
    assert torch.equal(first, again)


BAD = [
    ({"to": 7}, InputError, r"`to` is out of range.*7.*0\.\.3"),
    ({"to": -1}, InputError, "out of range"),
    ({"to": 0.5}, InputError, "`to` is not usable"),
    ({"to": torch.tensor([0, 1])}, InputError, "one for each image"),
    ({"mask": torch.ones(3, 3)}, InputError, "`mask` does not fit"),
    ({"mask": torch.full((2, 3), 0.5)}, InputError, "zeros and ones"),
    ({"mask": torch.zeros(2, 3)}, InputError, "lets nothing change"),
    ({"overshoot": -1.0}, InputError, "`overshoot`"),
    ({"overshoot": math.nan}, InputError, "`overshoot`"),
    ({"steps": 0}, InputError, "`steps`"),
    ({"refine": -1}, InputError, "`refine`"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD)
def test_bad_options(options, error, text):
    model, x = network(0)
    with pytest.raises(error, match=text):
        counterfactual(model, x, **options)


def test_already_there():
    model, x = network(0)
    to = model(x).argmax(1)
    with pytest.raises(InputError, match="already in the target class"):
        counterfactual(model, x, to)


@pytest.mark.parametrize("explain", [counterfactual, onelip.explain.saliency])
def test_bad_images_and_models(explain):
    model, x = network(0)
    for bad, error in (
        (x + 1, InputError),
        (x * math.nan, NonFiniteError),
        (x[0], InputError),
        (x.long(), InputError),
        (None, InputError),
        (x[:0], InputError),
    ):
        with pytest.raises(error):
            explain(model, bad)
    with pytest.raises(TrainModeError, match="train mode"):
        explain(network(0)[0].train(), x)
    with pytest.raises(PrecisionError):
        explain(network(0)[0].half(), x)
    with pytest.raises(InputError, match=r"no classifier.*RegionLogits"):
        explain(nn.Conv2d(1, 3, 1).eval(), x)
    with pytest.raises(InputError, match="no classifier"):
        explain(linear(torch.ones(1, 6)), x)
    with pytest.raises(InputError, match="no model"):
        explain(lambda x: x, x)


def test_a_dense_model_through_a_region():
    torch.manual_seed(0)
    dense = onelip.models.create("fcn", classes=3, size="XS").eval()
    region = torch.zeros(16, 16, dtype=torch.bool)
    region[4:8, 4:8] = True
    model = onelip.explain.RegionLogits(dense, region)
    x = torch.rand(1, 3, 16, 16)
    found = counterfactual(model, x, refine=1)
    assert found.crossed.all()
    change = (found.images - x).abs().sum(1)[0]
    assert change[region].mean() > change[~region].mean()
    with pytest.raises(InputError, match="`region`"):
        onelip.explain.RegionLogits(dense, region & False)


def test_shown():
    model, x = network(0)
    found = counterfactual(model, x)
    assert "proven: none nearer than" in repr(found)
    assert len(found.figure(1).axes) == 4


def test_a_small_lipnet_is_crossed_in_less_than_one_ray():
    """Random weights: no boundary is far, and the straight gradient ray of the first margin is not the nearest way."""
    torch.manual_seed(0)
    model = onelip.models.create("convnet", classes=5, size="XS", in_channels=1).eval()
    x = torch.rand(12, 1, 12, 12)
    found = counterfactual(model, x)
    assert found.crossed.all()
    assert (found.gap >= 1).all()
    judge = Classifier(model, "test")
    start = judge.logits(x.double()).argmax(1)
    top = judge.logits(x.double()).topk(2, dim=1).indices
    way = onelip.explain.saliency(model, x, top[:, 1]) - onelip.explain.saliency(model, x, top[:, 0])
    unit = way.double() / way.double().flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    ray = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for t in torch.linspace(0, 4, 1601, dtype=torch.float64):
        flipped = judge.logits(x.double() + t * unit).argmax(1) != start
        ray = torch.where(flipped & ray.isinf(), t, ray)
    assert (found.distance <= ray + 0.0026).all()
    assert found.distance.median() < ray.median()
