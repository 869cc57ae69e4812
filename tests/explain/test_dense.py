"""Counterfactuals of regions and boxes against closed forms, brute force and attacks that know the bound."""

import math

import pytest
import torch
from torch import nn

import onelip
from onelip.core.errors import InputError, TrainModeError, UnsoundError
from onelip.explain import box_counterfactual, region_counterfactual
from onelip.explain.goals import enter_cost
from onelip.layers import GroupSort
from onelip.models.detection import Detector


def identity(classes):
    """Logits are the channels: every distance is a closed form."""
    model = nn.Conv2d(classes, classes, 1, bias=False).eval()
    model.weight.data.copy_(torch.eye(classes)[..., None, None])
    return model


def network(seed, classes=3):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        GroupSort(2),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, classes, 1),
    )
    return model.eval(), torch.rand(2, 2, 5, 6)


class Toy(Detector):
    """Logits (and distances) are channels of the cells of stride 4, at their first pixel; constant 1."""

    def __init__(self, offset, kind="free"):
        nn.Module.__init__(self)
        self.name, self.classes, self.in_channels, self.multiple_of = (
            "toy",
            offset.shape[1],
            offset.shape[1],
            4,
        )
        self.strides, self.regression_kind, self.kappa = (4,), kind, 0.5
        self.temperature, self.nms, self.per_level, self.per_image, self.centerness = (
            0.1,
            0.6,
            1000,
            100,
            False,
        )
        self.head = nn.Conv2d(self.classes, self.classes, 4, stride=4, bias=False)
        self.head.weight.data.zero_()
        self.head.weight.data[range(self.classes), range(self.classes), 0, 0] = 1.0
        self.register_buffer("offset", offset)
        self.eval()

    def levels(self, images):
        return [self.head(images)]

    def bounded_parts(self, features, level):
        return (features.flatten(2).transpose(1, 2) + self.offset,)

    def unbounded(self, maps):
        batch, _, h, w = maps[0].shape
        return (torch.ones(batch, h * w, 4).to(maps[0]) if self.regression_kind == "free" else None), None


class Net(Toy):
    """The same with a random network, and distances from another head."""

    def __init__(self, seed, classes=2, kind="free"):
        super().__init__(torch.zeros(1, classes), kind)
        torch.manual_seed(seed)
        self.in_channels = 3
        self.head = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=4), GroupSort(2), nn.Conv2d(8, 8, 3, padding=1), GroupSort(2)
        )
        self.logits, self.sides = nn.Conv2d(8, classes, 1), nn.Conv2d(8, 4, 1)
        self.eval()

    def bounded_parts(self, features, level):
        logits = self.logits(features).flatten(2).transpose(1, 2)
        if self.regression_kind == "free":
            return (logits,)
        return logits, self.sides(features).flatten(2).transpose(1, 2)


