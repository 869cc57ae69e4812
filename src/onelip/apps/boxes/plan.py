"""What `onelip certify` was asked to do with a detector, and how to ask for it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from onelip.apps.boxes.opened import BoxRun
from onelip.apps.common import model_folder
from onelip.certify.boxes.curves import THRESHOLDS

GRID = 25  # points of the curve between 0 and a little more than the largest eps asked for
ALARMS = (0, 1)  # false detections that are allowed in an image


@dataclass(frozen=True)
class BoxPlan(BoxRun):
    """What `onelip certify` was asked to do with a detector."""

    @property
    def grid(self) -> list[float]:
        """All eps at which the curves are known: a grid that is finer near 0, and those asked for."""
        top = 1.25 * max(self.eps) or 1.0
        return sorted({*self.eps, *(top * (k / (GRID - 1)) ** 2 for k in range(GRID))})

    @property
    def thresholds(self) -> list[float]:
        """Scores at which everything is certified: what average precision is made of, and the one asked for."""
        return sorted({*THRESHOLDS, self.score})

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip certify {shlex.quote(self.model)} {shlex.quote(self.data)}"]
        return " ".join([*parts, *self.boxes_options(), *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        scores = "" if self.score in THRESHOLDS else f"[*onelip.certify.boxes.THRESHOLDS, {self.score!r}], "
        lines = [
            self.python_dataset(),
            f'model = onelip.load("{model_folder(self.model)}")',
            f"certifier = onelip.certify.DetectionCertifier(model, {self.score!r})",
            f"curves = onelip.certify.DetectionCurves({self.asked}, {scores}iou={self.iou!r})",
            f"count = min({self.limit}, len(dataset)) or len(dataset)",
            "for index in (i * len(dataset) // count for i in range(count)):",
            "    image, target = dataset[index]",
            "    curves.update(certifier(image[None], [target]))",
            "found = curves.compute()",
            f"print(found.recall[found.at({self.score!r})].tolist(), found.average_precision)",
        ]
        return "\n".join(lines)
