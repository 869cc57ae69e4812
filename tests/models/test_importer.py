"""A checkpoint with the published layout, written here by a network built here from the same package's layers."""

import copy
import math
import sys

import pytest
import torch
from torch import nn

import onelip
from onelip.core.errors import DataError, IntegrityError, MissingExtraError
from onelip.models import import_reference

pytest.importorskip("orthogonium")


class Scaled(nn.Module):
    """A convolution times a stored factor."""

    def __init__(self, mod, gain):
        super().__init__()
        self.mod = mod
        self.coeff = nn.Parameter(torch.tensor(gain), requires_grad=False)

    def forward(self, x):
        return self.coeff * self.mod(x)


class Unit(nn.Module):
    """A 1-Lipschitz function and its constant."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.register_buffer("lipconstant", torch.tensor(1.0))

    def forward(self, x):
        return self.module(x)


class Fan(nn.Module):
    def __init__(self, branches):
        super().__init__()
        self.module_list = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) / 2 for branch in self.module_list], dim=1)


class Encoder(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.encoder = nn.Sequential(*layers)

    def forward(self, x):
        return self.encoder(x)


class Aspp(nn.Module):
    def __init__(self, width):
        super().__init__()
        rates = [conv(width, width, 3, padding=r, dilation=r) for r in (6, 12, 18)]
        self.convs = Fan([conv(width, width, 1), *rates])
        self.project = nn.Sequential(conv(4 * width, width, 1), *after(width))

    def forward(self, x):
        return self.project(self.convs(x))


class Source(nn.Module):
    """The published graph: three stages of three blocks, pyramid, three transposed blocks, classifier."""

    def __init__(self, classes):
        super().__init__()
        layers, cin = [], 3
        for width in (32, 64, 128):
            layers += [conv(cin, width, 3, stride=2, padding=1), *after(width)]
            for _ in range(2):
                layers += [conv(width, width, 3, padding=1), *after(width)]
            cin = width
        self.encoder = Encoder(layers)
        self.aspp = Aspp(128)
        ups = [conv(128, 128, 3, padding=1), *after(128)[:1]]
        for width in (128, 64, 32):
            ups += [up(width), *after(width // 2)]
        self.upsampling = nn.Sequential(*ups)
        self.classifier = conv(16, classes, 1, bias=True)

    def forward(self, x):
        return self.classifier(self.upsampling(self.aspp(self.encoder((x - 0.5) / 0.5))))


def conv(cin, cout, kernel, bias=False, padding=0, **geometry):
    from orthogonium.layers import AdaptiveOrthoConv2d

    layer = AdaptiveOrthoConv2d(
        cin, cout, kernel, bias=bias, padding=padding, padding_mode="zeros", **geometry
    )
    return Scaled(layer, math.sqrt(cout / cin))


def up(width):
    from orthogonium.layers import AdaptiveOrthoConvTranspose2d

    return Scaled(AdaptiveOrthoConvTranspose2d(width, width // 2, 2, stride=2, bias=False), math.sqrt(2.0))


def after(width):
    from orthogonium.layers import BatchCentering2D, MaxMin

    return [Unit(MaxMin()), Unit(BatchCentering2D(width))]


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    network = Source(classes=2)
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 3, 32, 32))
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.05)
            if name.endswith("weight_2.original"):
                nn.init.orthogonal_(
                    parameter
                )  # as after training: from normal entries it is not yet orthogonal
        for _ in range(3):
            network(torch.rand(2, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "kvasir.pth"
    torch.save(source.state_dict(), path)
    return path


def load(path, classes=2):
    return import_reference(path, classes=classes, mean=0.5, std=0.5)


def test_the_layout_is_the_published_one(source):
    state = source.state_dict()
    assert len(state) == 139
    assert all(v.dtype == torch.float32 for v in state.values())
    coeffs = [round(float(v), 5) for k, v in state.items() if k.endswith("coeff")]
    r = 1.41421
    assert coeffs == [3.26599, 1, 1, r, 1, 1, r, 1, 1, 1, 1, 1, 1, 0.5, 1, r, r, r, 0.35355]


def test_outputs_and_constant_are_those_of_the_source(source, written):
    model = load(written)
    images = torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(1))
    fresh = copy.deepcopy(source)  # its power iteration moves at every call, also in eval mode
    with torch.no_grad():
        torch.testing.assert_close(model(images), fresh(images), rtol=1e-4, atol=1e-5)
    assert model.folded
    assert not model.training
    bound = onelip.lipschitz(model, (64, 64))
    assert bound.value == pytest.approx(6.53197, rel=1e-3)
    assert bound.value >= 6.5319


def test_it_saves_and_loads_like_any_model(written, tmp_path):
    model = load(written)
    model.save(tmp_path / "m")
    images = torch.rand(1, 3, 17, 30)
    assert torch.equal(onelip.load(tmp_path / "m")(images), model(images))


@pytest.mark.parametrize(
    "drop", [("parametrizations",), ("mod", "module"), ("mod", "module", "parametrizations")]
)
def test_other_spellings_of_the_wrappers(source, written, tmp_path, drop):
    renamed = {".".join(s for s in k.split(".") if s not in drop): v for k, v in source.state_dict().items()}
    assert len(renamed) == 139
    torch.save(renamed, tmp_path / "other.pth")
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(load(tmp_path / "other.pth")(images), load(written)(images))


FIRST = "encoder.encoder.0.mod.parametrizations.weight_1.original"


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda s: s.pop("classifier.mod.bias"), r"1 missing \(first classifier.bias\)"),
        (lambda s: s.pop("encoder.encoder.2.module.running_mean"), "1 missing"),
        (lambda s: s.pop("aspp.project.0.coeff"), r"1 missing \(first aspp.project.0.coeff\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 left over \(first extra\)"),
        (lambda s: s.update({"aspp.convs.coeffs.0": torch.ones(())}), "1 left over"),
        (lambda s: s.update({FIRST.replace("mod.", ""): s[FIRST]}), "both mean"),
        (lambda s: s.update({FIRST: s[FIRST][..., :1]}), "of shape"),
        (lambda s: s.update({FIRST: s[FIRST].double()}), "float64"),
        (lambda s: s["classifier.coeff"].fill_(torch.nan), "classifier.coeff is not finite"),
        (lambda s: s.update({"aspp.lipconstant": torch.ones(())}), "aspp.lipconstant"),
        (lambda s: s["encoder.encoder.1.lipconstant"].fill_(2.0), "lipconstant = 2.0"),
        (lambda s: s.update({"encoder.encoder.0.lipconstant": torch.ones(())}), "encoder.0.lipconstant"),
    ],
)
def test_nothing_may_be_missing_or_left_over(source, tmp_path, edit, text):
    state = {k: v.clone() for k, v in source.state_dict().items()}
    edit(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(IntegrityError, match=text):
        load(tmp_path / "bad.pth")


def test_other_classes_are_refused(written):
    with pytest.raises(IntegrityError, match="check `classes` and `size`"):
        load(written, classes=3)


def test_files_that_are_no_checkpoint(tmp_path, source):
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")
    for name, text in [
        ("absent.pth", "cannot be read"),
        ("text.pth", "cannot be read"),
        ("code.pth", "cannot be read"),
        ("list.pth", "no flat state dict"),
        ("nested.pth", "no flat state dict"),
    ]:
        with pytest.raises(DataError, match=text):
            load(tmp_path / name)


def test_the_missing_package_is_named(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "orthogonium.layers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "onelip\[orthogonium\]"'):
        load(written)
