from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onelip.core.errors import InputError
from onelip.data.runway.ground import Ground
from onelip.data.runway.land import Land
from onelip.data.runway.scene import BIOMES

N = 20_000


@pytest.fixture(scope="module")
def lands(scene):
    """One land of each biome."""
    return {biome: Land(replace(scene, biome=biome)) for biome in BIOMES}


def around(n=N, reach=20e3, footprint=1.0, seed=0, down=0.2):
    """Random points, one footprint, lines of sight of one slope in random directions."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-reach, reach, (2, n)).astype(np.float32)
    turn, flat = rng.uniform(-0.4, 0.4, n), np.sqrt(1 - down**2)
    view = np.stack([flat * np.sin(turn), flat * np.cos(turn), np.full(n, -down)], 1).astype(np.float32)
    feet = np.full(n, footprint, np.float32)
    return x, y, feet, feet, view


@given(
    biome=st.sampled_from(BIOMES),
    points=hnp.arrays(np.float32, (9, 2), elements=st.floats(-(2.0**40), 2.0**40, width=32)),
    iso=hnp.arrays(np.float32, 9, elements=st.floats(0, 2.0**40, width=32)),
    stretch=st.floats(0.5, 50),
    rays=hnp.arrays(np.float32, (9, 2), elements=st.floats(-1, 1, width=32)),
)
@settings(max_examples=150, deadline=None)
def test_colours_are_finite_and_in_range_for_all_finite_points(lands, biome, points, iso, stretch, rays):
    view = np.concatenate([rays, np.full((9, 1), -0.05, np.float32)], 1)
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    colour = lands[biome].colour(points[:, 0], points[:, 1], iso, iso * np.float32(stretch), view)
    assert colour.shape == (9, 3)
    assert colour.dtype == np.float32
    assert np.isfinite(colour).all()
    assert colour.min() >= 0
    assert colour.max() <= 1


@pytest.mark.parametrize("biome", BIOMES)
def test_a_point_has_the_same_colour_in_any_company(lands, biome):
    inputs = around(4000, 3000, 2.0)
    whole = lands[biome].colour(*inputs)
    order = np.random.default_rng(1).permutation(4000)[:1000]
    assert np.array_equal(lands[biome].colour(*(a[order] for a in inputs)), whole[order])


def test_the_same_scene_gives_the_same_land_and_another_index_another_one(lands, scene):
    inputs = around(4000)
    again = Land(replace(scene, biome="coast")).colour(*inputs)
    assert np.array_equal(again, lands["coast"].colour(*inputs))
    other = Land(replace(scene, biome="coast", index=1)).colour(*inputs)
    assert np.abs(other - again).mean() > 0.02


@pytest.mark.parametrize("biome", BIOMES)
def test_footprints_keep_the_mean_and_take_the_contrast(scene, biome):
    lands = [Land(replace(scene, biome=biome, index=k)) for k in range(3)]
    means, spreads = [], []
    for footprint in (1.0, 10.0, 60.0, 400.0):
        colours = [land.colour(*around(footprint=footprint)) for land in lands]
        means.append(np.mean([c.mean() for c in colours]))
        spreads.append(np.mean([c.std(0).mean() for c in colours]))
    assert max(means) - min(means) < 0.035
    assert (np.diff(spreads) < 0).all()
    assert spreads[-1] < 0.75 * spreads[0]


def test_biomes_differ(lands):
    means = [land.colour(*around()).mean(0) for land in lands.values()]
    gaps = [np.abs(a - b).max() for k, a in enumerate(means) for b in means[:k]]
    assert min(gaps) > 0.005
    green = dict(zip(lands, means, strict=True))
    assert green["temperate"][1] > green["temperate"][0]
    assert green["desert"][0] > green["desert"][1]


@pytest.mark.parametrize("biome", BIOMES)
def test_the_aerodrome_is_grass_alone(scene, biome):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-120, 120, N).astype(np.float32), rng.uniform(0, 2800, N).astype(np.float32)
    for index in range(4):
        land = Land(replace(scene, biome=biome, index=index))
        colour = land.colour(x, y, *around(down=0.1)[2:])
        assert np.abs(colour - colour.mean(0)).max() < 0.3
        assert colour.std(0).max() < 0.06


def test_the_aerodrome_holds_the_second_runway_too(scene):
    beside = replace(scene, second=scene.runway, second_offset=(800.0, 300.0))
    ground = Ground.seen(
        np.float32([800, 800]), np.float32([400, 3000]), *(np.ones(2, np.float32),) * 2, around(2)[4]
    )
    assert (Land(beside).aerodrome.distance(ground) < -60).all()
    assert (Land(scene).aerodrome.distance(ground) > 60).all()


def test_sunlight_side_of_relief_turns_with_the_sun(scene):
    inputs = around(footprint=20.0)
    ground = Ground.seen(*inputs)
    far = np.full(N, 1e4, np.float32)
    one, two = (Land(replace(scene, light=replace(scene.light, azimuth=a))).relief for a in (90.0, 270.0))
    assert np.corrcoef(one.gain(ground, far), two.gain(ground, far))[0, 1] < -0.5
    assert (one.gain(ground, np.zeros_like(far)) == 1).all()


@given(nx=st.floats(0, 6.3), long=st.floats(1, 100), share=st.floats(0.01, 1))
def test_footprints_across_a_direction_are_those_of_an_ellipse(nx, long, share):
    short = long * share
    iso = np.float32([np.cbrt(short * long**2)])
    view = np.float32([[0, 0.9, -np.sqrt(0.19)]])
    at = np.zeros(1, np.float32)
    ground = Ground.seen(at, at, iso, np.float32([0.7 * long]), view)
    if 0.7 * long < float(iso[0]):  # looking down: the long side is not told apart
        return
    width = ground.across(float(np.cos(nx)), float(np.sin(nx)))[0]
    assert width == pytest.approx(np.hypot(short * np.cos(nx), long * np.sin(nx)), rel=2e-3)


def test_raised_planes_are_met_nearer_to_the_camera():
    ground = Ground.seen(*around(100, down=0.1))
    raised = ground.moved(10.0)
    assert np.hypot(raised.x - ground.x, raised.y - ground.y) == pytest.approx(
        np.full(100, 10 * np.sqrt(0.99) / 0.1), rel=1e-3
    )
    assert ((raised.y - ground.y) < 0).all()


def test_bad_points_are_refused(lands, scene):
    x, y, iso, sharp, view = around(10)
    land = lands["temperate"]
    with pytest.raises(InputError, match="NaN or infinite"):
        land.colour(np.where(np.arange(10) == 3, np.nan, x), y, iso, sharp, view)
    with pytest.raises(InputError, match=r"received shapes .*expected x, y, iso, sharp of shape \(N,\)"):
        land.colour(x, y, iso, sharp, view[:5])
    with pytest.raises(InputError, match=r"no such biome.*temperate"):
        Land(replace(scene, biome="moon"))
