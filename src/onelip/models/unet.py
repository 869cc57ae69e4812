"""U-Net with Lipschitz layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError, explain
from .base import LipModel
from .factory import Factory
from .zoo import architecture


class Rise(nn.Module):
    """One step up: transposed block, concatenation with the skip in equal shares, 3x3 blocks."""

    def __init__(self, make: Factory, below: int, width: int, repeats: int) -> None:
        super().__init__()
        self.up = nn.Sequential(*make.up_block(below, width))
        self.share = make.share(2)
        rest = [layer for _ in range(repeats - 1) for layer in make.block(width, width)]
        self.merge = nn.Sequential(*make.block(2 * width, width), *rest)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, below, h, w) and its skip (B, width, 2h, 2w) to (B, width, 2h, 2w)."""
        joined = torch.cat([skip, self.up(x)], dim=1)
        merged: Tensor = self.merge(joined * self.share)
        return merged


@architecture("unet")
class UNet(LipModel):
    r"""Encoder and decoder with a skip at every resolution.

    Level 0 works at full resolution; each next level starts with a 3x3 block of stride 2. On the way up a
    transposed block (kernel 2, stride 2) is concatenated with the skip, both times $1/\sqrt 2$: the join of two
    branches of constants $a$ and $b$ has constant $\sqrt{(a^2 + b^2) / 2}$, so with `scale="none"` the whole
    network is 1-Lipschitz after the normalisation. The classifier is a 1x1 convolution with bias.

    Options: `widths` of the levels, `repeats` of blocks in each level and direction; `norm`, "batch" (centring over
    the batch) or "bias" (a learned constant a channel: for training on crops whose means differ from those of images);
    `patch`: squares of so many pixels a side become the channels of one at the start, and channels squares at the end.
    Both only move values, so they cost no constant, and a quarter or a sixteenth of the positions makes steps faster.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import torch, onelip
        >>> model = onelip.models.create("unet", classes=2, size="XS")
        >>> model(torch.zeros(1, 3, 21, 30)).shape
        torch.Size([1, 2, 21, 30])
    """

    defaults: ClassVar[dict[str, Any]] = {"norm": "batch", "patch": 1}
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (8, 16, 32), "repeats": 1},
        "S": {"widths": (16, 32, 64, 128), "repeats": 2},
        "M": {"widths": (32, 64, 128, 256), "repeats": 2},
        "L": {"widths": (64, 128, 256, 512), "repeats": 2},
    }

    def build(self, make: Factory, *, widths: Sequence[int], repeats: int, norm: str, patch: int) -> None:
        """Create the layers."""
        make = make.using(norm)
        if not isinstance(patch, int) or patch < 1:
            raise ConfigError(explain("`patch` is not usable", received=repr(patch), expected="1, 2, 4, ..."))
        self.multiple_of = patch * 2 ** (len(widths) - 1)
        self.gather, self.scatter = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        levels: list[nn.Module] = []
        cin = self.in_channels * patch**2
        for level, width in enumerate(widths):
            rest = [layer for _ in range(repeats - 1) for layer in make.block(width, width)]
            levels.append(nn.Sequential(*make.block(cin, width, stride=2 if level else 1), *rest))
            cin = width
        self.levels = nn.ModuleList(levels)
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.rises = nn.ModuleList([Rise(make, below, width, repeats) for below, width in reversed(pairs)])
        self.classifier = make.conv(widths[0], self.classes * patch**2, 1, bias=True)

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits of the same size."""
        skips: list[Tensor] = []
        x = self.gather(x)
        for level in self.levels:
            x = level(x)
            skips.append(x)
        for rise, skip in zip(self.rises, reversed(skips[:-1]), strict=True):
            x = rise(x, skip)
        logits: Tensor = self.scatter(self.classifier(x))
        return logits
