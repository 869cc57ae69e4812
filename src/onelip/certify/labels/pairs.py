"""How far the difference of two logits can move: proven constants of every pair of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onelip.bounds import Bound, input_shape, lipschitz
from onelip.certify.budget import UNIT_ROUNDOFF
from onelip.core import checks, errors, runtime
from onelip.layers.fold import fold
from onelip.models.base import LipModel

_DUAL = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}
_BOTH = {1.0: 1.0, 2.0: math.sqrt(2.0), math.inf: 2.0}


@dataclass(frozen=True, eq=False)
class PairBound:
    """Proven constants of a classifier at one size.

    Attributes:
        constants: (K, K) float64 of the differences of logits; (2, 2) for a single logit.
        joint: bound of all logits together.
        features: bound of what the last affine layer reads; None where the model does not say what that is.
        widest: largest l_2 norm of a row of the last layer, 0 without features: scales their rounding.
    """

    constants: Tensor
    joint: Bound
    features: Bound | None
    widest: float


def pair_constants(
    model: nn.Module, size: Sequence[int], *, p: float = 2, in_channels: int | None = None
) -> Tensor:
    r"""Prove a constant for the difference of each two logits of a classifier.

    .. math:: |(f_i - f_j)(x) - (f_i - f_j)(y)| \le C_{ij} \|x - y\|_p, \qquad
        C_{ij} = \min\big( L_\varphi \|w_i - w_j\|_q, \; 2^{1/q} L \big), \quad 1/p + 1/q = 1

    with the joint constant L of all logits and, where the model says what its features :math:`\varphi` and the rows
    :math:`w_k` of its last affine layer are (`LipModel.split`, or a plain `nn.Sequential` that ends in `nn.Linear`),
    the constant of the features. For a linear model and p = 2 it is attained.

    Args:
        model: any classifier in eval mode, (B, ...) to (B, K); it is not changed.
        size: (h, w) of an image, or the full shape of one input, as for `onelip.lipschitz`.
        p: 1, 2 or inf.
        in_channels: C, when it cannot be read off the model.

    Returns:
        (K, K) float64 on the CPU, symmetric, 0 on the diagonal, rounded up. A single logit f is the pair (0, f):
        (2, 2).

    Guarantee: sound for the weights as they are, in exact arithmetic.

    Raises:
        TrainModeError: when any part of the model is in train mode.
        UnknownLayerError: when the model has a layer without a rule.
        IntegrityError: when features and last layer do not compute the model's logits.
        InputError: when the outputs are not logits (B, K).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        >>> round(pair_constants(model, (1, 1, 2))[0, 1].item(), 9)
        5.0
    """
    return pair_bound(model, size, p=p, in_channels=in_channels).constants


def pair_bound(
    model: nn.Module, size: Sequence[int], *, p: float = 2, in_channels: int | None = None
) -> PairBound:
    """Do what `pair_constants` does, and keep the bounds that it rests on."""
    checks.eval_mode(model, "certify.pair_constants")
    p = checks.norm(p)
    folded = fold(model)
    shape = input_shape(folded, size, in_channels)
    joint = _prove(folded, shape, p)
    classes = _classes(folded, shape)
    constants = _outwards(torch.full((classes, classes), _BOTH[p] * joint.value, dtype=torch.float64), 1)
    if classes == 1:  # the pair (0, f): f alone
        constants = _outwards(torch.full((2, 2), joint.value, dtype=torch.float64), 1)
    features, widest = None, 0.0
    parts = split_of(folded)
    if parts is not None:
        body, head = parts
        _check_split(folded, body, head, shape)
        features = _prove(body, shape, p)
        rows = rows_of(head)
        tight = features.value * row_distances(rows, p)
        constants = torch.minimum(constants, _outwards(tight, rows.shape[1]))
        widest = float(torch.linalg.vector_norm(rows, dim=1).max())
    return PairBound(constants.fill_diagonal_(0.0), joint, features, widest)


def split_of(model: nn.Module) -> tuple[nn.Module, nn.Linear] | None:
    """Features and last layer of a folded classifier, or None when it does not say what they are."""
    parts = model.split() if isinstance(model, LipModel) else None
    if type(model) is nn.Sequential and len(model) > 1:
        parts = (model[:-1], model[-1])
    if parts is None or type(parts[1]) is not nn.Linear:
        return None
    return parts[0].eval(), parts[1]


def rows_of(head: nn.Linear) -> Tensor:
    """(K, F) float64 weights on the CPU; a single logit f is the pair (0, f)."""
    rows = head.weight.detach().cpu().double()
    return rows if rows.shape[0] > 1 else torch.cat([torch.zeros_like(rows), rows])


def row_distances(rows: Tensor, p: float) -> Tensor:
    r"""(K, K) dual-norm distances :math:`\|w_i - w_j\|_q` of rows (K, F), float64; row by row, to spare memory."""
    distances = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, row in enumerate(rows):
        apart = rows - row
        largest = apart.abs().amax(1, keepdim=True)  # squares of very small numbers would vanish
        unit = apart / torch.where(largest > 0, largest, 1.0)
        distances[i] = torch.linalg.vector_norm(unit, ord=_DUAL[p], dim=1) * largest[:, 0]
    return torch.maximum(distances, distances.T)


def _outwards(constants: Tensor, items: int) -> Tensor:
    """Constants enlarged by more than the rounding of a sum of so many items."""
    return constants * (1.0 + max(1e-12, 4.0 * items * UNIT_ROUNDOFF))


def _prove(model: nn.Module, shape: tuple[int, ...], p: float) -> Bound:
    if len(shape) == 2:  # two numbers would be read as the height and width of an image
        return lipschitz(model, shape[1:], p=p, in_channels=shape[0])
    return lipschitz(model, shape, p=p)


@torch.no_grad()
def _classes(model: nn.Module, shape: tuple[int, ...]) -> int:
    like = next((t for t in model.state_dict().values() if t.is_floating_point()), torch.empty(0))
    logits = model(torch.zeros(2, *shape).to(like))
    return check_logits(logits, "certify.pair_constants").shape[1]


def check_logits(logits: object, caller: str) -> Tensor:
    """Check that these are the outputs of a classifier, (B, K)."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 1:
        raise errors.InputError(
            errors.explain(
                f"{caller}: the model is no classifier",
                received=f"outputs {tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__}",
                expected="logits (B, K), one row an image",
                fix="certify.segmentation serves dense models, certify.detection detectors",
            )
        )
    return logits


