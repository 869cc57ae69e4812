"""Mean and spread of the pixels of many pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dataset import Pixels


class Moments:
    """Mean and standard deviation of each channel, values in [0, 1], over pictures that are added one by one.

    Example:
        >>> seen = Moments()
        >>> seen.add(np.full((2, 2, 3), 51, np.uint8))
        >>> seen.mean, seen.std
        ([0.2, 0.2, 0.2], [0.0, 0.0, 0.0])
    """

    def __init__(self) -> None:
        self._sums, self._pixels = np.zeros((2, 1)), 0

    def add(self, image: Pixels) -> None:
        """Add a picture (H, W, C), with as many channels as those before."""
        values = image.reshape(-1, image.shape[-1]) / 255.0
        self._sums = self._sums + np.stack([values.sum(0), (values**2).sum(0)])
        self._pixels += len(values)

    @property
    def mean(self) -> list[float] | None:
        """The mean, four decimals; None without pictures."""
        return _rounded(self._sums[0] / self._pixels) if self._pixels else None

    @property
    def std(self) -> list[float] | None:
        """The standard deviation, four decimals; None without pictures."""
        if not self._pixels:
            return None
        first, second = self._sums / self._pixels
        return _rounded(np.sqrt(np.maximum(second - first**2, 0.0)))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in values]
