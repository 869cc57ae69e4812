# ruff: noqa: E501
"""The algebra of branches, parts and outputs: random linear networks against their dense matrices."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bound_oracles import NORMS, Apply, dense_norm, fill, matrix, sound
from torch import nn

import onelip
from onelip.bounds import tracing
from onelip.bounds.engine import Engine


class RandomNet(nn.Module):
    """A random program over a pool of tensors (B, C, 3, 3); every operation is linear."""

    def __init__(self, seed, steps=7):
        super().__init__()
        draw = np.random.default_rng(seed)
        self.layers = nn.ModuleList()
        self.program = []
        channels = [int(draw.integers(2, 6))]
        self.channels = channels[0]
        shared = {}
        for _ in range(steps):
            name = str(draw.choice(list(OPS)))
            at = int(draw.integers(max(0, len(channels) - 3), len(channels)))
            c = channels[at]
            if name == "conv":
                if c not in shared or draw.random() < 0.6:
                    layer = nn.Conv2d(c, int(draw.integers(1, 5)), int(draw.choice([1, 3])), padding="same")
                    fill(layer.weight, "gaussian", draw)
                    self.layers.append(layer)
                    shared[c] = len(self.layers) - 1
                self.program.append((name, at, shared[c]))
                channels.append(self.layers[shared[c]].out_channels)
            elif name in ("add", "sub"):
                twins = [i for i, other in enumerate(channels) if other == c]
                self.program.append((name, at, (int(draw.choice(twins)), float(draw.normal()))))
                channels.append(c)
            elif name in ("cat", "stack"):
                others = (
                    list(range(len(channels)))
                    if name == "cat"
                    else [i for i, o in enumerate(channels) if o == c]
                )
                chosen = [at, *(int(i) for i in draw.choice(others, size=int(draw.integers(1, 3))))]
                self.program.append((name, at, chosen))
                channels.append(sum(channels[i] for i in chosen))
            elif name in ("chunk", "split", "slices"):
                if c < 2:
                    continue
                cut = int(draw.integers(1, c))
                self.program.append((name, at, cut))
                sizes = {
                    "chunk": [-(-c // 2), c // 2],
                    "split": [cut, c - cut],
                    "slices": [-(-c // 2), c // 2],
                }[name]
                channels += sizes
            else:
                self.program.append((name, at, float(draw.normal())))
                channels.append(c)
        count = int(draw.integers(1, 4))
        self.outputs = [int(i) for i in draw.integers(max(0, len(channels) - 5), len(channels), count)]

    def forward(self, x):
        pool = [x]
        for name, at, extra in self.program:
            pool += OPS[name](self, pool, pool[at], extra)
        found = [pool[i] for i in self.outputs]
        return found[0] if len(found) == 1 else tuple(found)


def _split(net, pool, x, cut):
    return list(torch.split(x, [cut, x.shape[1] - cut], dim=1))


def _stack(net, pool, x, chosen):
    return [torch.stack([pool[i] for i in chosen], dim=1).flatten(1, 2)]


OPS = {
    "conv": lambda net, pool, x, i: [net.layers[i](x)],
    "add": lambda net, pool, x, e: [x + e[1] * pool[e[0]]],
    "sub": lambda net, pool, x, e: [torch.sub(x, pool[e[0]], alpha=e[1])],
    "cat": lambda net, pool, x, chosen: [torch.cat([pool[i] for i in chosen], dim=1)],
    "stack": _stack,
    "chunk": lambda net, pool, x, e: list(x.chunk(2, dim=1)),
    "split": _split,
    "slices": lambda net, pool, x, e: [x[:, ::2], x[:, 1::2]],
    "scale": lambda net, pool, x, a: [a * x],
    "columns": lambda net, pool, x, a: [torch.cat([x[..., :1] * a, x[..., 1:].flip(2)], dim=-1)],
    "turn": lambda net, pool, x, a: [x.transpose(2, 3) - a],
    "mean": lambda net, pool, x, a: [x - x.mean(dim=(2, 3), keepdim=True)],
    "pad": lambda net, pool, x, a: [F.pad(x, (1, 0, 0, 0))[..., 1:] + F.pad(x, (0, 0, 1, 0), mode="reflect")[..., 1:, :]],
}  # fmt: skip


def check_network(seed):
    net = RandomNet(seed).double().eval()
    shape = (net.channels, 3, 3)
    m = matrix(net, shape)
    for p in NORMS:
        truth = dense_norm(m, p)
        bound = onelip.lipschitz(net, shape, p=p).value
        assert sound(bound, truth), f"seed {seed}, p={p}: {bound} < {truth}\n{net.program} -> {net.outputs}"
    return bound / truth if truth else None


@pytest.mark.parametrize("chunk", range(2))
def test_random_networks(chunk):
    ratios = [r for seed in range(25 * chunk, 25 * chunk + 25) if (r := check_network(seed))]
    assert len(ratios) > 20


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(20))
def test_many_random_networks(chunk):
    for seed in range(10000 + 100 * chunk, 10100 + 100 * chunk):
        check_network(seed)


def exported(net, shape, p):
    """Bound through torch.export, as the fallback does."""
    like = torch.empty(0, dtype=torch.float64)
    sample = torch.zeros(2, *shape, dtype=torch.float64)
    graph = tracing._export(tracing._Root(net), sample)
    with torch.no_grad():
        return Engine(graph, shape, p, like).run().constant


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_through_export(seed):
    net = RandomNet(seed).double().eval()
    shape = (net.channels, 3, 3)
    for p in NORMS:
        bound = exported(net, shape, p)
        assert sound(bound, dense_norm(matrix(net, shape), p))
        assert bound == pytest.approx(onelip.lipschitz(net, shape, p=p).value, rel=1e-9)


NETWORKS = {
    "convnet": nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 3),
    ),
    "decoder": nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.GELU(), nn.ConvTranspose2d(4, 4, 2, 2), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AvgPool2d(2), nn.PixelShuffle(2), nn.Softmax(dim=1), nn.Hardswish(), nn.ELU(), nn.Softplus(),
    ),
    "pads": nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.PReLU(), nn.Upsample(size=(5, 7))),
    "code": Apply(lambda x: torch.cat([F.pad(x, (1, 1)), F.pad(torch.sigmoid(x), (2, 0))], 1).mean((2, 3)).clamp(0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("p", NORMS)
def test_export_gives_the_same_numbers(name, p):
    net = NETWORKS[name].double().eval()
    shape = (3, 8, 8)
    assert exported(net, shape, p) == pytest.approx(onelip.lipschitz(net, shape, p=p).value, rel=1e-9)


class Fallback(nn.Module):
    """Harmless control flow: on shapes, which torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        if x.shape[-1] % 2 == 0:
            x = self.conv(x)
        for _ in range(len(x.shape) - 2):
            x = x * 2
        return x


