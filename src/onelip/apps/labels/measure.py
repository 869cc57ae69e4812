"""What `onelip certify` keeps of one image of a classifier: its classes and radii."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.apps.runs import clock
from onelip.certify.curve import plain
from onelip.certify.labels.radius import pair_matrix, pair_radii

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onelip.apps.labels.opened import OpenedLabels
    from onelip.certify import ClassificationCertificate

Record = dict[str, Any]
_UP = 1 + 1e-12


def measure(opened: OpenedLabels, indices: Sequence[int]) -> list[Record]:
    """Certify some images of one size and keep what is needed of them.

    `seconds` are those of the forward pass and the radii, shared by the images; proving the bound of a new image size
    is not in them.
    """
    certifier = opened.certifier
    images, labels = opened.batch(indices)
    size = (images.shape[-2], images.shape[-1])
    certifier.bound(size, in_channels=images.shape[1])  # once for each size, not timed
    start = clock(certifier.device)
    certificate = certifier(images, labels)
    passed = clock(certifier.device)
    columns = {
        "label": labels.tolist(),
        "predicted": certificate.predicted.tolist(),
        "runner_up": certificate.runner_up.tolist(),
        "radius": plain(certificate.radius),
        "joint_radius": plain(joint_radius(certificate, opened.model.classes)),
        "stable_radius": plain(certificate.stable_radius),
    }
    seconds = (clock(certifier.device) - start) / len(indices)
    shared = {
        "size": list(images.shape[1:]),
        "lipschitz": certificate.lipschitz,
        "seconds": seconds,
        "seconds_forward": (passed - start) / len(indices),
    }
    return [
        {"index": index, "id": opened.dataset.ids[index], **dict(zip(columns, row, strict=True)), **shared}
        for index, *row in zip(indices, *columns.values(), strict=True)
    ]


def joint_radius(certificate: ClassificationCertificate, outputs: int) -> Tensor:
    r"""(B,) radii with one constant for all pairs of classes: what they would be without those of the pairs.

    The larger of :math:`m / (2^{1/q} L)`, with the margin m, the constant L of all logits together and 1/p + 1/q = 1,
    and for p = 2 of :math:`m / (2 \lambda)`, with the largest constant of a single logit where it is known.

    Args:
        certificate: of one image or more.
        outputs: logits of the model; one logit f is the pair (0, f).

    Guarantee: sound as `certificate.radius`, and never above it but for rounding; 0 where the prediction is wrong.
    """
    logits, bound = certificate.logits, certificate.bound
    constants = pair_matrix(certificate.lipschitz, logits, outputs, certificate.p)
    if bound is not None and bound.features is not None and certificate.p == 2 and outputs > 1:
        alone = 2.0 * bound.features.value * bound.widest * _UP
        constants = constants.clamp_max(max(alone, 1e-30))
    found = pair_radii(
        logits, certificate.predicted, constants, error=certificate.error, rounding=certificate.rounding
    ).amin(1)
    if certificate.targets is None:
        return found
    return torch.where(certificate.predicted == certificate.targets, found, torch.zeros_like(found))
