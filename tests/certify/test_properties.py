"""Properties that hold for every image: monotone curves, radius as the inverse of the worst case."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.certify import PixelAccuracy, Stability, pixel_radius
from onelip.certify.costs import top_two
from onelip.certify.scores import Scores

problems = st.tuples(
    st.integers(2, 5),
    st.integers(1, 24),
    st.integers(0, 10_000),
    st.sampled_from([1.0, 2.0, math.inf]),
    st.floats(0.05, 20.0),
    st.booleans(),
)


def draw(problem):
    classes, pixels, seed, p, lipschitz, weighted = problem
    generator = torch.Generator().manual_seed(seed)
    # Coarse values make exact ties common.
    logits = torch.randint(-6, 7, (1, classes, 1, pixels), generator=generator).double() / 4
    target = torch.randint(0, classes, (1, 1, pixels), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    weight = torch.randint(-3, 4, (classes, 3), generator=generator).double()
    return logits, target, {"lipschitz": lipschitz, "p": p, "classifier": (weight,) if weighted else None}


@settings(max_examples=80, deadline=None, derandomize=True)
@given(problems)
def test_curves_fall_with_eps_and_start_at_or_below_the_clean_value(problem):
    logits, target, options = draw(problem)
    for criterion in (PixelAccuracy(), Stability()):
        curve = criterion.worst_case(logits, target, eps=torch.linspace(0, 20, 60), **options)[:, 0]
        clean = criterion.value(logits, target)
        if clean.isnan():
            assert curve.isnan().all()
            continue
        assert curve[0] <= clean
        assert (curve.diff() <= 0).all()
        assert (curve >= 0).all()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(problems, st.floats(0, 1))
def test_radius_is_the_inverse_of_the_worst_case(problem, threshold):
    logits, target, options = draw(problem)
    for criterion in (PixelAccuracy(), Stability()):
        radius = criterion.radius(logits, target, threshold=threshold, **options).item()
        if math.isnan(radius):
            continue
        clean = criterion.value(logits, target).item()
        assert clean > threshold or radius == 0
        if radius == math.inf:
            assert criterion.worst_case(logits, target, eps=1e9, **options).item() > threshold
            continue
        if radius > 0:
            inside = math.nextafter(radius, 0.0)
            assert criterion.worst_case(logits, target, eps=inside, **options).item() > threshold
        outside = radius * (1 + 1e-8)
        assert criterion.worst_case(logits, target, eps=outside, **options).item() <= threshold


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems)
def test_feature_costs_never_lose_against_output_costs(problem):
    classes, pixels, seed, p, _, _ = problem
    logits, target, _ = draw(problem)
    weight = torch.randn(classes, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # Norm of the classifier l_p -> l_p, so that both certificates speak of the same backbone.
    norm = {
        1.0: weight.abs().sum(0).max(),
        2.0: torch.linalg.matrix_norm(weight, ord=2),
        math.inf: weight.abs().sum(1).max(),
    }[p].item()
    output = pixel_radius(logits, target, lipschitz=norm, p=p)
    features = pixel_radius(logits, target, lipschitz=1.0, p=p, classifier=(weight,))
    assert (features >= output * (1 - 1e-9))[~output.isnan()].all()
    assert pixels == output.numel()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(problems, st.integers(0, 1000))
def test_order_of_pixels_and_of_images_does_not_matter(problem, seed):
    logits, target, options = draw(problem)
    assert torch.equal(top_two(logits)[2] == 1, Scores(logits, target, 255).predicts(1))
    order = torch.randperm(logits.shape[-1], generator=torch.Generator().manual_seed(seed))
    eps = [0.0, 0.3, 1.0]
    plain = PixelAccuracy().worst_case(logits, target, eps=eps, **options)
    mixed = PixelAccuracy().worst_case(logits[..., order], target[..., order], eps=eps, **options)
    assert torch.equal(plain.nan_to_num(-1), mixed.nan_to_num(-1))
    batch = torch.cat([logits, logits[..., order]]), torch.cat([target, target[..., order]])
    together = PixelAccuracy().worst_case(*batch, eps=eps, **options)
    assert torch.equal(together.nan_to_num(-1), torch.cat([plain, mixed], 1).nan_to_num(-1))
