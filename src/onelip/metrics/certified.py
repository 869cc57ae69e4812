"""The certified value of a criterion, averaged over a data set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from onelip.certify.count import CountCriterion
from onelip.certify.criterion import Criterion, Eps
from onelip.certify.curve import CertifiedCurve
from onelip.certify.scores import Classifier
from onelip.core import checks, errors


class _Sealed:
    """Carries a result past torchmetrics, which looks into dataclasses and squeezes one-element tensors."""

    def __init__(self, curve: CertifiedCurve) -> None:
        self.curve = curve


class Certified(Metric):
    r"""Mean certified value over a data set, for several eps at once.

    Macro: :math:`\frac1n \sum_i v_i(\epsilon)`; micro: :math:`\sum_i w_i v_i / \sum_i w_i` with the number
    :math:`w_i` of counted pixels. Every image has its own budget, so both are exact whenever the per-image
    value is. Images with an undefined value are left out and counted. Sums are float64; processes are merged
    by summing.

    Args:
        criterion: what to certify, as `PixelAccuracy()`.
        eps: perturbation sizes in l_p norm, images in [0, 1].
        p: 1, 2 or inf.
        average: "macro" or "micro" (criteria that count pixels only).
        classifier: (weight,) of the last 1x1 layer, for the feature-space costs.
        **options: options of `torchmetrics.Metric`, as `dist_sync_on_step`.

    Guarantee: sound bound of the mean worst case of the logits given to `update`, if each `lipschitz` is one
    for its image.

    Raises:
        InputError: for invalid eps, norm or average, and in `update` for invalid logits, labels or constants.

    Example:
        >>> import torch
        >>> from onelip.certify import PixelAccuracy
        >>> metric = Certified(PixelAccuracy(), eps=[1.0, 2.0])
        >>> logits = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]]])
        >>> metric.update(logits, torch.zeros(1, 1, 4, dtype=torch.int64), lipschitz=1.0)
        >>> metric.compute().values.tolist()
        [0.75, 0.5]
    """

    is_differentiable = False
    full_state_update = False

    certified_sum: Tensor
    clean_sum: Tensor
    weight: Tensor
    images: Tensor
    undefined: Tensor

    def __init__(
        self,
        criterion: Criterion,
        *,
        eps: Eps,
        p: float = 2,
        average: str = "macro",
        classifier: Classifier | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if average not in ("macro", "micro") or (
            average == "micro" and not isinstance(criterion, CountCriterion)
        ):
            raise errors.InputError(
                errors.explain(
                    "metrics.Certified: this average is not available",
                    received=f"average={average!r} for {criterion.name}",
                    expected='"macro", or "micro" for a criterion that counts pixels',
                    why="a micro average of ratios is not the mean of per-image worst cases",
                )
            )
        self.criterion, self.average, self.classifier = criterion, average, classifier
        self.p = checks.norm(p)
        self.eps = checks.eps_values(eps)  # no buffer: it stays float64 whatever happens to the module
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("certified_sum", zero.repeat(self.eps.numel()), dist_reduce_fx="sum")
        self.add_state("clean_sum", zero.clone(), dist_reduce_fx="sum")
        self.add_state("weight", zero.clone(), dist_reduce_fx="sum")
        self.add_state("images", zero.long(), dist_reduce_fx="sum")
        self.add_state("undefined", zero.long(), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor | None = None, lipschitz: Any = None) -> None:
        """Add a batch.

        Args:
            logits: (B, K, H, W) clean logits.
            target: (B, H, W) int64; None for criteria without labels.
            lipschitz: constant of the model that made the logits, one number or one for each image.
        """
        if lipschitz is None:
            raise errors.InputError(
                errors.explain(
                    "metrics.Certified.update: `lipschitz` is missing",
                    expected="the model's constant, onelip.lipschitz(model, size).value",
                    why="without it a margin says nothing about the input",
                )
            )
        worst = self.criterion.worst_case(
            logits, target, eps=self.eps, lipschitz=lipschitz, p=self.p, classifier=self.classifier
        )
        clean = self.criterion.value(logits, target)
        weight = torch.ones_like(clean)
        if self.average == "micro" and isinstance(self.criterion, CountCriterion):
            weight = self.criterion.counted(logits, target).to(clean)
        defined = ~clean.isnan()
        self.certified_sum += (worst * weight)[:, defined].sum(1)
        self.clean_sum += (clean * weight)[defined].sum()
        self.weight += weight[defined].sum()
        self.images += defined.sum()
        self.undefined += (~defined).sum()

    def _wrap_compute(self, compute: Callable[[], CertifiedCurve]) -> Callable[[], CertifiedCurve]:
        @functools.wraps(compute)
        def seal() -> _Sealed:
            return _Sealed(compute())

        wrapped = super()._wrap_compute(seal)

        @functools.wraps(compute)
        def unseal() -> CertifiedCurve:
            curve: CertifiedCurve = wrapped().curve
            return curve

        return unseal

    def compute(self) -> CertifiedCurve:
        """Mean over all images so far."""
        return CertifiedCurve(
            criterion=self.criterion.name,
            eps=self.eps,
            values=(self.certified_sum / self.weight).cpu(),
            clean=float(self.clean_sum / self.weight),
            count=int(self.images),
            undefined=int(self.undefined),
            average=self.average,
            p=self.p,
            higher_is_better=self.criterion.higher_is_better,
            exact=self.criterion.exact,
        )
