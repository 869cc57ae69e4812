"""Random networks of forks, blends, crops, pools and resizings, through the front door, against their Jacobians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bound_oracles import NORMS, dense_norm, fill, flat, sound
from torch import nn

import onelip
from onelip.layers import Blend, Fork

STEPS = ("conv", "fork", "fork", "blend", "blend", "crop", "resize", "pool", "chunk", "cat", "sum", "reuse")


def plan_alone(kind, shape, draw):
    """Return (what the step needs to know, shapes that come out) for a step on one open end; None if it cannot be."""
    c, h, w = shape
    if kind == "conv":
        return None, [(int(draw.integers(1, 4)), h, w)]
    if kind == "crop" and min(h, w) > 2:
        top, bottom, right = int(draw.integers(0, 2)), h - int(draw.integers(0, 2)), int(draw.integers(1, w))
        return (top, bottom, right), [(c, bottom - top, right)]
    if kind == "resize":
        size = min(6, int(draw.integers(h, 2 * h + 1))), min(6, int(draw.integers(w, 2 * w + 1)))
        return size, [(c, *size)]
    if kind == "pool" and min(h, w) > 1:
        return None, [(c, h // 2, w // 2)]
    if kind == "chunk" and c > 1:
        return None, [(-(-c // 2), h, w), (c // 2, h, w)]
    return (None, [shape, shape]) if kind in ("fork", "reuse") else None


def plan_pair(kind, shapes, at, draw):
    """Return the same for a step that takes up another open end, whose place it needs to know."""
    other, (c, h, w) = int(draw.integers(0, len(shapes))), shapes[at]
    if other == at or (shapes[other][1:] != (h, w) if kind == "cat" else shapes[other][0] != c):
        return None
    return other, [(c + shapes[other][0], h, w) if kind == "cat" else shapes[at]]


class RandomPyramid(nn.Module):
    """A random program over open ends (B, C, H, W); what one step leaves open another takes up, or it is an output."""

    def __init__(self, seed: int, steps: int = 14) -> None:
        super().__init__()
        draw = np.random.default_rng(seed)
        self.layers, self.program = nn.ModuleList(), []
        shapes = [(2, 4, 5)]
        for _ in range(steps):
            kind, at = str(draw.choice(STEPS)), int(draw.integers(0, len(shapes)))
            pair = kind in ("blend", "sum", "cat")
            planned = plan_pair(kind, shapes, at, draw) if pair else plan_alone(kind, shapes[at], draw)
            if planned is None:
                continue
            extra, results = planned
            layer = self.make(kind, shapes[at][0], results[0][0], draw)
            self.program.append((kind, at, extra, layer))
            shapes[at] = results[0]
            shapes += results[1:]
            if pair:
                del shapes[extra]

    def make(self, kind, channels, results, draw):
        """Add the layer of a step, if it has one, and return its place."""
        if kind not in ("conv", "fork", "blend"):
            return None
        shares = draw.uniform(0.1, 1, 2).tolist()
        layers = {
            "conv": lambda: nn.Conv2d(channels, results, 3, padding=1),
            "fork": lambda: Fork(2, shares=shares),
            "blend": lambda: Blend(2, shares=shares),
        }
        self.layers.append(layers[kind]())
        if kind == "conv":
            fill(self.layers[-1].weight, "orthogonal", draw)
        return len(self.layers) - 1

    def forward(self, x):
        ends = [x]
        for kind, at, extra, layer in self.program:
            u = ends[at]
            if kind == "conv":
                ends[at] = self.layers[layer](u)
            elif kind == "fork":
                ends[at], new = self.layers[layer](u)
                ends.append(new)
            elif kind in ("blend", "sum", "cat"):
                v = ends[extra]
                if kind == "cat":
                    ends[at] = torch.cat([u, v], dim=1)
                else:
                    v = F.interpolate(v, size=u.shape[-2:])
                    ends[at] = u - 0.5 * v if layer is None else self.layers[layer](u, v)
                del ends[extra]
            elif kind == "crop":
                ends[at] = u[..., extra[0] : extra[1], : extra[2]]
            elif kind == "resize":
                ends[at] = 0.5 * F.interpolate(u, size=extra)
            elif kind == "pool":
                ends[at] = F.avg_pool2d(u, 2)
            elif kind == "chunk":
                ends[at], new = u.chunk(2, dim=1)
                ends.append(new)
            else:
                ends.append(u)
        return torch.cat([end.permute(0, 2, 3, 1).flatten(1) for end in ends], dim=1)


def check(seed: int) -> float:
    net = RandomPyramid(seed).double().eval()
    x = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    jacobian = torch.autograd.functional.jacobian(lambda v: flat(net(v[None]))[0], x).reshape(-1, x.numel())
    for p in NORMS:
        truth, bound = dense_norm(jacobian, p), onelip.lipschitz(net, (2, 4, 5), p=p).value
        assert sound(bound, truth), f"seed {seed}, p={p}: {bound} < {truth}\n{net.program}"
    return len(net.program)


@pytest.mark.parametrize("chunk", range(2))
def test_random_pyramids(chunk):
    assert max(check(seed) for seed in range(10 * chunk, 10 * chunk + 10)) > 8


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(10))
def test_many_random_pyramids(chunk):
    for seed in range(1000 + 100 * chunk, 1100 + 100 * chunk):
        check(seed)
