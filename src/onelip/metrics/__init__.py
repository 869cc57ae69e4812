"""Metrics that accumulate certified values over a data set, and scores of detections."""

from __future__ import annotations

from onelip.certify.curve import CertifiedCurve
from onelip.metrics.accuracy import CertifiedAccuracy
from onelip.metrics.certified import Certified
from onelip.metrics.detection import ClassScores, DetectionScores, score_detections
from onelip.metrics.matching import match

__all__ = [
    "Certified",
    "CertifiedAccuracy",
    "CertifiedCurve",
    "ClassScores",
    "DetectionScores",
    "match",
    "score_detections",
]
