"""Models with proven Lipschitz bounds, their unconstrained twins, and their files."""

from __future__ import annotations

from .base import LipModel
from .create import architecture, architectures, build, create
from .deeplab import DeepLabV3

__all__ = ["DeepLabV3", "LipModel", "architecture", "architectures", "build", "create"]
