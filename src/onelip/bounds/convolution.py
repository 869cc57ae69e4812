r"""Proven upper bounds on the operator norm of convolutions, of any stride, dilation and grouping.

A convolution with zero padding, on an image of any size, is a compression of the same convolution on the infinite
lattice, whose norm is the supremum over frequencies w of the largest singular value of its symbol
W(w) = sum_t W_t exp(i w t). Stride is folded into the channels (polyphase), dilation d with stride s acts as stride
s / gcd(s, d), groups are separate operators (maximum), and a transposed convolution is the adjoint.

The supremum over all frequencies is bounded from a grid by a Bernstein-type inequality: a real trigonometric
polynomial of degree t per axis sampled on N points has sup <= max_grid / cos(pi t / N) (Ehlich and Zeller, 1964).

Sources: Sedghi et al. 2019 (symbol); Singla and Feizi 2021 (unfoldings); Rump 2006 (verified positive definiteness).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch

from .matrix import MARGIN, U64, exact, spectral_norm, unit

_TOLERANCE = 1e-3  # relative looseness that is accepted without further work
_QUICK = 1e10  # floating point operations that take about a second
_TINY = 1500  # kernels with fewer entries get the usual grid at once
_CALL = 2.5e5  # what one small decomposition costs at least, in the same unit
_WORK = 1e11  # floating point operations that one exact bound may cost
_WIDE = 512  # above, Gram matrices of single frequencies cost too much
_SMALL = 48  # Gram matrices up to this size are decomposed exactly
_CHUNK = 2**22  # complex entries held at once


def polyphase(weight: torch.Tensor, stride: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    """Fold stride and dilation of kernels (G, O, I, *k) into channels: same norm, stride 1, dilation 1.

    Pixel unshuffling is a permutation, so a stride-s kernel is a stride-1 kernel over the s phases of its input. A
    dilation coprime to the stride only permutes those phases.
    """
    for axis, (s, d) in enumerate(zip(stride, dilation, strict=True)):
        s //= math.gcd(s, d)  # noqa: PLW2901
        if s == 1:
            continue
        dim = 3 + axis
        k = weight.shape[dim]
        pad = [0, 0] * (weight.dim() - 1 - dim) + [0, -k % s]
        weight = torch.nn.functional.pad(weight, pad).unflatten(dim, (-1, s))
        weight = weight.movedim(dim + 1, 3).flatten(2, 3)
    return weight


def spectral_conv_norm(
    weight: torch.Tensor, *, stride: Sequence[int], dilation: Sequence[int], groups: int = 1
) -> float:
    """Return a proven upper bound on the l_2 norm of a convolution with weight (O, I / groups, *k).

    Near-orthogonal kernels (up to a common scale) cost one FFT and one product per frequency and come out within
    about 1e-7 * channels; others within about one per cent, or by unfolding norms when they are very wide.
    Guarantee: sound for zero padding and any input size; float64 with rounding margins.
    """
    kernels = exact(weight)
    if groups < 1 or kernels.shape[0] % groups:
        raise ValueError(f"groups={groups} does not divide {kernels.shape[0]} output channels")
    kernels = kernels.reshape(groups, kernels.shape[0] // groups, *kernels.shape[1:])
    folded, unit_scale = unit(polyphase(kernels, stride, dilation))
    if not bool(folded.any()):
        return 0.0
    return unit_scale * _folded_norm(folded) * MARGIN


def _folded_norm(folded: torch.Tensor) -> float:
    if all(k == 1 for k in folded.shape[3:]):
        return max(spectral_norm(m.flatten(1)) for m in folded)
    wide = min(folded.shape[1:3]) > _WIDE
    close, scale = _residual_in_space(folded) if wide else _near_orthogonal(folded)
    if close <= scale * (1 + _TOLERANCE):
        return close
    return min(close, _unfoldings(folded), _grid(folded))


def _symbol(folded: torch.Tensor, grid: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yield the symbol on half of the grid (real kernels are conjugate symmetric), in chunks (F, rows, columns)."""
    axes = tuple(range(3, folded.dim()))
    spectrum = torch.fft.rfftn(folded, s=list(grid), dim=axes)
    spectrum = spectrum.movedim((1, 2), (-2, -1)).flatten(0, -3)
    if spectrum.shape[-2] > spectrum.shape[-1]:
        spectrum = spectrum.mH  # the smaller Gram matrix has the same largest eigenvalue
    step = max(1, _CHUNK // (spectrum.shape[-1] * spectrum.shape[-2]))
    yield from spectrum.split(step)


def _slack(folded: torch.Tensor, grid: Sequence[int]) -> float:
    """Relative rounding of a Gram matrix of the symbol and of its eigenvalues, in units of its trace."""
    rows, columns = sorted(folded.shape[1:3])
    return (10 * rows + 4 * columns + 8 * math.log2(math.prod(grid) + 1)) * U64


def _near_orthogonal(folded: torch.Tensor) -> tuple[float, float]:
    """Bound sup sigma^2 <= a + max_grid ||G - a I||_F / prod cos(pi (k-1) / N), with a the mean eigenvalue.

    G(w) - a I is a matrix polynomial of degree k - 1, and its Frobenius norm is a supremum of real ones.
    Returns (bound, sqrt(a)); sqrt(a) is a lower bound of the supremum on the grid.
    """
    kernel = folded.shape[3:]
    grid = [1 if k == 1 else max(4 * (k - 1), 2 * k + 2) for k in kernel]
    rows = min(folded.shape[1:3])
    # Parseval: the mean over the grid of trace(G) is the squared Frobenius norm of the kernel.
    a = float(folded.square().sum(dim=tuple(range(1, folded.dim()))).max()) / rows
    identity = torch.eye(rows, dtype=torch.float64)
    worst = trace = 0.0
    for chunk in _symbol(folded, grid):
        gram = chunk @ chunk.mH
        worst = max(worst, float(torch.linalg.vector_norm(gram - a * identity, dim=(-2, -1)).max()))
        trace = max(trace, float(gram.diagonal(dim1=-2, dim2=-1).real.sum(-1).max()))
    worst += _slack(folded, grid) * (trace + rows * a)
    factor = math.prod(math.cos(math.pi * (k - 1) / n) for k, n in zip(kernel, grid, strict=True))
    return math.sqrt(a + worst / factor), math.sqrt(a)


def _residual_in_space(folded: torch.Tensor) -> tuple[float, float]:
    """Bound as `_near_orthogonal`, without frequencies: real products only, a tenth of the work, a little looser.

    G(w) = sum_s G_s exp(i w s) with G_s = sum_t W_t W_(t+s)^T and G_(-s) = G_s^T, so that
    sup ||G(w) - a I||_F <= ||G_0 - a I||_F + 2 sum_(s > 0) ||G_s||_F.
    """
    kernels = folded if folded.shape[1] <= folded.shape[2] else folded.transpose(1, 2)
    rows, sides = kernels.shape[1], kernels.shape[3:]
    mass = float(kernels.square().flatten(1).sum(1).max())
    a = mass / rows
    half = [s for s in itertools.product(*(range(1 - k, k) for k in sides)) if s >= (0,) * len(sides)]
    worst = 0.0
    for kernel in kernels:
        total = 0.0
        for shift in half:
            here = tuple(slice(max(-s, 0), k - max(s, 0)) for s, k in zip(shift, sides, strict=True))
            there = tuple(slice(max(s, 0), k - max(-s, 0)) for s, k in zip(shift, sides, strict=True))
            gram = kernel[(..., *here)].flatten(1) @ kernel[(..., *there)].flatten(1).mT
            if any(shift):
                total += 2 * float(torch.linalg.vector_norm(gram))
            else:
                total += float(torch.linalg.vector_norm(gram - a * torch.eye(rows, dtype=gram.dtype)))
        worst = max(worst, total)
    products = kernels[0, 0].numel()
    worst += 2 * len(half) * (4 * products + 10 * rows) * U64 * mass
    return math.sqrt(a + worst), math.sqrt(a)


def _grid(folded: torch.Tensor) -> float:
    """Bound sup sigma <= max_grid sigma / prod cos(pi (k-1) / (2 N)): u* W(w) v has degree (k-1)/2 once centred."""
    kernel = folded.shape[3:]
    rows, columns = sorted(folded.shape[1:3])
    grid = _affordable_grid(kernel, 8.0 * rows**2 * (columns + rows) * folded.shape[0], folded.numel())
    if grid is None:
        return math.inf
    top = 0.0
    for chunk in _symbol(folded, grid):
        top = _top_eigenvalue(chunk @ chunk.mH, _slack(folded, grid), top)
    return math.sqrt(top) / math.prod(
        math.cos(math.pi * (k - 1) / (2 * n)) for k, n in zip(kernel, grid, strict=True)
    )


def _affordable_grid(kernel: Sequence[int], per_frequency: float, entries: int) -> list[int] | None:
    """Return the finest grid that costs well under a second, else the finest that is affordable at all."""
    quick = min(_QUICK, 2e6 * entries) if entries > _TINY else 0.0
    # N per degree: 0.5 % looseness an axis at 15.8, a hundredth of that at 160, 5 % at 5
    choices = [*((n, quick) for n in (160, 80, 40, 25)), *((n, _WORK) for n in (15.8, 12, 9, 7, 5))]
    for spread, work in choices:
        grid = [1 if k == 1 else math.ceil(spread * (k - 1)) for k in kernel]
        if max(per_frequency, _CALL) * math.prod(grid) / 2 <= work:
            return grid
    return None


def _top_eigenvalue(gram: torch.Tensor, slack: float, known: float) -> float:
    """Bound the largest eigenvalue of the matrices G >= 0 and of what is `known` already.

    Small matrices are decomposed. Larger ones are compared with a guess: t I - G has a Cholesky factor only if no
    eigenvalue exceeds t, up to a rounding that the slack covers (Rump, 2006); the few above it are decomposed.
    """
    trace = float(gram.diagonal(dim1=-2, dim2=-1).real.sum(-1).max())
    if gram.shape[-1] <= _SMALL:
        return max(known, float(torch.linalg.eigvalsh(gram)[..., -1].max()) + slack * trace)
    guess = max(known, _power_iteration(gram) * (1 + 2e-3))
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype)
    failed = torch.linalg.cholesky_ex(guess * identity - gram).info != 0
    top = guess + slack * (trace + gram.shape[-1] * guess)
    if bool(failed.any()):
        top = max(top, float(torch.linalg.eigvalsh(gram[failed])[..., -1].max()) + slack * trace)
    return top


def _power_iteration(gram: torch.Tensor, steps: int = 12, vectors: int = 4) -> float:
    """Estimate the largest eigenvalue from below; only a guess, so its quality decides the speed alone."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(*gram.shape[:-1], vectors, dtype=gram.dtype, generator=generator)
    size = torch.zeros(())
    for _ in range(steps):
        v = gram @ (v / torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp_min(1e-300))
        size = torch.linalg.vector_norm(v, dim=-2)
    return float(size.max())


def _unfoldings(folded: torch.Tensor) -> float:
    """Bound by sqrt(prod k) times the least norm of the unfoldings of the kernel (2^axes splits of the taps)."""
    axes = folded.dim() - 3
    if min(folded.shape[1:3]) > 2048:
        return math.inf
    taps = math.prod(folded.shape[3:])
    worst = 0.0
    for kernel in folded:
        norms = []
        for mask in range(2**axes):
            left = [2 + a for a in range(axes) if mask >> a & 1]
            right = [2 + a for a in range(axes) if not mask >> a & 1]
            matrix = kernel.permute(0, *left, 1, *right).flatten(0, len(left)).flatten(1)
            norms.append(spectral_norm(matrix))
        worst = max(worst, math.sqrt(taps) * min(norms))
    return worst
