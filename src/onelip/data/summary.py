"""What is in a data set: sizes, class shares, weights, and everything that is wrong with it."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.checks import positive_int
from ..core.errors import DataError, explain
from .boxes import DetectionDataset, contact_boxes, inspect_boxes
from .contact import Shown, sheet
from .dataset import VOID, Pixels, SegmentationDataset
from .labels import ClassificationDataset
from .labels.summary import contact_labels, inspect_labels
from .landing.geometry import clip
from .landing.reader import LardDataset
from .moments import Moments
from .runway.mask import area

AnyDataset = SegmentationDataset | DetectionDataset | ClassificationDataset


@dataclass(frozen=True)
class ClassStatistics:
    """Pixels of each class over a data set.

    Attributes:
        pixels: Pixels of each class.
        present: All pixels (void too) of the images that show the class.
        void: Pixels without label.
    """

    pixels: tuple[int, ...]
    present: tuple[int, ...]
    void: int

    @property
    def shares(self) -> list[float]:
        """The part of all pixels, void included, that each class has."""
        total = sum(self.pixels) + self.void
        return [count / total for count in self.pixels]

    @property
    def median_frequency_weights(self) -> list[float]:
        r"""Median-frequency balancing: $w_k = \mathrm{median}(f) / f_k$, with $f_k$ the share of class k in its images.

        A class that is absent has weight 0. Source: Eigen and Fergus, ICCV 2015.
        """
        frequency = [n / m if m else 0.0 for n, m in zip(self.pixels, self.present, strict=True)]
        median = statistics.median([f for f in frequency if f > 0])
        return [median / f if f > 0 else 0.0 for f in frequency]


def class_statistics(dataset: SegmentationDataset) -> ClassStatistics:
    """Count the pixels of each class; reads every label file.

    Raises:
        DataError: a label file is wrong, or every pixel is void.

    Example:
        >>> from onelip import data
        >>> class_statistics(data.scenes(2, (32, 48))).void
        0
    """
    pixels, present = np.zeros(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
    for index in range(len(dataset)):
        counts = np.bincount(dataset.labels(index).ravel(), minlength=256)
        pixels += counts
        present += (counts > 0) * counts.sum()
    known = len(dataset.classes)
    if pixels[:known].sum() == 0:
        raise DataError(
            explain(f"{dataset.name} {dataset.split} has no labelled pixel", expected="one at least")
        )
    return ClassStatistics(tuple(pixels[:known].tolist()), tuple(present[:known].tolist()), int(pixels[VOID]))


def inspect(dataset: AnyDataset) -> dict[str, Any]:
    """Read every image and label, and report what is there and what is wrong.

    Of boxes what `inspect_boxes` tells, of classes an image what `inspect_labels` does.

    Args:
        dataset: Any data set.

    Returns:
        A JSON-ready report: name, split, images, sizes (h x w -> number), classes (name, share, images, weight),
        void share, mean and std of the pixels per channel, and `problems`: one sentence for each image that cannot
        be used. The figures are those of the usable images. For LARD also `LardDataset.facts()`; without pictures the
        shares are those of the outlines, and mean and std are None.

    Example:
        >>> from onelip import data
        >>> report = inspect(data.scenes(2, (32, 48)))
        >>> report["sizes"], report["problems"]
        ({'32x48': 2}, [])
    """
    if isinstance(dataset, DetectionDataset):
        return inspect_boxes(dataset)
    if isinstance(dataset, ClassificationDataset):
        return inspect_labels(dataset)
    if not isinstance(dataset, LardDataset):
        return _from_files(dataset)
    return {**(_from_corners(dataset) if dataset.label_only else _from_files(dataset)), **dataset.facts()}


def _from_files(dataset: SegmentationDataset) -> dict[str, Any]:
    sizes: Counter[str] = Counter()
    problems: list[str] = []
    pixels, shown, present = (np.zeros(256, dtype=np.int64) for _ in range(3))
    colours = Moments()
    for index in range(len(dataset)):
        try:
            image, labels = dataset.read(index)
        except DataError as error:
            problems.append(str(error))
            continue
        sizes[f"{labels.shape[0]}x{labels.shape[1]}"] += 1
        counts = np.bincount(labels.ravel(), minlength=256)
        pixels += counts
        shown += counts > 0
        present += (counts > 0) * counts.sum()
        colours.add(image)
    return _report(dataset, sizes, problems, (pixels, shown, present), colours)


def _from_corners(dataset: LardDataset) -> dict[str, Any]:
    """The same of a set without pictures: areas of outlines in place of counts of pixels, no colours."""
    sizes: Counter[str] = Counter()
    pixels, shown, present = (np.zeros(256, dtype=np.int64) for _ in range(3))
    for entry in dataset.entries:
        (h, w), polygon = entry.label.size, entry.label.polygon
        sizes[f"{h}x{w}"] += 1
        inside = 0 if polygon is None else round(abs(area(clip(polygon, (h, w)))))
        counts = np.array([h * w - inside, inside])
        pixels[:2] += counts
        shown[:2] += counts > 0
        present[:2] += (counts > 0) * h * w
    return _report(dataset, sizes, [], (pixels, shown, present), Moments())


def _report(
    dataset: SegmentationDataset,
    sizes: Counter[str],
    problems: list[str],
    counts: tuple[np.ndarray[Any, Any], ...],
    colours: Moments,
) -> dict[str, Any]:
    known = len(dataset.classes)
    pixels, shown, present = (c[:known].tolist() for c in counts)
    stats = ClassStatistics(tuple(pixels), tuple(present), int(counts[0][VOID]))
    labelled = sum(pixels) > 0
    shares = stats.shares if labelled else [0.0] * known
    weights = stats.median_frequency_weights if labelled else [0.0] * known
    rows = zip(dataset.classes, shares, shown, weights, strict=True)
    return {
        "name": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "sizes": dict(sizes.most_common()),
        "classes": [{"name": n, "share": s, "images": i, "weight": w} for n, s, i, w in rows],
        "void_share": stats.void / max(sum(pixels) + stats.void, 1),
        "mean": colours.mean,
        "std": colours.std,
        "problems": problems,
    }


def contact(dataset: AnyDataset, count: int = 24) -> Pixels:
    """Draw a contact sheet of images, evenly spread over a data set, with their labels.

    Runways get their outline and box (on plain grey where the pictures are absent); other sets are tinted with the
    colours of their classes, boxes are drawn in them, and the class of a whole image stands below it. Images that
    cannot be read are left out.

    Args:
        dataset: Any data set.
        count: Number of images, at most.

    Returns:
        (H, W, 3) bytes.

    Example:
        >>> from onelip import data
        >>> contact(data.scenes(2, (32, 48))).shape
        (185, 512, 3)
    """
    if isinstance(dataset, DetectionDataset):
        return contact_boxes(dataset, count)
    if isinstance(dataset, ClassificationDataset):
        return contact_labels(dataset, count)
    total = min(positive_int("count", count), len(dataset))
    shown: list[Shown] = []
    for index in (k * len(dataset) // total for k in range(total)):
        try:
            shown.append(_shown(dataset, index))
        except DataError:
            continue
    return sheet(shown)


def _shown(dataset: SegmentationDataset, index: int) -> Shown:
    name = dataset.ids[index]
    if isinstance(dataset, LardDataset):
        if dataset.label_only:
            size = dataset.size or dataset.entries[index].label.size
            image = np.full((*size, 3), 90, np.uint8)
        else:
            image = dataset.read(index)[0]
        return image, dataset.boxes[index], dataset.corners[index], name
    image, labels = dataset.read(index)
    colours = np.zeros((256, 3), np.float32)
    colours[: len(dataset.palette)] = dataset.palette
    mixed = np.where((labels == VOID)[..., None], image, 0.55 * image + 0.45 * colours[labels])
    return mixed.astype(np.uint8), None, None, name
