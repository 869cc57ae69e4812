"""Tables on disk, read in blocks: CSV, Parquet and npz, as float64 numbers with named columns."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onelip.core.errors import DataError, explain

Array = NDArray[np.float64]
BLOCK = 16384  # rows of a block
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a table.

    Attributes:
        start: number of the first row, from 0.
        values: (n, k) float64, finite.
        labels: (n,) 0 or 1, 1 for anomalies; None without a label column.
        share: of the file that has been read up to here.
    """

    start: int
    values: Array
    labels: Array | None
    share: float


class Table(Protocol):
    """A file with rows and columns.

    Attributes:
        path: the file.
        columns: names in the order of the file.
        named: whether the names are the file's own.
    """

    path: Path
    columns: tuple[str, ...]
    named: bool

    def blocks(self, names: Sequence[str], label: str | None, size: int = BLOCK) -> Iterator[Block]:
        """Read these columns, block by block.

        Raises:
            DataError: text, missing or infinite values (row and column are named), labels that are not 0 or 1, no rows.
        """


def open_table(path: str | Path) -> Table:
    """Open a table by the ending of its name: .csv, .tsv, .parquet, .pq or .npz.

    Raises:
        DataError: no such file, an unknown ending, or the file is not what its ending says.
        MissingExtraError: Parquet without pyarrow.
    """
    from onelip.apps.anomaly.delimited import Csv
    from onelip.apps.anomaly.parquet import Parquet

    path = Path(path)
    if not path.is_file():
        raise DataError(
            explain(
                f"{path} is no file" if path.exists() else f"{path} does not exist",
                expected="a table: .csv, .tsv, .parquet or .npz",
            )
        )
    readers: dict[str, Any] = {".csv": Csv, ".tsv": Csv, ".parquet": Parquet, ".pq": Parquet, ".npz": Npz}
    if path.suffix.lower() not in readers:
        raise DataError(
            explain(
                f"{path} has an unknown ending",
                received=repr(path.suffix),
                expected=", ".join(readers),
                fix="rename or convert it",
            )
        )
    if path.stat().st_size == 0:
        raise DataError(explain(f"{path} is empty", expected="a header and at least one row"))
    table: Table = readers[path.suffix.lower()](path)
    return table


class Npz:
    """Arrays `X` (n, d) and perhaps `y` (n,), 1 for anomalies, written by numpy; read without pickle."""

    named = False

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in ("X", "y") if name in archive.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise unreadable(path, error) from error
        X = found.get("X")
        if X is None or X.ndim != 2 or X.dtype.kind not in "biuf":
            got = "no array X" if X is None else f"X of shape {X.shape} and type {X.dtype}"
            raise DataError(
                explain(f"{path} holds no table", received=got, expected="X: numbers, (rows, columns)")
            )
        if "y" in found and found["y"].shape != X.shape[:1]:
            got = f"{found['y'].shape} for {len(X)} rows"
            raise DataError(explain(f"{path}: y has another length than X", received=got))
        self._X, self._y = X, found.get("y")
        self.columns = tuple(f"x{j}" for j in range(X.shape[1])) + (("y",) if "y" in found else ())
        if not X.shape[1]:
            raise DataError(explain(f"{path}: X has no columns", received=X.shape))

    def blocks(self, names: Sequence[str], label: str | None, size: int = BLOCK) -> Iterator[Block]:
        """See `Table`."""
        places, rows = [self.columns.index(name) for name in names], len(self._X)
        for start in range(0, rows, size):
            part = slice(start, start + size)
            values = finite(self.path, self._X[part][:, places].astype(np.float64), names, start)
            labels = None
            if label is not None and self._y is not None:
                labels = as_labels(self.path, self._y[part].tolist(), "y", start)
            yield Block(start, values, labels, min(1.0, (start + size) / rows))
        if not rows:
            raise no_rows(self.path)


def check_names(path: Path, columns: Sequence[str]) -> None:
    """Refuse columns without a name, or with one that another has too."""
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if not any(columns) or "" in columns or twice:
        got = f"no name for column {columns.index('') + 1}" if "" in columns else ", ".join(twice)
        raise DataError(
            explain(
                f"{path}: the columns need names that differ",
                received=got if columns else "none",
                expected="a first line with one name for each column",
                fix="name each column (pandas: to_csv(..., index=False))",
            )
        )


def finite(path: Path, values: Array, names: Sequence[str], start: int) -> Array:
    """Return the values if all are finite; else name the first row and column that is not."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        value = values[row, column]
        raise DataError(
            explain(
                f"{path}: data row {start + row + 1}, column {names[column]!r} holds no finite number",
                received="a missing value (NaN)" if np.isnan(value) else str(value),
                expected="finite numbers only",
                fix="drop or fill such rows",
            )
        )
    return values


def as_labels(path: Path, cells: Sequence[Any], name: str, start: int) -> Array:
    """Labels from cells: 1 or true for anomalies, 0 or false for normals."""
    out = np.empty(len(cells))
    for i, cell in enumerate(cells):
        text = str(cell).strip().lower()
        try:
            value = _TRUTH[text] if text in _TRUTH else float(text)
        except ValueError:
            value = -1.0
        if value not in (0.0, 1.0):
            raise DataError(
                explain(
                    f"{path}: data row {start + i + 1}, column {name!r} holds no label",
                    received=repr(cell),
                    expected="1 for anomalies, 0 for normals",
                )
            )
        out[i] = value
    return out


def text_columns(path: Path, names: Sequence[str], example: str = "") -> DataError:
    """Return the error for columns that hold no numbers, all of them named."""
    return DataError(
        explain(
            f"{path} has columns that hold no numbers",
            received=", ".join(map(repr, names)) + example,
            expected="numeric columns",
            fix="leave them out with "
            + " ".join(f"--drop {name!r}" for name in names[:4])
            + ", or encode them",
        )
    )


def no_rows(path: Path) -> DataError:
    """Return the error for a table with nothing but a header."""
    return DataError(explain(f"{path} holds no rows", expected="at least one"))


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error for a file that is not what its ending says."""
    return DataError(
        explain(f"{path} cannot be read", received=" ".join(str(error).split()) or type(error).__name__)
    )
