"""Duplicate and add branches on one budget: weights whose squares sum to 1, learned or fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core import errors
from . import guards


class EnergyShares(nn.Module):
    r"""Holds weights :math:`a` with :math:`\sum_i a_i^2 = 1`: the square roots of a softmax, or constants.

    Args:
        parts: number n of branches.
        shares: the :math:`a_i^2` to begin with, positive, divided by their sum. Default: equal.
        learned: train them; `fold` turns them into constants, as `learned=False` makes them.

    Raises:
        InputError: parts or shares are not usable.

    Example:
        >>> [round(a, 6) for a in EnergyShares(2, shares=(0.36, 0.64)).weights.tolist()]
        [0.6, 0.8]
    """

    fixed: Tensor | None

    def __init__(
        self, parts: int = 2, *, shares: Sequence[float] | None = None, learned: bool = True
    ) -> None:
        super().__init__()
        if isinstance(parts, bool) or not isinstance(parts, int) or parts < 1:
            guards.refuse("parts is not usable", repr(parts), "an integer >= 1")
        energy = [1.0] * parts if shares is None else [float(s) for s in shares]
        if len(energy) != parts or not all(0.0 < s < math.inf for s in energy):
            guards.refuse("shares are not usable", repr(shares), f"{parts} positive numbers")
        logits = torch.tensor([math.log(s) for s in energy], dtype=torch.float64)
        self.parts = parts
        if learned:
            self.logits = nn.Parameter(logits.to(torch.get_default_dtype()))
            self.register_buffer("fixed", None)
        else:
            self.register_buffer("fixed", _roots(logits).to(torch.get_default_dtype()))

    @property
    def weights(self) -> Tensor:
        """The n weights as the layer uses them now."""
        return _roots(self.logits) if self.fixed is None else self.fixed

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.parts}" if self.fixed is None else f"{self.parts}, learned=False"


class Fork(EnergyShares):
    r"""Duplicate a tensor, :math:`u \mapsto (a_1 u, \dots, a_n u)` with :math:`\sum_i a_i^2 = 1`.

    Guarantee: an isometry for p = 2: together the outputs move as far as u, so functions of them with constants
    :math:`L_i` cost :math:`\max_i L_i` jointly, not :math:`\sqrt n`. Alone, output i has constant :math:`|a_i|`.

    Args: those of `EnergyShares`.

    Raises:
        InputError: parts or shares are not usable.

    Example:
        >>> a, b = Fork(2, shares=(0.36, 0.64))(torch.ones(1, 1))
        >>> round(a.item(), 4), round(b.item(), 4)
        (0.6, 0.8)
    """

    @property
    def outputs(self) -> int:
        """Number of tensors that come out."""
        return self.parts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map any tensor to `parts` tensors of its shape."""
        weights = self.weights
        return tuple(x * weights[i] for i in range(self.parts))


class Blend(EnergyShares):
    r"""Add branches, :math:`(u_1, \dots, u_n) \mapsto \sum_i a_i u_i` with :math:`\sum_i a_i^2 = 1`: adjoint of `Fork`.

    Guarantee: norm 1 for p = 2 with respect to the branches side by side (Cauchy-Schwarz): the constant of the
    concatenation is kept, while a sum of branches that depend on the same input costs :math:`\sum_i |a_i| L_i`. The
    bound takes the smaller of the two.

    Args: those of `EnergyShares`.

    Raises:
        InputError: parts or shares are not usable; the branches differ in number or channels.

    Example:
        >>> round(Blend(2, shares=(0.36, 0.64))(torch.ones(1, 1), torch.ones(1, 1)).item(), 4)
        1.4
    """

    def forward(self, *branches: Tensor) -> Tensor:
        """Map `parts` tensors of one shape to a tensor of that shape."""
        if len(branches) != self.parts or len({b.shape[1:2] for b in branches}) != 1:
            raise errors.InputError(
                errors.explain(
                    "branches cannot be blended",
                    received=f"shapes {[tuple(b.shape) for b in branches]}",
                    expected=f"{self.parts} tensors of one shape",
                    fix="crop or resize the branches, or make Blend(parts) with their number",
                )
            )
        weights = self.weights
        total = branches[0] * weights[0]
        for i in range(1, self.parts):
            total = total + branches[i] * weights[i]
        return total


def _roots(logits: Tensor) -> Tensor:
    # exp of half the log-softmax: the square roots of the shares, with a gradient even where a share vanishes.
    return torch.exp(0.5 * torch.log_softmax(logits, dim=0))
