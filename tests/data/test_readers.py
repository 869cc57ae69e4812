"""Every known layout, made here in small, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onelip import data
from onelip.core.errors import ConfigError, DataError, InputError

SIZE = (6, 8)


def image(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def label(
    path: Path, values: np.ndarray | int, *, palette: bool = False, size: tuple[int, int] = SIZE
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = (
        np.full(size, values, dtype=np.uint8) if np.isscalar(values) else np.asarray(values, dtype=np.uint8)
    )
    picture = Image.fromarray(array)
    if palette:
        picture = Image.fromarray(array, mode="L").convert("P")
        picture.putdata(array.ravel().tolist())
        picture.putpalette([(37 * k) % 256 for k in range(768)])
    picture.save(path)
    return path


def stripes(*values: int) -> np.ndarray:
    return np.tile(np.array([values[k % len(values)] for k in range(SIZE[1])], dtype=np.uint8), (SIZE[0], 1))


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for stem in ("b", "a"):
            image(tmp_path / split / "images" / f"{stem}.webp")
            label(tmp_path / split / "labels" / f"{stem}.png", stripes(0, 3, 10, 11), palette=True)
        (tmp_path / split / "list.txt").write_text("b\na\n")
    return tmp_path


def test_camvid_void_and_order(camvid: Path) -> None:
    dataset = data.camvid(camvid, "train")
    assert dataset.ids == ("b", "a")  # the order of the list, not of the alphabet
    pixels, target = dataset[0]
    assert pixels.dtype == torch.float32
    assert pixels.shape == (3, *SIZE)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert target.dtype == torch.int64
    assert torch.equal(target, torch.from_numpy(stripes(0, 3, 10, 255).astype(np.int64)))


def test_camvid_segnet_layout(tmp_path: Path) -> None:
    for stem in ("x1", "x2"):
        image(tmp_path / "train" / f"{stem}.png")
        label(tmp_path / "trainannot" / f"{stem}.png", stripes(1, 11))
    lines = [f"/SegNet/CamVid/train/{s}.png /SegNet/CamVid/trainannot/{s}.png" for s in ("x2", "x1")]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    dataset = data.camvid(tmp_path, "train")
    assert dataset.ids == ("x2", "x1")
    assert dataset[1][1].unique().tolist() == [1, 255]


def test_camvid_refuses_another_class_list(camvid: Path) -> None:
    (camvid / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "void_index": 2}))
    with pytest.raises(DataError, match="other classes than CamVid"):
        data.camvid(camvid)


def test_split_names(camvid: Path) -> None:
    assert data.camvid(camvid, "validation").split == "val"
    with pytest.raises(DataError, match="no split 'test'; expected one of train, val"):
        data.camvid(camvid, "test")


def test_label_outside_the_list_names_the_file(camvid: Path) -> None:
    label(camvid / "train" / "labels" / "a.png", stripes(0, 12))
    with pytest.raises(DataError, match=r"a\.png: label ids outside the list.*\[12\]"):
        data.camvid(camvid)[1]


def test_sizes_must_agree(camvid: Path) -> None:
    label(camvid / "train" / "labels" / "a.png", 0, size=(5, 8))
    with pytest.raises(DataError, match=r"camvid train a: .*differ in size.*\(6, 8\).*\(5, 8\)"):
        data.camvid(camvid)[1]


def test_corrupt_image_names_the_file(camvid: Path) -> None:
    path = camvid / "train" / "images" / "a.webp"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.webp cannot be read as a picture"):
        data.camvid(camvid)[1]


def test_truncated_png_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "x.png"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    from onelip.data.dataset import read_image

    assert read_image(path).shape == (64, 64, 3)
    for cut in (10, 60, len(whole) // 2, len(whole) - 300):  # (pixels are missing)
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cannot be read"):
            read_image(path)


def test_missing_label_is_named(camvid: Path) -> None:
    (camvid / "train" / "labels" / "a.png").unlink()
    with pytest.raises(DataError, match="lacks 1 of 2 files; received nothing for a"):
        data.camvid(camvid)


def test_empty_and_wrong_folders(tmp_path: Path) -> None:
    for reader in (data.camvid, data.kvasir, data.cityscapes, data.voc, data.oxford_pet, data.folder):
        with pytest.raises(DataError, match="does not hold"):
            reader(tmp_path)
    (tmp_path / "train" / "labels").mkdir(parents=True)
    with pytest.raises(DataError, match="images does not exist"):
        data.camvid(tmp_path)
    (tmp_path / "train" / "images").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        data.camvid(tmp_path)


def test_colour_labels_are_refused(camvid: Path) -> None:
    image(camvid / "train" / "labels" / "a.png")
    with pytest.raises(DataError, match="stores no class indices; received mode RGB"):
        data.camvid(camvid)[1]


def test_kvasir_layouts(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        image(tmp_path / "parted" / split / "images" / "0001.webp")
        label(tmp_path / "parted" / split / "masks" / "0001.png", stripes(0, 1))
    assert data.kvasir(tmp_path / "parted", "val")[0][1].unique().tolist() == [0, 1]
    flat = tmp_path / "flat"
    for k in range(20):
        image(flat / "images" / f"{k}.jpg")
        label(flat / "masks" / f"{k}.jpg", 250 if k % 2 else 4)  # JPEG masks are never exactly 0 and 255
    parts = {s: data.kvasir(flat, s) for s in ("train", "validation", "test")}
    assert [len(p) for p in parts.values()] == [16, 2, 2]
    assert len({i for p in parts.values() for i in p.ids}) == 20  # no image is in two parts
    for part in parts.values():
        assert all(part[k][1].unique().tolist() == [int(i) % 2] for k, i in enumerate(part.ids))


def test_cityscapes_ids(tmp_path: Path) -> None:
    official = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)  # 255 is how the id -1 is stored
    image(tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_0_0_leftImg8bit.png", (16, 16))
    label(tmp_path / "gtFine" / "train" / "ulm" / "ulm_0_0_gtFine_labelIds.png", values)
    dataset = data.cityscapes(tmp_path)
    target = dataset[0][1].flatten()
    assert len(dataset.classes) == 19
    assert dataset.classes[0] == "road"
    assert dataset.classes[18] == "bicycle"
    assert target[official].tolist() == list(range(19))
    others = [v for v in range(256) if v not in official]
    assert target[others].unique().tolist() == [255]


def test_voc_void_and_palette(tmp_path: Path) -> None:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    image(base / "JPEGImages" / "2007_1.jpg")
    label(base / "SegmentationClass" / "2007_1.png", stripes(0, 20, 255), palette=True)
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    assert data.voc(tmp_path)[0][1].unique().tolist() == [0, 20, 255]
    label(base / "SegmentationClass" / "2007_1.png", stripes(0, 21))
    with pytest.raises(DataError, match=r"outside the list.*\[21\]"):
        data.voc(tmp_path)[0]


def test_oxford_pet_trimap_minus_one(tmp_path: Path) -> None:
    names = [f"Cat_{k}" for k in range(20)]
    for name in names:
        image(tmp_path / "images" / f"{name}.jpg")
        label(tmp_path / "annotations" / "trimaps" / f"{name}.png", stripes(1, 2, 3))
    (tmp_path / "annotations" / "trainval.txt").write_text("".join(f"{n} 1 1 1\n" for n in names))
    dataset = data.oxford_pet(tmp_path, "trainval")
    assert dataset.classes == ("pet", "background", "border")
    assert torch.equal(dataset[0][1], torch.from_numpy(stripes(0, 1, 2).astype(np.int64)))
    train, val = data.oxford_pet(tmp_path, "train"), data.oxford_pet(tmp_path, "val")
    assert sorted([*train.ids, *val.ids]) == sorted(names)
    assert len(val) == 2


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for stem in ("a", "b"):
        image(tmp_path / "train" / "images" / f"{stem}.jpg")
        label(tmp_path / "train" / "masks" / f"{stem}.png", stripes(5, 9, 200))
    (tmp_path / "dataset.toml").write_text(
        'name="roofs"\nclasses=["ground","roof"]\nvalues=[5,9]\nvoid=[200]\n'
    )
    return tmp_path


def test_folder(own: Path) -> None:
    dataset = data.open(own)
    assert (dataset.name, dataset.classes, len(dataset)) == ("roofs", ("ground", "roof"), 2)
    assert torch.equal(dataset[0][1], torch.from_numpy(stripes(0, 1, 255).astype(np.int64)))


def test_folder_with_lists(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        image(tmp_path / "img" / f"{stem}.png")
        label(tmp_path / "ann" / f"{stem}.png", stripes(0, 1))
    (tmp_path / "dataset.toml").write_text('classes=["x","y"]\nimages="img"\nmasks="ann"\n')
    (tmp_path / "train.txt").write_text("c\na\n")
    (tmp_path / "val.txt").write_text("b.png\n")
    assert data.folder(tmp_path, "train").ids == ("c", "a")
    assert data.folder(tmp_path, "val").ids == ("b",)
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt is empty"):
        data.folder(tmp_path, "val")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("classes = [", "not valid TOML"),
        ('classes = ["only"]', "`classes` is wrong"),
        ('classes = ["a","b"]\nclases = 3', r"unknown keys; received \['clases'\]"),
        ('classes = ["a","b"]\nvalues = [0]', "`values` does not fit"),
        ('classes = ["a","b"]\nvalues = [0, 255]', "none of them void"),
        ('classes = ["a","b"]\nvoid = [300]', "`void` is wrong"),
        ('classes = ["a","b"]\npalette = [[0,0,0]]', "`palette` is wrong"),
        ('classes = ["a","b"]\nimages = 3', "`images` is wrong"),
    ],
)
def test_folder_description_is_checked(own: Path, text: str, match: str) -> None:
    (own / "dataset.toml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        data.folder(own)


def test_resize_and_cache(camvid: Path) -> None:
    dataset = data.camvid(camvid, size=(12, 16), cache=True)
    first, target = dataset[0]
    assert first.shape == (3, 12, 16)
    assert set(target.unique().tolist()) == {0, 3, 10, 255}
    (camvid / "train" / "images" / "b.webp").unlink()
    assert torch.equal(dataset[0][0], first)
    with pytest.raises(IndexError, match="outside the 2 images"):
        dataset[2]


def test_open_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONELIP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"camvid is not on this machine.*nowhere/camvid.*ONELIP_DATA"):
        data.open("camvid")
    with pytest.raises(DataError, match="did you mean 'camvid'"):
        data.open("canvid")
    with pytest.raises(DataError, match="no split"):
        data.open("scenes", "extra")
    with pytest.raises(InputError, match="size is wrong"):
        data.open("scenes", size=(0, 4))


def test_open_finds_by_environment(camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONELIP_DATA", str(camvid.parent))
    target = camvid.parent / "camvid"
    if not target.exists():
        target.symlink_to(camvid)
    assert len(data.open("camvid", "val")) == 2
    assert len(data.open("camvid", root=camvid)) == 2


def real(name: str) -> data.SegmentationDataset:
    try:
        return data.open(name, "train")
    except DataError as error:
        pytest.skip(f"needs the real data: {error}")


def test_real_camvid() -> None:
    dataset = real("camvid")
    assert len(dataset) == 367
    assert dataset[0][0].shape == (3, 360, 480)
    record = json.loads((dataset.samples[0].image.parents[2] / "classes.json").read_text())
    stats = data.class_statistics(dataset)
    assert [*stats.pixels, stats.void] == record["train_pixel_counts"]
    assert stats.median_frequency_weights == pytest.approx(record["median_frequency_weights_train"], abs=1e-3)


def test_real_kvasir() -> None:
    dataset = real("kvasir")
    assert len(dataset) == 800
    assert dataset[0][0].shape == (3, 256, 256)
    assert data.class_statistics(dataset).shares[1] == pytest.approx(0.1537, abs=1e-3)
