"""The residual backbone: one constant however blocks are joined, and the published shape."""

import math

import pytest
import torch
from torch import nn

import onelip
from onelip.core.errors import ConfigError
from onelip.models import create
from onelip.models.factory import Factory
from onelip.models.fpn import FeaturePyramid
from onelip.models.junctions import Copies
from onelip.models.resnet import Backbone, Block, Plan

SMALL = {"widths": (8, 12), "depths": (1, 2)}


def small(constraint="orthogonal", **options):
    torch.manual_seed(0)
    return create("resnet18", classes=3, size="XS", constraint=constraint, **(SMALL | options)).eval()


@pytest.mark.parametrize("residual", ["fork", "mean", "none"])
@pytest.mark.parametrize("stem", ["patch", "steps"])
@pytest.mark.parametrize("head", ["joint", "unit"])
def test_without_scaling_the_constant_is_that_of_the_normalisation(residual, stem, head):
    model = onelip.fold(small(residual=residual, stem=stem, scale="none", skip=0.8, head=head))
    bound = onelip.lipschitz(model, (29, 40)).value
    ends = {"joint": 2.0, "unit": 2.0 * math.sqrt(3)}  # rows of norm 1: at most the root of their number
    assert 2.0 * (1 - 1e-3) <= bound <= ends[head] * (1 + 1e-3)


@pytest.mark.parametrize("residual", ["fork", "mean"])
def test_a_sum_without_shares_breaks_the_constant(residual):
    model = onelip.fold(small(residual=residual, scale="none"))
    for module in model.modules():
        if isinstance(module, Block):
            module.weight_of_each = 1.0
            module.fork = Copies(2).eval()
    assert onelip.lipschitz(model, (32, 32)).value > 2.0 * 1.4


def test_the_twin_has_the_same_graph():
    for options in ({}, {"residual": "mean", "stem": "steps"}, {"residual": "none"}):
        names = [
            {n: type(m).__name__ for n, m in onelip.fold(small(c, **options)).named_modules()}
            for c in ("orthogonal", None)
        ]
        assert list(names[0]) == list(names[1])
        kinds = {(a, names[1][n]) for n, a in names[0].items() if a != names[1][n]}
        expected = {("MaxMin", "ReLU"), ("ChannelBias", "BatchNorm2d")}
        expected |= {("ScaledGlobalAvgPool2d", "AdaptiveAvgPool2d")}
        expected |= {("Fork", "Copies"), ("Blend", "Sum")} if not options else set()
        assert kinds == expected


def test_the_largest_size_is_the_published_network():
    from onelip.models.config import ModelConfig
    from onelip.models.zoo import build

    options = onelip.models.ResNet18.defaults | onelip.models.ResNet18.sizes["L"]
    model = build(ModelConfig("resnet18", 1000, "L", options=options), folded=True)
    convs = [m for m in model.backbone.stages.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convs) == 16  # and one in the stem, and the dense layer: 18
    assert sum(m.kernel_size == (2, 2) for m in convs) == 3
    assert model.multiple_of == 32


def test_folding_keeps_learned_shares():
    model = small(residual="fork")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("logits"):
                parameter.normal_()
    images = torch.rand(2, 3, 33, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(onelip.fold(model)(images), model(images), rtol=1e-4, atol=1e-5)
    fixed = small(residual="fork", shares="fixed")
    assert not [n for n, _ in fixed.named_parameters() if n.endswith("logits")]


def test_taps_are_the_last_maps():
    torch.manual_seed(0)
    plan = Plan((8, 12, 16), (1, 1, 1))
    backbone = Backbone(Factory("orthogonal"), 3, plan, taps=2).eval()
    shapes = [tuple(m.shape) for m in backbone(torch.zeros(1, 3, 32, 64))]
    assert shapes == [(1, 12, 4, 8), (1, 16, 2, 4)]
    assert onelip.lipschitz(onelip.fold(backbone), (3, 32, 64)).value > 0


@pytest.mark.parametrize(("levels", "extra"), [(2, 0), (3, 2), (1, 1)])
def test_a_pyramid_moves_no_further_than_its_maps(levels, extra):
    # linear: the pyramid without activations as one matrix, on all maps side by side
    torch.manual_seed(levels)
    make = Factory("orthogonal", norm="bias", scale="none")
    pyramid = FeaturePyramid(make, (4,) * levels, 4, extra=extra).eval()
    for module in pyramid.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "MaxMin":
                setattr(module, name, nn.Identity())
        if type(module).__name__ in {"Fork", "Blend"}:
            nn.init.normal_(module.logits)
    sides = [2 ** (levels + extra - 1 - n) for n in range(levels)]
    sizes = [4 * side**2 for side in sides]

    def run(vectors):
        pieces = vectors.split(sizes, dim=1)
        maps = [piece.reshape(-1, 4, side, side) for piece, side in zip(pieces, sides, strict=True)]
        outputs = pyramid(maps)
        assert [m.shape[-1] for m in outputs] == [
            2 ** (levels + extra - 1 - n) for n in range(levels + extra)
        ]
        return torch.cat([m.flatten(1) for m in outputs], dim=1)

    with torch.no_grad():
        matrix = run(torch.eye(sum(sizes)))
        norm = float(torch.linalg.matrix_norm(matrix.double(), ord=2))
        assert 0.5 < norm <= 1 + 1e-5
        pyramid.enlarge = nn.Upsample(scale_factor=2)
        if levels > 1:
            wrong = run(torch.eye(sum(sizes)))
            assert float(torch.linalg.matrix_norm(wrong.double(), ord=2)) > 1.01


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"head": "wide"}, "joint or unit"),
        ({"residual": "sum"}, "fork or mean or none"),
        ({"skip": 1.0}, "`skip` is no share of energy"),
        ({"widths": (8,)}, "do not fit"),
    ],
)
def test_unusable_options_are_named(options, text):
    with pytest.raises(ConfigError, match=text):
        small(**options)
