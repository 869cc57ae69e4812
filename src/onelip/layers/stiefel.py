"""Orthonormal matrices: drawing them, and projecting onto them with matrix products only."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core import errors

_FIXED_STEPS = 14
"""Steps where reading a number back would stall the device or break a traced graph."""

_MOST_STEPS = 60


def random_orthonormal(*shape: int) -> Tensor:
    """Draw matrices with orthonormal columns (or rows, when they are fewer), shape `(..., n, m)`.

    Uses the global generator of torch. Guarantee: orthonormal up to float32 rounding.

    Example:
        >>> q = random_orthonormal(2, 5, 3)
        >>> torch.allclose(q.mT @ q, torch.eye(3).expand(2, 3, 3), atol=1e-5)
        True
    """
    *batch, rows, columns = shape
    tall = torch.randn(*batch, max(rows, columns), min(rows, columns), dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    # the sign of the diagonal of R makes the law uniform (Haar)
    q = (q * torch.where(torch.diagonal(r, dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-2)).float()
    result: Tensor = q if rows >= columns else q.mT
    return result.contiguous()


def polar(matrix: Tensor) -> Tensor:
    r"""Project matrices onto the nearest ones with orthonormal columns (or rows, when they are fewer).

    `M = Q P` with `Q` orthonormal and `P` positive: `Q` is computed by the iteration of Bjorck and Bowie,
    `Q <- Q (3 I - Q^T Q) / 2`, after a division by a proven bound of the norm, so that it cannot diverge. The
    iteration is outside the autograd graph; the gradient is the projection `g - Q sym(Q^T g)` on the tangent
    space, divided by the mean singular value of `M`. It is exact when `M` is a multiple of `Q`, and has a
    positive product with the exact gradient everywhere (never an ascent direction).

    Guarantee: singular values at most 1 up to rounding; equal to 1 when `M` has full rank and a condition
    number below about 100 (GPU, compiled) or 1e10 (CPU).

    Args:
        matrix: `(..., n, m)`, floating point of at least single precision.

    Raises:
        NonFiniteError: a value is NaN or infinite (checked on the CPU only).

    Example:
        >>> q = polar(torch.diag(torch.tensor([2.0, 0.5])))
        >>> torch.allclose(q, torch.eye(2), atol=1e-6)
        True

    Source: Bjorck and Bowie, "An iterative algorithm for computing the best estimate of an orthogonal
        matrix", SIAM J. Numer. Anal. 8 (1971).
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        wide: Tensor = polar(matrix.mT).mT
        return wide
    result: tuple[Tensor, Tensor] = _Polar.apply(matrix)
    return result[0]


class _Polar(torch.autograd.Function):
    """Tall matrices to their polar factor and their mean singular value."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor) -> tuple[Tensor, Tensor]:
        q = _orthonormalise(matrix)
        mean = (q * matrix).sum((-2, -1), keepdim=True) / matrix.shape[-1]
        return q, mean

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG004
        q, mean = output
        ctx.mark_non_differentiable(mean)
        ctx.save_for_backward(q, mean)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        q, mean = ctx.saved_tensors
        grad: Tensor = grads[0]
        inner = q.mT @ grad
        tangent = grad - 0.5 * (q @ (inner + inner.mT))
        result: Tensor = tangent / mean.clamp_min(torch.finfo(q.dtype).tiny)
        return result


def _orthonormalise(matrix: Tensor) -> Tensor:
    tiny = torch.finfo(matrix.dtype).tiny
    q = matrix / matrix.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
    gram = q.mT @ q
    # The largest absolute row sum bounds the norm of the Gram matrix, so that afterwards its eigenvalues lie in
    # [0, 2], which one step maps into [0, 1]; near a multiple of an orthonormal matrix their mean becomes 1.
    bound = gram.abs().sum(-1).amax(-1)
    mean = torch.diagonal(gram, dim1=-2, dim2=-1).mean(-1)
    divisor = torch.maximum(mean, 0.5 * bound).clamp_min(tiny)[..., None, None]
    q, gram = q * divisor.rsqrt(), gram / divisor
    identity = torch.eye(gram.shape[-1], dtype=q.dtype, device=q.device)
    # numbers are read back only where that is cheap and allowed: not on a GPU, nor on traced stand-ins
    adaptive = q.device.type == "cpu" and type(q) is Tensor and not torch.compiler.is_compiling()
    # one step maps a defect e to about 3/4 e^2: below this it lands under the rounding error
    enough = 0.5 * torch.finfo(q.dtype).eps ** 0.5
    for _ in range(_MOST_STEPS if adaptive else _FIXED_STEPS):
        defect = identity - gram
        q = q + 0.5 * (q @ defect)
        if adaptive:
            size = float(torch.linalg.matrix_norm(defect).amax())
            if size <= enough:
                break
            if math.isnan(size):
                raise errors.NonFiniteError(_diverged(matrix))
        gram = q.mT @ q
    return q


def _diverged(matrix: Tensor) -> str:
    return errors.explain(
        "a weight cannot be orthonormalised",
        received=f"a raw matrix of shape {tuple(matrix.shape)} with NaN or infinite values",
        expected="finite values",
        why="the layer would return NaN and no bound would hold",
        fix="lower the learning rate, or reload the last good checkpoint",
    )
