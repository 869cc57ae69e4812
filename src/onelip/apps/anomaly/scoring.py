"""`onelip anomaly score`: a file of scores from a file of rows, block by block, whole or not at all."""

from __future__ import annotations

import csv
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from onelip.apps.anomaly import stored
from onelip.apps.anomaly.columns import Columns, for_score
from onelip.apps.anomaly.progress import progress
from onelip.apps.anomaly.record import head, table_eps
from onelip.apps.anomaly.summary import Summary
from onelip.apps.anomaly.tables import BLOCK, Array, open_table
from onelip.core import checks, files
from onelip.core.errors import InputError, StorageError, explain
from onelip.oneclass.inputs import eps_array

HEADER = ("row", "score", "decision", "predict", "certified_radius", "certified_radius_raw")
_DOWN = 1 - 2.0**-50  # as `certified_radius(X, "raw")`


@dataclass(frozen=True)
class Score:
    """What `onelip anomaly score` was asked; see its help."""

    model: str
    data: str
    out: Path
    label: str | None = None
    eps: tuple[float, ...] = ()
    block: int = BLOCK
    seed: int = 0

    def command(self) -> str:
        """The command that does this again."""
        words = ["onelip", "anomaly", "score", self.model, self.data]
        words += ["--label", self.label] if self.label is not None else []
        words += ["--eps", *map(repr, self.eps)] if self.eps else []
        words += ["--block", str(self.block)] if self.block != BLOCK else []
        return shlex.join([*words, "--seed", str(self.seed), "--out", str(self.out)])


def sidecar(path: Path) -> Path:
    """Where the results beside a file of scores are: scores.csv and scores.json."""
    return path.with_suffix(".json")


def score(asked: Score) -> dict[str, Any]:
    """Write the scores and, beside them, what they say together.

    Raises:
        OnelipError: what was asked, the model or the table cannot be used; an earlier file of scores is kept.
    """
    if asked.out.suffix.lower() != ".csv":
        raise InputError(
            explain("--out is no CSV file", received=str(asked.out), expected="a name as scores.csv")
        )
    if asked.eps:
        eps_array(asked.eps, "--eps")
    checks.positive_int("--block", asked.block)
    found = stored.read(asked.model)
    table = open_table(asked.data)
    if asked.out.exists() and asked.out.resolve() == table.path.resolve():
        raise InputError(explain("--out is the file that is scored", fix="choose another name"))
    count = int(found.detector.n_features_in_)
    columns = for_score(table, asked.label, found.names, count)
    summary = Summary(found.detector, table_eps(found, asked.eps))
    begun = time.perf_counter()
    with _whole(asked.out) as file, progress(f"scoring {table.path.name}") as move:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*HEADER, *(["p_value"] if found.threshold is not None else [])])
        for block in table.blocks(columns.features, columns.label, asked.block):
            scores, radius = (
                found.detector.score_samples(block.values),
                found.detector.certified_radius(block.values),
            )
            writer.writerows(_lines(found, block.start, scores, radius))
            summary.add(block.start, block.values, block.labels, scores, radius)
            move(block.share)
    results = _results(asked, found, columns, summary, time.perf_counter() - begun)
    files.write_json(sidecar(asked.out), results)
    return results


def _lines(found: stored.Stored, start: int, scores: Array, radius: Array) -> Iterator[tuple[Any, ...]]:
    """One line a row; numbers are written so that they read back as they are."""
    detector = found.detector
    decision = scores - detector.offset_
    raw = radius * float(detector.scale_.min()) * _DOWN
    parts: list[Any] = [
        range(start + 1, start + 1 + len(scores)),
        scores.tolist(),
        decision.tolist(),
        np.where(decision >= 0, 1, -1).tolist(),
        radius.tolist(),
        raw.tolist(),
    ]
    pvalues = found.pvalues(scores)
    return zip(*parts, *([] if pvalues is None else [pvalues.tolist()]), strict=True)


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """Open a file aside, and move it into place once it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        with suppress(FileNotFoundError):
            sidecar(path).unlink()  # it is about the scores of before
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        explain(
            f"{path} could not be written",
            received=error.strerror or str(error),
            why="nothing was changed: what was there before is still there",
            fix="free some space or choose another --out",
        )
    )


def _results(
    asked: Score, found: stored.Stored, columns: Columns, summary: Summary, seconds: float
) -> dict[str, Any]:
    names = found.names or columns.features
    inner = asked.model if (Path(asked.model) / stored.RECORD).is_file() else str(Path(asked.model) / "model")
    python = [
        "import numpy",
        "from onelip.apps.anomaly.tables import open_table",
        f"blocks = open_table({asked.data!r}).blocks({list(columns.features)!r}, None)",
        f"detector = onelip.oneclass.load({inner!r})",
        "scores = numpy.concatenate([detector.score_samples(block.values) for block in blocks])",
    ]
    record = head("score", asked.command(), "\n".join(python), asked.seed, found, asked.model)
    data = {
        "name": asked.data,
        "rows": summary.rows,
        "scored": "all rows",
        "features": list(names),
        "label": columns.label,
        "ignored": list(columns.ignored),
        "constant": [],
    }
    return {**record, "data": data, "output": asked.out.name, "seconds": seconds, **summary.to_dict(names)}
