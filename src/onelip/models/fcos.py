"""FCOS with Lipschitz layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from ..core import checks
from ..core.errors import ConfigError, explain
from .detection import REGRESSIONS, Detector
from .factory import Factory
from .fpn import FeaturePyramid
from .heads import START, BoundedHead, FreeHead
from .resnet import Backbone, Plan, choice, share
from .zoo import architecture

FINEST, DEEPEST, COARSEST = (4, 8, 16, 32), 32, 128


@architecture("fcos")
class FCOS(Detector):
    r"""One-stage, anchor-free detector: ResNet18 backbone, feature pyramid, heads shared by all levels.

    Constrained, every convolution has norm 1 (whatever `scale` would multiply it with), every duplication is a
    `Fork`, every junction a `Blend`, and the enlargement is an isometry. So the map from the normalised image to all
    logits of all levels is 1-Lipschitz jointly, and `onelip.lipschitz(model, size)` is $1 / \min\sigma$ up to rounding,
    for any number of levels; with `regression="lipschitz"` the same holds for logits and distances together. The
    unconstrained twin has the same graph with ordinary convolutions, ReLU, batch normalisation and sums.

    Options:
        `widths`, `depths`, `stem`, `residual`, `skip`, `norm`: of the backbone, as in resnet18.
        `strides`: levels, consecutive powers of two from 4, 8, 16 or 32 up to 128; beyond 32 from the coarsest output.
        `channels`, `tower`: width of pyramid and heads, blocks in each head.
        `regression`: "free" (ordinary layers beside the bounded ones) or "lipschitz"; `kappa`: scale of the latter.
        `temperature`: score = sigmoid(logit / temperature); `prior`: the score everything begins with.
        `centerness`: a free centre-ness that orders suppression, and changes no score.
        `shares`: "learned" or "fixed" forks and blends; `lateral`: share of energy that leaves the backbone at each
        level, at the start; `box_share`: that of Lipschitz distances.
        `nms`, `per_level`, `per_image`: what `predict` uses.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import torch, onelip
        >>> model = onelip.fold(onelip.models.create("fcos", classes=2, size="XS"))
        >>> model(torch.zeros(1, 3, 64, 50)).shape  # 16x13 + 8x7 + 4x4 + 2x2 locations
        torch.Size([1, 284, 2])
        >>> sorted(model.predict(torch.zeros(1, 3, 64, 50))[0])
        ['boxes', 'labels', 'scores']

    Source: Tian et al., "FCOS: fully convolutional one-stage object detection", ICCV 2019.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "strides": (4, 8, 16, 32),
        "regression": "free",
        "kappa": 0.1,
        "temperature": 1.0,
        "prior": 0.01,
        "centerness": False,
        "stem": "patch",
        "residual": "fork",
        "skip": 0.8,
        "shares": "learned",
        "lateral": 0.5,
        "box_share": 0.5,
        "norm": "batch",
        "nms": 0.6,
        "per_level": 1000,
        "per_image": 100,
    }
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "channels": 8, "tower": 1},
        "S": {"widths": (24, 48, 96, 128), "depths": (2, 2, 2, 2), "channels": 32, "tower": 2},
        "M": {"widths": (48, 96, 192, 256), "depths": (2, 2, 2, 2), "channels": 64, "tower": 3},
        "L": {"widths": (64, 128, 256, 512), "depths": (2, 2, 2, 2), "channels": 256, "tower": 4},
    }

    def build(self, make: Factory, *, channels: int, tower: int, **options: Any) -> None:
        """Create the layers."""
        self._settle(**options)
        make = make.using(options["norm"]).with_unit_gains()
        learned = choice("shares", options["shares"], ("learned", "fixed")) == "learned"
        taps = sum(stride <= DEEPEST for stride in self.strides)
        stages = int(math.log2(self.strides[taps - 1])) - 1
        widths, depths = options["widths"][:stages], options["depths"][:stages]
        plan = Plan(widths, depths, options["stem"], options["residual"], options["skip"], learned)
        self.multiple_of = max(self.strides)
        self.backbone = Backbone(
            make, self.in_channels, plan, taps=taps, lateral=share("lateral", options["lateral"])
        )
        extra = len(self.strides) - taps
        self.pyramid = FeaturePyramid(make, widths[-taps:], channels, extra=extra, learned=learned)
        bounded = self.regression_kind == "lipschitz"
        self.head = BoundedHead(
            make,
            channels,
            self.classes,
            checks.positive_int("tower", tower),
            len(self.strides),
            distances=bounded,
            box_share=share("box_share", options["box_share"]),
            learned=learned,
            bias=self.threshold_logit(share("prior", options["prior"])),
            start=START / self.kappa,
        )
        free = not bounded or self.centerness
        self.free = (
            FreeHead(make, channels, tower, distances=not bounded, centerness=self.centerness)
            if free
            else None
        )

    def _settle(
        self,
        *,
        strides: Sequence[int],
        regression: str,
        kappa: float,
        temperature: float,
        centerness: bool,
        nms: float,
        per_level: int,
        per_image: int,
        **_: Any,
    ) -> None:
        """Check and keep what predictions depend on."""
        self.strides = _strides(strides)
        self.regression_kind = choice("regression", regression, REGRESSIONS)
        self.kappa = _positive("kappa", kappa)
        self.temperature = _positive("temperature", temperature)
        self.nms = checks.number("nms", nms, low=0.0, high=1.0)
        self.per_level = checks.positive_int("per_level", per_level)
        self.per_image = checks.positive_int("per_image", per_image)
        if not isinstance(centerness, bool):
            raise ConfigError(
                explain("`centerness` is not usable", received=repr(centerness), expected="True or False")
            )
        self.centerness = centerness

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps (B, C, ceil(h / s), ceil(w / s)) of raw images, fine to coarse."""
        maps = self.pyramid(self.backbone(self.padded(images)))
        height, width = images.shape[-2], images.shape[-1]
        return [
            m[..., : -(-height // stride), : -(-width // stride)]
            for m, stride in zip(maps, self.strides, strict=True)
        ]

    def bounded_parts(self, features: Tensor, level: int) -> tuple[Tensor, ...]:
        """Return logits (B, n, K), and Lipschitz distances (B, n, 4) if there are any, from the map of one level."""
        outputs: tuple[Tensor, ...] = self.head(features, level)
        return outputs

    def unbounded(self, maps: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Return free distances (B, N, 4), >= 0, and centre-ness logits (B, N), each None when the model has none."""
        if self.free is None:
            return None, None
        outputs: tuple[Tensor | None, Tensor | None] = self.free(maps)
        return outputs


def _strides(value: Any) -> tuple[int, ...]:
    strides = tuple(value) if isinstance(value, Sequence) else ()
    usable = bool(strides) and strides[0] in FINEST and max(strides) <= COARSEST
    if not usable or any(fine * 2 != coarse for fine, coarse in itertools.pairwise(strides)):
        raise ConfigError(
            explain(
                "`strides` are not usable",
                received=repr(value),
                expected=f"consecutive powers of two that begin with {FINEST} and end at {COARSEST} or before",
                fix="strides=(4, 8, 16, 32), or (8, 16, 32, 64, 128) for large images",
            )
        )
    return strides


def _positive(name: str, value: Any) -> float:
    number = checks.number(name, value, low=0.0)
    if number == 0.0:
        raise ConfigError(explain(f"`{name}` is zero", expected="a finite number > 0"))
    return number
