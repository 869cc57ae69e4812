"""The base of metrics whose result is a curve."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torchmetrics import Metric

from onelip.certify.curve import CertifiedCurve


class _Sealed:
    """Carries a result past torchmetrics, which looks into dataclasses and squeezes one-element tensors."""

    def __init__(self, curve: CertifiedCurve) -> None:
        self.curve = curve


class CurveMetric(Metric):
    """A metric that computes a `CertifiedCurve`, and hands out that very object."""

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
