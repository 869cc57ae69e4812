"""The contract every architecture keeps under every constraint."""

import math
from typing import ClassVar

import pytest
import torch
from torch import fx, nn

import onelip
from onelip.core.errors import ConfigError, InputError
from onelip.models import LipModel, architecture, architectures, create
from onelip.models.config import ModelConfig
from onelip.models.zoo import build

NAMES = ["deeplabv3", "unet", "fcn", "convnet", "mlp", "resnet18", "fcos"]
DENSE = ["deeplabv3", "unet", "fcn"]
CONSTRAINTS = ["orthogonal", "spectral", None, "orthogonium"]


def test_every_architecture_is_covered():
    assert sorted(NAMES) == sorted(architectures())


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", DENSE)
def test_any_size_gives_logits_of_that_size(tools, name, constraint):
    make, batch = tools
    model = make(name, constraint)
    for size in [(1, 1), (7, 9), (16, 16), (33, 18)]:
        assert model(batch(model, size)).shape == (2, 3, *size)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", ["convnet", "mlp", "resnet18"])
def test_classifiers_give_one_row_an_image(tools, name, constraint):
    make, batch = tools
    model = make(name, constraint)
    assert model(batch(model, (13, 9))).shape == (2, 3)


def test_padding_is_zero_padding_of_normalised_images_and_crop(tools):
    make, batch = tools
    model = make("deeplabv3")
    images = batch(model, (13, 22))
    padded = nn.functional.pad(model.normalize(images), (0, 2, 0, 3))
    assert torch.equal(model(images), model.network(padded)[..., :13, :22])


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", NAMES)
def test_folding_keeps_the_outputs_and_leaves_only_plain_layers(tools, name, constraint):
    make, batch = tools
    model = make(name, constraint)
    folded = onelip.fold(model)
    images = batch(model, (17, 12))
    assert folded.folded
    assert not model.folded
    assert isinstance(folded, type(model))
    assert not any(parameter_name.endswith("coeff") for parameter_name in folded.state_dict())
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_folded_skeleton_has_the_names_and_shapes_of_the_folded_model(tools, name, constraint):
    make, _ = tools
    model = make(name, constraint)
    skeleton = build(ModelConfig.from_dict(model.config), folded=True)
    shapes = {k: (v.shape, v.dtype) for k, v in skeleton.state_dict().items()}
    assert shapes == {k: (v.shape, v.dtype) for k, v in onelip.fold(model).state_dict().items()}
    plain = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for path, module in onelip.fold(model).named_modules():
        twin = skeleton.get_submodule(path)
        assert type(module) is type(twin), path
        if type(module) in plain:
            assert str(module) == str(twin), path


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", NAMES)
def test_training_state_round_trips(tools, name, constraint):
    make, batch = tools
    model = make(name, constraint)
    torch.manual_seed(5)
    other = build(ModelConfig.from_dict(model.config))
    assert not torch.allclose(other.eval()(batch(model)), model(batch(model)))
    other.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(other.eval()(batch(model)), model(batch(model)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_that_asks_for_a_gradient_gets_one(tools, name, constraint):
    make, batch = tools
    model = make(name, constraint, scale="learnable").train()
    outputs = model.raw(batch(model))[:2] if name == "fcos" else (model(batch(model)),)
    sum(output.square().sum() for output in outputs).backward()
    # a bias before a centring layer cancels in training, so no statement on its size
    dead = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert dead == []
    assert any("coeff" in n for n, _ in model.named_parameters()) is (constraint is not None)


@pytest.mark.parametrize(
    ("size", "convolutions", "classifier_in", "multiple"),
    [("S", 19, 16, 8), ("M1", 25, 32, 8), ("M2", 31, 32, 16), ("L", 39, 32, 16), ("XL", 37, 64, 32)],
)
def test_sizes_of_the_published_network(size, convolutions, classifier_in, multiple):
    config = create("deeplabv3", classes=7, size="XS").config
    options = LipModelSizes()[size]
    model = build(ModelConfig.from_dict(config | {"size": size, "options": options}), folded=True)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convs) == convolutions
    assert model.classifier.in_channels == classifier_in
    assert model.multiple_of == multiple
    entries = sum(c.weight.numel() for c in convs)
    assert entries == pytest.approx(
        {"S": 1.2e6, "M1": 6.3e6, "M2": 25.5e6, "L": 31.8e6, "XL": 409e6}[size], rel=0.01
    )


def LipModelSizes():
    from onelip.models import DeepLabV3

    return DeepLabV3.sizes


def test_the_twin_has_the_same_graph_with_ordinary_layers():
    lip = build(ModelConfig("deeplabv3", 3, "XS", options=LipModelSizes()["XS"]), folded=True)
    twin = build(ModelConfig("deeplabv3", 3, "XS", None, options=LipModelSizes()["XS"]), folded=True)
    swap = {"MaxMin": "ReLU", "ChannelBias": "BatchNorm2d"}
    expected = {n: swap.get(type(m).__name__, type(m).__name__) for n, m in lip.named_modules()}
    assert expected == {n: type(m).__name__ for n, m in twin.named_modules()}
    assert lip.aspp.share == 0.5
    assert twin.aspp.share == 1.0


class LeafTracer(fx.Tracer):
    """Keeps the package's layers whole, as the bound engine does."""

    def is_leaf_module(self, module, qualified_name):
        return type(module).__module__.startswith("onelip.layers") or super().is_leaf_module(
            module, qualified_name
        )


@pytest.mark.parametrize("name", NAMES)
def test_one_traced_graph_serves_every_size(tools, name):
    make, batch = tools
    model = onelip.fold(make(name))
    graph = fx.GraphModule(model, LeafTracer().trace(model))
    for size in [(9, 10), (24, 31)]:
        assert torch.equal(graph(batch(model, size)), model(batch(model, size)))


def test_flat_inputs():
    model = create("mlp", classes=4, size="XS", in_channels=10).eval()
    x = torch.rand(5, 10)
    assert model(x).shape == (5, 4)
    assert torch.equal(model(x), model(x[:, :, None, None]))
    assert onelip.lipschitz(onelip.fold(model), (1, 1)).value > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": "Q"}, r"unknown size.*'Q'.*XS"),
        ({"constraint": "ortho"}, "`constraint` is not known.*'ortho'.*'orthogonal'"),
        ({"std": 0.0}, "`std` is not usable.*> 0"),
        ({"std": (0.1, 0.2)}, "`std` is not usable.*3 channels"),
        ({"mean": math.nan}, "`mean` is not usable"),
        ({"width": 3}, "unknown option.*did you mean 'widths'"),
        ({"scale": "auto"}, "`scale` is not known"),
        ({"mode": "fast"}, "`mode` is not known"),
        ({"classes": 0}, "classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"constraint": "orthogonium", "mode": "retract"}, "Orthogonium's layers know one mode"),
    ],
)
def test_bad_options_are_named(options, text):
    with pytest.raises(InputError, match=text):
        create("deeplabv3", **({"classes": 2, "size": "XS"} | options))


