"""Linear layers of bounded norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards
from .reparam import Reparametrized
from .stiefel import random_orthonormal


class OrthogonalLinear(Reparametrized):
    """Linear layer with orthonormal rows or columns, times `scale`.

    Shapes: `(..., in_features)` to `(..., out_features)`.

    Guarantee: norm at most `|coeff| * (1 + 1e-6)` in float32; `onelip.lipschitz` proves the constant.

    Raises:
        InputError: a count is not a positive integer, or the scale is not finite.

    Example:
        >>> layer = OrthogonalLinear(3, 5, bias=False)
        >>> x = torch.randn(2, 3)
        >>> torch.allclose(layer(x).norm(dim=1), x.norm(dim=1), rtol=1e-4)
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        scale: float = 1.0,
        learnable_scale: bool = False,
        mode: str = "project",
    ) -> None:
        guards.check_channels(in_features, out_features, 1)
        guards.check_scale(scale)
        guards.check_choice("mode", mode, ("project", "retract"))
        super().__init__(scale, learnable_scale=learnable_scale, mode=mode)
        self.in_features, self.out_features = in_features, out_features
        self.base = nn.Parameter(random_orthonormal(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def _free(self) -> list[Tensor]:
        return [self.base]

    def _assemble(self, matrices: list[Tensor]) -> Tensor:
        return matrices[0]

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the effective weight."""
        return F.linear(x, self.weight.to(self.coeff.dtype), self.bias)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.in_features}, {self.out_features}, scale={float(self.coeff):.4g}"


class UnitNormLinear(OrthogonalLinear):
    """Linear head with rows of norm `scale`: every logit alone is `|coeff|`-Lipschitz.

    Formula: `w_i = scale * v_i / ||v_i||`. Jointly the logits can move more, up to `sqrt(min(in, out))` times;
    `onelip.lipschitz` bounds them jointly, and pairwise certificates use `||w_i - w_j||`.

    Guarantee: each row has norm `|coeff|` up to rounding (0 for a zero row).

    Example:
        >>> head = UnitNormLinear(6, 4)
        >>> torch.allclose(head.weight.norm(dim=1), torch.ones(4))
        True
    """

    def _project(self, matrix: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
        return matrix / lengths.clamp_min(torch.finfo(matrix.dtype).tiny)
