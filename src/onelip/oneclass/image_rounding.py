"""What float64 rounding may do to the score of a folded convolutional network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..bounds.matrix import matrix_norm
from ..core.errors import BoundError, explain
from ..layers import InputNormalization, MaxMin
from ..models import LipModel
from .base import U


def rounding(model: LipModel, image_size: tuple[int, int, int]) -> tuple[float, float]:
    """Return (a, b): the computed score of a picture of norm at most r is off by at most a + b r.

    A linear layer of fan-in n is off by at most `(n + 3) u (|W| |h| + |bias|)` for each output, in any order of
    summation. Norms of convolutions and of |W| are bounded by `sqrt(largest row sum * largest column sum)` (Schur), and
    errors are carried through later layers by these norms. MaxMin, padding and flattening are exact and 1-Lipschitz.

    Args:
        model: the zoo's folded `convnet` in float64, with its layers in the order of execution.
        image_size: (C, H, W).

    Raises:
        BoundError: a layer that is none of these.
    """
    size, off = np.array([0.0, 1.0]), np.array([0.0, 3 * U])
    height, width = model.padded_size((image_size[1], image_size[2]))
    shape: tuple[int, ...] = (image_size[0], height, width)
    for layer in model.modules():
        if any(True for _ in layer.children()) or isinstance(layer, MaxMin | nn.Flatten):
            continue
        if isinstance(layer, InputNormalization):
            _only_identity(layer)
            continue
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise BoundError(
                explain(
                    "no bound of rounding for this layer",
                    received=type(layer).__name__,
                    expected="a folded convnet",
                )
            )
        weight = layer.weight.detach()
        norm, fan = _schur(weight, exact=isinstance(layer, nn.Linear))
        shift = np.zeros(2)
        if layer.bias is not None:
            pixels = 1
            if isinstance(layer, nn.Conv2d):
                shape = (shape[0], *(-(-n // s) for n, s in zip(shape[1:], layer.stride, strict=True)))
                pixels = shape[1] * shape[2]
            shift[0] = float(torch.linalg.vector_norm(layer.bias.detach())) * np.sqrt(pixels)
        absolute = _schur(weight.abs(), exact=False)[0]
        off = norm * off + (fan + 3) * U * (absolute * size + shift) * (1 + 1e-6)
        size = (norm * size + shift) * (1 + 1e-6)
    return float(off[0]) * (1 + 1e-9), float(off[1]) * (1 + 1e-9)


def _schur(weight: Tensor, *, exact: bool) -> tuple[float, int]:
    """Bound the l2 norm of a layer, and return its fan-in."""
    fan = weight[0].numel()
    if exact:
        return matrix_norm(weight), fan
    a = weight.abs().flatten(2) if weight.dim() == 4 else weight.abs().unsqueeze(-1)
    rows, columns = float(a.sum((1, 2)).max()), float(a.sum((0, 2)).max())
    return float(np.sqrt(rows * columns)) * (1 + 1e-9), fan


def _only_identity(layer: InputNormalization) -> None:
    if bool((layer.mean != 0).any() or (layer.std != 1).any()):
        raise BoundError(explain("the input normalisation is not the identity", received=layer.extra_repr()))
