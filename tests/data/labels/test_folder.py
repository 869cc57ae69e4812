"""Folders of classes: parts, the split by a hash, what is no picture, and what is wrong."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from onelip import data
from onelip.core.errors import DataError
from onelip.data.labels import opens_as_labels


@pytest.fixture
def flat(write, tmp_path):
    """Sixty pictures in two classes; the grey of each is its number."""
    for k in range(60):
        write.picture(tmp_path / "pets" / ("cat", "dog")[k % 2] / f"{k}.png", k)
    return tmp_path / "pets"


@pytest.fixture
def parted(write, tmp_path):
    for part, count in (("train", 3), ("valid", 2), ("Test", 1)):
        for name in ("10", "9", "-1")[:2]:
            for k in range(count):
                write.picture(tmp_path / "numbers" / part / name / f"{k}.jpg", (200, 10, 10))
    return tmp_path / "numbers"


def test_the_hash_parts_a_folder_and_nothing_is_lost(flat):
    parts = {name: data.open_labels(flat, name) for name in ("train", "val", "test", "trainval")}
    names = [p for part in ("train", "val", "test") for p in parts[part].ids]
    assert sorted(names) == sorted(f"{('cat', 'dog')[k % 2]}/{k}.png" for k in range(60))
    assert set(parts["trainval"].ids) == {*parts["train"].ids, *parts["val"].ids}
    for part, tenths in (("train", range(8)), ("val", [8]), ("test", [9])):
        for (image, label), name in zip(parts[part], parts[part].ids, strict=True):
            digest = hashlib.sha256(name.encode()).hexdigest()
            assert int(digest[:16], 16) % 10 in tenths
            assert label == (int(name[4:-4]) % 2)
            assert torch.equal(image, torch.full((3, 6, 8), int(name[4:-4]) / 255))
    assert parts["train"].classes == ("cat", "dog")


def test_a_picture_keeps_its_part_whatever_else_is_there(flat, write):
    before = data.open_labels(flat, "train").ids
    for k in range(20):
        write.picture(flat / "cat" / f"new{k}.png", 3)
    write.picture(flat / "bird" / "1.png", 3)
    write.picture(flat / "bird" / "2.png", 3)
    (flat / "dog" / "1.png").unlink()
    after = data.open_labels(flat, "train").ids
    assert set(before) - set(after) <= {"dog/1.png"}
    assert all(name.startswith(("cat/new", "bird/")) for name in set(after) - set(before))


def test_parts_are_taken_as_they_are(parted):
    sizes = {split: len(data.open_labels(parted, split)) for split in ("train", "val", "validation", "test")}
    assert sizes == {"train": 6, "val": 4, "validation": 4, "test": 2}
    dataset = data.open_labels(parted, "train", channels=1, size=(4, 5))
    assert dataset.classes == ("9", "10")  # as numbers
    assert dataset.ids == ("9/0.jpg", "9/1.jpg", "9/2.jpg", "10/0.jpg", "10/1.jpg", "10/2.jpg")
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset[0][0].shape == (1, 4, 5)
    with pytest.raises(DataError, match="numbers has no split 'trainval'; expected one of test, train, val"):
        data.open_labels(parted, "trainval")


def test_what_is_no_picture_is_passed_over_and_folders_below_are_not(flat, write):
    before = len(data.open_labels(flat, "trainval")) + len(data.open_labels(flat, "test"))
    (flat / "cat" / "Thumbs.db").write_bytes(b"x")
    (flat / ".hidden").mkdir()
    (flat / "__MACOSX").mkdir()
    write.picture(flat / "cat" / ".thumbnail.png", 3)
    write.picture(flat / "cat" / ".cache" / "1.png", 3)
    (flat / "README.md").write_text("x")
    write.picture(flat / "cat" / "kitten" / "0.PNG", 3)
    names = [*data.open_labels(flat, "trainval").ids, *data.open_labels(flat, "test").ids]
    assert len(names) == before + 1
    assert "cat/kitten/0.PNG" in names


def test_a_class_may_be_called_like_a_part(write, tmp_path):
    for name in ("bus", "train"):
        for k in range(12):
            write.picture(tmp_path / name / f"{k}.png", k)
    assert data.open_labels(tmp_path).classes == ("bus", "train")
    assert opens_as_labels(tmp_path)


def test_wrong_folders_are_refused(flat, parted, write, tmp_path):
    (flat / "bird").mkdir()
    with pytest.raises(DataError, match=r"bird holds no pictures.*remove the empty folder"):
        data.open_labels(flat)
    write.picture(parted / "train" / "11" / "0.png", 3)
    with pytest.raises(DataError, match="the parts have different classes; received nothing in test for 11"):
        data.open_labels(parted)
    write.picture(parted / "validation" / "9" / "0.png", 3)
    with pytest.raises(DataError, match="two folders for the part 'val'; received valid, validation"):
        data.open_labels(parted)
    write.picture(tmp_path / "one" / "cat" / "0.png", 3)
    with pytest.raises(DataError, match="no folder with one subfolder a class; received cat; expected CLASS"):
        data.open_labels(tmp_path / "one")
    write.picture(tmp_path / "masks" / "images" / "0.png", 3)
    write.picture(tmp_path / "masks" / "masks" / "0.png", 3)
    with pytest.raises(DataError, match=r"open pictures with masks by onelip\.data\.open"):
        data.open_labels(tmp_path / "masks")
    write.picture(tmp_path / "few" / "a" / "0.png", 3)
    write.picture(tmp_path / "few" / "b" / "0.png", 3)
    counts = {}
    for split in ("train", "val", "test"):
        try:
            counts[split] = len(data.open_labels(tmp_path / "few", split))
        except DataError as error:
            assert "has no picture" in str(error)  # noqa: PT017 - some parts of two pictures are empty
    assert 1 <= len(counts) <= 2
    assert sum(counts.values()) == 2


def test_what_opens_as_labels(flat, parted, write, tmp_path):
    (flat / "bird").mkdir()  # wrong, but nothing else
    assert opens_as_labels(flat)
    assert opens_as_labels(str(parted))
    assert opens_as_labels("digits")
    for name in ("train", "trainannot"):
        write.picture(tmp_path / "segnet" / name / "0.png", 3)
    for part in ("train", "val"):
        for name in ("images", "labels"):
            write.picture(tmp_path / "plain" / part / name / "0.png", 3)
    write.picture(tmp_path / "one" / "cat" / "0.png", 3)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "b").mkdir()
    for name in ("segnet", "plain", "one", "empty", "none"):
        assert not opens_as_labels(tmp_path / name), name
    (flat / "dataset.toml").write_text("")
    assert not opens_as_labels(flat)


def test_unreadable_pictures_are_refused_when_read_and_listed(flat):
    dataset = data.open_labels(flat)
    broken, deep, alpha = (flat / name for name in dataset.ids[:3])
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((6, 8), 4000, np.uint16)).save(deep)
    Image.new("LA", (8, 6), (7, 0)).save(alpha)
    with pytest.raises(DataError, match="cannot be read as a picture"):
        dataset[0]
    with pytest.raises(DataError, match="stores no bytes; received mode I;16; expected 8 bits a channel"):
        dataset[1]
    assert float(dataset[2][0].max()) == pytest.approx(7 / 255)
    report = data.inspect(dataset)
    assert len(report["problems"]) == 2
    assert report["sizes"] == {"6x8": len(dataset) - 2}
    (flat / dataset.ids[3]).unlink()
    with pytest.raises(DataError, match="does not exist"):
        dataset[3]
