"""Attacks: perturbations within a norm that make a prediction as bad as they can."""

from __future__ import annotations

from onelip.attacks import goals
from onelip.attacks.base import Goal, PixelGoal
from onelip.attacks.boxes import (
    BoxGoal,
    DetectionErrors,
    FabricateBoxes,
    FabricateCount,
    Mislabel,
    ShiftBoxes,
    VanishBoxes,
)
from onelip.attacks.control import RandomNoise
from onelip.attacks.goals import (
    CriterionGoal,
    Fabricate,
    Misclassify,
    PixelErrors,
    Reclassify,
    Region,
    Vanish,
)
from onelip.attacks.knapsack import Erase, Knapsack, Strongest
from onelip.attacks.minimal import MinNorm
from onelip.attacks.pgd import PGD, SegPGD
from onelip.attacks.result import AttackResult, worst

__all__ = [
    "PGD",
    "AttackResult",
    "BoxGoal",
    "CriterionGoal",
    "DetectionErrors",
    "Erase",
    "Fabricate",
    "FabricateBoxes",
    "FabricateCount",
    "Goal",
    "Knapsack",
    "MinNorm",
    "Misclassify",
    "Mislabel",
    "PixelErrors",
    "PixelGoal",
    "RandomNoise",
    "Reclassify",
    "Region",
    "SegPGD",
    "ShiftBoxes",
    "Strongest",
    "Vanish",
    "VanishBoxes",
    "goals",
    "worst",
]
