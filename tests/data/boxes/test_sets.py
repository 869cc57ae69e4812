"""The sets that are opened by name: runways drawn and rendered, LARD's tables, BCCD, Penn-Fudan; inspection."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from onelip import data
from onelip.core.errors import DataError
from onelip.data.boxes import Entry, FileBoxes, Objects, coco, contact_boxes, inspect_boxes
from onelip.data.landing import Recipe, write


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runways")
    write(out, Recipe(n=5, size=(48, 64), seed=1, split="train", options={"negatives": 0.4}))
    return out


def test_drawn_runways_have_the_boxes_of_their_masks():
    boxes = data.open_boxes("runways", "val", size=(64, 96), images=4)
    masks = data.open("runways", "val", size=(64, 96), images=4)
    assert (boxes.classes, boxes.palette, boxes.ids) == (("runway",), (masks.palette[1],), masks.ids)
    for index in range(4):
        image, target = boxes[index]
        picture, mask = masks[index]
        assert torch.equal(image, picture)
        (x1, y1, x2, y2) = target["boxes"][0].tolist()
        shown = mask.nonzero()
        assert abs(x1 - shown[:, 1].min()) < 1.5
        assert abs(x2 - shown[:, 1].max() - 1) < 1.5
        assert abs(y1 - shown[:, 0].min()) < 1.5
        assert abs(y2 - shown[:, 0].max() - 1) < 1.5
    with pytest.raises(DataError, match="no split 'night'"):
        data.open_boxes("runways", "night")


def test_a_rendered_folder_has_the_boxes_of_its_record(rendered):
    found = data.open_boxes("runways", root=rendered)
    record = json.loads((rendered / "train" / "poses.json").read_text())
    assert any(r["box"] is None for r in record)
    assert any(r["box"] is not None for r in record)
    for index, known in enumerate(record):
        objects = found.objects(index)
        assert np.allclose(objects.boxes, np.zeros((0, 4)) if known["box"] is None else [known["box"]])
        assert (objects.boxes >= 0).all()
        assert (objects.boxes <= [64, 48, 64, 48]).all()
        assert found[index][0].shape == (3, 48, 64)


def test_a_rendered_folder_opens_by_its_path_and_as_coco_alike(rendered):
    by_path = data.open_boxes(rendered, "train", size=(96, 128))
    as_coco = coco(rendered / "train" / "coco.json", size=(96, 128))
    assert by_path.ids == as_coco.ids
    for index in range(5):
        assert np.allclose(by_path.objects(index).boxes, as_coco.objects(index).boxes, atol=1e-9)
        assert torch.equal(by_path[index][0], as_coco[index][0])
        assert by_path.read(index)[0].shape == (96, 128, 3)


def test_bands_of_lard_are_cut_off_from_pictures_and_boxes(tmp_path, write):
    header = "image;height;width;watermark_height;" + ";".join(f"{a}_{n}" for n in "ABCD" for a in "xy")
    rows = ["a.png;80;60;20;10;35;30;35;5;50;40;50", "b.png;80;60;20;10;10;30;10;5;50;40;50"]
    (tmp_path / "train.csv").write_text("\n".join([header, *rows]))
    for name in ("a", "b"):
        write.picture(tmp_path / f"{name}.png", [[5, 35, 40, 50]], (80, 60))
    found = data.open_boxes(tmp_path, "train", size=(80, 120))
    image, objects = found.read(0)
    assert image.shape == (80, 120, 3)
    assert objects.boxes.tolist() == [
        [11, 31, 81, 61]
    ]  # half a pixel more than truncated; bands off; doubled
    assert found.objects(1).boxes[0, 1] == 0  # the corners in the band: what is seen begins at the edge
    assert [row["kind"] for row in found.facts()["repairs"]] == [
        "reordered",
        "truncated",
        "band cropped",
        "in band",
    ]


def here(name, split):
    """A public set, if this machine has it."""
    try:
        return data.open_boxes(name, split)
    except DataError as error:
        if "is not on this machine" in str(error):
            pytest.skip(str(error))
        raise


def test_the_real_tables_of_lard_are_labels_without_pictures():
    found = here("lard", "test")
    assert (len(found.missing), len(found)) == (len(found), len(found.ids))
    assert found.facts()["missing"] == len(found)
    report = inspect_boxes(found)
    assert (report["label_only"], report["mean"], report["problems"]) == (True, None, [])
    assert report["objects"] == len(found)
    for index in range(0, len(found), 50):
        h, w = found.shape(index)
        (box,) = found.objects(index).boxes
        assert 0 <= box[0] < box[2] <= w
        assert 0 <= box[1] < box[3] <= h
    with pytest.raises(DataError, match="does not exist"):
        found.read(0)
    assert contact_boxes(found, 2).shape[2] == 3


def test_bccd_and_its_complete_classes():
    train, val = here("bccd", "train"), here("bccd", "val")
    assert (len(train), len(val), train.classes) == (205, 87, ("RBC", "WBC", "Platelets"))
    assert sum(len(train.objects(k).labels) for k in range(205)) == 2804
    assert not set(train.ids) & set(val.ids)
    image, target = val[0]
    assert image.shape == (3, 384, 512)
    assert target["labels"].max() <= 2
    some = data.open_boxes("bccd", "val", classes=["WBC", "Platelets"])
    assert sum(len(some.objects(k).labels) for k in range(87)) == 170
    with pytest.raises(DataError, match="no split 'test'"):
        data.open_boxes("bccd", "test")


def test_penn_fudan_is_parted_by_a_fixed_permutation():
    train, val, every = (here("penn_fudan", split) for split in ("train", "val", "trainval"))
    assert (len(train), len(val), len(every)) == (104, 26, 130)
    assert sorted([*train.ids, *val.ids]) == sorted(every.ids)
    assert sum(len(s.objects(k).labels) for s in (train, val) for k in range(len(s))) == 320
    assert val.ids[:3] == tuple(f"images/FudanPed{k:05d}.jpg" for k in (14, 16, 21))
    assert list(train.ids) == [name for name in every.ids if name in train.ids]


def test_penn_fudan_with_files_for_its_parts_is_not_parted(tmp_path, write):
    def part(name, pictures):
        made = write.coco(tmp_path)
        for number in range(20, 20 + pictures):
            made.picture(number, [[1, 1, 9, 9]])
        made.write().rename(tmp_path / f"{name}.json")

    part("train", 7)
    counts = [
        len(data.open_boxes("penn_fudan", split, root=tmp_path)) for split in ("train", "val", "trainval")
    ]
    assert counts == [8, 2, 10]
    part("test", 1)
    assert len(data.open_boxes("penn_fudan", "test", root=tmp_path)) == 4
    assert len(data.open_boxes("penn_fudan", "train", root=tmp_path)) == 8
    part("val", 2)
    counts = [len(data.open_boxes("penn_fudan", split, root=tmp_path)) for split in ("train", "val", "test")]
    assert counts == [10, 5, 4]
    with pytest.raises(DataError, match="no split 'trainval'; expected one of test, train, val"):
        data.open_boxes("penn_fudan", "trainval", root=tmp_path)


def test_the_parts_do_not_depend_on_the_order_of_the_file(tmp_path, write):
    made = write.coco(tmp_path)
    for number in range(20, 37):
        made.picture(number, [])
    made.write().rename(tmp_path / "train.json")
    val = data.open_boxes("penn_fudan", "val", root=tmp_path).ids
    made.record["images"].reverse()
    made.write().rename(tmp_path / "train.json")
    assert data.open_boxes("penn_fudan", "val", root=tmp_path).ids == val[::-1]


def test_repairs_are_those_of_the_part(tmp_path, write):
    made = write.coco(tmp_path)
    for number in range(20, 27):
        made.picture(number, [[-1, 1, 9, 9]])
    made.write().rename(tmp_path / "train.json")
    found = [data.open_boxes("penn_fudan", split, root=tmp_path) for split in ("train", "val")]
    assert sum(row["count"] for part in found for row in part.repairs.rows()) == 7
    for part in found:
        clipped = [part.ids[k] for k in range(len(part)) if "images/2" in part.ids[k]]
        assert part.repairs.found.get("clipped", []) == clipped


def entry(tmp_path, write, boxes, labels, name="a"):
    write.picture(tmp_path / "a.png", [])
    return Entry(name, tmp_path / "a.png", (40, 60), Objects(np.array(boxes, float), np.array(labels)))


@pytest.mark.parametrize(
    ("boxes", "labels", "text"),
    [
        (
            [[1, 1, 5, 5]],
            [1],
            r"1 of 1 boxes have no class; received a: \[1, 1, 5, 5\], class 1; expected .* 0 to 0",
        ),
        ([[1, 1, 5, 5]], [-1], "have no class"),
        ([[5, 1, 1, 5]], [0], "are inverted"),
        ([[1, 1, math.nan, 5]], [0], "are no numbers"),
        ([[1, 41, 5, 45]], [0], "lie outside"),
        ([[-5, 1, 0, 5]], [0], "lie outside"),
    ],
)
def test_boxes_of_your_own_are_checked(tmp_path, write, boxes, labels, text):
    with pytest.raises(DataError, match=text):
        FileBoxes("mine", "train", entries=[entry(tmp_path, write, boxes, labels)], classes=["cat"])


def test_names_that_are_there_twice_are_refused(tmp_path, write):
    entries = [entry(tmp_path, write, [[1, 1, 5, 5]], [0])] * 2
    with pytest.raises(
        DataError, match="names of the images are not all different; received a more than once"
    ):
        FileBoxes("mine", "train", entries=entries, classes=["cat"])
    with pytest.raises(DataError, match="holds no images"):
        FileBoxes("mine", "train", entries=[], classes=["cat"])
    with pytest.raises(IndexError, match="outside the 1 images"):
        FileBoxes("mine", "train", entries=entries[:1], classes=["cat"])[1]


@pytest.mark.parametrize("size", [(13, 31), (400, 125)])  # 31 / 60 * 60 > 31 in float64
def test_resized_boxes_never_leave_the_picture(tmp_path, write, size):
    known = entry(tmp_path, write, [[0, 0, 60, 40], [59.99, 39.99, 60, 40]], [0, 0])
    found = FileBoxes("mine", "train", entries=[known], classes=["cat"], size=size)
    for boxes in (found.objects(0).boxes, found[0][1]["boxes"].numpy()):
        assert (boxes[:, 2] <= size[1]).all()
        assert (boxes[:, 3] <= size[0]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_inspection_counts_what_is_there(coco_set):
    coco_set.picture(13, [[-5, 30, 20, 25]])
    found = coco(coco_set.write())
    (coco_set.folder / "images" / "12.png").write_bytes(b"no picture")
    report = json.loads(json.dumps(inspect_boxes(found), allow_nan=False))
    assert (report["images"], report["objects"], report["empty"]) == (4, 2, 1)
    assert report["per_image"] == {"0": 1, "1": 2}
    assert report["sizes"] == {"40x60": 3}
    assert [(c["name"], c["objects"], c["images"]) for c in report["classes"]] == [
        ("dog", 0, 0),
        ("cat", 2, 2),
    ]
    assert report["classes"][1]["quantiles"][2] == [0.5, 12.5, 15.0]
    assert report["boxes"]["count"] == 2
    assert report["repairs"][0]["kind"] == "clipped"
    (problem,) = report["problems"]
    assert "12.png cannot be read" in problem
    white = 10 * 20 / (3 * 40 * 60)
    assert report["mean"] == pytest.approx([white] * 3, abs=1e-4)
    assert report["std"] == pytest.approx([math.sqrt(white - white**2)] * 3, abs=1e-4)


def test_contact_sheets_frame_the_objects_in_the_colour_of_their_class(coco_set):
    found = coco(coco_set.write())
    page = contact_boxes(found, 24)
    scale = 256 / 60
    left, top = 2 * 256 + 30 * scale, 10 * scale  # the second dog of the third picture
    assert (
        page[int(top) : int(top) + 2, int(left) + 5 : int(left) + 60]
        .reshape(-1, 3)
        .tolist()
        .count(list(found.palette[0]))
        >= 55
    )
    assert contact_boxes(found, 1).shape[1] == 256
