"""Convolutional image classifier with Lipschitz layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ..core import checks
from ..core.errors import ConfigError, InputError, explain
from ..layers import ScaledGlobalAvgPool2d, UnitNormLinear
from .base import Features, LipModel
from .deeplab import encoder
from .factory import Factory
from .zoo import architecture

HEADS = ("joint", "unit")


def biased_encoder(make: Factory, cin: int, widths: Sequence[int], repeats: int) -> nn.Sequential:
    """Make stages of `repeats` blocks of a convolution with bias and an activation, the first with stride 2."""
    layers: list[nn.Module] = []
    for width in widths:
        for block in range(repeats):
            layers += [make.conv(cin, width, stride=1 if block else 2, bias=True), make.act()]
            cin = width
    return nn.Sequential(*layers)


@architecture("convnet")
class ConvNet(LipModel):
    r"""Encoder with stride-2 stages, global pooling or flattening, dense head: (B, C, H, W) to (B, K).

    The pooling is $\sum_{hw} x / \sqrt{HW}$, which is 1-Lipschitz at every size (the mean in the unconstrained
    twin). The head is a dense layer of the constraint ("joint": the bound covers all logits together) or has
    rows of norm 1 ("unit": each logit alone is 1-Lipschitz in the features; the joint bound is larger).

    With `image_size` (h, w) the features are flattened instead, which keeps all of their norm, and go through dense
    layers of the widths `hidden`; the model then takes images of that size alone.

    `norm` says what a block has beside convolution and activation: "batch", centring after the activation (batch
    normalisation in the unconstrained twin), or "bias", a bias of the convolution and no statistics at all.

    Options: `widths` of the stages, `repeats` of blocks in each, `head`, `norm`, `image_size`, `hidden`.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import torch, onelip
        >>> model = onelip.models.create("convnet", classes=10, size="XS", in_channels=1)
        >>> model(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
        >>> onelip.models.create("convnet", classes=10, size="XS", image_size=(8, 8), hidden=(16,)).head.in_features
        16
    """

    dense: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {"head": "joint", "norm": "batch", "image_size": None, "hidden": ()}
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (16, 32), "repeats": 1},
        "S": {"widths": (32, 64, 128), "repeats": 2},
        "M": {"widths": (64, 128, 256), "repeats": 3},
    }

    def build(
        self,
        make: Factory,
        *,
        widths: Sequence[int],
        repeats: int,
        head: str,
        norm: str,
        image_size: Sequence[int] | None,
        hidden: Sequence[int],
    ) -> None:
        """Create the layers."""
        if head not in HEADS:
            raise ConfigError(explain("`head` is not known", received=repr(head), expected="joint or unit"))
        if hidden and image_size is None:
            raise ConfigError(
                explain(
                    "`hidden` layers need `image_size`", received=list(hidden), expected="image_size [h, w]"
                )
            )
        self.multiple_of = 2 ** len(widths)
        biased = make.using(norm).norm == "bias"
        stages = biased_encoder if biased else encoder
        self.encoder = stages(make, self.in_channels, widths, repeats)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1) if make.constraint is None else ScaledGlobalAvgPool2d()
        width = widths[-1]
        if image_size is not None:
            self.pool = nn.Flatten()
            rows, columns = checks.size(image_size)
            height, wide = self.padded_size((rows, columns))
            width *= (height // self.multiple_of) * (wide // self.multiple_of)
        layers: list[nn.Module] = []
        for wanted in hidden:
            layers += [make.linear(width, wanted), make.act()]
            width = wanted
        self.hidden = nn.Sequential(*layers)
        constrained = make.constraint is not None and not make.folded
        unit = head == "unit" and constrained
        self.head = UnitNormLinear(width, self.classes) if unit else make.linear(width, self.classes)

    def _check(self, images: Tensor) -> None:
        super()._check(images)
        wanted = self.config["options"]["image_size"]
        if wanted is not None and tuple(images.shape[-2:]) != tuple(wanted):
            raise InputError(
                explain(
                    "this convnet was built for one image size",
                    received=tuple(images.shape[-2:]),
                    expected=tuple(wanted),
                    fix="resize the images, or create the model with another image_size",
                )
            )

    @property
    def default_size(self) -> tuple[int, int]:
        """The one image size of a flattening model; else that of every model."""
        wanted = self.config["options"]["image_size"]
        return super().default_size if wanted is None else (wanted[0], wanted[1])

    def features(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to what the last layer reads, (B, F)."""
        features: Tensor = self.pool(self.encoder(x)).flatten(1)
        for layer in self.hidden:
            features = layer(features)
        return features

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return the network up to its last layer, and that layer."""
        return Features(self), self.head
