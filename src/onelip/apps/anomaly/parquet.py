"""Parquet tables, a row group after the other, by pyarrow where it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onelip.apps.anomaly.tables import BLOCK, Block, as_labels, check_names, finite, no_rows, text_columns
from onelip.core.errors import DataError, MissingExtraError, explain


class Parquet:
    """A Parquet file; integers, floating point numbers, decimals and booleans are numbers.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: the file is no Parquet.
    """

    named = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrow = _pyarrow(path)
        try:
            with self._opened() as file:
                self._schema = file.schema_arrow
                self._rows = int(file.metadata.num_rows)
        except (self._arrow.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
        self.columns = tuple(str(name) for name in self._schema.names)
        check_names(path, self.columns)

    def blocks(self, names: Sequence[str], label: str | None, size: int = BLOCK) -> Iterator[Block]:
        """See `tables.Table`."""
        bad = [name for name in names if not self._numeric(name)]
        if bad:
            raise text_columns(self.path, bad)
        wanted = [*names, *([label] if label is not None else [])]
        start = 0
        try:
            with self._opened() as file:
                for batch in file.iter_batches(batch_size=size, columns=wanted):
                    table = {name: batch.column(batch.schema.get_field_index(name)) for name in wanted}
                    if not batch.num_rows:
                        continue
                    columns = [
                        table[n].to_numpy(zero_copy_only=False).astype(np.float64, copy=False) for n in names
                    ]
                    values = finite(self.path, np.column_stack(columns), names, start)
                    labels = None
                    if label is not None:
                        labels = as_labels(self.path, table[label].to_pylist(), label, start)
                    yield Block(start, values, labels, min(1.0, (start + len(values)) / self._rows))
                    start += len(values)
        except (self._arrow.ArrowException, OSError) as error:
            raise _unreadable(self.path, error) from error
        if not start:
            raise no_rows(self.path)

    def _opened(self) -> Any:
        return self._arrow.parquet.ParquetFile(self.path)

    def _numeric(self, name: str) -> bool:
        kind, types = self._schema.field(name).type, self._arrow.types
        return any(
            test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        )


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow as pa
        from pyarrow import parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            explain(
                f"{path} cannot be read",
                why="Parquet needs pyarrow, which is not installed",
                fix="pip install 'onelip[parquet]', or save the table as CSV or npz",
            )
        ) from error
    return pa


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(explain(f"{path} cannot be read as Parquet", received=" ".join(str(error).split())))
