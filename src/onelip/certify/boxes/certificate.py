"""The certificate of a batch of images: everything that is proven about their detections."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onelip.certify.boxes import crossing, pooled
from onelip.certify.boxes.judges import JudgedBatch, check_iou
from onelip.certify.boxes.record import Recorded
from onelip.certify.boxes.scene import Settings
from onelip.certify.boxes.shared import largest
from onelip.core import checks

if TYPE_CHECKING:
    from onelip.bounds import Bound
    from onelip.certify.criterion import Eps
    from onelip.models.detection import Detections, Raw, Target


@dataclass(frozen=True, eq=False, repr=False)
class DetectionCertificate(JudgedBatch, Recorded):
    r"""What no perturbation of a given norm can do to the detections of a detector.

    Made by `onelip.certify.detection`. A *candidate* is a pair (location, class) with a score strictly above the
    threshold. All tensors are float64 and on the CPU.

    With a **free** regression nothing is known about boxes: objects are found by their *locations*. Object g is found
    when a location inside its box is a candidate of its class; `vanish_radius`, `recall` and `alarms` say how long.
    Precision and average precision need boxes and are refused. With a **Lipschitz** regression an object is found when
    some detection of its class has at least the given IoU with it, after suppression.

    Attributes:
        raw: logits (B, N, K), distances (B, N, 4), locations (N, 2), strides (N,).
        size: (h, w) of the images.
        targets: boxes and labels of each image, or None.
        images: (B, C, H, W) in [0, 1], or None when the certificate was made of raw heads.
        detections: clean detections of each image at the threshold.
        threshold: of the scores.
        theta: the same as a logit.
        temperature: T in score = sigmoid(logit / T).
        settings: constants L, kappa, limit of suppression, caps, rounding.
        bound: how L was proven, or None when it was given.
        assumptions: what the guarantee rests on.
        versions: versions of the packages that computed it.
        weights_hash: SHA-256 of the folded weights.
        date: UTC time.

    Guarantee: sound for the exact-arithmetic network with these weights, in the closed l2 ball around these very
    images, under `assumptions`. Radii are rounded down.

    Example:
        >>> from onelip.certify import detection_from_raw
        >>> from onelip.models.detection import Raw
        >>> at, s = torch.tensor([[4.0, 4.0], [12.0, 4.0]]), torch.tensor([8.0, 8.0])
        >>> raw = Raw(torch.tensor([[[0.3], [-0.4]]]), torch.full((1, 2, 4), 0.5), at, s)
        >>> objects = [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}]
        >>> c = detection_from_raw(raw, objects, size=(8, 16), lipschitz=1.0)
        >>> c.new_detections([0.3, 0.5]).tolist(), round(c.silent_radius.item(), 6), c.recall([0.29, 0.31]).tolist()
        ([[0], [1]], 0.4, [1.0, 0.0])
    """

    raw: Raw
    size: tuple[int, int]
    targets: list[Target] | None
    images: Tensor | None
    detections: list[Detections]
    threshold: float
    theta: float
    temperature: float
    settings: Settings
    bound: Bound | None = None
    assumptions: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    weights_hash: str = ""
    date: str = ""
    p: float = 2.0

    def new_detections(self, eps: Eps, *, outside: bool = False) -> Tensor:
        """(E, B) int64: at most so many pairs (location, class) can newly cross the threshold, exactly.

        Not the number of new *final* detections beyond the clean ones: a new candidate can suppress one that had
        suppressed several others. For final detections see `reported`.

        Args:
            eps: sizes of the perturbation in l2 norm.
            outside: count only pairs whose location is in no object of the class; needs targets.
        """
        values = checks.eps_values(eps)
        if outside:
            self.need_targets("new_detections(outside=True)")
        found = []
        for scene in self.scenes:
            among = scene.outside if outside else None
            found.append(crossing.new_candidates(scene, self.theta, scene.budget(values), among))
        return torch.stack(found, 1)

    @cached_property
    def silent_radius(self) -> Tensor:
        """(B,): no location can newly fire below it."""
        costs = [crossing.silent_cost(scene, self.theta) for scene in self.scenes]
        return self._radii(torch.tensor(costs, dtype=torch.float64))

    @cached_property
    def alarm_radius(self) -> Tensor:
        """(B,): no location outside of all objects of a class can newly fire for it below it."""
        self.need_targets("alarm_radius")
        costs = [crossing.silent_cost(scene, self.theta, scene.outside) for scene in self.scenes]
        return self._radii(torch.tensor(costs, dtype=torch.float64))

    @cached_property
    def presence_radius(self) -> Tensor:
        """(B, K): below it some candidate of the class remains, and so some final detection; 0 where there is none."""
        return torch.stack(
            [self._radii(crossing.presence_cost(scene, self.theta)) for scene in self.scenes]
        ).minimum(self.cap_radius[:, None])

    @cached_property
    def cap_radius(self) -> Tensor:
        """(B,): below it neither the cap per level nor, with Lipschitz boxes, the cap per image can bind; 0 if now."""
        return torch.tensor([judge.cap_radius(self.theta) for judge in self.judges()], dtype=torch.float64)

    @cached_property
    def location_radius(self) -> list[Tensor]:
        """For each image (G,): below it a location inside the object is a candidate of its class."""
        self.need_targets("location_radius")
        costs = [crossing.location_costs(scene, self.theta, disjoint=False) for scene in self.scenes]
        return [self._radii(largest(cost)) for cost in costs]

    @cached_property
    def vanish_radius(self) -> list[Tensor]:
        """For each image (G,): object g is found below it; with Lipschitz boxes at IoU 0.5, after suppression.

        Each object is considered alone, with the whole budget. nan where a cap binds on the clean image already.
        """
        return self.vanish_radii()

    def vanish_radii(self, iou: float = 0.5) -> list[Tensor]:
        """`vanish_radius` for another IoU; without meaning, and the same, for a free regression."""
        self.need_targets("vanish_radius")
        radii = self.location_radius
        if self.settings.kappa is not None:
            judges = self.judges(check_iou(iou))
            radii = [self._radii(judge.supports.at(self.theta).radius) for judge in judges]
        return [
            torch.minimum(found, cap) if cap > 0 else torch.full_like(found, torch.nan)
            for found, cap in zip(radii, self.cap_radius, strict=True)
        ]

    @cached_property
    def label_radius(self) -> list[Tensor]:
        """For each image (G,): below it the highest logit over the object's locations is of its class.

        An object has the locations inside its box that are in no smaller object. inf with one class only.
        """
        self.need_targets("label_radius")
        return [self._radii(crossing.label_costs(scene)) for scene in self.scenes]

    @cached_property
    def mislabel_radius(self) -> list[Tensor]:
        """For each image (G,): below it not both: all locations silent for its class, and one firing for another."""
        self.need_targets("mislabel_radius")
        return [self._radii(crossing.mislabel_costs(scene, self.theta)) for scene in self.scenes]

    def relabelled(self, eps: Eps) -> Tensor:
        """(E, B) int64: at most so many firing locations can change the class of their highest logit."""
        values = checks.eps_values(eps)
        found = [crossing.relabelled(scene, self.theta, scene.budget(values)) for scene in self.scenes]
        return torch.stack(found, 1)

    def reported(self, eps: Eps) -> Tensor:
        """(E, B) float64: at most so many detections (free regression: candidates) at once; nan where capped."""
        return self._per_image(eps, "reported")

    def found(self, eps: Eps, iou: float = 0.5) -> Tensor:
        """(E, B) float64: at least so many objects are found; nan where capped."""
        self.need_targets("found")
        return self._per_image(eps, "found", iou)

    def alarms(self, eps: Eps, iou: float = 0.5) -> Tensor:
        """(E, B) float64: at most so many false detections (free regression: candidates outside); nan where capped."""
        self.need_targets("alarms")
        return self._per_image(eps, "alarms", iou)

    def recall(self, eps: Eps, iou: float = 0.5) -> Tensor:
        """(E,): certified share of the objects of the batch that are found; nan where a cap could bind.

        Args:
            eps: sizes of the perturbation of each image.
            iou: of a detection with its object; without meaning for a free regression.
        """
        self.need_targets("recall")
        outcomes = self.outcomes(self.theta, checks.eps_values(eps), iou)
        return self.unless_capped(pooled.recall(outcomes), outcomes)

    def precision(self, eps: Eps, iou: float = 0.5) -> Tensor:
        """(E,): certified share of the detections of the batch that are right; nan where a cap could bind.

        The smallest ratio over all attacks, one budget an image; nan where no detection can occur.
        """
        self.need_targets("precision")
        self.need_boxes("precision")
        outcomes = self.outcomes(self.theta, checks.eps_values(eps), iou)
        return self.unless_capped(pooled.precision(outcomes), outcomes)

    def _radii(self, costs: Tensor) -> Tensor:
        return crossing.radii(self.scenes[0], costs)

    def _per_image(self, eps: Eps, name: str, iou: float = 0.5) -> Tensor:
        outcomes = self.outcomes(self.theta, checks.eps_values(eps), iou)
        rows = [torch.where(o.capped, torch.nan, getattr(o, name).double()) for o in outcomes]
        return torch.stack(rows, 1)
