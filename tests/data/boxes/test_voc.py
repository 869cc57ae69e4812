"""Pascal VOC's XML: its counting of pixels, its flags, its parts."""

from __future__ import annotations

import pytest

from onelip.core.errors import DataError, InputError
from onelip.data.boxes import open_boxes, voc_boxes

SIZE = (40, 60)  # (h, w) of the pictures


def folder(write, root, count=10):
    for k in range(count):
        write.voc(root, f"p{k}", [("dog" if k % 2 else "cat", int(k == 1), 3, 4, 12, 20)])
    return root


def test_pixels_are_counted_from_one_and_the_last_belongs_to_the_box(tmp_path, write):
    write.voc(tmp_path, "a", [("cat", 0, 1, 1, SIZE[1], SIZE[0]), ("dog", 0, 3, 4, 12, 20)])
    found = voc_boxes(tmp_path, "trainval")
    assert found.objects(0).boxes.tolist() == [[0, 0, SIZE[1], SIZE[0]], [2, 3, 12, 20]]
    assert found.repairs.rows() == []
    assert voc_boxes(tmp_path, "trainval", origin=0).objects(0).boxes.tolist()[1] == [3, 4, 12, 20]
    image, target = found[0]
    assert (image.shape, target["labels"].tolist(), found.classes) == ((3, *SIZE), [0, 1], ("cat", "dog"))


def test_difficult_objects_are_kept_or_left_out_and_counted(tmp_path, write):
    folder(write, tmp_path, 4)
    kept, left = (voc_boxes(tmp_path, "trainval", difficult=choice) for choice in ("keep", "drop"))
    assert (len(kept.objects(1).labels), len(left.objects(1).labels), len(left)) == (1, 0, 4)
    assert [(row["kind"], row["count"]) for row in kept.repairs.rows()] == [("difficult", 1)]
    assert [(row["kind"], row["count"]) for row in left.repairs.rows()] == [("difficult, left out", 1)]


def test_without_lists_a_fixed_fifth_is_for_validation(tmp_path, write):
    folder(write, tmp_path)
    train, val, every = (open_boxes(tmp_path, split) for split in ("train", "validation", "trainval"))
    assert (len(train), len(val), len(every)) == (8, 2, 10)
    assert sorted([*train.ids, *val.ids]) == list(every.ids)
    assert val.ids == open_boxes(tmp_path, "val").ids
    assert train.classes == val.classes == ("cat", "dog")
    with pytest.raises(DataError, match="no split 'test'"):
        open_boxes(tmp_path, "test")


def test_lists_name_the_parts(tmp_path, write):
    root = folder(write, tmp_path / "VOC2007")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p3\np1 1\n")
    (lists / "val.txt").write_text("gone\n")
    found = open_boxes(tmp_path, "train")
    assert (found.ids, found.classes) == (("p3", "p1"), ("cat", "dog"))  # classes of the whole folder
    with pytest.raises(DataError, match=r"gone.xml does not exist"):
        open_boxes(tmp_path, "val")
    folder(write, tmp_path / "VOCdevkit" / "VOC2012", 1)
    with pytest.raises(DataError, match="holds several sets"):
        open_boxes(tmp_path, "train")


def test_a_folder_for_each_part(tmp_path, write):
    folder(write, tmp_path / "train", 3)
    write.voc(tmp_path / "test", "only", [])
    found = open_boxes(tmp_path, "test")
    assert (len(found), found.classes, found[0][1]["boxes"].shape) == (1, ("cat", "dog"), (0, 4))
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert open_boxes(tmp_path, "train").objects(0).labels.tolist() == [1]


def test_the_picture_is_found_by_either_name(tmp_path, write):
    write.voc(tmp_path, "a", [("cat", 0, 3, 4, 12, 20)], picture="a.jpg")  # as renamed to png
    write.voc(tmp_path, "b", [], picture="other.png")
    write.picture(tmp_path / "JPEGImages" / "other.png", [[0, 0, 9, 9]])
    found = voc_boxes(tmp_path, "trainval")
    assert found[1][0].max() == 1
    assert found[0][0].max() == 0


@pytest.mark.parametrize(
    ("objects", "text"),
    [
        ([("cow", 0, 3, 4, 12, 20)], "unknown class; received cow; expected one of cat"),
        ([("cat", 0, 12, 4, 3, 20)], r"are inverted; received a: \[11, 3, 3, 20\]"),
        ([("cat", 0, 70, 4, 90, 20)], "lie outside their picture"),
        ([("cat", 0, "nan", 4, 90, 20)], "are no numbers"),
        ([("cat", 0, "", 4, 90, 20)], "not as Pascal VOC writes it; received no bndbox/xmin"),
        ([("cat", 0, "x", 4, 90, 20)], "not as Pascal VOC writes it"),
        ([("", 0, 3, 4, 12, 20)], "received no name"),
    ],
)
def test_unusable_objects_are_refused(tmp_path, write, objects, text):
    write.voc(tmp_path, "a", objects)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=text):
        voc_boxes(tmp_path, "trainval")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation>", "cannot be read as XML"),
        ("<annotation/>", "received no size/height"),
        ("<annotation><size><height>0</height><width>5</width></size></annotation>", "has no size"),
    ],
)
def test_files_that_are_not_of_voc_are_refused(tmp_path, write, text, said):
    write.voc(tmp_path, "a", []).write_text(text)
    with pytest.raises(DataError, match=said):
        voc_boxes(tmp_path, "trainval")


def test_folders_and_options_that_do_not_fit_are_refused(tmp_path, write):
    with pytest.raises(DataError, match="Pascal VOC's XML in a known layout"):
        voc_boxes(tmp_path)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="in a known layout"):
        voc_boxes(tmp_path, "trainval")
    for options in ({"difficult": "ignore"}, {"origin": 2}):
        with pytest.raises(InputError, match="cannot be read"):
            voc_boxes(tmp_path, **options)
    write.voc(tmp_path, "a", [("cat", 0, 3, 4, 12, 20)])
    (tmp_path / "JPEGImages" / "a.png").unlink()
    with pytest.raises(DataError, match="lacks 1 of 1 pictures"):
        voc_boxes(tmp_path, "trainval")
