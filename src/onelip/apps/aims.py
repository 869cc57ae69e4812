"""What `--goal` of `onelip attack` means: the criteria that are measured, and the goals that are attacked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.attacks import AttackResult, CriterionGoal, Fabricate, Goal, worst
from onelip.attacks.base import one_hot
from onelip.certify import CountCriterion, Criterion, SegmentationCertificate
from onelip.certify.curve import plain
from onelip.certify.frontier import micro
from onelip.certify.iou import OverlapCriterion

if TYPE_CHECKING:
    from onelip.apps.measure import Record

AVERAGES = ("micro", "macro")


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a goal asks for.

    A class that vanishes is attacked twice, to lose recall and to lose IoU, and both are measured: each image and
    criterion keeps the worst of the two.

    Attributes:
        kind: "vanish", "fabricate" or "criterion".
        keys: criteria that are measured, as on the command line.
        averages: "micro", "macro", the first for the curves; none: the one that suits the criterion.

    Example:
        >>> Aim.of("vanish:car").keys, Aim.of("miou").keys
        (('recall:car', 'iou:car'), ('miou',))
    """

    kind: str
    keys: tuple[str, ...]
    averages: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Aim:
        """Read the text of `--goal`."""
        kind, _, label = text.partition(":")
        kind = kind.strip().lower()
        if kind == "vanish":
            return cls(kind, (f"recall:{label}", f"iou:{label}"), AVERAGES)
        if kind == "fabricate":
            return cls(kind, (f"iou:{label}",))
        return cls("criterion", (text,))

    def goals(self, criteria: Sequence[Criterion]) -> list[Goal]:
        """The goals to attack, for the criteria of the keys."""
        if self.kind == "fabricate":
            (criterion,) = criteria
            label = getattr(criterion, "label")  # noqa: B009 - of IoU alone
            return [Fabricate(label, ignore_index=criterion.ignore_index)]
        return [CriterionGoal(criterion) for criterion in criteria]

    @property
    def python_goals(self) -> str:
        """The same as an expression over `criteria`."""
        if self.kind == "fabricate":
            return "[onelip.attacks.Fabricate(c.label, ignore_index=c.ignore_index) for c in criteria]"
        return "[onelip.attacks.CriterionGoal(c) for c in criteria]"

    def columns(self, criteria: Sequence[Criterion]) -> list[tuple[str, Criterion, str]]:
        """(key, criterion, average) of each curve of the results."""
        found = []
        for key, criterion in zip(self.keys, criteria, strict=True):
            usual = "micro" if isinstance(criterion, CountCriterion) else "macro"
            found += [(key, criterion, average) for average in self.averages or (usual,)]
        return found


def values(
    criterion: Criterion, certificate: SegmentationCertificate, found: Sequence[AttackResult], *, pooled: bool
) -> Record:
    """Clean, certified and attacked values of one image, and what an average over pixels needs.

    Args:
        criterion: what is measured.
        certificate: of the image.
        found: attacks on it, for the same ascending eps.
        pooled: keep what the micro average of an IoU is made of.
    """
    eps = found[0].eps.tolist()
    curve = certificate.curve(criterion, eps)
    record: Record = {
        "clean": plain(curve.clean)[0],
        "certified": [row[0] for row in plain(curve.certified)],
        "attacked": [row[0] for row in plain(worst(found, criterion))],
    }
    if isinstance(criterion, CountCriterion):
        record["weight"] = int(criterion.counted(certificate.logits, certificate.target)[0])
    if isinstance(criterion, OverlapCriterion) and pooled:
        enlarged = found[0].eps + certificate.rounding
        frontier = criterion.frontier(
            certificate.logits,
            certificate.target,
            eps=enlarged,
            lipschitz=certificate.lipschitz,
            p=certificate.p,
        )
        overlap = criterion.overlap(certificate.logits, certificate.target)[0].tolist()
        reached = _reached(criterion, certificate, found)
        record |= {"overlap": overlap, "frontier": frontier.tolist(), "reached": reached}
    return record


def _reached(
    criterion: OverlapCriterion, certificate: SegmentationCertificate, found: Sequence[AttackResult]
) -> list[list[int]]:
    """Rows as of `onelip.certify.frontier`: what the attacks reached within each eps, the clean image included."""

    def overlap(prediction: Tensor) -> list[int]:
        logits = one_hot(prediction, certificate.logits.shape[1])
        row: list[int] = criterion.overlap(logits, certificate.target)[0].tolist()
        return row

    known = [overlap(found[0].clean_predictions)]
    rows = []
    for place in range(found[0].eps.numel()):
        known += [overlap(result.predictions[place]) for result in found]
        points = sorted(set(map(tuple, known)))
        rows += [[place, int(i == 0), hits, union] for i, (hits, union) in enumerate(points)]
    return rows


def average(
    criterion: Criterion, how: str, records: Sequence[Record], count: int
) -> dict[str, list[float | None]]:
    """Clean, certified and attacked averages over the images where the criterion is defined, at each eps.

    The micro IoU is that of the whole data set: certified, the smallest that one budget an image allows; attacked,
    the smallest that choosing one of the perturbations found for each image gives.

    Args:
        criterion: what was measured.
        how: "macro" or "micro".
        records: of `values`.
        count: number of eps.
    """
    columns = ("clean", "certified", "attacked")
    if how == "micro" and isinstance(criterion, OverlapCriterion):
        return _pooled(criterion.ratio, records, count)
    known = [r for r in records if r["clean"] is not None]
    weights = [r["weight"] if how == "micro" else 1 for r in known]
    total = sum(weights)

    def mean(name: str, place: int) -> float | None:
        if not total:
            return None
        numbers = (r["clean"] if name == "clean" else r[name][place] for r in known)
        return float(sum(w * v for w, v in zip(weights, numbers, strict=True)) / total)

    return {name: [mean(name, place) for place in range(count)] for name in columns}


def _pooled(
    ratio: Callable[[Tensor, Tensor], Tensor], records: Sequence[Record], count: int
) -> dict[str, list[float | None]]:
    def joined(name: str) -> Tensor:
        return torch.tensor([row for r in records for row in r[name]], dtype=torch.int64)

    frontier, reached = joined("frontier"), joined("reached")
    clean = torch.tensor([r["overlap"] for r in records]).sum(0)
    found: dict[str, Any] = {
        "clean": [ratio(clean[0], clean[1])] * count,
        "certified": micro(frontier, count, ratio),
        "attacked": micro(reached, count, ratio),
    }
    return {name: [None if float(v) != float(v) else float(v) for v in row] for name, row in found.items()}
