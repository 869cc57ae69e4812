"""SmoothGrad and the bound of its change, against closed forms and ascent."""

import math

import pytest
import torch
from torch import nn

import onelip
from onelip import explain
from onelip.core.errors import BoundError, InputError


class Bent(nn.Module):
    """f_0 = |x_0 - 1/2|, f_1 = 0: its smooth gradient is erf, and the bound is attained at the bend."""

    def forward(self, x):
        f = (x.flatten(1)[:, :1] - 0.5).abs()
        return torch.cat([f, 0.0 * f], 1)


def test_the_bound_is_that_of_the_bend_and_nearly_attained():
    x = torch.full((1, 1, 1, 2), 0.5)
    near = x.clone()
    near[..., 0] += 0.02
    first, other = (
        explain.smoothgrad(Bent().eval(), z, 0, sigma=0.2, samples=1000, seed=1) for z in (x, near)
    )
    moved = (first.maps - other.maps).norm().item()
    assert first.lipschitz == pytest.approx(1.0, rel=1e-6)
    exact = math.erf(0.02 / 0.2 / math.sqrt(2))
    assert moved == pytest.approx(exact, abs=0.05)
    assert exact <= first.change(0.02) <= 1.01 * exact
    assert first.maps.norm() <= first.error(0.999)  # the exact map is zero here
    assert first.change(100.0) == pytest.approx(2.0)


def test_the_error_of_the_estimate():
    found = explain.smoothgrad(Bent().eval(), torch.full((1, 1, 1, 2), 0.5), 0, samples=100)
    assert found.error(0.9) == pytest.approx(math.sqrt(8 * math.log(20) / 100))
    with pytest.raises(InputError, match="confidence"):
        found.error(1.0)


def test_nothing_moves_further_under_ascent():
    torch.manual_seed(0)
    model = onelip.models.create("mlp", classes=3, size="XS", in_channels=1, image_size=(4, 4)).eval()
    x = torch.rand(2, 1, 4, 4)
    found = explain.smoothgrad(model, x, sigma=0.3, samples=60, seed=5)
    worst = 0.0
    for seed in range(6):
        draw = torch.Generator().manual_seed(seed)
        step = torch.randn(x.shape, generator=draw)
        z = (x + 0.1 * step / step.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)).clamp(0, 1)
        other = explain.smoothgrad(model, z, found.target, sigma=0.3, samples=60, seed=5)
        worst = max(worst, (other.maps - found.maps).flatten(1).norm(dim=1).max().item())
    assert 0 < worst <= found.change(0.1) + 2 * found.error(0.999)


def test_values_certified_to_stay_on_top():
    w = torch.tensor([[1.0, 0.5, 0.1, 0.05], [0.0, 0.0, 0.0, 0.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    model[1].weight.data.copy_(w)
    found = explain.smoothgrad(model, torch.rand(1, 1, 2, 2), 0, sigma=1.0, samples=4000)
    length = w[0].norm().item()
    radius = lambda d: math.sqrt(2) * (found.change(d) + found.error())  # noqa: E731
    assert found.lipschitz == pytest.approx(length, rel=1e-6)
    for d in (0.0, 0.1, 0.3, 2.0):
        expected = [value - 0.1 > radius(d) for value in w[0].tolist()]
        assert found.certified_top(2, d).flatten().tolist() == expected
    assert found.certified_top(2, 0.0).sum() == 2
    assert found.certified_top(2, 2.0).sum() == 0
    assert found.certified_top(4, 2.0).all()


def test_without_a_bound_there_is_a_map_and_a_refusal():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.stack([x.flatten(1).pow(3).sum(1), x.flatten(1)[:, 0]], 1)

    found = explain.smoothgrad(Odd().eval(), torch.rand(2, 1, 2, 2), samples=2)
    assert found.maps.isfinite().all()
    assert found.lipschitz is None
    with pytest.raises(BoundError, match="nothing is certified"):
        found.change(0.1)
