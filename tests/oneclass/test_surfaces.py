"""Shapes in closed form, meshes of their fields, files, distances between surfaces, learned fields."""

import sys

import numpy as np
import pytest

from onelip.core.errors import InputError, MissingExtraError
from onelip.oneclass.mesh import Mesh, chamfer, hausdorff, march
from onelip.oneclass.shapes import Box, Sphere, Torus
from onelip.oneclass.surface import fit_surface, sides, winding

SHIFT = np.array([10.0, 0.0, 0.0])
SHAPES = [Sphere(0.8), Torus(1.0, 0.35), Box((1.2, 0.7, 0.4))]
TETRAHEDRON = Mesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_distances_are_distances(shape):
    surface, normals = shape.sample(40_000, 1)
    assert np.abs(shape.distance(surface)).max() < 1e-12
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    # along the normal the distance falls by the step, and inside it rises
    np.testing.assert_allclose(shape.distance(surface + 0.2 * normals), -0.2, atol=1e-12)
    inwards = shape.distance(surface - 0.01 * normals)
    assert ((inwards > 0) & (inwards <= 0.01 + 1e-12)).all()
    points = np.random.default_rng(0).uniform(-2, 2, (300, 3))
    brute = np.linalg.norm(points[:, None] - surface[None, ::8], axis=2).min(axis=1)
    off = brute - np.abs(shape.distance(points))
    assert off.min() > -1e-12
    assert off.max() < 0.1


def test_samples_are_uniform():
    torus = Torus(1.0, 0.5).sample(50_000)[0]
    outer = (np.hypot(torus[:, 0], torus[:, 1]) > 1).mean()
    assert outer == pytest.approx(0.5 + 0.5 / np.pi, abs=0.01)
    box = Box((1.0, 2.0, 4.0)).sample(50_000)[0]
    share = (np.abs(box[:, 0]) == 1).mean()
    assert share == pytest.approx(8 / 14, abs=0.01)


def test_chamfer_and_hausdorff():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(60, 3)), random.normal(size=(50, 3))
    pairs = np.linalg.norm(a[:, None] - b, axis=2)
    assert chamfer(a, b) == pytest.approx(pairs.min(1).mean() + pairs.min(0).mean())
    assert chamfer(a, b, p=2) == pytest.approx((pairs**2).min(1).mean() + (pairs**2).min(0).mean())
    assert hausdorff(a, b) == pytest.approx(max(pairs.min(1).max(), pairs.min(0).max()))
    assert chamfer(a, a) == hausdorff(a, a) == 0
    with pytest.raises(InputError, match="no points in space"):
        chamfer(a[:, :2], b)
    with pytest.raises(InputError, match="unknown power"):
        chamfer(a, b, p=3)


def test_mesh_measures():
    assert TETRAHEDRON.volume == pytest.approx(1 / 6)
    assert TETRAHEDRON.area == pytest.approx(1.5 + np.sqrt(3) / 2)
    assert TETRAHEDRON.closed
    assert not Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:3]).closed
    assert not Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:, [1, 0, 2]][[0]]).closed
    points = TETRAHEDRON.sample(20_000)
    assert (points >= -1e-12).all()
    assert (points.sum(axis=1) <= 1 + 1e-12).all()
    # the slanted face holds its part of the area
    assert np.isclose(points.sum(axis=1), 1).mean() == pytest.approx(
        np.sqrt(3) / 2 / TETRAHEDRON.area, abs=0.01
    )


@pytest.mark.parametrize("suffix", ["obj", "off", "ply"])
def test_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    TETRAHEDRON.save(path)
    lines = path.read_text().splitlines()
    if suffix == "obj":
        vertices = [line.split()[1:] for line in lines if line.startswith("v ")]
        faces = [[int(k) - 1 for k in line.split()[1:]] for line in lines if line.startswith("f ")]
    else:
        start = 2 if suffix == "off" else lines.index("end_header") + 1
        assert lines[0] == suffix.upper() if suffix == "off" else lines[:2] == ["ply", "format ascii 1.0"]
        assert "4 4 0" in lines or {"element vertex 4", "element face 4"} <= set(lines)
        vertices = [line.split() for line in lines[start : start + 4]]
        body = [line.split() for line in lines[start + 4 :]]
        assert all(line[0] == "3" for line in body)
        faces = [[int(k) for k in line[1:]] for line in body]
    assert np.array_equal(np.array(vertices, dtype=float), TETRAHEDRON.vertices)
    assert np.array_equal(faces, TETRAHEDRON.faces)


def test_unknown_format(tmp_path):
    with pytest.raises(InputError, match=r"unknown format.*\.ply"):
        TETRAHEDRON.save(tmp_path / "a.stl")
    assert not list(tmp_path.iterdir())


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"scikit-image.*\n?.*onelip\[surfaces\]"):
        march(Sphere().distance, [-2] * 3, [2] * 3)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_marching_cubes_of_analytic_fields(shape):
    pytest.importorskip("skimage")
    mesh = march(shape.distance, [-1.6] * 3, [1.6] * 3, resolution=48)
    truth = shape.sample(8000)[0]
    cell = 3.2 / 48
    assert np.abs(shape.distance(mesh.vertices)).max() < cell / 2
    assert mesh.closed
    assert mesh.volume > 0
    floor = chamfer(shape.sample(8000, 1)[0], truth)
    assert chamfer(mesh.sample(8000), truth) < floor + cell / 2
    assert hausdorff(mesh.sample(8000), truth) < 3 * cell
    # another level is another surface
    wider = march(shape.distance, [-1.6] * 3, [1.6] * 3, level=-0.1, resolution=48)
    assert np.abs(shape.distance(wider.vertices) + 0.1).max() < cell / 2
    assert wider.volume > mesh.volume


