"""What `onelip certify` was asked to do with a classifier, and how to ask for it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from onelip.apps.labels.opened import python_batches, python_head
from onelip.apps.runs import Run

GRID = 81  # points of the curve between 0 and a little more than the largest eps asked for
BATCH = 32  # images certified together


@dataclass(frozen=True)
class LabelPlan(Run):
    """What `onelip certify` was asked to do with a classifier."""

    @property
    def grid(self) -> list[float]:
        """All eps at which the curves are known: a grid that is finer near 0, and those asked for."""
        top = 1.25 * max(self.eps) or 1.0
        return sorted({*self.eps, *(top * (k / (GRID - 1)) ** 2 for k in range(GRID))})

    @property
    def shell(self) -> str:
        """The command that does this."""
        return " ".join(
            [f"onelip certify {shlex.quote(self.model)} {shlex.quote(self.data)}", *self.options()]
        )

    def python(self, channels: int | None, *, alike: bool) -> str:
        """The Python that does this, without tables and pictures.

        Args:
            channels: of the pictures.
            alike: all have one size, and fit into batches.
        """
        lines = [
            *python_head(self, channels),
            f"metric = onelip.metrics.CertifiedAccuracy(eps={self.asked}, p=certifier.p)",
            *python_batches(BATCH if alike else 1),
            "    metric.update(certificate)",
            "found = metric.compute()",
            "print(found.clean, found.values.tolist())",
        ]
        return "\n".join(lines)
