"""What a data set keeps of each image: worst cases at all thresholds, clean detections, one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onelip.certify.boxes import crossing, pooled
from onelip.certify.boxes.matching import match
from onelip.certify.curve import plain
from onelip.models.decoding import postprocess

if TYPE_CHECKING:
    from onelip.certify.boxes.certificate import DetectionCertificate
    from onelip.certify.boxes.outcome import Outcome


@dataclass(frozen=True, eq=False)
class ImageSheet:
    """One image at the threshold of its certificate.

    Attributes:
        objects: number of objects.
        detections: clean detections.
        silent_radius: no location newly fires below it.
        vanish_radius: of each object; nan where not certified.
        label_radius: of each object.
        found: at each eps, objects found for certain; nan where a cap could bind.
        alarms: at each eps, at most so many false detections; nan where a cap could bind.
    """

    objects: int
    detections: int
    silent_radius: float
    vanish_radius: Tensor
    label_radius: Tensor
    found: Tensor
    alarms: Tensor

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; undefined values are None."""
        return {
            "objects": self.objects,
            "detections": self.detections,
            "silent_radius": plain(torch.tensor(self.silent_radius)),
            "vanish_radius": plain(self.vanish_radius),
            "label_radius": plain(self.label_radius),
            "found": plain(self.found),
            "alarms": plain(self.alarms),
        }


@dataclass(frozen=True, eq=False)
class Measured:
    """One image: J thresholds, E eps, C columns: all classes together, then one by one if there are several.

    Attributes:
        objects: (C,) int64.
        found: (J, C, E) int64, objects found for certain.
        alarms: (J, E) int64, of all classes.
        capped: (J, E) bool.
        rows: frontiers, numbered (c J + j) E + e; empty for a free regression.
        clean_found: (J, C) int64.
        clean: scores, labels and correctness (M, 3) of the clean detections; empty for a free regression.
        sheet: the image at the certificate's own threshold.
    """

    objects: Tensor
    found: Tensor
    alarms: Tensor
    capped: Tensor
    rows: Tensor
    clean_found: Tensor
    clean: Tensor
    sheet: ImageSheet

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, to be kept in a file."""
        both = {**vars(self), **{f"sheet_{name}": value for name, value in vars(self.sheet).items()}}
        return {name: np.asarray(value) for name, value in both.items() if name != "sheet"}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Measured:
        """The image of `arrays`."""
        own = {name: value for name, value in arrays.items() if not name.startswith("sheet_")}
        kept = {name.removeprefix("sheet_"): value for name, value in arrays.items() if name not in own}
        values: dict[str, Any] = {k: torch.from_numpy(v) if v.ndim else v.item() for k, v in kept.items()}
        sheet = ImageSheet(**values)
        return cls(**{name: torch.from_numpy(value) for name, value in own.items()}, sheet=sheet)


def measure(
    certificate: DetectionCertificate, eps: Tensor, thresholds: tuple[float, ...], iou: float
) -> list[Measured]:
    """Measure every image of a certificate that has targets."""
    classes = certificate.raw.logits.shape[-1]
    columns: list[int | None] = [None, *range(classes)] if classes > 1 else [None]
    thetas = [certificate.logit(threshold) for threshold in thresholds]
    table = [certificate.class_outcomes(theta, eps, columns, iou, floor=min(thetas)) for theta in thetas]
    own = certificate.outcomes(certificate.theta, eps, iou)
    return [
        _one(certificate, index, [row[index] for row in table], own[index], thetas, iou)
        for index in range(len(certificate.scenes))
    ]


def _one(
    certificate: DetectionCertificate,
    index: int,
    outcomes: list[list[Outcome]],
    own: Outcome,
    thetas: list[float],
    iou: float,
) -> Measured:
    count, steps = len(own.found), len(thetas)
    rows = torch.zeros(0, 4, dtype=torch.int64)
    if certificate.settings.kappa is not None:
        rows = torch.cat(
            [
                pooled.rows(o, (c * steps + j) * count)
                for j, row in enumerate(outcomes)
                for c, o in enumerate(row)
            ]
        )
    clean, clean_found = _clean(certificate, index, thetas, iou)
    return Measured(
        objects=torch.tensor([outcome.objects for outcome in outcomes[0]]),
        found=torch.stack([torch.stack([o.found for o in row]) for row in outcomes]),
        alarms=torch.stack([row[0].alarms for row in outcomes]),
        capped=torch.stack([row[0].capped for row in outcomes]),
        rows=rows,
        clean_found=clean_found,
        clean=clean,
        sheet=_sheet(certificate, index, own, iou),
    )


def _sheet(certificate: DetectionCertificate, index: int, own: Outcome, iou: float) -> ImageSheet:
    nothing = torch.tensor(torch.nan, dtype=torch.float64)
    return ImageSheet(
        objects=own.objects,
        detections=len(certificate.detections[index]["labels"]),
        silent_radius=float(certificate.silent_radius[index]),
        vanish_radius=certificate.vanish_radii(iou)[index],
        label_radius=certificate.label_radius[index],
        found=torch.where(own.capped, nothing, own.found.double()),
        alarms=torch.where(own.capped, nothing, own.alarms.double()),
    )


def _clean(
    certificate: DetectionCertificate, index: int, thetas: list[float], iou: float
) -> tuple[Tensor, Tensor]:
    """Clean detections (M, 3) above the lowest threshold, and objects found at each threshold (J, C)."""
    scene, settings = certificate.scenes[index], certificate.settings
    classes = scene.logits.shape[1]
    columns = [None, *range(classes)] if classes > 1 else [None]
    if settings.kappa is None:
        held = torch.stack(
            [crossing.location_costs(scene, theta, disjoint=False)[:, 0] > 0 for theta in thetas]
        )
        return torch.zeros(0, 3), torch.stack([held[:, _of(scene.labels, k)].sum(1) for k in columns], 1)
    everything = scene.logits.numel()
    raw = certificate.raw._replace(
        logits=certificate.raw.logits[index, None], regression=certificate.raw.regression[index, None]
    )
    found = postprocess(
        raw,
        min(thetas),
        scene.size,
        nms=settings.nms,
        temperature=certificate.temperature,
        per_level=settings.per_level or everything,
        per_image=settings.per_image or everything,
    )[0]
    owner = match(found, {"boxes": scene.boxes, "labels": scene.labels}, iou)
    hit = owner >= 0
    # By falling score, matching does not depend on lower ones: each threshold keeps a prefix.
    logit = certificate.temperature * torch.logit(found["scores"].double())
    above = hit & (logit > torch.tensor(thetas, dtype=torch.float64)[:, None])
    counts = torch.stack([(above & _of(found["labels"], k)).sum(1) for k in columns], 1)
    return torch.stack([found["scores"].double(), found["labels"].double(), hit.double()], 1), counts


def _of(labels: Tensor, k: int | None) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool) if k is None else labels == k
