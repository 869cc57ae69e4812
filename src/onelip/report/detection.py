"""Values of detectors as text: shares in per cent, counts as numbers, each rounded to its safe side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

COUNTS = ("false_alarms", "false_located")
"""Criteria that are no shares, but numbers an image."""


def is_count(entry: Mapping[str, Any]) -> bool:
    """Whether a criterion, or a row about one, holds numbers and no shares.

    Example:
        >>> is_count({"criterion": "false_alarms"}), is_count({"key": "recall"})
        (True, False)
    """
    return entry.get("unit") == "count" or (entry.get("criterion") or entry.get("key")) in COUNTS


def shown(value: float | None, entry: Mapping[str, Any], *, attacked: bool = False) -> str:
    """A certified or clean value of a criterion, rounded so that it says too little; an attacked one the other way.

    Example:
        >>> shown(0.89999, {"key": "recall"}), shown(1.201, {"key": "false_alarms", "higher_is_better": False})
        ('89.99 %', '1.21')
    """
    if value is None:
        return "-"
    up = entry.get("higher_is_better", True) == attacked
    scaled = value * (100 if is_count(entry) else 1e4)
    hundredths = math.ceil(scaled - 1e-9) if up else math.floor(scaled + 1e-9)
    return f"{hundredths / 100:.2f}" + ("" if is_count(entry) else " %")


def gap(value: float, entry: Mapping[str, Any]) -> str:
    """What lies between a certified and an attacked value: points of a share, or a number.

    Example:
        >>> gap(0.125, {"key": "recall"}), gap(0.125, {"key": "false_alarms"})
        ('12.50', '0.12')
    """
    return f"{value if is_count(entry) else 100 * value:.2f}"
