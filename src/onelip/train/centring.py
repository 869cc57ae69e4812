"""Biases of the classes, fitted after a training: K numbers that losses of transport leave undecided."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..certify import class_radius, pair_constants
from ..certify.labels.radius import predict
from ..core.errors import OnelipError
from ..data.labels import ClassificationDataset
from ..layers.fold import fold
from ..models import LipModel

log = logging.getLogger("onelip.train")

_STEPS, _RATE = 200, 0.02  # the rate is a share of the mean gap of logits
_TRIED = (1.0, 0.75, 0.5, 0.25, 0.1)


def fitted_bias(logits: Tensor, labels: Tensor, constants: Tensor) -> Tensor:
    r"""Find what to add to the logits of each class so that the boundaries lie midway between the classes.

    With :math:`r_i(b) = \min_{j \ne y} (f_y + b_y - f_j - b_j) / C_{yj}`, the certified radius where it is positive, it
    maximises the concave mean of :math:`\log \operatorname{sigmoid}(r_i(b) / \tau)`, tau the mean of
    :math:`|r_i(0)|`, by 200 steps of Adam: images near a boundary count, far ones hardly. Of five stated shares of the
    way there it takes the largest where accuracy is not lower than before.

    Args:
        logits: (N, K) float32 or float64.
        labels: (N,) int64.
        constants: (K, K) of the differences of logits; positive beside the diagonal.

    Returns:
        (K,) float64 of mean 0; all 0 where every share of the way costs accuracy.

    Guarantee:
        On these images the accuracy is not lower than before. No random numbers.

    Raises:
        InputError: labels or constants do not fit the logits.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0], [2.5, 0.0], [0.0, 0.2], [0.0, -0.1]])  # class 1 lies too low
        >>> bias = fitted_bias(logits, torch.tensor([0, 0, 1, 1]), torch.ones(2, 2) - torch.eye(2))
        >>> bool(bias[1] > 0.0 > bias[0])
        True
    """
    logits, constants = logits.detach().double(), constants.detach().double()
    right, _ = _score(logits, labels, constants)
    divisor = constants[labels].clamp_min(1e-30)
    free = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device, requires_grad=True)
    slack = _slack(logits, labels, divisor).abs().mean()
    unit = torch.where(slack > 0, slack, torch.ones_like(slack))
    optimizer = torch.optim.Adam([free], lr=_RATE * float(unit * constants.max()))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, _STEPS)
    with torch.enable_grad():
        for _ in range(_STEPS):
            loss = -F.logsigmoid(_slack(logits + free, labels, divisor) / unit).mean()
            (free.grad,) = torch.autograd.grad(loss, free)
            optimizer.step()
            schedule.step()
    target = free.detach() - free.detach().mean()
    for share in _TRIED:
        if _score(logits + share * target, labels, constants)[0] >= right:
            return share * target
    return torch.zeros_like(target)


def _slack(logits: Tensor, labels: Tensor, divisor: Tensor) -> Tensor:
    """(N,) radius of the label, negative where another class is higher."""
    gap = (logits.gather(1, labels[:, None]) - logits) / divisor
    return gap.scatter(1, labels[:, None], float("inf")).amin(1)


def _score(logits: Tensor, labels: Tensor, constants: Tensor) -> tuple[int, float]:
    """Number of right images, and the mean certified radius."""
    radius = class_radius(logits, labels, constants=constants)
    return int((predict(logits) == labels).sum()), float(radius.mean())


@torch.no_grad()
def centre_bias(model: LipModel, source: ClassificationDataset, *, batch: int = 256) -> bool:
    """Fit the biases of the last layer of a classifier on the images of a data set, in place; see `fitted_bias`.

    The logits are those of the folded model in float32, the constants those of `onelip.certify.pair_constants`, or 1
    for models without a bound. Translating logits changes no Lipschitz constant.

    Args:
        model: what was trained; its mode stays.
        source: the images it was trained on, without augmentation.
        batch: images at a time.

    Returns:
        Whether anything was changed: not where the model says nothing of its last layer, where that has no bias, or
        where every change would cost accuracy.
    """
    parts = model.split()
    bias = None if parts is None else getattr(parts[1], "bias", None)
    if not isinstance(bias, nn.Parameter):
        return False
    folded, device = fold(model), bias.device
    rows = [
        folded(torch.stack([source[k][0] for k in range(first, min(first + batch, len(source)))]).to(device))
        for first in range(0, len(source), batch)
    ]
    logits, labels = torch.cat(rows).float(), source.labels.to(device)
    constants = _pair_constants(folded, source, logits)
    found = fitted_bias(logits, labels, constants).to(bias)
    before, after = _score(logits, labels, constants), _score(logits + found, labels, constants)
    if not bool(found.any()) or after[0] < before[0]:
        return False
    bias.add_(found)
    log.info(
        "biases of the classes: mean certified radius of %d training images %.4f, before %.4f; %d right, before %d",
        *(len(source), after[1], before[1], after[0], before[0]),
    )
    return True


def _pair_constants(folded: LipModel, source: ClassificationDataset, logits: Tensor) -> Tensor:
    height, width = (int(n) for n in source[0][0].shape[1:])
    ones = 1.0 - torch.eye(logits.shape[1], dtype=torch.float64, device=logits.device)
    if folded.config["constraint"] is None:
        return ones
    try:
        found = pair_constants(folded, (height, width), in_channels=folded.in_channels)
    except OnelipError:
        return ones
    return found.to(logits.device)
