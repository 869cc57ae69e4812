"""What `onelip certify` keeps of one image of a detector: radii, detections, and a file for sums over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from onelip.apps.boxes.detections import LOW, stored
from onelip.apps.runs import clock
from onelip.certify.boxes import CertifiedDetections, DetectionCurves
from onelip.certify.curve import plain
from onelip.metrics import match

if TYPE_CHECKING:
    from onelip.apps.boxes.opened import OpenedBoxes
    from onelip.apps.boxes.plan import BoxPlan
    from onelip.certify import DetectionCertificate

Record = dict[str, Any]


class Proofs:
    """Worst cases of the images at all thresholds and eps, one file an image, joined at the end.

    Args:
        plan: what was asked.
    """

    def __init__(self, plan: BoxPlan) -> None:
        self.plan = plan
        self.folder = plan.out / "curves"

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:05d}.npz"

    def _empty(self) -> DetectionCurves:
        from onelip.apps.boxes.plan import ALARMS

        plan = self.plan
        return DetectionCurves(plan.grid, plan.thresholds, iou=plan.iou, alarms=ALARMS)

    def done(self, index: int) -> bool:
        """Whether the image has its file."""
        return self._file(index).is_file()

    def add(self, index: int, certificate: DetectionCertificate) -> None:
        """Keep the worst cases of one image."""
        curves = self._empty()
        curves.update(certificate)
        curves.save(self._file(index))

    def over(self, done: Sequence[Record]) -> CertifiedDetections:
        """Certified values over images that have their files."""
        curves = self._empty()
        curves.merge(DetectionCurves.load(self._file(record["index"])) for record in done)
        return curves.compute()


def measure(
    opened: OpenedBoxes, plan: BoxPlan, index: int, proofs: Proofs
) -> tuple[Record, DetectionCertificate]:
    """Certify one image and keep what is needed of it.

    `seconds` are those of the forward pass, the radii and the worst cases at all thresholds; proving the bound of a
    new image size, the detections of low scores and pictures are not in them.
    """
    certifier = opened.certifier
    image, targets = opened.item(index)
    # Once for each size, not timed.
    size = (image.shape[-2], image.shape[-1])
    certifier.bound(size, in_channels=image.shape[1])
    certifier.constants(size, in_channels=image.shape[1])
    start = clock(certifier.device)
    certificate = certifier(image, targets)
    passed = clock(certifier.device)
    proofs.add(index, certificate)
    objects = _objects(opened, plan, certificate)
    names = opened.dataset.classes
    record = {
        "silent_radius": plain(certificate.silent_radius)[0],
        "alarm_radius": plain(certificate.alarm_radius)[0],
        "presence_radius": dict(zip(names, plain(certificate.presence_radius)[0], strict=True)),
        "cap_radius": plain(certificate.cap_radius)[0],
    }
    seconds = clock(certifier.device) - start
    seen = certifier.model.detect(image.double(), min(LOW, plan.score / 2), certifier.nms)[0]
    scene, theta = certificate.scenes[0], certificate.theta
    return {
        "index": index,
        "id": opened.dataset.ids[index],
        "size": list(image.shape[1:]),
        "objects": objects,
        **record,
        "detections": len(certificate.detections[0]["labels"]),
        "per_image": certifier.model.per_image,
        "outside": int(((scene.logits > theta) & scene.outside).sum()),
        "target": stored(targets[0]),
        "seen": stored(seen),
        "lipschitz": certificate.settings.lipschitz,
        "seconds": seconds,
        "seconds_forward": passed - start,
    }, certificate


def _objects(opened: OpenedBoxes, plan: BoxPlan, certificate: DetectionCertificate) -> list[Record]:
    """For each object its class, whether it is found without an attack, and its radii."""
    assert certificate.targets is not None, "data sets have objects"
    target, names = certificate.targets[0], opened.dataset.classes
    radii = (certificate.vanish_radii(plan.iou), certificate.label_radius, certificate.mislabel_radius)
    columns = [plain(rows[0]) for rows in radii]
    return [
        {
            "class": names[label],
            "found": bool(found),
            "vanish_radius": v,
            "label_radius": k,
            "mislabel_radius": m,
        }
        for label, found, v, k, m in zip(
            target["labels"].tolist(), _found(plan, certificate), *columns, strict=True
        )
    ]


def _found(plan: BoxPlan, certificate: DetectionCertificate) -> list[bool]:
    """Whether each object is found on the clean image: by a detection, or with free boxes by a location."""
    assert certificate.targets is not None, "data sets have objects"
    scene, target = certificate.scenes[0], certificate.targets[0]
    if certificate.settings.kappa is None:
        fires = scene.logits[:, scene.labels] > certificate.theta
        located: list[bool] = (fires & scene.contains).any(0).tolist()
        return located
    owner = torch.from_numpy(match(certificate.detections[0], target, iou=plan.iou))
    return [bool((owner == g).any()) for g in range(scene.objects)]
