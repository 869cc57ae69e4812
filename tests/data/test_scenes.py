"""Drawn scenes: the same for a seed, different for another, all classes present; and the report on a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onelip import data
from onelip.core.errors import DataError, InputError


def test_deterministic_by_seed_and_index() -> None:
    first, second, other = (
        data.scenes(4, (48, 64)),
        data.scenes(9, (48, 64)),
        data.scenes(4, (48, 64), seed=1),
    )
    for k in (3, 0):  # any order, any length of the set
        assert torch.equal(first[k][0], second[k][0])
        assert torch.equal(first[k][1], second[k][1])
    assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_all_classes_appear_and_nothing_is_void() -> None:
    dataset = data.scenes(24, (96, 144), seed=5)
    stats = data.class_statistics(dataset)
    assert stats.void == 0
    assert all(share > 0.001 for share in stats.shares)
    assert max(stats.shares) < 0.5


@pytest.mark.parametrize("size", [(16, 16), (33, 71), (360, 480)])
def test_any_size(size: tuple[int, int]) -> None:
    image, target = data.scenes(1, size)[0]
    assert image.shape == (3, *size)
    assert target.shape == size


def test_the_picture_follows_the_labels() -> None:
    """Sky is brighter and bluer than the road in every scene."""
    for image, target in data.scenes(8, (96, 128), seed=2):
        sky, road = (image[:, target == k].mean(1) for k in (0, 2))
        assert sky.mean() > road.mean()
        assert sky[2] - sky[0] > road[2] - road[0]


@pytest.mark.parametrize("arguments", [{"n": 0}, {"size": (8, 64)}, {"seed": -1}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError, match="cannot be drawn"):
        data.scenes(**arguments)


def test_splits_do_not_overlap() -> None:
    train, val = data.open("scenes", "train", size=(32, 48)), data.open("scenes", "val", size=(32, 48))
    assert not set(train.ids) & set(val.ids)
    assert not torch.equal(train[0][0], val[0][0])


def test_inspect_counts_by_hand(tmp_path: Path) -> None:
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "masks").mkdir()
    (tmp_path / "dataset.toml").write_text('classes=["a","b","c"]')
    masks = {"one": [[0, 0, 1, 255]], "two": [[0, 0, 0, 0]], "bad": [[0, 7, 7, 0]]}
    for name, values in masks.items():
        Image.fromarray(np.array(values, dtype=np.uint8)).save(tmp_path / "train" / "masks" / f"{name}.png")
        Image.fromarray(np.full((1, 4, 3), 51, dtype=np.uint8)).save(
            tmp_path / "train" / "images" / f"{name}.png"
        )
    report = data.inspect(data.folder(tmp_path))
    assert report["images"] == 3
    assert report["sizes"] == {"1x4": 2}
    assert len(report["problems"]) == 1
    assert "bad.png: label ids" in report["problems"][0]
    rows = {row["name"]: row for row in report["classes"]}
    assert rows["a"]["share"] == 6 / 8
    assert rows["b"]["share"] == 1 / 8
    assert report["void_share"] == 1 / 8
    assert [rows[k]["images"] for k in "abc"] == [2, 1, 0]
    # frequencies: a 6 of 8 pixels, b 1 of 4, c nowhere; the median of (3/4, 1/4) is 1/2
    assert [rows[k]["weight"] for k in "abc"] == pytest.approx([2 / 3, 2.0, 0.0])
    assert report["mean"] == [0.2] * 3
    assert report["std"] == [0.0] * 3


def test_statistics_of_nothing_raise(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "train" / part).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), 255, dtype=np.uint8)).save(tmp_path / "train" / part / "x.png")
    (tmp_path / "dataset.toml").write_text('classes=["a","b"]')
    with pytest.raises(DataError, match="no labelled pixel"):
        data.class_statistics(data.folder(tmp_path))
    assert data.inspect(data.folder(tmp_path))["void_share"] == 1.0
