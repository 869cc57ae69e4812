"""Find the tables of a LARD folder and the splits that its folder names mean."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import DataError, InputError, explain
from ..layout import pick_split, wrong_layout
from .schema import CORNER_COLUMNS, Row

_DEPTH = 3
_LAYOUT = "a CSV table with the columns of LARD, beside or below it a folder of images"


@dataclass(frozen=True)
class Table:
    """A table and the splits that it belongs to.

    Attributes:
        path: The CSV file.
        splits: Names by which it is asked for.
    """

    path: Path
    splits: tuple[str, ...]


def find(root: Path) -> list[Table]:
    """Return the LARD tables in a folder, at most three folders deep; other CSV files are passed over.

    Raises:
        DataError: there is none, or there are only CSV files with other columns.
    """
    if root.is_file():
        return [Table(root, ())]
    files = sorted(_files(root))
    found = [Table(p, _splits(p, root)) for p in files if _is_table(p)]
    if not found:
        if files:
            names = ", ".join(p.name for p in files[:4])
            raise DataError(
                explain(
                    f"{root} holds no table of LARD",
                    received=f"{names}, without all of image, height, width, x_A ... y_D",
                    expected=_LAYOUT,
                    fix="export the table again, or point at another folder",
                )
            )
        raise wrong_layout("LARD", root, _LAYOUT)
    return found


def holds(root: Path) -> bool:
    """Whether a folder holds a LARD table, or a path is one."""
    return any(_is_table(p) for p in ([root] if root.is_file() else _files(root)))


def _files(root: Path) -> Iterator[Path]:
    return (p for depth in range(_DEPTH + 1) for p in root.glob("*/" * depth + "*.csv"))


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = set(re.split("[;,]", file.readline().strip()))
    except (OSError, UnicodeDecodeError):
        return False
    return {"image", "height", "width", *CORNER_COLUMNS} <= header


def _splits(path: Path, root: Path) -> tuple[str, ...]:
    """Names of a table from its folders: "LARD_test_real/LARD_test_real_edge" is test, test_real, test_real_edge."""
    parts = path.relative_to(root).parts[:-1] or (path.stem,)
    names: dict[str, None] = {}
    for part in parts:
        whole = re.sub(r"\s+", "_", part.strip().lower()).removeprefix("lard_")
        if whole.split("_")[0] in ("train", "val", "test"):
            words = whole.split("_")
            names.update(dict.fromkeys("_".join(words[: k + 1]) for k in range(min(2, len(words)))))
        names[whole] = None
    return tuple(names)


def choose(tables: Sequence[Table], split: str) -> list[Table]:
    """Return the tables of a split; a single file is every split.

    Raises:
        DataError: there is no such split.
    """
    if all(not table.splits for table in tables):
        return list(tables)
    wanted = re.sub(r"\s+", "_", split.strip().lower()).removeprefix("lard_")
    wanted = pick_split("LARD", wanted, sorted({name for table in tables for name in table.splits}))
    return [table for table in tables if wanted in table.splits]


def split_by_airport(
    rows: Sequence[Row], shares: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int = 0
) -> list[list[int]]:
    """Part rows so that no airport is in two parts: pictures of one airport look alike.

    Args:
        rows: Rows with their airport.
        shares: Wanted share of the rows in each part; airports are dealt whole, so they are met only roughly.
        seed: Order in which airports are dealt.

    Returns:
        For each part the indices of its rows, in order.

    Raises:
        InputError: the shares are not positive.
        DataError: a row names no airport, or there are fewer airports than parts.

    Example:
        >>> rows = [Row(image=str(k), height=9, width=9, airport="ABC"[k % 3]) for k in range(6)]
        >>> sorted(split_by_airport(rows, (0.4, 0.3, 0.3)))
        [[0, 3], [1, 4], [2, 5]]
    """
    if not shares or min(shares) <= 0:
        raise InputError(explain("`shares` is wrong", received=list(shares), expected="positive numbers"))
    places: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if not row.airport:
            raise DataError(
                explain(f"{row.image}: the table names no airport", expected="an ICAO code in each row")
            )
        places.setdefault(row.airport, []).append(index)
    if len(places) < len(shares):
        raise DataError(
            explain(
                "there are fewer airports than parts",
                received=len(places),
                expected=f"at least {len(shares)}",
            )
        )
    airports = sorted(places)
    random.Random(seed).shuffle(airports)  # noqa: S311 - a fixed permutation, not a secret
    parts: list[list[int]] = [[] for _ in shares]
    for number, airport in enumerate(airports):
        # Every part gets an airport first; then the part that lacks most gets the next.
        lacking = [len(part) / share for part, share in zip(parts, shares, strict=True)]
        target = number if number < len(parts) else lacking.index(min(lacking))
        parts[target] += places[airport]
    return [sorted(part) for part in parts]
