"""One scene that the tests of land and sky vary."""

import pytest

from onelip.data.runway.scene import Light, Pose, Runway, Scene


@pytest.fixture(scope="session")
def scene():
    """Half a sky of clouds with their shadows, 2 km before the runway."""
    return Scene(
        seed=1,
        index=0,
        biome="temperate",
        runway=Runway(2800, 45, 27, "L", 0.3, 0.9, 0.2, 7, 60, 0.5),
        visible=True,
        second=None,
        second_offset=(0.0, 0.0),
        pose=Pose(2000, 0, 3, 0, -4, 0),
        light=Light(40, 130, 1.0, 0.5, True),
        visibility=40e3,
    )
