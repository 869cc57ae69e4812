"""How much there is to see in a map: Gini index, entropy, size as a picture."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.core.errors import InputError, explain
from onelip.explain.attributions import importance, pixels


@dataclass(frozen=True, eq=False)
class Sparsity:
    """Complexity of maps.

    Attributes:
        gini: (B,) Gini index of the absolute map, 0 for equal values to 1 - 1/N for a single one; higher is sparser.
        entropy: (B,) of the absolute map as a distribution, in nats; lower is sparser.
        jpeg_kb: (B,) size in kB (1000 bytes) of the absolute map over its largest value as a grey JPEG of quality 95.
    """

    gini: Tensor
    entropy: Tensor
    jpeg_kb: Tensor


def sparsity(maps: Tensor) -> Sparsity:
    r"""Measure the complexity of maps.

    With the absolute values :math:`a_{(1)} \le \dots \le a_{(N)}` and their sum S:
    :math:`G = \sum_i (2i - N - 1) a_{(i)} / (N S)` and :math:`E = -\sum_i (a_i / S) \ln (a_i / S)`.

    Args:
        maps: (B, H, W), or (B, C, H, W), of which the largest absolute value over channels is taken.

    Raises:
        InputError: a map that is zero everywhere, which has no complexity, or a wrong shape.

    Example:
        >>> found = sparsity(torch.tensor([[[0.0, 0.0], [0.0, -2.0]]]))
        >>> found.gini.item(), found.entropy.item()
        (0.75, 0.0)
    """
    flat = pixels(importance(maps) if isinstance(maps, Tensor) and maps.dim() == 4 else maps).abs()
    height, width = flat.shape[1:]
    flat = flat.flatten(1)
    largest = flat.amax(1, keepdim=True)
    if not bool((largest > 0).all()):
        rows = (largest[:, 0] <= 0).nonzero().flatten().tolist()
        raise InputError(explain("explain.sparsity: a map is zero everywhere", received=f"maps {rows[:8]}"))
    flat = flat / largest
    n = flat.shape[1]
    total = flat.sum(1)
    rank = torch.arange(1, n + 1, dtype=flat.dtype, device=flat.device)
    gini = ((2 * rank - n - 1) * flat.sort(dim=1).values).sum(1) / (n * total)
    share = flat / total[:, None]
    entropy = -torch.xlogy(share, share).sum(1).clamp_max(0.0)
    sizes = [_jpeg(picture.reshape(height, width)) for picture in flat]
    return Sparsity(gini, entropy + 0.0, torch.tensor(sizes, dtype=torch.float64))


def _jpeg(picture: Tensor) -> float:
    from PIL import Image

    buffer = io.BytesIO()
    grey = (picture * 255).round().to(torch.uint8).cpu().numpy()
    Image.fromarray(grey).save(buffer, format="JPEG", quality=95)
    return len(buffer.getvalue()) / 1000
