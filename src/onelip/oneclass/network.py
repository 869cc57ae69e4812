"""The 1-Lipschitz network of `SignedDistance`: drawing, training, scoring in float64, proof of its constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import lipschitz
from ..bounds.matrix import matrix_norm
from ..layers import MaxMin
from ..layers.stiefel import polar
from .base import Array, U


@dataclass(frozen=True)
class Network:
    """Dense layers with MaxMin between them, one output; float64 numpy arrays.

    Formula: `h_0 = z`, `h_i = MaxMin(W_i h_{i-1} + b_i)`, `f = w h_k + b`.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __call__(self, Z: Array) -> Array:
        """Return f of each row, (n,)."""
        h = Z
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            first, second = np.split(h @ weight.T + bias, 2, axis=1)
            h = np.concatenate((np.maximum(first, second), np.minimum(first, second)), axis=1)
        score: Array = (h @ self.weights[-1].T + self.biases[-1])[:, 0]
        return score

    def gradient(self, Z: Array) -> Array:
        """Return the gradient of f at each row, (n, d); where two channels tie, that of one side."""
        h, kept = Z, []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            first, second = np.split(h @ weight.T + bias, 2, axis=1)
            kept.append(first >= second)
            h = np.concatenate((np.maximum(first, second), np.minimum(first, second)), axis=1)
        g = np.broadcast_to(self.weights[-1], (len(Z), self.weights[-1].shape[1]))
        for weight, mask in zip(self.weights[-2::-1], kept[::-1], strict=True):
            larger, smaller = np.split(g, 2, axis=1)
            g = np.concatenate((np.where(mask, larger, smaller), np.where(mask, smaller, larger)), axis=1)
            g = g @ weight
        return np.array(g)

    def module(self) -> nn.Sequential:
        """Return the same function as a float64 torch module in eval mode."""
        parts: list[nn.Module] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            # an initialisation would draw from the global generator
            layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))
            parts += [layer, MaxMin()]
        return nn.Sequential(*parts[:-1]).eval().requires_grad_(False)

    def prove(self) -> float:
        """Return a proven Lipschitz constant for p = 2: that of `onelip.lipschitz` for these very weights."""
        return lipschitz(self.module(), (self.weights[0].shape[1],), p=2).value

    def error(self) -> tuple[float, float]:
        """Return (a, b): the computed score of a row of norm at most r is off by at most a + b r.

        The usual bound of a matrix product, `(n + 3) u (|W| |h| + |bias|)` for each layer in any order of summation,
        is carried through the next layers by their norms; the standardisation of the row adds `3 u r`.
        """
        size, off = np.array([0.0, 1.0]), np.array([0.0, 3 * U])
        for weight, bias in zip(self.weights, self.biases, strict=True):
            norm = matrix_norm(torch.from_numpy(weight))
            shift = np.array([float(np.linalg.norm(bias)), 0.0])
            rounding = (weight.shape[1] + 3) * U * (float(np.linalg.norm(weight)) * size + shift)
            off = norm * off + rounding * (1 + 1e-6)
            size = (norm * size + shift) * (1 + 1e-6)
        return float(off[0]) * (1 + 1e-9), float(off[1]) * (1 + 1e-9)


