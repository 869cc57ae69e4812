"""A feature pyramid of five levels, split and merged again and again, is 1-Lipschitz as a whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from bound_oracles import Apply, check_layer, jacobian
from test_graphs import RandomNet, exported
from torch import nn

import onelip
from onelip.core.errors import UnknownLayerError
from onelip.layers import Blend, Fork, MaxMin, OrthogonalConv2d, Resample, fold
from onelip.testing import lower_bound

SIZE = (3, 13, 22)  # odd sides on the way: 7 x 11, 4 x 6, 2 x 3, 1 x 2, 1 x 1


class Pyramid(nn.Module):
    """Backbone of three levels, top-down path, two more levels, one head for all; (B, N, K) logits come out."""

    def __init__(self, *, gain=0.5, copies=False, resize="size", channels=6, classes=3, act=MaxMin):
        super().__init__()
        torch.manual_seed(0)
        self.gain, self.copies, self.resize = gain, copies, resize

        def conv(cin, cout, kernel, stride=1):
            return OrthogonalConv2d(cin, cout, kernel, stride=stride)

        self.stem = nn.Sequential(conv(3, channels, 3, 2), act())
        self.stages = nn.ModuleList([nn.Sequential(conv(channels, channels, 3, 2), act()) for _ in range(2)])
        self.laterals = nn.ModuleList([conv(channels, channels, 1) for _ in range(3)])
        self.smooth = nn.ModuleList([conv(channels, channels, 3) for _ in range(3)])
        self.extra = nn.ModuleList([conv(channels, channels, 3, 2) for _ in range(2)])
        self.forks = nn.ModuleList([Fork(2) for _ in range(6)])
        # The shares of a blend that loses nothing are those of the energies that meet there.
        self.blends = nn.ModuleList([Blend(2, shares=(0.25, 0.125)), Blend(2, shares=(0.5, 0.1875))])
        self.up = Resample(2)
        self.head = nn.Sequential(conv(channels, channels, 3), act(), conv(channels, classes, 3))

    def fork(self, i, x):
        return (x, x) if self.copies else self.forks[i](x)

    def enlarge(self, x, like):
        if self.resize == "size":
            return F.interpolate(x, size=like.shape[-2:], mode="nearest") * self.gain
        return self.up(x)[..., : like.shape[2], : like.shape[3]]

    def levels(self, x):
        c3, rest = self.fork(0, self.stem(x))
        c4, rest = self.fork(1, self.stages[0](rest))
        c3, c4, p5 = (lat(c) for lat, c in zip(self.laterals, (c3, c4, self.stages[1](rest)), strict=True))
        p5, up = self.fork(2, p5)
        p4, up = self.fork(3, self.blends[0](c4, self.enlarge(up, c4)))
        p3 = self.blends[1](c3, self.enlarge(up, c3))
        p5, p6 = self.fork(4, self.smooth[2](p5))
        p6, p7 = self.fork(5, self.extra[0](p6))
        return [self.smooth[0](p3), self.smooth[1](p4), p5, p6, self.extra[1](p7)]

    def forward(self, x):
        outputs = []
        for level, z in enumerate(self.levels(x)):
            stride = 2 ** (level + 1)
            logits = self.head(z)[..., : -(-x.shape[2] // stride), : -(-x.shape[3] // stride)]
            outputs.append(logits.permute(0, 2, 3, 1).flatten(1, 2))
        return torch.cat(outputs, dim=1)


def bound(net, p=2.0):
    return onelip.lipschitz(net.double().eval(), SIZE, p=p).value


@pytest.mark.parametrize("resize", ["size", "crop"])
def test_the_whole_pyramid_has_constant_one(resize):
    net = Pyramid(resize=resize).double().eval()
    assert net(torch.zeros(2, *SIZE, dtype=torch.float64)).shape == (2, 7 * 11 + 4 * 6 + 6 + 2 + 1, 3)
    assert bound(net) == pytest.approx(1.0, abs=1e-6)
    found = jacobian(net, torch.randn(SIZE, dtype=torch.float64))
    assert 0.4 < torch.linalg.matrix_norm(found, 2) <= bound(net)
    assert 0.4 < lower_bound(net, SIZE, iterations=15, starts=2) <= bound(net)
    folded = fold(net)
    assert bound(folded) == pytest.approx(bound(net), rel=1e-9)
    assert torch.equal(folded(torch.ones(1, *SIZE).double()), net(torch.ones(1, *SIZE).double()))


@pytest.mark.parametrize("seed", range(3))
def test_no_training_of_the_shares_lifts_it_above_one(seed):
    net = Pyramid().double().eval()
    torch.manual_seed(seed)
    for module in [*net.forks, *net.blends]:
        nn.init.normal_(module.logits, std=2.0)
    assert bound(net) <= 1 + 1e-9
    assert lower_bound(net, SIZE, iterations=10, starts=1, seed=seed) <= bound(net)


def test_wrong_wiring_is_seen():
    """Without the factor of the enlarging, and with copies instead of forks, it moves further: so says the bound."""
    for net in (Pyramid(gain=1.0), Pyramid(copies=True), Pyramid(gain=1.0, copies=True)):
        assert lower_bound(net.double().eval(), SIZE, iterations=15, starts=1) <= bound(net)
        assert bound(net) > 1.2


@pytest.mark.parametrize("p", [1.0, math.inf])
def test_other_norms_hold_too(p):
    net = Pyramid().double().eval()
    assert lower_bound(net, SIZE, p=p, iterations=5, starts=1) <= bound(net, p)


def test_a_bound_through_export_holds_as_well():
    """There, forks and blends are products and sums like others, and MaxMin is a pair of branches."""
    net = fold(Pyramid().double().eval())
    assert lower_bound(net, SIZE, iterations=10, starts=1) <= exported(net, SIZE, 2.0)
    assert exported(fold(Pyramid(act=nn.Tanh).double().eval()), SIZE, 2.0) <= 1 + 1e-6


class ChannelPyramid(nn.Module):
    """Levels made of channels: split, mapped, cropped, split again; outputs at every level."""

    def __init__(self, twice=False):
        super().__init__()
        self.twice = twice
        self.convs = nn.ModuleList([OrthogonalConv2d(c, c, 3) for c in (8, 4, 2)])
        self.blend = Blend(2)

    def forward(self, x):
        outputs = []
        for conv in self.convs:
            out, x = conv(x).chunk(2, dim=1)
            outputs.append(out[:, :, :-1, 1:].flatten(2).permute(0, 2, 1).flatten(1))
        top, low = x[..., ::2], x[..., 1::2]
        outputs.append(self.blend(top, low).flatten(1))
        if self.twice:
            outputs.append(outputs[0])
        return torch.cat(outputs, dim=1)


def test_nested_channel_splits_share_one_budget():
    assert onelip.lipschitz(ChannelPyramid().double().eval(), (8, 5, 6)).value == pytest.approx(1.0, abs=1e-6)
    again = onelip.lipschitz(ChannelPyramid(twice=True).double().eval(), (8, 5, 6)).value
    assert again == pytest.approx(math.sqrt(2), abs=1e-6)


@pytest.mark.parametrize("sides", [(8, 13), (7, 13), (4, 7), (3, 5), (1, 2), (5, 10), (8, 9), (8, 15)])
def test_nearest_resizing_to_the_finer_level_costs_two(sides):
    n, m = sides
    layer = Apply(lambda x: F.interpolate(x, size=(m, 2), mode="nearest"))
    check_layer(layer, (1, n, 1), 2.0, loosest=1 + 1e-8)
    assert onelip.lipschitz(layer, (1, n, 1)).value == pytest.approx(2.0, rel=1e-8)


def test_a_split_out_of_order_is_no_split():
    """torch.tensor_split at (3, 2) gives the entries 0 to 2, none, and 2 to the end: entry 2 comes twice."""
    wrong = Apply(lambda x: torch.cat(torch.tensor_split(x, (3, 2), dim=1), dim=1)).eval()
    with pytest.raises(UnknownLayerError, match="parts of a split overlap"):
        onelip.lipschitz(wrong, (6, 1, 1))
    right = Apply(lambda x: torch.cat(torch.tensor_split(x, (2, 3), dim=1), dim=1)).eval()
    assert onelip.lipschitz(right, (6, 1, 1)).value == pytest.approx(1.0)


def test_resizing_further_than_double_costs_more():
    layer = Apply(lambda x: 0.5 * F.interpolate(x, size=(15, 15), mode="nearest")).double().eval()
    assert onelip.lipschitz(layer, (1, 7, 7)).value == pytest.approx(1.5, rel=1e-8)


EARLIER = json.loads((Path(__file__).parent / "earlier_bounds.json").read_text())


@pytest.mark.parametrize("seed", EARLIER)
def test_no_bound_is_worse_than_it_was(seed):
    """Bounds of version 0.1, of random networks with parts and sums: for p = 1, 2, infinity."""
    net = RandomNet(int(seed)).double().eval()
    for p, before in zip((1.0, 2.0, math.inf), EARLIER[seed], strict=True):
        assert onelip.lipschitz(net, (net.channels, 3, 3), p=p).value <= before * (1 + 1e-8)
