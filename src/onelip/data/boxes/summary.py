"""What is in a set of boxes: sizes, objects a class and an image, sides, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ...core.checks import positive_int
from ...core.errors import DataError
from ..contact import Shown, sheet
from ..dataset import Pixels
from ..landing.geometry import box_quantiles
from ..moments import Moments
from .dataset import DetectionDataset, Objects

_TILE = 256  # longest side of a picture on a contact sheet, pixels


def inspect_boxes(dataset: DetectionDataset) -> dict[str, Any]:
    """Read every picture and its boxes, and report what is there and what is wrong.

    Args:
        dataset: Any set of boxes.

    Returns:
        A JSON-ready report: name, split, images, sizes (h x w -> number), objects, empty (images without objects),
        per_image (objects an image -> images), classes (name, objects, images, boxes: quantiles of the sides), boxes
        (quantiles of all), mean and std of the pixels per channel, `problems`: one sentence for each image that
        cannot be used, and `DetectionDataset.facts()`: repairs. The figures are those of the usable images; where no
        picture is there, those of all labels, and mean and std are None.

    Example:
        >>> from onelip import data
        >>> report = inspect_boxes(data.open_boxes("runways", size=(64, 64), images=2))
        >>> report["objects"], report["per_image"], report["problems"]
        (2, {1: 2}, [])
    """
    label_only = len(dataset.missing) == len(dataset)
    sizes: Counter[str] = Counter()
    objects: list[Objects] = []
    problems: list[str] = []
    colours = Moments()
    for index in range(len(dataset)):
        try:
            image, known = (None, dataset.objects(index)) if label_only else dataset.read(index)
        except DataError as error:
            problems.append(str(error))
            continue
        objects.append(known)
        sizes["{}x{}".format(*dataset.shape(index))] += 1
        if image is not None:
            colours.add(image)
    return {
        "name": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "sizes": dict(sizes.most_common()),
        **_statistics(dataset, objects),
        "mean": colours.mean,
        "std": colours.std,
        "problems": problems,
        "label_only": label_only,
        **dataset.facts(),
    }


def _statistics(dataset: DetectionDataset, objects: list[Objects]) -> dict[str, Any]:
    counts = [len(o.labels) for o in objects]
    boxes = np.concatenate([np.zeros((0, 4)), *(o.boxes for o in objects)])
    labels = np.concatenate([np.zeros(0, np.int64), *(o.labels for o in objects)])
    classes = []
    for label, name in enumerate(dataset.classes):
        shown = sum(bool((o.labels == label).any()) for o in objects)
        sides = box_quantiles(list(boxes[labels == label]))["quantiles"]
        classes.append(
            {"name": name, "objects": int((labels == label).sum()), "images": shown, "quantiles": sides}
        )
    return {
        "objects": len(labels),
        "empty": counts.count(0),
        "per_image": dict(sorted(Counter(counts).items())),
        "classes": classes,
        "boxes": box_quantiles(list(boxes)),
    }


def contact_boxes(dataset: DetectionDataset, count: int = 24) -> Pixels:
    """Draw a contact sheet of images, evenly spread over a set, with their boxes in the colours of the classes.

    On plain grey where no picture is there. Images that cannot be read are left out.

    Args:
        dataset: Any set of boxes.
        count: Number of images, at most.

    Returns:
        (H, W, 3) bytes.

    Example:
        >>> from onelip import data
        >>> contact_boxes(data.open_boxes("runways", size=(64, 64), images=2)).shape
        (270, 512, 3)
    """
    total = min(positive_int("count", count), len(dataset))
    shown: list[Shown] = []
    for index in (k * len(dataset) // total for k in range(total)):
        try:
            shown.append((_tile(dataset, index), None, None, dataset.ids[index]))
        except DataError:
            continue
    return sheet(shown, tile=_TILE)


def _tile(dataset: DetectionDataset, index: int) -> Pixels:
    """Return the picture at the size of a tile, so that its boxes have lines of one pixel."""
    if len(dataset.missing) == len(dataset):
        image, objects = np.full((*dataset.shape(index), 3), 90, np.uint8), dataset.objects(index)
    else:
        image, objects = dataset.read(index)
    scale = _TILE / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    pen = ImageDraw.Draw(picture)
    for box, label in zip(objects.boxes * scale, objects.labels, strict=True):
        x1, y1, x2, y2 = box.tolist()
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=dataset.palette[label])
    return np.asarray(picture)
