"""Overlap of boxes against sampling, and the level at which a match is certain against greedy matching."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.metrics import match
from onelip.models.boxes import area, iou, match_levels, worst_iou


def random_boxes(count, generator, side=10.0):
    corner = side * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    size = 0.5 + side * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([corner, corner + size], 1)


def test_iou_of_known_boxes():
    a = torch.tensor([0.0, 0.0, 4.0, 2.0]).double()
    others = torch.tensor([[0, 0, 4, 2], [2, 0, 6, 2], [4, 0, 5, 1], [3, 1, 3, 2], [5, 1, 2, 2]]).double()
    assert iou(a, others).tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0, 0.0])
    assert area(others).tolist() == [8.0, 8.0, 1.0, 0.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 4.0))
def test_no_box_of_the_intervals_overlaps_less_and_a_vertex_attains_it(seed, width):
    generator = torch.Generator().manual_seed(seed)
    box, moved = random_boxes(2, generator)
    low = moved - width * torch.rand(4, generator=generator, dtype=torch.float64)
    high = moved + width * torch.rand(4, generator=generator, dtype=torch.float64)
    worst = worst_iou(low, high, box)
    inside = low + (high - low) * torch.rand(2000, 4, generator=generator, dtype=torch.float64)
    inside[:1000] = torch.where(inside[:1000] > (low + high) / 2, high, low)
    sampled = iou(inside, box).min()
    assert worst <= sampled + 1e-12
    if bool((low[2:] > high[:2]).all()):
        assert worst == pytest.approx(float(sampled), abs=1e-12)
    else:
        assert worst == 0


def test_what_may_be_empty_or_is_not_known_has_no_overlap():
    box = torch.tensor([0.0, 0.0, 4.0, 4.0]).double()
    assert worst_iou(box, box, box) == 1
    for side, value in ((0, -torch.inf), (2, torch.inf)):
        low, high = box.clone(), box.clone()
        (low if side < 2 else high)[side] = value
        assert worst_iou(low, high, box) == 0
    everything = torch.full((4,), torch.inf).double()
    assert worst_iou(everything, everything, box) == 0
    touching = torch.tensor([4.0, 0.0, 4.0, 4.0]).double()
    assert worst_iou(box, torch.maximum(box, touching), box) == 0


def test_beyond_the_level_every_greedy_matching_finds_the_object():
    generator, tried = torch.Generator().manual_seed(3), 0
    for _ in range(400):
        objects = random_boxes(3, generator, side=4.0)
        labels = torch.randint(0, 2, (3,), generator=generator)
        level = match_levels(objects, labels, 0.3) + 1e-9
        seen = objects[:, None] + 0.5 * torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
        good = iou(seen, objects[:, None]) >= level[:, None]
        chosen = torch.cat([s[g][:2] for s, g in zip(seen, good, strict=True)])
        kinds = torch.cat([labels[i].expand(min(2, int(g.sum()))) for i, g in enumerate(good)])
        others = random_boxes(4, generator, side=4.0)
        boxes = torch.cat([chosen, others])
        kinds = torch.cat([kinds, torch.randint(0, 2, (4,), generator=generator)])
        scores = torch.rand(len(boxes), generator=generator)
        found = match(
            {"boxes": boxes, "labels": kinds, "scores": scores}, {"boxes": objects, "labels": labels}, iou=0.3
        )
        expected = good.any(1).nonzero()[:, 0].tolist()
        assert set(expected) <= set(found.tolist())
        tried += len(expected)
    assert tried > 100
