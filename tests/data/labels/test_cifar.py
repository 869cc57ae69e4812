"""CIFAR-10's layouts give the same pictures; pickles run nothing; every way in which a file can be wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from onelip import data
from onelip.core.errors import DataError
from onelip.data.labels.cifar import CLASSES
from onelip.data.labels.pickled import read_batch


@pytest.mark.parametrize(
    "layout", ["binary", "python2", "python3 protocol 2", "python3 protocol 4", "inside"]
)
def test_layouts_give_the_pixels_and_labels_of_their_rows(write, tmp_path, layout):
    if layout == "binary":
        write.binary(tmp_path)
    elif layout == "inside":
        write.binary(tmp_path / "cifar-10-batches-bin")
    else:
        protocol = None if layout == "python2" else int(layout[-1])
        write.python(tmp_path / "cifar-10-batches-py", protocol=protocol)
    whole, test = (data.open_labels("cifar10", split, root=tmp_path) for split in ("trainval", "test"))
    assert (len(whole), len(test), whole.classes) == (20, 4, CLASSES)
    for dataset, seeds in ((whole, range(5)), (test, [5])):
        rows, labels = (
            np.concatenate(parts) for parts in zip(*(write.rows(4, k) for k in seeds), strict=True)
        )
        assert dataset.labels.tolist() == labels.tolist()
        images = torch.stack([image for image, _ in dataset])
        assert torch.equal(images, torch.from_numpy(rows).reshape(-1, 3, 32, 32).float() / 255)
    train, val = (data.open_labels("cifar10", split, root=tmp_path) for split in ("train", "val"))
    assert train.ids + val.ids == whole.ids
    assert len(val) == 2
    assert torch.equal(val[1][0], whole[19][0])


@pytest.mark.parametrize("encoding", ["bytes", "latin1"])
def test_the_batches_of_these_tests_are_what_an_ordinary_unpickler_reads(write, encoding):
    rows, labels = write.rows(3)
    found = pickle.loads(write.python2(rows, labels), encoding=encoding)
    data_key, labels_key = (b"data", b"labels") if encoding == "bytes" else ("data", "labels")
    assert np.array_equal(found[data_key], rows)
    assert found[labels_key] == labels.tolist()


class Evil:
    """What runs a program when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch was_run",)


def global_call(module, name, argument):
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Evil(), b"labels": []}),
        pickle.dumps({b"data": Evil(), b"labels": []}, protocol=0),
        global_call("builtins", "eval", "__import__('os').system('touch was_run')"),
        global_call("__builtin__", "exec", "open('was_run', 'w')"),
        global_call("numpy", "load", "was_run"),
        global_call("numpy.core.multiarray", "scalar", "x"),
        b"cnumpy\ndtype\n(S'u1'\ntR(dS'x'\nS'y'\nstb.",
        pickle.dumps(np.array([Evil()], dtype=object)),
    ],
)
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(
        DataError, match=r"pickles can run programs.*use the binary version of CIFAR-10.*data_batch_1"
    ):
        read_batch(tmp_path / "batch", 3072)
    assert not (tmp_path / "was_run").exists()


def test_a_pickle_cannot_change_what_the_next_one_is_read_with(write, tmp_path):
    path = tmp_path / "batch"
    for name in (b"numpy\ndtype", b"numpy.core.multiarray\n_reconstruct", b"_codecs\nencode"):
        path.write_bytes(b"c" + name + b"\n}S'__init__'\nNsb.")  # BUILD on the name itself
        with pytest.raises(DataError):
            read_batch(path, 3072)
    rows, labels = write.rows(3)
    path.write_bytes(write.python2(rows, labels))
    pixels, found = read_batch(path, 3072)
    assert np.array_equal(pixels, rows)
    assert found.tolist() == labels.tolist()


def test_wrong_batches_are_refused(write, tmp_path):
    rows, labels = write.rows(3)
    good = {b"data": rows, b"labels": labels.tolist()}
    path = tmp_path / "batch"
    for change, text in (
        ({b"labels": [1, 2]}, "3 images and 2 labels"),
        ({b"labels": [1, 2, 300]}, "labels that are no list of integers in 0..255"),
        ({b"labels": [1, 2, True]}, "labels that are no list"),
        ({b"labels": None}, "labels that are no list"),
        ({b"data": None}, "no array of pixels"),
        ({b"data": rows.astype(np.int64)}, "an array of b'i8' with shape"),
        ({b"data": rows[:, :3071]}, r"shape \(3, 3071\)"),
        ({b"data": rows.reshape(3, 3, 32, 32)}, r"shape \(3, 3, 32, 32\)"),
    ):
        path.write_bytes(pickle.dumps({**good, **change}, protocol=2))
        with pytest.raises(DataError, match=text):
            read_batch(path, 3072)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="received list"):
        read_batch(path, 3072)
    whole = write.python2(rows, labels)
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="truncated"):
            read_batch(path, 3072)
    path.write_bytes(whole.replace(b"J" + struct.pack("<i", 3072), b"J" + struct.pack("<i", -3072)))
    with pytest.raises(DataError, match=r"shape \(3, -3072\)"):
        read_batch(path, 3072)
    width = b"J" + struct.pack("<i", 3072)
    for count in (2, 4):
        changed = b"(J" + struct.pack("<i", count) + width
        path.write_bytes(whole.replace(b"(J" + struct.pack("<i", 3) + width, changed))
        with pytest.raises(DataError, match="bytes do not fill its shape"):
            read_batch(path, 3072)
    order = np.asfortranarray(rows)
    path.write_bytes(pickle.dumps({**good, b"data": order}, protocol=2))
    assert np.array_equal(read_batch(path, 3072)[0], rows)
    with pytest.raises(DataError, match="cannot be read"):
        read_batch(tmp_path, 3072)


