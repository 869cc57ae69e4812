"""Certificates: what no perturbation within eps can do to a prediction."""

from __future__ import annotations

from onelip.certify.boxes import (
    CertifiedDetections,
    DetectionCertificate,
    DetectionCertifier,
    DetectionCurves,
    detection,
    detection_from_raw,
)
from onelip.certify.certificate import SegmentationCertificate
from onelip.certify.components import Components, component_radius
from onelip.certify.count import CountCriterion, FalseNegativeRate, PixelAccuracy, Recall, Stability
from onelip.certify.criterion import Criterion
from onelip.certify.curve import CertifiedCurve, ImageCurves
from onelip.certify.dataset import dataset_iou
from onelip.certify.dense import Certifier, segmentation
from onelip.certify.iou import Dice, IoU, OverlapCriterion
from onelip.certify.labels import (
    ClassificationCertificate,
    ClassificationCertifier,
    class_radius,
    classification,
    pair_constants,
)
from onelip.certify.mean_iou import MeanIoU
from onelip.certify.naming import parse
from onelip.certify.pixel import pixel_radius

__all__ = [
    "CertifiedCurve",
    "CertifiedDetections",
    "Certifier",
    "ClassificationCertificate",
    "ClassificationCertifier",
    "Components",
    "CountCriterion",
    "Criterion",
    "DetectionCertificate",
    "DetectionCertifier",
    "DetectionCurves",
    "Dice",
    "FalseNegativeRate",
    "ImageCurves",
    "IoU",
    "MeanIoU",
    "OverlapCriterion",
    "PixelAccuracy",
    "Recall",
    "SegmentationCertificate",
    "Stability",
    "class_radius",
    "classification",
    "component_radius",
    "dataset_iou",
    "detection",
    "detection_from_raw",
    "pair_constants",
    "parse",
    "pixel_radius",
    "segmentation",
]
