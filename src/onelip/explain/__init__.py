"""Explanations: what a decision rests on, with proofs where there can be any, and metrics that can say no."""

from __future__ import annotations

from onelip.explain.attributions import controls, importance, spearman
from onelip.explain.classifier import RegionLogits
from onelip.explain.complexity import Sparsity, sparsity
from onelip.explain.counterfactuals import counterfactual
from onelip.explain.faithfulness import deletion, insertion, mu_fidelity
from onelip.explain.gradients import saliency
from onelip.explain.intervals import Interval, bootstrap
from onelip.explain.places import Localisation, block_images, localisation, null_share
from onelip.explain.result import Counterfactual
from onelip.explain.scoring import baseline_images, calibrate
from onelip.explain.smooth import SmoothGradient, smoothgrad
from onelip.explain.steadiness import Steadiness, robustness_sr, stability
from onelip.explain.transport import TransportReport, transport_report

__all__ = [
    "Counterfactual",
    "Interval",
    "Localisation",
    "RegionLogits",
    "SmoothGradient",
    "Sparsity",
    "Steadiness",
    "TransportReport",
    "baseline_images",
    "block_images",
    "bootstrap",
    "calibrate",
    "controls",
    "counterfactual",
    "deletion",
    "importance",
    "insertion",
    "localisation",
    "mu_fidelity",
    "null_share",
    "robustness_sr",
    "saliency",
    "smoothgrad",
    "sparsity",
    "spearman",
    "stability",
    "transport_report",
]
