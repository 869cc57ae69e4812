"""Detections and objects as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LOW = 0.01
"""Score from which on detections are kept: what average precision is measured with."""
MOST = 100
"""So many detections of an image are kept, those of the highest scores."""

Stored = dict[str, list[Any]]


def stored(found: Mapping[str, Tensor], *, most: int = MOST) -> Stored:
    """Boxes, labels and scores (objects have none) as lists, all digits kept.

    Example:
        >>> stored({"boxes": torch.tensor([[0.0, 0.0, 8.0, 4.0]]), "labels": torch.tensor([1])})
        {'boxes': [[0.0, 0.0, 8.0, 4.0]], 'labels': [1]}
    """
    return {
        name: found[name][:most].cpu().tolist() for name in ("boxes", "scores", "labels") if name in found
    }


def restored(record: Mapping[str, list[Any]]) -> dict[str, Tensor]:
    """The tensors of `stored`, in float64."""
    found = {"boxes": torch.tensor(record["boxes"], dtype=torch.float64).reshape(-1, 4)}
    if "scores" in record:
        found["scores"] = torch.tensor(record["scores"], dtype=torch.float64)
    return found | {"labels": torch.tensor(record["labels"], dtype=torch.int64)}
