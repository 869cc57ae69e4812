"""`onelip explain`: figures are those of the library, pictures and arrays, models without a proven bound."""

from __future__ import annotations

import json
import shlex
import textwrap
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import onelip
from onelip.apps.arguments import join_lists
from onelip.apps.labels.explained import read
from onelip.core.errors import DataError, InputError
from onelip.models import zoo
from onelip.models.base import LipModel


def results_of(out):
    return json.loads((out / "results.json").read_text())


def test_figures_are_those_of_the_library(digits, tmp_path, call, capsys):
    dataset = onelip.data.open_labels("digits", "test")
    image, label = dataset[5]
    model = onelip.load(digits)
    certificate = onelip.certify.classification(model, image[None])
    predicted = int(certificate.predicted[0])
    other = (predicted + 1) % 10
    found = onelip.explain.counterfactual(model, image[None], other, box=True)
    options = ["--split", "test", "--index", "5", "--to", other]
    finished = call("explain", digits, "digits", *options, "--out", tmp_path)
    assert finished.returncode == 0, finished.stderr
    results = results_of(tmp_path)
    assert (results["predicted"], results["asked"], results["label"]) == (
        str(predicted),
        str(other),
        str(label),
    )
    assert results["to"] == str(other)
    assert results["radius"] == certificate.stable_radius.item() > 0
    assert results["runner_up"] == str(int(certificate.runner_up[0]))
    assert results["distance"] == found.boundary_distance.item()
    assert results["lower_bound"] == found.lower_bound.item() >= results["radius"] - 1e-9
    assert results["gap"] == results["distance"] / results["lower_bound"] >= 1
    assert results["model"]["weights_sha256"] == certificate.weights_hash
    assert results["crossed"] is True
    assert results["refusal"] == ""
    with Image.open(tmp_path / results["picture"]) as picture:
        assert picture.width > 2 * picture.height  # four panels in a row
    printed = finished.stdout[finished.stdout.index("    import onelip") : finished.stdout.index("results: ")]
    exec(textwrap.dedent(printed), {})
    assert f"{predicted} -> {other}" in capsys.readouterr().out
    again = join_lists(shlex.split(results["command"])[1:])
    assert call(*again[:-1], tmp_path / "again").returncode == 0
    assert results_of(tmp_path / "again")["distance"] == results["distance"]


def test_files_are_explained_like_the_images_of_a_set(digits, tmp_path, call):
    image, _ = onelip.data.open_labels("digits", "val")[0]
    np.save(tmp_path / "digit.npy", image.numpy())
    Image.fromarray((255 * image[0]).round().byte().numpy()).save(tmp_path / "digit.png")
    whole = call("explain", digits, "digits", "--out", tmp_path / "a")
    assert whole.returncode == 0, whole.stderr
    for name in ("digit.npy", "digit.png"):
        finished = call("explain", digits, tmp_path / name, "--out", tmp_path / name[-3:])
        assert finished.returncode == 0, finished.stderr
        results, expected = results_of(tmp_path / name[-3:]), results_of(tmp_path / "a")
        assert results["label"] is None
        for key in ("predicted", "runner_up", "to"):
            assert results[key] == expected[key]
        for key in ("radius", "distance", "lower_bound"):
            assert results[key] == pytest.approx(expected[key], rel=1e-3)


def test_files_are_read_in_any_layout(tmp_path):
    values = np.random.default_rng(0).random((5, 6, 3)).astype(np.float32)
    for number, array in enumerate((values, values.transpose(2, 0, 1))):
        np.save(tmp_path / f"{number}.npy", array)
        assert torch.equal(read(tmp_path / f"{number}.npy", 3), torch.from_numpy(values).permute(2, 0, 1))
    np.save(tmp_path / "bytes.npy", (255 * values).astype(np.uint8))
    grey = read(tmp_path / "bytes.npy", 1)
    assert grey.shape == (1, 5, 6)
    brightness = (255 * values).astype(np.uint8) @ np.array([0.299, 0.587, 0.114]) / 255
    assert grey[0].numpy() == pytest.approx(brightness, abs=1e-6)
    np.save(tmp_path / "grey.npy", values[..., 0])
    assert read(tmp_path / "grey.npy", 3).shape == (3, 5, 6)
    assert read(tmp_path / "grey.npy", 1, (10, 12)).shape == (1, 10, 12)
    np.save(tmp_path / "odd.npy", values[..., :2])
    with pytest.raises(InputError, match="channels"):
        read(tmp_path / "odd.npy", 3)
    np.save(tmp_path / "flat.npy", values.ravel())
    (tmp_path / "text.npy").write_text("no array")
    for name in ("flat.npy", "text.npy", "nothing.npy", "nothing.png"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name, 3)


def test_images_outside_the_unit_box_are_refused(digits, tmp_path, call):
    for bad in (-0.01, 1.01, 200.0, float("nan"), float("inf")):
        array = np.full((8, 8), 0.5, dtype=np.float32)
        array[2, 3] = bad
        np.save(tmp_path / "bad.npy", array)
        finished = call("explain", digits, tmp_path / "bad.npy", "--out", tmp_path / "out")
        assert finished.returncode == 2, bad
        assert "bad.npy" in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


class Cubes(LipModel):
    """Proven at 8 x 8; at other sizes it cubes its features, of which no constant is known."""

    dense: ClassVar = False
    sizes: ClassVar = {"S": {}}

    def build(self, make, **_):
        self.head = nn.Linear(4, self.classes)

    def network(self, x):
        halves = x.unflatten(-2, (2, -1)).unflatten(-1, (2, -1)).mean((1, 3, 5)).flatten(1)
        return self.head(halves if x.shape[-1] == 8 else halves**3)


def test_a_model_without_a_proven_bound_is_explained_and_not_certified(tmp_path, call, monkeypatch):
    monkeypatch.setitem(zoo._ARCHITECTURES, "cubes-beyond-eight", Cubes)  # known to this test alone
    torch.manual_seed(0)
    onelip.models.create("cubes-beyond-eight", classes=10, in_channels=1).eval().save(
        tmp_path / "model", size=(8, 8)
    )
    start = [tmp_path / "model", "digits", "--size", "16x16", "--out", tmp_path / "out"]
    finished = call("explain", *start)
    assert finished.returncode == 0, finished.stderr
    assert "no certificate: no bound is proven" in finished.stdout
    results = results_of(tmp_path / "out")
    for key in ("radius", "lower_bound", "gap", "lipschitz", "runner_up"):
        assert results[key] is None
    assert results["distance"] > 0
    assert results["crossed"] is True
    assert len(results["model"]["weights_sha256"]) == 64
    assert (tmp_path / "out" / results["picture"]).is_file()
    for command in ("certify", "attack"):
        refused = call(command, *start, "--limit", "1")
        assert refused.returncode == 2
        assert "pow" in refused.stderr  # and not that the folder holds the results of another command
    known = call("explain", tmp_path / "model", "digits", "--out", tmp_path / "known")
    assert known.returncode == 0, known.stderr
    assert results_of(tmp_path / "known")["radius"] > 0
