"""Attacks: perturbations within a norm that make a prediction as bad as they can."""

from __future__ import annotations

from onelip.attacks import goals
from onelip.attacks.base import Goal, PixelGoal
from onelip.attacks.goals import CriterionGoal, Fabricate, Misclassify, PixelErrors, Region, Vanish
from onelip.attacks.knapsack import Erase, Knapsack, Strongest
from onelip.attacks.minimal import MinNorm
from onelip.attacks.pgd import PGD, SegPGD
from onelip.attacks.result import AttackResult, worst

__all__ = [
    "PGD",
    "AttackResult",
    "CriterionGoal",
    "Erase",
    "Fabricate",
    "Goal",
    "Knapsack",
    "MinNorm",
    "Misclassify",
    "PixelErrors",
    "PixelGoal",
    "Region",
    "SegPGD",
    "Strongest",
    "Vanish",
    "goals",
    "worst",
]
