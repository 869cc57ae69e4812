"""Toy clouds, level sets, histograms and bars: what is drawn is what the detector says."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError

from onelip.core.errors import InputError
from onelip.oneclass import CertifiedKNN, SignedDistance
from onelip.oneclass.clouds import CLOUDS, cloud
from onelip.oneclass.pictures import BOUNDARY, contribution_bars, level_sets, score_histogram


@pytest.fixture(scope="module")
def knn():
    return CertifiedKNN(k=3, contamination=0.05).fit(cloud("two moons", 200))


@pytest.fixture(scope="module")
def network():
    X = np.random.RandomState(0).normal(size=(200, 3)) * [1, 10, 0.1] + [0, 5, 0]
    return SignedDistance(steps=60, random_state=0).fit(X)


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_are_seeded_and_where_they_should_be(name):
    rows = cloud(name, 501, seed=3)
    assert rows.shape == (501, 2)
    assert np.array_equal(rows, cloud(name, 501, seed=3))
    assert not np.array_equal(rows, cloud(name, 501, seed=4))
    sharp, blurred = cloud(name, 501, noise=0.0), cloud(name, 501, noise=0.05)
    if name in ("one cloud", "ring"):
        radius = np.linalg.norm(sharp, axis=1)
        assert radius.max() <= 1 + 1e-12
        assert (radius.min() > 0.999) == (name == "ring")
    else:
        # no part is empty, and they do not touch: the gap between the parts is far beyond the spacing of points
        distance = np.sort(np.linalg.norm(sharp - sharp[0], axis=1))
        assert distance[-1] > 1.2
    assert 0.02 < blurred.std() - sharp.std() + 0.05 < 0.08


def test_parts_of_the_clouds():
    blob = np.linalg.norm(cloud("blob and cloud", 400, noise=0.0) - [-1.3, 0.8], axis=1)
    assert (blob <= 0.15).sum() == 100
    two = cloud("two clouds", 400, noise=0.0)
    assert (np.linalg.norm(two - [1, 0.6], axis=1) <= 0.55).sum() == 200
    moons = cloud("two moons", 400, noise=0.0)
    on = np.abs(np.linalg.norm(moons - [-0.5, -0.25], axis=1) - 1) < 1e-9
    assert on.sum() == 200


def test_clouds_refuse():
    with pytest.raises(InputError, match=r"unknown cloud.*\n?.*two moons"):
        cloud("three moons")
    with pytest.raises(InputError, match="too few points"):
        cloud("ring", 3)
    with pytest.raises(InputError, match="noise"):
        cloud("ring", noise=-1)


def contours(figure, axes):
    """Vertices of the lines at the threshold."""
    from matplotlib.colors import to_rgba

    sets = [c for c in axes.collections if hasattr(c, "get_paths") and hasattr(c, "levels")]
    return [s for s in sets if np.allclose(s.get_edgecolor()[:, :3], to_rgba(BOUNDARY)[:3])]


def test_level_sets_draw_the_threshold_and_the_band(knn):
    X = cloud("two moons", 200)
    figure = level_sets(knn, X, [[2.0, 2.0]], arrows=True, radius=0.1, resolution=300)
    axes = figure.axes[0]
    threshold, band = contours(figure, axes)
    vertices = np.concatenate([path.vertices for path in threshold.get_paths()])
    assert np.abs(knn.decision_function(vertices)).max() < 0.02
    assert list(band.levels) == pytest.approx([knn.offset_ - 0.1, knn.offset_ + 0.1][: len(band.levels)])
    vertices = np.concatenate([path.vertices for path in band.get_paths()])
    assert np.abs(np.abs(knn.decision_function(vertices)) - 0.1).max() < 0.02
    # a square of standardised units, with the data and the anomaly inside
    spans = np.array([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())]) / knn.scale_
    assert spans[0] == pytest.approx(spans[1])
    assert axes.get_xlim()[1] > 2.0 < axes.get_ylim()[1]


def test_arrows_point_to_higher_scores(knn):
    axes = level_sets(knn, cloud("two moons", 200), arrows=True, resolution=150).axes[0]
    (quiver,) = [c for c in axes.collections if type(c).__name__ == "Quiver"]
    start, way = quiver.get_offsets(), np.column_stack((quiver.U, quiver.V))
    outside = knn.decision_function(start) < -0.3
    assert outside.sum() > 20
    rise = knn.score_samples(start + 0.02 * way) - knn.score_samples(start)
    assert (rise[outside] > 0).mean() > 0.98


def test_any_detector_is_drawn_but_no_radius_without_a_constant():
    X = cloud("ring", 100)
    forest = IsolationForest(n_estimators=10, random_state=0).fit(X)
    assert level_sets(forest, X, resolution=30).axes
    for draw in (lambda: level_sets(forest, X, radius=0.1), lambda: score_histogram(forest, X, eps=0.1)):
        with pytest.raises(InputError, match="no proven constant"):
            draw()


def test_histogram(knn):
    X = cloud("two moons", 200)
    figure = score_histogram(knn, X, X + 3, eps=0.2, bins=20)
    axes = figure.axes[0]
    heights = [patch.get_height() for patch in axes.patches if hasattr(patch, "get_height")]
    assert sum(heights[:40]) == pytest.approx(2)
    assert [t.get_text() for t in axes.get_legend().get_texts()][:2] == ["normal (200)", "anomalies (200)"]
    left = axes.lines[0].get_xdata()[0]
    assert left == knn.offset_
    with pytest.raises(InputError, match="eps"):
        score_histogram(knn, X, eps=-1)


def test_bars_sum_to_minus_the_decision_and_name_the_target(network):
    x = np.array([3.0, 60.0, 0.0])
    figure = contribution_bars(network, x, names=["a", "b", "c"], top=2)
    bars = [patch.get_width() for patch in figure.axes[0].patches]
    assert len(bars) == 3
    assert sum(bars) == pytest.approx(-network.decision_function([x])[0])
    assert abs(bars[0]) >= abs(bars[1])
    texts = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert texts[2] == "1 others"
    first = "abc".index(texts[0][0])
    g = network.gradient([x])[0]
    target = x - network.decision_function([x])[0] * network.scale_ * g / (g @ g)
    assert texts[0].endswith(f"{target[first]:.4g}")
    # the target is nearer to normal
    assert network.decision_function([target])[0] > network.decision_function([x])[0]


def test_refusals(knn, network):
    with pytest.raises(InputError, match="no contributions"):
        contribution_bars(knn, [0.0, 0.0])
    with pytest.raises(InputError, match="of one row"):
        contribution_bars(network, [[0.0, 0.0, 0.0]] * 2)
    with pytest.raises(InputError, match="one name for each"):
        contribution_bars(network, [0.0, 0.0, 0.0], names=["a"])
    with pytest.raises(InputError, match="in the plane"):
        level_sets(network, np.zeros((5, 3)))
    with pytest.raises(InputError, match="NaN"):
        level_sets(knn, [[np.nan, 0.0]])
    with pytest.raises(NotFittedError):
        level_sets(CertifiedKNN(), [[0.0, 0.0]])
