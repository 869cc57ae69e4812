"""ResNet18 with Lipschitz layers: the backbone of detectors, and a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ..core import checks
from ..core.errors import ConfigError, explain
from ..layers import ScaledGlobalAvgPool2d, UnitNormLinear
from .base import Features, LipModel
from .factory import Factory
from .zoo import architecture

RESIDUALS = ("fork", "mean", "none")
STEMS = ("patch", "steps")
HEADS = ("joint", "unit")
HALVES = (0.5, 0.5)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return an option that is one of a few words.

    Raises:
        ConfigError: it is another.
    """
    if value not in allowed:
        raise ConfigError(
            explain(f"`{name}` is not known", received=repr(value), expected=" or ".join(allowed))
        )
    return str(value)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a backbone is made of: see `Backbone`."""

    widths: Sequence[int]
    depths: Sequence[int]
    stem: str = "patch"
    residual: str = "fork"
    skip: float = 0.8
    learned: bool = True

    def __post_init__(self) -> None:
        choice("stem", self.stem, STEMS)
        choice("residual", self.residual, RESIDUALS)
        share("skip", self.skip)
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ConfigError(
                explain(
                    "`widths` and `depths` do not fit",
                    received=f"{list(self.widths)} and {list(self.depths)}",
                    expected="one width and one number of blocks for each stage",
                )
            )
        for n, depth in enumerate(self.depths):
            checks.positive_int(f"depths[{n}]", depth)


def share(name: str, value: Any) -> float:
    """Return a share of energy, strictly between 0 and 1.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise ConfigError(
            explain(
                f"`{name}` is no share of energy",
                received=repr(value),
                expected="a number strictly between 0 and 1",
            )
        )
    return float(value)


