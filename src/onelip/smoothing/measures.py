"""Accuracy and IoU of a certified label map, with every abstained pixel given to the attacker."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onelip.core import errors

ABSTAIN = -1


def certified_accuracy(classes: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Share of the valid pixels that are certified with the right class.

    Args:
        classes: (H, W) or (B, H, W) int64, -1 where it abstains.
        target: labels of the same shape, int64.
        ignore_index: label of void pixels, which count nowhere.

    Returns:
        float64, a scalar or (B,); nan without a valid pixel.

    Guarantee: where the certificates of `classes` hold, a lower bound of the accuracy of the smoothed model at
    every perturbation within their radius.

    Raises:
        InputError: for other shapes or types, and negative labels.

    Example:
        >>> certified_accuracy(torch.tensor([[0, -1, 1, 1]]), torch.tensor([[0, 0, 0, 255]])).item()
        0.3333333333333333
    """
    valid = _valid(classes, target, ignore_index)
    return _share((classes == target) & valid, valid)


def certified_iou(classes: Tensor, target: Tensor, label: int, *, ignore_index: int = 255) -> Tensor:
    r"""Certified IoU of one class: certified and right, over all that can be in the union.

    :math:`|C_k \cap T_k| / |T_k \cup C_k \cup A|` with the certified pixels :math:`C_k` and the truth :math:`T_k` of
    the class and the abstained pixels A: each of them may become a false positive.

    Args:
        classes: (H, W) or (B, H, W) int64, -1 where it abstains.
        target: labels of the same shape, int64.
        label: the class.
        ignore_index: label of void pixels, which count nowhere.

    Returns:
        float64, a scalar or (B,); nan where the union is empty.

    Guarantee: as `certified_accuracy`.

    Raises:
        InputError: as `certified_accuracy`, and for a negative label.

    Example:
        >>> certified_iou(torch.tensor([[1, 1, -1, -1]]), torch.tensor([[1, 1, 0, 0]]), 1).item()
        0.5
    """
    valid = _valid(classes, target, ignore_index)
    if isinstance(label, bool) or not isinstance(label, int) or label < 0:
        raise errors.InputError(
            errors.explain("`label` is not a class", received=repr(label), expected="an integer >= 0")
        )
    right = (classes == label) & (target == label) & valid
    union = ((classes == label) | (target == label) | (classes == ABSTAIN)) & valid
    return _share(right, union)


def check_labels(classes: Tensor, target: Any, ignore_index: int, *, count: int | None = None) -> Tensor:
    """Check labels against a label map: same shape, int64, no negative ones, below `count` where it is known."""
    if not isinstance(target, Tensor) or target.dtype != torch.int64 or target.shape != classes.shape:
        raise errors.InputError(
            errors.explain(
                "`target` does not fit the classes",
                received=f"{target.dtype} {tuple(target.shape)}"
                if isinstance(target, Tensor)
                else type(target).__name__,
                expected=f"an int64 tensor {tuple(classes.shape)}",
            )
        )
    limit = math.inf if count is None else count
    wrong = (target != ignore_index) & ((target < 0) | (target >= limit))
    if bool(wrong.any()):
        raise errors.InputError(
            errors.explain(
                "`target` has labels outside the classes",
                received=sorted(set(target[wrong].tolist()))[:8],
                expected=f"0..{'' if count is None else count - 1}, or ignore_index={ignore_index} for void",
            )
        )
    return target


def _valid(classes: Any, target: Any, ignore_index: int) -> Tensor:
    if not isinstance(classes, Tensor) or classes.dtype != torch.int64 or classes.dim() not in (2, 3):
        raise errors.InputError(
            errors.explain(
                "`classes` is no map of classes",
                received=f"{classes.dtype} {tuple(classes.shape)}"
                if isinstance(classes, Tensor)
                else type(classes).__name__,
                expected="an int64 tensor (H, W) or (B, H, W), -1 where it abstains",
            )
        )
    if classes.numel() and int(classes.min()) < ABSTAIN:
        raise errors.InputError(
            errors.explain(
                "`classes` has impossible entries", received=int(classes.min()), expected=">= 0, or -1"
            )
        )
    return check_labels(classes, target, ignore_index) != ignore_index


def _share(part: Tensor, whole: Tensor) -> Tensor:
    counts = (part.flatten(-2).sum(-1).double(), whole.flatten(-2).sum(-1).double())
    return torch.where(counts[1] > 0, counts[0] / counts[1].clamp_min(1), math.nan)
