"""Training of classifiers: what it leaves, certifies on the way, how it resumes, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import onelip
from onelip import data, layers, train
from onelip.core.errors import ConfigError, DataError, InputError
from onelip.train.loading import Augmented, make_label_augment, open_classes, train_loader, val_loader
from onelip.train.objective import make_class_loss
from onelip.train.recipe import CLASS_LOSSES, LossPart
from onelip.train.resume import read_checkpoint
from onelip.train.tasks import make_model, make_training, open_parts, task

NET = {"widths": [8], "repeats": 1, "norm": "bias", "head": "unit", "image_size": [8, 8], "hidden": [16]}
TINY = {
    "data.dataset": "digits",
    "data.images": 256,
    "model.options": NET,
    "optim.epochs": 3,
    "optim.batch": 32,
    "optim.lr": 0.01,
    "optim.warmup": 0.0,
    "val.images": 100,
    "val.eps": [0.0, 0.1, 0.5, 50.0],
    "run.threads": 1,
}


def recipe(**changes: object) -> train.Recipe:
    return train.load_recipe("digits-convnet", TINY | changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> train.FitResult:
    return train.fit(recipe(), out=tmp_path_factory.mktemp("classes"))


def spread(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that validation takes."""
    source = data.open_labels("digits", "val")
    items = [source[k * len(source) // count] for k in range(count)]
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def test_what_is_left(done: train.FitResult) -> None:
    rows = list(csv.DictReader((done.folder / "metrics.csv").open()))
    assert {"accuracy", "margin", "certified@0.5", "lipschitz", "loss"} <= set(rows[0])
    record = json.loads((done.folder / "results.json").read_text())
    assert record["classes"] == list("0123456789")
    assert record["size"] == [8, 8]
    assert record["metrics"]["accuracy"] == done.metrics["accuracy"]
    assert train.load_recipe(done.folder / "recipe.toml") == done.recipe
    assert done.history[-1]["loss"] < 0.7 * done.history[0]["loss"]
    assert done.metrics["accuracy"] > 0.6  # of ten classes


def test_recorded_values_are_those_of_the_certificate(done: train.FitResult) -> None:
    model = onelip.load(done.folder / "model")
    images, labels = spread(100)
    certificate = onelip.certify.classification(model, images, labels)
    assert done.metrics["accuracy"] == pytest.approx(certificate.clean_accuracy, abs=1e-6)
    expected = certificate.accuracy([0.0, 0.1, 0.5, 50.0]).tolist()
    measured = [done.metrics[f"certified@{eps:g}"] for eps in (0.0, 0.1, 0.5, 50.0)]
    assert measured == pytest.approx(expected, abs=1e-6)
    assert measured[0] > measured[2] > measured[3] == 0.0
    assert onelip.lipschitz(model, (8, 8)).value == pytest.approx(done.metrics["lipschitz"], rel=1e-6)
    logits = certificate.logits
    rivals = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    margin = (logits.gather(1, labels[:, None])[:, 0] - rivals).mean()
    assert done.metrics["margin"] == pytest.approx(float(margin), abs=1e-5)


def test_command_line(tmp_path: Path) -> None:
    changes = {k: v for k, v in TINY.items() if k != "model.options"} | {"optim.epochs": 1, "data.images": 64}
    net = 'model.options={widths=[8], repeats=1, norm="bias", head="unit", image_size=[8, 8], hidden=[16]}'
    settings = [net, *(f"{key}={value}" for key, value in changes.items())]
    flags = [text for setting in settings for text in ("--set", setting)]
    out = tmp_path / "run"
    command = [sys.executable, "-m", "onelip", "train", "digits-convnet", "--out", str(out), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert told.returncode == 0, told.stderr
    assert "accuracy" in told.stdout
    assert "certified@0.5" in told.stderr
    assert onelip.load(out / "model").classes == 10
    with pytest.raises(ConfigError, match="already holds a training"):
        train.fit(out / "recipe.toml", out=out)


@pytest.mark.parametrize("loss", ["hkr", "soft-hkr"])  # the second has a state of its own
def test_resumed_is_the_same_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    from onelip.train.callbacks import History

    whole = train.fit(recipe(**{"loss.name": loss}), out=tmp_path / "whole")
    step = History.on_train_batch_end

    def interrupted(self: History, trainer: object, *rest: object) -> None:
        step(self, trainer, *rest)
        if trainer.current_epoch == 2 and rest[-1] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "on_train_batch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.fit(recipe(**{"loss.name": loss}), out=tmp_path / "cut")
    monkeypatch.undo()
    half = weights(tmp_path / "cut")
    resumed = train.fit(recipe(**{"loss.name": loss}), out=tmp_path / "cut", resume=True)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert ("loss.magnitude" in first) == (loss == "soft-hkr")
    assert any(not torch.equal(half[name], second[name]) for name in half)
    for name in ("accuracy", "margin", "certified@0.1"):
        assert resumed.metrics[name] == whole.metrics[name]


def test_a_finished_training_resumes_to_itself(done: train.FitResult) -> None:
    before = (done.folder / "model" / "model.safetensors").read_bytes()
    again = train.fit(recipe(), out=done.folder, resume=True)
    assert (done.folder / "model" / "model.safetensors").read_bytes() == before
    assert again.metrics["accuracy"] == done.metrics["accuracy"]


@pytest.mark.parametrize("changes", [{"loss.name": "lse-hkr"}, {"loss.name": "cross-entropy"}])
def test_other_losses_train(tmp_path: Path, changes: dict[str, object]) -> None:
    result = train.fit(recipe(**changes, **{"loss.temperature": 10.0, "loss.alpha": 0.9}), out=tmp_path)
    assert result.metrics["accuracy"] > 0.4
    assert result.metrics["accuracy"] >= result.metrics["certified@0.1"] > 0


@pytest.mark.parametrize("norm", ["bias", "batch"])
def test_twins_have_no_certificate(tmp_path: Path, norm: str) -> None:
    changes = {
        "model.constraint": "none",
        "model.options": NET | {"norm": norm},
        "loss.name": "cross-entropy",
    }
    result = train.fit(recipe(**changes, **{"val.eps": []}), out=tmp_path)
    assert not [key for key in result.metrics if key.startswith("certified") or key == "lipschitz"]
    assert result.metrics["accuracy"] > 0.4
    kinds = {type(module).__name__ for module in result.model.modules()}
    assert ("BatchNorm2d" in kinds) == (norm == "batch")
    assert "MaxMin" not in kinds


@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_every_classifier_trains(tmp_path: Path, name: str) -> None:
    options = {"mlp": {"image_size": [8, 8]}, "resnet18": {"widths": [8, 16], "depths": [1, 1]}}[name]
    changes = {"model.name": name, "model.options": options, "optim.epochs": 1, "data.images": 64}
    result = train.fit(recipe(**changes), out=tmp_path)
    assert 0 <= result.metrics["certified@0.1"] <= result.metrics["accuracy"] <= 1
    assert onelip.load(tmp_path / "model").name == name


def test_losses_by_name() -> None:
    part = {"alpha": 0.7, "margin": 0.5, "temperature": 3.0}
    found = {name: make_class_loss(LossPart(name=name, **part)) for name in CLASS_LOSSES}
    kinds = [layers.HKRMulticlassLoss, layers.HKRLoss, layers.LseHKRLoss, layers.TauCrossEntropy]
    assert [type(loss) for loss in found.values()] == kinds
    assert (found["hkr"].alpha, found["hkr"].hinge.min_margin) == (0.7, 0.5)
    for name in ("soft-hkr", "lse-hkr"):
        loss = found[name]
        assert (loss.alpha, loss.min_margin, loss.temperature) == (0.7, 0.5, 3.0)
    assert found["cross-entropy"].tau == 3.0
    many = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    for loss in found.values():  # 255 is a class like any other
        high = many.clone()
        high[:, 255] += 20
        assert float(loss(high, torch.tensor([255, 255]))) < float(loss(many, torch.tensor([255, 255])))
        with pytest.raises(InputError, match="label out of range"):
            loss(many, torch.tensor([0, 300]))


def test_soft_hkr_remembers_each_batch_once_also_under_attack() -> None:
    images, labels = spread(20)
    found = []
    for attack in (0.0, 1e-9):  # one that moves nothing to speak of, in three steps
        asked = recipe(**{"loss.name": "soft-hkr", "augment.attack": attack, "augment.attack_steps": 3})
        parts = open_parts(asked)
        torch.manual_seed(0)
        training = make_training(asked, make_model(asked, 10, 1), parts, steps=3)
        training.train()
        training.training_step((images, labels), 0)
        found.append((training.loss.training, float(training.loss.magnitude)))
        with torch.no_grad():
            size = float(training.model(images).abs().mean())
        assert found[-1][1] == pytest.approx(0.99 * asked.loss.margin + 0.01 * size, rel=1e-5)
    assert all(still for still, _ in found)


def test_batches_depend_on_seed_epoch_and_index_alone() -> None:
    asked = recipe(**{"augment.shift": 2, "augment.noise": 0.1})
    source = open_classes(asked.data, "train")
    assert len(source) == 256
    loader = train_loader(source, asked)
    loader.sampler.set_epoch(2)
    images, labels = next(iter(loader))
    assert images.shape == (32, 1, 8, 8)
    assert labels.dtype == torch.int64
    direct = Augmented(source, make_label_augment(asked.augment), seed=asked.seed)
    keys = list(loader.sampler)[:32]
    for k, key in enumerate(keys):
        assert torch.equal(images[k], direct[key][0])
        assert int(labels[k]) == direct[key][1] == int(source.labels[key[1]])
    shown, there = next(iter(val_loader(open_classes(asked.data, "val"), asked)))
    expected = spread(100)
    assert torch.equal(shown, expected[0])
    assert torch.equal(there, expected[1])


def folder_of_classes(root: Path, **classes: int) -> Path:
    for name, split in ((n, s) for n in classes for s in ("train", "val")):
        if split == "val" and not classes[name]:
            continue
        (root / split / name).mkdir(parents=True, exist_ok=True)
        for k in range(3):
            Image.new("RGB", (8, 8), (40 * k, 0, 0)).save(root / split / name / f"{k}.png")
    return root


def test_colours_and_classes_come_from_the_data(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "pictures", cat=1, dog=1, owl=1)
    asked = recipe(**{"data.dataset": str(source)})
    parts = open_parts(asked)
    assert (parts.channels, parts.size) == (3, (8, 8))
    model = make_model(asked, len(parts.train.classes), parts.channels)
    assert (model.in_channels, model.classes) == (3, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"loss.name": "mse"}, r"`loss.name` is wrong.*received mse.*hkr.*soft-hkr, lse-hkr, cross-entropy"),
        ({"loss.name": "jaccard"}, r"does not fit the model convnet.*expected hkr, soft-hkr"),
        (
            {"model.name": "unet", "model.options": {}, "loss.name": "soft-hkr"},
            r"fit the model unet.*tau-cce",
        ),
        ({"loss.alpha": 10.0}, r"`loss.alpha` is wrong.*from 0 to 1"),
        ({"loss.margin": 0.0}, "min_margin is not usable"),
        ({"loss.temperature": -1.0}, "`loss.temperature` is wrong"),
        ({"augment.rotate": 5.0}, r"`augment.rotate` does not fit the model convnet.*classifiers know"),
        ({"augment.shift": -1}, "`augment.shift` is wrong"),
        ({"data.classes": ["1"]}, "`data.classes` is wrong"),
        ({"data.dataset": "digitz"}, "no set of labels"),
        ({"model.options": NET | {"image_size": [28, 28]}}, r"built for one image size.*received \(8, 8\)"),
    ],
)
def test_illegal_recipes_are_refused(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    with pytest.raises((InputError, DataError), match=text):
        train.fit(recipe(**changes), out=tmp_path / "run")


def test_shift_is_for_classifiers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`augment.shift` does not fit the model deeplabv3"):
        train.fit("demo", out=tmp_path / "run", overrides={"augment.shift": 1})


def test_parts_with_other_classes_are_refused(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "pictures", cat=1, dog=1, owl=0)
    with pytest.raises((ConfigError, DataError), match="class"):
        train.fit(recipe(**{"data.dataset": str(source)}), out=tmp_path / "run")


def test_labels_outside_of_the_classes_are_refused() -> None:
    pictures = torch.zeros(2, 8, 8, dtype=torch.uint8).numpy()
    with pytest.raises(DataError, match="labels that are no class"):
        data.ClassificationDataset(
            "own", "train", pictures=pictures, labels=[0, 2], ids="ab", classes=("x", "y")
        )


def test_shipped_recipes_train_classifiers() -> None:
    names = [name for name in train.recipe_names() if "-convnet" in name]
    assert {f"{k}-convnet{t}" for k in ("digits", "fashion") for t in ("", "-twin", "-twin-bn")} <= set(names)
    for name in names:
        shipped = train.load_recipe(name)
        assert task(shipped.model.name) == "classes"
        model = make_model(shipped, 10, 1)
        assert sum(p.numel() for p in onelip.fold(model).state_dict().values()) * 4 <= 2e6
        kinds = {type(module).__name__ for module in model.modules()}
        assert ("BatchNorm2d" in kinds) == name.endswith("-bn")
    for base in ("digits-convnet", "fashion-convnet"):
        shapes = [
            [
                tuple(p.shape)
                for p in onelip.fold(make_model(train.load_recipe(base + end), 10, 1)).parameters()
            ]
            for end in ("", "-twin")
        ]
        assert shapes[0] == shapes[1]