def test_axes_keep_their_order():
    pytest.importorskip("skimage")
    box, shift = Box((1.2, 0.7, 0.4)), np.array([3.0, -2.0, 0.5])
    mesh = march(
        lambda p: box.distance(p - shift),
        shift - [1.5, 1.0, 0.6],
        shift + np.array([1.6, 1.0, 0.7]),
        resolution=60,
    )
    np.testing.assert_allclose(mesh.vertices.min(axis=0), shift - box.half, atol=0.03)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), shift + box.half, atol=0.03)
    assert mesh.volume == pytest.approx(8 * np.prod(box.half), rel=0.03)
    # something that no axis shares
    lean = march(lambda p: 1 - p @ [1.0, 2.0, 4.0], [0.0] * 3, [1.0] * 3, resolution=16)
    np.testing.assert_allclose(lean.vertices @ [1.0, 2.0, 4.0], 1, atol=1e-6)


def test_march_refuses():
    pytest.importorskip("skimage")
    with pytest.raises(InputError, match="no box"):
        march(Sphere().distance, [0, 0, 0], [1, 0, 1])
    with pytest.raises(InputError, match="does not cross the level"):
        march(Sphere().distance, [2.0] * 3, [3.0] * 3)
    with pytest.raises(InputError, match="NaN"):
        march(lambda p: np.full(len(p), np.nan), [2.0] * 3, [3.0] * 3)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_winding_number_tells_the_sides(shape):
    points, normals = shape.sample(2000)
    queries = np.random.default_rng(0).uniform(-1.5, 1.5, (2000, 3))
    true = shape.distance(queries)
    clear = np.abs(true) > 0.1
    found = winding(points, 3 * normals, queries)
    assert ((found > 0.5) == (true > 0))[clear].mean() > 0.999
    inside, outside = sides(points, normals, 500, seed=1)
    assert inside.shape == (500, 3)
    assert (shape.distance(inside) > -0.1).all()
    assert (shape.distance(outside) < 0.1).all()


def test_normals_that_fit_nothing():
    points, normals = Sphere().sample(200)
    with pytest.raises(InputError, match="enclose nothing"):
        fit_surface(points, -normals)
    with pytest.raises(InputError, match="one normal for each point"):
        fit_surface(points, normals[:-1])
    with pytest.raises(InputError, match="n >= 16"):
        fit_surface(points[:5])
    with pytest.raises(InputError, match="all in one place"):
        fit_surface(np.ones((20, 3)))
    with pytest.raises(InputError, match="unknown level"):
        fit_surface(points, level="zero")
    with pytest.raises(InputError, match="NaN"):
        fit_surface(np.full((20, 3), np.nan))


@pytest.fixture(scope="module")
def field():
    points, normals = Sphere(5.0).sample(1000)
    return fit_surface(points + SHIFT, normals, steps=150, width=32, interior=1000, random_state=0)


def test_learned_field(field):
    queries = np.random.default_rng(0).uniform(-8, 8, (1000, 3))
    true = Sphere(5.0).distance(queries)
    found = field(queries + SHIFT)
    assert np.corrcoef(found, true)[0, 1] > 0.95
    assert ((found > 0) == (true > 0)).mean() > 0.9
    # Lipschitz in the units of the points
    moved = queries + np.random.default_rng(1).normal(size=queries.shape)
    rise = np.abs(field(moved + SHIFT) - found)
    assert (rise <= field.lipschitz * np.linalg.norm(moved - queries, axis=1) + 1e-9).all()


def test_clearance_is_free_of_the_surface(field):
    random = np.random.default_rng(2)
    queries = random.uniform(-8, 8, (200, 3)) + SHIFT
    radius = field.clearance(queries)
    assert (radius >= 0).all()
    assert radius.mean() > 0.5
    ways = random.normal(size=(50, 200, 3))
    ways *= radius[:, None] / np.linalg.norm(ways, axis=2, keepdims=True)
    sign = np.sign(field(queries))
    assert (np.sign(field((queries + ways).reshape(-1, 3))).reshape(50, 200) == sign).all()


def test_learned_mesh_and_its_picture(field):
    pytest.importorskip("skimage")
    mesh = field.mesh(resolution=24)
    assert chamfer(mesh.sample(4000), Sphere(5.0).sample(4000)[0] + SHIFT) < 1.5
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 125, rel=0.3)
    assert mesh.figure().axes


def test_points_alone_give_a_shell():
    points = Sphere(1.0).sample(600)[0]
    shell = fit_surface(points, level="points", steps=100, width=16, random_state=0)
    assert np.median(shell(points)) == pytest.approx(0, abs=1e-12)
    assert (shell([[3.0, 0, 0], [0, -3.0, 0]]) < -0.3).all()
