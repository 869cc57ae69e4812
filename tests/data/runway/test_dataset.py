"""The drawn set: the same for an index whatever surrounds it, splits that share nothing, shifts that shift."""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from onelip import data
from onelip.core.errors import InputError
from onelip.data.runway.camera import Camera
from onelip.data.runway.dataset import HELD_OUT, SPLITS, RunwayDataset
from onelip.data.runway.mask import box
from onelip.data.runway.render import render
from onelip.data.runway.scene import BIOMES, Scene
from onelip.data.runway.world import World, corners, draw_scene, fits


def _scenes(n: int = 40, **options: Any) -> list[Scene]:
    dataset = data.runways(n, options.pop("size", 256), **options)
    return [dataset.scene(k) for k in range(n)]


def test_deterministic_by_seed_and_index() -> None:
    first, second = data.runways(3, 64, seed=4), data.runways(9, 64, seed=4)
    for k in (2, 0):  # any order, any length of the set
        assert torch.equal(first[k][0], second[k][0])
        assert torch.equal(first[k][1], second[k][1])
    assert first.scene(1) == second.scene(1) == pickle.loads(pickle.dumps(first)).scene(1)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], data.runways(1, 64, seed=5)[0][0])


def test_what_the_methods_say_is_what_is_rendered() -> None:
    dataset = data.runways(4, (64, 96), seed=1, negatives=0.5)
    for k in range(4):
        drawn = dataset.rendered(k)
        image, labels = dataset.read(k)
        assert (image == drawn.image).all()
        assert (labels == drawn.mask).all()
        assert (dataset.labels(k) == drawn.mask).all()
        assert (dataset.corners(k) == drawn.corners).all()
        assert dataset.pose(k) == drawn.scene.pose
        found = dataset.box(k)
        assert (found is None) == (drawn.box is None) == (labels.max() == 0)
        if found is not None:
            assert (found == box(drawn.corners)).all()
            rows, columns = np.nonzero(labels)
            inside = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (inside[:2] >= np.floor(found[:2])).all()
            assert (inside[2:] <= np.ceil(found[2:])).all()


def test_corners_are_in_polygon_order() -> None:
    for scene in _scenes(60, seed=3):
        near_left, near_right, far_right, far_left = data.runway.render.outline(scene, (256, 256))
        assert near_left[0] < near_right[0] or abs(scene.pose.roll) > 5
        assert max(far_left[1], far_right[1]) < max(near_left[1], near_right[1])
        assert data.runway.mask.area(np.array([near_left, near_right, far_right, far_left])) < 0


def test_every_runway_is_in_the_picture_and_large_enough() -> None:
    for size in ((64, 64), (256, 256), (128, 256)):
        dataset = data.runways(60, size, seed=7)
        for k in range(60):
            x1, y1, x2, y2 = dataset.box(k)
            assert min(x1, y1) >= 0
            assert x2 <= size[1]
            assert y2 <= size[0]
            assert min(x2 - x1, y2 - y1) >= min(8, size[0] / 12)


@pytest.mark.parametrize(
    ("reach", "width", "height", "share"),
    [
        (5556, (5, 9, 14, 24, 70), (8, 10, 14, 22, 45), 0.88),
        (3000, (9, 14, 21, 35, 93), (12, 15, 20, 28, 53), 0.81),
    ],
)
def test_boxes_have_the_sizes_of_the_approach_cone(
    reach: float, width: tuple[int, ...], height: tuple[int, ...], share: float
) -> None:
    """Quantiles 5, 25, 50, 75, 95 % at 256 pixels, from another program for the same distribution."""
    world = World((150.0, reach), BIOMES, min_box=0.0)
    scenes = [draw_scene(world, 0, k, (256, 256)) for k in range(800)]
    sides = [np.ptp(Camera(s.pose, (256, 256)).project(corners(s.runway))[0], axis=0) for s in scenes]
    found = np.percentile(sides, [5, 25, 50, 75, 95], axis=0)
    np.testing.assert_allclose(found[:, 0], width, rtol=0.17, atol=1)
    np.testing.assert_allclose(found[:, 1], height, rtol=0.12, atol=1)
    # Acceptance: each scene's first pose, drawn without the rejection.
    first = [_first_pose_fits(world, k) for k in range(800)]
    assert np.mean(first) == pytest.approx(share, abs=0.045)


def _first_pose_fits(world: World, index: int) -> bool:
    from onelip.data.runway import world as module
    from onelip.data.runway.scene import generator

    scene = draw_scene(world, 0, index, (256, 256))
    pose = module._pose(world, generator(0, index, "draw-pose"))
    return fits(Camera(pose, (256, 256)), corners(scene.runway), 0.0)


def test_poses_keep_to_the_cone() -> None:
    poses = [asdict(s.pose) for s in _scenes(200, size=512)]
    ranges = {
        "distance": (150, 5556),
        "lateral": (-4, 4),
        "glide": (2.2, 3.8),
        "yaw": (-10, 10),
        "pitch": (-8, 0),
        "roll": (-10, 10),
    }
    for name, (low, high) in ranges.items():
        values = np.array([p[name] for p in poses])
        assert low <= values.min() < values.max() <= high
        assert values.max() - values.min() > 0.5 * (high - low)


