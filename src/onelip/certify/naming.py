"""Criteria by the names that commands and files use: `accuracy`, `iou:car`, `fnr:1`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from onelip.certify.count import FalseNegativeRate, PixelAccuracy, Recall, Stability
from onelip.certify.criterion import Criterion
from onelip.certify.iou import Dice, IoU
from onelip.certify.mean_iou import MeanIoU
from onelip.core import errors

_WHOLE: dict[str, Callable[..., Criterion]] = {
    "accuracy": PixelAccuracy,
    "stability": Stability,
    "miou": MeanIoU,
}
_OF_A_CLASS: dict[str, Callable[..., Criterion]] = {
    "recall": Recall,
    "fnr": FalseNegativeRate,
    "iou": IoU,
    "dice": Dice,
}


def parse(text: str, classes: Sequence[str] | None = None, *, ignore_index: int = 255) -> Criterion:
    """Return the criterion with this name.

    Args:
        text: `accuracy`, `stability` or `miou`; or `recall`, `fnr`, `iou` or `dice` with a class, by name or
            index: `iou:car`, `fnr:1`. Upper and lower case are the same.
        classes: names of the classes, in their order; without them only indices are known.
        ignore_index: label of void pixels.

    Raises:
        InputError: for an unknown name or class, with the closest known ones.

    Example:
        >>> parse("iou:car", ["road", "car"]).name, parse("accuracy").name
        ('IoU(1)', 'PixelAccuracy')
    """
    kind, colon, label = str(text).strip().partition(":")
    kind = kind.strip().lower()
    if kind in _WHOLE and not colon:
        return _WHOLE[kind](ignore_index=ignore_index)
    if kind in _OF_A_CLASS and label.strip():
        return _OF_A_CLASS[kind](_index(text, label.strip(), classes), ignore_index=ignore_index)
    near = _closest(kind, [*_WHOLE, *_OF_A_CLASS])
    raise errors.InputError(
        errors.explain(
            "certify.parse: unknown criterion",
            received=repr(text),
            expected=", ".join([*_WHOLE, *(f"{name}:CLASS" for name in _OF_A_CLASS)]),
            fix=" or ".join(n if n in _WHOLE else f"{n}:CLASS" for n in near) or None,
        )
    )


def _index(text: str, label: str, classes: Sequence[str] | None) -> int:
    names = [name.lower() for name in classes or ()]
    if label.lower() in names:
        return names.index(label.lower())
    if label.isascii() and label.isdigit() and (classes is None or int(label) < len(names)):
        return int(label)
    raise errors.InputError(
        errors.explain(
            "certify.parse: unknown class",
            received=repr(text),
            expected="an index >= 0" if classes is None else f"one of {', '.join(classes)}, or its index",
            fix=" or ".join(_closest(label.lower(), names)) or None,
        )
    )


def _closest(word: str, names: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word, names, n=2, cutoff=0.5)
