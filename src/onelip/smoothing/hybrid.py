"""The pixel-wise better of a Lipschitz certificate and a smoothed one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from onelip.core import checks, errors
from onelip.smoothing import measures
from onelip.smoothing.result import Smoothed


@dataclass(frozen=True, eq=False, repr=False)
class Combined:
    """For each pixel the certificate with the larger radius, and which one it is.

    Attributes:
        classes: (H, W) int64, -1 where neither certifies anything.
        radius: (H, W) float64, l2 norm of the perturbation of the whole image.
        source: (H, W) int64: `Combined.LIPSCHITZ`, `Combined.SMOOTHING` or `Combined.NONE`.
        alpha: probability of error of the smoothed part; the Lipschitz part has none.

    Guarantee: for the source chosen *at this image and then kept*: where `source` is LIPSCHITZ, the network itself
    keeps `classes` under every perturbation smaller than `radius`, for certain; where it is SMOOTHING, the smoothed
    network keeps it under every perturbation up to `radius`, for all these pixels together with probability at
    least 1 - alpha. It does not speak of a predictor that chooses the source again on the perturbed image: that one
    may change its mind, and its answer with it. The two sources are two functions and may disagree on the class.
    """

    LIPSCHITZ: ClassVar[int] = 0
    SMOOTHING: ClassVar[int] = 1
    NONE: ClassVar[int] = -1

    classes: Tensor
    radius: Tensor
    source: Tensor
    alpha: float

    def held(self, eps: float) -> Tensor:
        """(H, W) bool: pixels whose class holds under every perturbation with a norm <= eps."""
        value = checks.number("eps", eps, low=0.0)
        strict = (self.source == self.LIPSCHITZ) & (self.radius > value)
        closed = (self.source == self.SMOOTHING) & (self.radius >= value)
        return strict | closed

    def accuracy(self, target: Tensor, eps: float, *, ignore_index: int = 255) -> float:
        """Share of the valid pixels whose class is right and holds within eps; nan without a valid pixel.

        Args:
            target: (H, W) int64.
            eps: l2 norm.
            ignore_index: label of void pixels.
        """
        classes = self.classes.masked_fill(~self.held(eps), measures.ABSTAIN)
        measures.check_labels(classes, target, ignore_index)
        like = target.to(classes.device)
        return float(measures.certified_accuracy(classes, like, ignore_index=ignore_index))

    def __repr__(self) -> str:
        names = {"Lipschitz": self.LIPSCHITZ, "smoothing": self.SMOOTHING, "neither": self.NONE}
        shares = {name: 100 * float((self.source == code).double().mean()) for name, code in names.items()}
        text = ", ".join(f"{share:.1f} % by {name}" for name, share in shares.items())
        return f"Combined: {self.classes.shape[0]}x{self.classes.shape[1]}, {text}"


def combine(certificate: Any, smoothed: Smoothed) -> Combined:
    """Take for each pixel the larger of the Lipschitz radius and the smoothed one.

    Labels play no part: the radii of a certificate made with a target are computed again without it, since a choice
    that looks at the truth could not be made by any predictor.

    Args:
        certificate: of one image, as `onelip.certify.segmentation(model, image)` makes it (p = 2).
        smoothed: of the same image, as `segcertify` makes it; of the same model or of another one.

    Returns:
        Classes, radii and sources.

    Guarantee: that of `Combined`.

    Raises:
        InputError: for certificates of several images, of another norm, or of another image.

    Example:
        >>> import onelip
        >>> _ = torch.manual_seed(0)
        >>> model, image = torch.nn.Conv2d(3, 4, 1).eval(), torch.rand(1, 3, 8, 8)
        >>> smoothed = onelip.smoothing.segcertify(model, image, sigma=0.1, eps=0.02)
        >>> both = combine(onelip.certify.segmentation(model, image), smoothed)
        >>> bool((both.radius >= smoothed.radius_map).all())
        True
    """
    _check_pair(certificate, smoothed)
    if getattr(certificate, "target", None) is not None:
        certificate = dataclasses.replace(certificate, target=None)
    device = smoothed.classes.device
    proven = certificate.radius_map[0].to(device, torch.float64).nan_to_num(0.0)
    sampled = smoothed.radius_map
    use_proven = (proven >= sampled) & (proven > 0)
    use_sampled = ~use_proven & smoothed.certified
    source = torch.full_like(smoothed.classes, Combined.NONE)
    source[use_proven], source[use_sampled] = Combined.LIPSCHITZ, Combined.SMOOTHING
    prediction = certificate.prediction[0].to(device)
    return Combined(
        classes=torch.where(use_proven, prediction, smoothed.classes),
        radius=torch.maximum(proven, sampled),
        source=source,
        alpha=smoothed.alpha,
    )


def _check_pair(certificate: Any, smoothed: Smoothed) -> None:
    expected = (1, *smoothed.classes.shape)
    if tuple(certificate.prediction.shape) != expected:
        raise errors.InputError(
            errors.explain(
                "combine: the certificates do not fit each other",
                received=f"predictions {tuple(certificate.prediction.shape)}",
                expected=f"{expected}, one image of the size of the smoothed one",
            )
        )
    if getattr(certificate, "p", 2.0) != 2.0:
        raise errors.InputError(
            errors.explain(
                "combine: the certificates speak of different norms",
                received=f"p={certificate.p:g}",
                expected="p=2",
                why="Gaussian noise certifies l2 balls",
            )
        )
    images = getattr(certificate, "images", None)
    if images is not None and not torch.equal(images[0].double().cpu(), smoothed.image.double().cpu()):
        raise errors.InputError(
            errors.explain(
                "combine: the certificates are of different images",
                expected="the same pixel values",
                fix="certify and sample the same tensor",
            )
        )
