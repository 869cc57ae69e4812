"""Models with proven Lipschitz bounds, their unconstrained twins, and their files."""

from __future__ import annotations

from .base import LipModel
from .convnet import ConvNet
from .deeplab import DeepLabV3
from .detection import Detector, Raw
from .fcn import FCN
from .fcos import FCOS
from .importer import import_reference
from .mlp import MLP
from .onnx import export_onnx
from .resnet import ResNet18
from .shipped import pretrained
from .storage import load
from .unet import UNet
from .zoo import architecture, architectures, create

__all__ = [
    "FCN",
    "FCOS",
    "MLP",
    "ConvNet",
    "DeepLabV3",
    "Detector",
    "LipModel",
    "Raw",
    "ResNet18",
    "UNet",
    "architecture",
    "architectures",
    "create",
    "export_onnx",
    "import_reference",
    "load",
    "pretrained",
]
