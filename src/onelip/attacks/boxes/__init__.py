"""Goals of attacks on detectors: boxes that vanish, appear, change their class, or move."""

from __future__ import annotations

from onelip.attacks.boxes.base import BoxGoal
from onelip.attacks.boxes.errors import DetectionErrors
from onelip.attacks.boxes.fabricate import FabricateBoxes, FabricateCount
from onelip.attacks.boxes.heads import Heads
from onelip.attacks.boxes.mislabel import Mislabel
from onelip.attacks.boxes.vanish import ShiftBoxes, VanishBoxes

__all__ = [
    "BoxGoal",
    "DetectionErrors",
    "FabricateBoxes",
    "FabricateCount",
    "Heads",
    "Mislabel",
    "ShiftBoxes",
    "VanishBoxes",
]
