"""`onelip anomaly fit`: from a table to a detector on disk."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onelip.apps.anomaly import stored
from onelip.apps.anomaly.columns import Columns, for_fit
from onelip.apps.anomaly.progress import progress
from onelip.apps.anomaly.record import head, table_eps
from onelip.apps.anomaly.summary import Summary
from onelip.apps.anomaly.tables import BLOCK, Array, Table, open_table
from onelip.core import checks, files
from onelip.core.errors import DataError, InputError, OnelipError, explain
from onelip.oneclass import (
    CertifiedDetector,
    CertifiedKNN,
    CertifiedOCSVM,
    SignedDistance,
    calibrate,
    smallest_calibration,
)
from onelip.oneclass.inputs import choice, eps_array, one_eps

DETECTORS = {"sdf": SignedDistance, "knn": CertifiedKNN, "ocsvm": CertifiedOCSVM}
_HELD_OUT = 4  # one row of so many calibrates


@dataclass(frozen=True)
class Fit:
    """What `onelip anomaly fit` was asked; see its help."""

    data: str
    out: Path
    detector: str = "sdf"
    margin: float | None = None
    lam: float | None = None
    select: str | None = None
    contamination: str = "auto"
    label: str | None = None
    normals_only: bool = False
    drop: tuple[str, ...] = ()
    alpha: float | None = None
    confidence: float | None = None
    units: str = "standardized"
    eps: tuple[float, ...] = ()
    seed: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """Options of the detector's constructor that differ from its defaults.

        Raises:
            InputError: out of range, or not of this detector.
        """
        choice("--detector", self.detector, tuple(DETECTORS))
        found: dict[str, Any] = {}
        for name, value in (("margin", self.margin), ("lam", self.lam), ("select", self.select)):
            if value is None:
                continue
            if self.detector != "sdf":
                raise InputError(
                    explain(f"--{name} is an option of --detector sdf alone", received=self.detector)
                )
            if name == "select":
                choice("--select", value, ("auto",))
            elif checks.number(f"--{name}", value, low=0.0) == 0:
                raise InputError(explain(f"--{name} is zero", expected="a number > 0"))
            found[name] = value
        if self.contamination != "auto":
            found["contamination"] = _contamination(self.contamination)
        return found | ({"random_state": self.seed} if self.detector == "sdf" else {})

    @property
    def budget(self) -> float:
        """Perturbation that the calibrated rate withstands."""
        if self.alpha is not None and len(self.eps) > 1:
            raise InputError(
                explain(
                    "--eps holds several numbers",
                    received=", ".join(f"{e:g}" for e in self.eps),
                    expected="one with --calibrate: the perturbation that the rate withstands",
                )
            )
        return one_eps(self.eps[0]) if self.eps and self.alpha is not None else 0.0

    def command(self) -> str:
        """The command that does this again."""
        words = ["onelip", "anomaly", "fit", self.data, "--detector", self.detector]
        for name in ("margin", "lam", "select", "label", "confidence"):
            if getattr(self, name) is not None:
                words += [f"--{name}", str(getattr(self, name))]
        words += ["--contamination", self.contamination] if self.contamination != "auto" else []
        words += ["--normals-only"] if self.normals_only else []
        words += [word for name in self.drop for word in ("--drop", name)]
        words += ["--calibrate", repr(self.alpha), "--units", self.units] if self.alpha is not None else []
        words += ["--eps", *map(repr, self.eps)] if self.eps else []
        return shlex.join([*words, "--seed", str(self.seed), "--out", str(self.out)])


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table, and which of them are fitted and which calibrate."""

    X: Array
    labels: Array | None
    fitted: np.ndarray[Any, np.dtype[np.int64]]
    held: np.ndarray[Any, np.dtype[np.int64]]


def fit(asked: Fit) -> dict[str, Any]:
    """Fit, calibrate, save, and write results.json.

    Raises:
        OnelipError: what was asked, or the table, cannot be used.
    """
    options, budget = asked.options, asked.budget
    choice("--units", asked.units, ("standardized", "raw"))
    if asked.eps:
        eps_array(asked.eps, "--eps")
    if asked.confidence is not None and asked.alpha is None:
        raise InputError(explain("--confidence is of no use alone", fix="add --calibrate ALPHA"))
    table = open_table(asked.data)
    columns = for_fit(table, asked.label, asked.drop)
    if asked.normals_only and columns.label is None:
        raise InputError(explain("--normals-only needs labels", fix="name their column with --label"))
    rows = _split(asked, *_read(table, columns))
    begun = time.perf_counter()
    with progress(f"fitting {asked.detector} to {len(rows.fitted)} rows"):
        detector, threshold = _fitted(asked, options, budget, rows)
    seconds = time.perf_counter() - begun
    scores = None if threshold is None else detector.score_samples(rows.X[rows.held])
    if columns.named:
        detector.feature_names_in_ = np.asarray(columns.features, dtype=object)
    stored.write(asked.out, detector, threshold, scores)
    results = _results(asked, columns, rows, seconds)
    files.write_json(asked.out / "results.json", results)
    return results


