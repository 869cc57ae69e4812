"""How near a classifier is to the optimum of optimal transport, where its gradients are the transport itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.projection import norms, per_image
from onelip.core import checks
from onelip.core.errors import BoundError, explain
from onelip.core.runtime import generator
from onelip.explain.aims import Aim
from onelip.explain.classifier import Classifier, labels

TIMES = (1.0, 1.2, 1.5, 2.0, 3.0)


@dataclass(frozen=True, eq=False)
class TransportReport:
    r"""What would be 1, 0, 1 and 1 at the optimum; h is the margin to the nearest class, L its proven constant.

    Attributes:
        slope: (B,) :math:`\|\nabla h\| / L`; at most 1.
        residual: (B,) :math:`|h(x_\delta)| / h(x)` at the end of the ray :math:`x_\delta = x - (h / L) \nabla h /
            \|\nabla h\|`.
        straight: (B,) cosine of the gradients at both ends of the ray.
        flips: for each multiple of the ray, the share of images whose prediction changed; 0 up to 1.
        kr: (K,) mean of a logit over its class less that over others, on equally many images of both.
        wasserstein: (K,) exact distance W1 of those images; nan for classes without images, or without others.
        lipschitz: proven constant of each logit.

    Guarantee: `kr <= lipschitz * wasserstein`; `slope <= 1`; no flip below 1.
    """

    slope: Tensor
    residual: Tensor
    straight: Tensor
    flips: dict[float, float]
    kr: Tensor
    wasserstein: Tensor
    lipschitz: float

    @property
    def efficiency(self) -> Tensor:
        """(K,) kr / (lipschitz * wasserstein), at most 1: at the optimum of the transport alone it is 1."""
        return self.kr / (self.lipschitz * self.wasserstein)


def transport_report(
    model: nn.Module, x: Tensor, targets: Any, *, pairs: int = 200, seed: int = 0
) -> TransportReport:
    """Measure how far the theory of optimal transport holds for a trained model.

    Args:
        model: a classifier with a proven bound, (B, C, H, W) to (B, K), in eval mode.
        x: (B, C, H, W) in [0, 1].
        targets: (B,) labels.
        pairs: images of a class, and as many others, that are transported at most.
        seed: of their choice.

    Raises:
        InputError: images or labels that do not fit.
        BoundError: a model without a proven bound.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
        >>> found = transport_report(model, torch.rand(6, 1, 2, 2), torch.tensor([0, 1] * 3))
        >>> bool((found.slope > 0.999).all()), bool((found.residual < 1e-3).all())
        (True, True)

    Source: Serrurier et al., On the explainable properties of 1-Lipschitz neural networks, NeurIPS 2023.
    """
    ready = Classifier(model, "explain.transport_report")
    images = ready.take(x)
    logits = ready.logits(images)
    classes = labels(targets, logits, "`targets`")
    checks.positive_int("pairs", pairs)
    proof, constant = ready.certificate(images), ready.logit_constant(images)
    if proof is None or constant is None:
        raise BoundError(
            explain("explain.transport_report: nothing to compare gradients with", why=ready.refusal)
        )
    aim = Aim(logits.argmax(1), None, proof.constants, proof.error, proof.rounding)
    weights, margin, pair = aim.rival(logits)
    start = ready.gradient(images, lambda _: weights)[1]
    size = norms(start, 2)
    way = start / per_image(size.clamp_min(1e-300), start)
    reach = margin / pair
    end = images - way * per_image(reach, way)
    after, turned = ready.gradient(end, lambda _: weights)
    left = (after * weights).sum(1).abs()
    cosine = torch.nn.functional.cosine_similarity(start.flatten(1), turned.flatten(1), dim=1)
    flips = {
        t: float(aim.reached(ready.logits(images - way * per_image(t * reach, way))).double().mean())
        for t in TIMES
    }
    kr, distance = _transported(images, logits, classes, pairs, seed)
    return TransportReport(
        size / pair, left / margin.clamp_min(1e-300), cosine, flips, kr, distance, constant
    )


def _transported(
    images: Tensor, logits: Tensor, classes: Tensor, pairs: int, seed: int
) -> tuple[Tensor, Tensor]:
    """(K,) differences of mean logits, and W1, between images of a class and equally many others."""
    from scipy.optimize import linear_sum_assignment

    draw = generator(seed)
    order = torch.randperm(len(images), generator=draw).to(images.device)
    kr = torch.full((logits.shape[1],), torch.nan, dtype=torch.float64)
    distance = kr.clone()
    for k in range(logits.shape[1]):
        own, others = order[classes[order] == k], order[classes[order] != k]
        count = min(len(own), len(others), pairs)
        if count == 0:
            continue
        own, others = own[:count], others[:count]
        cost = torch.cdist(images[own].flatten(1), images[others].flatten(1)).cpu().numpy()
        rows, columns = linear_sum_assignment(cost)
        distance[k] = float(cost[rows, columns].mean())
        kr[k] = float(logits[own, k].mean() - logits[others, k].mean())
    return kr, distance


__all__ = ["TIMES", "TransportReport", "transport_report"]
