"""Boxes move with their pixels, and only with them; what is hardly seen is dropped; one generator decides all."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.data.boxes import BoxAugment

COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def blocks(seed, size):
    """Rectangles that do not overlap, each of the colour of its label, on black; sides of at least 8 pixels."""
    generator = seeded(seed)
    image, boxes, labels = torch.zeros(3, *size, dtype=torch.uint8), [], []
    for row, column in itertools.product(range(2), range(2)):
        h, w = size[0] // 2, size[1] // 2
        top, left, cut, short = (
            int(torch.randint(0, (n - 8) // 2 + 1, (), generator=generator)) for n in (h, w, h, w)
        )
        x1, y1, x2, y2 = column * w + left, row * h + top, (column + 1) * w - short, (row + 1) * h - cut
        label = int(torch.randint(0, 3, (), generator=generator))
        image[:, y1:y2, x1:x2] = COLOURS[label][:, None, None]
        boxes.append([x1, y1, x2, y2])
        labels.append(label)
    return image, torch.tensor(boxes, dtype=torch.float64), torch.tensor(labels)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(24, 70), st.integers(24, 70)),
    crop=st.none() | st.tuples(st.integers(16, 80), st.integers(16, 80)),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 1.0), (0.8, 2.0)]),
    focus=st.sampled_from([0.0, 1.0]),
)
def test_boxes_stay_on_their_pixels(seed, size, crop, scale, focus):
    image, boxes, labels = blocks(seed, size)
    augment = BoxAugment(crop=crop, scale=scale, focus=focus, visible=0.01)
    pixels, target = augment(image, boxes, labels, seeded(seed))
    assert pixels.shape == (3, *(crop or size))
    assert (pixels.dtype, target["boxes"].dtype, target["labels"].dtype) == (
        torch.float32,
        torch.float32,
        torch.int64,
    )
    assert len(target["boxes"]) == len(target["labels"]) <= 4
    outside = torch.ones(pixels.shape[1:], dtype=torch.bool)
    for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
        assert 0 <= x1 < x2 <= pixels.shape[2]
        assert 0 <= y1 < y2 <= pixels.shape[1]
        inner = pixels[:, round(y1) + 2 : max(round(y2) - 2, 0), round(x1) + 2 : max(round(x2) - 2, 0)]
        assert torch.allclose(inner, COLOURS[label][:, None, None] / 255.0, atol=0.02)
        outside[max(round(y1) - 2, 0) : round(y2) + 2, max(round(x1) - 2, 0) : round(x2) + 2] = False
    rest = pixels[
        :, outside
    ]  # neither colour: black, or the grey of what is padded, or nearly unseen objects
    if len(target["boxes"]) == 4:
        assert bool((rest.max(0).values - rest.min(0).values < 0.02).all())


def test_flipping_twice_is_nothing_and_once_is_a_mirror():
    image, boxes, labels = blocks(3, (32, 40))
    once = BoxAugment(flip=1.0)
    pixels, target = once(image, boxes, labels, seeded(0))
    assert torch.equal(pixels, image.flip(2) / 255.0)
    assert torch.equal(
        target["boxes"],
        (torch.tensor([40.0, 0, 40, 0]) - boxes[:, [2, 1, 0, 3]].float() * torch.tensor([1, -1, 1, -1])),
    )
    _, back = once(image, target["boxes"], target["labels"], seeded(0))
    assert torch.equal(back["boxes"], boxes.float())
    same, still = BoxAugment(flip=0.0)(image, boxes, labels, seeded(0))
    assert torch.equal(same, image / 255.0)
    assert torch.equal(still["boxes"], boxes.float())


@pytest.mark.parametrize(("share", "kept"), [(0.5, True), (0.5001, False)])
def test_what_is_hardly_seen_is_dropped_and_the_rest_clipped(share, kept):
    image, boxes = torch.zeros(3, 8, 16, dtype=torch.uint8), torch.tensor([[4.0, 2, 12, 6]])
    for seed in range(20):
        augment = BoxAugment(crop=(8, 8), flip=0.0, visible=share)
        _, target = augment(image, boxes, torch.tensor([2]), seeded(seed))
        left = {(0.0, 4.0): 8, (4.0, 8.0): 0}  # sides at which exactly half is seen: window at 8, window at 0
        found = [(b[0], b[2]) for b in target["boxes"].tolist()]
        assert not any(pair in left for pair in found) or kept
        assert all(x2 - x1 >= 8 * share for x1, x2 in found)


def test_half_a_box_is_exactly_at_the_limit():
    image, boxes = torch.zeros(3, 8, 16, dtype=torch.uint8), torch.tensor([[8.0, 2, 16, 6]])
    seen = set()
    for seed in range(60):
        _, target = BoxAugment(crop=(8, 12), flip=0.0, visible=0.5)(
            image, boxes, torch.tensor([0]), seeded(seed)
        )
        seen |= {tuple(b) for b in target["boxes"].tolist()}
        _, strict = BoxAugment(crop=(8, 12), flip=0.0, visible=0.51)(
            image, boxes, torch.tensor([0]), seeded(seed)
        )
        assert (8.0, 2.0, 12.0, 6.0) not in {tuple(b) for b in strict["boxes"].tolist()}
    assert (8.0, 2.0, 12.0, 6.0) in seen  # the window at the left: 4 of 8 columns


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), zoom=st.sampled_from([1.0, 0.7, 1.5]))
def test_a_focused_crop_holds_an_object_whole(seed, zoom):
    image = torch.zeros(3, 60, 90, dtype=torch.uint8)
    boxes = torch.tensor([[1.5, 2.5, 9.5, 12.5], [70.0, 40.0, 88.0, 59.5]])
    augment = BoxAugment(crop=(32, 36), scale=(zoom, zoom), focus=1.0, visible=0.999)
    _, target = augment(image, boxes, torch.tensor([0, 1]), seeded(seed))
    assert len(target["labels"]) >= 1


def test_focus_sees_rare_classes_as_often_as_frequent_ones():
    image = torch.zeros(3, 20, 200, dtype=torch.uint8)
    boxes = torch.tensor([[4.0 + 8 * k, 4, 10 + 8 * k, 10] for k in range(9)] + [[180.0, 4, 190, 12]])
    labels = torch.tensor([0] * 9 + [1])
    augment = BoxAugment(crop=(20, 30), focus=1.0, visible=0.999)
    rare = sum(1 in augment(image, boxes, labels, seeded(k))[1]["labels"] for k in range(200))
    assert 70 < rare < 130


def test_an_object_larger_than_the_crop_is_met_in_its_middle():
    image, boxes = torch.zeros(3, 100, 100, dtype=torch.uint8), torch.tensor([[10.0, 10, 90, 90]])
    augment = BoxAugment(crop=(20, 20), focus=1.0, visible=0.01)
    for seed in range(30):
        _, target = augment(image, boxes, torch.tensor([0]), seeded(seed))
        assert target["boxes"].tolist() == [[0, 0, 20, 20]]


def test_images_without_objects():
    for augment in (
        BoxAugment(),
        BoxAugment(crop=(8, 8), focus=1.0, scale=(0.5, 2.0), jitter=0.2, noise=0.1),
    ):
        pixels, target = augment(
            torch.zeros(3, 12, 12, dtype=torch.uint8),
            torch.zeros(0, 4),
            torch.zeros(0, dtype=torch.int64),
            seeded(0),
        )
        assert pixels.shape[0] == 3
        assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))


def test_the_generator_decides_everything_and_options_do_not_shift_each_other():
    image, boxes, labels = blocks(5, (40, 60))
    full = BoxAugment(crop=(24, 24), scale=(0.5, 2.0), jitter=0.3, noise=0.1, focus=0.5)
    one, two, other = (full(image, boxes, labels, seeded(k)) for k in (7, 7, 8))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1]["boxes"], two[1]["boxes"])
    assert not torch.equal(one[0], other[0])
    plain = BoxAugment(crop=(24, 24), scale=(0.5, 2.0), focus=0.5)(image, boxes, labels, seeded(7))
    assert torch.equal(plain[1]["boxes"], one[1]["boxes"])
    assert not torch.equal(plain[0], one[0])


def test_colours_change_by_what_was_asked_and_inputs_stay():
    image = torch.full((3, 16, 16), 128, dtype=torch.uint8)
    boxes, labels = torch.tensor([[2.0, 2, 9, 9]]), torch.tensor([0])
    before = (image.clone(), boxes.clone())
    values = [float(BoxAugment(jitter=0.2)(image, boxes, labels, seeded(k))[0].mean()) for k in range(40)]
    assert 0.39 < min(values) < 0.45
    assert 0.56 < max(values) < 0.61
    noisy, _ = BoxAugment(noise=0.3)(image, boxes, labels, seeded(0))
    assert 0.27 < float((noisy - 128 / 255).std()) < 0.33
    assert torch.equal(image, before[0])
    assert torch.equal(boxes, before[1])


@pytest.mark.parametrize(
    "options",
    [
        {"crop": (0, 5)},
        {"scale": (0.0, 1.0)},
        {"scale": (2.0, 1.0)},
        {"scale": (1.0, float("inf"))},
        {"scale": (float("nan"), 1.0)},
        {"flip": 1.5},
        {"focus": -0.1},
        {"jitter": 1.0},
        {"noise": -1.0},
        {"noise": float("nan")},
        {"visible": 0.0},
        {"visible": 1.1},
    ],
)
def test_impossible_augmentations_are_refused(options):
    with pytest.raises(InputError, match="not possible"):
        BoxAugment(**options)
