# ruff: noqa: E501
"""The lookup along class hierarchies, and what counts as another behaviour."""

import pytest
import torch
from torch import nn

from onelip.core.registry import Registry, overridden


class Plain(nn.Conv2d):
    pass


class Configured(nn.Conv2d):
    def __init__(self, channels):
        super().__init__(channels, channels, 3)

    def extra_repr(self):
        return "configured"

    def helper(self):
        return 1

    weight = property(lambda self: torch.zeros(1))


class Forward(nn.Conv2d):
    def forward(self, x):
        return x


class Inner(nn.Conv2d):
    def _conv_forward(self, x, w, b):
        return x


class Call(nn.Conv2d):
    def __call__(self, x):
        return x


class Getattr(nn.Conv2d):
    def __getattr__(self, name):
        return super().__getattr__(name)


class Getattribute(nn.Conv2d):
    def __getattribute__(self, name):
        return super().__getattribute__(name)


class Mixin:
    def forward(self, x):
        return x


class Mixed(Mixin, nn.Conv2d):
    pass


class Later(nn.Conv2d, Mixin):
    pass


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Plain, None), (Configured, None), (Later, None), (Forward, "forward"), (Inner, "_conv_forward"), (Call, "__call__"),
        (Getattr, "__getattr__"), (Getattribute, "__getattribute__"), (Mixed, "forward"),
    ],
)  # fmt: skip
def test_overridden(cls, name):
    assert overridden(cls, nn.Conv2d) == name


def test_grandchildren():
    class Child(Forward):
        pass

    assert overridden(Child, nn.Conv2d) == "forward"
    assert overridden(Child, Forward) is None


def test_instances():
    layer = nn.Conv2d(1, 1, 1)
    assert overridden(nn.Conv2d, nn.Conv2d, layer) is None
    layer.forward = lambda x: x
    assert overridden(nn.Conv2d, nn.Conv2d, layer) == "forward"
    other = nn.Conv2d(1, 1, 1)
    other._conv_forward = lambda *a: a[0]
    assert overridden(nn.Conv2d, nn.Conv2d, other) == "_conv_forward"


def test_find_takes_the_nearest_entry():
    registry = Registry()
    registry.add(nn.Conv2d, "parent")
    assert registry.find(Plain) == (nn.Conv2d, "parent")
    assert registry.find(Forward) is None
    registry.add(Forward, "own")
    assert registry.find(Forward) == (Forward, "own")

    class Child(Forward):
        def forward(self, x):
            return 2 * x

    assert registry.find(Child) is None  # never the grandparent's: the nearest entry was overridden
    assert registry.find(nn.Linear) is None
    assert nn.Conv2d in registry
    assert nn.Linear not in registry
    assert list(registry) == [nn.Conv2d, Forward]


def test_close_matches():
    registry = Registry()
    for cls in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d):
        registry.add(cls, 1)
    assert registry.close_matches("conv2D")[0] == "Conv2d"
    assert registry.close_matches("zzz") == []
