"""Metrics that accumulate certified values over a data set and over processes."""

from __future__ import annotations

from onelip.certify.curve import CertifiedCurve
from onelip.metrics.certified import Certified

__all__ = ["Certified", "CertifiedCurve"]
