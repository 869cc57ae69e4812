from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import NonFiniteError
from onelip.layers.stiefel import polar, random_orthonormal


def exact_polar(matrix):
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ vh


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    noise=st.floats(0, 0.5),
    size=st.sampled_from([1e-12, 1e-3, 1.0, 40.0, 1e12]),
    seed=st.integers(0, 10**6),
)
def test_polar_is_the_orthonormal_factor(n, m, noise, size, seed):
    torch.manual_seed(seed)
    # 0.45 * (a matrix of norm <= 1) keeps the condition number below 3
    disturbance = torch.randn(n, m)
    disturbance /= torch.linalg.matrix_norm(disturbance, 2)
    raw = size * (random_orthonormal(n, m) + 0.9 * noise * disturbance)
    found = polar(raw)
    assert torch.allclose(found.double(), exact_polar(raw), atol=3e-6)
    assert torch.linalg.matrix_norm(found.double(), 2) <= 1 + 2e-6


@pytest.mark.parametrize("seed", range(5))
def test_polar_never_exceeds_one_far_from_the_manifold(seed):
    torch.manual_seed(seed)
    for raw in (
        torch.randn(30, 30) * 100,
        torch.zeros(4, 3),
        torch.ones(6, 6),
        torch.diag(torch.tensor([1.0, 1e-4, 1e-20, 0.0])),
        torch.randn(3, 8, 4) ** 9,
    ):
        values = torch.linalg.svdvals(polar(raw).double())
        assert torch.isfinite(values).all()
        assert values.max() <= 1 + 2e-6


def test_drifted_matrices_still_become_orthonormal():
    torch.manual_seed(0)
    raw = torch.diag(torch.logspace(0, -6, 8)) @ random_orthonormal(8, 8)
    assert torch.allclose(torch.linalg.svdvals(polar(raw)), torch.ones(8), atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 5), (6, 3), (3, 6), (2, 5, 3)])
@pytest.mark.parametrize("size", [1.0, 7.0])
def test_gradient_equals_finite_differences_on_the_manifold(shape, size):
    torch.manual_seed(1)
    raw = (size * exact_polar(torch.randn(*shape))).requires_grad_()
    assert torch.autograd.gradcheck(polar, (raw,), eps=1e-5, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_gradient_off_the_manifold_still_descends(seed):
    torch.manual_seed(seed)
    raw = (exact_polar(torch.randn(6, 4)) + 0.4 * torch.randn(6, 4, dtype=torch.float64)).requires_grad_()
    target = exact_polar(torch.randn(6, 4))
    loss = (polar(raw) - target).square().sum()
    loss.backward()
    direction = raw.grad / raw.grad.norm()
    with torch.no_grad():
        ahead = (polar(raw - 1e-4 * direction) - target).square().sum()
    assert ahead < loss


def test_not_finite_raises():
    raw = torch.eye(3)
    raw[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"cannot be orthonormalised.*NaN or infinite"):
        polar(raw)
    with pytest.raises(NonFiniteError):
        polar(torch.full((2, 2), float("inf")))


def test_initial_matrices_are_orthonormal_and_seeded():
    torch.manual_seed(3)
    q = random_orthonormal(4, 7, 2)
    torch.manual_seed(3)
    assert torch.equal(q, random_orthonormal(4, 7, 2))
    assert torch.allclose(q.mT @ q, torch.eye(2).expand(4, 2, 2), atol=1e-6)
    wide = random_orthonormal(2, 7)
    assert torch.allclose(wide @ wide.mT, torch.eye(2), atol=1e-6)


def test_fixed_number_of_steps_is_enough_after_training_drift(monkeypatch):
    """What a GPU runs: the same number of steps whatever the input."""
    import onelip.layers.stiefel as stiefel

    torch.manual_seed(0)
    raw = random_orthonormal(64, 32) + 0.05 * torch.randn(64, 32)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    values = torch.linalg.svdvals(stiefel.polar(raw).double())
    assert (values - 1).abs().max() < 2e-6
