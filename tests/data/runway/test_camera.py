"""The camera: axes, signs, closed forms of the projection, and the way back from pixels to the ground."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.data.runway.camera import Camera, focal
from onelip.data.runway.scene import Pose

LEVEL = Pose(distance=1300, lateral=0, glide=3, yaw=0, pitch=0, roll=0)


def _poses() -> st.SearchStrategy[Pose]:
    return st.builds(
        Pose,
        distance=st.floats(200, 5556),
        lateral=st.floats(-4, 4),
        glide=st.floats(2.2, 3.8),
        yaw=st.floats(-10, 10),
        pitch=st.floats(-8, 0),
        roll=st.floats(-12, 12),
    )


def _pixel(pose: Pose, point: tuple[float, float, float], size: tuple[int, int] = (256, 256)) -> np.ndarray:
    return Camera(pose, size).project(np.array([point]))[0][0]


@given(_poses())
def test_axes_are_orthonormal_and_right_handed(pose: Pose) -> None:
    forward, right, up = pose.axes
    axes = np.stack([right, forward, up])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_focal_length_of_lard() -> None:
    assert focal(2048) == pytest.approx(3401.6, abs=0.1)
    assert 2 * math.degrees(math.atan(1324 / focal(2048))) == pytest.approx(42.5, abs=0.05)


def test_projection_of_a_level_camera_is_similar_triangles() -> None:
    """Level flight: u = w/2 + f x / depth, v = h/2 + f height / depth."""
    height = 1300 * math.tan(math.radians(3))
    u, v = _pixel(LEVEL, (22.5, 0.0, 0.0), (128, 192))
    assert u == pytest.approx(96 + focal(128) * 22.5 / 1000)
    assert v == pytest.approx(64 + focal(128) * height / 1000)


def test_what_lies_ahead_of_the_axis_is_the_middle() -> None:
    pose = replace(LEVEL, yaw=7, pitch=-5, roll=9, lateral=3)
    camera = Camera(pose, (256, 320))
    pixels, depth = camera.project((pose.position + 700 * pose.axes[0])[None])
    np.testing.assert_allclose(pixels, [[160, 128]])
    assert depth[0] == pytest.approx(700)


def test_signs_of_the_angles() -> None:
    straight = _pixel(LEVEL, (0, 0, 0))
    assert _pixel(replace(LEVEL, yaw=5), (0, 0, 0))[0] < straight[0]  # looks right: the runway moves left
    assert _pixel(replace(LEVEL, pitch=-5), (0, 0, 0))[1] < straight[1]  # looks down: it moves up
    left, right = (_pixel(replace(LEVEL, roll=8), (x, 1e6, LEVEL.position[2])) for x in (-2e5, 2e5))
    assert left[1] > right[1]  # right wing down: the horizon rises toward the right
    assert LEVEL.position[0] == 0
    assert replace(LEVEL, lateral=2).position[0] < 0  # positive: on the left of the centreline


def test_position_lies_on_the_glide_path() -> None:
    x, y, z = replace(LEVEL, lateral=4, distance=2000).position
    assert math.hypot(x, y - 300) == pytest.approx(2000)
    assert z / 2000 == pytest.approx(math.tan(math.radians(3)))


@given(_poses(), st.floats(0, 256), st.floats(200, 256))
def test_a_ray_meets_the_ground_where_its_pixel_says(pose: Pose, u: float, v: float) -> None:
    camera = Camera(pose, (256, 256))
    rays = camera.rays(np.array([u]), np.array([v]))
    if not camera.sees_ground(rays)[0]:
        return
    hits = camera.ground(rays)
    pixels, _ = camera.project(np.array([[hits.x[0], hits.y[0], 0.0]], np.float64))
    np.testing.assert_allclose(pixels[0], [u, v], atol=0.02)  # the ground is kept in float32
    np.testing.assert_allclose(np.linalg.norm(rays), 1)


@given(_poses())
def test_footprints_are_the_derivatives_of_the_ground_point(pose: Pose) -> None:
    camera, step = Camera(pose, (256, 256)), 1e-3
    u, v = np.array([100.0, 100 + step, 100]), np.array([250.0, 250, 250 + step])
    rays = camera.rays(u, v)
    if not camera.sees_ground(rays).all():
        return
    reach = camera.position[2] / -rays[:, 2]
    points = camera.position[:2] + reach[:, None] * rays[:, :2]
    extent = np.hypot(*((points[1:] - points[0]) / step))
    hits, third = camera.ground(rays[:1]), camera.ground(rays[:1], step=1 / 3)
    np.testing.assert_allclose([hits.wx[0], hits.wy[0]], extent, rtol=2e-3)
    np.testing.assert_allclose(third.wx * 3, hits.wx, rtol=1e-5)


@given(_poses())
def test_sky_and_ground_meet_at_the_horizon(pose: Pose) -> None:
    camera = Camera(pose, (256, 256))
    v, u = (a.ravel() + 0.5 for a in np.mgrid[:256, :256])
    rays = camera.rays(u, v)
    assert (camera.sees_ground(rays) == (rays[:, 2] < -camera.dip)).all()
    assert 0 < camera.dip < 0.002


@pytest.mark.parametrize(
    "change", [{"glide": 0.0}, {"distance": -1.0}, {"yaw": math.nan}, {"distance": math.inf}]
)
def test_a_camera_below_the_ground_or_nowhere_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"sees no approach.*above the ground"):
        Camera(replace(LEVEL, **change), (64, 64))
