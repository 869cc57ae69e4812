"""The zoo from Orthogonium's layers, wrapped so that scale, precision and folding are those of onelip."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError, MissingExtraError, explain
from ..layers.reparam import full_precision


def orthogonium_layers() -> Any:
    """Import `orthogonium.layers`.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module("orthogonium.layers")
    except ImportError as error:
        raise MissingExtraError(
            explain(
                'constraint="orthogonium" needs the package orthogonium',
                received="it is not installed",
                fix='pip install "onelip[orthogonium]", or use constraint="orthogonal"',
            )
        ) from error


class _Scaled(nn.Module):
    """Mixin: the weight is `coeff` times the one of `source`, computed in full precision."""

    coeff: Tensor
    source: Any

    def _adopt(self, source: nn.Module, scale: float, learnable: bool) -> None:
        del self.weight
        self.source = source
        value = torch.tensor(float(scale))
        if learnable:
            self.coeff = nn.Parameter(value)
        else:
            self.register_buffer("coeff", value)

    def _effective(self) -> Tensor:
        # Orthogonium's power iteration writes its vectors at every call, also in eval mode. Put back, they make
        # the weight a function of the stored state: what is folded and bounded is what was trained and saved.
        vectors = [] if self.training else [p for p in self.source.parameters() if not p.requires_grad]
        kept = [vector.detach().clone() for vector in vectors]
        with full_precision(self.coeff.device):
            weight: Tensor = self.coeff * self.source.weight
        for vector, value in zip(vectors, kept, strict=True):
            vector.data.copy_(value)
        return weight


class OrthogoniumConv2d(_Scaled, nn.Conv2d):
    """`AdaptiveOrthoConv2d` with zero padding, times a scale.

    Guarantee:
        None by itself; `onelip.lipschitz` bounds the effective weight.
    """

    weight = property(_Scaled._effective)


class OrthogoniumConvTranspose2d(_Scaled, nn.ConvTranspose2d):
    """`AdaptiveOrthoConvTranspose2d`, times a scale.

    Guarantee:
        None by itself; `onelip.lipschitz` bounds the effective weight.
    """

    weight = property(_Scaled._effective)


class OrthogoniumLinear(_Scaled, nn.Linear):
    """`OrthoLinear`, times a scale.

    Guarantee:
        None by itself; `onelip.lipschitz` bounds the effective weight.
    """

    weight = property(_Scaled._effective)


def orthogonium_conv(
    kind: str,
    cin: int,
    cout: int,
    kernel: int,
    *,
    scale: float = 1.0,
    learnable_scale: bool = False,
    mode: str = "project",
    bias: bool = False,
    **geometry: Any,
) -> nn.Module:
    """Make an Orthogonium "Conv2d" or "ConvTranspose2d" with zero padding and a scale."""
    _only_projects(mode)
    package = orthogonium_layers()
    convolution = kind == "Conv2d"
    make = package.AdaptiveOrthoConv2d if convolution else package.AdaptiveOrthoConvTranspose2d
    source = make(cin, cout, kernel, bias=False, padding_mode="zeros", **geometry)
    _reinitialize(source)
    cls = OrthogoniumConv2d if convolution else OrthogoniumConvTranspose2d
    layer = cls(cin, cout, kernel, bias=bias, **geometry)
    layer._adopt(source, scale, learnable_scale)
    return layer


def orthogonium_linear(
    cin: int, cout: int, *, scale: float = 1.0, learnable_scale: bool = False, mode: str = "project"
) -> nn.Module:
    """Make an Orthogonium dense layer with bias and a scale."""
    _only_projects(mode)
    layer = OrthogoniumLinear(cin, cout)
    layer._adopt(orthogonium_layers().OrthoLinear(cin, cout, bias=False), scale, learnable_scale)
    return layer


def _only_projects(mode: str) -> None:
    if mode != "project":
        raise ConfigError(
            explain("Orthogonium's layers know one mode", received=repr(mode), expected="mode='project'")
        )


def _reinitialize(source: nn.Module) -> None:
    """Start strided factors at orthonormal matrices: from normal ones their few iterations do not converge."""
    for name, parameter in source.named_parameters():
        if name.endswith("weight_2.original"):
            nn.init.orthogonal_(parameter.data)
