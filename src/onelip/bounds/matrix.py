"""Operator norms of dense matrices, rounded up: float64 results with proven margins."""

from __future__ import annotations

import math

import torch

from ..core.errors import NonFiniteError, PrecisionError, explain

U64 = 2.0**-53
# Covers ties of a few ulp between our float64 arithmetic and any other; it costs nothing.
MARGIN = 1.0 + 1e-9


def exact(weight: torch.Tensor, name: str = "weight") -> torch.Tensor:
    """Return a weight as float64 on the CPU (exact for float32), refusing half precision and non-finite entries."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise PrecisionError(
            explain(
                f"`{name}` has a precision that cannot be bounded",
                received=weight.dtype,
                expected="float32 or float64",
            )
        )
    result = weight.detach().to("cpu", torch.float64)
    if not bool(result.isfinite().all()):
        raise NonFiniteError(
            explain(
                f"`{name}` is not finite", received="NaN or infinite entries", fix="retrain or restore it"
            )
        )
    return result


def matrix_norm(matrix: torch.Tensor, p: float = 2.0) -> float:
    """Return a proven upper bound on the l_p -> l_p norm of a dense matrix (rows are outputs).

    p = 2 takes the largest singular value plus the backward error of the decomposition; p = 1 and infinity are
    column and row sums. Guarantee: sound upper bound, in float64, for finite input.

    >>> matrix_norm(torch.tensor([[3.0, 0.0], [4.0, 0.0]])) < 5.00001
    True
    """
    m = exact(matrix, "matrix")
    if m.numel() == 0:
        return 0.0
    if p == 2:
        return spectral_norm(m) * MARGIN
    sums = m.abs().sum(dim=1 if math.isinf(p) else 0)
    return float(sums.max()) * MARGIN


def unit(m: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return (m / 2^e, 2^e) with entries of at most one: squares can then neither overflow nor vanish."""
    scale = math.ldexp(1.0, min(math.frexp(float(m.abs().max()))[1], 1000)) if m.numel() else 1.0
    return m / scale, scale


def spectral_norm(matrix: torch.Tensor) -> float:
    """Return the largest singular value of a float64 matrix plus its backward error, 10 max(m, n) u ||M||_F."""
    m, scale = unit(matrix)
    return scale * _unit_spectral_norm(m)


def _unit_spectral_norm(m: torch.Tensor) -> float:
    rows, columns = m.shape
    frobenius = float(torch.linalg.vector_norm(m))
    if frobenius == 0 or min(rows, columns) == 1:
        return frobenius
    small, large = min(rows, columns), max(rows, columns)
    if large > 2 * small:  # very flat: the Gram matrix is far smaller, and its error known
        gram = m @ m.mT if rows < columns else m.mT @ m
        top = float(torch.linalg.eigvalsh(gram)[-1]) + (10 * small + 4 * large) * U64 * frobenius**2
        return math.sqrt(max(top, 0.0))
    return float(torch.linalg.matrix_norm(m, 2)) + 10 * large * U64 * frobenius
