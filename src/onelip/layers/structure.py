"""Branches that come together without exceeding norm 1, written in plain operations that the bound engine follows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards


class Concat(nn.Module):
    """Concatenate branches along the channels; scaled by `1 / sqrt(n)` for n branches unless `scaled=False`.

    Guarantee: for branches of constants `L_i`, `sqrt(sum L_i^2 / n)` for p = 2: at most their maximum.

    Example:
        >>> Concat()(torch.ones(1, 1), torch.ones(1, 3)).norm().item() ** 2 < 2.0001
        True
    """

    def __init__(self, *, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(self, *branches: Tensor) -> Tensor:
        """Concatenate `(B, C_i, ...)`."""
        joined = torch.cat(branches, dim=1)
        return joined * (1.0 / math.sqrt(len(branches))) if self.scaled else joined


class Split(nn.Module):
    """Cut the channels into parts of the given sizes.

    Guarantee: together the parts are the input: norm 1 for every p.

    Raises:
        InputError: a size is not positive, or the sizes do not add up to the channels.

    Example:
        >>> [part.shape[1] for part in Split((1, 3))(torch.zeros(2, 4))]
        [1, 3]
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        if not sizes or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
            guards.refuse("sizes of a split are not usable", sizes, "integers >= 1")
        self.sizes = list(sizes)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split `(B, C, ...)` along dimension 1."""
        return torch.split(x, self.sizes, dim=1)


class Merge(Concat):
    """Concatenate disjoint parts, unscaled: the inverse of `Split`.

    Guarantee: for parts of one tensor, each mapped with constant `L_i`, the maximum of the `L_i`.

    Example:
        >>> Merge()(torch.zeros(1, 1), torch.zeros(1, 3)).shape
        torch.Size([1, 4])
    """

    def __init__(self) -> None:
        super().__init__(scaled=False)


class ConvexResidual(nn.Module):
    """Mix a branch with its input: `s x + (1 - s) f(x)`, `s = sigmoid(logit)` learned.

    Guarantee: `s + (1 - s) L_f`, so 1 when f is 1-Lipschitz.

    Example:
        >>> ConvexResidual(nn.Identity())(torch.ones(1)).item()
        1.0
    """

    def __init__(self, fn: nn.Module, *, share: float = 0.5) -> None:
        super().__init__()
        if not 0.0 < share < 1.0:
            guards.refuse("share of the input is not usable", share, "a number in (0, 1)")
        self.fn = fn
        self.logit = nn.Parameter(torch.tensor(math.log(share / (1.0 - share))))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to any tensor that `fn` keeps in shape."""
        share = torch.sigmoid(self.logit)
        mixed: Tensor = x * share + self.fn(x) * (1.0 - share)
        return mixed


class PrescaledResidual(nn.Module):
    """Add a branch whose input is scaled by a learned `a`: `(x + f(a x)) / (1 + |a|)`.

    Guarantee: `(1 + |a| L_f) / (1 + |a|)`, so 1 when f is 1-Lipschitz.

    Example:
        >>> PrescaledResidual(nn.Identity())(torch.ones(1)).item()
        1.0
    """

    def __init__(self, fn: nn.Module, *, gain: float = 1.0) -> None:
        super().__init__()
        guards.check_scale(gain)
        self.fn = fn
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to any tensor that `fn` keeps in shape."""
        summed: Tensor = (x + self.fn(x * self.gain)) * (1.0 / (1.0 + self.gain.abs()))
        return summed


class ConcatResidual(nn.Module):
    """Map the second half of the channels, keep the first: `cat(x1, f(x2))`.

    Guarantee: `max(1, L_f)`; an isometry when f is one.

    Example:
        >>> ConcatResidual(nn.Identity())(torch.ones(1, 4)).shape
        torch.Size([1, 4])
    """

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `(B, C, ...)`, C even; `fn` maps `(B, C / 2, ...)`."""
        kept, mapped = x.chunk(2, dim=1)
        return torch.cat((kept, self.fn(mapped)), dim=1)


class Resample(nn.Module):
    """Enlarge an image `scale` times, divided by `scale` so that the norm stays 1.

    Guarantee: norm 1 for p = 2: `nearest` copies each pixel `scale^2` times and keeps the l2 norm; the rows and
    columns of `bilinear` sum to 1 and `scale` per axis, so its norm is at most `scale` before the division.

    Raises:
        InputError: the scale is no integer above 1, or the mode is unknown.

    Example:
        >>> Resample(2)(torch.ones(1, 1, 2, 2)).norm().item()
        2.0
    """

    def __init__(self, scale: int = 2, *, mode: str = "nearest") -> None:
        super().__init__()
        guards.pair("scale", scale, least=2)
        guards.check_choice("mode", mode, ("nearest", "bilinear"))
        self.scale, self.mode = scale, mode

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, scale * H, scale * W)`."""
        align = False if self.mode == "bilinear" else None
        enlarged = F.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=align)
        return enlarged * (1.0 / self.scale)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.scale}, mode={self.mode!r}"
