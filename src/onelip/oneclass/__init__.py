"""One-class anomaly detection with proven scores: certified metrics, thresholds that hold under attack."""

from __future__ import annotations

from onelip.oneclass.calibration import benjamini_hochberg, calibrate
from onelip.oneclass.curves import ScoreCurve
from onelip.oneclass.metrics import certified_aupr, certified_auroc, certified_f1, certified_tpr
from onelip.oneclass.scores import CertifiedScores
from onelip.oneclass.threshold import (
    Threshold,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    robust_pvalues,
    smallest_calibration,
)

__all__ = [
    "CertifiedScores",
    "ScoreCurve",
    "Threshold",
    "benjamini_hochberg",
    "calibrate",
    "certified_aupr",
    "certified_auroc",
    "certified_f1",
    "certified_tpr",
    "conformal_rank",
    "conformal_threshold",
    "false_alarm_bound",
    "robust_pvalues",
    "smallest_calibration",
]
