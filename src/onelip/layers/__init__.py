"""Layers with a known Lipschitz constant, their losses, and folding into plain layers."""

from . import rules as _rules  # noqa: F401 - teaches the bound engine these layers
from .activation import Abs, GroupSort, Householder, MaxMin
from .conv import LipschitzConv
from .detection_losses import CenternessLoss, FocalHingeLoss, FocalLoss, GIoULoss
from .energy import Blend, Fork
from .fold import fold
from .linear import OrthogonalLinear, UnitNormLinear
from .losses import CosineLoss, TauCrossEntropy
from .margins import CategoricalHingeLoss, HingeMarginLoss, HKRLoss, HKRMulticlassLoss, KRLoss, LseHKRLoss
from .norm import BatchCentering, ChannelBias, InputNormalization, LayerCentering
from .orthogonal import OrthogonalConv2d, OrthogonalConvTranspose2d
from .overlap import JaccardLoss
from .pool import ScaledAvgPool2d, ScaledGlobalAvgPool2d, ScaledL2NormPool2d
from .reparam import Reparametrized, retract_, rms_gain
from .spectral import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear
from .structure import Concat, ConcatResidual, ConvexResidual, Merge, PrescaledResidual, Resample, Split

__all__ = [
    "Abs",
    "BatchCentering",
    "Blend",
    "CategoricalHingeLoss",
    "CenternessLoss",
    "ChannelBias",
    "Concat",
    "ConcatResidual",
    "ConvexResidual",
    "CosineLoss",
    "FocalHingeLoss",
    "FocalLoss",
    "Fork",
    "GIoULoss",
    "GroupSort",
    "HKRLoss",
    "HKRMulticlassLoss",
    "HingeMarginLoss",
    "Householder",
    "InputNormalization",
    "JaccardLoss",
    "KRLoss",
    "LayerCentering",
    "LipschitzConv",
    "LseHKRLoss",
    "MaxMin",
    "Merge",
    "OrthogonalConv2d",
    "OrthogonalConvTranspose2d",
    "OrthogonalLinear",
    "PrescaledResidual",
    "Reparametrized",
    "Resample",
    "ScaledAvgPool2d",
    "ScaledGlobalAvgPool2d",
    "ScaledL2NormPool2d",
    "SpectralConv2d",
    "SpectralConvTranspose2d",
    "SpectralLinear",
    "Split",
    "TauCrossEntropy",
    "UnitNormLinear",
    "fold",
    "retract_",
    "rms_gain",
]
