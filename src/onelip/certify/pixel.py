"""Radius of every pixel on its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onelip.certify.budget import UNIT_ROUNDOFF, slack
from onelip.certify.scores import Classifier, Scores, image_constants
from onelip.core import checks


def pixel_radius(
    logits: Tensor,
    target: Tensor | None = None,
    *,
    lipschitz: Any,
    p: float = 2,
    ignore_index: int = 255,
    classifier: Classifier | None = None,
) -> Tensor:
    r"""Certified radius of each pixel: no smaller perturbation of the image changes its class.

    :math:`R = 2^{(1-p)/p} M / L` with the margin M of the predicted class over the runner-up.

    Args:
        logits: (B, K, H, W) float32 or float64.
        target: (B, H, W) int64, optional.
        lipschitz: joint constant of the map of logits, or one for each image. With `classifier`, the
            backbone's.
        p: 1, 2 or inf.
        ignore_index: label of void pixels.
        classifier: (weight,) of the last 1x1 layer, for the tighter feature-space costs.

    Returns:
        (B, H, W) float64 in l_p units of the whole image, rounded down. 0 where the prediction is wrong, when
        a target is given; nan where it is void.

    Guarantee: sound lower bound. Radii of several pixels do not hold together for the pixels jointly flipped:
    the criteria share one budget among them.

    Raises:
        InputError: for invalid logits, labels, norm, constant or classifier.

    Example:
        >>> import torch
        >>> logits = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1)
        >>> round(pixel_radius(logits, lipschitz=1.0).item(), 5)
        1.41421
    """
    logits = checks.logits(logits).detach()
    if target is not None:
        target = checks.target(target, logits, ignore_index)
    constants = image_constants(lipschitz, logits.shape[0])
    scores = Scores(logits, target, ignore_index, constants, checks.norm(p), classifier)
    scale = torch.tensor(constants, dtype=torch.float64, device=logits.device).reshape(-1, 1, 1)
    # A wrong pixel has a negative cost, hence radius 0; without a target the label is the prediction.
    radius = scores.leave_cost(scores.labels).clamp_min(0.0) / scale
    down = (1.0 - slack(1)) * (1.0 - 8.0 * UNIT_ROUNDOFF)
    return (radius * down).masked_fill(~scores.valid, math.nan)
