"""Certified accuracy of a classifier over a data set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onelip.certify import CertifiedCurve, ClassificationCertificate, class_radius
from onelip.certify.criterion import Eps
from onelip.certify.labels.radius import pair_logits, predict
from onelip.core import checks, errors
from onelip.metrics.curve_metric import CurveMetric


class CertifiedAccuracy(CurveMetric):
    r"""Share of images that stay right whatever happens in a closed ball, for several eps at once.

    .. math:: \frac1n \#\{ i : y_i \text{ is predicted}, \; r_i > \epsilon \}

    What is kept are counts, so order, batches and processes make no difference to any bit of the result.

    Args:
        eps: perturbation sizes in l_p norm, images in [0, 1].
        p: 1, 2 or inf.
        **options: options of `torchmetrics.Metric`, as `dist_sync_on_step`.

    Guarantee: a lower bound of the accuracy under any attack, if the certificates, or logits and constants, given to
        `update` are sound.

    Raises:
        InputError: for invalid eps or norm, and in `update` for invalid logits, labels or constants, for a certificate
            without targets or of another norm.

    Example:
        >>> metric = CertifiedAccuracy(eps=[0.5, 1.5])
        >>> metric.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), constants=1.0)
        >>> curve = metric.compute()
        >>> curve.clean, curve.values.tolist()
        (0.5, [0.5, 0.0])
    """

    is_differentiable = False
    full_state_update = False

    kept: Tensor
    right: Tensor
    count: Tensor

    def __init__(self, eps: Eps, *, p: float = 2, **options: Any) -> None:
        super().__init__(**options)
        self.p = checks.norm(p)
        self.eps = checks.eps_values(eps)  # no buffer: it stays float64 whatever happens to the module
        zero = torch.zeros((), dtype=torch.int64)
        self.add_state("kept", torch.zeros(self.eps.numel(), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("right", zero, dist_reduce_fx="sum")
        self.add_state("count", zero.clone(), dist_reduce_fx="sum")

    def update(
        self,
        batch: ClassificationCertificate | Tensor,
        targets: Tensor | None = None,
        constants: Any = None,
    ) -> None:
        """Add a batch: a certificate with targets, or logits with all that a radius needs.

        Args:
            batch: of `onelip.certify.classification`, or logits (B, K); one logit f is the pair (0, f).
            targets: (B,) int64, with logits.
            constants: with logits, (K, K) of `onelip.certify.pair_constants` or one joint constant. The rounding of the
                logits is then not covered.
        """
        if isinstance(batch, ClassificationCertificate):
            if targets is not None or constants is not None:
                raise _refused("a certificate with `targets` or `constants`", "the certificate alone")
            if batch.targets is None or batch.p != self.p:
                received = f"targets {batch.targets is not None}, p={batch.p:g}"
                raise _refused(received, f"a certificate with targets, for p={self.p:g}")
            radius, right = batch.radius, batch.predicted == batch.targets
        elif targets is None or constants is None:
            raise _refused(
                f"logits with targets {targets is not None}, constants {constants is not None}",
                "update(logits, targets, constants), or update(certificate)",
            )
        else:
            radius = class_radius(batch, targets, constants=constants, p=self.p)
            logits = pair_logits(batch)
            right = predict(logits) == targets.to(logits.device)
        eps = self.eps.to(radius.device)
        self.kept += (radius[None] > eps[:, None]).sum(1).to(self.kept.device)
        self.right += right.sum().to(self.right.device)
        self.count += len(radius)

    def compute(self) -> CertifiedCurve:
        """Certified and clean accuracy over all images so far; nan without any."""
        count = int(self.count)
        total = float(count) if count else math.nan
        values = self.kept.cpu().double() / total
        clean = float(self.right) / total
        return CertifiedCurve(
            criterion="accuracy",
            eps=self.eps,
            values=values,
            clean=clean,
            count=count,
            undefined=0,
            average="macro",
            p=self.p,
            higher_is_better=True,
            exact=False,
            macro=values,
            clean_macro=clean,
        )


def _refused(received: str, expected: str) -> errors.InputError:
    return errors.InputError(
        errors.explain(
            "metrics.CertifiedAccuracy.update: this is no batch", received=received, expected=expected
        )
    )