def test_unknown_architecture_and_head():
    with pytest.raises(ConfigError, match=r"unknown architecture.*did you mean 'deeplabv3'"):
        create("deeplab", classes=2)
    with pytest.raises(ConfigError, match="`head` is not known"):
        create("convnet", classes=2, head="wide")
    with pytest.raises(ConfigError, match="`upsample` is not known"):
        create("fcn", classes=2, upsample="nearest")
    with pytest.raises(ConfigError, match=r"`patch` is not usable.*0"):
        create("unet", classes=2, patch=0)
    with pytest.raises(ConfigError, match=r"`norm` is not known.*'group'.*batch or bias"):
        create("unet", classes=2, norm="group")


def test_wrong_inputs_are_refused():
    model = create("fcn", classes=2, size="XS").eval()
    for bad in [torch.rand(1, 1, 8, 8), torch.rand(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]:
        with pytest.raises(InputError, match=r"fcn cannot take this input.*\(B, 3, H, W\)"):
            model(bad)


def test_a_registered_architecture_is_created_by_name():
    @architecture("tiny-test")
    class Tiny(LipModel):
        sizes: ClassVar = {"XS": {"width": 4}, "S": {"width": 8}}

        def build(self, make, *, width):
            self.layer = make.conv(self.in_channels, width)
            self.head = make.conv(width, self.classes, 1, bias=True)

        def network(self, x):
            return self.head(self.layer(x))

    try:
        assert create("tiny-test", classes=2)(torch.rand(1, 3, 5, 5)).shape == (1, 2, 5, 5)
    finally:
        from onelip.models import zoo

        del zoo._ARCHITECTURES["tiny-test"]


def test_one_channel_and_options_of_the_architectures(tools):
    make, batch = tools
    for name, options in [
        ("fcn", {"upsample": "transposed"}),
        ("unet", {"widths": (4, 8), "repeats": 2}),
        ("unet", {"widths": (16, 8), "repeats": 1, "patch": 2}),
        ("deeplabv3", {"widths": (8, 16), "repeats": 1}),
    ]:
        model = make(name, in_channels=1, **options)
        assert model(batch(model, (9, 6))).shape == (2, 3, 9, 6)
        assert (
            model.config["options"].items()
            >= {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}.items()
        )


@pytest.mark.parametrize("name", ["unet", "fcn"])
@pytest.mark.parametrize("constraint", ["orthogonal", None])
def test_with_learned_constants_an_image_is_alone_while_training(name, constraint):
    torch.manual_seed(0)
    model = create(name, classes=2, size="XS", constraint=constraint, norm="bias").train()
    images = torch.rand(3, 3, 16, 16)
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, model.eval()(images), atol=1e-5)
    centred = create(name, classes=2, size="XS", constraint=constraint).train()
    assert not torch.allclose(centred(images)[:1], centred(images[:1]), atol=1e-3)


def test_patches_only_move_values():
    torch.manual_seed(0)
    model = create("unet", classes=2, size="XS", patch=2, scale="none", norm="bias").eval()
    assert onelip.lipschitz(model, (16, 24)).value <= 2.001  # 1 / std of the input, and nothing else
    images = torch.rand(1, 3, 16, 24)
    assert torch.equal(model.scatter(model.gather(images)), images)
    assert model(images).shape == (1, 2, 16, 24)
    assert model.multiple_of == 8
