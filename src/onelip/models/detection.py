"""What every detector has in common: its outputs, its score, its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..core import checks
from ..core.errors import InputError, explain
from .base import LipModel
from .decoding import locations, postprocess

Detections: TypeAlias = dict[str, Tensor]
"""Boxes (M, 4) xyxy, scores (M,), labels (M,) int64 from 0; by falling score, ties by location."""
Target: TypeAlias = dict[str, Tensor]
"""Boxes (G, 4) float xyxy and labels (G,) int64 from 0, of one image; G may be 0."""

REGRESSIONS = ("free", "lipschitz")


class Raw(NamedTuple):
    """The heads of a detector on a batch, before any threshold.

    Attributes:
        logits: (B, N, K), one for each location and class; score = sigmoid(logit / temperature).
        regression: (B, N, 4), distances left, top, right, bottom from the location, >= 0, in units of the stride.
        locations: (N, 2), (x, y) in pixels: cell centres (i + 1/2) stride, row by row, fine to coarse levels.
        strides: (N,), of each location's level, as floats.
    """

    logits: Tensor
    regression: Tensor
    locations: Tensor
    strides: Tensor


class Detector(LipModel):
    r"""A one-stage detector: class logits and four distances at every location of every level.

    `forward` returns what is bounded. With `regression="free"` these are the logits (B, N, K): nothing is proven about
    boxes. With `regression="lipschitz"` it is cat(z, t) (B, N, K + 4) with distances $r = \mathrm{relu}(\kappa t)$, so
    that $\sum \delta z^2 + \kappa^{-2} \sum \delta r^2 \le (L \epsilon)^2$ for all images within $\epsilon$.

    The map of stride $s$ has $\lceil H / s \rceil \times \lceil W / s \rceil$ cells: the padding that is inside the
    model gives no location of its own. There is no background class.

    A subclass sets the attributes and implements `levels`, `bounded_parts` and `unbounded`.

    Attributes:
        strides: of the levels, fine to coarse.
        regression_kind: "free" or "lipschitz".
        kappa: scale $\kappa$ of the Lipschitz distances, in strides.
        temperature: $T$ in score $= \sigma(z / T)$.
        nms: IoU above which a box suppresses another of its class.
        per_level: candidates kept in each level.
        per_image: detections kept in each image.
        centerness: whether a free centre-ness orders the suppression; it changes no score and no threshold.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds jointly all that `forward` returns.
    """

    dense: ClassVar[bool] = False
    kind: ClassVar[str] = "Object detector"
    output: ClassVar[str] = (
        "class logits (B, N, classes) of N locations; with Lipschitz distances (B, N, classes + 4). "
        "`model.predict(images)` gives boxes, scores and labels"
    )
    strides: tuple[int, ...]
    regression_kind: str
    kappa: float
    temperature: float
    nms: float
    per_level: int
    per_image: int
    centerness: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What `predict` depends on beside layers and weights."""
        names = (
            "strides",
            "regression_kind",
            "kappa",
            "temperature",
            "nms",
            "per_level",
            "per_image",
            "centerness",
        )
        return {name: getattr(self, name) for name in names}

    @property
    def default_size(self) -> tuple[int, int]:
        """The input size (h, w) at which a saved model's bound is recorded: two cells of the coarsest level."""
        return 2 * self.multiple_of, 2 * self.multiple_of

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps (B, C, ceil(h / s), ceil(w / s)) of raw images, fine to coarse."""
        raise NotImplementedError

    def bounded(self, maps: Sequence[Tensor]) -> Tensor:
        """Return what `forward` returns, from the feature maps: all parts of all levels.

        A subclass that writes another one has no constants of its parts, and one joint constant.
        """
        levels = [self.bounded_parts(features, level) for level, features in enumerate(maps)]
        return torch.cat([torch.cat(parts, dim=2) for parts in levels], dim=1)

    def bounded_parts(self, features: Tensor, level: int) -> tuple[Tensor, ...]:
        """Return logits (B, n, K), and Lipschitz distances (B, n, 4) if there are any, from the map of one level."""
        raise NotImplementedError

    def unbounded(self, maps: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Return free distances (B, N, 4), >= 0, and centre-ness logits (B, N), each None when the model has none."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the bounded outputs of raw images in [0, 1]: (B, N, K), or (B, N, K + 4) with Lipschitz distances."""
        return self.bounded(self.levels(images))

    def raw(self, images: Tensor) -> Raw:
        """Return logits, distances, locations and strides of images (B, C, H, W) in [0, 1], with gradients."""
        return self.heads(images)[0]

    def heads(self, images: Tensor) -> tuple[Raw, Tensor | None]:
        """Return `raw`, and the centre-ness logits (B, N) when the model has any (its loss needs them)."""
        maps = self.levels(images)
        joint = self.bounded(maps)
        free, centre = self.unbounded(maps)
        logits = joint[..., : self.classes]
        distances = (self.kappa * joint[..., self.classes :]).relu() if free is None else free
        points, strides = locations(images.shape[-2:], self.strides, dtype=logits.dtype, device=logits.device)
        return Raw(logits, distances, points, strides), centre

    def threshold_logit(self, threshold: float) -> float:
        r"""Return the logit whose score is the threshold: $T \log(t / (1 - t))$.

        Raises:
            InputError: the threshold is not strictly between 0 and 1.
        """
        value = checks.number("threshold", threshold)
        if not 0.0 < value < 1.0:
            raise InputError(
                explain(
                    "`threshold` is out of range",
                    received=threshold,
                    expected="a number strictly between 0 and 1",
                    why="it is compared with sigmoid(logit / temperature)",
                )
            )
        return self.temperature * (math.log(value) - math.log1p(-value))

    @torch.no_grad()
    def predict(self, images: Tensor, threshold: float = 0.5, nms: float | None = None) -> list[Detections]:
        """Detect objects.

        Args:
            images: (B, C, H, W) in [0, 1].
            threshold: a detection's score is strictly above it.
            nms: IoU above which a box suppresses another of its class; the model's own by default.

        Returns:
            For each image boxes (M, 4) xyxy in pixels, scores (M,), labels (M,) from 0, by falling score.

        Raises:
            InputError: the images or a threshold are not usable.
            TrainModeError: the model is in train mode.
        """
        checks.eval_mode(self, "predict")
        return self.detect(checks.images(images), threshold, nms)

    @torch.no_grad()
    def detect(self, images: Tensor, threshold: float = 0.5, nms: float | None = None) -> list[Detections]:
        """Detect as `predict` does, on images that may leave [0, 1], as noisy ones do; they are not checked."""
        level = self.threshold_logit(threshold)
        limit = self.nms if nms is None else checks.number("nms", nms, low=0.0, high=1.0)
        raw, centre = self.heads(images)
        return postprocess(
            raw,
            level,
            images.shape[-2:],
            nms=limit,
            temperature=self.temperature,
            per_level=self.per_level,
            per_image=self.per_image,
            order=None if centre is None else self.temperature * torch.nn.functional.logsigmoid(centre),
        )


PARTS = ("logits", "boxes")


class Part(torch.nn.Module):
    """Logits or Lipschitz distances of some levels of a detector alone: their constants may be far below the joint one.

    Args:
        detector: the whole.
        part: "logits" or "boxes".
        levels: indices, 0 for the finest; all by default.

    Example:
        >>> import onelip
        >>> model = onelip.models.create("fcos", classes=2, size="XS").eval()
        >>> Part(model, "logits", [1])(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 64, 2])
    """

    def __init__(self, detector: Detector, part: str, levels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.detector = detector
        self.index = PARTS.index(part)
        self.chosen = tuple(range(len(detector.strides)) if levels is None else levels)
        self.train(detector.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, n, K) or (B, n, 4)."""
        maps = self.detector.levels(images)
        parts = [self.detector.bounded_parts(maps[i], i)[self.index] for i in self.chosen]
        return torch.cat(parts, dim=1)