@pytest.mark.parametrize("seed", range(5))
def test_cost_of_entering_is_the_smallest_over_all_levels(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(3, 5, 2, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 5, (3, 2, 2), generator=generator)
    found = enter_cost(z, labels)
    own = z.gather(1, labels[:, None])[:, 0]
    rest = z.scatter(1, labels[:, None], -torch.inf)
    levels = torch.linspace(0, 1, 20001, dtype=torch.float64)
    for b in range(3):
        for i in range(2):
            for j in range(2):
                t = own[b, i, j] + levels * (z[b, :, i, j].max() - own[b, i, j]).clamp_min(0)
                cost = (t - own[b, i, j]).square() + (rest[b, :, i, j, None] - t).clamp_min(0).square().sum(0)
                best = cost.min().sqrt()
                assert found[b, i, j] <= best + 1e-12
                assert found[b, i, j] == pytest.approx(float(best), abs=1e-4)


def test_region_of_independent_pixels_is_exact():
    x = torch.tensor([[0.7, 0.4, 0.9], [0.2, 0.3, 0.1]]).reshape(1, 2, 1, 3)
    region = torch.tensor([[True, True, False]])
    found = region_counterfactual(identity(2), x, region)
    exact = math.sqrt((0.5**2 + 0.1**2) / 2)
    assert found.lower_bound.item() == pytest.approx(exact, abs=1e-6)
    assert found.lower_bound.item() <= exact
    assert found.distance.item() == pytest.approx(exact, abs=1e-4)
    assert found.crossed.all()
    assert found.to[0, 0].tolist() == [1, 1, 0]
    assert torch.equal(found.boundary[..., 2], x[..., 2])
    assert found.elsewhere.item() == 0


def test_appearing_is_as_far_as_all_rivals_are_high():
    x = torch.stack([torch.tensor([0.0, 0.9, 0.6]), torch.tensor([0.3, 0.2, 0.1])], 1).reshape(1, 3, 1, 2)
    region = torch.tensor([[True, True]])
    found = region_counterfactual(identity(3), x, region, 0, refine=10)
    exact = math.sqrt(0.5**2 + 0.4**2 + 0.1**2)  # all three meet at 0.5; the other pixel is there already
    assert found.lower_bound.item() == pytest.approx(exact, abs=1e-6)
    assert found.distance.item() == pytest.approx(exact, rel=5e-3)
    assert found.distance.item() >= exact - 1e-9
    assert found.to.unique().tolist() == [0]
    assert found.mode == "appear"


def test_vanishing_leaves_no_pixel_of_the_class_anywhere():
    model, x = network(1)
    label = int(model(x).argmax(1).flatten().mode().values)
    found = region_counterfactual(model, x, vanish=label)
    assert found.crossed.all()
    assert not (found.to == label).any()
    assert not (model(found.images).argmax(1) == label).any()
    assert torch.equal(found.region, found.predicted == label)
    assert (found.gap >= 1).all()


def pushed(model, x, radius, loss, steps=60):
    """Descent of a loss in the ball of a radius, from several starts: the lowest value seen, (B,)."""
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for start in range(4):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(start), dtype=torch.float64)
        delta = 0.5 * radius * noise / noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        for step in range(steps):
            delta.requires_grad_()
            value = loss(model(x + delta))
            best = torch.minimum(best, value.detach())
            gradient = torch.autograd.grad(value.sum(), delta)[0]
            way = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
            delta = (delta - 2 * radius * way / (step + 2)).detach()
            size = delta.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            delta = delta * (radius / size).clamp_max(1.0)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_no_attack_within_the_bound_flips_the_region(seed):
    model, x = network(seed)
    region = torch.zeros(5, 6, dtype=torch.bool)
    region[1:3, 2:4] = True
    found = region_counterfactual(model, x, region)
    assert found.crossed.all()
    assert (found.distance >= found.lower_bound).all()
    assert (found.lower_bound > 0).all()
    start = found.predicted

    def left(z):
        own = z.gather(1, start[:, None])[:, 0]
        rest = z.scatter(1, start[:, None], -torch.inf).amax(1)
        return (own - rest)[:, region].amax(1)

    wide = model.double()
    inside = pushed(wide, x.double(), found.lower_bound.reshape(-1, 1, 1, 1) * 0.999, left)
    assert (inside > 0).all()
    outside = pushed(wide, x.double(), found.distance.reshape(-1, 1, 1, 1) * 1.5, left)
    assert (outside < 0).any()  # the attack is one


def test_regions_boxes_and_masks_of_single_images():
    model, x = network(3)
    region = torch.zeros(2, 5, 6, dtype=torch.bool)
    region[0, 0, :2], region[1, 3:, 4:] = True, True
    mask = torch.zeros(5, 6)
    mask[:, 1:] = 1
    found = region_counterfactual(model, x, region, box=True, mask=mask, overshoot=1.2)
    assert (found.boundary - x)[..., 0].abs().max() == 0
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    for b in (0, 1):
        one = region_counterfactual(model, x[b : b + 1], region[b], box=True, mask=mask)
        assert one.lower_bound.item() == pytest.approx(found.lower_bound[b].item())
        if found.found[b]:
            assert (found.to[b] != found.predicted[b])[region[b]].all()
            assert found.path[b][0].equal(x[b])
            assert found.path[b][-1].equal(found.boundary[b])


class Odd(nn.Module):
    def forward(self, x):
        return x.pow(3)


def test_without_a_bound_there_is_an_explanation_and_a_refusal():
    x = torch.rand(1, 2, 3, 3)
    found = region_counterfactual(Odd().eval(), x, torch.ones(3, 3, dtype=torch.bool))
    assert found.crossed.all()
    assert found.lower_bound.isnan().all()
    assert "no bound is proven" in found.refusal
    assert "no lower bound" in repr(found)
    assert found.to_dict()["lower_bound"] == [None]


def test_a_wrong_constant_is_noticed(monkeypatch):
    from onelip.certify.dense import Certifier

    monkeypatch.setattr(Certifier, "_constant", lambda *_: 0.1)
    with pytest.raises(UnsoundError, match="below the proven lower bound"):
        region_counterfactual(identity(2), torch.rand(1, 2, 2, 2), torch.ones(2, 2, dtype=torch.bool))


