"""The report on optimality of the transport, against closed forms."""

import math

import pytest
import torch
from torch import nn

from onelip import explain
from onelip.core.errors import BoundError, InputError


class Radial(nn.Module):
    """(f, -f) / 2 with f = 0.2 - |x - 1/2|, the optimum between two circles."""

    def forward(self, x):
        f = 0.2 - torch.linalg.vector_norm((x - 0.5).flatten(1), dim=1, keepdim=True)
        return torch.cat([f, -f], 1) / 2


def circles(n=24, low=0.1, high=0.3):
    turn = torch.arange(n) * 2 * math.pi / n
    ring = torch.stack([turn.cos(), turn.sin()], 1)
    x = torch.cat([0.5 + low * ring, 0.5 + high * ring]).reshape(2 * n, 1, 1, 2)
    return x, torch.arange(2).repeat_interleave(n)


def test_the_optimum_is_recognised():
    x, y = circles()
    found = explain.transport_report(Radial().eval(), x, y)
    assert found.slope.tolist() == pytest.approx([1.0] * 48, rel=1e-4)
    assert found.residual.max() < 1e-3
    assert found.straight.min() > 0.9999
    assert found.flips[1.0] == 0.0
    assert found.flips[1.2] == found.flips[2.0] == 1.0
    assert found.wasserstein.tolist() == pytest.approx([0.2, 0.2], rel=1e-4)
    assert found.kr.tolist() == pytest.approx([0.1, 0.1], rel=1e-4)
    assert (found.kr <= found.lipschitz * found.wasserstein + 1e-9).all()


def test_what_is_not_optimal_is_not_called_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    x, y = circles()
    found = explain.transport_report(model, x, y)
    assert found.slope.max() <= 1
    assert found.residual.median() > 0.1
    assert found.flips[1.0] == 0.0
    assert (found.efficiency <= 1).all()
    assert found.efficiency.max() < 0.9


def test_refusals():
    x, y = circles()
    with pytest.raises(InputError, match="targets"):
        explain.transport_report(Radial().eval(), x, y + 1)

    class Odd(nn.Module):
        def forward(self, x):
            return x.flatten(1).pow(3)

    with pytest.raises(BoundError, match="no bound is proven"):
        explain.transport_report(Odd().eval(), x, y)


def test_a_class_without_images_is_undefined():
    x, y = circles()
    found = explain.transport_report(Radial().eval(), x, torch.zeros_like(y))
    assert found.wasserstein.isnan().all()
