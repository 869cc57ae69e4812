"""Certificates of classifiers: radii from the proven constants of pairs of classes."""

from __future__ import annotations

from onelip.certify.labels.pairs import pair_constants

__all__ = ["pair_constants"]
