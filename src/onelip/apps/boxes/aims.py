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
    """Read one word of `--goal`, as "vanish", "vanish:margin", "mislabel:least".

    Args:
        text: name of a goal, and after a colon its form.
        threshold: score above which a detection counts.
        iou: overlap from which on a detection is on an object.

    Raises:
        InputError: for a goal that is not known.

    Example:
        >>> goal_of("vanish:margin").losses, goal_of("mislabel:least").mode
        (('margin',), 'least_likely')
    """
    kind, colon, form = text.strip().lower().partition(":")
    maker, forms = MAKERS.get(kind, (None, ()))
    if maker is None or (colon and form not in forms):
        known = [k + (f"[:{'|'.join(names)}]" if names else "") for k, (_, names) in MAKERS.items()]
        raise InputError(
            explain("--goal is unknown for a detector", received=repr(text), expected=", ".join(known))
        )
    given: tuple[str, ...] = (form,) if form else ()
    return maker(*given, threshold=threshold, iou=iou)
