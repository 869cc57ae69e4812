r"""The sums of squared moves that one budget bounds: of all levels or one, of logits, of boxes, or of both.

An image within :math:`\epsilon` moves all outputs jointly by at most :math:`L \epsilon`, the logits alone by at most
:math:`L_z \epsilon`, the distances over kappa alone by at most :math:`L_t \epsilon`; and those of each level by at most
constants of their own, often much smaller. In units of the joint budget :math:`B = (L \epsilon)^2` the squared moves of
logits :math:`a_i` and of distances :math:`b_i` obey

.. math:: \sum_i (w_{iv} a_i + u_{iv} b_i) \le B \quad \text{for all } v.

For all levels, and with the constants of a level for the locations of that level alone, the weights (w, u) are

* jointly :math:`(1, 1) L^2 / L_l^2` with :math:`L_l^2 = \min(L^2, L_z^2 + L_t^2)`,
* balanced :math:`(L^2 / 2 L_z^2, L^2 / 2 L_t^2)`, half of either bound: at most a factor 2 below the best for any
  mixture, while the first one may be off by :math:`L^2 / \min(L_z, L_t)^2`,
* of logits alone :math:`(L^2 / L_z^2, 0)`.

What needs logits and boxes to move costs the largest of these sums; and what can be done with one or the other costs,
in every sum, at least the cheaper of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Constants:
    """Proven constants of one part of the outputs of a detector.

    Attributes:
        joint: of all levels together.
        levels: of single levels, by their stride; a level that is not named has the joint one.
    """

    joint: float
    levels: Mapping[float, float] = field(default_factory=dict)

    def scopes(self, strides: list[float]) -> list[float]:
        """The joint constant, then that of each stride."""
        return [self.joint, *(min(self.joint, self.levels.get(s, self.joint)) for s in strides)]


@dataclass(frozen=True, eq=False)
class Sums:
    """Weights of N locations. Scope 0 is all levels, scope l + 1 level l; each has C sums, the first the joint one.

    Attributes:
        level: (N,) index of the level.
        w: (S, C) weights of squared moves of logits.
        u: (S, C) weights of squared moves of distances over kappa.
        logits_alone: (S,) weights of logits when nothing else moves.
        boxes_alone: (S,) those of distances.
    """

    level: Tensor
    w: Tensor
    u: Tensor
    logits_alone: Tensor
    boxes_alone: Tensor

    @cached_property
    def logits(self) -> Tensor:
        """(N, V) weights w of every location in all V = S C sums, the first of which is the joint one of everything."""
        return self._spread(self.w)

    @cached_property
    def boxes(self) -> Tensor:
        """(N, V) weights u likewise."""
        return self._spread(self.u)

    def _spread(self, table: Tensor) -> Tensor:
        scopes = torch.arange(1, len(table))
        member = torch.cat([torch.ones(len(self.level), 1), (self.level[:, None] == scopes - 1).float()], 1)
        return (member.double()[..., None] * table).flatten(1)

    def of_logit(self) -> Tensor:
        """(N,) what a squared move of one logit costs, per unit."""
        return torch.maximum(self.logits_alone[0], self.logits_alone[1:][self.level])

    def of_box(self) -> Tensor:
        """(N,) what a squared move of the distances of one location costs, per unit."""
        return torch.maximum(self.boxes_alone[0], self.boxes_alone[1:][self.level])

    def scope(self, first: Tensor, second: Tensor) -> Tensor:
        """(P, M) the smallest scope that holds both locations."""
        level, other = self.level[first][:, None], self.level[second][None]
        return torch.where(level == other, level + 1, 0)

    def of_pair(self, scope: Tensor, logits: Tensor, boxes: Tensor) -> Tensor:
        """What squared moves of logits and of distances at two locations of a scope cost together, in their shape."""
        prices = [
            self.w[scope, c] * logits + self.u[scope, c] * boxes for c in range(min(2, self.w.shape[1]))
        ]
        return torch.stack(prices).amax(0)


def sums(strides: Tensor, lipschitz: float, logits: Constants | None, boxes: Constants | None) -> Sums:
    """The sums for locations of these strides (N,).

    Args:
        strides: (N,).
        lipschitz: joint constant L of everything.
        logits: constants of the logits alone, where they are known.
        boxes: constants of the distances over kappa alone; None where they are free, or nothing is known of either.
    """
    kinds, level = strides.unique(return_inverse=True)
    z, t = (
        torch.tensor((part or Constants(lipschitz)).scopes(kinds.tolist()), dtype=torch.float64).clamp_max(
            lipschitz
        )
        for part in (logits, boxes)
    )
    own = z.clone() if boxes is None else torch.hypot(z, t).clamp_max(lipschitz)
    own[0] = lipschitz
    joint, w, u = ((lipschitz / c).square() for c in (own, z, t))
    if boxes is None:
        return Sums(level, joint[:, None], joint[:, None], w, torch.ones_like(w))
    table = torch.stack([joint, w / 2, w], 1), torch.stack([joint, u / 2, 0.0 * u], 1)
    return Sums(level, *table, w, u)
