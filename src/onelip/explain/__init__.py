"""Explanations: what a decision rests on, with proofs where there can be any, and metrics that can say no."""

from __future__ import annotations

from onelip.explain.attribute_maps import attribute
from onelip.explain.attributions import controls, importance, spearman
from onelip.explain.boxed import box_counterfactual
from onelip.explain.classifier import RegionLogits
from onelip.explain.complexity import Sparsity, sparsity
from onelip.explain.counterfactuals import counterfactual
from onelip.explain.dense_result import BoxCounterfactual, RegionCounterfactual
from onelip.explain.efficiency import lipschitz_efficiency
from onelip.explain.faithfulness import deletion, insertion, mu_fidelity
from onelip.explain.gradients import saliency
from onelip.explain.intervals import Interval, bootstrap
from onelip.explain.methods import AttributionWarning
from onelip.explain.places import Localisation, block_images, localisation, null_share
from onelip.explain.regions import region_counterfactual
from onelip.explain.result import Counterfactual
from onelip.explain.scoring import baseline_images, calibrate
from onelip.explain.smooth import SmoothGradient, smoothgrad
from onelip.explain.steadiness import Steadiness, robustness_sr, stability
from onelip.explain.transport import TransportReport, transport_report

__all__ = [
    "AttributionWarning",
    "BoxCounterfactual",
    "Counterfactual",
    "Interval",
    "Localisation",
    "RegionCounterfactual",
    "RegionLogits",
    "SmoothGradient",
    "Sparsity",
    "Steadiness",
    "TransportReport",
    "attribute",
    "baseline_images",
    "block_images",
    "bootstrap",
    "box_counterfactual",
    "calibrate",
    "controls",
    "counterfactual",
    "deletion",
    "importance",
    "insertion",
    "lipschitz_efficiency",
    "localisation",
    "mu_fidelity",
    "null_share",
    "region_counterfactual",
    "robustness_sr",
    "saliency",
    "smoothgrad",
    "sparsity",
    "spearman",
    "stability",
    "transport_report",
]
