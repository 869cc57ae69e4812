"""What is in a set of labels: sizes, images a class, copies of a picture, and everything that cannot be read."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from ...core.checks import positive_int
from ...core.errors import DataError
from ..contact import Shown, sheet
from ..dataset import Pixels
from ..moments import Moments
from .dataset import ClassificationDataset

_TILE, _COLUMNS = 96, 12  # longest side of a picture on a contact sheet, pixels; pictures in a row
_LETTERS = 16  # that fit below a picture


def inspect_labels(dataset: ClassificationDataset) -> dict[str, Any]:
    """Read every picture and report what is there and what is wrong.

    Args:
        dataset: Any set of labels.

    Returns:
        A JSON-ready report: name, split, images, channels, sizes (h x w -> number), classes (name, images, share),
        mean and std of the pixels per channel, duplicates: `same`, pictures that are there before in the same class,
        `other`, in another class, and `first`, names of some pairs of these two, those of `other` before those of
        `same`; and `problems`: one sentence for each image that cannot be used. Classes count every image, the other
        figures are those of the usable ones.

    Example:
        >>> from onelip import data
        >>> report = inspect_labels(data.open_labels("digits", "test"))
        >>> report["sizes"], report["duplicates"], report["problems"]
        ({'8x8': 397}, {'same': 0, 'other': 0, 'first': []}, [])
    """
    sizes: Counter[str] = Counter()
    problems: list[str] = []
    colours, copies = Moments(), _Copies()
    for index in range(len(dataset)):
        try:
            image, label = dataset.read(index)
        except DataError as error:
            problems.append(str(error))
            continue
        sizes[f"{image.shape[0]}x{image.shape[1]}"] += 1
        colours.add(image)
        copies.add(image, label, dataset.ids[index])
    counts = zip(dataset.classes, dataset.counts(), strict=True)
    return {
        **dataset.facts(),
        "sizes": dict(sizes.most_common()),
        "classes": [{"name": name, "images": n, "share": n / len(dataset)} for name, n in counts],
        "mean": colours.mean,
        "std": colours.std,
        "duplicates": copies.report(),
        "problems": problems,
    }


class _Copies:
    """Pictures whose pixels were there before."""

    def __init__(self) -> None:
        self._seen: dict[bytes, dict[int, str]] = defaultdict(dict)  # pixels -> class -> first picture
        self._same: list[tuple[str, str]] = []
        self._other: list[tuple[str, str]] = []

    def add(self, image: Pixels, label: int, name: str) -> None:
        digest = hashlib.sha256(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        before = self._seen[digest.digest()]
        if label in before:
            self._same.append((before[label], name))
        elif before:
            self._other.append((next(iter(before.values())), name))
        before.setdefault(label, name)

    def report(self) -> dict[str, Any]:
        first = [list(pair) for pair in [*self._other[:5], *self._same[:5]]]
        return {"same": len(self._same), "other": len(self._other), "first": first}


def contact_labels(dataset: ClassificationDataset, count: int = 24) -> Pixels:
    """Draw a contact sheet: images of each class side by side, evenly spread over those of the class.

    Images that cannot be read are left out.

    Args:
        dataset: Any set of labels.
        count: Number of images, at most; where it is smaller than the number of classes, not all are shown.

    Returns:
        (H, W, 3) bytes.

    Example:
        >>> from onelip import data
        >>> contact_labels(data.open_labels("digits", "test"), 20).shape
        (220, 1152, 3)
    """
    shown: list[Shown] = []
    for index in _chosen(dataset, positive_int("count", count)):
        try:
            image, label = dataset.read(index)
        except DataError:
            continue
        number = dataset.ids[index].rsplit("/", 1)[-1].rsplit("-", 1)[-1]
        shown.append((_tile(image), None, None, f"{dataset.classes[label]} {number}"[:_LETTERS]))
    return sheet(shown, tile=_TILE, columns=_COLUMNS)


def _chosen(dataset: ClassificationDataset, count: int) -> list[int]:
    """Return the images to show: as many of each class as fit, class after class."""
    labels = dataset.labels.numpy()
    present = np.unique(labels)
    present = present[[k * len(present) // min(count, len(present)) for k in range(min(count, len(present)))]]
    each, chosen = count // len(present), []
    for label in present:
        mine = np.flatnonzero(labels == label).tolist()
        wanted = min(each, len(mine))
        chosen += [mine[k * len(mine) // wanted] for k in range(wanted)]
    return chosen


def _tile(image: Pixels) -> Pixels:
    """Return RGB; small pictures with their pixels enlarged to squares, so that they stay sharp."""
    pixels = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    factor = max(1, _TILE // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
