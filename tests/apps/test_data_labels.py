"""`onelip data inspect` on sets with one class an image."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Three cats, two of which are the same, and two dogs, one broken and one a cat."""
    for name, values in (("cat", (10, 20, 20)), ("dog", (20, 99))):
        for part in ("train", "test"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for k, value in enumerate(values):
                pixels = np.full((16, 20, 3), value, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / part / name / f"{k}.png")
    (tmp_path / "pets" / "train" / "dog" / "1.png").write_bytes(b"broken")
    return tmp_path / "pets"


def test_a_folder_of_classes_is_counted_and_drawn(call, folder, tmp_path):
    out = tmp_path / "out"
    done = call("data", "inspect", folder, "--out", out)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    for text in (
        "5 images (4 of 16x20)",
        "cat 3 60.00 %",
        "dog 2 40.00 %",
        "1 in the same class, 1 in another class (cat/1.png = dog/0.png; cat/1.png = cat/2.png)",
        "mean 0.0686 0.0686 0.0686",
        "problem: ",
        f"onelip.data.open_labels('{folder}', 'train')",
    ):
        assert text in words
    results = json.loads((out / "results.json").read_text())
    assert [c["images"] for c in results["classes"]] == [3, 2]
    assert (results["kind"], results["duplicates"]["other"], len(results["problems"])) == ("data", 1, 1)
    assert np.asarray(Image.open(out / "contact.png")).shape[1] == 4 * 96  # the broken picture is left out


def test_digits_and_wrong_splits(call, folder, tmp_path):
    done = call(
        "data",
        "inspect",
        "digits",
        "--split",
        "test",
        "--size",
        "28x28",
        "--pictures",
        "0",
        "--out",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "397 of 28x28" in " ".join(done.stdout.split())
    assert not (tmp_path / "contact.png").exists()
    done = call("data", "inspect", folder, "--split", "val", "--out", tmp_path)
    assert done.returncode == 2
    assert "pets has no split 'val'; expected one of test, train" in done.stderr
    done = call("data", "inspect", "digits", "--boxes", "--out", tmp_path)
    assert done.returncode == 2
    assert "there is no set of boxes 'digits'" in done.stderr