def test_large_files_are_not_unpickled(tmp_path):
    path = tmp_path / "batch"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="received 67108865 bytes"):
        read_batch(path, 3072)


def test_wrong_binary_files_and_folders(write, tmp_path):
    write.binary(tmp_path)
    test = tmp_path / "test_batch.bin"
    test.write_bytes(test.read_bytes()[:-1])
    with pytest.raises(DataError, match="received 12291 bytes; expected a multiple of 3073"):
        data.open_labels("cifar10", "test", root=tmp_path)
    test.write_bytes(b"")
    with pytest.raises(DataError, match="received 0 bytes"):
        data.open_labels("cifar10", "test", root=tmp_path)
    test.write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match=r"labels that are no class; received \[10\] for 1 images"):
        data.open_labels("cifar10", "test", root=tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 5 files; received nothing for data_batch_3\.bin"):
        data.open_labels("cifar10", root=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"received an empty folder; expected .*data_batch_1 to data_batch_5"):
        data.open_labels("cifar10", root=tmp_path / "empty")


def jpeg(value, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(buffer, "JPEG")
    return buffer.getvalue()


def archive(path, streams, classes, **change):
    offsets = np.cumsum([0, *map(len, streams)])
    record = {
        "jpeg": np.frombuffer(b"".join(streams), np.uint8),
        "offsets": offsets,
        "labels": np.array(classes),
    }
    np.savez_compressed(path, **{**record, **change})


def test_archives_of_jpeg_streams(tmp_path):
    path = tmp_path / "cifar10_test.npz"
    streams = [jpeg(0), jpeg(100), jpeg(9, (16, 16)), b"broken", jpeg(255)]
    archive(path, streams, [0, 1, 2, 3, 9])
    dataset = data.open_labels("cifar10", "test", root=tmp_path)
    assert [float(dataset[k][0].mean()) for k in (0, 1, 4)] == pytest.approx([0, 100 / 255, 1], abs=1e-6)
    assert dataset.labels.tolist() == [0, 1, 2, 3, 9]
    with pytest.raises(DataError, match="picture 2 is no JPEG of 32 x 32; received 16 x 16"):
        dataset[2]
    with pytest.raises(DataError, match="picture 3 is no JPEG of 32 x 32"):
        dataset[3]
    assert len(data.inspect(dataset)["problems"]) == 2
    (tmp_path / "classes.json").write_text(json.dumps([*CLASSES[1:], CLASSES[0]]))
    with pytest.raises(DataError, match="lists other classes than CIFAR-10's"):
        data.open_labels("cifar10", "test", root=tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"labels": np.array([0])}, "do not belong together"),
        ({"offsets": np.array([0, 5, 5])}, "do not belong together"),
        ({"offsets": np.array([0, *[len(jpeg(0) + jpeg(1))] * 2])}, "do not belong together"),
        ({"offsets": np.array([0.0, 5, 10])}, "do not belong together"),
        ({"offsets": np.array([0])}, "do not belong together"),
        ({"labels": np.array([0, -1])}, r"labels that are no class; received \[-1\]"),
        ({"labels": np.array([0.0, 1.0])}, "labels are not a list of integers"),
        ({"labels": np.array([None, 1])}, "cannot be read"),
    ],
)
def test_wrong_archives_are_refused(tmp_path, change, text):
    path = tmp_path / "cifar10_test.npz"
    archive(path, [jpeg(0), jpeg(1)], [0, 1], **change)
    with pytest.raises(DataError, match=text):
        data.open_labels("cifar10", "test", root=tmp_path)


def test_truncated_archives_and_missing_entries(tmp_path):
    path = tmp_path / "cifar10_test.npz"
    np.savez(path, jpeg=np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="expected an npz with jpeg, offsets and labels"):
        data.open_labels("cifar10", "test", root=tmp_path)
    archive(path, [jpeg(0), jpeg(1)], [0, 1])
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cannot be read"):
            data.open_labels("cifar10", "test", root=tmp_path)
    np.save(path.with_suffix(""), np.zeros(3))
    (tmp_path / "cifar10_test.npy").rename(path)
    with pytest.raises(DataError, match="cannot be read"):
        data.open_labels("cifar10", "test", root=tmp_path)


def test_the_real_files(real):
    dataset = data.open_labels("cifar10", "test", root=real("cifar10"))
    assert dataset.counts() == [1000] * 10
    assert dataset.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    report = data.inspect(dataset.limited(1000))
    assert report["problems"] == []
    assert report["mean"] == pytest.approx([0.4913, 0.4821, 0.4465], abs=0.02)  # of the training part
    assert report["std"] == pytest.approx([0.2452, 0.2428, 0.2606], abs=0.02)
