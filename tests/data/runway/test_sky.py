from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.data.runway.light import Sunlight, haze, transmission
from onelip.data.runway.scene import Light
from onelip.data.runway.sensor import expose
from onelip.data.runway.sky import Sky


def rays(n=3000, seed=0, low=-1.0):
    rng = np.random.default_rng(seed)
    up, turn = rng.uniform(low, 1, n), rng.uniform(-np.pi, np.pi, n)
    flat = np.sqrt(1 - up**2)
    return np.stack([flat * np.sin(turn), flat * np.cos(turn), up], 1).astype(np.float32)


def plain(scene, **changes):
    """A scene without clouds."""
    return replace(scene, light=Light(40, 130, 1.0, 0.0, False), **changes)


@given(
    index=st.integers(0, 10**6),
    elevation=st.floats(1, 90),
    clouds=st.floats(0, 1),
    exposure=st.floats(0.5, 1.5),
    visibility=st.floats(100, 2e5),
)
@settings(max_examples=60, deadline=None)
def test_the_sky_is_finite_and_in_range(scene, index, elevation, clouds, exposure, visibility):
    light = Light(elevation, 20, exposure, clouds, True)
    sky = Sky(replace(scene, index=index, light=light, visibility=visibility))
    colour = sky.colour(rays(500))
    assert colour.dtype == np.float32
    assert np.isfinite(colour).all()
    assert colour.min() >= 0
    assert colour.max() <= 1
    assert sky.horizon.shape == (3,)


def test_below_the_horizon_is_the_colour_of_the_haze(scene):
    for index in range(5):
        sky = Sky(plain(scene, index=index))
        sky.ridge = 0.0
        down = rays(500)
        down = down[down[:, 2] < 0]
        assert np.allclose(sky.colour(down), sky.horizon, atol=1e-6)


def test_the_clear_sky_goes_from_the_horizon_to_the_zenith(scene):
    sky = Sky(plain(scene))
    ramp = sky.gradient(np.linspace(0, 1, 100, dtype=np.float32))
    assert np.allclose(ramp[0], sky.horizon)
    assert np.allclose(ramp[-1], sky.zenith)
    assert (np.diff(ramp[:, 0]) <= 1e-6).all()


def test_more_cover_hides_more_sky(scene):
    view = rays(8000, low=0.08)
    changed = []
    for cover in (0.1, 0.5, 0.9):
        total = 0.0
        for index in range(6):
            cloudy = Sky(replace(scene, index=index, light=Light(40, 0, 1.0, cover, True)))
            cloudy.ridge = 0.0
            clear = cloudy.gradient(view[:, 2])
            total += float((np.abs(cloudy.colour(view) - clear).max(1) > 0.08).mean()) / 6
        changed.append(total)
    assert changed == sorted(changed)
    assert changed[0] < 0.35
    assert changed[2] > 0.5


def test_a_point_of_the_sky_has_the_same_colour_in_any_company(scene):
    sky, view = Sky(scene), rays()
    assert np.array_equal(sky.colour(view[::7]), sky.colour(view)[::7])
    assert np.array_equal(Sky(scene).colour(view), sky.colour(view))


@given(distance=st.floats(0, 1e6), visibility=st.floats(10, 1e6))
def test_transmission_has_its_closed_form(distance, visibility):
    passed = float(transmission(np.float32([distance]), visibility)[0])
    assert passed == pytest.approx(np.exp(-3.912 * distance / visibility), rel=1e-4, abs=1e-30)


def test_near_ground_keeps_its_colour_and_far_ground_takes_that_of_the_horizon(scene):
    sky = Sky(scene)
    colour = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    assert np.allclose(haze(colour, np.zeros(50, np.float32), scene, sky), colour, atol=1e-6)
    assert np.allclose(haze(colour, np.full(50, 1e7, np.float32), scene, sky), sky.horizon, atol=1e-6)
    between = haze(colour, np.full(50, 40e3, np.float32), scene, sky)
    assert np.allclose(between - sky.horizon, 0.02 * (colour - sky.horizon), atol=1e-4)


@pytest.mark.parametrize("visibility", [0.0, -1.0, float("nan"), float("inf")])
def test_haze_without_a_visibility_is_refused(visibility):
    with pytest.raises(InputError, match=r"haze cannot be computed.*positive number of metres"):
        transmission(np.float32([1]), visibility)


def test_without_cloud_shadows_the_light_is_the_same_everywhere(scene):
    sun = Sunlight(plain(scene))
    x, y = np.random.default_rng(0).uniform(-1e4, 1e4, (2, 500)).astype(np.float32)
    lit = sun.shade(np.full((500, 3), 0.4, np.float32), x, y, np.ones_like(x))
    assert np.allclose(lit, lit[0])
    assert np.allclose(lit[0], 0.4 * sun.sun)


def test_cloud_shadows_darken_and_never_brighten(scene):
    x, y = np.random.default_rng(0).uniform(-1e4, 1e4, (2, 5000)).astype(np.float32)
    albedo = np.full((5000, 3), 0.4, np.float32)
    sun = Sunlight(scene)
    ratio = sun.shade(albedo, x, y, np.ones_like(x)) / (albedo * sun.sun)
    assert ratio.max() <= 1 + 1e-6
    assert ratio.min() >= 0.49
    assert ratio[:, 2].std() > 0.02


def test_the_shade_of_clouds_has_the_same_mean_under_every_footprint(scene):
    x, y = np.random.default_rng(0).uniform(-8e4, 8e4, (2, 20_000)).astype(np.float32)
    for cover in (0.3, 0.6, 0.9):
        suns = [Sunlight(replace(scene, index=k, light=Light(40, 0, 1.0, cover, True))) for k in range(6)]
        means = [
            np.mean([s.shadowed(x, y, np.full_like(x, foot)).mean() for s in suns]) for foot in (1, 300, 5000)
        ]
        assert max(means) - min(means) < 0.05


def test_a_low_sun_is_warmer(scene):
    low, high = (Sunlight(replace(scene, light=Light(e, 0, 1.0, 0, False))).sun for e in (10.0, 70.0))
    assert low[0] / low[2] > high[0] / high[2] + 0.1
    assert low.mean() < high.mean()


def test_the_sensor_maps_grey_by_its_gamma_and_adds_little_noise(scene):
    for grey in (0.1, 0.5, 0.8):
        picture = expose(np.full((64, 64, 3), grey, np.float32), scene)
        assert picture.dtype == np.uint8
        assert picture.mean() == pytest.approx(255 * grey ** (1 / 1.12), abs=0.3)
        assert 0.003 * 255 * 0.9 < picture.std() < 0.014 * 255 * 1.1 + 0.3


def test_the_sensor_is_repeatable_and_clips(scene):
    image = np.linspace(-0.5, 1.5, 32 * 32 * 3).reshape(32, 32, 3)
    one = expose(image, scene)
    assert np.array_equal(one, expose(image, scene))
    assert (one != expose(image, replace(scene, index=1))).any()
    assert one[0, 0].max() < 20
    assert one[-1, -1].min() > 235
