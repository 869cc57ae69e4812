"""Untrained detectors, and objects that are what they see."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import onelip

SIZE, NAMES = (32, 48), ("red", "blue")


def save_model(folder, regression):
    torch.manual_seed(3)
    options = {"kappa": 0.2, "temperature": 0.5, "strides": (8, 16), "channels": 8, "widths": (8, 8, 16)}
    model = onelip.models.create(
        "fcos", classes=2, size="XS", regression=regression, depths=(1, 1, 1), **options
    )
    with torch.no_grad():
        for _ in range(2):
            model(torch.rand(4, 3, *SIZE))
    model.eval().save(folder / regression, size=SIZE)
    return folder / regression


def score_of(model, images):
    """A score that three in a hundred logits exceed."""
    with torch.no_grad():
        logits = model.raw(images).logits
    return round(torch.sigmoid(logits.flatten().quantile(0.97) / model.temperature).item(), 4)


def write_objects(folder, model, score, images):
    """A JSON of COCO whose objects are what the detector sees, one image excepted."""
    table = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": n} for k, n in enumerate(NAMES)],
    }
    for index in range(images):
        name = f"{index}.png"
        picture = torch.from_numpy(np.array(Image.open(folder / name))).permute(2, 0, 1)[None] / 255.0
        table["images"].append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        seen = model.predict(picture, score)[0] if index != 3 else {"boxes": [], "labels": []}
        for box, label in zip(seen["boxes"][:3], seen["labels"][:3], strict=True):
            x1, y1, x2, y2 = (float(v) for v in box)
            if min(x2 - x1, y2 - y1) > 2.0:
                number = len(table["annotations"])
                place = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0, "iscrowd": 0}
                table["annotations"].append(
                    {"id": number, "image_id": index, "category_id": int(label), **place}
                )
    (folder / "val.json").write_text(json.dumps(table))


def build(folder, kind, images=5):
    """Kind of regression, folder of a model, JSON of the objects that it sees, and a threshold."""
    random = np.random.default_rng(0)
    for index in range(images):
        pixels = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    model = onelip.load(save_model(folder, kind))
    names = [folder / f"{index}.png" for index in range(images)]
    stack = [torch.from_numpy(np.array(Image.open(name))).permute(2, 0, 1) for name in names]
    score = score_of(model, torch.stack(stack) / 255.0)
    write_objects(folder, model, score, images)
    return kind, folder / kind, folder / "val.json", score


@pytest.fixture(scope="session")
def build_world():
    """What makes one."""
    return build


@pytest.fixture(scope="session", params=["lipschitz", "free"])
def seen_world(request, tmp_path_factory):
    """One of each kind of regression."""
    return build(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def one_world(tmp_path_factory):
    """One alone, for what does not depend on the regression."""
    return build(tmp_path_factory.mktemp("one"), "lipschitz")