def test_control_flow_on_shapes_is_followed():
    net = Fallback().eval()
    assert onelip.lipschitz(net, (3, 4, 4)).value == pytest.approx(
        4 * onelip.lipschitz(net.conv, (3, 4, 4)).value
    )
    assert onelip.lipschitz(net, (3, 4, 5)).value == pytest.approx(4)


def cat_of(f, g):
    return Apply(lambda x: torch.cat([f(x), g(x)], dim=1)).eval()


def test_parts_of_parts():
    def quarters(x):
        a, b = x.chunk(2, dim=1)
        c, d = b.chunk(2, dim=1)
        return torch.cat([3 * a, 5 * c, 7 * d], dim=1)

    def crossed(x):
        a, b = x.chunk(2, dim=1)
        return torch.cat([a, b, 2 * a + b], dim=1)

    assert onelip.lipschitz(Apply(quarters).eval(), (4, 1, 1)).value == pytest.approx(math.hypot(3, 7), rel=1)
    for function in (quarters, crossed):
        m = matrix(Apply(function), (4, 1, 1))
        for p in NORMS:
            assert sound(
                onelip.lipschitz(Apply(function).double().eval(), (4, 1, 1), p=p).value, dense_norm(m, p)
            )


def test_the_same_index_of_two_tensors_is_not_disjoint():
    def function(x):
        y = 2 * x
        return torch.cat([x[:, :2], y[:, 2:], x[:, :2] * 3], dim=1)

    m = matrix(Apply(function), (4, 1, 1))
    for p in NORMS:
        assert sound(
            onelip.lipschitz(Apply(function).double().eval(), (4, 1, 1), p=p).value, dense_norm(m, p)
        )


def test_several_outputs_share_no_budget():
    net = Apply(lambda x: {"a": x, "b": [2 * x, (3 * x,)]}).eval()
    assert onelip.lipschitz(net, (2, 2, 2)).value == pytest.approx(math.sqrt(14))
    assert onelip.lipschitz(net, (2, 2, 2), p=1).value == pytest.approx(6)
    assert onelip.lipschitz(net, (2, 2, 2), p=math.inf).value == pytest.approx(3)


def test_unused_branches_and_constants_cost_nothing():
    net = cat_of(lambda x: x, lambda x: torch.zeros(1).expand(2, 2, 2, 2) if False else x[:, :1] * 0)
    assert onelip.lipschitz(net, (2, 2, 2)).value == pytest.approx(1)
