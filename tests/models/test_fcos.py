"""The detector: shapes, joint constant, predictions, files, and what must fail when a rule is broken."""

import copy
import functools

import pytest
import torch
from torch import nn

import onelip
from onelip.core.errors import InputError, TrainModeError
from onelip.models import Detector, Raw, create
from onelip.models.decoding import locations, postprocess
from onelip.models.junctions import Copies, Sum

CONSTRAINTS = ["orthogonal", "spectral", None]
FIVE = (8, 16, 32, 64, 128)


def build(constraint="orthogonal", classes=2, seed=0, **options):
    """XS in eval mode, with biases that are not those of a fresh network and shares that are not equal."""
    torch.manual_seed(seed)
    options = {"norm": "bias"} | options
    model = create("fcos", classes=classes, size="XS", constraint=constraint, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
            if name.endswith(".logits"):
                parameter.normal_()
    return model.eval()


@functools.cache
def folded(constraint="orthogonal", **options):
    return onelip.fold(build(constraint, **options))


def batch(size, count=2, seed=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def count(size, strides):
    return sum(-(-size[0] // s) * -(-size[1] // s) for s in strides)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("regression", ["free", "lipschitz"])
def test_every_size_has_one_row_a_location(constraint, regression):
    model = folded(constraint, regression=regression)
    for size in [(1, 1), (64, 32), (45, 70)]:
        n = count(size, (4, 8, 16, 32))
        with torch.no_grad():
            outputs, raw = model(batch(size)), model.raw(batch(size))
        assert outputs.shape == (2, n, 2 + 4 * (regression == "lipschitz"))
        assert isinstance(raw, Raw)
        assert (raw.logits.shape, raw.regression.shape) == ((2, n, 2), (2, n, 4))
        points, strides = locations(size, (4, 8, 16, 32), dtype=torch.float32)
        assert torch.equal(raw.locations, points)
        assert torch.equal(raw.strides, strides)
        assert torch.equal(raw.logits, outputs[..., :2])
        assert float(raw.regression.min()) >= 0
        if regression == "lipschitz":
            assert torch.equal(raw.regression, (model.kappa * outputs[..., 2:]).relu())


@pytest.mark.parametrize("strides", [(4,), (8, 16), (16, 32, 64), FIVE, (32, 64)])
def test_levels_are_an_option(strides):
    model = folded(strides=strides)
    assert isinstance(model, Detector)
    assert model.strides == strides
    assert model.multiple_of == strides[-1]
    assert model(batch((50, 90))).shape[1] == count((50, 90), strides)


@pytest.mark.parametrize("place", [(12, 20), (40, 84)])
def test_rows_belong_to_their_locations(place):
    # a spot in the image moves the logits around it, in every level
    model = folded(residual="none")
    images = torch.full((1, 3, 64, 96), 0.5)
    spot = images.clone()
    y, x = place
    spot[..., y - 4 : y + 4, x - 4 : x + 4] = 1.0
    with torch.no_grad():
        raw, other = model.raw(images), model.raw(spot)
    moved = (other.logits - raw.logits)[0].square().sum(1)
    fine = raw.strides == 4
    strongest = raw.locations[fine][moved[fine].argmax()]
    assert float((strongest - torch.tensor([float(x), float(y)])).abs().max()) <= 12


@pytest.mark.parametrize(
    ("residual", "strides", "regression"),
    [
        ("fork", (4, 8, 16, 32), "free"),
        ("fork", FIVE, "lipschitz"),
        ("mean", (8, 16, 32, 64), "lipschitz"),
        ("none", (4, 8), "free"),
    ],
)
def test_the_joint_constant_is_that_of_the_normalisation(residual, strides, regression):
    model = folded(residual=residual, strides=strides, regression=regression, std=(0.25, 0.5, 0.4))
    side = model.multiple_of
    bound = onelip.lipschitz(model, (side, side - 3)).value
    assert 2.0 < bound <= 4.0 * (1 + 1e-3)


@pytest.mark.parametrize("scale", ["fixed", "none", "learnable"])
def test_no_scale_enlarges_a_fresh_detector(scale):
    torch.manual_seed(0)
    model = create("fcos", classes=2, size="XS", scale=scale).eval()
    assert onelip.lipschitz(onelip.fold(model), (32, 32)).value <= 2.0 * (1 + 1e-3)


@pytest.mark.parametrize("options", [{}, {"regression": "lipschitz", "strides": (8, 16, 32), "seed": 1}])
def test_no_direction_moves_the_outputs_further(options):
    model = folded(**options)
    size = (model.multiple_of, model.multiple_of)
    found = onelip.testing.lower_bound(model, size, iterations=8, starts=2)
    assert 0.2 < found <= onelip.lipschitz(model, size).value


@pytest.mark.parametrize("part", ["enlarge", "backbone fork", "rise", "extra fork", "head fork", "blend"])
def test_a_broken_junction_breaks_the_constant(part):
    options = {"widths": (8, 8, 8, 16), "regression": "lipschitz", "strides": (16, 32, 64), "shares": "fixed"}
    model = copy.deepcopy(folded(**options))
    size = (64, 64)
    before = onelip.lipschitz(model, size).value
    assert before <= 2.0 * (1 + 1e-3)
    _break(model, part)
    assert onelip.lipschitz(model, size).value > 1.02 * before


def _break(model, part):
    pyramid = model.pyramid
    if part == "enlarge":
        pyramid.enlarge = nn.Upsample(scale_factor=2)
    elif part == "blend":
        pyramid.blends[0] = Sum()
    elif part == "head fork":
        model.head.fork = Copies(2)
    else:
        places = {"backbone fork": model.backbone.forks, "rise": pyramid.rises, "extra fork": pyramid.forks}
        places[part][0] = Copies(2)
    model.eval()


def test_with_plain_sums_the_outputs_do_move_further():
    model = onelip.fold(build(seed=3))
    claimed = onelip.lipschitz(model, (32, 32)).value
    for module in (model.backbone, model.pyramid):
        for n in range(len(model.pyramid.rises)):
            (module.forks if module is model.backbone else module.rises)[n] = Copies(2)
    model.pyramid.enlarge = nn.Upsample(scale_factor=2)
    for n in range(len(model.pyramid.blends)):
        model.pyramid.blends[n] = Sum()
    found = onelip.testing.lower_bound(model.eval(), (32, 32), seed=0, iterations=8, starts=2)
    assert found > claimed
    assert found <= onelip.lipschitz(model, (32, 32)).value


@pytest.mark.parametrize(
    ("constraint", "options"),
    [
        ("orthogonal", {}),
        ("orthogonal", {"regression": "lipschitz", "centerness": True, "norm": "batch"}),
        (None, {"strides": (8,), "norm": "batch"}),
    ],
)
def test_saving_and_loading_gives_the_same_heads(tmp_path, constraint, options):
    model = onelip.fold(build(constraint, **options))
    model.save(tmp_path / "model")
    loaded = onelip.load(tmp_path / "model")
    with torch.no_grad():
        (raw, centre), (again, other) = model.heads(batch((40, 33))), loaded.heads(batch((40, 33)))
    for one, two in zip((*raw, centre), (*again, other), strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            assert torch.equal(one, two)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "Object detector" in card
    assert (loaded.strides, loaded.kappa, loaded.nms) == (model.strides, model.kappa, model.nms)


def test_a_setting_that_would_be_lost_is_not_saved(tmp_path):
    model = copy.deepcopy(folded(strides=(8,)))
    model.temperature = 0.5
    with pytest.raises(InputError, match="not what its configuration builds"):
        model.save(tmp_path / "model")


@pytest.mark.parametrize("constraint", ["orthogonal", None])
@pytest.mark.parametrize("options", [{"centerness": True}, {"regression": "lipschitz"}])
def test_every_parameter_learns_from_the_heads(constraint, options):
    model = build(constraint, **options).train()
    raw, centre = model.heads(batch((64, 64)))
    total = raw.logits.square().sum() + raw.regression.sum() + (0 if centre is None else centre.sum())
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert (centre is not None) == model.centerness


def test_signals_reach_every_level_of_a_fresh_detector():
    torch.manual_seed(0)
    model = create("fcos", classes=1, size="S").eval()
    images = batch((128, 128))
    with torch.no_grad():
        energies = [float(m.square().sum()) for m in model.levels(images)]
        whole = float(model.normalize(images).square().sum())
    assert sum(energies) <= whole  # nothing but biases of 0 and layers of norm 1
    assert all(energy > 1e-6 * whole for energy in energies), energies


def test_a_fresh_detector_begins_at_its_prior_and_at_two_strides():
    for constraint in ("orthogonal", None):
        torch.manual_seed(0)
        model = create("fcos", classes=1, size="XS", constraint=constraint, prior=0.2, temperature=0.5)
        with torch.no_grad():
            raw = model.raw(torch.full((1, 3, 64, 64), 0.5))
        scores = torch.sigmoid(raw.logits / 0.5)
        assert float((scores - 0.2).abs().max()) < 0.02  # a grey image: nothing but biases
        assert float((raw.regression - 2.0).abs().max()) < 1.0


@pytest.mark.parametrize("options", [{}, {"centerness": True, "temperature": 0.3}])
def test_predictions_are_the_heads_postprocessed(options):
    model = folded(prior=0.4, **options)
    images = batch((50, 77))
    with torch.no_grad():
        raw, centre = model.heads(images)
    score = float(torch.sigmoid(raw.logits.flatten() / model.temperature).quantile(0.97))
    order = None if centre is None else model.temperature * nn.functional.logsigmoid(centre)
    for nms in (None, 0.3):
        found = model.predict(images, score, nms)
        expected = postprocess(
            raw,
            model.threshold_logit(score),
            (50, 77),
            nms=nms or 0.6,
            temperature=model.temperature,
            order=order,
        )
        assert sum(len(one["labels"]) for one in found) > 2
        for one, other in zip(found, expected, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in ("boxes", "scores", "labels"))
            assert bool((one["scores"] > score).all())
            assert bool((one["boxes"] >= 0).all())
            assert bool((one["boxes"] <= torch.tensor([77.0, 50.0, 77.0, 50.0])).all())


def test_caps_and_silence():
    free = folded(prior=0.6)
    capped = folded(prior=0.6, per_level=2, per_image=3)
    capped.load_state_dict(free.state_dict())
    images = batch((64, 64), count=1)
    assert len(free.predict(images, 0.01, nms=1.0)[0]["labels"]) == 100
    found = capped.predict(images, 0.01, nms=1.0)[0]
    assert len(found["labels"]) == 3
    silent = free.predict(images, 1 - 1e-12)[0]
    assert silent["boxes"].shape == (0, 4)


def test_thresholds_are_those_of_scores():
    model = folded(temperature=0.25)
    for t in (0.01, 0.5, 0.9):
        logit = model.threshold_logit(t)
        assert float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64) / 0.25)) == pytest.approx(t)
    for t in (0.0, 1.0, -1, float("nan"), "high", True):
        with pytest.raises(InputError, match="threshold"):
            model.predict(batch((32, 32)), t)


def test_bad_input_gives_no_boxes():
    model = folded()
    with pytest.raises(InputError, match="out of range"):
        model.predict(batch((32, 32)) * 2)
    with pytest.raises(InputError, match=r"\(B, C, H, W\)"):
        model.predict(batch((32, 32))[0])
    with pytest.raises(InputError, match="float images"):
        model.raw(torch.zeros(1, 4, 32, 32))
    with pytest.raises(InputError, match="`nms`"):
        model.predict(batch((32, 32)), nms=2)
    with pytest.raises(TrainModeError, match="predict"):
        build().train().predict(batch((32, 32)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strides": (4, 16)}, "consecutive powers of two"),
        ({"strides": (2, 4)}, "consecutive powers of two"),
        ({"strides": ()}, "consecutive powers of two"),
        ({"strides": (64, 128, 256)}, "consecutive powers of two"),
        ({"strides": 8}, "consecutive powers of two"),
        ({"regression": "bounded"}, "free or lipschitz"),
        ({"kappa": 0.0}, "`kappa` is zero"),
        ({"temperature": -1}, "`temperature` is out of range"),
        ({"prior": 1.0}, "`prior` is no share"),
        ({"lateral": 0}, "`lateral` is no share"),
        ({"box_share": True}, "`box_share` is no share"),
        ({"skip": "half"}, "`skip` is no share"),
        ({"stem": "conv"}, "patch or steps"),
        ({"residual": "sum"}, "fork or mean or none"),
        ({"shares": "free"}, "learned or fixed"),
        ({"norm": "group"}, "batch or bias"),
        ({"centerness": 1}, "True or False"),
        ({"depths": (1, 1)}, "do not fit"),
        ({"depths": (1, 0, 1, 1)}, r"`depths\[1\]`"),
        ({"tower": 0}, "`tower`"),
        ({"per_level": 0}, "`per_level`"),
        ({"colour": 1}, "unknown option of fcos"),
    ],
)
def test_unusable_options_are_named(options, text):
    with pytest.raises(InputError, match=text):
        create("fcos", classes=1, size="XS", **options)


@pytest.mark.parametrize("constraint", ["orthogonal", None])
def test_the_size_to_ship_is_small(constraint):
    from onelip.models.config import ModelConfig
    from onelip.models.zoo import build as skeleton

    torch.manual_seed(0)
    options = create("fcos", classes=1, size="XS").config["options"]
    options |= {"widths": [24, 48, 96, 128], "depths": [2, 2, 2, 2], "channels": 32, "tower": 2}
    config = ModelConfig("fcos", 1, "S", constraint, options=options)
    model = skeleton(config, folded=True)
    assert sum(p.numel() for p in model.parameters()) <= 1_400_000
    assert onelip.models.FCOS.sizes["S"] == {
        "widths": (24, 48, 96, 128),
        "depths": (2, 2, 2, 2),
        "channels": 32,
        "tower": 2,
    }