def _contamination(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 0.5:
        raise InputError(
            explain(
                "--contamination is out of range",
                received=repr(text),
                expected="auto or a number in (0, 0.5]",
            )
        )
    return value


def _read(table: Table, columns: Columns) -> tuple[Array, Array | None]:
    """All rows in memory: a detector learns from them as a whole."""
    with progress(f"reading {table.path.name}") as move:
        blocks = []
        for block in table.blocks(columns.features, columns.label):
            blocks.append(block)
            move(block.share)
    labels = [block.labels for block in blocks if block.labels is not None]
    X = np.concatenate([block.values for block in blocks])
    return X, np.concatenate(labels) if labels else None


def _split(asked: Fit, X: Array, labels: Array | None) -> Rows:
    """Which rows are fitted: all, or the normals; a part of them is held out to calibrate."""
    usable = np.flatnonzero(labels == 0) if asked.normals_only and labels is not None else np.arange(len(X))
    if len(usable) < 2:
        kind = "normal rows" if asked.normals_only else "rows"
        raise DataError(
            explain(f"{asked.data} holds too few {kind} to fit", received=len(usable), expected="at least 2")
        )
    if asked.alpha is None:
        return Rows(X, labels, usable, usable[:0])
    needed = smallest_calibration(asked.alpha, asked.confidence)
    count = max(needed, len(usable) // _HELD_OUT)
    if count > len(usable) // 2:
        raise DataError(
            explain(
                f"{asked.data} holds too few rows to fit and to calibrate",
                received=f"{len(usable)} for --calibrate {asked.alpha:g}",
                expected=f"at least {2 * needed}: {needed} to calibrate, and no fewer to fit",
                fix="raise the rate, or add rows",
            )
        )
    order = np.random.RandomState(asked.seed).permutation(usable)
    return Rows(X, labels, order[count:], order[:count])


def _fitted(asked: Fit, options: dict[str, Any], budget: float, rows: Rows) -> tuple[CertifiedDetector, Any]:
    detector: CertifiedDetector = DETECTORS[asked.detector](**options)
    try:
        detector.fit(rows.X[rows.fitted])
    except OnelipError:
        raise
    except ValueError as error:  # scikit-learn's
        raise InputError(
            explain(f"{asked.data} cannot be fitted", received=" ".join(str(error).split()))
        ) from error
    if asked.alpha is None:
        return detector, None
    held = rows.X[rows.held]
    found: Any = calibrate(detector, held, asked.alpha, budget, asked.confidence, units=asked.units)
    return found, found.threshold_


def _results(asked: Fit, columns: Columns, rows: Rows, seconds: float) -> dict[str, Any]:
    """What results.json says: scores are those of the detector as it was saved."""
    saved = stored.read(asked.out)
    judged, note = _judged(rows)
    summary = Summary(saved.detector, table_eps(saved, () if asked.alpha is not None else asked.eps))
    with progress("scoring") as move:
        for start in range(0, len(judged), BLOCK):
            part = judged[start : start + BLOCK]
            X = rows.X[part]
            labels = None if rows.labels is None else rows.labels[part]
            scores, radius = saved.detector.score_samples(X), saved.detector.certified_radius(X)
            summary.add(start, X, labels, scores, radius)
            move(min(1.0, (start + BLOCK) / len(judged)))
    data = {
        "name": asked.data,
        "rows": len(rows.X),
        "fitted": len(rows.fitted),
        "calibrating": len(rows.held),
        "scored": note,
        "features": list(columns.features),
        "label": columns.label,
        "ignored": list(columns.ignored),
        "constant": [
            name
            for name, column in zip(columns.features, rows.X[rows.fitted].T, strict=True)
            if np.ptp(column) == 0
        ],
    }
    record = head("fit", asked.command(), _python(asked, columns, rows), asked.seed, saved, str(asked.out))
    sections = summary.to_dict(columns.features)
    for row in sections["abnormal"]:
        row["row"] = int(judged[row["row"] - 1]) + 1
    return {**record, "data": data, "seconds": seconds, **sections}


def _judged(rows: Rows) -> tuple[Any, str]:
    """Rows that were not fitted, where these hold both kinds; else all, and what to think of them."""
    others = np.setdiff1d(np.arange(len(rows.X)), rows.fitted)
    if rows.labels is not None and len(set(rows.labels[others])) == 2:
        return others, "rows that were not fitted"
    return np.arange(len(rows.X)), "all rows, fitted ones among them: new rows may do worse"


def _python(asked: Fit, columns: Columns, rows: Rows) -> str:
    """Python that fits the same detector."""
    label = columns.label if asked.normals_only else None
    lines = [
        "import numpy",
        "from onelip.apps.anomaly.tables import open_table",
        f"blocks = list(open_table({asked.data!r}).blocks({list(columns.features)!r}, {label!r}))",
        "X = numpy.concatenate([block.values for block in blocks])",
    ]
    source = "X"
    if asked.normals_only:
        lines.append("X = X[numpy.concatenate([block.labels for block in blocks]) == 0]")
    if asked.alpha is not None:
        lines.append(f"order = numpy.random.RandomState({asked.seed}).permutation(len(X))")
        source = f"X[order[{len(rows.held)}:]]"
    options = ", ".join(f"{k}={v!r}" for k, v in asked.options.items())
    where = "" if asked.detector == "sdf" else "oneclass."
    lines.append(f"detector = onelip.{where}{DETECTORS[asked.detector].__name__}({options}).fit({source})")
    if asked.alpha is not None:
        more = f"{asked.alpha!r}, {asked.budget!r}, {asked.confidence!r}, units={asked.units!r}"
        lines.append(f"detector = onelip.oneclass.calibrate(detector, X[order[:{len(rows.held)}]], {more})")
    return "\n".join(lines)
