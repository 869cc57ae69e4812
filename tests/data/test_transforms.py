"""Augmentation moves image and labels together, pads with void, and depends on its generator alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.data.transforms import Augment

COLORS = torch.tensor(
    [[10, 200, 90], [240, 20, 30], [60, 60, 250], [128, 250, 128], [0, 0, 0]], dtype=torch.uint8
)


def blocks(seed: int, height: int, width: int, block: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose colour tells its label."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 4, (height // block + 1, width // block + 1), generator=generator)
    labels = coarse.repeat_interleave(block, 0).repeat_interleave(block, 1)[:height, :width]
    return COLORS[labels].permute(2, 0, 1).contiguous(), labels.to(torch.uint8)


def nearest_color(image: torch.Tensor) -> torch.Tensor:
    distance = (image.permute(1, 2, 0)[..., None, :] - COLORS[:4] / 255.0).abs().sum(-1)
    return distance.argmin(-1)


def inner(target: torch.Tensor) -> torch.Tensor:
    """Pixels whose 5x5 neighbours, all inside, have the same label: where interpolation blends nothing."""
    padded = torch.nn.functional.pad(target[None].float(), (2, 2, 2, 2), value=255.0)
    windows = padded.unfold(1, 5, 1).unfold(2, 5, 1).reshape(*target.shape, 25)
    return (windows == target[..., None]).all(-1) & (target != 255)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(24, 70), st.integers(24, 70)),
    crop=st.tuples(st.integers(16, 80), st.integers(16, 80)),
    low=st.floats(0.5, 1.0),
    high=st.floats(1.0, 2.0),
    rotate=st.sampled_from([0.0, 20.0]),
)
def test_labels_stay_with_their_pixels(
    seed: int, size: tuple[int, int], crop: tuple[int, int], low: float, high: float, rotate: float
) -> None:
    image, labels = blocks(seed, *size)
    augment = Augment(crop=crop, scale=(low, high), flip=0.5, vflip=0.5, rotate=rotate)
    pixels, target = augment(image, labels, torch.Generator().manual_seed(seed))
    assert pixels.shape == (3, *crop)
    assert target.shape == crop
    assert pixels.dtype == torch.float32
    assert target.dtype == torch.int64
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert set(target.unique().tolist()) <= {*labels.unique().tolist(), 255}
    sure = inner(target)
    agree = nearest_color(pixels)[sure] == target[sure]
    assert bool(agree.all())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_padding_is_void_never_class_zero(seed: int) -> None:
    image, labels = blocks(seed, 24, 24)
    labels.fill_(3)
    for augment in (
        Augment(crop=(48, 48)),
        Augment(crop=(24, 24), scale=(0.5, 0.5)),
        Augment(rotate=45.0, flip=0),
    ):
        _, target = augment(image, labels, torch.Generator().manual_seed(seed))
        assert set(target.unique().tolist()) <= {3, 255}
    _, target = Augment(crop=(48, 48))(image, labels, torch.Generator().manual_seed(seed))
    assert (target == 3).sum() == 24 * 24  # the whole image is in the padded crop


def test_same_generator_same_result() -> None:
    image, labels = blocks(0, 40, 56)
    augment = Augment(crop=(32, 32), scale=(0.5, 2.0), rotate=10.0, jitter=0.3)
    a, b, c = (augment(image, labels, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[0], c[0])


def test_without_options_nothing_changes() -> None:
    image, labels = blocks(3, 40, 56)
    pixels, target = Augment(flip=0.0)(image, labels, torch.Generator().manual_seed(0))
    assert torch.equal(pixels, image / 255.0)
    assert torch.equal(target, labels.long())


def test_certain_flips() -> None:
    image, labels = blocks(4, 40, 56)
    pixels, target = Augment(flip=1.0, vflip=1.0)(image, labels, torch.Generator().manual_seed(0))
    assert torch.equal(pixels, (image / 255.0).flip(1, 2))
    assert torch.equal(target, labels.long().flip(0, 1))


def test_jitter_leaves_labels_alone() -> None:
    image, labels = blocks(5, 40, 56)
    pixels, target = Augment(flip=0.0, jitter=0.5)(image, labels, torch.Generator().manual_seed(0))
    assert torch.equal(target, labels.long())
    assert not torch.equal(pixels, image / 255.0)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (2.0, 1.0)},
        {"flip": 1.5},
        {"jitter": 1.0},
        {"focus": 1.5},
        {"crop": (0, 3)},
    ],
)
def test_impossible_options(options: dict) -> None:
    with pytest.raises(InputError, match="not possible"):
        Augment(**options)


def test_noise_has_its_strength_and_moves_nothing_else() -> None:
    image, labels = blocks(0, 64, 64)
    plain, same = Augment(crop=(64, 64))(image, labels, torch.Generator().manual_seed(5))
    noisy, target = Augment(crop=(64, 64), noise=0.2)(image, labels, torch.Generator().manual_seed(5))
    assert torch.equal(target, same)
    assert (noisy - plain).std().item() == pytest.approx(0.2, rel=0.05)
    with pytest.raises(InputError, match="noise >= 0"):
        Augment(noise=-0.1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop=st.tuples(st.integers(4, 32), st.integers(4, 32)),
    at=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_a_focused_crop_shows_the_class_that_was_drawn(
    seed: int, size: tuple[int, int], crop: tuple[int, int], at: tuple[float, float]
) -> None:
    labels = torch.full(size, 255, dtype=torch.uint8)
    labels[int(at[0] * size[0]), int(at[1] * size[1])] = 1
    image = torch.zeros(3, *size, dtype=torch.uint8)
    focused = Augment(crop=crop, scale=(1.0, 1.0), focus=1.0)
    _, target = focused(image, labels, torch.Generator().manual_seed(seed))
    assert (target == 1).sum() == 1


def test_focus_shows_a_small_class_as_often_as_a_large_one_and_moves_it_about() -> None:
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[20, 40] = 1
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    shown = []
    for _ in range(400):
        _, target = Augment(crop=(16, 16), flip=0.0, focus=1.0)(image, labels, generator)
        shown.append(target)
    places = torch.stack([t.nonzero()[0] for t in shown if t.any()])
    share = len(places) / 400
    assert 0.45 < share < 0.65  # one half, and what shows it by chance: 16 * 16 of 49 * 49 places
    assert places.float().mean(0).sub(7.5).abs().max() < 1.0
    assert places.min() == 0
    assert places.max() == 15


def test_an_image_without_labels_is_cropped_anywhere() -> None:
    labels = torch.full((20, 20), 255, dtype=torch.uint8)
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    _, target = Augment(crop=(8, 8), focus=1.0)(image, labels, torch.Generator().manual_seed(0))
    assert target.shape == (8, 8)
    assert bool((target == 255).all())
