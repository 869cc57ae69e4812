"""The reader of LARD against brute force, on sets made here, and on what the renderer writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from onelip import data
from onelip.apps.cli import main
from onelip.core.errors import DataError, InputError
from onelip.data.landing import Recipe, Row, write, write_table
from onelip.data.landing.geometry import clip, convex_order, crosses, dent, rasterise
from onelip.data.runway.mask import area, box

SIZE = (60, 80)
QUAD = ((30.0, 20.0), (36.0, 20.0), (10.0, 50.0), (60.0, 50.0))
points = st.tuples(st.floats(-40, 120), st.floats(-40, 100))


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def small(tmp_path):
    """Three pictures as LARD stores them: a table beside its folder of images."""
    rows = [Row(f"images/{k}.png", *SIZE, type="real", corners=QUAD) for k in range(3)]
    write_table(tmp_path / "LARD_train_X" / "LARD_train_X.csv", rows)
    for k in range(3):
        picture(tmp_path / "LARD_train_X" / "images" / f"{k}.png", seed=k)
    return tmp_path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn")
    write(out, Recipe(n=12, size=(96, 128), seed=1, split="val", options={"negatives": 0.25}))
    return out


def brute(polygon: np.ndarray, size: tuple[int, int], fine: int = 16) -> np.ndarray:
    """Share of each pixel inside a polygon, by even-odd crossings of rays from fine x fine points a pixel."""
    h, w = size
    v, u = (np.mgrid[: h * fine, : w * fine] + 0.5) / fine
    inside = np.zeros(v.shape, bool)
    for (au, av), (bu, bv) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        cut = (av > v) != (bv > v)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= cut & (u < au + (v - av) * (bu - au) / (bv - av))
    return inside.reshape(h, fine, w, fine).mean(axis=(1, 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(points, min_size=3, max_size=3), st.floats(0.05, 0.95), st.floats(1.05, 2.0))
def test_outlines_masks_and_clips_against_brute_force(three, share, reach):
    # A convex quadrilateral: a triangle, and a point beyond its edge bc as seen from a.
    a, b, c = np.array(three)
    d = a + reach * (b + share * (c - b) - a)
    polygon = np.array([a, b, d, c])
    assume(abs(area(polygon)) > 20)
    assert dent(polygon) < 1e-9
    for order in ([0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2]):
        again = convex_order(polygon[order])
        assert abs(area(again)) == pytest.approx(abs(area(polygon)))
        assert not crosses(again)
    size = (24, 32)
    shares = brute(polygon, size)
    mask = rasterise(polygon, size)
    assert not mask[shares < 0.4].any()
    assert mask[shares > 0.6].all()
    inside = clip(polygon, size)
    found = abs(area(inside)) if len(inside) else 0.0
    assert found == pytest.approx(shares.sum(), abs=2.0)  # 16 x 16 points a pixel, along a few edges
    if len(inside):
        x1, y1, x2, y2 = box(inside)
        assert -1e-9 <= x1 <= x2 <= 32 + 1e-9
        assert -1e-9 <= y1 <= y2 <= 24 + 1e-9


def test_a_quadrilateral_with_a_dent_is_dropped(small):
    table = small / "LARD_train_X" / "LARD_train_X.csv"
    flat = ((30.0, 20.0), (30.0, 20.0), (31.0, 20.0), (35.0, 20.0))
    rows = [
        Row("images/0.png", *SIZE, corners=QUAD),
        Row("images/1.png", *SIZE, corners=((30.0, 20.0), (34.0, 30.0), (10.0, 50.0), (60.0, 50.0))),
        Row("images/2.png", *SIZE, corners=flat),
        Row("images/3.png", *SIZE),
        Row("images/4.png", *SIZE, watermark_height=30, corners=QUAD),
    ]
    write_table(table, rows)
    dataset = data.lard(small)
    assert dataset.ids == ("images/0.png",)
    found = dataset.repairs.found
    assert found["not convex"] == ["images/1.png"]
    assert found["no area"] == ["images/2.png"]
    assert found["no corners"] == ["images/3.png"]
    assert found["band too high"] == ["images/4.png"]
    assert (dataset.repairs.rows, dataset.repairs.dropped) == (5, 4)
    write_table(table, rows[1:])
    with pytest.raises(
        DataError, match=r"has no usable row; received 1 x dropped: no corners .*, 1 x dropped: the corners"
    ):
        data.lard(small)


def test_masks_boxes_and_corners_at_any_size(small):
    dataset = data.open(small)
    assert (dataset.name, dataset.classes, len(dataset)) == ("lard", ("background", "runway"), 3)
    image, mask = dataset.read(1)
    assert np.array_equal(image, np.asarray(Image.open(small / "LARD_train_X" / "images" / "1.png")))
    exact = np.array([(30.5, 20.5), (36.5, 20.5), (60.5, 50.5), (10.5, 50.5)])
    assert np.array_equal(mask == 1, brute(exact, SIZE, 8) >= 0.5)
    assert dataset.boxes[1].tolist() == [10.5, 20.5, 60.5, 50.5]
    for size in ((30, 40), (120, 160), (32, 32)):
        resized = data.lard(small, size=size)
        scale = np.array([size[1] / SIZE[1], size[0] / SIZE[0]])
        image, mask = resized.read(1)
        assert image.shape == (*size, 3)
        assert np.array_equal(resized.labels(1), mask)
        assert np.allclose(convex_order(resized.corners[1]), convex_order(exact * scale))
        assert np.allclose(resized.boxes[1], dataset.boxes[1] * np.tile(scale, 2))
        expected = brute(exact * scale, size, 8)
        assert not mask[expected < 0.4].any()
        assert mask[expected > 0.6].all()
    assert data.lard(small, cache=True)[0][1].sum() == dataset[0][1].sum()


def test_wrong_pictures_are_named(small):
    images = small / "LARD_train_X" / "images"
    dataset = data.lard(small)
    picture(images / "0.png", (50, 80))
    with pytest.raises(DataError, match=r"0\.png has another size than its table says; received 50 x 80"):
        dataset[0]
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"1\.png cannot be read as a picture"):
        dataset[1]
    (images / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png does not exist"):
        dataset[2]
    assert data.lard(small).missing == ["images/2.png"]
    assert not data.lard(small).label_only
    assert len(data.inspect(data.lard(small))["problems"]) == 3
    with pytest.raises(InputError, match="the size is wrong"):
        data.lard(small, size=(0, 5))


def test_drawn_sets_are_read_as_they_were_drawn(drawn):
    dataset = data.runways(12, (96, 128), seed=1, split="val", negatives=0.25)
    read = data.open(drawn, "val")
    assert (
        repr(data.open("runways", "val", root=drawn)) == "LardDataset('runways', 'val', images=12, classes=2)"
    )
    negatives = 0
    for k in range(12):
        image, mask = dataset.read(k)
        assert np.array_equal(read.read(k)[0], image)
        assert np.array_equal(read.read(k)[1], mask)
        if dataset.box(k) is None:
            negatives += 1
            assert read.boxes[k] is read.corners[k] is None
        else:
            assert np.array_equal(read.corners[k], dataset.corners(k))
            assert np.allclose(read.boxes[k], dataset.box(k))
    assert 0 < negatives < 12
    assert read.repairs.lines() == []
    half = data.open(drawn, "val", size=(48, 64))
    for k in range(12):
        if read.boxes[k] is None:
            assert half.labels(k).sum() == 0
        else:
            assert 4 * int(half.labels(k).sum()) == pytest.approx(int(read.labels(k).sum()), rel=0.5)


def test_the_table_of_a_drawn_set_alone_gives_nearly_the_same_masks(drawn, tmp_path):
    (tmp_path / "val").mkdir()
    shutil.copy(drawn / "val" / "val.csv", tmp_path / "val")
    shutil.copytree(drawn / "val" / "images", tmp_path / "val" / "images")
    whole, alone = data.open(drawn, "val"), data.open(tmp_path, "val")
    runways = [k for k in range(12) if whole.boxes[k] is not None]
    assert list(alone.ids) == [whole.ids[k] for k in runways]
    assert len(alone.repairs.found["no corners"]) == 12 - len(
        runways
    )  # not taken for negatives without a mask
    for position, k in enumerate(runways):
        known, guess = whole.labels(k).astype(bool), alone.labels(position).astype(bool)
        edge = np.ptp(
            whole.corners[k], axis=0
        ).sum()  # pixels: truncation moves each edge by half a pixel at most
        assert (known ^ guess).sum() <= 2 * edge
        assert np.abs(convex_order(whole.corners[k]) - alone.corners[position]).max() <= 0.5 + 1e-9


def test_wrong_masks_and_poses_are_refused(drawn, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(drawn, copy)
    mask = copy / "val" / "masks" / "000000.png"
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"000000\.png has another size than its picture"):
        data.open(copy, "val").labels(0)
    Image.fromarray(np.full((96, 128), 7, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"label ids outside the list of classes"):
        data.open(copy, "val").labels(0)
    (copy / "val" / "poses.json").write_text('[{"image": 3}]')
    with pytest.raises(DataError, match=r"poses\.json is not what this package writes"):
        data.open(copy, "val")
    (copy / "val" / "poses.json").write_text("[")
    with pytest.raises(DataError, match=r"poses\.json cannot be read as JSON"):
        data.open(copy, "val")


def test_open_draws_or_reads(drawn):
    assert (
        repr(data.open("runways", "test", images=2))
        == "RunwayDataset('runways', 'test', images=2, classes=2)"
    )
    assert [len(data.open("runways", split)) for split in ("train", "val", "test")] == [2000, 200, 300]
    assert data.open("runways", "far", size=(64, 96), images=1).read(0)[1].shape == (64, 96)
    with pytest.raises(InputError, match="`images` fits only sets that are drawn"):
        data.open("runways", "val", root=drawn, images=3)
    with pytest.raises(DataError, match="runways has no split 'tomorrow'"):
        data.open("runways", "tomorrow")


def inspected(monkeypatch, capsys, out, *words) -> tuple[int, str, str, dict]:
    monkeypatch.setattr("sys.argv", ["onelip", "data", "inspect", *map(str, words), "--out", str(out)])
    status = main()
    said = capsys.readouterr()
    results = json.loads((out / "results.json").read_text()) if (out / "results.json").is_file() else {}
    return status, said.out, said.err, results


def test_inspect_shows_what_was_repaired(small, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    status, said, _, results = inspected(monkeypatch, capsys, out, small, "--pictures", "2")
    assert status == 0
    assert "A-B-C-D crosses itself" in said
    assert "3 rows in the tables, 0 dropped" in said
    assert results["boxes"]["count"] == 3
    assert results["boxes"]["quantiles"][2] == [0.5, 50.0, 30.0]
    assert {r["kind"]: r["count"] for r in results["repairs"]} == {"reordered": 3, "truncated": 3}
    sheet = np.asarray(Image.open(out / "contact.png"))
    assert sheet.shape[1] == 2 * 256
    assert (sheet == (255, 210, 40)).all(-1).sum() > 200  # boxes
    assert (sheet == (60, 230, 255)).all(-1).sum() > 200  # outlines


def test_inspect_of_labels_alone(small, tmp_path, monkeypatch, capsys):
    shutil.rmtree(small / "LARD_train_X" / "images")
    table = small / "LARD_train_X" / "LARD_train_X.csv"
    status, said, _, results = inspected(monkeypatch, capsys, tmp_path / "out", table)
    assert status == 0
    assert "labels only" in said
    assert results["label_only"] is True
    assert results["mean"] is None
    share = abs(area(convex_order(QUAD))) / (SIZE[0] * SIZE[1])
    assert results["classes"][1]["share"] == pytest.approx(share, abs=1e-3)
    assert (tmp_path / "out" / "contact.png").is_file()


def test_inspect_of_something_else_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "absent.csv"):
        status, _, errors, _ = inspected(monkeypatch, capsys, tmp_path / "out", place)
        assert status == 2
        assert len(errors.strip().splitlines()) == 1
