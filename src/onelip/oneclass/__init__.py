"""One-class anomaly detection: Lipschitz scores, certified metrics, and thresholds that hold under attack."""

from __future__ import annotations

from onelip.oneclass.base import CertifiedDetector
from onelip.oneclass.calibration import benjamini_hochberg, calibrate
from onelip.oneclass.curves import ScoreCurve
from onelip.oneclass.distance import SignedDistance
from onelip.oneclass.ensemble import CertifiedEnsemble
from onelip.oneclass.images import ImageSignedDistance
from onelip.oneclass.knn import CertifiedKNN
from onelip.oneclass.metrics import certified_aupr, certified_auroc, certified_f1, certified_tpr
from onelip.oneclass.network import Network
from onelip.oneclass.ocsvm import CertifiedOCSVM
from onelip.oneclass.priors import Prior
from onelip.oneclass.pyod import as_pyod
from onelip.oneclass.sampler import NewtonSampler
from onelip.oneclass.scores import CertifiedScores
from onelip.oneclass.storage import load
from onelip.oneclass.threshold import (
    Threshold,
    conformal_rank,
    conformal_threshold,
    false_alarm_bound,
    robust_pvalues,
    smallest_calibration,
)

__all__ = [
    "CertifiedDetector",
    "CertifiedEnsemble",
    "CertifiedKNN",
    "CertifiedOCSVM",
    "CertifiedScores",
    "ImageSignedDistance",
    "Network",
    "NewtonSampler",
    "Prior",
    "ScoreCurve",
    "SignedDistance",
    "Threshold",
    "as_pyod",
    "benjamini_hochberg",
    "calibrate",
    "certified_aupr",
    "certified_auroc",
    "certified_f1",
    "certified_tpr",
    "conformal_rank",
    "conformal_threshold",
    "false_alarm_bound",
    "load",
    "robust_pvalues",
    "smallest_calibration",
]
