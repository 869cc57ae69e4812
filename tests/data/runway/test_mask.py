"""Masks against brute force: rays cast at the runway, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip import data
from onelip.data.runway.camera import Camera
from onelip.data.runway.mask import area, box, polygon_mask
from onelip.data.runway.render import label, outline
from onelip.data.runway.scene import Scene


def _cast(scene: Scene, size: tuple[int, int], steps: int) -> np.ndarray:
    """Share of steps x steps rays of each pixel that meet the runway: no polygon, no projection."""
    h, w = size
    camera = Camera(scene.pose, size)
    v, u = ((a.ravel() + 0.5) / steps for a in np.mgrid[: h * steps, : w * steps])
    rays = camera.rays(u, v)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = -camera.position[2] / rays[:, 2]
        x, y = (camera.position[:2] + reach[:, None] * rays[:, :2]).T
    runway = scene.runway
    inside = (reach > 0) & (abs(x) <= runway.width / 2) & (y >= 0) & (y <= runway.length)
    return inside.reshape(h, steps, w, steps).mean(axis=(1, 3))


def test_masks_equal_cast_rays() -> None:
    size = (128, 160)
    dataset = data.runways(24, size, seed=11, distance=(300, 1500))
    for k in range(len(dataset)):
        scene = dataset.scene(k)
        mask = label(scene, size)
        share = _cast(scene, size, 5)  # another grid of rays than the mask's own
        exact = share >= 0.5
        overlap = (mask & exact).sum() / (mask | exact).sum()
        sides = box(outline(scene, size))[2:] - box(outline(scene, size))[:2]
        assert overlap >= (0.96 if sides.min() >= 12 else 0.85)
        assert (np.abs(share - 0.5)[mask != exact] <= 0.12).all()  # differences only where rounding decides


def test_masks_equal_fine_rays_but_for_ties() -> None:
    dataset = data.runways(6, 64, seed=2)
    for k in range(6):
        share = _cast(dataset.scene(k), (64, 64), 20)
        sure = abs(share - 0.5) > 0.02
        assert (dataset.labels(k) == (share >= 0.5))[sure].all()


@given(st.integers(0, 3), st.booleans(), st.integers(0, 10**6))
def test_order_and_sense_of_the_corners_do_not_matter(turn: int, reverse: bool, seed: int) -> None:
    angles = np.sort(np.random.default_rng(seed).uniform(0, 2 * np.pi, 4))
    corners = 16 + 11 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    other = np.roll(corners[::-1] if reverse else corners, turn, axis=0)
    assert (polygon_mask(corners, (32, 32)) == polygon_mask(other, (32, 32))).all()
    assert abs(area(other)) == pytest.approx(abs(area(corners)))


def test_a_mask_has_the_area_of_its_polygon() -> None:
    corners = np.array([[10.0, 80.0], [90.0, 84.0], [60.0, 12.0], [40.0, 10.0]])
    assert polygon_mask(corners, (100, 100)).sum() == pytest.approx(abs(area(corners)), rel=0.01)


def test_half_a_pixel_decides() -> None:
    square = np.array([[2.0, 2.0], [4.0, 2.0], [4.0, 4.0], [2.0, 4.0]])
    assert polygon_mask(square, (6, 6)).sum() == 4
    assert polygon_mask(square + np.array([0.375, 0]), (6, 6)).sum() == 4
    assert polygon_mask(square * [1, 0.2], (6, 6)).sum() == 0  # 0.4 pixels high


def test_what_lies_outside_the_picture_is_cut() -> None:
    corners = np.array([[-5.0, -5.0], [3.0, -5.0], [3.0, 2.0], [-5.0, 2.0]])
    mask = polygon_mask(corners, (4, 8))
    assert mask.sum() == 6
    assert mask[:2, :3].all()
    assert polygon_mask(corners + 100, (4, 8)).sum() == 0
    assert polygon_mask(corners - 100, (4, 8)).sum() == 0
