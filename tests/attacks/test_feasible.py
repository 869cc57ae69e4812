"""Balls and boxes: what an attack returns lies in both, exactly, whatever came in."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.attacks import PixelErrors, SegPGD
from onelip.attacks.projection import Noise, direction, norms, project, settle

NORMS = [1.0, 2.0, math.inf]


def batch(seed, scale):
    """Images with many values on the faces of the box, and perturbations of any size."""
    draw = torch.Generator().manual_seed(seed)
    images = (1.6 * torch.rand(3, 2, 3, 3, generator=draw, dtype=torch.float64) - 0.3).clamp(0, 1)
    return images, scale * torch.randn(3, 2, 3, 3, generator=draw, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 1e-12, 1e-3, 0.3, 5.0, 1e6]),
    eps=st.sampled_from([1e-9, 1e-3, 0.1, 1 / 3, 0.7, 3.0, 100.0]),
    p=st.sampled_from(NORMS),
    single=st.booleans(),
)
def test_what_is_settled_lies_in_the_box_and_in_the_closed_ball(seed, scale, eps, p, single):
    images, delta = batch(seed, scale)
    if single:
        images, delta = images.float().double(), delta.float()
    limit = torch.full((3,), eps, dtype=torch.float64)
    moved = project(delta, images.to(delta), limit, p)
    assert (norms(moved, p) <= eps * (1 + 1e-5)).all()
    for step in (delta, moved):
        found, size = settle(images, step, limit, p)
        assert found.dtype == torch.float64
        assert found.min() >= 0
        assert found.max() <= 1
        measured = torch.linalg.vector_norm((found - images).flatten(1), ord=p, dim=1)
        assert torch.equal(measured, size)
        assert (measured <= eps).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.sampled_from([0.05, 0.3, 1.0]), p=st.sampled_from([2.0, math.inf]))
def test_the_projection_is_the_nearest_point(seed, eps, p):
    """Against random feasible points: none is nearer in l2 (for linf the box of both is exact entry by entry)."""
    images, delta = batch(seed, 1.0)
    limit = torch.full((3,), eps, dtype=torch.float64)
    nearest = norms(project(delta, images, limit, p) - delta, 2.0)
    draw = torch.Generator().manual_seed(seed)
    for scale in (0.01, 0.1, 1.0):
        other = project(delta, images, limit, p) + scale * torch.randn(
            delta.shape, generator=draw, dtype=torch.float64
        )
        feasible = settle(images, other, limit, p)[0] - images
        assert (norms(feasible - delta, 2.0) >= nearest * (1 - 1e-3)).all()


def test_the_l1_projection_is_soft_thresholding():
    images = torch.full((1, 1, 1, 3), 0.5, dtype=torch.float64)
    delta = torch.tensor([[[[0.4, -0.3, 0.05]]]], dtype=torch.float64)
    found = project(delta, images, torch.tensor([0.5], dtype=torch.float64), 1.0)
    assert found.flatten().tolist() == pytest.approx([0.3, -0.2, 0.0])


@pytest.mark.parametrize("p", NORMS)
def test_directions_have_norm_one_and_blind_gradients_go_somewhere(p):
    noise = Noise(0, 0, 3)
    gradient = torch.randn(3, 2, 20, 20, dtype=torch.float64)
    gradient[1] = 0.0
    gradient[2] *= 1e-200
    found = direction(gradient, p, noise)
    assert norms(found, p).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert ((gradient * found).flatten(1).sum(1)[[0, 2]] > 0).all()


def test_noise_of_an_image_depends_on_no_other():
    images = torch.zeros(4, 3, 5, 5)
    some = torch.tensor([True, False, True, True])
    whole, tail = Noise(7, 0, 4), Noise(7, 2, 2)
    assert torch.equal(whole.like(images, some)[2:], tail.like(images[2:], some[2:]))
    assert not whole.like(images, ~some)[0].any()


@pytest.mark.parametrize("p", NORMS)
def test_attacks_end_in_box_and_ball_and_grow_with_eps(p):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1)
    ).eval()
    images = (1.4 * torch.rand(2, 3, 8, 8) - 0.2).clamp(0, 1)
    target = torch.randint(0, 3, (2, 8, 8))
    eps = [1.0, 0.0, 0.1, 0.1, 1e-6]
    adversarial = SegPGD(PixelErrors(), p=p, steps=8, restarts=2)(model, images, target, eps)
    assert adversarial.images.shape == (5, 2, 3, 8, 8)
    assert adversarial.images.min() >= 0
    assert adversarial.images.max() <= 1
    size = torch.linalg.vector_norm((adversarial.images - images.double()).flatten(2), ord=p, dim=2)
    assert torch.equal(size, adversarial.norms)
    assert (size <= torch.tensor(eps, dtype=torch.float64)[:, None]).all()
    scores = adversarial.scores
    assert torch.equal(scores[1], adversarial.clean_scores)
    assert torch.equal(scores[2], scores[3])
    assert (scores[0] >= scores[2]).all()
    assert (scores >= adversarial.clean_scores).all()
