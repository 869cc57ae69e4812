"""The head of results.json of `onelip anomaly`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelip.apps.anomaly.stored import Stored
from onelip.apps.runs import short_name
from onelip.core import runtime
from onelip.oneclass.storage import describe

EPS = (0.0, 0.05, 0.1, 0.2, 0.5)  # of the tables, in standardised units


def table_eps(found: Stored, asked: Sequence[float]) -> list[float]:
    """Choose the eps of the tables: 0, those asked for or the usual ones, and that of the calibration."""
    calibrated = () if found.threshold is None else (found.threshold.eps,)
    return sorted({0.0, *(asked or EPS), *calibrated})


def head(step: str, command: str, python: str, seed: int, found: Stored, path: str) -> dict[str, Any]:
    """Describe what was done, with which model and where.

    Args:
        step: "fit" or "score".
        command: the command that does this again.
        python: Python that does the same.
        seed: of everything random.
        found: the model.
        path: its folder.
    """
    detector, threshold = found.detector, found.threshold
    return {
        "kind": "anomaly",
        "step": step,
        "complete": True,
        "date": runtime.now(),
        "seed": seed,
        "command": command,
        "python": python,
        "versions": runtime.versions(),
        "machine": runtime.machine(),
        "model": {
            "name": short_name(path),
            "path": path,
            "sha256": found.sha256,
            "detector": type(detector).__name__,
            "options": describe(detector)["options"],
            "features": int(detector.n_features_in_),
            "names": None if found.names is None else list(found.names),
        },
        "lipschitz": detector.lipschitz_,
        "calibration": None if threshold is None else threshold.to_dict(),
        "assumptions": _assumptions(found),
    }


def _assumptions(found: Stored) -> list[str]:
    lines = [
        "The score is proven to change by at most the Lipschitz constant times the l2 norm of the change of the "
        "standardised row; rounding of float64 is included.",
        "A certified radius says how far a row can move with its answer kept, not that the answer is right.",
        "One budget covers all features of a row together; mean and spread of the features are those of the fit.",
    ]
    if found.threshold is not None:
        lines.append(
            "The false-alarm rate holds for new rows drawn like the rows that calibrated, independently of the fit; "
            "drift and anomalies among those rows are not covered."
        )
    lines.append("Contributions of features are local estimates, not certificates.")
    return lines
