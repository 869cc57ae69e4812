"""What cannot be proven is refused, with a text that says what, why and what to do."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from bound_oracles import Apply
from torch import nn

import onelip
from onelip.core.errors import (
    BoundError,
    InputError,
    NonFiniteError,
    PrecisionError,
    TrainModeError,
    UnknownLayerError,
)

SIZE = (4, 4, 4)


class Custom(nn.Module):
    def forward(self, x):
        return torch.special.expit(x)


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Sneaky(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 3 * weight, bias)


class Wrapped(nn.Linear):
    def __getattribute__(self, name):
        return super().__getattribute__(name)


class Renamed(nn.Conv2d):
    """A child that changes nothing is its parent."""


def patched():
    layer = nn.Conv2d(4, 4, 3)
    layer.forward = lambda x: 5 * x
    return layer


def hooked(kind):
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
    getattr(net[0], f"register_forward_{kind}")(lambda *a: None)
    return net


class WritesBuffer(nn.Module):
    """The sum really depends on x twice."""

    def __init__(self):
        super().__init__()
        self.register_buffer("memory", torch.zeros(2, 4, 4, 4))

    def forward(self, x):
        self.memory.add_(x)
        return x + self.memory


class CountsCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Several(nn.Module):
    def forward(self, x, y):
        return x + y


class OutBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("out", torch.zeros(2, 4, 4, 4))

    def forward(self, x):
        torch.abs(x, out=self.out)
        return self.out + 0 * x


LAYERS = {
    "unknown op": (Custom(), "calls `special_expit`.*onelip.rule"),
    "patched instance": (patched(), "`Conv2d` is a Conv2d, for which no rule holds"),
    "forward hook": (hooked("hook"), "`0` .Conv2d. has forward hooks"),
    "forward pre hook": (hooked("pre_hook"), "has forward hooks"),
    "group norm": (nn.GroupNorm(2, 4), "dividing by the standard deviation.*GroupNorm"),
    "layer norm": (nn.LayerNorm(4), "dividing by the standard deviation"),
    "instance norm": (nn.InstanceNorm2d(4), "dividing by the standard deviation"),
    "batch statistics": (nn.BatchNorm2d(4, track_running_stats=False), "batch statistics"),
    "attention": (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
    "writes into a buffer": (WritesBuffer(), "works in place|writes"),
    "counts its calls": (CountsCalls(), "writes into"),
    "writes through out": (OutBuffer(), r"out=|cannot be followed"),
    "two inputs": (Several(), "several inputs|cannot be followed"),
    "pool indices": (nn.MaxPool2d(2, return_indices=True), "indices"),
    "celu": (nn.CELU(-1.0), "CELU has no constant"),
    "softplus jump": (nn.Softplus(threshold=1), "jumps"),
    "dropout on": (Apply(F.dropout), "random"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_without_a_proof(name):
    layer, text = LAYERS[name]
    with pytest.raises(UnknownLayerError, match=text):
        onelip.lipschitz(layer.eval(), SIZE)


@pytest.mark.parametrize(
    "layer", [Doubled(4, 4, 3), Sneaky(4, 4, 3), nn.Sequential(nn.Flatten(), Wrapped(64, 2))]
)
def test_children_that_compute_something_else_are_refused_by_name(layer):
    with pytest.raises(UnknownLayerError, match=r"which changes what its parent (Conv2d|Linear) computes"):
        onelip.lipschitz(layer.eval(), SIZE)


def test_a_child_without_code_that_can_be_followed():
    class Opaque(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * float(x.abs().max())

    with pytest.raises(UnknownLayerError, match=r"cannot be followed|no rule holds"):
        onelip.lipschitz(Opaque(4, 4, 3).eval(), SIZE)


def _reused(x):
    y = 2 * x
    return y.mul_(3) + y


def _positional(x):
    y = 2 * x
    return F.hardswish(y, True) + y


def _viewed(x):
    y = 2 * x
    z = y.flatten(1)
    z.mul_(10)
    return y


CODE = {
    "square": (lambda x: x * x, "product of two tensors"),
    "power": (lambda x: x**2, "pow"),
    "gate": (lambda x: x * torch.sigmoid(x), "product of two tensors"),
    "quotient": (lambda x: 1 / (1 + x.abs()), "division by a tensor"),
    "normalised": (F.normalize, "dividing by the standard deviation or norm"),
    "attention": (lambda x: x @ x.transpose(2, 3), "product of two tensors"),
    "kernel from the input": (
        lambda x: F.conv2d(torch.ones(1, 1, 4, 4), x[:1, :1]),
        "rule|constant|mixes|apart|followed|covered|one image|cannot run",
    ),
    "flips the batch": (lambda x: x.flip(0), "mixes images"),
    "rolls everything": (lambda x: x.roll(1), "mixes"),
    "mean over the batch": (lambda x: x - x.mean(0, keepdim=True), "along the batch"),
    "sum over everything": (lambda x: x.sum(), "over everything"),
    "flattened": (lambda x: x.view(-1), "keep the images of a batch apart"),
    "moved batch": (lambda x: x[:, :2].transpose(0, 1), "moving the batch"),
    "permuted batch": (lambda x: x[:, :2].permute(1, 0, 2, 3), "moving the batch"),
    "first image": (lambda x: x[0], "selecting images"),
    "first image kept": (lambda x: x[:1], "selecting images"),
    "new front": (lambda x: x[None], "in front of the batch"),
    "cat along the batch": (lambda x: torch.cat([x, x]), "mixes images"),
    "stacked in front": (lambda x: torch.stack([x, x]), "in front of the batch"),
    "split batch": (lambda x: x.chunk(2)[0], "mixes images"),
    "sorted batch": (lambda x: x.sort(dim=0)[0], "mixes images"),
    "softmax over the batch": (lambda x: x.softmax(0), "mixes images"),
    "one-dimensional softmax": (lambda x: x.mean((1, 2, 3)).softmax(-1), "mixes images"),
    "matrix on the batch": (
        lambda x: x.mean((1, 2, 3)) @ torch.ones(2, 2),
        "rule|constant|mixes|apart|followed|covered|one image|cannot run",
    ),
    "linear on the batch": (lambda x: F.linear(x.mean((1, 2, 3)), torch.ones(2, 2)), "batch"),
    "unbatched conv": (lambda x: F.conv2d(x[:, 0], torch.ones(2, 2, 3, 3)), "batch"),
    "unbatched softmax": (lambda x: nn.Softmax2d().eval()(x[:, 0]), "mixes"),
    "squeezed batch": (lambda x: x[:, :1].squeeze().sum(1), "batch of 1|depends on how many|keep the images"),
    "scaled by the count": (lambda x: x * x.shape[0], "how many images"),
    "divided by the count": (lambda x: x / x.numel(), "how many images"),
    "expanded in front": (lambda x: x.expand(x.shape[0], *x.shape), "keep the images|how many images"),
    "branch on the count": (lambda x: 9 * x if x.shape[0] == 1 else x, "how many images"),
    "copies of the batch": (lambda x: x.repeat(2, 1, 1, 1), "keep the images"),
    "broadcast over the batch": (lambda x: x + torch.ones(2, 1, 1, 1), "mixes the images"),
    "broadcast of a part": (
        lambda x: x + x.mean((1, 2, 3)),
        "rule|constant|mixes|apart|followed|covered|one image|cannot run",
    ),
    "index by a list": (lambda x: x[:, [0, 0, 1]], "repeat entries"),
    "index by a mask": (lambda x: x[:, True], "repeat entries"),
    "index of a table": (
        lambda x: torch.ones(5)[x],
        "rule|constant|mixes|apart|followed|covered|one image|cannot run",
    ),
    "argmax": (lambda x: x.argmax(1), "jump"),
    "rounded": (lambda x: x.round(), "jump"),
    "index of max": (lambda x: x.max(1)[1] * 1.0, "jumps"),
    "indices of sort": (lambda x: x.sort(1).indices, "jumps"),
    "unsorted topk": (lambda x: x.topk(2, dim=1, sorted=False)[0], "order"),
    "threshold": (lambda x: torch.where(x > 0, x, -5 * x), "gt"),
    "branch on values": (lambda x: 9 * x if x.sum() > 0 else x, "cannot be followed"),
    "reads a value": (
        lambda x: x * float(x.mean()),
        "rule|constant|mixes|apart|followed|covered|one image|cannot run",
    ),
    "random scale": (lambda x: x * torch.rand(1), "random"),
    "random like": (lambda x: x * torch.rand_like(x), "rand"),
    "python chance": (lambda x: x * random.random(), "random"),
    "half": (lambda x: x.half().float(), "few bits"),
    "half by to": (lambda x: x.to(torch.float16).to(torch.float32), "changes the precision"),
    "double": (lambda x: x.double(), "changes the precision"),
    "integers": (lambda x: x.to(torch.int64), "changes the precision"),
    "padded batch": (lambda x: F.pad(x, (0, 0) * 3 + (1, 0)), "mixes images"),
    "norm of another order": (lambda x: torch.norm(x, p=1, dim=1), "Euclidean"),
    "norm method": (lambda x: x.norm(p=3, dim=1), "Euclidean"),
    "wide antialias": (lambda x: F.interpolate(x, size=(3, 1), mode="bilinear", antialias=True), "width one"),
    "limits from the input": (lambda x: x.clamp(min=x.mean(1, keepdim=True)), "limits"),
    "transposed data": (lambda x: x.data, "reads `.data`"),
    "in place on what is used again": (_reused, "works in place"),
    "in place by position": (_positional, "works in place"),
    "in place on a view": (_viewed, "works in place"),
    "in place on the input": (lambda x: x.mul_(2) + x, "works in place"),
}


@pytest.mark.parametrize("name", CODE)
def test_code_without_a_proof(name):
    function, text = CODE[name]
    with pytest.raises(BoundError, match=text):
        onelip.lipschitz(Apply(function).eval(), SIZE)


def test_unbatched_pools():
    """Three dimensions are (C, H, W) to torch, and two axes are pooled: not one."""
    module = Apply(lambda x: F.max_pool2d(x[:, 0], 3, 1)).eval()
    with pytest.raises(UnknownLayerError, match="batch dimension"):
        onelip.lipschitz(module, SIZE)


def test_torch_batch_norm_orders_its_tensors_differently():
    w, b, mean, var = torch.full((4,), 3.0), torch.full((4,), 100.0), torch.zeros(4), torch.full((4,), 0.25)
    module = Apply(lambda x: torch.batch_norm(x, w, b, mean, var, False, 0.1, 0.0, False)).eval()
    assert onelip.lipschitz(module, SIZE).value == pytest.approx(6)
    module = Apply(lambda x: F.batch_norm(x, mean, var, w, b, eps=0.0)).eval()
    assert onelip.lipschitz(module, SIZE).value == pytest.approx(6)


def test_train_mode_names_the_layer():
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.BatchNorm2d(4))).eval()
    net[1][0].train()
    with pytest.raises(TrainModeError, match=r"`1.0` .BatchNorm2d. is in train mode.*model.eval"):
        onelip.lipschitz(net, SIZE)


def test_half_precision():
    with pytest.raises(PrecisionError, match=r"`weight` has a precision.*model.float"):
        onelip.lipschitz(nn.Conv2d(4, 4, 1).half().eval(), SIZE)
    with pytest.raises(PrecisionError, match="bfloat16"):
        onelip.lipschitz(nn.BatchNorm2d(4).bfloat16().eval(), SIZE)


def test_autocast():
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(PrecisionError, match="autocast is active"),
    ):
        onelip.lipschitz(nn.Conv2d(4, 4, 1).eval(), SIZE)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite(bad):
    layer = nn.Conv2d(4, 4, 1).eval()
    layer.weight.data[0, 0] = bad
    with pytest.raises(NonFiniteError, match="`weight` is not finite"):
        onelip.lipschitz(layer, SIZE)
    with pytest.raises(BoundError):
        onelip.lipschitz(Apply(lambda x: x * bad).eval(), SIZE)


def test_global_hooks():
    handle = nn.modules.module.register_module_forward_hook(lambda *a: None)
    try:
        with pytest.raises(UnknownLayerError, match="global module hooks"):
            onelip.lipschitz(nn.ReLU().eval(), SIZE)
    finally:
        handle.remove()


def test_arguments():
    for bad in (3, 0, "2", True, None, math.nan):
        with pytest.raises(InputError, match="supported norm"):
            onelip.lipschitz(nn.ReLU().eval(), SIZE, p=bad)
    for bad in ((0, 4), (2.5, 4), (-1, 4), "44", 4):
        with pytest.raises(InputError, match="size"):
            onelip.lipschitz(nn.ReLU().eval(), bad)
    with pytest.raises(UnknownLayerError, match="only modules"):
        onelip.lipschitz(lambda x: x, SIZE)
    with pytest.raises(
        UnknownLayerError, match=r"cannot run on a batch of 2 such images.*size and in_channels"
    ):
        onelip.lipschitz(nn.Conv2d(3, 3, 3).eval(), SIZE)
    with pytest.raises(InputError, match="differ"):
        onelip.lipschitz(nn.ReLU().eval(), SIZE, in_channels=3)
    assert onelip.lipschitz(nn.Conv2d(5, 3, 1).eval(), (4, 4)).size == (5, 4, 4)
    assert onelip.lipschitz(nn.Conv1d(5, 3, 3).eval(), (9,), in_channels=5).size == (5, 9)
    with pytest.raises(UnknownLayerError, match="does not depend on the input"):
        onelip.lipschitz(Apply(lambda x: torch.ones(2)).eval(), SIZE)


def test_a_child_that_changes_nothing_is_its_parent():
    torch.manual_seed(0)
    child = Renamed(4, 4, 3).eval()
    parent = nn.Conv2d(4, 4, 3).eval()
    parent.load_state_dict(child.state_dict())
    assert onelip.lipschitz(child, SIZE).value == onelip.lipschitz(parent, SIZE).value


def test_parametrised_batch_norm_is_found_along_the_hierarchy():
    class Twice(nn.Module):
        def forward(self, w):
            return 2 * w

    layer = nn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    plain = onelip.lipschitz(nn.BatchNorm2d(4).eval(), SIZE).value
    assert onelip.lipschitz(layer.eval(), SIZE).value == pytest.approx(2 * plain)


class Mine(nn.Module):
    def forward(self, x):
        return x * x.tanh()


class Wrong(nn.Module):
    def forward(self, x):
        return 3 * x


def test_user_rules():
    @onelip.rule(Mine)
    def mine(layer, x):
        return x.times(2.0, because="as the user says")

    @onelip.rule(Wrong, norms=(1, 2))
    def wrong(layer, x):
        return x.times(1.0)

    bound = onelip.lipschitz(nn.Sequential(Mine(), nn.ReLU()).eval(), SIZE)
    assert bound.value == pytest.approx(2)
    assert "rule registered by the user: Mine" in bound.assumptions
    with pytest.raises(UnknownLayerError, match=r"does not hold for this norm.*p=1"):
        onelip.lipschitz(Mine().eval(), SIZE, p=1)
    with pytest.raises(UnknownLayerError, match="p=inf"):
        onelip.lipschitz(Wrong().eval(), SIZE, p=math.inf)
    with pytest.raises(
        onelip.core.errors.UnsoundError, match=r"rule of Wrong is wrong.*constant of 3.*bound 1"
    ):
        onelip.testing.check_rule(Wrong().eval(), SIZE)


@pytest.mark.parametrize("returned", [None, 2.0, math.nan, -1.0, math.inf])
def test_rules_that_return_nonsense(returned):
    class Layer(nn.Module):
        def forward(self, x):
            return x

    @onelip.rule(Layer)
    def layer_rule(layer, x):
        return returned if returned in (None, 2.0) else x.times(returned)

    with pytest.raises(BoundError, match=r"must return a Value|unusable constant"):
        onelip.lipschitz(Layer().eval(), SIZE)


def test_tracing_leaves_no_trace():
    """Neither the random state nor the weights change."""
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)).eval()
    state, chance = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    onelip.lipschitz(net, SIZE)
    assert torch.equal(chance, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_the_text_of_a_bound():
    bound = onelip.lipschitz(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2)).eval(), (16, 16))
    text = str(bound)
    assert len(text.splitlines()) <= 6
    assert "Lipschitz bound (l_2)" in text
    assert "(4, 16, 16)" in text
    assert float(bound) == bound.value
    assert [row.name for row in bound.layers] == ["0", "1", "2"]
    assert bound.layers[-1].running == pytest.approx(bound.value)
    assert bound.table().row_count == 3
    assert bound.to_dict()["layers"][0]["rule"] == "Conv2d"
