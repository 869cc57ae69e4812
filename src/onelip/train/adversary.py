"""Adversarial training: each step learns from images that were moved to where its loss is larger."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..attacks.projection import per_image, project
from ..models import LipModel


def attacked(
    model: LipModel, images: Tensor, loss: Callable[[Tensor], Tensor], *, eps: float, steps: int = 1
) -> Tensor:
    r"""Return images that projected gradient ascent moved to where the loss of the batch is larger.

    $\delta \leftarrow \Pi(\delta + \alpha g / \|g\|_2)$ for each image, with $\alpha = \epsilon$ for one step and
    $1.5 \epsilon$ shared among several; $\Pi$ keeps $\|\delta\|_2 \le \epsilon$ and $x + \delta$ in [0, 1].

    Args:
        model: what is trained; it is put in evaluation mode meanwhile, so that statistics of batches stay clean.
        images: (B, C, H, W) in [0, 1].
        loss: of the images, a number.
        eps: largest l2 norm of the perturbation of an image, > 0.
        steps: gradient steps, >= 1.

    Returns:
        (B, C, H, W), in [0, 1], at most eps away; an image whose gradient is zero or not finite stays.

    Guarantee:
        None: a heuristic that makes training see perturbations. What it leaves is for `onelip.certify` to prove.

    Example:
        >>> import onelip
        >>> model = onelip.models.create("mlp", classes=2, size="XS", image_size=(4, 4))
        >>> x = torch.full((1, 3, 4, 4), 0.5)
        >>> moved = attacked(model, x, lambda images: images.sum(), eps=0.1)
        >>> round(float((moved - x).norm()), 4)
        0.1

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """
    training = model.training
    model.eval()
    delta = torch.zeros_like(images)
    budget = torch.full((len(images),), eps, dtype=torch.float64, device=images.device)
    step = eps if steps == 1 else 1.5 * eps / steps
    for _ in range(steps):
        point = (images + delta).requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(point), point)
        size = slope.flatten(1).double().norm(dim=1)
        usable = (size > 0) & size.isfinite()
        gain = torch.where(usable, step / size.clamp_min(1e-300), 0.0)
        delta = project(delta + per_image(gain, slope) * slope.nan_to_num(0.0, 0.0, 0.0), images, budget, 2.0)
    model.train(training)
    return (images + delta).detach()