def test_errors_of_regions():
    model, x = identity(2), torch.tensor([0.6, 0.4]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    region = torch.ones(3, 3, dtype=torch.bool)
    for bad, text in (
        ({"region": None}, "not clear what should change"),
        ({"to": 1, "vanish": 0}, "not clear what should change"),
        ({"region": region.float()}, "`region` does not fit"),
        ({"region": ~region}, "`region` is empty"),
        ({"to": 0}, "the goal is reached already"),
        ({"vanish": 1}, "the goal is reached already"),
        ({"to": 2}, "`to` is out of range"),
        ({"mask": torch.zeros(3, 3)}, "region_counterfactual: `mask` lets nothing change"),
    ):
        with pytest.raises(InputError, match=text):
            region_counterfactual(model, x, **{"region": region, **bad})
    with pytest.raises(InputError, match=r"outputs \(B, K, H, W\)"):
        region_counterfactual(nn.Sequential(nn.Flatten(), nn.Linear(18, 2)).eval(), x, region)
    with pytest.raises(InputError, match="no segmentation of these images"):
        region_counterfactual(nn.Conv2d(2, 2, 2, stride=2).eval(), x, region)
    with pytest.raises(TrainModeError):
        region_counterfactual(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Dropout().train()).train(), x, region)


def scene(classes=2):
    """One row of three cells: logits 0.3, 0.2, -0.5 of class 0, 0.4 and 0.6 and 0.9 lower of class 1."""
    offset = torch.tensor([[0.3, -0.1], [0.2, -0.4], [-0.5, -1.4]])[:, :classes]
    return Toy(offset - 0.5), torch.full((1, classes, 4, 12), 0.5)


BOX = torch.tensor([0.0, 0.0, 8.0, 4.0])


def test_vanishing_box_is_exact():
    model, x = scene()
    found = box_counterfactual(model, x, BOX)
    exact = math.sqrt(0.3**2 + 0.2**2)
    assert found.lower_bound.item() == pytest.approx(exact, abs=1e-6)
    assert found.lower_bound.item() <= exact
    assert found.distance.item() == pytest.approx(exact, abs=1e-4)
    assert found.crossed.all()
    assert (found.predicted.item(), found.to.item()) == (0, -1)
    assert [len(row[0]["labels"]) for row in (found.before, found.after)] == [2, 0]
    assert found.overlap(found.before, found.predicted).item() == pytest.approx(0.75)
    assert found.overlap(found.after, found.predicted).item() == 0
    target = [{"boxes": BOX[None], "labels": torch.tensor([0])}]
    assert onelip.certify.detection(model, x, target).vanish_radius[0].item() == pytest.approx(
        exact, abs=1e-6
    )


def test_appearing_box_is_exact():
    model, x = scene()
    right = torch.tensor([8.0, 0.0, 12.0, 4.0])
    any_class = box_counterfactual(model, x, right, "appear")
    assert any_class.lower_bound.item() == pytest.approx(0.5, abs=1e-6)
    assert any_class.distance.item() == pytest.approx(0.5, abs=1e-4)
    assert (any_class.predicted.item(), any_class.to.item()) == (-1, 0)
    other = box_counterfactual(model, x, BOX, "appear", to=1)
    assert other.lower_bound.item() == pytest.approx(0.1, abs=1e-6)
    assert other.distance.item() == pytest.approx(0.1, abs=1e-4)
    assert other.crossed.all()


def test_relabelled_box_is_exact():
    model, x = scene()
    exact = math.sqrt(0.3**2 + 0.2**2 + 0.1**2)
    for to in (None, 1):
        found = box_counterfactual(model, x, BOX, "relabel", to=to, refine=10)
        assert found.lower_bound.item() == pytest.approx(exact, abs=1e-6)
        assert exact - 1e-9 <= found.distance.item() <= 1.01 * exact
        assert (found.predicted.item(), found.to.item()) == (0, 1)


