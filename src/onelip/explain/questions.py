"""What is asked about a box: its locations, its classes, the goal they make, and how far that is at least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onelip.certify.boxes import crossing
from onelip.certify.boxes.front import DetectionCertifier
from onelip.certify.boxes.shared import largest
from onelip.core.errors import BoundError, InputError, explain
from onelip.explain.classifier import labels, undisturbed
from onelip.explain.counterfactuals import NEARER
from onelip.explain.dense_search import Proof, unproven
from onelip.explain.goals import Firing
from onelip.models.decoding import locations
from onelip.models.detection import Detector

NAME = "explain.box_counterfactual"
_ABOUT = (
    "what is found at a box is a matter of the locations inside of it; boxes of detections may be elsewhere"
)


class Question:
    """One call: the boxes and classes, checked, and the goal they make."""

    def __init__(
        self,
        model: Detector,
        images: Tensor,
        outputs: Tensor,
        boxes: Any,
        mode: str,
        label: Any,
        to: Any,
        threshold: float,
    ) -> None:
        self.model, self.mode, self.threshold = model, mode, threshold
        batch, size = len(images), images.shape[-2:]
        self.boxes = _boxes(boxes, batch, size)
        points = locations(size, model.strides)[0]
        self.shape = (len(points), outputs.shape[1] // len(points))
        centre, half = (
            (self.boxes[:, :2] + self.boxes[:, 2:]) / 2,
            (self.boxes[:, 2:] - self.boxes[:, :2]) / 2,
        )
        # As `Scene.contains`, of which the certificate is about.
        inside = ((points[None] - centre[:, None]).abs() < half[:, None]).all(-1).to(outputs.device)
        if not bool(inside.any(1).all()):
            rows = (~inside.any(1)).nonzero().flatten().tolist()
            self._refuse("a box holds no location of the detector", f"images {rows[:8]}", "larger boxes")
        self.inside = inside
        theta, logits = model.threshold_logit(threshold), self._logits(outputs)
        highest = logits.masked_fill(~inside[..., None], -torch.inf).amax(1)
        self.label = self._label(label, highest, theta)
        self.to = None if to is None else labels(to, highest, f"{NAME}: `to`")
        chosen = self._targets(highest)
        nothing = torch.zeros_like(logits, dtype=torch.bool)
        silent, firing = nothing.clone(), nothing
        if mode != "appear":
            silent[torch.arange(batch), :, self.label] = inside
        if mode != "vanish":
            firing = inside[..., None] & chosen[:, None]
        self.goal = Firing(self.shape, 1.0, silent, firing, theta)
        done = self.goal.reached(outputs)
        if bool(done.any()):
            self._refuse(
                "it is there already",
                f"images {done.nonzero().flatten().tolist()[:8]}",
                "another class or box",
            )

    def _refuse(self, what: str, received: Any, expected: str) -> None:
        raise InputError(explain(f"{NAME}: {what}", received=received, expected=expected))

    def _logits(self, outputs: Tensor) -> Tensor:
        return outputs.reshape(-1, *self.shape)[..., : self.model.classes]

    def _label(self, label: Any, highest: Tensor, theta: float) -> Tensor:
        """(B,) the class at the box."""
        found = highest.argmax(1) if label is None else labels(label, highest, f"{NAME}: `label`")
        if self.mode != "appear":
            lost = ~(highest.gather(1, found[:, None])[:, 0] > theta)
            if bool(lost.any()):
                rows = lost.nonzero().flatten().tolist()
                self._refuse(
                    "nothing of the class is found at the box",
                    f"images {rows[:8]}, threshold={self.threshold:g}",
                    "a location in the box with a score above the threshold",
                )
        return found

    def _targets(self, highest: Tensor) -> Tensor:
        """(B, K) bool: the classes of which one has to fire."""
        classes = torch.arange(highest.shape[1], device=highest.device)
        if self.to is not None and self.mode == "vanish":
            self._refuse("`to` has no meaning for vanishing", f"to={self.to.tolist()[:8]}", "to=None")
        chosen = (
            torch.ones_like(highest, dtype=torch.bool) if self.to is None else classes == self.to[:, None]
        )
        if self.mode == "relabel":
            chosen = chosen & (classes != self.label[:, None])
            if not bool(chosen.any(1).all()):
                self._refuse(
                    "there is no other class", f"{highest.shape[1]} classes", "`to` other than the label"
                )
        return chosen

    def at(self, outputs: Tensor, label: Tensor | None) -> Tensor:
        """(B,) class found at the box, the highest or the one given; -1 for none."""
        logits = self._logits(outputs).masked_fill(~self.inside[..., None], -torch.inf).amax(1)
        best = logits.argmax(1) if label is None else label
        return torch.where(logits.gather(1, best[:, None])[:, 0] > self.goal.theta, best, -1)

    def proof(self, images: Tensor, size: int) -> Proof:
        """Lower bounds, with the constant of the logits."""
        lower: list[Tensor] = []
        pairs = zip(self.boxes, self.label.cpu(), strict=True)
        targets = [{"boxes": corners[None], "labels": k[None]} for corners, k in pairs]
        try:
            with undisturbed():
                certifier = DetectionCertifier(self.model, self.threshold)
                for first in range(0, len(images), size):
                    part = slice(first, first + size)
                    found = certifier(images[part], targets[part])
                    for i, scene in enumerate(found.scenes):
                        lower.append(crossing.radii(scene, self._cost(scene, found.theta, first + i)))
        except BoundError as error:
            return unproven(images, error)
        settings = found.settings
        alone = settings.lipschitz if settings.logits is None else settings.logits.joint
        constant = max(min(settings.lipschitz, alone), 1e-30)
        return Proof(torch.stack(lower).to(images), constant, (*found.assumptions, _ABOUT, NEARER))

    def _cost(self, scene: Any, theta: float, row: int) -> Tensor:
        """Smallest budget with which the goal of one image can be reached."""
        if self.mode == "vanish":
            return largest(crossing.location_costs(scene, theta, disjoint=False))[0]
        if self.mode == "appear":
            return torch.tensor(crossing.silent_cost(scene, theta, self.goal.firing[row].cpu()))
        label, others = int(self.label[row]), self.goal.firing[row].any(0).nonzero().flatten().tolist()
        part = replace(
            scene, logits=scene.logits[:, [label, *others]], labels=torch.zeros(1, dtype=torch.int64)
        )
        return crossing.mislabel_costs(part, theta)[0]


def _boxes(boxes: Any, batch: int, size: Any) -> Tensor:
    """(B, 4) float64 boxes on the CPU, checked."""
    found = torch.as_tensor(boxes)
    fine = found.shape in ((4,), (batch, 4)) and not found.is_complex() and found.dtype != torch.bool
    if fine:
        found = found.detach().to("cpu", torch.float64).expand(batch, 4)
        height, width = size
        inside = (found[:, :2] >= 0).all(1) & (found[:, 2] <= width) & (found[:, 3] <= height)
        fine = bool((inside & (found[:, 2:] > found[:, :2]).all(1)).all())
    if not fine:
        raise InputError(
            explain(
                f"{NAME}: `boxes` do not fit",
                received=found.tolist() if found.numel() <= 8 else tuple(found.shape),
                expected=f"one (x1, y1, x2, y2) an image, (4,) or ({batch}, 4), x1 < x2 and y1 < y2, in the image",
            )
        )
    return found
