"""Assignment of objects to locations: a slow loop, values on the bounds, areas that nearly tie, what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError, NonFiniteError
from onelip.models.assignment import assign, centre_region, scale_range


def grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres (i + 0.5) s, fine to coarse, row by row."""
    rows, steps = [], []
    for s in strides:
        for i in range(math.ceil(size[0] / s)):
            for j in range(math.ceil(size[1] / s)):
                rows.append(((j + 0.5) * s, (i + 0.5) * s))
                steps.append(float(s))
    return torch.tensor(rows), torch.tensor(steps)


def slowly(at: list[float], s: float, boxes: list[list[float]], levels: Sequence[float]) -> int:
    """The definition, one location at a time, in Python's numbers."""
    best, least = -1, math.inf
    position = list(levels).index(s)
    low = 0.0 if position == 0 else 4.0 * s
    high = math.inf if position + 1 == len(levels) else 4.0 * levels[position + 1]
    for g, (x1, y1, x2, y2) in enumerate(boxes):
        sides = (at[0] - x1, at[1] - y1, x2 - at[0], y2 - at[1])
        near = max(abs(at[0] - (x1 + x2) / 2), abs(at[1] - (y1 + y2) / 2)) < 1.5 * s
        area = (x2 - x1) * (y2 - y1)
        if near and min(sides) > 0 and low < max(sides) < high and area < least:
            best, least = g, area
    return best


@st.composite
def images(draw: st.DrawFn) -> list[list[list[float]]]:
    """A batch; corners are multiples of 2, so that many fall on bounds, or any floats."""
    corner = st.one_of(
        st.integers(-4, 40).map(lambda n: 2.0 * n), st.floats(-10, 90, allow_nan=False, width=32)
    )
    side = st.one_of(st.integers(1, 40).map(lambda n: 2.0 * n), st.floats(1, 90, width=32))
    box = st.tuples(corner, corner, side, side).map(
        lambda b: [b[0], b[1], float(torch.tensor(b[0] + b[2])), float(torch.tensor(b[1] + b[3]))]
    )
    return draw(st.lists(st.lists(box, max_size=5), min_size=1, max_size=3))


@settings(max_examples=120, deadline=None)
@given(batch=images(), strides=st.sampled_from([(4, 8, 16), (8, 16, 32), (4, 16), (8,), (6, 9, 30)]))
def test_it_is_the_definition(batch: list[list[list[float]]], strides: tuple[int, ...]) -> None:
    locations, steps = grid((64, 80), strides)
    targets = [
        {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.arange(len(boxes)) % 3}
        for boxes in batch
    ]
    found = assign(locations, steps, targets)
    for row, boxes in enumerate(batch):
        at = zip(locations.tolist(), steps.tolist(), strict=True)
        expected = [slowly(p, s, boxes, [float(n) for n in strides]) for p, s in at]
        assert found.objects[row].tolist() == expected
        assert found.labels[row].tolist() == [g % 3 if g >= 0 else -1 for g in expected]
        kept = [boxes[g] if g >= 0 else [0.0] * 4 for g in expected]
        assert torch.equal(found.boxes[row], torch.tensor(kept, dtype=torch.float64))


def one(box: list[float], label: int = 0) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor([box]), "labels": torch.tensor([label])}


def test_a_value_on_a_bound_belongs_to_neither_side() -> None:
    at, steps = torch.tensor([[12.0, 12.0], [8.0, 8.0]]), torch.tensor([8.0, 16.0])
    assert assign(at, steps, [one([0.0, 0.0, 24.0, 24.0])]).objects[0, 0] == 0
    assert assign(at, steps, [one([12.0, 0.0, 24.0, 24.0])]).objects[0, 0] == -1  # on a side
    assert assign(at, steps, [one([0.0, 0.0, 48.0, 24.0])]).objects[0, 0] == -1  # 1.5 strides off
    assert assign(at, steps, [one([0.0, 0.0, 47.9, 24.0])]).objects[0, 0] == 0
    both = torch.tensor([[60.0, 60.0], [60.0, 60.0]])
    exactly = one([-4.0, -4.0, 124.0, 124.0])  # 64 to every side: neither level takes it
    assert assign(both, steps, [exactly]).objects.tolist() == [[-1, -1]]
    assert assign(both, steps, [one([-3.0, -3.0, 123.0, 123.0])]).objects.tolist() == [[0, -1]]
    assert assign(both, steps, [one([-5.0, -5.0, 125.0, 125.0])]).objects.tolist() == [[-1, 0]]


