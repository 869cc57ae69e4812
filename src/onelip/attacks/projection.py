"""Steps and projections in l_p balls that are cut by the unit box."""

from __future__ import annotations

import torch
from torch import Tensor

from onelip.core.runtime import generator

_REFILLS = 6


def norms(x: Tensor, p: float) -> Tensor:
    """(B,) l_p norm of each image of a batch, summed in float64."""
    found: Tensor = torch.linalg.vector_norm(x.flatten(1).double(), ord=p, dim=1)
    return found


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """(B,) values shaped and typed so that they multiply a batch."""
    return values.to(like).reshape(-1, *[1] * (like.dim() - 1))


def direction(gradient: Tensor, p: float, noise: Noise) -> Tensor:
    """Direction of l_p norm one along which a linear function grows fastest; the noise's where the gradient is zero.

    For p = 1 the steepest direction is a single entry; a per cent of them is moved, all alike, so that steps count.
    """
    blind = ~(gradient.flatten(1).abs().amax(1) > 0) | ~gradient.flatten(1).isfinite().all(1)
    g = gradient
    if bool(blind.any()):
        g = torch.where(per_image(blind, g).bool(), noise.like(g, blind), g)
    if p == torch.inf:
        return g.sign()
    flat = g.flatten(1)
    if p == 1:
        keep = max(1, flat.shape[1] // 100)
        floor = flat.abs().topk(keep, dim=1).values[:, -1:]
        g = torch.where(flat.abs() >= floor, flat.sign(), 0.0).reshape(g.shape)
    else:
        g = g / per_image(flat.abs().amax(1), g)  # squares of tiny gradients must not vanish
    return g / per_image(norms(g, p), g)


def project(delta: Tensor, images: Tensor, eps: Tensor, p: float) -> Tensor:
    r"""Bring perturbations back into the ball and the box.

    For p = 2 the nearest point of both is :math:`\mathrm{clip}(x + t \delta) - x` with the t at which the norm is eps;
    t grows towards it from below, so that every iterate is feasible. For infinity clipping twice is exact. For p = 1
    the nearest point of the ball is clipped, which never leaves the ball.

    Args:
        delta: (B, C, H, W) perturbations.
        images: (B, C, H, W) in [0, 1].
        eps: (B,) norms.
        p: 1, 2 or inf.

    Example:
        >>> x = torch.tensor([[[[0.5, 1.0]]]])
        >>> inside = project(torch.tensor([[[[3.0, 4.0]]]]), x, torch.tensor([0.5]), 2.0)
        >>> [round(v, 4) for v in inside.flatten().tolist()]
        [0.5, 0.0]
    """
    if p == torch.inf:
        limit = per_image(eps, delta)
        return _clip(torch.minimum(torch.maximum(delta, -limit), limit), images)
    if p == 1:
        return _clip(_simplex(delta, eps), images)
    size = norms(delta, 2.0)
    t = (eps.double() / size.clamp_min(1e-300)).clamp_max(1.0)
    inside = _clip(delta * per_image(t, delta), images)
    for _ in range(_REFILLS):
        gain = (eps.double() / norms(inside, 2.0).clamp_min(1e-300)).clamp(1.0, 1e3)
        grown = (t * gain).clamp_max(1.0)
        if not bool((grown > t * (1 + 1e-4)).any()):
            break
        t = grown
        inside = _clip(delta * per_image(t, delta), images)
    return inside


def _clip(delta: Tensor, images: Tensor) -> Tensor:
    # On the perturbation itself: the sum with the image would lose the digits of a small one in float32.
    return torch.minimum(torch.maximum(delta, -images), 1.0 - images)


def _simplex(delta: Tensor, eps: Tensor) -> Tensor:
    """Nearest point of the l1 ball: soft thresholding, the threshold from one sort."""
    flat = delta.flatten(1).double()
    limit = eps.double()[:, None]
    ordered = flat.abs().sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - limit
    rank = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=torch.float64)
    count = (ordered * rank > excess).sum(1, keepdim=True).clamp_min(1)
    cut = (excess.gather(1, count - 1) / count).clamp_min(0.0)
    shrunk = flat.sign() * (flat.abs() - cut).clamp_min(0.0)
    outside = flat.abs().sum(1, keepdim=True) > limit
    return torch.where(outside, shrunk, flat).reshape(delta.shape).to(delta.dtype)


def settle(images: Tensor, delta: Tensor, eps: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """Adversarial images in float64, surely in the box and in the closed ball, and the norms measured on them.

    Rounding in the sum of image and perturbation can leave the ball by a few roundoffs: it is shrunk until the norm of
    the difference, as anybody would measure it, is at most eps.
    """
    x, step = images.double(), delta.double()
    for _ in range(60):
        found = (x + step).clamp(0.0, 1.0)
        size = norms(found - x, p)
        over = size > eps.double()
        if not bool(over.any()):
            return found, size
        factor = torch.where(over, eps.double() / size * (1.0 - 1e-12), 1.0)
        step = (found - x) * per_image(factor, step)
    keep = ~over
    found = torch.where(per_image(keep, found).bool(), found, x)
    return found, norms(found - x, p)


class Noise:
    """Normal noise, one stream for each image: what an image gets depends on no other of its batch.

    Args:
        seed: of all streams.
        first: number of the first image.
        count: number of images.
    """

    def __init__(self, seed: int, first: int, count: int) -> None:
        self.draws = [generator(seed + 1_000_003 * (first + i)) for i in range(count)]

    def like(self, images: Tensor, where: Tensor) -> Tensor:
        """Noise for the images chosen by a (B,) mask, zero for the others; drawn on the CPU."""
        noise = torch.zeros_like(images)
        for i in where.nonzero().flatten().tolist():
            noise[i] = torch.randn(images.shape[1:], generator=self.draws[i], dtype=torch.float64).to(images)
        return noise

    def start(self, images: Tensor, eps: Tensor, p: float) -> Tensor:
        """One random perturbation an image, near the surface of its ball."""
        noise = self.like(images, torch.ones_like(eps, dtype=torch.bool))
        noise = noise.clamp(-1, 1) if p == torch.inf else noise / per_image(norms(noise, p), noise)
        return project(noise * per_image(eps, noise), images, eps, p)
