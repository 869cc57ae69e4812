"""Models with proven Lipschitz bounds, their unconstrained twins, and their files."""

from __future__ import annotations

from .base import LipModel
from .deeplab import DeepLabV3
from .fcn import FCN
from .mlp import MLP
from .unet import UNet
from .zoo import architecture, architectures, build, create

__all__ = [
    "FCN",
    "MLP",
    "DeepLabV3",
    "LipModel",
    "UNet",
    "architecture",
    "architectures",
    "build",
    "create",
]
