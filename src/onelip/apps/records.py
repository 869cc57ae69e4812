"""Results of single images, one JSON line each: an interruption loses at most the image at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onelip.core import errors

Record = dict[str, Any]


class Records:
    """A file of one line for each image that is done, below a line that says what was computed.

    Lines are written whole and flushed, so that an interruption loses at most the image at hand; a torn last line is
    dropped on the next start.

    Args:
        path: the file.
        key: what the lines depend on (weights, data, eps, ...).
        resume: keep the lines that are there; they must have the same key.

    Raises:
        InputError: on resuming, when the lines there are of something else.
        StorageError: when the file cannot be written.
    """

    def __init__(self, path: Path, key: Record, *, resume: bool) -> None:
        self.path = path
        self._done: dict[int, Record] = {}
        if resume and path.is_file():
            self._read(key)
        self._write([{"key": key}, *self._done.values()], "w")

    def _read(self, key: Record) -> None:
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break  # torn by an interruption: what follows is not trusted either
        found = lines[0].get("key") if lines and isinstance(lines[0], dict) else None
        if not lines:
            return
        if found != key:
            differs = [k for k in key if not isinstance(found, dict) or found.get(k) != key[k]]
            raise errors.InputError(
                errors.explain(
                    f"{self.path} cannot be resumed",
                    received=f"other {', '.join(differs)} than asked for now",
                    expected="the same model, data and options",
                    why="images done under other conditions cannot be summed up with these",
                    fix="start anew without --resume, or choose another --out",
                )
            )
        self._done = {record["index"]: record for record in lines[1:]}

    def _write(self, records: Sequence[Record], mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)
        except OSError as error:
            raise errors.StorageError(
                errors.explain(
                    f"{self.path} cannot be written",
                    received=error.strerror,
                    fix="free some space or choose another folder with --out",
                )
            ) from error

    def add(self, record: Record) -> None:
        """Keep one image."""
        self._write([record], "a")
        self._done[record["index"]] = record

    def __contains__(self, index: int) -> bool:
        return index in self._done

    def chosen(self, indices: Sequence[int]) -> list[Record]:
        """The records of these images, as far as they are done."""
        return [self._done[index] for index in indices if index in self._done]
