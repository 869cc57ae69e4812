"""A training leaves what it promises, learns something, and reads only what it should."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import onelip
from onelip import data, train
from onelip.core.errors import ConfigError, DataError, NonFiniteError
from onelip.train.loading import Augmented, EpochOrder, make_augment, open_split, train_loader
from onelip.train.module import _rate
from onelip.train.objective import class_weights, log_scale, make_loss
from onelip.train.recipe import LossPart, OptimPart

TINY = {
    "data.size": [32, 48],
    "data.images": 24,
    "model.options": {"widths": [8, 16], "repeats": 1},
    "optim.epochs": 3,
    "val.images": 8,
    "val.every": 1,
    "val.eps": [0.0, 0.01, 5.0],
    "run.threads": 1,
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> train.FitResult:
    return train.fit("demo", out=tmp_path_factory.mktemp("run"), overrides=TINY)


def test_what_is_left(done: train.FitResult) -> None:
    assert {p.name for p in done.folder.iterdir()} >= {
        "model",
        "checkpoints",
        "metrics.csv",
        "recipe.toml",
        "results.json",
    }
    assert list((done.folder / "tensorboard").glob("events*"))
    assert train.load_recipe(done.folder / "recipe.toml") == done.recipe
    rows = list(csv.DictReader((done.folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    record = json.loads((done.folder / "results.json").read_text())
    assert record["metrics"]["miou"] == done.metrics["miou"]
    assert record["recipe"]["model.size"] == "XS"


def test_certified_values_are_ordered(done: train.FitResult) -> None:
    for row in done.history:
        values = [row[f"certified@{eps:g}"] for eps in (0.0, 0.01, 5.0)]
        assert row["pixel_accuracy"] >= values[0] >= values[1] >= values[2] >= 0
    assert done.metrics["certified@0"] == pytest.approx(done.metrics["pixel_accuracy"], abs=1e-6)
    assert done.metrics["certified@5"] < done.metrics["certified@0.01"]


def test_saved_model_is_the_trained_one(done: train.FitResult) -> None:
    model = onelip.load(done.folder / "model")
    image = data.open("scenes", "val", size=(32, 48))[0][0][None]
    with torch.no_grad():
        assert torch.allclose(model(image), done.model(image), atol=1e-5)
    assert onelip.lipschitz(model, (32, 48)).value == pytest.approx(done.metrics["lipschitz"], rel=1e-6)


def test_it_learns(done: train.FitResult) -> None:
    assert done.history[-1]["loss"] < done.history[0]["loss"]
    fresh = onelip.models.create("deeplabv3", classes=8, size="XS", widths=(8, 16), repeats=1).eval()
    val = data.open("scenes", "val", size=(32, 48))
    image, target = val[0]
    with torch.no_grad():
        before, after = (
            (m(image[None]).argmax(1)[0] == target).float().mean() for m in (fresh, done.model.eval())
        )
    assert after > before


def test_recorded_accuracy_is_that_of_the_model(done: train.FitResult) -> None:
    val = data.open("scenes", "val", size=(32, 48))
    hits = total = 0
    with torch.no_grad():
        for k in range(0, 32, 4):  # the 8 evenly spread images
            image, target = val[k]
            hits += int((done.model(image[None]).argmax(1)[0] == target).sum())
            total += target.numel()
    assert done.metrics["pixel_accuracy"] == pytest.approx(hits / total, abs=1e-3)


def test_twin_has_no_certificate(tmp_path: Path) -> None:
    overrides = {**TINY, "model.constraint": "none", "optim.epochs": 1, "loss.tau": 1.0}
    result = train.fit("demo", out=tmp_path, overrides=overrides)
    assert not [k for k in result.metrics if k.startswith("certified")]
    assert result.metrics["pixel_accuracy"] > 0


@pytest.mark.parametrize("loss", ["cosine", "hkr"])
def test_other_losses_and_learnable_scales(tmp_path: Path, loss: str) -> None:
    overrides = {
        **TINY,
        "loss.name": loss,
        "optim.epochs": 1,
        "model.scale": "learnable",
        "optim.precision": "bf16",
    }
    result = train.fit("demo", out=tmp_path, overrides=overrides)
    assert torch.isfinite(log_scale(result.model))
    assert 0 <= result.metrics["certified@0.01"] <= result.metrics["pixel_accuracy"] + 1e-9


def test_divergence_is_an_error(tmp_path: Path) -> None:
    overrides = {**TINY, "model.constraint": "none", "optim.lr": 1e30, "loss.tau": 1.0}
    with pytest.raises(NonFiniteError, match=r"loss is .*lower optim\.lr"):
        train.fit("demo", out=tmp_path, overrides=overrides)


def test_order_is_a_permutation_by_seed_and_epoch() -> None:
    order = EpochOrder(10, seed=3)
    first = list(order)
    assert sorted(first) == [(0, k) for k in range(10)]
    assert first == list(order)
    order.set_epoch(1)
    assert sorted(order) == [(1, k) for k in range(10)]
    assert [k for _, k in order] != [k for _, k in first]


def test_processes_share_the_images_out() -> None:
    shares = [list(EpochOrder(11, seed=0, rank=r, world=3)) for r in range(3)]
    seen = [key for share in shares for key in share]
    assert [len(s) for s in shares] == [3, 3, 3]
    assert len(set(seen)) == 9


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_depend_on_seed_epoch_and_index_alone(workers: int) -> None:
    recipe = train.load_recipe(
        "demo", {**TINY, "data.workers": workers, "augment.crop": [16, 16], "optim.batch": 6}
    )
    source = open_split(recipe.data, "train")
    loader = train_loader(source, recipe)
    loader.sampler.set_epoch(2)
    images, targets = next(iter(loader))
    direct = Augmented(source, make_augment(recipe.augment), seed=recipe.seed)
    keys = list(loader.sampler)[:6]
    assert all(epoch == 2 for epoch, _ in keys)
    for k, key in enumerate(keys):
        image, target = direct[key]
        assert torch.equal(images[k], image)
        assert torch.equal(targets[k], target)
    assert not torch.equal(direct[0, keys[0][1]][0], direct[1, keys[0][1]][0])


def test_rate_warms_up_and_falls() -> None:
    part = OptimPart(lr=1.0, min_lr=0.1, epochs=10, warmup=2.0)
    rates = [_rate(step, 5, part) for step in range(51)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[50] == pytest.approx(0.1)
    assert rates[30] == pytest.approx(0.55)


def test_median_weights_reach_the_loss() -> None:
    scenes = data.scenes(4, (32, 48))
    weights = class_weights(LossPart(weights="median", power=0.5), scenes)
    expected = [w**0.5 for w in data.class_statistics(scenes).median_frequency_weights]
    assert weights == expected
    loss = make_loss(LossPart(weights="median"), weights, 255)
    assert loss.weight.tolist() == pytest.approx(expected)
    assert class_weights(LossPart(), scenes) is None


def test_images_of_different_size_need_a_decision(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for k, size in enumerate([(32, 32), (40, 32)]):
            for part, mode in (("images", "RGB"), ("masks", "L")):
                (tmp_path / split / part).mkdir(parents=True, exist_ok=True)
                Image.new(mode, size).save(tmp_path / split / part / f"{k}.png")
    (tmp_path / "dataset.toml").write_text('classes=["a","b"]')
    overrides = {"data.dataset": str(tmp_path), "data.size": [], "data.images": 0, "optim.epochs": 1}
    with pytest.raises(ConfigError, match=r"differ in size.*data\.size"):
        train.fit("demo", out=tmp_path / "run", overrides=overrides)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_one_sentence(tmp_path: Path, workers: int) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for k in range(3):
            for part, mode in (("images", "RGB"), ("masks", "L")):
                (tmp_path / split / part).mkdir(parents=True, exist_ok=True)
                Image.new(mode, (32, 32)).save(tmp_path / split / part / f"{k}.png")
    (tmp_path / "dataset.toml").write_text('classes=["a","b"]')
    (tmp_path / "train" / "images" / "1.png").write_bytes(b"nothing")
    overrides = {"data.dataset": str(tmp_path), "data.size": [], "data.images": 0, "data.workers": workers}
    with pytest.raises(DataError, match=r"^\S*1\.png cannot be read as a picture") as caught:
        train.fit("demo", out=tmp_path / "run", overrides=overrides)
    assert "Traceback" not in str(caught.value)


def test_progress_bar(tmp_path: Path) -> None:
    result = train.fit("demo", out=tmp_path, overrides={**TINY, "optim.epochs": 1}, progress=True)
    assert len(result.history) == 1


def test_command_line_errors_are_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "onelip.train", "demo", "--out", str(tmp_path), "optim.epoch=3"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown recipe key 'optim.epoch'")
    assert "optim.epochs" in result.stderr
    assert "Traceback" not in result.stderr
