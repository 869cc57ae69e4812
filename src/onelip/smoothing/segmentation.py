"""SegCertify: a certified label map of a smoothed model, in one call."""

from __future__ import annotations

import dataclasses
import time

from torch import Tensor, nn

from onelip.smoothing.counts import warn_if_hopeless
from onelip.smoothing.result import Smoothed, resolve_tau
from onelip.smoothing.sampling import Progress, sample


def segcertify(
    model: nn.Module,
    image: Tensor,
    *,
    sigma: float = 0.25,
    eps: float | None = None,
    tau: float = 0.75,
    n0: int = 10,
    n: int = 100,
    alpha: float = 1e-3,
    correction: str = "holm",
    k: int = 1,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Smoothed:
    r"""Certify the predictions of a smoothed dense model for one image, by sampling.

    n0 noisy copies choose a class for each pixel, n more test if a share of more than tau of all noisy copies
    agrees; where they do, the class holds within :math:`R = \sigma \Phi^{-1}(\tau)`, elsewhere it abstains.

    Args:
        model: a dense model in eval mode; it runs in its own precision. Fold it first: `onelip.fold(model)`.
        image: (C, H, W) or (1, C, H, W), in [0, 1].
        sigma: standard deviation of the noise, in these units, not clipped.
        eps: radius that is wanted; then tau = Phi(eps / sigma), and `tau` is not looked at.
        tau: share to test, in [0.5, 1).
        n0: samples that choose.
        n: samples that test.
        alpha: accepted probability of error, for the whole image.
        correction: "holm", "bonferroni" or "kfwer" (fewer than k errors).
        k: for "kfwer".
        seed: of the noise.
        batch_size: copies in one forward pass; the answer does not depend on it.
        progress: called with the copies done and in all.

    Returns:
        The label map with its radius, its passes and seconds.

    Guarantee: statistical, about the smoothed model: see `Smoothed`.

    Cost: n0 + n forward passes, memory for one batch and K counts a pixel.

    Raises:
        TrainModeError: the model is in train mode.
        InputError: for unusable images or arguments.

    Warns:
        FeasibilityWarning: n is too small for any pixel, said before the sampling begins.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> result = segcertify(torch.nn.Conv2d(3, 4, 1).eval(), torch.rand(3, 8, 8), sigma=0.1, eps=0.02)
        >>> result.classes.shape, result.radius, result.passes
        (torch.Size([8, 8]), 0.02, 110)

    Source: M. Fischer, M. Baader, M. Vechev, Scalable certified segmentation via randomized smoothing, 2021.
    """
    start = time.perf_counter()
    level = resolve_tau(eps, tau, sigma)
    if isinstance(image, Tensor) and image.numel():
        warn_if_hopeless(image.shape[-1] * image.shape[-2], n, level, alpha, correction, k)
    counts = sample(
        model, image, sigma=sigma, n0=n0, n=n, seed=seed, batch_size=batch_size, progress=progress
    )
    found = counts.test(eps=eps, tau=tau, alpha=alpha, correction=correction, k=k)
    return dataclasses.replace(found, seconds=time.perf_counter() - start)
