"""One place that decides which layers a model is made of: constrained, ordinary, or already folded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from .. import layers
from ..core.errors import ConfigError, explain
from ..layers import rms_gain
from .interop import orthogonium_conv, orthogonium_linear
from .junctions import Copies, Sum


@dataclasses.dataclass(frozen=True)
class Factory:
    r"""Makes the layers of a model for one constraint.

    With `scale` other than "none" every convolution is multiplied by a factor that keeps the root mean square
    of its output near that of its input: $\gamma = \sqrt{C_{out} / C_{in}}$, transposed
    $\gamma = \sqrt{C_{in} / C_{out}}$. It multiplies the bound and leaves certificates, which are
    margin / bound, unchanged; it sets the temperature the loss sees.

    Attributes:
        constraint: "orthogonal", "spectral", "orthogonium" or None (ordinary layers: the unconstrained twin).
        scale: "fixed", "learnable" or "none".
        mode: how constrained layers keep their constraint while training: "project" or "retract".
        norm: "batch" (centring; batch normalisation in the twin) or "bias" (a learned constant a channel).
        folded: make plain layers at the paths where `fold` leaves them, ready to receive saved weights.
        unit: factors start at 1 also where `scale` would keep the root mean square: every layer has norm 1.
    """

    constraint: str | None
    scale: str = "fixed"
    mode: str = "project"
    folded: bool = False
    norm: str = "batch"
    unit: bool = False

    def conv(self, cin: int, cout: int, kernel: int = 3, **options: Any) -> nn.Module:
        """Make a zero-padded convolution (options: stride, dilation, bias), "same" up to the stride."""
        dilation = options.get("dilation", 1)
        stride = options.get("stride", 1)
        options = {"bias": False} | options
        options["padding"] = 0 if kernel == stride else dilation * (kernel - 1) // 2
        return self._convolution("Conv2d", cin, cout, kernel, rms_gain(cin, cout), options)

    def up(self, cin: int, cout: int) -> nn.Module:
        """Make a transposed convolution, kernel 2, stride 2: twice the height and width."""
        options = {"stride": 2, "bias": False}
        return self._convolution(
            "ConvTranspose2d", cin, cout, 2, rms_gain(cin, cout, transposed=True), options
        )

    def _convolution(
        self, kind: str, cin: int, cout: int, kernel: int, gain: float, options: dict[str, Any]
    ) -> nn.Module:
        if self.folded or self.constraint is None:
            plain: type[nn.Module] = getattr(nn, kind)
            return plain(cin, cout, kernel, device=self._device(), **options)
        if self.constraint == "orthogonium":
            return orthogonium_conv(kind, cin, cout, kernel, **options, **self._scaling(gain))
        prefix = {"orthogonal": "Orthogonal", "spectral": "Spectral"}[self.constraint]
        made: nn.Module = getattr(layers, prefix + kind)(cin, cout, kernel, **options, **self._scaling(gain))
        return made

    def linear(self, cin: int, cout: int) -> nn.Module:
        """Make a dense layer with bias."""
        if self.folded or self.constraint is None:
            return nn.Linear(cin, cout, device=self._device())
        if self.constraint == "orthogonium":
            return orthogonium_linear(cin, cout, **self._scaling(rms_gain(cin, cout)))
        kind = layers.SpectralLinear if self.constraint == "spectral" else layers.OrthogonalLinear
        return kind(cin, cout, **self._scaling(rms_gain(cin, cout)))

    def _device(self) -> str | None:
        # Saved weights are assigned to a skeleton: filling it first would cost time and random numbers.
        return "meta" if self.folded else None

    def _scaling(self, gain: float) -> dict[str, Any]:
        return {
            "scale": 1.0 if self.unit or self.scale == "none" else gain,
            "learnable_scale": self.scale == "learnable",
            "mode": self.mode,
        }

    def act(self) -> nn.Module:
        """Make the activation: MaxMin, or ReLU in the twin."""
        return nn.ReLU() if self.constraint is None else layers.MaxMin()

    def shift(self, channels: int) -> nn.Module:
        """Make what follows an activation: centring (batch normalisation in the twin), or a learned constant."""
        if self.norm == "bias" or (self.folded and self.constraint is not None):
            return layers.ChannelBias(channels)
        return layers.BatchCentering(channels) if self.constraint else nn.BatchNorm2d(channels)

    def using(self, norm: str) -> Factory:
        """Return this factory with another `norm`.

        Raises:
            ConfigError: `norm` is neither "batch" nor "bias".
        """
        if norm not in {"batch", "bias"}:
            raise ConfigError(explain("`norm` is not known", received=repr(norm), expected="batch or bias"))
        return dataclasses.replace(self, norm=norm)

    def with_unit_gains(self) -> Factory:
        """Return this factory with every layer of norm 1 at the start."""
        return dataclasses.replace(self, unit=True)

    def ordinary(self, cin: int, cout: int, kernel: int = 3, *, bias: bool = True) -> nn.Module:
        """Make a convolution that no constraint binds: for outputs about which nothing is proven."""
        return nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=bias, device=self._device())

    def fork(self, shares: Sequence[float], *, learned: bool = True) -> nn.Module:
        """Make a duplication that gives each branch its share of the energy; copies in the twin."""
        if self.constraint is None:
            return Copies(len(shares))
        return layers.Fork(len(shares), shares=shares, learned=learned and not self.folded)

    def blend(self, shares: Sequence[float], *, learned: bool = True) -> nn.Module:
        """Make the sum that undoes a fork of the same shares; the ordinary sum in the twin."""
        if self.constraint is None:
            return Sum()
        return layers.Blend(len(shares), shares=shares, learned=learned and not self.folded)

    def enlarge(self) -> nn.Module:
        """Make nearest enlargement to twice the size, times 1/2 (an isometry); without the factor in the twin."""
        return nn.Upsample(scale_factor=2) if self.constraint is None else layers.Resample(2)

    def share(self, branches: int) -> float:
        """Return the factor that keeps a concatenation of so many branches 1-Lipschitz; 1 in the twin."""
        return 1.0 if self.constraint is None else 1.0 / math.sqrt(branches)

    def block(self, cin: int, cout: int, kernel: int = 3, **options: Any) -> list[nn.Module]:
        """Make convolution, activation, normalisation."""
        return [self.conv(cin, cout, kernel, **options), self.act(), self.shift(cout)]

    def up_block(self, cin: int, cout: int) -> list[nn.Module]:
        """Make transposed convolution, activation, normalisation."""
        return [self.up(cin, cout), self.act(), self.shift(cout)]
