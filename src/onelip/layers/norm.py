"""Centring and the normalisation of the input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import guards


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """View `(1, C, 1, 1)` values so that they broadcast against `(B, C, ...)`."""
    return values.reshape(1, -1, *([1] * (x.dim() - 2)))


class ChannelBias(nn.Module):
    """Add a learned constant to each channel: what a centring layer folds into.

    Guarantee: 1-Lipschitz for every p (a translation).

    Example:
        >>> ChannelBias(2)(torch.ones(1, 2, 1, 1)).shape
        torch.Size([1, 2, 1, 1])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        guards.check_channels(channels, channels, 1)
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Translate `(B, C, ...)`."""
        return x + _per_channel(self.bias, x)


class BatchCentering(nn.Module):
    """Subtract the mean of each channel, add a learned bias; no division.

    In train mode the mean is over the batch and all pixels, and a running mean is kept in `running_mean`
    (exponential, weight `momentum`; a plain average over the first `1 / momentum` batches, so that it is not
    biased towards its initial 0). In eval mode the running mean is subtracted. Buffers have a fixed shape.
    Under torch.distributed the running mean is averaged over the processes (`sync=True`).

    Guarantee: in eval mode a translation, 1-Lipschitz for every p. In train mode images are coupled and
    nothing is certified.

    Example:
        >>> layer = BatchCentering(3)
        >>> layer(torch.rand(4, 3, 2, 2)).mean().abs() < 1e-6
        tensor(True)
    """

    running_mean: Tensor
    batches: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, *, sync: bool = True) -> None:
        super().__init__()
        guards.check_channels(channels, channels, 1)
        if not 0.0 < momentum <= 1.0:
            guards.refuse("momentum is not usable", momentum, "a number in (0, 1]")
        self.momentum, self.sync = float(momentum), sync
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("running_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Centre `(B, C, ...)`."""
        if not self.training:
            return x + _per_channel(self.bias - self.running_mean, x)
        mean = x.mean([d for d in range(x.dim()) if d != 1], keepdim=True)
        self._remember(mean.detach().reshape(1, -1, 1, 1))
        return x + (_per_channel(self.bias, x) - mean)  # one pass over the pixels

    @torch.no_grad()
    def _remember(self, mean: Tensor) -> None:
        mean = mean.to(self.running_mean.dtype)
        if self.sync and torch.distributed.is_available() and torch.distributed.is_initialized():
            mean = mean.clone()
            torch.distributed.all_reduce(mean)
            mean = mean / torch.distributed.get_world_size()
        self.batches += 1
        share = (1.0 / self.batches.to(mean.dtype)).clamp_min(self.momentum)
        self.running_mean += share * (mean - self.running_mean)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.bias.shape[1]}, momentum={self.momentum}"


class LayerCentering(nn.Module):
    """Subtract from each channel of each image its mean over the pixels.

    Guarantee: an orthogonal projection, 1-Lipschitz for p = 2; below 2 for p = 1 and infinity.

    Raises:
        InputError: the input has no pixels to average over.

    Example:
        >>> LayerCentering()(torch.tensor([[[[1.0, 3.0]]]]))
        tensor([[[[-1.,  1.]]]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Centre `(B, C, H, W)`."""
        if x.dim() < 3:
            guards.refuse("LayerCentering needs pixels", f"shape {tuple(x.shape)}", "(B, C, H, W)")
        return x - x.mean(list(range(2, x.dim())), keepdim=True)


class InputNormalization(nn.Module):
    """Normalise raw images inside the model: `(x - mean) / std`, per channel.

    Guarantee: Lipschitz constant `1 / min(std)` for every p, and it is part of the bound of the model.

    Raises:
        InputError: a standard deviation is not positive, or the lengths differ.

    Example:
        >>> InputNormalization(0.5, 0.25)(torch.ones(1, 3, 1, 1)).flatten()
        tensor([2., 2., 2.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        means, stds = (torch.as_tensor(v, dtype=torch.float32).reshape(1, -1, 1, 1) for v in (mean, std))
        if not (torch.isfinite(means).all() and torch.isfinite(stds).all() and (stds > 0).all()):
            guards.refuse("mean or std is not usable", f"mean={mean}, std={std}", "finite values, std > 0")
        if means.shape[1] != stds.shape[1] and 1 not in (means.shape[1], stds.shape[1]):
            guards.refuse(
                "mean and std differ in length", f"mean={mean}, std={std}", "equal lengths or scalars"
            )
        self.register_buffer("mean", means)
        self.register_buffer("std", stds)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(B, C, H, W)` images in [0, 1]."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"
