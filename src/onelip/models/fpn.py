"""Feature pyramid on one budget: every duplication a fork, every junction a blend."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .factory import Factory
from .resnet import HALVES


class FeaturePyramid(nn.Module):
    r"""Maps of a backbone to maps of equal width that see the whole image, and coarser ones.

    With C the backbone's maps (fine to coarse, sizes halving), top down:
    $P_n = l_n(C_n)$, $P_i = \alpha\, l_i(C_i) + \beta\, U(q P_{i+1})$ with $\alpha^2 + \beta^2 = 1$, lateral 1x1
    convolutions $l$, and $U$ nearest enlargement times 1/2, which keeps the norm; the other part of $P_{i+1}$, of
    energy $1 - q^2$, is its output. Each output passes a 3x3 block. Levels beyond the backbone come from the coarsest
    output, forked, by 3x3 blocks of stride 2.

    Every step is 1-Lipschitz on the product of its inputs, so with layers of norm 1 all outputs jointly move no
    further than the backbone's maps jointly do, whatever the number of levels. (Plain sums would cost 7.8 for five.)

    Args:
        make: the factory.
        widths: channels of the backbone's maps, fine to coarse.
        channels: channels of every output.
        extra: number of levels beyond the backbone's.
        learned: learn the shares; otherwise halves.

    Example:
        >>> import torch
        >>> pyramid = FeaturePyramid(Factory("orthogonal", norm="bias"), (4, 8), 6, extra=1)
        >>> [tuple(p.shape[1:]) for p in pyramid([torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)])]
        [(6, 8, 8), (6, 4, 4), (6, 2, 2)]

    Source: Lin et al., "Feature pyramid networks for object detection", CVPR 2017.
    """

    def __init__(
        self, make: Factory, widths: Sequence[int], channels: int, *, extra: int = 0, learned: bool = True
    ) -> None:
        super().__init__()
        below = range(len(widths) - 1)
        self.laterals = nn.ModuleList([make.conv(width, channels, 1) for width in widths])
        self.rises = nn.ModuleList([make.fork(HALVES, learned=learned) for _ in below])
        self.blends = nn.ModuleList([make.blend(HALVES, learned=learned) for _ in below])
        self.enlarge = make.enlarge()
        self.smooth = nn.ModuleList([nn.Sequential(*make.block(channels, channels)) for _ in widths])
        self.forks = nn.ModuleList([make.fork(HALVES, learned=learned) for _ in range(extra)])
        self.downs = nn.ModuleList(
            [nn.Sequential(*make.block(channels, channels, stride=2)) for _ in range(extra)]
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map maps (B, width, h / s, w / s) to maps (B, channels, h / s, w / s), fine to coarse, `extra` more."""
        rising = self.laterals[-1](maps[-1])
        coarse_to_fine: list[Tensor] = []
        for level in reversed(range(len(maps) - 1)):
            kept, sent = self.rises[level](rising)
            coarse_to_fine.append(kept)
            rising = self.blends[level](self.laterals[level](maps[level]), self.enlarge(sent))
        fine_to_coarse = reversed([*coarse_to_fine, rising])
        outputs = [smooth(output) for smooth, output in zip(self.smooth, fine_to_coarse, strict=True)]
        for fork, down in zip(self.forks, self.downs, strict=True):
            outputs[-1], sent = fork(outputs[-1])
            outputs.append(down(sent))
        return outputs
