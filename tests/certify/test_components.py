"""Radii of connected regions: closed forms, and a plain loop over regions found by a flood fill."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from onelip.certify import Stability, component_radius, pixel_radius, segmentation

NORMS = [1, 2, math.inf]


def smooth(classes, height, width, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, classes, 6, 7, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")


def flood(prediction, valid):
    """Regions as sets of pixels, by a plain flood fill."""
    height, width = prediction.shape
    seen, regions = ~valid.copy(), []
    for start in np.ndindex(height, width):
        if seen[start]:
            continue
        seen[start] = True
        region, stack = [], [start]
        while stack:
            i, j = stack.pop()
            region.append((i, j))
            for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if (
                    0 <= a < height
                    and 0 <= b < width
                    and not seen[a, b]
                    and prediction[a, b] == prediction[i, j]
                ):
                    seen[a, b] = True
                    stack.append((a, b))
        regions.append(region)
    return regions


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("flipped", [0.9, 0.3, 1.0])
@pytest.mark.parametrize("void", [False, True])
def test_regions_and_radii_equal_a_plain_loop(p, flipped, void):
    logits = smooth(4, 19, 23)
    target = logits.argmax(1)
    if void:
        target[:, 4:7, :9] = 255
    lipschitz = [1.3, 2.0]
    regions = component_radius(logits, 6, flipped, lipschitz=lipschitz, p=p, target=target if void else None)
    for b in range(2):
        margins = logits[b].topk(2, 0).values.numpy()
        costs = (margins[0] - margins[1]) * {1: 1.0, 2: math.sqrt(0.5), math.inf: 0.5}[p]
        prediction = logits[b].argmax(0).numpy()
        expected = [r for r in flood(prediction, target[b].numpy() != 255) if len(r) >= 6]
        assert (
            len(expected) == len(regions.radius[b]) == len(regions.sizes[b]) == len(regions.classes[b]) >= 4
        )
        assert int((regions.labels[b] > 0).sum()) == sum(map(len, expected)) == int(regions.sizes[b].sum())
        for region in expected:
            i, j = region[0]
            number = int(regions.labels[b, i, j])
            assert {int(regions.labels[b, y, x]) for y, x in region} == {number}
            needed = math.ceil(round(flipped * len(region), 9))
            cheapest = np.sort([costs[y, x] for y, x in region])[:needed]
            true = float(np.linalg.norm(cheapest, ord=p)) / lipschitz[b]
            radius = regions.radius[b][number - 1].item()
            assert radius < true
            assert radius == pytest.approx(true, rel=1e-8)
            assert regions.map[b, i, j] == radius
            assert regions.sizes[b][number - 1] == len(region)
            assert regions.classes[b][number - 1] == prediction[i, j]
        assert regions.map[b].isnan().equal(regions.labels[b] == 0)


def test_closed_form_of_two_regions_side_by_side():
    gaps = torch.tensor([3.0, 4.0, 2.0, 2.0, 2.0, 2.0])
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
    logits = torch.stack([gaps * sign, torch.zeros(6)]).reshape(1, 2, 1, 6)
    regions = component_radius(logits, 1, 1.0, lipschitz=2.0, p=2)
    assert regions.labels.flatten().tolist() == [1, 1, 2, 2, 2, 2]
    assert regions.radius[0].tolist() == pytest.approx([5 / math.sqrt(2) / 2, 4 / math.sqrt(2) / 2])
    half = component_radius(logits, 3, 0.5, lipschitz=1.0, p=1)
    assert half.labels.flatten().tolist() == [0, 0, 1, 1, 1, 1]
    assert half.radius[0].tolist() == pytest.approx([4.0])
    assert half.map.flatten().isnan().tolist() == [True, True, False, False, False, False]
    assert component_radius(logits, 1, 0.5, lipschitz=1.0, p=math.inf).radius[0].tolist() == pytest.approx(
        [1.5, 1.0]
    )


@pytest.mark.parametrize(
    ("size", "flipped", "needed"), [(100, 0.07, 7), (10, 0.9, 9), (3, 0.34, 2), (5, 1e-9, 1), (7, 1.0, 7)]
)
def test_the_number_of_flips_is_the_smallest_whose_share_is_reached(size, flipped, needed):
    logits = torch.zeros(1, 2, 1, size, dtype=torch.float64)
    logits[0, 0] = 1.0
    radius = component_radius(logits, 1, flipped, lipschitz=1.0, p=1).radius[0].item()
    assert radius == pytest.approx(needed)


@pytest.mark.parametrize("p", NORMS)
def test_one_region_is_the_stability_of_the_image(p):
    generator = torch.Generator().manual_seed(1)
    logits = torch.rand(1, 3, 8, 9, generator=generator, dtype=torch.float64)
    logits[:, 1] += 1.5
    regions = component_radius(logits, 1, 0.75, lipschitz=1.7, p=p)
    assert regions.sizes[0].tolist() == [72]
    whole = Stability().radius(logits, threshold=0.25, lipschitz=1.7, p=p)
    assert regions.radius[0].item() == pytest.approx(whole.item(), rel=1e-9)


def test_a_region_of_one_pixel_is_its_pixel_and_a_tie_has_radius_zero():
    logits = torch.tensor([[3.0, 0.0, 1.0], [1.0, 2.0, 1.0]], dtype=torch.float64).reshape(1, 2, 1, 3)
    regions = component_radius(logits, 1, lipschitz=1.0)
    torch.testing.assert_close(regions.map, pixel_radius(logits, lipschitz=1.0), rtol=1e-8, atol=0)
    assert regions.map[0, 0, 2] == 0.0


def test_no_region_at_all():
    regions = component_radius(smooth(3, 5, 5), 1000, lipschitz=1.0)
    assert [len(r) for r in (*regions.radius, *regions.sizes, *regions.classes)] == [0] * 6
    assert regions.map.isnan().all()
    assert not regions.labels.any()


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e100, 1e135])
def test_the_ends_of_float64_never_enlarge_a_radius(scale):
    plain = component_radius(smooth(3, 8, 8), 2, lipschitz=1.0)
    scaled = component_radius(smooth(3, 8, 8) * scale, 2, lipschitz=scale)
    for one, other in zip(plain.radius, scaled.radius, strict=True):
        assert (other <= one * (1 + 1e-9)).all()


@pytest.mark.parametrize("p", NORMS)
def test_no_logits_within_the_budget_flip_the_share(p):
    logits = smooth(3, 12, 12)[:1]
    regions = component_radius(logits, 10, 0.5, lipschitz=1.0, p=p)
    prediction = logits.argmax(1)
    first, second = logits.topk(2, 1).values.unbind(1)
    for number, radius in enumerate(regions.radius[0].tolist(), 1):
        own = regions.labels == number
        needed = math.ceil(0.5 * int(own.sum()))
        chosen = own & ((first - second) <= (first - second)[own].sort().values[needed - 1])
        for scale, reached in ((1 - 1e-6, False), (1 + 1e-6, True)):
            lower = {1: first - second, 2: (first - second) / 2, math.inf: (first - second) / 2}[p]
            moved = logits.clone()
            top, next_ = logits.topk(2, 1).indices.unbind(1)
            step = torch.where(chosen, lower * scale, 0.0)
            moved.scatter_add_(1, top[:, None], -step[:, None])
            if p != 1:
                moved.scatter_add_(1, next_[:, None], step[:, None])
            norm = torch.linalg.vector_norm(moved - logits, ord=p).item()
            share = ((moved.argmax(1) != prediction) & own).sum() / own.sum()
            assert (norm > radius) == reached
            assert (share >= 0.5) == reached


def test_the_certificate_takes_its_rounding_off_and_draws():
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 4, 5, padding=2).double().eval()
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 5), (24, 30), mode="bilinear").double()
    certificate = segmentation(model, images)
    regions = certificate.components(5, 0.8)
    plain = component_radius(certificate.logits, 5, 0.8, lipschitz=certificate.lipschitz)
    assert regions.labels.equal(plain.labels)
    for ours, theirs in zip(regions.radius, plain.radius, strict=True):
        assert ours.equal((theirs - certificate.rounding).clamp_min(0.0))
    eps = float(regions.radius[1].median())
    figure = certificate.component_figure(1, eps, min_size=5, flipped=0.8)
    left, right, bar = figure.axes
    picture = right.images[0].get_array()
    white = (np.asarray(picture) == 1.0).all(-1)
    certified = (regions.map[1] >= eps).numpy()
    assert (white == ~certified).all()
    assert 0 < certified.sum() < certified.size
    assert np.ma.filled(left.images[1].get_array(), np.nan)[certified].min() >= eps
    assert "eps" in bar.get_ylabel()
    with pytest.raises(ValueError, match="eps"):
        certificate.component_figure(0, math.nan)


def test_bad_input_raises_and_names_the_argument():
    logits = smooth(3, 6, 6)
    bad = logits.clone()
    bad[0, 0, 0, 0] = math.nan
    target = logits.argmax(1)
    cases = [
        ((bad, 4), {"lipschitz": 1.0}, "logits"),
        ((logits, 0), {"lipschitz": 1.0}, "min_size"),
        ((logits, 2.5), {"lipschitz": 1.0}, "min_size"),
        ((logits, 4, 0.0), {"lipschitz": 1.0}, "flipped"),
        ((logits, 4, 1.1), {"lipschitz": 1.0}, "flipped"),
        ((logits, 4, math.nan), {"lipschitz": 1.0}, "flipped"),
        ((logits, 4), {"lipschitz": 0.0}, "lipschitz"),
        ((logits, 4), {"lipschitz": [1.0]}, "lipschitz"),
        ((logits, 4), {"lipschitz": 1.0, "p": 3}, "`p`"),
        ((logits, 4), {"lipschitz": 1.0, "target": target.double()}, "target"),
        ((logits, 4), {"lipschitz": 1.0, "target": target + 5}, "target"),
        ((logits, 4), {"lipschitz": 1.0, "target": target[:1]}, "target"),
    ]
    for arguments, options, name in cases:
        with pytest.raises(ValueError, match=name):
            component_radius(*arguments, **options)
