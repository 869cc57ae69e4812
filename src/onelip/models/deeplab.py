"""DeepLabV3 with Lipschitz layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .base import LipModel
from .factory import Factory
from .zoo import architecture

RATES = (6, 12, 18)


def encoder(make: Factory, cin: int, widths: Sequence[int], repeats: int) -> nn.Sequential:
    """Make stages of `repeats` blocks, the first block of each with stride 2."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += make.block(cin, width, stride=2)
        for _ in range(repeats - 1):
            layers += make.block(width, width)
        cin = width
    return nn.Sequential(*layers)


class Pyramid(nn.Module):
    """Atrous spatial pyramid: a 1x1 and dilated 3x3 branches, joined in equal shares, then projected."""

    def __init__(self, make: Factory, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        dilated = [make.conv(width, width, 3, dilation=rate) for rate in rates]
        self.branches = nn.ModuleList([make.conv(width, width, 1), *dilated])
        self.share = make.share(len(self.branches))
        self.project = nn.Sequential(*make.block(len(self.branches) * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, A, h, w) to (B, A, h, w)."""
        joined = torch.cat([branch(x) for branch in self.branches], dim=1)
        projected: Tensor = self.project(joined * self.share)
        return projected


@architecture("deeplabv3")
class DeepLabV3(LipModel):
    r"""Encoder with stride-2 stages, atrous pyramid, transposed decoder, 1x1 classifier with bias.

    Each stage is a 3x3 stride-2 block then `repeats - 1` 3x3 blocks; a block is convolution, MaxMin, centring
    (in the unconstrained twin: convolution, ReLU, batch normalisation). The pyramid has four branches (1x1,
    and 3x3 with dilations 6, 12, 18). The decoder is a 3x3 convolution and MaxMin, then for each stage a
    transposed block (kernel 2, stride 2) that halves the channels.

    With root-mean-square scaling and orthogonal layers the constant is
    $L = 2^{s} \sqrt{K / 12} / \min\sigma$ for $s$ stages, $K$ classes and 3 input channels.

    Options: `widths` of the stages, `repeats` of blocks in each.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import onelip
        >>> model = onelip.fold(onelip.models.create("deeplabv3", classes=2, size="XS", scale="none"))
        >>> abs(onelip.lipschitz(model, (32, 32)).value - 2.0) < 1e-3  # 1 / std
        True

    Source: the published certified segmentation network, sizes S, M1, M2, L, XL; XS is for demos and tests.
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (16, 32, 64), "repeats": 2},
        "S": {"widths": (32, 64, 128), "repeats": 3},
        "M1": {"widths": (64, 128, 256), "repeats": 5},
        "M2": {"widths": (64, 128, 256, 512), "repeats": 5},
        "L": {"widths": (64, 128, 256, 512), "repeats": 7},
        "XL": {"widths": (128, 256, 512, 1024, 2048), "repeats": 5},
    }

    def build(self, make: Factory, *, widths: Sequence[int], repeats: int) -> None:
        """Create the layers."""
        self.multiple_of = 2 ** len(widths)
        self.encoder = encoder(make, self.in_channels, widths, repeats)
        width = widths[-1]
        self.aspp = Pyramid(make, width, RATES)
        decoder: list[nn.Module] = [make.conv(width, width), make.act()]
        for _ in widths:
            decoder += make.up_block(width, width // 2)
            width //= 2
        self.upsampling = nn.Sequential(*decoder)
        self.classifier = make.conv(width, self.classes, 1, bias=True)

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits of the same size."""
        logits: Tensor = self.classifier(self.upsampling(self.aspp(self.encoder(x))))
        return logits
