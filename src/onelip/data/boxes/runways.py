"""Boxes of runways: of LARD, of rendered folders, and of pictures drawn on request."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dataset import Pixels
from ..landing.reader import LardDataset
from ..runway.dataset import CLASSES, PALETTE, RunwayDataset
from .dataset import DetectionDataset, Objects

_RUNWAY = CLASSES.index("runway")


class RunwayBoxes(DetectionDataset):
    """One box around the runway of each picture, or none; made from a set that knows its corners.

    Args:
        source: `onelip.data.lard` (rendered folders too) or `onelip.data.runways`, without cache.
        cache: Keep the decoded bytes in memory.

    Guarantee:
        The box is that of the part of the runway inside the picture, from corners: exact where the set was drawn,
        with LARD's repairs where it was read.

    Example:
        >>> from onelip import data
        >>> boxes = RunwayBoxes(data.runways(2, 64))
        >>> boxes.classes, boxes.objects(0).boxes.shape
        (('runway',), (1, 4))
    """

    def __init__(self, source: LardDataset | RunwayDataset, *, cache: bool = False) -> None:
        super().__init__(
            source.name,
            source.split,
            ids=source.ids,
            classes=CLASSES[_RUNWAY:],
            palette=PALETTE[_RUNWAY:],
            size=source.size,
            cache=cache,
        )
        self.source = source
        self.missing = source.missing if isinstance(source, LardDataset) else []

    def picture(self, index: int) -> Pixels:
        """Return the picture alone; see `DetectionDataset.picture`."""
        if isinstance(self.source, RunwayDataset):
            return self.source.rendered(index).image
        return self.source.picture(index)

    def objects(self, index: int) -> Objects:
        """Return the objects alone, in pixels of the picture as it is read."""
        box = self.source.box(index) if isinstance(self.source, RunwayDataset) else self.source.boxes[index]
        if box is None:
            return Objects(np.zeros((0, 4)), np.zeros(0, np.int64))
        h, w = self.shape(index)
        inside = np.clip(box, 0.0, np.array([w, h, w, h], np.float64))
        return Objects(inside[None], np.zeros(1, np.int64))

    def shape(self, index: int) -> tuple[int, int]:
        """Return (h, w) of the picture as it is read."""
        if self.size is not None:
            return self.size
        assert isinstance(self.source, LardDataset)  # drawn sets have a size
        return self.source.entries[index].label.size

    def facts(self) -> dict[str, Any]:
        """Return what the labels tell beyond boxes; for LARD what `LardDataset.facts` tells, without boxes."""
        if not isinstance(self.source, LardDataset):
            return super().facts()
        known = self.source.facts()
        return {key: known[key] for key in ("rows", "dropped", "types", "stored_sizes", "repairs", "missing")}
