"""What every set of labels keeps: order, names, classes, sizes, channels; limits; the embedded digits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from onelip import data
from onelip.core.errors import DataError, InputError
from onelip.data.labels import ClassificationDataset


def own(pictures=None, labels=(0, 1, 0, 1, 1), **options):
    pictures = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6) if pictures is None else pictures
    given = {"ids": list("abcde"), "classes": ("x", "y"), **options}
    return ClassificationDataset("own", "train", pictures=pictures, labels=labels, **given)


def test_the_digits_are_those_of_scikit_learn_in_three_parts():
    found = load_digits()
    parts = [data.open_labels("digits", name) for name in ("train", "val", "test")]
    assert [len(p) for p in parts] == [1200, 200, 397]
    assert torch.cat([p.labels for p in parts]).tolist() == found.target.tolist()
    assert len({name for p in parts for name in p.ids}) == 1797
    images = torch.cat([torch.stack([image for image, _ in p]) for p in parts])
    assert images.dtype == torch.float32
    assert torch.allclose(images[:, 0].double(), torch.from_numpy(found.images) / 16, atol=0.5 / 255 + 1e-6)
    assert min(min(p.counts()) for p in parts) >= 16  # every class in every part
    assert len(data.open_labels("digits", "trainval")) == 1400


def test_digits_need_no_folder(monkeypatch):
    monkeypatch.setenv("ONELIP_DATA", "/nowhere")
    assert data.open_labels("digits", "validation").split == "val"
    with pytest.raises(DataError, match=r"mnist is not on this machine; received nothing at /nowhere/mnist"):
        data.open_labels("mnist")


def test_items_are_floats_and_ints():
    dataset = own()
    image, label = dataset[1]
    assert (image.shape, image.dtype, type(label), label) == ((1, 4, 6), torch.float32, int, 1)
    assert torch.equal(image[0], torch.arange(24, 48).reshape(4, 6) / 255)
    assert torch.equal(dataset[-1][0], dataset[4][0])
    assert len(list(dataset)) == len(dataset) == 5
    assert (dataset.labels.dtype, dataset.counts()) == (torch.int64, [2, 3])
    for index in (5, -6):
        with pytest.raises(IndexError, match="outside the 5 images"):
            dataset[index]


def test_sizes_and_channels_are_those_of_pillow():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    grey = own(rgb, channels=1).picture(2)
    assert np.array_equal(grey[..., 0], np.asarray(Image.fromarray(rgb[2]).convert("L")))
    assert grey.shape == (4, 6, 1)
    three = own(channels=3)[3][0]
    assert three.shape == (3, 4, 6)
    assert torch.equal(three, own()[3][0].expand(3, -1, -1))
    for channels in (1, 3):
        large = own(rgb, channels=channels, size=(8, 12), cache=True)
        assert large[0][0].shape == (channels, 8, 12)
        assert torch.equal(large[0][0], large[0][0])
    wanted = Image.fromarray(rgb[4]).resize((12, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(own(rgb, channels=3, size=(8, 12)).picture(4), np.asarray(wanted))


def test_the_cache_gives_the_picture_of_its_own_row():
    class Counted:
        reads = 0

        def __len__(self):
            return 5

        def __getitem__(self, index):
            self.reads += 1
            return np.full((2, 2), index, np.uint8)

    pictures = Counted()
    dataset = own(pictures, cache=True)
    part = dataset.some([3, 1])
    assert [int(part.picture(k).max()) for k in (0, 1, 0)] == [3, 1, 3]
    assert [int(dataset.picture(k).max()) for k in (3, 1, 0)] == [3, 1, 0]
    assert pictures.reads == 3
    assert part.some([1]).ids == ("b",)
    assert int(part.some([1]).picture(0).max()) == 1


def test_a_part_keeps_names_labels_and_pictures_together():
    dataset = own()
    part = dataset.some([4, 0])
    assert (part.ids, part.labels.tolist(), len(dataset)) == (("e", "a"), [1, 0], 5)
    assert torch.equal(part[0][0], dataset[4][0])
    with pytest.raises(InputError, match=r"no such images; received \[5\]; expected indices in 0..4"):
        dataset.some([1, 5])
    with pytest.raises(DataError, match="b more than once"):
        dataset.some([1, 1])


def test_limits_are_nested_and_blind_to_class_and_order():
    whole = data.open_labels("digits", "train")
    small, large = (data.open_labels("digits", "train", limit=n) for n in (150, 400))
    assert (len(small), len(large)) == (150, 400)
    assert set(small.ids) < set(large.ids) < set(whole.ids)
    assert list(small.ids) == sorted(small.ids)
    shares = np.array(large.counts()) / 400
    assert abs(shares - 0.1).max() < 0.06  # every share within four standard deviations
    place = {name: k for k, name in enumerate(whole.ids)}
    for k in (0, 77, 149):
        assert torch.equal(small[k][0], whole[place[small.ids[k]]][0])
        assert small[k][1] == whole[place[small.ids[k]]][1]
    assert data.open_labels("digits", "test", limit=10**6).ids == data.open_labels("digits", "test").ids
    ranked = sorted(whole.ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert set(small.ids) == set(ranked[:150])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limit": 0}, "`limit` is not usable"),
        ({"limit": True}, "`limit` is not usable"),
        ({"channels": 2}, r"`channels` is wrong; received 2; expected 1 \(grey\) or 3 \(RGB\)"),
        ({"size": (28,)}, "the size is wrong"),
        ({"size": (0, 28)}, "the size is wrong"),
        ({"root": "somewhere"}, "`root` fits cifar10, fashion_mnist, mnist only"),
    ],
)
def test_wrong_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        data.open_labels("digits", **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"labels": [0, 1, 0, 1, 2]},
            r"labels that are no class; received \[2\] for 1 images; expected 0..1",
        ),
        ({"labels": [0, 1, 0, 1, -1]}, r"received \[-1\]"),
        ({"labels": [0.0, 1, 0, 1, 1]}, "not a list of integers"),
        ({"labels": [True, False, True, True, True]}, "not a list of integers"),
        ({"labels": [0, 1]}, "5 pictures, 2 labels, 5 names"),
        ({"ids": list("abcda")}, "names of the images are wrong; received a more than once"),
        ({"classes": ("x", "x")}, "names of the classes are wrong; received x more than once"),
        ({"classes": ("x",), "labels": [0] * 5}, "names of the classes are wrong; received 1"),
        ({"pictures": np.zeros((0, 4, 4), np.uint8), "labels": [], "ids": []}, "0 pictures, 0 labels"),
    ],
)
def test_wrong_sets_are_refused(options, text):
    with pytest.raises(DataError, match=text):
        own(**options)


def test_only_bytes_are_pictures():
    for wrong in (np.zeros((5, 4, 6)), np.zeros((5, 4, 6, 4), np.uint8), np.zeros((5, 4), np.uint8)):
        with pytest.raises(DataError, match="own train b: not a picture of bytes"):
            own(wrong)[1]


def test_unknown_names():
    with pytest.raises(
        DataError, match=r"there is no set of labels 'fashion-mnist'.*did you mean 'fashion_mnist'"
    ):
        data.open_labels("fashion-mnist")
    with pytest.raises(
        DataError, match=r"mnist has one class an image: onelip\.data\.open_labels\('mnist'\)"
    ):
        data.open("mnist")
    with pytest.raises(DataError, match="did you mean 'camvid'"):
        data.open("camvit")
