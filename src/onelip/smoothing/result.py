"""What noisy samples say: counts that serve every radius, and the certified label map of one radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtr, ndtri
from torch import Tensor

from onelip.core import checks, errors
from onelip.core.numbers import round_down
from onelip.smoothing import measures
from onelip.smoothing.counts import check_alpha, check_tau, histogram, lowest_count, warn_if_hopeless

# The normal distribution function is known to a few units in the last place; tau is rounded up and a radius
# down by more.
_ROUNDING = 2.0**-45


@dataclass(frozen=True, eq=False, repr=False)
class Smoothed:
    r"""Certified label map of a smoothed model.

    Attributes:
        classes: (H, W) int64, -1 where it abstains.
        radius: every class holds within this l2 distance, in [0, 1] units of the whole image.
        winners: (H, W) int64, the class of each pixel that was tested, also where the test failed.
        agreements: (H, W) int64, how many of the n test samples agreed with it.
        image: (C, H, W), the image in the middle of the ball.
        class_count: K, classes of the model.
        tau: share of the noisy predictions that was tested; radius = sigma * ppf(tau).
        sigma: standard deviation of the noise.
        n0: samples that chose the classes.
        n: samples that tested them.
        alpha: accepted probability of error.
        correction: "holm", "bonferroni" or "kfwer".
        k: for "kfwer", how many false certificates are one too many.
        seed: of the noise.
        seconds: wall time of sampling and tests.

    Guarantee: statistical and about the *smoothed* model, the most probable class under Gaussian noise: with
    probability at least 1 - alpha over the samples of this image (fewer than k errors for "kfwer"), each certified
    class is the one that the smoothed model gives at every perturbation with an l2 norm <= radius. Over N images
    the probabilities of error add up to at most N alpha. It says nothing about the model without noise.
    Noise is counted as exactly Gaussian, though it is drawn as floating point numbers.
    """

    classes: Tensor
    radius: float
    winners: Tensor
    agreements: Tensor
    image: Tensor
    class_count: int
    tau: float
    sigma: float
    n0: int
    n: int
    alpha: float
    correction: str
    k: int
    seed: int
    seconds: float

    @property
    def passes(self) -> int:
        """Forward passes: n0 + n."""
        return self.n0 + self.n

    @property
    def certified(self) -> Tensor:
        """(H, W) bool: where it does not abstain."""
        return self.classes != measures.ABSTAIN

    @property
    def radius_map(self) -> Tensor:
        """(H, W) float64: the radius, 0 where it abstains."""
        return self.certified.double() * self.radius

    def accuracy(self, target: Tensor, *, ignore_index: int = 255) -> float:
        """Share of the valid pixels that are certified with the right class; nan without a valid pixel.

        Args:
            target: (H, W) int64.
            ignore_index: label of void pixels.
        """
        measures.check_labels(self.classes, target, ignore_index, count=self.class_count)
        like = target.to(self.classes.device)
        return float(measures.certified_accuracy(self.classes, like, ignore_index=ignore_index))

    def iou(self, target: Tensor, label: int, *, ignore_index: int = 255) -> float:
        """Certified IoU of one class, abstained pixels counted as false positives; nan where it is undefined.

        Args:
            target: (H, W) int64.
            label: the class, 0..K-1.
            ignore_index: label of void pixels.
        """
        measures.check_labels(self.classes, target, ignore_index, count=self.class_count)
        checks.number("label", label, low=0, high=self.class_count - 1)
        like = target.to(self.classes.device)
        return float(measures.certified_iou(self.classes, like, label, ignore_index=ignore_index))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the maps."""
        return {
            "kind": "smoothed segmentation",
            "size": list(self.classes.shape),
            "classes": self.class_count,
            "certified": float(self.certified.double().mean()),
            "radius": self.radius,
            **{name: getattr(self, name) for name in ("tau", "sigma", "n0", "n", "alpha", "correction", "k")},
            "seed": self.seed,
            "passes": self.passes,
            "seconds": self.seconds,
        }

    def __repr__(self) -> str:
        height, width = self.classes.shape
        share = math.floor(float(self.certified.double().mean()) * 1e4) / 100
        errors_text = "no error" if self.correction != "kfwer" else f"fewer than {self.k} errors"
        return (
            f"Smoothed: {height}x{width}, {share:.2f} % of the pixels certified within "
            f"{round_down(self.radius, 4)} (l2)\n"
            f"  sigma {self.sigma:g}, tau {self.tau:.4f}, {self.n0} + {self.n} passes, {self.seconds:.3g} s; "
            f"{errors_text} with probability {1 - self.alpha:g}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Counts:
    """What the samples of one image said: one sampling serves every radius.

    Attributes:
        winners: (H, W) int64, the most frequent of the first n0 predictions, the lowest class of a tie.
        agreements: (H, W) int64, how many of the n others agree with it.
        image: (C, H, W).
        class_count: K.
        sigma: standard deviation of the noise.
        n0: samples that chose the winners.
        n: samples counted in `agreements`.
        seed: of the noise.
        seconds: wall time so far.
    """

    winners: Tensor
    agreements: Tensor
    image: Tensor
    class_count: int
    sigma: float
    n0: int
    n: int
    seed: int
    seconds: float

    def certify(
        self,
        *,
        eps: float | None = None,
        tau: float = 0.75,
        alpha: float = 1e-3,
        correction: str = "holm",
        k: int = 1,
    ) -> Smoothed:
        """Test all pixels for one radius.

        Args:
            eps: radius that is wanted; tau follows from it, and `tau` is not looked at.
            tau: share of the noisy predictions to test, in [0.5, 1).
            alpha: accepted probability of error.
            correction: "holm", "bonferroni" or "kfwer".
            k: for "kfwer".

        Guarantee: that of `Smoothed`, for this call alone. Several radii tested with the same samples have each a
        probability of error of at most alpha, and together of at most their sum.

        Raises:
            InputError: for unusable arguments.

        Warns:
            FeasibilityWarning: n is too small for any pixel.
        """
        level = resolve_tau(eps, tau, self.sigma)
        warn_if_hopeless(self.agreements.numel(), self.n, level, alpha, correction, k)
        return self.test(eps=eps, tau=tau, alpha=alpha, correction=correction, k=k)

    def test(
        self, *, eps: float | None, tau: float, alpha: float, correction: str = "holm", k: int = 1
    ) -> Smoothed:
        """Do as `certify` does, without the warning."""
        level = resolve_tau(eps, tau, self.sigma)
        counts = histogram(self.agreements, self.n)
        lowest = lowest_count(counts, tau=level, alpha=check_alpha(alpha), correction=correction, k=k)
        certified = self.agreements >= lowest
        return Smoothed(
            classes=self.winners.masked_fill(~certified, measures.ABSTAIN),
            radius=float(eps) if eps is not None else radius_of(level, self.sigma),
            winners=self.winners,
            agreements=self.agreements,
            image=self.image,
            class_count=self.class_count,
            tau=level,
            sigma=self.sigma,
            n0=self.n0,
            n=self.n,
            alpha=alpha,
            correction=correction,
            k=k,
            seed=self.seed,
            seconds=self.seconds,
        )


def resolve_tau(eps: float | None, tau: float, sigma: float) -> float:
    r"""Share tau to test: :math:`\Phi(\epsilon / \sigma)`, rounded up, or `tau` itself when eps is None.

    Example:
        >>> round(resolve_tau(0.1, 0.75, 0.2), 6), resolve_tau(None, 0.75, 0.2)
        (0.691462, 0.75)
    """
    check_sigma(sigma)
    if eps is None:
        return check_tau(tau)
    level = needed_share(checks.number("eps", eps, low=0.0), sigma)
    if level >= 1.0:
        raise errors.InputError(
            errors.explain(
                "`eps` is too large for this noise",
                received=f"eps={eps} at sigma={sigma}",
                expected="eps of at most about 7 sigma",
                why="it needs noisy predictions that agree with a probability indistinguishable from 1",
                fix="a larger sigma",
            )
        )
    return level


def needed_share(eps: float, sigma: float) -> float:
    r""":math:`\Phi(\epsilon / \sigma)`, rounded up; 1 or more where no number of samples can show it."""
    return float(ndtr(eps / sigma)) * (1.0 + _ROUNDING)


def radius_of(tau: float, sigma: float) -> float:
    r"""Radius :math:`\sigma \Phi^{-1}(\tau)`, rounded down."""
    return float(sigma * ndtri(check_tau(tau))) * (1.0 - _ROUNDING)


def check_sigma(sigma: Any) -> float:
    """Check the standard deviation of the noise: finite, > 0."""
    value = checks.number("sigma", sigma, low=0.0)
    if value == 0.0:
        raise errors.InputError(errors.explain("`sigma` is zero", expected="a finite number > 0"))
    return value
