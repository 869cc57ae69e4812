"""Multilayer perceptron with Lipschitz layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from .base import Features, LipModel
from .factory import Factory
from .zoo import architecture


@architecture("mlp")
class MLP(LipModel):
    """Dense layers with activations between them: (B, F), or images (B, C, H, W) of one size, to (B, K).

    Options: `widths` of the hidden layers; `image_size` (h, w), or None for flat inputs, where `in_channels` is
    the number of features F.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are; size (1, 1) for flat inputs.

    Example:
        >>> import torch, onelip
        >>> model = onelip.models.create("mlp", classes=10, in_channels=1, image_size=(28, 28))
        >>> model(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    dense: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {"image_size": None}
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (32,)},
        "S": {"widths": (128, 64)},
        "M": {"widths": (512, 256, 128)},
    }

    def build(self, make: Factory, *, widths: Sequence[int], image_size: Sequence[int] | None) -> None:
        """Create the layers."""
        height, width = image_size or (1, 1)
        cin = self.in_channels * height * width
        layers: list[nn.Module] = []
        for hidden in widths:
            layers += [make.linear(cin, hidden), make.act()]
            cin = hidden
        self.layers = nn.Sequential(*layers, make.linear(cin, self.classes))

    def padded(self, images: Tensor) -> Tensor:
        """Return inputs checked and normalised; a flat input is an image of F channels and one pixel."""
        flat = self.config["options"]["image_size"] is None
        return super().padded(images.flatten(1).unflatten(1, (self.in_channels, 1, 1)) if flat else images)

    @property
    def default_size(self) -> tuple[int, int]:
        """The one input size; (1, 1) for flat inputs."""
        height, width = self.config["options"]["image_size"] or (1, 1)
        return height, width

    def features(self, x: Tensor) -> Tensor:
        """Map normalised inputs to what the last layer reads, (B, F)."""
        x = x.flatten(1)
        for layer in list(self.layers)[:-1]:
            x = layer(x)
        return x

    def network(self, x: Tensor) -> Tensor:
        """Map normalised inputs to logits (B, K)."""
        logits: Tensor = self.layers(x.flatten(1))
        return logits

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return the network up to its last layer, and that layer."""
        return Features(self), self.layers[-1]