def test_areas_are_compared_as_they_are() -> None:
    # 1e8 minus these areas is the same float32 number, which a ranking by that difference would not tell apart.
    at, steps = torch.tensor([[50.0, 50.0]]), torch.tensor([64.0])
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.02], [0.0, 0.0, 100.0, 100.01], [0.0, 0.0, 100.0, 100.03]])
    target = {"boxes": boxes, "labels": torch.tensor([5, 6, 7])}
    assert assign(at, steps, [target]).labels.tolist() == [[6]]
    same = {"boxes": boxes[[0, 0]], "labels": torch.tensor([5, 6])}
    assert assign(at, steps, [same]).labels.tolist() == [[5]]  # of equal areas the first


def test_ranges_leave_no_gap_for_strides_that_do_not_double() -> None:
    low, high = scale_range(torch.tensor([4.0, 16.0, 16.0, 24.0]))
    assert low.tolist() == [0.0, 64.0, 64.0, 96.0]
    assert high.tolist() == [64.0, 96.0, 96.0, math.inf]


def test_the_centre_region_alone() -> None:
    locations, steps = grid((32, 32), (8,))
    box = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    near = centre_region(locations, steps, box).reshape(4, 4)
    assert near.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]
    assert bool(centre_region(locations, steps, box, math.inf).all())


def test_images_without_objects_and_objects_that_nobody_sees() -> None:
    locations, steps = grid((32, 32), (8, 16))
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    empty = assign(locations, steps, [none, none])
    assert empty.labels.shape == (2, len(locations))
    assert bool((empty.labels == -1).all() and (empty.objects == -1).all() and (empty.boxes == 0).all())
    beside = assign(locations, steps, [none, one([8.0, 8.0, 24.0, 24.0])])
    assert bool((beside.labels[0] == -1).all() and (beside.labels[1] == 0).any())
    between = assign(locations, steps, [one([5.0, 5.0, 7.0, 7.0])])  # no centre inside
    assert bool((between.labels == -1).all())


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ({"boxes": torch.zeros(0, 4)}, InputError, "target 0 is no target; received \\['boxes'\\]"),
        ([1, 2], InputError, "target 0 is no target; received list"),
        ({"boxes": torch.zeros(4), "labels": torch.tensor([0])}, InputError, "wrong shapes"),
        ({"boxes": torch.zeros(0), "labels": torch.zeros(0).long()}, InputError, r"shape \(0, 4\)"),
        ({"boxes": torch.ones(1, 4), "labels": torch.tensor([0, 1])}, InputError, "wrong shapes"),
        ({"boxes": torch.ones(1, 4).long(), "labels": torch.tensor([0])}, InputError, "floating boxes"),
        ({"boxes": torch.ones(1, 4), "labels": torch.tensor([0.0])}, InputError, "int64 labels"),
        (one([0.0, 0.0, 0.0, 4.0]), InputError, r"box without area; received \[0.0, 0.0, 0.0, 4.0\]"),
        (one([0.0, 5.0, 4.0, 4.0]), InputError, "box without area"),
        (one([0.0, 0.0, math.nan, 4.0]), NonFiniteError, "NaN"),
        (one([0.0, 0.0, math.inf, 4.0]), NonFiniteError, "infinite"),
        (one([0.0, 0.0, 4.0, 4.0], -1), InputError, "negative label"),
    ],
)
def test_wrong_targets_are_refused(target: object, error: type[Exception], text: str) -> None:
    locations, steps = grid((16, 16), (8,))
    with pytest.raises(error, match=text):
        assign(locations, steps, [target])


@pytest.mark.parametrize("name", ["radius", "reach"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_wrong_settings_are_refused(name: str, value: float) -> None:
    locations, steps = grid((16, 16), (8,))
    with pytest.raises(InputError, match=f"`{name}` is wrong"):
        assign(locations, steps, [one([0.0, 0.0, 8.0, 8.0])], **{name: value})
