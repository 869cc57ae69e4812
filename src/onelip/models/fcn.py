"""Fully convolutional network with Lipschitz layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError, explain
from .base import LipModel
from .deeplab import encoder
from .factory import Factory
from .zoo import architecture


class Bilinear(nn.Module):
    r"""Bilinear enlargement by an integer factor $r$, then a gain; its constant is at most $r$ times the gain."""

    def __init__(self, factor: int, gain: float) -> None:
        super().__init__()
        self.factor = factor
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, K, h, w) to (B, K, r h, r w)."""
        return self.gain * F.interpolate(
            x, scale_factor=float(self.factor), mode="bilinear", align_corners=False
        )


@architecture("fcn")
class FCN(LipModel):
    r"""Encoder, 1x1 classifier with bias, enlargement of the logits.

    The encoder is that of DeepLabV3: the smallest dense model, with the coarsest maps. `upsample` is "bilinear"
    (in a constrained model with `scale="none"`, times $2^{-s}$ for $s$ stages, which makes it 1-Lipschitz) or
    "transposed" ($s$ transposed convolutions, kernel 2, stride 2, on the logits).

    Options: `widths` of the stages, `repeats` of blocks in each, `upsample`, and `norm` as in the UNet.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import torch, onelip
        >>> model = onelip.models.create("fcn", classes=2, size="XS", upsample="transposed")
        >>> model(torch.zeros(1, 3, 21, 30)).shape
        torch.Size([1, 2, 21, 30])
    """

    defaults: ClassVar[dict[str, Any]] = {"upsample": "bilinear", "norm": "batch"}
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (16, 32), "repeats": 2},
        "S": {"widths": (32, 64, 128), "repeats": 3},
        "M": {"widths": (64, 128, 256), "repeats": 4},
    }

    def build(self, make: Factory, *, widths: Sequence[int], repeats: int, upsample: str, norm: str) -> None:
        """Create the layers."""
        make = make.using(norm)
        self.multiple_of = 2 ** len(widths)
        self.encoder = encoder(make, self.in_channels, widths, repeats)
        self.classifier = make.conv(widths[-1], self.classes, 1, bias=True)
        self.enlarge = self._enlarge(make, upsample, len(widths))

    def _enlarge(self, make: Factory, upsample: str, stages: int) -> nn.Module:
        if upsample == "transposed":
            return nn.Sequential(*[make.up(self.classes, self.classes) for _ in range(stages)])
        if upsample == "bilinear":
            unit = make.constraint is not None and make.scale == "none"
            return Bilinear(2**stages, 0.5**stages if unit else 1.0)
        raise ConfigError(
            explain("`upsample` is not known", received=repr(upsample), expected="bilinear or transposed")
        )

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits of the same size."""
        logits: Tensor = self.enlarge(self.classifier(self.encoder(x)))
        return logits
