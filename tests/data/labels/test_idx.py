"""MNIST's files: values as they were written, parts, every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from onelip import data
from onelip.core.errors import DataError
from onelip.data.labels.digits import part
from onelip.data.labels.idx import IMAGES, read_idx


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("inside", ["", "MNIST/raw", "raw"])
def test_values_are_those_of_the_files(write, tmp_path, packed, inside):
    write.mnist(tmp_path / inside, packed=packed)
    images, labels = write.digits(20)
    whole = data.open_labels("mnist", "trainval", root=tmp_path)
    assert whole.labels.tolist() == labels.tolist()
    for index, (image, label) in enumerate(whole):
        assert torch.equal(image, torch.from_numpy(images[index])[None].float() / 255)
        assert label == labels[index]
    assert whole.classes == tuple("0123456789")
    test = data.open_labels("mnist", "test", root=tmp_path)
    assert torch.equal(test[9][0][0], torch.from_numpy(write.digits(10, seed=1)[0][9]).float() / 255)
    assert (test.ids[9], len(test)) == ("test-00009", 10)


def test_train_and_val_share_nothing_and_are_all(write, tmp_path):
    write.mnist(tmp_path)
    parts = {name: data.open_labels("mnist", name, root=tmp_path) for name in ("train", "val", "trainval")}
    assert parts["train"].ids + parts["val"].ids == parts["trainval"].ids
    assert (len(parts["train"]), len(parts["val"])) == (18, 2)
    assert torch.equal(parts["val"][0][0], parts["trainval"][18][0])
    assert (part("train", 60000), part("val", 60000)) == (range(55000), range(55000, 60000))
    with pytest.raises(
        DataError, match="mnist has no split 'dev'; expected one of test, train, trainval, val"
    ):
        data.open_labels("mnist", "dev", root=tmp_path)


def test_images_may_be_cut_in_parts(write, tmp_path):
    images, labels = write.digits(12)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(write.idx(labels))
    for number, rows in ((1, images[:3]), (10, images[11:]), (2, images[3:11])):
        (tmp_path / f"train-images-part{number}-idx3-ubyte.gz").write_bytes(gzip.compress(write.idx(rows)))
    with pytest.raises(
        DataError, match=r"parts of a file are missing.*expected part 3, 4, 5, 6, 7, 8, 9 too"
    ):
        data.open_labels("fashion_mnist", "trainval", root=tmp_path)
    (tmp_path / "train-images-part10-idx3-ubyte.gz").rename(tmp_path / "train-images-part3-idx3-ubyte.gz")
    joined = data.open_labels("fashion_mnist", "trainval", root=tmp_path)
    assert np.array_equal(np.stack([joined.picture(k)[..., 0] for k in range(12)]), images)
    (tmp_path / "train-images-part3-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"11 images in .*part1.*part2.*, 12 labels"):
        data.open_labels("fashion_mnist", "trainval", root=tmp_path)


def header(magic, *shape):
    return struct.pack(f">i{len(shape)}I", magic, *shape)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not an idx file of images; received 0 bytes"),
        (b"\x00\x00\x08", "received 3 bytes"),
        (header(2049, 2) + bytes(2), "magic number 2049, that of labels; expected magic number 2051"),
        (struct.pack("<iIII", 2051, 1, 2, 2) + bytes(4), "received magic number 50855936"),
        (header(2051, 2), "ends in its header; received 8 bytes; expected 16"),
        (header(2051, 0, 4, 4), "holds nothing; received a header of .0, 4, 4."),
        (
            header(2051, 2, 2, 2) + bytes(7),
            "received at most 23 bytes|received 7 bytes; expected 8 bytes for 2 x 2 x 2",
        ),
        (header(2051, 2, 2, 2) + bytes(9), "received more bytes; expected 8 bytes"),
        (
            header(2051, 2**31, 2**15, 2**15),
            "not the length that its header tells; received at most 16 bytes",
        ),
        (gzip.compress(header(2051, 2, 2, 2) + bytes(7)), "received 7 bytes; expected 8 bytes"),
        (gzip.compress(header(2051, 9, 9, 9) + bytes(729))[:-20], "cannot be read.*truncated or corrupt"),
        (b"\x1f\x8b" + bytes(40), "cannot be read.*truncated or corrupt"),
        (gzip.compress(header(2051, 2**31, 2**15, 2**15)), "not the length that its header tells"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, text):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text):
        read_idx(path, IMAGES)


def test_a_changed_byte_of_a_gzip_is_found(write, tmp_path):
    packed = bytearray(gzip.compress(write.idx(write.digits(20)[0])))
    packed[-6] ^= 1  # of the checksum
    (tmp_path / "images").write_bytes(packed)
    with pytest.raises(DataError, match="cannot be read; received CRC check failed"):
        read_idx(tmp_path / "images", IMAGES)


def test_labels_outside_the_classes_and_missing_files(write, tmp_path):
    write.mnist(tmp_path, packed=False)
    labels = write.digits(20)[1]
    labels[[3, 5]] = 10, 200
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(write.idx(labels))
    with pytest.raises(
        DataError, match=r"labels that are no class; received \[10, 200\] for 2 images; expected 0..9"
    ):
        data.open_labels("mnist", "trainval", root=tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"expected t10k-labels-idx1-ubyte, plain or \.gz"):
        data.open_labels("mnist", "test", root=tmp_path)
    with pytest.raises(DataError, match="the folder of mnist does not exist"):
        data.open_labels("mnist", root=tmp_path / "nowhere")
    with pytest.raises(DataError, match="does not exist; expected an idx file"):
        read_idx(tmp_path / "nowhere", IMAGES)


@pytest.mark.parametrize(
    ("name", "digests"),
    [
        ("mnist", ("6bbc9ace898e44ae57da46a324031adb", "2646ac647ad5339dbf082846283269ea")),
        ("fashion_mnist", ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "8181f5470baa50b63fa0f6fddb340f0a")),
    ],
)
def test_the_real_files_have_the_bytes_of_the_standard_ones(real, name, digests):
    root = real(name)
    for split, digest, total in (("trainval", digests[0], 60000), ("test", digests[1], 10000)):
        dataset = data.open_labels(name, split, root=root)
        pixels = np.concatenate([dataset.picture(k).ravel() for k in range(total)])
        found = hashlib.md5(header(2051, total, 28, 28) + pixels.tobytes(), usedforsecurity=False)
        assert found.hexdigest() == digest
    if name == "mnist":
        assert dataset.counts() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    else:
        assert dataset.counts() == [1000] * 10
