"""Models and data that do not belong together, and options out of range, through the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import onelip


@pytest.fixture(scope="module")
def places(digits, tmp_path_factory):
    """A segmentation model, a detector, classifiers, and a folder of three classes."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("places")
    onelip.models.create("fcn", classes=8, size="XS").eval().save(root / "dense", size=(32, 48))
    options = {"depths": (1, 1, 1), "strides": (8, 16), "channels": 8, "widths": (8, 8, 16)}
    detector = onelip.models.create("fcos", classes=1, size="XS", **options)
    with torch.no_grad():
        detector(torch.rand(2, 3, 32, 48))
    detector.eval().save(root / "detector", size=(32, 48))
    onelip.models.create("mlp", classes=7, size="XS", in_channels=1, image_size=(8, 8)).eval().save(
        root / "seven", size=(8, 8)
    )
    np.save(root / "bright.npy", np.full((8, 8), 3.0, dtype=np.float32))
    return {"digits": digits, "root": root, **{n: root / n for n in ("dense", "detector", "seven")}}


CASES = {
    "pixels for a classifier": (
        ["certify", "{digits}", "scenes"],
        ("a classifier", "a class for each pixel", "one class an image"),
    ),
    "boxes for a classifier": (["attack", "{digits}", "bccd"], ("a classifier", "holds boxes")),
    "classes for a segmentation model": (
        ["certify", "{dense}", "digits"],
        ("a segmentation model", "which holds one class an image", "a folder with a dataset.toml"),
    ),
    "classes for a detector": (["attack", "{detector}", "mnist"], ("a detector", "data with boxes")),
    "other classes": (
        ["certify", "{seven}", "digits"],
        ("the classifier does not fit the data set", "7 classes", "10 in digits"),
    ),
    "other classes, explain": (["explain", "{seven}", "digits"], ("7 classes", "10 in digits")),
    "no such data": (["certify", "{digits}", "minst"], ("there is no set of labels 'minst'", "'mnist'")),
    "no such split": (["certify", "{digits}", "digits", "--split", "dev"], ("dev",)),
    "negative eps": (["certify", "{digits}", "digits", "--eps", "0.1,-1"], ("-1.0 at index 1",)),
    "norm": (["attack", "{digits}", "digits", "--p", "3"], ("not a supported norm",)),
    "size of the model": (["certify", "{digits}", "digits", "--size", "9x9"], ("check size",)),
    "criteria": (
        ["certify", "{digits}", "digits", "--criteria", "miou"],
        ("--criteria means nothing for a classifier",),
    ),
    "classes option": (["certify", "{digits}", "digits", "--classes", "a"], ("--classes means nothing",)),
    "target out of range": (["explain", "{digits}", "digits", "--to", "10"], ("--to 10 is no class", "0..9")),
    "index out of range": (["explain", "{digits}", "digits", "--index", "9999"], ("--index is outside",)),
    "explain a detector": (["explain", "{detector}", "digits"], ("explain is for classifiers", "a detector")),
    "explain a segmentation model": (["explain", "{dense}", "scenes"], ("RegionLogits",)),
    "explain pixels": (["explain", "{digits}", "scenes"], ("which holds a class for each pixel",)),
    "no such picture": (["explain", "{digits}", "{root}/no.png"], ("no.png does not exist",)),
    "compare": (["compare", "{digits}", "digits"], ("compare is not for classifiers",)),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_exits_2_with_one_sentence(case, places, tmp_path, call):
    arguments, texts = CASES[case]
    finished = call(*(a.format(**places) for a in arguments), "--out", tmp_path / "out")
    assert finished.returncode == 2, finished.stdout
    for text in texts:
        assert text in finished.stderr
    assert finished.stderr.startswith("onelip: ")
    assert len(finished.stderr.splitlines()) == 1
    assert not (tmp_path / "out" / "results.json").exists()


def test_already_in_the_target_class(places, tmp_path, call):
    image, _ = onelip.data.open_labels("digits", "val")[0]
    predicted = int(onelip.load(places["digits"])(image[None]).argmax())
    finished = call("explain", places["digits"], "digits", "--to", predicted, "--out", tmp_path)
    assert finished.returncode == 2
    assert "already in the target class" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["certify", "{digits}", "scenes"], "the model does not fit the data set"),
        (["explain", "{digits}", "{root}/bright.npy"], "bright.npy` is out of range"),
    ],
)
def test_the_same_in_a_process_of_its_own(arguments, text, places, tmp_path):
    words = [a.format(**places) for a in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "onelip", *words, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