@torch.no_grad()
def _check_split(model: nn.Module, body: nn.Module, head: nn.Linear, shape: tuple[int, ...]) -> None:
    """Check on random inputs that features and last layer compute what the model does; all become float64."""
    draw = torch.Generator().manual_seed(0)
    random = [make(2, *shape, generator=draw, dtype=torch.float64) for make in (torch.rand, torch.randn)]
    inputs = torch.cat(random).to(head.weight.device)
    for part in (model, body, head):
        part.double()
    with runtime.exact_matmul(), torch.autocast(inputs.device.type, enabled=False):
        agree(model(inputs), body(inputs), head, "certify.pair_constants")


def agree(logits: Tensor, features: Tensor, head: nn.Linear, caller: str) -> Tensor:
    """Check logits against features and last layer in float64; return the (B,) scale of their rounding."""
    bias = torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias
    fits = features.dim() == 2 and features.shape[1] == head.in_features
    own = F.linear(features, head.weight, bias) if fits else logits[:, :0]
    scale = (features.abs() @ head.weight.abs().T + bias.abs()).amax(1) if fits else logits.amax(1)
    difference = (
        (own - logits).abs().amax(1) if own.shape == logits.shape else torch.full_like(scale, math.nan)
    )
    if not bool((difference <= 1e-9 * scale + 1e-30).all()):
        raise errors.IntegrityError(
            errors.explain(
                f"{caller}: features and last layer do not compute the model's logits",
                received=f"a largest difference of {float(difference.max()):.3g}",
                expected="agreement up to rounding",
                why="constants of pairs would be about another function",
                fix="let `split` return what `forward` is made of",
            )
        )
    return scale
