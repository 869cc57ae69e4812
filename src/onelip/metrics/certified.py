"""The certified value of a criterion, averaged over a data set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onelip.certify.count import CountCriterion
from onelip.certify.criterion import Criterion, Eps
from onelip.certify.curve import CertifiedCurve
from onelip.certify.frontier import each, micro
from onelip.certify.iou import OverlapCriterion
from onelip.certify.scores import Classifier
from onelip.core import checks, errors
from onelip.metrics.curve_metric import CurveMetric


class Certified(CurveMetric):
    r"""Certified value of a data set, for several eps at once, as macro and micro average side by side.

    Macro: :math:`\frac1n \sum_i v_i(\epsilon)` over the images with a value; the others are counted. Micro:
    for criteria that count pixels :math:`\sum_i w_i v_i / \sum_i w_i` with the number :math:`w_i` of counted
    pixels, for IoU and Dice the least ratio of sums that attacks on all images can reach together
    (`onelip.certify.frontier`). Every image has its own budget, so both are exact whenever the per-image value
    is. What is kept of each image is a few numbers, and sums are exact: order, batches and processes make no
    difference to any bit of the result.

    Args:
        criterion: what to certify, as `PixelAccuracy()`.
        eps: perturbation sizes in l_p norm, images in [0, 1].
        p: 1, 2 or inf.
        average: which average is called `values`: "macro", or "micro" (of criteria that count pixels, IoU
            and Dice).
        classifier: (weight,) of the last 1x1 layer, for the feature-space costs.
        **options: options of `torchmetrics.Metric`, as `dist_sync_on_step`.

    Guarantee: sound bound of the worst case of the logits given to `update`, if each `lipschitz` is one for its
    image.

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

    certified: list[Tensor]
    clean: list[Tensor]
    tallies: list[Tensor]
    rows: list[Tensor]
    bounded: Tensor

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
        has_micro = isinstance(criterion, CountCriterion | OverlapCriterion)
        if average not in ("macro", "micro") or (average == "micro" and not has_micro):
            raise errors.InputError(
                errors.explain(
                    "metrics.Certified: this average is not available",
                    received=f"average={average!r} for {criterion.name}",
                    expected='"macro", or "micro" for a criterion that counts pixels, IoU or Dice',
                    why="a mean of ratios over classes has no one ratio of all pixels",
                )
            )
        self.criterion, self.average, self.classifier = criterion, average, classifier
        self.has_micro = has_micro
        self.p = checks.norm(p)
        self.eps = checks.eps_values(eps)  # no buffer: it stays float64 whatever happens to the module
        self._empty = {
            "certified": torch.zeros(0, self.eps.numel(), dtype=torch.float64),
            "clean": torch.zeros(0, dtype=torch.float64),
            "tallies": torch.zeros(0, 2, dtype=torch.int64),
            "rows": torch.zeros(0, 4, dtype=torch.int64),
        }
        for name in self._empty:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state("bounded", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

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
        certified, clean, tallies, rows = self._measure(logits, target, lipschitz)
        self.certified.append(certified)
        self.clean.append(clean)
        self.tallies.append(tallies)
        self.rows.append(rows)
        exact = self.criterion.exact_for(logits.shape[1], self.classifier)
        self.bounded += 0 if exact else len(clean)

    def _measure(self, logits: Tensor, target: Tensor | None, lipschitz: Any) -> tuple[Tensor, ...]:
        """Certified values (B, E), clean values (B,), hits and pixels (B, 2) and frontiers of a batch."""
        criterion = self.criterion
        options: dict[str, Any] = {
            "eps": self.eps,
            "lipschitz": lipschitz,
            "p": self.p,
            "classifier": self.classifier,
        }
        rows = self._empty["rows"].to(logits.device)
        if isinstance(criterion, OverlapCriterion):
            overlap = criterion.overlap(logits, target)
            rows = criterion.frontier(logits, target, **options)
            return each(rows, self.eps.numel(), criterion.ratio).T, criterion.ratio(*overlap.T), overlap, rows
        clean, worst = criterion.evaluate(logits, target, **options)
        pixels = torch.zeros_like(clean, dtype=torch.int64)
        if isinstance(criterion, CountCriterion):
            pixels = criterion.counted(logits, target)
        return worst.T, clean, torch.stack([_hits(clean, pixels), pixels], 1), rows

    def sync(self, *args: Any, **options: Any) -> None:
        """Gather the states of all processes; one that has seen no image takes part with none."""
        for name, empty in self._empty.items():
            if isinstance(getattr(self, name), list) and not getattr(self, name):
                setattr(self, name, [empty.to(self.device)])
        super().sync(*args, **options)

    def _joined(self, name: str) -> Tensor:
        state = getattr(self, name)
        if isinstance(state, Tensor):  # gathered
            return state.cpu()
        return torch.cat([self._empty[name], *(part.cpu() for part in state)])

    def compute(self) -> CertifiedCurve:
        """Averages over all images so far."""
        clean = self._joined("clean")
        defined = ~clean.isnan()
        macro = _means(self._joined("certified")[defined])
        clean_macro = float(_means(clean[defined].unsqueeze(1)))
        both = self._micro() if self.has_micro else None
        values, value = both if both and self.average == "micro" else (macro, clean_macro)
        return CertifiedCurve(
            criterion=self.criterion.name,
            eps=self.eps,
            values=values,
            clean=value,
            count=int(defined.sum()),
            undefined=int((~defined).sum()),
            average=self.average,
            p=self.p,
            higher_is_better=self.criterion.higher_is_better,
            exact=not int(self.bounded) if len(clean) else self.criterion.exact,
            macro=macro,
            micro=both and both[0],
            clean_macro=clean_macro,
            clean_micro=both and both[1],
        )

    def _micro(self) -> tuple[Tensor, float]:
        """Certified (E,) and clean ratios of the sums over all images."""
        tallies = self._joined("tallies")
        hits, pixels = tallies.sum(0)
        if isinstance(self.criterion, OverlapCriterion):
            worst = micro(self._joined("rows"), self.eps.numel(), self.criterion.ratio)
            worst = worst if int(pixels) else torch.full_like(worst, math.nan)
            return worst, float(self.criterion.ratio(hits, pixels))
        kept = _hits(self._joined("certified"), tallies[:, 1:]).sum(0)
        return kept.double() / pixels.double(), float(hits.double() / pixels.double())


def _hits(values: Tensor, pixels: Tensor) -> Tensor:
    """Pixels behind each share, exactly; none where the share is undefined."""
    return (values.nan_to_num(0.0) * pixels.double()).round().long()


def _means(values: Tensor) -> Tensor:
    """Mean of each column of (n, E), from exact sums; nan for n = 0."""
    sums = torch.tensor([math.fsum(column) for column in values.T.tolist()], dtype=torch.float64)
    return sums / len(values) if len(values) else torch.full_like(sums, math.nan)
