"""Convolutional image classifier with Lipschitz layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ..core.errors import ConfigError, explain
from ..layers import ScaledGlobalAvgPool2d, UnitNormLinear
from .base import Features, LipModel
from .deeplab import encoder
from .factory import Factory
from .zoo import architecture

HEADS = ("joint", "unit")


@architecture("convnet")
class ConvNet(LipModel):
    r"""Encoder with stride-2 stages, global pooling, dense head: (B, C, H, W) to (B, K).

    The pooling is $\sum_{hw} x / \sqrt{HW}$, which is 1-Lipschitz at every size (the mean in the unconstrained
    twin). The head is a dense layer of the constraint ("joint": the bound covers all logits together) or has
    rows of norm 1 ("unit": each logit alone is 1-Lipschitz in the features; the joint bound is larger).

    Options: `widths` of the stages, `repeats` of blocks in each, `head`.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import torch, onelip
        >>> model = onelip.models.create("convnet", classes=10, size="XS", in_channels=1)
        >>> model(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    dense: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {"head": "joint"}
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (16, 32), "repeats": 1},
        "S": {"widths": (32, 64, 128), "repeats": 2},
        "M": {"widths": (64, 128, 256), "repeats": 3},
    }

    def build(self, make: Factory, *, widths: Sequence[int], repeats: int, head: str) -> None:
        """Create the layers."""
        if head not in HEADS:
            raise ConfigError(explain("`head` is not known", received=repr(head), expected="joint or unit"))
        self.multiple_of = 2 ** len(widths)
        self.encoder = encoder(make, self.in_channels, widths, repeats)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1) if make.constraint is None else ScaledGlobalAvgPool2d()
        constrained = make.constraint is not None and not make.folded
        unit = head == "unit" and constrained
        self.head = (
            UnitNormLinear(widths[-1], self.classes) if unit else make.linear(widths[-1], self.classes)
        )

    def features(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to what the last layer reads, (B, F)."""
        features: Tensor = self.pool(self.encoder(x)).flatten(1)
        return features

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return the network up to its last layer, and that layer."""
        return Features(self), self.head
