"""Tables as text: a header and numbers, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from onelip.apps.anomaly.tables import (
    BLOCK,
    Array,
    Block,
    as_labels,
    check_names,
    finite,
    no_rows,
    text_columns,
    unreadable,
)
from onelip.core.errors import DataError, explain

_MISSING = {"", "na", "n/a", "nan", "null", "none"}


class Csv:
    """Text with a header; separated by commas, semicolons or tabs, whichever the header has most of."""

    named = True

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with self._opened() as file:
                self._delimiter = max(",;\t", key=file.readline().count)
            with self._opened() as file:
                self.columns = tuple(name.strip() for name in next(self._rows(file), []))
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise unreadable(path, error) from error
        check_names(path, self.columns)
        _check_header(path, self.columns)

    def blocks(self, names: Sequence[str], label: str | None, size: int = BLOCK) -> Iterator[Block]:
        """See `Table`."""
        total, start = self.path.stat().st_size, 0
        places = [self.columns.index(name) for name in names]
        try:
            with self.path.open("rb") as raw, self._opened(raw) as file:
                rows = self._counted(self._rows(file))
                next(rows)
                while some := list(_first(rows, size)):
                    values = _numbers(self.path, [[row[j] for row in some] for j in places], names, start)
                    labels = None
                    if label is not None:
                        place = self.columns.index(label)
                        labels = as_labels(self.path, [row[place] for row in some], label, start)
                    share = min(1.0, raw.tell() / total)
                    yield Block(start, finite(self.path, values, names, start), labels, share)
                    start += len(some)
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise unreadable(self.path, error) from error
        if not start:
            raise no_rows(self.path)

    def _opened(self, raw: BinaryIO | None = None) -> io.TextIOWrapper:
        return io.TextIOWrapper(raw or self.path.open("rb"), encoding="utf-8-sig", newline="")

    def _rows(self, file: io.TextIOWrapper) -> Iterator[list[str]]:
        return csv.reader(file, delimiter=self._delimiter, strict=True)

    def _counted(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """Refuse rows of another width, and empty lines before the end."""
        empty = 0
        for number, row in enumerate(rows):
            if not row:
                empty = empty or number
                continue
            if empty or len(row) != len(self.columns):
                raise DataError(
                    explain(
                        f"{self.path}: data row {empty or number} has another width than the header",
                        received="an empty line" if empty else f"{len(row)} cells",
                        expected=f"{len(self.columns)} cells separated by {self._delimiter!r}",
                    )
                )
            yield row


def _numbers(path: Path, cells: Sequence[list[str]], names: Sequence[str], start: int) -> Array:
    """(n, k) from text, column by column; missing cells become NaN."""
    bad: list[str] = []
    example, out = "", np.empty((len(cells[0]) if cells else 0, len(cells)))
    for j, column in enumerate(cells):
        try:
            out[:, j] = [float(cell) for cell in column]
        except ValueError:
            out[:, j], wrong = _patiently(column)
            if wrong is not None:
                bad.append(names[j])
                example = example or f" (data row {start + wrong + 1}: {column[wrong][:40]!r})"
        if any("_" in cell for cell in column):  # 1_000 is a number to Python alone
            bad.append(names[j])
    if bad:
        raise text_columns(path, list(dict.fromkeys(bad)), example)
    return out


def _patiently(column: list[str]) -> tuple[list[float], int | None]:
    """Numbers with NaN for what is missing, and the place of the first cell that is text."""
    values, wrong = [], None
    for i, cell in enumerate(column):
        try:
            values.append(float(cell))
        except ValueError:
            values.append(float("nan"))
            if wrong is None and cell.strip().lower() not in _MISSING:
                wrong = i
    return values, wrong


def _check_header(path: Path, columns: Sequence[str]) -> None:
    """Refuse a first line of numbers, unless it counts the columns as pandas does."""
    numbers, missing = _patiently(list(columns))
    counted = any(list(columns) == [str(i + first) for i in range(len(columns))] for first in (0, 1))
    if missing is None and not any(np.isnan(numbers)) and not counted:
        raise DataError(
            explain(
                f"{path} has no header",
                received="a first line of numbers",
                expected="the names of the columns in the first line",
            )
        )


def _first(rows: Iterator[list[str]], count: int) -> Iterator[list[str]]:
    for row in rows:
        yield row
        count -= 1
        if not count:
            return
