"""IoU over a whole data set: what each image offers an attacker is kept in one file, and joined at the end."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onelip.apps.plan import Plan
from onelip.apps.summary import Curve, Record
from onelip.certify import IoU
from onelip.certify.frontier import micro
from onelip.certify.iou import OverlapCriterion
from onelip.core import files

if TYPE_CHECKING:
    from onelip.apps.measure import Question
    from onelip.apps.runs import Opened
    from onelip.certify import SegmentationCertificate

FEW = 32  # classes up to which the table of all of them costs less than two forward passes


class Overlaps:
    """Frontiers of the classes that were asked for: all of them for the table, some on a longer list of eps.

    Args:
        plan: what was asked.
        opened: its data set.
        asked: its criteria.
    """

    def __init__(self, plan: Plan, opened: Opened, asked: Sequence[Question]) -> None:
        self.folder = plan.out / "frontiers"
        self.names = opened.dataset.classes
        self.void = opened.dataset.ignore_index
        self.per_class = len(self.names) <= FEW if plan.per_class is None else plan.per_class
        self.eps = plan.asked
        self.asked = {q.key: q.criterion for q in asked if isinstance(q.criterion, OverlapCriterion)}
        self.labels = dict.fromkeys(range(len(self.names)), plan.asked) if self.per_class else {}
        self.labels |= {criterion.label: plan.coarse for criterion in self.asked.values()}

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:05d}.npz"

    def done(self, index: int) -> bool:
        """Whether the image has its file, or needs none."""
        return not self.labels or self._file(index).is_file()

    def add(self, index: int, certificate: SegmentationCertificate) -> None:
        """Keep the frontiers of one image."""
        rows = {}
        for label, eps in self.labels.items():
            enlarged = torch.tensor(eps, dtype=torch.float64) + certificate.rounding
            found = IoU(label, self.void).frontier(
                certificate.logits,
                _labels(certificate),
                eps=enlarged,
                lipschitz=certificate.lipschitz,
                p=certificate.p,
            )
            rows[str(label)] = found.cpu().numpy()
        if rows:
            buffer = io.BytesIO()
            save: Any = np.savez_compressed
            save(buffer, **rows)
            files.atomic_write(self._file(index), buffer.getvalue())

    def _certified(self, done: Sequence[Record], criterion: OverlapCriterion) -> Curve:
        """The smallest micro value over all choices of one perturbation an image."""
        label = criterion.label
        hits, union = counts(done, label)
        clean = _defined(float(criterion.ratio(torch.tensor(hits), torch.tensor(union))))
        eps = self.labels[label]
        if clean is None:
            return Curve(eps, [None] * len(eps), None)
        found = []
        for record in done:
            with np.load(self._file(record["index"]), allow_pickle=False) as arrays:
                found.append(torch.from_numpy(arrays[str(label)]))
        values = micro(torch.cat(found), len(eps), criterion.ratio).tolist()
        return Curve(eps, [_defined(v) for v in values], clean)

    def curves(self, done: Sequence[Record], classes: Sequence[Record]) -> dict[str, Curve]:
        """Certified values over the data set of the criteria that have them, by key.

        That of mIoU is the mean over the labelled classes of `classes`, each at its own worst: a bound.
        """
        found = {key: self._certified(done, criterion) for key, criterion in self.asked.items()}
        labelled = [c for c in classes if c["labelled"]]
        if labelled:
            columns = zip(*(c["certified"] for c in labelled), strict=True)
            values = [math.fsum(column) / len(labelled) for column in columns]
            clean = math.fsum(c["clean"] for c in labelled) / len(labelled)
            found["miou"] = Curve(self.eps, list(values), clean)
        return found

    def classes(self, done: Sequence[Record]) -> list[Record]:
        """Clean and certified IoU of each class over the data set; nothing when the table was not asked for."""
        rows = []
        for label, name in enumerate(self.names if self.per_class else ()):
            curve = self._certified(done, IoU(label, self.void))
            at = dict(zip(curve.eps, curve.values, strict=True))
            rows.append(
                {
                    "class": name,
                    "clean": curve.clean,
                    "labelled": any(sum(r["confusion"][label]) for r in done),
                    "certified": [at[e] for e in self.eps],
                }
            )
        return rows


def counts(done: Sequence[Record], label: int) -> tuple[int, int]:
    """True positives and union of a class over the data set.

    Example:
        >>> counts([{"confusion": [[3, 1], [2, 4]]}], 0)
        (3, 6)
    """
    hits = sum(r["confusion"][label][label] for r in done)
    labelled = sum(sum(r["confusion"][label]) for r in done)
    predicted = sum(row[label] for r in done for row in r["confusion"])
    return hits, labelled + predicted - hits


def _labels(certificate: SegmentationCertificate) -> torch.Tensor:
    assert certificate.target is not None, "data sets have labels"
    return certificate.target


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
