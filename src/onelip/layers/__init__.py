"""Layers with a known Lipschitz constant, their losses, and folding into plain layers."""

from .activation import MaxMin
from .conv import OrthogonalConv2d, OrthogonalConvTranspose2d
from .fold import fold
from .linear import OrthogonalLinear
from .losses import TauCrossEntropy
from .norm import BatchCentering, ChannelBias, InputNormalization
from .reparam import Reparametrized, retract_, rms_gain

__all__ = [
    "BatchCentering",
    "ChannelBias",
    "InputNormalization",
    "MaxMin",
    "OrthogonalConv2d",
    "OrthogonalConvTranspose2d",
    "OrthogonalLinear",
    "Reparametrized",
    "TauCrossEntropy",
    "fold",
    "retract_",
    "rms_gain",
]
