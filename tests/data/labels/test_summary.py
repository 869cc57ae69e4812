"""Counts, moments and copies against plain numpy; the contact sheet shows every class."""

from __future__ import annotations

import json

import numpy as np
import pytest

from onelip import data
from onelip.core.errors import InputError
from onelip.data.labels import ClassificationDataset, contact_labels, inspect_labels


def own(pictures, labels, classes=("x", "y", "z"), **options):
    ids = [f"train-{k:05d}" for k in range(len(pictures))]
    return ClassificationDataset(
        "own", "train", pictures=pictures, labels=labels, ids=ids, classes=classes, **options
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_the_report_counts_what_is_there(channels):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 5, 7, 3), dtype=np.uint8)
    pictures = pictures if channels == 3 else pictures[..., 0]
    report = inspect_labels(own(pictures, [0, 0, 1, 0, 1, 0, 0, 0, 0], channels=channels))
    assert report["images"] == 9
    assert report["classes"] == [
        {"name": "x", "images": 7, "share": 7 / 9},
        {"name": "y", "images": 2, "share": 2 / 9},
        {"name": "z", "images": 0, "share": 0.0},
    ]
    flat = pictures.reshape(-1, channels) / 255
    assert report["mean"] == pytest.approx(flat.mean(0), abs=6e-5)
    assert report["std"] == pytest.approx(flat.std(0), abs=6e-5)
    assert (report["channels"], report["sizes"], report["problems"]) == (channels, {"5x7": 9}, [])
    json.dumps(report, allow_nan=False)
    assert data.inspect(own(pictures, [0] * 9, channels=channels))["classes"][0]["images"] == 9


def test_copies_are_counted_by_class():
    pictures = np.zeros((7, 2, 2), np.uint8)
    pictures[[2, 4]] = 9
    pictures[5] = 7
    found = inspect_labels(own(pictures, [0, 0, 1, 1, 1, 2, 0]))["duplicates"]
    # picture 1 and 6 are 0 again; 3 is 0 in another class; 4 is 2 again
    assert (found["same"], found["other"]) == (3, 1)
    assert found["first"] == [
        ["train-00000", "train-00003"],
        ["train-00000", "train-00001"],
        ["train-00002", "train-00004"],
        ["train-00000", "train-00006"],
    ]


def test_equal_bytes_of_another_shape_are_no_copy():
    class Shapes:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((2, 8) if index else (4, 4), np.uint8)

    assert inspect_labels(own(Shapes(), [0, 0]))["duplicates"]["same"] == 0


@pytest.mark.parametrize(("count", "classes"), [(24, 3), (7, 3), (3, 3), (2, 2), (1, 1)])
def test_the_sheet_shows_classes_side_by_side(count, classes):
    pictures = np.zeros((30, 8, 8), np.uint8)
    labels = np.array([0] * 20 + [1] * 8 + [2] * 2)
    pictures[:] = (60 + 90 * labels)[:, None, None]
    page = contact_labels(own(pictures, labels), count)
    rows = page.reshape(-1, 110, page.shape[1] // 96, 96, 3)[:, 10:86].transpose(0, 2, 1, 3, 4)
    tiles = rows.reshape(-1, 76, 96, 3)[:, :, 10:86]
    shown = [int(t[0, 0, 0]) for t in tiles if (t == t[0, 0]).all() and t[0, 0, 0] != 24]
    assert shown == sorted(shown)
    assert len(set(shown)) == classes
    assert len(shown) <= count
    if count >= 3:
        each = count // 3
        assert [shown.count(60 + 90 * k) for k in range(3)] == [min(each, n) for n in (20, 8, 2)]


def test_sheets_want_pictures():
    dataset = own(np.zeros((2, 4, 4), np.uint8), [0, 1])
    assert data.contact(dataset, 2).shape == (110, 192, 3)
    with pytest.raises(InputError, match="count"):
        data.contact(dataset, 0)
