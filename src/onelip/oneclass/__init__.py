"""One-class anomaly detection with certificates: scikit-learn detectors whose scores are proven to be Lipschitz."""

from __future__ import annotations

from onelip.oneclass.base import CertifiedDetector
from onelip.oneclass.distance import SignedDistance
from onelip.oneclass.ensemble import CertifiedEnsemble
from onelip.oneclass.knn import CertifiedKNN
from onelip.oneclass.network import Network
from onelip.oneclass.ocsvm import CertifiedOCSVM
from onelip.oneclass.priors import Prior
from onelip.oneclass.pyod import as_pyod
from onelip.oneclass.sampler import NewtonSampler
from onelip.oneclass.storage import load

__all__ = [
    "CertifiedDetector",
    "CertifiedEnsemble",
    "CertifiedKNN",
    "CertifiedOCSVM",
    "Network",
    "NewtonSampler",
    "Prior",
    "SignedDistance",
    "as_pyod",
    "load",
]
