"""The base of every model: normalisation and padding inside, a configuration, a strict file format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import InputError, explain
from ..layers import InputNormalization

if TYPE_CHECKING:
    from .config import ModelConfig
    from .factory import Factory


class LipModel(nn.Module):
    r"""A network on raw images whose Lipschitz constant the bound engine proves.

    $f = \mathrm{crop} \circ g \circ \mathrm{pad} \circ N$ with $N(x) = (x - \mu) / \sigma$: the input
    normalisation is the first layer, and zero padding to a multiple of `multiple_of` (right and bottom) and the crop
    back are inside, so that any size works. Padding and cropping are 1-Lipschitz, $N$ is
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
        kind: what the model is, for its card; and `output`, what it returns.

    Shape:
        images float (B, C, H, W) in [0, 1]; logits (B, K, H, W) for dense models, (B, K) for classifiers.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.
    """

    dense: ClassVar[bool] = True
    kind: ClassVar[str] = ""
    output: ClassVar[str] = ""
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

    def build(self, make: Factory, *_: Any, **options: Any) -> None:
        """Create the layers, and set `multiple_of`; a subclass names its options."""
        raise NotImplementedError

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of raw images in [0, 1]."""
        logits = self.network(self.padded(images))
        return logits[..., : images.shape[-2], : images.shape[-1]] if self.dense else logits

    def padded(self, images: Tensor) -> Tensor:
        """Return raw images checked, normalised, and padded with zeros at the right and bottom."""
        if isinstance(images, Tensor):  # not while the graph is traced
            self._check(images)
        x: Tensor = self.normalize(images)
        if self.multiple_of > 1:
            # Arithmetic instead of a test on the size: one graph for every size, and traceable.
            height, width = images.shape[-2], images.shape[-1]
            x = F.pad(x, (0, -width % self.multiple_of, 0, -height % self.multiple_of))
        return x

    def split(self) -> tuple[nn.Module, nn.Module] | None:
        """Return a classifier as features, (B, C, H, W) to (B, F), and its last affine layer; None if it has none.

        Certificates of pairs of classes rest on it, after they checked that both together compute `forward`.
        """
        return None

    def _check(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] != self.in_channels or not images.is_floating_point():
            raise InputError(
                explain(
                    f"{self.name} cannot take this input",
                    received=f"{tuple(images.shape)}, {images.dtype}",
                    expected=f"float images (B, {self.in_channels}, H, W) in [0, 1]",
                )
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What predictions depend on beside layers and weights; a saved model must have what its options say."""
        return {}

    @property
    def default_size(self) -> tuple[int, int]:
        """The input size (h, w) at which a saved model's bound is recorded unless another is asked for."""
        side = max(64, 4 * self.multiple_of)
        return side, side

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (h, w) rounded up to multiples of the total stride: what images of this size are padded to."""
        height, width = (n + -n % self.multiple_of for n in size)
        return height, width

    def save(self, path: str | Path, *, size: tuple[int, int] | None = None) -> None:
        """Write the folded model as a folder; see `onelip.models.storage.save`."""
        from .storage import save

        save(self, path, size=size)


class Features(nn.Module):
    """What the last layer of a classifier reads: (B, C, H, W) to (B, F)."""

    def __init__(self, model: LipModel) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of raw images in [0, 1]."""
        model: Any = self.model
        features: Tensor = model.features(model.padded(images))
        return features
