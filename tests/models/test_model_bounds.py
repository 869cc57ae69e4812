"""Every model under its bound: measured gains, published constants, changed forwards."""

import math

import pytest
import torch

import onelip
from onelip.models import create
from onelip.models.config import ModelConfig

NAMES = ["deeplabv3", "unet", "fcn", "convnet", "mlp", "resnet18", "fcos"]
DENSE = ["deeplabv3", "unet", "fcn"]
CONSTRAINTS = ["orthogonal", "spectral", None, "orthogonium"]
KVASIR = {"mean": 0.5, "std": 0.5}
CITYSCAPES = {"mean": (0.286, 0.325, 0.283), "std": (0.176, 0.180, 0.177)}


@pytest.mark.parametrize("scale", ["fixed", "none"])
@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_bound_holds_and_is_not_absurd(tools, local_gain, name, constraint, scale):
    make, batch = tools
    model = make(name, constraint, scale=scale)
    image = batch(model, (11, 14), count=1)
    bound = onelip.lipschitz(onelip.fold(model), tuple(image.shape[-2:]))
    below = local_gain(onelip.fold(model), image)
    assert 0 < below <= bound.value
    if constraint in ("orthogonal", "orthogonium"):
        assert below > 0.1 * bound.value  # the layers keep gradients, and the bound is near what happens
    if constraint in ("orthogonal", "orthogonium") and scale == "none":
        assert bound.value <= 2.0 * (1 + 1e-3)  # 1 / std, and nothing else
        if name != "fcos":  # equal shares cost even less than that: no path has the whole energy
            assert bound.value == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("constraint", ["orthogonal", "spectral"])
@pytest.mark.parametrize("name", DENSE)
def test_differences_respect_the_bound(tools, name, constraint):
    make, batch = tools
    model = onelip.fold(make(name, constraint)).double()
    first, second = (batch(model, (15, 10), seed=s).double() for s in (1, 2))
    bound = onelip.lipschitz(model, (15, 10)).value
    with torch.no_grad():
        for step in (1.0, 1e-3):
            other = first + step * (second - first)
            gain = (model(other) - model(first)).flatten(1).norm(dim=1) / (other - first).flatten(1).norm(
                dim=1
            )
            assert float(gain.max()) <= bound


@pytest.mark.parametrize(
    ("size", "classes", "data", "printed"),
    [("S", 2, KVASIR, 6.53197), ("S", 19, CITYSCAPES, 57.1957)],
)
def test_published_constants(size, classes, data, printed):
    _constant(size, classes, data, printed)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "classes", "data", "printed"), [("M2", 19, CITYSCAPES, 114.39)])
def test_published_constants_of_large_networks(size, classes, data, printed):
    _constant(size, classes, data, printed)


def _constant(size, classes, data, printed):
    torch.manual_seed(0)
    model = onelip.fold(create("deeplabv3", classes=classes, size=size, **data).eval())
    stages = int(math.log2(model.multiple_of))
    closed = 2**stages * math.sqrt(classes / 12) / min(model.config["std"])
    bound = onelip.lipschitz(model, (64, 64)).value
    assert closed == pytest.approx(printed, rel=5e-5)
    assert bound == pytest.approx(closed, rel=1e-3)
    assert bound >= closed * (1 - 1e-4)


def test_a_changed_forward_is_bounded_by_the_engine():
    class Doubled(type(create("fcn", classes=2, size="XS"))):
        def forward(self, images):
            return 2 * super().forward(images)

    torch.manual_seed(0)
    plain = create("fcn", classes=2, size="XS").eval()
    doubled = Doubled(ModelConfig.from_dict(plain.config), make_factory())
    doubled.load_state_dict(plain.state_dict())
    bound = onelip.lipschitz(onelip.fold(plain), (16, 16)).value
    assert onelip.lipschitz(onelip.fold(doubled.eval()), (16, 16)).value == pytest.approx(2 * bound, rel=1e-9)


def make_factory():
    from onelip.models.factory import Factory

    return Factory("orthogonal")


def test_train_mode_is_refused(tools):
    make, _ = tools
    with pytest.raises(onelip.OnelipError, match="train"):
        onelip.lipschitz(make("fcn").train(), (8, 8))


def test_the_unit_head_has_rows_of_norm_one(tools, local_gain):
    make, batch = tools
    model = onelip.fold(make("convnet", head="unit"))
    torch.testing.assert_close(model.head.weight.norm(dim=1), torch.ones(3))
    image = batch(model, (9, 9), count=1)
    assert local_gain(onelip.fold(model), image) <= onelip.lipschitz(model, (9, 9)).value


def test_the_scaled_pool_keeps_the_bound_at_every_size(tools):
    make, _ = tools
    model = onelip.fold(make("convnet", scale="none"))
    for size in [(4, 4), (64, 31)]:
        assert onelip.lipschitz(model, size).value == pytest.approx(2.0, rel=1e-3)
    twin = onelip.fold(make("convnet", None))
    assert onelip.lipschitz(twin, (64, 64)).value < onelip.lipschitz(twin, (8, 8)).value / 4


def test_retraction_mode_builds_trains_and_folds(tools):
    make, batch = tools
    model = make("fcn", mode="retract", scale="none").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(batch(model)).square().mean().backward()
        optimizer.step()
        onelip.layers.retract_(model)
    assert onelip.lipschitz(onelip.fold(model.eval()), (8, 8)).value == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("name", DENSE)
def test_the_package_s_own_falsifier_agrees(tools, name):
    make, _ = tools
    model = onelip.fold(make(name))
    found = float(onelip.testing.lower_bound(model, (16, 16), seed=0))
    assert 0.1 < found / onelip.lipschitz(model, (16, 16)).value <= 1
