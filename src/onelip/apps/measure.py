"""What `onelip certify` keeps of one image: certified values, radii, and what sums over images need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onelip.apps.plan import Plan
from onelip.apps.runs import Opened, clock
from onelip.certify import CountCriterion, Criterion, SegmentationCertificate, parse
from onelip.certify.curve import plain

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Question:
    """A criterion that was asked for, and the eps at which it is certified."""

    key: str
    criterion: Criterion
    eps: tuple[float, ...]
    classes: int = 2

    @property
    def facts(self) -> dict[str, Any]:
        """What tables say about it."""
        return {
            "key": self.key,
            "name": self.criterion.name,
            "higher_is_better": self.criterion.higher_is_better,
            "exact": self.criterion.exact_for(self.classes),
            "exact_micro": self.key != "miou",  # over a data set it is the mean of the classes' bounds
        }


def criterion(key: str, opened: Opened) -> Criterion:
    """The criterion of a key, for the classes and the void label of the data set."""
    dataset = opened.dataset
    return parse(key, classes=dataset.classes, ignore_index=dataset.ignore_index)


def questions(plan: Plan, opened: Opened) -> list[Question]:
    """The criteria of a plan; mIoU, whose bound is dear, at few eps.

    Raises:
        InputError: for a key that names no criterion or class.
    """
    classes = len(opened.dataset.classes)
    found = []
    for key in plan.keys:
        grid = plan.dear if key == "miou" else plan.grid
        found.append(Question(key, criterion(key, opened), tuple(grid), classes))
    return found


def radius_questions(plan: Plan, opened: Opened) -> dict[str, tuple[Criterion, float]]:
    """The thresholds of a plan, by the text that asked for them."""
    names = zip(plan.threshold_names, plan.thresholds, strict=True)
    return {name: (criterion(key, opened), value) for name, (key, value) in names}


def measure(
    opened: Opened,
    index: int,
    asked: Sequence[Question],
    radii: dict[str, tuple[Criterion, float]],
) -> tuple[Record, SegmentationCertificate]:
    """Certify one image and keep what is needed of it.

    `seconds` are those of the forward pass, the criteria and the radii that were asked for; proving the bound of a new
    image size, pictures and the table of classes are not in them.
    """
    dataset, certifier = opened.dataset, opened.certifier
    image, target = (t.unsqueeze(0).to(certifier.device) for t in dataset[index])
    # Once for each size, not timed.
    certifier.bound((image.shape[-2], image.shape[-1]), in_channels=image.shape[1])
    start = clock(certifier.device)
    certificate = certifier(image, target)
    passed = clock(certifier.device)
    values = {q.key: _values(q, certificate) for q in asked}
    found = {name: plain(certificate.radius(c, value))[0] for name, (c, value) in radii.items()}
    seconds = clock(certifier.device) - start
    valid = target != dataset.ignore_index
    record = {
        "index": index,
        "id": dataset.ids[index],
        "size": list(image.shape[1:]),
        "valid": int(valid.sum()),
        "criteria": values,
        "radii": found,
        "confusion": confusion(certificate.prediction[valid], target[valid], len(dataset.classes)),
        "lipschitz": certificate.lipschitz,
        "median_radius": _median(certificate.radius_map),
        "seconds": seconds,
        "seconds_forward": passed - start,
    }
    return record, certificate


def _values(question: Question, certificate: SegmentationCertificate) -> Record:
    """Clean value and certified values of one image, with the weight that it has in a micro average."""
    criterion, device = question.criterion, certificate.logits.device
    start = clock(device)
    curve = certificate.curve(criterion, question.eps)
    seconds = clock(device) - start
    weight = None
    if isinstance(criterion, CountCriterion):
        weight = int(criterion.counted(certificate.logits, certificate.target))
    return {
        "clean": plain(curve.clean)[0],
        "certified": plain(curve.certified[:, 0]),
        "weight": weight,
        "seconds": seconds,
    }


def _median(radius: Tensor) -> float | None:
    """Radius of the median valid pixel."""
    known = radius[~radius.isnan()]
    return float(known.median()) if known.numel() else None


def confusion(prediction: Tensor, target: Tensor, classes: int) -> list[list[int]]:
    """(true, predicted) counts.

    Example:
        >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
        [[1, 1], [0, 1]]
    """
    flat = torch.bincount(target * classes + prediction, minlength=classes * classes)
    rows: list[list[int]] = flat.reshape(classes, classes).tolist()
    return rows
