"""What all reparametrised layers share: the effective weight, its precision, its cache in eval mode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from ..core.runtime import exact_matmul
from .stiefel import polar


def rms_gain(in_channels: int, out_channels: int, *, groups: int = 1, transposed: bool = False) -> float:
    """Return the factor that keeps the root mean square of a signal near 1 through an orthogonal layer.

    Formula: `sqrt(out * groups / in)`; transposed `sqrt(in * groups / out)`, which is
    `sqrt(out * 4 / in)` for a 2 x 2 layer of stride 2 that halves the channels. Exact there and for a
    convolution of stride 1 with `in <= out`; a heuristic elsewhere. The factor is part of the bound.

    Example:
        >>> rms_gain(16, 64), rms_gain(64, 16, transposed=True)
        (2.0, 2.0)
    """
    wide, narrow = (in_channels, out_channels) if transposed else (out_channels, in_channels)
    return math.sqrt(wide * groups / narrow)


class Reparametrized(nn.Module):
    """A layer whose weight is a function of free parameters.

    `weight` is the effective one, scale included: what `forward` uses, `onelip.lipschitz` bounds and
    `onelip.fold` bakes. It is computed in float32 or float64, never in half precision or TF32. In eval mode
    or frozen, without gradient, it is kept until a value of the parameters differs.
    """

    bias: Tensor | None
    coeff: Tensor
    mode: str

    def __init__(self, scale: float, *, learnable_scale: bool, mode: str) -> None:
        super().__init__()
        self.mode = mode
        coeff = torch.tensor(float(scale))
        if learnable_scale:
            self.coeff = nn.Parameter(coeff)
        else:
            self.register_buffer("coeff", coeff)
        self._kept: tuple[list[Tensor], Tensor] | None = None

    def _free(self) -> list[Tensor]:
        """Return the free matrices, each projected on orthonormal ones."""
        raise NotImplementedError

    def _assemble(self, matrices: list[Tensor]) -> Tensor:
        """Return the weight, without the scale, from the (orthonormal) matrices."""
        raise NotImplementedError

    def _project(self, matrix: Tensor) -> Tensor:
        """Return the admissible matrices nearest to free ones."""
        return polar(matrix)

    @property
    def weight(self) -> Tensor:
        """The effective weight, in the precision of the parameters (at least float32)."""
        sources = [*self._free(), self.coeff]
        learning = torch.is_grad_enabled() and any(source.requires_grad for source in sources)
        keep = not (self.training or learning or torch.compiler.is_compiling())
        with full_precision(self.coeff.device):
            if keep and self._kept is not None and _same(self._kept[0], sources):
                return self._kept[1]
            matrices = [_at_least_single(matrix) for matrix in sources[:-1]]
            if self.mode == "project":
                matrices = [self._project(matrix) for matrix in matrices]
            weight = self._assemble(matrices) * self.coeff.to(matrices[0].dtype)
            if keep:
                self._kept = ([source.detach().clone() for source in sources], weight)
        return weight

    @torch.no_grad()
    def retract_(self) -> None:
        """Replace the free matrices by their projections (after an optimiser step, in mode `retract`)."""
        with full_precision(self.coeff.device):
            for matrix in self._free():
                matrix.copy_(self._project(_at_least_single(matrix)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


def retract_(model: nn.Module) -> None:
    """Bring the layers of `model` built with `mode="retract"` back to orthonormal weights, in place.

    Call it after each `optimizer.step()`. Forgetting it never makes a certificate wrong, because bounds are
    computed from the weights as they are; it makes them worse.
    """
    for module in model.modules():
        if isinstance(module, Reparametrized) and module.mode == "retract":
            module.retract_()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute without autocast and without TF32, with real numbers where only shapes are followed."""
    # A weight depends on no input: inside a FakeTensorMode (the bound engine's shapes) its few real products
    # are much cheaper than a thousand stand-ins. A compiler has to see the operations.
    real = nullcontext() if torch.compiler.is_compiling() else unset_fake_temporarily()
    with real, exact_matmul(), torch.autocast(device.type, enabled=False):
        yield


def _same(kept: list[Tensor], now: list[Tensor]) -> bool:
    # by value: versions and addresses miss writes through `.data`, and a stale weight is a wrong certificate
    pairs = zip(kept, now, strict=True)
    return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)


def _at_least_single(matrix: Tensor) -> Tensor:
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))
