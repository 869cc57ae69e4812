"""The base of every model: normalisation and padding inside, a configuration, a strict file format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import InputNormalization

if TYPE_CHECKING:
    from .config import ModelConfig
    from .factory import Factory


class LipModel(nn.Module):
    r"""A network on raw images whose Lipschitz constant the bound engine proves.

    $f = \mathrm{crop} \circ g \circ \mathrm{pad} \circ N$ with $N(x) = (x - \mu) / \sigma$: the input
    normalisation is the first layer, and zero padding to a multiple of `multiple_of` (right and bottom) and the
    crop back are inside, so that any size works. Padding and cropping are 1-Lipschitz, $N$ is
    $1/\min\sigma$-Lipschitz, and the bound says so.

    A subclass implements `build`, which creates the layers from a `Factory`, and `network`, the map between
    padding and crop.

    Attributes:
        name: the architecture's name, as `create` takes it.
        config: the complete, JSON-ready configuration (dict).
        classes: number of output classes $K$.
        in_channels: number of input channels $C$.
        folded: True when all weights are plain: as `onelip.fold` and `onelip.load` return it.
        multiple_of: the network's total stride.

    Shape:
        images float (B, C, H, W) in [0, 1]; logits (B, K, H, W) for dense models, (B, K) for classifiers.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.
    """

    dense: ClassVar[bool] = True
    defaults: ClassVar[dict[str, Any]] = {}
    sizes: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, config: ModelConfig, make: Factory) -> None:
        super().__init__()
        self.name = config.name
        self.config: dict[str, Any] = config.to_dict()
        self.classes = config.classes
        self.in_channels = config.in_channels
        self.folded = make.folded
        self.multiple_of = 1
        self.normalize: nn.Module = InputNormalization(config.mean, config.std)
        self.build(make, **config.options)

    def build(self, make: Factory, **options: Any) -> None:
        """Create the layers, and set `multiple_of`."""
        raise NotImplementedError

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of raw images in [0, 1]."""
        height, width = images.shape[-2], images.shape[-1]
        # Arithmetic instead of a test: the graph stays the same for every size, and traceable.
        x = F.pad(self.normalize(images), (0, -width % self.multiple_of, 0, -height % self.multiple_of))
        logits = self.network(x)
        return logits[..., :height, :width] if self.dense else logits

    def save(self, path: str | Path, *, size: tuple[int, int] | None = None) -> None:
        """Write the folded model as a folder; see `onelip.models.storage.save`."""
        from .storage import save

        save(self, path, size=size)