@pytest.mark.parametrize("mode", ["vanish", "appear", "relabel"])
@pytest.mark.parametrize("kind", ["free", "lipschitz"])
def test_no_attack_within_the_bound_changes_the_box(mode, kind):
    model = Net(1, kind=kind)
    x, box = torch.rand(1, 3, 16, 16), torch.tensor([0.0, 0.0, 12.0, 12.0])
    raw = model.raw(x)
    inside = (raw.locations < 12).all(1)
    low, high = raw.logits[0, inside].amax(0).sort().values.tolist()
    level = (low + high) / 2 if mode != "appear" else high + 0.05
    threshold = torch.sigmoid(torch.tensor(level / model.temperature, dtype=torch.float64)).item()
    found = box_counterfactual(model, x, box, mode, threshold=threshold)
    assert found.crossed.all()
    assert (found.distance >= found.lower_bound).all()
    assert (found.lower_bound > 0).all()
    theta, label = model.threshold_logit(threshold), int(raw.logits[0, inside].amax(0).argmax())

    def left(z):
        over = z[:, inside, :2] - theta
        gone, there = over[..., label].amax(1), -over[..., 1 - label].amax(1)
        if mode == "appear":
            return -over.flatten(1).amax(1)
        return gone if mode == "vanish" else torch.maximum(gone, there)

    wide = onelip.fold(model).double()
    assert (pushed(wide, x.double(), found.lower_bound.reshape(-1, 1, 1, 1) * 0.999, left, 25) > 0).all()
    assert left(wide(found.boundary.double())).item() < 0


@pytest.mark.slow
def test_a_whole_detector():
    torch.manual_seed(1)
    model = onelip.models.create("fcos", classes=2, size="XS", regression="lipschitz").eval()
    x, box = torch.rand(1, 3, 32, 32), torch.tensor([0.0, 0.0, 28.0, 28.0])
    raw = model.raw(x)
    low, high = raw.logits[0, (raw.locations < 28).all(1)].amax(0).sort().values.tolist()
    threshold = torch.sigmoid(torch.tensor((low + high) / 2 / model.temperature, dtype=torch.float64)).item()
    for mode in ("vanish", "relabel"):
        found = box_counterfactual(model, x, box, mode, threshold=threshold)
        assert found.crossed.all()
        assert (found.distance >= found.lower_bound).all()
        assert (found.lower_bound > 0).all()


def test_bounds_of_boxes_are_those_of_the_certificate():
    model = Net(2, 3, kind="lipschitz")
    x, box = torch.rand(2, 3, 16, 16), torch.tensor([[0.0, 0.0, 12.0, 12.0], [3.0, 3.0, 15.0, 14.0]])
    logits = model.raw(x).logits
    threshold = torch.sigmoid(logits.amax(2).mean() / model.temperature).item()
    vanish = box_counterfactual(model, x, box, threshold=threshold, steps=1, refine=0)
    relabel = box_counterfactual(model, x, box, "relabel", threshold=threshold, steps=1, refine=0)
    targets = [{"boxes": b[None], "labels": k[None]} for b, k in zip(box, vanish.predicted, strict=True)]
    proof = onelip.certify.detection(model, x, targets, threshold)
    assert torch.equal(vanish.lower_bound, torch.cat(proof.location_radius))
    assert torch.allclose(relabel.lower_bound, torch.cat(proof.mislabel_radius), rtol=1e-9)


def test_errors_of_boxes():
    model, x = scene()
    right = torch.tensor([8.0, 0.0, 12.0, 4.0])
    for args, text in (
        ((BOX, "go"), "`mode` is unknown"),
        ((right,), "nothing of the class is found at the box"),
        ((BOX, "appear"), "it is there already"),
        ((torch.tensor([0.0, 0.0, 1.0, 1.0]),), "no location of the detector"),
        ((torch.tensor([4.0, 0.0, 1.0, 1.0]),), "`boxes` do not fit"),
        ((torch.tensor([0.0, 0.0, math.nan, 1.0]),), "`boxes` do not fit"),
        ((torch.zeros(2, 4),), "`boxes` do not fit"),
    ):
        with pytest.raises(InputError, match=text):
            box_counterfactual(model, x, *args)
    with pytest.raises(InputError, match="no meaning for vanishing"):
        box_counterfactual(model, x, BOX, to=1)
    with pytest.raises(InputError, match="no other class"):
        box_counterfactual(model, x, BOX, "relabel", to=0)
    with pytest.raises(InputError, match="this is no detector"):
        box_counterfactual(identity(2), x, BOX)
    with pytest.raises(InputError, match="threshold"):
        box_counterfactual(model, x, BOX, threshold=1.0)


def test_pictures_and_texts(capsys):
    model, x = network(4)
    region = torch.zeros(5, 6, dtype=torch.bool)
    region[2, 2:4] = True
    found = region_counterfactual(model, x, region)
    assert len(found.figure(1).axes) == 6
    found.show()
    assert "flip 2 pixels, now of classes" in capsys.readouterr().out
    assert found.to_dict()["pixels"] == [2, 2]
    model, x = scene()
    boxed = box_counterfactual(model, x, BOX)
    assert len(boxed.figure().axes) == 4
    boxed.show()
    assert "vanish: class 0 -> nothing" in capsys.readouterr().out
    assert boxed.to_dict()["overlap_after"] == [0.0]
