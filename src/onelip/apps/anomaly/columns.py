"""Which columns of a table are features, which one is the label, and whether they are those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onelip.apps.anomaly.tables import Table
from onelip.core.errors import DataError, explain


@dataclass(frozen=True)
class Columns:
    """Columns to read.

    Attributes:
        features: in the order of the model.
        label: the label column, or None.
        ignored: the others.
        named: whether the features have names of their own.
    """

    features: tuple[str, ...]
    label: str | None
    ignored: tuple[str, ...]
    named: bool


def for_fit(table: Table, label: str | None, drop: Sequence[str] = ()) -> Columns:
    """All columns but the label and those to drop.

    Raises:
        DataError: a column that is not there, or none is left.
    """
    label = _label(table, label)
    for name in drop:
        _there(table, name, "--drop")
    features = tuple(name for name in table.columns if name != label and name not in drop)
    if not features:
        raise DataError(
            explain(
                f"{table.path} has no columns left", expected="at least one beside label and dropped ones"
            )
        )
    return Columns(features, label, tuple(drop), table.named)


def for_score(table: Table, label: str | None, names: Sequence[str] | None, count: int) -> Columns:
    """The columns of a model, by name where both have names, else by place.

    Args:
        table: the file.
        label: the label column, or None.
        names: of the model's features, or None.
        count: number of the model's features.

    Raises:
        DataError: columns are missing (named), or their number is wrong.
    """
    label = _label(table, label)
    own = tuple(name for name in table.columns if name != label)
    if names is None or not table.named:
        if len(own) != count:
            raise DataError(
                explain(
                    f"{table.path} has another number of columns than the model",
                    received=f"{len(own)}: {_some(own)}",
                    expected=f"{count}" if names is None else f"{count}: {_some(names)}",
                )
            )
        return Columns(own, label, (), False)
    missing = [name for name in names if name not in own]
    more = tuple(name for name in own if name not in names)
    if missing:
        beside = f", and unknown columns {_some(more)}" if more else ""
        raise DataError(
            explain(
                f"{table.path} lacks columns of the model",
                received=f"no {_some(missing)}{beside}",
                expected=_some(names),
                fix="name the columns as when the model was fitted",
            )
        )
    return Columns(tuple(names), label, more, True)


def _label(table: Table, label: str | None) -> str | None:
    if label is None:
        return "y" if not table.named and "y" in table.columns else None
    _there(table, label, "--label")
    if not table.named and label != "y":
        raise DataError(explain("--label is not usable", received=repr(label), expected="'y' for npz"))
    return label


def _there(table: Table, name: str, option: str) -> None:
    if name not in table.columns:
        raise DataError(
            explain(
                f"{option} names no column of {table.path}",
                received=repr(name),
                expected=f"one of {_some(table.columns)}",
            )
        )


def _some(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
