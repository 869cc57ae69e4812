r"""What dense counterfactuals have to reach: a region with other classes, a box where nothing, or something, fires.

A goal is a set of outputs: all of some gaps have to close, and one of some others. With l2 distances between outputs,

.. math:: d(z)^2 = s^2 \Big( \sum_{j \in \text{all}} (g_j)_+^2 + \big(\min_{j \in \text{any}} g_j\big)_+^2 \Big)

is a lower bound of the squared distance to that set: each gap is a half-space of coordinates that no other gap shares
(s = 1 for one logit against a threshold, :math:`1 / \sqrt 2` for two logits of a pixel). d is 1-Lipschitz, so that no
image nearer than d / L has outputs in the set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from onelip.core.errors import InputError, explain
from onelip.explain.aims import tolerance

_HAIR = 3.0


class Flat(nn.Module):
    """A model as one that answers a single row for each image; its own shape is kept in `shape`.

    Args:
        model: to tensors (B, ...) of `dims` dimensions.
        caller: begins the text of errors.
        dims: number of dimensions of its outputs.
        expected: them, in words.
    """

    def __init__(self, model: nn.Module, caller: str, dims: int, expected: str) -> None:
        super().__init__()
        self.model = model
        self.caller, self.dims, self.expected = caller, dims, expected
        self.training = model.training

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, M)."""
        answer = self.model(images)
        if not isinstance(answer, Tensor) or answer.dim() != self.dims:
            raise InputError(
                explain(
                    f"{self.caller}: the model is not of this kind",
                    received=tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__,
                    expected=f"outputs {self.expected}",
                )
            )
        return answer.flatten(1)


@dataclass(frozen=True, eq=False)
class Goal:
    """What all dense goals share.

    Attributes:
        shape: of the outputs of one image.
        constant: joint Lipschitz constant of what moves; 1 where none is proven.
    """

    shape: tuple[int, ...]
    constant: float

    def of(self, rows: Tensor) -> Self:
        """The goal of some of the images."""
        raise NotImplementedError

    def gaps(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, J) gaps that all have to close, -inf for none, and (B, J') of which one has to, inf for none."""
        raise NotImplementedError

    @property
    def scale(self) -> float:
        """How far outputs move at least to close a gap of 1."""
        return 1.0

    def margin(self, outputs: Tensor) -> Tensor:
        """(B,) the gap that is left: 0 at the boundary, negative beyond."""
        every, some = self.gaps(outputs)
        found = torch.cat([every, some.amin(1, keepdim=True)], 1) if some.shape[1] else every
        left: Tensor = found.amax(1)
        return left

    def reached(self, outputs: Tensor) -> Tensor:
        """(B,) bool: all gaps are closed; one of exactly 0 is not."""
        return self.margin(outputs) < 0

    def distance(self, outputs: Tensor, hair: Tensor | float = 0.0) -> Tensor:
        """(B,) d with all gaps larger by a hair, with gradients."""
        every, some = self.gaps(outputs)
        shift = torch.as_tensor(hair).to(outputs).reshape(-1, 1)
        parts = [(every + shift).relu()]
        if some.shape[1]:
            parts.append((some.amin(1, keepdim=True) + shift).relu())
        found: Tensor = self.scale * torch.linalg.vector_norm(torch.cat(parts, 1), dim=1)
        return found

    def rival(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, M) gradient of d, (B,) d, (B,) its constant."""
        with torch.enable_grad():
            z = outputs.detach().clone().requires_grad_()
            far = self.distance(z, _HAIR * tolerance(outputs))
            weights = torch.autograd.grad(far.sum(), z)[0]
        return weights, far.detach(), torch.full_like(far.detach(), self.constant)


@dataclass(frozen=True, eq=False)
class Pixels(Goal):
    """Pixels that leave a class, or enter one.

    Attributes:
        labels: (B, H, W) int64 the class.
        region: (B, H, W) bool, the pixels.
        enter: whether they have to enter it.
    """

    labels: Tensor
    region: Tensor
    enter: bool

    def of(self, rows: Tensor) -> Self:
        """The goal of some of the images."""
        return replace(self, labels=self.labels[rows], region=self.region[rows])

    @property
    def scale(self) -> float:
        """Two logits share the way."""
        return 1 / math.sqrt(2)

    def gaps(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, HW) margins of the class over the best other one, or of that over the class."""
        z = outputs.reshape(-1, *self.shape)
        own = z.gather(1, self.labels[:, None])[:, 0]
        rest = z.scatter(1, self.labels[:, None], -torch.inf).amax(1)
        gap = rest - own if self.enter else own - rest
        return gap.masked_fill(~self.region, -torch.inf).flatten(1), outputs[:, :0]

    def reached_pixels(self, outputs: Tensor) -> Tensor:
        """(B, H, W) bool: the pixels whose gap is closed, and those outside of the region."""
        return (self.gaps(outputs)[0] < 0).reshape(self.region.shape)

    def costs(self, logits: Tensor) -> Tensor:
        """(B, H, W) float64, exact l2 distance of each pixel's logits (B, K, H, W) to its goal; 0 where reached."""
        logits = logits.double()
        if not self.enter:
            gap = self.gaps(logits.flatten(1))[0].reshape(self.region.shape)
            return gap.clamp_min(0.0) * self.scale
        return enter_cost(logits, self.labels).masked_fill(~self.region, 0.0)


def enter_cost(logits: Tensor, labels: Tensor) -> Tensor:
    r"""(B, H, W) l2 distance of pixels to logits in which a class is as high as all others.

    .. math:: \min_t \; (t - z_c)^2 + \sum_{k \ne c} (z_k - t)_+^2, \quad t \ge z_c

    smallest at one of the means :math:`t_n` of :math:`z_c` and the n largest of the others.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) int64, the class c of each pixel.

    Example:
        >>> z = torch.tensor([0.0, 3.0, 2.0]).reshape(1, 3, 1, 1)
        >>> round(enter_cost(z, torch.zeros(1, 1, 1, dtype=torch.int64)).item() ** 2, 6)  # all meet at 5/3
        4.666667
    """
    own = logits.gather(1, labels[:, None])
    rest = logits.scatter(1, labels[:, None], -torch.inf).sort(dim=1, descending=True).values[:, :-1]
    best = torch.full_like(own, torch.inf)
    total = own.clone()
    for n in range(rest.shape[1]):
        total = total + rest[:, n : n + 1]
        level = torch.maximum(total / (n + 2), own)
        cost = (level - own).square() + (rest - level).clamp_min(0.0).square().sum(1, keepdim=True)
        best = torch.minimum(best, cost)
    return best.sqrt()[:, 0]


@dataclass(frozen=True, eq=False)
class Firing(Goal):
    """Pairs (location, class) that fall silent, and others of which one fires.

    Attributes:
        silent: (B, N, K) bool: all of them.
        firing: (B, N, K) bool: one of them, where there is any.
        theta: threshold of the logits.
    """

    silent: Tensor
    firing: Tensor
    theta: float

    def of(self, rows: Tensor) -> Self:
        """The goal of some of the images."""
        return replace(self, silent=self.silent[rows], firing=self.firing[rows])

    def gaps(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, NK) logits above the threshold, and (B, NK) the threshold above logits."""
        over = outputs.reshape(-1, *self.shape)[..., : self.silent.shape[2]] - self.theta
        every = over.masked_fill(~self.silent, -torch.inf).flatten(1)
        some = (-over).masked_fill(~self.firing, torch.inf).flatten(1)
        return every, some if bool(self.firing.any()) else some[:, :0]