class Block(nn.Module):
    r"""Two 3x3 convolutions beside a shortcut, then activation and shift.

    "fork": the input is forked into $(a x, b x)$ and the branches are blended, so that the block keeps a joint
    constant of 1 for every split of energy; "mean": $(s(x) + f(x)) / 2$; "none": $f(x)$ alone. The shortcut $s$ is the
    identity, or a convolution without overlap (kernel = stride) where the shape changes. In the twin: $s(x) + f(x)$.
    """

    def __init__(self, make: Factory, plan: Plan, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.residual = plan.residual
        self.branch = nn.Sequential(*make.block(cin, cout, stride=stride), make.conv(cout, cout))
        if self.residual != "none":
            same = cin == cout and stride == 1
            self.shortcut = nn.Identity() if same else make.conv(cin, cout, stride, stride=stride)
        if self.residual == "fork":
            shares = (plan.skip, 1.0 - plan.skip)
            self.fork = make.fork(shares, learned=plan.learned)
            self.blend = make.blend(shares, learned=plan.learned)
        self.weight_of_each = 1.0 if make.constraint is None else 0.5
        self.after = nn.Sequential(make.act(), make.shift(cout))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, cin, h, w) to (B, cout, h / stride, w / stride)."""
        if self.residual == "fork":
            kept, changed = self.fork(x)
            joined = self.blend(self.shortcut(kept), self.branch(changed))
        elif self.residual == "mean":
            joined = (self.shortcut(x) + self.branch(x)) * self.weight_of_each
        else:
            joined = self.branch(x)
        result: Tensor = self.after(joined)
        return result


def _stem(make: Factory, kind: str, cin: int, width: int) -> nn.Sequential:
    """Make the way down to stride 4, of moves and convolutions alone: overlapping pools cost a factor of 2."""
    if kind == "patch":
        return nn.Sequential(nn.PixelUnshuffle(4), *make.block(16 * cin, width))
    first = [nn.PixelUnshuffle(2), *make.block(4 * cin, width)]
    return nn.Sequential(*first, nn.PixelUnshuffle(2), *make.block(4 * width, width))


class Backbone(nn.Module):
    r"""Stem to stride 4, then stages of residual blocks, each but the first with stride 2.

    The maps of the last `taps` stages are returned, fine to coarse. Where a map is returned and also goes on to the
    next stage, a `Fork` divides its energy, so that jointly the maps move no further than the image does.

    Args:
        make: the factory.
        cin: channels of the image.
        plan: `widths` and `depths` (blocks) of the stages; `stem`, "patch" (4x4 pixels become channels) or "steps"
            (2x2 pixels, twice); `residual` of the blocks, `skip` (the shortcut's share of energy at the start), and
            `learned` shares.
        taps: number of maps.
        lateral: share of energy that leaves at a tap, at the start.
    """

    def __init__(self, make: Factory, cin: int, plan: Plan, *, taps: int = 1, lateral: float = 0.5) -> None:
        super().__init__()
        self.taps = taps
        widths = list(plan.widths)
        self.stem = _stem(make, plan.stem, cin, widths[0])
        stages: list[nn.Module] = []
        for level, (width, depth) in enumerate(zip(widths, plan.depths, strict=True)):
            blocks = []
            for n in range(depth):
                before = width if n or not level else widths[level - 1]
                blocks.append(Block(make, plan, before, width, 2 if level and not n else 1))
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        shares = (lateral, 1.0 - lateral)
        self.forks = nn.ModuleList([make.fork(shares, learned=plan.learned) for _ in range(taps - 1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalised images (B, C, h, w) to maps (B, width, h / s, w / s), fine to coarse."""
        maps: list[Tensor] = []
        untapped = len(self.stages) - self.taps
        x = self.stem(x)
        for level, stage in enumerate(self.stages):
            x = stage(x)
            if untapped <= level < len(self.stages) - 1:
                lateral, x = self.forks[level - untapped](x)
                maps.append(lateral)
        return [*maps, x]


@architecture("resnet18")
class ResNet18(LipModel):
    r"""Residual image classifier: stem to stride 4, four stages, global pooling, dense head: (B, C, H, W) to (B, K).

    Where the published network has a 7x7 convolution of stride 2 and an overlapping maximum, squares of pixels become
    channels, which only moves values. Blocks keep constant 1 by forks and blends; the pooling is
    $\sum_{hw} x / \sqrt{HW}$, which is 1-Lipschitz at every size (the mean in the unconstrained twin).

    Options: `widths` and `depths` of the stages; `stem`, "patch" or "steps"; `residual`, "fork", "mean" or "none";
    `skip`, the shortcut's share of energy at the start; `shares`, "learned" or "fixed"; `norm` as in the UNet; `head`
    as in the convnet. Size L has the published widths.

    Guarantee:
        None by itself: `onelip.lipschitz(model, size)` bounds the weights as they are.

    Example:
        >>> import torch, onelip
        >>> model = onelip.models.create("resnet18", classes=10, size="XS")
        >>> model(torch.zeros(5, 3, 33, 40)).shape
        torch.Size([5, 10])

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016.
    """

    dense: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {
        "stem": "patch",
        "residual": "fork",
        "skip": 0.8,
        "shares": "learned",
        "norm": "batch",
        "head": "joint",
    }
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "XS": {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1)},
        "S": {"widths": (24, 48, 96, 128), "depths": (2, 2, 2, 2)},
        "M": {"widths": (48, 96, 192, 256), "depths": (2, 2, 2, 2)},
        "L": {"widths": (64, 128, 256, 512), "depths": (2, 2, 2, 2)},
    }

    def build(
        self,
        make: Factory,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        stem: str,
        residual: str,
        skip: float,
        shares: str,
        norm: str,
        head: str,
    ) -> None:
        """Create the layers."""
        make = make.using(norm)
        learned = choice("shares", shares, ("learned", "fixed")) == "learned"
        unit = choice("head", head, HEADS) == "unit" and make.constraint is not None and not make.folded
        self.backbone = Backbone(make, self.in_channels, Plan(widths, depths, stem, residual, skip, learned))
        self.multiple_of = 2 ** (len(widths) + 1)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1) if make.constraint is None else ScaledGlobalAvgPool2d()
        width = widths[-1]
        self.head = UnitNormLinear(width, self.classes) if unit else make.linear(width, self.classes)

    def features(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to what the last layer reads, (B, F)."""
        features: Tensor = self.pool(self.backbone(x)[-1]).flatten(1)
        return features

    def network(self, x: Tensor) -> Tensor:
        """Map padded, normalised images to logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return the network up to its last layer, and that layer."""
        return Features(self), self.head