def test_streams_do_not_touch_each_other() -> None:
    scene = _scenes(1)[0]
    lonely = scene.rng("sky").random(5)
    scene.rng("land").random(1000)
    assert (scene.rng("sky").random(5) == lonely).all()
    assert not np.isclose(scene.rng("land").random(5), lonely).any()
    other = replace(scene, index=scene.index + 1)
    assert not np.isclose(other.rng("sky").random(5), lonely).any()


def test_options_change_what_they_name_alone() -> None:
    plain, hazy, empty, doubled, far = (
        _scenes(8, **options)
        for options in (
            {},
            {"haze": (4e3, 5e3)},
            {"negatives": 1.0},
            {"second": 1.0},
            {"distance": (2e3, 3e3)},
        )
    )
    for a, b, c, d, e in zip(plain, hazy, empty, doubled, far, strict=True):
        assert replace(b, visibility=a.visibility) == a
        assert 4e3 <= b.visibility <= 5e3
        assert replace(c, visible=True) == a
        assert (d.runway, d.light, d.visibility, d.biome) == (a.runway, a.light, a.visibility, a.biome)
        assert (e.runway, e.light, e.visibility) == (a.runway, a.light, a.visibility)
        assert 2e3 <= e.pose.distance <= 3e3


def test_a_second_runway_is_in_view_and_never_touches_the_first() -> None:
    for scene in _scenes(40, second=1.0):
        assert scene.second is not None
        camera = Camera(scene.pose, (256, 256))
        assert fits(camera, corners(scene.second, scene.second_offset), 8.0)
        reach = sum(r.width / 2 + r.shoulder for r in (scene.runway, scene.second))
        assert abs(scene.second_offset[0]) > reach
    assert all(s.second is None for s in _scenes(20))


def test_splits_share_no_scene() -> None:
    keys = {
        (s.seed, s.index)
        for split in SPLITS
        for seed in (0, 1, 2)
        for s in _scenes(3, split=split, seed=seed)
    }
    assert len(keys) == len(SPLITS) * 3 * 3


def test_the_held_out_biome() -> None:
    for split in ("train", "val", "test"):
        assert HELD_OUT not in {s.biome for s in _scenes(60, split=split)}
    assert {s.biome for s in _scenes(60)} == set(BIOMES) - {HELD_OUT}
    assert {s.biome for s in _scenes(10, split="biome")} == {HELD_OUT}
    assert {s.biome for s in _scenes(10, biome="desert")} == {"desert"}


def test_shifts() -> None:
    far, haze, low, roll = (_scenes(60, split=s) for s in ("far", "haze", "low-sun", "roll"))
    assert min(s.pose.distance for s in far) >= 2500
    assert max(s.pose.distance for s in far) > 3500
    assert max(s.visibility for s in haze) <= 10e3
    assert max(s.light.elevation for s in low) <= 14
    assert all(8 <= abs(s.pose.roll) <= 12 for s in roll)
    assert {np.sign(s.pose.roll) for s in roll} == {-1, 1}


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 0},
        {"n": 2.0},
        {"n": True},
        {"size": 8},
        {"size": (64,)},
        {"size": (64, 64.0)},
        {"size": "64"},
        {"seed": -1},
    ],
)
def test_bad_numbers(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be drawn"):
        data.runways(**arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"biome": "mars"}, "there is no biome 'mars'; expected one of temperate"),
        ({"split": "tset"}, "there is no split 'tset'; expected one of train"),
        ({"haze": (9e3, 5e3)}, "`haze` is no range"),
        ({"haze": 5e3}, "`haze` is no range"),
        ({"haze": (float("nan"), 5e3)}, "`haze` is out of range"),
        ({"distance": (10, 300)}, "`distance` is out of range"),
        ({"negatives": 1.5}, "`negatives` is out of range"),
        ({"second": -0.1}, "`second` is out of range"),
        ({"min_box": 0}, "`min_box` is out of range"),
    ],
)
def test_bad_options(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        data.runways(4, **arguments)


def test_what_no_pose_can_show_is_an_error() -> None:
    with pytest.raises(InputError, match="no approach shows the runway as asked"):
        data.runways(1, 64, min_box=60).scene(0)
    with pytest.raises(IndexError):
        data.runways(2, 64).scene(2)


def test_negatives_differ_from_their_positives_only_on_the_aerodrome() -> None:
    size = (96, 96)
    dataset: RunwayDataset = data.runways(6, size, seed=9, haze=(80e3, 90e3), distance=(400, 900))
    for k in range(6):
        shown = dataset.rendered(k)
        empty = render(replace(shown.scene, visible=False), size)
        assert empty.mask.max() == 0
        assert empty.box is None
        change = np.abs(shown.image.astype(int) - empty.image).max(2)
        assert (change[shown.mask == 1] > 8).mean() > 0.5
        assert (change[:20] == 0).all()  # the sky
