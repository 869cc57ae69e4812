"""Heads of a detector, shared by all levels: class logits and distances, bounded or free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .factory import Factory

START = 2.0  # distances begin at two strides: in the middle of what a level answers for, and not where relu is flat


def rows(maps: Sequence[Tensor]) -> Tensor:
    """Lay maps (B, C, h, w) of all levels side by side as (B, N, C), row by row, level after level."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)


def ordinary_tower(make: Factory, channels: int, depth: int) -> nn.Sequential:
    """Make convolution, group normalisation, ReLU, `depth` times: levels of any amplitude look alike to it."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        groups = math.gcd(8, max(1, channels // 2))  # never a channel alone: a single cell has no spread
        norm = nn.GroupNorm(groups, channels, device="meta" if make.folded else None)
        layers += [make.ordinary(channels, channels, bias=False), norm, nn.ReLU()]
    return nn.Sequential(*layers)


class Tower(nn.Module):
    """Blocks whose convolutions serve all levels; what follows an activation (statistics, biases) is each level's own.

    Levels differ in amplitude, so statistics of all of them together would fit none.
    """

    def __init__(self, make: Factory, channels: int, depth: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([make.conv(channels, channels) for _ in range(depth)])
        self.act = make.act()
        self.shifts = nn.ModuleList(
            [nn.ModuleList([make.shift(channels) for _ in range(depth)]) for _ in range(levels)]
        )

    def forward(self, x: Tensor, level: int) -> Tensor:
        """Map the map (B, C, h, w) of one level to a map of its shape."""
        shifts: Any = self.shifts[level]
        for conv, shift in zip(self.convs, shifts, strict=True):
            x = shift(self.act(conv(x)))
        return x


class BoundedHead(nn.Module):
    r"""Class logits and, if asked for, Lipschitz distances at every location of every level.

    The same layers serve all levels, which are disjoint: jointly they cost the maximum over the levels, not
    $\sqrt{levels}$. With distances, a `Fork` divides the energy of the features between the two towers.

    Args:
        make: the factory.
        channels: of the features.
        classes: K.
        depth: blocks of each tower.
        levels: number of levels.
        distances: whether there are distances.
        box_share: share of the distances in the energy, at the start.
        learned: learn the shares.
        bias: what the logits begin with.
        start: what the distances begin with.
    """

    def __init__(
        self,
        make: Factory,
        channels: int,
        classes: int,
        depth: int,
        levels: int,
        *,
        distances: bool,
        box_share: float,
        learned: bool,
        bias: float,
        start: float,
    ) -> None:
        super().__init__()
        self.distances = distances
        self.tower = Tower(make, channels, depth, levels)
        self.logits = _last(make.conv(channels, classes, bias=True), bias, make)
        if distances:
            self.fork = make.fork((1.0 - box_share, box_share), learned=learned)
            self.box_tower = Tower(make, channels, depth, levels)
            self.boxes = _last(make.conv(channels, 4, bias=True), start, make)

    def forward(self, features: Tensor, level: int) -> tuple[Tensor, ...]:
        """Map the map (B, C, h, w) of one level to its logits (B, n, K), and with distances to those, (B, n, 4)."""
        if not self.distances:
            return (rows([self.logits(self.tower(features, level))]),)
        first, second = self.fork(features)
        logits, boxes = self.logits(self.tower(first, level)), self.boxes(self.box_tower(second, level))
        return rows([logits]), rows([boxes])


class FreeHead(nn.Module):
    """Distances, centre-ness or both by an ordinary tower on the features: nothing is proven about them.

    Args:
        make: the factory.
        channels: of the features.
        depth: blocks of the tower.
        distances: whether there are distances.
        centerness: whether there is a centre-ness logit.
    """

    def __init__(
        self, make: Factory, channels: int, depth: int, *, distances: bool, centerness: bool
    ) -> None:
        super().__init__()
        self.tower = ordinary_tower(make, channels, depth)
        self.boxes = _started(make.ordinary(channels, 4), START, make) if distances else None
        self.centre = _started(make.ordinary(channels, 1), 0.0, make) if centerness else None

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Map maps (B, C, h, w) to distances (B, N, 4), >= 0, and centre-ness logits (B, N)."""
        features = [self.tower(m) for m in maps]
        boxes = None if self.boxes is None else rows([self.boxes(f) for f in features]).relu()
        centre = None if self.centre is None else rows([self.centre(f) for f in features])[..., 0]
        return boxes, centre


def _last(conv: nn.Module, bias: float, make: Factory) -> nn.Module:
    """Set what an output begins with; a constrained layer keeps its weight, whose norm is fixed."""
    if make.constraint is None:
        return _started(conv, bias, make)
    return _biased(conv, bias, make)


def _started(conv: nn.Module, bias: float, make: Factory) -> nn.Module:
    """Begin near a constant: a small random weight and the bias."""
    if not make.folded:
        weight: Any = conv.weight
        nn.init.normal_(weight, std=0.01)
    return _biased(conv, bias, make)


def _biased(conv: nn.Module, bias: float, make: Factory) -> nn.Module:
    if not make.folded:
        vector: Any = conv.bias
        nn.init.constant_(vector, bias)
    return conv
