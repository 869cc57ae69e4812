"""Training of detectors: what it leaves, learns, certifies on the way, and how it resumes."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path

import pytest
import torch

import onelip
from onelip import data, train
from onelip.core.errors import ConfigError
from onelip.layers import FocalHingeLoss, FocalLoss, GIoULoss
from onelip.models.assignment import assign
from onelip.models.decoding import decode, locations
from onelip.models.detection import Raw
from onelip.train.box_loss import BoxLoss, classification_loss
from onelip.train.loading import Augmented, make_box_augment, open_boxes, open_split, train_loader, val_loader
from onelip.train.recipe import LossPart
from onelip.train.resume import read_checkpoint
from onelip.train.tasks import make_model, open_parts, unseen

TINY = {
    "model.name": "fcos",
    "model.size": "XS",
    "model.mode": "retract",
    "model.options": {"widths": [8, 8], "depths": [1, 1], "strides": [4, 8], "channels": 8},
    "data.dataset": "runways",
    "data.size": [64, 64],
    "data.images": 16,
    "loss.name": "fcos",
    "loss.tau": 10.0,
    "optim.lr": 0.01,
    "optim.epochs": 3,
    "optim.batch": 4,
    "val.images": 6,
    "val.eps": [0.0, 0.05, 50.0],
    "run.threads": 1,
}


def recipe(**changes: object) -> train.Recipe:
    return train.load_recipe(train.Recipe(name="boxes"), TINY | changes)


def spread(source: data.DetectionDataset, count: int) -> list:
    """The images that validation takes."""
    return [source[k * len(source) // count] for k in range(count)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> train.FitResult:
    return train.fit(recipe(), out=tmp_path_factory.mktemp("boxes"))


def test_what_is_left(done: train.FitResult) -> None:
    rows = list(csv.DictReader((done.folder / "metrics.csv").open()))
    expected = {"map50", "map", "recall", "false_alarms", "loss", "loss_class", "loss_box", "lipschitz"}
    assert expected <= set(rows[0])
    record = json.loads((done.folder / "results.json").read_text())
    assert record["classes"] == ["runway"]
    assert record["size"] == [64, 64]
    assert record["metrics"]["map50"] == done.metrics["map50"]
    assert train.load_recipe(done.folder / "recipe.toml") == done.recipe
    model = onelip.load(done.folder / "model")
    assert model.temperature == 0.1  # 1 / tau
    assert onelip.lipschitz(model, (64, 64)).value == pytest.approx(done.metrics["lipschitz"], rel=1e-6)


def test_the_loss_falls_and_is_the_sum_of_its_parts(done: train.FitResult) -> None:
    assert done.history[-1]["loss"] < 0.9 * done.history[0]["loss"]
    for row in done.history:
        assert row["loss"] == pytest.approx(row["loss_class"] + row["loss_box"], rel=1e-5)


def test_certified_values_are_ordered(done: train.FitResult) -> None:
    for row in done.history:
        for name in ("recall", "silent", "safe"):
            values = [row[f"certified_{name}@{eps:g}"] for eps in (0.0, 0.05, 50.0)]
            assert 1 >= values[0] >= values[1] >= values[2] == 0.0
        for eps in (0.0, 0.05):
            safe = row[f"certified_safe@{eps:g}"]
            assert safe <= min(
                row[f"certified_recall@{eps:g}"], row[f"certified_silent@{eps:g}"]
            )  # an object each


def test_recorded_values_are_those_of_the_model(done: train.FitResult) -> None:
    from onelip.metrics.detection import score_detections

    chosen = spread(data.open_boxes("runways", "val", size=(64, 64)), 6)
    model = done.model.eval()
    found = [model.predict(image[None], threshold=0.01)[0] for image, _ in chosen]
    scores = score_detections(found, [target for _, target in chosen], classes=["runway"])
    assert done.metrics["map50"] == pytest.approx(scores.map50, abs=1e-3)
    assert done.metrics["recall"] == pytest.approx(scores.recall, abs=1e-6)
    assert done.metrics["false_alarms"] == pytest.approx(scores.false_positives, abs=1e-6)


@pytest.mark.parametrize("regression", ["free", "lipschitz"])  # trained so that the values differ
def test_certified_values_are_those_of_the_certificate(tmp_path: Path, regression: str) -> None:
    options = TINY["model.options"] | {"regression": regression, "kappa": 0.5}
    eps = [0.0, 0.01, 0.03, 0.1]
    changes = {"model.options": options, "val.eps": eps, "loss.focal_alpha": 0.3, "loss.threshold": 0.4}
    result = train.fit(recipe(**changes), out=tmp_path)
    chosen = spread(open_boxes(result.recipe.data, "val"), 6)
    certifier = onelip.certify.DetectionCertifier(onelip.load(tmp_path / "model"), threshold=0.4)
    found, alarms = torch.zeros(4), torch.zeros(4)
    safe, objects = torch.zeros(4), 0
    for image, target in chosen:
        certificate = certifier(image[None], [target])
        kept, false = certificate.found(eps)[:, 0], certificate.alarms(eps)[:, 0]
        found += kept.nan_to_num()
        alarms += false == 0
        safe += kept.nan_to_num() * (false == 0)
        objects += len(target["labels"])
    for k, e in enumerate(eps):
        measured = [result.metrics[f"certified_{name}@{e:g}"] for name in ("recall", "silent", "safe")]
        expected = [found[k] / objects, alarms[k] / 6, safe[k] / objects]
        assert measured == pytest.approx([float(v) for v in expected], abs=1e-6)
    for seen in (found, alarms):  # neither all nor nothing
        assert len(seen.unique()) > 1


def test_twin_has_no_certificate_and_hinge_trains(tmp_path: Path) -> None:
    changes = {"model.constraint": "none", "loss.name": "fcos-hinge", "loss.margin": 0.2, "optim.epochs": 1}
    result = train.fit(recipe(**changes), out=tmp_path)
    assert not [k for k in result.metrics if k.startswith("certified")]
    assert math.isfinite(result.metrics["loss"])


def test_resumed_is_the_same_training(done: train.FitResult, tmp_path: Path, monkeypatch) -> None:
    from onelip.train.callbacks import History

    step = History.on_train_batch_end

    def interrupted(self: History, trainer: object, *rest: object) -> None:
        step(self, trainer, *rest)
        if trainer.current_epoch == 2 and rest[-1] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "on_train_batch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.fit(recipe(), out=tmp_path)
    assert not (tmp_path / "results.json").exists()
    monkeypatch.undo()
    train.fit(recipe(), out=tmp_path, resume=True)
    ends = [
        read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
        for folder in (done.folder, tmp_path)
    ]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])
    timed = {"seconds", "images_per_second"}
    rows = [list(csv.DictReader((f / "metrics.csv").open())) for f in (done.folder, tmp_path)]
    assert [{k: v for k, v in row.items() if k not in timed} for row in rows[0]] == [
        {k: v for k, v in row.items() if k not in timed} for row in rows[1]
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_depend_on_seed_epoch_and_index_alone(workers: int) -> None:
    changes = {"data.workers": workers, "augment.crop": [48, 48], "augment.focus": 1.0, "augment.jitter": 0.2}
    asked = recipe(**changes)
    source = open_boxes(asked.data, "train")
    loader = train_loader(source, asked)
    loader.sampler.set_epoch(2)
    images, targets = next(iter(loader))
    direct = Augmented(source, make_box_augment(asked.augment), seed=asked.seed)
    for k, key in enumerate(list(loader.sampler)[:4]):
        assert key[0] == 2
        image, target = direct[key]
        assert torch.equal(images[k], image)
        assert torch.equal(targets[k]["boxes"], target["boxes"])
        assert torch.equal(targets[k]["labels"], target["labels"])
    index = next(iter(loader.sampler))[1]
    assert not torch.equal(direct[0, index][0], direct[1, index][0])
    (shown, there), count = next(iter(val_loader(source, asked))), 4
    assert shown.shape == (count, 3, 64, 64)
    assert [t["boxes"].tolist() for t in there] == [
        source[k * len(source) // 6][1]["boxes"].tolist() for k in range(count)
    ]


def test_the_loss_is_that_of_its_parts() -> None:
    part = LossPart(name="fcos", tau=2.0, margin=0.1, box_weight=0.5, centre_weight=0.25, threshold=0.7)
    generator = torch.Generator().manual_seed(0)
    points, strides = locations((32, 32), (8, 16), dtype=torch.float32)
    raw = Raw(
        torch.randn(2, 20, 3, generator=generator), torch.rand(2, 20, 4, generator=generator), points, strides
    )
    targets = [
        {"boxes": torch.tensor([[2.0, 3.0, 20.0, 18.0]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    centre = torch.randn(2, 20, generator=generator)
    terms = BoxLoss(part)(raw, centre, targets)
    found = assign(points, strides, targets)
    some = found.labels >= 0
    assert int(some.sum()) > 2
    theta = 0.5 * math.log(0.7 / 0.3)
    focal = FocalLoss(temperature=0.5, margin=0.1, threshold=theta)(raw.logits, found.labels)
    boxes = GIoULoss()(decode(points, strides, raw.regression)[some], found.boxes[some])
    assert float(terms["loss_class"]) == pytest.approx(float(focal), rel=1e-6)
    assert float(terms["loss_box"]) == pytest.approx(float(boxes), rel=1e-6)
    total = float(focal) + 0.5 * float(boxes) + 0.25 * float(terms["loss_centre"])
    assert float(terms["loss"]) == pytest.approx(total, rel=1e-6)
    # The best centre-ness is that of the distances of the locations to the sides of their objects.
    at, box = points[some[0]][0].tolist(), [2.0, 3.0, 20.0, 18.0]
    left, top, right, bottom = at[0] - box[0], at[1] - box[1], box[2] - at[0], box[3] - at[1]
    best = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
    only = torch.full_like(centre, -9.0)

    def loss_at(score: float) -> float:
        only[0, some[0].nonzero()[0, 0]] = math.log(score / (1 - score))
        return float(BoxLoss(part)(raw, only, targets)["loss_centre"])

    assert loss_at(best) < min(loss_at(best * 0.9), loss_at(1 - (1 - best) * 0.9))


def test_objects_between_all_locations_are_counted() -> None:
    drawn = recipe(**{"model.options": {"strides": [32]}})
    model = make_model(drawn, 1)
    parts = open_parts(drawn)
    missed, total = unseen(parts.val, model, 1.5)
    inside = 0
    for k in range(len(parts.val)):
        box = torch.from_numpy(parts.val.objects(k).boxes[0])
        points = [torch.tensor(p) for p in itertools.product((16.0, 48.0), repeat=2)]
        inside += any(bool((p > box[:2]).all() and (p < box[2:]).all()) for p in points)
    assert (missed, total) == (len(parts.val) - inside, len(parts.val))
    assert 0 < missed < total
    assert unseen(open_split(train.load_recipe("demo").data, "val"), model, 1.5) == (0, 0)


def test_names_choose_the_classification_loss() -> None:
    hinge = classification_loss(LossPart(name="fcos-hinge", margin=0.3, tau=4.0, gamma=1.0, focal_alpha=0.6))
    assert isinstance(hinge, FocalHingeLoss)
    assert (hinge.margin, hinge.temperature, hinge.gamma, hinge.alpha, hinge.threshold) == (
        0.3,
        0.25,
        1.0,
        0.6,
        0.0,
    )
    assert isinstance(classification_loss(LossPart(name="fcos")), FocalLoss)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"model.name": "unet", "model.options": {}},
            r"`loss.name` does not fit the model unet.*tau-cce, jaccard",
        ),
        ({"loss.name": "jaccard"}, r"`loss.name` does not fit the model fcos.*fcos, fcos-hinge"),
        ({"loss.name": "fcos-hinge", "loss.margin": 0.0}, r"`loss.margin` is wrong.*fcos-hinge"),
        ({"loss.weights": "median"}, r"`loss.weights` is wrong.*none for fcos"),
        ({"augment.rotate": 5.0}, r"`augment.rotate` is wrong.*0 for fcos"),
        ({"augment.vflip": 0.5}, r"`augment.vflip` is wrong.*0 for fcos"),
        ({"model.options": {"temperature": 1.0}}, r"`model.options.temperature` is wrong.*loss.tau"),
        ({"loss.focal_alpha": 1.0}, r"`loss.focal_alpha` is wrong.*strictly between 0 and 1"),
        ({"loss.threshold": 0.0}, r"`loss.threshold` is wrong"),
        ({"loss.gamma": -1.0}, r"`loss.gamma` is wrong"),
        ({"loss.box_weight": -1.0}, r"`loss.box_weight` is wrong"),
        ({"loss.radius": 0.0}, r"`loss.radius` is wrong"),
        ({"data.classes": ["runways"]}, r"no such classes.*runways"),
        ({"loss.name": "tau-cce", "data.classes": ["runway"]}, r"`data.classes` is wrong"),
    ],
)
def test_illegal_combinations_are_refused(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    with pytest.raises(onelip.core.errors.InputError, match=text):
        train.fit(recipe(**changes), out=tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_shipped_recipes_train_detectors() -> None:
    for name in ("runway-fcos", "runway-fcos-standard", "bccd-fcos", "bccd-fcos-boxes", "penn-fudan-fcos"):
        shipped = train.load_recipe(name)
        assert shipped.detects
        assert shipped.loss.threshold == 0.5
    with pytest.raises(ConfigError, match="unknown recipe key"):
        train.load_recipe("runway-fcos", ["loss.focal_gamma=1"])
