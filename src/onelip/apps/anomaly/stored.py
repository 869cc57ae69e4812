"""A fitted detector with its calibration scores, as a folder: `model/`, and `calibration.json` where there is one."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onelip.apps.anomaly.tables import Array
from onelip.core import files
from onelip.core.errors import IntegrityError, explain
from onelip.oneclass import CertifiedDetector, Threshold, load

RECORD, CALIBRATION = "detector.json", "calibration.json"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Stored:
    """What `score` needs.

    Attributes:
        detector: without feature names: rows are brought into order before.
        names: of its features, or None.
        sha256: of its record.
        threshold: the calibrated one, or None.
        calibration: (n,) scores of the rows held out, or None.
    """

    detector: CertifiedDetector
    names: tuple[str, ...] | None
    sha256: str
    threshold: Threshold | None
    calibration: Array | None

    def pvalues(self, scores: Array) -> Array | None:
        """P-values that hold under the perturbations of the calibration; None without one."""
        from onelip.oneclass import robust_pvalues

        if self.threshold is None or self.calibration is None:
            return None
        t = self.threshold
        return robust_pvalues(self.calibration, scores, eps=t.eps, lipschitz=t.lipschitz, slack=t.slack)


def write(
    out: Path, detector: CertifiedDetector, threshold: Threshold | None, calibration: Array | None
) -> None:
    """Write the folder. A calibration of an earlier model goes first: it must never meet the new one.

    Raises:
        StorageError: it could not be written.
    """
    with suppress(OSError):  # where it stays, `read` says that it is of another model
        (out / CALIBRATION).unlink()
    detector.save(out / "model")
    if threshold is not None and calibration is not None:
        record: dict[str, Any] = {
            "format": _FORMAT,
            "detector_sha256": files.read_json(out / "model" / RECORD)["sha256"],
            "threshold": threshold.to_dict(),
            "scores": calibration.tolist(),
        }
        files.write_json(out / CALIBRATION, {**record, "sha256": _digest(record)})


def read(path: str | Path) -> Stored:
    """Read a folder of `onelip anomaly fit`, or one that `detector.save` wrote.

    Raises:
        DataError: a file is missing or unreadable.
        IntegrityError: files were changed, or are of different models.
    """
    folder = Path(path)
    inner = folder / "model"
    inner = inner if (inner / RECORD).is_file() or not (folder / RECORD).is_file() else folder
    detector = load(inner)
    sha256 = str(files.read_json(inner / RECORD)["sha256"])
    names = getattr(detector, "feature_names_in_", None)
    if names is not None:
        del detector.feature_names_in_
    beside = inner.parent / CALIBRATION
    threshold, calibration = (
        _calibration(beside, sha256) if inner != folder and beside.exists() else (None, None)
    )
    return Stored(detector, None if names is None else tuple(map(str, names)), sha256, threshold, calibration)


def _calibration(path: Path, sha256: str) -> tuple[Threshold, Array]:
    record = files.read_json(path)
    try:
        bare = {key: value for key, value in record.items() if key != "sha256"}
        if record["format"] != _FORMAT or record["sha256"] != _digest(bare):
            raise ValueError("it was changed after it was written, or is of another version")
        if record["detector_sha256"] != sha256:
            raise ValueError("it is of another model")
        return Threshold(**record["threshold"]), np.asarray(record["scores"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(
            explain(f"{path} cannot be used", received=str(error), fix="fit and calibrate again")
        ) from error


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()
