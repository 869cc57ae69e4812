"""What `--goal` of `onelip attack` means for a detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onelip.attacks import (
    BoxGoal,
    DetectionErrors,
    FabricateBoxes,
    FabricateCount,
    Mislabel,
    ShiftBoxes,
    VanishBoxes,
)
from onelip.core.errors import InputError, explain

MODES = {"most": "most_likely", "least": "least_likely", "random": "random", "any": "untargeted"}


def _vanish(form: str = "all", **common: Any) -> BoxGoal:
    if form == "located":
        return VanishBoxes(form="margin", support="location", **common)
    return VanishBoxes(form=form, **common)


def _mislabel(mode: str = "most", **common: Any) -> BoxGoal:
    return Mislabel(mode=MODES.get(mode, mode), **common)


def _count(what: str = "boxes", **common: Any) -> BoxGoal:
    return FabricateCount(after_nms=what != "pairs", **common)


def _fabricate(form: str = "focal", **common: Any) -> BoxGoal:
    return FabricateBoxes(count=(5, 10), form=form, **common)


MAKERS: dict[str, tuple[Callable[..., BoxGoal], tuple[str, ...]]] = {
    "vanish": (_vanish, ("all", "margin", "either", "boxes", "tog", "located")),
    "fabricate": (_fabricate, ("focal", "margin", "all")),
    "count": (_count, ("boxes", "pairs")),
    "mislabel": (_mislabel, tuple(MODES)),
    "shift": (ShiftBoxes, ()),
    "errors": (DetectionErrors, ()),
}
"""Goals by name, and what may stand behind the colon."""


def goal_of(text: str, *, threshold: float = 0.5, iou: float = 0.5) -> BoxGoal:
    """Read one word of `--goal`, as "vanish", "vanish:margin", "mislabel:least", "vanish@0.05".

    An attack stops where its goal is reached: boxes that vanish at the threshold of the command keep scores just below
    it, and their order, which average precision measures. A score behind an @ lets the attack go on to that one.

    Args:
        text: name of a goal, after a colon its form, and after an @ a threshold of its own.
        threshold: score above which a detection counts.
        iou: overlap from which on a detection is on an object.

    Raises:
        InputError: for a goal that is not known.

    Example:
        >>> goal_of("vanish:margin").losses, goal_of("mislabel:least").mode
        (('margin',), 'least_likely')
        >>> goal_of("vanish@0.05").threshold
        0.05
    """
    what, _, own = text.strip().lower().partition("@")
    kind, colon, form = what.partition(":")
    maker, forms = MAKERS.get(kind, (None, ()))
    if maker is None or (colon and form not in forms):
        known = [k + (f"[:{'|'.join(names)}]" if names else "") for k, (_, names) in MAKERS.items()]
        raise InputError(
            explain("--goal is unknown for a detector", received=repr(text), expected=", ".join(known))
        )
    given: tuple[str, ...] = (form,) if form else ()
    return maker(*given, threshold=_score(text, own) if own else threshold, iou=iou)


def _score(text: str, own: str) -> float:
    try:
        return float(own)  # its range is checked by the goal
    except ValueError as error:
        raise InputError(
            explain("--goal has no score behind its @", received=repr(text), expected="as vanish@0.05")
        ) from error
