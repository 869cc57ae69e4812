"""Shifts move whole pixels and uncover `fill`; flips mirror; one generator decides all; the label stays."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip import data
from onelip.core.errors import InputError
from onelip.data.labels import LabelAugment, to_bytes


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def picture(channels=1, size=(7, 9)):
    return torch.randint(1, 256, (channels, *size), generator=seeded(0)).to(torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shift=st.integers(0, 6),
    channels=st.sampled_from([1, 3]),
    fill=st.sampled_from([0.0, 0.5]),
)
def test_a_shift_is_a_window_of_the_padded_picture(seed, shift, channels, fill):
    image = picture(channels)
    moved, label = LabelAugment(shift=shift, fill=fill)(image, 4, seeded(seed))
    assert (moved.shape, moved.dtype, label) == (image.shape, torch.float32, 4)
    padded = torch.nn.functional.pad(image.float() / 255, [shift] * 4, value=fill)
    windows = [padded[:, y : y + 7, x : x + 9] for y in range(2 * shift + 1) for x in range(2 * shift + 1)]
    assert any(torch.equal(moved, window) for window in windows)


def test_every_shift_is_equally_likely():
    image = torch.zeros(1, 9, 9, dtype=torch.uint8)
    image[0, 4, 4] = 255
    augment = LabelAugment(shift=2)
    found = Counter()
    generator = seeded(1)
    for _ in range(5000):
        found[tuple(augment(image, 0, generator)[0].nonzero()[0, 1:].tolist())] += 1
    assert set(found) == {(y, x) for y in range(2, 7) for x in range(2, 7)}
    assert all(120 <= n <= 280 for n in found.values())  # 200 each, within six standard deviations


def test_flips():
    image = picture(3)
    assert torch.equal(LabelAugment(flip=1.0)(image, 1, seeded(0))[0], image.flip(2) / 255)
    assert torch.equal(LabelAugment()(image, 1, seeded(0))[0], image / 255)
    generator = seeded(3)
    flipped = sum(
        torch.equal(LabelAugment(flip=0.3)(image, 1, generator)[0], image.flip(2) / 255) for _ in range(500)
    )
    assert 100 <= flipped <= 200


def test_noise_is_added_last_and_shifts_no_other_numbers():
    image = picture(3, (40, 50))
    plain = LabelAugment(shift=5, flip=0.5)(image, 1, seeded(4))[0]
    noisy = LabelAugment(shift=5, flip=0.5, noise=0.25)(image, 1, seeded(4))[0]
    rest = noisy - plain
    assert float(rest.std()) == pytest.approx(0.25, rel=0.05)
    assert float(rest.mean()) == pytest.approx(0, abs=0.02)
    assert float(noisy.max()) > 1  # not clipped
    mirrored = LabelAugment(shift=5, flip=1.0)(image, 1, seeded(4))[0]
    straight = LabelAugment(shift=5, flip=0.0)(image, 1, seeded(4))[0]
    assert torch.equal(mirrored, straight.flip(2))


def test_the_input_stays_and_the_seed_decides():
    image = picture()
    before = image.clone()
    augment = LabelAugment(shift=3, flip=0.5, noise=0.1)
    first, again, other = (augment(image, 0, seeded(k))[0] for k in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(image, before)


def test_items_of_a_set():
    dataset = data.open_labels("digits", "test")
    image, label = LabelAugment()(*to_bytes(*dataset.read(5)), seeded(0))
    assert torch.equal(image, dataset[5][0])
    assert label == dataset[5][1]


@pytest.mark.parametrize(
    "options",
    [
        {"shift": -1}, {"shift": 1.5}, {"shift": True}, {"flip": 1.1}, {"flip": float("nan")}, {"fill": -0.1},
        {"noise": -1.0}, {"noise": float("inf")}, {"noise": float("nan")},
    ],
)  # fmt: skip
def test_impossible_augmentations(options):
    with pytest.raises(InputError, match="this augmentation is not possible"):
        LabelAugment(**options)


@pytest.mark.parametrize(
    "image",
    [torch.zeros(1, 7, 9), torch.zeros(7, 9, dtype=torch.uint8), torch.zeros(1, 3, 9, dtype=torch.uint8)],
)
def test_impossible_pictures(image):
    with pytest.raises(InputError, match="this image cannot be augmented"):
        LabelAugment(shift=3)(image, 0, seeded(0))
