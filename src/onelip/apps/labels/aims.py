"""What `--goal` of `onelip attack` means for a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onelip.apps.labels.opened import class_of
from onelip.attacks import Goal, Misclassify, Reclassify
from onelip.core.errors import InputError, explain

if TYPE_CHECKING:
    from torch import Tensor

    from onelip.certify import ClassificationCertificate

GOALS = ("accuracy", "stability", "to:CLASS")


@dataclass(frozen=True)
class Aim:
    """One goal of an attacker, and the criterion that it makes worse.

    Attributes:
        name: as on the command line.
        kind: "accuracy": a wrong class; "stability": another class than the predicted one; "to": a given class.
        to: that class.
        criterion: what the images are counted by.
    """

    name: str
    kind: str
    to: int | None
    criterion: str

    @property
    def goal(self) -> Goal:
        """The goal of the library."""
        return Misclassify() if self.kind == "accuracy" else Reclassify(to=self.to)

    @property
    def python(self) -> str:
        """The goal as it is written."""
        if self.kind == "accuracy":
            return "onelip.attacks.Misclassify()"
        return f"onelip.attacks.Reclassify({'' if self.to is None else f'to={self.to}'})"

    def radius(self, certificate: ClassificationCertificate) -> Tensor:
        """(B,) norm below which the criterion of an image certainly keeps."""
        if self.to is not None:
            return certificate.targeted[:, self.to]
        return certificate.radius if self.kind == "accuracy" else certificate.stable_radius

    def keeps(self, record: Mapping[str, Any], predicted: int) -> bool | None:
        """Whether an image with this prediction counts; None where the criterion is not defined.

        Example:
            >>> aim_of("to:1", ("a", "b")).keeps({"label": 0, "predicted": 0}, 1)
            False
        """
        if self.to is not None:
            return None if record["label"] == self.to else predicted != self.to
        return bool(predicted == record["label" if self.kind == "accuracy" else "predicted"])


def aim_of(text: str, names: Sequence[str]) -> Aim:
    """Read one word of `--goal`, as "accuracy", "stability", "to:3", "to:cat".

    Args:
        text: as written.
        names: of the classes.

    Raises:
        InputError: for a goal or a class that is not known.

    Example:
        >>> aim_of("to:dog", ("cat", "dog")).goal.to
        1
    """
    kind, colon, which = text.strip().partition(":")
    kind = kind.lower()
    if kind == "to" and which:
        to = class_of(which, names, f"--goal {text}")
        return Aim(text, kind, to, f"not:{names[to]}")
    if kind not in ("accuracy", "stability") or colon:
        raise InputError(
            explain("--goal is unknown for a classifier", received=repr(text), expected=", ".join(GOALS))
        )
    return Aim(text, kind, None, kind)
