"""Certificates of classifiers: radii from the proven constants of pairs of classes."""

from __future__ import annotations

from onelip.certify.labels.certificate import ClassificationCertificate
from onelip.certify.labels.front import ClassificationCertifier, classification
from onelip.certify.labels.pairs import pair_constants
from onelip.certify.labels.radius import class_radius

__all__ = [
    "ClassificationCertificate",
    "ClassificationCertifier",
    "class_radius",
    "classification",
    "pair_constants",
]
