"""COCO's JSON: what is read, what is repaired, and what is refused in one sentence."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from onelip.core.errors import DataError, InputError
from onelip.data.boxes import coco, coco_folder, open_boxes, to_tensors

SIZE = (40, 60)  # (h, w) of the pictures


def test_boxes_classes_and_pictures(coco_set):
    found = coco(coco_set.write())
    assert (len(found), found.classes, found.ids[0]) == (3, ("dog", "cat"), "images/10.png")
    assert found.objects(0).boxes.tolist() == [[2, 3, 12, 23]]
    assert [found.objects(k).labels.tolist() for k in range(3)] == [[1], [], [0, 0]]
    image, target = found[2]
    assert image.shape == (3, *SIZE)
    assert (image.dtype, target["boxes"].dtype, target["labels"].dtype) == (
        torch.float32,
        torch.float32,
        torch.int64,
    )
    assert target["boxes"].tolist() == [[5, 5, 13, 13], [30, 10, 50, 22]]
    assert image[:, 10:22, 30:50].min() == 1
    assert image.sum() == 3 * (64 + 240)
    assert found.repairs.rows() == []
    assert found[-1][1]["labels"].tolist() == found[2][1]["labels"].tolist()


def test_images_without_objects_stay(coco_set):
    image, target = coco(coco_set.write())[1]
    assert image.shape == (3, *SIZE)
    assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))
    coco_set.record["annotations"] = []
    assert [len(o[1]["labels"]) for o in coco(coco_set.write())] == [0, 0, 0]


@pytest.mark.parametrize("size", [(80, 120), (20, 15), (40, 60)])
def test_the_size_moves_pictures_and_boxes_together(coco_set, size):
    found = coco(coco_set.write(), size=size)
    image, objects = found.read(2)
    assert image.shape == (*size, 3)
    assert found.shape(2) == size
    sx, sy = size[1] / SIZE[1], size[0] / SIZE[0]
    assert np.allclose(objects.boxes, np.array([[5, 5, 13, 13], [30, 10, 50, 22]]) * [sx, sy, sx, sy])
    x1, y1, x2, y2 = objects.boxes[1]
    white = (image[..., 0] > 127).nonzero()
    assert abs(white[1].max() + 1 - x2) <= 1
    assert abs(white[0].max() + 1 - y2) <= 1
    assert image[math.ceil(y1) + 1 : int(y2) - 1, math.ceil(x1) + 1 : int(x2) - 1].min() > 200


def test_a_cache_returns_the_same_and_reads_once(coco_set):
    found, fresh = (coco(coco_set.write(), cache=cache) for cache in (True, False))
    first = found.read(0)
    (coco_set.folder / "images" / "10.png").unlink()
    assert found.read(0)[0] is first[0]
    with pytest.raises(DataError, match=r"10.png does not exist"):
        fresh.read(0)


def test_boxes_partly_outside_are_clipped_and_counted(coco_set):
    coco_set.picture(13, [[-5, 30, 20, 25], [50, 0, 30, 5], [0, 0, 60.0000000001, 40]])
    found = coco(coco_set.write())
    assert found.objects(3).boxes.tolist() == [[0, 30, 15, 40], [50, 0, 60, 5], [0, 0, 60, 40]]
    (row,) = found.facts()["repairs"]
    assert (row["kind"], row["count"], row["first"]) == ("clipped", 2, ["images/13.png"] * 2)


def test_boxes_without_area_and_crowds_are_left_out_and_counted(coco_set):
    coco_set.picture(13, [[5, 5, 0, 9], [5, 5, 9, 0.001], [59.999, 5, 9, 9], [1, 1, 5, 5], [2, 2, 5, 5]])
    coco_set.record["annotations"][-1]["iscrowd"] = 1
    found = coco(coco_set.write())
    assert found.objects(3).boxes.tolist() == [[1, 1, 6, 6]]
    assert {row["kind"]: row["count"] for row in found.repairs.rows()} == {"thin": 3, "crowd": 1}


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ([5, 5, -2, 9], r"1 of 4 boxes are inverted; received images/13.png: \[5, 5, 3, 14\], class 1"),
        ([5, 5, 9, -2], "are inverted"),
        ([60, 5, 9, 9], r"lie outside their picture; .* expected boxes that meet the picture, 60 x 40"),
        ([5, -20, 9, 20], "lie outside their picture"),
        ([math.nan, 5, 9, 9], "are no numbers"),
        ([5, 5, math.inf, 9], "are no numbers"),
        ([5, 5, 9], "has no box; received"),
        ([5, 5, 9, "9"], "has no box"),
        ([5, 5, 9, True], "has no box"),
    ],
)
def test_boxes_that_cannot_be_meant_are_refused(coco_set, box, text):
    coco_set.picture(13, [[1, 1, 5, 5]])
    coco_set.record["annotations"][-1]["bbox"] = box
    with pytest.raises(DataError, match=text):
        coco(coco_set.write())


def spoil(key, index, **values):
    def change(made):
        row = made.record[key][index]
        row.update(values)
        for name in [name for name, value in row.items() if value is ...]:
            del row[name]

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            spoil("annotations", 0, category_id=5),
            r"annotations\[0\] has an unknown category; received .* = 5",
        ),
        (spoil("annotations", 0, image_id=5), r"unknown image; received image_id = 5; expected one of \[10"),
        (spoil("annotations", 1, id=1), r"1 ids of annotations are there more than once; received \[1\]"),
        (spoil("images", 1, id=10), "ids of images are there more than once"),
        (spoil("images", 1, file_name="images/10.png"), "names of the images are not all different"),
        (spoil("categories", 1, id=7), "ids of categories are there more than once"),
        (spoil("categories", 1, name="cat"), "names of the classes are not all different; received cat"),
        (spoil("annotations", 0, bbox=...), r"annotations\[0\] is not as in JSON of COCO; received no bbox"),
        (spoil("annotations", 0, category_id="7"), "received category_id = '7'"),
        (spoil("images", 0, height=0), "received height = 0"),
        (spoil("images", 0, width=...), "received no width"),
        (spoil("images", 0, id=True), "received id = True"),
        (spoil("images", 2, file_name="gone.png"), "lacks 1 of 3 pictures; received nothing at .*gone.png"),
        (lambda made: made.record.update(images=[], annotations=[]), "holds no images"),
        (lambda made: made.record.update(categories=[], annotations=[]), "classes are not all different"),
        (lambda made: made.record.pop("annotations"), "is not JSON of COCO; received annotations: NoneType"),
        (lambda made: made.record.update(images={}), "received images: dict"),
        (lambda made: made.record.update(images=[3]), "is not JSON of COCO"),
    ],
)
def test_tables_that_are_not_coco_are_refused(coco_set, change, text):
    change(coco_set)
    with pytest.raises(DataError, match=text):
        coco(coco_set.write())


@pytest.mark.parametrize(
    ("text", "said"), [("[1]", "no object"), ("{", "cannot be read as JSON"), ("", "JSON")]
)
def test_files_that_are_not_json_are_refused(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        open_boxes(path)
    with pytest.raises(DataError, match=r"no set of boxes .*gone"):
        open_boxes(tmp_path / "gone")


def test_a_picture_of_another_size_is_refused_on_reading(coco_set):
    found = coco(coco_set.write())
    Image.new("RGB", (30, 40)).save(coco_set.folder / "images" / "10.png")
    with pytest.raises(DataError, match=r"has another size than its labels say; received 40 x 30"):
        found.read(0)


def test_only_some_classes_renumbers_labels_and_keeps_images(coco_set):
    found = coco(coco_set.write())
    cats = found.only(["cat"])
    assert (cats.classes, cats.palette) == (("cat",), found.palette[1:])
    assert [cats.objects(k).labels.tolist() for k in range(3)] == [[0], [], []]
    both = found.only(["cat", "dog"])
    assert [both[k][1]["labels"].tolist() for k in range(3)] == [[0], [], [1, 1]]
    assert np.array_equal(cats.read(2)[0], found.read(2)[0])
    for wrong in (["cow"], "cat"):
        with pytest.raises(DataError, match="has no such classes"):
            found.only(wrong)
    assert len(open_boxes(coco_set.path, classes=["cat"])[2][1]["labels"]) == 0


@pytest.mark.parametrize("layout", ["{}.json", "{}/coco.json", "{}/_annotations.coco.json"])
def test_folders_with_a_json_for_each_part(coco_set, write, layout):
    for split, count in (("train", 3), ("val", 2)):
        path = coco_set.folder / "set" / layout.format(split)
        made = write.coco(path.parent)
        made.record["images"] = made.record["images"][:count]
        made.record["annotations"] = made.record["annotations"][:1]
        path.write_text(json.dumps(made.record))
    root = coco_set.folder / "set"
    assert (len(open_boxes(root, "train")), len(coco_folder(root, "validation"))) == (3, 2)
    with pytest.raises(DataError, match="no split 'test'; expected one of train, val"):
        open_boxes(root, "test")


def test_the_layout_of_coco_itself(coco_set, write):
    root = coco_set.folder / "coco"
    made = write.coco(root / "val2017")
    for row in made.record["images"]:
        (root / "val2017" / row["file_name"]).rename(root / "val2017" / row["file_name"][7:])
        row["file_name"] = row["file_name"][7:]
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(made.record))
    found = open_boxes(root, "val2017")
    assert (found.name, found.split, len(found)) == ("coco", "val2017", 3)
    assert found[0][1]["boxes"].tolist() == [[2, 3, 12, 23]]


def test_pictures_are_looked_for_where_root_says(coco_set):
    path = coco_set.write().rename(coco_set.folder / "images" / "boxes.json")
    with pytest.raises(DataError, match="lacks 3 of 3 pictures"):
        coco(path)
    assert len(open_boxes(path, root=coco_set.folder)) == 3


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no boxes in a known layout; expected a JSON of COCO"):
        open_boxes(tmp_path)
    with pytest.raises(DataError, match="does not hold boxes in a known layout; received an empty folder"):
        coco_folder(tmp_path)
    with pytest.raises(DataError, match="folder of bccd does not exist"):
        open_boxes("bccd", root=tmp_path / "gone")
    with pytest.raises(DataError, match="did you mean 'bccd'"):
        open_boxes("bcdd")


def test_options_that_do_not_fit_are_refused(coco_set):
    path = coco_set.write()
    for options in ({"images": 3}, {"size": (3,)}, {"size": (0, 5)}):
        with pytest.raises(InputError, match=r"images|size"):
            open_boxes(path, **options)


def test_tensors_are_copies(coco_set):
    found = coco(coco_set.write(), cache=True)
    image, objects = found.read(0)
    pixels, target = to_tensors(image, objects)
    target["boxes"].zero_()
    target["labels"].fill_(9)
    pixels.zero_()
    assert objects.boxes.tolist() == [[2, 3, 12, 23]]
    assert found.read(0)[1].labels.tolist() == [1]
    assert found.read(0)[0].max() == 255
