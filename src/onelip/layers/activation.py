"""Activations that keep the norm of the gradient, on dimension 1 of `(B, C, ...)`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from . import guards


class MaxMin(nn.Module):
    """Sort channel `c` with channel `c + C/2`: larger values first.

    Formula: `cat(max(a, b), min(a, b))` with `a, b` the two halves of the channels.

    Guarantee: 1-Lipschitz for p = 1, 2 and infinity; the Jacobian is a permutation almost everywhere.

    Raises:
        InputError: the number of channels is odd.

    Example:
        >>> MaxMin()(torch.tensor([[1.0, 5.0, 2.0, 3.0]]))
        tensor([[2., 5., 1., 3.]])

    Source: Anil, Lucas, Grosse, "Sorting out Lipschitz function approximation", ICML 2019.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Sort pairs along dimension 1."""
        first, second = _halves(x, "MaxMin")
        # Gradients are wanted in training, and by attacks on images; exported graphs take plain operators.
        wanted = isinstance(x, Tensor) and x.requires_grad and not torch.compiler.is_exporting()
        if self.training or (wanted and torch.is_grad_enabled()):
            return _sort_pairs(first, second)
        return torch.cat((torch.maximum(first, second), torch.minimum(first, second)), dim=1)


class _SortPairs(torch.autograd.Function):
    """`cat(max(a, b), min(a, b))` whose gradient is two selections: torch's own splits ties, at a third of a step."""

    generate_vmap_rule = True

    @staticmethod
    def forward(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat((torch.maximum(first, second), torch.minimum(first, second)), dim=1), first >= second

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, Tensor]:
        (kept,) = ctx.saved_tensors
        larger, smaller = grad.chunk(2, dim=1)
        return torch.where(kept, larger, smaller), torch.where(kept, smaller, larger)

    @staticmethod
    def jvp(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.cat((torch.where(kept, first, second), torch.where(kept, second, first)), dim=1), None


def _sort_pairs(first: Tensor, second: Tensor) -> Tensor:
    ordered: Tensor = _SortPairs.apply(first, second)[0]
    return ordered


class GroupSort(nn.Module):
    """Sort consecutive channels in groups, ascending; `group_size=None` sorts all of them.

    Guarantee: 1-Lipschitz for p = 1, 2 and infinity; the Jacobian is a permutation almost everywhere.

    Raises:
        InputError: the channels do not divide into groups.

    Example:
        >>> GroupSort(2)(torch.tensor([[5.0, 1.0, 2.0, 3.0]]))
        tensor([[1., 5., 2., 3.]])

    Source: Anil, Lucas, Grosse, "Sorting out Lipschitz function approximation", ICML 2019.
    """

    def __init__(self, group_size: int | None = 2) -> None:
        super().__init__()
        if group_size is not None:
            guards.pair("group_size", group_size, least=2)
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """Sort groups along dimension 1."""
        size = x.shape[1] if self.group_size is None else self.group_size
        if x.shape[1] % size:
            guards.refuse(
                "channels do not divide into groups to sort",
                f"{x.shape[1]} channels",
                f"a multiple of {size}",
            )
        groups = x.reshape(x.shape[0], -1, size, *x.shape[2:])
        if size == 2:
            return torch.stack((groups.amin(2), groups.amax(2)), dim=2).flatten(1, 2)
        ordered: Tensor = torch.sort(groups, dim=2).values
        return ordered.flatten(1, 2)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.group_size}"


class Householder(nn.Module):
    r"""Reflect pairs of channels `(c, c + C/2)` that lie on one side of a learned line.

    Formula: with angle `t`, a pair `(a, b)` stays where `a sin(t/2) >= b cos(t/2)`, else it becomes
    `(a cos t + b sin t, a sin t - b cos t)`, its mirror image. Both agree on the line, so no division by
    `sqrt(2)` is needed. `t = pi / 2`, the start, is `MaxMin`.

    Guarantee: 1-Lipschitz for p = 2 (sqrt(2) for p = 1 and infinity); the Jacobian is orthogonal almost everywhere.

    Raises:
        InputError: the number of channels is odd, or not the one given.

    Example:
        >>> [round(v, 4) for v in Householder(4)(torch.tensor([[1.0, 5.0, 2.0, 3.0]])).flatten().tolist()]
        [2.0, 5.0, 1.0, 3.0]

    Source: Singla, Singla, Feizi, "Improved deterministic l2 robustness on CIFAR-10 and CIFAR-100", ICLR 2022.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        guards.check_channels(channels, channels, 1)
        if channels % 2:
            guards.refuse("Householder needs pairs of channels", f"{channels} channels", "an even number")
        self.angle = nn.Parameter(torch.full((channels // 2,), math.pi / 2))

    def forward(self, x: Tensor) -> Tensor:
        """Reflect pairs along dimension 1."""
        first, second = _halves(x, "Householder")
        if first.shape[1] != self.angle.shape[0]:
            guards.refuse(
                "channels differ from the layer's", x.shape[1], f"{2 * self.angle.shape[0]} channels"
            )
        t = self.angle.reshape(-1, *([1] * (x.dim() - 2)))
        stays = first * torch.sin(t / 2) >= second * torch.cos(t / 2)
        cos, sin = torch.cos(t), torch.sin(t)
        mirrored = first * cos + second * sin, first * sin - second * cos
        return torch.cat(
            (torch.where(stays, first, mirrored[0]), torch.where(stays, second, mirrored[1])), dim=1
        )


class Abs(nn.Module):
    """Absolute value.

    Guarantee: 1-Lipschitz for every p; the Jacobian is a diagonal of signs almost everywhere.

    Example:
        >>> Abs()(torch.tensor([-2.0, 3.0]))
        tensor([2., 3.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return absolute values."""
        return x.abs()


def _halves(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if x.shape[1] % 2:
        guards.refuse(f"{name} needs pairs of channels", f"{x.shape[1]} channels", "an even number")
    first, second = x.chunk(2, dim=1)
    return first, second