class Trainer:
    """A network in training: free matrices, whose polar factors are the weights.

    One object serves one training; it knows nothing of data or priors.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        self.free = [weight.clone().requires_grad_() for weight in weights]
        self.biases = [bias.clone().requires_grad_() for bias in biases]
        self.frozen: list[Tensor] = []
        self._effective: list[Tensor] = []
        self.activation = MaxMin().train()

    @classmethod
    def draw(cls, features: int, width: int, depth: int, random: np.random.RandomState) -> Trainer:
        """Start from random orthonormal weights and biases of zero."""
        sizes = [features, *[width] * depth, 1]
        weights, biases = [], []
        for ins, outs in pairwise(sizes):
            tall, _ = np.linalg.qr(random.standard_normal((max(ins, outs), min(ins, outs))))
            weights.append(torch.from_numpy(np.ascontiguousarray(tall if outs >= ins else tall.T)))
            biases.append(torch.zeros(outs, dtype=torch.float64))
        return cls(weights, biases)

    @classmethod
    def resume(cls, network: Network) -> Trainer:
        """Go on from a trained network."""
        return cls(
            [torch.from_numpy(w.copy()) for w in network.weights],
            [torch.from_numpy(b.copy()) for b in network.biases],
        )

    def refresh(self) -> None:
        """Orthonormalise once: for the sampler without, and for the loss with gradients."""
        self._effective = [*(polar(weight) for weight in self.free[:-1]), F.normalize(self.free[-1], dim=1)]
        self.frozen = [weight.detach() for weight in self._effective]

    def forward(self, z: Tensor) -> Tensor:
        """Return f, (n,), to be differentiated by the parameters."""
        h = z
        for weight, bias in zip(self._effective[:-1], self.biases[:-1], strict=True):
            h = self.activation(F.linear(h, weight, bias))
        return F.linear(h, self._effective[-1], self.biases[-1])[:, 0]

    @torch.no_grad()
    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f (n,) and its gradient by the rows (n, d), with the weights of the last `refresh`."""
        h, kept = z, []
        for weight, bias in zip(self.frozen[:-1], self.biases[:-1], strict=True):
            first, second = F.linear(h, weight, bias).chunk(2, dim=1)
            kept.append(first >= second)
            h = torch.cat((torch.maximum(first, second), torch.minimum(first, second)), dim=1)
        value = F.linear(h, self.frozen[-1], self.biases[-1])[:, 0]
        g = self.frozen[-1].expand(len(z), -1)
        for weight, mask in zip(self.frozen[-2::-1], kept[::-1], strict=True):
            larger, smaller = g.chunk(2, dim=1)
            g = torch.cat((torch.where(mask, larger, smaller), torch.where(mask, smaller, larger)), dim=1)
            g = g @ weight
        return value, g

    def fit(
        self,
        normal: Callable[[], Tensor],
        negative: Callable[[int, Trainer], Tensor],
        *,
        steps: int,
        lr: float,
        margin: float,
        lam: float,
    ) -> None:
        """Minimise the HKR loss by Adam with a learning rate that falls linearly to 0.

        Formula: `mean max(0, m - f(x)) + mean max(0, m + f(z)) - (mean f(x) - mean f(z)) / lam`.

        Args:
            normal: draws a batch of normal rows.
            negative: draws a batch of negatives, given the step and this trainer.
            steps: optimiser steps.
            lr: first learning rate.
            margin: m.
            lam: weight of the hinges.
        """
        adam = torch.optim.Adam([*self.free, *self.biases], lr=lr)
        for step in range(steps):
            adam.param_groups[0]["lr"] = lr * (1 - step / steps)
            self.refresh()
            x, z = normal(), negative(step, self)
            good, bad = self.forward(torch.cat((x, z))).split((len(x), len(z)))
            loss = hkr(good, bad, margin, lam)
            adam.zero_grad()
            loss.backward()
            adam.step()

    @torch.no_grad()
    def finish(self) -> Network:
        """Return the network that was learned."""
        self.refresh()
        return Network(
            tuple(weight.numpy().copy() for weight in self.frozen),
            tuple(bias.detach().numpy().copy() for bias in self.biases),
        )


def hkr(good: Tensor, bad: Tensor, margin: float, lam: float) -> Tensor:
    """Return the HKR loss of scores of normal rows and of negatives; the class means are added.

    Source: Serrurier et al., CVPR 2021; for one class Bethune et al., ICML 2023.
    """
    return F.relu(margin - good).mean() + F.relu(margin + bad).mean() - (good.mean() - bad.mean()) / lam


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch in one thread: faster for such small matrices, and the same bits whatever the machine's load."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
