"""A detector whose strongest attack is known: every logit and distance moves as one of a set of orthonormal patches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onelip.models.detection import Detector


class Toy(Detector):
    """z = offset + (orthonormal filters of disjoint cells)(x - 0.5), so that any displacement costs just its norm.

    Distances are `sides` + gain * (filters of the same set): as "lipschitz" they are kappa * t, t of the set.
    """

    def __init__(self, offset, sides, *, size, stride=4, kind="free", gain=0.0, kappa=0.5, temperature=0.1):
        nn.Module.__init__(self)
        self.name, self.classes, self.in_channels, self.multiple_of = "toy", offset.shape[1], 3, stride
        self.strides, self.regression_kind, self.kappa, self.gain = (stride,), kind, kappa, gain
        self.temperature, self.nms, self.per_level, self.per_image = temperature, 0.6, 1000, 100
        self.centerness, self.size = False, size
        draw = torch.Generator().manual_seed(0)
        rows = torch.randn(3 * stride * stride, self.classes + 4, generator=draw, dtype=torch.float64)
        filters = torch.linalg.qr(rows).Q.T.reshape(-1, 3, stride, stride)
        self.register_buffer("filters", filters)
        self.register_buffer("offset", offset.double())
        self.register_buffer("sides", sides.double())
        self.asked = []
        self.eval()

    def levels(self, images):
        self.asked.append(tuple(images.shape))
        stride = self.strides[0]
        padding = (0, -images.shape[-1] % stride, 0, -images.shape[-2] % stride)
        shifted = nn.functional.pad(images.to(self.filters) - 0.5, padding)
        return [nn.functional.conv2d(shifted, self.filters, stride=stride)]

    def bounded(self, maps):
        joint = maps[0].flatten(2).transpose(1, 2)
        logits = joint[..., : self.classes] + self.offset
        if self.regression_kind == "free":
            return logits
        return torch.cat([logits, joint[..., self.classes :] + self.sides / self.kappa], dim=2)

    def unbounded(self, maps):
        if self.regression_kind == "lipschitz":
            return None, None
        joint = maps[0].flatten(2).transpose(1, 2)
        return (self.sides + self.gain * joint[..., self.classes :]).relu(), None


def grid(offset, *, side=4, stride=4, half=0.5, **options):
    """A toy with a square map; every location's box is that of its cell, grown to `half` strides on each side."""
    sides = torch.full((side * side, 4), half)
    return Toy(offset, sides, size=(side * stride, side * stride), stride=stride, **options)


@pytest.fixture
def make():
    return grid


@pytest.fixture
def toy():
    return Toy


def cell(i, side=4, stride=4):
    """Box of the cell of a location."""
    y, x = divmod(i, side)
    return [float(stride * x), float(stride * y), float(stride * (x + 1)), float(stride * (y + 1))]


@pytest.fixture
def at():
    return cell


@pytest.fixture
def target():
    def build(cells, labels=None):
        boxes = torch.tensor([cell(i) for i in cells]).reshape(-1, 4)
        found = torch.zeros(len(cells), dtype=torch.int64) if labels is None else torch.tensor(labels)
        return {"boxes": boxes, "labels": found}

    return build


@pytest.fixture
def gray():
    def build(batch=1, size=(16, 16)):
        return torch.full((batch, 3, *size), 0.5, dtype=torch.float64)

    return build
