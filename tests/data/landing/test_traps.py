"""The eleven pitfalls of LARD's files and code, one test each, named after it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import pkgutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onelip import data
from onelip.data import landing
from onelip.data.landing.export import coco, record, row
from onelip.data.landing.geometry import convex_order, crosses
from onelip.data.landing.labels import Label, Repairs, label
from onelip.data.landing.schema import Row, read_table, write_table
from onelip.data.runway.scene import Pose
from onelip.data.runway.world import draw_scene

QUAD = ((40.0, 50.0), (50.0, 50.0), (30.0, 90.0), (70.0, 90.0))  # reading order


def labelled(corners=QUAD, **options) -> tuple[Label | None, Repairs]:
    repairs = Repairs()
    options = {"height": 120, "width": 160, "type": "earth_studio", **options}
    return label(Row(image="a.png", corners=corners, **options), repairs), repairs


def posed(index: int, pose: Pose | None = None, *, number: int | None = None) -> Row:
    """The row that is written for a drawn scene with another pose or runway number."""
    dataset = data.runways(8, 64)
    rendered = dataset.rendered(index)
    scene = rendered.scene
    runway = dataclasses.replace(scene.runway, number=number or scene.runway.number)
    scene = dataclasses.replace(scene, pose=pose or scene.pose, runway=runway)
    return row(record(dataclasses.replace(rendered, scene=scene), index))


def database() -> dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]:
    for root in data.roots():
        path = root / "lard" / "runways_database.json"
        if path.is_file():
            return json.loads(path.read_text())
    pytest.skip("LARD's runways_database.json is not in ONELIP_DATA")


def flat(entry) -> np.ndarray:
    """The corners of a database entry as metres on the ground around their centre, in the order A, B, C, D."""
    points = np.array([[entry[c]["position"][axis] for axis in "xyz"] for c in "ABCD"])
    centre = points.mean(0)
    up = centre / np.linalg.norm(centre)
    east = np.cross([0.0, 0.0, 1.0], up)
    east /= np.linalg.norm(east)
    return (points - centre) @ np.array([east, np.cross(up, east)]).T


def test_1_validity_is_that_of_the_picture_not_of_a_transposed_one():
    # LARD's test takes (height, width) for a corner of the picture. Both pictures lie on the wrong side of that.
    beyond = ((2500.0, 1300.0), (2600.0, 1300.0), (2450.0, 1400.0), (2640.0, 1400.0))
    known, repairs = labelled(beyond, height=2648, width=2448, watermark_height=300)
    assert known is None
    assert repairs.found["nothing left"] == ["a.png"]
    corner = ((2300.0, 2240.0), (2340.0, 2240.0), (2280.0, 2330.0), (2420.0, 2330.0))
    known, repairs = labelled(corner, height=2648, width=2448, watermark_height=300)
    assert known.box.tolist() == [2280.5, 1940.5, 2420.5, 2030.5]
    assert not {"outside", "in band"} & set(repairs.found)


def test_2_crossing_database_entries_are_put_in_order():
    entries = [(airport, name, flat(e)) for airport, names in database().items() for name, e in names.items()]
    assert len(entries) == 115
    assert sum(crosses(points) for *_, points in entries) == 23
    for airport, name, points in entries:
        ordered = convex_order(points)
        assert not crosses(ordered), (airport, name)
        sides = np.sort(np.linalg.norm(ordered - np.roll(ordered, 1, axis=0), axis=1))
        assert 28 < sides[0] <= sides[1] < 62 < 1100 < sides[2] <= sides[3] < 4200, (airport, name)
        assert sides[3] - sides[2] < 30, (airport, name)


def test_3_the_lateral_angle_of_the_table_is_not_that_of_the_cone():
    pose = Pose(distance=5556.0, lateral=4.0, glide=3.0, yaw=0.0, pitch=0.0, roll=0.0)
    written = posed(0, pose)
    assert written.lateral_path_angle == pytest.approx(
        -2.68, abs=0.01
    )  # on the left; the table counts from 3,050 m
    nearer = posed(0, dataclasses.replace(pose, distance=1000.0))
    assert nearer.lateral_path_angle == pytest.approx(-1.06, abs=0.01)
    assert "compare neither" in " ".join(inspect.getdoc(Row).split())


def test_4_negative_along_track_is_marked():
    past = posed(0, Pose(distance=150.0, lateral=0.0, glide=3.0, yaw=0.0, pitch=-2.0, roll=0.0))
    assert past.along_track_distance == -150.0  # 150 m before the aiming point are 150 m behind the threshold
    known, repairs = labelled(along_track_distance=-150.0, height_above_runway=8.0, pitch=-2.0)
    assert known is not None
    assert repairs.found["past the threshold"] == repairs.found["near plane"] == ["a.png"]
    _, repairs = labelled(along_track_distance=400.0, height_above_runway=30.0, pitch=-2.0)
    assert not {"past the threshold", "near plane"} & set(repairs.found)


def test_5_truncated_corners_are_moved_by_half_a_pixel():
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(400):
        true = convex_order(np.array(QUAD) + rng.uniform(-2, 2, (4, 2)))
        known, repairs = labelled(landing.schema.reading_order(true.tolist(), 160))
        assert repairs.found["truncated"] == ["a.png"]
        shifts.append((known.polygon - true).mean())
    assert abs(np.mean(shifts)) < 0.02  # without the repair it is -0.5
    exact = tuple((x + 0.25, y) for x, y in QUAD)
    known, repairs = labelled(exact)  # fractions were never truncated
    assert "truncated" not in repairs.found
    assert np.allclose(known.polygon, convex_order(exact))
    left = (
        (-3.0, 50.0),
        (50.0, 50.0),
        (-3.0, 90.0),
        (70.0, 90.0),
    )  # int() goes toward zero on both sides of it
    assert labelled(left)[0].polygon[:, 0].min() == -3.5


def test_6_yaw_is_an_azimuth_from_north():
    pose = Pose(distance=1500.0, lateral=0.0, glide=3.0, yaw=5.0, pitch=-4.0, roll=2.0)
    assert posed(0, pose, number=36).yaw == pytest.approx(5.0)  # a runway to the north
    assert posed(0, pose, number=9).yaw == pytest.approx(95.0)  # to the east
    assert posed(0, dataclasses.replace(pose, yaw=-5.0), number=36).yaw == pytest.approx(355.0)


def test_7_height_has_no_sign():
    path_height = posed(
        0, Pose(distance=2000.0, lateral=0, glide=3.0, yaw=0, pitch=0, roll=0)
    ).height_above_runway
    assert path_height == pytest.approx(2000.0 * math.tan(math.radians(3)))
    below = Pose(distance=2000.0, lateral=0, glide=-1.0, yaw=0, pitch=0, roll=0)
    assert posed(0, below).height_above_runway == pytest.approx(2000.0 * math.tan(math.radians(1)))


def test_8_bands_are_cropped_exactly_once(tmp_path):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    write_table(tmp_path / "t.csv", [Row("a.png", 120, 160, watermark_height=20, corners=QUAD)])
    read = {}
    for kind, pixels in (("with bands", whole), ("cropped before", whole[20:100])):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        dataset = data.lard(tmp_path / "t.csv")
        read[kind] = dataset.read(0)
        assert np.array_equal(read[kind][0], whole[20:100])
        assert dataset.boxes[0].tolist() == [30.5, 30.5, 70.5, 70.5]
    assert np.array_equal(read["with bands"][1], read["cropped before"][1])
    # A table of the cropped size, which still names the band: its corners count from the top of what is left.
    known, repairs = labelled(
        ((1.0, 9.0), (9.0, 9.0), (1.0, 50.0), (9.0, 50.0)), height=2048, width=2448, watermark_height=300
    )
    assert (known.size, known.band, known.box[1]) == ((2048, 2448), 0, 9.5)
    assert "already cropped" in repairs.found


def test_8_nothing_is_normalised_or_cropped_unless_asked():
    for function in (landing.write, landing.write_table, data.lard, data.runways):
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.default is not True, (function, parameter)
            assert parameter.default not in ("False", "True"), (function, parameter)
    dataset = data.runways(2, 64)
    (annotation, _) = coco([record(dataset.rendered(k), k) for k in range(2)])["annotations"]
    x1, y1, x2, y2 = dataset.box(0)
    assert annotation["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])  # pixels, from the top-left corner


def test_9_corners_in_a_band_are_clipped_or_dropped():
    across = ((40.0, 10.0), (50.0, 10.0), (30.0, 50.0), (70.0, 50.0))
    known, repairs = labelled(across, watermark_height=20)
    assert repairs.found["in band"] == ["a.png"]
    assert known.box[1] == 0.0
    assert known.polygon[:, 1].min() == -9.5  # the corner itself stays known
    known, repairs = labelled(((40.0, 2.0), (50.0, 2.0), (30.0, 15.0), (70.0, 15.0)), watermark_height=20)
    assert known is None
    assert repairs.found["nothing left"] == ["a.png"]
    assert repairs.dropped == 1


def test_10_no_default_is_shared():
    for found in pkgutil.walk_packages(landing.__path__, "onelip.data.landing."):
        for name, value in vars(import_module(found.name)).items():
            if dataclasses.is_dataclass(value):
                for field in dataclasses.fields(value):
                    assert not isinstance(field.default, list | dict | set | np.ndarray), (name, field)
    first, second = landing.Recipe(n=1, size=(64, 64)), landing.Recipe(n=1, size=(64, 64))
    assert first.options is not second.options
    assert Repairs().found is not Repairs().found


def test_11_labels_from_the_near_plane_are_marked():
    # 20 m before the threshold, low, nose up: the near corners are closer than LARD's projection allows.
    _, repairs = labelled(along_track_distance=5.0, height_above_runway=3.0, pitch=0.0)
    assert repairs.found["near plane"] == ["a.png"]
    assert "past the threshold" not in repairs.found
    _, repairs = labelled(along_track_distance=5.0, height_above_runway=3.0)  # no pitch: taken as level
    assert "near plane" in repairs.found
    _, repairs = labelled()  # real pictures have no pose: nothing can be said
    assert "near plane" not in repairs.found
    scene = draw_scene(data.runways(1, 64).world, 0, 0, (64, 64))
    assert -scene.pose.position[1] > 1.0  # ours never come so close


def test_the_test_labels_of_lard_are_read_whole(request):
    for root in data.roots():
        path: Path = root / "lard" / "lard_test_labels.csv"
        if path.is_file():
            break
    else:
        pytest.skip("lard_test_labels.csv is not in ONELIP_DATA")
    rows = read_table(path)
    assert len(rows) == 2315
    dataset = data.lard(path)
    found = dataset.repairs.found
    assert len(dataset) == 2315
    assert dataset.label_only
    assert found["outside"] == ["LICJ_02_35_29.jpeg", "LWSK_16_35_23.jpeg", "ZBAA_19_35_32.jpeg"]
    assert "box differs" not in found  # the boxes of the table are those of its corners
    assert len(found["reordered"]) > 2000
    for box, entry in zip(dataset.boxes, dataset.entries, strict=True):
        h, w = entry.label.size
        assert 0 <= box[0] < box[2] <= w
        assert 0 <= box[1] < box[3] <= h
    facts = data.inspect(dataset)
    assert facts["types"] == {
        "synth": 2212,
        "real_nominal": 64,
        "real_edge": 22,
        "real_domain_adaptation": 17,
    }
    assert facts["stored_sizes"]["2648x2448"] == 2212
