"""Attribution maps as the metrics take them, and the trivial ones every method has to be compared with."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.core.runtime import generator


def importance(maps: Tensor) -> Tensor:
    """(B, H, W): the largest absolute value over channels, the usual picture of a signed map (B, C, H, W).

    Example:
        >>> importance(torch.tensor([[[[1.0]], [[-3.0]]]])).item()
        3.0
    """
    if not isinstance(maps, Tensor) or maps.dim() != 4 or maps.shape[1] == 0:
        raise InputError(
            explain("`maps` has the wrong shape", received=_told(maps), expected="a tensor (B, C, H, W)")
        )
    return maps.abs().amax(1)


def pixels(maps: Any, images: Tensor | None = None, name: str = "maps") -> Tensor:
    """(B, H, W) float64, finite and of the images' size: the mean over channels of maps (B, C, H, W)."""
    if not isinstance(maps, Tensor) or maps.dim() not in (3, 4) or maps.numel() == 0:
        raise InputError(
            explain(
                f"`{name}` has the wrong shape",
                received=_told(maps),
                expected="a tensor (B, H, W) or (B, C, H, W), not empty",
            )
        )
    found = checks.finite(name, maps.detach().double())
    found = found.mean(1) if found.dim() == 4 else found
    if images is None:
        return found
    expected = (images.shape[0], *images.shape[-2:])
    if tuple(found.shape) != expected:
        raise InputError(
            explain(f"`{name}` does not fit the images", received=tuple(maps.shape), expected=expected)
        )
    return found.to(images.device)


def region(mask: Any, maps: Tensor) -> Tensor:
    """(B, H, W) bool: a mask checked against maps (B, H, W); every image has pixels inside and outside."""
    if not isinstance(mask, Tensor) or mask.shape not in (maps.shape, maps.shape[1:]):
        raise InputError(
            explain("`mask` does not fit the maps", received=_told(mask), expected=tuple(maps.shape))
        )
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(explain("`mask` is not binary", received=mask.dtype, expected="bool, or 0 and 1"))
    inside = mask.to(maps.device).bool().expand(maps.shape)
    flat = inside.flatten(1)
    if not bool((flat.any(1) & ~flat.all(1)).all()):
        raise InputError(
            explain(
                "`mask` tells nothing apart",
                received="an image with all or no pixels inside",
                expected="pixels inside and outside, in every image",
            )
        )
    return inside


def ranks(values: Tensor) -> Tensor:
    """(B, N) ranks from 1, ties sharing their mean; values within 1e-9 of the largest are ties, being rounding.

    Example:
        >>> ranks(torch.tensor([[0.3, 0.1, 0.3, 0.2]])).tolist()
        [[3.5, 1.0, 3.5, 2.0]]
    """
    values = values.double()
    grain = values.abs().amax(1, keepdim=True).clamp_min(1e-300) * 1e-9
    rounded = (values / grain).round()
    ordered = rounded.sort(dim=1).values
    below = torch.searchsorted(ordered, rounded)
    up_to = torch.searchsorted(ordered, rounded, right=True)
    return (below + up_to + 1).double() / 2


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """(B,) rank correlation of rows (B, N); nan where one of them is constant.

    Example:
        >>> spearman(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 0.1, 0.2]])).item()
        1.0
    """
    a, b = (r - r.mean(1, keepdim=True) for r in (ranks(first), ranks(second)))
    size = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(size > 0, (a * b).sum(1) / size.clamp_min(1e-300), torch.nan).clamp(-1.0, 1.0)


def controls(x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The maps that know nothing of the model: what does not beat them explains nothing.

    On a black background "input" is near the best there is for metrics that paint pixels black.

    Args:
        x: (B, C, H, W) in [0, 1].
        seed: of the random map.

    Returns:
        (B, H, W) float64 each: "input", the mean over channels; "sobel", the size of its gradient; "random", uniform.

    Example:
        >>> sorted(controls(torch.rand(2, 1, 4, 4)))
        ['input', 'random', 'sobel']
    """
    grey = checks.images(x, "x").detach().double().mean(1, keepdim=True)
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)
    both = torch.stack([kernel, kernel.T])[:, None]
    edges = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), both)
    random = torch.rand(grey[:, 0].shape, generator=generator(seed), dtype=torch.float64).to(grey)
    return {"input": grey[:, 0], "sobel": torch.linalg.vector_norm(edges, dim=1), "random": random}


def _told(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
