"""Randomized smoothing for dense prediction: the statistical baseline of the certificates."""

from __future__ import annotations

from onelip.smoothing.counts import FeasibilityWarning, certify_counts, smallest_n
from onelip.smoothing.hybrid import Combined, combine
from onelip.smoothing.measures import certified_accuracy, certified_iou
from onelip.smoothing.median import median_detection
from onelip.smoothing.median_result import MedianDetection
from onelip.smoothing.median_scores import MedianScores, median_scores
from onelip.smoothing.result import Counts, Smoothed, needed_share
from onelip.smoothing.sampling import Tally, sample, stream
from onelip.smoothing.segmentation import segcertify

__all__ = [
    "Combined",
    "Counts",
    "FeasibilityWarning",
    "MedianDetection",
    "MedianScores",
    "Smoothed",
    "Tally",
    "certified_accuracy",
    "certified_iou",
    "certify_counts",
    "combine",
    "median_detection",
    "median_scores",
    "needed_share",
    "sample",
    "segcertify",
    "smallest_n",
    "stream",
]
