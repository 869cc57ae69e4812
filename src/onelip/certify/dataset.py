"""The micro average of the IoU over a data set, exactly: every image has its own budget."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor

from onelip.certify.criterion import Eps
from onelip.certify.frontier import micro
from onelip.certify.iou import IoU
from onelip.certify.scores import Classifier
from onelip.core import checks, errors


def dataset_iou(
    pairs: Iterable[tuple[Tensor, Tensor]],
    label: int,
    eps: Eps,
    *,
    lipschitz: Any,
    p: float = 2,
    ignore_index: int = 255,
    classifier: Classifier | None = None,
) -> Tensor:
    r"""Certified micro IoU of one class, :math:`\min \sum_i I_i / \sum_i U_i`, one budget an image.

    The minimum of a ratio of sums is not the ratio of per-image minima: which pixels are worth flipping in one
    image depends on all others. It is found by Dinkelbach's iteration over the frontier of each image, in
    integers. Images without the class take part: a false positive there enlarges the union as well.

    Args:
        pairs: batches (logits (B, K, H, W), target (B, H, W)); sizes may differ. Read once, so that they may
            be made on the way.
        label: the class.
        eps: perturbation sizes, the same for every image.
        lipschitz: constant of the model; or a sequence with one for each image, in order.
        p: 1, 2 or inf.
        ignore_index: label of void pixels.
        classifier: (weight,) of the last 1x1 layer, for the tighter feature-space costs.

    Returns:
        (E,) float64; nan when the class is neither labelled nor predicted in any image.

    Guarantee: sound lower bound of the micro IoU under every choice of one perturbation an image; attained in
    output space (without `classifier`).

    Raises:
        InputError: for invalid logits, labels, eps, norm, constants, or when there is no image.

    Example:
        >>> import torch
        >>> sure = torch.tensor([0.0, 5.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
        >>> unsure = torch.tensor([0.1, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
        >>> ones, zeros = torch.ones(1, 1, 4).long(), torch.zeros(1, 1, 4).long()
        >>> dataset_iou([(sure, ones), (unsure, zeros)], 1, [0.0, 1.0], lipschitz=1.0).tolist()
        [1.0, 0.5]
    """
    criterion = IoU(label, ignore_index)
    values = checks.eps_values(eps)
    given = _given(lipschitz)
    constants = repeat(checks.lipschitz(lipschitz)) if given is None else iter(given)
    rows: list[Tensor] = []
    labelled = 0
    for logits, target in pairs:
        batch = checks.logits(logits).shape[0]
        one = list(islice(constants, batch))
        if len(one) < batch:
            raise _miscount("fewer constants than images")
        overlap = criterion.overlap(logits, target)
        labelled += int(overlap[:, 1].sum())
        found = criterion.frontier(logits, target, eps=values, lipschitz=one, p=p, classifier=classifier)
        rows.append(found.cpu())
    if not rows:
        raise errors.InputError(
            errors.explain("certify.dataset_iou: `pairs` is empty", expected="at least one (logits, target)")
        )
    if given is not None and next(constants, None) is not None:
        raise _miscount("more constants than images")
    worst = micro(torch.cat(rows), values.numel(), criterion.ratio)
    return worst if labelled else torch.full_like(worst, torch.nan)


def _given(lipschitz: Any) -> list[float] | None:
    """The constants of the images, or None when there is one for all."""
    if isinstance(lipschitz, Tensor) and lipschitz.dim():
        lipschitz = lipschitz.tolist()
    return [checks.lipschitz(value) for value in lipschitz] if isinstance(lipschitz, list | tuple) else None


def _miscount(received: str) -> errors.InputError:
    return errors.InputError(
        errors.explain(
            "certify.dataset_iou: `lipschitz` does not fit the images",
            received=received,
            expected="one number, or one for each image",
        )
    )
