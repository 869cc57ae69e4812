"""Explanations: what a decision rests on, with proofs where there can be any."""

from __future__ import annotations

from onelip.explain.classifier import RegionLogits
from onelip.explain.counterfactuals import counterfactual
from onelip.explain.gradients import saliency
from onelip.explain.result import Counterfactual

__all__ = ["Counterfactual", "RegionLogits", "counterfactual", "saliency"]
