"""Many certificates of detections as one data set: certified recall, precision, average precision, false alarms."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from onelip.certify.boxes import pooled
from onelip.certify.boxes.certificate import DetectionCertificate
from onelip.certify.boxes.judges import check_iou, check_score
from onelip.certify.boxes.measure import Measured, measure
from onelip.certify.boxes.results import CertifiedDetections
from onelip.certify.criterion import Eps
from onelip.certify.frontier import micro
from onelip.core import checks, errors, files

THRESHOLDS = tuple(round(0.05 + 0.025 * i, 3) for i in range(37))


class DetectionCurves:
    r"""Certified recall, precision, average precision and false alarms of a data set, every image with its own budget.

    At each threshold, recall is :math:`\sum TP / \sum G` and precision the smallest ratio of sums that attacks on all
    images can reach together; average precision is what all these operating points guarantee together. Recall with at
    most k false alarms counts the objects of those images alone in which no attack can cause more than k.
    Images without objects take part: their false detections count. An image in which a cap could bind counts as lost
    at that threshold.

    Args:
        eps: sizes of the perturbation in l2 norm.
        thresholds: of the scores; 0.05, 0.075, ..., 0.95 by default. More are tighter for average precision.
        iou: of a match; without meaning for a free regression.
        alarms: allowed numbers of false detections in an image.

    Guarantee: sound for every threshold, if the certificates are.

    Raises:
        InputError: for invalid options, and in `update` for a certificate without targets or of another kind.

    Example:
        >>> from onelip.certify import detection_from_raw
        >>> from onelip.models.detection import Raw
        >>> at, s = torch.tensor([[4.0, 4.0], [12.0, 4.0]]), torch.tensor([8.0, 8.0])
        >>> raw = Raw(torch.tensor([[[0.8], [-0.9]]]), torch.full((1, 2, 4), 0.5), at, s)
        >>> objects = [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}]
        >>> curves = DetectionCurves(eps=[0.1, 0.5, 1.0], thresholds=[0.4, 0.5, 0.6])
        >>> curves.update(detection_from_raw(raw, objects, size=(8, 16), lipschitz=1.0, kappa=0.1))
        >>> curves.compute().average_precision.tolist()
        [1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        eps: Eps,
        thresholds: Sequence[float] = THRESHOLDS,
        *,
        iou: float = 0.5,
        alarms: Sequence[int] = (0, 1),
    ) -> None:
        self.eps = checks.eps_values(eps)
        self.thresholds = tuple(sorted({check_score(score) for score in thresholds}))
        self.iou = check_iou(iou)
        self.alarms = tuple(int(checks.number("alarms", k, low=0)) for k in alarms)
        if not self.thresholds:
            raise errors.InputError(errors.explain("`thresholds` is empty", expected="scores in (0, 1)"))
        self._kind: tuple[Any, ...] | None = None
        self._images: list[Measured] = []

    def update(self, certificate: DetectionCertificate) -> None:
        """Add the images of a certificate made with targets."""
        certificate.need_targets("DetectionCurves.update")
        settings = certificate.settings
        kind = (settings.kappa is None, settings.by_logit, certificate.raw.logits.shape[-1], settings.nms)
        self._check(kind)
        self._images.extend(measure(certificate, self.eps, self.thresholds, self.iou))

    def merge(self, others: Iterable[DetectionCurves]) -> None:
        """Add the images of other curves with the same options, as of other processes."""
        for other in others:
            options = [(c.eps.tolist(), c.thresholds, c.iou, c.alarms) for c in (self, other)]
            if options[0] != options[1]:
                raise errors.InputError(
                    errors.explain(
                        "DetectionCurves.merge: the options differ", received=options[1], expected=options[0]
                    )
                )
            if other._kind is not None:
                self._check(other._kind)
            self._images.extend(other._images)

    def save(self, path: str | Path) -> None:
        """Write the images so far to a file, from which `load` takes them up again.

        Raises:
            StorageError: when it cannot be written; what was there before is kept.
        """
        arrays: dict[str, Any] = {
            "eps": self.eps.numpy(),
            "thresholds": np.array(self.thresholds),
            "iou": np.array(self.iou),
            "alarms": np.array(self.alarms, dtype=np.int64),
            "kind": np.array([] if self._kind is None else [float(part) for part in self._kind]),
        }
        for number, image in enumerate(self._images):
            arrays |= {f"{number}/{name}": value for name, value in image.arrays().items()}
        buffer, save = io.BytesIO(), cast("Any", np.savez_compressed)
        save(buffer, **arrays)
        files.atomic_write(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> DetectionCurves:
        """Read curves that `save` has written, with their options.

        Raises:
            DataError: when there is no such file, or it holds something else.

        Example:
            >>> import pathlib, tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     DetectionCurves(eps=[0.1], iou=0.75).save(pathlib.Path(folder) / "a.npz")
            ...     DetectionCurves.load(pathlib.Path(folder) / "a.npz").iou
            0.75
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            options = {name: arrays.pop(name).tolist() for name in ("thresholds", "iou", "alarms")}
            curves = cls(arrays.pop("eps").tolist(), **options)
            kind = arrays.pop("kind").tolist()
            curves._kind = (bool(kind[0]), bool(kind[1]), int(kind[2]), kind[3]) if kind else None
            for number in range(len({name.partition("/")[0] for name in arrays})):
                mine = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{number}/")}
                curves._images.append(Measured.of_arrays(mine))
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise errors.DataError(
                errors.explain(
                    f"{path} holds no certified curves of detections",
                    received=str(error) or type(error).__name__,
                    expected="a file that DetectionCurves.save has written",
                )
            ) from error
        return curves

    def _check(self, kind: tuple[Any, ...]) -> None:
        if self._kind not in (None, kind):
            raise errors.InputError(
                errors.explain(
                    "DetectionCurves: this certificate is of another kind of detector",
                    received=f"(free, by logit, classes, nms) = {kind}",
                    expected=self._kind,
                )
            )
        self._kind = kind

    def compute(self) -> CertifiedDetections:
        """Values over all images so far.

        Raises:
            InputError: when there is no image.
        """
        if self._kind is None or not self._images:
            raise errors.InputError(
                errors.explain("DetectionCurves.compute: there is no image", fix="call update first")
            )
        free, by_logit = self._kind[:2]
        images = self._images
        objects = torch.stack([image.objects for image in images]).sum(0)
        found = torch.stack([image.found for image in images]).sum(0)
        clean_found = torch.stack([image.clean_found for image in images]).sum(0)
        recall = found.double() / objects[:, None].double()  # (J, C, E)
        precision = None if free else self._precision()  # (C, J, E)
        areas = self._areas(objects, recall, precision) if by_logit and precision is not None else None
        recall_allowed, quiet = self._allowed(int(objects[0]))
        clean = torch.cat([image.clean for image in images])
        clean_areas = _clean_areas(clean, objects) if areas is not None else None
        return CertifiedDetections(
            eps=self.eps,
            thresholds=torch.tensor(self.thresholds, dtype=torch.float64),
            iou=self.iou,
            free=free,
            recall=recall[:, 0],
            precision=None if precision is None else precision[0],
            average_precision=areas and areas[0],
            average_precision_101=areas and areas[1],
            allowed=torch.tensor(self.alarms, dtype=torch.int64),
            recall_allowed=recall_allowed,
            quiet=quiet,
            clean_recall=clean_found[:, 0].double() / objects[0].double(),
            clean_precision=None if free else self._clean_precision(clean, clean_found[:, 0]),
            clean_average_precision=clean_areas and clean_areas[0],
            clean_average_precision_101=clean_areas and clean_areas[1],
            capped=torch.stack([image.capped for image in images]).sum(0),
            images=len(images),
            objects=int(objects[0]),
            sheets=tuple(image.sheet for image in images),
        )

    def _precision(self) -> Tensor:
        columns, steps, count = len(self._images[0].objects), len(self.thresholds), len(self.eps)
        joined = torch.cat([image.rows for image in self._images])
        joined = joined[joined[:, 0].argsort(stable=True)]
        parts = joined.split(joined[:, 0].bincount(minlength=columns * steps * count).tolist())
        zeroed = [torch.cat([torch.zeros_like(part[:, :1]), part[:, 1:]], 1) for part in parts]
        return torch.cat([micro(part, 1, pooled.share) for part in zeroed]).reshape(columns, steps, count)

    def _areas(self, objects: Tensor, recall: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        columns = range(1, len(objects)) if len(objects) > 1 else range(1)
        some = [c for c in columns if int(objects[c])]
        nothing = torch.full((len(self.eps),), torch.nan, dtype=torch.float64)
        both = [
            torch.stack([pooled.area_under(recall[:, c], precision[c], how) for c in some]).mean(0)
            if some
            else nothing
            for how in pooled.INTERPOLATIONS
        ]
        return both[0], both[1]

    def _allowed(self, objects: int) -> tuple[Tensor, Tensor]:
        found = torch.stack([image.found[:, 0] for image in self._images])
        alarms = torch.stack([image.alarms for image in self._images])
        capped = torch.stack([image.capped for image in self._images])
        calm = [(alarms <= k) & ~capped for k in self.alarms]
        recall = [
            (found * quiet).sum(0).double() / objects if objects else found[0].double() * torch.nan
            for quiet in calm
        ]
        return torch.stack(recall), torch.stack([quiet.double().mean(0) for quiet in calm])

    def _clean_precision(self, clean: Tensor, hits: Tensor) -> Tensor:
        limits = torch.tensor(self.thresholds, dtype=torch.float64)
        return hits.double() / (clean[:, 0] > limits[:, None]).sum(1).double()


def _clean_areas(clean: Tensor, objects: Tensor) -> tuple[float, float]:
    """Average precision of the clean detections above the lowest threshold, mean over the classes with objects."""
    found = []
    for k, count in enumerate((objects[1:] if len(objects) > 1 else objects).tolist()):
        if count:
            mine = clean[clean[:, 1] == k]
            mine = mine[mine[:, 0].argsort(descending=True, stable=True)]
            hits = torch.cat([mine.new_zeros(1), mine[:, 2].cumsum(0)])
            reported = torch.arange(len(hits), dtype=torch.float64).clamp_min(1)
            curve = (hits / count)[:, None], (hits / reported)[:, None]
            found.append([float(pooled.area_under(*curve, how)) for how in pooled.INTERPOLATIONS])
    if not found:
        return torch.nan, torch.nan
    first, second = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return first, second
