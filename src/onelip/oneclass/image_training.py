"""Training of the convolutional network of `ImageSignedDistance`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..core.errors import InputError, explain
from ..layers import fold
from .base import Array
from .network import hkr
from .sampler import NewtonSampler, ValueAndGradient

PRIORS = ("uniform", "pixels", "both")
_WARM = 0.1  # share of the steps before the sampler moves negatives
Size = tuple[int, int, int]


def create(size: Size, widths: Sequence[int], hidden: Sequence[int], repeats: int) -> models.LipModel:
    """Make the zoo's convnet with one output, orthogonal layers, biases, and no factor but 1 anywhere.

    Raises:
        InputError: odd widths.
    """
    channels, *rest = size
    stages, dense = [int(n) for n in widths], [int(n) for n in hidden]
    if not stages or any(n < 2 or n % 2 for n in stages + dense):
        raise InputError(
            explain("wrong widths", received=(stages, dense), expected="even numbers: MaxMin sorts pairs")
        )
    return models.create(
        "convnet",
        classes=1,
        in_channels=channels,
        constraint="orthogonal",
        scale="none",
        norm="bias",
        image_size=tuple(rest),
        widths=tuple(stages),
        hidden=tuple(dense),
        repeats=repeats,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def batches(
    Z: Array, random: np.random.RandomState, prior: str, count: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield normal pictures, starts of negatives, (count, d) each, and the shares of their steps, (count,)."""
    rows, d = Z.astype(np.float32), Z.shape[1]
    mixed = {"uniform": 0, "pixels": count, "both": count // 2}[prior]
    while True:
        x = rows[random.randint(len(Z), size=count)]
        shuffled = rows[random.randint(len(Z), size=(mixed, d)), np.arange(d)]
        noise = random.random_sample((count - mixed, d)).astype(np.float32)
        share = random.random_sample(count).astype(np.float32)
        z = np.concatenate((shuffled, noise))
        yield torch.from_numpy(x), torch.from_numpy(z), torch.from_numpy(share)


def train(
    model: models.LipModel,
    size: Size,
    drawn: Iterator[tuple[Tensor, Tensor, Tensor]],
    *,
    sampler: NewtonSampler,
    steps: int,
    lr: float,
    margin: float,
    lam: float,
) -> None:
    """Minimise the HKR loss by Adam, its learning rate falling linearly to 0; negatives follow the folded model."""
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    warm = round(_WARM * steps)
    for step in range(steps):
        adam.param_groups[0]["lr"] = lr * (1 - step / steps)
        x, z, share = next(drawn)
        if step >= warm and sampler.steps:
            frozen = fold(model).eval().requires_grad_(False)
            z = sampler(z, of_rows(differentiable(frozen), size), share)
        good, bad = model(torch.cat((x, z)).reshape(-1, *size))[:, 0].split((len(x), len(z)))
        loss = hkr(good, bad, margin, lam)
        adam.zero_grad()
        loss.backward()
        adam.step()


def differentiable(model: nn.Module) -> ValueAndGradient:
    """Return a function that gives the value of a frozen model and its gradient by the pictures."""

    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = model(x)[:, 0]
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    return f


def of_rows(f: Callable[[Tensor], tuple[Tensor, Tensor]], size: Size) -> ValueAndGradient:
    """Let a function of pictures take flat rows."""

    def g(z: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = f(z.reshape(-1, *size))
        return value, gradient.flatten(1)

    return g
