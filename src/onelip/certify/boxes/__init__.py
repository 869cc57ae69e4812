"""Certificates of detections: what can newly fire, vanish or change its class, through suppression and matching."""

from __future__ import annotations

from onelip.certify.boxes.certificate import DetectionCertificate
from onelip.certify.boxes.curves import THRESHOLDS, DetectionCurves
from onelip.certify.boxes.front import DetectionCertifier, detection
from onelip.certify.boxes.measure import ImageSheet
from onelip.certify.boxes.plain import detection_from_raw
from onelip.certify.boxes.results import CertifiedDetections

__all__ = [
    "THRESHOLDS",
    "CertifiedDetections",
    "DetectionCertificate",
    "DetectionCertifier",
    "DetectionCurves",
    "ImageSheet",
    "detection",
    "detection_from_raw",
]
