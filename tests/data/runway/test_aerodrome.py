"""Pavement, taxiways and buildings: covers, layers, traced boxes; and nothing that hides the runway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip import data
from onelip.core.errors import InputError
from onelip.data.runway.buildings import Buildings
from onelip.data.runway.camera import Camera, Hits
from onelip.data.runway.pavement import Pavement, over, tone
from onelip.data.runway.render import label, render
from onelip.data.runway.scene import Pose, Scene
from onelip.data.runway.taxiways import Strip, Taxiways


def _hits(x: object, y: object, window: float = 0.05) -> Hits:
    x, y = (np.float32(a).ravel() for a in np.broadcast_arrays(x, y))
    w = np.full_like(x, window)
    return Hits(x, y, w * 0 + 100, w, w, w, w)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    dataset = data.runways(30, 128, seed=21)
    return [dataset.scene(k) for k in range(30)]


def test_pavement_covers_runway_shoulders_and_pads_alone(scenes: list[Scene]) -> None:
    for scene in scenes[:6]:
        runway = replace(scene.runway, shoulder=5, blast_pad=60)
        half, length = runway.width / 2, runway.length
        layer = Pavement(runway, scene.rng("pavement"))
        inside = _hits([0, half - 0.1, half + 4.9, 0, 0], [1, length - 1, 500, -59, length + 59])
        outside = _hits([half + 5.1, 0, 0], [500, -61, length + 61])
        assert (layer.layer(inside)[1] > 0.99).all()
        colour, cover = layer.layer(outside)
        assert (cover == 0).all()
        assert (colour == 0).all()


def test_paint_is_brighter_and_rubber_darker_than_the_pavement(scenes: list[Scene]) -> None:
    runway = replace(scenes[0].runway, albedo=0.3, paint=0.9, wear=0.0, rubber=1.0, width=45, length=3000)
    layer = Pavement(runway, np.random.default_rng(0))
    x = np.linspace(0, 40, 200) + 1000  # along the runway, between the marks
    plain = layer.layer(_hits(16, x))[0].mean()
    assert layer.layer(_hits(2.7, np.linspace(10, 30, 50)))[0].mean() > 2 * plain
    assert layer.layer(_hits(4.5, np.linspace(470, 490, 50)))[0].mean() < 0.65 * plain
    assert plain == pytest.approx(tone(0.3).mean(), rel=0.2)


@given(st.floats(0, 180), st.floats(5, 300), st.floats(2, 60))
def test_a_strip_has_its_area(heading: float, length: float, width: float) -> None:
    strip = Strip(40.0, -25.0, heading, length, width)
    step = 3.0
    grid = np.arange(-200, 200, step)
    x, y = np.meshgrid(grid + 40, grid - 25)
    area = strip.cover(_hits(x, y, step)).sum() * step * step
    assert area == pytest.approx(length * width, rel=0.12, abs=40)


def test_layers_add_up() -> None:
    red, blue = np.float32([[1, 0, 0]]), np.float32([[0, 0, 1]])
    colour, cover = over((red * 0.25, np.float32([0.25])), (blue, np.float32([1])))
    assert cover.tolist() == [1]
    assert colour.tolist() == [[0.25, 0, 0.75]]


def test_taxiways_leave_the_runway_free_and_keep_off_the_second(scenes: list[Scene]) -> None:
    for scene in scenes:
        taxi = Taxiways(scene)
        y = np.linspace(0, scene.runway.length, 300)
        assert (taxi.layer(_hits(0, y))[1] == 0).all()
        assert (taxi.layer(_hits(-taxi.side * 60, y))[1] == 0).all()
        assert (taxi.layer(_hits(taxi.strips[0].x, y[30:-30]))[1] > 0.99).any()
    for scene in (data.runways(12, second=1.0).scene(k) for k in range(12)):
        assert Taxiways(scene).side == -np.sign(scene.second_offset[0])


def test_traced_buildings_against_marching(scenes: list[Scene]) -> None:
    """Walk along each ray in small steps and ask whether the point is inside a box."""
    checked = 0
    for scene in scenes[:8]:
        buildings = Buildings(scene, Taxiways(scene))
        for building in buildings.boxes[:1]:
            middle = (np.array(building.low) + building.high) / 2
            position = middle + np.array([30.0, -400.0, 60.0])
            rng = np.random.default_rng(3)
            rays = middle + rng.normal(0, 25, (60, 3)) - position
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            _, cover, distance = buildings.trace(position, rays)
            steps = np.arange(0, 900, 0.25)
            points = position + steps[:, None, None] * rays
            inside = np.zeros(points.shape[:2], bool)
            for box in buildings.boxes:
                inside |= ((points >= box.low) & (points <= box.high)).all(2)
            met = inside.any(0)
            first = steps[inside.argmax(0)]
            assert ((cover == 1) == met).mean() > 0.96  # grazing rays pass between two steps
            both = met & (cover == 1)
            np.testing.assert_allclose(distance[both], first[both], atol=0.3)
            checked += int(both.sum())
    assert checked > 100


def test_shadows_fall_away_from_the_sun(scenes: list[Scene]) -> None:
    for scene in scenes[:10]:
        buildings = Buildings(scene, Taxiways(scene))
        assert np.linalg.norm(buildings.sun) == pytest.approx(1)
        box = buildings.boxes[0]
        middle = np.array([(box.low[0] + box.high[0]) / 2, (box.low[1] + box.high[1]) / 2, box.high[2]])
        tip = middle - 0.999 * buildings.sun * (box.high[2] / buildings.sun[2])
        eye = np.array([tip[0], tip[1], 500.0])
        colour, cover, _ = buildings.trace(eye, np.array([[0.0, 0.0, -1.0]]))
        assert cover[0] in (0.5, 1.0)  # under its own roof when the sun is high
        if cover[0] == 0.5:
            assert colour[0].tolist() == [0, 0, 0]


def test_no_building_hides_the_runway() -> None:
    hidden = 0
    for size, options in (
        ((96, 96), {}),
        ((96, 96), {"split": "roll"}),
        ((256, 256), {"distance": (150, 1000)}),
    ):
        dataset = data.runways(40, size, seed=31, **options)
        for k in range(40):
            scene = dataset.scene(k)
            camera = Camera(scene.pose, size)
            rows, columns = np.nonzero(label(scene, size))
            rays = camera.rays(columns + 0.5, rows + 0.5)
            _, cover, _ = Buildings(scene, Taxiways(scene)).trace(camera.position, rays)
            hidden += int((cover == 1).sum())
    assert hidden == 0


def test_pictures_are_bytes_of_the_right_shape(scenes: list[Scene]) -> None:
    drawn = render(scenes[0], (48, 80))
    assert drawn.image.shape == (48, 80, 3)
    assert drawn.image.dtype == drawn.mask.dtype == np.uint8
    assert drawn.image.std() > 10


@pytest.mark.parametrize(
    "change", [{"length": 0.0}, {"width": -3.0}, {"length": float("nan")}, {"number": 0}, {"letter": "X"}]
)
def test_impossible_runways_are_refused(scenes: list[Scene], change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no such runway can exist"):
        replace(scenes[0].runway, **change)


@pytest.mark.parametrize("size", [(0, 64), (64, -1), (64.0, 64)])
def test_impossible_sizes_are_refused(scenes: list[Scene], size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="size"):
        render(scenes[0], size)


def test_a_runway_beside_the_camera_has_no_label(scenes: list[Scene]) -> None:
    over_it = replace(scenes[0], pose=Pose(distance=200, lateral=0, glide=3, yaw=0, pitch=-3, roll=0))
    with pytest.raises(InputError, match="not wholly before the camera"):
        render(over_it, (64, 64))
